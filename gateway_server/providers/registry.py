"""All types of providers: one line each."""

from collections.abc import Callable, Mapping
from typing import Final

from gateway_server.errors import invalid_request
from gateway_server.providers.base import Credential, Endpoint, ProviderConfig
from gateway_server.providers.endpoints import (
    anthropic,
    aws_bedrock,
    azure_openai,
    compatible,
    demo,
    google,
    openai,
    vllm,
)

_Build = Callable[[str, Credential, ProviderConfig], Endpoint]

_BUILDERS: Final[Mapping[str, _Build]] = {
    anthropic.PROVIDER_TYPE: anthropic.build,
    aws_bedrock.PROVIDER_TYPE: aws_bedrock.build,
    azure_openai.PROVIDER_TYPE: azure_openai.build,
    compatible.PROVIDER_TYPE: compatible.build,
    demo.PROVIDER_TYPE: demo.build,
    google.PROVIDER_TYPE: google.build,
    openai.PROVIDER_TYPE: openai.build,
    vllm.PROVIDER_TYPE: vllm.build,
}


def provider_types() -> tuple[str, ...]:
    """The names of all types, in alphabetical order."""
    return tuple(sorted(_BUILDERS))


def build_endpoint(
    provider_type: str, base_url: str, credential: Credential, config: ProviderConfig
) -> Endpoint:
    """A configured provider. Raises INVALID_REQUEST that names the field of the Provider at fault."""
    build = _BUILDERS.get(provider_type)
    if build is None:
        known = ", ".join(provider_types())
        raise invalid_request("provider.provider_type", f"is not a type of provider; there are {known}")
    return build(base_url, credential, config)
