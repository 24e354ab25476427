"""Credentials in the store: only sealed, only for their provider at its address."""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, select, text, update

from aigateway.v1.provider_pb2 import Provider
from gateway_server.errors import GatewayError
from gateway_server.storage.catalog import load_catalog
from gateway_server.storage.engine import Store, create_engine, open_store, parse_url
from gateway_server.storage.providers import ProviderRepository, Rekeyed, place_of
from gateway_server.storage.schema import downgrade, upgrade
from gateway_server.storage.sealing import MasterKeys, UnsealError
from gateway_server.storage.tables import metadata
from gateway_server.storage.tables import providers as table
from tests.support.stores import SetClock

SECRET = "hunter2-hunter2-hunter2"
OLD = base64.b64encode(b"o" * 32).decode()
NEW = base64.b64encode(b"n" * 32).decode()


@pytest.fixture
def keys() -> MasterKeys:
    return MasterKeys(OLD)


@pytest.fixture
def providers(store: Store, clock: SetClock) -> ProviderRepository:
    return ProviderRepository(store, clock)


async def credential_of(
    providers: ProviderRepository, keys: MasterKeys, provider_id: str = "p"
) -> str | None:
    sealed = await providers.sealed_credential(provider_id)
    provider = await providers.get(provider_id)
    return None if sealed is None else keys.open(sealed, place_of(provider))


async def make(
    providers: ProviderRepository, keys: MasterKeys, provider_id: str = "p", **fields: Any
) -> Provider:
    provider = Provider(**{"provider_type": "openai", "credential": SECRET, **fields})
    return await providers.create(provider_id, provider, seal=keys.seal)


def files_in(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.is_file()]


def setting(**fields: Any) -> Callable[[Provider], None]:
    def change(provider: Provider) -> None:
        for name, value in fields.items():
            setattr(provider, name, value)

    return change


async def test_only_ciphertext_is_kept(
    store: Store, providers: ProviderRepository, keys: MasterKeys, tmp_path: Path
) -> None:
    made = await make(providers, keys)
    assert made.credential == (await providers.get("p")).credential == ""
    assert await credential_of(providers, keys) == SECRET
    if store.dialect == "sqlite":
        written = {path.name: path.read_bytes() for path in files_in(tmp_path)}
        assert {"gateway.db", "gateway.db-wal"} <= written.keys()
        assert [name for name, data in written.items() if SECRET.encode() in data] == []
    async with store.read() as connection:
        for table in metadata.sorted_tables:
            for row in await connection.execute(select(table)):
                assert SECRET not in repr(tuple(row))


async def test_a_credential_is_never_kept_unsealed(providers: ProviderRepository) -> None:
    with pytest.raises(ValueError, match="only kept sealed"):
        await providers.create("p", Provider(provider_type="openai", credential=SECRET))
    with pytest.raises(GatewayError, match="does not exist"):
        await providers.get("p")


async def test_a_credential_is_replaced_left_and_removed(
    providers: ProviderRepository, keys: MasterKeys
) -> None:
    made = await make(providers, keys)
    changed = await providers.update("p", setting(), credential="another", seal=keys.seal)
    assert changed.etag != made.etag
    assert await credential_of(providers, keys) == "another"
    await providers.update("p", setting(display_name="P"), seal=keys.seal)
    assert await credential_of(providers, keys) == "another"
    removed = await providers.update("p", setting(), credential="", seal=keys.seal)
    assert await credential_of(providers, keys) is None
    again = await providers.update("p", setting(), credential="", seal=keys.seal)
    assert again == removed


async def test_a_reference_takes_the_place_of_a_kept_credential(
    providers: ProviderRepository, keys: MasterKeys
) -> None:
    await make(providers, keys)
    await providers.update("p", setting(credential_ref="env:A_TOKEN"), seal=keys.seal)
    assert await providers.sealed_credential("p") is None


async def test_a_credential_does_not_follow_to_another_address(
    providers: ProviderRepository, keys: MasterKeys
) -> None:
    await make(providers, keys, base_url="https://one.example")
    with pytest.raises(GatewayError, match="must be given again when base_url changes"):
        await providers.update("p", setting(base_url="https://two.example"), seal=keys.seal)
    assert (await providers.get("p")).base_url == "https://one.example"
    moved = setting(base_url="https://two.example")
    await providers.update("p", moved, credential="for two", seal=keys.seal)
    assert await credential_of(providers, keys) == "for two"
    await providers.update("p", setting(base_url=""), credential="", seal=keys.seal)


async def test_a_row_that_is_tampered_with_opens_nothing(
    store: Store, providers: ProviderRepository, keys: MasterKeys
) -> None:
    await make(providers, keys, base_url="https://one.example")
    await make(providers, keys, "other", credential="theirs", base_url="https://one.example")
    async with store.write() as connection:
        row = (await connection.execute(select(table).where(table.c.provider_id == "p"))).one()
        await connection.execute(
            update(table)
            .where(table.c.provider_id == "other")
            .values(sealed_credential=row.sealed_credential, credential_key_id=row.credential_key_id)
        )
        moved = Provider(provider_type="openai", base_url="https://evil.example")
        await connection.execute(
            update(table).where(table.c.provider_id == "p").values(spec=moved.SerializeToString())
        )
    for provider_id in ("p", "other"):
        with pytest.raises(UnsealError, match="changed, or sealed for another place"):
            await credential_of(providers, keys, provider_id)


async def test_a_credential_goes_with_its_provider(
    store: Store, providers: ProviderRepository, keys: MasterKeys
) -> None:
    await make(providers, keys)
    await providers.delete("p")
    assert await providers.sealed_credential("p") is None
    await make(providers, keys, credential="")
    assert await providers.sealed_credential("p") is None
    assert (await load_catalog(store)).credentials == {}


async def test_the_catalog_has_the_sealed_credentials(
    store: Store, providers: ProviderRepository, keys: MasterKeys
) -> None:
    made = await make(providers, keys)
    await make(providers, keys, "bare", credential="")
    found = await load_catalog(store)
    assert found.credentials.keys() == {"providers/p"}
    assert keys.open(found.credentials["providers/p"], place_of(made)) == SECRET
    assert SECRET not in repr(found)


async def test_a_new_master_key_takes_over_all_rows(providers: ProviderRepository, keys: MasterKeys) -> None:
    before = [await make(providers, keys, f"p{number}") for number in range(3)]
    both, new = MasterKeys(f"{NEW},{OLD}"), MasterKeys(NEW)
    assert await providers.rekey(both) == Rekeyed(3, 0, ())
    assert await providers.rekey(both) == await providers.rekey(new) == Rekeyed(0, 3, ())
    assert [await credential_of(providers, new, f"p{number}") for number in range(3)] == [SECRET] * 3
    assert [await providers.get(f"p{number}") for number in range(3)] == before
    with pytest.raises(UnsealError, match=r"under the master key [0-9a-f]{16}, which is not here"):
        await credential_of(providers, keys, "p1")


async def test_a_new_master_key_that_was_interrupted_goes_on(
    providers: ProviderRepository, keys: MasterKeys
) -> None:
    await make(providers, keys, "old-1")
    await make(providers, keys, "old-2")
    both = MasterKeys(f"{NEW},{OLD}")

    class InterruptedRunError(Exception):
        pass

    class Stopping(MasterKeys):
        sealed = 0

        def seal(self, secret: str, place: str) -> Any:
            if self.sealed:
                raise InterruptedRunError
            self.sealed += 1
            return super().seal(secret, place)

    with pytest.raises(InterruptedRunError):
        await providers.rekey(Stopping(f"{NEW},{OLD}"))
    assert await credential_of(providers, both, "old-1") == SECRET
    assert await credential_of(providers, both, "old-2") == SECRET
    assert await providers.rekey(both) == Rekeyed(1, 1, ())


async def test_a_credential_that_cannot_be_opened_stays_and_is_named(
    providers: ProviderRepository, keys: MasterKeys
) -> None:
    await make(providers, MasterKeys(base64.b64encode(b"lost" * 8).decode()), "lost")
    await make(providers, keys, "known")
    done = await providers.rekey(MasterKeys(f"{NEW},{OLD}"))
    assert (done.changed, done.current) == (1, 0)
    [(name, cause)] = done.failed
    assert name == "providers/lost"
    assert "which is not here" in cause


async def test_a_database_from_before_keeps_its_providers(database_url: str) -> None:
    await upgrade(database_url, revision="0001")
    spec = Provider(provider_type="openai", display_name="Old").SerializeToString()
    before = create_engine(parse_url(database_url))
    async with before.begin() as connection:
        await connection.execute(
            text(
                "INSERT INTO providers (provider_id, uid, version, create_time, update_time, spec)"
                " VALUES ('p', :uid, 1, 0, 0, :spec)"
            ),
            {"uid": "u" * 26, "spec": spec},
        )
    await upgrade(database_url)
    store, clock, keys = open_store(database_url), SetClock(), MasterKeys(OLD)
    repository = ProviderRepository(store, clock)
    assert (await repository.get("p")).display_name == "Old"
    assert await repository.sealed_credential("p") is None
    await repository.update("p", setting(), credential=SECRET, seal=keys.seal)
    assert await credential_of(repository, keys) == SECRET
    await store.close()
    await downgrade(database_url, "0001")
    async with before.connect() as connection:
        kept = (await connection.execute(text("SELECT spec FROM providers"))).scalar_one()
    await before.dispose()
    assert bytes(kept) == spec
    await upgrade(database_url)
    store = open_store(database_url)
    assert (await ProviderRepository(store, clock).get("p")).display_name == "Old"
    await store.close()


async def test_an_older_process_can_still_write_providers(
    store: Store, providers: ProviderRepository
) -> None:
    """The columns are nullable: while processes are replaced, one without them goes on."""
    async with store.write() as connection:
        values = {"provider_id": "p", "uid": "u" * 26, "version": 1, "create_time": 0, "update_time": 0}
        await connection.execute(insert(table).values(**values, spec=b""))
    assert await providers.sealed_credential("p") is None
