"""The accounts of one call: its room in the rate limits, the money held for each attempt, what each did
and cost, and the rows that the ledger gets of it.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final, Self

from google.rpc import code_pb2

from aigateway.v1.chat_service_pb2 import ChatCompletion, StreamEnd, StreamStart
from aigateway.v1.embeddings_service_pb2 import CreateEmbeddingsResponse
from aigateway.v1.error_reason_pb2 import ErrorReason
from aigateway.v1.routing_pb2 import Attempt, GuardrailResult, ServedBy
from aigateway.v1.usage_pb2 import Cost, TokenUsage
from gateway_server.call import CallContext, RateLimit
from gateway_server.errors import CODE_BY_REASON, GatewayError, deadline_exceeded, reason_name
from gateway_server.limits.budgets import Budgets, Hold
from gateway_server.limits.checks import applies
from gateway_server.limits.limiter import Claim, Grant, RateLimiter
from gateway_server.metrics import Metrics
from gateway_server.pipeline.guarding import AnswerChecks, CallGuard
from gateway_server.providers.base import Target
from gateway_server.providers.failures import error_of_transport
from gateway_server.providers.transport.errors import TransportError, TransportErrorKind
from gateway_server.router.catalog import Candidate
from gateway_server.storage.budget_windows import WindowKey
from gateway_server.storage.usage_records import CallRecord, attempt_rows
from gateway_server.usage.ceiling import TokenCeiling, most_nanos
from gateway_server.usage.cost import price_usage
from gateway_server.usage.entries import OpenAttempt, interrupted_attempt
from gateway_server.usage.expectation import OutputExpectation
from gateway_server.usage.ledger import Ledger
from gateway_server.usage.totals import add_costs, add_usages

_RATE_LIMITED: Final = reason_name(ErrorReason.ERROR_REASON_RATE_LIMIT_EXCEEDED)
#: The most that an error tells of its attempts: rpc/status.py has room for it, and for what else there is.
_STORY_BYTES: Final = 2_800
#: How much later than a caller's own clock says a deadline may be, as a share of it: gRPC's C core tells
#: three digits, rounded up. And what timers may be off.
_DEADLINE_ROUNDING: Final = 0.01
_CLOCK_SECONDS: Final = 0.01


@dataclass(frozen=True, slots=True)
class Accounts:
    """What every call is accounted with."""

    ledger: Ledger
    metrics: Metrics
    limiter: RateLimiter
    budgets: Budgets
    expectation: OutputExpectation = field(default_factory=OutputExpectation)

    def open(
        self, call: CallContext, *, model: str, labels: Mapping[str, str] | None = None, end_user_id: str = ""
    ) -> "CallAccount":
        """The account of one call, to be used as ``with``."""
        return CallAccount(call, self, model=model, labels=labels or {}, end_user_id=end_user_id)


class AttemptAccount:
    """One try at one target, used as ``with``. Turns the transport's failures into the caller's.

    ``hold`` is the money that was set aside for it, ``wait`` how many seconds the call waited for it.
    ``opened`` is what the journal has of it. ``partial_usage`` is asked when an attempt ends early
    although the provider may bill it; it gives None where a provider bills nothing.
    """

    def __init__(
        self,
        target: Target,
        call: CallContext,
        metrics: Metrics,
        *,
        hold: Hold,
        partial_usage: Callable[[], TokenUsage | None],
        wait: float,
        opened: OpenAttempt,
    ) -> None:
        self.target = target
        self.wait = wait
        self.is_closed = False
        self._opened = opened
        self.hold = hold
        self.http_status = 0
        #: How many requests it sends: what a provider's own limits count.
        self.requests = 1
        self.served_by = ServedBy(provider=target.provider)
        self.usage: TokenUsage | None = None
        #: What guards its answer.
        self.guard: AnswerChecks | None = None
        self.cost: Cost | None = None
        self.code: int = code_pb2.OK
        self.reason = ""
        self.started_at = call.clock.monotonic()
        self.latency = 0.0
        self.first_token_latency: float | None = None
        self._call = call
        self._metrics = metrics
        self._partial_usage = partial_usage
        self._message: Attempt | None = None

    @property
    def spent_nanos(self) -> int:
        """What it cost, in billionths of a US dollar; 0 without a price."""
        return 0 if self.cost is None else self.cost.total_nanos

    @property
    def charge_nanos(self) -> int:
        """What budgets count for it: what it cost, or what it may cost as long as it is open."""
        return self.spent_nanos if self.is_closed else self.hold.nanos

    def take_served_by(self, served_by: ServedBy) -> None:
        """Adds what the wire format could not know to ``served_by``, and keeps a copy."""
        served_by.provider = self.target.provider
        if not served_by.provider_model:
            served_by.provider_model = self.target.provider_model
        self.served_by.CopyFrom(served_by)

    def mark_first_token(self) -> None:
        """The first content has come."""
        if self.first_token_latency is None:
            self.first_token_latency = self._call.clock.monotonic() - self.started_at

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        error = self._explain(exc) if isinstance(exc, TransportError) else exc
        self.latency = self._call.clock.monotonic() - self.started_at
        self.code, self.reason = outcome_of(error, self._call)
        if self.usage is None and may_be_billed(self.http_status, exc):
            self.usage = self._partial_usage()
        if self.usage is not None and self.target.model.HasField("price"):
            self.cost = price_usage(self.usage, self.target.model.price)
        self.is_closed = True
        self.hold.settle(self.spent_nanos)
        self._metrics.target(self.target.provider_id, self.target.provider_model).finish(
            self.reason,
            self.latency,
            first_token_seconds=self.first_token_latency,
            usage=self.usage,
            cost_nanos=self.spent_nanos,
        )
        if error is not None and error is not exc:
            raise error from None

    def _explain(self, error: TransportError) -> GatewayError:
        if error.kind is TransportErrorKind.TOTAL_TIMEOUT and self._call.remaining() <= _CLOCK_SECONDS:
            return deadline_exceeded(
                self._call.timeout
            )  # what an exchange has in all is what the call has left
        return error_of_transport(error, self.target)

    def message(self) -> Attempt:
        """The attempt as answers and the ledger show it; at the most it may be as long as it is open."""
        if not self.is_closed:
            return interrupted_attempt(self._opened)
        if self._message is not None:
            return self._message
        attempt = self._message = Attempt(
            provider=self.target.provider,
            provider_model=self.target.provider_model,
            status_code=self.code,
            error_reason=self.reason,
            http_status=self.http_status,
            usage=self.usage,
            cost=self.cost,
        )
        attempt.latency.FromNanoseconds(round(self.latency * 1e9))
        if self.wait:
            attempt.wait.FromNanoseconds(round(self.wait * 1e9))
        if self.first_token_latency is not None:
            attempt.time_to_first_token.FromNanoseconds(round(self.first_token_latency * 1e9))
        return attempt


class CallAccount:
    """One call from admission to settlement, used as ``with``: the ledger gets its row however it ends.

    Settling only puts rows into the ledger's queue and awaits nothing, so a cancel cannot interrupt it.
    """

    def __init__(
        self,
        call: CallContext,
        accounts: Accounts,
        *,
        model: str,
        labels: Mapping[str, str],
        end_user_id: str,
    ) -> None:
        self.attempts: list[AttemptAccount] = []
        #: The one whose answer the caller gets.
        self.served: AttemptAccount | None = None
        #: What the guardrails do, once they are known.
        self.guard: CallGuard | None = None
        #: Whether media were fetched for it, which is work even if nobody is asked.
        self.has_fetched = False
        self._call = call
        self._accounts = accounts
        self.model = model
        self._labels = dict(labels)
        self._end_user_id = end_user_id
        self._grants: list[Grant] = []
        self._taken: set[RateLimit] = set()
        self._at_targets: dict[str, tuple[Grant, int]] = {}
        self._admissions = 0
        self._admitting = asyncio.Lock()
        self._is_settled = False

    async def admit(self, candidate: Candidate, *, tokens: int, asks_provider: bool = True) -> None:
        """Takes room for a call of about so many tokens in all rate limits of the caller and, unless its
        provider is not asked at all, of the target; raises what is in the way, and takes nothing then.

        For another target than before, takes room in those of the caller's limits that are for that model
        alone.
        """
        async with self._admitting:  # a hedged call may come with two targets at once
            principal = self._call.principal
            own = principal.rate_limits
            if self._taken:
                own = tuple(limit for limit in own if limit not in self._taken)
            of_all = candidate.rate_limits if asks_provider else ()
            claims = (
                Claim(principal.tenant, own),
                Claim(candidate.target.provider, of_all, is_told=False),
            )
            lease = self._call.request_id
            if self._admissions:
                lease = f"{lease}/{self._admissions}"
            self._admissions += 1
            of_caller, of_target = await self._accounts.limiter.admit(
                self._call, claims, model_names=candidate.names, tokens=tokens, lease=lease
            )
            self._grants.append(of_caller)
            self._taken.update(limit for limit in own if applies(limit, candidate.names))
            self._at_targets[candidate.name] = of_target, len(self.attempts)

    def leave(self, candidate: Candidate) -> None:
        """Ends the call at a target, before it goes on to another one or ends altogether.

        The target's limits are left with the requests of its attempts, and with their tokens.
        """
        grant, begin = self._at_targets.pop(candidate.name, (None, 0))
        if grant is not None:
            attempts = [each for each in self.attempts[begin:] if each.target is candidate.target]
            used = [attempt.usage.total_tokens for attempt in attempts if attempt.usage is not None]
            grant.settle(sum(used), requests=sum(attempt.requests for attempt in attempts))

    async def attempt(
        self,
        target: Target,
        ceiling: TokenCeiling,
        partial_usage: Callable[[], TokenUsage | None],
        *,
        wait: float = 0.0,
    ) -> AttemptAccount:
        """Opens the next attempt, to be entered at once: the money it may cost is held from here on.

        ``wait`` is how many seconds the call waited for it.
        Raises what keeps the caller from paying for it.
        """
        accounts = self._accounts
        hold = await accounts.budgets.hold(self._call, target.model, ceiling)
        try:
            opened = self._open_attempt(target, ceiling, hold)
            accounts.ledger.open_attempt(opened)
        except BaseException:
            hold.settle(0)
            raise
        attempt = AttemptAccount(
            target,
            self._call,
            accounts.metrics,
            hold=hold,
            partial_usage=partial_usage,
            wait=wait,
            opened=opened,
        )
        self.attempts.append(attempt)
        return attempt

    def _open_attempt(self, target: Target, ceiling: TokenCeiling, hold: Hold) -> OpenAttempt:
        call = self._call
        price = target.model.price if target.model.HasField("price") else None
        most = hold.nanos or (None if price is None else most_nanos(ceiling, price))
        return OpenAttempt(
            request_id=call.request_id,
            tenant_id=call.principal.tenant_id,
            api_key_id=call.principal.api_key_id,
            environment=call.principal.environment,
            method=call.method,
            model=self.model,
            start_time=_micros(call.start_time),
            labels=self._labels,
            end_user_id=self._end_user_id,
            provider_id=target.provider_id,
            provider_model=target.provider_model,
            input_tokens=ceiling.input_tokens,
            output_tokens=(hold.max_output_tokens or ceiling.output_tokens) * ceiling.choices,
            most_nanos=most,
            windows=hold.windows,
            ended=attempt_rows(self._record(code_pb2.UNAVAILABLE, "")) if self.attempts else (),
            charges=self._charges(),
        )

    def introduce(self, opening: ChatCompletion | StreamStart | CreateEmbeddingsResponse) -> None:
        """Puts in what the gateway, not the provider, says of an answer."""
        opening.id = self._call.request_id
        opening.create_time.FromNanoseconds(round(self._call.start_time * 1e9))
        opening.model = self.model

    def conclude(self, closing: ChatCompletion | StreamEnd | CreateEmbeddingsResponse) -> None:
        """Puts in what was used, what it cost and who was tried, once the last attempt is closed.

        The usage is that of the answer; the cost is that of all attempts, since all are paid for.
        """
        served = self._served()
        if served is not None and served.usage is not None:
            closing.usage.CopyFrom(served.usage)
        cost = add_costs([attempt.cost for attempt in self.attempts])
        if cost is not None:
            closing.cost.CopyFrom(cost)
        closing.attempts.extend(each.message() for each in self.attempts)
        closing.guardrail_results.extend(self._guardrail_results(passes=True))

    def __enter__(self) -> Self:
        self._accounts.ledger.require_room()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if isinstance(exc, GatewayError) and self.attempts:
            # First, since what does not fit into a status is cut off the end.
            exc.metadata = {"attempts": _story(self.attempts), **exc.metadata}
        if not self._is_settled:
            self._settle(*outcome_of(exc, self._call))

    def settle(self) -> None:
        """Settles a call that has served, before its caller is told the end of the answer.

        So nobody has an answer that a crash could take out of the ledger.
        """
        self._settle(code_pb2.OK, "")

    def _settle(self, code: int, reason: str) -> None:
        self._is_settled = True
        record = self._record(code, reason)
        self._accounts.ledger.record(record)
        self._accounts.metrics.count_guardrail_results(record.guardrail_results)
        served = self._served()
        if code == code_pb2.OK and served is not None and served.usage is not None:
            self._accounts.expectation.learn(served.target.label, served.usage.output_tokens)
        if self._grants:
            used = [attempt.usage.total_tokens for attempt in self.attempts if attempt.usage is not None]
            tokens = sum(used) if used or code != code_pb2.OK else None
            is_refused = reason == _RATE_LIMITED and not self.attempts and not self.has_fetched
            for grant in self._grants:
                grant.settle(tokens, requests=0 if is_refused else 1)

    def _record(self, code: int, reason: str) -> CallRecord:
        call = self._call
        served = self._served()
        served_by = served.served_by if served is not None and code == code_pb2.OK else ServedBy()
        attempts = [attempt.message() for attempt in self.attempts]
        return CallRecord(
            request_id=call.request_id,
            tenant_id=call.principal.tenant_id,
            api_key_id=call.principal.api_key_id,
            environment=call.principal.environment,
            method=call.method,
            model=self.model,
            start_time=_micros(call.start_time),
            latency=_micros(call.clock.monotonic() - call.started_at),
            time_to_first_token=self._time_to_first_token(),
            status_code=code,
            error_reason=reason,
            provider_id=served_by.provider.partition("/")[2],
            provider_model=served_by.provider_model,
            provider_response_id=served_by.provider_response_id,
            usage=add_usages([each.usage if each.HasField("usage") else None for each in attempts]),
            cost=add_costs([each.cost if each.HasField("cost") else None for each in attempts]),
            attempts=attempts,
            labels=self._labels,
            end_user_id=self._end_user_id,
            charges=self._charges(),
            guardrail_results=self._guardrail_results(passes=False),
        )

    def _guardrail_results(self, *, passes: bool) -> list[GuardrailResult]:
        if self.guard is None:
            return []
        served = self._served()
        return self.guard.results(None if served is None else served.guard, passes=passes)

    def _served(self) -> AttemptAccount | None:
        """The attempt whose answer the caller gets; the last one, unless two were under way at once."""
        return self.served or (self.attempts[-1] if self.attempts else None)

    def _charges(self) -> dict[WindowKey, int]:
        charges: dict[WindowKey, int] = {}
        for attempt in self.attempts:
            for window in attempt.hold.windows:
                charges[window] = charges.get(window, 0) + attempt.charge_nanos
        return charges

    def _time_to_first_token(self) -> int | None:
        """From the start of the call to the first content, in microseconds."""
        for attempt in self.attempts:
            if attempt.first_token_latency is not None:
                return _micros(attempt.started_at + attempt.first_token_latency - self._call.started_at)
        return None


def record_refusal(call: CallContext, error: GatewayError, *, accounts: Accounts) -> None:
    """Puts a call on record that was refused before its request could be read."""
    with suppress(GatewayError), accounts.open(call, model=""):
        raise error


def may_be_billed(http_status: int, exc: BaseException | None) -> bool:
    """Whether a provider had begun to answer, or was left while it may have been at work.

    ``http_status`` is 0 where none has come; ``exc`` is what ended the exchange.
    """
    if 200 <= http_status < 300:
        return exc is not None
    if isinstance(exc, TransportError):
        return exc.sent and "timeout" in exc.kind
    return isinstance(exc, asyncio.CancelledError)


def _story(attempts: Sequence[AttemptAccount]) -> str:
    """Every attempt with its target, outcome and milliseconds; the first are left out when it gets long.

    A status travels in a header, of which peers take 8 kB in all.
    """
    told = [f"{each.target.label}={each.reason or 'OK'}/{each.latency * 1000:.0f}ms" for each in attempts]
    room = _STORY_BYTES
    kept: list[str] = []
    for each in reversed(told):
        room -= len(each.encode()) + 1
        if room < 0:
            kept.append(f"{len(told) - len(kept)} more")
            break
        kept.append(each)
    return ",".join(reversed(kept))


def _micros(seconds: float) -> int:
    return round(seconds * 1_000_000)


def outcome_of(exc: BaseException | None, call: CallContext) -> tuple[int, str]:
    """The status code and the reason's name that something ended with; 0 and empty when it served."""
    match exc:
        case None:
            return code_pb2.OK, ""
        case GatewayError():
            return exc.code, exc.reason_name
        case asyncio.CancelledError():
            # A deadline arrives as a cancel too: from the interceptor's timer, from gRPC, or from the caller,
            # who may have told it rounded up and so be the first whose clock strikes.
            timed_out = call.remaining() <= call.timeout * _DEADLINE_ROUNDING + _CLOCK_SECONDS
            reason = (
                ErrorReason.ERROR_REASON_DEADLINE_EXCEEDED
                if timed_out
                else ErrorReason.ERROR_REASON_CANCELLED
            )
            return CODE_BY_REASON[reason], reason_name(reason)
        case _:
            return code_pb2.INTERNAL, reason_name(ErrorReason.ERROR_REASON_INTERNAL)
