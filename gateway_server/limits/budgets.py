"""What the pipeline asks of budgets: money for one attempt, held before it is sent, settled when it ended."""

from typing import Protocol

from aigateway.v1.model_pb2 import Model
from gateway_server.call import CallContext
from gateway_server.storage.budgets import WindowKey
from gateway_server.usage.ceiling import TokenCeiling


class Hold(Protocol):
    """Money set aside for one attempt, on every window that applies."""

    @property
    def windows(self) -> tuple[WindowKey, ...]:
        """Where it is held; empty when no budget applies."""
        ...

    @property
    def nanos(self) -> int:
        """How much is held on each window, in billionths of a US dollar."""
        ...

    @property
    def max_output_tokens(self) -> int | None:
        """What the output has to be limited to for the hold to be enough; None when that needs no telling."""
        ...

    def settle(self, nanos: int) -> None:
        """Ends the hold: ``nanos`` were spent. The second time does nothing. Never waits, never fails."""
        ...


class Budgets(Protocol):
    """Money of tenants and keys."""

    async def hold(self, call: CallContext, model: Model, ceiling: TokenCeiling) -> Hold:
        """Holds the most that an attempt at ``model`` can cost on all budgets of the caller, or nothing.

        Raises BUDGET_EXCEEDED, MODEL_UNPRICED, STORE_UNAVAILABLE. A cancel leaves nothing held.
        """
        ...


class _Nothing:
    windows: tuple[WindowKey, ...] = ()
    nanos = 0
    max_output_tokens: int | None = None

    def settle(self, nanos: int) -> None:
        pass


class Unbudgeted:
    """Budgets of callers who have none."""

    async def hold(self, call: CallContext, model: Model, ceiling: TokenCeiling) -> Hold:
        """A hold of nothing."""
        return _Nothing()
