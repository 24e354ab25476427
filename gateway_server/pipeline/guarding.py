"""The guardrails of one call: which profiles apply, what they did to its request, and to its answer."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from math import inf
from typing import Final, TypeVar

from aigateway.v1.chat_service_pb2 import (
    ChatCompletion,
    ChatEvent,
    CountTokensRequest,
    CreateChatCompletionRequest,
)
from aigateway.v1.embeddings_service_pb2 import CreateEmbeddingsRequest
from aigateway.v1.error_reason_pb2 import ErrorReason
from aigateway.v1.routing_pb2 import GatewayOptions, GuardrailResult
from gateway_server.call import Principal
from gateway_server.errors import GatewayError, feature_not_supported, invalid_request
from gateway_server.guardrails.answer import AnswerGuard, size_beside, size_beside_of
from gateway_server.guardrails.book import ProfileBook
from gateway_server.guardrails.json_work import json_work, json_work_of
from gateway_server.guardrails.pii import WINDOW
from gateway_server.guardrails.request import RequestGuard
from gateway_server.guardrails.request_texts import Slot, slots_of
from gateway_server.guardrails.request_work import request_work
from gateway_server.guardrails.rules import LOG, Profile, Rule, Tally
from gateway_server.guardrails.vault import Vault
from gateway_server.resource_names import guardrail_profile_name, parse_guardrail_profile
from gateway_server.storage.guardrail_profiles import DEFAULT
from gateway_server.usage.estimate import answer_characters

T = TypeVar("T")
R = TypeVar("R", CreateChatCompletionRequest, CountTokensRequest, CreateEmbeddingsRequest)

DEFAULT_PROFILE: Final = guardrail_profile_name(DEFAULT)

#: Texts that are longer together leave the event loop, in characters; longer ones still wait in a lane of
#: their own, so that nobody waits behind them. So many rules may look at them; the texts of more are shorter.
_INLINE_CHARACTERS: Final = 4_096
_LONG_CHARACTERS: Final = 200_000
_USUAL_RULES: Final = 4
#: In larger requests, and those of more texts, they are looked for off the event loop.
_INLINE_BYTES: Final = 65_536
_INLINE_TEXTS: Final = 500
#: How many checks of each kind may wait for other processes at the same time.
_WAITING_THREADS: Final = 16
#: How much longer than its time-outs a check may take before nobody waits for it any more, in seconds.
_GRACE_SECONDS: Final = 0.5
_RETRY_AFTER_SECONDS: Final = 1.0


class _Lane:
    """A thread that checks one text after another, or several, and those who wait for a turn."""

    def __init__(self, name: str, *, threads: int = 1, most_waiting: float = inf) -> None:
        self._name = name
        self._threads = threads
        self._most_waiting = most_waiting
        self._turns = asyncio.Semaphore(threads)
        self._waiting = 0
        self._executor = self._new_executor()

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
            async with self._turns:
                done = asyncio.get_running_loop().run_in_executor(self._executor, check)
                try:
                    async with asyncio.timeout(limit):
                        return await done
                except (TimeoutError, asyncio.CancelledError):
                    # It may go on for ever; the next gets a thread that does not.
                    self._executor.shutdown(wait=False)
                    self._executor = self._new_executor()
                    raise
        finally:
            self._waiting -= 1

    def close(self) -> None:
        """Waits for nothing that is under way."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _new_executor(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(self._threads, thread_name_prefix=self._name)


class _Lanes:
    """Lanes for texts that would hold up the event loop.

    Long ones have one of their own, and so do those whose rules wait for other processes.
    """

    def __init__(self, short: _Lane, long: _Lane, waiting: _Lane) -> None:
        self._short = short
        self._long = long
        self._waiting = waiting

    def of(self, rules: Iterable[Rule], characters: int, *, ends: bool = False) -> _Lane | None:
        """The lane for so much text under these rules; None: the event loop has the time for it.

        ``ends`` tells that a text ends, so that what was held of it is looked at too.
        """
        rules = list(rules)
        if any(rule.waits for rule in rules):
            return self._waiting if characters or ends else None
        work = characters * max(len(rules) / _USUAL_RULES, 1)
        if work <= _INLINE_CHARACTERS:
            return None
        return self._long if work > _LONG_CHARACTERS else self._short

    def close(self) -> None:
        """Waits for no check that is under way."""
        for lane in (self._short, self._long, self._waiting):
            lane.close()


class Guardrails:
    """Opens the guardrails of calls. Its owner closes it."""

    def __init__(self, book: ProfileBook) -> None:
        self.book = book
        self._request_lanes = _Lanes(
            _Lane("guardrails, requests", most_waiting=256),
            _Lane("guardrails, long requests", most_waiting=32),
            _Lane("guardrails, waiting requests", threads=_WAITING_THREADS, most_waiting=256),
        )
        # Whose answer has begun is not turned away: no more wait than there are calls.
        self._answer_lanes = _Lanes(
            _Lane("guardrails, answers"),
            _Lane("guardrails, long answers"),
            _Lane("guardrails, waiting answers", threads=_WAITING_THREADS),
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
        return self._open([own, *options.guardrail_profiles])

    def try_out(self, name: str) -> "CallGuard":
        """The guardrails of one profile alone."""
        return self._open([name])

    def close(self) -> None:
        """Waits for no check that is under way."""
        self._request_lanes.close()
        self._answer_lanes.close()

    def _open(self, names: Iterable[str]) -> "CallGuard":
        return CallGuard(
            self.book.get(names), request_lanes=self._request_lanes, answer_lanes=self._answer_lanes
        )


class AnswerChecks:
    """Guards one answer, whole or streamed: long texts off the event loop, one after another."""

    def __init__(self, guard: AnswerGuard, lanes: _Lanes, *, is_json: bool) -> None:
        """``is_json`` tells that the answer was to be JSON."""
        self._guard = guard
        self._lanes = lanes
        self._is_json = is_json

    @property
    def tallies(self) -> Sequence[Tally]:
        """What the rules have done so far."""
        return self._guard.tallies

    @property
    def is_stopped(self) -> bool:
        """Whether nothing more of the answer can be passed on."""
        return self._guard.is_stopped

    async def apply(self, answer: ChatCompletion) -> None:
        """Changes a whole answer as the rules want. Raises GUARDRAIL_FAILED."""

        def apply(guard: AnswerGuard) -> ChatCompletion:
            guarded = ChatCompletion()
            guarded.CopyFrom(answer)
            guard.apply(guarded)
            return guarded

        work = json_work(answer, is_json=self._is_json) if self._judges else 0
        lane = self._lane_for(answer_characters(answer) + size_beside(answer) + work)
        if lane is None and not self._asks:
            self._guard.apply(answer)
        else:
            answer.CopyFrom(await self._run(apply, lane))

    async def feed(self, events: list[ChatEvent], characters: int) -> list[ChatEvent]:
        """What may be passed on of a stream now that ``events`` with so many characters of words have come.

        Changes the events. Raises GUARDRAIL_FAILED.
        """
        characters += size_beside_of(events)
        if self._judges:
            characters += json_work_of(events, is_json=self._is_json)
        ends = any(event.HasField("part_end") or event.HasField("choice_end") for event in events)
        if ends:
            characters += self._waiting_work
        lane = self._lane_for(characters, ends=ends)
        if lane is None and not self._asks:
            return self._guard.feed(events)
        return await self._run(lambda guard: guard.feed(deepcopy(events)), lane)

    async def cut(self) -> list[ChatEvent]:
        """The rest of the texts of a stream that has broken off: see AnswerGuard.cut."""
        characters = self._waiting_work
        lane = self._lane_for(characters, ends=True)
        if lane is None and not self._asks:
            return self._guard.cut()
        return await self._run(AnswerGuard.cut, lane)

    @property
    def _asks(self) -> bool:
        return any(tally.rule.asks and not tally.failure for tally in self.tallies)

    @property
    def _judges(self) -> bool:
        return any(tally.rule.judges for tally in self.tallies)

    @property
    def _waiting_work(self) -> int:
        """How much there is to check of what waits for a part to end, in characters."""
        work = self._guard.waiting_characters
        if self._judges:
            work += json_work_of(self._guard.waiting_events, is_json=self._is_json)
        return work

    def _lane_for(self, characters: int, *, ends: bool = False) -> _Lane | None:
        rules = (tally.rule for tally in self.tallies if not tally.failure)
        return self._lanes.of(rules, characters, ends=ends)

    async def _run(self, work: Callable[[AnswerGuard], T], lane: _Lane | None) -> T:
        """What ``work`` gives with the guard, in a thread of ``lane``, or here where there is none.

        It is done again without a rule that hangs, where that may be, and with what a provider says.
        """
        while True:
            try:
                return await self._run_once(work, lane)
            except _HangsError as hangs:
                self._guard.give_up(hangs.index)
            except _AsksError as asks:
                await asks.put_to(self.tallies)

    async def _run_once(self, work: Callable[[AnswerGuard], T], lane: _Lane | None) -> T:
        # A thread that hangs cannot be stopped, so all that it works on is its own.
        guard = self._guard

        def check() -> T:
            nonlocal guard
            guard = guard.copy()
            return work(guard)

        limit = sum(max(tally.rule.timeout - tally.seconds, 0) for tally in self.tallies if not tally.failure)
        try:
            done = check() if lane is None else await lane.run(check, limit + _GRACE_SECONDS)
        except TimeoutError:
            raise _HangsError(guard.rule_at_work) from None
        except GatewayError:
            _require_nothing_to_ask(guard.tallies)
            self._guard = guard
            raise
        else:
            _require_nothing_to_ask(guard.tallies)
            for tally in guard.tallies:
                tally.verdicts.clear()
            self._guard = guard
            return done
        finally:
            if guard is not self._guard:
                guard.is_given_up = True


class CallGuard:
    """The guardrails of one call."""

    def __init__(self, profiles: Iterable[Profile], *, request_lanes: _Lanes, answer_lanes: _Lanes) -> None:
        """The first profile is the caller's own: it alone says whether what is masked comes back."""
        profiles = list(profiles)
        self._request_lanes = request_lanes
        self._answer_lanes = answer_lanes
        self._input_rules = [rule for profile in profiles for rule in profile.input_rules]
        self._output_rules = [rule for profile in profiles for rule in profile.output_rules]
        self._window = max((profile.window or WINDOW for profile in profiles), default=0)
        self._vault = Vault() if profiles and profiles[0].is_reversible else None
        #: What the rules did, for each time that texts were checked.
        self._inputs: list[list[Tally]] = []

    async def check(self, request: R) -> R:
        """The request as it may go to a model. Raises GUARDRAIL_BLOCKED, GUARDRAIL_FAILED, OVERLOADED."""
        if not self._input_rules:
            return request
        texts = None
        if request.ByteSize() <= _INLINE_BYTES:
            texts = slots_of(request, most=_INLINE_TEXTS + 1)
        if texts is None or len(texts) > _INLINE_TEXTS:
            texts, work = await asyncio.to_thread(_weighed, request)
        else:
            work = request_work(texts)
        asks = any(rule.asks for rule in self._input_rules)
        if asks:
            work = max(work, request.ByteSize())  # for it is copied, and its texts are looked for again
        lane = self._request_lanes.of(self._input_rules, work)
        self._inputs.append([Tally(rule) for rule in self._input_rules])
        if lane is None and not asks:
            RequestGuard(self._inputs[-1], self._vault).apply(request, texts)
            return request
        while True:
            try:
                return await self._check_once(request, lane)
            except _HangsError as hangs:
                # And once more without that rule, where that may be.
                self._inputs[-1][hangs.index].failure = "timeout"
            except _AsksError as asks:
                await asks.put_to(self._inputs[-1])

    def require_logprobs(self, request: CreateChatCompletionRequest) -> None:
        """Raises FEATURE_NOT_SUPPORTED for log probabilities: they tell what is taken out of an answer."""
        config = request.generation_config
        if not (config.logprobs or config.HasField("top_logprobs")):
            return
        if self._vault is not None or any(rule.action != LOG for rule in self._output_rules):
            raise feature_not_supported("logprobs beside guardrails that change answers", model=request.model)

    def answer(
        self, *, choices: int, is_json: bool = False, tool_names: frozenset[str] = frozenset()
    ) -> "AnswerChecks | None":
        """What guards one try at an answer, which was to be JSON or not; None where nothing is to be done.

        ``tool_names`` are those of the caller's tools.
        """
        if not (self._output_rules or self._vault):
            return None
        guard = AnswerGuard(
            [Tally(rule) for rule in self._output_rules],
            window=self._window,
            vault=self._vault,
            choices=choices,
            is_json=is_json,
            tool_names=tool_names,
        )
        return AnswerChecks(guard, self._answer_lanes, is_json=is_json)

    def results(self, answer: AnswerChecks | None, *, passes: bool = True) -> list[GuardrailResult]:
        """What each rule did that had anything to look at; ``answer`` guards the answer that serves.

        Without ``passes`` only of rules that found something, or could not run or read everything.
        """
        inputs = self._inputs[0] if len(self._inputs) == 1 else self._all_inputs()
        outputs = [] if answer is None else answer.tallies
        return [
            tally.result()
            for tally in [*inputs, *outputs]
            if tally.has_looked and (passes or not tally.passed)
        ]

    def _all_inputs(self) -> list[Tally]:
        together = [Tally(rule) for rule in self._input_rules]
        for tallies in self._inputs:
            for tally, more in zip(together, tallies, strict=False):
                tally.add(more)
        return together

    async def _check_once(self, request: R, lane: _Lane | None) -> R:
        # A thread that hangs cannot be stopped, so all that it works on is its own.
        guarded = type(request)()
        guarded.CopyFrom(request)
        vault = None if self._vault is None else self._vault.copy()
        tallies = self._inputs[-1] = [tally.again() for tally in self._inputs[-1]]
        guard = RequestGuard(tallies, vault)
        limit = sum(tally.rule.timeout for tally in tallies if not tally.failure) + _GRACE_SECONDS
        try:
            if lane is None:
                guard.apply(guarded)
            else:
                await lane.run(lambda: guard.apply(guarded), limit)
        except TimeoutError:
            raise _HangsError(tallies.index(guard.current or tallies[0])) from None
        except GatewayError:
            _require_nothing_to_ask(tallies)
            raise
        finally:
            guard.is_given_up = True
        _require_nothing_to_ask(tallies)
        self._vault = vault
        return guarded


class _HangsError(Exception):
    """The check of the rule with this index does not come back."""

    def __init__(self, index: int) -> None:
        super().__init__(index)
        self.index = index


class _AsksError(Exception):
    """Rules want to ask providers about texts, a list for each rule, before what they do counts."""

    def __init__(self, wanted: list[list[str]]) -> None:
        super().__init__()
        self._wanted = wanted

    async def put_to(self, tallies: Sequence[Tally]) -> None:
        """Asks for the rules of these books, which then know."""
        for tally, wanted in zip(tallies, self._wanted, strict=True):
            if wanted:
                await tally.ask(wanted)


def _weighed(request: R) -> tuple[list[Slot], int]:
    """Every text of a request, and how much work they are: to find and decode them may take a while."""
    texts = slots_of(request)
    return texts, request_work(texts)


def _require_nothing_to_ask(tallies: Sequence[Tally]) -> None:
    """Raises _AsksError."""
    if any(tally.wanted for tally in tallies):
        raise _AsksError([tally.wanted for tally in tallies]) from None
