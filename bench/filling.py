"""Fills a store with tenants, keys and calls, by statements that make up the rows in the database itself."""

from typing import Final

from sqlalchemy import text
from sqlalchemy.engine import Connection

from gateway_server.storage.engine import Store

DAY: Final = 86_400_000_000
LAST_DAY: Final = 20_700
DAYS: Final = 60
TENANTS: Final = 1_000

_ROWS_AT_ONCE: Final = 250_000

#: A call of each number `n`, in the order of time. 250 keys at a time make ten calls each; each key has one
#: model, and one call in 50 fails.
_KEY: Final = "((n / 2500 * 250 + n % 250) * 7919 % :keys)"
_START: Final = f"({(LAST_DAY - DAYS) * DAY} + n * :gap)"
_SHARED: Final = {
    "start_day": f"{_START} / {DAY}",
    "request_id": "'call-' || (1000000000 + n)",
    "tenant_id": f"'t' || ({_KEY} % {TENANTS})",
    "provider_id": f"'p' || ({_KEY} % 3)",
    "provider_model": f"'pm-' || ({_KEY} % 10)",
    "latency_micros": "100000 + n * 48271 % 9900000",
    "time_to_first_token_micros": "50000 + n * 16807 % 900000",
    "status_code": "CASE WHEN n % 50 = 0 THEN 14 ELSE 0 END",
    "error_reason": "CASE WHEN n % 50 = 0 THEN 'UPSTREAM_UNAVAILABLE' ELSE '' END",
    "usage_state": "1",
    "input_tokens": "100 + n % 1000",
    "cache_read_input_tokens": "0",
    "cache_write_input_tokens": "0",
    "cache_write_long_input_tokens": "0",
    "output_tokens": "10 + n % 100",
    "reasoning_output_tokens": "0",
    "total_tokens": "110 + n % 1000 + n % 100",
    "cost_nanos": "2000 + n % 1000",
    "input_cost_nanos": "1000 + n % 1000",
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


async def fill_keys(store: Store, keys: int) -> None:
    """Makes tenants, and keys that belong to them in turns."""
    await _fill(store, "tenants", _TENANT_ROWS, TENANTS)
    await _fill(store, "api_keys", _KEY_ROWS, keys)


async def fill_ledger(store: Store, calls: int, keys: int) -> None:
    """Makes calls, spread over all days and keys, with an attempt each."""
    gap = DAYS * DAY // calls
    await _fill(store, "usage_records", _CALLS, calls, keys=keys, gap=gap)
    await _fill(store, "usage_attempts", _ATTEMPTS, calls, keys=keys, gap=gap)
    if store.dialect == "postgresql":
        # Otherwise it plans for empty tables until autovacuum has been there.
        for table in ("api_keys", "usage_records", "usage_attempts"):
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
