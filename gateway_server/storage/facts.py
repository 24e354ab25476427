"""Facts about the database that processes must agree on, written once and kept."""

from typing import Final

from sqlalchemy import insert, select
from sqlalchemy.engine import Connection

from gateway_server.storage.engine import Store
from gateway_server.storage.tables import facts

#: From which UTC day on, a number since the epoch, the ledger has all calls and rollups all hours: earlier
#: ones were let go.
KEPT_SINCE_DAY: Final = "usage_kept_since_day"


def kept_since_day(connection: Connection) -> int | None:
    """From which day on all calls and hours are there; None when nothing was ever let go."""
    found = connection.execute(
        select(facts.c.value).where(facts.c.name == KEPT_SINCE_DAY)
    ).scalar_one_or_none()
    return None if found is None else int(found)


async def read_fact(store: Store, name: str) -> str | None:
    """The value of the fact, None when it is not settled."""
    async with store.read() as connection:
        result = await connection.execute(select(facts.c.value).where(facts.c.name == name))
        return result.scalar_one_or_none()


async def settle_fact(store: Store, name: str, value: str) -> str:
    """The value of the fact: the one that stands, else ``value``, which stands from now on."""
    known = await read_fact(store, name)
    if known is not None:
        return known
    query = select(facts.c.value).where(facts.c.name == name)
    async with store.write() as connection:
        known = (await connection.execute(query.with_for_update())).scalar_one_or_none()
        if known is not None:
            return str(known)
        await connection.execute(insert(facts).values(name=name, value=value))
        return value
