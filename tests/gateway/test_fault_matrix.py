"""Each way in which a provider fails, at each place in a route, whole and streamed, over real sockets.

The targets before the one that fails refuse the credential, which passes the call on at once; those behind it
answer. What is expected of each failure stands in one table.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import re
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import ErrorInfo

from aigateway import errors
from aigateway.v1.chat_service_pb2 import ChatCompletion
from aigateway.v1.model_pb2 import Model, Price
from aigateway.v1.provider_pb2 import Provider
from aigateway.v1.route_pb2 import RetryPolicy, Route, RouteTarget
from aigateway.v1.usage_service_pb2 import UsageRecord
from tests.gateway.callers import Caller
from tests.support.gateway import Gateway, free_port, new_user, running_gateway
from tests.support.upstream import (
    FIRST,
    MODEL,
    Exchange,
    Script,
    Upstream,
    answer_well,
    completion,
    running_upstream,
    send_body,
    silent,
    text_chunk,
)

PATIENCE: Final = 0.25  # seconds for a first byte, and between two
TRIES: Final = 4


@dataclass(frozen=True)
class Failure:
    """How a provider fails, and what that means: tries at it, the reason, whether another target follows."""

    script: Script | str  # what the provider does, or which of those to ask that do not even take connections
    tries: int
    reason: str
    goes_on: bool = True
    least_wait: float = 0.0  # before each retry, in seconds
    has_content: bool = False  # the caller of a stream has part of the answer


async def reset_at_once(exchange: Exchange) -> None:
    exchange.reset()


async def reset_after_headers(exchange: Exchange) -> None:
    await exchange.head_of()
    exchange.reset()


async def stall_after_headers(exchange: Exchange) -> None:
    await exchange.head_of()
    await silent(exchange)


def refuse(status: int, code: str = "", *, headers: dict[str, str] | None = None) -> Script:
    async def script(exchange: Exchange) -> None:
        body = json.dumps({"error": {"message": "no", "type": code or "x", "code": code or None}}).encode()
        await send_body(exchange, body, status=status, headers=headers)

    return script


async def html(exchange: Exchange) -> None:
    await send_body(exchange, b"<html>Bad gateway</html>", status=502, content_type="text/html")


async def malformed(exchange: Exchange) -> None:
    if exchange.streams:
        await exchange.head_of()
        await exchange.send(b"data: {no json\n\n")
        await exchange.finish()
    else:
        await send_body(exchange, b'{"choices": [')


async def cut(exchange: Exchange) -> None:
    if exchange.streams:
        await exchange.head_of()
        await exchange.events(FIRST)
    else:
        body = json.dumps(completion()).encode()
        await exchange.head_of(content_type="application/json", length=len(body))
        await exchange.send(body[:-9])


async def cut_after_content(exchange: Exchange) -> None:
    await exchange.head_of()
    await exchange.events(FIRST, text_chunk("half an ans"))


async def stall_after_content(exchange: Exchange) -> None:
    await cut_after_content(exchange)
    await silent(exchange)


async def drip(exchange: Exchange) -> None:
    """Never pauses for long, and never says anything."""
    await exchange.head_of(content_type="text/event-stream" if exchange.streams else "application/json")
    while True:
        await exchange.send(b": wait\n\n" if exchange.streams else b" ")
        await asyncio.sleep(PATIENCE / 5)


UNAVAILABLE, LIMITED = "UPSTREAM_UNAVAILABLE", "UPSTREAM_RATE_LIMITED"
TIMEOUT, PROTOCOL = "UPSTREAM_TIMEOUT", "UPSTREAM_PROTOCOL_ERROR"

FAILURES: Final = {
    "refused": Failure("nobody", TRIES, UNAVAILABLE),
    "time-out of the connection": Failure("deaf", TRIES, TIMEOUT),
    "reset before the headers": Failure(reset_at_once, TRIES, UNAVAILABLE),
    "reset after the headers": Failure(reset_after_headers, TRIES, PROTOCOL),
    "time-out before the headers": Failure(silent, 1, TIMEOUT),
    "time-out after the headers": Failure(stall_after_headers, 1, TIMEOUT),
    "429": Failure(refuse(429), TRIES, LIMITED),
    "429, retry after 60 ms": Failure(
        refuse(429, headers={"retry-after-ms": "60"}), TRIES, LIMITED, least_wait=0.06
    ),
    "429, retry after an hour": Failure(refuse(429, headers={"retry-after": "3600"}), 1, LIMITED),
    "429, no quota": Failure(refuse(429, "insufficient_quota"), 1, LIMITED),
    "408": Failure(refuse(408), TRIES, UNAVAILABLE),
    "409": Failure(refuse(409), TRIES, UNAVAILABLE),
    "500": Failure(refuse(500), TRIES, UNAVAILABLE),
    "502 with HTML": Failure(html, TRIES, UNAVAILABLE),
    "529": Failure(refuse(529, "overloaded_error"), TRIES, UNAVAILABLE),
    "401": Failure(refuse(401), 1, "UPSTREAM_CREDENTIAL_REJECTED"),
    "403": Failure(refuse(403), 1, "UPSTREAM_CREDENTIAL_REJECTED"),
    "400": Failure(refuse(400, "invalid_request_error"), 1, "UPSTREAM_REJECTED", goes_on=False),
    "400, content refused": Failure(refuse(400, "content_filter"), 1, "UPSTREAM_REJECTED", goes_on=False),
    "400, too long": Failure(refuse(400, "context_length_exceeded"), 1, "UPSTREAM_REJECTED"),
    "404": Failure(refuse(404, "model_not_found"), 1, "UPSTREAM_REJECTED"),
    "malformed": Failure(malformed, TRIES, PROTOCOL),
    "cut": Failure(cut, TRIES, PROTOCOL),
    "slow drip": Failure(drip, 1, TIMEOUT),
}
OF_STREAMS: Final = {
    "cut after content": Failure(cut_after_content, 1, PROTOCOL, goes_on=False, has_content=True),
    "stall after content": Failure(stall_after_content, 1, TIMEOUT, goes_on=False, has_content=True),
}

PLACES: Final = ("first", "middle", "last")
_numbers = itertools.count()
#: Names of models and routes that the gateway of the module has.
_made: list[str] = []


@pytest.fixture(scope="module")
async def routed(
    tmp_path_factory: pytest.TempPathFactory, upstreams: dict[str, Upstream], deaf_port: int
) -> AsyncIterator[Gateway]:
    async with running_gateway(
        tmp_path_factory.mktemp("routed") / "state",
        upstream_connect_seconds=PATIENCE,
        upstream_first_byte_seconds=PATIENCE,
        upstream_idle_seconds=PATIENCE,
        retry_max_attempts=TRIES,
        retry_initial_backoff_ms=4,
        target_breaker=True,
    ) as gateway:
        for place in PLACES:
            await add_provider(gateway, place, upstreams[place].base_url)
        await add_provider(gateway, "nobody", f"http://127.0.0.1:{free_port()}/v1")
        await add_provider(gateway, "deaf", f"http://127.0.0.1:{deaf_port}/v1")
        yield gateway


@pytest.fixture(autouse=True)
async def forget_routes(routed: Gateway) -> AsyncIterator[None]:
    """Keeps the catalog small, which is loaded anew whenever it changes."""
    yield
    admin = routed.client.admin
    while _made:
        name = _made.pop()
        await (admin.routes if name.startswith("routes/") else admin.models).delete(name)


@pytest.fixture(scope="module")
def deaf_port() -> Iterator[int]:
    """A port whose queue of connections is full for good: one more gets no answer, as from a dead host."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port: int = listener.getsockname()[1]
        for _ in range(16):
            one_more = stack.enter_context(socket.socket())
            one_more.settimeout(0.2)
            try:
                one_more.connect(("127.0.0.1", port))
            except TimeoutError:
                yield port
                return
        raise AssertionError("this system takes connections without end that nobody accepts")


@pytest.fixture(scope="module")
async def upstreams() -> AsyncIterator[dict[str, Upstream]]:
    async with running_upstream() as first, running_upstream() as middle, running_upstream() as last:
        yield {"first": first, "middle": middle, "last": last}


async def add_provider(gateway: Gateway, name: str, base_url: str) -> None:
    provider = Provider(provider_type="vllm", base_url=base_url)
    await gateway.client.admin.providers.create(provider, provider_id=name)


async def add_target(gateway: Gateway, provider: str, model_id: str) -> RouteTarget:
    price = Price(input_nanos_per_million=1_000_000_000, output_nanos_per_million=2_000_000_000)
    model = await gateway.client.admin.models.create(
        f"providers/{provider}", Model(provider_model=MODEL, price=price), model_id=model_id
    )
    return RouteTarget(model=model.name)


async def make_route(
    gateway: Gateway, upstreams: dict[str, Upstream], failure: Failure, place: str
) -> tuple[str, list[str]]:
    """A route of three targets that no call knows yet, one of which fails so; its name and the providers."""
    number = next(_numbers)
    providers = list(PLACES)
    for each in PLACES:
        upstreams[each].reset()
        upstreams[each].script = refuse(401) if PLACES.index(each) < PLACES.index(place) else answer_well
    if isinstance(failure.script, str):
        providers[PLACES.index(place)] = failure.script
        upstreams[place].script = answer_well
    else:
        upstreams[place].script = failure.script
    targets = [await add_target(gateway, provider, f"m{number}") for provider in providers]
    policy = RetryPolicy(attempt_timeout=Duration(nanos=round(3 * PATIENCE * 1e9)))
    await gateway.client.admin.routes.create(
        Route(targets=targets, retry_policy=policy), route_id=f"route-{number}"
    )
    _made.extend([*(target.model for target in targets), f"routes/route-{number}"])
    return f"route-{number}", providers


async def ask(gateway: Gateway, route: str, user: str, *, streams: bool) -> ChatCompletion:
    chat = gateway.client.chat
    if not streams:
        return await chat.create(route, "hello", end_user_id=user)
    async with chat.stream(route, "hello", end_user_id=user) as stream:
        try:
            return await stream.final_completion()
        except errors.GatewayError as error:
            error.partial = stream.completion  # type: ignore[attr-defined]
            raise


def expected_attempts(failure: Failure, place: str, providers: list[str]) -> list[tuple[str, str]]:
    before = [(name, "UPSTREAM_CREDENTIAL_REJECTED") for name in providers[: PLACES.index(place)]]
    failing = [(providers[PLACES.index(place)], failure.reason)] * failure.tries
    behind = providers[PLACES.index(place) + 1 :]
    served = [(behind[0], "")] if behind and failure.goes_on else []
    return before + failing + served


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(
    ("name", "streams"),
    [
        *((name, streams) for name in FAILURES for streams in (False, True)),
        *((name, True) for name in OF_STREAMS),
    ],
)
async def test_a_failure_leads_to_what_the_table_says(
    routed: Gateway, upstreams: dict[str, Upstream], name: str, streams: bool, place: str
) -> None:
    failure = {**FAILURES, **OF_STREAMS}[name]
    route, providers = await make_route(routed, upstreams, failure, place)
    user = new_user()
    expected = expected_attempts(failure, place, providers)
    if expected[-1][1]:
        with pytest.raises(errors.GatewayError) as caught:
            await ask(routed, route, user, streams=streams)
        check_error(caught.value, expected, failure)
        check_record(await routed.ledger.wait_one(user), expected, failure)
    else:
        answer = await ask(routed, route, user, streams=streams)
        record = await routed.ledger.wait_one(user)
        check_record(record, expected, failure)
        assert answer.choices[0].message.parts[0].text.text == "Hello there"
        assert answer.served_by.provider == f"providers/{expected[-1][0]}"
        assert [(each.provider.partition("/")[2], each.error_reason) for each in answer.attempts] == expected
        assert answer.cost.total_nanos == record.cost.total_nanos


def check_error(error: errors.GatewayError, expected: list[tuple[str, str]], failure: Failure) -> None:
    assert error.reason == failure.reason
    story = [each.partition("/")[0] for each in error.metadata["attempts"].split(",")]
    assert story == [name for name, _ in expected]
    if failure.has_content:
        partial = error.partial  # type: ignore[attr-defined]
        assert partial.choices[0].message.parts[0].text.text == "half an ans"


def check_record(record: UsageRecord, expected: list[tuple[str, str]], failure: Failure) -> None:
    attempts = [(each.provider.partition("/")[2], each.error_reason) for each in record.attempts]
    assert attempts == expected
    assert record.error_reason == expected[-1][1]
    assert sum(each.cost.total_nanos for each in record.attempts) == record.cost.total_nanos
    assert sum(each.usage.total_tokens for each in record.attempts) == record.usage.total_tokens
    before: str | None = None
    for attempt in record.attempts:
        is_retry = attempt.provider == before
        wait = attempt.wait.ToNanoseconds() / 1e9
        assert wait >= failure.least_wait if is_retry else wait == 0
        before = attempt.provider


async def test_the_picture_of_three_providers(routed: Gateway, upstreams: dict[str, Upstream]) -> None:
    """The first fails once and in three retries, so does the second, and the third answers."""
    failure = Failure(refuse(503), TRIES, UNAVAILABLE)
    route, providers = await make_route(routed, upstreams, failure, "middle")
    upstreams["first"].script = refuse(503)
    user = new_user()
    answer = await ask(routed, route, user, streams=False)
    assert [len(upstreams[place].exchanges) for place in PLACES] == [4, 4, 1]
    assert len(answer.attempts) == 9
    record = await routed.ledger.wait_one(user)
    assert [each.provider for each in record.attempts] == [
        f"providers/{name}" for name in [providers[0]] * 4 + [providers[1]] * 4 + [providers[2]]
    ]
    assert record.status_code == 0
    assert record.served_by.provider == f"providers/{providers[2]}"


async def test_a_wait_that_does_not_fit_into_the_deadline_is_not_begun(
    routed: Gateway, upstreams: dict[str, Upstream]
) -> None:
    failure = Failure(refuse(429, headers={"retry-after": "5"}), 1, LIMITED)
    route, _ = await make_route(routed, upstreams, failure, "last")
    started = asyncio.get_running_loop().time()
    with pytest.raises(errors.GatewayError) as caught:
        await routed.client.chat.create(route, "hello", timeout=2)
    assert asyncio.get_running_loop().time() - started < 1.5
    assert caught.value.reason == LIMITED
    assert caught.value.retry_after == pytest.approx(5, abs=0.5)


async def test_a_cancel_between_two_tries_is_the_end(routed: Gateway, upstreams: dict[str, Upstream]) -> None:
    failure = Failure(refuse(429, headers={"retry-after": "2"}), 1, LIMITED)
    route, _ = await make_route(routed, upstreams, failure, "last")
    user = new_user()
    call = asyncio.create_task(routed.client.chat.create(route, "hello", end_user_id=user))
    await upstreams["last"].next()
    await asyncio.sleep(0.1)
    call.cancel()
    record = await routed.ledger.wait_one(user)
    assert record.error_reason == "CANCELLED"
    assert len(upstreams["last"].exchanges) == 1


async def test_a_failed_attempt_that_is_billed_is_paid_for(
    routed: Gateway, upstreams: dict[str, Upstream]
) -> None:
    """A time-out after the request was taken may be billed, so it is in the ledger at an estimate."""
    route, _ = await make_route(routed, upstreams, FAILURES["time-out before the headers"], "first")
    user = new_user()
    answer = await ask(routed, route, user, streams=False)
    record = await routed.ledger.wait_one(user)
    lost, served = record.attempts
    assert lost.cost.estimated
    assert lost.cost.total_nanos > 0
    assert served.cost.total_nanos > 0
    assert answer.cost.total_nanos == lost.cost.total_nanos + served.cost.total_nanos


async def test_a_connection_that_nobody_takes_costs_a_second_and_no_money(
    routed: Gateway, upstreams: dict[str, Upstream]
) -> None:
    route, _ = await make_route(routed, upstreams, FAILURES["time-out of the connection"], "first")
    user = new_user()
    started = asyncio.get_running_loop().time()
    answer = await ask(routed, route, user, streams=False)
    assert TRIES * PATIENCE <= asyncio.get_running_loop().time() - started < TRIES * PATIENCE + 1
    record = await routed.ledger.wait_one(user)
    *lost, served = record.attempts
    assert len(lost) == TRIES
    assert all(each.cost.total_nanos == 0 for each in lost)
    assert answer.cost.total_nanos == served.cost.total_nanos > 0

    route, _ = await make_route(routed, upstreams, FAILURES["time-out of the connection"], "last")
    with pytest.raises(errors.GatewayError) as caught:
        await ask(routed, route, new_user(), streams=False)
    assert caught.value.metadata["phase"] == "connect"


async def test_the_first_content_is_waited_for_as_long_as_the_route_says(
    routed: Gateway, upstreams: dict[str, Upstream]
) -> None:
    """Less long than for anything at all: the first chunk of a stream holds no content."""

    async def hesitate(exchange: Exchange) -> None:
        await exchange.head_of()
        await exchange.events(FIRST)
        await silent(exchange)

    route, providers = await make_route(routed, upstreams, Failure(hesitate, 1, TIMEOUT), "first")
    kept = await routed.client.admin.routes.get(f"routes/{route}")
    kept.retry_policy.first_token_timeout.FromMilliseconds(100)
    await routed.client.admin.routes.update(kept, update_mask=["retry_policy"])
    user = new_user()
    answer = await ask(routed, route, user, streams=True)
    assert answer.served_by.provider == f"providers/{providers[1]}"
    lost, _ = (await routed.ledger.wait_one(user)).attempts
    assert lost.error_reason == TIMEOUT
    assert 0.1 <= lost.latency.ToNanoseconds() / 1e9 < PATIENCE


async def test_fallback_can_be_switched_off(routed: Gateway, upstreams: dict[str, Upstream]) -> None:
    route, providers = await make_route(routed, upstreams, FAILURES["500"], "first")
    options = {"disable_fallback": True}
    with pytest.raises(errors.GatewayError) as caught:
        await routed.client.chat.create(route, "hello", gateway_options=options)  # type: ignore[arg-type]
    assert caught.value.metadata["attempts"].count(providers[0]) == TRIES
    assert not upstreams["middle"].exchanges


@pytest.mark.parametrize("count", [24, 60, 300])
async def test_the_story_of_many_attempts_is_told_to_its_end(
    tmp_path: Path, upstreams: dict[str, Upstream], count: int
) -> None:
    """In a header that every peer takes: what does not fit is the beginning."""
    upstream = upstreams["first"]
    upstream.script = refuse(401)
    async with running_gateway(tmp_path / "state", target_breaker=True) as gateway:
        provider = "provider-with-a-rather-long-name"
        await add_provider(gateway, provider, upstream.base_url)
        targets = [await add_target(gateway, provider, f"m{number}") for number in range(count)]
        await gateway.client.admin.routes.create(Route(targets=targets), route_id="long")
        failure = (await Caller(gateway.client, streams=False).call(model="long")).failure
    assert failure is not None
    assert len(ErrorInfo(reason=failure.reason, metadata=failure.metadata).SerializeToString()) < 4096
    first, *told = failure.metadata["attempts"].split(",")
    entry = re.compile(rf"{provider}/{MODEL}=UPSTREAM_CREDENTIAL_REJECTED/\d+ms")
    assert all(entry.fullmatch(each) for each in told), told[-1]
    if count == 24:
        assert entry.fullmatch(first)
        assert len(told) == count - 1
    else:
        assert first == f"{count - len(told)} more"
    assert failure.metadata["http_status"] == "401", "the rest is there beside it"
