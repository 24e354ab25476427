"""``ai-gateway apply``: makes a gateway as a file says."""

import json
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from gateway_server.cli.names import last_id
from gateway_server.cli.output import printable
from gateway_server.cli.session import Session, fail, with_session

if TYPE_CHECKING:
    from google.protobuf.message import Message

    from aigateway import Client
    from gateway_server.cli.manifest import Manifest, Step

#: What every gateway has though no file made it; calls may count on it.
FROM_THE_FIRST_START: Final = frozenset(
    {
        "guardrailProfiles/default",
        "guardrailProfiles/strict",
        "guardrailProfiles/off",
        "routes/balanced",
        "routes/quality-first",
        "routes/cost-optimized",
    }
)


@with_session
def apply(
    session: Session,
    file: Annotated[Path, typer.Option("--file", "-f", help="The file, YAML or JSON; - is standard input.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would change.")] = False,
    prune: Annotated[
        bool,
        typer.Option(
            "--prune", help="Delete what the file does not name, of the kinds that it has lists of."
        ),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Delete without asking.")] = False,
) -> None:
    """Makes a gateway's resources as a file says; doing it again changes nothing.

    The file has lists named guardrail_profiles, tenants, api_keys, providers, models and routes. An item is
    a resource as `get` shows it: a field that it does not name is left as it is, one that is null is
    emptied. The secret of a key that is made is printed, once. --prune asks before it deletes; where there
    is no terminal it needs --yes. It leaves alone the key in use and its
    tenant, and the routes and guardrail profiles that every gateway has from its first start; `delete`
    deletes those that a gateway can do without.
    """
    from gateway_server.cli.manifest import Action, ManifestError, parse_manifest, plan, render_step

    try:
        manifest = parse_manifest(sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8"))
    except (ManifestError, OSError, UnicodeDecodeError) as error:
        fail(f"{file}: {error}")
    spared = _key_in_use(session) | FROM_THE_FIRST_START if prune else frozenset()
    steps = plan(manifest, _existing(session, manifest), prune=prune, spared=spared)
    changes = [step for step in steps if step.action is not Action.KEEP]
    if not session.as_json:
        for step in changes:
            print(printable("\n".join(render_step(step))))
        print(_summary(steps, dry_run=dry_run), file=sys.stderr)
    deletions = [step for step in changes if step.action is Action.DELETE]
    if deletions and not dry_run and not yes:
        if not sys.stdin.isatty():
            fail(f"{len(deletions)} resources would be deleted and nobody can be asked: say so with --yes")
        typer.confirm(f"Delete {len(deletions)} resources?", abort=True, err=True)
    secrets: dict[str, str] = {}
    try:
        for step in () if dry_run else changes:
            _carry_out(session.client, step, secrets)
    finally:
        # Also when a later step failed: they cannot be had again.
        _print_result(session, changes, secrets)


def _existing(session: Session, manifest: "Manifest") -> "dict[str, Message]":
    """What the gateway has of the kinds in the file, by name."""
    admin = session.client.admin
    lists: dict[str, Any] = {
        "guardrail_profiles": admin.guardrail_profiles.list,
        "tenants": admin.tenants.list,
        "api_keys": admin.api_keys.list,
        "providers": admin.providers.list,
        "models": admin.models.list,
        "routes": admin.routes.list,
    }
    found = {}
    for kind in manifest.kinds:
        found.update({resource.name: resource for resource in lists[kind.name](page_size=1000)})
    return found


def _key_in_use(session: Session) -> set[str]:
    """The names of the key that this command calls with and of its tenant: deleting them locks one out."""
    secret = session.api_key or ""
    return {
        name
        for key in session.client.admin.api_keys.list(page_size=1000)
        if key.secret_last4 and secret.startswith(key.secret_prefix) and secret.endswith(key.secret_last4)
        for name in (key.name, key.name.partition("/apiKeys/")[0])
    }


def _carry_out(client: "Client", step: "Step", secrets: dict[str, str]) -> None:
    from gateway_server.cli.manifest import Action

    admin = client.admin
    resources: dict[str, Any] = {
        "guardrail_profiles": admin.guardrail_profiles,
        "tenants": admin.tenants,
        "api_keys": admin.api_keys,
        "providers": admin.providers,
        "models": admin.models,
        "routes": admin.routes,
    }
    resource, new_id = resources[step.kind.name], last_id(step.name)
    before: Any = step.before
    after: Any = step.after
    parent = step.name.rpartition("/")[0].rpartition("/")[0]
    match step.action, step.kind.name:
        case Action.CREATE, "guardrail_profiles":
            admin.guardrail_profiles.create(after, guardrail_profile_id=new_id)
        case Action.CREATE, "tenants":
            admin.tenants.create(after, tenant_id=new_id)
        case Action.CREATE, "api_keys":
            secrets[step.name] = admin.api_keys.create(parent, after, api_key_id=new_id).secret
        case Action.CREATE, "providers":
            admin.providers.create(after, provider_id=new_id)
        case Action.CREATE, "models":
            admin.models.create(parent, after, model_id=new_id)
        case Action.CREATE, "routes":
            admin.routes.create(after, route_id=new_id)
        case Action.UPDATE, _:
            # Not over a change that somebody else makes at the same time.
            after.etag = before.etag
            resource.update(after, update_mask=step.fields)
        case Action.DELETE, _:
            resource.delete(step.name, etag=before.etag)
        case _:
            raise AssertionError(f"{step.action} of {step.kind.name} is nothing to carry out")


def _print_result(session: Session, changes: "list[Step]", secrets: dict[str, str]) -> None:
    if session.as_json:
        rendered = [
            {"action": step.action.name.lower(), "name": step.name, "fields": list(step.fields)}
            for step in changes
        ]
        print(json.dumps({"changes": rendered, "secrets": secrets}, indent=2))
        return
    for name, secret in secrets.items():
        print(f"secret of {name}: {secret}")
    if secrets:
        print("Secrets are shown only now: keep them in a safe place.", file=sys.stderr)


def _summary(steps: "list[Step]", *, dry_run: bool) -> str:
    counts = Counter(step.action.name.lower() for step in steps)
    parts = [f"{counts[action]} to {action}" for action in ("create", "update", "delete", "keep")]
    return ", ".join(parts) + (" (dry run: nothing was changed)" if dry_run else "")
