"""Seals on thoughts, in both directions.

Claude's are the same at Bedrock and at Anthropic, so a conversation can go from one to the other. A sealed
thought is bytes here and text there.
"""

from gateway_server.providers.base import Target
from gateway_server.providers.wire.anthropic_messages.context import PROVIDER_TYPE as ANTHROPIC
from gateway_server.providers.wire.bedrock_converse.context import PROVIDER_TYPE
from gateway_server.providers.wire.bedrock_converse.models import ModelTraits, traits_of
from gateway_server.providers.wire.rendering import base64_text
from gateway_server.providers.wire.seals import seal, unseal


def seal_signature(signature: str, target: Target) -> bytes:
    """The signature of a thought, as callers keep it."""
    return seal(_origin(traits_of(target.provider_model)), signature)


def unseal_signature(kept: bytes, traits: ModelTraits) -> str | None:
    """The signature as it came; None when it is of another origin, or there is none."""
    signature = unseal(PROVIDER_TYPE, kept)
    if signature is None and traits.claude is not None:
        signature = unseal(ANTHROPIC, kept)
    return signature


def seal_thought(sealed: bytes, target: Target) -> bytes:
    """A sealed thought, as callers keep it."""
    origin = _origin(traits_of(target.provider_model))
    if origin == ANTHROPIC and sealed.isascii():
        return seal(origin, sealed.decode("ascii"))
    return seal(PROVIDER_TYPE, base64_text(sealed))


def unseal_thought(kept: bytes, traits: ModelTraits) -> str | None:
    """A sealed thought as base64; None when it is of another origin."""
    thought = unseal(PROVIDER_TYPE, kept)
    if thought is None and traits.claude is not None:
        text = unseal(ANTHROPIC, kept)
        thought = None if text is None else base64_text(text.encode())
    return thought


def _origin(traits: ModelTraits) -> str:
    return PROVIDER_TYPE if traits.claude is None else ANTHROPIC
