"""The budgets of one process: what is leased to it, what its calls hold of that, and what they used up.

In every window, ``used + held <= leased`` here and ``spent + leased <= limit`` in the store; so what is spent
and held never exceeds a limit, whatever dies when. See docs/decisions/money.md.
"""

import asyncio
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from aigateway.v1.error_reason_pb2 import ErrorReason
from aigateway.v1.model_pb2 import Model
from aigateway.v1.usage_service_pb2 import LimitKind, LimitUsage
from gateway_server.call import BudgetLimit, CallContext
from gateway_server.clock import Clock
from gateway_server.errors import GatewayError, deadline_exceeded
from gateway_server.limits.budgets import Hold
from gateway_server.limits.windows import window_of
from gateway_server.metrics import Metrics
from gateway_server.storage.budget_windows import WindowKey
from gateway_server.storage.budgets import BudgetRepository, LeaseWant, WindowState
from gateway_server.storage.changes import Changes
from gateway_server.storage.spendings import Alert
from gateway_server.storage.times import micros_of_seconds, timestamp_of_micros
from gateway_server.tasks import end_task
from gateway_server.usage.ceiling import NOTHING, TokenCeiling, least_nanos, limit_output, most_nanos

_LOG: Final = logging.getLogger(__name__)

_TICK_SECONDS: Final = 0.25
#: How long a lease is kept that nobody holds; longer where it is a small share of what is left, since
#: whoever needs it all the same recalls it.
_IDLE_SECONDS: Final = 2.0
_FAR_IDLE_SECONDS: Final = 30.0
_FAR_SHARE: Final = 1_000
#: How long a call waits for leases that others do not hold, and how often it looks.
_RECALL_SECONDS: Final = 2.0
_RECALL_POLL_SECONDS: Final = 0.1
#: After a wait in vain, calls wait so long only, for as long: the others hold what they have, and give it
#: back at their next tick once they do not.
_RECALL_AGAIN_SECONDS: Final = 0.6
_IN_VAIN_SECONDS: Final = 2.0
#: For how many tenants one transaction leases: all of them wait for the last.
_MOST_TOGETHER: Final = 4
#: A lease goes ahead of its need by what was spent in so many seconds.
_AHEAD_SECONDS: Final = 2.0

#: How often and how long a moment is waited for in which the books here and in the store can be compared.
_QUIET_LOOKS: Final = 50
_QUIET_SECONDS: Final = 0.01

_KINDS: Final = {"day": LimitKind.LIMIT_KIND_DAILY_BUDGET, "month": LimitKind.LIMIT_KIND_MONTHLY_BUDGET}


@dataclass(slots=True, eq=False)
class _Window:
    """One window as this process has it; all amounts in nanos."""

    key: WindowKey
    end_time: int
    limit: BudgetLimit
    #: When the call began that told the limit.
    limit_at: float
    leased: int = 0
    used: int = 0
    held: int = 0
    touched_at: float = 0.0
    #: The store may have more leased to this process than ``leased``.
    unheard: bool = False
    #: Leases were put right while a batch that lowers them may have been on its way: once more, after it.
    crossed: bool = False
    #: The last recall that was heard of, and until when what gets free is given back at once for it.
    recalled: int = 0
    recalled_until: float = 0.0
    #: When this process last recalled, and until when it need not wait long again.
    asked_at: float = -1.0
    in_vain_until: float = 0.0
    #: How many calls and lease operations count on finding it here.
    wanted: int = 0
    #: What was spent in the second before the current one, and in it.
    second: int = 0
    spent_before: int = 0
    spent_now: int = 0
    #: What all processes had spent when the store was last heard of.
    spent: int = 0
    #: The percentages that an alert is known to be raised for.
    alerted: set[int] = field(default_factory=set)

    @property
    def free(self) -> int:
        return self.leased - self.used - self.held

    @property
    def idle_seconds(self) -> float:
        """How long what is leased is kept when nobody holds it."""
        left = self.limit.limit_nanos - self.spent
        return _FAR_IDLE_SECONDS if self.leased * _FAR_SHARE <= left else _IDLE_SECONDS

    def note_leased(self, want: LeaseWant, state: WindowState, now: float) -> None:
        """Hears what the store made of a want."""
        self.unheard = self.leased < want.leased_nanos
        self.leased += state.granted_nanos
        self.spent = state.spent_nanos
        self.touched_at = now
        overdrawn = state.spent_nanos + state.leased_nanos - self.limit.limit_nanos
        _drop_free(self, at_most=overdrawn)  # what was spent without being held comes first

    def note_spent(self, nanos: int, now: float) -> None:
        second = int(now)
        if second != self.second:
            self.spent_before = self.spent_now if second == self.second + 1 else 0
            self.spent_now = 0
            self.second = second
        self.spent_now += nanos

    def thresholds(self) -> list[tuple[int, int]]:
        """The percentages at which alerts are raised, with their nanos."""
        return [
            (percentage, self.limit.limit_nanos * percentage // 100)
            for percentage in self.limit.alert_percentages
        ]

    def reached(self) -> list[tuple[int, int]]:
        """Those of the thresholds that are behind, and that no alert is known to be raised for."""
        return [
            (percentage, nanos)
            for percentage, nanos in self.thresholds()
            if nanos <= self.spent and percentage not in self.alerted
        ]

    def ahead(self) -> int:
        """What is worth leasing beyond a need."""
        return round(max(self.spent_before, self.spent_now) * _AHEAD_SECONDS)


_States = Mapping[WindowKey, WindowState]


@dataclass(frozen=True, slots=True, eq=False)
class _Asked:
    """So much is to be free in all of some windows of one tenant. The answer is how they stand, empty if it
    was free already.
    """

    windows: list[_Window]
    need: int
    answer: asyncio.Future[_States]

    @property
    def tenant_id(self) -> str:
        return self.windows[0].key.tenant_id

    @property
    def is_met(self) -> bool:
        return min(window.free for window in self.windows) >= self.need


class BudgetBook:
    """Holds money for calls. Its owner starts and closes it; safe on one event loop."""

    def __init__(
        self, repository: BudgetRepository, gateway_id: str, *, clock: Clock, metrics: Metrics
    ) -> None:
        self._repository = repository
        self._gateway_id = gateway_id
        self._clock = clock
        self._metrics = metrics
        self._windows: dict[WindowKey, _Window] = {}
        #: One transaction on leases at a time; whoever asks meanwhile goes with the next.
        self._turn = asyncio.Lock()
        self._asked: list[_Asked] = []
        self._leaser: asyncio.Task[None] | None = None
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
        if min(window.free for window in windows) < most:
            _want(windows, 1)
            try:
                limited = await self._make_room(call, windows, model, ceiling)
            finally:
                _want(windows, -1)
            if limited is not ceiling:
                ceiling, most = limited, most_nanos(limited, model.price)
        # No await since there was room.
        now = self._clock.monotonic()
        for window in windows:
            window.held += most
            window.touched_at = now

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
            if window is not None and window.limit.alert_percentages:
                found[key] = window.thresholds()
        return found

    def settled(self, charges: Mapping[WindowKey, int], alerts: Sequence[Alert] = ()) -> None:
        """Hears that the store has counted what calls spent, and took it out of the leases."""
        self._is_settling = False
        for key, nanos in charges.items():
            window = self._windows.get(key)
            if window is not None:
                window.used -= nanos
                window.leased = max(window.leased - nanos, 0)
                window.unheard = window.unheard or window.crossed
                window.crossed = False
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
                _drop_free(window)

    async def start(self) -> None:
        """Begins to give back what is recalled or idle."""
        self._ticker = asyncio.create_task(self._tick_for_ever(), name="budgets")

    async def close(self) -> None:
        """Stops, and waits for what is under way; the leases go with the process's registration."""
        if self._ticker is not None:
            await end_task(self._ticker)
            self._ticker = None
        if self._leaser is not None:
            await asyncio.wait([self._leaser])

    async def tick(self) -> None:
        """Gives back what was recalled, what is idle, and what windows had that have ended; raises alerts."""
        leased = [window for window in self._windows.values() if window.leased or window.unheard]
        if leased:
            recalls = await self._repository.read_recalls(self._gateway_id)
            now = self._clock.monotonic()
            for window in leased:
                recall = recalls.get(window.key, 0)
                if recall != window.recalled:  # clocks of databases may be set back
                    window.recalled, window.unheard = recall, True
                    window.recalled_until = now + _RECALL_SECONDS
                if now < window.recalled_until or now - window.touched_at > window.idle_seconds:
                    _drop_free(window)
            if unheard := [window for window in leased if window.unheard]:
                await self._keep(unheard)
        await self._raise_alerts()
        self._forget_ended()

    async def _raise_alerts(self) -> None:
        """Those for what others have spent: a process that was killed, or swept, tells nobody."""
        reached = {window: fresh for window in self._windows.values() if (fresh := window.reached())}
        if reached:
            alerts = await self._repository.raise_alerts({window.key: reached[window] for window in reached})
            self._tell(alerts)
            for window, thresholds in reached.items():
                window.alerted.update(percentage for percentage, _ in thresholds)

    def _windows_of(self, budgets: Sequence[BudgetLimit], call: CallContext) -> list[_Window]:
        """The windows that a call began in. What later calls know of a budget is newer: it stays."""
        micros = micros_of_seconds(call.start_time)
        windows = []
        for budget in budgets:
            start, end = window_of(micros, period=budget.period, time_zone=budget.time_zone)
            key = WindowKey(budget.tenant_id, budget.api_key_id, budget.period, start)
            window = self._windows.get(key)
            if window is None:
                window = self._windows[key] = _Window(key, end, budget, call.started_at)
            elif call.started_at >= window.limit_at:
                window.limit_at = call.started_at
                if budget.limit_nanos < window.limit.limit_nanos:
                    _drop_free(window)
                window.limit = budget
            windows.append(window)
        return windows

    async def _make_room(
        self, call: CallContext, windows: list[_Window], model: Model, ceiling: TokenCeiling
    ) -> TokenCeiling:
        """Returns, without an await after there was room for it, the ceiling that the budgets pay for.

        Raises BUDGET_EXCEEDED, DEADLINE_EXCEEDED.
        """
        most = most_nanos(ceiling, model.price)
        least = least_nanos(ceiling, model.price)
        now = self._clock.monotonic()
        in_vain = any(now < window.in_vain_until for window in windows)
        patience = _RECALL_AGAIN_SECONDS if in_vain else min(_RECALL_SECONDS, call.remaining() / 2)
        # Sooner, others may not have heard of the recall: a refusal would be false, the deadline is not.
        give_up_at = now + max(patience, _RECALL_AGAIN_SECONDS)
        need, limited = most, ceiling
        while True:
            states = await self._lease(windows, need)
            if min(window.free for window in windows) >= need:
                return limited
            if not states:
                continue  # there was room, and somebody else was quicker
            rooms = {window.key: _room_of(window, states[window.key]) for window in windows}
            if await self._recall(
                [window for window in windows if rooms[window.key] < most], states, give_up_at
            ):
                if call.remaining() <= 0:
                    raise deadline_exceeded(call.timeout)
                need, limited = most, ceiling
                continue
            affordable = limit_output(ceiling, model.price, min(rooms.values()))
            if affordable is None:
                tightest = min(windows, key=lambda window: rooms[window.key])
                raise _exceeded(tightest, remaining=max(rooms[tightest.key], 0), needed=least)
            limited, need = affordable, most_nanos(affordable, model.price)

    async def _recall(self, tight: list[_Window], states: _States, give_up_at: float) -> bool:
        """Asks others for what they have of windows without room and waits a moment; False if no use."""
        now = self._clock.monotonic()
        elsewhere = [window for window in tight if states[window.key].others_leased_nanos > 0]
        if not elsewhere:
            return False
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

    async def _lease(self, windows: list[_Window], need: int) -> _States:
        """Leases what is missing for ``need`` on all windows, or on none; how the windows stand."""
        asked = _Asked(windows, need, asyncio.get_running_loop().create_future())
        self._asked.append(asked)
        _want(windows, 1)
        asked.answer.add_done_callback(lambda answer: _end_asked(asked, answer))
        if self._leaser is None or self._leaser.done():
            self._leaser = asyncio.create_task(self._lease_asked(), name="budget leases")
        return await asyncio.shield(asked.answer)  # a caller that leaves must not lose what was granted

    async def _lease_asked(self) -> None:
        while self._asked:
            async with self._turn:
                together = self._take_asked()
                try:
                    await self._lease_together(together)
                except Exception as error:  # noqa: BLE001 -- whoever waits must hear of whatever it is
                    for each in together:
                        if not each.answer.done():
                            each.answer.set_exception(error)

    def _take_asked(self) -> list[_Asked]:
        """Those whose turn it is: the first of each tenant, as their windows may be the same."""
        first: dict[str, _Asked] = {}
        for asked in self._asked:
            if len(first) < _MOST_TOGETHER:
                first.setdefault(asked.tenant_id, asked)
        self._asked = [asked for asked in self._asked if first.get(asked.tenant_id) is not asked]
        return list(first.values())

    async def _lease_together(self, together: Sequence[_Asked]) -> None:
        for asked in together:
            if asked.is_met:
                asked.answer.set_result({})
        unmet = [asked for asked in together if not asked.answer.done()]
        if not unmet:
            return
        wants = {window: _want_of(window, asked.need) for asked in unmet for window in asked.windows}
        for window in wants:
            window.crossed = window.crossed or (window.unheard and window.used > 0)
            window.unheard = True
        states = await self._repository.extend(self._gateway_id, list(wants.values()))
        now = self._clock.monotonic()
        for window, want in wants.items():
            window.note_leased(want, states[window.key], now)
        for asked in unmet:
            asked.answer.set_result(states)

    async def _keep(self, windows: list[_Window]) -> None:
        async with self._turn:
            kept = {window.key: window.leased for window in windows}
            for window in windows:
                window.crossed = window.used > 0
            await self._repository.keep(self._gateway_id, kept)
            for window in windows:
                window.unheard = window.leased < kept[window.key]

    def _end_hold(self, windows: list[_Window], held: int, spent: int) -> None:
        now = self._clock.monotonic()
        for window in windows:
            window.held -= held
            window.used += spent
            window.note_spent(spent, now)
            # Nothing of it is for the next attempt where the budget was lowered meanwhile.
            _drop_free(window, at_most=window.spent + window.leased - window.limit.limit_nanos)
        if spent > held:
            self._metrics.count_budget_overrun()
            _LOG.error(
                "an attempt of tenants/%s cost %d nanos and was held to %d",
                windows[0].key.tenant_id,
                spent,
                held,
            )

    def _forget_ended(self) -> None:
        now = micros_of_seconds(self._clock.now())
        ended = [
            window.key
            for window in self._windows.values()
            if not (window.leased or window.used or window.held or window.unheard or window.wanted)
            and (window.end_time <= now or self._clock.monotonic() - window.touched_at > _IDLE_SECONDS)
        ]
        for key in ended:
            del self._windows[key]

    async def _tick_for_ever(self) -> None:
        while True:
            await asyncio.sleep(_TICK_SECONDS)
            try:
                await self.tick()
            except GatewayError as error:
                _LOG.warning("leases on budgets cannot be given back yet: %s", error.message)
            except Exception:  # noqa: BLE001 -- without this task, others would wait for idle leases
                _LOG.exception("giving back leases on budgets failed")


def _want(windows: Iterable[_Window], times: int) -> None:
    """Keeps windows from being forgotten while somebody waits with them in hand."""
    for window in windows:
        window.wanted += times


def _end_asked(asked: _Asked, answer: asyncio.Future[_States]) -> None:
    _want(asked.windows, -1)
    if not answer.cancelled():
        answer.exception()  # whoever waits has it; nobody may


def _want_of(window: _Window, need: int) -> LeaseWant:
    """What it takes for ``need`` to be free in a window, and for some more where there is plenty."""
    missing = max(need - window.free, 0)
    return LeaseWant(
        window=window.key,
        end_time=window.end_time,
        limit_nanos=window.limit.limit_nanos,
        leased_nanos=window.leased,
        need_nanos=missing,
        ahead_nanos=max(need + window.ahead() - window.free, missing),
    )


def _drop_free(window: _Window, *, at_most: int | None = None) -> None:
    """Counts no longer on what nobody holds; the store hears of it at the next lease or tick."""
    dropped = window.free if at_most is None else min(window.free, at_most)
    if dropped > 0:
        window.leased -= dropped
        window.unheard = True


def _room_of(window: _Window, state: WindowState) -> int:
    """What could be held on the window now: free here, or not leased to anybody."""
    left = window.limit.limit_nanos - state.spent_nanos - state.leased_nanos
    return window.free + max(left, 0)


def _check_unpriced(budgets: Sequence[BudgetLimit], model: Model) -> None:
    for budget in budgets:
        if not budget.allow_unpriced_models:
            raise GatewayError(
                ErrorReason.ERROR_REASON_MODEL_UNPRICED,
                f"{model.name} has no price, and the budget of {budget.owner} does not allow such models",
                metadata={"model": model.name, "owner": budget.owner},
            )


def _exceeded(window: _Window, *, remaining: int, needed: int) -> GatewayError:
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
