"""The first tables: resources, their changes, and usage."""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "tenants",
        sa.Column("tenant_id", sa.String(63), nullable=False),
        *_resource_columns(),
        sa.PrimaryKeyConstraint("tenant_id", name="pk_tenants"),
        sa.UniqueConstraint("uid", name="uq_tenants_uid"),
    )
    op.create_table(
        "deleted_tenants",
        sa.Column("tenant_id", sa.String(63), nullable=False),
        sa.Column("delete_time", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", name="pk_deleted_tenants"),
    )
    op.create_table(
        "api_keys",
        sa.Column("tenant_id", sa.String(63), nullable=False),
        sa.Column("api_key_id", sa.String(63), nullable=False),
        *_resource_columns(),
        sa.Column("secret_hash", sa.LargeBinary(32), nullable=False),
        sa.Column("secret_prefix", sa.String(16), nullable=False),
        sa.Column("secret_last4", sa.String(4), nullable=False),
        sa.Column("pepper_version", sa.Integer, nullable=False),
        sa.Column("previous_secret_hash", sa.LargeBinary(32)),
        sa.Column("previous_secret_expire_time", sa.BigInteger),
        sa.Column("revoke_time", sa.BigInteger),
        sa.Column("last_use_time", sa.BigInteger),
        sa.PrimaryKeyConstraint("tenant_id", "api_key_id", name="pk_api_keys"),
        sa.UniqueConstraint("uid", name="uq_api_keys_uid"),
        sa.UniqueConstraint("secret_hash", name="uq_api_keys_secret_hash"),
        sa.UniqueConstraint("previous_secret_hash", name="uq_api_keys_previous_secret_hash"),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["tenants.tenant_id"], name="fk_api_keys_tenant_id", ondelete="CASCADE"
        ),
    )
    op.create_index("ix_api_keys_tenant_id_uid", "api_keys", ["tenant_id", "uid"])
    op.create_table(
        "providers",
        sa.Column("provider_id", sa.String(63), nullable=False),
        *_resource_columns(),
        sa.PrimaryKeyConstraint("provider_id", name="pk_providers"),
        sa.UniqueConstraint("uid", name="uq_providers_uid"),
    )
    op.create_table(
        "models",
        sa.Column("provider_id", sa.String(63), nullable=False),
        sa.Column("model_id", sa.String(128), nullable=False),
        *_resource_columns(),
        sa.PrimaryKeyConstraint("provider_id", "model_id", name="pk_models"),
        sa.UniqueConstraint("uid", name="uq_models_uid"),
        sa.ForeignKeyConstraint(
            ["provider_id"], ["providers.provider_id"], name="fk_models_provider_id", ondelete="RESTRICT"
        ),
    )
    op.create_index("ix_models_provider_id_uid", "models", ["provider_id", "uid"])
    revisions = op.create_table(
        "revisions",
        sa.Column("id", sa.Integer, nullable=False, autoincrement=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_revisions"),
    )
    op.bulk_insert(revisions, [{"id": 1, "revision": 0}])
    op.create_table(
        "changes",
        sa.Column("revision", sa.BigInteger, nullable=False, autoincrement=False),
        sa.Column("resource", sa.String(256), nullable=False),
        sa.Column("change_time", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("revision", name="pk_changes"),
    )
    op.create_table(
        "facts",
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("value", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_facts"),
    )
    _create_usage()


def downgrade() -> None:
    for table in (
        "usage_attempts",
        "usage_records",
        "facts",
        "changes",
        "revisions",
        "models",
        "providers",
        "api_keys",
        "deleted_tenants",
        "tenants",
    ):
        op.drop_table(table)


def _create_usage() -> None:
    json = sa.JSON().with_variant(JSONB(), "postgresql")
    op.create_table(
        "usage_records",
        sa.Column("start_day", sa.Integer, nullable=False, autoincrement=False),
        sa.Column("request_id", sa.String(64), nullable=False),
        sa.Column("tenant_id", sa.String(63), nullable=False),
        sa.Column("api_key_id", sa.String(63), nullable=False),
        sa.Column("environment", sa.String(64), nullable=False),
        sa.Column("method", sa.String(64), nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("provider_id", sa.String(63), nullable=False),
        sa.Column("provider_model", sa.Text, nullable=False),
        sa.Column("provider_response_id", sa.Text, nullable=False),
        sa.Column("start_time", sa.BigInteger, nullable=False),
        sa.Column("latency_micros", sa.BigInteger, nullable=False),
        sa.Column("time_to_first_token_micros", sa.BigInteger),
        sa.Column("status_code", sa.Integer, nullable=False),
        sa.Column("error_reason", sa.String(64), nullable=False),
        sa.Column("end_user_id", sa.Text, nullable=False),
        sa.Column("labels", json, nullable=False),
        *_usage_columns(),
        sa.PrimaryKeyConstraint("start_day", "request_id", name="pk_usage_records"),
    )
    op.create_index(
        "ix_usage_records_tenant_id_start_time_request_id",
        "usage_records",
        ["tenant_id", "start_time", "request_id"],
    )
    op.create_index("ix_usage_records_start_time_request_id", "usage_records", ["start_time", "request_id"])
    op.create_table(
        "usage_attempts",
        sa.Column("start_day", sa.Integer, nullable=False, autoincrement=False),
        sa.Column("request_id", sa.String(64), nullable=False),
        sa.Column("attempt_number", sa.Integer, nullable=False, autoincrement=False),
        sa.Column("tenant_id", sa.String(63), nullable=False),
        sa.Column("provider_id", sa.String(63), nullable=False),
        sa.Column("provider_model", sa.Text, nullable=False),
        sa.Column("wait_micros", sa.BigInteger, nullable=False),
        sa.Column("latency_micros", sa.BigInteger, nullable=False),
        sa.Column("time_to_first_token_micros", sa.BigInteger),
        sa.Column("status_code", sa.Integer, nullable=False),
        sa.Column("error_reason", sa.String(64), nullable=False),
        sa.Column("http_status", sa.Integer, nullable=False),
        *_usage_columns(),
        sa.PrimaryKeyConstraint("start_day", "request_id", "attempt_number", name="pk_usage_attempts"),
    )


def _resource_columns() -> tuple[sa.Column[Any], ...]:
    return (
        sa.Column("uid", sa.String(26), nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("create_time", sa.BigInteger, nullable=False),
        sa.Column("update_time", sa.BigInteger, nullable=False),
        sa.Column("spec", sa.LargeBinary, nullable=False),
    )


def _usage_columns() -> tuple[sa.Column[Any], ...]:
    return (
        sa.Column("usage_state", sa.Integer),
        sa.Column("input_tokens", sa.BigInteger),
        sa.Column("cache_read_input_tokens", sa.BigInteger),
        sa.Column("cache_write_input_tokens", sa.BigInteger),
        sa.Column("cache_write_long_input_tokens", sa.BigInteger),
        sa.Column("output_tokens", sa.BigInteger),
        sa.Column("reasoning_output_tokens", sa.BigInteger),
        sa.Column("total_tokens", sa.BigInteger),
        sa.Column("cost_nanos", sa.BigInteger),
        sa.Column("input_cost_nanos", sa.BigInteger),
        sa.Column("cache_read_cost_nanos", sa.BigInteger),
        sa.Column("cache_write_cost_nanos", sa.BigInteger),
        sa.Column("output_cost_nanos", sa.BigInteger),
        sa.Column("extras_cost_nanos", sa.BigInteger),
        sa.Column("cost_estimated", sa.Boolean),
        sa.Column("detail", sa.LargeBinary),
    )
