"""The budgets of one process: what is leased to it, what its calls hold of that, and what they used up.

In every window, ``used + held <= leased`` here and ``spent + leased <= limit`` in the store; so what is spent
and held never exceeds a limit, whatever dies when. See docs/decisions/money.md.
"""

import asyncio
import heapq
import itertools
import logging
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

from aigateway.v1.error_reason_pb2 import ErrorReason
from aigateway.v1.model_pb2 import Model
from aigateway.v1.usage_service_pb2 import LimitKind, LimitUsage
from gateway_server.call import BudgetLimit, CallContext
from gateway_server.clock import Clock
from gateway_server.errors import GatewayError, deadline_exceeded
from gateway_server.limits.budgets import Hold
from gateway_server.limits.leased_window import (
    IDLE_SECONDS,
    LeasedWindow,
    Pending,
    free_of_all,
    rooms_of,
    want_windows,
)
from gateway_server.limits.leasing import Leasing, States
from gateway_server.limits.windows import window_of
from gateway_server.metrics import Metrics
from gateway_server.storage.budget_windows import WindowKey
from gateway_server.storage.budgets import BudgetRepository, WindowState
from gateway_server.storage.changes import Changes
from gateway_server.storage.spendings import Alert
from gateway_server.storage.times import micros_of_seconds, timestamp_of_micros
from gateway_server.tasks import end_task
from gateway_server.usage.ceiling import NOTHING, TokenCeiling, least_nanos, limit_output, most_nanos

_LOG: Final = logging.getLogger(__name__)

_TICK_SECONDS: Final = 0.25
#: How long a window that was looked at is left alone, at least.
_LOOK_SECONDS: Final = 1.0
#: How long a call waits for leases that others do not hold, and how often it looks.
_RECALL_SECONDS: Final = 2.0
_RECALL_POLL_SECONDS: Final = 0.1
#: After a wait in vain, calls wait so long only, for as long: the others hold what they have, and give it
#: back at their next tick once they do not.
_RECALL_AGAIN_SECONDS: Final = 1.0
_IN_VAIN_SECONDS: Final = 2.0

#: How often and how long a moment is waited for in which the books here and in the store can be compared.
_QUIET_LOOKS: Final = 50
_QUIET_SECONDS: Final = 0.01

_KINDS: Final = {"day": LimitKind.LIMIT_KIND_DAILY_BUDGET, "month": LimitKind.LIMIT_KIND_MONTHLY_BUDGET}


class BudgetBook:
    """Holds money for calls. Its owner starts and closes it; safe on one event loop."""

    def __init__(
        self, repository: BudgetRepository, gateway_id: str, *, clock: Clock, metrics: Metrics
    ) -> None:
        self._repository = repository
        self._gateway_id = gateway_id
        self._clock = clock
        self._metrics = metrics
        self._windows: dict[WindowKey, LeasedWindow] = {}
        self._pending = Pending()
        self._leasing = Leasing(repository, gateway_id, clock=clock, pending=self._pending)
        #: When to look whether which window is idle; what is not its ``look_at`` is outdated.
        self._looks: list[tuple[float, int, LeasedWindow]] = []
        self._number = itertools.count()
        #: Those that give back what gets free.
        self._recalled: set[LeasedWindow] = set()
        self._ticker: asyncio.Task[None] | None = None
        self._is_settling = False
        self._batches = 0

    async def hold(self, call: CallContext, model: Model, ceiling: TokenCeiling) -> Hold:
        """As in Budgets."""
        budgets = call.principal.budgets
        if not budgets or ceiling is NOTHING:
            return Hold()
        if not model.HasField("price"):
            _check_unpriced(budgets, model)
            return Hold()
        most = most_nanos(ceiling, model.price)
        if not most:
            return Hold()
        windows = self._windows_of(budgets, call)
        if free_of_all(windows) < most:
            want_windows(windows, 1)
            try:
                limited = await self._make_room(call, windows, model, ceiling)
            finally:
                want_windows(windows, -1)
            if limited is not ceiling:
                ceiling, most = limited, most_nanos(limited, model.price)
        # No await since there was room.
        now = self._clock.monotonic()
        for window in windows:
            window.hold(most, now)
            if now + window.idle_seconds < window.look_at:
                self._look_at(window, now + window.idle_seconds)

        def end(spent_nanos: int) -> None:
            self._end_hold(windows, most, spent_nanos)

        return Hold(
            most,
            windows=tuple(window.key for window in windows),
            max_output_tokens=None if ceiling.is_known_upstream else ceiling.output_tokens,
            end=end,
        )

    def settling(self, windows: Iterable[WindowKey]) -> dict[WindowKey, list[tuple[int, int]]]:
        """Hears that the store is about to count what calls spent on these windows.

        Gives at how many nanos which percentages of them are reached.
        """
        self._is_settling = True
        self._batches += 1
        found = {}
        for key in windows:
            window = self._windows.get(key)
            if window is not None:
                window.begin_settling()
                if window.limit.alert_percentages:
                    found[key] = window.thresholds()
        return found

    def settled(self, charges: Mapping[WindowKey, int], alerts: Sequence[Alert] = ()) -> None:
        """Hears that the store has counted what calls spent, and took it out of the leases."""
        self._is_settling = False
        for key, nanos in charges.items():
            window = self._windows.get(key)
            if window is not None:
                window.end_settling(nanos)
        self._tell(alerts)

    def _tell(self, alerts: Iterable[Alert]) -> None:
        for alert in alerts:
            window = self._windows.get(alert.window)
            owner = window.limit.owner if window is not None else alert.window.tenant_id
            _LOG.warning(
                "budget alert: %s has spent %d%% of its %s", owner, alert.percentage, alert.window.period
            )
            self._metrics.count_budget_alert(alert.window.period)

    async def usage(self, budgets: Sequence[BudgetLimit], now_micros: int) -> list[LimitUsage]:
        """How much of each of these budgets is used up."""
        keys = {
            budget: (WindowKey(budget.tenant_id, budget.api_key_id, budget.period, start), end)
            for budget in budgets
            for start, end in [window_of(now_micros, period=budget.period, time_zone=budget.time_zone)]
        }
        states = await self._read_states([key for key, _ in keys.values()])
        found = []
        for budget, (key, end) in keys.items():
            state = states.get(key)
            if state is None:
                state = WindowState(await self._repository.spent_before(key, end), 0, 0)
            window = self._windows.get(key)
            used, held = (window.used, window.held) if window is not None else (0, 0)
            found.append(
                LimitUsage(
                    owner=budget.owner,
                    kind=_KINDS[budget.period],
                    used=state.spent_nanos + used,
                    held=held + state.others_leased_nanos,
                    limit=budget.limit_nanos,
                    reset_time=timestamp_of_micros(end),
                )
            )
        return found

    async def _read_states(self, keys: Sequence[WindowKey]) -> dict[WindowKey, WindowState]:
        """The windows in the store, at a moment when nothing is on its way from here to there."""
        for _ in range(_QUIET_LOOKS):
            if not self._is_settling:
                batches = self._batches
                states = await self._repository.states(self._gateway_id, keys)
                if batches == self._batches:
                    return states
            await asyncio.sleep(_QUIET_SECONDS)
        return await self._repository.states(self._gateway_id, keys)  # as good as can be had

    async def on_changes(self, changes: Changes) -> None:
        """Gives back what nobody holds of budgets that may have changed: it was leased under the old ones."""
        tenants = {name.split("/")[1] for name in changes.resources if name.startswith("tenants/")}
        for window in self._windows.values():
            if not changes.complete or window.key.tenant_id in tenants:
                window.drop_free()

    async def start(self) -> None:
        """Begins to give back what is recalled or idle."""
        self._ticker = asyncio.create_task(self._tick_for_ever(), name="budgets")

    async def close(self) -> None:
        """Stops, and waits for what is under way; the leases go with the process's registration."""
        if self._ticker is not None:
            await end_task(self._ticker)
            self._ticker = None
        await self._leasing.close()

    async def tick(self) -> None:
        """Gives back what was recalled, what is idle, and what windows had that have ended; raises alerts."""
        if self._windows:
            recalls = await self._repository.read_recalls(self._gateway_id)
            self._note_recalls(recalls)
            self._end_idle()
            await self._leasing.give_back(lambda: [key for key in recalls if key not in self._windows])
        await self._raise_alerts()

    def _note_recalls(self, recalls: Mapping[WindowKey, int]) -> None:
        now = self._clock.monotonic()
        for key, recall in recalls.items():
            if (window := self._windows.get(key)) is not None:
                window.note_recall(recall, now + _RECALL_SECONDS)
                self._recalled.add(window)
        self._recalled = {window for window in self._recalled if now < window.recalled_until}
        for window in self._recalled:
            window.drop_free()

    def _end_idle(self) -> None:
        """Drops what idle windows have, and forgets those that have nothing."""
        now = self._clock.monotonic()
        while self._looks and self._looks[0][0] <= now:
            time, _, window = heapq.heappop(self._looks)
            if time != window.look_at:
                continue
            window.look_at = 0.0  # the same time may be there twice
            if now - window.touched_at > window.idle_seconds and not window.wanted:
                window.drop_free()
            if window.is_empty and now - window.touched_at > IDLE_SECONDS:
                del self._windows[window.key]
            else:
                self._look_at(window, max(window.touched_at + window.idle_seconds, now + _LOOK_SECONDS))

    def _look_at(self, window: LeasedWindow, time: float) -> None:
        window.look_at = time
        heapq.heappush(self._looks, (time, next(self._number), window))

    async def _raise_alerts(self) -> None:
        """Those for what others have spent: a process that was killed, or swept, tells nobody."""
        windows, self._pending.reached = self._pending.reached, set()
        reached = {window: fresh for window in windows if (fresh := window.reached())}
        if not reached:
            return
        try:
            alerts = await self._repository.raise_alerts({window.key: reached[window] for window in reached})
        except GatewayError:
            self._pending.reached |= windows
            raise
        self._tell(alerts)
        for window, thresholds in reached.items():
            window.alerted.update(percentage for percentage, _ in thresholds)

    def _windows_of(self, budgets: Sequence[BudgetLimit], call: CallContext) -> list[LeasedWindow]:
        """The windows that a call began in. What others have known of a budget since then stays."""
        micros = micros_of_seconds(call.start_time)
        windows = []
        for budget in budgets:
            start, end = window_of(micros, period=budget.period, time_zone=budget.time_zone)
            key = WindowKey(budget.tenant_id, budget.api_key_id, budget.period, start)
            window = self._windows.get(key)
            if window is None:
                now = self._clock.monotonic()
                window = LeasedWindow(key, end, budget, call.budgets_at, self._pending, touched_at=now)
                self._windows[key] = window
                self._look_at(window, now + IDLE_SECONDS)
            elif call.budgets_at >= window.limit_at:
                window.change_limit(budget, call.budgets_at)
            windows.append(window)
        return windows

    async def _make_room(
        self, call: CallContext, windows: list[LeasedWindow], model: Model, ceiling: TokenCeiling
    ) -> TokenCeiling:
        """Returns, without an await after there was room for it, the ceiling that the budgets pay for.

        Raises BUDGET_EXCEEDED, DEADLINE_EXCEEDED.
        """
        most = most_nanos(ceiling, model.price)
        now = self._clock.monotonic()
        in_vain = any(now < window.in_vain_until for window in windows)
        patience = _RECALL_AGAIN_SECONDS if in_vain else min(_RECALL_SECONDS, call.remaining() / 2)
        # Sooner, others may not have heard of the recall: a refusal would be false, the deadline is not.
        give_up_at = now + max(patience, _RECALL_AGAIN_SECONDS)
        need, limited = most, ceiling
        while True:
            now = self._clock.monotonic()
            known = rooms_of(window for window in windows if now < window.left_until)
            if min(known.values(), default=need) < need:
                limited = _limit(ceiling, model, known)
                need = most_nanos(limited, model.price)
            states = await self._leasing.lease(windows, need)
            if free_of_all(windows) >= need:
                return limited
            if not states:
                continue  # there was room, and somebody else was quicker
            rooms = rooms_of(windows)
            tight = [window for window in windows if rooms[window] < most]
            if await self._recall(tight, states, give_up_at):
                if call.remaining() <= 0:
                    raise deadline_exceeded(call.timeout)
                need, limited = most, ceiling
                continue
            limited = _limit(ceiling, model, rooms)
            need = most_nanos(limited, model.price)

    async def _recall(self, tight: list[LeasedWindow], states: States, give_up_at: float) -> bool:
        """Asks others for what they have of windows without room and waits a moment; False if no use.

        Also waits where a batch on its way keeps it from being known how much this process itself has.
        """
        now = self._clock.monotonic()
        elsewhere = [window for window in tight if states[window.key].others_leased_nanos > 0]
        if not elsewhere:
            if now >= give_up_at or not any(window.is_unsure for window in tight):
                return False
            await self._wait(_QUIET_SECONDS)
            return True
        if now >= give_up_at:
            for window in elsewhere:
                window.in_vain_until = now + _IN_VAIN_SECONDS
            return False
        for window in elsewhere:
            if now - window.asked_at >= _RECALL_POLL_SECONDS:  # else another call has just asked
                window.asked_at = now
                await self._repository.recall(window.key)
        await self._wait(_RECALL_POLL_SECONDS)
        return True

    async def _wait(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def _end_hold(self, windows: list[LeasedWindow], held: int, spent: int) -> None:
        now = self._clock.monotonic()
        for window in windows:
            window.end_hold(held, spent, now)
        if spent > held:
            self._metrics.count_budget_overrun()
            _LOG.error(
                "an attempt of tenants/%s cost %d nanos and was held to %d",
                windows[0].key.tenant_id,
                spent,
                held,
            )

    async def _tick_for_ever(self) -> None:
        while True:
            await asyncio.sleep(_TICK_SECONDS)
            try:
                await self.tick()
            except GatewayError as error:
                _LOG.warning("leases on budgets cannot be given back yet: %s", error.message)
            except Exception:  # noqa: BLE001 -- without this task, others would wait for idle leases
                _LOG.exception("giving back leases on budgets failed")


def _check_unpriced(budgets: Sequence[BudgetLimit], model: Model) -> None:
    for budget in budgets:
        if not budget.allow_unpriced_models:
            raise GatewayError(
                ErrorReason.ERROR_REASON_MODEL_UNPRICED,
                f"{model.name} has no price, and the budget of {budget.owner} does not allow such models",
                metadata={"model": model.name, "owner": budget.owner},
            )


def _limit(ceiling: TokenCeiling, model: Model, rooms: Mapping[LeasedWindow, int]) -> TokenCeiling:
    """As much of an attempt as there is room for in all windows. Raises BUDGET_EXCEEDED."""
    tightest = min(rooms, key=lambda window: rooms[window])
    affordable = limit_output(ceiling, model.price, rooms[tightest])
    if affordable is None:
        remaining, least = max(rooms[tightest], 0), least_nanos(ceiling, model.price)
        raise _exceeded(tightest, remaining=remaining, needed=least)
    return affordable


def _exceeded(window: LeasedWindow, *, remaining: int, needed: int) -> GatewayError:
    budget = window.limit
    kind = LimitKind.Name(_KINDS[budget.period]).removeprefix("LIMIT_KIND_")
    reset = datetime.fromtimestamp(window.end_time / 1_000_000, UTC).isoformat().replace("+00:00", "Z")
    return GatewayError(
        ErrorReason.ERROR_REASON_BUDGET_EXCEEDED,
        f"the call may cost {needed} nanos and the {kind} of {budget.owner} has {remaining} of "
        f"{budget.limit_nanos} left until {reset}",
        metadata={
            "owner": budget.owner,
            "kind": kind,
            "limit_nanos": str(budget.limit_nanos),
            "remaining_nanos": str(remaining),
            "needed_nanos": str(needed),
            "reset_time": reset,
        },
    )
