"""TLS and mTLS on the listener, with certificates made for the test."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from gateway_server.rpc.server import read_credentials
from tests.rpc.conftest import Serve
from tests.support.certificates import Authority


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a CA, and a certificate of it for localhost and one for a client."""
    folder = tmp_path_factory.mktemp("certificates")
    authority = Authority.make(folder)
    for name in ("server", "client"):
        authority.issue(name, alt_names="DNS:localhost")
    return folder


async def is_serving(port: int, credentials: grpc.ChannelCredentials) -> bool:
    async with grpc.aio.secure_channel(f"localhost:{port}", credentials) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        try:
            response = await stub.Check(health_pb2.HealthCheckRequest(), timeout=5)
        except grpc.aio.AioRpcError as error:
            return bool(error.code() != grpc.StatusCode.UNAVAILABLE)
        return bool(response.status == health_pb2.HealthCheckResponse.SERVING)


async def test_a_caller_that_trusts_the_ca_is_served_and_one_that_does_not_is_not(
    serve: Serve, certificates: Path
) -> None:
    served = await serve(
        {},
        credentials=await asyncio.to_thread(
            read_credentials, certificates / "server.pem", certificates / "server.key"
        ),
    )
    ca = (certificates / "ca.pem").read_bytes()
    assert await is_serving(served.server.port, grpc.ssl_channel_credentials(ca))
    assert not await is_serving(served.server.port, grpc.ssl_channel_credentials())


async def test_with_a_client_ca_only_callers_with_its_certificate_are_served(
    serve: Serve, certificates: Path
) -> None:
    credentials = await asyncio.to_thread(
        read_credentials, certificates / "server.pem", certificates / "server.key", certificates / "ca.pem"
    )
    served = await serve({}, credentials=credentials)
    ca = (certificates / "ca.pem").read_bytes()
    pair = ((certificates / "client.key").read_bytes(), (certificates / "client.pem").read_bytes())
    assert await is_serving(served.server.port, grpc.ssl_channel_credentials(ca, *pair))
    assert not await is_serving(served.server.port, grpc.ssl_channel_credentials(ca))
