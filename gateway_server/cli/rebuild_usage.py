"""``ai-gateway rebuild-usage``."""

from gateway_server.cli import exit_codes
from gateway_server.cli.process import ConfigFile, load_settings
from gateway_server.cli.session import fail


def rebuild_usage(config: ConfigFile = None) -> None:
    """Makes the sums of usage by hour and day anew from the single calls.

    Needed once after an upgrade from a version without sums. The settings are those of `serve`; calls of
    gateways that run meanwhile wait until it is done, and are counted then.
    """
    import asyncio

    settings = load_settings(config, {})
    from gateway_server.app import StartError
    from gateway_server.app import rebuild_usage as run

    try:
        count = asyncio.run(run(settings))
    except StartError as error:
        fail(str(error), code=exit_codes.FAILURE)
    print(f"{count} calls summed by hour and day")
