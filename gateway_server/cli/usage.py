"""``ai-gateway usage``."""

from itertools import islice
from typing import TYPE_CHECKING, Annotated

import typer

from gateway_server.cli.edit import parse_time
from gateway_server.cli.money import dollars_of
from gateway_server.cli.names import last_id, short_name, tenant_parent
from gateway_server.cli.output import milliseconds_of, show_all, time_of
from gateway_server.cli.session import Session, with_session

if TYPE_CHECKING:
    from aigateway.types import UsageRecord

app = typer.Typer(help="What was used, what it cost, and what failed.", no_args_is_help=True)


# Without a callback, a group of one command would be that command.
@app.callback()
def group() -> None:
    """What was used, what it cost, and what failed."""


@app.command("records")
@with_session
def list_records(
    session: Session,
    tenant: Annotated[
        str, typer.Argument(help="Whose records; all need an administrator's key.", show_default="all")
    ] = "-",
    *,
    since: Annotated[
        str | None, typer.Option(metavar="TIME", help="ISO date or time in UTC, or a span such as 36h.")
    ] = None,
    until: Annotated[str | None, typer.Option(metavar="TIME", help="As --since, exclusive.")] = None,
    filter_text: Annotated[
        str,
        typer.Option(
            "--filter", metavar="FILTER", help='As in `model = "openai/gpt-4o" AND status_code != 0`.'
        ),
    ] = "",
    limit: Annotated[int, typer.Option(min=1, help="At most this many.")] = 50,
) -> None:
    """Lists calls, newest first."""
    records = session.client.usage.list_records(
        tenant_parent(tenant),
        start_time=parse_time(since) if since else None,
        end_time=parse_time(until) if until else None,
        filter=filter_text,
        page_size=min(limit, 1000),
    )
    show_all(
        session,
        islice(records, limit),
        [
            ("START (UTC)", lambda record: time_of(record, "start_time")),
            ("KEY", lambda record: short_name(record.api_key)),
            ("MODEL", lambda record: record.model),
            ("SERVED BY", _served_by),
            ("IN", lambda record: str(record.usage.input_tokens)),
            ("OUT", lambda record: str(record.usage.output_tokens)),
            ("COST", lambda record: dollars_of(record.cost.total_nanos) if record.HasField("cost") else ""),
            ("MS", lambda record: milliseconds_of(record, "latency")),
            ("FIRST MS", lambda record: milliseconds_of(record, "time_to_first_token")),
            ("STATUS", lambda record: record.error_reason or "OK"),
            ("REQUEST", lambda record: last_id(record.name)),
        ],
    )


def _served_by(record: "UsageRecord") -> str:
    served_by = record.served_by
    return f"{last_id(served_by.provider)}/{served_by.provider_model}" if record.HasField("served_by") else ""
