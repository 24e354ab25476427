"""What limits and budgets cost in the memory of one process: microseconds for the steps of one call.

uv run --frozen python -m bench.holds
"""

import asyncio
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from aigateway.v1.chat_service_pb2 import CreateChatCompletionRequest
from aigateway.v1.content_pb2 import ContentPart, Message, Role, TextPart
from aigateway.v1.model_pb2 import Model, Price
from gateway_server.call import BudgetLimit, CallContext, Principal, RateLimit
from gateway_server.clock import SystemClock
from gateway_server.ids import new_id
from gateway_server.limits.budget_book import BudgetBook
from gateway_server.limits.limiter import Claim, RateLimiter
from gateway_server.metrics import Metrics
from gateway_server.storage.budgets import BudgetRepository
from gateway_server.storage.engine import open_store
from gateway_server.storage.gateways import GatewayRepository
from gateway_server.storage.schema import upgrade
from gateway_server.usage.ceiling import chat_ceiling
from gateway_server.usage.entries import OpenAttempt, encode_open
from gateway_server.usage.journal import Journal

_CALLS: Final = 20_000
_PRICE: Final = Price(input_nanos_per_million=150_000_000, output_nanos_per_million=600_000_000)


async def _measure(name: str, step: Callable[[], Awaitable[object]]) -> None:
    await step()
    began = time.process_time()
    for _ in range(_CALLS):
        await step()
    print(f"| {name} | {(time.process_time() - began) / _CALLS * 1e6:.1f} |")


def _principal() -> Principal:
    budgets = tuple(
        BudgetLimit("acme", key, period, 10**15, "Europe/Berlin" if key else "")
        for key in ("", "k")
        for period in ("day", "month")
    )
    owners = ("tenants/acme", "tenants/acme/apiKeys/k")
    rates = tuple(RateLimit(owner, "", 10**7, 10**10, 1_000) for owner in owners)
    return Principal("acme", "k", frozenset(), budgets=budgets, rate_limits=rates)


async def _run(folder: Path) -> None:
    url = f"sqlite:///{folder / 'bench.db'}"
    await upgrade(url)
    store, clock, metrics, gateway_id = open_store(url), SystemClock(), Metrics(), new_id()
    await GatewayRepository(store).register(gateway_id)
    book = BudgetBook(BudgetRepository(store), gateway_id, clock=clock, metrics=metrics)
    limiter = RateLimiter(clock=clock, metrics=metrics, shared=None, processes=lambda: 1)
    journal = await asyncio.to_thread(Journal.open, folder, gateway_id, store_id="bench")
    model = Model(name="providers/p/models/m", price=_PRICE, max_output_tokens=4096)
    text = TextPart(text="What happens to this question on its way? " * 5)
    request = CreateChatCompletionRequest(
        model="m", messages=[Message(role=Role.ROLE_USER, parts=[ContentPart(text=text)])]
    )
    now = clock.now()
    call = CallContext(new_id(), "CreateChatCompletion", _principal(), clock, now, clock.monotonic(), 1e12)
    ceiling = chat_ceiling(request, model)

    async def ceil() -> None:
        chat_ceiling(request, model)

    async def hold() -> None:
        (await book.hold(call, model, ceiling)).settle(0)

    async def admit() -> None:
        call.trailing_metadata.clear()
        claim = Claim("acme", call.principal.rate_limits)
        [grant] = await limiter.admit(call, [claim], model_names=("m",), tokens=300, lease="l")
        grant.settle(0)

    async def journalled() -> None:
        attempt = OpenAttempt(
            call.request_id,
            "acme",
            "k",
            "",
            "CreateChatCompletion",
            "m",
            1,
            {},
            "",
            "p",
            "m",
            100,
            100,
            1,
            (),
        )
        journal.append(encode_open(attempt))

    print("| Step of a call | us of CPU |\n| --- | --- |")
    await _measure("the most that it can use", ceil)
    await _measure("hold on four budgets, settle", hold)
    await _measure("six rate limits, settle", admit)
    await _measure("open an attempt in the journal", journalled)
    await store.close()


if __name__ == "__main__":
    from gateway_server.time_zones import load_time_zones

    async def _main() -> None:
        await load_time_zones("Europe/Berlin")
        with tempfile.TemporaryDirectory() as folder:
            await _run(Path(folder))

    asyncio.run(_main())
