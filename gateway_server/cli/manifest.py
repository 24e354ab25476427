"""The file that ``apply`` reads, and what would have to change to make a gateway as it says.

The file has a list for each kind of resource; an item is the resource in protobuf JSON, as ``get`` shows
it. A field that an item does not name is left as it is; one that is ``null`` is emptied.
"""

from collections.abc import Container, Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any, Final

import typer
from google.api.field_behavior_pb2 import FieldBehavior, field_behavior
from google.protobuf import json_format

from aigateway.v1 import api_key_pb2, guardrail_profile_pb2, model_pb2, provider_pb2, route_pb2, tenant_pb2
from gateway_server.cli import names

if TYPE_CHECKING:
    from collections.abc import Callable

    from google.protobuf.descriptor import Descriptor, FieldDescriptor
    from google.protobuf.message import Message


class ManifestError(Exception):
    """A file that cannot be applied; the message says where and why."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of resource that can be declared."""

    name: str
    message: Any  # the class of a message; each has fields of its own
    full_name: "Callable[[str], str]"


#: In the order in which they are made; they are deleted in the opposite one.
KINDS: Final = (
    Kind("providers", provider_pb2.Provider, names.provider_name),
    Kind("models", model_pb2.Model, names.model_name),
    Kind("routes", route_pb2.Route, names.route_name),
    # After the providers, which they may ask, and before those who have one.
    Kind("guardrail_profiles", guardrail_profile_pb2.GuardrailProfile, names.guardrail_profile_name),
    # After the routes: a tenant may have one as its default.
    Kind("tenants", tenant_pb2.Tenant, names.tenant_name),
    Kind("api_keys", api_key_pb2.ApiKey, names.api_key_name),
)

# Filled in by the gateway, so ignored when a file that `get` wrote has them. An etag says which state was
# seen, not which is wanted.
_IGNORED: Final = {"name", "etag"}


@dataclass(frozen=True, slots=True)
class Wanted:
    """One item of a file: the resource, and which of its fields the item names."""

    kind: Kind
    name: str
    resource: "Message"
    fields: tuple[str, ...]


class Action(Enum):
    """What has to be done about a resource."""

    CREATE = "+"
    UPDATE = "~"
    DELETE = "-"
    KEEP = "="


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to do: ``fields`` are to become as in ``after`` where the gateway has ``before``."""

    action: Action
    kind: Kind
    name: str
    fields: tuple[str, ...] = ()
    before: "Message | None" = None
    after: "Message | None" = None


@dataclass(frozen=True, slots=True)
class Manifest:
    """A file as read: what is wanted, and which kinds it speaks of at all."""

    wanted: tuple[Wanted, ...]
    kinds: tuple[Kind, ...] = field(default=())


def parse_manifest(text: str) -> Manifest:
    """Reads YAML or JSON; raises ManifestError."""
    document = _load_yaml(text)
    if not isinstance(document, dict):
        raise ManifestError("the file must hold lists named " + ", ".join(kind.name for kind in KINDS))
    unknown = [str(key) for key in document if key not in {kind.name for kind in KINDS}]
    if unknown:
        raise ManifestError(f"{', '.join(unknown)}: not one of {', '.join(kind.name for kind in KINDS)}")
    wanted: dict[str, Wanted] = {}
    for kind in KINDS:
        items = document.get(kind.name)
        items = [] if items is None else items
        if not isinstance(items, list):
            raise ManifestError(f"{kind.name} must be a list")
        for place, item in enumerate(items):
            one = _parse_item(kind, item, f"{kind.name}[{place}]")
            if one.name in wanted:
                raise ManifestError(f"{kind.name}[{place}]: {one.name} stands twice in the file")
            wanted[one.name] = one
    return Manifest(tuple(wanted.values()), tuple(kind for kind in KINDS if kind.name in document))


def _load_yaml(text: str) -> object:
    """YAML without two of its traps: times stay text, and a key that stands twice is refused."""
    import yaml

    class Loader(yaml.SafeLoader):
        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
            mapping = super().construct_mapping(node, deep)
            if len(mapping) < len(node.value):
                raise ManifestError(f"a key stands twice,{node.start_mark}")
            return mapping

    Loader.yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith(":timestamp")]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    try:
        return yaml.load(text, Loader)  # noqa: S506 -- it is a safe loader
    except yaml.YAMLError as error:
        raise ManifestError(f"not YAML: {error}") from None


def plan(
    manifest: Manifest, existing: Mapping[str, "Message"], *, prune: bool, spared: Container[str] = ()
) -> list[Step]:
    """What to do, in order, given what the gateway has of the kinds in the file, by name.

    With ``prune``, what the file does not name is deleted, but for what is ``spared``.
    """
    steps = [_step(wanted, existing.get(wanted.name)) for wanted in manifest.wanted]
    if prune:
        kept = {wanted.name for wanted in manifest.wanted}
        surplus = {
            name: resource for name, resource in existing.items() if name not in kept and name not in spared
        }
        for kind in reversed(manifest.kinds):
            steps += [
                Step(Action.DELETE, kind, name, before=resource)
                for name, resource in surplus.items()
                if isinstance(resource, kind.message)
            ]
    return steps


def _step(wanted: Wanted, current: "Message | None") -> Step:
    if current is None:
        return Step(Action.CREATE, wanted.kind, wanted.name, wanted.fields, after=wanted.resource)
    changed = tuple(name for name in wanted.fields if not _equal(wanted.resource, current, name))
    action = Action.UPDATE if changed else Action.KEEP
    return Step(action, wanted.kind, wanted.name, changed, current, wanted.resource)


def _equal(wanted: "Message", current: "Message", name: str) -> bool:
    descriptor = wanted.DESCRIPTOR.fields_by_name[name]
    if descriptor.has_presence and wanted.HasField(name) != current.HasField(name):
        return False
    mine, theirs = getattr(wanted, name), getattr(current, name)
    return bool(mine == theirs)


def _parse_item(kind: Kind, item: object, place: str) -> Wanted:
    if not isinstance(item, dict) or not isinstance(item.get("name"), str):
        raise ManifestError(f"{place} must be a resource with a name")
    try:
        name = kind.full_name(item["name"])
    except typer.BadParameter as error:
        raise ManifestError(f"{place}: {error.message}") from None
    fields = []
    values: dict[str, Any] = {}
    for key, value in item.items():
        descriptor = _field(kind.message.DESCRIPTOR, key, place)
        if descriptor.name in _IGNORED or _behaves(descriptor, FieldBehavior.OUTPUT_ONLY):
            continue
        if _behaves(descriptor, FieldBehavior.INPUT_ONLY):
            raise ManifestError(f"{place}.{key}: a secret does not belong into a file; use credential_ref")
        fields.append(descriptor.name)
        values[descriptor.name] = value
    resource = kind.message(name=name)
    try:
        json_format.ParseDict(values, resource)
    except json_format.ParseError as error:
        raise ManifestError(f"{place}: {error}") from None
    return Wanted(kind, name, resource, tuple(fields))


def _field(descriptor: "Descriptor", key: object, place: str) -> "FieldDescriptor":
    for candidate in descriptor.fields:
        if key in {candidate.name, candidate.json_name}:
            return candidate
    raise ManifestError(f"{place}.{key}: no such field of {descriptor.name}")


def _behaves(descriptor: "FieldDescriptor", behavior: int) -> bool:
    behaviors: Any = descriptor.GetOptions().Extensions
    return behavior in behaviors[field_behavior]


def render_step(step: Step) -> Iterable[str]:
    """The step in lines: what happens to which resource, then the fields that change."""
    yield f"{step.action.value} {step.name}"
    for name in step.fields:
        after = _render_field(step.after, name)
        if step.action is Action.CREATE:
            yield f"    {name}: {after}"
        else:
            yield f"    {name}: {_render_field(step.before, name)} -> {after}"


def _render_field(resource: "Message | None", name: str) -> str:
    import json

    if resource is None:
        return "null"
    values = json_format.MessageToDict(resource, preserving_proto_field_name=True)
    return json.dumps(values.get(name), ensure_ascii=False)
