"""Routes from the command line, against a whole gateway."""

from __future__ import annotations

import asyncio
from pathlib import Path

from aigateway.v1.routing_pb2 import RoutingStrategy
from tests.cli.conftest import Run, runner_of
from tests.support.gateway import Gateway, running_gateway


async def test_a_route_is_made_changed_explained_used_and_deleted(gateway: Gateway, run: Run) -> None:
    made = await run(
        "routes", "create", "quick", "--strategy", "weighted", "--model", "demo/demo-chat=3",
        "--max-attempts", "2", "--attempt-timeout", "1.5", "--first-token-timeout", "0.25",
        "--max-targets", "1", "--no-fallback", "--quality-weight", "0.7",
    )  # fmt: skip
    assert made.code == 0, made.err
    route = await gateway.client.admin.routes.get("routes/quick")
    assert route.strategy == RoutingStrategy.ROUTING_STRATEGY_WEIGHTED
    assert [(each.model, each.weight) for each in route.targets] == [("providers/demo/models/demo-chat", 3)]
    assert route.retry_policy.attempt_timeout.ToMilliseconds() == 1500
    assert route.retry_policy.first_token_timeout.ToMilliseconds() == 250
    assert route.fallback_policy.disabled
    assert (await run("routes", "update", "quick", "--fallback")).code == 0
    assert not (await gateway.client.admin.routes.get("routes/quick")).fallback_policy.disabled
    listed = await run("routes", "list")
    assert "demo/demo-chat=3" in listed.out
    assert "every enabled model" in listed.out
    explained = await run("route", "explain", "quick", "Hello there")
    assert "routes/quick, weighted, 3 input tokens" in explained.out
    assert "demo/demo-chat" in explained.out
    assert (await run("chat", "-m", "quick", "Hello")).code == 0
    targets = await run("routes", "targets")
    assert "demo/demo-chat" in targets.out
    assert "closed" in targets.out
    assert (await run("routes", "delete", "quick")).code == 0
    assert (await run("routes", "get", "quick")).code == 4


async def test_providers_are_listed_with_the_worst_that_is_known_of_their_models(tmp_path: Path) -> None:
    async with running_gateway(tmp_path / "state", demo=True, target_breaker=True) as gateway:
        run = runner_of(gateway)

        async def targets() -> str:
            headings, row = (await run("providers", "list")).out.splitlines()
            begin = headings.index("TARGETS")
            return row[begin : headings.index("BASE URL")].strip()

        assert await targets() == ""
        await run("chat", "-m", "demo/demo-chat", "Hello")
        assert await targets() == "closed 1/1"
        await run("chat", "-m", "demo/demo-tools", "/fail 401")
        assert await targets() == "left alone 1/2"
        for _ in range(5):
            await run("chat", "-m", "demo/demo-fail", "/fail 503")
        assert await targets() == "open 1/3"
        await asyncio.sleep(2)
        assert await targets() == "half-open 1/3"
        assert "targets" not in (await run("providers", "list", "--json")).out.lower()


async def test_what_is_no_route_is_told(run: Run) -> None:
    wrong = await run("routes", "create", "odd", "--strategy", "by-colour")
    assert wrong.code == 2
    assert "cost-optimized" in wrong.err
    assert (await run("routes", "create", "odd", "--model", "demo/demo-chat=much")).code == 2
    nobody = await run("routes", "create", "odd", "--model", "demo/nobody")
    assert nobody.code == 2
    assert "does not exist" in nobody.err


async def test_routes_are_applied_from_a_file(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "gateway.yaml"
    file.write_text(
        "routes:\n- name: cheap\n  strategy: ROUTING_STRATEGY_COST_OPTIMIZED\n"
        "  targets: [{model: providers/demo/models/demo-chat}]\n"
    )
    first = await run("apply", "-f", str(file))
    assert first.code == 0, first.err
    assert "+ routes/cheap" in first.out
    again = await run("apply", "-f", str(file))
    assert again.out == ""
    assert (await run("routes", "delete", "cheap")).code == 0
