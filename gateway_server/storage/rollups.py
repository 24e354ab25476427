"""Sums of usage by hour and day, kept in the transaction that writes the calls; no sum over the ledger later.

Each call counts in three groups: by all that usage can be asked by, by all but what has many values (key,
environment, labels), and by that without the tenant. A question reads the coarsest that can answer it.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, Final

import orjson
from sqlalchemy import RowMapping, bindparam, delete, select, tuple_, update
from sqlalchemy.engine import Connection

from gateway_server.storage import sketches
from gateway_server.storage.inserts import insert_once
from gateway_server.storage.tables import usage_groups, usage_rollups

HOUR: Final = 3600
DAY: Final = 86_400
STEPS: Final = (HOUR, DAY)

#: What each level leaves out.
LEFT_OUT: Final[tuple[frozenset[str], ...]] = (
    frozenset(),
    frozenset({"api_key_id", "environment", "labels"}),
    frozenset({"api_key_id", "environment", "labels", "tenant_id"}),
)

#: A row of the ledger, as it will be written or as it was read.
CallRow = Mapping[str, Any] | RowMapping

_MICROS: Final = 1_000_000
_DIMENSIONS: Final = (
    "tenant_id",
    "api_key_id",
    "model",
    "provider_id",
    "provider_model",
    "method",
    "environment",
    "status_code",
    "error_reason",
    "labels",
)
#: What rollups can be asked by.
GROUP_COLUMNS: Final = frozenset(_DIMENSIONS)

#: Columns of a call that are added up as they are.
_ADDED: Final = (
    "input_tokens",
    "cache_read_input_tokens",
    "cache_write_input_tokens",
    "cache_write_long_input_tokens",
    "output_tokens",
    "reasoning_output_tokens",
    "total_tokens",
    "cost_nanos",
    "input_cost_nanos",
    "cache_read_cost_nanos",
    "cache_write_cost_nanos",
    "output_cost_nanos",
    "extras_cost_nanos",
    "latency_micros",
    "time_to_first_token_micros",
)
SUMS: Final = ("request_count", "first_token_count", "estimated_count", *_ADDED)


@dataclass(slots=True)
class Sums:
    """What is added up of some calls."""

    counts: Counter[str] = field(default_factory=Counter)
    latency: Counter[int] = field(default_factory=Counter)
    first_token: Counter[int] = field(default_factory=Counter)

    def add_call(self, row: CallRow) -> None:
        """Counts a row of the ledger."""
        counts = self.counts
        counts["request_count"] += 1
        for name in _ADDED:
            if value := row[name]:
                counts[name] += value
        if row["cost_estimated"]:
            counts["estimated_count"] += 1
        self.latency[sketches.bucket_of(row["latency_micros"])] += 1
        if row["time_to_first_token_micros"] is not None:
            counts["first_token_count"] += 1
            self.first_token[sketches.bucket_of(row["time_to_first_token_micros"])] += 1

    def add_rollup(self, row: RowMapping) -> None:
        """Counts a row of ``usage_rollups``."""
        for name in SUMS:
            self.counts[name] += row[name]
        self.latency.update(sketches.decode(row["latency_sketch"]))
        self.first_token.update(sketches.decode(row["first_token_sketch"]))

    def add(self, other: "Sums") -> None:
        """Adds other sums."""
        self.counts.update(other.counts)
        self.latency.update(other.latency)
        self.first_token.update(other.first_token)


def add_to_rollups(connection: Connection, calls: Iterable[CallRow]) -> None:
    """Counts calls, by their rows. Whoever calls sees to it that each is counted once."""
    groups: dict[bytes, dict[str, Any]] = {}
    sums: dict[tuple[bytes, int, int], Sums] = {}
    for call in calls:
        for level, left_out in enumerate(LEFT_OUT):
            group = _group_of(call, level, left_out)
            groups[group["group_id"]] = group
            for step in STEPS:
                start = call["start_time"] // (step * _MICROS) * (step * _MICROS)
                key = (group["group_id"], step, start)
                if key not in sums:
                    sums[key] = Sums()
                sums[key].add_call(call)
    if not sums:
        return
    dialect = connection.dialect.name
    connection.execute(insert_once(usage_groups, dialect), [groups[key] for key in sorted(groups)])
    _merge(connection, sums)


def rebuild_rollups(
    connection: Connection, calls: Iterable[Sequence[Mapping[str, Any] | RowMapping]]
) -> None:
    """Makes all rollups anew from all calls, given in batches."""
    connection.execute(delete(usage_rollups))
    connection.execute(delete(usage_groups))
    for batch in calls:
        add_to_rollups(connection, batch)


def _group_of(call: CallRow, level: int, left_out: frozenset[str]) -> dict[str, Any]:
    group = {name: _EMPTY[name] if name in left_out else call[name] for name in _DIMENSIONS}
    if not call["provider_id"]:  # nobody answered, so it is nobody's model
        group["provider_model"] = ""
    text = orjson.dumps([level, *group.values()], option=orjson.OPT_SORT_KEYS)
    return {"group_id": blake2b(text, digest_size=16).digest(), "level": level, **group}


_EMPTY: Final[Mapping[str, Any]] = {**dict.fromkeys(_DIMENSIONS, ""), "labels": {}, "status_code": 0}


def _merge(connection: Connection, sums: Mapping[tuple[bytes, int, int], Sums]) -> None:
    """Adds to the rows that are there, which are locked in order; rows that are not are made first."""
    keys = sorted(sums)
    there = _lock(connection, keys)
    missing = [key for key in keys if key not in there]
    if missing:
        connection.execute(
            insert_once(usage_rollups, connection.dialect.name),
            [
                {
                    **dict(zip(_KEY, key, strict=True)),
                    **dict.fromkeys(SUMS, 0),
                    "latency_sketch": sketches.EMPTY,
                    "first_token_sketch": sketches.EMPTY,
                }
                for key in missing
            ],
        )
        there |= _lock(connection, missing)
    changes = []
    for key in keys:
        total = Sums()
        total.add_rollup(there[key])
        total.add(sums[key])
        changes.append(
            {
                **{f"b_{name}": value for name, value in zip(_KEY, key, strict=True)},
                **{name: total.counts[name] for name in SUMS},
                "latency_sketch": sketches.encode(total.latency),
                "first_token_sketch": sketches.encode(total.first_token),
            }
        )
    connection.execute(_UPDATE, changes)


_KEY: Final = ("group_id", "step_seconds", "start_time")
_UPDATE: Final = (
    update(usage_rollups)
    .where(*(usage_rollups.c[name] == bindparam(f"b_{name}") for name in _KEY))
    .values({name: bindparam(name) for name in (*SUMS, "latency_sketch", "first_token_sketch")})
)


def _lock(
    connection: Connection, keys: Sequence[tuple[bytes, int, int]]
) -> dict[tuple[bytes, int, int], RowMapping]:
    columns = tuple(usage_rollups.c[name] for name in _KEY)
    found: dict[tuple[bytes, int, int], RowMapping] = {}
    for start in range(0, len(keys), _KEYS_AT_ONCE):
        statement = (
            select(usage_rollups)
            .where(tuple_(*columns).in_(keys[start : start + _KEYS_AT_ONCE]))
            .order_by(*columns)
            .with_for_update()
        )
        for row in connection.execute(statement).mappings():
            found[row["group_id"], row["step_seconds"], row["start_time"]] = row
    return found


#: SQLite and PostgreSQL take some ten thousand parameters in a statement.
_KEYS_AT_ONCE: Final = 1_000
