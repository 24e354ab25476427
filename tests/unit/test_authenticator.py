"""Who is let in, and how soon a change is felt: on a real store, with a clock that the tests set."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Collection
from pathlib import Path
from typing import Any

import pytest

from aigateway.v1.api_key_pb2 import ApiKey
from aigateway.v1.error_reason_pb2 import ErrorReason
from aigateway.v1.permission_pb2 import Scope
from aigateway.v1.tenant_pb2 import Budget, Tenant
from gateway_server.auth import authenticator as module
from gateway_server.auth.authenticator import Authenticator
from gateway_server.auth.keys import Pepper, Peppers, new_secret
from gateway_server.errors import GatewayError
from gateway_server.storage.api_keys import ApiKeyRepository, FoundKey
from gateway_server.storage.changes import ChangeFeed
from gateway_server.storage.engine import Store, store_unavailable
from gateway_server.storage.tenants import TenantRepository
from gateway_server.storage.times import timestamp_of_micros
from tests.support.stores import SetClock, fresh_store

INVALID = ErrorReason.ERROR_REASON_API_KEY_INVALID
SUSPENDED = ErrorReason.ERROR_REASON_TENANT_SUSPENDED
UNAVAILABLE = ErrorReason.ERROR_REASON_STORE_UNAVAILABLE


class CountedKeys(ApiKeyRepository):
    """The real repository, which also counts look-ups, can hold them up and can be without a database."""

    def __init__(self, store: Store, clock: SetClock) -> None:
        super().__init__(store, clock)
        self.looked_up = 0
        self.dead = False
        self.reached = asyncio.Event()
        self.let_go = asyncio.Event()
        self.let_go.set()

    async def find(self, hashes: Collection[bytes]) -> FoundKey | None:
        self.looked_up += 1
        if self.dead:
            raise store_unavailable()
        found = await super().find(hashes)
        self.reached.set()
        await self.let_go.wait()
        return found


class Setup:
    def __init__(self, store: Store) -> None:
        self.clock = SetClock()
        self.peppers = Peppers(Pepper(1, b"a pepper of the tests"))
        self.tenants = TenantRepository(store, self.clock)
        self.keys = CountedKeys(store, self.clock)
        self.feed = ChangeFeed(store, self.clock)
        self.authenticator = Authenticator(self.keys, self.peppers, self.feed, clock=self.clock)

    async def key(self, api_key_id: str = "ci", **fields: Any) -> str:
        secret = new_secret()
        await self.keys.create(
            "acme",
            api_key_id,
            ApiKey(**fields),
            secret=self.peppers.hashed(secret),
        )
        await self.feed.announce(f"tenants/acme/apiKeys/{api_key_id}")
        return secret

    async def refuses(self, secret: str, reason: ErrorReason.ValueType = INVALID) -> GatewayError:
        with pytest.raises(GatewayError) as caught:
            await self.authenticator.authenticate(secret)
        assert caught.value.reason == reason
        return caught.value


@pytest.fixture
async def setup(tmp_path: Path) -> AsyncIterator[Setup]:
    async with fresh_store("sqlite", tmp_path) as store:
        made = Setup(store)
        await made.tenants.create("acme", Tenant(allowed_models=["openai/*"]))
        await made.feed.poll()
        yield made
        made.keys.let_go.set()
        await made.authenticator.close()


async def test_a_key_names_its_tenant_and_what_it_may(setup: Setup) -> None:
    secret = await setup.key(
        scopes=[Scope.SCOPE_ADMIN_READ], environment="staging", allowed_models_override=["gpt-*"]
    )
    principal = await setup.authenticator.authenticate(secret)
    assert principal.tenant == "tenants/acme"
    assert principal.api_key == "tenants/acme/apiKeys/ci"
    assert principal.scopes == {Scope.SCOPE_ADMIN_READ}
    assert principal.environment == "staging"
    assert principal.allowed_models == (("openai/*",), ("gpt-*",))


async def test_a_key_without_scopes_may_ask_models_and_read_its_usage(setup: Setup) -> None:
    principal = await setup.authenticator.authenticate(await setup.key())
    assert principal.scopes == {Scope.SCOPE_INFERENCE, Scope.SCOPE_USAGE_READ}


async def test_no_key_and_a_wrong_key_are_told_apart(setup: Setup) -> None:
    await setup.refuses("", ErrorReason.ERROR_REASON_API_KEY_MISSING)
    error = await setup.refuses(new_secret())
    assert error.metadata == {}


async def test_what_cannot_be_a_key_is_refused_without_asking_the_store(setup: Setup) -> None:
    await setup.refuses("sk-gw-short")
    await setup.refuses("x" * 100_000)
    assert setup.keys.looked_up == 0


async def test_a_key_is_looked_up_once(setup: Setup) -> None:
    secret = await setup.key()
    for _ in range(3):
        await setup.authenticator.authenticate(secret)
    assert setup.keys.looked_up == 1


async def test_calls_at_once_share_one_look_up(setup: Setup) -> None:
    secret = await setup.key()
    principals = await asyncio.gather(*(setup.authenticator.authenticate(secret) for _ in range(50)))
    assert len(set(principals)) == 1
    assert setup.keys.looked_up == 1


async def test_the_first_caller_of_a_shared_look_up_may_go_away(setup: Setup) -> None:
    secret = await setup.key()
    setup.keys.let_go.clear()
    first = asyncio.create_task(setup.authenticator.authenticate(secret))
    await setup.keys.reached.wait()
    second = asyncio.create_task(setup.authenticator.authenticate(secret))
    await asyncio.sleep(0)
    first.cancel()
    setup.keys.let_go.set()
    assert (await second).api_key_id == "ci"
    assert setup.keys.looked_up == 1
    with pytest.raises(asyncio.CancelledError):
        await first


async def test_an_unknown_key_is_refused_unseen_for_a_while(setup: Setup) -> None:
    secret = new_secret()
    await setup.refuses(secret)
    await setup.refuses(secret)
    assert setup.keys.looked_up == 1
    setup.clock.advance(10)
    await setup.feed.poll()
    await setup.refuses(secret)
    assert setup.keys.looked_up == 2


async def test_a_key_that_was_refused_works_once_it_is_made(setup: Setup) -> None:
    secret = new_secret()
    await setup.refuses(secret)
    await setup.keys.create("acme", "new", ApiKey(), secret=setup.peppers.hashed(secret))
    await setup.feed.poll()
    assert (await setup.authenticator.authenticate(secret)).api_key_id == "new"


async def test_a_cached_key_expires_to_the_second(setup: Setup) -> None:
    now = setup.clock.now()
    secret = await setup.key(expire_time=timestamp_of_micros(int((now + 30) * 1_000_000)))
    await setup.authenticator.authenticate(secret)
    setup.clock.advance(29.999)
    await setup.authenticator.authenticate(secret)
    setup.clock.advance(0.001)
    await setup.refuses(secret)


async def test_a_revoked_key_is_refused_at_once_in_its_process(setup: Setup) -> None:
    secret = await setup.key()
    await setup.authenticator.authenticate(secret)
    await setup.keys.revoke("acme", "ci")
    setup.authenticator.invalidate_key("acme", "ci")
    await setup.refuses(secret)


@pytest.mark.parametrize("how", ["revoke", "delete", "delete tenant"])
async def test_what_another_process_ends_is_refused_after_the_next_poll(setup: Setup, how: str) -> None:
    secret = await setup.key()
    await setup.authenticator.authenticate(secret)
    match how:
        case "revoke":
            await setup.keys.revoke("acme", "ci")
        case "delete":
            await setup.keys.delete("acme", "ci")
        case _:
            await setup.tenants.delete("acme")
    await setup.authenticator.authenticate(secret)
    await setup.feed.poll()
    await setup.refuses(secret)


async def test_a_suspended_tenant_is_refused_by_name_until_it_is_active(setup: Setup) -> None:
    secret = await setup.key()
    await setup.authenticator.authenticate(secret)
    await setup.tenants.update("acme", lambda tenant: setattr(tenant, "state", Tenant.STATE_SUSPENDED))
    await setup.feed.poll()
    error = await setup.refuses(secret, SUSPENDED)
    assert error.metadata == {"tenant": "tenants/acme"}
    await setup.tenants.update("acme", lambda tenant: setattr(tenant, "state", Tenant.STATE_ACTIVE))
    await setup.feed.poll()
    await setup.authenticator.authenticate(secret)


async def test_a_wrong_key_does_not_learn_that_its_tenant_is_suspended(setup: Setup) -> None:
    await setup.tenants.update("acme", lambda tenant: setattr(tenant, "state", Tenant.STATE_SUSPENDED))
    secret = await setup.key()
    await setup.keys.revoke("acme", "ci")
    await setup.refuses(secret, INVALID)


async def test_both_secrets_work_until_the_grace_of_a_rotation_ends(setup: Setup) -> None:
    old, new = await setup.key(), new_secret()
    await setup.authenticator.authenticate(old)
    rotated = await setup.keys.rotate("acme", "ci", setup.peppers.hashed(new), grace_seconds=60)
    assert rotated.previous_secret_expire_time.seconds == int(setup.clock.now()) + 60
    await setup.feed.poll()
    assert await setup.authenticator.authenticate(old) == await setup.authenticator.authenticate(new)
    setup.clock.advance(60)
    await setup.refuses(old)
    await setup.authenticator.authenticate(new)


async def test_a_rotation_without_grace_ends_the_old_secret(setup: Setup) -> None:
    old, new = await setup.key(), new_secret()
    await setup.authenticator.authenticate(old)
    await setup.keys.rotate("acme", "ci", setup.peppers.hashed(new), grace_seconds=0)
    await setup.feed.poll()
    await setup.refuses(old)
    await setup.authenticator.authenticate(new)


async def test_a_second_rotation_ends_the_first_secret(setup: Setup) -> None:
    first, second, third = await setup.key(), new_secret(), new_secret()
    await setup.keys.rotate("acme", "ci", setup.peppers.hashed(second), grace_seconds=60)
    await setup.keys.rotate("acme", "ci", setup.peppers.hashed(third), grace_seconds=60)
    await setup.refuses(first)
    await setup.authenticator.authenticate(second)
    await setup.authenticator.authenticate(third)


async def test_a_look_up_that_began_before_a_revocation_is_not_kept(setup: Setup) -> None:
    secret = await setup.key()
    setup.keys.let_go.clear()
    early = asyncio.create_task(setup.authenticator.authenticate(secret))
    await setup.keys.reached.wait()
    await setup.keys.revoke("acme", "ci")
    setup.authenticator.invalidate_key("acme", "ci")
    late = asyncio.create_task(setup.authenticator.authenticate(secret))
    await asyncio.sleep(0)
    setup.keys.let_go.set()
    await early  # it called before the revocation
    with pytest.raises(GatewayError):
        await late  # it did not, and must not share what was read before
    await setup.refuses(secret)


async def test_a_key_hashed_under_a_former_pepper_works(setup: Setup) -> None:
    secret = await setup.key()
    peppers = Peppers(Pepper(2, b"the next pepper of the tests"), (setup.peppers.current,))
    authenticator = Authenticator(setup.keys, peppers, setup.feed, clock=setup.clock)
    assert (await authenticator.authenticate(secret)).api_key_id == "ci"


async def test_cached_keys_outlive_the_store_for_a_while(setup: Setup) -> None:
    secret, other = await setup.key(), await setup.key("other")
    await setup.authenticator.authenticate(secret)
    setup.keys.dead = True
    setup.clock.advance(300)
    await setup.authenticator.authenticate(secret)
    await setup.refuses(other, UNAVAILABLE)
    setup.clock.advance(1)
    error = await setup.refuses(secret, UNAVAILABLE)
    assert error.retry_after == 1.0
    setup.keys.dead = False
    await setup.feed.poll()
    await setup.authenticator.authenticate(secret)


async def test_a_failed_look_up_is_not_remembered(setup: Setup) -> None:
    secret = await setup.key()
    setup.keys.dead = True
    await setup.refuses(secret, UNAVAILABLE)
    setup.keys.dead = False
    await setup.authenticator.authenticate(secret)


async def test_the_caches_are_bounded(setup: Setup) -> None:
    authenticator = Authenticator(
        setup.keys, setup.peppers, setup.feed, clock=setup.clock, max_cached_keys=2, max_refused_keys=2
    )
    secrets = [await setup.key(f"k{number}") for number in range(4)]
    for secret in secrets:
        await authenticator.authenticate(secret)
    for _ in range(4):
        with pytest.raises(GatewayError):
            await authenticator.authenticate(new_secret())
    assert len(authenticator._entries) == len(authenticator._digests) == len(authenticator._refused) == 2
    await authenticator.authenticate(secrets[0])  # the least recently used went first
    assert setup.keys.looked_up == 4 + 4 + 1


async def test_a_flood_of_unknown_keys_is_refused_before_it_queues_up(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_MAX_LOOKUPS", 3)
    setup.keys.let_go.clear()
    waiting = [asyncio.create_task(setup.authenticator.authenticate(new_secret())) for _ in range(3)]
    await asyncio.sleep(0)
    error = await setup.refuses(new_secret(), ErrorReason.ERROR_REASON_OVERLOADED)
    assert error.metadata == {"limit": "3"}
    setup.keys.let_go.set()
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert [getattr(result, "reason", None) for result in results] == [INVALID] * 3


async def test_the_last_use_is_kept_to_the_minute_and_is_no_change(setup: Setup) -> None:
    secret = await setup.key()
    before = await setup.keys.get("acme", "ci")
    setup.clock.time = 1_760_000_059.0
    await setup.authenticator.authenticate(secret)
    await setup.authenticator.write_uses()
    after = await setup.keys.get("acme", "ci")
    assert after.last_use_time.seconds == 1_760_000_040
    assert after.last_use_time.seconds % 60 == 0
    assert after.etag == before.etag


async def test_uses_wait_for_a_store_that_comes_back(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = await setup.key()
    await setup.authenticator.authenticate(secret)

    async def fail(_: object) -> None:
        raise store_unavailable()

    with monkeypatch.context() as patch:
        patch.setattr(setup.keys, "record_uses", fail)
        await setup.authenticator.write_uses()
    assert not (await setup.keys.get("acme", "ci")).HasField("last_use_time")
    await setup.authenticator.write_uses()
    assert (await setup.keys.get("acme", "ci")).HasField("last_use_time")


async def test_no_secret_is_kept_in_memory(setup: Setup) -> None:
    secret = await setup.key()
    await setup.authenticator.authenticate(secret)
    held = repr(vars(setup.authenticator))
    assert secret not in held
    assert "acme" in held


async def test_a_cached_key_costs_microseconds(setup: Setup) -> None:
    secret = await setup.key()
    await setup.authenticator.authenticate(secret)
    began = time.process_time()
    for _ in range(2000):
        await setup.authenticator.authenticate(secret)
    assert (time.process_time() - began) / 2000 < 100e-6  # about 5 in truth; generous for a busy machine


async def test_the_budgets_of_a_caller_are_the_present_ones_and_cost_no_look_up_while_they_stay(
    setup: Setup,
) -> None:
    principal = await setup.authenticator.authenticate(await setup.key(budget=Budget(daily_nanos=5)))
    assert setup.authenticator.cached_budgets(principal) is principal.budgets
    await setup.keys.update("acme", "ci", lambda key: key.budget.CopyFrom(Budget(monthly_nanos=7)))
    await setup.feed.announce("tenants/acme/apiKeys/ci")
    assert setup.authenticator.cached_budgets(principal) is None
    budgets = await setup.authenticator.read_budgets(principal)
    assert budgets is not None
    assert [(budget.period, budget.limit_nanos) for budget in budgets] == [("month", 7)]
    assert setup.authenticator.cached_budgets(principal) is budgets
    await setup.keys.revoke("acme", "ci")  # calls under way go on
    await setup.feed.announce("tenants/acme/apiKeys/ci")
    assert await setup.authenticator.read_budgets(principal) == budgets
    await setup.keys.delete("acme", "ci")
    await setup.feed.announce("tenants/acme/apiKeys/ci")
    assert await setup.authenticator.read_budgets(principal) is None
