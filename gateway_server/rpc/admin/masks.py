"""Which fields a caller sets: masks of updates, fields that are the gateway's to fill, fields not built yet.

What callers may write stands in the protos, as ``google.api.field_behavior``; it is read from there.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from google.api import field_behavior_pb2
from google.protobuf.descriptor import Descriptor
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message

from gateway_server.errors import invalid_request, not_implemented

M = TypeVar("M", bound=Message)

#: A mask that stands for all fields.
ALL: Final = "*"

_MASK: Final = "update_mask"
#: Set by the gateway and sent back by callers to say what they have seen; never written as a field.
_ETAG: Final = "etag"


@dataclass(frozen=True, slots=True)
class FieldRules:
    """How the fields of one resource may be written. ``resource`` is its field in requests."""

    resource: str
    ignored: frozenset[str]
    immutable: frozenset[str]
    not_built: frozenset[str]


def field_rules(
    descriptor: Descriptor, resource: str, *, not_built: Sequence[str] = (), kept_apart: Sequence[str] = ()
) -> FieldRules:
    """The rules that the contract states, and the fields that this version does not serve.

    Fields that are ``kept_apart`` from the rest of the resource are written by whoever asks for the rules.
    """
    unknown = {*not_built, *kept_apart} - set(descriptor.fields_by_name)
    if unknown:
        raise ValueError(f"{descriptor.name} has no {', '.join(sorted(unknown))}")
    output_only = _with_behavior(descriptor, field_behavior_pb2.OUTPUT_ONLY)
    identifiers = _with_behavior(descriptor, field_behavior_pb2.IDENTIFIER)
    return FieldRules(
        resource=resource,
        ignored=output_only | identifiers | {_ETAG, *kept_apart},
        immutable=_with_behavior(descriptor, field_behavior_pb2.IMMUTABLE),
        not_built=frozenset(not_built),
    )


def check_create(resource: Message, rules: FieldRules) -> None:
    """Raises NOT_IMPLEMENTED for a field that this version would accept and then ignore."""
    for field, _ in resource.ListFields():
        if field.name in rules.not_built:
            raise not_implemented(f"{rules.resource}.{field.name}")


def apply_update(current: M, patch: M, mask: FieldMask, rules: FieldRules) -> None:
    """Writes into ``current`` what ``mask`` names of ``patch``.

    An empty mask stands for the fields that ``patch`` sets, ``*`` for all that can be written: what
    ``patch`` then leaves unset is cleared. Fields that are the gateway's to fill are left as they are.
    Raises INVALID_REQUEST for paths that are no fields and for changes of immutable ones, NOT_IMPLEMENTED.
    """
    for path in _paths(patch, mask, rules):
        _check_path(patch, path)
        steps = path.split(".")
        name = steps[0]
        if name in rules.ignored:
            continue
        if name in rules.not_built:
            if _is_set(patch, name):
                raise not_implemented(f"{rules.resource}.{path}")
            continue
        if name in rules.immutable:
            if getattr(patch, name) != getattr(current, name):
                raise invalid_request(f"{rules.resource}.{name}", "cannot be changed once it is set")
            continue
        _copy(current, patch, steps)


def names_field(mask: FieldMask, patch: Message, field: str) -> bool:
    """Whether an update writes a field that callers never get to see.

    With ``*``, or without a mask, it does when ``patch`` sets the field: nobody can send back what is there.
    """
    return field in mask.paths or (list(mask.paths) in ([], [ALL]) and _is_set(patch, field))


def _paths(patch: Message, mask: FieldMask, rules: FieldRules) -> list[str]:
    if not mask.paths:
        return [field.name for field, _ in patch.ListFields()]
    if list(mask.paths) == [ALL]:
        # An immutable field left out of a full replacement is not meant to be changed.
        return [
            field.name
            for field in patch.DESCRIPTOR.fields
            if field.name not in rules.immutable or _is_set(patch, field.name)
        ]
    return list(mask.paths)


def _check_path(resource: Message, path: str) -> None:
    """Raises INVALID_REQUEST unless the path leads to a field through single messages."""
    here: Message | None = resource
    for step in path.split("."):
        field = here.DESCRIPTOR.fields_by_name.get(step) if here is not None else None
        if here is None or field is None:
            kind = resource.DESCRIPTOR.name
            raise invalid_request(_MASK, f"names {path!r}, which is no field of {kind} that can be set alone")
        # Reading a message that is not set gives an empty one and sets nothing.
        here = getattr(here, step) if field.message_type is not None and not field.is_repeated else None


def _copy(current: Message, patch: Message, steps: list[str]) -> None:
    """Makes the field of ``current`` that the steps lead to what it is in ``patch``."""
    *outer, name = steps
    for step in outer:
        patch = getattr(patch, step)
    given = _is_set(patch, name)
    for step in outer:
        if not given and not current.HasField(step):
            return  # nothing to clear, and what holds it must not come to be by that
        current = getattr(current, step)
    current.ClearField(name)
    if given:
        only = type(patch)()
        only.CopyFrom(patch)
        for field, _ in patch.ListFields():
            if field.name != name:
                only.ClearField(field.name)
        current.MergeFrom(only)


def _is_set(message: Message, name: str) -> bool:
    return any(field.name == name for field, _ in message.ListFields())


def _with_behavior(descriptor: Descriptor, behavior: int) -> frozenset[str]:
    extension: Any = field_behavior_pb2.field_behavior  # its stubs do not say what it extends
    return frozenset(
        field.name for field in descriptor.fields if behavior in field.GetOptions().Extensions[extension]
    )
