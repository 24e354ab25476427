"""The guardrails of one call: which profiles apply, what they did to its request, and to its answer."""

import asyncio
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

from aigateway.v1.chat_service_pb2 import ChatCompletion, CountTokensRequest, CreateChatCompletionRequest
from aigateway.v1.embeddings_service_pb2 import CreateEmbeddingsRequest
from aigateway.v1.error_reason_pb2 import ErrorReason
from aigateway.v1.routing_pb2 import GatewayOptions, GuardrailResult
from gateway_server.call import Principal
from gateway_server.errors import GatewayError, feature_not_supported, invalid_request
from gateway_server.guardrails.answer import AnswerGuard
from gateway_server.guardrails.book import ProfileBook
from gateway_server.guardrails.request import RequestGuard, slots_of
from gateway_server.guardrails.rules import LOG, Profile, Tally
from gateway_server.guardrails.vault import Vault
from gateway_server.resource_names import guardrail_profile_name, parse_guardrail_profile
from gateway_server.storage.guardrail_profiles import DEFAULT
from gateway_server.usage.estimate import answer_characters

T = TypeVar("T")
R = TypeVar("R", CreateChatCompletionRequest, CountTokensRequest, CreateEmbeddingsRequest)

DEFAULT_PROFILE: Final = guardrail_profile_name(DEFAULT)

#: Texts that are longer together leave the event loop, in characters; longer ones still wait in a lane of
#: their own, so that nobody waits behind them.
_INLINE_CHARACTERS: Final = 4_096
_LONG_CHARACTERS: Final = 200_000
#: How much longer than its time-outs a check may take before nobody waits for it any more, in seconds.
_GRACE_SECONDS: Final = 0.5
_RETRY_AFTER_SECONDS: Final = 1.0


class _Lane:
    """A thread that checks one text after another, and those who wait for it."""

    def __init__(self, name: str, *, most_waiting: int) -> None:
        self._name = name
        self._most_waiting = most_waiting
        self._turn = asyncio.Lock()
        self._waiting = 0
        self._thread = self._new_thread()

    async def run(self, check: Callable[[], T], limit: float) -> T:
        """What ``check`` gives. Raises TimeoutError when it takes longer than ``limit`` seconds by itself.

        OVERLOADED when too many wait.
        """
        if self._waiting >= self._most_waiting:
            raise GatewayError(
                ErrorReason.ERROR_REASON_OVERLOADED,
                f"{self._most_waiting} texts wait to be checked and no more can",
                metadata={"limit": str(self._most_waiting)},
                retry_after=_RETRY_AFTER_SECONDS,
            )
        self._waiting += 1
        try:
            async with self._turn:
                done = asyncio.get_running_loop().run_in_executor(self._thread, check)
                try:
                    async with asyncio.timeout(limit):
                        return await done
                except (TimeoutError, asyncio.CancelledError):
                    # It may go on for ever; the next gets a thread that does not.
                    self._thread.shutdown(wait=False)
                    self._thread = self._new_thread()
                    raise
        finally:
            self._waiting -= 1

    def close(self) -> None:
        """Waits for nothing that is under way."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _new_thread(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(1, thread_name_prefix=self._name)


class Guardrails:
    """Opens the guardrails of calls. Its owner closes it."""

    def __init__(self, book: ProfileBook) -> None:
        self.book = book
        self._lanes = (
            _Lane("guardrails", most_waiting=256),
            _Lane("guardrails, long texts", most_waiting=32),
        )

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
        return CallGuard(self.book.get([own, *options.guardrail_profiles]), self._lanes)

    def try_out(self, name: str) -> "CallGuard":
        """The guardrails of one profile alone."""
        return CallGuard(self.book.get([name]), self._lanes)

    def close(self) -> None:
        """Waits for no check that is under way."""
        for lane in self._lanes:
            lane.close()


class CallGuard:
    """The guardrails of one call."""

    def __init__(self, profiles: Iterable[Profile], lanes: tuple[_Lane, _Lane]) -> None:
        """The first profile is the caller's own: it alone says whether what is masked comes back."""
        profiles = list(profiles)
        self._lanes = lanes
        self._input_rules = [rule for profile in profiles for rule in profile.input_rules]
        self._output_rules = [rule for profile in profiles for rule in profile.output_rules]
        self._window = min((profile.window for profile in profiles if profile.window), default=0)
        self._vault = Vault() if profiles and profiles[0].is_reversible else None
        #: What the rules did, for each time that texts were checked.
        self._inputs: list[list[Tally]] = []

    async def check(self, request: R) -> R:
        """The request as it may go to a model. Raises GUARDRAIL_BLOCKED, GUARDRAIL_FAILED, OVERLOADED."""
        if not self._input_rules:
            return request
        texts = slots_of(request)
        length = sum(len(slot.text) for slot in texts)
        if length <= _INLINE_CHARACTERS:
            self._inputs.append([Tally(rule) for rule in self._input_rules])
            RequestGuard(self._inputs[-1], self._vault).apply(request, texts)
            return request
        self._inputs.append([])
        hanging: set[int] = set()
        while True:
            try:
                return await self._check_in_thread(request, self._lanes[length > _LONG_CHARACTERS], hanging)
            except _HangsError as hangs:
                hanging.add(hangs.index)  # and once more without that rule, where that may be

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
            # No limit of time: each look has that of its rule, and the answer its own size.
            await asyncio.to_thread(guard.apply, answer)

    def results(self, answer: AnswerGuard | None, *, passes: bool = True) -> list[GuardrailResult]:
        """What each rule did that had anything to look at; ``answer`` guards the answer that serves.

        Without ``passes`` only of rules that found something, or could not run.
        """
        inputs = self._inputs[0] if len(self._inputs) == 1 else self._all_inputs()
        outputs = [] if answer is None else answer.tallies
        return [
            tally.result()
            for tally in [*inputs, *outputs]
            if tally.has_looked and (passes or tally.findings or tally.failure)
        ]

    def _all_inputs(self) -> list[Tally]:
        together = [Tally(rule) for rule in self._input_rules]
        for tallies in self._inputs:
            for tally, more in zip(together, tallies, strict=False):
                tally.add(more)
        return together

    async def _check_in_thread(self, request: R, lane: _Lane, hanging: set[int]) -> R:
        # A thread that hangs cannot be stopped, so all that it works on is its own.
        guarded = type(request)()
        guarded.CopyFrom(request)
        vault = None if self._vault is None else self._vault.copy()
        tallies = self._inputs[-1] = [
            Tally(rule, failure="timeout" if index in hanging else "")
            for index, rule in enumerate(self._input_rules)
        ]
        for tally in tallies:
            tally.has_looked = bool(tally.failure)
            tally.require()
        guard = RequestGuard(tallies, vault)
        limit = sum(tally.rule.timeout for tally in tallies if not tally.failure) + _GRACE_SECONDS
        try:
            await lane.run(lambda: guard.apply(guarded), limit)
        except TimeoutError:
            raise _HangsError(tallies.index(guard.current or tallies[0])) from None
        finally:
            guard.is_given_up.set()
        self._vault = vault
        return guarded


class _HangsError(Exception):
    """The check of the rule with this index does not come back."""

    def __init__(self, index: int) -> None:
        super().__init__(index)
        self.index = index
