"""The run: every server, every case, every number of callers, in turns, several times over."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Concatenate, Final, ParamSpec

from bench.cases import BURST, UNARY, Case
from bench.load import Sample, measure
from bench.subjects import EMPTY, GATEWAY, RELAY, Bench

UNARY_RATIO_LIMIT: Final = 2.5
DELTA_MICROSECONDS_LIMIT: Final = 40.0
DELTA_RATIO_LIMIT: Final = 0.5
FIRST_TOKEN_MILLISECONDS_LIMIT: Final = 1.0

_MAX_CALLS: Final = 200_000


@dataclass(frozen=True, slots=True)
class Plan:
    """How much to measure."""

    rounds: int
    seconds: float
    callers: tuple[int, ...]
    cases: tuple[Case, ...]
    #: Whether the servers have a CPU for themselves.
    pin: bool = False


@dataclass(frozen=True, slots=True)
class Spread:
    """A figure over all rounds: its median and its extremes."""

    median: float
    low: float
    high: float


#: All samples of one round.
Round = Sequence[Sample]
_P = ParamSpec("_P")


def run_rounds(bench: Bench, plan: Plan, tell: Callable[[str], None]) -> list[Round]:
    """Measures. Servers take turns within each cell, and the first of a cell is another one each round,
    so that what else the machine does falls on all of them alike.
    """
    rounds: list[Round] = []
    for number in range(plan.rounds):
        samples: list[Sample] = []
        turn = number % len(bench.subjects)
        order = (*bench.subjects[turn:], *bench.subjects[:turn])
        for callers in plan.callers:
            for case in plan.cases:
                tell(f"round {number + 1} of {plan.rounds}: {case.name}, {callers_text(callers)}")
                samples += [
                    measure(
                        subject,
                        case,
                        bench.upstream_pid,
                        callers=callers,
                        seconds=plan.seconds,
                        max_calls=_MAX_CALLS,
                    )
                    for subject in order
                ]
        rounds.append(samples)
    return rounds


def spread_of(
    rounds: Sequence[Round],
    figure: Callable[Concatenate[Round, _P], float],
    *args: _P.args,
    **kwargs: _P.kwargs,
) -> Spread:
    """A figure of each round, summed up."""
    values = [figure(samples, *args, **kwargs) for samples in rounds]
    return Spread(median(values), min(values), max(values))


def find(samples: Round, subject: str, case: Case, callers: int) -> Sample:
    """The sample of one cell."""
    for sample in samples:
        if (sample.subject, sample.case, sample.callers) == (subject, case.name, callers):
            return sample
    raise KeyError(f"{subject}, {case.name}, {callers_text(callers)} was not measured")


def cpu_us(samples: Round, subject: str, case: Case, callers: int) -> float:
    """CPU time of a call, in microseconds."""
    return find(samples, subject, case, callers).cpu_us


def cpu_ratio(samples: Round, case: Case, callers: int) -> float:
    """CPU time of a call through the gateway, in calls of the empty server."""
    return find(samples, GATEWAY, case, callers).cpu_us / find(samples, EMPTY, case, callers).cpu_us


def delta_cpu_us(samples: Round, subject: str, case: Case, callers: int) -> float:
    """CPU time that each delta of a stream adds to a call, in microseconds."""
    stream, unary = find(samples, subject, case, callers), find(samples, subject, UNARY, callers)
    return (stream.cpu_us - unary.cpu_us) / case.deltas


def first_token_delay_ms(samples: Round, case: Case, callers: int) -> float:
    """How much later the first token comes through the gateway than through the relay, in milliseconds."""
    gateway, relay = find(samples, GATEWAY, case, callers), find(samples, RELAY, case, callers)
    return (gateway.first_token.p50 - relay.first_token.p50) / 1000


def callers_text(callers: int) -> str:
    """How many, in words."""
    return "1 caller" if callers == 1 else f"{callers} callers"


@dataclass(frozen=True, slots=True)
class Verdict:
    """A target, what was found, and whether that is good enough."""

    target: str
    found: str
    reached: bool


def judge(rounds: Sequence[Round], plan: Plan) -> list[Verdict]:
    """Compares medians with the targets. What the plan leaves out is not judged."""
    verdicts = []
    for callers in plan.callers:
        if UNARY in plan.cases:
            verdicts.append(_judge_unary(rounds, callers))
        if {UNARY, BURST} <= set(plan.cases):
            verdicts.append(_judge_delta(rounds, callers))
    if 1 in plan.callers:
        verdicts += [_judge_first_token(rounds, case) for case in plan.cases if case.is_stream]
    return verdicts


def _judge_unary(rounds: Sequence[Round], callers: int) -> Verdict:
    ratio = spread_of(rounds, cpu_ratio, UNARY, callers)
    return Verdict(
        f"unary, {callers_text(callers)}: CPU at most {UNARY_RATIO_LIMIT} times the empty RPC",
        f"{ratio.median:.2f} times ({ratio.low:.2f} to {ratio.high:.2f})",
        ratio.median <= UNARY_RATIO_LIMIT,
    )


def _judge_delta(rounds: Sequence[Round], callers: int) -> Verdict:
    delta = spread_of(rounds, delta_cpu_us, GATEWAY, BURST, callers)
    empty = spread_of(rounds, delta_cpu_us, EMPTY, BURST, callers)
    return Verdict(
        f"burst, {callers_text(callers)}: CPU for a delta at most {DELTA_MICROSECONDS_LIMIT:.0f} us, or "
        f"{DELTA_RATIO_LIMIT} times an empty streamed message",
        f"{delta.median:.1f} us ({delta.low:.1f} to {delta.high:.1f}), "
        f"an empty message {empty.median:.1f} us",
        delta.median <= max(DELTA_MICROSECONDS_LIMIT, DELTA_RATIO_LIMIT * empty.median),
    )


def _judge_first_token(rounds: Sequence[Round], case: Case) -> Verdict:
    delay = spread_of(rounds, first_token_delay_ms, case, 1)
    return Verdict(
        f"{case.name}, 1 caller: first token at most {FIRST_TOKEN_MILLISECONDS_LIMIT:.0f} ms "
        "after the relay's",
        f"{delay.median:+.2f} ms ({delay.low:+.2f} to {delay.high:+.2f})",
        delay.median <= FIRST_TOKEN_MILLISECONDS_LIMIT,
    )
