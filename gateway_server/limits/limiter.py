"""What the pipeline asks of rate limits: room for one call, at once, and the truth when it has ended."""

from typing import Protocol

from gateway_server.call import CallContext


class Grant(Protocol):
    """Room that one call has been given, in each limit that applies."""

    def settle(self, tokens: int | None) -> None:
        """Ends the call: gives back its place, and corrects its tokens to what they were.

        ``tokens`` is None when they are not known; the estimate stands then. Never waits, never fails.
        """
        ...


class RateLimiter(Protocol):
    """Requests and tokens a minute, and requests under way; all limits of a call in one step."""

    async def admit(self, call: CallContext, *, model_names: tuple[str, ...], tokens: int) -> Grant:
        """Takes one request, ``tokens`` tokens and one place in every limit, or nothing at all.

        ``model_names`` are all names that a glob may mean the model by. Adds what remains to the call's
        trailing metadata. Raises RATE_LIMIT_EXCEEDED, LIMITER_UNAVAILABLE. A cancel leaves nothing taken.
        """
        ...


class _Nothing:
    def settle(self, tokens: int | None) -> None:
        pass


class Unlimited:
    """A limiter that lets every call through."""

    async def admit(self, call: CallContext, *, model_names: tuple[str, ...], tokens: int) -> Grant:
        """Room for anything."""
        return _Nothing()
