"""What the gateway counts, under the names that dashboards know.

``grpc_server_*`` are the names of go-grpc-prometheus; ``gen_ai_*`` follow OpenTelemetry's GenAI
conventions; ``aigateway_*`` are our own. Labels are bounded: methods, codes, providers, models and
rules, never tenants, keys or anything that a caller chooses.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from aigateway.v1.routing_pb2 import GuardrailAction, GuardrailResult
from aigateway.v1.usage_pb2 import TokenUsage

_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)


class RpcObserver:
    """The counters of one RPC, resolved once so that a call pays for no look-up by label."""

    def __init__(self, metrics: "Metrics", *, service: str, method: str, kind: str) -> None:
        self._handled = metrics.handled
        self._labels = (kind, service, method)
        self._started = metrics.started.labels(*self._labels)
        self._seconds = metrics.seconds.labels(*self._labels)
        self._in_flight = metrics.in_flight
        self._by_code: dict[str, Counter] = {}

    def start(self) -> None:
        """A call has begun."""
        self._started.inc()
        self._in_flight.inc()

    def finish(self, code: str, seconds: float) -> None:
        """A call has ended with a status code's name."""
        counter = self._by_code.get(code)
        if counter is None:
            counter = self._by_code[code] = self._handled.labels(*self._labels, code)
        counter.inc()
        self._in_flight.dec()
        self._seconds.observe(seconds)


#: The states of breakers, as the router names them.
_BREAKER_STATES: Final = ("closed", "open", "half_open")


class _BreakerStates(Collector):
    """The state of each target's breaker at the time of a scrape: it changes by itself as time goes by."""

    def __init__(self, states: Callable[[], Iterable[tuple[str, str]]]) -> None:
        self._states = states

    def collect(self) -> Iterator[GaugeMetricFamily]:
        family = GaugeMetricFamily(
            "aigateway_target_breaker_state",
            "1 for the state that the breaker of a target is in, 0 for the others.",
            labels=("target", "state"),
        )
        for target, current in self._states():
            for state in _BREAKER_STATES:
                family.add_metric((target, state), 1 if state == current else 0)
        yield family


class Metrics:
    """All metrics of a process, in a registry of their own."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry or CollectorRegistry()
        rpc = ("grpc_type", "grpc_service", "grpc_method")
        target = ("provider", "model")
        self.started = Counter(
            "grpc_server_started", "RPCs started on the server.", rpc, registry=self.registry
        )
        self.handled = Counter(
            "grpc_server_handled",
            "RPCs completed on the server, by status.",
            (*rpc, "grpc_code"),
            registry=self.registry,
        )
        self.seconds = Histogram(
            "grpc_server_handling_seconds",
            "Time until an RPC was answered in full.",
            rpc,
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.in_flight = Gauge("aigateway_calls_in_flight", "Calls under way.", registry=self.registry)
        self._attempts = Counter(
            "aigateway_attempts",
            "Attempts at providers, by the reason they failed for, or OK.",
            (*target, "reason"),
            registry=self.registry,
        )
        self._attempt_seconds = Histogram(
            "gen_ai_client_operation_duration_seconds",
            "Time of one attempt at a provider.",
            target,
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._first_token_seconds = Histogram(
            "gen_ai_server_time_to_first_token_seconds",
            "Time from the start of an attempt to the first content of its stream.",
            target,
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._tokens = Counter(
            "aigateway_tokens", "Tokens by class.", (*target, "token_class"), registry=self.registry
        )
        self._cost = Counter(
            "aigateway_cost_nanos", "Cost in billionths of a US dollar.", target, registry=self.registry
        )
        self._rate_limited = Counter(
            "aigateway_rate_limited", "Calls refused by rate limits.", ("kind",), registry=self.registry
        )
        self._degraded_checks = Counter(
            "aigateway_limiter_degraded_checks",
            "Checks of rate limits made while the shared store could not be reached.",
            registry=self.registry,
        )
        self.limiter_shared = Gauge(
            "aigateway_limiter_shared",
            "1 while rate limits are counted together with other processes, else 0.",
            registry=self.registry,
        )
        self.unsettled_journals = Gauge(
            "aigateway_unsettled_journals",
            "Journals of killed processes here that could not be settled when they were last tried.",
            registry=self.registry,
        )
        self.target_health_shared = Gauge(
            "aigateway_target_health_shared",
            "1 while this process hears from others how targets are doing, else 0.",
            registry=self.registry,
        )
        self._cooldowns = Counter(
            "aigateway_target_cooldowns",
            "How often a target was left alone for a while, by the reason.",
            ("target", "reason"),
            registry=self.registry,
        )
        guardrail = ("guardrail_profile", "rule")
        self._moderation_requests = Counter(
            "aigateway_guardrail_moderation_requests",
            "Requests for verdicts on texts to providers, by what came of them.",
            ("provider", "outcome"),
            registry=self.registry,
        )
        self._guardrail_results = Counter(
            "aigateway_guardrail_results",
            "Calls in which a rule logged, masked, blocked, or could not run or read everything.",
            (*guardrail, "action"),
            registry=self.registry,
        )
        self._guardrail_findings = Counter(
            "aigateway_guardrail_findings",
            "What rules found, by kind.",
            (*guardrail, "kind"),
            registry=self.registry,
        )
        self._guardrail_unread_parts = Counter(
            "aigateway_guardrail_unread_parts",
            "What rules could not read, by kind.",
            (*guardrail, "part"),
            registry=self.registry,
        )
        self._budget_alerts = Counter(
            "aigateway_budget_alerts",
            "Shares of budgets that were reached, each counted once over all processes.",
            ("period",),
            registry=self.registry,
        )
        self._budget_overruns = Counter(
            "aigateway_budget_overruns",
            "Attempts that cost more than the most that was thought possible.",
            registry=self.registry,
        )
        self._targets: dict[tuple[str, str], TargetObserver] = {}

    def rpc(self, *, service: str, method: str, streaming: bool) -> RpcObserver:
        """The counters of one RPC."""
        return RpcObserver(
            self, service=service, method=method, kind="server_stream" if streaming else "unary"
        )

    def count_rate_limited(self, kind: str) -> None:
        """A call was refused for want of room in a limit of ``kind``."""
        self._rate_limited.labels(kind.removeprefix("LIMIT_KIND_").lower()).inc()

    def count_cooldown(self, target: str, reason: str) -> None:
        """A target, ``provider/model``, is left alone from now on."""
        self._cooldowns.labels(target, reason).inc()

    def count_moderation_request(self, provider: str, outcome: str) -> None:
        """A provider was asked to judge texts: ``ok``, ``cancelled``, or the reason of a failure."""
        self._moderation_requests.labels(provider, outcome).inc()

    def count_guardrail_results(self, results: Iterable[GuardrailResult]) -> None:
        """What the rules of one call did."""
        for result in results:
            rule = (result.guardrail_profile, result.rule)
            action = GuardrailAction.Name(result.action).removeprefix("GUARDRAIL_ACTION_").lower()
            self._guardrail_results.labels(*rule, action).inc()
            for kind, count in result.findings.items():
                self._guardrail_findings.labels(*rule, kind).inc(count)
            for part, count in result.unread_parts.items():
                self._guardrail_unread_parts.labels(*rule, part).inc(count)

    def watch_breakers(self, states: Callable[[], Iterable[tuple[str, str]]]) -> None:
        """Shows from now on the states of breakers by targets. They are asked for from another thread."""
        self.registry.register(_BreakerStates(states))

    def count_degraded_check(self) -> None:
        """Rate limits were checked without the shared store."""
        self._degraded_checks.inc()

    def count_budget_alert(self, period: str) -> None:
        """A share of a budget for each ``period``, day or month, was reached."""
        self._budget_alerts.labels(period).inc()

    def count_budget_overrun(self) -> None:
        """An attempt cost more than was held for it."""
        self._budget_overruns.inc()

    def target(self, provider: str, model: str) -> "TargetObserver":
        """The counters of one model at one provider."""
        observer = self._targets.get((provider, model))
        if observer is None:
            observer = self._targets[provider, model] = TargetObserver(
                provider,
                model,
                attempts=self._attempts,
                seconds=self._attempt_seconds,
                first_token_seconds=self._first_token_seconds,
                tokens=self._tokens,
                cost=self._cost,
            )
        return observer


class TargetObserver:
    """The counters of one model at one provider, resolved once."""

    def __init__(
        self,
        provider: str,
        model: str,
        *,
        attempts: Counter,
        seconds: Histogram,
        first_token_seconds: Histogram,
        tokens: Counter,
        cost: Counter,
    ) -> None:
        self._labels = (provider, model)
        self._attempts = attempts
        self._by_reason: dict[str, Counter] = {}
        self._seconds = seconds.labels(*self._labels)
        self._first_token_seconds = first_token_seconds.labels(*self._labels)
        self._input = tokens.labels(*self._labels, "input")
        self._cache_read = tokens.labels(*self._labels, "cache_read")
        self._cache_write = tokens.labels(*self._labels, "cache_write")
        self._output = tokens.labels(*self._labels, "output")
        self._reasoning = tokens.labels(*self._labels, "reasoning")
        self._cost = cost.labels(*self._labels)

    def finish(
        self,
        reason: str,
        seconds: float,
        *,
        first_token_seconds: float | None,
        usage: TokenUsage | None,
        cost_nanos: int,
    ) -> None:
        """An attempt has ended: a reason's name, or empty when it served."""
        counter = self._by_reason.get(reason)
        if counter is None:
            counter = self._by_reason[reason] = self._attempts.labels(*self._labels, reason or "OK")
        counter.inc()
        self._seconds.observe(seconds)
        if first_token_seconds is not None:
            self._first_token_seconds.observe(first_token_seconds)
        if usage is not None:
            self._input.inc(usage.input_tokens)
            self._output.inc(usage.output_tokens)
            for child, tokens in (
                (self._cache_read, usage.cache_read_input_tokens),
                (self._cache_write, usage.cache_write_input_tokens),
                (self._reasoning, usage.reasoning_output_tokens),
            ):
                if tokens:
                    child.inc(tokens)
        if cost_nanos:
            self._cost.inc(cost_nanos)
