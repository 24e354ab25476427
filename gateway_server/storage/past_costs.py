"""What a tenant or a key spent in an interval: from rollups, and at its edges from single calls.

Rollups are written with the ledger, and those of days stay when old calls are let go.
"""

from functools import cache
from typing import Any, Final

from sqlalchemy import BigInteger, Select, bindparam, cast, func, select
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
    return (
        _of_calls(connection, owner, start, first_hour)
        + _of_steps(connection, owner, "hour", first_hour, first_day)
        + _of_steps(connection, owner, "day", first_day, last_day)
        + _of_steps(connection, owner, "hour", last_day, last_hour)
        + _of_calls(connection, owner, last_hour, end)
    )


def _whole(start: int, end: int, length: int) -> tuple[int, int]:
    """The whole steps of an interval; none, at its end, where it has none."""
    first, last = -(-start // length) * length, end // length * length
    return (first, last) if first < last else (end, end)


def _of_steps(connection: Connection, owner: tuple[str, str], step: Step, start: int, end: int) -> int:
    if start == end:
        return 0
    tenant_id, api_key_id = owner
    bound = {
        "step": step,
        "level": "key" if api_key_id else "tenant",
        # One by one, as the rows of all tenants lie between those of one.
        "starts": range(start, end, _LENGTHS[step]),
        "tenant": tenant_id,
        "api_key": api_key_id,
    }
    return connection.execute(_rollups(), bound).scalar_one() or 0


def _of_calls(connection: Connection, owner: tuple[str, str], start: int, end: int) -> int:
    if start == end:
        return 0
    tenant_id, api_key_id = owner
    bound = {"start": start, "end": end, "tenant": tenant_id, "api_key": api_key_id}
    return connection.execute(_calls(of_key=bool(api_key_id)), bound).scalar_one() or 0


@cache
def _rollups() -> Select[Any]:
    columns = usage_rollups.c
    return select(cast(func.sum(columns.cost_nanos), BigInteger)).where(
        columns.step == bindparam("step"),
        columns.level == bindparam("level"),
        columns.start_time.in_(bindparam("starts", expanding=True)),
        columns.tenant_id == bindparam("tenant"),
        columns.api_key_id == bindparam("api_key"),
    )


@cache
def _calls(*, of_key: bool) -> Select[Any]:
    columns = usage_records.c
    statement = select(cast(func.sum(counter_columns()["cost_nanos"]), BigInteger)).where(
        columns.tenant_id == bindparam("tenant"),
        columns.start_time >= bindparam("start"),
        columns.start_time < bindparam("end"),
    )
    return statement.where(columns.api_key_id == bindparam("api_key")) if of_key else statement
