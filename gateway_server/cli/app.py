"""Puts the commands together, one module for each noun."""

from typing import Annotated

import typer

from gateway_server.cli import (
    apply,
    audit,
    chat,
    embed,
    guardrails,
    health,
    init,
    keys,
    limits,
    models,
    providers,
    rebuild_usage,
    rekey,
    routes,
    serve,
    tenants,
    usage,
)
from gateway_server.cli.exit_codes import EXIT_CODES

app = typer.Typer(
    help="A gRPC gateway between software and language models.",
    epilog="Exit codes: " + ", ".join(f"{code} {meaning}" for code, meaning in EXIT_CODES.items()) + ".",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=True,
)
app.add_typer(tenants.app, name="tenants")
app.add_typer(keys.app, name="keys")
app.add_typer(providers.app, name="providers")
app.add_typer(models.app, name="models")
app.add_typer(routes.app, name="routes")
app.add_typer(routes.app, name="route", hidden=True)
app.add_typer(guardrails.app, name="guardrails")
app.add_typer(usage.app, name="usage")
app.add_typer(audit.app, name="audit")
app.command("serve", add_help_option=False)(serve.serve)
app.command("init")(init.init)
app.command("limits")(limits.limits)
app.command("rekey")(rekey.rekey)
app.command("rebuild-usage")(rebuild_usage.rebuild_usage)
app.command("health")(health.health)
app.command("chat")(chat.chat)
app.command("embed")(embed.embed)
app.command("apply")(apply.apply)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(version("ai-gateway"))
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """A gRPC gateway between software and language models."""
