"""Which target served a session last, so that its next request finds the prompt cache warm."""

import hashlib
from collections import OrderedDict
from typing import Final, NamedTuple

from aigateway.v1.routing_pb2 import SessionAffinity
from aigateway.v1.usage_pb2 import TokenUsage
from gateway_server.call import Principal
from gateway_server.clock import Clock

#: Prompt caches live for five minutes at Anthropic, five to sixty at OpenAI.
_KEPT_SECONDS: Final = 600.0
_KEPT_SESSIONS: Final = 100_000


class Session(NamedTuple):
    """Where a session was served last, and how much of its prompt is in a cache there, in tokens."""

    target: str
    cached_tokens: int
    seen_at: float


class Affinity:
    """The sessions of late, the least recent dropped first. Each process knows those that it served."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._sessions: OrderedDict[bytes, Session] = OrderedDict()

    def find(self, key: bytes | None) -> Session | None:
        """The session, unless its cache must be cold by now."""
        session = None if key is None else self._sessions.get(key)
        if session is None or self._clock.monotonic() - session.seen_at > _KEPT_SECONDS:
            return None
        return session

    def note(self, key: bytes, target: str, usage: TokenUsage | None) -> None:
        """Notes who served, and what it read from or wrote to its cache."""
        cached = 0 if usage is None else usage.cache_read_input_tokens + usage.cache_write_input_tokens
        self._sessions[key] = Session(target, cached, self._clock.monotonic())
        self._sessions.move_to_end(key)
        if len(self._sessions) > _KEPT_SESSIONS:
            self._sessions.popitem(last=False)


def session_key(
    affinity: SessionAffinity.ValueType, principal: Principal, *, model: str, end_user_id: str
) -> bytes | None:
    """What keeps a session's requests together; None when nothing is to."""
    if not affinity:  # nearly always; looking values up by name takes a microsecond each
        return None
    match affinity:
        case SessionAffinity.SESSION_AFFINITY_END_USER if end_user_id:
            of_session = f"end_user:{end_user_id}"
        case SessionAffinity.SESSION_AFFINITY_API_KEY:
            of_session = f"api_key:{principal.api_key_id}"
        case _:
            return None
    told = f"{principal.tenant_id}\0{model}\0{of_session}"
    return hashlib.blake2b(told.encode(), digest_size=16).digest()
