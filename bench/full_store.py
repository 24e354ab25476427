"""What calls cost through a gateway whose store is full, beside one whose store is empty.

Both have all limits and budgets, on tenants that made calls before and on new keys of theirs. The callers of
one gateway share 16 keys of 16 tenants, so that each batch of the ledger touches the sums of all of these.
Ratios are made within a round.
"""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from statistics import median
from typing import ClassVar, Final, Generic, TypeVar

from aigateway.v1.api_key_pb2 import ApiKey
from bench.cases import UNARY
from bench.children import resident_bytes
from bench.comparison import Plan, Round, find, run_rounds
from bench.gateways import FAR_BUDGET, FAR_LIMITS, administered, start_gateway
from bench.load import Sample
from bench.subjects import Bench, Subject, check_answer, start_upstream

T = TypeVar("T")

_CALLERS: Final = (1, 16, 64)
_TENANTS: Final = 16
#: What a gateway puts off longer than a measurement waits, such as giving leases back.
_REST_SECONDS: Final = 3.0


@dataclass(frozen=True, slots=True)
class Stores(Generic[T]):
    """Something of the empty and of the full store."""

    NAMES: ClassVar = ("empty", "full")

    empty: T
    full: T

    def __iter__(self) -> Iterator[T]:
        yield self.empty
        yield self.full


#: What is compared, of a sample.
_FIGURES: Final[Sequence[tuple[str, Callable[[Sample], float]]]] = (
    ("CPU, us", lambda sample: sample.cpu_us),
    ("p50, ms", lambda sample: sample.total.p50 / 1000),
    ("p99, ms", lambda sample: sample.total.p99 / 1000),
)


def measure_full_store(urls: Stores[str], *, rounds: int, seconds: float) -> str:
    """A table of calls through gateways on the two stores, which have the tenants of ``bench.filling``.

    In brackets: the middle half of the rounds.
    """
    plan = Plan(rounds, seconds, callers=_CALLERS, cases=(UNARY,))
    with ExitStack() as stack:
        upstream, base_url = start_upstream(stack)
        subjects = [_start(stack, name, url, base_url) for name, url in zip(Stores.NAMES, urls, strict=True)]
        memory_before = [resident_bytes(subject.pid) for subject in subjects]
        samples = run_rounds(
            Bench(upstream.pid, tuple(subjects)), plan, lambda text: print(text, file=sys.stderr)
        )
        time.sleep(_REST_SECONDS)
        memory = [resident_bytes(subject.pid) for subject in subjects]
    lines = [
        "| Callers | What | empty store | full store | full / empty |",
        "| --- | --- | --- | --- | --- |",
    ]
    lines += [_row(samples, callers, name, figure) for callers in _CALLERS for name, figure in _FIGURES]
    for when, found in (("at the start", memory_before), ("at the end", memory)):
        empty, full = (each / 2**20 for each in found)
        lines.append(f"| | memory {when}, MiB | {empty:.1f} | {full:.1f} | {full / empty:.2f} |")
    return "\n".join(lines)


def _start(stack: ExitStack, name: str, url: str, base_url: str) -> Subject:
    gateway = start_gateway(stack, settings={"AIGW_DATABASE_URL": url})
    keys = []
    with administered(gateway) as admin:
        admin.add_provider(base_url)
        for number in range(_TENANTS):
            tenant = f"tenants/t{number}"
            admin.limit_tenant(tenant, FAR_LIMITS, FAR_BUDGET)
            keys.append(admin.add_key(tenant, ApiKey(rate_limits_override=FAR_LIMITS, budget=FAR_BUDGET)))
    subject = Subject(name, gateway.pid, gateway.port, "\n".join(keys))
    check_answer(subject, UNARY)
    return subject


def _row(samples: Sequence[Round], callers: int, name: str, figure: Callable[[Sample], float]) -> str:
    empty, full = (
        [figure(find(each, subject, UNARY, callers)) for each in samples] for subject in Stores.NAMES
    )
    ratios = sorted(one / other for one, other in zip(full, empty, strict=True))
    middle = ratios[len(ratios) // 4 : len(ratios) - len(ratios) // 4]
    digits = 0 if name.startswith("CPU") else 2
    return (
        f"| {callers} | {name} | {median(empty):.{digits}f} | {median(full):.{digits}f} "
        f"| {median(ratios):.2f} ({middle[0]:.2f} to {middle[-1]:.2f}) |"
    )
