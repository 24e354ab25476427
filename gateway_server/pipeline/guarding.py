"""The guardrails of one call: which profiles apply, what they did to its request, and to its answer."""

import asyncio
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

from aigateway.v1.chat_service_pb2 import ChatCompletion, CountTokensRequest, CreateChatCompletionRequest
from aigateway.v1.embeddings_service_pb2 import CreateEmbeddingsRequest
from aigateway.v1.routing_pb2 import GatewayOptions, GuardrailResult
from gateway_server.call import Principal
from gateway_server.errors import feature_not_supported, invalid_request
from gateway_server.guardrails.answer import AnswerGuard
from gateway_server.guardrails.book import ProfileBook
from gateway_server.guardrails.request import RequestGuard, slots_of
from gateway_server.guardrails.rules import LOG, Profile, Tally
from gateway_server.guardrails.vault import Vault
from gateway_server.resource_names import guardrail_profile_name, parse_guardrail_profile
from gateway_server.usage.estimate import answer_characters

R = TypeVar("R", CreateChatCompletionRequest, CountTokensRequest, CreateEmbeddingsRequest)

DEFAULT_PROFILE: Final = guardrail_profile_name("default")

#: Texts that are longer together leave the event loop, in characters.
_INLINE_CHARACTERS: Final = 4_096
#: How much longer than its time-outs a check may take before nobody waits for it any more, in seconds.
_GRACE_SECONDS: Final = 0.5
_THREADS: Final = 2


class Guardrails:
    """Opens the guardrails of calls. Its owner closes it."""

    def __init__(self, book: ProfileBook) -> None:
        self.book = book
        self._executor = ThreadPoolExecutor(_THREADS, thread_name_prefix="guardrails")

    def open(self, principal: Principal, options: GatewayOptions) -> "CallGuard":
        """The guardrails of one call: its tenant's or key's, and those that the request adds.

        Raises INVALID_REQUEST for an addition that is not there, GUARDRAIL_FAILED for a profile that cannot
        work.
        """
        for index, name in enumerate(options.guardrail_profiles):
            field = f"gateway_options.guardrail_profiles[{index}]"
            parse_guardrail_profile(name, field)
            if name not in self.book:
                raise invalid_request(field, f"{name} does not exist")
        own = principal.guardrail_profile or DEFAULT_PROFILE
        return CallGuard(self.book.get([own, *options.guardrail_profiles]), self._executor)

    def try_out(self, name: str) -> "CallGuard":
        """The guardrails of one profile alone."""
        return CallGuard(self.book.get([name]), self._executor)

    def close(self) -> None:
        """Waits for no check that is under way."""
        self._executor.shutdown(wait=False, cancel_futures=True)


class CallGuard:
    """The guardrails of one call."""

    def __init__(self, profiles: Iterable[Profile], executor: ThreadPoolExecutor) -> None:
        profiles = list(profiles)
        self._executor = executor
        self._inputs = [Tally(rule) for profile in profiles for rule in profile.input_rules]
        self._output_rules = [rule for profile in profiles for rule in profile.output_rules]
        self._window = min((profile.window for profile in profiles if profile.window), default=0)
        self._vault = Vault() if any(profile.is_reversible for profile in profiles) else None

    async def check(self, request: R) -> R:
        """The request as it may go to a model. Raises GUARDRAIL_BLOCKED, GUARDRAIL_FAILED."""
        if not self._inputs:
            return request
        texts = slots_of(request)
        if sum(len(slot.text) for slot in texts) <= _INLINE_CHARACTERS:
            RequestGuard(self._inputs, self._vault).apply(request, texts)
            return request
        while True:
            try:
                return await self._check_in_thread(request)
            except _HangsError as hangs:
                hangs.tally.fail("timeout")  # and once more without that rule, where that may be
                for tally in self._inputs:
                    tally.begin_again()

    def require_logprobs(self, request: CreateChatCompletionRequest) -> None:
        """Raises FEATURE_NOT_SUPPORTED for log probabilities: they tell what is taken out of an answer."""
        config = request.generation_config
        if not (config.logprobs or config.HasField("top_logprobs")):
            return
        if self._vault is not None or any(rule.action != LOG for rule in self._output_rules):
            raise feature_not_supported("logprobs beside guardrails that change answers", model=request.model)

    def answer(self, *, choices: int) -> AnswerGuard | None:
        """What guards one try at an answer; None where nothing is to be done."""
        if not (self._output_rules or self._vault):
            return None
        return AnswerGuard(
            [Tally(rule) for rule in self._output_rules],
            window=self._window,
            vault=self._vault,
            choices=choices,
        )

    async def apply(self, guard: AnswerGuard | None, answer: ChatCompletion) -> None:
        """Guards a whole answer. Raises GUARDRAIL_FAILED."""
        if guard is None:
            return
        if answer_characters(answer) <= _INLINE_CHARACTERS:
            guard.apply(answer)
        else:
            await asyncio.get_running_loop().run_in_executor(self._executor, guard.apply, answer)

    def results(self, answer: AnswerGuard | None, *, passes: bool = True) -> list[GuardrailResult]:
        """What each rule did that had anything to look at; ``answer`` guards the answer that serves.

        Without ``passes`` only of rules that found something, or could not run.
        """
        outputs = [] if answer is None else answer.tallies
        return [
            tally.result()
            for tally in [*self._inputs, *outputs]
            if tally.has_looked and (passes or tally.findings or tally.failure)
        ]

    async def _check_in_thread(self, request: R) -> R:
        # A thread that hangs cannot be stopped, so it has a copy of its own.
        guarded = type(request)()
        guarded.CopyFrom(request)
        guard = RequestGuard(self._inputs, self._vault)
        limit = sum(tally.rule.timeout for tally in self._inputs if not tally.failure) + _GRACE_SECONDS
        done = asyncio.get_running_loop().run_in_executor(self._executor, guard.apply, guarded)
        try:
            await asyncio.wait_for(done, limit)
        except TimeoutError:
            if guard.current is None:
                raise
            raise _HangsError(guard.current) from None
        finally:
            guard.is_given_up.set()
        return guarded


class _HangsError(Exception):
    """A check does not come back."""

    def __init__(self, tally: Tally) -> None:
        super().__init__(tally.rule.rule_id)
        self.tally = tally
