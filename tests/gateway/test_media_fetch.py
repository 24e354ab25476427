"""Media by address that the gateway fetches for providers that take bytes only: off, on, and attacked."""

from __future__ import annotations

import asyncio
import itertools
from base64 import b64decode
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, Final

import grpc
import pytest

from aigateway import messages
from aigateway.v1.api_key_pb2 import ApiKey
from aigateway.v1.chat_service_pb2 import CountTokensRequest
from aigateway.v1.content_pb2 import AudioPart, ContentPart, ImagePart, MediaSource, Message, VideoPart
from aigateway.v1.guardrail_profile_pb2 import GuardrailProfile, GuardrailRule, PatternDetector
from aigateway.v1.model_pb2 import Model
from aigateway.v1.permission_pb2 import Scope
from aigateway.v1.provider_pb2 import Provider
from aigateway.v1.route_pb2 import Route, RouteTarget
from aigateway.v1.routing_pb2 import BreakerState, GatewayOptions, GuardrailAction
from aigateway.v1.tenant_pb2 import RateLimits, Tenant
from tests.gateway.callers import Caller, Outcome
from tests.support.gateway import Gateway, client_of, running_gateway
from tests.support.media_host import (
    ADDRESS,
    HOST,
    PDF,
    PNG,
    WAV,
    Internet,
    MediaHost,
    answer,
    endless,
    running_internet,
    silent,
)
from tests.support.statuses import read_failure
from tests.support.upstream import (
    MODEL,
    Exchange,
    Upstream,
    answer_well,
    running_upstream,
    send_body,
    send_json,
)

#: Providers that answer at the test's upstream: two that take documents and sound as bytes only, one that
#: takes sound by address, and Gemini, which wants to know the type of what it fetches.
PROVIDERS: Final = {"one": "openai", "two": "openai", "fetches": "vllm", "gemini": "google"}
_numbers = itertools.count()


@pytest.fixture(scope="module")
async def shared_internet(
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[tuple[MediaHost, Internet]]:
    async with running_internet(tmp_path_factory.mktemp("media")) as both:
        yield both


@pytest.fixture
def host(shared_internet: tuple[MediaHost, Internet]) -> MediaHost:
    shared_internet[0].reset()
    return shared_internet[0]


@pytest.fixture(autouse=True)
def internet(shared_internet: tuple[MediaHost, Internet], host: MediaHost) -> Internet:
    shared_internet[1].reset()
    return shared_internet[1]


@pytest.fixture(scope="module")
async def provider_of_all() -> AsyncIterator[Upstream]:
    async with running_upstream() as upstream:
        yield upstream


@pytest.fixture
def provider(provider_of_all: Upstream) -> Upstream:
    provider_of_all.reset()
    return provider_of_all


async def add_providers(gateway: Gateway, upstream: Upstream) -> None:
    admin = gateway.client.admin
    for name, provider_type in PROVIDERS.items():
        await admin.providers.create(
            Provider(provider_type=provider_type, base_url=upstream.base_url, credential="sk-test"),
            provider_id=name,
        )
        await admin.models.create(f"providers/{name}", Model(provider_model=MODEL), model_id="m")


@pytest.fixture(scope="module")
async def fetching(
    tmp_path_factory: pytest.TempPathFactory,
    shared_internet: tuple[MediaHost, Internet],
    provider_of_all: Upstream,
) -> AsyncIterator[Gateway]:
    async with running_gateway(
        tmp_path_factory.mktemp("fetching") / "state",
        shared_internet[1].network,
        media_fetch=True,
        media_fetch_max_bytes=100_000,
        media_fetch_timeout=1.5,
        target_breaker=True,
    ) as gateway:
        await add_providers(gateway, provider_of_all)
        yield gateway


@pytest.fixture(params=[False, True], ids=["whole", "streamed"])
def caller(fetching: Gateway, request: pytest.FixtureRequest) -> Caller:
    return Caller(fetching.client, request.param)


def uri_of(path: str) -> str:
    return f"https://{HOST}{path}"


def paper(path: str = "/paper", *, uri: str = "", mime_type: str = "") -> ContentPart:
    part = messages.document_url(uri or uri_of(path))
    part.document.source.mime_type = mime_type
    return part


def sound(path: str = "/sound", mime_type: str = "") -> ContentPart:
    return ContentPart(audio=AudioPart(source=MediaSource(uri=uri_of(path), mime_type=mime_type)))


def picture(path: str = "/picture", mime_type: str = "") -> ContentPart:
    return ContentPart(image=ImagePart(source=MediaSource(uri=uri_of(path), mime_type=mime_type)))


async def ask(caller: Caller, *parts: ContentPart, model: str = "one/m") -> Outcome:
    return await caller.call(model=model, messages=[messages.user("Look", *parts)])


def content_of(exchange: Exchange) -> list[dict[str, Any]]:
    content = exchange.json["messages"][0]["content"]
    assert isinstance(content, list)
    return content


async def add_route(gateway: Gateway, *providers: str) -> str:
    route_id = f"media-{next(_numbers)}"
    targets = [RouteTarget(model=f"providers/{name}/models/m") for name in providers]
    await gateway.client.admin.routes.create(Route(targets=targets), route_id=route_id)
    return route_id


# Off and on.


async def test_it_is_off_unless_an_operator_turns_it_on(
    state_dir: Path, host: MediaHost, internet: Internet, provider: Upstream
) -> None:
    async with running_gateway(state_dir, internet.network) as gateway:
        await add_providers(gateway, provider)
        for streams in (False, True):
            caller = Caller(gateway.client, streams)
            for part, feature in (
                (paper(), "document parts by address"),
                (sound(), "audio other than inline WAV and MP3"),
            ):
                outcome = await ask(caller, part)
                assert outcome.failure is not None
                assert outcome.failure.reason == "FEATURE_NOT_SUPPORTED"
                assert outcome.failure.metadata["feature"] == feature
    assert (internet.lookups, host.connections, provider.exchanges) == ([], 0, [])


async def test_a_provider_that_takes_bytes_only_gets_what_is_at_the_address(
    caller: Caller, host: MediaHost, internet: Internet, provider: Upstream
) -> None:
    outcome = await ask(caller, paper(), sound())
    assert outcome.failure is None
    _, document, audio = content_of(provider.exchanges.pop())
    kind, _, data = document["file"]["file_data"].partition(",")
    assert (kind, b64decode(data)) == ("data:application/pdf;base64", PDF)
    assert audio["input_audio"]["format"] == "wav"
    assert b64decode(audio["input_audio"]["data"]) == WAV
    assert sorted(host.asked) == ["/paper", "/sound"]
    assert all(headers["host"] == HOST for _, headers in host.requests)
    assert internet.reached == [ADDRESS, ADDRESS]


async def test_a_provider_that_fetches_gets_the_address(
    caller: Caller, host: MediaHost, internet: Internet, provider: Upstream
) -> None:
    outcome = await ask(caller, picture(), sound(), model="fetches/m")
    assert outcome.failure is None
    _, image, audio = content_of(provider.exchanges.pop())
    assert image["image_url"]["url"] == uri_of("/picture")
    assert audio["audio_url"]["url"] == uri_of("/sound")
    # So does one that takes other media as bytes only.
    outcome = await ask(caller, picture(), model="one/m")
    assert outcome.failure is None
    assert content_of(provider.exchanges.pop())[1]["image_url"]["url"] == uri_of("/picture")
    assert (internet.lookups, host.connections) == ([], 0)


async def test_media_that_a_tool_returned_are_fetched_too(
    fetching: Gateway, host: MediaHost, provider: Upstream
) -> None:
    async def answer_as_gemini(exchange: Exchange) -> None:
        await send_json(exchange, {"candidates": [GEMINI_CANDIDATE], "usageMetadata": {}})

    provider.script = answer_as_gemini
    await fetching.client.admin.models.create(
        "providers/gemini", Model(provider_model="gemini-3-flash"), model_id="gemini-3"
    )
    call = ContentPart()
    call.tool_call.tool_call_id, call.tool_call.tool_name, call.tool_call.arguments = "c", "look", "{}"
    turns: list[Message] = [
        messages.user("Look"),
        messages.assistant(call),
        messages.tool_result("c", "Here", picture()),
    ]
    turns[-1].parts[0].tool_result.tool_name = "look"
    model = "gemini/gemini-3"
    outcome = await Caller(fetching.client, streams=False).call(
        model=model, messages=turns, tools=[messages.function_tool("look")]
    )
    assert outcome.failure is None
    [inline] = provider.exchanges.pop().json["contents"][-1]["parts"][0]["functionResponse"]["parts"]
    assert inline["inlineData"]["mimeType"] == "image/png"
    assert b64decode(inline["inlineData"]["data"]) == PNG
    assert host.asked == ["/picture"]


GEMINI_CANDIDATE: Final = {
    "content": {"role": "model", "parts": [{"text": "Hi"}]},
    "finishReason": "STOP",
}


async def test_counting_tokens_counts_what_is_at_the_address(
    fetching: Gateway, host: MediaHost, provider: Upstream
) -> None:
    async def count(exchange: Exchange) -> None:
        await send_json(exchange, {"totalTokens": 77})

    provider.script = count
    chat, metadata = fetching.client.stubs.chat, fetching.client.metadata

    def request(part: ContentPart) -> CountTokensRequest:
        return CountTokensRequest(model="gemini/m", messages=[messages.user("Look", part)])

    counted = await chat.CountTokens(request(picture()), metadata=metadata, timeout=20)
    assert (counted.input_tokens, counted.estimated) == (77, False)
    [sent] = [each for each in walk(provider.exchanges.pop().json) if "inlineData" in each]
    assert b64decode(sent["inlineData"]["data"]) == PNG
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await chat.CountTokens(request(picture("/nothing")), metadata=metadata, timeout=20)
    assert read_failure(raised.value).reason == "INVALID_REQUEST"
    assert provider.exchanges == []
    # With its type the address itself is sent.
    await chat.CountTokens(request(picture(mime_type="image/png")), metadata=metadata, timeout=20)
    assert uri_of("/picture").encode() in provider.exchanges.pop().body
    assert host.asked == ["/picture", "/nothing"]


def walk(value: object) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
        for each in value.values():
            yield from walk(each)
    elif isinstance(value, list):
        for each in value:
            yield from walk(each)


# What it is told to be.


@pytest.mark.parametrize(
    ("told", "sent"), [("", "text/plain"), ("text/markdown", "text/markdown"), ("text/x; a=b", "text/x; a=b")]
)
async def test_the_type_that_a_request_gives_goes_before_that_of_the_server(
    fetching: Gateway, host: MediaHost, provider: Upstream, told: str, sent: str
) -> None:
    host.paths["/notes"] = answer(b"notes", "text/plain; charset=utf-8")
    outcome = await ask(Caller(fetching.client, streams=False), paper("/notes", mime_type=told))
    assert outcome.failure is None
    file_data = content_of(provider.exchanges.pop())[1]["file"]["file_data"]
    assert file_data.startswith(f"data:{sent};base64,")


async def test_types_that_contradict_each_other_are_refused(caller: Caller, provider: Upstream) -> None:
    outcome = await ask(caller, paper(mime_type="text/plain"))
    assert outcome.failure is not None
    assert outcome.failure.reason == "INVALID_REQUEST"
    assert outcome.failure.violations == {
        "messages[0].parts[1].document.source.mime_type": "is not the kind of media that is at the address"
    }
    assert provider.exchanges == []


# Refusals.


async def redirect_to_metadata(host: MediaHost, writer: asyncio.StreamWriter) -> None:
    await answer(b"", status=302, headers={"location": "http://169.254.169.254/latest"})(host, writer)


@pytest.mark.parametrize(
    ("serve", "why"),
    [
        (redirect_to_metadata, "has a server that answers with a redirect, and none is followed"),
        (answer(b"no", "application/pdf", status=404), "has a server that answers with status 404"),
        (answer(b"<p>", "application/xhtml+xml"), "has a server that gives no media type of a document part"),
        (answer(PDF), "has a server that gives no media type of a document part"),
        (answer(b"x" * 100_001, "application/pdf"), "exceeds the limit of 100000 bytes for fetched media"),
        (endless("application/pdf"), "exceeds the limit of 100000 bytes for fetched media"),
        (endless("application/pdf", pause=0.05), "could not be fetched within 1.5 s"),
        (silent, "could not be fetched within 1.5 s"),
        (
            answer(PDF, "application/pdf", headers={"content-encoding": "gzip"}),
            "has a server that encodes what it sends, unasked",
        ),
    ],
)
async def test_what_cannot_be_fetched_is_a_fault_of_the_request(
    caller: Caller, host: MediaHost, internet: Internet, provider: Upstream, serve: Any, why: str
) -> None:
    host.paths["/paper"] = serve
    outcome = await ask(caller, paper())
    assert_refused(outcome, why, internet)
    assert host.asked == ["/paper"]
    assert provider.exchanges == []
    await host.left()


def assert_refused(outcome: Outcome, why: str, internet: Internet) -> None:
    failure = outcome.failure
    assert failure is not None
    assert failure.code == grpc.StatusCode.INVALID_ARGUMENT
    assert failure.reason == "INVALID_REQUEST"
    assert failure.violations == {"messages[0].parts[1].document.source.uri": why}
    for secret in ("127.0.0.1", "10.0.0.7", "169.254", ADDRESS, str(internet.port)):
        assert secret not in str(failure)


@pytest.mark.parametrize(
    "addresses",
    [
        ["127.0.0.1"],
        ["10.0.0.7"],
        ["169.254.169.254"],
        [ADDRESS, "10.0.0.7"],
        ["::1"],
        ["::ffff:10.0.0.7"],
        [],
    ],
)
async def test_a_host_at_a_private_address_is_not_asked(
    caller: Caller, host: MediaHost, internet: Internet, provider: Upstream, addresses: list[str]
) -> None:
    internet.names[HOST] = [addresses]
    assert_refused(await ask(caller, paper()), "has a host without a public address", internet)
    assert (internet.reached, host.connections, provider.exchanges) == ([], 0, [])


async def test_a_name_that_moves_to_a_private_address_gains_nothing(
    caller: Caller, host: MediaHost, internet: Internet, provider: Upstream
) -> None:
    internet.names[HOST] = [[ADDRESS], ["127.0.0.1"], ["169.254.169.254"]]
    outcome = await ask(caller, paper())
    assert outcome.failure is None
    assert (internet.lookups, internet.reached) == ([HOST], [ADDRESS])


@pytest.mark.parametrize(
    ("uri", "why"),
    [
        (f"http://{HOST}/paper", "is not an https address, and no others are fetched"),
        (f"https://{HOST}:8443/paper", "names another port than 443"),
        (f"https://me:secret@{HOST}/paper", "holds a user name or password"),
        ("https://127.0.0.1/paper", "has a host without a public address"),
        ("https://[::1]/paper", "has a host without a public address"),
        ("https://localhost/paper", "has a host without a public address"),
        ("https:///paper", "has no host"),
    ],
)
async def test_some_addresses_are_never_fetched(
    caller: Caller, host: MediaHost, internet: Internet, provider: Upstream, uri: str, why: str
) -> None:
    internet.names |= {"127.0.0.1": [["127.0.0.1"]], "::1": [["::1"]], "localhost": [["127.0.0.1"]]}
    outcome = await ask(caller, paper(uri=uri))
    assert_refused(outcome, why, internet)
    assert "secret" not in str(outcome.failure)
    assert (internet.reached, host.connections, provider.exchanges) == ([], 0, [])


@pytest.mark.parametrize("uri", ["file:///etc/passwd", "gopher://h/_", "/etc/passwd", f"//{HOST}/paper"])
async def test_addresses_that_are_not_of_the_web_are_refused_as_ever(
    caller: Caller, internet: Internet, uri: str
) -> None:
    outcome = await ask(caller, paper(uri=uri))
    assert outcome.failure is not None
    assert outcome.failure.reason == "FEATURE_NOT_SUPPORTED"
    assert internet.lookups == []


async def test_what_a_target_does_not_take_at_all_is_not_fetched(
    caller: Caller, host: MediaHost, internet: Internet
) -> None:
    film = ContentPart(video=VideoPart(source=MediaSource(uri=uri_of("/film"), mime_type="video/mp4")))
    for model, part in (
        ("one/m", film),
        ("one/m", sound(mime_type="audio/ogg")),
        ("fetches/m", paper()),
    ):
        outcome = await ask(caller, part, model=model)
        assert outcome.failure is not None
        assert outcome.failure.reason == "FEATURE_NOT_SUPPORTED"
    assert (internet.lookups, host.connections) == ([], 0)


# Several addresses.


async def test_an_address_that_comes_twice_is_fetched_once(
    caller: Caller, host: MediaHost, provider: Upstream
) -> None:
    outcome = await ask(caller, paper(), paper(), paper())
    assert outcome.failure is None
    assert len({block["file"]["file_data"] for block in content_of(provider.exchanges.pop())[1:]}) == 1
    assert host.asked == ["/paper"]


async def test_few_are_fetched_at_the_same_time(caller: Caller, host: MediaHost) -> None:
    async def slowly(host: MediaHost, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.03)
        await answer(PDF, "application/pdf")(host, writer)

    paths = [f"/{number}" for number in range(12)]
    host.paths |= dict.fromkeys(paths, slowly)
    outcome = await ask(caller, *(paper(path) for path in paths))
    assert outcome.failure is None
    assert sorted(host.asked) == sorted(paths)
    assert host.most_busy == 4


async def test_their_number_is_limited(caller: Caller, host: MediaHost, internet: Internet) -> None:
    outcome = await ask(caller, *(paper(f"/{number}") for number in range(33)))
    assert outcome.failure is not None
    assert outcome.failure.reason == "INVALID_REQUEST"
    assert outcome.failure.violations == {"messages": "hold more than 32 addresses to fetch"}
    assert internet.lookups == []


async def test_the_limit_of_bytes_is_for_all_of_them(caller: Caller, host: MediaHost) -> None:
    paths = ["/1", "/2", "/3"]
    host.paths |= dict.fromkeys(paths, answer(b"x" * 40_000, "application/pdf"))
    outcome = await ask(caller, *(paper(path) for path in paths))
    assert outcome.failure is not None
    assert list(outcome.failure.violations.values()) == [
        "exceeds the limit of 100000 bytes for fetched media"
    ]


async def test_when_one_fails_the_others_are_left(caller: Caller, host: MediaHost) -> None:
    host.paths["/slow"] = silent
    outcome = await ask(caller, paper("/slow"), paper("/nothing"), paper())
    assert outcome.failure is not None
    assert outcome.failure.violations == {
        "messages[0].parts[2].document.source.uri": "has a server that answers with status 404"
    }
    await host.left()


# Routes, limits, accounts.


async def test_the_next_target_gets_what_was_fetched_for_the_first(
    fetching: Gateway, caller: Caller, host: MediaHost, internet: Internet, provider: Upstream
) -> None:
    async def fail_first(exchange: Exchange) -> None:
        if len(provider.exchanges) == 1:
            await send_body(exchange, b"{}", status=500)
        else:
            await answer_well(exchange)

    provider.script = fail_first
    outcome = await ask(caller, paper(), model=await add_route(fetching, "one", "two"))
    assert outcome.failure is None
    first, second = provider.exchanges
    assert content_of(first) == content_of(second)
    assert (host.asked, internet.lookups) == (["/paper"], [HOST])


async def test_a_target_that_fetches_itself_may_go_on_where_the_gateway_cannot_fetch(
    fetching: Gateway, caller: Caller, host: MediaHost, provider: Upstream
) -> None:
    route = await add_route(fetching, "one", "two", "fetches")
    outcome = await ask(caller, sound("/nothing"), model=route)
    assert outcome.failure is None
    [exchange] = provider.exchanges
    assert content_of(exchange)[1]["audio_url"]["url"] == uri_of("/nothing")
    assert host.asked == ["/nothing"]  # not again for the second target
    # Without such a target the fault of the address is what is told.
    outcome = await ask(caller, sound("/nothing"), model=await add_route(fetching, "one", "two"))
    assert outcome.failure is not None
    assert outcome.failure.reason == "INVALID_REQUEST"


async def test_a_failed_fetch_is_no_failure_of_the_provider(
    fetching: Gateway, caller: Caller, provider: Upstream
) -> None:
    for _ in range(12):
        outcome = await ask(caller, paper("/nothing"), model="two/m")
        assert outcome.failure is not None
        assert "attempts" not in outcome.failure.metadata
    listed = await fetching.client.admin.routes.list_target_states()
    states = {state.model: state for state in listed}
    state = states.get("providers/two/models/m")
    assert state is None or state.breaker_state == BreakerState.BREAKER_STATE_CLOSED
    assert (await ask(caller, paper(), model="two/m")).failure is None
    assert len(provider.exchanges) == 1


async def test_the_record_of_the_call_tells_why(fetching: Gateway, caller: Caller) -> None:
    outcome = await ask(caller, paper("/nothing"))
    record = await fetching.ledger.wait_one(outcome.end_user_id)
    assert record.error_reason == "INVALID_REQUEST"
    assert list(record.attempts) == []
    assert record.cost.total_nanos == 0


async def test_nothing_is_fetched_for_a_caller_over_a_limit(
    fetching: Gateway, host: MediaHost, internet: Internet
) -> None:
    tenant_id = f"media-{next(_numbers)}"
    admin = fetching.client.admin
    await admin.tenants.create(Tenant(), tenant_id=tenant_id)
    made = await admin.api_keys.create(
        f"tenants/{tenant_id}",
        ApiKey(scopes=[Scope.SCOPE_INFERENCE], rate_limits_override=RateLimits(requests_per_minute=1)),
        api_key_id="k",
    )
    async with client_of(fetching.address, made.secret) as client:
        caller = Caller(client, streams=False)
        assert (await ask(caller, paper())).failure is None
        outcome = await ask(caller, paper())
    assert outcome.failure is not None
    assert outcome.failure.reason == "RATE_LIMIT_EXCEEDED"
    assert (host.asked, len(internet.lookups)) == (["/paper"], 1)


async def test_a_caller_who_leaves_ends_the_fetch(fetching: Gateway, host: MediaHost) -> None:
    host.paths["/paper"] = silent
    task = asyncio.ensure_future(ask(Caller(fetching.client, streams=True), paper()))
    async with asyncio.timeout(5):
        while not host.requests:
            await asyncio.sleep(0.002)
    begin = asyncio.get_running_loop().time()
    task.cancel()
    await asyncio.wait([task])
    await host.left()
    assert asyncio.get_running_loop().time() - begin < 0.4  # sooner than the fetch would have ended


# Guardrails.


async def profile_of(gateway: Gateway, action: GuardrailAction.ValueType) -> str:
    """The name of a profile that looks for one word."""
    rule = GuardrailRule(rule_id="word", action=action, pattern=PatternDetector(words=["xyzzy"]))
    made = await gateway.client.admin.guardrail_profiles.create(
        GuardrailProfile(input_rules=[rule]), guardrail_profile_id=f"media-{next(_numbers)}"
    )
    return made.name


async def test_guardrails_see_a_document_once_it_is_fetched(
    fetching: Gateway, caller: Caller, host: MediaHost, provider: Upstream
) -> None:
    host.paths["/notes"] = answer(b"The word is xyzzy, xyzzy.", "text/plain")

    async def ask_guarded(action: GuardrailAction.ValueType, model: str) -> Outcome:
        options = GatewayOptions(guardrail_profiles=[await profile_of(fetching, action)])
        return await caller.call(
            model=model,
            messages=[messages.user("Look", paper("/notes"), paper())],
            gateway_options=options,
        )

    async def fail_first(exchange: Exchange) -> None:
        if len(provider.exchanges) == 1:
            await send_body(exchange, b"{}", status=500)
        else:
            await answer_well(exchange)

    outcome = await ask_guarded(GuardrailAction.GUARDRAIL_ACTION_BLOCK, "one/m")
    assert outcome.failure is not None
    assert outcome.failure.reason == "GUARDRAIL_BLOCKED"
    assert provider.exchanges == []

    provider.script = fail_first
    route = await add_route(fetching, "one", "two")
    outcome = await ask_guarded(GuardrailAction.GUARDRAIL_ACTION_REDACT, route)
    assert outcome.failure is None
    assert len(provider.exchanges) == 2
    for exchange in provider.exchanges:
        _, notes, pdf = content_of(exchange)
        text = b64decode(notes["file"]["file_data"].partition(",")[2])
        assert b"xyzzy" not in text
        assert text.startswith(b"The word is ")
        assert b64decode(pdf["file"]["file_data"].partition(",")[2]) == PDF
    record = await fetching.ledger.wait_one(outcome.end_user_id)
    [result] = record.guardrail_results
    assert sum(result.findings.values()) == 2  # of one look, though two targets were asked
    assert sorted(host.asked) == ["/notes", "/notes", "/paper", "/paper"]
