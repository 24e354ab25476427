"""Failures that no recording has, in the shapes that the providers document, from a server on a socket.

Each is met twice: by the provider's own package, which says by its exception what kind of failure it is and
by a second request whether it would try again; and by a whole gateway, whole and streamed. The table has
both, so that it shows where the gateway sees a failure otherwise, with the reason beside it.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, Final

import anthropic
import boto3
import grpc
import openai
import orjson
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from google import genai
from google.genai import errors as genai_errors

from aigateway import types
from aigateway.v1.usage_pb2 import UsageState
from tests.support.event_stream import event, exception
from tests.support.gateway import Gateway, chat_request, new_user, running_gateway
from tests.support.replay_upstream import Replay, ReplayUpstream, replay_upstream, whole
from tests.support.statuses import read_failure
from tests.support.wire import to_sse

KEYS: Final = ("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
#: In every message of a provider; nothing of it may reach a caller.
WORDS: Final = "words of the provider, sk-secret"
TEXT: Final = "Once upon a time"
REJECTED, CREDENTIAL = "UPSTREAM_REJECTED", "UPSTREAM_CREDENTIAL_REJECTED"
LIMITED, UNAVAILABLE = "UPSTREAM_RATE_LIMITED", "UPSTREAM_UNAVAILABLE"


#: Types of providers whose names no provider can have.
TYPES: Final = {"azure": "azure_openai"}


@dataclass(frozen=True)
class Fault:
    """What a provider answers, what its own package makes of it, and what the gateway tells a caller.

    ``again`` is whether the package tries again by itself, None where it never does.
    """

    provider: str
    status: int
    body: dict[str, Any]
    theirs: str
    ours: str
    headers: dict[str, str] = field(default_factory=dict)
    again: bool | None = None
    code: str | None = None
    wait: float | None = None

    def __str__(self) -> str:
        return f"{self.provider}-{self.status}-{self.code}"


def openai_fault(code: str | None, kind: str = "") -> dict[str, Any]:
    return {"error": {"message": WORDS, "type": kind or code, "param": None, "code": code}}


def anthropic_fault(kind: str) -> dict[str, Any]:
    return {"type": "error", "error": {"type": kind, "message": WORDS}, "request_id": "req_1"}


def google_fault(status: int, word: str, *details: dict[str, Any]) -> dict[str, Any]:
    return {"error": {"code": status, "message": WORDS, "status": word, "details": list(details)}}


def aws_headers(kind: str) -> dict[str, str]:
    return {"x-amzn-errortype": f"{kind}:http://internal.amazon.com/coral/com.amazon.bedrock/"}


def aws_fault() -> dict[str, Any]:
    return {"message": WORDS}


FILTERED_PROMPT: Final = {
    "error": {
        "message": WORDS,
        "type": None,
        "param": "prompt",
        "code": "content_filter",
        "status": 400,
        "innererror": {
            "code": "ResponsibleAIPolicyViolation",
            "content_filter_result": {"hate": {"filtered": True, "severity": "high"}},
        },
    }
}
RETRY_INFO: Final = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34.4s"}
KEY_INVALID: Final = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}

FAULTS: Final = [
    Fault(
        "openai",
        400,
        openai_fault("unsupported_value"),
        "BadRequestError",
        REJECTED,
        again=False,
        code="unsupported_value",
    ),
    Fault(
        "openai",
        401,
        openai_fault("invalid_api_key"),
        "AuthenticationError",
        CREDENTIAL,
        again=False,
        code="invalid_api_key",
    ),
    Fault(
        "openai",
        403,
        openai_fault("unsupported_country"),
        "PermissionDeniedError",
        CREDENTIAL,
        again=False,
        code="unsupported_country",
    ),
    Fault(
        "openai",
        404,
        openai_fault("model_not_found"),
        "NotFoundError",
        REJECTED,
        again=False,
        code="model_not_found",
    ),
    Fault(
        "openai",
        409,
        openai_fault(None, "conflict"),
        "ConflictError",
        UNAVAILABLE,
        again=True,
        code="conflict",
    ),
    Fault(
        "openai",
        422,
        openai_fault(None, "invalid"),
        "UnprocessableEntityError",
        REJECTED,
        again=False,
        code="invalid",
    ),
    Fault(
        "openai",
        429,
        openai_fault("rate_limit_exceeded"),
        "RateLimitError",
        LIMITED,
        headers={"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "6m0s"},
        again=True,
        code="rate_limit_exceeded",
        wait=360,
    ),
    # The package tries again in vain: the money is used up.
    Fault(
        "openai",
        429,
        openai_fault("insufficient_quota"),
        "RateLimitError",
        LIMITED,
        again=True,
        code="insufficient_quota",
    ),
    Fault(
        "openai",
        500,
        openai_fault(None, "server_error"),
        "InternalServerError",
        UNAVAILABLE,
        again=True,
        code="server_error",
    ),
    Fault(
        "openai",
        503,
        openai_fault("overloaded"),
        "InternalServerError",
        UNAVAILABLE,
        again=True,
        code="overloaded",
    ),
    Fault("azure", 400, FILTERED_PROMPT, "BadRequestError", REJECTED, again=False, code="content_filter"),
    Fault("azure", 401, openai_fault("401"), "AuthenticationError", CREDENTIAL, again=False),
    Fault(
        "azure",
        404,
        openai_fault("DeploymentNotFound"),
        "NotFoundError",
        REJECTED,
        again=False,
        code="DeploymentNotFound",
    ),
    Fault(
        "azure",
        429,
        openai_fault("RateLimitReached"),
        "RateLimitError",
        LIMITED,
        headers={"retry-after": "7"},
        again=True,
        code="RateLimitReached",
        wait=7,
    ),
    Fault(
        "anthropic",
        400,
        anthropic_fault("invalid_request_error"),
        "BadRequestError",
        REJECTED,
        again=False,
        code="invalid_request_error",
    ),
    Fault(
        "anthropic",
        401,
        anthropic_fault("authentication_error"),
        "AuthenticationError",
        CREDENTIAL,
        again=False,
        code="authentication_error",
    ),
    Fault(
        "anthropic",
        403,
        anthropic_fault("permission_error"),
        "PermissionDeniedError",
        CREDENTIAL,
        again=False,
        code="permission_error",
    ),
    Fault(
        "anthropic",
        404,
        anthropic_fault("not_found_error"),
        "NotFoundError",
        REJECTED,
        again=False,
        code="not_found_error",
    ),
    Fault(
        "anthropic",
        413,
        anthropic_fault("request_too_large"),
        "ContentTooLargeError",
        REJECTED,
        again=False,
        code="request_too_large",
    ),
    Fault(
        "anthropic",
        429,
        anthropic_fault("rate_limit_error"),
        "RateLimitError",
        LIMITED,
        headers={"retry-after": "12"},
        again=True,
        code="rate_limit_error",
        wait=12,
    ),
    Fault(
        "anthropic",
        500,
        anthropic_fault("api_error"),
        "InternalServerError",
        UNAVAILABLE,
        again=True,
        code="api_error",
    ),
    Fault(
        "anthropic",
        529,
        anthropic_fault("overloaded_error"),
        "OverloadedError",
        UNAVAILABLE,
        again=True,
        code="overloaded_error",
    ),
    Fault(
        "google", 400, google_fault(400, "INVALID_ARGUMENT"), "ClientError", REJECTED, code="INVALID_ARGUMENT"
    ),
    # Google calls a key that it does not know a fault of the argument.
    Fault(
        "google",
        400,
        google_fault(400, "INVALID_ARGUMENT", KEY_INVALID),
        "ClientError",
        CREDENTIAL,
        code="API_KEY_INVALID",
    ),
    Fault(
        "google",
        403,
        google_fault(403, "PERMISSION_DENIED"),
        "ClientError",
        CREDENTIAL,
        code="PERMISSION_DENIED",
    ),
    Fault("google", 404, google_fault(404, "NOT_FOUND"), "ClientError", REJECTED, code="NOT_FOUND"),
    Fault(
        "google",
        429,
        google_fault(429, "RESOURCE_EXHAUSTED", RETRY_INFO),
        "ClientError",
        LIMITED,
        code="RESOURCE_EXHAUSTED",
        wait=34.4,
    ),
    Fault("google", 500, google_fault(500, "INTERNAL"), "ServerError", UNAVAILABLE, code="INTERNAL"),
    Fault("google", 503, google_fault(503, "UNAVAILABLE"), "ServerError", UNAVAILABLE, code="UNAVAILABLE"),
    *(
        Fault("bedrock", status, aws_fault(), kind, reason, headers=aws_headers(kind), code=kind)
        for status, kind, reason in (
            (400, "ValidationException", REJECTED),
            (403, "AccessDeniedException", CREDENTIAL),
            (403, "ExpiredTokenException", CREDENTIAL),
            (404, "ResourceNotFoundException", REJECTED),
            (408, "ModelTimeoutException", UNAVAILABLE),
            (424, "ModelErrorException", UNAVAILABLE),
            (429, "ThrottlingException", LIMITED),
            (429, "ModelNotReadyException", UNAVAILABLE),
            (500, "InternalServerException", UNAVAILABLE),
            (503, "ServiceUnavailableException", UNAVAILABLE),
        )
    ),
]


@pytest.fixture(scope="module")
async def shared_upstream() -> AsyncIterator[ReplayUpstream]:
    async with replay_upstream() as running:
        yield running


@pytest.fixture
def upstream(shared_upstream: ReplayUpstream) -> ReplayUpstream:
    shared_upstream.requests.clear()
    return shared_upstream


@pytest.fixture(scope="module")
async def gateway(
    shared_upstream: ReplayUpstream, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Gateway]:
    """Each provider has a model ``chat``."""
    async with running_gateway(tmp_path_factory.mktemp("faults") / "state") as running:
        admin, url = running.client.admin, shared_upstream.url
        providers = {
            "anthropic": types.Provider(base_url=f"{url}/v1", credential="sk-test"),
            "azure": types.Provider(base_url=url, credential="sk-test"),
            "bedrock": types.Provider(base_url=url, credential=":".join(KEYS)),
            "google": types.Provider(base_url=url, credential="sk-test"),
            "openai": types.Provider(base_url=f"{url}/v1", credential="sk-test"),
        }
        providers["bedrock"].config.update({"region": "us-east-1"})
        for provider_id, provider in providers.items():
            provider.provider_type = TYPES.get(provider_id, provider_id)
            made = await admin.providers.create(provider, provider_id=provider_id)
            await admin.models.create(made.name, types.Model(provider_model="some-model"), model_id="chat")
        yield running


# What the packages make of it.

ASKED: Final[dict[str, Any]] = {"model": "some-model", "messages": [{"role": "user", "content": "Hi"}]}


async def ask_openai(url: str, *, stream: bool) -> None:
    async with openai.AsyncOpenAI(api_key="sk-test", base_url=f"{url}/v1", max_retries=1) as client:
        answer: Any = await client.chat.completions.create(**ASKED, stream=stream)
        if stream:
            async for _ in answer:
                pass


async def ask_azure(url: str, *, stream: bool) -> None:
    async with openai.AsyncAzureOpenAI(
        api_key="sk-test", azure_endpoint=url, api_version="2024-10-21", max_retries=1
    ) as client:
        answer: Any = await client.chat.completions.create(**ASKED, stream=stream)
        if stream:
            async for _ in answer:
                pass


async def ask_anthropic(url: str, *, stream: bool) -> None:
    async with anthropic.AsyncAnthropic(api_key="sk-test", base_url=url, max_retries=1) as client:
        answer: Any = await client.messages.create(**ASKED, max_tokens=10, stream=stream)
        if stream:
            async for _ in answer:
                pass


async def ask_google(url: str, *, stream: bool) -> None:
    client = genai.Client(api_key="sk-test", http_options={"base_url": url, "api_version": "v1beta"})
    async with client.aio as google:
        if stream:
            async for _ in await google.models.generate_content_stream(model="some-model", contents="Hi"):
                pass
        else:
            await google.models.generate_content(model="some-model", contents="Hi")


async def ask_boto3(url: str, *, stream: bool) -> None:
    def ask() -> None:
        client = boto3.Session(*KEYS, region_name="us-east-1").client(
            "bedrock-runtime", endpoint_url=url, config=Config(retries={"total_max_attempts": 1})
        )
        asked = {"modelId": "some-model", "messages": [{"role": "user", "content": [{"text": "Hi"}]}]}
        with closing(client):
            if stream:
                with closing(client.converse_stream(**asked)["stream"]) as events:
                    list(events)
            else:
                client.converse(**asked)

    await asyncio.to_thread(ask)


PACKAGES: Final = {
    "anthropic": ask_anthropic,
    "azure": ask_azure,
    "bedrock": ask_boto3,
    "google": ask_google,
    "openai": ask_openai,
}
THEIR_ERRORS: Final = (openai.APIError, anthropic.APIError, genai_errors.APIError, ClientError)


async def ask_package(provider: str, url: str, *, stream: bool = False) -> str:
    """The name that the provider's own package has for the failure."""
    with pytest.raises(THEIR_ERRORS) as caught:
        await PACKAGES[provider](url, stream=stream)
    error = caught.value
    name = str(error.response["Error"]["Code"]) if isinstance(error, ClientError) else type(error).__name__
    if stream:
        # Packages leave generators behind in the failure's frames; they shall end here, not in another test.
        del caught, error
        gc.collect()
        await asyncio.sleep(0)
    return name


@pytest.mark.parametrize("fault", FAULTS, ids=str)
async def test_the_providers_own_package_agrees(fault: Fault, upstream: ReplayUpstream) -> None:
    # It would wait for as long as it is told to.
    soon = {"content-type": "application/json", **fault.headers, "retry-after-ms": "1"}
    upstream.replay = whole(fault.status, soon, orjson.dumps(fault.body))

    assert await ask_package(fault.provider, upstream.url) == fault.theirs

    assert len(upstream.requests) == (2 if fault.again else 1)


# What the gateway makes of it.


async def ask_gateway(gateway: Gateway, provider: str, user: str, *, stream: bool) -> tuple[str, Any]:
    """The text that came, and the failure after it."""
    request = chat_request(model=f"{provider}/chat", end_user_id=user)
    text = ""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        if stream:
            chunks = gateway.client.stubs.chat.StreamChatCompletion(request, metadata=gateway.metadata)
            async for chunk in chunks:
                text += "".join(each.part_delta.text for each in chunk.events)
        else:
            await gateway.client.stubs.chat.CreateChatCompletion(request, metadata=gateway.metadata)
    return text, read_failure(caught.value)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("fault", FAULTS, ids=str)
async def test_the_caller_is_told_who_is_at_fault(
    fault: Fault, gateway: Gateway, upstream: ReplayUpstream, *, stream: bool
) -> None:
    headers = {"content-type": "application/json", **fault.headers}
    upstream.replay = whole(fault.status, headers, orjson.dumps(fault.body))
    user = new_user()

    _, failure = await ask_gateway(gateway, fault.provider, user, stream=stream)

    # A provider's word is told where it may help the caller.
    code = fault.code if fault.ours in (REJECTED, LIMITED) else None
    assert (failure.reason, failure.metadata.get("provider_code")) == (fault.ours, code)
    assert failure.retry_after == fault.wait
    assert failure.metadata["provider"] == f"providers/{fault.provider}"
    # Not the caller's own key is at fault, whatever status the provider gave.
    assert failure.code not in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED)
    assert b"sk-secret" not in failure.raw
    record = await gateway.ledger.wait_one(user)
    assert (record.error_reason, record.attempts[0].http_status) == (fault.ours, fault.status)
    assert not record.HasField("usage")


@dataclass(frozen=True)
class Break:
    """A stream that begins well and then tells a failure: the provider's package and the gateway on it."""

    provider: str
    name: str
    body: bytes
    theirs: str
    ours: str
    content_type: str = "text/event-stream"

    def __str__(self) -> str:
        return f"{self.provider}-{self.name}"


def openai_stream(fault: dict[str, Any]) -> bytes:
    delta = {"role": "assistant", "content": TEXT}
    choice = {"index": 0, "delta": delta, "finish_reason": None}
    first = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
    return to_sse([first, fault], done=False)


def anthropic_stream(kind: str) -> bytes:
    usage = {"input_tokens": 3, "output_tokens": 1}
    head = {"id": "m1", "type": "message", "role": "assistant", "model": "m", "content": []}
    events: list[dict[str, Any]] = [
        {
            "type": "message_start",
            "message": {**head, "stop_reason": None, "stop_sequence": None, "usage": usage},
        },
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": TEXT}},
        {"type": "error", "error": {"type": kind, "message": WORDS}},
    ]
    return b"".join(
        b"event: " + str(each["type"]).encode() + b"\ndata: " + orjson.dumps(each) + b"\n\n"
        for each in events
    )


def google_stream(fault: dict[str, Any]) -> bytes:
    candidate = {"content": {"parts": [{"text": TEXT}], "role": "model"}, "index": 0}
    chunks = [{"candidates": [candidate], "modelVersion": "m", "responseId": "r"}, fault]
    return b"".join(b"data: " + orjson.dumps(chunk) + b"\r\n\r\n" for chunk in chunks)


def aws_stream(kind: str) -> bytes:
    return (
        event("messageStart", {"role": "assistant"})
        + event("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": TEXT}})
        + exception(kind, WORDS)
    )


#: Within a stream neither OpenAI's nor Anthropic's package tells kinds of failures apart; the gateway does.
BREAKS: Final = [
    Break(
        "openai", "server_error", openai_stream(openai_fault(None, "server_error")), "APIError", UNAVAILABLE
    ),
    Break("openai", "rate_limit", openai_stream(openai_fault("rate_limit_exceeded")), "APIError", LIMITED),
    Break("azure", "server_error", openai_stream(openai_fault("server_error")), "APIError", UNAVAILABLE),
    Break("anthropic", "overloaded", anthropic_stream("overloaded_error"), "APIStatusError", UNAVAILABLE),
    Break("anthropic", "api_error", anthropic_stream("api_error"), "APIStatusError", UNAVAILABLE),
    Break("anthropic", "rate_limit", anthropic_stream("rate_limit_error"), "APIStatusError", LIMITED),
    Break(
        "google", "unavailable", google_stream(google_fault(503, "UNAVAILABLE")), "ServerError", UNAVAILABLE
    ),
    Break(
        "google", "exhausted", google_stream(google_fault(429, "RESOURCE_EXHAUSTED")), "ClientError", LIMITED
    ),
    *(
        Break("bedrock", kind, aws_stream(kind), kind, reason, "application/vnd.amazon.eventstream")
        for kind, reason in (
            ("throttlingException", LIMITED),
            ("modelStreamErrorException", UNAVAILABLE),
            ("internalServerException", UNAVAILABLE),
            ("serviceUnavailableException", UNAVAILABLE),
            ("validationException", REJECTED),
        )
    ),
]


def sent(broken: Break) -> Replay:
    return whole(200, {"content-type": broken.content_type}, broken.body)


@pytest.mark.parametrize("broken", BREAKS, ids=str)
async def test_the_providers_own_package_sees_the_stream_fail(
    broken: Break, upstream: ReplayUpstream
) -> None:
    upstream.replay = sent(broken)

    assert await ask_package(broken.provider, upstream.url, stream=True) == broken.theirs


@pytest.mark.parametrize("broken", BREAKS, ids=str)
async def test_a_stream_that_fails_midway_is_told_after_what_came_and_is_paid_for(
    broken: Break, gateway: Gateway, upstream: ReplayUpstream
) -> None:
    upstream.replay = sent(broken)
    user = new_user()

    text, failure = await ask_gateway(gateway, broken.provider, user, stream=True)

    assert (text, failure.reason) == (TEXT, broken.ours)
    assert b"sk-secret" not in failure.raw
    record = await gateway.ledger.wait_one(user)
    assert record.error_reason == broken.ours
    assert record.usage.state == UsageState.USAGE_STATE_PARTIAL
    assert record.usage.output_tokens >= len(TEXT) // 4
