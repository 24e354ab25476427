"""Changes of resources and who made them."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "audit_events",
        sa.Column("revision", sa.BigInteger, nullable=False, autoincrement=False),
        sa.Column("create_time", sa.BigInteger, nullable=False),
        sa.Column("api_key", sa.String(160), nullable=False),
        sa.Column("method", sa.String(64), nullable=False),
        sa.Column("resource", sa.String(256), nullable=False),
        sa.Column("before_json", sa.Text, nullable=False),
        sa.Column("after_json", sa.Text, nullable=False),
        sa.Column("request_id", sa.String(64), nullable=False),
        sa.Column("hash", sa.LargeBinary(32), nullable=False),
        sa.PrimaryKeyConstraint("revision", name="pk_audit_events"),
    )
    op.create_index("ix_audit_events_resource_revision", "audit_events", ["resource", "revision"])
    op.create_index("ix_audit_events_create_time", "audit_events", ["create_time"])


def downgrade() -> None:
    op.drop_table("audit_events")
