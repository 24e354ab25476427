"""Where a client connects to, and that it never talks in plain text to another machine unasked."""

import asyncio
import json
import shutil
import subprocess
import sys
from pathlib import Path

import grpc
import pytest

from aigateway import AsyncClient, Client, Tls, UnavailableError
from aigateway.channel import _RETRIED_METHODS, configure_channel, resolve_api_key
from tests.sdk.fake_gateway import SERVICES, FakeGateway
from tests.support.absent import tell_absent
from tests.support.certificates import Authority

LOOPBACK = [
    "localhost",
    "localhost:50051",
    "LOCALHOST:50051",
    "127.0.0.1:50051",
    "127.8.9.1:1",
    "[::1]:50051",
    "dns:localhost:50051",
    "dns:///127.0.0.1:50051",
    "dns://8.8.8.8/localhost:50051",
    "ipv4:127.0.0.1:50051",
    "ipv4:127.0.0.1:1,127.0.0.2:1",
    "ipv6:[::1]:50051",
    "ipv6:%5B::1%5D:50051",
    "unix:/run/gateway.sock",
    "unix-abstract:gateway",
]
ELSEWHERE = [
    "gateway.example:443",
    "localhost.example:443",
    "127.0.0.1.example:443",
    "10.0.0.1:50051",
    "0.0.0.0:50051",
    "[2001:db8::1]:443",
    "dns:///gateway.example:443",
    "dns://127.0.0.1/gateway.example:443",
    "ipv4:127.0.0.1:1,10.0.0.1:1",
    "xds:///localhost",
    "localhost@gateway.example:1",
]


@pytest.mark.parametrize("target", LOOPBACK)
def test_plain_text_is_the_default_on_this_machine(target: str) -> None:
    assert configure_channel(target).credentials is None
    assert configure_channel(target, tls=Tls()).credentials is not None


@pytest.mark.parametrize("target", ELSEWHERE)
def test_to_another_machine_plain_text_must_be_asked_for(target: str) -> None:
    assert configure_channel(target).credentials is not None
    assert configure_channel(target, insecure=True).credentials is None


def test_target_and_key_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AIGW_TARGET", raising=False)
    monkeypatch.delenv("AIGW_API_KEY", raising=False)
    assert configure_channel(None).target == "localhost:50051"
    assert resolve_api_key(None) == ""

    monkeypatch.setenv("AIGW_TARGET", "gateway.example:443")
    monkeypatch.setenv("AIGW_API_KEY", " sk-gw-env\n")
    assert configure_channel(None).target == "gateway.example:443"
    assert configure_channel("localhost:1").target == "localhost:1"
    assert resolve_api_key(None) == "sk-gw-env"
    assert resolve_api_key("sk-gw-arg") == "sk-gw-arg"
    assert resolve_api_key("") == ""


@pytest.mark.parametrize("target", ["http://gateway:50051", "https://gateway:50051/", "grpc://gateway:50051"])
def test_a_url_is_refused_and_the_target_in_it_named(target: str) -> None:
    with pytest.raises(ValueError, match="use 'gateway:50051'"):
        Client(target)


def test_what_does_not_fit_together_is_refused() -> None:
    with pytest.raises(ValueError, match="exclude each other"):
        Client("gateway:1", tls=Tls(), insecure=True)
    with pytest.raises(ValueError, match="at least 1"):
        Client(max_attempts=0)
    with pytest.raises(ValueError, match="go together"):
        Client("gateway:1", tls=Tls(cert_file="cert.pem"))
    with pytest.raises(FileNotFoundError):
        Client("gateway:1", tls=Tls(ca_file="absent.pem"))


@pytest.mark.parametrize("key", ["sk gw", "sk-gw-ü", "sk-gw-\x00", "sk-gw-a\nb"])
def test_a_key_that_no_header_can_hold_is_refused_without_being_shown(key: str) -> None:
    with pytest.raises(ValueError, match="characters that no key has") as caught:
        Client(api_key=key)

    assert "sk" not in str(caught.value)


def test_the_methods_that_are_retried_exist_and_change_nothing() -> None:
    known = {service.full_name: {method.name for method in service.methods} for service in SERVICES}
    writes = {
        name
        for names in known.values()
        for name in names
        if name.startswith(("Create", "Update", "Delete", "Rotate", "Revoke"))
    } - {"CreateChatCompletion", "CreateEmbeddings"}
    retried = {name for names in _RETRIED_METHODS.values() for name in names}

    assert {service: set(names) for service, names in _RETRIED_METHODS.items()}.keys() == known.keys()
    assert retried == {name for names in known.values() for name in names} - writes


def test_the_service_config_is_what_grpc_reads() -> None:
    options = dict(configure_channel("localhost", max_attempts=3).options)
    config = json.loads(str(options["grpc.service_config"]))

    assert config["methodConfig"][0]["retryPolicy"]["maxAttempts"] == 3
    assert config["methodConfig"][0]["retryPolicy"]["retryableStatusCodes"] == ["UNAVAILABLE"]


def test_a_client_can_be_made_where_no_loop_runs() -> None:
    # As a program of its own: grpc.aio does not like a second loop in the process of the tests.
    program = """
import asyncio
from aigateway import AsyncClient, UnavailableError

client = AsyncClient("localhost:1", max_attempts=1)

async def ask():
    async with client:
        try:
            await client.chat.create("echo", "Hello")
        except UnavailableError:
            print("asked")

asyncio.run(ask())
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=False
    )

    assert (done.returncode, done.stdout) == (0, "asked\n"), done.stderr


@pytest.fixture(scope="module")
def pem(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CA, a certificate for gateway.test and one for a client, made on the spot."""
    folder = tmp_path_factory.mktemp("pem")
    if shutil.which("openssl") is None:
        tell_absent("openssl is not installed")
    authority = Authority.make(folder)
    for name in ("gateway", "client"):
        authority.issue(name, alt_names=f"DNS:{name}.test")
    return folder


def server_credentials(pem: Path) -> grpc.ServerCredentials:
    pair = ((pem / "gateway.key").read_bytes(), (pem / "gateway.pem").read_bytes())
    return grpc.ssl_server_credentials([pair], (pem / "ca.pem").read_bytes(), require_client_auth=True)


async def test_tls_checks_the_servers_name_and_both_certificates(pem: Path) -> None:
    gateway = FakeGateway()
    await gateway.start(server_credentials(pem))
    own = {"cert_file": pem / "client.pem", "key_file": pem / "client.key"}

    async def ask(tls: Tls) -> str:
        # Made in a thread, because it reads files.
        client = await asyncio.to_thread(AsyncClient, gateway.target, tls=tls, max_attempts=1)
        async with client:
            return (await client.chat.create("echo", "Hello", timeout=10)).id

    assert await ask(Tls(ca_file=pem / "ca.pem", server_name="gateway.test", **own)) == "c1"
    for refused in (
        Tls(ca_file=pem / "ca.pem", server_name="other.test", **own),
        Tls(ca_file=pem / "ca.pem", server_name="gateway.test"),
        Tls(server_name="gateway.test", **own),
    ):
        with pytest.raises(UnavailableError):
            await ask(refused)
    await gateway.stop()
    assert len(gateway.calls) == 1
