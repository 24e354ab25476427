"""One window of a budget as one process has it: what is leased, what its calls hold of that, and used up.

free = leased - used - held            what a hold can have without asking the store
room = free + left                     the most that could be held, as far as is known
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from gateway_server.call import BudgetLimit
from gateway_server.storage.budget_windows import WindowKey
from gateway_server.storage.budgets import LeaseWant, WindowState

#: How long a lease is kept that nobody holds; longer where it is a small share of what is left, since
#: whoever needs it all the same recalls it.
IDLE_SECONDS: Final = 2.0
_FAR_IDLE_SECONDS: Final = 30.0
_FAR_SHARE: Final = 1_000
#: A lease goes ahead of its need by what was spent in so many seconds.
_AHEAD_SECONDS: Final = 2.0
#: How long it is known what is left, while this process is the only one with a lease.
_KNOWN_SECONDS: Final = 1.0


@dataclass(slots=True)
class Pending:
    """What is to be done about windows of a process at the next tick."""

    #: The store may have more leased of them to this process than they count on.
    unheard: "set[LeasedWindow]" = field(default_factory=set)
    #: A share of the budget may be spent that no alert was raised for.
    reached: "set[LeasedWindow]" = field(default_factory=set)


@dataclass(slots=True, eq=False)
class LeasedWindow:
    """All amounts are in nanos; times are those of the monotonic clock."""

    key: WindowKey
    end_time: int
    limit: BudgetLimit
    #: When the limit was known to be the present one.
    limit_at: float
    pending: Pending
    touched_at: float
    #: When it is looked at next whether it is idle.
    look_at: float = 0.0
    leased: int = 0
    used: int = 0
    held: int = 0
    #: Batches that lower the lease by what was spent: how many began, and whether one is on its way.
    batches: int = 0
    is_settling: bool = False
    #: The last recall that was heard of, and until when what gets free is given back at once for it.
    recalled: int | None = None
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
    #: What was neither spent nor leased then, and what was dropped since. While nobody else had a lease then,
    #: others can only lessen it: for how long that is counted on.
    left: int = 0
    left_until: float = 0.0
    #: The percentages that an alert is known to be raised for.
    alerted: set[int] = field(default_factory=set)

    @property
    def free(self) -> int:
        """What a hold can have without asking the store."""
        return self.leased - self.used - self.held

    @property
    def room(self) -> int:
        """What could be held, with what was left in the store when it was last heard of."""
        return self.free + self.left

    @property
    def is_unsure(self) -> bool:
        """Whether more may be left than the store told, which cannot tell what was dropped from what a batch
        on its way has taken.
        """
        return self.is_settling and self in self.pending.unheard

    @property
    def idle_seconds(self) -> float:
        """How long what is leased is kept when nobody holds it."""
        left = self.limit.limit_nanos - self.spent
        return _FAR_IDLE_SECONDS if 0 < self.leased * _FAR_SHARE <= left else IDLE_SECONDS

    @property
    def is_empty(self) -> bool:
        """Whether nothing is lost by forgetting it."""
        return not (self.leased or self.used or self.held or self.wanted or self in self.pending.unheard)

    def change_limit(self, limit: BudgetLimit, told_at: float) -> None:
        """Goes by another limit from now on; of what was leased under a higher one, nothing is kept free."""
        self.limit_at = told_at
        if limit == self.limit:
            return
        if limit.limit_nanos < self.limit.limit_nanos:
            self.drop_free()
        self.left += limit.limit_nanos - self.limit.limit_nanos
        self.limit = limit
        self._look_for_alerts()

    def lease(self, needed: int) -> "Lease":
        """Begins to lease, so that ``needed`` is free here."""
        ahead = round(max(self.spent_before, self.spent_now) * _AHEAD_SECONDS)
        want = LeaseWant(
            window=self.key,
            end_time=self.end_time,
            limit_nanos=self.limit.limit_nanos,
            leased_nanos=self.leased,
            free_nanos=self.free,
            ahead_nanos=needed + ahead,
        )
        lease = Lease(self, want, was_heard=self not in self.pending.unheard, writing=self.writing())
        self.pending.unheard.add(self)  # until it is known what came of it
        return lease

    def writing(self) -> "Writing":
        """Begins to tell the store what is leased here."""
        return Writing(self, self.leased, None if self.is_settling else self.batches)

    def hold(self, nanos: int, now: float) -> None:
        """Sets aside what an attempt may cost; there is to be as much free."""
        self.held += nanos
        self.touched_at = now

    def end_hold(self, held: int, spent: int, now: float) -> None:
        """Takes what an attempt cost for what was held for it."""
        self.held -= held
        self.used += spent
        self._note_spent(spent, now)
        # Nothing of it is for the next attempt where the budget was lowered meanwhile.
        self.drop_free(at_most=self.spent + self.leased - self.limit.limit_nanos)

    def begin_settling(self) -> None:
        """Hears that the store is about to count what was used."""
        self.is_settling = True
        self.batches += 1

    def end_settling(self, nanos: int) -> None:
        """Hears that the store has counted so much of what was used, and took it out of the lease."""
        self.is_settling = False
        self.used -= nanos
        self.leased = max(self.leased - nanos, 0)

    def note_recall(self, recall: int, until: float) -> None:
        """Hears when the window was last recalled: if that is news, free money is for others until then."""
        if recall != self.recalled:  # clocks of databases may be set back
            self.recalled = recall
            self.recalled_until = until
            self.pending.unheard.add(self)

    def drop_free(self, *, at_most: int | None = None) -> None:
        """Counts no longer on what nobody holds; the store hears of it at the next lease or tick."""
        dropped = self.free if at_most is None else min(self.free, at_most)
        if dropped > 0:
            self.leased -= dropped
            self.left += dropped
            self.pending.unheard.add(self)

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

    def note_state(self, state: WindowState, *, dropped: int, now: float) -> None:
        """Hears how the store has the window, and that ``dropped`` of what it has as leased is free again."""
        self.leased += state.granted_nanos
        self.spent = state.spent_nanos
        self.touched_at = now
        if self.recalled is None:
            self.recalled = state.recall_time
        self.left = self.limit.limit_nanos - state.spent_nanos - state.leased_nanos + dropped
        is_known = not state.others_leased_nanos and not self.is_unsure
        self.left_until = now + _KNOWN_SECONDS if is_known else 0.0
        self._look_for_alerts()
        # What was spent without being held comes first.
        self.drop_free(at_most=state.spent_nanos + state.leased_nanos - self.limit.limit_nanos)

    def _look_for_alerts(self) -> None:
        if self.limit.alert_percentages and self.reached():
            self.pending.reached.add(self)

    def _note_spent(self, nanos: int, now: float) -> None:
        second = int(now)
        if second != self.second:
            self.spent_before = self.spent_now if second == self.second + 1 else 0
            self.spent_now = 0
            self.second = second
        self.spent_now += nanos


@dataclass(frozen=True, slots=True)
class Writing:
    """What is leased of a window, on its way into the store as an absolute number."""

    window: LeasedWindow
    leased: int
    #: Which batch was the last, None where that is on its way itself.
    batch: int | None

    @property
    def dropped(self) -> int:
        """How much less is counted on meanwhile."""
        return max(self.leased - self.window.leased, 0)

    def end(self, *, was_heard: bool = False) -> None:
        """The store has it. Where it had no more before, which ``was_heard`` tells, it has no more now.

        A batch that was on its way may have come first, and what was to be given back is there still.
        """
        window = self.window
        is_right = was_heard or (self.batch == window.batches and not window.is_settling)
        if is_right and not self.dropped:
            window.pending.unheard.discard(window)
        else:
            window.pending.unheard.add(window)


@dataclass(frozen=True, slots=True)
class Lease:
    """A want on its way to the store."""

    window: LeasedWindow
    want: LeaseWant
    was_heard: bool
    writing: Writing

    def end(self, state: WindowState, now: float) -> None:
        """Hears what the store made of it."""
        dropped = self.writing.dropped
        self.writing.end(was_heard=self.was_heard)
        self.window.note_state(state, dropped=dropped, now=now)


def free_of_all(windows: Iterable[LeasedWindow]) -> int:
    """What a hold on all of them can have without asking the store."""
    return min(window.free for window in windows)


def rooms_of(windows: Iterable[LeasedWindow]) -> dict[LeasedWindow, int]:
    """What could be held on each."""
    return {window: window.room for window in windows}


def want_windows(windows: Iterable[LeasedWindow], times: int) -> None:
    """Keeps windows from being forgotten while somebody waits with them in hand."""
    for window in windows:
        window.wanted += times
