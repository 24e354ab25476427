"""Each noun from create to delete, through the command and a real gateway."""

import asyncio
import re
from typing import Any

import yaml

from tests.cli.conftest import Run
from tests.sdk.fake_gateway import FakeGateway


async def test_a_tenant_from_create_to_delete(run: Run) -> None:
    created = await run(
        *("tenants", "create", "acme", "--display-name", "Acme", "--email", "a@acme.example"),
        *("--label", "team=blue", "--allow-model", "demo/*"),
    )
    assert (created.code, created.err) == (0, "")
    tenant = yaml.safe_load(created.out)
    assert tenant["name"] == "tenants/acme"
    assert tenant["labels"] == {"team": "blue"}

    updated = await run("tenants", "update", "tenants/acme", "--display-name", "ACME", "--state", "suspended")
    assert updated.code == 0
    changed = yaml.safe_load(updated.out)
    assert (changed["display_name"], changed["state"]) == ("ACME", "STATE_SUSPENDED")
    assert changed["email"] == "a@acme.example"
    assert changed["etag"] != tenant["etag"]

    cleared = await run("tenants", "update", "acme", "--clear", "email", "--json")
    assert "email" not in cleared.json
    assert cleared.json["displayName"] == "ACME"

    listed = await run("tenants", "list")
    [row] = [line for line in listed.out.splitlines() if line.startswith("acme ")]
    assert row.split()[:3] == ["acme", "ACME", "suspended"]
    assert {one["name"] for one in (await run("tenants", "list", "--json")).json} >= {"tenants/acme"}
    assert (await run("tenants", "get", "acme", "--json")).json == cleared.json

    stale = await run("tenants", "delete", "acme", "--etag", str(tenant["etag"]))
    assert stale.code == 7
    assert "ETAG_MISMATCH" in stale.err
    assert (await run("tenants", "delete", "acme")).out == "deleted tenants/acme\n"
    assert (await run("tenants", "get", "acme")).code == 4


async def test_a_key_from_create_to_delete(run: Run) -> None:
    await run("tenants", "create", "keyed")
    created = await run(
        "keys", "create", "keyed/web", "--environment", "test", "--expires-in", "2d", "--json"
    )
    secret, key = created.json["secret"], created.json["apiKey"]
    assert re.fullmatch(r"sk-gw-[A-Za-z0-9_-]{43}", secret)
    assert key["environment"] == "test"
    assert "shown only now" in created.err

    mine = {"AIGW_API_KEY": secret}
    assert (await run("chat", "-m", "demo/demo-chat", "Hi", env=mine)).code == 0
    refused = await run("tenants", "list", env=mine)
    assert refused.code == 3
    assert "SCOPE_MISSING" in refused.err
    assert "use a key that has one of the scopes" in refused.err

    listed = await run("keys", "list", "keyed")
    [row] = [line for line in listed.out.splitlines() if line.startswith("keyed/web ")]
    assert row.split()[1:3] == ["test", f"{key['secretPrefix']}…{secret[-4:]}"]
    assert "inference, usage-read" in row
    assert secret not in listed.out

    rotated = await run("keys", "rotate", "keyed/web", "--grace-period", "1h", "--json")
    assert rotated.json["secret"] != secret
    assert (await run("chat", "-m", "demo/demo-chat", "Hi", env=mine)).code == 0

    updated = await run("keys", "update", "keyed/web", "--scope", "admin-read", "--clear", "expire_time")
    assert yaml.safe_load(updated.out)["scopes"] == ["SCOPE_ADMIN_READ"]
    assert "expire_time" not in yaml.safe_load(updated.out)

    assert "revoke_time" in yaml.safe_load((await run("keys", "revoke", "keyed/web")).out)
    revoked = await run("chat", "-m", "demo/demo-chat", "Hi", env=mine)
    assert revoked.code == 3
    assert "API_KEY_INVALID" in revoked.err
    assert " revoked" in (await run("keys", "list")).out
    assert (await run("keys", "delete", "keyed/web", "--json")).json == {}


async def test_a_provider_and_its_models_from_create_to_delete(run: Run) -> None:
    created = await run("providers", "create", "second", "--type", "demo", "--display-name", "Second")
    assert created.code == 0
    checked = await run("providers", "check", "second")
    assert checked.code == 0
    assert "providers/second answers" in checked.out
    assert "  demo-chat\n" in checked.out

    model = await run(
        *("models", "create", "second/Chat.v1:x", "--provider-model", "demo-chat", "--capability", "chat"),
        *("--capability", "tools", "--input-price", "2.50", "--output-price", "10", "--quality-score", "70"),
        *("--context-window-tokens", "128000", "--json"),
    )
    assert model.code == 0
    assert model.json["price"] == {
        "inputNanosPerMillion": "2500000000",
        "outputNanosPerMillion": "10000000000",
    }
    listed = await run("models", "list", "second")
    [_, row] = listed.out.splitlines()
    assert re.split(r" {2,}", row.strip()) == [
        *("second/Chat.v1:x", "chat, tools", "128000", "$2.50", "$10.00", "70.0", "enabled")
    ]
    repriced = await run("models", "update", "second/Chat.v1:x", "--output-price", "12", "--json")
    assert repriced.json["price"]["inputNanosPerMillion"] == "2500000000"
    assert repriced.json["price"]["outputNanosPerMillion"] == "12000000000"
    assert (await run("chat", "-m", "second/Chat.v1:x", "Hi")).code == 0

    in_use = await run("providers", "delete", "second")
    assert in_use.code == 7
    assert "RESOURCE_IN_USE" in in_use.err
    assert (await run("models", "delete", "second/Chat.v1:x")).code == 0
    disabled = await run("providers", "update", "second", "--disabled")
    assert yaml.safe_load(disabled.out)["disabled"] is True
    enabled = await run("providers", "update", "second", "--enabled")
    assert "disabled" not in yaml.safe_load(enabled.out)
    assert (await run("providers", "delete", "second")).code == 0


async def test_a_provider_that_cannot_be_used_is_told_by_check(run: Run) -> None:
    await run("providers", "create", "nowhere", "--type", "vllm", "--base-url", "http://127.0.0.1:1")

    checked = await run("providers", "check", "nowhere")

    assert checked.code == 1
    assert "providers/nowhere cannot be used: UPSTREAM_UNAVAILABLE" in checked.out
    assert (await run("providers", "delete", "nowhere")).code == 0


async def test_usage_records_tell_what_calls_did(run: Run) -> None:
    await run("tenants", "create", "used")
    key = await run("keys", "create", "used/k", "--json")
    mine = {"AIGW_API_KEY": key.json["secret"]}
    answered = await run("chat", "-m", "demo/demo-chat", "Hi", "--json", "--label", "case=usage", env=mine)
    await run("chat", "-m", "demo/demo-fail", "fail with 500", env=mine)
    records: list[Any] = []
    async with asyncio.timeout(10):
        while len(records) < 2:
            records = (await run("usage", "records", "used", "--json", "--since", "1h")).json

    failed, done = records
    assert done["name"] == f"tenants/used/usageRecords/{answered.json['id']}"
    assert done["labels"] == {"case": "usage"}
    assert done["usage"]["totalTokens"] == answered.json["usage"]["totalTokens"]
    assert failed["errorReason"] == "UPSTREAM_UNAVAILABLE"
    table = (await run("usage", "records", "used", "--limit", "1", env=mine)).out
    assert len(table.splitlines()) == 2
    assert "UPSTREAM_UNAVAILABLE" in table
    filtered = await run("usage", "records", "used", "--filter", "status_code = 0", "--json")
    assert [record["name"] for record in filtered.json] == [done["name"]]
    assert (await run("usage", "records", "used", "--until", "2020-01-01", "--json")).json == []


async def test_a_credential_is_sent_as_it_is_and_shown_nowhere(run: Run) -> None:
    fake = FakeGateway()
    await fake.start()
    create = ["providers", "create", "openai", "--type", "openai", "--config", "a=b", "--config", "n=5"]

    ran = await run(*create, "--credential-stdin", stdin="a-secret\n", env={"AIGW_TARGET": fake.target})
    await fake.stop()

    [call] = fake.calls
    assert call.request.provider.credential == "a-secret"
    assert dict(call.request.provider.config) == {"a": "b", "n": 5.0}
    assert ran.code == 0
    assert "a-secret" not in ran.out + ran.err


async def test_what_is_shown_ends_with_its_line(run: Run) -> None:
    await run("tenants", "create", "lines")
    made = await run("keys", "create", "lines/k")
    assert made.out.endswith("\n"), "else what follows seems to belong to the secret"
    assert made.out.splitlines()[-1].startswith("secret: sk-gw-")
