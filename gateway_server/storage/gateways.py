"""The processes of the gateway: who lives, and up to where each one's journal is in the ledger."""

from functools import partial
from typing import Final, NamedTuple

from sqlalchemy import and_, delete, select, update
from sqlalchemy.engine import Connection

from gateway_server.storage.database_clock import database_now
from gateway_server.storage.engine import Store
from gateway_server.storage.inserts import insert_once
from gateway_server.storage.sweeps import release_leases, sweep, unsweep_if_swept
from gateway_server.storage.tables import gateways

_MICROS: Final = 1_000_000


class Share(NamedTuple):
    """What one of ``processes`` has of something; ``place`` is which of them it is, from 0."""

    place: int
    processes: int

    def of(self, whole: int) -> int:
        """How much of ``whole`` that is; the shares of all processes add up to it."""
        return whole // self.processes + (self.place < whole % self.processes)


WHOLE: Final = Share(0, 1)


class GatewayRepository:
    """Rows of ``gateways``. Times are the database's own, so that clocks of machines do not matter."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._now = database_now(store.dialect)

    async def register(self, gateway_id: str) -> None:
        """Makes a process known, before it leases or writes anything."""
        await self._store.write_batch(lambda connection: make_known(connection, gateway_id))

    async def refresh(self, gateway_id: str, *, dead_after_seconds: float) -> tuple[str, ...]:
        """Tells that a process lives, and sweeps those not heard of for so long; gives their ids."""
        is_dead = and_(
            gateways.c.swept.is_(False),
            gateways.c.seen_time < self._now - round(dead_after_seconds * _MICROS),
        )

        def tell(connection: Connection) -> tuple[str, ...]:
            make_known(connection, gateway_id)
            connection.execute(
                update(gateways).where(gateways.c.gateway_id == gateway_id).values(seen_time=self._now)
            )
            unsweep_if_swept(connection, gateway_id)
            dead = select(gateways.c.gateway_id).where(is_dead).order_by(gateways.c.gateway_id)
            return tuple(connection.execute(dead).scalars())

        def sweep_one(connection: Connection, dead: str) -> bool:
            statement = select(gateways.c.gateway_id).where(is_dead, gateways.c.gateway_id == dead)
            locked = connection.execute(statement.with_for_update(skip_locked=True)).scalar_one_or_none()
            if locked is not None:
                sweep(connection, dead)
            return locked is not None

        # A transaction for each: windows of one process are locked in one order, those of several are not.
        return tuple(
            [
                each
                for each in await self._store.write_batch(tell)
                if await self._store.write_batch(partial(sweep_one, dead=each))
            ]
        )

    async def share_of(self, gateway_id: str) -> Share:
        """The share of a process among those that live, which together have the whole."""
        async with self._store.read() as connection:
            statement = select(gateways.c.gateway_id).where(gateways.c.swept.is_(False))
            others = [each for each in (await connection.execute(statement)).scalars() if each != gateway_id]
            return Share(sum(each < gateway_id for each in others), len(others) + 1)

    async def journal_position(self, gateway_id: str) -> int | None:
        """Up to where the journal of a process is in the ledger; None when nothing of it is left to do."""
        async with self._store.read() as connection:
            statement = select(gateways.c.journal_position).where(gateways.c.gateway_id == gateway_id)
            position: int | None = (await connection.execute(statement)).scalar_one_or_none()
            return position


def make_known(connection: Connection, gateway_id: str) -> None:
    """Enters a process among those that share the store, unless it is there."""
    known = select(gateways.c.gateway_id).where(gateways.c.gateway_id == gateway_id)
    if connection.execute(known).scalar_one_or_none() is not None:
        return
    now = database_now(connection.dialect.name)
    statement = insert_once(gateways, connection.dialect.name).values(
        gateway_id=gateway_id, start_time=now, seen_time=now, journal_position=0, swept=False
    )
    connection.execute(statement)


def take_position(connection: Connection, gateway_id: str, position: int) -> bool:
    """Notes that a journal is settled up to ``position``; False when it was already, or its process is gone.

    The row stays locked, so that nobody else settles the same journal meanwhile; and its process is not
    swept; leasing may go on.
    """
    statement = (
        select(gateways.c.journal_position)
        .where(gateways.c.gateway_id == gateway_id)
        .with_for_update(key_share=True)  # against all but ``unsweep_if_swept``
    )
    known = connection.execute(statement).scalar_one_or_none()
    if known is None or known >= position:
        return False
    connection.execute(
        update(gateways).where(gateways.c.gateway_id == gateway_id).values(journal_position=position)
    )
    return True


def forget(connection: Connection, gateway_id: str) -> None:
    """Ends a process that has settled all it did: its leases are free, nothing is left of it."""
    release_leases(connection, gateway_id)
    connection.execute(delete(gateways).where(gateways.c.gateway_id == gateway_id))
