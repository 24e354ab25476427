"""Sums of usage by time and by dimensions: from rollups, and from the ledger where those are too coarse."""

from collections import Counter
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, Literal

from sqlalchemy import RowMapping, Select, Table, select
from sqlalchemy.sql.elements import ColumnElement

from gateway_server.errors import invalid_request
from gateway_server.storage.engine import Store
from gateway_server.storage.rollups import DAY, GROUP_COLUMNS, HOUR, LEFT_OUT, Sums
from gateway_server.storage.tables import usage_groups, usage_records, usage_rollups
from gateway_server.storage.usage_records import UsageQuery, conditions_in, holds

Step = Literal["minute", "hour", "day", "month"]

_MICROS: Final = 1_000_000
_MAX_ROWS: Final = 200_000
#: Which columns a condition looks at, where they are not named as it is.
_COLUMNS_OF: Final[Mapping[str, frozenset[str]]] = {
    "api_key": frozenset({"tenant_id", "api_key_id"}),
    "provider": frozenset({"provider_id"}),
}


@dataclass(frozen=True, slots=True)
class SumQuery:
    """Which calls, and what to sum them by: columns of ``usage_records`` and names of labels.

    ``calls`` has both ends of its interval.
    """

    calls: UsageQuery
    step: Step | None = None
    group_by: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()


@dataclass(slots=True)
class UsageGroupSum:
    """The sums of one step and group; ``values`` are those of ``group_by`` and then of ``labels``."""

    start_time: int
    end_time: int
    values: tuple[str | int, ...]
    sums: Sums = field(default_factory=Sums)
    errors: Counter[str] = field(default_factory=Counter)

    def add(self, row: RowMapping, *, is_rollup: bool) -> None:
        """Adds a row, whose calls all ended alike."""
        if is_rollup:
            self.sums.add_rollup(row)
        else:
            self.sums.add_call(row)
        if row["status_code"]:
            self.errors[row["error_reason"]] += row["request_count"] if is_rollup else 1


class UsageSumRepository:
    """Reads ``usage_rollups`` and, at the edges of an interval, ``usage_records``."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def query(self, query: SumQuery) -> list[UsageGroupSum]:
        """The sums, oldest first; raises INVALID_REQUEST for a question that takes too many rows."""
        found: dict[tuple[Any, ...], UsageGroupSum] = {}
        seen = 0
        async with aclosing(self._rows(query)) as rows:
            async for row, is_rollup in rows:
                seen += 1
                if seen > _MAX_ROWS:
                    raise invalid_request(
                        "filter",
                        f"takes more than {_MAX_ROWS} rows to sum: ask for less, or for longer steps",
                    )
                start, end = _step_of(row["start_time"], query)
                labels = row["labels"] if query.labels else {}
                values = (
                    *(row[name] for name in query.group_by),
                    *(str(labels.get(name, "")) for name in query.labels),
                )
                group = found.get((start, values))
                if group is None:
                    group = found[start, values] = UsageGroupSum(start, end, values)
                group.add(row, is_rollup=is_rollup)
        return sorted(found.values(), key=lambda each: (each.start_time, tuple(map(str, each.values))))

    async def _rows(self, query: SumQuery) -> AsyncGenerator[tuple[RowMapping, bool], None]:
        needed = _needed(query)
        async with self._store.read() as connection:
            for step_seconds, start, end in _parts(query, needed):
                if step_seconds:
                    statement = _rollup_rows(query, needed, step_seconds, start, end)
                else:
                    statement = _call_rows(query, start, end)
                for row in (await connection.execute(statement.limit(_MAX_ROWS + 1))).mappings():
                    yield row, bool(step_seconds)


def _needed(query: SumQuery) -> frozenset[str]:
    """The columns that the answer depends on."""
    columns = set(query.group_by)
    for condition in conditions_in(query.calls.conditions):
        columns |= _COLUMNS_OF.get(condition.field, frozenset({condition.field}))
    if query.labels:
        columns.add("labels")
    if query.calls.tenant_id is not None:
        columns.add("tenant_id")
    return frozenset(columns)


def _parts(query: SumQuery, needed: frozenset[str]) -> list[tuple[int, int, int]]:
    """Pieces of the interval, each with the step of the rollups that cover it; 0 stands for the ledger."""
    start, end = query.calls.start_time or 0, query.calls.end_time or 0
    if query.step == "minute" or not needed <= GROUP_COLUMNS:
        return [(0, start, end)]
    hours = _aligned(start, end, HOUR)
    if hours is None:
        return [(0, start, end)]
    parts = [(0, start, hours[0]), (0, hours[1], end)]
    days = None if query.step == "hour" else _aligned(*hours, DAY)
    if days is None:
        parts.append((HOUR, *hours))
    else:
        parts += [(HOUR, hours[0], days[0]), (DAY, *days), (HOUR, days[1], hours[1])]
    return [part for part in parts if part[1] < part[2]]


def _aligned(start: int, end: int, step_seconds: int) -> tuple[int, int] | None:
    """The whole steps within an interval."""
    step = step_seconds * _MICROS
    first, last = -(-start // step) * step, end // step * step
    return (first, last) if first < last else None


def _rollup_rows(
    query: SumQuery, needed: frozenset[str], step_seconds: int, start: int, end: int
) -> Select[Any]:
    level = max(level for level, left_out in enumerate(LEFT_OUT) if not left_out & needed)
    groups = usage_groups.c
    return (
        select(usage_rollups, *(column for column in groups if column.name != "group_id"))
        .join(usage_groups, groups.group_id == usage_rollups.c.group_id)
        .where(
            groups.level == level,
            usage_rollups.c.step_seconds == step_seconds,
            usage_rollups.c.start_time >= start,
            usage_rollups.c.start_time < end,
            *_conditions(query, usage_groups),
        )
    )


def _call_rows(query: SumQuery, start: int, end: int) -> Select[Any]:
    columns = usage_records.c
    return select(usage_records).where(
        columns.start_time >= start, columns.start_time < end, *_conditions(query, usage_records)
    )


def _conditions(query: SumQuery, table: Table) -> list[ColumnElement[bool]]:
    found = [] if query.calls.tenant_id is None else [table.c.tenant_id == query.calls.tenant_id]
    return [*found, *(holds(condition, table) for condition in query.calls.conditions)]


def _step_of(micros: int, query: SumQuery) -> tuple[int, int]:
    """When the step begins and ends that a moment is in."""
    match query.step:
        case None:
            return query.calls.start_time or 0, query.calls.end_time or 0
        case "month":
            start = datetime.fromtimestamp(micros / _MICROS, UTC).replace(
                day=1, hour=0, minute=0, second=0, microsecond=0
            )
            following = start.replace(year=start.year + start.month // 12, month=start.month % 12 + 1)
            return round(start.timestamp()) * _MICROS, round(following.timestamp()) * _MICROS
        case step:
            length = {"minute": 60, "hour": HOUR, "day": DAY}[step] * _MICROS
            start_time = micros // length * length
            return start_time, start_time + length
