"""Serving one call by the targets of its plan: tries, waits, going on to the next, and hedging.

What one try does is told by whoever calls; what follows on its failure is decided in ``router/retries.py``.
"""

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final, Generic, TypeVar

from aigateway.v1.error_reason_pb2 import ErrorReason
from aigateway.v1.usage_pb2 import TokenUsage
from gateway_server.call import CallContext
from gateway_server.errors import GatewayError, reason_name
from gateway_server.pipeline.account import AttemptAccount, CallAccount
from gateway_server.router.breaker import Passage
from gateway_server.router.retries import Step, is_sooner, step_after, wait_before_retry
from gateway_server.router.router import Option, Plan, Router, cooling_down
from gateway_server.usage.ceiling import TokenCeiling

T = TypeVar("T")

_RATE_LIMITED: Final = reason_name(ErrorReason.ERROR_REASON_UPSTREAM_RATE_LIMITED)
#: A second target is asked when the first is slower than it is in so many of its calls.
_HEDGING_PERCENTILE: Final = 0.95


class Turn:
    """One try at one target, which opens one attempt at most."""

    def __init__(self, lane: "_Lane", option: Option, wait: float) -> None:
        """``wait`` is how long the call waited for it, in seconds."""
        self.attempt: AttemptAccount | None = None
        self._lane = lane
        self._option = option
        self._wait = wait

    async def open(
        self, ceiling: TokenCeiling, partial_usage: Callable[[], TokenUsage | None]
    ) -> AttemptAccount:
        """Opens the attempt: see ``CallAccount.attempt``."""
        self.attempt = await self._lane.account.attempt(
            self._option.candidate.target, ceiling, partial_usage, wait=self._wait
        )
        return self.attempt

    def begin(self) -> None:
        """The caller gets a part of the answer now: from here on a failure is final.

        Raises CancelledError when another target was quicker.
        """
        self._lane.begin()


#: Does one try.
Try = Callable[[Turn], Awaitable[T]]
#: Makes ready for tries at a target, before anything is sent: raises what the target cannot do.
Prepare = Callable[[Option], Awaitable[Try[T]]]


class _Lane:
    """Tries one after another; with hedging a call has two lanes, and the first to begin is the one."""

    def __init__(self, account: CallAccount) -> None:
        self.account = account
        self.has_begun = False
        self.rival: _Lane | None = None
        self.task: asyncio.Task[object] | None = None

    def begin(self) -> None:
        """Makes this the lane that the answer comes from; raises CancelledError when it is the other."""
        if self.has_begun:
            return
        if self.rival is not None:
            if self.rival.has_begun:
                raise asyncio.CancelledError
            if self.rival.task is not None:
                self.rival.task.cancel()
        self.has_begun = True


class Failover(Generic[T]):
    """Tries the targets of a call's plan until one serves."""

    def __init__(
        self, router: Router, plan: Plan, call: CallContext, account: CallAccount, prepare: Prepare[T]
    ) -> None:
        self._router = router
        self._plan = plan
        self._call = call
        self._account = account
        self._prepare = prepare

    async def serve(self, *, streams: bool = False) -> T:
        """What the first target that serves gives.

        Raises the last attempt's failure. When there was no attempt: the first refusal, or of limits that are
        in the way of all targets the one that is out of it first.
        """
        self._account.model = self._plan.name
        options = self._plan.options
        if self._plan.hedges and len(options) > 1:
            usual = options[0].health.observations.usual_wait(_HEDGING_PERCENTILE, streams=streams)
            if usual is not None:
                return await self._serve_hedged(options, usual)
        return await self._serve_by(_Lane(self._account), options)

    async def _serve_hedged(self, options: Sequence[Option], usual: float) -> T:
        """Asks the first target; when that takes longer than usual, the others beside it."""
        first, second = _Lane(self._account), _Lane(self._account)
        first.rival, second.rival = second, first
        leading = asyncio.create_task(self._serve_by(first, options[:1]), name="first target")
        first.task = leading
        lanes = {leading: first}
        try:
            await asyncio.wait(lanes, timeout=usual)
            if leading.done() and not (_failed(leading) and _may_go_on(leading, first)):
                return leading.result()
            trailing = asyncio.create_task(self._serve_by(second, options[1:]), name="other targets")
            second.task = trailing
            lanes[trailing] = second
            return await _first_of(lanes)
        finally:
            for task in lanes:
                task.cancel()
            await asyncio.wait(lanes)

    async def _serve_by(self, lane: _Lane, options: Sequence[Option]) -> T:
        failure: GatewayError | None = None
        for option in options:
            attempts = len(self._account.attempts)
            try:
                result = await self._serve_at(lane, option)
            except GatewayError as error:
                if lane.has_begun or step_after(error) is Step.STOP:
                    raise
                has_tried = len(self._account.attempts) > attempts
                if failure is None or has_tried or is_sooner(error, failure):
                    failure = error
            else:
                self._note_session(option)
                return result
            finally:
                self._account.leave(option.candidate)
        if failure is None:
            raise AssertionError("a plan has at least one target")
        raise failure

    async def _serve_at(self, lane: _Lane, option: Option) -> T:
        """What the first try at a target that serves gives; raises the last one's failure."""
        serve_once = await self._prepare(option)
        book, policy = self._router.health, self._plan.policy
        is_last = option is self._plan.options[-1]
        failure: GatewayError | None = None
        wait = 0.0
        for tries in itertools.count(1):
            passage = await self._pass(option, failure, is_last=is_last)
            if failure is None:
                option.health.retry_budget.add_call(book.now())
            try:
                return await self._try(lane, option, serve_once, passage, wait)
            except GatewayError as error:
                if lane.has_begun or step_after(error) is not Step.RETRY or tries >= policy.max_attempts:
                    raise
                wait = wait_before_retry(error, tries, policy, self._router.draw.random())
                if not self._may_retry_after(option, wait, is_last=is_last):
                    raise
                failure = error
            await asyncio.sleep(wait)
        raise AssertionError("tries are counted without end")

    async def _try(self, lane: _Lane, option: Option, serve_once: Try[T], passage: Passage, wait: float) -> T:
        turn = Turn(lane, option, wait)
        error: BaseException | None = None
        try:
            result = await serve_once(turn)
            lane.begin()
        except BaseException as caught:
            error = caught
            raise
        finally:
            attempt = turn.attempt
            self._router.health.end(
                option.health,
                passage,
                error,
                latency=0.0 if attempt is None else attempt.latency,
                first_token=None if attempt is None else attempt.first_token_latency,
            )
        self._account.served = turn.attempt
        return result

    async def _pass(self, option: Option, failure: GatewayError | None, *, is_last: bool) -> Passage:
        """Begins a try. Raises ``failure``, or why the target is left alone, when it must not be tried.

        A target that told until when it takes no more calls is waited for, if there is no other.
        """
        book = self._router.health
        passage = book.begin(option.health)
        if passage is None and failure is None:
            now = book.now()
            cooldown = option.health.breaker.cooldown(now)
            if cooldown is None:
                raise AssertionError("what is not let through is cooling down")
            failure = cooling_down(option.candidate, cooldown, now)
            wait = cooldown.until - now
            if cooldown.reason == _RATE_LIMITED and is_last and wait < self._call.remaining():
                await asyncio.sleep(wait)
                passage = book.begin(option.health)
        if passage is not None:
            return passage
        if failure is None:
            raise AssertionError("a try that is not begun has a reason")
        raise failure

    def _may_retry_after(self, option: Option, wait: float, *, is_last: bool) -> bool:
        """Whether a wait fits into the deadline, is worth it, and the target may be tried again after it."""
        if wait >= self._call.remaining() or (wait > self._plan.policy.max_backoff and not is_last):
            return False
        book = self._router.health
        now = book.now()
        return not book.is_left_alone(option.health, now + wait) and option.health.retry_budget.take(now)

    def _note_session(self, option: Option) -> None:
        served = self._account.served
        if self._plan.session is not None:
            usage = None if served is None else served.usage
            self._router.affinity.note(self._plan.session, option.candidate.name, usage)


def _failed(task: asyncio.Task[T]) -> bool:
    return task.exception() is not None


def _may_go_on(task: asyncio.Task[T], lane: _Lane) -> bool:
    """Whether another target may serve after what a lane failed by."""
    error = task.exception()
    return isinstance(error, GatewayError) and not lane.has_begun and step_after(error) is not Step.STOP


async def _first_of(lanes: Mapping[asyncio.Task[T], _Lane]) -> T:
    """What the first lane that serves gives; raises what ends the call, or the last failure."""
    failed: asyncio.Task[T] | None = None
    pending = set(lanes)
    while pending:
        done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            if task.cancelled():
                continue  # the other was quicker
            if not _failed(task) or not _may_go_on(task, lanes[task]):
                return task.result()
            failed = task
    if failed is None:
        raise asyncio.CancelledError
    return failed.result()
