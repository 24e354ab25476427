"""The lock between those who settle calls and those who need a ledger that stands still.

SQLite has one writer at a time and needs none.
"""

from typing import Final

from sqlalchemy import text
from sqlalchemy.engine import Connection

#: On PostgreSQL, held by every transaction that settles (shared) and by one that makes a window (alone), so
#: that a window begins with all that is settled; any number that nobody else uses.
_SETTLING_LOCK: Final = 5_005_100_002


def lock_for_settling(connection: Connection) -> None:
    """Keeps windows from being made until the transaction ends: to be taken before rows are written."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock_shared(:n)"), {"n": _SETTLING_LOCK})


def lock_out_settling(connection: Connection) -> None:
    """Keeps everybody from settling until the transaction ends."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:n)"), {"n": _SETTLING_LOCK})
