"""What an operator meets: health, both versions of reflection, and grpcurl, written by others."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2

from gateway_server.rpc.methods import service_descriptors
from gateway_server.rpc.reflection import V1, V1ALPHA
from tests.rpc.conftest import KEY, Serve, Served, chat_request
from tests.rpc.test_interceptors import CHAT, Chat
from tests.support.tools import require_tool

SERVICES = [service.full_name for service in service_descriptors()]
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


async def health_of(served: Served, service: str) -> int:
    stub: Any = health_pb2_grpc.HealthStub(served.channel)
    response = await stub.Check(health_pb2.HealthCheckRequest(service=service))
    return int(response.status)


@pytest.mark.parametrize("service", ["", *SERVICES])
async def test_health_of_every_service_follows_the_server(serve: Serve, service: str) -> None:
    served = await serve({})
    assert await health_of(served, service) == SERVING
    await served.server.set_serving(serving=False)
    assert await health_of(served, service) == NOT_SERVING
    await served.server.set_serving(serving=True)
    assert await health_of(served, service) == SERVING


async def test_a_draining_server_is_not_serving_and_lets_calls_end(serve: Serve) -> None:
    chat = Chat()
    served = await serve({CHAT: chat})
    stub: Any = health_pb2_grpc.HealthStub(served.channel)
    watch = stub.Watch(health_pb2.HealthCheckRequest(service=""))
    assert (await watch.read()).status == SERVING
    call = served.chat.CreateChatCompletion(
        chat_request("wait"), metadata=(("authorization", f"Bearer {KEY}"),)
    )
    waiting = asyncio.ensure_future(call)
    await asyncio.wait_for(chat.entered.wait(), 5)
    stopping = asyncio.ensure_future(served.server.stop(5))
    assert (await watch.read()).status == NOT_SERVING
    assert not waiting.done()
    call.cancel()
    watch.cancel()
    await asyncio.wait_for(stopping, 5)
    await asyncio.wait([waiting])


@pytest.mark.parametrize("version", [V1, V1ALPHA])
async def test_reflection_lists_and_describes_every_service(serve: Serve, version: str) -> None:
    served = await serve({})
    call: Any = served.channel.stream_stream(
        f"/{version}/ServerReflectionInfo",
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )()
    await call.write(reflection_pb2.ServerReflectionRequest(list_services=""))
    listed = {each.name for each in (await call.read()).list_services_response.service}
    assert listed == {*SERVICES, "grpc.health.v1.Health", V1, V1ALPHA}
    for name in sorted(listed):
        await call.write(reflection_pb2.ServerReflectionRequest(file_containing_symbol=name))
        files = [
            FileDescriptorProto.FromString(data)
            for data in (await call.read()).file_descriptor_response.file_descriptor_proto
        ]
        assert name in {f"{file.package}.{service.name}" for file in files for service in file.service}
    await call.done_writing()


async def grpcurl(served: Served, *arguments: str) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        require_tool("grpcurl"),
        "-plaintext",
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    return process.returncode or 0, out.decode(), err.decode()


async def test_grpcurl_lists_describes_and_calls(serve: Serve) -> None:
    served = await serve({CHAT: Chat()})
    address = f"127.0.0.1:{served.server.port}"
    code, out, err = await grpcurl(served, address, "list")
    assert code == 0, err
    assert set(SERVICES) < set(out.split())
    code, out, err = await grpcurl(served, address, "describe", f"{CHAT}.CreateChatCompletion")
    assert code == 0, err
    assert "rpc CreateChatCompletion" in out
    code, out, err = await grpcurl(served, address, "describe")
    assert code == 0, err
    body = '{"model": "m", "messages": [{"role": "ROLE_USER", "parts": [{"text": {"text": "hi"}}]}]}'
    call = ("-d", body, address, f"{CHAT}/CreateChatCompletion")
    code, out, err = await grpcurl(served, "-H", f"authorization: Bearer {KEY}", *call)
    assert code == 0, err
    assert json.loads(out)["id"]
    code, out, err = await grpcurl(served, *call)
    assert code == 64 + 16  # grpcurl adds 64 to the status code
    assert "API_KEY_MISSING" in err
