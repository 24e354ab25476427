"""Nothing that a gateway says or keeps holds a secret of its own, of its providers or of its callers.

Canaries go everywhere a secret goes: the provider gets them, and throws them back in all its answers. Then
all that can be seen is searched: answers and errors with their details, logs at the lowest level, metrics,
what the command prints, the state folder, and how objects show themselves.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import gc
import json
import logging
import re
import warnings
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import grpc
import httpx
import pytest
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message as ProtoMessage
from google.protobuf.message_factory import GetMessageClass
from google.protobuf.struct_pb2 import Struct
from typer.testing import CliRunner

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
from gateway_server.cli.app import app
from gateway_server.pipeline.upstream import Upstream as PipelineUpstream
from gateway_server.rpc.methods import service_descriptors
from tests.support.gateway import chat_request, free_port, gateway_process, running_gateway
from tests.support.upstream import (
    FIRST,
    MODEL,
    Exchange,
    Script,
    Upstream,
    answer_well,
    running_upstream,
    send_body,
    send_json,
)

MASTER_KEY: Final = base64.b64encode(b"canary-of-the-master-key-3f9a71c").decode()
CANARIES: Final = {
    "admin key": "sk-gw-" + "canaryADMINkey" + "7" * 29,
    "key of nobody": "sk-gw-" + "canaryNOBODYkey" + "5" * 28,
    "pepper": "canary-pepper-88d1e0c2aa",
    "master key": MASTER_KEY,
    "bytes of the master key": base64.b64decode(MASTER_KEY).decode(),
    "kept credential": "sk-canary-kept-51c7b0ff",
    "replaced credential": "sk-canary-replaced-9917ac",
    "credential that was refused": "sk-canary-refused-6d21bb",
    "credential of the variable": "sk-canary-variable-b3305e",
    "credential of the file": "sk-canary-file-04c1d9",
    "prompt": "canary prompt: my cat is called Xylophone-77",
    "tool result": "canary result: the vault opens at 04:17",
    "option": "canary-option-31ce",
    "answer": "canary answer: so is mine, Marimba-12",
}


def forms_of(secret: str) -> set[bytes]:
    """How a secret may stand in what is seen: plain, escaped, or encoded."""
    raw = secret.encode()
    forms = {raw, quote(secret).encode(), quote(secret, safe="").encode(), json.dumps(secret)[1:-1].encode()}
    forms |= {raw.hex().encode(), raw.hex().upper().encode(), secret[::-1].encode()}
    for shift in range(3):  # in the middle of something longer, base64 has three ways
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            forms.add(encode(bytes(shift) + raw)[4 if shift else 0 :].rstrip(b"=")[:-2])
    return forms


FORMS: Final = {name: forms_of(secret) for name, secret in CANARIES.items()}


def found_in(data: bytes | str) -> list[str]:
    """The names of the canaries that are in there."""
    text = data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data
    return [name for name, forms in FORMS.items() if any(form in text for form in forms)]


def test_the_search_finds_what_is_there() -> None:
    for name, secret in CANARIES.items():
        raw = secret.encode()
        for hidden in (
            b"x" + raw + b"y",
            base64.b64encode(b"a" + raw + b"b"),
            base64.b64encode(b"ab" + raw + b"cd"),
            base64.b64encode(raw),
            raw.hex().encode(),
            quote(secret).encode(),
            json.dumps({"a": secret}).encode(),
        ):
            assert name in found_in(hidden), (name, hidden)
    assert found_in(b"nothing of interest") == []


@dataclass
class Seen:
    """All that was told, each with where it was seen."""

    things: list[tuple[str, bytes]] = field(default_factory=list)

    def add(self, where: str, data: bytes | str) -> None:
        self.things.append((where, data.encode() if isinstance(data, str) else data))

    def leaks(self, *, allowed: Iterable[str] = ()) -> list[str]:
        """Where canaries were seen, but for the allowed ones."""
        known = set(allowed)
        return [
            f"{name} in {where}: {data[:2000]!r}"
            for where, data in self.things
            for name in found_in(data)
            if name not in known
        ]


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
        if method.server_streaming:
            call: Any = self._channel.unary_stream(path)(data, metadata=metadata, timeout=20)
        else:
            call = self._channel.unary_unary(path)(data, metadata=metadata, timeout=20)
        try:
            if method.server_streaming:
                answers = [answer async for answer in call]
            else:
                answers = [await call]
        except grpc.aio.AioRpcError as error:
            code = error.code()
            self._seen.add(f"{path}: error", f"{error.details()} {error.debug_error_string()} {error!r}")
        for kind, pairs in (
            ("head", await call.initial_metadata()),
            ("trailer", await call.trailing_metadata()),
        ):
            for key, value in pairs or ():
                self._seen.add(
                    f"{path}: {kind}",
                    key.encode() + b": " + (value if isinstance(value, bytes) else value.encode()),
                )
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
        words = {
            name: " ".join(said.split())[:4000] if value == "echo" else value
            for name, value in headers.items()
        }
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


SCRIPTS: Final[list[Script]] = [
    answer_well,
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
    call = ToolCallPart(id="call-1", name="look", arguments_json=arguments)
    request.messages.append(Message(role=Role.ROLE_ASSISTANT, parts=[ContentPart(tool_call=call)]))
    content = ContentPart(text=TextPart(text=CANARIES["tool result"]))
    result = ToolResultPart(tool_call_id="call-1", content=[content])
    request.messages.append(Message(role=Role.ROLE_TOOL, parts=[ContentPart(tool_result=result)]))
    return request


PROVIDERS: Final = ("kept", "variable", "file")


async def set_up(caller: Caller, upstream: Upstream, file: Path) -> None:
    """Providers whose credentials come from each place, each with a model; faulty requests in between."""
    refs = {"variable": "env:CANARY_API_KEY", "file": f"file:{file}"}
    for provider_id in PROVIDERS:
        provider = Provider(
            provider_type="vllm", base_url=upstream.base_url, credential_ref=refs.get(provider_id, "")
        )
        if provider_id == "kept":
            provider.credential = CANARIES["replaced credential"]
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
    call = ToolCallPart(id="c", name="look", arguments_json=prompt)
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


def add_files(seen: Seen, folder: Path, *, but: Iterable[str] = ()) -> None:
    found = [path for path in folder.rglob("*") if path.is_file() and path.name not in set(but)]
    assert any(path.suffix == ".db" for path in found)
    for path in found:
        seen.add(f"file {path.name}", path.read_bytes())


def run_command(seen: Seen, address: str, *args: str, stdin: str = "", key: str = "admin key") -> str:
    env = {"AIGW_TARGET": address, "AIGW_API_KEY": CANARIES[key], "COLUMNS": "200"}
    done = CliRunner().invoke(app, list(args), input=stdin, env=env, prog_name="ai-gateway")
    seen.add(f"command {' '.join(args)}", f"{done.output}\n{done.exception!r}")
    return done.output


COMMANDS: Final = [
    (["providers", "list"], ""),
    (["providers", "list", "--json"], ""),
    (["providers", "get", "kept"], ""),
    (["providers", "check", "kept"], ""),
    (["providers", "check", "kept", "--json"], ""),
    (["providers", "update", "kept", "--credential-stdin"], CANARIES["kept credential"]),
    (
        ["providers", "update", "kept", "--credential-stdin", "--base-url", "x"],
        CANARIES["credential that was refused"],
    ),
    (
        ["providers", "create", "kept", "--type", "vllm", "--credential-stdin"],
        CANARIES["credential that was refused"],
    ),
    (["providers", "add", "vllm", "kept", "--credential-stdin", "--no-models"], CANARIES["kept credential"]),
    (
        ["providers", "add", "openai", "--credential-stdin", "--base-url", "http://127.0.0.1:1"],
        CANARIES["kept credential"],
    ),
    (["keys", "list"], ""),
    (["keys", "get", "default/admin"], ""),
    (["models", "list"], ""),
    (["tenants", "list", "--json"], ""),
    (["usage", "records", "--json"], ""),
    (["usage", "records"], ""),
    (
        ["apply", "-f", "-"],
        json.dumps({"providers": [{"name": "kept", "credential": CANARIES["credential that was refused"]}]}),
    ),
]


def gateway_secrets(folder: Path) -> dict[str, Any]:
    return {
        "admin_key": CANARIES["admin key"],
        "key_pepper": f"7:{CANARIES['pepper']}",
        "master_key": MASTER_KEY,
        "log_level": "debug",
        "upstream_first_byte_seconds": 2,
        "upstream_idle_seconds": 2,
        "max_request_bytes": 1 << 20,
    }


@pytest.fixture
def credential_file(tmp_path: Path) -> Path:
    folder = tmp_path / "credentials"
    folder.mkdir()
    (folder / "key").write_text(CANARIES["credential of the file"])
    return folder / "key"


@pytest.fixture
async def echoing() -> AsyncIterator[Upstream]:
    async with running_upstream() as upstream:
        yield upstream


async def test_a_process_tells_no_secret(
    tmp_path: Path, credential_file: Path, echoing: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CANARY_API_KEY", CANARIES["credential of the variable"])
    seen, state_dir, metrics_port = Seen(), tmp_path / "state", free_port()
    settings = {
        **gateway_secrets(tmp_path),
        "credential_dirs": str(credential_file.parent),
        "log_format": "json",
        "metrics_listen": f"127.0.0.1:{metrics_port}",
    }
    async with gateway_process(state_dir, **settings) as process:
        assert await process.ready(), process.log
        await exercise(process.address, echoing, seen, credential_file)
        async with httpx.AsyncClient(trust_env=False) as client:
            answer = await client.get(f"http://127.0.0.1:{metrics_port}/metrics")
        assert 'provider="kept"' in answer.text
        seen.add("metrics", answer.text)
        for args, stdin in COMMANDS:
            await asyncio.to_thread(run_command, seen, process.address, *args, stdin=stdin)
        await asyncio.to_thread(run_command, seen, process.address, "keys", "list", key="key of nobody")
        chat = ["chat", "-m", "kept/m", CANARIES["prompt"]]
        assert "Hello there" in await asyncio.to_thread(run_command, seen, process.address, *chat)
        await asyncio.to_thread(add_files, seen, state_dir)  # while it runs, with what is not merged yet
        credential_file.write_text("")
        credential_file.unlink()
        process.terminate()
        assert await process.exit_code() == 0
        seen.add("log", process.log)
        assert '"level": "debug"' in process.log
    await asyncio.to_thread(add_files, seen, state_dir)
    commands = [where for where, _ in seen.things if where.startswith("command chat")]
    assert len(commands) == 1
    # The command line itself is not the gateway's to hide.
    seen.things = [(where.split(" -m ")[0], data) for where, data in seen.things]
    assert seen.leaks() == []


def objects_of_the_gateway() -> Iterator[object]:
    """Every object of a class of ours, and those of libraries that hold ours, as far as Python can tell."""
    packages = (
        "gateway_server",
        "aigateway",
        "httpx",
        "httptools",
        "sqlalchemy",
        "grpc",
        "cryptography",
        "asyncio",
    )
    for thing in gc.get_objects():
        module = getattr(type(thing), "__module__", "")
        if isinstance(module, str) and module.partition(".")[0] in packages:
            yield thing


async def test_no_object_shows_a_secret(
    tmp_path: Path,
    credential_file: Path,
    echoing: Upstream,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Also with a fault of the gateway itself, whose exception quotes what was sent."""
    monkeypatch.setenv("CANARY_API_KEY", CANARIES["credential of the variable"])
    caplog.set_level(logging.DEBUG)
    seen = Seen()
    settings = {**gateway_secrets(tmp_path), "credential_dirs": (credential_file.parent,)}
    async with running_gateway(tmp_path / "state", **settings) as gateway:
        await exercise(gateway.address, echoing, seen, credential_file)
        shown: dict[str, int] = {}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # attributes that are deprecated
            for thing in list(objects_of_the_gateway()):
                with contextlib.suppress(ReferenceError):
                    seen.add(f"repr of {type(thing).__qualname__}", repr(thing) + str(thing))
                    shown[type(thing).__qualname__] = shown.get(type(thing).__qualname__, 0) + 1
        for expected in ("Settings", "MasterKeys", "Peppers", "Credentials", "CredentialFile", "Catalog"):
            assert shown.get(expected), f"no {expected} was looked at"
        assert shown["OpenAICompatibleEndpoint"] >= len(PROVIDERS)

        async def fail(_: object, request: Any, __: object) -> Any:
            raise RuntimeError(f"cannot send {request.headers} {request.body}")

        monkeypatch.setattr(PipelineUpstream, "send", fail)
        async with grpc.aio.insecure_channel(gateway.address) as channel:
            caller = Caller(channel, seen, CANARIES["admin key"])
            await caller.call(f"{CHAT}CreateChatCompletion", conversation("kept/m"))
            await caller.call(f"{CHAT}StreamChatCompletion", conversation("kept/m"))
            assert set().union(*caller.codes.values()) == {grpc.StatusCode.INTERNAL}
        assert "failed by a fault of the gateway: RuntimeError" in caplog.text
    seen.add("log", caplog.text)
    assert seen.leaks() == []
