"""The gateway calls only where an administrator pointed it: no request and no answer leads elsewhere."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from google.protobuf.struct_pb2 import Struct

from aigateway.v1.content_pb2 import (
    AudioPart,
    ContentPart,
    DocumentPart,
    ImagePart,
    MediaSource,
    Message,
    Role,
    VideoPart,
)
from tests.gateway.callers import Caller
from tests.support.gateway import Gateway, chat_request
from tests.support.upstream import (
    MODEL,
    Exchange,
    Upstream,
    completion,
    running_upstream,
    send_body,
    send_json,
)


@pytest.fixture(scope="package")
async def shared_victim() -> AsyncIterator[Upstream]:
    async with running_upstream() as victim:
        yield victim


@pytest.fixture
def victim(shared_victim: Upstream) -> Upstream:
    """A server that nobody has configured, and that must never see a connection."""
    assert shared_victim.connections == 0
    return shared_victim


@pytest.fixture(params=[False, True], ids=["whole", "streamed"])
def caller(gateway: Gateway, request: pytest.FixtureRequest) -> Caller:
    return Caller(gateway.client, request.param)


# Answers.


@pytest.mark.parametrize("status", [300, 301, 302, 303, 304, 307, 308])
async def test_a_redirect_is_an_error_and_not_followed(
    caller: Caller, upstream: Upstream, victim: Upstream, status: int
) -> None:
    async def redirect(exchange: Exchange) -> None:
        await send_body(
            exchange, b"", status=status, headers={"location": victim.base_url + "/chat/completions"}
        )

    upstream.script = redirect
    outcome = await caller.call()
    assert outcome.failure is not None
    assert outcome.failure.reason == "UPSTREAM_PROTOCOL_ERROR"
    assert str(victim.port) not in str(outcome.failure)
    assert (len(upstream.exchanges), victim.connections) == (1, 0)


async def test_headers_of_an_answer_lead_nowhere(
    gateway: Gateway, upstream: Upstream, victim: Upstream
) -> None:
    elsewhere = f"http://127.0.0.1:{victim.port}/"

    async def suggest(exchange: Exchange) -> None:
        headers = {
            "location": elsewhere,
            "content-location": elsewhere,
            "refresh": f"0; url={elsewhere}",
            "link": f"<{elsewhere}>; rel=preload",
            "alt-svc": f'h2="127.0.0.1:{victim.port}", http/1.1=":{victim.port}"',
            "set-cookie": "track=me",
        }
        body = b'{"error": {"message": "x"}}'
        status = 200 if len(upstream.exchanges) > 1 else 201
        if status == 200:
            await send_json(exchange, completion())
        else:
            await send_body(exchange, body, status=400, headers=headers)

    upstream.script = suggest
    first = await Caller(gateway.client, streams=False).call()
    assert first.failure is not None
    assert first.failure.reason == "UPSTREAM_REJECTED"
    assert (await Caller(gateway.client, streams=False).call()).failure is None
    assert b"track" not in upstream.exchanges[-1].head
    assert victim.connections == 0


# Requests.


async def test_options_for_the_provider_are_fields_of_the_body_and_nothing_else(
    caller: Caller, upstream: Upstream, victim: Upstream
) -> None:
    plain = await caller.call()
    assert plain.failure is None
    expected = upstream.exchanges.pop().head.split(b"\r\n\r\n")[0].split(b"\r\n")
    elsewhere = f"http://127.0.0.1:{victim.port}/v1"
    options = Struct()
    options.update(
        {
            "url": elsewhere,
            "base_url": elsewhere,
            "api_base": elsewhere,
            "api_key": "sk-theirs",
            "path": "/../admin",
            "host": f"127.0.0.1:{victim.port}",
            "proxy": elsewhere,
            "headers": {"Authorization": "Bearer sk-theirs", "Host": "victim"},
            "extra_headers": {"X-Evil": "1"},
            "extra_query": {"admin": "true"},
            "webhook": elsewhere,
        }
    )
    outcome = await caller.call(provider_options={"vllm": options})
    assert outcome.failure is None
    exchange = upstream.exchanges.pop()
    sent = exchange.head.split(b"\r\n\r\n")[0].split(b"\r\n")

    def but_length(lines: list[bytes]) -> list[bytes]:
        return [line for line in lines if not line.lower().startswith(b"content-length")]

    assert but_length(sent) == but_length(expected)
    assert exchange.json["base_url"] == elsewhere
    assert victim.connections == 0


async def test_what_a_caller_sends_in_metadata_is_not_passed_on(gateway: Gateway, upstream: Upstream) -> None:
    own = ("x-evil", "x-forwarded-host", "cookie", "baggage", "traceparent")
    metadata = (*gateway.metadata, *((name, "canary") for name in own))
    await gateway.client.stubs.chat.CreateChatCompletion(chat_request(), metadata=metadata, timeout=20)
    head = upstream.exchanges.pop().head
    assert b"canary" not in head
    assert gateway.admin_key.encode() not in head


@pytest.mark.parametrize(
    "model",
    [
        "../../admin",
        f"vllm/../{MODEL}",
        f"vllm/%2e%2e/{MODEL}",
        f"vllm/{MODEL}/../../x",
        f"vllm/{MODEL}%2f..",
        f"vllm/{MODEL}?admin=1",
        f"vllm/{MODEL}#",
        f"vllm/{MODEL}@127.0.0.1",
        f"vllm/{MODEL}\r\nHost: victim",
        "http://127.0.0.1/v1",
        "//127.0.0.1/x",
        "\x00",
        "..",
    ],
)
async def test_a_model_is_known_by_its_name_alone(caller: Caller, upstream: Upstream, model: str) -> None:
    outcome = await caller.call(model=model)
    assert outcome.failure is not None
    assert outcome.failure.reason in {"MODEL_NOT_FOUND", "INVALID_REQUEST"}
    assert upstream.exchanges == []


# Media by address.


def message_of(part: ContentPart) -> list[Message]:
    return [Message(role=Role.ROLE_USER, parts=[part])]


def media_of(kind: str, uri: str) -> ContentPart:
    source = MediaSource(
        uri=uri, mime_type={"image": "image/png", "document": "application/pdf"}.get(kind, "")
    )
    match kind:
        case "image":
            return ContentPart(image=ImagePart(source=source))
        case "audio":
            return ContentPart(audio=AudioPart(source=source))
        case "video":
            return ContentPart(video=VideoPart(source=source))
        case "document":
            return ContentPart(document=DocumentPart(source=source))
        case _:
            raise AssertionError(kind)


@pytest.mark.parametrize("kind", ["image", "audio", "video"])
async def test_an_address_is_passed_to_a_provider_that_fetches_and_not_fetched_here(
    caller: Caller, upstream: Upstream, victim: Upstream, kind: str
) -> None:
    uri = f"http://127.0.0.1:{victim.port}/picture.png"
    outcome = await caller.call(messages=message_of(media_of(kind, uri)))
    assert outcome.failure is None
    [block] = upstream.exchanges.pop().json["messages"][0]["content"]
    assert block[f"{kind}_url"]["url"] == uri
    assert victim.connections == 0


@pytest.mark.parametrize(
    ("kind", "uri"),
    [
        ("document", "http://127.0.0.1:{port}/paper.pdf"),
        ("image", "file:///etc/passwd"),
        ("audio", "file:///etc/passwd"),
        ("video", "ftp://127.0.0.1:{port}/film"),
        ("image", "gopher://127.0.0.1:{port}/_"),
        ("image", "//127.0.0.1:{port}/picture.png"),
        ("image", "/etc/passwd"),
        ("image", " http://127.0.0.1:{port}/picture.png"),
    ],
)
async def test_an_address_that_the_provider_does_not_fetch_is_refused(
    caller: Caller, upstream: Upstream, victim: Upstream, kind: str, uri: str
) -> None:
    outcome = await caller.call(messages=message_of(media_of(kind, uri.format(port=victim.port))))
    assert outcome.failure is not None
    assert outcome.failure.reason == "FEATURE_NOT_SUPPORTED"
    assert (upstream.exchanges, victim.connections) == ([], 0)
