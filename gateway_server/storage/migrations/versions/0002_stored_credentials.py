"""Credentials of providers, encrypted, beside their settings."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("providers", sa.Column("sealed_credential", sa.LargeBinary))
    op.add_column("providers", sa.Column("credential_key_id", sa.String(16)))


def downgrade() -> None:
    op.drop_column("providers", "credential_key_id")
    op.drop_column("providers", "sealed_credential")
