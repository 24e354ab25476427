"""A whole gateway with the demo provider, and the command as its users run it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
from typer.testing import CliRunner

from gateway_server.cli.app import app
from tests.support.gateway import Gateway, running_gateway


@dataclass(frozen=True)
class Ran:
    """What a command printed and exited with."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Run = Callable[..., Awaitable[Ran]]


@pytest.fixture(scope="package")
async def gateway(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Gateway]:
    state_dir = tmp_path_factory.mktemp("cli") / "state"
    async with running_gateway(state_dir, demo=True, drain_seconds=1) as gateway:
        yield gateway


@pytest.fixture
def run(gateway: Gateway) -> Run:
    """Runs the command against the gateway, with its admin key in the environment, as a test may change."""
    return runner_of(gateway)


def runner_of(gateway: Gateway) -> Run:
    """What runs the command against a gateway."""

    async def invoke(*args: str, stdin: str = "", env: Mapping[str, str] | None = None) -> Ran:
        environment = {"AIGW_TARGET": gateway.address, "AIGW_API_KEY": gateway.admin_key, **(env or {})}
        done = await asyncio.to_thread(
            CliRunner().invoke, app, list(args), input=stdin, env=environment, prog_name="ai-gateway"
        )
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return Ran(done.exit_code, done.stdout, done.stderr)

    return invoke
