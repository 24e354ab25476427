"""Inserts where a key may be taken already, in each database's own words."""

from sqlalchemy import Table
from sqlalchemy.dialects.postgresql import Insert as PostgresqlInsert
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import Insert as SqliteInsert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert


def insert_into(table: Table, dialect: str) -> SqliteInsert | PostgresqlInsert:
    """An insert that can say what to do where a key is taken."""
    match dialect:
        case "sqlite":
            return sqlite_insert(table)
        case "postgresql":
            return postgresql_insert(table)
    raise ValueError(f"no insert for {dialect}")


def insert_once(table: Table, dialect: str) -> SqliteInsert | PostgresqlInsert:
    """An insert that does nothing where a key is taken."""
    return insert_into(table, dialect).on_conflict_do_nothing()
