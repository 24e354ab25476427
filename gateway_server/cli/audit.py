"""``ai-gateway audit``."""

from itertools import islice
from typing import Annotated

import typer

from gateway_server.cli import exit_codes
from gateway_server.cli.edit import parse_time
from gateway_server.cli.names import last_id, short_name
from gateway_server.cli.output import show_all, time_of
from gateway_server.cli.process import ConfigFile, load_settings
from gateway_server.cli.session import Session, fail, with_session

app = typer.Typer(help="Who changed what.", no_args_is_help=True)


@app.command("list")
@with_session
def list_events(
    session: Session,
    resource: Annotated[
        str, typer.Argument(help="Only of this resource and those below it, as in tenants/acme.")
    ] = "",
    *,
    since: Annotated[
        str | None, typer.Option(metavar="TIME", help="ISO date or time in UTC, or a span such as 36h.")
    ] = None,
    until: Annotated[str | None, typer.Option(metavar="TIME", help="As --since, exclusive.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most this many.")] = 50,
) -> None:
    """Lists changes, newest first; --json shows what they changed."""
    events = session.client.admin.audit_events.list(
        resource=resource,
        start_time=parse_time(since) if since else None,
        end_time=parse_time(until) if until else None,
        page_size=min(limit, 1000),
    )
    show_all(
        session,
        islice(events, limit),
        [
            ("TIME (UTC)", lambda event: time_of(event, "create_time")),
            ("EVENT", lambda event: last_id(event.name)),
            ("BY", lambda event: short_name(event.api_key) if event.api_key else "the gateway"),
            ("METHOD", lambda event: event.method),
            ("RESOURCE", lambda event: event.resource),
            ("REQUEST", lambda event: event.request_id),
        ],
    )


@app.command("verify")
def verify(config: ConfigFile = None) -> None:
    """Walks the chain of all changes in the store and says where it was tampered with, if it was.

    The settings are those of `serve`.
    """
    import asyncio

    settings = load_settings(config, {})
    from gateway_server.app import StartError, verify_audit

    try:
        count, broken = asyncio.run(verify_audit(settings))
    except StartError as error:
        fail(str(error), code=exit_codes.FAILURE)
    if broken is not None:
        fail(f"the chain breaks at event {broken}, after {count} that fit", code=exit_codes.FAILURE)
    print(f"{count} events, each sealed by the one before it")
