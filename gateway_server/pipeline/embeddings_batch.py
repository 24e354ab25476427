"""The inputs of one embeddings call at one target: in one request, or in several where it takes few each.

Several go out side by side, some at once. What was answered is kept when one fails, so that a retry asks
for the rest only; and every attempt is charged with just what it asked for.
"""

import asyncio
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass
from typing import Final

from aigateway.v1.embeddings_service_pb2 import CreateEmbeddingsRequest, CreateEmbeddingsResponse
from aigateway.v1.usage_pb2 import TokenUsage, UsageState
from gateway_server.call import CallContext
from gateway_server.errors import GatewayError
from gateway_server.pipeline.account import AttemptAccount, may_be_billed
from gateway_server.pipeline.upstream import Upstream, read_error_body
from gateway_server.providers.base import EmbeddingsFormat, Endpoint, Target
from gateway_server.providers.transport import TransportError
from gateway_server.usage.ceiling import TokenCeiling, embeddings_ceiling
from gateway_server.usage.estimate import estimate_embeddings_usage
from gateway_server.usage.totals import add_usages

#: So many requests of one call are under way at once: enough to hide the way there and back, and few
#: enough that one caller does not use up a provider's rate alone.
_AT_ONCE: Final = 8


@dataclass(slots=True)
class _Piece:
    """One request and what became of it. ``usage`` is that of the last time it was asked."""

    request: CreateEmbeddingsRequest
    body: bytes
    was_sent: bool = False
    http_status: int = 0
    usage: TokenUsage | None = None
    answer: CreateEmbeddingsResponse | None = None


class EmbeddingsBatch:
    """What one target is asked for in one call, rendered whole: it refuses before anything is sent."""

    def __init__(
        self,
        request: CreateEmbeddingsRequest,
        *,
        endpoint: Endpoint,
        embeddings_format: EmbeddingsFormat,
        target: Target,
        upstream: Upstream,
    ) -> None:
        self._endpoint = endpoint
        self._format = embeddings_format
        self._target = target
        self._upstream = upstream
        most = embeddings_format.most_inputs(target)
        self._pieces = [
            _Piece(piece, embeddings_format.render_embeddings(piece, target, first_input=first))
            for first, piece in _split(request, most)
        ]

    def ceiling(self) -> TokenCeiling:
        """The most that asking for what is still missing can use."""
        each = (embeddings_ceiling(piece.request, self._target.model) for piece in self._missing())
        return TokenCeiling(input_tokens=sum(ceiling.input_tokens for ceiling in each))

    async def ask(
        self, attempt: AttemptAccount, call: CallContext, *, within: float | None
    ) -> CreateEmbeddingsResponse:
        """All embeddings in order, the missing ones asked for now; ``within`` seconds, if there is a bound.

        However it ends, ``attempt`` has the requests and the usage of what it asked for. Raises the first
        failure once all that was under way has ended, since that is paid for.
        """
        asked = self._missing()
        for piece in asked:
            piece.was_sent, piece.http_status, piece.usage = False, 0, None
        begun = call.clock.monotonic()
        todo, failures = iter(asked), list[tuple[_Piece, GatewayError | TransportError]]()

        async def work() -> None:
            while not failures and (piece := next(todo, None)) is not None:
                left = None if within is None else within - (call.clock.monotonic() - begun)
                try:
                    await self._exchange(piece, call, within=left)
                except (GatewayError, TransportError) as error:
                    failures.append((piece, error))

        try:
            if len(asked) == 1:
                await work()
            else:
                await _side_by_side([work() for _ in range(min(_AT_ONCE, len(asked)))])
            if failures:
                raise failures[0][1]
        finally:
            told = failures[0][0] if failures else asked[0]
            attempt.http_status = told.http_status
            attempt.requests = sum(piece.was_sent for piece in asked)
            attempt.usage = add_usages([piece.usage for piece in asked])
        return self._join()

    async def _exchange(self, piece: _Piece, call: CallContext, *, within: float | None) -> None:
        try:
            answer = await self._fetch(piece, call, within=within)
        except BaseException as error:
            if may_be_billed(piece.http_status, error):
                piece.usage = estimate_embeddings_usage(piece.request, UsageState.USAGE_STATE_PARTIAL)
            raise
        piece.usage = (
            answer.usage
            if answer.HasField("usage")
            else estimate_embeddings_usage(piece.request, UsageState.USAGE_STATE_ESTIMATED)
        )
        piece.answer = answer

    async def _fetch(
        self, piece: _Piece, call: CallContext, *, within: float | None
    ) -> CreateEmbeddingsResponse:
        http_call = self._endpoint.embeddings_call(self._target, piece.body)
        piece.was_sent = True
        async with await self._upstream.send(http_call, call, within=within) as response:
            piece.http_status = response.status
            if response.status != 200:
                data = await read_error_body(response)
                raise self._format.parse_error(response.status, response.headers, data, self._target)
            data = await response.read()
        return self._format.parse_embeddings(data, piece.request, self._target, headers=response.headers)

    def _missing(self) -> list[_Piece]:
        return [piece for piece in self._pieces if piece.answer is None]

    def _join(self) -> CreateEmbeddingsResponse:
        """One answer of all: the first tells who served, and of equal remarks the last one counts."""
        answers = [piece.answer for piece in self._pieces if piece.answer is not None]
        joined = CreateEmbeddingsResponse()
        joined.served_by.CopyFrom(answers[0].served_by)
        for answer in answers:
            if answer.HasField("provider_metadata"):
                joined.provider_metadata.MergeFrom(answer.provider_metadata)
            first = len(joined.embeddings)
            joined.embeddings.MergeFrom(answer.embeddings)
            if first:
                for index in range(first, len(joined.embeddings)):
                    joined.embeddings[index].index = index
        usage = add_usages([piece.usage for piece in self._pieces])
        if usage is not None:
            joined.usage.CopyFrom(usage)
        return joined


def _split(
    request: CreateEmbeddingsRequest, most: int | None
) -> Iterator[tuple[int, CreateEmbeddingsRequest]]:
    """Requests of at most so many inputs each, and the place of each one's first input."""
    if most is None or len(request.inputs) <= most:
        yield 0, request
        return
    shell = CreateEmbeddingsRequest()
    shell.CopyFrom(request)
    del shell.inputs[:]
    for first in range(0, len(request.inputs), most):
        piece = CreateEmbeddingsRequest()
        piece.CopyFrom(shell)
        piece.inputs.extend(request.inputs[first : first + most])
        yield first, piece


async def _side_by_side(work: list[Coroutine[None, None, None]]) -> None:
    """Runs all of it at once; raises what one of them raises."""
    try:
        async with asyncio.TaskGroup() as group:
            for each in work:
                group.create_task(each)
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None
