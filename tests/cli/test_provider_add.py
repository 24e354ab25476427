"""A provider set up with one command, over a real socket."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest
import yaml

from gateway_server.cli.provider_setup import choose_models
from tests.cli.conftest import Run
from tests.support.replay_upstream import replay_upstream, whole
from tests.unit.transport.provider import Peer, Provider, providing

SECRET = "sk-canary-of-the-add"
#: Some with a list price, and a hundred that nobody has heard of.
OFFERED = ["gpt-4o", "gpt-4o-mini", "o3", *(f"in-house-{number}" for number in range(100))]


@asynccontextmanager
async def listing(*names: str) -> AsyncIterator[Provider]:
    """A server with a list of models that wants a key."""
    body = json.dumps({"data": [{"id": name} for name in names]}).encode()

    async def script(peer: Peer) -> None:
        while True:
            seen = await peer.request()
            if f"authorization: Bearer {SECRET}".encode() in seen.head:
                await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
            else:
                await peer.send(b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 2\r\n\r\n{}")

    async with providing(script) as provider:
        yield provider


def url_of(server: Provider) -> str:
    return f"http://127.0.0.1:{server.port}"


async def test_models_with_a_known_price_are_added_and_again_changes_nothing(run: Run) -> None:
    async with listing(*OFFERED) as server:
        add = ["providers", "add", "openai", "--base-url", url_of(server), "--credential-stdin"]
        ran = await run(*add, stdin=f"{SECRET}\n")
        assert ran.code == 0, ran.err
        lines = ran.out.splitlines()
        assert lines[0] == "providers/openai: created"
        assert lines[1].startswith("providers/openai answers, in ")
        assert lines[1].endswith(" ms, and offers 103 models")
        assert lines[2:] == ["  openai/gpt-4o", "  openai/gpt-4o-mini", "  openai/o3", "3 models added"]
        assert ran.err == "100 more are offered, without a known price; --models adds them\n"
        model = (await run("models", "get", "openai/gpt-4o", "--json")).json
        assert model["price"]["inputNanosPerMillion"] == "2500000000"
        assert model["contextWindowTokens"] == "128000"

        # The credential is kept: it need not be given again.
        again = await run("providers", "add", "openai", "--base-url", url_of(server))
        assert (again.code, again.out.splitlines()[0]) == (0, "providers/openai: there already")
        assert again.out.splitlines()[2:] == ["0 models added, 3 were there already"]

        more = await run("providers", "add", "openai", "--models", "in-house-1*", "--json")
        assert more.code == 0
        assert len(more.json["added"]) == 11
        assert more.json["provider"]["baseUrl"] == url_of(server)
        assert more.json["check"]["healthy"] is True
        assert more.json["existing"] == []
        assert SECRET not in ran.out + ran.err + again.out + more.out


async def test_another_id_no_models_and_other_fields(run: Run) -> None:
    async with listing(*OFFERED) as server:
        ran = await run(
            *("providers", "add", "openai", "second", "--base-url", url_of(server), "--credential-stdin"),
            *("--no-models", "--display-name", "Second", "--label", "team=blue"),
            stdin=SECRET,
        )
        assert ran.code == 0, ran.err
        assert ran.out.splitlines()[0] == "providers/second: created"
        assert len(ran.out.splitlines()) == 2
        changed = await run("providers", "add", "openai", "second", "--no-models", "--display-name", "2nd")
        assert changed.out.splitlines()[0] == "providers/second: changed"
        provider = yaml.safe_load((await run("providers", "get", "second")).out)
        assert (provider["display_name"], provider["labels"]) == ("2nd", {"team": "blue"})
        assert (await run("models", "list", "second", "--json")).json == []


async def test_a_few_models_of_ones_own_server_are_all_added(run: Run) -> None:
    async with listing("mine/7b", "mine/70b") as server:
        ran = await run(
            *("providers", "add", "vllm", "own", "--base-url", url_of(server), "--credential-stdin"),
            stdin=SECRET,
        )
        assert ran.out.splitlines()[2:] == ["  own/mine-7b", "  own/mine-70b", "2 models added"]
        assert ran.err == ""


async def test_what_is_wrong_is_told_in_a_line_and_can_be_mended_by_the_same_command(run: Run) -> None:
    async with listing("mine") as server:
        add = ["providers", "add", "vllm", "mended", "--base-url", url_of(server)]
        wrong = await run(*add, "--credential-stdin", stdin="sk-wrong")
        assert wrong.code == 1
        created, cannot_be_used = wrong.out.splitlines()
        assert created == "providers/mended: created"
        assert cannot_be_used == (
            "providers/mended cannot be used: UPSTREAM_CREDENTIAL_REJECTED: "
            f"{url_of(server)} refuses the gateway's credential, or asks for one (HTTP 401)"
        )
        assert wrong.err == "give it with --credential-stdin, or with --credential-ref env:NAME\n"
        right = await run(*add, "--credential-stdin", stdin=SECRET)
        assert right.code == 0, right.out
        assert right.out.splitlines()[0] == "providers/mended: changed"
        assert right.out.splitlines()[-1] == "1 model added"
        assert "sk-wrong" not in wrong.out + wrong.err


async def test_a_name_that_is_not_offered_is_added_and_told(run: Run) -> None:
    async with listing("mine", "other") as server:
        ran = await run(
            *("providers", "add", "vllm", "named", "--base-url", url_of(server), "--credential-stdin"),
            *("--models", "alias", "--models", "none-*", "--models", "mine"),
            stdin=SECRET,
        )
        assert ran.out.splitlines()[2:] == ["  named/mine", "  named/alias", "2 models added"]
        assert ran.err.splitlines() == [
            "not offered by it, but added as named: alias",
            "it offers nothing like none-*",
        ]
        checked = await run("providers", "check", "named")
        assert checked.code == 0
        assert checked.err == "it does not list named/alias: an alias, mistyped, or no longer there\n"


async def test_an_id_that_another_type_has_is_refused(run: Run) -> None:
    await run("providers", "create", "taken", "--type", "demo")
    ran = await run("providers", "add", "vllm", "taken", "--base-url", "http://127.0.0.1:1")
    assert ran.code == 2
    assert "providers/taken is there already, of type demo; choose another id" in ran.err


async def test_options_that_exclude_each_other(run: Run) -> None:
    ran = await run("providers", "add", "demo", "x", "--models", "a", "--no-models")
    assert ran.code == 2
    assert "give --models or --no-models, not both" in ran.err


async def test_a_type_that_does_not_exist_names_those_that_do(run: Run) -> None:
    ran = await run("providers", "add", "unheard-of")
    assert ran.code == 2
    ran = await run("providers", "add", "unheard_of")
    assert ran.code == 2
    assert "is not a type of provider; there are " in ran.err


def test_deployments_must_be_named() -> None:
    chosen = choose_models("azure_openai", ["gpt-4o", "gpt-4o-mini"], ())
    assert chosen.names == ()
    assert "name them with --models" in chosen.remark
    assert choose_models("azure_openai", ["gpt-4o"], ["my-deployment"]).names == ("my-deployment",)


def test_many_models_without_a_price_are_not_added_unasked() -> None:
    offered = [f"m{number}" for number in range(21)]
    chosen = choose_models("vllm", offered, ())
    assert (chosen.names, chosen.remark) == (
        (),
        "21 more are offered, without a known price; --models adds them",
    )
    assert choose_models("vllm", offered[:20], ()).names == tuple(offered[:20])
    assert choose_models("vllm", offered, ["*"]).names == tuple(offered)


@dataclass(frozen=True)
class Setup:
    """One command for one type of provider, and what its server has to see and answer."""

    provider_type: str
    options: tuple[str, ...]
    path: str
    header: tuple[str, str]
    listed: dict[str, object]
    added: str
    base_path: str = ""
    credential: str = SECRET


SETUPS = [
    Setup(
        "anthropic",
        (),
        "/v1/models?limit=1000",
        ("x-api-key", SECRET),
        {"data": [{"type": "model", "id": "claude-sonnet-4-5"}], "has_more": False},
        "claude-sonnet-4-5",
        base_path="/v1",
    ),
    Setup(
        "azure_openai",
        ("--models", "my-gpt"),
        "/openai/v1/models",
        ("api-key", SECRET),
        {"data": [{"id": "gpt-4o"}]},
        "my-gpt",
    ),
    Setup(
        "bedrock",
        ("--config", "region=us-east-1"),
        "/foundation-models",
        ("authorization", "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/"),
        {"modelSummaries": [{"modelId": "amazon.nova-lite-v1:0"}]},
        "amazon.nova-lite-v1:0",
        credential=f"AKIAIOSFODNN7EXAMPLE:{SECRET}",
    ),
    Setup(
        "google",
        (),
        "/v1beta/models?pageSize=1000",
        ("x-goog-api-key", SECRET),
        {"models": [{"name": "models/gemini-2.5-flash"}]},
        "gemini-2.5-flash",
    ),
    Setup(
        "openai_compatible",
        ("--config", "reasoning_key=reasoning_content"),
        "/v1/models",
        ("authorization", f"Bearer {SECRET}"),
        {"data": [{"id": "their-model"}]},
        "their-model",
    ),
]


@pytest.mark.parametrize("setup", SETUPS, ids=lambda setup: setup.provider_type)
async def test_each_type_is_set_up_with_one_command_and_checked_with_another(run: Run, setup: Setup) -> None:
    name = setup.provider_type.replace("_", "-")
    async with replay_upstream() as server:
        server.replay = whole(200, {"content-type": "application/json"}, json.dumps(setup.listed).encode())
        base_url = f"{server.url}{setup.base_path}"
        added = await run(
            *("providers", "add", setup.provider_type, name, "--base-url", base_url),
            *("--credential-stdin", *setup.options),
            stdin=setup.credential,
        )
        assert added.code == 0, added.out + added.err
        assert added.out.splitlines()[0] == f"providers/{name}: created"
        assert added.out.splitlines()[-2:] == [f"  {name}/{setup.added}", "1 model added"]

        checked = await run("providers", "check", name)
        assert checked.code == 0, checked.out
        assert checked.out.startswith(f"providers/{name} answers, in ")

        header, value = setup.header
        assert {asked.path for asked in server.requests} == {setup.path}
        assert all(asked.headers[header].startswith(value) for asked in server.requests)

        server.replay = whole(403, {"content-type": "application/json"}, b"{}")
        refused = await run("providers", "check", name)
        assert refused.code == 1
        assert refused.out == (
            f"providers/{name} cannot be used: UPSTREAM_CREDENTIAL_REJECTED: "
            f"{server.url} refuses the gateway's credential, or asks for one (HTTP 403)\n"
        )
        assert SECRET not in added.out + added.err + checked.out + refused.out + refused.err
