"""Budgets as they are when an attempt begins, not as they were when its call did."""

from dataclasses import replace

from aigateway.v1.model_pb2 import Model
from gateway_server.auth.authenticator import Authenticator
from gateway_server.call import BudgetLimit, CallContext
from gateway_server.errors import GatewayError
from gateway_server.limits.budgets import Budgets, Hold
from gateway_server.usage.ceiling import TokenCeiling


class PresentBudgets:
    """Holds money under the caller's budgets as the authenticator knows them now.

    The store is asked only after a change of the key or its tenant that no other call has brought yet. While
    it is away, and when the key was deleted, what the call knows of its budgets holds on.
    """

    def __init__(self, book: Budgets, authenticator: Authenticator) -> None:
        self._book = book
        self._authenticator = authenticator

    async def hold(self, call: CallContext, model: Model, ceiling: TokenCeiling) -> Hold:
        """As in Budgets."""
        present = self._authenticator.cached_budgets(call.principal)
        if present is None:
            present = await self._read(call)
        if present is not None:
            call.budgets_at = call.clock.monotonic()
            if present is not call.principal.budgets:
                budgets = _in_windows_of(call.principal.budgets, present)
                call.principal = replace(call.principal, budgets=budgets)
        return await self._book.hold(call, model, ceiling)

    async def _read(self, call: CallContext) -> tuple[BudgetLimit, ...] | None:
        try:
            return await self._authenticator.read_budgets(call.principal)
        except GatewayError:
            return None


def _in_windows_of(
    earlier: tuple[BudgetLimit, ...], present: tuple[BudgetLimit, ...]
) -> tuple[BudgetLimit, ...]:
    """Present budgets in the time zones that a call began with, so that its attempts count in one window."""
    zones = {(budget.api_key_id, budget.period): budget.time_zone for budget in earlier}
    return tuple(
        budget._replace(time_zone=zones.get((budget.api_key_id, budget.period), budget.time_zone))
        for budget in present
    )
