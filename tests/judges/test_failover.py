"""A route over two judges: each fails in each way it can, as the first target and as the second.

What is expected of each failure stands in two tables. The other judge, when it comes first, refuses the
credential, which passes the call on at once; when it comes second, it answers.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from typing import Any, Final

import pytest
from google.protobuf.duration_pb2 import Duration

from aigateway import completion_text
from aigateway.v1.model_pb2 import Model, Price
from aigateway.v1.route_pb2 import RetryPolicy, Route, RouteTarget
from aigateway.v1.routing_pb2 import Attempt
from aigateway.v1.usage_service_pb2 import UsageRecord
from tests.gateway.callers import Caller, Outcome
from tests.judges.processes import Aimock, LLMock
from tests.judges.verdicts import (
    CREDENTIAL,
    LIMITED,
    NOTHING,
    PARTIAL,
    PROTOCOL,
    REJECTED,
    REPORTED,
    TIMEOUT,
    UNAVAILABLE,
    record_of,
)
from tests.support.gateway import Gateway

#: What the routes of this suite say; the gateway by itself tries once only.
TRIES: Final = 3
LONGEST_WAIT: Final = 0.1
POLICY: Final = RetryPolicy(
    max_attempts=TRIES,
    initial_backoff=Duration(nanos=4_000_000),
    max_backoff=Duration(nanos=round(LONGEST_WAIT * 1e9)),
)
PROVIDERS: Final = {"aimock": "aimock-vllm", "llmock": "llmock"}
ANSWERS: Final = {
    "aimock": "Grüße \U0001f600: light of short waves is scattered more than light of long ones.",
    "llmock": "one two three four five",
}
_numbers = itertools.count()


@dataclass(frozen=True)
class Failure:
    """How a judge fails every call, and what follows."""

    does: dict[str, Any]  # a fixture of aimock, a behaviour of llmock
    status: tuple[str, str]
    http_status: int = 0
    tries: int = TRIES
    tries_as_second: int = 0  # where that differs, since nobody is left to go on to
    goes_on: bool = True
    least_wait: float = 0.0  # before each retry, in seconds
    told: float | None = None  # when to come back, as the caller hears it
    usage: int = NOTHING  # of each try
    text: str = ""  # what the caller of a stream has read by then
    is_noted: bool = True  # in the judge's own book


@dataclass(frozen=True)
class Of:
    """What follows on a status, whoever sends it and without Retry-After."""

    status: tuple[str, str]
    tries: int = TRIES
    goes_on: bool = True
    code: str = ""


STATUSES: Final = {
    "400": Of(REJECTED, 1, goes_on=False),
    "400 too many tokens": Of(REJECTED, 1, code="context_length_exceeded"),
    "401": Of(CREDENTIAL, 1),
    "402": Of(LIMITED, 1),
    "403": Of(CREDENTIAL, 1),
    "404": Of(REJECTED, 1),
    "408": Of(UNAVAILABLE),
    "409": Of(UNAVAILABLE),
    "413": Of(REJECTED, 1),
    "422": Of(REJECTED, 1, goes_on=False),
    "500": Of(UNAVAILABLE),
    "502": Of(UNAVAILABLE),
}


def error(status: int, code: str = "", **fixture: Any) -> dict[str, Any]:
    """An error as aimock answers it."""
    told = {"message": "prv8secret", "type": "judge_error", **({"code": code} if code else {})}
    return {"response": {"error": told, "status": status, **fixture}}


def chaos(**chances: float) -> dict[str, Any]:
    """What aimock does in place of an answer."""
    return {"response": {"content": ANSWERS["aimock"]}, "chaos": chances}


def stream(**timing: Any) -> dict[str, Any]:
    """A stream of aimock's that ends or pauses as it should not."""
    return {"response": {"content": ANSWERS["aimock"]}, **timing}


def pauses(*milliseconds: int) -> dict[str, Any]:
    """Pauses before the chunks of a stream of aimock's."""
    first, *rest = milliseconds
    timings = {"ttftMs": first, "interChunkDelaysMs": rest, "totalDurationMs": sum(milliseconds)}
    return stream(recordedTimings=timings)


AIMOCK: Final = {
    **{
        name: Failure(error(int(name[:3]), of.code), of.status, int(name[:3]), of.tries, goes_on=of.goes_on)
        for name, of in STATUSES.items()
    },
    "503": Failure(error(503), UNAVAILABLE, 503),
    "529": Failure(error(529), UNAVAILABLE, 529),
    "429, soon again": Failure(error(429, retryAfter=0.05), LIMITED, 429, least_wait=0.05, told=0.05),
    # Longer than the longest back-off: waited for only where there is nobody else.
    "429": Failure(error(429), LIMITED, 429, tries=1, tries_as_second=TRIES, least_wait=1.0, told=1.0),
    "429, in a minute": Failure(error(429, retryAfter=60), LIMITED, 429, tries=1, told=60.0),
    "429, no quota": Failure(error(429, "insufficient_quota", retryAfter=60), LIMITED, 429, tries=1),
    "dropped": Failure(chaos(dropRate=1), UNAVAILABLE, 500),
    "disconnected": Failure(chaos(disconnectRate=1), UNAVAILABLE),
    "malformed": Failure(chaos(malformedRate=1), PROTOCOL, 200, usage=PARTIAL),
    # Whose caller has gone has never been, says aimock's book.
    "silent": Failure(chaos(latencyMs=4000), TIMEOUT, tries=1, usage=PARTIAL, is_noted=False),
}
#: aimock cuts the text into chunks of eight UTF-16 units; the chunk before them holds none. What it writes
#: last before it cuts is never sent.
AIMOCK_STREAMS: Final = {
    "cut at once": Failure(stream(truncateAfterChunks=1), UNAVAILABLE),
    "cut before any text": Failure(stream(truncateAfterChunks=2, latency=20), PROTOCOL, 200, usage=PARTIAL),
    "cut in the text": Failure(
        stream(truncateAfterChunks=4, latency=20),
        PROTOCOL,
        200,
        tries=1,
        goes_on=False,
        usage=PARTIAL,
        text=ANSWERS["aimock"][:15],
    ),
    "disconnected in the text": Failure(
        stream(disconnectAfterMs=250, latency=100),
        PROTOCOL,
        200,
        tries=1,
        goes_on=False,
        usage=PARTIAL,
        text=ANSWERS["aimock"][:7],
    ),
    "stalled at once": Failure(pauses(4000, 0), TIMEOUT, tries=1, usage=PARTIAL),
    "stalled before any text": Failure(pauses(0, 4000), TIMEOUT, 200, tries=1, usage=PARTIAL),
    "stalled in the text": Failure(
        pauses(0, 0, 0, 4000),
        TIMEOUT,
        200,
        tries=1,
        goes_on=False,
        usage=PARTIAL,
        text=ANSWERS["aimock"][:15],
    ),
}


def fail(status: int, code: str = "", **fields: Any) -> dict[str, Any]:
    """An error as llmock answers it; it sends Retry-After with those that are worth a retry."""
    return {"type": "fail", "status": status, **({"code": code} if code else {}), **fields}


LLMOCK: Final = {
    **{
        name: Failure(fail(int(name[:3]), of.code), of.status, int(name[:3]), of.tries, goes_on=of.goes_on)
        for name, of in STATUSES.items()
    },
    **{
        f"{status}, soon again": Failure(
            fail(status, retry_after=0.05), reason, status, least_wait=0.05, told=0.05
        )
        for status, reason in ((429, LIMITED), (503, UNAVAILABLE), (529, UNAVAILABLE))
    },
    "429": Failure(fail(429), LIMITED, 429, tries=1, tries_as_second=TRIES, least_wait=1.0, told=1.0),
    "429, in a minute": Failure(fail(429, retry_after=60), LIMITED, 429, tries=1, told=60.0),
    "429, no quota": Failure(fail(429, "insufficient_quota", retry_after=60), LIMITED, 429, tries=1),
    "silent": Failure({"type": "delay", "seconds": 1.8}, TIMEOUT, tries=1, usage=PARTIAL),
}
_BREAKS: Final = {
    "disconnect": (PROTOCOL, TRIES),
    "truncate": (PROTOCOL, TRIES),
    "malformed": (PROTOCOL, TRIES),
    "stall": (TIMEOUT, 1),
}


def broken(kind: str, *, after: int) -> dict[str, Any]:
    """A stream of llmock's that breaks after some chunks, of which the first holds no text."""
    return {"type": "stream_fault", "kind": kind, "after_chunks": after, "stall_seconds": 1.8}


LLMOCK_STREAMS: Final = {
    "slow first token": Failure(
        {"type": "slow_first_token", "seconds": 1.8}, TIMEOUT, 200, tries=1, usage=PARTIAL
    ),
    **{
        f"{kind} before any text": Failure(broken(kind, after=1), status, 200, tries, usage=PARTIAL)
        for kind, (status, tries) in _BREAKS.items()
    },
    **{
        f"{kind} in the text": Failure(
            broken(kind, after=3), status, 200, 1, goes_on=False, usage=PARTIAL, text="one two "
        )
        for kind, (status, _) in _BREAKS.items()
    },
}


@dataclass
class Judges:
    """Both judges behind one gateway, and a route to them that no other test knows."""

    gateway: Gateway
    aimock: Aimock
    llmock: LLMock
    route: str = ""
    order: list[str] = field(default_factory=list)
    _models: list[str] = field(default_factory=list)

    async def put(self, *order: str) -> None:
        """Makes a route of targets that nothing is known of, in this order."""
        number = next(_numbers)
        admin = self.gateway.client.admin
        price = Price(input_nanos_per_million=1_000_000_000, output_nanos_per_million=3_000_000_000)
        targets = []
        for name in order:
            model = Model(provider_model="chat-model", price=price)
            made = await admin.models.create(
                f"providers/{PROVIDERS[name]}", model, model_id=f"routed-{number}"
            )
            targets.append(RouteTarget(model=made.name))
            self._models.append(made.name)
        self.route = f"judged-{number}"
        self.order = [*order]
        await admin.routes.create(Route(targets=targets, retry_policy=POLICY), route_id=self.route)

    async def forget(self) -> None:
        """Deletes the route and its targets: the catalog is loaded anew at each change, and stays small."""
        admin = self.gateway.client.admin
        if self.route:
            await admin.routes.delete(f"routes/{self.route}")
        for model in self._models:
            await admin.models.delete(model)

    async def do(self, name: str, does: dict[str, Any], *, times: int | None = None) -> None:
        """Makes a judge do this to the next calls, or to all."""
        if name == "llmock":
            await self.llmock.behave(times=times, **does)
        elif times is None:
            await self.aimock.answer(**does)
        else:
            for each in range(times):
                await self.aimock.answer(**does, match={"sequenceIndex": each})

    async def serve(self, name: str) -> None:
        """Makes a judge answer what nothing else is said about."""
        if name == "llmock":
            await self.llmock.behave(type="reply", text=ANSWERS[name], times=None)
        else:
            await self.aimock.answer({"content": ANSWERS[name]})

    async def asked(self, name: str) -> int:
        """How many calls a judge has in its own book."""
        return len(await (self.llmock if name == "llmock" else self.aimock).requests())


@pytest.fixture
async def judges(gateway: Gateway, aimock: Aimock, llmock: LLMock) -> AsyncIterator[Judges]:
    made = Judges(gateway, aimock, llmock)
    yield made
    await made.forget()


#: Provider, reason and HTTP status of each attempt.
Attempts = list[tuple[str, str, int]]


def attempts_of(attempts: Iterable[Attempt]) -> Attempts:
    return [
        (each.provider.removeprefix("providers/"), each.error_reason, each.http_status) for each in attempts
    ]


def failing(name: str, failure: Failure, tries: int) -> Attempts:
    return [(PROVIDERS[name], failure.status[1], failure.http_status)] * tries


def served(name: str) -> Attempts:
    return [(PROVIDERS[name], "", 200)]


def refused(name: str) -> Attempts:
    return [(PROVIDERS[name], CREDENTIAL[1], 401)]


REFUSALS: Final = {"aimock": error(401), "llmock": fail(401)}
CASES: Final = [
    pytest.param(name, how, streams, id=f"{name}-{how}-{'stream' if streams else 'unary'}")
    for name, table, of_streams in (
        ("aimock", AIMOCK, AIMOCK_STREAMS),
        ("llmock", LLMOCK, LLMOCK_STREAMS),
    )
    for how, streams in (
        *((how, streams) for how in table for streams in (False, True)),
        *((how, True) for how in of_streams),
    )
]
ALL: Final = {
    "aimock": {**AIMOCK, **AIMOCK_STREAMS},
    "llmock": {**LLMOCK, **LLMOCK_STREAMS},
}


@pytest.mark.parametrize(("name", "how", "streams"), CASES)
async def test_what_the_first_fails_by_the_second_answers(
    judges: Judges, name: str, how: str, streams: bool
) -> None:
    failure, other = ALL[name][how], other_than(name)
    await judges.put(name, other)
    await judges.serve(other)
    await judges.do(name, failure.does)
    await judges.serve(name)

    outcome = await Caller(judges.gateway.client, streams).call(model=judges.route)

    expected = failing(name, failure, failure.tries)
    if failure.goes_on:
        await check_served(judges, outcome, [*expected, *served(other)], failure)
    else:
        await check_failed(judges, outcome, expected, failure)
    assert await judges.asked(name) == (failure.tries if failure.is_noted else 0)
    assert await judges.asked(other) == (1 if failure.goes_on else 0)


@pytest.mark.parametrize(("name", "how", "streams"), CASES)
async def test_what_the_second_fails_by_the_caller_is_told(
    judges: Judges, name: str, how: str, streams: bool
) -> None:
    failure, other = ALL[name][how], other_than(name)
    tries = failure.tries_as_second or failure.tries
    await judges.put(other, name)
    await judges.do(other, REFUSALS[other])
    await judges.do(name, failure.does)
    await judges.serve(name)

    outcome = await Caller(judges.gateway.client, streams).call(model=judges.route)

    await check_failed(judges, outcome, [*refused(other), *failing(name, failure, tries)], failure)
    assert await judges.asked(name) == (tries if failure.is_noted else 0)
    assert await judges.asked(other) == 1


@pytest.mark.parametrize("name", PROVIDERS)
async def test_who_comes_first_and_answers_is_the_only_one_asked(
    judges: Judges, caller: Caller, name: str
) -> None:
    await judges.put(name, other_than(name))
    await judges.serve(name)

    outcome = await caller.call(model=judges.route)

    await check_served(judges, outcome, served(name))
    assert (await judges.asked(name), await judges.asked(other_than(name))) == (1, 0)


@pytest.mark.parametrize("name", PROVIDERS)
async def test_who_serves_at_the_last_try_is_not_left(judges: Judges, caller: Caller, name: str) -> None:
    failure = ALL[name]["500"]
    await judges.put(name, other_than(name))
    await judges.do(name, failure.does, times=TRIES - 1)
    await judges.serve(name)

    outcome = await caller.call(model=judges.route)

    await check_served(judges, outcome, [*failing(name, failure, TRIES - 1), *served(name)], failure)
    assert await judges.asked(other_than(name)) == 0


@pytest.mark.parametrize("name", PROVIDERS)
async def test_when_both_fail_the_last_failure_and_the_whole_story_are_told(
    judges: Judges, caller: Caller, name: str
) -> None:
    first, second = ALL[name]["500"], ALL[other_than(name)]["429, soon again"]
    await judges.put(name, other_than(name))
    await judges.do(name, first.does)
    await judges.do(other_than(name), second.does)

    outcome = await caller.call(model=judges.route)

    expected = [*failing(name, first, TRIES), *failing(other_than(name), second, TRIES)]
    await check_failed(judges, outcome, expected, second, least_waits={PROVIDERS[name]: 0.0})


def other_than(name: str) -> str:
    """The other judge."""
    [other] = PROVIDERS.keys() - {name}
    return other


async def check_served(
    judges: Judges, outcome: Outcome, expected: Attempts, failure: Failure | None = None
) -> None:
    """The caller has one answer, of the last of these attempts, and the row tells them all."""
    answer = outcome.answer
    assert answer is not None, outcome.failure
    provider = expected[-1][0]
    [name] = [name for name, each in PROVIDERS.items() if each == provider]
    assert completion_text(answer) == ANSWERS[name]
    assert answer.served_by.provider == f"providers/{provider}"
    assert answer.model == judges.route
    if outcome.events:
        assert outcome.text == ANSWERS[name]
        assert [each.HasField("end") for each in outcome.events].count(True) == 1

    row = await record_of(judges.gateway, outcome.end_user_id)
    assert (row.status_code, row.error_reason) == (0, "")
    assert row.served_by == answer.served_by
    assert row.attempts[-1].usage == answer.usage
    assert answer.usage.state == REPORTED
    assert row.cost == answer.cost
    assert attempts_of(answer.attempts) == expected
    check_attempts(row, expected, failure)


async def check_failed(
    judges: Judges,
    outcome: Outcome,
    expected: Attempts,
    failure: Failure,
    *,
    least_waits: dict[str, float] | None = None,
) -> None:
    """The caller has the failure of the last of these attempts with the story of all, and so has the row."""
    told = outcome.failure
    assert told is not None, f"served {outcome.answer}"
    assert (told.code.name, told.reason) == failure.status, told
    assert told.metadata["provider"] == f"providers/{expected[-1][0]}"
    assert told.retry_after == (None if failure.told is None else pytest.approx(failure.told, rel=0.1))
    story = re.findall(r"([^/,]+)/chat-model=([A-Z_]+)/\d+ms(?:,|$)", told.metadata["attempts"])
    assert story == [(provider, reason) for provider, reason, _ in expected], told.metadata
    assert b"prv8secret" not in told.raw
    assert outcome.text == failure.text
    assert not outcome.has_end

    row = await record_of(judges.gateway, outcome.end_user_id)
    assert row.name.endswith(told.request_id)
    assert (row.status_code, row.error_reason) == (told.code.value[0], told.reason)
    check_attempts(row, expected, failure, least_waits=least_waits)


def check_attempts(
    row: UsageRecord,
    expected: Attempts,
    failure: Failure | None,
    *,
    least_waits: dict[str, float] | None = None,
) -> None:
    """Who was asked and how it ended, after which wait, and what each cost."""
    assert attempts_of(row.attempts) == expected
    assert sum(each.cost.total_nanos for each in row.attempts) == row.cost.total_nanos
    assert sum(each.usage.total_tokens for each in row.attempts) == row.usage.total_tokens
    before = ""
    for attempt in row.attempts:
        wait = attempt.wait.ToNanoseconds() / 1e9
        if attempt.provider != before:
            assert wait == 0
        elif failure is not None:
            least = (least_waits or {}).get(attempt.provider.removeprefix("providers/"), failure.least_wait)
            assert least <= wait <= max(LONGEST_WAIT, 1.2 * least)
        before = attempt.provider
        if failure is not None and attempt.error_reason == failure.status[1]:
            assert attempt.usage.state == failure.usage
            assert (attempt.cost.total_nanos > 0) is (failure.usage != NOTHING)
