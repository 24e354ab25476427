"""What holds for the repository of every resource: names, etags, masks' read-modify-write, pages."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aigateway.v1.api_key_pb2 import ApiKey
from aigateway.v1.error_reason_pb2 import ErrorReason
from aigateway.v1.model_pb2 import Model
from aigateway.v1.provider_pb2 import Provider
from aigateway.v1.route_pb2 import Route, RouteTarget
from aigateway.v1.tenant_pb2 import Tenant
from gateway_server.errors import GatewayError
from gateway_server.storage.api_keys import ApiKeyRepository, HashedSecret
from gateway_server.storage.catalog import StoredCatalog, load_catalog
from gateway_server.storage.engine import Store
from gateway_server.storage.models import ModelRepository
from gateway_server.storage.paging import PageRequest
from gateway_server.storage.providers import ProviderRepository
from gateway_server.storage.routes import RouteRepository
from gateway_server.storage.tenants import TenantRepository
from tests.support.stores import SetClock, fresh_store


def secret(number: int) -> HashedSecret:
    return HashedSecret(hash=number.to_bytes(32, "big"), pepper_version=1, prefix="sk-gw-abcd", last4="wxyz")


async def fails(reason: ErrorReason.ValueType, awaitable: object) -> GatewayError:
    with pytest.raises(GatewayError) as caught:
        await awaitable  # type: ignore[misc]
    assert caught.value.reason == reason
    return caught.value


async def test_a_resource_comes_back_as_it_was_stored(store: Store, clock: SetClock) -> None:
    tenants = TenantRepository(store, clock)
    clock.time = 1_760_000_000.25
    made = await tenants.create(
        "acme", Tenant(name="ignored", etag="ignored", display_name="Acme", labels={"tier": "gold"})
    )
    assert made.name == "tenants/acme"
    assert made.display_name == "Acme"
    assert dict(made.labels) == {"tier": "gold"}
    assert (made.create_time.seconds, made.create_time.nanos) == (1_760_000_000, 250_000_000)
    assert made.update_time == made.create_time
    assert len(made.etag) == 16
    assert await tenants.get("acme") == made


async def test_a_change_gives_a_new_etag_and_update_time(store: Store, clock: SetClock) -> None:
    tenants = TenantRepository(store, clock)
    made = await tenants.create("acme", Tenant(display_name="Acme"))
    clock.advance(5)

    def rename(tenant: Tenant) -> None:
        tenant.display_name = "Acme Ltd"

    changed = await tenants.update("acme", rename, etag=made.etag)
    assert changed.display_name == "Acme Ltd"
    assert changed.create_time == made.create_time
    assert changed.update_time.seconds == made.update_time.seconds + 5
    assert changed.etag != made.etag


async def test_a_change_that_changes_nothing_leaves_the_etag(store: Store, clock: SetClock) -> None:
    tenants = TenantRepository(store, clock)
    made = await tenants.create("acme", Tenant(display_name="Acme", labels={"a": "1", "b": "2"}))
    clock.advance(5)
    assert await tenants.update("acme", lambda _: None) == made


async def test_of_two_changes_with_one_etag_one_wins(store: Store, clock: SetClock) -> None:
    tenants = TenantRepository(store, clock)
    made = await tenants.create("acme", Tenant())

    def rename(name: str) -> object:
        def change(tenant: Tenant) -> None:
            tenant.display_name = name

        return tenants.update("acme", change, etag=made.etag)

    results = await asyncio.gather(rename("one"), rename("two"), return_exceptions=True)  # type: ignore[call-overload]
    won = [result for result in results if isinstance(result, Tenant)]
    lost = [result for result in results if isinstance(result, GatewayError)]
    assert len(won) == len(lost) == 1
    assert lost[0].reason == ErrorReason.ERROR_REASON_ETAG_MISMATCH
    assert lost[0].metadata == {"name": "tenants/acme", "current_etag": won[0].etag}
    assert await tenants.get("acme") == won[0]


async def test_an_old_etag_is_refused_for_deletion(store: Store, clock: SetClock) -> None:
    tenants = TenantRepository(store, clock)
    made = await tenants.create("acme", Tenant())
    await fails(ErrorReason.ERROR_REASON_ETAG_MISMATCH, tenants.delete("acme", etag="other"))
    await tenants.delete("acme", etag=made.etag)
    error = await fails(ErrorReason.ERROR_REASON_RESOURCE_NOT_FOUND, tenants.get("acme"))
    assert error.metadata == {"name": "tenants/acme"}


async def test_a_resource_made_again_has_another_etag(store: Store, clock: SetClock) -> None:
    providers = ProviderRepository(store, clock)
    first = await providers.create("p", Provider(provider_type="demo"))
    await providers.delete("p")
    second = await providers.create("p", Provider(provider_type="demo"))
    assert first.etag != second.etag


async def test_a_taken_name_is_refused(store: Store, clock: SetClock) -> None:
    tenants = TenantRepository(store, clock)
    await tenants.create("acme", Tenant())
    error = await fails(ErrorReason.ERROR_REASON_RESOURCE_ALREADY_EXISTS, tenants.create("acme", Tenant()))
    assert error.metadata == {"name": "tenants/acme"}


async def test_the_id_of_a_deleted_tenant_stays_taken(store: Store, clock: SetClock) -> None:
    tenants = TenantRepository(store, clock)
    await tenants.create("acme", Tenant())
    await tenants.delete("acme")
    await fails(ErrorReason.ERROR_REASON_RESOURCE_ALREADY_EXISTS, tenants.create("acme", Tenant()))
    assert await tenants.has_existed("acme")
    assert not await tenants.has_existed("other")


async def test_the_keys_of_a_deleted_tenant_go_with_it(store: Store, clock: SetClock) -> None:
    tenants, keys = TenantRepository(store, clock), ApiKeyRepository(store, clock)
    await tenants.create("acme", Tenant())
    await keys.create("acme", "ci", ApiKey(), secret=secret(1))
    await tenants.delete("acme")
    assert await keys.find([secret(1).hash]) is None
    assert (await keys.list_page(None)).items == ()


async def test_a_tenant_does_not_reach_the_keys_of_another(store: Store, clock: SetClock) -> None:
    tenants, keys = TenantRepository(store, clock), ApiKeyRepository(store, clock)
    await tenants.create("a", Tenant())
    await tenants.create("b", Tenant())
    await keys.create("a", "ci", ApiKey(display_name="a's"), secret=secret(1))
    missing = ErrorReason.ERROR_REASON_RESOURCE_NOT_FOUND
    await fails(missing, keys.get("b", "ci"))
    await fails(missing, keys.update("b", "ci", lambda _: None))
    await fails(missing, keys.revoke("b", "ci"))
    await fails(missing, keys.rotate("b", "ci", secret(2), grace_seconds=0))
    await fails(missing, keys.delete("b", "ci"))
    assert (await keys.list_page("b")).items == ()
    assert (await keys.get("a", "ci")).display_name == "a's"


async def test_a_child_needs_its_parent(store: Store, clock: SetClock) -> None:
    missing = ErrorReason.ERROR_REASON_RESOURCE_NOT_FOUND
    error = await fails(missing, ModelRepository(store, clock).create("none", "m", Model()))
    assert error.metadata == {"name": "providers/none"}
    error = await fails(missing, ApiKeyRepository(store, clock).create("no", "k", ApiKey(), secret=secret(1)))
    assert error.metadata == {"name": "tenants/no"}


async def test_a_provider_with_models_stays(store: Store, clock: SetClock) -> None:
    providers, models = ProviderRepository(store, clock), ModelRepository(store, clock)
    await providers.create("p", Provider(provider_type="demo"))
    await models.create("p", "m", Model())
    error = await fails(ErrorReason.ERROR_REASON_RESOURCE_IN_USE, providers.delete("p"))
    assert error.metadata == {"name": "providers/p", "blocker": "providers/p/models/m"}
    await models.delete("p", "m")
    await providers.delete("p")


async def test_the_catalog_has_every_provider_and_model(store: Store, clock: SetClock) -> None:
    providers, models = ProviderRepository(store, clock), ModelRepository(store, clock)
    before = (await load_catalog(store)).revision
    one = await providers.create("p1", Provider(provider_type="demo"))
    two = await providers.create("p2", Provider(provider_type="demo", disabled=True))
    model = await models.create("p1", "m", Model(provider_model="m-1", disabled=True))
    route = await RouteRepository(store, clock).create("r", Route(targets=[RouteTarget(model=model.name)]))
    assert await load_catalog(store) == StoredCatalog([one, two], [model], [route], {}, before + 4)


async def test_a_list_is_newest_first_and_ends(store: Store, clock: SetClock) -> None:
    providers = ProviderRepository(store, clock)
    for number in range(3):
        await providers.create(f"p{number}", Provider(provider_type="demo"))
        await asyncio.sleep(0.002)  # ids rise by the millisecond
    page = await providers.list_page(PageRequest(page_size=2))
    assert [provider.name for provider in page.items] == ["providers/p2", "providers/p1"]
    page = await providers.list_page(PageRequest(2, page.next_page_token))
    assert [provider.name for provider in page.items] == ["providers/p0"]
    assert page.next_page_token == ""


async def test_a_page_that_just_fits_is_the_last(store: Store, clock: SetClock) -> None:
    providers = ProviderRepository(store, clock)
    await providers.create("p", Provider(provider_type="demo"))
    assert (await providers.list_page(PageRequest(page_size=1))).next_page_token == ""


async def test_a_token_of_another_list_is_refused(store: Store, clock: SetClock) -> None:
    tenants, keys = TenantRepository(store, clock), ApiKeyRepository(store, clock)
    for tenant_number, tenant in enumerate(("a", "b")):
        await tenants.create(tenant, Tenant())
        for number in range(2):
            await keys.create(tenant, f"k{number}", ApiKey(), secret=secret(10 * tenant_number + number))
    token = (await keys.list_page("a", PageRequest(page_size=1))).next_page_token
    assert len((await keys.list_page("a", PageRequest(1, token))).items) == 1
    error = await fails(ErrorReason.ERROR_REASON_INVALID_REQUEST, keys.list_page("b", PageRequest(1, token)))
    assert error.violations[0].field == "page_token"
    await fails(ErrorReason.ERROR_REASON_INVALID_REQUEST, keys.list_page(None, PageRequest(1, token)))
    await fails(ErrorReason.ERROR_REASON_INVALID_REQUEST, tenants.list_page(PageRequest(1, token)))


async def test_a_list_can_leave_items_out_and_still_fill_its_pages(store: Store, clock: SetClock) -> None:
    providers, models = ProviderRepository(store, clock), ModelRepository(store, clock)
    await providers.create("p", Provider(provider_type="demo"))
    for number in range(9):
        await models.create("p", f"m{number}", Model(disabled=number % 3 == 0))
    seen: list[str] = []
    token = ""
    for _ in range(2):
        page = await models.list_page("p", PageRequest(3, token), accept=lambda model: not model.disabled)
        assert len(page.items) == 3
        seen.extend(model.name for model in page.items)
        token = page.next_page_token
    assert token == ""
    assert sorted(seen) == [f"providers/p/models/m{number}" for number in (1, 2, 4, 5, 7, 8)]


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(count=st.integers(0, 12), sizes=st.lists(st.integers(1, 5), min_size=1), inserts=st.booleans())
def test_pages_together_are_the_whole_list(
    count: int, sizes: list[int], inserts: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Also while rows are added: each that was there at the start is listed once."""

    async def check() -> None:
        async with fresh_store("sqlite", tmp_path_factory.mktemp("pages")) as store:
            providers = ProviderRepository(store, SetClock())
            for number in range(count):
                await providers.create(f"p{number}", Provider(provider_type="demo"))
            whole = [provider.name for provider in (await providers.list_page()).items]
            assert len(whole) == count
            seen: list[str] = []
            token = ""
            for step in range(count + 2):
                page = await providers.list_page(PageRequest(sizes[step % len(sizes)], token))
                seen.extend(provider.name for provider in page.items)
                token = page.next_page_token
                if not token:
                    break
                if inserts:
                    await asyncio.sleep(0.002)  # a later id than all before
                    await providers.create(f"new{step}", Provider(provider_type="demo"))
            assert seen == whole

    asyncio.run(check())
