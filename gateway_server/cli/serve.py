"""``ai-gateway serve``."""

from typing import TYPE_CHECKING, Annotated

import typer

from gateway_server.cli import exit_codes
from gateway_server.cli.process import ConfigFile, announce_admin_key, load_settings
from gateway_server.cli.session import fail

if TYPE_CHECKING:
    from gateway_server.app import Started


def _print_help(context: typer.Context, wanted: bool) -> None:
    """Help with all settings, which are read from the code only when somebody asks."""
    if wanted:
        from gateway_server.cli.process import describe_settings

        print(context.get_help())
        print(describe_settings())
        raise typer.Exit


def serve(
    listen: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="In the place of the setting `listen`.")
    ] = None,
    config: ConfigFile = None,
    first_call: Annotated[
        bool, typer.Option("--first-call", help="Make one call through the gateway once it serves.")
    ] = False,
    _show_help: Annotated[
        bool,
        typer.Option(
            "--help", callback=_print_help, is_eager=True, help="Show this message and all settings."
        ),
    ] = False,
) -> None:
    """Runs a gateway until SIGTERM or Ctrl-C. The first start prints the first admin key, once."""
    settings = load_settings(config, {"listen": listen} if listen else {})
    from gateway_server.app import StartError
    from gateway_server.app import serve as run

    async def ready(started: "Started") -> None:
        security = "plain text" if settings.tls_cert_file is None else "TLS"
        print(f"AI Gateway serves gRPC on {started.address} ({security})", flush=True)
        if started.admin_key:
            announce_admin_key(started.admin_key)
        if first_call:
            from gateway_server.cli.first_call import show_first_call

            await show_first_call(started, tls=settings.tls_cert_file is not None)

    try:
        run(settings, ready=ready)
    except StartError as error:
        if error.admin_key:
            announce_admin_key(error.admin_key)
        fail(str(error), code=exit_codes.FAILURE)
