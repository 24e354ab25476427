"""One chat call, from the chosen target to the settled account; whole and streamed alike."""

from collections.abc import Awaitable, Callable
from typing import Final

from aigateway.v1.chat_service_pb2 import (
    ChatCompletion,
    ChatCompletionChunk,
    CreateChatCompletionRequest,
    StreamStart,
)
from aigateway.v1.model_pb2 import ModelCapability
from aigateway.v1.usage_pb2 import TokenUsage, UsageState
from gateway_server.call import CallContext
from gateway_server.errors import feature_not_supported
from gateway_server.pipeline.account import Accounts, CallAccount
from gateway_server.pipeline.draining import Draining, Listener
from gateway_server.pipeline.relay import ChatRelay
from gateway_server.pipeline.upstream import Upstream, read_error_body
from gateway_server.providers.base import ChatFormat, HttpCall, Target
from gateway_server.router.catalog import Candidate
from gateway_server.router.router import Router, options_of
from gateway_server.usage.ceiling import chat_ceiling
from gateway_server.usage.estimate import answer_characters, estimate_chat_usage, estimate_input_tokens

_CHAT: Final = ModelCapability.MODEL_CAPABILITY_CHAT

EmitChunk = Callable[[ChatCompletionChunk], Awaitable[None]]


class ChatPipeline:
    """Serves chat calls: choose a target, ask it, tell the caller, settle."""

    def __init__(
        self,
        *,
        router: Router,
        upstream: Upstream,
        accounts: Accounts,
        flush_seconds: float,
        draining: Draining,
    ) -> None:
        self._router = router
        self._upstream = upstream
        self._accounts = accounts
        self._flush_seconds = flush_seconds
        self._draining = draining

    async def complete(self, request: CreateChatCompletionRequest, call: CallContext) -> ChatCompletion:
        """The whole answer."""
        with self._account(request, call) as account:
            candidate, chat_format = self._choose(request, call)
            target = candidate.target
            http_call = _http_call(candidate, chat_format, request, stream=False)
            await account.admit(candidate.names, tokens=self._expected_tokens(request, target))
            attempt = await account.attempt(
                target, chat_ceiling(request, target.model), lambda: _cut_usage(request, None, 0)
            )
            with attempt:
                if attempt.hold.max_output_tokens is not None:
                    limited = _limited(request, attempt.hold.max_output_tokens)
                    http_call = _http_call(candidate, chat_format, limited, stream=False)
                async with await self._upstream.send(http_call, call) as response:
                    attempt.http_status = response.status
                    if response.status != 200:
                        data = await read_error_body(response)
                        raise chat_format.parse_error(response.status, response.headers, data, target)
                    data = await response.read()
                answer = chat_format.parse_chat(data, target)
                reported = answer.usage if answer.HasField("usage") else None
                attempt.usage = reported or _counted_usage(request, answer_characters(answer))
                attempt.take_served_by(answer.served_by)
            account.introduce(answer)
            account.conclude(answer)
            return answer

    async def stream(self, request: CreateChatCompletionRequest, call: CallContext, emit: EmitChunk) -> None:
        """The answer while it is being written; ``emit`` is awaited for each message."""
        await self._draining.serve(lambda listener: self._stream(request, call, listener), emit)

    async def close(self) -> None:
        """Ends streams that go on without their callers."""
        await self._draining.close()

    async def _stream(
        self, request: CreateChatCompletionRequest, call: CallContext, listener: Listener
    ) -> None:
        with self._account(request, call) as account:
            candidate, chat_format = self._choose(request, call)
            target = candidate.target
            http_call = _http_call(candidate, chat_format, request, stream=True)
            await account.admit(candidate.names, tokens=self._expected_tokens(request, target))
            parser = chat_format.chat_stream(target)

            def introduce(start: StreamStart) -> None:
                account.introduce(start)
                attempt.take_served_by(start.served_by)

            relay = ChatRelay(
                parser,
                listener.emit,
                introduce=introduce,
                flush_seconds=self._flush_seconds,
                clock=call.clock,
            )
            attempt = await account.attempt(
                target,
                chat_ceiling(request, target.model),
                lambda: _cut_usage(request, parser.usage, relay.characters),
            )
            with attempt:
                if attempt.hold.max_output_tokens is not None:
                    limited = _limited(request, attempt.hold.max_output_tokens)
                    http_call = _http_call(candidate, chat_format, limited, stream=True)
                async with await self._upstream.send(http_call, call) as response:
                    attempt.http_status = response.status
                    if response.status != 200:
                        data = await read_error_body(response)
                        raise chat_format.parse_error(response.status, response.headers, data, target)
                    last_events = await relay.run(response, on_first_content=attempt.mark_first_token)
                attempt.usage = parser.usage or _counted_usage(request, relay.characters)
            listener.require_present()
            account.conclude(last_events[-1].end)
            account.settle()
            await listener.emit(ChatCompletionChunk(events=last_events))

    def _account(self, request: CreateChatCompletionRequest, call: CallContext) -> CallAccount:
        return self._accounts.open(
            call, model=request.model, labels=request.labels, end_user_id=request.end_user_id
        )

    def _expected_tokens(self, request: CreateChatCompletionRequest, target: Target) -> int:
        """About what a call will read and write together."""
        output = self._accounts.expectation.of(
            target.label, limit=request.generation_config.max_output_tokens
        )
        return estimate_input_tokens(request.messages, request.tools) + output

    def _choose(
        self, request: CreateChatCompletionRequest, call: CallContext
    ) -> tuple[Candidate, ChatFormat]:
        candidate = self._router.choose(
            request.model,
            call.principal,
            options=options_of(request),
            capability=_CHAT,
        )
        chat_format = candidate.endpoint.chat_format
        if chat_format is None:
            raise feature_not_supported("chat", model=candidate.name)
        return candidate, chat_format


def _http_call(
    candidate: Candidate, chat_format: ChatFormat, request: CreateChatCompletionRequest, *, stream: bool
) -> HttpCall:
    body = chat_format.render_chat(request, candidate.target, stream=stream)
    return candidate.endpoint.chat_call(
        candidate.target, body, stream=stream, options=request.provider_options
    )


def _limited(request: CreateChatCompletionRequest, max_output_tokens: int) -> CreateChatCompletionRequest:
    """The request with another output limit: what the caller's money pays for."""
    limited = CreateChatCompletionRequest()
    limited.CopyFrom(request)
    limited.generation_config.max_output_tokens = max_output_tokens
    return limited


def _counted_usage(request: CreateChatCompletionRequest, output_characters: int) -> TokenUsage:
    """The usage of a complete answer whose provider reported none."""
    return estimate_chat_usage(request, output_characters, UsageState.USAGE_STATE_ESTIMATED)


def _cut_usage(
    request: CreateChatCompletionRequest, reported: TokenUsage | None, output_characters: int
) -> TokenUsage:
    """The usage of an answer that broke off: what was reported until then, or read.

    A provider that reports its input at once knows no more of its output than that it has begun, so
    what was read of it counts where it is more.
    """
    read = estimate_chat_usage(request, output_characters, UsageState.USAGE_STATE_PARTIAL)
    if reported is None:
        return read
    usage = TokenUsage()
    usage.CopyFrom(reported)
    usage.state = UsageState.USAGE_STATE_PARTIAL
    usage.output_tokens = max(reported.output_tokens, read.output_tokens)
    usage.total_tokens = usage.input_tokens + usage.output_tokens
    return usage
