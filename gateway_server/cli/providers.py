"""``ai-gateway providers``."""

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from gateway_server.cli import exit_codes
from gateway_server.cli.edit import Edit, parse_config
from gateway_server.cli.names import last_id, provider_name, short_name
from gateway_server.cli.options import Clear, Etag, Limited
from gateway_server.cli.output import milliseconds_of, printable, show, show_all, time_of
from gateway_server.cli.session import Session, with_session

if TYPE_CHECKING:
    from aigateway.types import CheckProviderResponse

app = typer.Typer(help="Accounts and servers that run models.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="PROVIDER", help="Its id, or providers/ID.")]


@dataclass(frozen=True, kw_only=True)
class ProviderOptions(Limited):
    """The fields of a provider."""

    base_url: Annotated[str | None, typer.Option(help="Where it is, if not at the default.")] = None
    credential_ref: Annotated[
        str | None,
        typer.Option(metavar="REF", help="Where the gateway finds the credential: env:NAME or file:PATH."),
    ] = None
    credential_stdin: Annotated[
        bool,
        typer.Option("--credential-stdin", help="Read the credential itself from standard input, one line."),
    ] = False
    config: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="A setting of its adapter, as JSON or text; may be repeated."),
    ] = None
    disabled: Annotated[
        bool | None, typer.Option("--disabled/--enabled", help="Whether the router leaves it alone.")
    ] = None

    def write(self, edit: Edit) -> None:
        """Sets the fields that were given."""
        super().write(edit)
        self.write_limits(edit, "rate_limits")
        if self.credential_stdin and self.credential_ref:
            raise typer.BadParameter("give --credential-ref or --credential-stdin, not both")
        edit.set(
            base_url=self.base_url,
            credential_ref=self.credential_ref,
            credential=_read_credential() if self.credential_stdin else None,
            config=parse_config(self.config or ()),
            disabled=self.disabled,
        )


@app.command("list")
@with_session
def list_providers(session: Session) -> None:
    """Lists providers, newest first."""
    show_all(
        session,
        session.client.admin.providers.list(),
        [
            ("PROVIDER", lambda provider: short_name(provider.name)),
            ("TYPE", lambda provider: provider.provider_type),
            ("NAME", lambda provider: provider.display_name),
            ("STATE", lambda provider: "disabled" if provider.disabled else "enabled"),
            ("BASE URL", lambda provider: provider.base_url),
            ("CREDENTIAL", lambda provider: provider.credential_ref),
            ("CREATED (UTC)", lambda provider: time_of(provider, "create_time")),
        ],
    )


@app.command("get")
@with_session
def get_provider(session: Session, name: Name) -> None:
    """Shows one provider, without its credential."""
    show(session, session.client.admin.providers.get(provider_name(name)))


@app.command("create")
@with_session
def create_provider(
    session: Session,
    name: Name,
    provider_type: Annotated[
        str, typer.Option("--type", help="The adapter that talks to it: openai, vllm, demo, ...")
    ],
    options: ProviderOptions,
) -> None:
    """Creates a provider."""
    from aigateway.types import Provider

    provider = Provider(provider_type=provider_type)
    options.write(Edit(provider))
    provider_id = last_id(provider_name(name))
    show(session, session.client.admin.providers.create(provider, provider_id=provider_id))


@app.command("update")
@with_session
def update_provider(session: Session, name: Name, options: ProviderOptions, clear: Clear = None) -> None:
    """Changes what is given and leaves the rest. Settings and labels are replaced as a whole."""
    provider = session.client.admin.providers.get(provider_name(name))
    edit = Edit(provider).clear(clear or ())
    options.write(edit)
    show(session, session.client.admin.providers.update(provider, update_mask=edit.mask_or_fail()))


@app.command("check")
@with_session
def check_provider(session: Session, name: Name) -> None:
    """Makes a cheap call to a provider. Exits with 1 when it cannot be used."""
    checked = session.client.admin.providers.check(provider_name(name))
    if session.as_json:
        show(session, checked)
    else:
        _print_check(provider_name(name), checked)
    if not checked.healthy:
        raise typer.Exit(exit_codes.FAILURE)


@app.command("delete")
@with_session
def delete_provider(session: Session, name: Name, etag: Etag = "") -> None:
    """Deletes a provider that has no models left."""
    session.client.admin.providers.delete(provider_name(name), etag=etag)
    session.tell_deleted(provider_name(name))


def _print_check(name: str, checked: "CheckProviderResponse") -> None:
    if checked.healthy:
        print(f"{name} answers, in {milliseconds_of(checked, 'latency')} ms")
        for model in checked.provider_models:
            print(f"  {printable(model)}")
    else:
        print(f"{name} cannot be used: {checked.error_reason}: {printable(checked.error_message)}")


def _read_credential() -> str:
    credential = sys.stdin.readline().strip()
    if not credential:
        raise typer.BadParameter("standard input holds no credential")
    return credential
