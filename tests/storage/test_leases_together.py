"""Leases of several tenants in one transaction: whoever asks while one is under way goes with the next."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import pytest

from aigateway.v1.error_reason_pb2 import ErrorReason
from aigateway.v1.model_pb2 import Model, Price
from gateway_server.call import BudgetLimit, CallContext, Principal
from gateway_server.errors import GatewayError
from gateway_server.ids import new_id
from gateway_server.limits.budget_book import BudgetBook
from gateway_server.limits.budgets import Hold
from gateway_server.metrics import Metrics
from gateway_server.storage.budget_windows import WindowKey
from gateway_server.storage.budgets import BudgetRepository, LeaseNeed, LeaseWant, WindowState
from gateway_server.storage.engine import Store, store_unavailable
from gateway_server.storage.gateways import GatewayRepository
from gateway_server.usage.ceiling import TokenCeiling
from tests.support.stores import SetClock

NOON = 1_760_011_200.0
DAY = 1_759_968_000_000_000
NEXT_DAY = DAY + 86_400_000_000
MODEL = Model(name="providers/p/models/m", price=Price(input_nanos_per_million=1_000_000))
TENANTS = ("a", "b", "c", "d")


class CountedRepository(BudgetRepository):
    """Notes of which tenants each transaction was, and can be away."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.extended: list[set[str]] = []
        self.kept: list[set[str]] = []
        self.is_away = False

    async def extend(
        self, gateway_id: str, wants: Sequence[LeaseWant], needs: Sequence[LeaseNeed]
    ) -> dict[WindowKey, WindowState]:
        self.extended.append({want.window.tenant_id for want in wants})
        states = await super().extend(gateway_id, wants, needs)
        if self.is_away:
            raise store_unavailable()
        return states

    async def keep(self, gateway_id: str, leases: Mapping[WindowKey, int]) -> None:
        self.kept.append({window.tenant_id for window in leases})
        await super().keep(gateway_id, leases)


class Calls:
    """Calls of several tenants to one process, each with a budget for a day."""

    def __init__(self, book: BudgetBook, clock: SetClock) -> None:
        self._book = book
        self._clock = clock

    async def hold(self, tenant_id: str, *, limit: int = 1_000) -> Hold:
        budget = BudgetLimit(tenant_id, "", "day", limit, "UTC")
        principal = Principal(tenant_id, "k", frozenset(), budgets=(budget,))
        now = self._clock.now()
        call = CallContext(new_id(), "CreateChatCompletion", principal, self._clock, now, now, now + 100)
        return await self._book.hold(call, MODEL, TokenCeiling(100))


@pytest.fixture
def clock() -> SetClock:
    return SetClock(NOON)


@pytest.fixture
def repository(store: Store) -> CountedRepository:
    return CountedRepository(store)


@pytest.fixture
async def calls(store: Store, clock: SetClock, repository: CountedRepository) -> Calls:
    gateway_id = new_id()
    await GatewayRepository(store).register(gateway_id)
    return Calls(BudgetBook(repository, gateway_id, clock=clock, metrics=Metrics()), clock)


async def test_leases_that_meet_share_a_transaction(repository: CountedRepository, calls: Calls) -> None:
    first = asyncio.create_task(calls.hold("a"))
    while not repository.extended:
        await asyncio.sleep(0)
    await asyncio.gather(first, *(calls.hold(tenant) for tenant in TENANTS[1:]))
    assert repository.extended == [{"a"}, {"b", "c", "d"}]


async def test_what_is_idle_goes_back_in_one_transaction(
    repository: CountedRepository, calls: Calls, clock: SetClock
) -> None:
    for hold in await asyncio.gather(*map(calls.hold, TENANTS)):
        hold.settle(0)
    clock.advance(100)
    await calls._book.tick()
    assert repository.kept == [set(TENANTS)]


async def test_a_tenant_without_room_does_not_cost_another_its_lease(calls: Calls) -> None:
    outcomes = await asyncio.gather(
        calls.hold("a"), calls.hold("b", limit=50), calls.hold("c"), return_exceptions=True
    )
    refusals = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
    assert [str(getattr(each, "metadata", {}).get("owner")) for each in refusals] == ["tenants/b"]


async def test_everybody_hears_of_a_store_that_is_away(
    store: Store, repository: CountedRepository, calls: Calls
) -> None:
    repository.is_away = True  # it has granted all the same
    outcomes = await asyncio.gather(*map(calls.hold, TENANTS), return_exceptions=True)
    assert all(isinstance(each, GatewayError) for each in outcomes)
    assert {getattr(each, "reason", None) for each in outcomes} == {
        ErrorReason.ERROR_REASON_STORE_UNAVAILABLE
    }
    repository.is_away = False
    await asyncio.gather(*map(calls.hold, TENANTS))
    [state] = (await repository.states("", [WindowKey("d", "", "day", DAY)])).values()
    assert 100 <= state.leased_nanos < 200, "what was not heard of was put right"


async def test_each_need_is_granted_on_all_windows_or_on_none(store: Store) -> None:
    gateway_id = new_id()
    await GatewayRepository(store).register(gateway_id)
    tenant, *keys = (WindowKey("a", key, "day", DAY) for key in ("", "k", "l", "m"))
    limits = {tenant: 100, keys[0]: 5, keys[1]: 100, keys[2]: 100}
    wants = [LeaseWant(window, NEXT_DAY, limit, 0) for window, limit in limits.items()]
    needs = [LeaseNeed([tenant, key], nanos) for key, nanos in zip(keys, (10, 90, 11), strict=True)]
    needs.append(LeaseNeed([tenant, keys[0]], 5))
    states = await BudgetRepository(store).extend(gateway_id, wants, needs)
    assert {window: states[window].granted_nanos for window in limits} == {
        tenant: 95,
        keys[0]: 5,
        keys[1]: 90,
        keys[2]: 0,
    }


async def test_first_calls_of_a_tenant_share_transactions(
    repository: CountedRepository, calls: Calls
) -> None:
    await asyncio.gather(*(calls.hold("a", limit=10**9) for _ in range(100)))
    assert len(repository.extended) <= 2


async def test_many_tenants_do_not_wait_for_a_transaction_each(
    repository: CountedRepository, calls: Calls
) -> None:
    await asyncio.gather(*(calls.hold(f"t{number}") for number in range(200)))
    assert len(repository.extended) <= 15
    assert max(map(len, repository.extended)) <= 50


async def test_refusals_share_transactions(repository: CountedRepository, calls: Calls) -> None:
    outcomes = await asyncio.gather(
        *(calls.hold("a", limit=1_050) for _ in range(50)), return_exceptions=True
    )
    holds = [outcome for outcome in outcomes if isinstance(outcome, Hold)]
    assert len(holds) == 1_050 // holds[0].nanos
    assert len(repository.extended) <= 3


async def test_a_refusal_that_is_known_before_costs_no_transaction(
    repository: CountedRepository, calls: Calls, clock: SetClock
) -> None:
    hold = await calls.hold("a", limit=150)
    for _ in range(2):
        with pytest.raises(GatewayError):
            await calls.hold("a", limit=150)
    assert len(repository.extended) == 1
    hold.settle(0)  # what has come back is known too
    (await calls.hold("a", limit=150)).settle(100)
    with pytest.raises(GatewayError):
        await calls.hold("a", limit=150)
    asked = len(repository.extended)
    (await calls.hold("a", limit=250)).settle(0)  # so is a budget that was raised
    assert len(repository.extended) == asked + 1
    with pytest.raises(GatewayError):
        await calls.hold("a", limit=250 - hold.nanos)
    clock.advance(2)  # others may have had what they gave back since
    with pytest.raises(GatewayError):
        await calls.hold("a", limit=250 - hold.nanos)
    assert len(repository.extended) == asked + 2


async def test_leases_that_are_put_right_once_are_left_alone_under_way(
    repository: CountedRepository, calls: Calls
) -> None:
    """As long as calls spend, something is always used that the store has not counted yet."""
    day = WindowKey("a", "", "day", DAY)
    (await calls.hold("a", limit=10**9)).settle(50)
    calls._book._windows[day].drop_free()
    for _ in range(3):
        await calls._book.tick()
        calls._book.settling([day])
        hold = await calls.hold("a", limit=10**9)
        calls._book.settled({day: 50})
        hold.settle(50)
    assert len(repository.kept) == 1


async def test_a_recall_of_the_past_takes_no_lease(
    repository: CountedRepository, calls: Calls, clock: SetClock
) -> None:
    (await calls.hold("a", limit=10**6)).settle(0)
    await repository.recall(WindowKey("a", "", "day", DAY))
    for _ in range(2):  # gives it back, and forgets it
        await calls._book.tick()
        clock.advance(5)
    assert not calls._book._windows
    (await calls.hold("a", limit=10**6)).settle(0)
    await calls._book.tick()
    (await calls.hold("a", limit=10**6)).settle(0)
    assert len(repository.extended) == 2


async def test_a_lease_far_from_the_cap_outlives_a_pause_and_is_recalled_all_the_same(
    store: Store, repository: CountedRepository, calls: Calls, clock: SetClock
) -> None:
    (await calls.hold("a", limit=10**6)).settle(0)
    (await calls.hold("b", limit=10**4)).settle(0)
    clock.advance(10)
    await calls._book.tick()
    assert repository.kept == [{"b"}], "which is a larger share of its cap"
    (await calls.hold("a", limit=10**6)).settle(0)
    assert repository.extended == [{"a"}, {"b"}], "it was still there"
    await repository.recall(WindowKey("a", "", "day", DAY))
    await calls._book.tick()
    assert repository.kept[1:] == [{"a"}]
