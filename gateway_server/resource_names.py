"""The names of resources, made and read in one place.

Ids are checked for their shape only; whether a resource exists is the store's to say.
"""

import re
from typing import Final

from gateway_server.errors import invalid_request

#: Stands for every parent, as in ``tenants/-``.
ANY: Final = "-"

_ID: Final = r"[a-z0-9][a-z0-9-]{0,62}"
_MODEL_ID: Final = r"[a-zA-Z0-9][a-zA-Z0-9._:-]{0,127}"

_TENANT: Final = re.compile(rf"tenants/({_ID})")
_TENANT_OR_ANY: Final = re.compile(rf"tenants/({_ID}|-)")
_API_KEY: Final = re.compile(rf"tenants/({_ID})/apiKeys/({_ID})")
_PROVIDER: Final = re.compile(rf"providers/({_ID})")
_PROVIDER_OR_ANY: Final = re.compile(rf"providers/({_ID}|-)")
_MODEL: Final = re.compile(rf"providers/({_ID})/models/({_MODEL_ID})")

_ROUTE: Final = re.compile(rf"routes/({_ID})")
_GUARDRAIL_PROFILE: Final = re.compile(rf"guardrailProfiles/({_ID})")


def tenant_name(tenant_id: str) -> str:
    """``tenants/{tenant}``."""
    return f"tenants/{tenant_id}"


def api_key_name(tenant_id: str, api_key_id: str) -> str:
    """``tenants/{tenant}/apiKeys/{api_key}``."""
    return f"tenants/{tenant_id}/apiKeys/{api_key_id}"


def usage_record_name(tenant_id: str, request_id: str) -> str:
    """``tenants/{tenant}/usageRecords/{usage_record}``."""
    return f"tenants/{tenant_id}/usageRecords/{request_id}"


def provider_name(provider_id: str) -> str:
    """``providers/{provider}``."""
    return f"providers/{provider_id}"


def model_name(provider_id: str, model_id: str) -> str:
    """``providers/{provider}/models/{model}``."""
    return f"providers/{provider_id}/models/{model_id}"


def route_name(route_id: str) -> str:
    """``routes/{route}``."""
    return f"routes/{route_id}"


def guardrail_profile_name(guardrail_profile_id: str) -> str:
    """``guardrailProfiles/{guardrail_profile}``."""
    return f"guardrailProfiles/{guardrail_profile_id}"


def parse_tenant(name: str, field: str = "name") -> str:
    """The tenant's id; raises INVALID_REQUEST that names ``field``."""
    return _parse(_TENANT, name, field=field, form="tenants/{tenant}")[0]


def parse_tenant_or_any(name: str, field: str = "parent") -> str | None:
    """The tenant's id, None for all tenants; raises INVALID_REQUEST that names ``field``."""
    tenant_id = _parse(_TENANT_OR_ANY, name, field=field, form="tenants/{tenant} or tenants/-")[0]
    return None if tenant_id == ANY else tenant_id


def parse_api_key(name: str, field: str = "name") -> tuple[str, str]:
    """The ids of tenant and key; raises INVALID_REQUEST that names ``field``."""
    tenant_id, api_key_id = _parse(_API_KEY, name, field=field, form="tenants/{tenant}/apiKeys/{api_key}")
    return tenant_id, api_key_id


def parse_provider(name: str, field: str = "name") -> str:
    """The provider's id; raises INVALID_REQUEST that names ``field``."""
    return _parse(_PROVIDER, name, field=field, form="providers/{provider}")[0]


def parse_provider_or_any(name: str, field: str = "parent") -> str | None:
    """The provider's id, None for all providers; raises INVALID_REQUEST that names ``field``."""
    provider_id = _parse(_PROVIDER_OR_ANY, name, field=field, form="providers/{provider} or providers/-")[0]
    return None if provider_id == ANY else provider_id


def parse_model(name: str, field: str = "name") -> tuple[str, str]:
    """The ids of provider and model; raises INVALID_REQUEST that names ``field``."""
    provider_id, model_id = _parse(_MODEL, name, field=field, form="providers/{provider}/models/{model}")
    return provider_id, model_id


def parse_route(name: str, field: str = "name") -> str:
    """The route's id; raises INVALID_REQUEST that names ``field``."""
    return _parse(_ROUTE, name, field=field, form="routes/{route}")[0]


def parse_guardrail_profile(name: str, field: str = "name") -> str:
    """The profile's id; raises INVALID_REQUEST that names ``field``."""
    form = "guardrailProfiles/{guardrail_profile}"
    return _parse(_GUARDRAIL_PROFILE, name, field=field, form=form)[0]


def model_id_of(provider_model: str) -> str:
    """A model id made of the provider's own name for it: ``Qwen-Qwen3-0.6B`` of ``Qwen/Qwen3-0.6B``.

    Empty when no character of it can stand in an id.
    """
    return re.sub(r"[^a-zA-Z0-9._:-]", "-", provider_model).lstrip("._:-")[:128]


def _parse(pattern: re.Pattern[str], name: str, *, field: str, form: str) -> tuple[str, ...]:
    match = pattern.fullmatch(name)
    if match is None:
        raise invalid_request(field, f"must have the form {form}")
    return match.groups()
