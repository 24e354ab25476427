"""Sums of usage by hour and day; `ai-gateway rebuild-usage` makes those of calls already there."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_COUNTERS = (
    "request_count",
    "error_count",
    "reported_count",
    "estimated_count",
    "partial_count",
    "input_tokens",
    "cache_read_input_tokens",
    "cache_write_input_tokens",
    "cache_write_long_input_tokens",
    "output_tokens",
    "reasoning_output_tokens",
    "total_tokens",
    "priced_count",
    "cost_estimated_count",
    "cost_nanos",
    "input_cost_nanos",
    "cache_read_cost_nanos",
    "cache_write_cost_nanos",
    "output_cost_nanos",
    "extras_cost_nanos",
    "latency_micros",
    "first_token_count",
    "first_token_micros",
)


def upgrade() -> None:
    op.create_table(
        "usage_groups",
        sa.Column("group_id", sa.LargeBinary(16), nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("provider_id", sa.String(63), nullable=False),
        sa.Column("provider_model", sa.Text, nullable=False),
        sa.Column("method", sa.String(64), nullable=False),
        sa.Column("status_code", sa.Integer, nullable=False),
        sa.Column("error_reason", sa.String(64), nullable=False),
        sa.Column("environment", sa.String(64), nullable=False),
        sa.Column("labels", sa.JSON().with_variant(JSONB(), "postgresql"), nullable=False),
        sa.PrimaryKeyConstraint("group_id", name="pk_usage_groups"),
    )
    op.create_table(
        "usage_rollups",
        sa.Column("step", sa.String(4), nullable=False),
        sa.Column("level", sa.String(6), nullable=False),
        sa.Column("start_time", sa.BigInteger, nullable=False, autoincrement=False),
        sa.Column("tenant_id", sa.String(63), nullable=False),
        sa.Column("api_key_id", sa.String(63), nullable=False),
        sa.Column("group_id", sa.LargeBinary(16), nullable=False),
        *(sa.Column(name, sa.BigInteger, nullable=False) for name in _COUNTERS),
        sa.Column("latency_sketch", sa.LargeBinary, nullable=False),
        sa.Column("first_token_sketch", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint(
            "step", "level", "start_time", "tenant_id", "api_key_id", "group_id", name="pk_usage_rollups"
        ),
        sqlite_with_rowid=False,
    )


def downgrade() -> None:
    op.drop_table("usage_rollups")
    op.drop_table("usage_groups")
