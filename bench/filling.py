"""Fills a store with tenants, keys, calls and their sums, by statements that make up the rows there.

All days are alike but for the keys that are used, so only the first day's sums are made from its calls, by
the gateway's own code; those of the other days are copies of them, as that code would have made them.
"""

from dataclasses import dataclass
from functools import partial
from typing import Final

from sqlalchemy import text
from sqlalchemy.engine import Connection

from gateway_server.storage.engine import Store
from gateway_server.storage.retention import PARTITION_DAYS, RetentionRepository
from gateway_server.storage.rollups import rebuild_day
from gateway_server.storage.tables import usage_rollups

DAY: Final = 86_400_000_000
DAYS: Final = 60
TENANTS: Final = 1_000

_ROWS_AT_ONCE: Final = 250_000

#: A call of each number `n`, in the order of time, and `m` of its day. 250 keys at a time make ten calls
#: each; each key has one tenant, one provider and one model, and one call in 50 fails.
_DAY: Final = "(n / :daily)"
_M: Final = "(n % :daily)"
_KEY: Final = f"(({_M} / 2500 * 250 + {_M} % 250 + {_DAY} * :daily_keys) % :keys)"
_START: Final = f"(:origin + {_DAY} * {DAY} + {_M} * :gap)"
_SHARED: Final = {
    "start_day": f"{_START} / {DAY}",
    "request_id": "'call-' || (1000000000 + n)",
    "tenant_id": f"'t' || ({_KEY} % {TENANTS})",
    "provider_id": f"'p' || ({_KEY} % 5)",
    "provider_model": f"'pm-' || ({_KEY} % 10)",
    "latency_micros": f"100000 + {_M} * 48271 % 9900000",
    "time_to_first_token_micros": f"50000 + {_M} * 16807 % 900000",
    "status_code": f"CASE WHEN {_M} % 50 = 0 THEN 14 ELSE 0 END",
    "error_reason": f"CASE WHEN {_M} % 50 = 0 THEN 'UPSTREAM_UNAVAILABLE' ELSE '' END",
    "usage_state": "1",
    "input_tokens": f"100 + {_M} % 1000",
    "cache_read_input_tokens": "0",
    "cache_write_input_tokens": "0",
    "cache_write_long_input_tokens": "0",
    "output_tokens": f"10 + {_M} % 100",
    "reasoning_output_tokens": "0",
    "total_tokens": f"110 + {_M} % 1000 + {_M} % 100",
    "cost_nanos": f"2000 + {_M} % 1000",
    "input_cost_nanos": f"1000 + {_M} % 1000",
    "cache_read_cost_nanos": "0",
    "cache_write_cost_nanos": "0",
    "output_cost_nanos": "1000",
    "extras_cost_nanos": "0",
    "cost_estimated": "1 = 0",
}
_CALLS: Final = {
    **_SHARED,
    "api_key_id": f"'k' || {_KEY}",
    "environment": "''",
    "method": "'CreateChatCompletion'",
    "model": f"'model-' || ({_KEY} % 10)",
    "provider_response_id": "'chatcmpl-' || n",
    "start_time": _START,
    "end_user_id": "''",
    "labels": "CAST('{}' AS {json})",
}
_ATTEMPTS: Final = {**_SHARED, "attempt_number": "1", "wait_micros": "0", "http_status": "200"}
_RESOURCE: Final = {
    "uid": "'0000000' || (1000000000000000000 + n)",
    "version": "1",
    "create_time": "0",
    "update_time": "0",
    "spec": "{empty}",
}
_TENANT_ROWS: Final = {**_RESOURCE, "tenant_id": "'t' || n"}
_KEY_ROWS: Final = {
    **_RESOURCE,
    "tenant_id": f"'t' || (n % {TENANTS})",
    "api_key_id": "'k' || n",
    "secret_hash": "{hash}",
    "secret_prefix": "'sk-gw-xxxx'",
    "secret_last4": "'xxxx'",
    "pepper_version": "1",
}
#: What the two databases say differently.
_WORDS: Final = {
    "sqlite": {
        "series": "(WITH RECURSIVE series(n) AS (SELECT :first UNION ALL SELECT n + 1 FROM series"
        " WHERE n < :last) SELECT n FROM series)",
        "json": "TEXT",
        "empty": "x''",
        "hash": "randomblob(32)",
    },
    "postgresql": {
        "series": "(SELECT generate_series(CAST(:first AS BIGINT), :last) AS n)",
        "json": "JSONB",
        "empty": "'\\x'::bytea",
        "hash": "sha256(n::text::bytea)",
    },
}


@dataclass(frozen=True, slots=True)
class Filling:
    """How much a store holds, and the day behind the last of its calls, since the epoch.

    There are as many calls each day, and whole thousands of keys.
    """

    calls: int
    keys: int
    end_day: int

    @classmethod
    def of_at_least(cls, calls: int, keys: int, *, end_day: int) -> "Filling":
        """The least that is as much as this."""
        return cls(-(-calls // DAYS) * DAYS, -(-keys // TENANTS) * TENANTS, end_day)

    @property
    def parameters(self) -> dict[str, int]:
        """What the statements have to know."""
        daily = self.calls // DAYS
        # Other keys every day, until all had their turn; in whole thousands, so that the n-th of each day has
        # the same tenant, provider and model.
        return {
            "keys": self.keys,
            "daily": daily,
            "daily_keys": -(-self.keys // DAYS // TENANTS) * TENANTS,
            "origin": self.first_time,
            "gap": DAY // daily,
        }

    @property
    def first_time(self) -> int:
        """When the first call begins, in microseconds since the epoch."""
        return (self.end_day - DAYS) * DAY

    @property
    def end_time(self) -> int:
        """Behind the last call, in microseconds since the epoch."""
        return self.end_day * DAY


async def fill(store: Store, filling: Filling) -> None:
    """Makes tenants, keys, calls and sums."""
    await make_room(store, filling)
    await fill_keys(store, filling.keys)
    await fill_ledger(store, filling)
    await fill_sums(store, filling)


async def make_room(store: Store, filling: Filling) -> None:
    """Makes the partitions that the calls are in, on PostgreSQL."""
    for days in range(0, DAYS + PARTITION_DAYS, PARTITION_DAYS):
        await RetentionRepository(store).make_partitions(filling.first_time + days * DAY)


async def fill_keys(store: Store, keys: int) -> None:
    """Makes tenants, and keys that belong to them in turns."""
    await _fill(store, "tenants", _TENANT_ROWS, TENANTS)
    await _fill(store, "api_keys", _KEY_ROWS, keys)


async def fill_ledger(store: Store, filling: Filling) -> None:
    """Makes calls, spread over all days and keys, with an attempt each."""
    parameters = filling.parameters
    await _fill(store, "usage_records", _CALLS, filling.calls, **parameters)
    await _fill(store, "usage_attempts", _ATTEMPTS, filling.calls, **parameters)
    await _analyze(store, "api_keys", "usage_records", "usage_attempts")


async def fill_sums(store: Store, filling: Filling) -> None:
    """Makes the sums of all calls: see above."""
    await store.write_batch(partial(rebuild_day, day=filling.end_day - DAYS))
    columns = ", ".join(_copied_sums().keys())
    values = ", ".join(_copied_sums().values())
    statement = text(
        f"INSERT INTO usage_rollups ({columns}) SELECT {values} FROM usage_rollups"  # noqa: S608 -- names
        " WHERE start_time >= :start AND start_time < :behind"
    )
    for day in range(1, DAYS):
        parameters = {
            "start": filling.first_time,
            "behind": filling.first_time + DAY,
            "later": day * DAY,
            "keys": filling.keys,
            "further": day * filling.parameters["daily_keys"],
        }

        def work(connection: Connection, parameters: dict[str, int] = parameters) -> None:
            connection.execute(statement, parameters)

        await store.write_batch(work)
    await _analyze(store, "usage_groups", "usage_rollups")


def _copied_sums() -> dict[str, str]:
    """Sums of the first day as they are on a later one, by column."""
    key = "'k' || ((CAST(substr(api_key_id, 2) AS BIGINT) + :further) % :keys)"
    return {
        **{column.name: column.name for column in usage_rollups.columns},
        "start_time": "start_time + :later",
        "api_key_id": f"CASE WHEN api_key_id = '' THEN '' ELSE {key} END",
    }


async def _analyze(store: Store, *tables: str) -> None:
    """PostgreSQL would plan for empty tables until autovacuum has been there."""
    if store.dialect == "postgresql":
        for table in tables:
            async with store.write() as connection:
                await connection.execute(text(f"ANALYZE {table}"))


async def _fill(store: Store, table: str, columns: dict[str, str], rows: int, **parameters: int) -> None:
    words = _WORDS[store.dialect]
    values = ", ".join(columns.values())
    for name, word in words.items():
        values = values.replace(f"{{{name}}}", word)
    statement = text(
        f"INSERT INTO {table} ({', '.join(columns)}) SELECT {values} FROM {words['series']} AS numbers"  # noqa: S608
    )
    for first in range(0, rows, _ROWS_AT_ONCE):
        bounds = {"first": first, "last": min(first + _ROWS_AT_ONCE, rows) - 1, **parameters}

        def work(connection: Connection, bounds: dict[str, int] = bounds) -> None:
            connection.execute(statement, bounds)

        await store.write_batch(work)
