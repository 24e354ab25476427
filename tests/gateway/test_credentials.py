"""Where credentials come from, through whole gateways: what a provider is sent, and when."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import logging
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

import aigateway
from aigateway.v1.model_pb2 import Model
from aigateway.v1.provider_pb2 import Provider
from gateway_server.app import StartError, rekey
from gateway_server.settings import Settings
from gateway_server.storage.providers import Rekeyed
from tests.support.gateway import Gateway, gateway_settings, running_gateway
from tests.support.upstream import MODEL, Upstream

OLD = base64.b64encode(b"o" * 32).decode()
NEW = base64.b64encode(b"n" * 32).decode()
NAME = "providers/p"


def sent_in(upstream: Upstream) -> list[str]:
    """The bearer tokens that the provider was sent, and empties these."""
    sent = []
    for exchange in upstream.exchanges:
        lines = exchange.head.decode().split("\r\n")
        found = [line.partition(": ")[2] for line in lines if line.lower().startswith("authorization:")]
        sent.append(found[0].removeprefix("Bearer ") if found else "")
    upstream.exchanges.clear()
    return sent


async def add_provider(gateway: Gateway, upstream: Upstream, **fields: Any) -> Provider:
    admin = gateway.client.admin
    made = await admin.providers.create(
        Provider(provider_type="vllm", base_url=upstream.base_url, **fields), provider_id="p"
    )
    await admin.models.create(made.name, Model(), model_id=MODEL)
    return made


async def ask(gateway: Gateway) -> None:
    await gateway.client.chat.create(f"p/{MODEL}", "hello")


async def sent_by(gateway: Gateway, upstream: Upstream) -> str:
    """The credential that a call is made with now."""
    await ask(gateway)
    [sent] = sent_in(upstream)
    return sent


async def wait_for(is_so: Callable[[], Any], *, seconds: float = 5) -> None:
    async with asyncio.timeout(seconds):
        while not await is_so():
            await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def two_gateways(state_dir: Path, **settings: Any) -> AsyncIterator[tuple[Gateway, Gateway]]:
    """Two gateways on one database and one state folder."""
    async with running_gateway(state_dir, **settings) as one, running_gateway(state_dir, **settings) as two:
        yield one, two


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "credentials"
    made.mkdir()
    return made


# Kept in the store.


async def test_a_kept_credential_is_sent_and_changes_take_effect_at_once(
    state_dir: Path, upstream: Upstream
) -> None:
    async with running_gateway(state_dir, refresh_seconds=60) as gateway:
        admin = gateway.client.admin.providers
        made = await add_provider(gateway, upstream, credential="first")
        assert made.credential == ""
        assert await sent_by(gateway, upstream) == "first"

        await admin.update(Provider(name=NAME, credential="second"), update_mask=["credential"])
        assert await sent_by(gateway, upstream) == "second"

        # Nobody can send back what is never shown: a full replacement leaves it.
        shown = await admin.get(NAME)
        shown.display_name = "P"
        changed = await admin.update(shown, update_mask=["*"])
        assert changed.display_name == "P"
        assert await sent_by(gateway, upstream) == "second"

        await admin.update(Provider(name=NAME), update_mask=["credential"])
        assert await sent_by(gateway, upstream) == ""


async def test_a_kept_credential_and_a_reference_take_each_others_place(
    state_dir: Path, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEST_PROVIDER_API_KEY", "of-the-variable")
    async with running_gateway(state_dir) as gateway:
        admin = gateway.client.admin.providers
        await add_provider(gateway, upstream, credential_ref="env:TEST_PROVIDER_API_KEY")
        assert await sent_by(gateway, upstream) == "of-the-variable"
        changed = await admin.update(Provider(name=NAME, credential="kept"), update_mask=["credential"])
        assert changed.credential_ref == ""
        assert await sent_by(gateway, upstream) == "kept"
        reference = Provider(name=NAME, credential_ref="env:TEST_PROVIDER_API_KEY")
        await admin.update(reference, update_mask=["credential_ref"])
        assert await sent_by(gateway, upstream) == "of-the-variable"
        await admin.update(Provider(name=NAME), update_mask=["credential_ref"])
        assert await sent_by(gateway, upstream) == ""
        with pytest.raises(aigateway.InvalidRequestError, match="together with credential_ref"):
            await admin.update(Provider(name=NAME, credential="x", credential_ref="env:A_TOKEN"))
        with pytest.raises(aigateway.InvalidRequestError, match="blank"):
            await admin.update(Provider(name=NAME, credential=" \n"))
        with pytest.raises(aigateway.InvalidRequestError, match="longer than 65536 bytes"):
            await admin.update(Provider(name=NAME, credential="x" * 65537))
        assert await sent_by(gateway, upstream) == ""


async def test_a_kept_credential_is_not_sent_to_another_address(state_dir: Path, upstream: Upstream) -> None:
    async with running_gateway(state_dir) as gateway:
        admin = gateway.client.admin.providers
        await add_provider(gateway, upstream, credential="for-one-address")
        moved = Provider(name=NAME, base_url=upstream.base_url + "/elsewhere")
        with pytest.raises(aigateway.InvalidRequestError, match="must be given again") as caught:
            await admin.update(moved, update_mask=["base_url"])
        assert [violation.field for violation in caught.value.violations] == ["provider.credential"]
        moved.credential = "for-the-other"
        await admin.update(moved, update_mask=["base_url", "credential"])
        assert await sent_by(gateway, upstream) == "for-the-other"


async def test_another_process_learns_of_a_credential_with_its_next_look(
    state_dir: Path, upstream: Upstream
) -> None:
    """The master key too is made by the first that needs it, after the other has started."""
    async with two_gateways(state_dir) as (one, two):
        await add_provider(one, upstream, credential="first")

        async def is_known() -> bool:
            with contextlib.suppress(aigateway.NotFoundError):
                await ask(two)
                return True
            return False

        await wait_for(is_known)
        assert sent_in(upstream) == ["first"]
        replaced = Provider(name=NAME, credential="second")
        await one.client.admin.providers.update(replaced, update_mask=["credential"])

        async def is_replaced() -> bool:
            return await sent_by(two, upstream) == "second"

        await wait_for(is_replaced)


async def test_a_restart_keeps_the_credential(state_dir: Path, upstream: Upstream) -> None:
    async with running_gateway(state_dir) as gateway:
        await add_provider(gateway, upstream, credential="kept")
    assert (state_dir / "master-key").stat().st_mode & 0o777 == 0o600
    async with running_gateway(state_dir) as gateway:
        assert await sent_by(gateway, upstream) == "kept"


async def test_a_lost_master_key_stops_its_providers_alone(
    state_dir: Path, upstream: Upstream, caplog: pytest.LogCaptureFixture
) -> None:
    async with running_gateway(state_dir, master_key=OLD) as gateway:
        await add_provider(gateway, upstream, credential="kept")
    async with running_gateway(state_dir, master_key=NEW, vllm_base_url=upstream.base_url) as gateway:
        assert "the credential of providers/p is sealed under the master key" in caplog.text
        with pytest.raises(aigateway.GatewayError) as caught:
            await ask(gateway)
        assert caught.value.reason == "UPSTREAM_CREDENTIAL_REJECTED"
        assert caught.value.metadata["provider"] == NAME
        checked = await gateway.client.admin.providers.check(NAME)
        assert not checked.healthy
        assert checked.error_reason == "UPSTREAM_CREDENTIAL_REJECTED"
        assert checked.error_message == (
            "the gateway's credential for providers/p cannot be opened with the gateway's master key; "
            "see its log"
        )
        # The rest works, and giving the credential anew mends this one.
        other = Provider(provider_type="vllm", base_url=upstream.base_url)
        await gateway.client.admin.providers.create(other, provider_id="other")
        assert (await gateway.client.admin.providers.check("providers/other")).healthy
        again = Provider(name=NAME, credential="again")
        await gateway.client.admin.providers.update(again, update_mask=["credential"])
        assert await sent_by(gateway, upstream) == "again"


async def test_a_new_master_key_while_a_gateway_runs(state_dir: Path, upstream: Upstream) -> None:
    async with running_gateway(state_dir, master_key=OLD) as gateway:
        await add_provider(gateway, upstream, credential="kept")
    async with running_gateway(state_dir, master_key=f"{NEW},{OLD}") as gateway:
        assert await sent_by(gateway, upstream) == "kept"
        before = await gateway.client.admin.providers.get(NAME)
        settings = await load(state_dir, master_key=f"{NEW},{OLD}")
        assert await rekey(settings) == Rekeyed(1, 0, ())
        assert await rekey(settings) == Rekeyed(0, 1, ())
        assert await gateway.client.admin.providers.get(NAME) == before
        assert (await gateway.client.admin.providers.check(NAME)).healthy
    async with running_gateway(state_dir, master_key=NEW) as gateway:
        assert await sent_by(gateway, upstream) == "kept"


async def load(state_dir: Path, **settings: Any) -> Settings:
    return await asyncio.to_thread(Settings.load, gateway_settings(state_dir, **settings))


async def test_a_new_master_key_needs_a_database(state_dir: Path) -> None:
    with pytest.raises(StartError, match=r"there is no database .*ai-gateway\.db"):
        await rekey(await load(state_dir))
    assert not await asyncio.to_thread(state_dir.exists)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"master_key": "too-short"}, "a master key must be 32 bytes in base64"),
        ({"master_key_file": "/nowhere/at/all"}, "/nowhere/at/all: there is no such file"),
    ],
)
async def test_a_master_key_that_is_none_ends_the_start(
    state_dir: Path, settings: dict[str, Any], words: str
) -> None:
    with pytest.raises(StartError, match=words):
        async with running_gateway(state_dir, **settings):
            pass


async def test_a_master_key_in_a_file(state_dir: Path, upstream: Upstream, tmp_path: Path) -> None:
    (tmp_path / "key").write_text(OLD + "\n")
    (tmp_path / "key").chmod(0o600)
    async with running_gateway(state_dir, master_key_file=tmp_path / "key") as gateway:
        await add_provider(gateway, upstream, credential="kept")
    assert not (state_dir / "master-key").exists()
    async with running_gateway(state_dir, master_key=OLD) as gateway:
        assert await sent_by(gateway, upstream) == "kept"


# In a file.


async def test_a_file_is_read_again_when_it_changes(
    state_dir: Path, upstream: Upstream, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "gateway_server.providers.credential_files")
    file = folder / "key"
    file.write_text("first\n")
    async with running_gateway(state_dir, credential_dirs=(folder,)) as gateway:
        await add_provider(gateway, upstream, credential_ref=f"file:{file}")
        assert await sent_by(gateway, upstream) == "first"

        async def sends(secret: str) -> None:
            async def does() -> bool:
                with contextlib.suppress(aigateway.GatewayError):
                    return await sent_by(gateway, upstream) == secret
                upstream.exchanges.clear()
                return False

            await wait_for(does)

        file.write_text("fifth\n")  # as many bytes as before
        await sends("fifth")
        replaced = folder / "new"
        replaced.write_text("second")
        replaced.rename(file)
        await sends("second")
        file.unlink()

        async def is_missed() -> bool:
            with contextlib.suppress(aigateway.GatewayError):
                await ask(gateway)
                return False
            return True

        await wait_for(is_missed)
        upstream.exchanges.clear()
        with pytest.raises(aigateway.GatewayError) as caught:
            await ask(gateway)
        assert caught.value.reason == "UPSTREAM_CREDENTIAL_REJECTED"
        assert str(file) not in str(caught.value)
        assert upstream.exchanges == []
        file.write_text("third")
        await sends("third")
    assert f"the credential file {file} has a new secret" in caplog.text
    assert f"the credential file {file} cannot be used: no such file or directory" in caplog.text
    assert f"the credential file {file} can be used again" in caplog.text
    assert all(secret not in caplog.text for secret in ("fifth", "second", "third"))


async def test_a_mounted_folder_of_links_is_followed(
    state_dir: Path, upstream: Upstream, folder: Path
) -> None:
    """As Kubernetes mounts secrets: each version in a folder of its own, and links that are replaced."""
    for number in ("1", "2"):
        (folder / number).mkdir()
        (folder / number / "key").write_text(f"version-{number}")
    (folder / "data").symlink_to("1")
    (folder / "key").symlink_to("data/key")
    async with running_gateway(state_dir, credential_dirs=(folder,)) as gateway:
        await add_provider(gateway, upstream, credential_ref=f"file:{folder / 'key'}")
        assert await sent_by(gateway, upstream) == "version-1"
        (folder / "fresh").symlink_to("2")
        (folder / "fresh").rename(folder / "data")

        async def is_new() -> bool:
            return await sent_by(gateway, upstream) == "version-2"

        await wait_for(is_new)


async def test_a_check_reads_the_file_as_it_is_now(state_dir: Path, upstream: Upstream, folder: Path) -> None:
    async with running_gateway(state_dir, credential_dirs=(folder,), refresh_seconds=60) as gateway:
        await add_provider(gateway, upstream, credential_ref=f"file:{folder / 'key'}")
        checked = await gateway.client.admin.providers.check(NAME)
        assert checked.error_reason == "UPSTREAM_CREDENTIAL_REJECTED"
        (folder / "key").write_text("there-now")
        checked = await gateway.client.admin.providers.check(NAME)
        assert checked.healthy, checked.error_message
        assert list(checked.provider_models) == [MODEL]


# What a reference may name.


@pytest.mark.parametrize(
    ("ref", "words"),
    [
        ("env:AIGW_MASTER_KEY", "does not allow"),
        ("env:AIGW_ADMIN_API_KEY", "does not allow"),
        ("env:DATABASE_PASSWORD", "does not allow"),
        ("env:PATH", "does not allow"),
        ("file:/etc/passwd", "below a folder of credential_dirs"),
        ("file:{folder}", "below a folder of credential_dirs"),
        ("file:{folder}/../state/key-pepper", "below a folder of credential_dirs"),
        ("file:{folder}-other/key", "below a folder of credential_dirs"),
        ("file:relative/key", "full path"),
        ("file:../key", "full path"),
    ],
)
async def test_an_administrator_cannot_have_just_anything_sent(
    state_dir: Path, upstream: Upstream, folder: Path, ref: str, words: str
) -> None:
    async with running_gateway(state_dir, credential_dirs=(folder,)) as gateway:
        with pytest.raises(aigateway.InvalidRequestError, match=words) as caught:
            await add_provider(gateway, upstream, credential_ref=ref.format(folder=folder))
        assert [violation.field for violation in caught.value.violations] == ["provider.credential_ref"]


async def test_no_file_can_be_named_unless_folders_are_set(
    state_dir: Path, upstream: Upstream, folder: Path
) -> None:
    (folder / "key").write_text("secret")
    async with running_gateway(state_dir) as gateway:
        with pytest.raises(aigateway.InvalidRequestError, match="credential_dirs allows none"):
            await add_provider(gateway, upstream, credential_ref=f"file:{folder / 'key'}")


async def test_settings_that_were_narrowed_hold_for_providers_that_are_there(
    state_dir: Path, upstream: Upstream, folder: Path
) -> None:
    (folder / "key").write_text("secret")
    async with running_gateway(state_dir, credential_dirs=(folder,)) as gateway:
        await add_provider(gateway, upstream, credential_ref=f"file:{folder / 'key'}")
        assert await sent_by(gateway, upstream) == "secret"
    async with running_gateway(state_dir) as gateway:
        with pytest.raises(aigateway.GatewayError, match="settings do not allow") as caught:
            await ask(gateway)
        assert caught.value.reason == "UPSTREAM_CREDENTIAL_REJECTED"
    assert upstream.exchanges == []


async def make_link_out(folder: Path) -> None:
    (folder.parent / "outside").write_text("of-the-server")
    (folder / "key").symlink_to(folder.parent / "outside")


async def make_pipe(folder: Path) -> None:
    await asyncio.to_thread(os.mkfifo, folder / "key")


async def make_folder(folder: Path) -> None:
    (folder / "key").mkdir()


async def make_large(folder: Path) -> None:
    (folder / "key").write_text("x" * 70_000)


async def make_binary(folder: Path) -> None:
    (folder / "key").write_bytes(b"\xff\xfe\x00")


async def make_blank(folder: Path) -> None:
    (folder / "key").write_text(" \n")


@pytest.mark.parametrize(
    ("make", "cause"),
    [
        (make_link_out, "it is below none of the folders in credential_dirs"),
        (make_pipe, "it is no plain file"),
        (make_folder, "it is no plain file"),
        (make_large, "it has more than 65536 bytes"),
        (make_binary, "it is not text"),
        (make_blank, "it is empty"),
    ],
)
async def test_a_file_that_cannot_be_a_credential_is_not_sent(
    state_dir: Path, upstream: Upstream, folder: Path, caplog: pytest.LogCaptureFixture, make: Any, cause: str
) -> None:
    await make(folder)
    async with running_gateway(state_dir, credential_dirs=(folder,)) as gateway:
        await add_provider(gateway, upstream, credential_ref=f"file:{folder / 'key'}")
        with pytest.raises(aigateway.GatewayError) as caught:
            await ask(gateway)
    assert caught.value.reason == "UPSTREAM_CREDENTIAL_REJECTED"
    assert upstream.exchanges == []
    assert f"{folder / 'key'} cannot be used: {cause}" in caplog.text
