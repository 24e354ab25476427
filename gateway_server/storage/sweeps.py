"""What becomes of the leases of a process that is not heard of, that comes back, or that has ended.

The functions are steps of somebody else's transaction; their locks come before those of windows.
"""

from functools import cache
from typing import Any, Literal

from sqlalchemy import Select, bindparam, delete, select, update
from sqlalchemy.engine import Connection

from gateway_server.storage.budget_leases import all_leases
from gateway_server.storage.budget_windows import add_to_windows, lock_windows
from gateway_server.storage.tables import budget_leases, gateways

_Lock = Literal["none", "shared", "alone"]


def release_leases(connection: Connection, gateway_id: str) -> None:
    """Gives back all that a process had leased: it has ended, and all it spent is settled."""
    # Its last transaction may outlive it by a moment.
    connection.execute(select(gateways.c.swept).where(gateways.c.gateway_id == gateway_id).with_for_update())
    unsweep_if_swept(connection, gateway_id)
    leases = all_leases(connection, gateway_id)
    lock_windows(connection, leases)
    add_to_windows(connection, leases, leased=-1)
    connection.execute(delete(budget_leases).where(budget_leases.c.gateway_id == gateway_id))


def sweep(connection: Connection, gateway_id: str) -> None:
    """Counts all that a process had leased as spent, as nobody knows better; ``unsweep`` is the reverse.

    Whoever sweeps has the process's row ``FOR UPDATE``: its leases must not change meanwhile.
    """
    _move_all(connection, gateway_id, spent=1, leased=-1)
    connection.execute(update(gateways).where(gateways.c.gateway_id == gateway_id).values(swept=True))


def unsweep(connection: Connection, gateway_id: str) -> None:
    """Takes a sweep back: the process, or its journal, is there after all."""
    _move_all(connection, gateway_id, spent=-1, leased=1)
    connection.execute(update(gateways).where(gateways.c.gateway_id == gateway_id).values(swept=False))


def unsweep_if_swept(connection: Connection, gateway_id: str) -> None:
    """Takes a sweep of the process back if there was one; there is none from here to the transaction's end.

    To be called before leases are read or changed: what is swept is moved as a whole.
    """
    if lock_gateway(connection, gateway_id):
        unsweep(connection, gateway_id)


def lock_gateway(connection: Connection, gateway_id: str) -> bool:
    """Keeps a process from being swept until the transaction ends; True when it has been, and no other
    transaction is about to take that back.

    Comes before all other locks. Transactions of one process do not wait for each other here.
    """
    locks: tuple[_Lock, ...] = ("none", "shared") if connection.dialect.name == "postgresql" else ("none",)
    own = {"gateway": gateway_id}
    if any(connection.execute(_swept(lock), own).scalar_one_or_none() for lock in locks):
        return bool(connection.execute(_swept("alone"), own).scalar_one_or_none())
    return False


def _move_all(connection: Connection, gateway_id: str, *, spent: int, leased: int) -> None:
    leases = all_leases(connection, gateway_id)
    lock_windows(connection, leases)
    add_to_windows(connection, leases, spent=spent, leased=leased)


@cache
def _swept(lock: _Lock) -> Select[Any]:
    statement = select(gateways.c.swept).where(gateways.c.gateway_id == bindparam("gateway"))
    match lock:
        case "none":
            return statement
        case "shared":
            return statement.with_for_update(read=True, key_share=True)
        case "alone":
            return statement.with_for_update()
