"""What the pipeline asks of budgets: money for one attempt, held before it is sent, settled when it ended."""

from collections.abc import Callable
from typing import Protocol

from aigateway.v1.model_pb2 import Model
from gateway_server.call import CallContext
from gateway_server.storage.budget_windows import WindowKey
from gateway_server.usage.ceiling import TokenCeiling


class Hold:
    """Money set aside for one attempt: ``nanos`` billionths of a US dollar on each of ``windows``.

    ``max_output_tokens`` is what the output has to be limited to for that to be enough; None when that needs
    no telling.
    """

    __slots__ = ("_end", "max_output_tokens", "nanos", "windows")

    def __init__(
        self,
        nanos: int = 0,
        *,
        windows: tuple[WindowKey, ...] = (),
        max_output_tokens: int | None = None,
        end: Callable[[int], None] | None = None,
    ) -> None:
        """``end`` is called once, with what was spent."""
        self.nanos = nanos
        self.windows = windows
        self.max_output_tokens = max_output_tokens
        self._end = end

    def settle(self, spent_nanos: int) -> None:
        """Ends the hold. The second time does nothing. Never waits."""
        end, self._end = self._end, None
        if end is not None:
            end(spent_nanos)


class Budgets(Protocol):
    """Money of tenants and keys."""

    async def hold(self, call: CallContext, model: Model, ceiling: TokenCeiling) -> Hold:
        """Holds the most that an attempt at ``model`` can cost on all budgets of the caller, or nothing.

        Raises BUDGET_EXCEEDED, DEADLINE_EXCEEDED, MODEL_UNPRICED, STORE_UNAVAILABLE. A cancel leaves nothing
        held.
        """
        ...


class Unbudgeted:
    """Budgets of callers who have none."""

    async def hold(self, call: CallContext, model: Model, ceiling: TokenCeiling) -> Hold:
        """A hold of nothing."""
        return Hold()
