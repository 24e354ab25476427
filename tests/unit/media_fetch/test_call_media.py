"""What one call fetches when several of its targets are made ready at the same time."""

from __future__ import annotations

import asyncio

from aigateway import messages
from aigateway.v1.chat_service_pb2 import CreateChatCompletionRequest
from gateway_server.pipeline.media import CallMedia
from gateway_server.providers.media_fetch import MediaFetcher, MediaFetchLimits
from tests.support.media_host import HOST, PDF, Internet, MediaHost, answer, silent
from tests.support.wire import chat_format, make_target

REQUEST = CreateChatCompletionRequest(
    model="any", messages=[messages.user("Look", messages.document_url(f"https://{HOST}/paper"))]
)


async def let_through(request: CreateChatCompletionRequest) -> CreateChatCompletionRequest:
    return request


async def inline(media: CallMedia) -> CreateChatCompletionRequest:
    wanted = media.wanted_by(chat_format("openai"), make_target("openai"), REQUEST.messages)
    return await media.inline(REQUEST, wanted)


def media_of(internet: Internet) -> CallMedia:
    limits = MediaFetchLimits(max_bytes=100_000, seconds=5, connect_seconds=1)
    return CallMedia(MediaFetcher(internet.network, limits), check=let_through)


async def test_two_targets_at_a_time_share_what_is_fetched(host: MediaHost, internet: Internet) -> None:
    media = media_of(internet)
    first, second = await asyncio.gather(inline(media), inline(media))
    assert first == second
    source = first.messages[0].parts[1].document.source
    assert (source.inline_data, source.mime_type) == (PDF, "application/pdf")
    assert REQUEST.messages[0].parts[1].document.source.uri  # the caller's request stays as it is
    assert host.asked == ["/paper"]


async def test_the_second_target_fetches_when_the_first_is_given_up(
    host: MediaHost, internet: Internet
) -> None:
    media = media_of(internet)
    host.paths["/paper"] = silent
    first = asyncio.ensure_future(inline(media))
    second = asyncio.ensure_future(inline(media))
    async with asyncio.timeout(5):
        while not host.requests:
            await asyncio.sleep(0.002)
    host.paths["/paper"] = answer(PDF, "application/pdf")
    first.cancel()
    filled = await second
    assert first.cancelled()
    assert filled.messages[0].parts[1].document.source.inline_data == PDF
    assert host.asked == ["/paper", "/paper"]


async def test_without_a_fetcher_nothing_is_wanted() -> None:
    assert (
        CallMedia(None, check=let_through).wanted_by(
            chat_format("openai"), make_target("openai"), REQUEST.messages
        )
        == []
    )
