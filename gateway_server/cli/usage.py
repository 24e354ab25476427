"""``ai-gateway usage``."""

import json
import sys
import time
from contextlib import nullcontext
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from gateway_server.cli.edit import parse_time
from gateway_server.cli.money import dollars_of
from gateway_server.cli.names import last_id, short_name, tenant_parent
from gateway_server.cli.output import milliseconds_of, printable, show_all, time_of
from gateway_server.cli.session import Session, with_session
from gateway_server.cli.usage_export import ExportFormat, export

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import RenderableType

    from aigateway.types import UsageRecord
    from gateway_server.cli.usage_summary import Summary

app = typer.Typer(help="What was used, what it cost, and what failed.", invoke_without_command=True)

_Since = Annotated[
    str | None, typer.Option(metavar="TIME", help="ISO date or time in UTC, or a span such as 36h.")
]
_Until = Annotated[str | None, typer.Option(metavar="TIME", help="As --since, exclusive.")]
_Filter = Annotated[
    str,
    typer.Option("--filter", metavar="FILTER", help='As in `model = "openai/gpt-4o" AND status_code != 0`.'),
]

_WATCH_SECONDS: Final = 2.0

_Tenant = Annotated[str, typer.Option("--tenant", help="Whose usage.", show_default="all, or the key's own")]


@app.callback()
@with_session
def today(
    session: Session,
    context: typer.Context,
    tenant: _Tenant = "-",
    *,
    day: Annotated[str | None, typer.Option(metavar="DATE", help="Another day than today, in UTC.")] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Draw it again every two seconds.")] = False,
) -> None:
    """What was used today: requests, tokens, cost, latency, errors; models and keys that cost most."""
    if context.invoked_subcommand is not None:
        return
    from rich.console import Console

    from gateway_server.cli.usage_summary import read_summary, render_summary

    parent = _parent(session, tenant)

    def read() -> "Summary":
        at = parse_time(day) if day else datetime.now(UTC)
        return read_summary(session.client, parent, at)

    if session.as_json:
        print(json.dumps(read().as_json(), indent=2, ensure_ascii=False))
        return
    if watch:
        _watch(lambda: render_summary(read()))
    else:
        Console().print(render_summary(read()))


def _watch(draw: "Callable[[], RenderableType]") -> None:
    """Draws again and again; without an answer, what was drawn last stays below a line that says so.

    Where there is no terminal, each drawing follows the one before.
    """
    from rich.console import Console, Group
    from rich.live import Live
    from rich.text import Text

    from aigateway.errors import DeadlineExceededError, UnavailableError

    console = Console()
    with Live(console=console, auto_refresh=False) if console.is_terminal else nullcontext() as live:

        def show(drawing: "RenderableType") -> None:
            if live is not None:
                live.update(drawing, refresh=True)
            else:
                console.print(drawing)
                sys.stdout.flush()

        drawn, drawn_at = draw(), datetime.now(UTC)
        show(drawn)
        while True:
            time.sleep(_WATCH_SECONDS)
            try:
                drawn, drawn_at = draw(), datetime.now(UTC)
            except (UnavailableError, DeadlineExceededError) as error:
                told = printable(f"As of {drawn_at:%H:%M:%S} (UTC); trying again: {error}")
                show(Group(Text(told, style="yellow"), drawn))
            else:
                show(drawn)


@app.command("export")
@with_session
def export_records(
    session: Session,
    tenant: Annotated[str, typer.Argument(help="Whose records.", show_default="all, or the key's own")] = "-",
    *,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="The file. None: print it.")] = None,
    file_format: Annotated[ExportFormat, typer.Option("--format", help="What to write.")] = ExportFormat.CSV,
    since: _Since = None,
    until: _Until = None,
    filter_text: _Filter = "",
) -> None:
    """Writes calls to a file, newest first: one flat row each, with money in billionths of a US dollar.

    The file is there once it is whole. In CSV, texts that a spreadsheet would take for formulas have an
    apostrophe before them.
    """
    records = session.client.usage.list_records(
        _parent(session, tenant),
        start_time=parse_time(since) if since else None,
        end_time=parse_time(until) if until else None,
        filter=filter_text,
        page_size=1000,
    )
    count = export(records, output, file_format)
    print(f"{count} calls", file=sys.stderr)


@app.command("query")
@with_session
def query(
    session: Session,
    tenant: Annotated[str, typer.Argument(help="Whose usage.", show_default="all, or the key's own")] = "-",
    *,
    since: Annotated[str, typer.Option(metavar="TIME", help="As for records.")] = "24h",
    until: _Until = None,
    step: Annotated[
        str, typer.Option(help="minute, hour, day or month; empty: one sum.", metavar="STEP")
    ] = "",
    group_by: Annotated[
        str, typer.Option(help="Dimensions such as model,api_key, and labels.NAME, with commas.")
    ] = "",
    filter_text: _Filter = "",
    order_by: Annotated[
        str,
        typer.Option(help="Such as 'cost.total_nanos desc' for the largest first.", show_default="by time"),
    ] = "",
) -> None:
    """Sums usage by time and by dimensions."""
    from aigateway.v1.usage_service_pb2 import TimeStep, UsageDimension

    names = [name.strip() for name in group_by.split(",") if name.strip()]
    labels = [name.removeprefix("labels.") for name in names if name.startswith("labels.")]
    dimensions = [name for name in names if not name.startswith("labels.")]
    sums = session.client.usage.query(
        _parent(session, tenant),
        start_time=parse_time(since),
        end_time=parse_time(until) if until else datetime.now(UTC),
        step=_enum(TimeStep, "TIME_STEP_", step) if step else TimeStep.TIME_STEP_UNSPECIFIED,
        group_by=[_enum(UsageDimension, "USAGE_DIMENSION_", name) for name in dimensions],
        group_by_labels=labels,
        filter=filter_text,
        order_by=order_by,
        page_size=1000,
    )
    show_all(
        session,
        sums,
        [
            ("START (UTC)", lambda each: time_of(each, "start_time")),
            *((name.upper(), lambda each, name=name: each.group[name]) for name in names),
            ("REQUESTS", lambda each: str(each.request_count)),
            ("ERRORS", lambda each: str(each.error_count)),
            ("TOKENS", lambda each: str(each.usage.total_tokens)),
            ("COST", lambda each: dollars_of(each.cost.total_nanos)),
            ("P50 MS", lambda each: milliseconds_of(each.latency, "p50")),
            ("P95 MS", lambda each: milliseconds_of(each.latency, "p95")),
        ],
    )


def _parent(session: Session, tenant: str) -> str:
    """The tenant that is named, else all, else the key's own when it may not see all."""
    from aigateway import GatewayError

    parent = tenant_parent(tenant)
    if parent != tenant_parent("-"):
        return parent
    try:
        next(iter(session.client.usage.list_records(parent, page_size=1)), None)
    except GatewayError as error:
        if own := error.metadata.get("tenant"):
            return own
        raise
    return parent


def _enum(enum: Any, prefix: str, name: str) -> Any:  # noqa: ANN401 -- any enum of the contract
    """The value of an enum by its short name in lower case."""
    known = {value.removeprefix(prefix).lower(): number for value, number in enum.items() if number}
    if name.lower() not in known:
        raise typer.BadParameter(f"{name!r} is none of {', '.join(known)}")
    return known[name.lower()]


@app.command("records")
@with_session
def list_records(
    session: Session,
    tenant: Annotated[str, typer.Argument(help="Whose records.", show_default="all, or the key's own")] = "-",
    *,
    since: _Since = None,
    until: _Until = None,
    filter_text: _Filter = "",
    limit: Annotated[int, typer.Option(min=1, help="At most this many.")] = 50,
) -> None:
    """Lists calls, newest first."""
    records = session.client.usage.list_records(
        _parent(session, tenant),
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
