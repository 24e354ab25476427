"""Limits, budgets and usage from the command line, against a whole gateway."""

from __future__ import annotations

import asyncio
import csv
import io
import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as parquet
import pytest
from sqlalchemy import delete

from aigateway import GatewayError
from aigateway.v1.tenant_pb2 import Tenant
from gateway_server.storage.engine import open_store
from gateway_server.storage.tables import usage_rollups
from tests.cli.conftest import Run, runner_of
from tests.cli.test_process import finished
from tests.support.gateway import Gateway, running_gateway


async def test_every_limit_and_budget_can_be_set_and_is_shown(gateway: Gateway, run: Run) -> None:
    made = await run(
        "tenants", "create", "limited", "--requests-per-minute", "100", "--tokens-per-minute", "5000",
        "--max-concurrent-requests", "4", "--daily-budget", "2.50", "--monthly-budget", "40",
        "--time-zone", "Europe/Berlin", "--alert-percentage", "80", "--alert-percentage", "50",
        "--allow-unpriced-models", "--limiter-failure-policy", "closed", "--json",
    )  # fmt: skip
    assert made.code == 0, made.err
    tenant = await gateway.client.admin.tenants.get("tenants/limited")
    assert tenant.budget.daily_nanos == 2_500_000_000
    assert list(tenant.budget.alert_percentages) == [80, 50]
    assert tenant.budget.allow_unpriced_models
    assert tenant.limiter_failure_policy == Tenant.LIMITER_FAILURE_POLICY_CLOSED
    shown = await run("limits", "limited")
    for text in ("requests_per_minute", "5,000", "$2.50", "monthly_budget", "100%"):
        assert text in shown.out
    wrong = await run("tenants", "update", "limited", "--time-zone", "Europe/Nowhere")
    assert wrong.code == 2
    assert "time_zone" in wrong.err


async def test_limits_of_providers_and_models_are_set_and_taken_away(gateway: Gateway, run: Run) -> None:
    numbers = ("--requests-per-minute", "100", "--tokens-per-minute", "5000")
    made = await run("providers", "create", "narrow", "--type", "demo", *numbers, "--json")
    assert made.code == 0, made.err
    assert made.json["rateLimits"] == {"requestsPerMinute": "100", "tokensPerMinute": "5000"}
    made = await run(
        "models", "create", "narrow/m", "--provider-model", "demo-chat", "--max-concurrent-requests", "4",
        "--json",
    )  # fmt: skip
    assert made.json["rateLimits"] == {"maxConcurrentRequests": "4"}
    changed = await run("models", "update", "narrow/m", "--requests-per-minute", "0", "--json")
    assert changed.json["rateLimits"] == {"maxConcurrentRequests": "4", "requestsPerMinute": "0"}
    refused = await run("chat", "-m", "narrow/m", "Hi")
    assert refused.code != 0
    assert "providers/narrow/models/m" in refused.err
    cleared = await run("models", "update", "narrow/m", "--clear", "rate_limits", "--json")
    assert "rateLimits" not in cleared.json
    assert (await run("chat", "-m", "narrow/m", "Hi")).code == 0
    await run("models", "delete", "narrow/m")
    await run("providers", "delete", "narrow")


async def test_a_day_and_sums_and_a_file(gateway: Gateway, run: Run, tmp_path: Path) -> None:
    await gateway.client.chat.create("demo/demo-chat", "hello", labels={"team": "a"})
    day = await run("usage")
    assert "REQUESTS" in day.out
    assert "demo/demo-chat" in day.out
    told = json.loads((await run("usage", "--json")).out)
    assert int(told["total"]["requestCount"]) >= 1
    sums = await run("usage", "query", "--group-by", "model,labels.team", "--step", "hour")
    assert "LABELS.TEAM" in sums.out
    wrong = await run("usage", "query", "--group-by", "colour")
    assert wrong.code == 2
    file = tmp_path / "usage.parquet"
    assert (await run("usage", "export", "--format", "parquet", "-o", str(file))).code == 0
    table = parquet.read_table(file).to_pylist()
    listed = await run("usage", "export", "--format", "jsonl", "--filter", 'labels.team = "a"')
    [line] = [json.loads(line) for line in listed.out.splitlines()]
    assert line in table
    assert line["total_tokens"] > 0


async def test_a_model_is_one_of_the_top_models_whatever_callers_call_it(gateway: Gateway, run: Run) -> None:
    """By its id, with its provider, or through a route: the bill is the same model's."""
    made = await run("routes", "create", "some-route", "--model", "demo/demo-chat", "--json")
    assert made.code == 0, made.err
    for name in ("demo/demo-chat", "demo-chat", "some-route"):
        await gateway.client.chat.create(name, "hello", labels={"team": "a"})
    async with asyncio.timeout(10):
        told: dict[str, Any] = {"total": {"requestCount": 0}}
        while int(told["total"]["requestCount"]) < 3:
            told = json.loads((await run("usage", "--json")).out)
    served = [each["group"] for each in told["models"]]
    assert {"provider": "providers/demo", "provider_model": "demo-chat"} in served
    assert all("model" not in group for group in served)
    day = (await run("usage")).out
    assert "demo/demo-chat" in day
    assert "some-route" not in day
    await run("routes", "delete", "some-route")


async def test_a_csv_file_tells_what_the_lines_of_json_tell(
    gateway: Gateway, run: Run, tmp_path: Path
) -> None:
    labels = {"case": "csv", "odd": 'a, "b"\nc'}
    await gateway.client.chat.create("demo/demo-chat", "hello", labels=labels, end_user_id="ü")
    with pytest.raises(GatewayError):
        await gateway.client.chat.create("demo/demo-chat", "/fail 500", labels=labels)
    asked = ["usage", "export", "--filter", 'labels.case = "csv"']
    lines: list[str] = []
    async with asyncio.timeout(10):
        while len(lines) < 2:
            lines = (await run(*asked, "--format", "jsonl")).out.splitlines()
    file = tmp_path / "usage.csv"

    written = await run(*asked, "-o", str(file))
    printed = await run(*asked)

    assert (written.code, written.out, written.err) == (0, "", "2 calls\n")
    with file.open(encoding="utf-8", newline="") as opened:
        failed, done = rows = list(csv.DictReader(opened))
    assert list(csv.DictReader(io.StringIO(printed.out, newline=""))) == rows
    told = [json.loads(line) for line in lines]
    assert rows == [
        {name: "" if value is None else str(value) for name, value in row.items()} for row in told
    ]
    assert json.loads(done["labels"]) == labels
    assert (done["end_user_id"], done["status_code"], done["error_reason"]) == ("ü", "0", "")
    assert int(done["cost_nanos"]) > 0
    assert (failed["error_reason"], failed["cost_nanos"]) == ("UPSTREAM_UNAVAILABLE", "")


async def test_sums_are_made_anew_from_the_calls(tmp_path: Path) -> None:
    state_dir = tmp_path / "state"
    async with running_gateway(state_dir, demo=True) as gateway:
        await gateway.client.chat.create("demo/demo-chat", "hello")
    store = open_store(f"sqlite:///{state_dir / 'ai-gateway.db'}")
    async with store.write() as connection:
        await connection.execute(delete(usage_rollups))
    await store.close()

    rebuilt = await finished("rebuild-usage", env={"AIGW_STATE_DIR": str(state_dir)})

    assert rebuilt == (0, "1 calls summed by hour and day\n", "")
    async with running_gateway(state_dir) as gateway:
        told = (await runner_of(gateway)("usage", "--json")).json
    assert int(told["total"]["requestCount"]) == 1


async def test_a_key_of_a_tenant_sees_its_own_without_naming_it(gateway: Gateway, run: Run) -> None:
    await run("tenants", "create", "plain")
    made = (await run("keys", "create", "plain/k", "--json")).json
    mine = {"AIGW_API_KEY": made["secret"]}
    await run("chat", "-m", "demo/demo-chat", "Hi", env=mine)
    day = await run("usage", env={**mine, "COLUMNS": "80"})
    assert day.code == 0, day.err
    assert "plain/k" in day.out
    assert max(map(len, day.out.splitlines())) <= 80
    for command in (["query", "--group-by", "api_key"], ["records"], ["export", "--format", "jsonl"]):
        told = await run("usage", *command, env=mine)
        assert told.code == 0, told.err
        assert told.out.count("plain/") + told.out.count("tenants/plain") >= 1
    refused = await run("usage", "--tenant", "default", env=mine)
    assert refused.code == 4


async def test_the_largest_come_first_when_asked(gateway: Gateway, run: Run) -> None:
    for count, label in enumerate(("few", "some", "most"), start=1):
        for _ in range(count):
            await gateway.client.chat.create("demo/demo-chat", "hello", labels={"size": label})
    told = await run(
        "usage", "query", "--group-by", "labels.size", "--filter", "labels.size != ''",
        "--order-by", "request_count desc", "--json",
    )  # fmt: skip
    assert [each["group"]["labels.size"] for each in told.json] == ["most", "some", "few"]
    wrong = await run("usage", "query", "--order-by", "colour")
    assert wrong.code == 2
    assert "order_by" in wrong.err


async def test_who_changed_what_is_listed(gateway: Gateway, run: Run) -> None:
    await run("tenants", "create", "audited")
    listed = await run("audit", "list", "tenants/audited")
    assert "CreateTenant" in listed.out
