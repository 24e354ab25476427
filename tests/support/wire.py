"""Targets, formats, and streams cut into pieces."""

from collections.abc import Iterable, Iterator
from random import Random
from typing import Any

import orjson

from aigateway.fold import fold_events
from aigateway.v1.chat_service_pb2 import ChatCompletion, ChatEvent
from aigateway.v1.model_pb2 import Model
from gateway_server.errors import GatewayError
from gateway_server.providers.base import ChatFormat, ChatStreamParser, Endpoint, Target
from gateway_server.providers.registry import build_endpoint


def make_target(provider_type: str = "openai", provider_model: str = "gpt-test") -> Target:
    return Target(
        provider_id=f"my-{provider_type}",
        provider_type=provider_type,
        provider_model=provider_model,
        model=Model(),
    )


#: Addresses of those types of providers that have none of their own.
BASE_URLS = {
    "azure_openai": "https://name.openai.azure.com",
    "bedrock": "https://bedrock-runtime.us-east-1.amazonaws.com",
    "openai_compatible": "https://service.example/v1",
    "vllm": "http://127.0.0.1:8000",
}


def make_endpoint(provider_type: str, **config: object) -> Endpoint:
    return build_endpoint(provider_type, BASE_URLS.get(provider_type, ""), lambda: "sk-test", config)


def chat_format(provider_type: str = "openai", **config: object) -> ChatFormat:
    wire_format = make_endpoint(provider_type, **config).chat_format
    assert wire_format is not None
    return wire_format


def to_sse(chunks: Iterable[Any], *, done: bool = True) -> bytes:
    """Chunks as OpenAI frames them."""
    events = [b"data: " + orjson.dumps(chunk) + b"\n\n" for chunk in chunks]
    return b"".join(events) + (b"data: [DONE]\n\n" if done else b"")


def read_stream(parser: ChatStreamParser, pieces: Iterable[bytes]) -> list[ChatEvent]:
    events: list[ChatEvent] = []
    for piece in pieces:
        events += parser.feed(piece)
    return events + parser.close()


def read_until_failure(
    parser: ChatStreamParser, pieces: Iterable[bytes]
) -> tuple[list[ChatEvent], GatewayError | None]:
    """All events of a stream, and the failure that ended it; what had been said before it comes first."""
    events: list[ChatEvent] = []
    try:
        for piece in pieces:
            events += parser.feed(piece)
        events += parser.close()
        if not events or events[-1].WhichOneof("event") != "end":
            events += parser.close()
    except GatewayError as error:
        return events, error
    return events, None


def fold_stream(pieces: Iterable[bytes], target: Target | None = None) -> ChatCompletion:
    target = target or make_target()
    return fold_events(read_stream(chat_format(target.provider_type).chat_stream(target), pieces))


def one_byte_pieces(data: bytes) -> Iterator[bytes]:
    for index in range(len(data)):
        yield data[index : index + 1]


def random_pieces(data: bytes, random: Random, *, longest: int = 200) -> Iterator[bytes]:
    position = 0
    while position < len(data):
        length = random.randint(1, longest)
        yield data[position : position + length]
        position += length
