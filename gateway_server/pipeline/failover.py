"""Serving one call by the targets of its plan: tries, waits, and going on to the next.

What one try does is told by whoever calls; what follows on its failure is decided in ``router/retries.py``.
"""

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from aigateway.v1.error_reason_pb2 import ErrorReason
from aigateway.v1.usage_pb2 import TokenUsage
from gateway_server.call import CallContext
from gateway_server.errors import GatewayError, reason_name
from gateway_server.pipeline.account import AttemptAccount, CallAccount
from gateway_server.router.breaker import Passage
from gateway_server.router.retries import Step, step_after, wait_before_retry
from gateway_server.router.router import Option, Plan, Router, cooling_down
from gateway_server.usage.ceiling import TokenCeiling

T = TypeVar("T")

_RATE_LIMITED: Final = reason_name(ErrorReason.ERROR_REASON_UPSTREAM_RATE_LIMITED)


class Turn:
    """One try at one target, which opens one attempt at most."""

    def __init__(self, account: CallAccount, option: Option, wait: float) -> None:
        """``wait`` is how long the call waited for it, in seconds."""
        self.attempt: AttemptAccount | None = None
        self._account = account
        self._option = option
        self._wait = wait

    async def open(
        self, ceiling: TokenCeiling, partial_usage: Callable[[], TokenUsage | None]
    ) -> AttemptAccount:
        """Opens the attempt: see ``CallAccount.attempt``."""
        self.attempt = await self._account.attempt(
            self._option.candidate.target, ceiling, partial_usage, wait=self._wait
        )
        return self.attempt


#: Does one try.
Try = Callable[[Turn], Awaitable[T]]
#: Makes ready for tries at a target, before anything is sent: raises what the target cannot do.
Prepare = Callable[[Option], Awaitable[Try[T]]]


def _never() -> bool:
    return False


class Failover:
    """Tries the targets of a plan until one serves."""

    def __init__(self, router: Router) -> None:
        self._router = router
        self._health = router.health

    async def serve(
        self,
        plan: Plan,
        call: CallContext,
        account: CallAccount,
        prepare: Prepare[T],
        *,
        has_begun: Callable[[], bool] = _never,
    ) -> T:
        """What the first target that serves gives.

        Raises the last attempt's failure, or the first refusal when there was no attempt. Once ``has_begun``
        says that the caller has part of an answer, a failure is final.
        """
        account.model = plan.name
        failure: GatewayError | None = None
        for place, option in enumerate(plan.options):
            attempts = len(account.attempts)
            served = _Service(
                self._router,
                plan,
                option,
                call,
                account=account,
                has_begun=has_begun,
                is_last=place == len(plan.options) - 1,
            )
            try:
                result = await served.run(await prepare(option))
            except GatewayError as error:
                if has_begun() or step_after(error) is Step.STOP:
                    raise
                if failure is None or len(account.attempts) > attempts:
                    failure = error
            else:
                if plan.session is not None:
                    self._router.affinity.note(
                        plan.session, option.candidate.name, account.attempts[-1].usage
                    )
                return result
        if failure is None:
            raise AssertionError("a plan has at least one target")
        raise failure


class _Service:
    """The tries of one call at one target."""

    def __init__(
        self,
        router: Router,
        plan: Plan,
        option: Option,
        call: CallContext,
        *,
        account: CallAccount,
        has_begun: Callable[[], bool],
        is_last: bool,
    ) -> None:
        self._draw = router.draw
        self._book = router.health
        self._policy = plan.policy
        self._option = option
        self._call = call
        self._account = account
        self._has_begun = has_begun
        self._is_last = is_last

    async def run(self, serve_once: Try[T]) -> T:
        """What the first try that serves gives; raises the last one's failure."""
        health = self._option.health
        wait = 0.0
        failure: GatewayError | None = None
        for tries in itertools.count(1):
            passage = await self._pass(failure)
            if failure is None:
                health.retry_budget.add_call(self._book.now())
            try:
                return await self._try(serve_once, passage, wait)
            except GatewayError as error:
                failure = error
            if self._has_begun() or step_after(failure) is not Step.RETRY:
                break
            wait = wait_before_retry(failure, tries, self._policy, self._draw.random())
            if tries >= self._policy.max_attempts or not self._may_retry_after(wait):
                break
            await asyncio.sleep(wait)
        if failure is None:
            raise AssertionError("a loop that ends has failed")
        raise failure

    async def _try(self, serve_once: Try[T], passage: Passage, wait: float) -> T:
        turn = Turn(self._account, self._option, wait)
        error: BaseException | None = None
        try:
            return await serve_once(turn)
        except BaseException as caught:
            error = caught
            raise
        finally:
            attempt = turn.attempt
            self._book.end(
                self._option.health,
                passage,
                error,
                latency=0.0 if attempt is None else attempt.latency,
                first_token=None if attempt is None else attempt.first_token_latency,
            )

    async def _pass(self, failure: GatewayError | None) -> Passage:
        """Begins a try. Raises ``failure``, or why the target is left alone, when it must not be tried.

        A target that told until when it takes no more calls is waited for, if there is no other.
        """
        health = self._option.health
        passage = self._book.begin(health)
        if passage is not None:
            return passage
        now = self._book.now()
        cooldown = health.breaker.cooldown(now)
        if failure is None and cooldown is not None:
            failure = cooling_down(self._option.candidate, cooldown, now)
            wait = cooldown.until - now
            if cooldown.reason == _RATE_LIMITED and self._is_last and wait < self._call.remaining():
                await asyncio.sleep(wait)
                passage = self._book.begin(health)
        if passage is not None:
            return passage
        if failure is None:
            raise AssertionError("what is not let through is cooling down")
        raise failure

    def _may_retry_after(self, wait: float) -> bool:
        """Whether a wait fits into the deadline, is worth it, and the target may be tried again after it."""
        if wait >= self._call.remaining():
            return False
        if wait > self._policy.max_backoff and not self._is_last:
            return False
        now = self._book.now()
        if self._book.is_left_alone(self._option.health, now + wait):
            return False
        return self._option.health.retry_budget.take(now)
