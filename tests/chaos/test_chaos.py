"""Three gateways on one PostgreSQL and one Redis, callers near their budgets, and all that can go wrong.

`CHAOS_SECONDS=180 CHAOS_SEED=7` runs it for longer than the few seconds of `make test`. Afterwards the
provider's own books, the ledger and the budgets must agree.
"""

from __future__ import annotations

import asyncio
import base64
import os
import random
import socket
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from pathlib import Path

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import SQLAlchemyError

from aigateway.v1.api_key_pb2 import ApiKey
from aigateway.v1.model_pb2 import Model, Price
from aigateway.v1.provider_pb2 import Provider
from aigateway.v1.tenant_pb2 import Budget, RateLimits, Tenant
from aigateway.v1.usage_pb2 import UsageState
from aigateway.v1.usage_service_pb2 import UsageRecord
from gateway_server.errors import GatewayError
from gateway_server.storage.engine import Store, open_store
from gateway_server.storage.paging import PageRequest
from gateway_server.storage.tables import budget_leases, budget_windows, gateways
from gateway_server.storage.usage_records import UsageQuery, UsageRepository
from tests.chaos.callers import Answers, call_until
from tests.chaos.fleet import Fleet, running_fleet
from tests.chaos.provider import INPUT_NANOS, OUTPUT_NANOS, Books
from tests.support.services import SERVICES, Service
from tests.support.told import tell_lines
from tests.support.upstream import MODEL, running_upstream

SECONDS = float(os.environ.get("CHAOS_SECONDS", "12"))
SEED = int(os.environ.get("CHAOS_SEED", "1"))

TENANTS = ("ant", "bee", "cat")
#: A tenant that always asks for more than its limit.
LIMITED = "dog"
LIMIT = 6
#: Gateways are killed; PostgreSQL restarts; Redis restarts, and forgets.
MISFORTUNES = 4
#: A tenant's day, and a key's: a few seconds of calls for each.
TENANT_NANOS = round(SECONDS * 1_700_000)
KEY_NANOS = TENANT_NANOS // 2
NEAR_NANOS = TENANT_NANOS * 8 // 10
PRICE = Price(
    input_nanos_per_million=INPUT_NANOS * 1_000_000, output_nanos_per_million=OUTPUT_NANOS * 1_000_000
)


@dataclass
class Watcher:
    """Looks at the budgets as the database has them, as often as it can."""

    store: Store
    looks: int = 0
    most_spent: int = 0
    overspent: list[str] = field(default_factory=list)

    async def watch(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            with suppress(GatewayError, SQLAlchemyError, OSError):
                async with self.store.read() as connection:
                    windows = (await connection.execute(select(budget_windows))).all()
                self.looks += 1
                for window in windows:
                    self.most_spent = max(self.most_spent, window.spent_nanos)
                    limit = KEY_NANOS if window.api_key_id else TENANT_NANOS
                    if window.spent_nanos + window.leased_nanos > limit:
                        self.overspent.append(repr(window))
            await asyncio.sleep(0.02)


async def set_up(fleet: Fleet, base_url: str) -> dict[str, list[str]]:
    """Tenants with budgets and limits, keys with budgets, a model with a price; the secrets by tenant."""
    admin = (await fleet.admin()).admin
    await admin.providers.create(Provider(provider_type="vllm", base_url=base_url), provider_id="local")
    await admin.models.create("providers/local", Model(provider_model=MODEL, price=PRICE))
    secrets: dict[str, list[str]] = {}
    for tenant_id in (*TENANTS, LIMITED):
        per_minute = LIMIT if tenant_id == LIMITED else 3000
        limits = RateLimits(requests_per_minute=per_minute, max_concurrent_requests=40)
        tenant = Tenant(budget=Budget(daily_nanos=TENANT_NANOS), rate_limits=limits)
        await admin.tenants.create(tenant, tenant_id=tenant_id)
        for _ in range(1 if tenant_id == LIMITED else 3):
            key = ApiKey(budget=Budget(daily_nanos=KEY_NANOS))
            made = await admin.api_keys.create(f"tenants/{tenant_id}", key)
            secrets.setdefault(tenant_id, []).append(made.secret)
    return secrets


async def break_things(
    stop: asyncio.Event,
    fleet: Fleet,
    redis: Service,
    postgresql: Service,
    *,
    draw: random.Random,
    happened: Counter[str],
) -> None:
    """One misfortune after another, until it is time; each once, then by chance."""

    async def kill_a_gateway() -> None:
        member = draw.choice(fleet.members)
        if member.lives:
            await member.kill()
            await asyncio.sleep(draw.uniform(0, 0.5))
            await member.start()

    async def flush_redis() -> None:
        await asyncio.to_thread(_flush, redis)

    async def restart_redis() -> None:
        await asyncio.to_thread(redis.kill)
        await asyncio.sleep(draw.uniform(0.1, 1))
        await asyncio.to_thread(redis.start)

    async def restart_postgresql() -> None:
        await asyncio.to_thread(postgresql.stop)
        await asyncio.sleep(draw.uniform(0, 0.5))
        await asyncio.to_thread(postgresql.start)

    misfortunes: list[Callable[[], Awaitable[None]]] = [
        kill_a_gateway,
        restart_postgresql,
        restart_redis,
        flush_redis,
        kill_a_gateway,
    ]
    turn = misfortunes.copy()
    while not stop.is_set():
        happens = turn.pop() if turn else draw.choice(misfortunes)
        await happens()
        happened[happens.__name__] += 1
        await asyncio.sleep(draw.uniform(0.1, 0.4))


def _flush(redis: Service) -> None:
    with suppress(OSError), socket.create_connection(("127.0.0.1", redis.port), timeout=1) as connection:
        connection.sendall(b"FLUSHALL\r\n")
        connection.recv(16)


async def all_records(store: Store) -> list[UsageRecord]:
    repository, token = UsageRepository(store), ""
    found: list[UsageRecord] = []
    while True:
        page = await repository.list_page(UsageQuery(None), PageRequest(1000, token))
        found += page.items
        token = page.next_page_token
        if not token:
            return found


@pytest.mark.timeout(300 + 3 * SECONDS)
async def test_whatever_goes_wrong_books_ledger_and_budgets_agree(tmp_path: Path) -> None:
    draw = random.Random(SEED)
    books, answers, numbers = Books(), Answers(), count()
    redis = await asyncio.to_thread(SERVICES.own, "redis")
    postgresql = await asyncio.to_thread(SERVICES.own, "postgresql")
    url = f"postgresql+asyncpg://postgres@127.0.0.1:{postgresql.port}/postgres"
    settings = {
        "database_url": url,
        "redis_url": f"redis://127.0.0.1:{redis.port}",
        "key_pepper": "1:" + base64.b64encode(b"p" * 32).decode(),
        "drain_seconds": 10,
    }
    store = open_store(url)
    async with AsyncExitStack() as stack:
        for service in (redis, postgresql):
            stack.push_async_callback(asyncio.to_thread, service.kill)
        stack.push_async_callback(store.close)
        upstream = await stack.enter_async_context(running_upstream())
        upstream.script = books.serve
        async with running_fleet(tmp_path / "fleet", 3, draw, **settings) as fleet:
            secrets = await set_up(fleet, upstream.base_url)
            stop, watcher = asyncio.Event(), Watcher(store)
            callers = [
                asyncio.create_task(
                    call_until(
                        stop,
                        client_of_somebody=partial(fleet.client_of_somebody, secret),
                        tenant_id=tenant_id,
                        draw=random.Random(draw.random()),
                        answers=answers,
                        numbers=numbers,
                    )
                )
                for tenant_id, of_tenant in secrets.items()
                for secret in of_tenant
                for _ in range(2 if tenant_id == LIMITED else 4)
            ]
            began = asyncio.get_running_loop().time()
            watching = asyncio.create_task(watcher.watch(stop))
            happened: Counter[str] = Counter()
            breaking = asyncio.create_task(
                break_things(stop, fleet, redis, postgresql, draw=draw, happened=happened)
            )
            await asyncio.sleep(SECONDS)
            with suppress(TimeoutError):  # on a slow machine it takes longer until all has happened
                async with asyncio.timeout(120):
                    while not breaking.done() and (
                        watcher.most_spent <= NEAR_NANOS or len(happened) < MISFORTUNES
                    ):
                        await asyncio.sleep(0.1)
            stop.set()
            await asyncio.gather(breaking, *callers, watching)
            elapsed = asyncio.get_running_loop().time() - began
            for member in fleet.members:  # who died last has left something behind
                if not member.lives:
                    await member.start()

        records = {record.end_user_id: record for record in await all_records(store)}
        reasons = Counter(record.error_reason or "OK" for record in records.values())
        tell_lines(
            "chaos",
            [
                f"{SECONDS:g} s, seed {SEED}: {dict(happened)}, {fleet.deaths} gateways killed",
                f"callers were told {dict(answers.counts())}",
                f"the provider served {len(books.served)} calls and refused {books.refused}",
                f"the ledger has {dict(reasons)}; budgets were looked at {watcher.looks} times",
            ],
        )

        assert fleet.deaths > 0
        assert len(happened) == MISFORTUNES
        assert answers.counts()["INTERNAL"] == 0
        assert watcher.looks > SECONDS
        assert watcher.overspent == []
        assert len(books.served) > 4 * SECONDS
        assert answers.counts()["OK"] > 2 * SECONDS
        assert answers.counts()["RATE_LIMIT_EXCEEDED"] > 0
        admitted = sum(bool(record.attempts) for record in records.values() if f"/{LIMITED}/" in record.name)
        assert admitted <= _most_admitted(elapsed, happened, fleet.deaths)
        _compare_served(books, records)
        _compare_told(answers, records)
        await _check_left(store)


def _most_admitted(seconds: float, happened: Counter[str], deaths: int) -> float:
    """What a limit may let through: as much at once for each time that Redis forgets, and a process, which
    counts for itself while Redis is away, begins; and what gets free meanwhile, here and there.
    """
    begun = 1 + happened["flush_redis"] + happened["restart_redis"] + 3 + deaths
    return LIMIT * (begun + 2 * seconds / 60)


def _compare_served(books: Books, records: dict[str, UsageRecord]) -> None:
    """Each call that the provider served has one row, which costs what it billed, or more if marked."""
    for call_id, served in books.served.items():
        assert served.times == 1, call_id
        record = records[call_id]
        if record.usage.state == UsageState.USAGE_STATE_PROVIDER_REPORTED:
            assert record.cost.total_nanos == served.nanos, call_id
            assert not record.cost.estimated
        elif record.error_reason == "INTERRUPTED":
            assert record.cost.estimated
            assert record.cost.total_nanos >= served.nanos, call_id
        else:
            assert record.cost.estimated
            assert record.usage.input_tokens > 0


def _compare_told(answers: Answers, records: dict[str, UsageRecord]) -> None:
    """Nobody was told something by a gateway that is not in the ledger."""
    for told in answers.told:
        if told.outcome == "OK":
            record = records[told.call_id]
            assert record.error_reason == "", told
            assert record.usage.output_tokens == told.output_tokens
        elif told.from_gateway and told.outcome not in _WITHOUT_ROW:
            assert records[told.call_id].error_reason == told.outcome


#: Refused before there is a call to account for: the process takes none, or does not know whose it is.
_WITHOUT_ROW = {"SHUTTING_DOWN", "STORE_UNAVAILABLE", "OVERLOADED", "DEADLINE_EXCEEDED"}


async def _check_left(store: Store) -> None:
    """Nothing is held, and what budgets have spent is what the ledger says."""
    async with store.read() as connection:
        assert (await connection.execute(select(gateways))).all() == []
        assert (await connection.execute(select(budget_leases))).all() == []
        windows = (await connection.execute(select(budget_windows))).all()
        rows = await connection.execute(
            text(
                "SELECT r.tenant_id, r.api_key_id, sum(a.cost_nanos) AS nanos FROM usage_attempts a"
                " JOIN usage_records r USING (start_day, request_id)"
                " WHERE a.cost_nanos IS NOT NULL GROUP BY 1, 2"
            )
        )
        spent: Counter[tuple[str, str]] = Counter()
        for row in rows:
            spent[row.tenant_id, row.api_key_id] += int(row.nanos)
            spent[row.tenant_id, ""] += int(row.nanos)
    for window in windows:
        assert window.leased_nanos == 0
        assert window.spent_nanos == spent[window.tenant_id, window.api_key_id]
        assert window.spent_nanos <= (KEY_NANOS if window.api_key_id else TENANT_NANOS)
    assert max(window.spent_nanos for window in windows) > NEAR_NANOS  # they came near the limit
