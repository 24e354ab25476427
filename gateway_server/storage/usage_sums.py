"""Sums of usage by time and by dimensions: from rollups, and from the ledger where those are too coarse.

An interval is cut into pieces: whole days and hours come from rollups, on the coarsest level that knows what
is asked for, the rest from single calls. The database adds up and gives one page; sketches, which it cannot
add, are read for the groups of that page alone, and added in a thread.
"""

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Final, Literal, NamedTuple

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    FromClause,
    Row,
    Select,
    case,
    cast,
    func,
    literal,
    select,
    tuple_,
    union_all,
)
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

from gateway_server.clock import Clock
from gateway_server.errors import invalid_request
from gateway_server.storage.engine import Store
from gateway_server.storage.facts import kept_since_day
from gateway_server.storage.paging import Cursor, PageRequest, decode_page_token, encode_page_token
from gateway_server.storage.rollups import GROUP_COLUMNS, Level
from gateway_server.storage.sketches import EMPTY, bucket_column, decode_sketch, sketch_of
from gateway_server.storage.tables import USAGE_COUNTERS, usage_groups, usage_records, usage_rollups
from gateway_server.storage.times import (
    MICROS_OF_A_DAY,
    MICROS_OF_A_MINUTE,
    MICROS_OF_AN_HOUR,
    micros_of_seconds,
)
from gateway_server.storage.usage_counters import counter_columns
from gateway_server.storage.usage_records import UsageQuery, conditions_in, holds

Step = Literal["minute", "hour", "day", "month"]
#: By what the largest groups come first.
Largest = Literal["request_count", "error_count", "total_tokens", "cost_nanos"]

#: So many rows with sketches are read for one page.
_MAX_SKETCHES: Final = 200_000
#: So many steps of one tenant are sought one by one.
_MAX_SEEKS: Final = 1_000
_SECOND: Final = 1_000_000

_LENGTHS: Final[Mapping[Step, int]] = {
    "minute": MICROS_OF_A_MINUTE,
    "hour": MICROS_OF_AN_HOUR,
    "day": MICROS_OF_A_DAY,
}
#: Which columns a condition looks at, where they are not named as it is.
_COLUMNS_OF: Final[Mapping[str, frozenset[str]]] = {
    "api_key": frozenset({"tenant_id", "api_key_id"}),
    "provider": frozenset({"provider_id"}),
}


@dataclass(frozen=True, slots=True)
class SumQuery:
    """Which calls, and what to sum them by: columns of ``usage_records`` and names of labels.

    ``calls`` has both ends of its interval. With ``largest``, groups that have most of that come first.
    """

    calls: UsageQuery
    step: Step | None = None
    group_by: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    largest: Largest | None = None

    @property
    def needed(self) -> frozenset[str]:
        """The columns that the answer depends on."""
        columns = {*self.group_by, *(("labels",) if self.labels else ())}
        if self.calls.tenant_id is not None:
            columns.add("tenant_id")
        for condition in conditions_in(self.calls.conditions):
            columns |= _COLUMNS_OF.get(condition.field, frozenset({condition.field}))
        return frozenset(columns)


@dataclass(slots=True)
class UsageGroupSum:
    """The sums of one step and group; ``values`` are those of ``group_by`` and then of ``labels``.

    ``counters`` are by name as in ``USAGE_COUNTERS``, ``latency`` and ``first_token`` are sketches.
    """

    start_time: int
    end_time: int
    values: tuple[str | int, ...]
    counters: dict[str, int] = field(default_factory=lambda: dict.fromkeys(USAGE_COUNTERS, 0))
    errors: Counter[str] = field(default_factory=Counter)
    latency: int = EMPTY
    first_token: int = EMPTY


@dataclass(frozen=True, slots=True)
class SumPage:
    """Some of the sums, and the sum of all; the token is empty on the last page."""

    sums: tuple[UsageGroupSum, ...]
    total: UsageGroupSum
    next_page_token: str = ""


class _Piece(NamedTuple):
    """A part of the interval, and what tells about it."""

    source: Literal["ledger", "hour", "day"]
    start: int
    end: int


class UsageSumRepository:
    """Reads ``usage_rollups`` and, at the edges of an interval, ``usage_records``."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store.unhurried
        self._clock = clock

    async def query(self, query: SumQuery, page: PageRequest) -> SumPage:
        """One page of sums, the oldest or the largest first.

        Raises INVALID_REQUEST if it takes too much, and DEADLINE_EXCEEDED if it takes too long.
        """
        limit = page.limit
        key = (repr(query),)
        after = decode_page_token(page.page_token, key, _cursor_shape(query))
        pieces = _pieces(query, now=micros_of_seconds(self._clock.now()))
        async with self._store.report() as connection:
            _require_kept(pieces, await connection.run_sync(kept_since_day))
            rows = (await connection.execute(_page_of(query, pieces, after, limit + 1))).all()
            shown = rows[:limit]
            sums = {_place_of(row, query): _sum_of(row, query) for row in shown}
            await _add_details(connection, query, pieces, sums, list(sums))
            if after is None and len(rows) <= limit:
                total = _total_of(sums.values(), query)
            else:
                total = await _read_total(connection, query, pieces)
        token = encode_page_token(_cursor_of(shown[-1], query), key) if len(rows) > limit else ""
        return SumPage(tuple(sums.values()), total, token)


#: Which group: when its step starts, and its values.
_Place = tuple[Any, ...]


async def _read_total(
    connection: AsyncConnection, query: SumQuery, pieces: Sequence[_Piece]
) -> UsageGroupSum:
    whole = replace(query, step=None, group_by=(), labels=(), largest=None)
    rows = (await connection.execute(_page_of(whole, pieces, None, 1))).all()
    sums = {_place_of(row, whole): _sum_of(row, whole) for row in rows}
    await _add_details(connection, whole, pieces, sums, list(sums))
    return _total_of(sums.values(), whole)


def _total_of(sums: Iterable[UsageGroupSum], query: SumQuery) -> UsageGroupSum:
    total = UsageGroupSum(query.calls.start_time or 0, query.calls.end_time or 0, ())
    for each in sums:
        for name, value in each.counters.items():
            total.counters[name] += value
        total.errors.update(each.errors)
        total.latency += each.latency
        total.first_token += each.first_token
    return total


async def _add_details(
    connection: AsyncConnection,
    query: SumQuery,
    pieces: Sequence[_Piece],
    sums: Mapping[_Place, UsageGroupSum],
    places: Sequence[_Place],
) -> None:
    """Adds sketches, and errors by their reasons, to the sums of some groups."""
    if not places:
        return
    seen = 0
    for piece in pieces:
        statement = _details_of(query, piece, places).limit(_MAX_SKETCHES + 1 - seen)
        rows = (await connection.execute(statement)).all()
        seen += len(rows)
        if seen > _MAX_SKETCHES:
            raise invalid_request(
                "filter", f"takes more than {_MAX_SKETCHES} rows to sum: ask for less, or for longer steps"
            )
        # In a thread: there may be many, and other calls go on meanwhile.
        await asyncio.to_thread(_fold, rows, query, sums, is_rollup=piece.source != "ledger")


def _fold(
    rows: Sequence[Row[Any]], query: SumQuery, sums: Mapping[_Place, UsageGroupSum], *, is_rollup: bool
) -> None:
    for row in rows:
        found = sums.get(_place_of(row, query))
        if found is None:
            continue  # written since the page was read
        if row.error_count:
            found.errors[row.error_reason] += row.error_count
        if is_rollup:
            found.latency += decode_sketch(row.latency_sketch)
            found.first_token += decode_sketch(row.first_token_sketch)
        else:
            found.latency += sketch_of(row.latency_bucket, row.request_count)
            if row.first_token_bucket is not None:
                found.first_token += sketch_of(row.first_token_bucket, row.request_count)


def _pieces(query: SumQuery, *, now: int) -> list[_Piece]:
    """The interval in pieces, each from what tells most of it at once."""
    start, end = query.calls.start_time or 0, query.calls.end_time or 0
    if query.step == "minute" or not query.needed <= GROUP_COLUMNS:
        return [_Piece("ledger", start, end)]
    # What begins after now is not there yet: the hour and the day under way count as whole.
    whole_end = max(end, _ceil(now, MICROS_OF_A_DAY)) if end >= now else end
    hours = _whole(start, whole_end, MICROS_OF_AN_HOUR)
    if hours is None:
        return [_Piece("ledger", start, end)]
    pieces = [_Piece("ledger", start, hours[0])]
    days = None if query.step == "hour" else _whole(*hours, MICROS_OF_A_DAY)
    if days is None:
        pieces.append(_Piece("hour", *hours))
    else:
        pieces += [
            _Piece("hour", hours[0], days[0]),
            _Piece("day", *days),
            _Piece("hour", days[1], hours[1]),
        ]
    pieces.append(_Piece("ledger", hours[1], whole_end))
    return [piece for piece in pieces if piece.start < piece.end]


def _require_kept(pieces: Sequence[_Piece], since_day: int | None) -> None:
    """Raises INVALID_REQUEST when hours or calls are needed that were let go: the sums would be too small."""
    if since_day is None:
        return
    if any(piece.source != "day" and piece.start < since_day * MICROS_OF_A_DAY for piece in pieces):
        since = datetime.fromtimestamp(since_day * MICROS_OF_A_DAY // _SECOND, UTC)
        raise invalid_request(
            "start_time",
            f"only whole days (UTC) are kept from before {since:%Y-%m-%d}: "
            "begin at midnight and ask for days or months, without end users and filters by numbers",
        )


def _whole(start: int, end: int, length: int) -> tuple[int, int] | None:
    """The whole steps within an interval."""
    first, last = _ceil(start, length), end // length * length
    return (first, last) if first < last else None


def _ceil(micros: int, length: int) -> int:
    return -(-micros // length) * length


def _page_of(query: SumQuery, pieces: Sequence[_Piece], after: Cursor | None, limit: int) -> Select[Any]:
    """Sums by step and group, in order, behind a place."""
    parts = union_all(*(_amounts_of(query, piece) for piece in pieces)).subquery("parts")
    names = _names(query)
    apart = [parts.c[name] for name in names]
    sums = [cast(func.sum(parts.c[name]), BigInteger).label(name) for name in USAGE_COUNTERS]
    grouped = select(*apart, *sums).group_by(*apart).subquery("grouped")
    order: list[ColumnElement[Any]] = [grouped.c[name] for name in names]
    if query.largest:
        order.insert(0, -grouped.c[query.largest])
    statement = select(grouped).order_by(*order).limit(limit)
    if after is not None:
        # A forged place may have numbers that a narrower column has not.
        place = (
            literal(value, BigInteger() if isinstance(value, int) else column.type)
            for value, column in zip(after, order, strict=True)
        )
        statement = statement.where(tuple_(*order) > tuple_(*place))
    return statement


def _amounts_of(query: SumQuery, piece: _Piece) -> Select[Any]:
    """Counters of one piece, not added up yet, with step and group."""
    if piece.source == "ledger":
        return select(*_apart(query, usage_records), *counter_columns().values()).where(
            *_calls_of(query, piece)
        )
    source, conditions = _rollups_of(query, piece)
    return (
        select(*_apart(query, None), *(usage_rollups.c[name] for name in USAGE_COUNTERS))
        .select_from(source)
        .where(*conditions)
    )


def _details_of(query: SumQuery, piece: _Piece, places: Sequence[_Place]) -> Select[Any]:
    """Sketches and errors of one piece, of some groups."""
    if piece.source == "ledger":
        counters = counter_columns()
        first_token = usage_records.c.time_to_first_token_micros
        parts = (
            select(
                *_apart(query, usage_records),
                usage_records.c.error_reason.label("error_reason"),
                bucket_column(usage_records.c.latency_micros).label("latency_bucket"),
                case((first_token.is_not(None), bucket_column(first_token))).label("first_token_bucket"),
                counters["request_count"],
                counters["error_count"],
            )
            .where(*_calls_of(query, piece))
            .subquery("parts")
        )
        apart = [column for column in parts.c if column.name not in {"request_count", "error_count"}]
        sums = [
            cast(func.sum(parts.c[name]), BigInteger).label(name) for name in ("request_count", "error_count")
        ]
        return select(*apart, *sums).where(_among(parts, query, places)).group_by(*apart)
    source, conditions = _rollups_of(query, piece)
    parts = (
        select(
            *_apart(query, None),
            usage_groups.c.error_reason.label("error_reason"),
            usage_rollups.c.error_count,
            usage_rollups.c.latency_sketch,
            usage_rollups.c.first_token_sketch,
        )
        .select_from(source)
        .where(*conditions)
        .subquery("parts")
    )
    return select(parts).where(_among(parts, query, places))


def _among(parts: FromClause, query: SumQuery, places: Sequence[_Place]) -> ColumnElement[bool]:
    """Whether a row is of one of these groups, which follow one another unless the largest come first."""
    columns = tuple_(*(parts.c[name] for name in _names(query)))
    if query.largest:
        return columns.in_(places)
    first, last = (
        tuple_(
            *(literal(value, parts.c[name].type) for value, name in zip(place, _names(query), strict=True))
        )
        for place in (places[0], places[-1])
    )
    return (columns >= first) & (columns <= last)


def _names(query: SumQuery) -> list[str]:
    """What step and group are called in the statements."""
    return ["step_start", *query.group_by, *(f"label_{place}" for place in range(len(query.labels)))]


def _apart(query: SumQuery, ledger: FromClause | None) -> list[ColumnElement[Any]]:
    """Step and group, of rows of the ledger or of rollups."""
    times = ledger if ledger is not None else usage_rollups
    groups = ledger if ledger is not None else usage_groups
    own = {"tenant_id", "api_key_id"}
    values: list[ColumnElement[Any]] = [
        _step_start(times.c.start_time, query),
        *(times.c[name] if name in own else groups.c[name] for name in query.group_by),
        *(func.coalesce(groups.c.labels[name].as_string(), "") for name in query.labels),
    ]
    return [value.label(name) for name, value in zip(_names(query), values, strict=True)]


def _step_start(micros: ColumnElement[int], query: SumQuery) -> ColumnElement[int]:
    match query.step:
        case None:
            return literal(query.calls.start_time or 0, BigInteger)
        case "month":
            return _MonthStart(micros)
        case step:
            return micros - micros % _LENGTHS[step]


class _MonthStart(FunctionElement[int]):
    """When the calendar month (UTC) of a time in microseconds begins."""

    type = BigInteger()
    inherit_cache = True


@compiles(_MonthStart, "sqlite")
def _month_in_sqlite(element: _MonthStart, compiler: SQLCompiler, **options: Any) -> str:  # noqa: ANN401 -- SQLAlchemy's
    micros = compiler.process(element.clauses, **options)
    return (
        f"CAST(strftime('%s', ({micros}) / {_SECOND}, 'unixepoch', 'start of month') AS INTEGER) * {_SECOND}"
    )


@compiles(_MonthStart, "postgresql")
def _month_in_postgresql(element: _MonthStart, compiler: SQLCompiler, **options: Any) -> str:  # noqa: ANN401 -- SQLAlchemy's
    micros = compiler.process(element.clauses, **options)
    month = f"date_trunc('month', to_timestamp(({micros}) / {_SECOND}), 'UTC')"
    return f"CAST(extract(epoch FROM {month}) AS BIGINT) * {_SECOND}"


def _step_end(start: int, query: SumQuery) -> int:
    match query.step:
        case None:
            return query.calls.end_time or 0
        case "month":
            month = datetime.fromtimestamp(start // _SECOND, UTC)
            following = month.replace(year=month.year + month.month // 12, month=month.month % 12 + 1)
            return round(following.timestamp()) * _SECOND
        case step:
            return start + _LENGTHS[step]


def _place_of(row: Row[Any], query: SumQuery) -> _Place:
    """Which group a row of any of the statements is of."""
    return tuple(row[: len(_names(query))])


def _sum_of(row: Row[Any], query: SumQuery) -> UsageGroupSum:
    start, *values = _place_of(row, query)
    counters = dict(zip(USAGE_COUNTERS, row[1 + len(values) :], strict=True))
    return UsageGroupSum(start, _step_end(start, query), tuple(values), counters)


def _cursor_of(row: Row[Any], query: SumQuery) -> Cursor:
    most = (-getattr(row, query.largest),) if query.largest else ()
    return (*most, *_place_of(row, query))


def _cursor_shape(query: SumQuery) -> tuple[type, ...]:
    columns = (*(("most",) if query.largest else ()), "step_start")
    values = (int if name == "status_code" else str for name in query.group_by)
    return (*(int for _ in columns), *values, *(str for _ in query.labels))


def _calls_of(query: SumQuery, piece: _Piece) -> list[ColumnElement[bool]]:
    columns = usage_records.c
    return [
        columns.start_time >= piece.start,
        columns.start_time < piece.end,
        *_conditions(query, dict(columns.items())),
    ]


def _rollups_of(query: SumQuery, piece: _Piece) -> tuple[FromClause, list[ColumnElement[bool]]]:
    """Rollups with their groups, and which of them are asked for."""
    columns = usage_rollups.c
    length = _LENGTHS["hour" if piece.source == "hour" else "day"]
    starts = range(piece.start, piece.end, length)
    known = {**dict(usage_groups.c.items()), "tenant_id": columns.tenant_id, "api_key_id": columns.api_key_id}
    # The rows of one tenant lie together within each step, so it is sought there rather than read over.
    seeks = query.calls.tenant_id is not None and len(starts) <= _MAX_SEEKS
    return usage_rollups.join(usage_groups, columns.group_id == usage_groups.c.group_id), [
        columns.step == piece.source,
        columns.level == _level_of(query),
        columns.start_time.in_(starts)
        if seeks
        else (columns.start_time >= piece.start) & (columns.start_time < piece.end),
        *_conditions(query, known),
    ]


def _level_of(query: SumQuery) -> Level:
    """The coarsest level that knows what is asked for."""
    needed = query.needed
    if needed & {"api_key_id", "environment", "labels"}:
        return "key"
    return "tenant" if "tenant_id" in needed else "all"


def _conditions(query: SumQuery, columns: Mapping[str, ColumnElement[Any]]) -> list[ColumnElement[bool]]:
    found = [] if query.calls.tenant_id is None else [columns["tenant_id"] == query.calls.tenant_id]
    return [*found, *(holds(each, columns) for each in query.calls.conditions)]
