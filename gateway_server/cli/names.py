"""Resource names from what people type: ``acme/web`` for tenants/acme/apiKeys/web."""

import typer


def tenant_name(text: str) -> str:
    """``tenants/{tenant}``."""
    return _name(text, "tenants")


def tenant_parent(text: str) -> str:
    """``tenants/{tenant}``, or ``tenants/-`` for all."""
    return "tenants/-" if text in {"", "-"} else tenant_name(text)


def api_key_name(text: str) -> str:
    """``tenants/{tenant}/apiKeys/{api_key}``."""
    return _name(text, "tenants", "apiKeys")


def provider_name(text: str) -> str:
    """``providers/{provider}``."""
    return _name(text, "providers")


def provider_parent(text: str) -> str:
    """``providers/{provider}``, or ``providers/-`` for all."""
    return "providers/-" if text in {"", "-"} else provider_name(text)


def model_name(text: str) -> str:
    """``providers/{provider}/models/{model}``."""
    return _name(text, "providers", "models")


def route_name(text: str) -> str:
    """``routes/{route}``."""
    return _name(text, "routes")


def guardrail_profile_name(text: str) -> str:
    """``guardrailProfiles/{guardrail_profile}``."""
    return _name(text, "guardrailProfiles")


def short_name(name: str) -> str:
    """The ids alone: ``acme/web``."""
    return "/".join(name.split("/")[1::2])


def last_id(name: str) -> str:
    """The last id of a name."""
    return name.rpartition("/")[2]


def _name(text: str, *collections: str) -> str:
    parts = text.strip("/").split("/")
    if len(parts) == 2 * len(collections) and tuple(parts[::2]) == collections and all(parts):
        return "/".join(parts)
    if len(parts) == len(collections) and all(parts):
        pairs = zip(collections, parts, strict=True)
        return "/".join(f"{collection}/{part}" for collection, part in pairs)
    ids = "/".join(collection.removesuffix("s").upper() for collection in collections)
    raise typer.BadParameter(f"{text!r} is not {ids} or a full name")
