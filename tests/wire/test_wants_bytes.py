"""Which media by address each provider wants as bytes: exactly those that it can be sent no other way."""

from __future__ import annotations

from typing import Final

import pytest

from aigateway import messages
from aigateway.v1.chat_service_pb2 import CreateChatCompletionRequest
from aigateway.v1.content_pb2 import AudioPart, ContentPart, DocumentPart, ImagePart, MediaSource, VideoPart
from aigateway.v1.error_reason_pb2 import ErrorReason
from gateway_server.errors import GatewayError
from tests.support.wire import chat_format, make_target

TYPES: Final = {
    "image": "image/png",
    "audio": "audio/wav",
    "video": "video/mp4",
    "document": "application/pdf",
}
MODELS: Final = {"google": "gemini-3-flash", "bedrock": "amazon.nova-pro-v1:0"}
ALL: Final = frozenset(TYPES)
#: Kinds that are wanted as bytes: with their media type told, and without.
WANTED: Final[dict[str, tuple[frozenset[str], frozenset[str]]]] = {
    "anthropic": (frozenset(), frozenset()),
    "azure_openai": (frozenset({"audio", "document"}), frozenset({"audio", "document"})),
    "bedrock": (ALL, ALL),
    "google": (frozenset(), ALL),
    "openai": (frozenset({"audio", "document"}), frozenset({"audio", "document"})),
    "openai_compatible": (frozenset({"audio"}), frozenset({"audio"})),
    "vllm": (frozenset(), frozenset()),
}


def part_of(kind: str, source: MediaSource) -> ContentPart:
    match kind:
        case "image":
            return ContentPart(image=ImagePart(source=source))
        case "audio":
            return ContentPart(audio=AudioPart(source=source))
        case "video":
            return ContentPart(video=VideoPart(source=source))
        case _:
            return ContentPart(document=DocumentPart(source=source))


def wants(provider: str, part: ContentPart, *, in_result: bool = False, model: str = "") -> bool:
    target = make_target(provider, model or MODELS.get(provider, "some-model"))
    return chat_format(provider).wants_bytes(part, target, in_result=in_result)


def can_say(provider: str, part: ContentPart) -> bool:
    request = CreateChatCompletionRequest(model="any", messages=[messages.user("Look", part)])
    target = make_target(provider, MODELS.get(provider, "some-model"))
    try:
        chat_format(provider).render_chat(request, target, stream=False)
    except GatewayError as error:
        if error.reason != ErrorReason.ERROR_REASON_FEATURE_NOT_SUPPORTED:
            raise
        return False
    return True


@pytest.mark.parametrize("provider", WANTED)
@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("told", [True, False], ids=["typed", "untyped"])
def test_bytes_are_wanted_where_only_they_can_be_sent(provider: str, kind: str, told: bool) -> None:
    uri = "https://media.example.com/it"
    by_address = part_of(kind, MediaSource(uri=uri, mime_type=TYPES[kind] if told else ""))
    as_bytes = part_of(kind, MediaSource(inline_data=b"it", mime_type=TYPES[kind]))
    wanted = wants(provider, by_address)
    assert wanted == (kind in WANTED[provider][0 if told else 1])
    assert wanted == (can_say(provider, as_bytes) and not can_say(provider, by_address))
    assert not wants(provider, as_bytes)


@pytest.mark.parametrize("provider", WANTED)
@pytest.mark.parametrize("kind", TYPES)
def test_bytes_written_as_an_address_are_there_already(provider: str, kind: str) -> None:
    if kind in {"audio", "document"} and provider in {"azure_openai", "openai", "openai_compatible"}:
        return  # no address of the web, so nothing is fetched, and the format refuses it
    assert not wants(provider, part_of(kind, MediaSource(uri=f"data:{TYPES[kind]};base64,aXQ=")))


def test_addresses_that_a_provider_knows_are_left_to_it() -> None:
    for kind in TYPES:
        assert not wants("bedrock", part_of(kind, MediaSource(uri="s3://bucket/it.png")))
    for uri in ("https://www.youtube.com/watch?v=1", "https://youtu.be/1"):
        assert not wants("google", part_of("video", MediaSource(uri=uri)))
    assert not wants("openai", part_of("audio", MediaSource(uri="https://h/a", mime_type="audio/ogg")))


def test_what_a_tool_returned_is_asked_for_where_it_can_be_sent() -> None:
    untyped = {kind: part_of(kind, MediaSource(uri="https://media.example.com/it")) for kind in TYPES}

    def wanted(provider: str, model: str = "") -> set[str]:
        return {kind for kind, part in untyped.items() if wants(provider, part, in_result=True, model=model)}

    assert wanted("bedrock") == {"image", "video", "document"}
    assert wanted("google", "gemini-3-flash") == ALL
    assert wanted("google", "gemini-2.5-flash") == set()
    assert wanted("openai") == wanted("vllm") == wanted("anthropic") == set()
