"""What a tenant or a key spent in an interval: from rollups, and at its edges from single calls.

Rollups are written with the ledger, and those of days stay when old calls are let go.
"""

from typing import Any, Final

from sqlalchemy import BigInteger, Select, cast, func, select
from sqlalchemy.engine import Connection

from gateway_server.storage.facts import kept_since_day
from gateway_server.storage.rollups import Step
from gateway_server.storage.tables import usage_records, usage_rollups
from gateway_server.storage.times import MICROS_OF_A_DAY, MICROS_OF_AN_HOUR
from gateway_server.storage.usage_counters import counter_columns

_LENGTHS: Final[dict[Step, int]] = {"hour": MICROS_OF_AN_HOUR, "day": MICROS_OF_A_DAY}


def cost_between(connection: Connection, tenant_id: str, api_key_id: str, start: int, end: int) -> int:
    """The nanos of all calls that began in an interval; of the whole tenant when ``api_key_id`` is empty.

    Where the interval begins within a day (UTC) of which no calls and hours are kept any more, the whole day
    counts. Nobody may write the ledger meanwhile.
    """
    owner = (tenant_id, api_key_id)
    cost = _cost_between(connection, owner, start, end)
    # Read last: what goes is noted before it goes.
    since_day = kept_since_day(connection)
    if since_day is None or start >= since_day * MICROS_OF_A_DAY:
        return cost
    return _cost_between(connection, owner, start - start % MICROS_OF_A_DAY, end)


def _cost_between(connection: Connection, owner: tuple[str, str], start: int, end: int) -> int:
    first_hour, last_hour = _whole(start, end, MICROS_OF_AN_HOUR)
    first_day, last_day = _whole(first_hour, last_hour, MICROS_OF_A_DAY)
    parts = (
        _calls(owner, start, first_hour),
        _rollups(owner, "hour", first_hour, first_day),
        _rollups(owner, "day", first_day, last_day),
        _rollups(owner, "hour", last_day, last_hour),
        _calls(owner, last_hour, end),
    )
    return sum(connection.execute(part).scalar_one() or 0 for part in parts if part is not None)


def _whole(start: int, end: int, length: int) -> tuple[int, int]:
    """The whole steps of an interval; none, at its end, where it has none."""
    first, last = -(-start // length) * length, end // length * length
    return (first, last) if first < last else (end, end)


def _rollups(owner: tuple[str, str], step: Step, start: int, end: int) -> Select[Any] | None:
    if start == end:
        return None
    tenant_id, api_key_id = owner
    columns = usage_rollups.c
    return select(cast(func.sum(columns.cost_nanos), BigInteger)).where(
        columns.step == step,
        columns.level == ("key" if api_key_id else "tenant"),
        # One by one, as the rows of all tenants lie between those of one.
        columns.start_time.in_(range(start, end, _LENGTHS[step])),
        columns.tenant_id == tenant_id,
        columns.api_key_id == api_key_id,
    )


def _calls(owner: tuple[str, str], start: int, end: int) -> Select[Any] | None:
    if start == end:
        return None
    tenant_id, api_key_id = owner
    columns = usage_records.c
    statement = select(cast(func.sum(counter_columns()["cost_nanos"]), BigInteger)).where(
        columns.tenant_id == tenant_id, columns.start_time >= start, columns.start_time < end
    )
    return statement.where(columns.api_key_id == api_key_id) if api_key_id else statement
