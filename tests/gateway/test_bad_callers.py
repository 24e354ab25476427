"""Whatever reaches the port: a status where there is a call, and everybody else is served on."""

from __future__ import annotations

import asyncio
import math
from random import Random
from typing import Any, cast

import grpc
import pytest

from aigateway.v1.chat_service_pb2 import FunctionTool, GenerationConfig, Tool
from aigateway.v1.content_pb2 import (
    ContentPart,
    ImagePart,
    MediaSource,
    Message,
    Role,
    TextPart,
    ToolCallPart,
    ToolResultPart,
)
from tests.gateway.callers import Caller
from tests.gateway.http2 import (
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    PREFACE,
    RST_STREAM,
    SETTINGS,
    call_headers,
    frame,
    message,
    raw_connection,
)
from tests.support.gateway import ADMIN_KEY, Gateway, chat_request
from tests.support.statuses import Failure, read_failure
from tests.support.upstream import Upstream

_RANDOM = Random(20)
CREATE = "/aigateway.v1.ChatService/CreateChatCompletion"


@pytest.fixture
async def caller(gateway: Gateway, upstream: Upstream) -> Caller:
    return Caller(gateway.client, streams=False)


async def assert_serves(caller: Caller) -> None:
    outcome = await caller.call()
    assert outcome.failure is None


async def code_of(gateway: Gateway, path: str, data: bytes, **options: Any) -> grpc.StatusCode:
    """How a call with these bytes fails."""
    failure = await failure_of(gateway, path, data, **options)
    return failure.code


async def failure_of(
    gateway: Gateway, path: str, data: bytes, *, metadata: Any = (), **options: Any
) -> Failure:
    async with grpc.aio.insecure_channel(gateway.address, **options) as channel:
        call: Any = channel.unary_unary(path)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(data, metadata=(*gateway.metadata, *metadata), timeout=20)
        return read_failure(caught.value)


async def test_a_request_over_the_limit_is_refused(
    gateway: Gateway, upstream: Upstream, caller: Caller
) -> None:
    outcome = await caller.call("x" * (3 * 2**20))
    assert outcome.failure is not None
    assert outcome.failure.code == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert not upstream.exchanges
    await assert_serves(caller)


async def test_a_small_request_that_unpacks_to_one_over_the_limit_is_refused(
    gateway: Gateway, upstream: Upstream, caller: Caller
) -> None:
    data = chat_request("x" * (16 * 2**20)).SerializeToString()
    code = await code_of(
        gateway,
        CREATE,
        data,
        compression=grpc.Compression.Gzip,
        options=[("grpc.max_send_message_length", -1)],
    )
    assert code == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert not upstream.exchanges
    await assert_serves(caller)


async def test_a_compressed_request_is_read(gateway: Gateway, upstream: Upstream) -> None:
    async with grpc.aio.insecure_channel(gateway.address, compression=grpc.Compression.Gzip) as channel:
        data = chat_request("x" * 100_000).SerializeToString()
        create: Any = channel.unary_unary(CREATE)
        await create(data, metadata=gateway.metadata, timeout=20)
    assert upstream.exchanges[0].json["messages"][0]["content"] == "x" * 100_000


@pytest.mark.parametrize(
    "path",
    ["/aigateway.v1.ChatService/NoSuchMethod", "/no.such.Service/Get", "/", "/aigateway.v1.ChatService/"],
)
async def test_an_unknown_method_is_unimplemented(gateway: Gateway, caller: Caller, path: str) -> None:
    assert await code_of(gateway, path, b"") == grpc.StatusCode.UNIMPLEMENTED
    await assert_serves(caller)


async def test_metadata_over_the_limit_is_refused(gateway: Gateway, caller: Caller) -> None:
    metadata = [(f"x-{n}", "y" * 1000) for n in range(64)]
    data = chat_request().SerializeToString()
    code = await code_of(gateway, CREATE, data, metadata=metadata)
    assert code == grpc.StatusCode.RESOURCE_EXHAUSTED
    await assert_serves(caller)


async def test_bytes_that_are_no_message_are_an_invalid_request(gateway: Gateway, caller: Caller) -> None:
    failure = await failure_of(gateway, CREATE, _RANDOM.randbytes(100))
    assert failure.reason == "INVALID_REQUEST"
    await assert_serves(caller)


@pytest.mark.parametrize(
    ("encoding", "body", "status"),
    [
        ("gzip", b"this is no gzip", grpc.StatusCode.INTERNAL),
        ("br", b"nobody knows brotli", grpc.StatusCode.INTERNAL),
        ("identity", b"compressed, it says", grpc.StatusCode.INTERNAL),
    ],
)
async def test_a_body_that_is_not_compressed_as_it_says_fails_its_call_only(
    gateway: Gateway, caller: Caller, encoding: str, body: bytes, status: grpc.StatusCode
) -> None:
    async with raw_connection(gateway.address) as connection, asyncio.timeout(5):
        await connection.shake_hands()
        headers = call_headers(CREATE, ("grpc-encoding", encoding), ("authorization", f"Bearer {ADMIN_KEY}"))
        await connection.send(
            frame(HEADERS, END_HEADERS, 1, headers)
            + frame(DATA, END_STREAM, 1, message(body, compressed=True))
        )
        trailers = await connection.end_of(1)
    assert f"grpc-status{chr(len(str(status.value[0])))}{status.value[0]}".encode() in trailers, trailers
    await assert_serves(caller)


GARBAGE = {
    "HTTP/1.1": b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n",
    "a TLS greeting": bytes.fromhex("16030100c8010000c40303") + bytes(200),
    "random bytes": _RANDOM.randbytes(4096),
    "nothing but zeros": bytes(100_000),
    "a preface and then random bytes": PREFACE + _RANDOM.randbytes(4096),
    "a frame larger than allowed": PREFACE + frame(SETTINGS, 0, 0) + b"\xff\xff\xff\x00\x00\x00\x00\x00\x01",
    "headers that are no headers": PREFACE
    + frame(SETTINGS, 0, 0)
    + frame(HEADERS, END_HEADERS | END_STREAM, 1, b"\xff" * 100),
    "data for a stream that nobody opened": PREFACE + frame(SETTINGS, 0, 0) + frame(DATA, 0, 77, b"x" * 100),
}


@pytest.mark.parametrize("name", GARBAGE)
async def test_garbage_on_the_port_hurts_nobody_else(gateway: Gateway, caller: Caller, name: str) -> None:
    async with raw_connection(gateway.address) as connection:
        await connection.send(GARBAGE[name])
        await assert_serves(caller)
    await assert_serves(caller)


async def test_calls_begun_and_abandoned_by_the_thousand_hurt_nobody_for_long(
    gateway: Gateway, upstream: Upstream, caller: Caller
) -> None:
    """Streams that are reset as soon as they are opened, and some that never say anything.

    gRPC's C core (1.85, also under a server of two lines) may cancel a call of somebody else's that comes
    in the same moment, before it reaches the gateway. That must be all.
    """
    async with raw_connection(gateway.address) as connection, raw_connection(gateway.address) as silent:
        await connection.shake_hands()
        headers = call_headers(CREATE, ("authorization", f"Bearer {ADMIN_KEY}"))
        for number in range(1, 4001, 2):
            await connection.send(
                frame(HEADERS, END_HEADERS, number, headers)
                + frame(RST_STREAM, 0, number, (8).to_bytes(4, "big"))
            )
        await silent.shake_hands()
        for number in range(1, 201, 2):
            await silent.send(frame(HEADERS, END_HEADERS, number, headers))
        await until_undisturbed(caller)
        for _ in range(10):
            await assert_serves(caller)
    await until_undisturbed(caller)
    await assert_serves(caller)
    assert len(upstream.exchanges) <= 27, "an abandoned call reached the provider"


async def until_undisturbed(caller: Caller) -> None:
    """Calls until three in a row are served; in between only gRPC's own cancels are allowed."""
    served = 0
    for _ in range(8):
        outcome = await caller.call()
        if outcome.failure is None:
            served += 1
        else:
            assert (outcome.failure.code, outcome.failure.reason) == (grpc.StatusCode.CANCELLED, "")
            served = 0
        if served == 3:
            return
    pytest.fail("calls are still cancelled")


def turn(role: Role.ValueType, *parts: ContentPart) -> dict[str, Any]:
    return {"messages": [Message(role=role, parts=parts)]}


TEXT = ContentPart(text=TextPart(text="hello"))
TOOL_CALL = ContentPart(tool_call=ToolCallPart(tool_call_id="a", tool_name="f", arguments="{}"))
TOOL_RESULT = ContentPart(tool_result=ToolResultPart(tool_call_id="a", parts=[TEXT]))
LOCAL_FILE = ContentPart(image=ImagePart(source=MediaSource(uri="file:///etc/passwd")))

#: What a caller may get wrong: fields of the request, the reason, and the field that the error names.
BAD_REQUESTS: dict[str, tuple[dict[str, Any], str, str]] = {
    "no model": ({"model": ""}, "INVALID_REQUEST", "model"),
    "a model with a name of 10,000 letters": ({"model": "x" * 10_000}, "INVALID_REQUEST", "model"),
    "no messages": ({"messages": []}, "INVALID_REQUEST", "messages"),
    "a message without parts": (turn(Role.ROLE_USER), "INVALID_REQUEST", "messages[0]"),
    "a part of no kind": (
        turn(Role.ROLE_USER, ContentPart()),
        "INVALID_REQUEST",
        "messages[0].parts[0].kind",
    ),
    "no role": (turn(Role.ROLE_UNSPECIFIED, TEXT), "INVALID_REQUEST", "messages[0].role"),
    "a role that nobody knows": (
        turn(cast("Role.ValueType", 99), TEXT),
        "INVALID_REQUEST",
        "messages[0].role",
    ),
    "a tool call by the user": (
        turn(Role.ROLE_USER, TOOL_CALL),
        "INVALID_REQUEST",
        "messages[0].parts[0].tool_call",
    ),
    "a tool result by the user": (
        turn(Role.ROLE_USER, TOOL_RESULT),
        "INVALID_REQUEST",
        "messages[0].parts[0].tool_result",
    ),
    "a text by a tool": (turn(Role.ROLE_TOOL, TEXT), "INVALID_REQUEST", "messages[0].parts[0]"),
    "two tool calls with one id": (
        turn(Role.ROLE_ASSISTANT, TOOL_CALL, TOOL_CALL),
        "INVALID_REQUEST",
        "messages[0].parts[1].tool_call.tool_call_id",
    ),
    "a picture without a place": (
        turn(Role.ROLE_USER, ContentPart(image=ImagePart())),
        "INVALID_REQUEST",
        "messages[0].parts[0].image.source",
    ),
    "a picture on the gateway's own disk": (turn(Role.ROLE_USER, LOCAL_FILE), "FEATURE_NOT_SUPPORTED", ""),
    "a temperature that is no number": (
        {"generation_config": GenerationConfig(temperature=math.nan)},
        "INVALID_REQUEST",
        "generation_config.temperature",
    ),
    "a schema that is no JSON": (
        {"tools": [Tool(function=FunctionTool(function_name="f", parameters_json_schema="{nope"))]},
        "INVALID_REQUEST",
        "tools[0].function.parameters_json_schema",
    ),
    "an unknown model": ({"model": "nobody"}, "MODEL_NOT_FOUND", ""),
}


@pytest.mark.parametrize("streams", [False, True], ids=["unary", "stream"])
@pytest.mark.parametrize("name", BAD_REQUESTS)
async def test_a_bad_request_is_told_what_is_wrong_before_any_provider_is_asked(
    gateway: Gateway, upstream: Upstream, name: str, streams: bool
) -> None:
    fields, reason, field = BAD_REQUESTS[name]

    outcome = await Caller(gateway.client, streams=streams).call(**fields)

    assert outcome.failure is not None
    assert outcome.failure.reason == reason
    assert list(outcome.failure.violations) == ([field] if field else [])
    assert outcome.failure.request_id
    assert not upstream.exchanges


async def test_a_call_that_finds_no_model_is_in_the_ledger(gateway: Gateway, caller: Caller) -> None:
    outcome = await caller.call(model="nobody")
    row = await gateway.ledger.wait_one(outcome.end_user_id)
    assert (row.model, row.error_reason, list(row.attempts)) == ("nobody", "MODEL_NOT_FOUND", [])
