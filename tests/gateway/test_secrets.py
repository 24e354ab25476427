"""Nothing that a gateway says or keeps holds a secret of its own, of its providers or of its callers.

Canaries go everywhere a secret goes: the provider gets them, and throws them back in all its answers. Then
all that can be seen is searched: answers and errors with their details, logs at the lowest level, metrics,
what the command prints, the state folder, and how objects show themselves.
"""

from __future__ import annotations

import asyncio
import base64
import gc
import json
import logging
import warnings
from collections.abc import AsyncIterator, Iterable, Iterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import grpc
import httpx
import pytest
from typer.testing import CliRunner

from gateway_server.cli.app import app
from gateway_server.pipeline.upstream import Upstream as PipelineUpstream
from tests.gateway.canaries import CANARIES, MASTER_KEY, Seen, found_in
from tests.gateway.canary_calls import CHAT, Caller, conversation, exercise
from tests.support.gateway import free_port, gateway_process, running_gateway
from tests.support.upstream import (
    Upstream,
    running_upstream,
)


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


#: What a model answers is for the one who asked, and for nobody else.
OF_THE_CALLER: Final = {
    "answer": (f"{CHAT}CreateChatCompletion: answer", f"{CHAT}StreamChatCompletion: answer", "command chat")
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


async def test_a_process_tells_no_secret(tmp_path: Path, credential_file: Path, echoing: Upstream) -> None:
    variables = {"CANARY_API_KEY": CANARIES["credential of the variable"]}
    seen, state_dir, metrics_port = Seen(), tmp_path / "state", free_port()
    settings = {
        **gateway_secrets(tmp_path),
        "credential_dirs": str(credential_file.parent),
        "log_format": "json",
        "metrics_listen": f"127.0.0.1:{metrics_port}",
    }
    async with gateway_process(state_dir, environment=variables, **settings) as process:
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
        await asyncio.to_thread(credential_file.unlink)
        process.terminate()
        assert await process.exit_code() == 0
        seen.add("log", process.log)
        assert '"level": "debug"' in process.log
    await asyncio.to_thread(add_files, seen, state_dir)
    commands = [where for where, _ in seen.things if where.startswith("command chat")]
    assert len(commands) == 1
    # The command line itself is not the gateway's to hide.
    seen.things = [(where.split(" -m ")[0], data) for where, data in seen.things]
    assert seen.leaks(allowed=OF_THE_CALLER) == []


def objects_of_the_gateway() -> Iterator[object]:
    """Every object of a class of ours, and those of libraries that hold ours, as far as Python can tell."""
    packages = ("gateway_server", "aigateway", "httpx", "sqlalchemy", "grpc", "cryptography", "asyncio")
    for thing in gc.get_objects():
        module = getattr(type(thing), "__module__", "")
        if isinstance(module, str) and module.partition(".")[0] in packages:
            yield thing


def is_ours(thing: object) -> bool:
    return type(thing).__module__.startswith(("gateway_server", "aigateway"))


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
        gc.collect()  # calls that are over are no part of the gateway any more
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # attributes that are deprecated
            for thing in list(objects_of_the_gateway()):
                kind = type(thing).__qualname__
                try:
                    seen.add(f"repr of {kind}", repr(thing) + str(thing))
                except Exception:
                    if is_ours(thing):
                        raise
                    continue  # some objects of libraries cannot be shown in every state
                shown[kind] = shown.get(kind, 0) + 1
        for expected in ("Settings", "MasterKeys", "Peppers", "Credentials", "CredentialFile", "Catalog"):
            assert shown.get(expected), f"no {expected} was looked at"
        for expected, count in (
            ("OpenAICompatibleEndpoint", 3),
            ("AzureOpenAIEndpoint", 1),
            ("BedrockEndpoint", 1),
        ):
            assert shown[expected] >= count

        async def fail(_: object, request: Any, __: object, **options: object) -> Any:
            raise RuntimeError(f"cannot send {request.headers} {request.body}")

        monkeypatch.setattr(PipelineUpstream, "send", fail)
        async with grpc.aio.insecure_channel(gateway.address) as channel:
            caller = Caller(channel, seen, CANARIES["admin key"])
            await caller.call(f"{CHAT}CreateChatCompletion", conversation("kept/m"))
            await caller.call(f"{CHAT}StreamChatCompletion", conversation("kept/m"))
            assert set().union(*caller.codes.values()) == {grpc.StatusCode.INTERNAL}
        assert "failed by a fault of the gateway: RuntimeError" in caplog.text
    seen.add("log", caplog.text)
    assert seen.leaks(allowed=OF_THE_CALLER) == []
