"""One window of a budget as one process has it: what is leased, what its calls hold of that, and used up."""

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


@dataclass(slots=True, eq=False)
class LeasedWindow:
    """All amounts are in nanos; times are those of the monotonic clock."""

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
    #: A batch is on its way that lowers the lease by what was spent.
    charging: bool = False
    #: Leases were put right while such a batch may have been on its way: once more, after it.
    crossed: bool = False
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
    #: The most that was neither spent nor leased then, and how long that is known: nobody else had a lease,
    #: so all that others can do since is lessen it.
    left: int = 0
    left_until: float = 0.0
    #: The percentages that an alert is known to be raised for.
    alerted: set[int] = field(default_factory=set)

    @property
    def free(self) -> int:
        """What a hold can have without asking the store."""
        return self.leased - self.used - self.held

    @property
    def idle_seconds(self) -> float:
        """How long what is leased is kept when nobody holds it."""
        left = self.limit.limit_nanos - self.spent
        return _FAR_IDLE_SECONDS if self.leased * _FAR_SHARE <= left else IDLE_SECONDS

    def change_limit(self, limit: BudgetLimit, told_at: float) -> None:
        """Goes by another limit from now on; of what was leased under a higher one, nothing is kept free."""
        self.limit_at = told_at
        if limit.limit_nanos < self.limit.limit_nanos:
            self.drop_free()
        self.left += limit.limit_nanos - self.limit.limit_nanos
        self.limit = limit

    def want(self, needed: int) -> LeaseWant:
        """What to tell the store when calls need so much to be free here."""
        ahead = round(max(self.spent_before, self.spent_now) * _AHEAD_SECONDS)
        return LeaseWant(
            window=self.key,
            end_time=self.end_time,
            limit_nanos=self.limit.limit_nanos,
            leased_nanos=self.leased,
            free_nanos=self.free,
            ahead_nanos=needed + ahead,
        )

    def note_leased(self, want: LeaseWant, state: WindowState, now: float) -> None:
        """Hears what the store made of a want."""
        dropped = max(want.leased_nanos - self.leased, 0)
        self.unheard = dropped > 0
        self.leased += state.granted_nanos
        self.spent = state.spent_nanos
        self.touched_at = now
        if self.recalled is None:
            self.recalled = state.recall_time
        self.left = self.limit.limit_nanos - state.spent_nanos - state.leased_nanos + dropped
        self.left_until = now + _KNOWN_SECONDS if not state.others_leased_nanos else 0.0
        # What was spent without being held comes first.
        self.drop_free(at_most=state.spent_nanos + state.leased_nanos - self.limit.limit_nanos)

    def room(self, state: WindowState) -> int:
        """What could be held now: free here, or not leased to anybody."""
        return self.free + max(self.limit.limit_nanos - state.spent_nanos - state.leased_nanos, 0)

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

    def settling(self) -> None:
        """Hears that the store is about to count what was used."""
        self.charging = True
        self.crossed = self.crossed or self.unheard

    def settled(self, nanos: int) -> None:
        """Hears that the store has counted what was used, and took it out of the lease."""
        self.charging = False
        self.used -= nanos
        self.leased = max(self.leased - nanos, 0)
        self.unheard = self.unheard or self.crossed
        self.crossed = False

    def note_recall(self, recall: int, until: float) -> None:
        """Hears when the window was last recalled: if that is news, free money is for others until then."""
        if recall != (self.recalled or 0):  # clocks of databases may be set back
            self.recalled, self.unheard = recall, True
            self.recalled_until = until

    def drop_free(self, *, at_most: int | None = None) -> None:
        """Counts no longer on what nobody holds; the store hears of it at the next lease or tick."""
        dropped = self.free if at_most is None else min(self.free, at_most)
        if dropped > 0:
            self.leased -= dropped
            self.left += dropped
            self.unheard = True

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

    def _note_spent(self, nanos: int, now: float) -> None:
        second = int(now)
        if second != self.second:
            self.spent_before = self.spent_now if second == self.second + 1 else 0
            self.spent_now = 0
            self.second = second
        self.spent_now += nanos


def free_of_all(windows: Iterable[LeasedWindow]) -> int:
    """What a hold on all of them can have without asking the store."""
    return min(window.free for window in windows)


def known_rooms(windows: Iterable[LeasedWindow], now: float) -> dict[LeasedWindow, int]:
    """The most that could be held on those of which that is known without asking the store."""
    return {window: window.free + window.left for window in windows if now < window.left_until}


def want_windows(windows: Iterable[LeasedWindow], times: int) -> None:
    """Keeps windows from being forgotten while somebody waits with them in hand."""
    for window in windows:
        window.wanted += times
