"""Budgets: processes, windows, what is leased to whom, alerts."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "gateways",
        sa.Column("gateway_id", sa.String(26), nullable=False),
        sa.Column("start_time", sa.BigInteger, nullable=False),
        sa.Column("seen_time", sa.BigInteger, nullable=False),
        sa.Column("journal_position", sa.BigInteger, nullable=False),
        sa.Column("swept", sa.Boolean, nullable=False),
        sa.PrimaryKeyConstraint("gateway_id", name="pk_gateways"),
    )
    op.create_index("ix_gateways_seen_time", "gateways", ["seen_time"])
    op.create_table(
        "budget_windows",
        *_window_columns(),
        sa.Column("end_time", sa.BigInteger, nullable=False),
        sa.Column("spent_nanos", sa.BigInteger, nullable=False),
        sa.Column("leased_nanos", sa.BigInteger, nullable=False),
        sa.Column("recall_time", sa.BigInteger),
        sa.PrimaryKeyConstraint("tenant_id", "api_key_id", "period", "start_time", name="pk_budget_windows"),
    )
    op.create_index("ix_budget_windows_end_time", "budget_windows", ["end_time"])
    op.create_table(
        "budget_leases",
        sa.Column("gateway_id", sa.String(26), nullable=False),
        *_window_columns(),
        sa.Column("leased_nanos", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint(
            "gateway_id", "tenant_id", "api_key_id", "period", "start_time", name="pk_budget_leases"
        ),
    )
    op.create_index(
        "ix_budget_leases_tenant_id_api_key_id_period_start_time",
        "budget_leases",
        ["tenant_id", "api_key_id", "period", "start_time"],
    )
    op.create_table(
        "budget_alerts",
        *_window_columns(),
        sa.Column("percentage", sa.Integer, nullable=False, autoincrement=False),
        sa.Column("raise_time", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint(
            "tenant_id", "api_key_id", "period", "start_time", "percentage", name="pk_budget_alerts"
        ),
    )


def downgrade() -> None:
    for name in ("budget_alerts", "budget_leases", "budget_windows", "gateways"):
        op.drop_table(name)


def _window_columns() -> tuple[sa.Column[str] | sa.Column[int], ...]:
    return (
        sa.Column("tenant_id", sa.String(63), nullable=False),
        sa.Column("api_key_id", sa.String(63), nullable=False),
        sa.Column("period", sa.String(8), nullable=False),
        sa.Column("start_time", sa.BigInteger, nullable=False, autoincrement=False),
    )
