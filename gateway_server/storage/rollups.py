"""Sums over the ledger by hour and day, kept by the transactions that write it: docs/decisions/storage.md.

A call counts in six rows: those of its hour and of its day, each with everything told apart (``key``),
without keys, environments and labels (``tenant``), and without tenants too (``all``). So a question reads few
rows unless it asks for many.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from functools import cache, lru_cache
from operator import add
from typing import Any, Final, Literal, NamedTuple, TypeVar

import orjson
from sqlalchemy import BigInteger, Select, case, cast, delete, func, select, text
from sqlalchemy.engine import Connection, RowMapping

from gateway_server.storage.inserts import insert_once
from gateway_server.storage.sketches import (
    EMPTY,
    bucket_column,
    bucket_of,
    decode_sketch,
    encode_sketch,
    sketch_of,
)
from gateway_server.storage.tables import USAGE_COUNTERS, usage_groups, usage_records, usage_rollups
from gateway_server.storage.times import MICROS_OF_A_DAY, MICROS_OF_AN_HOUR
from gateway_server.storage.usage_counters import counter_columns, counters_of

#: A row of the ledger, by column.
Row = Mapping[str, Any] | RowMapping

Step = Literal["hour", "day"]
Level = Literal["key", "tenant", "all"]

#: Serialises on PostgreSQL who changes rollups. Every batch changes the rows that count all tenants, so locks
#: on rows would come to the same, and could be taken in a wrong order.
_ROLLUP_LOCK: Final = 5_005_100_010

#: So many keys in one statement: SQLite takes 32,766 parameters at most.
_KEYS_AT_ONCE: Final = 2000
#: So many rows of the ledger are in memory when it is read.
_ROWS_AT_ONCE: Final = 5000


class Group(NamedTuple):
    """What calls that are counted together have in common besides tenant and key. ``labels`` is JSON."""

    model: str
    provider_id: str
    provider_model: str
    method: str
    status_code: int
    error_reason: str
    environment: str
    labels: str


class RollupKey(NamedTuple):
    """The primary key of a rollup."""

    step: Step
    level: Level
    start_time: int
    tenant_id: str
    api_key_id: str
    group_id: bytes


class Cell(NamedTuple):
    """Sums of calls: counters in the order of ``USAGE_COUNTERS``, and sketches of their times."""

    counters: Sequence[int]
    latency: int
    first_token: int

    def __add__(self, other: "Cell") -> "Cell":  # type: ignore[override]
        """The sums of both."""
        return Cell(
            list(map(add, self.counters, other.counters)),
            self.latency + other.latency,
            self.first_token + other.first_token,
        )


Cells = dict[RollupKey, Cell]
#: Sums by hour, tenant, key and group: all other rows are sums of these.
Finest = dict[tuple[int, str, str, Group], Cell]

K = TypeVar("K")

_STEPS: Final[tuple[Step, ...]] = ("hour", "day")
LEVELS: Final[tuple[Level, ...]] = ("key", "tenant", "all")
#: By what rollups can be asked: columns of ``usage_records``.
GROUP_COLUMNS: Final = frozenset({"tenant_id", "api_key_id", *Group._fields})

_NO_LABELS: Final = "{}"
_SKETCHES: Final = ("latency_sketch", "first_token_sketch")


def add_to_rollups(connection: Connection, calls: Iterable[Row]) -> None:
    """Counts rows of ``usage_records`` that the same transaction wrote. Takes a lock: best done last."""
    finest: Finest = {}
    for call in calls:
        first_token = call["time_to_first_token_micros"]
        cell = Cell(
            counters_of(call),
            sketch_of(bucket_of(call["latency_micros"])),
            EMPTY if first_token is None else sketch_of(bucket_of(first_token)),
        )
        key = (_hour_of(call["start_time"]), call["tenant_id"], call["api_key_id"], _group_of(call))
        _add(finest, key, cell)
    lock_rollups(connection)
    _write(connection, finest)


def rebuild_day(connection: Connection, day: int) -> int:
    """Makes the rollups of a UTC day, a number since the epoch, anew from the ledger; of how many calls.

    Nothing else may write the ledger meanwhile, and the ledger must still have all calls of that day.
    """
    start, end = day * MICROS_OF_A_DAY, (day + 1) * MICROS_OF_A_DAY
    columns = usage_rollups.c
    connection.execute(
        delete(usage_rollups).where(
            columns.step.in_(_STEPS),
            columns.level.in_(LEVELS),
            columns.start_time >= start,
            columns.start_time < end,
        )
    )
    finest: Finest = {}
    calls = 0
    statement = _ledger_sums(start, end).execution_options(yield_per=_ROWS_AT_ONCE)
    for row in connection.execute(statement):
        hour, tenant_id, api_key_id, *rest = row[: -len(USAGE_COUNTERS)]
        *group, labels, latency, first_token = rest
        counters = row[-len(USAGE_COUNTERS) :]
        count = counters[0]
        cell = Cell(
            counters,
            sketch_of(latency, count),
            EMPTY if first_token is None else sketch_of(first_token, count),
        )
        _add(finest, (hour, tenant_id, api_key_id, Group._make((*group, _json_of(labels)))), cell)
        calls += count
    _write(connection, finest)
    return calls


def lock_rollups(connection: Connection) -> None:
    """Keeps others from changing rollups until the transaction ends; writers of SQLite do so anyway."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:n)"), {"n": _ROLLUP_LOCK})


def _group_of(row: Row) -> Group:
    return Group(
        row["model"],
        row["provider_id"],
        row["provider_model"],
        row["method"],
        row["status_code"],
        row["error_reason"],
        row["environment"],
        _json_of(row["labels"]),
    )


def _json_of(labels: Mapping[str, str]) -> str:
    return orjson.dumps(labels, option=orjson.OPT_SORT_KEYS).decode() if labels else _NO_LABELS


def _hour_of(micros: int) -> int:
    return micros - micros % MICROS_OF_AN_HOUR


@lru_cache(maxsize=10_000)
def _id_of(group: Group) -> bytes:
    return hashlib.blake2b(orjson.dumps(tuple(group)), digest_size=16).digest()


def _add(cells: dict[K, Cell], key: K, cell: Cell) -> None:
    known = cells.get(key)
    cells[key] = cell if known is None else known + cell


def _spread(finest: Finest) -> tuple[Cells, dict[bytes, Group]]:
    """The rows of all steps and levels, and the groups that they name. Each level sums the one before."""
    cells: Cells = {}
    groups: dict[bytes, Group] = {}
    coarser: dict[tuple[int, str, Group], Cell] = {}
    for (hour, tenant_id, api_key_id, group), cell in finest.items():
        group_id = _id_of(group)
        groups[group_id] = group
        _add_to_steps(cells, RollupKey("hour", "key", hour, tenant_id, api_key_id, group_id), cell)
        _add(coarser, (hour, tenant_id, group._replace(environment="", labels=_NO_LABELS)), cell)
    for (hour, tenant_id, group), cell in coarser.items():
        group_id = _id_of(group)
        groups[group_id] = group
        _add_to_steps(cells, RollupKey("hour", "tenant", hour, tenant_id, "", group_id), cell)
        _add_to_steps(cells, RollupKey("hour", "all", hour, "", "", group_id), cell)
    return cells, groups


def _add_to_steps(cells: Cells, key: RollupKey, cell: Cell) -> None:
    _add(cells, key, cell)
    day = key.start_time - key.start_time % MICROS_OF_A_DAY
    _add(cells, key._replace(step="day", start_time=day), cell)


def _write(connection: Connection, finest: Finest) -> None:
    """Adds sums to what the rollups have. The rollups must be locked."""
    if not finest:
        return
    cells, groups = _spread(finest)
    connection.execute(
        insert_once(usage_groups, connection.dialect.name),
        [
            {**group._asdict(), "group_id": group_id, "labels": orjson.loads(group.labels)}
            for group_id, group in sorted(groups.items())
        ],
    )
    keys = sorted(cells)
    for start in range(0, len(keys), _KEYS_AT_ONCE):
        for key, latency, first_token in _read_sketches(connection, keys[start : start + _KEYS_AT_ONCE]):
            cell = cells[key]
            cells[key] = Cell(
                cell.counters,
                cell.latency + decode_sketch(latency),
                cell.first_token + decode_sketch(first_token),
            )
    connection.exec_driver_sql(
        _add_statement(connection.dialect.name),
        [
            (*key, *cell.counters, encode_sketch(cell.latency), encode_sketch(cell.first_token))
            for key, cell in sorted(cells.items())
        ],
    )


# Both statements are text, as the time of SQLAlchemy's expressions for hundreds of rows would be felt.


@cache
def _add_statement(dialect: str) -> str:
    """Adds counters to a row, and replaces its sketches."""
    columns = (*RollupKey._fields, *USAGE_COUNTERS, *_SKETCHES)
    changes = [
        *(f"{name} = usage_rollups.{name} + excluded.{name}" for name in USAGE_COUNTERS),
        *(f"{name} = excluded.{name}" for name in _SKETCHES),
    ]
    marks = [f"${place}" if dialect == "postgresql" else "?" for place in range(1, len(columns) + 1)]
    return (
        f"INSERT INTO usage_rollups ({', '.join(columns)}) VALUES ({', '.join(marks)}) "  # noqa: S608 -- names
        f"ON CONFLICT ({', '.join(RollupKey._fields)}) DO UPDATE SET {', '.join(changes)}"
    )


def _read_sketches(connection: Connection, keys: Sequence[RollupKey]) -> list[tuple[RollupKey, bytes, bytes]]:
    """The sketches of those keys that have rows."""
    names = ", ".join(RollupKey._fields)
    rows = f"SELECT {names}, {', '.join(_SKETCHES)} FROM usage_rollups"  # noqa: S608 -- names
    parameters: tuple[Any, ...]
    if connection.dialect.name == "postgresql":
        types = ("varchar", "varchar", "bigint", "varchar", "varchar", "bytea")
        arrays = ", ".join(f"${place}::{kind}[]" for place, kind in enumerate(types, start=1))
        statement = f"{rows} JOIN unnest({arrays}) AS wanted ({names}) USING ({names})"
        parameters = tuple(list(column) for column in zip(*keys, strict=True))
    else:
        mark = f"({', '.join('?' * len(RollupKey._fields))})"
        columns = ", ".join(
            f"column{place} AS {name}" for place, name in enumerate(RollupKey._fields, start=1)
        )
        wanted = f"(SELECT {columns} FROM (VALUES {', '.join([mark] * len(keys))}))"  # noqa: S608 -- names
        # CROSS tells SQLite to seek each of them; with IN it reads the whole table.
        statement = f"{rows.replace('FROM', f'FROM {wanted} CROSS JOIN')} USING ({names})"
        parameters = tuple(value for key in keys for value in key)
    return [
        (RollupKey(*found[:-2]), found[-2], found[-1])
        for found in connection.exec_driver_sql(statement, parameters).all()
    ]


def _ledger_sums(start: int, end: int) -> Select[Any]:
    """What the ledger has in an interval, by hour and everything that rollups tell apart."""
    columns = usage_records.c
    first_token = columns.time_to_first_token_micros
    apart = (
        (columns.start_time - columns.start_time % MICROS_OF_AN_HOUR).label("hour"),
        columns.tenant_id,
        columns.api_key_id,
        *(columns[name] for name in Group._fields),
        bucket_column(columns.latency_micros).label("latency_bucket"),
        case((first_token.is_not(None), bucket_column(first_token))).label("first_token_bucket"),
    )
    sums = [cast(func.sum(each), BigInteger).label(name) for name, each in counter_columns().items()]
    # By place: PostgreSQL does not see that two expressions with parameters are the same.
    places = [text(str(place)) for place in range(1, len(apart) + 1)]
    return (
        select(*apart, *sums).where(columns.start_time >= start, columns.start_time < end).group_by(*places)
    )
