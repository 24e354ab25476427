"""Merges a caller's options for one provider into the body for it, last and deeply."""

from collections.abc import Collection, Mapping

from google.protobuf.struct_pb2 import Struct

from gateway_server.errors import invalid_request
from gateway_server.providers.wire.json_values import JsonObject, from_struct


def merge_options(
    body: JsonObject,
    options: Mapping[str, Struct],
    *,
    provider_type: str,
    reserved: Mapping[str, str],
    headers: Collection[str] = (),
) -> None:
    """Merges the options of this provider type into the body; those of others are ignored.

    Objects are merged key by key, anything else replaces what was there. ``reserved`` are dotted keys
    of the body that options may not touch, each with the request field to use instead: limits, budgets
    and guardrails rest on those fields. ``headers`` are keys that the endpoint reads: they are no part of
    the body.
    """
    if provider_type not in options:
        return
    path = f'provider_options["{provider_type}"]'
    try:
        extra = from_struct(options[provider_type])
    except ValueError as error:
        raise invalid_request(path, f"holds a number that {error}") from error
    for key, instead in reserved.items():
        if _holds(extra, key):
            raise invalid_request(f"{path}.{key}", f"cannot be set here; use {instead}")
    for key in headers:
        extra.pop(key, None)
    _merge(body, extra)


def _holds(options: JsonObject, dotted: str) -> bool:
    key, _, rest = dotted.partition(".")
    if key not in options:
        return False
    # Anything but an object would replace the whole object that holds the reserved key.
    return not rest or not isinstance(options[key], dict) or _holds(options[key], rest)


def _merge(target: JsonObject, extra: JsonObject) -> None:
    for key, value in extra.items():
        present = target.get(key)
        if isinstance(present, dict) and isinstance(value, dict):
            _merge(present, value)
        else:
            target[key] = value
