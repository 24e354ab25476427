"""The tables, as SQLAlchemy Core sees them. The migrations make them; a test compares the two.

Resources keep what their message says in ``spec``, the serialized message without its output-only fields;
what is searched or ordered by, or written apart from the rest, has a column. Names and reasons:
docs/decisions/storage.md.
"""

from typing import Final

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
)
from sqlalchemy.dialects.postgresql import JSONB

metadata: Final = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

#: What rollups count. ``reported``, ``estimated`` and ``partial`` are calls by how their tokens are known,
#: ``priced`` those whose cost is.
USAGE_COUNTERS: Final = (
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

_ID: Final = String(63)
_MODEL_ID: Final = String(128)
_UID: Final = String(26)
_JSON: Final = JSON().with_variant(JSONB(), "postgresql")


def _resource_columns() -> tuple[Column[str] | Column[int] | Column[bytes], ...]:
    """What every resource has. ``uid`` is never used twice and rises with the time of creation."""
    return (
        Column("uid", _UID, nullable=False, unique=True),
        Column("version", BigInteger, nullable=False),
        Column("create_time", BigInteger, nullable=False),
        Column("update_time", BigInteger, nullable=False),
        Column("spec", LargeBinary, nullable=False),
    )


tenants: Final = Table(
    "tenants",
    metadata,
    Column("tenant_id", _ID, nullable=False),
    *_resource_columns(),
    PrimaryKeyConstraint("tenant_id"),
)

#: Ids of deleted tenants. Their usage records stay, so a new tenant must not get such an id and see them.
deleted_tenants: Final = Table(
    "deleted_tenants",
    metadata,
    Column("tenant_id", _ID, nullable=False),
    Column("delete_time", BigInteger, nullable=False),
    PrimaryKeyConstraint("tenant_id"),
)

api_keys: Final = Table(
    "api_keys",
    metadata,
    Column("tenant_id", _ID, nullable=False),
    Column("api_key_id", _ID, nullable=False),
    *_resource_columns(),
    Column("secret_hash", LargeBinary(32), nullable=False, unique=True),
    Column("secret_prefix", String(16), nullable=False),
    Column("secret_last4", String(4), nullable=False),
    Column("pepper_version", Integer, nullable=False),
    Column("previous_secret_hash", LargeBinary(32), unique=True),
    Column("previous_secret_expire_time", BigInteger),
    Column("revoke_time", BigInteger),
    Column("last_use_time", BigInteger),
    PrimaryKeyConstraint("tenant_id", "api_key_id"),
    ForeignKeyConstraint(["tenant_id"], ["tenants.tenant_id"], ondelete="CASCADE"),
    Index(None, "tenant_id", "uid"),
)

providers: Final = Table(
    "providers",
    metadata,
    Column("provider_id", _ID, nullable=False),
    *_resource_columns(),
    # Its credential if that is kept here, encrypted, and the id of the master key that opens it.
    Column("sealed_credential", LargeBinary),
    Column("credential_key_id", String(16)),
    PrimaryKeyConstraint("provider_id"),
)

models: Final = Table(
    "models",
    metadata,
    Column("provider_id", _ID, nullable=False),
    Column("model_id", _MODEL_ID, nullable=False),
    *_resource_columns(),
    PrimaryKeyConstraint("provider_id", "model_id"),
    ForeignKeyConstraint(["provider_id"], ["providers.provider_id"], ondelete="RESTRICT"),
    Index(None, "provider_id", "uid"),
)

routes: Final = Table(
    "routes",
    metadata,
    Column("route_id", _ID, nullable=False),
    *_resource_columns(),
    PrimaryKeyConstraint("route_id"),
)

guardrail_profiles: Final = Table(
    "guardrail_profiles",
    metadata,
    Column("guardrail_profile_id", _ID, nullable=False),
    *_resource_columns(),
    PrimaryKeyConstraint("guardrail_profile_id"),
)

#: One row: how many changes to resources there have been.
revisions: Final = Table(
    "revisions",
    metadata,
    Column("id", Integer, nullable=False, autoincrement=False),
    Column("revision", BigInteger, nullable=False),
    PrimaryKeyConstraint("id"),
)

#: The latest changes to resources, so that other processes learn what to read again.
changes: Final = Table(
    "changes",
    metadata,
    Column("revision", BigInteger, nullable=False, autoincrement=False),
    Column("resource", String(256), nullable=False),
    Column("change_time", BigInteger, nullable=False),
    PrimaryKeyConstraint("revision"),
)

#: Changes of resources and who made them, each sealed by the hash of the one before: ``storage/audit.py``.
audit_events: Final = Table(
    "audit_events",
    metadata,
    Column("revision", BigInteger, nullable=False, autoincrement=False),
    Column("create_time", BigInteger, nullable=False),
    Column("api_key", String(160), nullable=False),
    Column("method", String(64), nullable=False),
    Column("resource", String(256), nullable=False),
    Column("before_json", Text, nullable=False),
    Column("after_json", Text, nullable=False),
    Column("request_id", String(64), nullable=False),
    Column("hash", LargeBinary(32), nullable=False),
    PrimaryKeyConstraint("revision"),
    Index(None, "resource", "revision"),
    Index(None, "create_time"),
)

#: Facts about the database itself, for example which peppers its keys were hashed under.
facts: Final = Table(
    "facts",
    metadata,
    Column("name", String(64), nullable=False),
    Column("value", Text, nullable=False),
    PrimaryKeyConstraint("name"),
)

#: What the calls that rollups count together have in common besides tenant and key. ``group_id`` is a hash of
#: the rest. A rollup that leaves a property out has it empty here.
usage_groups: Final = Table(
    "usage_groups",
    metadata,
    Column("group_id", LargeBinary(16), nullable=False),
    Column("model", Text, nullable=False),
    Column("provider_id", _ID, nullable=False),
    Column("provider_model", Text, nullable=False),
    Column("method", String(64), nullable=False),
    Column("status_code", Integer, nullable=False),
    Column("error_reason", String(64), nullable=False),
    Column("environment", String(64), nullable=False),
    Column("labels", _JSON, nullable=False),
    PrimaryKeyConstraint("group_id"),
)

#: Sums over the ledger by hour and by day (``step``). ``level`` says what is told apart: ``key``: everything;
#: ``tenant``: not keys, environments and labels; ``all``: nor tenants. ``tenant_id`` and ``api_key_id`` are
#: empty where they are not told apart. Sketches: see storage/sketches.py.
usage_rollups: Final = Table(
    "usage_rollups",
    metadata,
    Column("step", String(4), nullable=False),
    Column("level", String(6), nullable=False),
    Column("start_time", BigInteger, nullable=False, autoincrement=False),
    Column("tenant_id", _ID, nullable=False),
    Column("api_key_id", _ID, nullable=False),
    Column("group_id", LargeBinary(16), nullable=False),
    *(Column(name, BigInteger, nullable=False) for name in USAGE_COUNTERS),
    Column("latency_sketch", LargeBinary, nullable=False),
    Column("first_token_sketch", LargeBinary, nullable=False),
    PrimaryKeyConstraint("step", "level", "start_time", "tenant_id", "api_key_id", "group_id"),
    sqlite_with_rowid=False,
)

#: Processes of the gateway, while they live or have left something behind: see docs/decisions/money.md.
#: ``journal_position`` is up to where the process's journal is in the ledger; ``swept`` says that its leases
#: count as spent because nobody heard of it for too long. Times are by the database's clock.
gateways: Final = Table(
    "gateways",
    metadata,
    Column("gateway_id", _UID, nullable=False),
    Column("start_time", BigInteger, nullable=False),
    Column("seen_time", BigInteger, nullable=False),
    Column("journal_position", BigInteger, nullable=False),
    Column("swept", Boolean, nullable=False),
    PrimaryKeyConstraint("gateway_id"),
    Index(None, "seen_time"),
)


def _window_columns() -> tuple[Column[str] | Column[int], ...]:
    """Which budget, and which day or month of it; ``api_key_id`` is empty for the tenant's own."""
    return (
        Column("tenant_id", _ID, nullable=False),
        Column("api_key_id", _ID, nullable=False),
        Column("period", String(8), nullable=False),
        Column("start_time", BigInteger, nullable=False, autoincrement=False),
    )


#: What each budget has spent, and leased to processes, in one day or month. ``recall_time`` is when somebody
#: last found no room while others had leases.
budget_windows: Final = Table(
    "budget_windows",
    metadata,
    *_window_columns(),
    Column("end_time", BigInteger, nullable=False),
    Column("spent_nanos", BigInteger, nullable=False),
    Column("leased_nanos", BigInteger, nullable=False),
    Column("recall_time", BigInteger),
    PrimaryKeyConstraint("tenant_id", "api_key_id", "period", "start_time"),
    Index(None, "end_time"),
)

#: Who has how much of ``leased_nanos``. The sum over all processes is ``leased_nanos`` but for swept ones,
#: whose leases are in ``spent_nanos``.
budget_leases: Final = Table(
    "budget_leases",
    metadata,
    Column("gateway_id", _UID, nullable=False),
    *_window_columns(),
    Column("leased_nanos", BigInteger, nullable=False),
    PrimaryKeyConstraint("gateway_id", "tenant_id", "api_key_id", "period", "start_time"),
    Index(None, "tenant_id", "api_key_id", "period", "start_time"),
)

#: Alerts that were raised: each share of a budget once a window.
budget_alerts: Final = Table(
    "budget_alerts",
    metadata,
    *_window_columns(),
    Column("percentage", Integer, nullable=False, autoincrement=False),
    Column("raise_time", BigInteger, nullable=False),
    PrimaryKeyConstraint("tenant_id", "api_key_id", "period", "start_time", "percentage"),
)


def _usage_columns() -> tuple[Column[int] | Column[bool] | Column[bytes], ...]:
    """Tokens and cost. Tokens are null when none are known, cost is null when there is no price."""
    return (
        Column("usage_state", Integer),
        Column("input_tokens", BigInteger),
        Column("cache_read_input_tokens", BigInteger),
        Column("cache_write_input_tokens", BigInteger),
        Column("cache_write_long_input_tokens", BigInteger),
        Column("output_tokens", BigInteger),
        Column("reasoning_output_tokens", BigInteger),
        Column("total_tokens", BigInteger),
        Column("cost_nanos", BigInteger),
        Column("input_cost_nanos", BigInteger),
        Column("cache_read_cost_nanos", BigInteger),
        Column("cache_write_cost_nanos", BigInteger),
        Column("output_cost_nanos", BigInteger),
        Column("extras_cost_nanos", BigInteger),
        Column("cost_estimated", Boolean),
        Column("detail", LargeBinary),
    )


#: One row per call, append-only. ``start_day`` leads the key so that a database with partitions can have one
#: per day and drop it whole when it is too old.
usage_records: Final = Table(
    "usage_records",
    metadata,
    Column("start_day", Integer, nullable=False, autoincrement=False),
    Column("request_id", String(64), nullable=False),
    Column("tenant_id", _ID, nullable=False),
    Column("api_key_id", _ID, nullable=False),
    Column("environment", String(64), nullable=False),
    Column("method", String(64), nullable=False),
    Column("model", Text, nullable=False),
    Column("provider_id", _ID, nullable=False),
    Column("provider_model", Text, nullable=False),
    Column("provider_response_id", Text, nullable=False),
    Column("start_time", BigInteger, nullable=False),
    Column("latency_micros", BigInteger, nullable=False),
    Column("time_to_first_token_micros", BigInteger),
    Column("status_code", Integer, nullable=False),
    Column("error_reason", String(64), nullable=False),
    Column("end_user_id", Text, nullable=False),
    Column("labels", _JSON, nullable=False),
    *_usage_columns(),
    PrimaryKeyConstraint("start_day", "request_id"),
    Index(None, "tenant_id", "start_time", "request_id"),
    Index(None, "start_time", "request_id"),
)

#: One row per attempt at a provider, append-only, partitioned like the calls.
usage_attempts: Final = Table(
    "usage_attempts",
    metadata,
    Column("start_day", Integer, nullable=False, autoincrement=False),
    Column("request_id", String(64), nullable=False),
    Column("attempt_number", Integer, nullable=False, autoincrement=False),
    Column("tenant_id", _ID, nullable=False),
    Column("provider_id", _ID, nullable=False),
    Column("provider_model", Text, nullable=False),
    Column("wait_micros", BigInteger, nullable=False),
    Column("latency_micros", BigInteger, nullable=False),
    Column("time_to_first_token_micros", BigInteger),
    Column("status_code", Integer, nullable=False),
    Column("error_reason", String(64), nullable=False),
    Column("http_status", Integer, nullable=False),
    *_usage_columns(),
    PrimaryKeyConstraint("start_day", "request_id", "attempt_number"),
)
