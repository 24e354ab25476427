"""The picture that ``ai-gateway usage`` draws: a day at a glance, in a terminal."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from gateway_server.cli.money import dollars_of
from gateway_server.cli.names import short_name
from gateway_server.cli.output import printable, to_json

if TYPE_CHECKING:
    from rich.console import RenderableType

    from aigateway import Client
    from aigateway.v1.usage_service_pb2 import UsageSum

_TOP: Final = 5
_BAR_WIDTH: Final = 16
_EIGHTHS: Final = " ▁▂▃▄▅▆▇█"


@dataclass(frozen=True, slots=True)
class Summary:
    """Sums of a day of UTC: over all, by its hours, by the models that served and the keys that cost most."""

    day: datetime
    total: "UsageSum | None"
    hours: "Sequence[UsageSum]"
    models: "Sequence[UsageSum]"
    keys: "Sequence[UsageSum]"

    def as_json(self) -> dict[str, Any]:
        """For programs: protobuf JSON of the sums."""
        return {
            "day": self.day.date().isoformat(),
            "total": None if self.total is None else to_json(self.total),
            "hours": [to_json(each) for each in self.hours],
            "models": [to_json(each) for each in self.models],
            "api_keys": [to_json(each) for each in self.keys],
        }


def read_summary(client: "Client", parent: str, day: datetime) -> Summary:
    """Asks the gateway for the day that ``day`` is in."""
    from aigateway.v1.usage_service_pb2 import TimeStep, UsageDimension

    start = day.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    end = start + timedelta(days=1)

    def ask(**what: Any) -> "list[UsageSum]":  # noqa: ANN401 -- options of one method
        return list(client.usage.query(parent, start_time=start, end_time=end, page_size=1000, **what))

    def largest(*dimensions: "UsageDimension.ValueType") -> "list[UsageSum]":
        """One more than are shown tells whether there are more; there may be a million."""
        sums = client.usage.query(
            parent,
            start_time=start,
            end_time=end,
            group_by=dimensions,
            order_by="cost.total_nanos desc",
            page_size=_TOP + 1,
        )
        return list(islice(sums, _TOP + 1))

    total = ask()
    return Summary(
        day=start,
        total=total[0] if total else None,
        hours=ask(step=TimeStep.TIME_STEP_HOUR),
        models=largest(
            UsageDimension.USAGE_DIMENSION_PROVIDER, UsageDimension.USAGE_DIMENSION_PROVIDER_MODEL
        ),
        keys=largest(UsageDimension.USAGE_DIMENSION_API_KEY),
    )


def render_summary(summary: Summary) -> "RenderableType":
    """The day as text of some eighty columns."""
    from rich.console import Group
    from rich.text import Text

    heading = Text(f"Usage of {summary.day:%A, %Y-%m-%d} (UTC)", style="bold")
    if summary.total is None:
        return Group(heading, Text("no calls yet"))
    return Group(
        heading,
        _figures(summary.total),
        Text(),
        *_plots(summary),
        Text(),
        _top("MODEL", summary.models, _model_of),
        Text(),
        _top("KEY", summary.keys, lambda each: short_name(each.group["api_key"])),
        *_errors(summary.total),
    )


def _figures(total: "UsageSum") -> "RenderableType":
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="dim")
    columns = (
        ("REQUESTS", f"{total.request_count:,}"),
        ("TOKENS", f"{total.usage.total_tokens:,}"),
        ("COST", ("about " if total.cost.estimated else "") + _rounded(total.cost.total_nanos)),
        ("AVERAGE", _seconds_of(total.latency.mean)),
        ("P95", _seconds_of(total.latency.p95)),
        ("FIRST TOKEN", _seconds_of(total.time_to_first_token.p50)),
        ("ERRORS", f"{total.error_count:,} ({total.error_count / total.request_count:.1%})"),
    )
    for name, _ in columns:
        table.add_column(name)
    table.add_row(*(value for _, value in columns))
    return table


def _plots(summary: Summary) -> "list[RenderableType]":
    """One mark for each hour: how many requests there were, and what they cost."""
    from rich.text import Text

    by_hour = {each.start_time.ToDatetime(UTC).hour: each for each in summary.hours}
    plots: list[RenderableType] = []
    for name, values in (
        ("requests", [by_hour[h].request_count if h in by_hour else 0 for h in range(24)]),
        ("cost", [by_hour[h].cost.total_nanos if h in by_hour else 0 for h in range(24)]),
        ("errors", [by_hour[h].error_count if h in by_hour else 0 for h in range(24)]),
    ):
        highest = max(values)
        if highest:
            marks = "".join(_EIGHTHS[-(-8 * value // highest)] * 2 for value in values)
            most = _rounded(highest) if name == "cost" else f"{highest:,}"
            plots.append(Text.assemble((f"{name:9}", "dim"), (marks, "cyan"), f" max {most}/h"))
    plots.append(Text(" " * 9 + "".join(f"{hour:<12}" for hour in ("00", "06", "12", "18")), style="dim"))
    return plots


def _model_of(served: "UsageSum") -> str:
    """The model that answered: ``openai/gpt-5-mini``; empty where none did."""
    provider, model = served.group["provider"], served.group["provider_model"]
    return f"{short_name(provider)}/{model}" if provider else ""


def _top(heading: str, sums: "Sequence[UsageSum]", name_of: "Callable[[UsageSum], str]") -> "RenderableType":
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column(heading, overflow="ellipsis", no_wrap=True, min_width=16, max_width=30)
    for column in ("REQUESTS", "TOKENS", "COST"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("")
    weights = [each.cost.total_nanos or each.request_count for each in sums]
    for each, weight in list(zip(sums, weights, strict=True))[:_TOP]:
        table.add_row(
            Text(printable(name_of(each) or "(none)")),
            f"{each.request_count:,}",
            f"{each.usage.total_tokens:,}",
            _rounded(each.cost.total_nanos),
            Text("█" * max(round(_BAR_WIDTH * weight / max(*weights, 1)), 1), style="cyan"),
        )
    if len(sums) > _TOP:
        table.add_row(Text("and more", style="dim"))
    return table


def _errors(total: "UsageSum") -> "list[RenderableType]":
    from rich.text import Text

    worst = sorted(total.errors_by_reason.items(), key=lambda each: -each[1])[:_TOP]
    if not worst:
        return []
    told = ", ".join(f"{reason} {count:,}" for reason, count in worst)
    return [Text(), Text.assemble(("errors ", "dim"), printable(told))]


def _rounded(nanos: int) -> str:
    """An amount with as many decimals as a person wants to read."""
    return dollars_of(round(nanos, -7) if abs(nanos) >= 1_000_000_000 else round(nanos, -3))


def _seconds_of(duration: Any) -> str:  # noqa: ANN401 -- a Duration of any stub
    seconds = duration.ToNanoseconds() / 1e9
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1000:.0f} ms"
