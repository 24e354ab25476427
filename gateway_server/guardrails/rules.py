"""Profiles made ready for calls: their rules compiled, and what a rule has done during one call."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType
from typing import Final

from aigateway.v1.content_pb2 import Role
from aigateway.v1.error_reason_pb2 import ErrorReason
from aigateway.v1.guardrail_profile_pb2 import GuardrailPart, GuardrailProfile, GuardrailRule
from aigateway.v1.routing_pb2 import GuardrailAction, GuardrailResult, GuardrailStage
from gateway_server.errors import GatewayError, invalid_request
from gateway_server.guardrails.detectors import (
    Attack,
    Detector,
    EntityModel,
    Moderation,
    Moderator,
    NotJudgedError,
    PatternBudget,
    Patterns,
    Personal,
    ProviderModeration,
    Roles,
    Score,
    TextDetector,
    TextModels,
    compile_detector,
)
from gateway_server.guardrails.parts import ALL_PARTS, MEDIA_PARTS, REQUEST_PARTS, PartKinds, name_of
from gateway_server.guardrails.pii import MIN_WINDOW
from gateway_server.guardrails.pii.added import AddedKind

_LOG: Final = logging.getLogger(__name__)

#: Seconds that the check of one rule may take on one call, unless the rule says otherwise.
DEFAULT_TIMEOUT: Final = 5.0

_NOTHING_YET: Final = Score(0.0, ())

BLOCK: Final = GuardrailAction.GUARDRAIL_ACTION_BLOCK
REDACT: Final = GuardrailAction.GUARDRAIL_ACTION_REDACT
LOG: Final = GuardrailAction.GUARDRAIL_ACTION_LOG


@dataclass(frozen=True, slots=True)
class Rule:
    """One check; ``timeout`` is in seconds."""

    profile: str
    rule_id: str
    stage: GuardrailStage.ValueType
    action: GuardrailAction.ValueType
    detector: Detector
    roles: Roles
    fail_open: bool = False
    timeout: float = DEFAULT_TIMEOUT
    parts: PartKinds = ALL_PARTS
    #: Of these the ones that it tells of where they cannot be read, and whether it stops a call for them.
    missed_parts: PartKinds = ALL_PARTS - MEDIA_PARTS
    blocks_unread: bool = False
    #: What is told of it where it finds nothing: to be copied.
    passed: GuardrailResult = field(init=False, compare=False)
    #: Whether it waits for other processes, which no event loop should.
    waits: bool = field(init=False, compare=False)

    def __post_init__(self) -> None:
        passed = GuardrailResult(
            guardrail_profile=self.profile,
            rule=self.rule_id,
            stage=self.stage,
            action=GuardrailAction.GUARDRAIL_ACTION_PASS,
        )
        object.__setattr__(self, "passed", passed)
        waits = isinstance(self.detector, Personal) and self.detector.entity_model is not None
        object.__setattr__(self, "waits", waits)

    def reads(self, role: Role.ValueType, part: GuardrailPart.ValueType) -> bool:
        """Whether it reads such a part of such a turn."""
        return role in self.roles and part in self.parts

    @property
    def judges(self) -> bool:
        """Whether it judges texts as wholes, however short they are."""
        return isinstance(self.detector, Attack | Moderation | ProviderModeration)

    @property
    def asks(self) -> bool:
        """Whether it asks a provider: its looks are done again once that has answered. See ``Tally.ask``."""
        return isinstance(self.detector, ProviderModeration)


@dataclass(frozen=True, slots=True)
class Profile:
    """A compiled profile."""

    name: str
    input_rules: tuple[Rule, ...] = ()
    output_rules: tuple[Rule, ...] = ()
    #: The most characters held back; 0 for the default.
    window: int = 0
    is_reversible: bool = False


def compile_profile(
    profile: GuardrailProfile,
    models: Callable[[], TextModels],
    entity_model: EntityModel | None = None,
    added_kinds: Mapping[str, AddedKind] = MappingProxyType({}),
    moderator: Moderator | None = None,
) -> Profile:
    """Raises INVALID_REQUEST that names the field which cannot work.

    That a model of entities cannot be used is told by its rules, when they run: see ``require_models``.
    """
    window = profile.stream_holdback_characters
    if window and window < MIN_WINDOW:
        raise invalid_request(
            "guardrail_profile.stream_holdback_characters",
            f"must be 0 or at least {MIN_WINDOW}: the longest values need as much",
        )
    input_stage, output_stage = GuardrailStage.GUARDRAIL_STAGE_INPUT, GuardrailStage.GUARDRAIL_STAGE_OUTPUT
    compile_rules = partial(
        _compile_rules,
        profile,
        models=models,
        entity_model=entity_model,
        added_kinds=added_kinds,
        moderator=moderator,
    )
    compiled = Profile(
        name=profile.name,
        input_rules=compile_rules(profile.input_rules, input_stage),
        output_rules=compile_rules(profile.output_rules, output_stage),
        window=window,
        is_reversible=profile.reversible_redaction,
    )
    for index, rule in enumerate(compiled.output_rules):
        if isinstance(rule.detector, Attack):
            raise invalid_request(
                f"guardrail_profile.output_rules[{index}]",
                "looks for attacks on the model, which only come in",
            )
    return compiled


def require_parts(profile: GuardrailProfile) -> None:
    """Raises INVALID_REQUEST for an output rule that chooses parts which answers never have."""
    for index, rule in enumerate(profile.output_rules):
        for part in REQUEST_PARTS.intersection(rule.parts):
            raise invalid_request(
                f"guardrail_profile.output_rules[{index}].parts", f"answers have no {name_of(part)}"
            )


def require_roles(profile: GuardrailProfile) -> None:
    """Raises INVALID_REQUEST for an output rule whose roles say that it reads no answers, though it does."""
    for index, rule in enumerate(profile.output_rules):
        if rule.roles and Role.ROLE_ASSISTANT not in rule.roles:
            raise invalid_request(
                f"guardrail_profile.output_rules[{index}].roles",
                "answers are the assistant's; must be empty or have ROLE_ASSISTANT",
            )


def require_models(profile: Profile) -> None:
    """Raises INVALID_REQUEST for a rule whose model of entities cannot be used; waits for it to be loaded."""
    for side, rules in (("input_rules", profile.input_rules), ("output_rules", profile.output_rules)):
        for index, rule in enumerate(rules):
            detector = rule.detector
            if isinstance(detector, Personal) and detector.entity_model is not None:
                why = detector.entity_model.why_unusable()
                if why:
                    kinds = " and ".join(sorted(detector.entity_types))
                    raise invalid_request(
                        f"guardrail_profile.{side}[{index}].pii.entity_types", f"cannot find {kinds}: {why}"
                    )


def _compile_rules(
    profile: GuardrailProfile,
    rules: Sequence[GuardrailRule],
    stage: GuardrailStage.ValueType,
    *,
    models: Callable[[], TextModels],
    entity_model: EntityModel | None,
    added_kinds: Mapping[str, AddedKind],
    moderator: Moderator | None,
) -> tuple[Rule, ...]:
    side = "input_rules" if stage == GuardrailStage.GUARDRAIL_STAGE_INPUT else "output_rules"
    # One for each side, since updates may write one without the other.
    budget = PatternBudget()
    compiled: list[Rule] = []
    for index, rule in enumerate(rules):
        path = f"guardrail_profile.{side}[{index}]"
        if any(rule.rule_id == other.rule_id for other in compiled):
            raise invalid_request(f"{path}.rule_id", f"{rule.rule_id} is there twice")
        timeout = rule.timeout.ToNanoseconds() / 1e9 if rule.HasField("timeout") else DEFAULT_TIMEOUT
        detector = compile_detector(
            rule,
            path,
            models,
            budget,
            timeout=timeout,
            entity_model=entity_model,
            added_kinds=added_kinds,
            moderator=moderator,
        )
        if rule.action == REDACT and not isinstance(detector, Personal | Patterns):
            raise invalid_request(f"{path}.action", "only pii and pattern find what can be masked")
        compiled.append(
            Rule(
                profile=profile.name,
                rule_id=rule.rule_id,
                stage=stage,
                action=rule.action,
                detector=detector,
                roles=frozenset(rule.roles) or detector.default_roles,
                fail_open=rule.fail_open,
                timeout=timeout,
                parts=frozenset(rule.parts) or ALL_PARTS,
                missed_parts=frozenset(rule.parts) or ALL_PARTS - MEDIA_PARTS,
                blocks_unread=rule.block_unread_parts,
            )
        )
    return tuple(compiled)


@dataclass(slots=True)
class Tally:
    """What one rule has done during one call."""

    rule: Rule
    findings: dict[str, int] = field(default_factory=dict)
    #: What it should have read and could not, by the name of the part.
    unread_parts: dict[str, int] = field(default_factory=dict)
    score: float | None = None
    seconds: float = 0.0
    #: Whether there was anything for it to look at.
    has_looked: bool = False
    #: Whether it is looking right now, for whoever waits for it.
    is_looking: bool = False
    #: Why it could not run: ``timeout``, ``error``; empty when it could.
    failure: str = ""
    #: Whether it stopped the call, though that is not its action: for what it could not read, or not mask.
    is_stopped: bool = False
    #: Of a rule that asks a provider: what that has said of texts, and those that it is to be asked about.
    verdicts: dict[str, Score] = field(default_factory=dict)
    wanted: list[str] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Whether it found nothing where it has looked, and could look at everything."""
        return not (self.findings or self.unread_parts or self.failure or self.wanted)

    def again(self) -> "Tally":
        """The books for the same look from its beginning, with the failures and verdicts that there are."""
        seconds = self.seconds if self.rule.asks else 0.0
        return Tally(
            self.rule,
            seconds=seconds,
            has_looked=bool(self.failure),
            failure=self.failure,
            verdicts=self.verdicts,
        )

    def judge(self, detector: TextDetector, text: str, *, is_retrieved: bool) -> Score:
        """What the rule's detector says of a text; nothing yet where a provider is to be asked first."""
        if not isinstance(detector, ProviderModeration):
            return detector.score(text, is_retrieved=is_retrieved)
        score = self.verdicts.get(text)
        if score is None:
            self.wanted.append(text)
            return _NOTHING_YET
        return score

    async def ask(self, texts: Sequence[str]) -> None:
        """Has a provider judge texts, within what is left of the rule's time. A failure is noted."""
        detector = self.rule.detector
        if not isinstance(detector, ProviderModeration):
            raise TypeError(f"{type(detector).__name__} asks nobody")
        self.has_looked = True
        started_at = time.perf_counter()
        left = self.rule.timeout - self.seconds
        try:
            self.verdicts.update(await detector.scores(list(dict.fromkeys(texts)), left))
        except TimeoutError:
            self.failure = "timeout"
        except Exception as error:  # noqa: BLE001 -- whatever a detector does, the rule's policy decides
            self._fail_by(error)
        finally:
            self.seconds += time.perf_counter() - started_at

    def note(self, kinds: Sequence[str], score: float | None = None) -> None:
        """Something was found, or judged."""
        for kind in kinds:
            self.findings[kind] = self.findings.get(kind, 0) + 1
        if score is not None:
            self.score = score if self.score is None else max(self.score, score)

    def note_unread(self, part: GuardrailPart.ValueType) -> None:
        """A part could not be read; nothing is noted where the rule does not miss it."""
        if part in self.rule.missed_parts:
            self.has_looked = True
            self.is_stopped |= self.rule.blocks_unread
            name = name_of(part)
            self.unread_parts[name] = self.unread_parts.get(name, 0) + 1

    def spend(self, started_at: float) -> None:
        """Counts one look since ``started_at`` of ``time.perf_counter``.

        Raises CheckTimeoutError when all looks together took longer than the rule allows.
        """
        self.seconds += time.perf_counter() - started_at
        if self.seconds > self.rule.timeout:
            raise CheckTimeoutError

    def fail(self, cause: str) -> None:
        """The check could not run. Raises GUARDRAIL_FAILED unless the rule lets calls pass without it."""
        self.failure = cause
        self.require()

    def require(self) -> None:
        """Raises GUARDRAIL_FAILED when the check has failed and calls must not pass without it."""
        if self.failure and not self.rule.fail_open:
            raise guardrail_failed(self.rule.profile, self.rule.rule_id, self.failure)

    def fail_by(self, error: Exception) -> None:
        """The check failed by ``error``, whose message is not told: it might hold the text."""
        self._fail_by(error)
        self.require()

    def _fail_by(self, error: Exception) -> None:
        told = type(error).__name__
        if isinstance(error, GatewayError):
            told = f"{error.reason_name} {error.metadata.get('http_status', '')}".rstrip()
        elif isinstance(error, NotJudgedError):
            told = str(error)
        _LOG.error("rule %s of %s failed: %s", self.rule.rule_id, self.rule.profile, told)
        self.failure = "error"

    def add(self, other: "Tally") -> None:
        """Counts what the same rule did to other texts of the call."""
        self.note([kind for kind, count in other.findings.items() for _ in range(count)], other.score)
        # What is checked once more was among what was checked before.
        for name, count in other.unread_parts.items():
            self.unread_parts[name] = max(count, self.unread_parts.get(name, 0))
        self.seconds += other.seconds
        self.has_looked |= other.has_looked
        self.is_stopped |= other.is_stopped
        self.failure = self.failure or other.failure

    def result(self) -> GuardrailResult:
        """What is told of it."""
        result = GuardrailResult()
        result.CopyFrom(self.rule.passed)
        if self.unread_parts:
            result.action = GuardrailAction.GUARDRAIL_ACTION_SKIPPED
            result.unread_parts.update(self.unread_parts)
        if self.findings:
            result.action = self.rule.action
            result.findings.update(self.findings)
        if self.is_stopped:
            result.action = BLOCK
        if self.failure or self.wanted:
            result.action = GuardrailAction.GUARDRAIL_ACTION_ERROR
        result.latency.seconds, result.latency.nanos = divmod(round(self.seconds * 1e9), 10**9)
        if self.score is not None:
            result.score = self.score
        return result


class CheckTimeoutError(Exception):
    """A check took longer than its rule allows."""


def guardrail_failed(profile: str, rule_id: str, cause: str) -> GatewayError:
    """The error of a check that could not run and must not be done without."""
    return GatewayError(
        ErrorReason.ERROR_REASON_GUARDRAIL_FAILED,
        f"rule {rule_id} of {profile} could not run, and calls do not pass without it",
        metadata={"guardrail_profile": profile, "rule": rule_id, "cause": cause},
    )


def profile_failed(profile: str, why: str) -> GatewayError:
    """The error of a profile that is needed and cannot be used."""
    return GatewayError(
        ErrorReason.ERROR_REASON_GUARDRAIL_FAILED,
        f"{profile} cannot be used, and calls do not pass without it: {why}",
        metadata={"guardrail_profile": profile, "rule": "", "cause": "error"},
    )


def guardrail_blocked(tally: Tally) -> GatewayError:
    """The error of input that a rule stopped for what it found, or for what it could not read."""
    rule = tally.rule
    findings, unread_parts = _counted(tally.findings), _counted(tally.unread_parts)
    why = f"it found {findings}" if findings else f"it cannot read {unread_parts}"
    return GatewayError(
        ErrorReason.ERROR_REASON_GUARDRAIL_BLOCKED,
        f"rule {rule.rule_id} of {rule.profile} stopped the request; {why}",
        metadata={
            "guardrail_profile": rule.profile,
            "rule": rule.rule_id,
            "findings": findings,
            "unread_parts": unread_parts,
        },
    )


def _counted(counts: Mapping[str, int]) -> str:
    return ",".join(f"{name}={count}" for name, count in sorted(counts.items()))
