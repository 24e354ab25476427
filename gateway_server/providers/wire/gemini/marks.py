"""What the gateway adds to ids and signatures, so that it knows its own and the provider's when they return.

Callers send back whole conversations, also such as began at another provider.
"""

import re
from hashlib import sha256
from typing import Final

from gateway_server.providers.wire.seals import seal, unseal

#: Begins the id of a call to which the provider gave none. Such ids are not sent to it.
_MADE_ID: Final = "aigw_"
_RESPONSE_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,28}", re.ASCII)

#: Marks signatures of this provider.
_ORIGIN: Final = "gemini"


def make_call_id(response_id: str, choice_index: int, number: int, call: str) -> str:
    """The id of the n-th call of a choice, the same whenever the same answer is read.

    It is unique in a conversation, and short and plain enough for every other provider. ``call`` is what
    tells calls apart where the answer has no id.
    """
    if not _RESPONSE_ID.fullmatch(response_id):
        response_id = sha256((response_id or call).encode()).hexdigest()[:24]
    return f"{_MADE_ID}{response_id}_{choice_index}_{number}"


def is_made(call_id: str) -> bool:
    """Whether the provider never saw this id."""
    return call_id.startswith(_MADE_ID)


def seal_signature(signature: str) -> bytes:
    """A signature of the provider, as callers keep it."""
    return seal(_ORIGIN, signature)


def open_signature(sealed: bytes) -> str | None:
    """The provider's signature as it came, None when it is not of this provider."""
    return unseal(_ORIGIN, sealed)
