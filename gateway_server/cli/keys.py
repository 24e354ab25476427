"""``ai-gateway keys``."""

import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from gateway_server.cli.edit import Edit, parse_duration, parse_enums, parse_time
from gateway_server.cli.names import api_key_name, short_name, tenant_name, tenant_parent
from gateway_server.cli.options import Budgeted, Clear, Etag
from gateway_server.cli.output import enums_of, show, show_all, time_of
from gateway_server.cli.session import Session, with_session

if TYPE_CHECKING:
    from aigateway.types import ApiKey, CreateApiKeyResponse, RotateApiKeyResponse

app = typer.Typer(help="Secrets that authenticate the callers of a tenant.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="TENANT/KEY", help="Its ids, or tenants/TENANT/apiKeys/KEY.")]


@dataclass(frozen=True, kw_only=True)
class KeyOptions(Budgeted):
    """The fields of a key."""

    environment: Annotated[
        str | None, typer.Option(help="Where its callers run, as `production`; kept on usage records.")
    ] = None
    scope: Annotated[
        list[str] | None,
        typer.Option(
            help="inference, usage-read, admin-read or admin-write; may be repeated.",
            show_default="inference and usage-read",
        ),
    ] = None
    expires_in: Annotated[
        str | None, typer.Option(metavar="SPAN", help="How long it works, as 90d.", show_default="for ever")
    ] = None
    expires: Annotated[str | None, typer.Option(metavar="TIME", help="Until when it works, ISO 8601.")] = None
    guardrail_profile: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="guardrailProfiles/ID in the place of the tenant's guardrails."),
    ] = None

    def write(self, edit: Edit) -> None:
        """Sets the fields that were given."""
        from aigateway.types import ApiKey

        super().write(edit)
        self.write_limits(edit, "rate_limits_override")
        self.write_budget(edit)
        edit.set(
            environment=self.environment,
            scopes=parse_enums(ApiKey, "scopes", self.scope or ()),
            allowed_models_override=self.allow_model,
            guardrail_profile_override=self.guardrail_profile,
            expire_time=self._expire_time(),
        )

    def _expire_time(self) -> datetime | None:
        if self.expires and self.expires_in:
            raise typer.BadParameter("give --expires or --expires-in, not both")
        if self.expires_in:
            return datetime.now(UTC) + parse_duration(self.expires_in)
        return parse_time(self.expires) if self.expires else None


@app.command("list")
@with_session
def list_keys(
    session: Session,
    tenant: Annotated[str, typer.Argument(help="Only this tenant's.", show_default="all tenants")] = "-",
) -> None:
    """Lists API keys, newest first."""
    show_all(
        session,
        session.client.admin.api_keys.list(tenant_parent(tenant)),
        [
            ("KEY", lambda key: short_name(key.name)),
            ("NAME", lambda key: key.display_name),
            ("ENVIRONMENT", lambda key: key.environment),
            ("SECRET", lambda key: f"{key.secret_prefix}…{key.secret_last4}"),
            ("SCOPES", lambda key: ", ".join(enums_of(key, "scopes")) or "inference, usage-read"),
            ("STATE", _state),
            ("LAST USED (UTC)", lambda key: time_of(key, "last_use_time")),
        ],
    )


@app.command("get")
@with_session
def get_key(session: Session, name: Name) -> None:
    """Shows one API key, without its secret."""
    show(session, session.client.admin.api_keys.get(api_key_name(name)))


@app.command("create")
@with_session
def create_key(session: Session, name: Name, options: KeyOptions) -> None:
    """Creates an API key and prints its secret, this once."""
    from aigateway.types import ApiKey

    api_key = ApiKey()
    options.write(Edit(api_key))
    _, tenant, _, api_key_id = api_key_name(name).split("/")
    created = session.client.admin.api_keys.create(tenant_name(tenant), api_key, api_key_id=api_key_id)
    _show_secret(session, created)


@app.command("update")
@with_session
def update_key(session: Session, name: Name, options: KeyOptions, clear: Clear = None) -> None:
    """Changes what is given and leaves the rest. Lists and labels are replaced as a whole."""
    api_key = session.client.admin.api_keys.get(api_key_name(name))
    edit = Edit(api_key).clear(clear or ())
    options.write(edit)
    show(session, session.client.admin.api_keys.update(api_key, update_mask=edit.mask_or_fail()))


@app.command("rotate")
@with_session
def rotate_key(
    session: Session,
    name: Name,
    grace_period: Annotated[
        str | None,
        typer.Option(
            metavar="SPAN", help="How long the old secret still works, as 24h.", show_default="not at all"
        ),
    ] = None,
) -> None:
    """Makes a new secret for a key and prints it, this once."""
    grace = parse_duration(grace_period) if grace_period else None
    _show_secret(session, session.client.admin.api_keys.rotate(api_key_name(name), grace_period=grace))


@app.command("revoke")
@with_session
def revoke_key(session: Session, name: Name) -> None:
    """Stops a key at once and for good. It stays listed."""
    show(session, session.client.admin.api_keys.revoke(api_key_name(name)))


@app.command("delete")
@with_session
def delete_key(session: Session, name: Name, etag: Etag = "") -> None:
    """Deletes a key, which stops working at once. Its usage records stay."""
    session.client.admin.api_keys.delete(api_key_name(name), etag=etag)
    session.tell_deleted(api_key_name(name))


def _show_secret(session: Session, made: "CreateApiKeyResponse | RotateApiKeyResponse") -> None:
    show(session, made)
    print("The secret is shown only now: keep it in a safe place.", file=sys.stderr)


def _state(api_key: "ApiKey") -> str:
    if api_key.HasField("revoke_time"):
        return "revoked"
    if api_key.HasField("expire_time"):
        expired = api_key.expire_time.ToDatetime(UTC) <= datetime.now(UTC)
        return "expired" if expired else f"until {time_of(api_key, 'expire_time')}"
    return "active"
