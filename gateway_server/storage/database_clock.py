"""The database's own clock, so that clocks of machines do not matter."""

from sqlalchemy import BigInteger, literal_column
from sqlalchemy.sql.elements import ColumnElement


def database_now(dialect: str) -> ColumnElement[int]:
    """The database's own clock, in microseconds since the epoch, as an expression."""
    if dialect == "postgresql":
        return literal_column("(extract(epoch from clock_timestamp()) * 1000000)::bigint", BigInteger)
    return literal_column("CAST((julianday('now') - 2440587.5) * 86400000000 AS INTEGER)", BigInteger)
