"""Checks on what goes to models and comes from them."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "guardrail_profiles",
        sa.Column("guardrail_profile_id", sa.String(63), nullable=False),
        sa.Column("uid", sa.String(26), nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("create_time", sa.BigInteger, nullable=False),
        sa.Column("update_time", sa.BigInteger, nullable=False),
        sa.Column("spec", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("guardrail_profile_id", name="pk_guardrail_profiles"),
        sa.UniqueConstraint("uid", name="uq_guardrail_profiles_uid"),
    )


def downgrade() -> None:
    op.drop_table("guardrail_profiles")
