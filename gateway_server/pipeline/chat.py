"""One chat call, from its plan to the settled account; whole and streamed alike."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from aigateway.v1.chat_service_pb2 import (
    ChatCompletion,
    ChatCompletionChunk,
    ChatEvent,
    CreateChatCompletionRequest,
    StreamStart,
)
from aigateway.v1.usage_pb2 import TokenUsage, UsageState
from gateway_server.call import CallContext
from gateway_server.errors import feature_not_supported
from gateway_server.pipeline.account import Accounts, CallAccount
from gateway_server.pipeline.draining import Draining, Listener
from gateway_server.pipeline.failover import Failover, Prepare, Try, Turn
from gateway_server.pipeline.guarding import AnswerChecks, CallGuard, Guardrails
from gateway_server.pipeline.media import CallMedia
from gateway_server.pipeline.relay import ChatRelay
from gateway_server.pipeline.upstream import Upstream, first_token_within, read_error_body
from gateway_server.providers.base import ChatFormat, HttpCall, Target
from gateway_server.providers.media_fetch import MediaFetcher
from gateway_server.router.catalog import Candidate
from gateway_server.router.facts import ChatFacts
from gateway_server.router.retries import TryPolicy
from gateway_server.router.router import Option, Router
from gateway_server.usage.ceiling import chat_ceiling
from gateway_server.usage.estimate import answer_characters, estimate_chat_usage

T = TypeVar("T")

EmitChunk = Callable[[ChatCompletionChunk], Awaitable[None]]


class ChatPipeline:
    """Serves chat calls: plan, ask one target after another, tell the caller, settle."""

    def __init__(
        self,
        *,
        router: Router,
        upstream: Upstream,
        accounts: Accounts,
        guardrails: Guardrails,
        flush_seconds: float,
        draining: Draining,
        media_fetcher: MediaFetcher | None = None,
    ) -> None:
        self._router = router
        self._upstream = upstream
        self._accounts = accounts
        self._guardrails = guardrails
        self._flush_seconds = flush_seconds
        self._draining = draining
        self._media_fetcher = media_fetcher

    async def complete(self, request: CreateChatCompletionRequest, call: CallContext) -> ChatCompletion:
        """The whole answer."""
        with self._account(request, call) as account:
            request, guard = await self._guard(request, call, account)
            facts = ChatFacts(request, streams=False)
            plan = self._router.plan(facts, call)

            def tries(rendering: _Rendering) -> Try[ChatCompletion]:
                return lambda turn: self._ask(rendering, turn, call, plan.policy, guard)

            prepare = self._prepare(request, facts, account, guard, tries)
            answer = await Failover(self._router, plan, call, account, prepare).serve()
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
            request, guard = await self._guard(request, call, account)
            facts = ChatFacts(request, streams=True)
            plan = self._router.plan(facts, call)

            def tries(rendering: _Rendering) -> Try[list[ChatEvent]]:
                async def relay_once(turn: Turn) -> list[ChatEvent]:
                    listener.require_present()
                    answer_guard = _answer_guard(guard, request, choices=facts.choices)
                    relay = self._relay(turn, rendering, call, account, listener, guard=answer_guard)
                    return await self._pass_on(turn, rendering, relay, call, plan.policy)

                return relay_once

            prepare = self._prepare(request, facts, account, guard, tries)
            last_events = await Failover(self._router, plan, call, account, prepare).serve(streams=True)
            listener.require_present()
            account.conclude(last_events[-1].end)
            account.settle()
            await listener.emit(ChatCompletionChunk(events=last_events))

    async def _guard(
        self, request: CreateChatCompletionRequest, call: CallContext, account: CallAccount
    ) -> tuple[CreateChatCompletionRequest, CallGuard]:
        """The request as it may go to a model, and what will guard the answer."""
        guard = account.guard = self._guardrails.open(call.principal, request.gateway_options)
        guard.require_logprobs(request)
        return await guard.check(request), guard

    def _prepare(
        self,
        request: CreateChatCompletionRequest,
        facts: ChatFacts,
        account: CallAccount,
        guard: CallGuard,
        tries: Callable[["_Rendering"], Try[T]],
    ) -> Prepare[T]:
        """Renders the request for a target and takes room in its limits, before it is tried."""
        media = CallMedia(self._media_fetcher, check=guard.check)

        async def prepare(option: Option) -> Try[T]:
            candidate, target = option.candidate, option.candidate.target
            wanted = media.wanted_by(candidate.endpoint.chat_format, target, request.messages)
            rendering = None if wanted else _Rendering(request, candidate, streams=facts.streams)
            output = self._accounts.expectation.of(target.label, limit=facts.max_output_tokens)
            await account.admit(candidate, tokens=facts.input_tokens + output)
            if rendering is None:  # nothing is fetched for a caller who is over a limit
                account.has_fetched = True
                inlined = await media.inline(request, wanted)
                rendering = _Rendering(inlined, candidate, streams=facts.streams)
            return tries(rendering)

        return prepare

    async def _ask(
        self, rendering: "_Rendering", turn: Turn, call: CallContext, policy: TryPolicy, guard: CallGuard
    ) -> ChatCompletion:
        """One try at a whole answer."""
        request, chat_format, target = rendering.request, rendering.chat_format, rendering.target
        attempt = await turn.open(chat_ceiling(request, target.model), lambda: _cut_usage(request, None, 0))
        with attempt:
            http_call = rendering.call(attempt.hold.max_output_tokens)
            async with await self._upstream.send(http_call, call, within=policy.attempt_timeout) as response:
                attempt.http_status = response.status
                if response.status != 200:
                    data = await read_error_body(response)
                    raise chat_format.parse_error(response.status, response.headers, data, target)
                data = await response.read()
            answer = chat_format.parse_chat(data, target)
            reported = answer.usage if answer.HasField("usage") else None
            attempt.usage = reported or _counted_usage(request, answer_characters(answer))
            attempt.take_served_by(answer.served_by)
            attempt.guard = _answer_guard(guard, request, choices=len(answer.choices))
            if attempt.guard is not None:
                await attempt.guard.apply(answer)
        return answer

    def _relay(
        self,
        turn: Turn,
        rendering: "_Rendering",
        call: CallContext,
        account: CallAccount,
        listener: Listener,
        *,
        guard: AnswerChecks | None,
    ) -> ChatRelay:
        """What passes one try's answer on."""

        def introduce(start: StreamStart) -> None:
            account.introduce(start)
            if turn.attempt is not None:
                turn.attempt.take_served_by(start.served_by)

        return ChatRelay(
            rendering.chat_format.chat_stream(rendering.target),
            listener.emit,
            introduce=introduce,
            flush_seconds=self._flush_seconds,
            clock=call.clock,
            guard=guard,
        )

    async def _pass_on(
        self, turn: Turn, rendering: "_Rendering", relay: ChatRelay, call: CallContext, policy: TryPolicy
    ) -> list[ChatEvent]:
        """One try at a streamed answer; gives its last events, unsent."""
        request, chat_format, target = rendering.request, rendering.chat_format, rendering.target
        attempt = await turn.open(
            chat_ceiling(request, target.model), lambda: _cut_usage(request, relay.usage, relay.characters)
        )
        attempt.guard = relay.guard
        with attempt:
            http_call = rendering.call(attempt.hold.max_output_tokens)
            async with (
                first_token_within(policy.first_token_timeout, target) as first_token_is_here,
                await self._upstream.send(http_call, call, within=policy.attempt_timeout) as response,
            ):
                attempt.http_status = response.status
                if response.status != 200:
                    data = await read_error_body(response)
                    raise chat_format.parse_error(response.status, response.headers, data, target)

                def mark_first_content() -> None:
                    turn.begin()
                    first_token_is_here()
                    attempt.mark_first_token()

                last_events = await relay.run(response, on_first_content=mark_first_content)
            if relay.is_stopped:
                attempt.usage = _cut_usage(request, relay.usage, relay.characters)
            else:
                attempt.usage = relay.usage or _counted_usage(request, relay.characters)
        return last_events

    def _account(self, request: CreateChatCompletionRequest, call: CallContext) -> CallAccount:
        return self._accounts.open(
            call, model=request.model, labels=request.labels, end_user_id=request.end_user_id
        )


class _Rendering:
    """A request as one target gets it."""

    def __init__(self, request: CreateChatCompletionRequest, candidate: Candidate, *, streams: bool) -> None:
        """Raises FEATURE_NOT_SUPPORTED for what the target's format cannot say."""
        chat_format = candidate.endpoint.chat_format
        if chat_format is None:
            raise feature_not_supported("chat", model=candidate.name)
        self.request = request
        self.chat_format: ChatFormat = chat_format
        self.target: Target = candidate.target
        self._endpoint = candidate.endpoint
        self._streams = streams
        self._body = chat_format.render_chat(request, candidate.target, stream=streams)

    def call(self, max_output_tokens: int | None) -> HttpCall:
        """What is sent, signed as of now; with another output limit where there is one."""
        body = self._body
        if max_output_tokens is not None:
            limited = _limited(self.request, max_output_tokens)
            body = self.chat_format.render_chat(limited, self.target, stream=self._streams)
        return self._endpoint.chat_call(
            self.target, body, stream=self._streams, options=self.request.provider_options
        )


def _answer_guard(
    guard: CallGuard, request: CreateChatCompletionRequest, *, choices: int
) -> AnswerChecks | None:
    return guard.answer(
        choices=choices,
        is_json=request.response_format.WhichOneof("kind") in {"json_object", "json_schema"},
        tool_names=frozenset(
            tool.function.function_name or tool.free_form.tool_name for tool in request.tools
        ),
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
