"""``ai-gateway rekey``."""

import json
import sys
from typing import Annotated

import typer

from gateway_server.cli import exit_codes
from gateway_server.cli.output import printable
from gateway_server.cli.process import ConfigFile, load_settings
from gateway_server.cli.session import fail


def rekey(
    config: ConfigFile = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print an object with changed, current, failed.")
    ] = False,
) -> None:
    """Encrypts the credentials in the store anew, under the first of the master keys in the settings.

    The settings are those of `serve`, whose master_key has the new key first and the old one after it, for
    the running gateways too. Run it again when it was interrupted; then the old key can go.
    """
    import asyncio

    settings = load_settings(config, {})
    from gateway_server.app import StartError
    from gateway_server.app import rekey as run

    try:
        done = asyncio.run(run(settings))
    except StartError as error:
        fail(str(error), code=exit_codes.FAILURE)
    if as_json:
        print(json.dumps({"changed": done.changed, "current": done.current, "failed": dict(done.failed)}))
    else:
        print(f"{done.changed} credentials encrypted anew, {done.current} under the current key already")
        for name, cause in done.failed:
            print(f"error: the credential of {name} {printable(cause)}", file=sys.stderr)
    if done.failed:
        raise typer.Exit(exit_codes.FAILURE)
