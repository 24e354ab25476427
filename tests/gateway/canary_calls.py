"""Uses a gateway in every way, with canaries wherever a secret can stand, and keeps all that it answers."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Final

import grpc
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message as ProtoMessage
from google.protobuf.message_factory import GetMessageClass
from google.protobuf.struct_pb2 import Struct

from aigateway.v1.admin_service_pb2 import (
    CheckProviderRequest,
    CreateApiKeyRequest,
    CreateModelRequest,
    CreateProviderRequest,
    GetProviderRequest,
    ListProvidersRequest,
    UpdateProviderRequest,
)
from aigateway.v1.api_key_pb2 import ApiKey
from aigateway.v1.chat_service_pb2 import CountTokensRequest, CreateChatCompletionRequest
from aigateway.v1.content_pb2 import ContentPart, Message, Role, TextPart, ToolCallPart, ToolResultPart
from aigateway.v1.embeddings_service_pb2 import CreateEmbeddingsRequest, EmbeddingInput
from aigateway.v1.model_pb2 import Model
from aigateway.v1.permission_pb2 import Scope
from aigateway.v1.provider_pb2 import Provider
from gateway_server.rpc.methods import service_descriptors
from tests.gateway.canaries import CANARIES, Seen, found_in
from tests.support.gateway import chat_request
from tests.support.upstream import (
    FIRST,
    MODEL,
    STOP,
    Exchange,
    Script,
    Upstream,
    answer_well,
    chunk,
    completion,
    send_body,
    send_json,
    send_stream,
    text_chunk,
    usage_chunk,
)


class Caller:
    """Makes calls as any client can and keeps every byte of what comes back."""

    def __init__(self, channel: grpc.aio.Channel, seen: Seen, api_key: str) -> None:
        self._channel = channel
        self._seen = seen
        self._api_key = api_key
        self.codes: dict[str, set[grpc.StatusCode]] = {}

    async def call(self, path: str, request: ProtoMessage | bytes, *, api_key: str | None = None) -> Any:
        """The answer, None when the call failed; streams are read to their end."""
        data = request if isinstance(request, bytes) else request.SerializeToString()
        metadata = (("authorization", f"Bearer {self._api_key if api_key is None else api_key}"),)
        method = METHODS[path]
        code = grpc.StatusCode.OK
        answers: list[bytes] = []
        kind: Any = self._channel.unary_stream if method.server_streaming else self._channel.unary_unary
        call = kind(path)(data, metadata=metadata, timeout=20)
        try:
            answers = [each async for each in call] if method.server_streaming else [await call]
        except grpc.aio.AioRpcError as error:
            code = error.code()
            self._seen.add(f"{path}: error", f"{error.details()} {error.debug_error_string()} {error!r}")
        for pairs in (await call.initial_metadata(), await call.trailing_metadata()):
            for key, value in pairs or ():
                self._seen.add(f"{path}: metadata {key}", value)
        parsed = None
        for answer in answers:
            parsed = GetMessageClass(method.output_type).FromString(answer)
            self._seen.add(f"{path}: answer", answer + repr(parsed).encode())
        self.codes.setdefault(path, set()).add(code)
        return parsed if code is grpc.StatusCode.OK else None


METHODS: Final[dict[str, MethodDescriptor]] = {
    f"/{service.full_name}/{method.name}": method
    for service in service_descriptors()
    for method in service.methods
}
CHAT: Final = "/aigateway.v1.ChatService/"
ADMIN: Final = "/aigateway.v1.AdminService/"


# What a provider may do with what it is given.


def echo_of(exchange: Exchange) -> str:
    """All that the provider was told."""
    return f"you said: {exchange.head.decode()} {exchange.body.decode()}"


def failing(status: int, **headers: str) -> Script:
    async def script(exchange: Exchange) -> None:
        said = echo_of(exchange)
        line = " ".join(said.split())[:4000]
        words = {name: line if value == "echo" else value for name, value in headers.items()}
        error = {"message": said, "type": said, "code": said[:60], "param": said, "detail": said}
        body = json.dumps({"error": error, "message": said}).encode()
        await send_body(exchange, body, status=status, headers=words)

    return script


async def cut_off(exchange: Exchange) -> None:
    said = echo_of(exchange)
    if exchange.streams:
        await exchange.head_of()
        await exchange.events(FIRST, {"error": {"message": said, "code": said}})
    else:
        await exchange.head_of(content_type="application/json", length=10_000_000)
        await exchange.send(json.dumps({"said": said}).encode())


async def send_page(exchange: Exchange) -> None:
    await send_body(exchange, f"<html>{echo_of(exchange)}</html>".encode(), content_type="text/html")


async def send_garbage(exchange: Exchange) -> None:
    said = echo_of(exchange)
    await send_json(exchange, {"choices": said, "id": [said], "usage": said, "model": {said: said}})


async def send_nonsense(exchange: Exchange) -> None:
    await exchange.raw(echo_of(exchange).encode() * 2 + b"\r\n\r\n")


async def send_bad_status_line(exchange: Exchange) -> None:
    await exchange.raw(f"HTTP/1.1 200 OK\r\nx {CANARIES['kept credential']}\r\n\r\n".encode())


async def answer(exchange: Exchange) -> None:
    """Answers with a canary, in the text and as arguments of a tool."""
    text = CANARIES["answer"]
    function = {"name": "look", "arguments": json.dumps({"q": text})}
    if exchange.streams:
        calls = [{"index": 0, "id": "call-2", "type": "function", "function": function}]
        parts = [text_chunk(text), chunk({"tool_calls": calls})]
        await send_stream(exchange, [FIRST, *parts, STOP, usage_chunk()])
    else:
        said = completion(text)
        calls = [{"id": "call-2", "type": "function", "function": function}]
        said["choices"][0]["message"]["tool_calls"] = calls
        await send_json(exchange, said)


SCRIPTS: Final[list[Script]] = [
    answer,
    failing(400),
    failing(401, **{"www-authenticate": "echo"}),
    failing(403),
    failing(404),
    failing(418, **{"x-reason": "echo"}),
    failing(429, **{"retry-after": "echo"}),
    failing(500),
    failing(503, **{"retry-after": "0"}),
    failing(302, location="echo"),
    cut_off,
    send_page,
    send_garbage,
    send_nonsense,
    send_bad_status_line,
]


def conversation(model: str) -> CreateChatCompletionRequest:
    """A request that is full of things nobody else should see."""
    options = Struct()
    options.update({"user": CANARIES["option"]})
    request = chat_request(CANARIES["prompt"], model=model, provider_options={"vllm": options})
    arguments = json.dumps({"q": CANARIES["prompt"]})
    call = ToolCallPart(tool_call_id="call-1", tool_name="look", arguments=arguments)
    request.messages.append(Message(role=Role.ROLE_ASSISTANT, parts=[ContentPart(tool_call=call)]))
    content = ContentPart(text=TextPart(text=CANARIES["tool result"]))
    result = ToolResultPart(tool_call_id="call-1", parts=[content])
    request.messages.append(Message(role=Role.ROLE_TOOL, parts=[ContentPart(tool_result=result)]))
    return request


#: Providers and their types. The first three have their credentials in the three places that there are.
PROVIDERS: Final = {
    "kept": "vllm",
    "variable": "vllm",
    "file": "vllm",
    "anthropic": "anthropic",
    "google": "google",
    "azure": "azure_openai",
    "bedrock": "bedrock",
}


def describe_provider(provider_id: str, upstream: Upstream, file: Path) -> Provider:
    """What the administrator writes. Made anew each time: who looks at all objects must not find it."""
    provider = Provider(provider_type=PROVIDERS[provider_id], base_url=upstream.base_url)
    match provider_id:
        case "kept":
            provider.credential = CANARIES["replaced credential"]
        case "variable":
            provider.credential_ref = "env:CANARY_API_KEY"
        case "file":
            provider.credential_ref = f"file:{file}"
        case "bedrock":
            provider.credential = f"AKIACANARYCANARY0001:{CANARIES['credential for bedrock']}"
            provider.config.update({"region": "eu-central-1"})
        case _:
            provider.credential = CANARIES[f"credential for {provider_id}"]
    return provider


async def set_up(caller: Caller, upstream: Upstream, file: Path) -> None:
    """Providers whose credentials come from each place, each with a model; faulty requests in between."""
    for provider_id in PROVIDERS:
        provider = describe_provider(provider_id, upstream, file)
        create = CreateProviderRequest(provider_id=provider_id, provider=provider)
        assert await caller.call(f"{ADMIN}CreateProvider", create) is not None
        assert await caller.call(f"{ADMIN}CreateProvider", create) is None
        model = CreateModelRequest(
            parent=f"providers/{provider_id}", model_id="m", model=Model(provider_model=MODEL)
        )
        assert await caller.call(f"{ADMIN}CreateModel", model) is not None
    kept = Provider(name="providers/kept", credential=CANARIES["kept credential"])
    replace = UpdateProviderRequest(provider=kept, update_mask=FieldMask(paths=["credential"]))
    assert await caller.call(f"{ADMIN}UpdateProvider", replace) is not None
    refused = CANARIES["credential that was refused"]
    for fault in (
        Provider(name="providers/kept", credential=refused, credential_ref="env:A_TOKEN"),
        Provider(name="providers/kept", credential=refused, base_url="nonsense"),
        Provider(name="providers/kept", credential=refused, provider_type="openai"),
        Provider(name="providers/absent", credential=refused),
        Provider(name="no name", credential=refused),
        Provider(name="providers/kept", credential=refused, etag="stale"),
        Provider(name="providers/kept", credential=refused * 4000),
        Provider(name="providers/kept", base_url="https://elsewhere.example"),
    ):
        assert await caller.call(f"{ADMIN}UpdateProvider", UpdateProviderRequest(provider=fault)) is None
    wrong = Provider(provider_type="unheard_of", credential=refused)
    assert await caller.call(f"{ADMIN}CreateProvider", CreateProviderRequest(provider=wrong)) is None
    limited = Provider(provider_type="vllm", credential=refused)
    limited.rate_limits.tokens_per_minute = 1
    assert await caller.call(f"{ADMIN}CreateProvider", CreateProviderRequest(provider=limited)) is None
    for provider_id in PROVIDERS:
        name = f"providers/{provider_id}"
        assert await caller.call(f"{ADMIN}GetProvider", GetProviderRequest(name=name)) is not None
        checked = await caller.call(f"{ADMIN}CheckProvider", CheckProviderRequest(name=name))
        assert checked.healthy
    listed = await caller.call(f"{ADMIN}ListProviders", ListProvidersRequest())
    assert len(listed.providers) >= len(PROVIDERS)


async def ask_everything(caller: Caller, upstream: Upstream) -> None:
    """Calls of every kind to providers that behave in every way."""
    for script in SCRIPTS:
        upstream.script = script
        for provider_id in PROVIDERS:
            request = conversation(f"{provider_id}/m")
            await caller.call(f"{CHAT}CreateChatCompletion", request)
            await caller.call(f"{CHAT}StreamChatCompletion", request)
        embed = CreateEmbeddingsRequest(model="kept/m", inputs=[EmbeddingInput(text=CANARIES["prompt"])])
        await caller.call("/aigateway.v1.EmbeddingsService/CreateEmbeddings", embed)
    upstream.script = answer_well
    count = CountTokensRequest(model="kept/m", messages=conversation("kept/m").messages)
    await caller.call(f"{CHAT}CountTokens", count)


async def ask_wrongly(caller: Caller) -> None:
    """Requests with a fault in them, which the answer must not quote."""
    prompt = CANARIES["prompt"]
    text = ContentPart(text=TextPart(text=prompt))
    call = ToolCallPart(tool_call_id="c", tool_name="look", arguments=prompt)
    faults = [
        [Message(parts=[text])],
        [Message(role=Role.ROLE_ASSISTANT, parts=[ContentPart(tool_call=call)])],
        [Message(role=Role.ROLE_TOOL, parts=[text])],
        [Message(role=99, parts=[text])],  # type: ignore[arg-type]
        [Message(role=Role.ROLE_USER, parts=[ContentPart(text=TextPart(text=prompt * 100_000))])],
    ]
    for messages in faults:
        request = CreateChatCompletionRequest(model="kept/m", messages=messages)
        await caller.call(f"{CHAT}CreateChatCompletion", request)
        await caller.call(f"{CHAT}StreamChatCompletion", request)
    unknown = conversation("nobody/knows")
    assert await caller.call(f"{CHAT}CreateChatCompletion", unknown) is None
    broken = b"\x0a\xff\xff\xff\x7f" + prompt.encode()
    assert await caller.call(f"{CHAT}CreateChatCompletion", broken) is None
    nobody = CANARIES["key of nobody"]
    for path in (f"{CHAT}CreateChatCompletion", f"{CHAT}StreamChatCompletion"):
        assert await caller.call(path, conversation("kept/m"), api_key=nobody) is None
    assert await caller.call(f"{CHAT}CreateChatCompletion", conversation("kept/m"), api_key=prompt) is None
    plain = await caller.call(
        f"{ADMIN}CreateApiKey",
        CreateApiKeyRequest(
            parent="tenants/default", api_key_id="plain", api_key=ApiKey(scopes=[Scope.SCOPE_INFERENCE])
        ),
    )
    secret = Provider(provider_type="vllm", credential=CANARIES["credential that was refused"])
    create = CreateProviderRequest(provider=secret)
    assert await caller.call(f"{ADMIN}CreateProvider", create, api_key=plain.secret) is None


async def call_every_method(caller: Caller) -> None:
    """Each RPC of the contract, empty and with names that are there."""
    names = {
        "name": (
            "providers/kept",
            "providers/kept/models/m",
            "tenants/default",
            "tenants/default/apiKeys/admin",
        )
    }
    names["parent"] = ("providers/kept", "providers/-", "tenants/default", "tenants/-")
    for path, method in METHODS.items():
        message = GetMessageClass(method.input_type)
        await caller.call(path, message())
        if re.search("Delete|Revoke|Rotate", path):
            continue  # they would end the test
        for name, values in names.items():
            if name in method.input_type.fields_by_name:
                for value in values:
                    await caller.call(path, message(**{name: value}))


def arrived_at(upstream: Upstream) -> set[str]:
    """Which canaries the provider was sent: that must be many, or nothing was shown here."""
    said = b"".join(exchange.head + exchange.body for exchange in upstream.exchanges)
    return set(found_in(said))


TO_THE_PROVIDER: Final = {
    "kept credential",
    "credential of the variable",
    "credential of the file",
    "credential for anthropic",
    "credential for google",
    "credential for azure",
    "prompt",
    "tool result",
    "option",
}


async def exercise(address: str, upstream: Upstream, seen: Seen, file: Path) -> Caller:
    """Uses a gateway in every way; gives the caller, whose codes tell what came of it."""
    async with grpc.aio.insecure_channel(address, options=[("grpc.max_metadata_size", 1 << 20)]) as channel:
        caller = Caller(channel, seen, CANARIES["admin key"])
        await set_up(caller, upstream, file)
        await ask_everything(caller, upstream)
        await ask_wrongly(caller)
        await call_every_method(caller)
    assert arrived_at(upstream) == TO_THE_PROVIDER
    assert caller.codes.keys() == METHODS.keys()
    chats = caller.codes[f"{CHAT}CreateChatCompletion"] | caller.codes[f"{CHAT}StreamChatCompletion"]
    assert len(chats) >= 8, chats
    return caller
