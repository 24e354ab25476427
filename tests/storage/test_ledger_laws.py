"""Each call has just one row, whatever is flushed when and whoever dies: the ledger against a plain sum."""

from __future__ import annotations

import asyncio
import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from aigateway.v1.routing_pb2 import Attempt
from aigateway.v1.usage_pb2 import Cost, TokenUsage
from gateway_server.clock import SystemClock
from gateway_server.metrics import Metrics
from gateway_server.storage.engine import Store
from gateway_server.storage.gateways import GatewayRepository
from gateway_server.storage.settlement import Settlements
from gateway_server.storage.tables import gateways, usage_attempts, usage_records
from gateway_server.storage.usage_records import CallRecord
from gateway_server.usage.entries import OpenAttempt
from gateway_server.usage.journal import Journal
from gateway_server.usage.ledger import Ledger
from gateway_server.usage.recovery import Recovery
from tests.support.ledgers import new_ledger
from tests.support.services import SERVICES
from tests.support.stores import BACKENDS, fresh_store

START = 1_760_000_000_000_000
MOST = 1_000_000


def opening(request_id: str) -> OpenAttempt:
    return OpenAttempt(
        request_id=request_id,
        tenant_id="acme",
        api_key_id="k",
        environment="",
        method="CreateChatCompletion",
        model="m",
        start_time=START,
        labels={},
        end_user_id="",
        provider_id="p",
        provider_model="m",
        input_tokens=10,
        output_tokens=10,
        most_nanos=MOST,
        windows=(),
    )


def settled(request_id: str, nanos: int) -> CallRecord:
    cost = Cost(currency_code="USD", total_nanos=nanos)
    usage = TokenUsage(total_tokens=1)
    attempt = Attempt(provider="providers/p", provider_model="m", usage=usage, cost=cost)
    return CallRecord(
        request_id=request_id,
        tenant_id="acme",
        api_key_id="k",
        method="CreateChatCompletion",
        model="m",
        start_time=START,
        latency=1,
        status_code=0,
        usage=usage,
        cost=cost,
        attempts=[attempt],
    )


class World:
    """One process after another in one folder, and what each call should have cost in the end."""

    def __init__(self, store: Store, folder: Path) -> None:
        self.store = store
        self.folder = folder
        self.expected: dict[str, int] = {}
        self.under_way: list[str] = []
        self.ledger: Ledger | None = None
        self.numbers = 0

    async def process(self) -> Ledger:
        if self.ledger is None:
            self.ledger = await new_ledger(self.store, self.folder, linger_seconds=0.001)
            await self.ledger.start()
        return self.ledger

    async def begin(self) -> None:
        request_id = f"r{self.numbers:04}"
        self.numbers += 1
        (await self.process()).open_attempt(opening(request_id))
        self.under_way.append(request_id)
        self.expected[request_id] = MOST  # until it is known better

    async def end(self, place: int, nanos: int) -> None:
        if self.under_way:
            request_id = self.under_way.pop(place % len(self.under_way))
            (await self.process()).record(settled(request_id, nanos))
            self.expected[request_id] = nanos

    async def rotate(self) -> None:
        ledger = await self.process()
        ledger._journal._segment_bytes = 1
        await ledger._tend_journal()

    async def die(self) -> None:
        """As a killed process does: its writer stops wherever it is, its lock is gone, nothing is written."""
        if self.ledger is None:
            return
        assert self.ledger._writer is not None
        self.ledger._writer.cancel()
        await asyncio.wait([self.ledger._writer])
        journal: Journal = self.ledger._journal
        await asyncio.to_thread(os.close, journal._file)
        await asyncio.to_thread(os.close, journal._lock)
        self.ledger = None
        self.under_way.clear()

    async def recover(self) -> None:
        recovery = Recovery(
            self.folder / "journal",
            store_id="tests",
            gateways=GatewayRepository(self.store),
            settlements=Settlements(self.store),
            clock=SystemClock(),
            metrics=Metrics(),
        )
        await recovery.run()

    async def check(self) -> None:
        async with self.store.read() as connection:
            rows = (await connection.execute(select(usage_records))).all()
            attempts = (await connection.execute(select(usage_attempts))).all()
            assert (await connection.execute(select(gateways))).all() == []
        assert {row.request_id: row.cost_nanos for row in rows} == self.expected
        assert {row.request_id: row.cost_nanos for row in attempts} == self.expected
        assert len(attempts) == len(self.expected)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("begin"), st.just(0), st.just(0)),
        st.tuples(st.just("end"), st.integers(0, 9), st.integers(0, MOST)),
        st.tuples(st.sampled_from(["flush", "die", "recover", "rotate", "turn"]), st.just(0), st.just(0)),
    ),
    max_size=40,
)


async def _run(backend: str, folder: Path, steps: list[tuple[str, int, int]]) -> None:
    async with fresh_store(backend, folder) as store:
        world = World(store, folder)
        for step, place, nanos in steps:
            match step:
                case "begin":
                    await world.begin()
                case "end":
                    await world.end(place, nanos)
                case "flush":
                    await (await world.process()).flush()
                case "die":
                    await world.die()
                case "recover":
                    await world.recover()
                case "rotate":
                    await world.rotate()
                case "turn":
                    await asyncio.sleep(0.002)  # the writer may come to something
        await world.die()
        await world.recover()
        await world.recover()  # there is nothing left to do
        await world.check()


@pytest.mark.parametrize("backend", BACKENDS)
def test_each_call_has_one_row_at_what_it_cost(backend: str) -> None:
    if backend == "postgresql":
        SERVICES.postgresql()

    @settings(
        max_examples=25 if backend == "sqlite" else 12,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(STEPS)
    def law(steps: list[tuple[str, int, int]]) -> None:
        with tempfile.TemporaryDirectory() as folder:
            asyncio.run(_run(backend, Path(folder), steps))

    law()
