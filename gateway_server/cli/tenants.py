"""``ai-gateway tenants``."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

import typer

from gateway_server.cli.edit import Edit, parse_enums
from gateway_server.cli.money import dollars_of
from gateway_server.cli.names import last_id, short_name, tenant_name
from gateway_server.cli.options import Budgeted, Clear, Etag
from gateway_server.cli.output import enum_of, optional_of, show, show_all, time_of
from gateway_server.cli.session import Session, with_session

app = typer.Typer(help="Organisations, teams and products that use the gateway.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="TENANT", help="Its id, or tenants/ID.")]


class FailurePolicy(StrEnum):
    """Tenant.LimiterFailurePolicy, as people write it."""

    OPEN = "open"
    CLOSED = "closed"


@dataclass(frozen=True, kw_only=True)
class TenantOptions(Budgeted):
    """The fields of a tenant."""

    email: Annotated[str | None, typer.Option(help="Whom to write to about it.")] = None
    guardrail_profile: Annotated[
        str | None, typer.Option(metavar="NAME", help="guardrailProfiles/ID of the guardrails of its calls.")
    ] = None
    default_route: Annotated[
        str | None, typer.Option(metavar="NAME", help="routes/ID for calls that name no model.")
    ] = None

    limiter_failure_policy: Annotated[
        FailurePolicy | None,
        typer.Option(help="While the shared store of rate limits is away: a share of them, or nothing."),
    ] = None

    def write(self, edit: Edit) -> None:
        """Sets the fields that were given."""
        from aigateway.v1.tenant_pb2 import Tenant

        super().write(edit)
        self.write_limits(edit, "rate_limits")
        self.write_budget(edit)
        edit.set(
            email=self.email,
            allowed_models=self.allow_model,
            guardrail_profile=self.guardrail_profile,
            default_route=self.default_route,
            limiter_failure_policy=None
            if self.limiter_failure_policy is None
            else Tenant.LimiterFailurePolicy.Value(
                f"LIMITER_FAILURE_POLICY_{self.limiter_failure_policy.upper()}"
            ),
        )


@app.command("list")
@with_session
def list_tenants(session: Session) -> None:
    """Lists tenants, newest first."""
    show_all(
        session,
        session.client.admin.tenants.list(),
        [
            ("TENANT", lambda tenant: short_name(tenant.name)),
            ("NAME", lambda tenant: tenant.display_name),
            ("STATE", lambda tenant: enum_of(tenant, "state")),
            ("REQUESTS/MIN", lambda tenant: optional_of(tenant.rate_limits, "requests_per_minute")),
            ("TOKENS/MIN", lambda tenant: optional_of(tenant.rate_limits, "tokens_per_minute")),
            ("PER DAY", lambda tenant: optional_of(tenant.budget, "daily_nanos", dollars_of)),
            ("PER MONTH", lambda tenant: optional_of(tenant.budget, "monthly_nanos", dollars_of)),
            ("CREATED (UTC)", lambda tenant: time_of(tenant, "create_time")),
        ],
    )


@app.command("get")
@with_session
def get_tenant(session: Session, name: Name) -> None:
    """Shows one tenant."""
    show(session, session.client.admin.tenants.get(tenant_name(name)))


@app.command("create")
@with_session
def create_tenant(session: Session, name: Name, options: TenantOptions) -> None:
    """Creates a tenant."""
    from aigateway.types import Tenant

    tenant = Tenant()
    options.write(Edit(tenant))
    show(session, session.client.admin.tenants.create(tenant, tenant_id=last_id(tenant_name(name))))


@app.command("update")
@with_session
def update_tenant(
    session: Session,
    name: Name,
    options: TenantOptions,
    state: Annotated[str | None, typer.Option(help="active or suspended.")] = None,
    clear: Clear = None,
) -> None:
    """Changes what is given and leaves the rest. Lists and labels are replaced as a whole."""
    tenant = session.client.admin.tenants.get(tenant_name(name))
    edit = Edit(tenant).clear(clear or ())
    options.write(edit)
    edit.set(state=parse_enums(type(tenant), "state", [state])[0] if state else None)
    show(session, session.client.admin.tenants.update(tenant, update_mask=edit.mask_or_fail()))


@app.command("delete")
@with_session
def delete_tenant(session: Session, name: Name, etag: Etag = "") -> None:
    """Deletes a tenant and its API keys. Its usage records stay."""
    session.client.admin.tenants.delete(tenant_name(name), etag=etag)
    session.tell_deleted(tenant_name(name))
