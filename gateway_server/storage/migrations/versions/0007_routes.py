"""Names that callers send as a model, and the targets behind them."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "routes",
        sa.Column("route_id", sa.String(63), nullable=False),
        sa.Column("uid", sa.String(26), nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("create_time", sa.BigInteger, nullable=False),
        sa.Column("update_time", sa.BigInteger, nullable=False),
        sa.Column("spec", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("route_id", name="pk_routes"),
        sa.UniqueConstraint("uid", name="uq_routes_uid"),
    )


def downgrade() -> None:
    op.drop_table("routes")
