"""``ai-gateway providers``."""

import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Final

import typer

from gateway_server.cli import exit_codes
from gateway_server.cli.edit import Edit, parse_config
from gateway_server.cli.names import last_id, provider_name, short_name
from gateway_server.cli.options import Clear, Etag, Limited
from gateway_server.cli.output import enum_of, milliseconds_of, printable, show, show_all, time_of, to_json
from gateway_server.cli.provider_setup import (
    AddedModels,
    Choice,
    add_models,
    choose_models,
    ensure_provider,
    unlisted_models,
)
from gateway_server.cli.session import Session, with_session

if TYPE_CHECKING:
    from aigateway.types import CheckProviderResponse, TargetState

app = typer.Typer(help="Accounts and servers that run models.", no_args_is_help=True)

#: How a model may be doing, the worst first.
_CONDITIONS: Final = ("open", "half-open", "left alone", "closed")

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


@dataclass(frozen=True, kw_only=True)
class AddOptions(ProviderOptions):
    """The fields of a provider, and which of its models to add."""

    models: Annotated[
        list[str] | None,
        typer.Option(
            metavar="GLOB",
            help="Add the models that it offers under such names; may be repeated. A name without wildcards "
            "is added even if it is not offered.",
            show_default="those with a known price",
        ),
    ] = None
    no_models: Annotated[bool, typer.Option("--no-models", help="Add no models.")] = False


@app.command("list")
@with_session
def list_providers(session: Session) -> None:
    """Lists providers, newest first.

    TARGETS tells how those of their models that calls went to are doing, as the gateway that answers sees it:
    what is worst, and of how many. `ai-gateway routes targets` lists each.
    """
    states: list[TargetState] = []
    if not session.as_json:
        states = list(session.client.admin.routes.list_target_states())
    show_all(
        session,
        session.client.admin.providers.list(),
        [
            ("PROVIDER", lambda provider: short_name(provider.name)),
            ("TYPE", lambda provider: provider.provider_type),
            ("NAME", lambda provider: provider.display_name),
            ("STATE", lambda provider: "disabled" if provider.disabled else "enabled"),
            ("TARGETS", lambda provider: _worst_of(provider.name, states)),
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


@app.command("add")
@with_session
def add_provider(
    session: Session,
    provider_type: Annotated[
        str, typer.Argument(metavar="TYPE", help="The adapter that talks to it: openai, vllm, anthropic, ...")
    ],
    options: AddOptions,
    name: Annotated[
        str, typer.Argument(metavar="[PROVIDER]", help="Its id, or providers/ID.", show_default="its type")
    ] = "",
) -> None:
    """Sets a provider up: creates it, checks it, adds its models. Doing it again changes what is given.

    Exits with 1 when it cannot be used; it is kept, so that the command can be run again with what was wrong.
    """
    if options.models and options.no_models:
        raise typer.BadParameter("give --models or --no-models, not both")
    full_name = provider_name(name or provider_type.replace("_", "-"))
    provider, done = ensure_provider(session.client, full_name, provider_type, options.write)
    checked = session.client.admin.providers.check(full_name)
    choice = Choice(())
    if checked.healthy and not options.no_models:
        choice = choose_models(provider_type, checked.provider_models, options.models or ())
    added = add_models(session.client, full_name, choice.names)
    if session.as_json:
        result = {
            "provider": to_json(provider),
            "check": to_json(checked),
            "added": added.added,
            "existing": added.existing,
        }
        print(json.dumps(result, indent=2, ensure_ascii=False))
    else:
        print(f"{full_name}: {done}")
        print(_render_check(full_name, checked))
        if checked.healthy and not options.no_models:
            _print_models(added, choice)
        if checked.error_reason == "UPSTREAM_CREDENTIAL_REJECTED":
            print("give it with --credential-stdin, or with --credential-ref env:NAME", file=sys.stderr)
    if not checked.healthy:
        raise typer.Exit(exit_codes.FAILURE)


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
    full_name = provider_name(name)
    checked = session.client.admin.providers.check(full_name)
    if session.as_json:
        show(session, checked)
    else:
        print(_render_check(full_name, checked))
        for model in checked.provider_models:
            print(f"  {printable(model)}")
        _print_unlisted(session, full_name, checked)
    if not checked.healthy:
        raise typer.Exit(exit_codes.FAILURE)


@app.command("delete")
@with_session
def delete_provider(session: Session, name: Name, etag: Etag = "") -> None:
    """Deletes a provider that has no models left."""
    session.client.admin.providers.delete(provider_name(name), etag=etag)
    session.tell_deleted(provider_name(name))


def _worst_of(provider: str, states: Iterable["TargetState"]) -> str:
    """How the models of a provider are doing: ``open 1/3``; empty when no call went to any."""
    found = [_condition_of(state) for state in states if state.model.startswith(f"{provider}/models/")]
    for condition in _CONDITIONS:
        if condition in found:
            return f"{condition} {found.count(condition)}/{len(found)}"
    return ""


def _condition_of(state: "TargetState") -> str:
    """The state of its breaker, or that it is left alone for another reason."""
    breaker = enum_of(state, "breaker_state")
    return "left alone" if breaker == "closed" and state.cooldown_reason else breaker


def _render_check(name: str, checked: "CheckProviderResponse") -> str:
    """What came of a check, in one line."""
    if not checked.healthy:
        message = printable(checked.error_message).removeprefix(f"{name}: ")
        return f"{name} cannot be used: {checked.error_reason}: {message}"
    offers = _count(checked.provider_models)
    return f"{name} answers, in {milliseconds_of(checked, 'latency')} ms, and offers {offers}"


def _count(models: Sequence[str]) -> str:
    return "1 model" if len(models) == 1 else f"{len(models)} models"


def _print_unlisted(session: Session, name: str, checked: "CheckProviderResponse") -> None:
    """Names models of the gateway that the provider does not list, where it lists any."""
    unlisted = unlisted_models(session.client, name, checked.provider_models)
    if unlisted:
        names = ", ".join(map(short_name, unlisted))
        print(f"it does not list {names}: an alias, mistyped, or no longer there", file=sys.stderr)


def _print_models(models: AddedModels, choice: Choice) -> None:
    for name in models.added:
        print(f"  {short_name(name)}")
    there = f", {len(models.existing)} were there already" if models.existing else ""
    print(f"{_count(models.added)} added{there}")
    if choice.unlisted:
        print(f"not offered by it, but added as named: {', '.join(choice.unlisted)}", file=sys.stderr)
    if choice.remark:
        print(choice.remark, file=sys.stderr)


def _read_credential() -> str:
    credential = sys.stdin.readline().strip()
    if not credential:
        raise typer.BadParameter("standard input holds no credential")
    return credential
