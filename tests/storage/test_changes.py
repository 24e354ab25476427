"""Other processes notice every change, each once it is committed and never before."""

from __future__ import annotations

import asyncio

import pytest

from aigateway.v1.tenant_pb2 import Tenant
from gateway_server.errors import GatewayError
from gateway_server.storage import changes
from gateway_server.storage.changes import ChangeFeed, Changes, read_changes, record_change
from gateway_server.storage.engine import Store, store_unavailable
from gateway_server.storage.tenants import TenantRepository
from tests.support.stores import SetClock


class Listener:
    def __init__(self) -> None:
        self.heard: list[Changes] = []
        self.changed = asyncio.Event()
        self.failure: GatewayError | None = None

    async def __call__(self, found: Changes) -> None:
        self.changed.set()
        if self.failure is not None:
            raise self.failure
        self.heard.append(found)


async def test_every_write_is_counted_and_named(store: Store, clock: SetClock) -> None:
    tenants = TenantRepository(store, clock)
    start = (await read_changes(store, 0)).revision
    await tenants.create("a", Tenant())
    await tenants.create("b", Tenant())
    await tenants.update("a", lambda tenant: tenant.labels.update(x="y"))
    await tenants.delete("b")
    assert await read_changes(store, start) == Changes(start + 4, ("tenants/a", "tenants/b"))
    assert await read_changes(store, start + 3) == Changes(start + 4, ("tenants/b",))
    assert await read_changes(store, start + 4) == Changes(start + 4, ())


async def test_a_write_that_fails_or_changes_nothing_is_not_counted(store: Store, clock: SetClock) -> None:
    tenants = TenantRepository(store, clock)
    await tenants.create("a", Tenant())
    start = (await read_changes(store, 0)).revision
    with pytest.raises(GatewayError):
        await tenants.create("a", Tenant())
    await tenants.update("a", lambda _: None)
    assert (await read_changes(store, 0)).revision == start


async def test_who_missed_too_much_is_told_that_anything_may_have_changed(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changes, "KEPT_CHANGES", 5)
    monkeypatch.setattr(changes, "_PRUNE_EVERY", 10)
    for number in range(10):
        async with store.write() as connection:
            await record_change(connection, f"tenants/t{number}", 0)
    assert not (await read_changes(store, 0)).complete
    assert not (await read_changes(store, 4)).complete
    assert (await read_changes(store, 5)).complete
    assert not (await read_changes(store, 11)).complete, "the database was restored from a backup"


async def test_a_feed_tells_of_the_changes_of_another_process(store: Store, clock: SetClock) -> None:
    feed, listener = ChangeFeed(store, clock, interval=0.01), Listener()
    feed.subscribe(listener)
    await feed.start()
    await TenantRepository(store, clock).create("a", Tenant())
    async with asyncio.timeout(5):
        await listener.changed.wait()
    await feed.close()
    assert [found.resources for found in listener.heard] == [("tenants/a",)]


async def test_a_feed_tells_of_the_own_changes_at_once(store: Store, clock: SetClock) -> None:
    feed, listener = ChangeFeed(store, clock), Listener()
    feed.subscribe(listener)
    await feed.announce("tenants/a")
    assert listener.heard == [Changes(0, ("tenants/a",))]


async def test_a_listener_that_fails_is_told_again_and_keeps_no_other_from_hearing(
    store: Store, clock: SetClock
) -> None:
    feed, failing, other = ChangeFeed(store, clock), Listener(), Listener()
    feed.subscribe(failing)
    feed.subscribe(other)
    await feed.poll()
    await TenantRepository(store, clock).create("a", Tenant())
    failing.failure = store_unavailable()
    with pytest.raises(GatewayError):
        await feed.poll()
    assert [found.resources for found in other.heard] == [("tenants/a",)]
    failing.failure = None
    await feed.poll()
    assert [found.resources for found in failing.heard] == [("tenants/a",)]


async def test_the_age_of_the_news_grows_while_the_store_is_dead(store: Store, clock: SetClock) -> None:
    feed = ChangeFeed(store, clock)
    clock.advance(3)
    assert feed.age == 3
    await feed.poll()
    assert feed.age == 0


async def test_what_changes_between_the_first_poll_and_the_start_is_told(
    store: Store, clock: SetClock
) -> None:
    feed, listener = ChangeFeed(store, clock), Listener()
    feed.subscribe(listener)
    await feed.poll()
    await TenantRepository(store, clock).create("a", Tenant())
    await feed.start()
    await feed.close()
    assert [found.resources for found in listener.heard] == [("tenants/a",)]


async def test_a_listener_is_called_one_call_at_a_time(store: Store, clock: SetClock) -> None:
    feed = ChangeFeed(store, clock)
    running = 0
    seen: list[int] = []

    async def listen(_: Changes) -> None:
        nonlocal running
        running += 1
        await asyncio.sleep(0)
        seen.append(running)
        running -= 1

    feed.subscribe(listen)
    await asyncio.gather(*(feed.announce("tenants/a") for _ in range(5)))
    assert seen == [1] * 5
