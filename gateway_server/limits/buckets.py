"""The state of limits in the memory of one process, and the one step that takes from all of them or none.

A limit of n in a minute is a bucket that holds n and drains by n a minute: GCRA, with what is in the bucket
instead of the time at which it will be empty (https://en.wikipedia.org/wiki/Generic_cell_rate_algorithm).
Levels are whole numbers of units times ``MINUTE``, times are whole microseconds, so that nothing is ever
rounded: in one microsecond a bucket drains by exactly its limit.

A limit may change. A bucket drains by the limit that the last call came with; the next may come with
another, and a bucket whose limit is lowered is at most full then.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

from gateway_server.limits.checks import CONCURRENT, MINUTE, Check, Refusal, Taken


@dataclass(slots=True)
class _Bucket:
    """``level`` as it was ``at`` some time, which drains by ``limit``.

    ``leases`` are the ends of calls under way, by the call's id.
    """

    level: int = 0
    at: int = 0
    limit: int = 0
    leases: dict[str, int] = field(default_factory=dict)

    def drain(self, now: int) -> None:
        self.level = max(self.level - max(now - self.at, 0) * self.limit, 0)
        self.at = now

    def level_under(self, limit: int) -> int:
        """The level if ``limit`` was the bucket's from now on: at most full, where that is a lower one."""
        return min(self.level, limit * MINUTE) if limit < self.limit else self.level

    def change(self, limit: int) -> None:
        self.level = self.level_under(limit)
        self.limit = limit

    def correct(self, correction: int, limit: int) -> None:
        """Adds what a call that was taken under ``limit`` used beyond its cost.

        That may leave a debt, but not when the limit was lowered meanwhile: it fills the bucket then, as if
        the call had ended before. An empty bucket goes by the limit of whoever comes first, as a new one.
        """
        if not self.level:
            self.limit = limit
        level = max(self.level + correction * MINUTE, 0)
        if limit > self.limit:
            level = min(level, max(self.level, self.limit * MINUTE))
        self.level = level

    def is_idle(self, now: int) -> bool:
        if self.leases:
            return all(end <= now for end in self.leases.values())
        return self.level <= max(now - self.at, 0) * self.limit


class Buckets:
    """All limits of a process; what is idle is forgotten as calls come."""

    def __init__(self) -> None:
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def take(self, checks: Sequence[Check], lease: str, *, now: int, lease_end: int) -> Taken:
        """Takes what every check asks for, or nothing.

        ``lease`` is the call's id, whose places are free again at ``lease_end`` whatever becomes of it.
        """
        self._forget_idle(now, len(checks) + 1)
        buckets = [self._bucket(check.key) for check in checks]
        refusals = []
        for check, bucket in zip(checks, buckets, strict=True):
            if check.kind == CONCURRENT:
                if not _has_place(bucket, check.limit, now):
                    refusals.append(Refusal(check, None))
                continue
            bucket.drain(now)
            bucket.change(check.limit)
            excess = bucket.level + check.cost * MINUTE - check.limit * MINUTE
            if excess > 0:
                refusals.append(Refusal(check, -(-excess // check.limit) if check.limit else None))
        if refusals:
            return Taken(refusals, [])
        remaining = []
        for check, bucket in zip(checks, buckets, strict=True):
            if check.kind == CONCURRENT:
                bucket.leases[lease] = lease_end
                remaining.append(check.limit - len(bucket.leases))
            else:
                bucket.level += check.cost * MINUTE
                remaining.append(check.limit - -(-bucket.level // MINUTE))
        return Taken([], remaining)

    def settle(self, checks: Sequence[Check], lease: str, corrections: Sequence[int], *, now: int) -> None:
        """Ends a call: frees its places, and adds what it took beyond each check's cost."""
        for check, correction in zip(checks, corrections, strict=True):
            bucket = self._buckets.get(check.key)
            if bucket is None:
                if correction <= 0 or check.kind == CONCURRENT:
                    continue
                self._forget_idle(now, 2)
                bucket = self._bucket(check.key)
            if check.kind == CONCURRENT:
                bucket.leases.pop(lease, None)
            elif correction:
                bucket.drain(now)
                bucket.correct(correction, check.limit)

    def used(self, check: Check, *, now: int) -> int:
        """How much of a limit is used up: whole units, or calls under way."""
        bucket = self._buckets.get(check.key)
        if bucket is None:
            return 0
        if check.kind == CONCURRENT:
            return sum(end > now for end in bucket.leases.values())
        bucket.drain(now)
        return -(-bucket.level_under(check.limit) // MINUTE)

    def _bucket(self, key: str) -> _Bucket:
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = self._buckets[key] = _Bucket()
        else:
            self._buckets.move_to_end(key)
        return bucket

    def _forget_idle(self, now: int, count: int) -> None:
        """Looks at ``count`` that were not used or looked at for longest.

        One more than are made next, so that what is idle goes faster than it comes. None is skipped for one
        before it that is busy: a debt, or the place of a long call, may last for hours.
        """
        buckets = self._buckets
        for _ in range(min(count, len(buckets))):
            key = next(iter(buckets))
            if buckets[key].is_idle(now):
                del buckets[key]
            else:
                buckets.move_to_end(key)


def _has_place(bucket: _Bucket, limit: int, now: int) -> bool:
    if len(bucket.leases) < limit:
        return True
    for lease in [each for each, end in bucket.leases.items() if end <= now]:
        del bucket.leases[lease]
    return len(bucket.leases) < limit
