"""Partitions of the ledger on PostgreSQL, so that old calls can be dropped whole. SQLite has none.

The table that was there becomes the default partition of the new one, with its rows where they are: nothing
is copied. Partitions for the days to come are made by the gateway: ``storage/retention.py``.
"""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

#: Each table's primary key, and its other indexes with their columns.
_TABLES = {
    "usage_records": (
        "start_day, request_id",
        {
            "ix_usage_records_tenant_id_start_time_request_id": "tenant_id, start_time, request_id",
            "ix_usage_records_start_time_request_id": "start_time, request_id",
        },
    ),
    "usage_attempts": ("start_day, request_id, attempt_number", {}),
}


def upgrade() -> None:
    if op.get_bind().dialect.name != "postgresql":
        return
    for table, (key, indexes) in _TABLES.items():
        old = f"{table}_default"
        op.execute(f"ALTER TABLE {table} RENAME TO {old}")
        op.execute(f"ALTER TABLE {old} RENAME CONSTRAINT pk_{table} TO pk_{old}")
        for index in indexes:
            op.execute(f"ALTER INDEX {index} RENAME TO {index}_default")
        op.execute(f"CREATE TABLE {table} (LIKE {old} INCLUDING DEFAULTS) PARTITION BY RANGE (start_day)")
        op.execute(f"ALTER TABLE {table} ADD CONSTRAINT pk_{table} PRIMARY KEY ({key})")
        for index, columns in indexes.items():
            op.execute(f"CREATE INDEX {index} ON {table} ({columns})")
        op.execute(f"ALTER TABLE {table} ATTACH PARTITION {old} DEFAULT")


def downgrade() -> None:
    if op.get_bind().dialect.name != "postgresql":
        return
    for table, (key, indexes) in _TABLES.items():
        op.execute(f"ALTER TABLE {table} RENAME TO {table}_partitioned")
        op.execute(f"ALTER TABLE {table}_partitioned RENAME CONSTRAINT pk_{table} TO pk_{table}_partitioned")
        for index in indexes:
            op.execute(f"ALTER INDEX {index} RENAME TO {index}_partitioned")
        op.execute(f"CREATE TABLE {table} (LIKE {table}_partitioned INCLUDING DEFAULTS)")
        op.execute(f"INSERT INTO {table} SELECT * FROM {table}_partitioned")  # noqa: S608 -- names from above
        op.execute(f"DROP TABLE {table}_partitioned")
        op.execute(f"ALTER TABLE {table} ADD CONSTRAINT pk_{table} PRIMARY KEY ({key})")
        for index, columns in indexes.items():
            op.execute(f"CREATE INDEX {index} ON {table} ({columns})")
