"""What a rule looks for, made ready once for all calls."""

import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from re import _parser as sre_parser  # type: ignore[attr-defined]
from typing import Final, Protocol

import re2

from aigateway.v1.content_pb2 import Role
from aigateway.v1.guardrail_profile_pb2 import (
    GuardrailRule,
    ModerationDetector,
    PatternDetector,
    PiiDetector,
)
from gateway_server.errors import invalid_request
from gateway_server.guardrails.machines import (
    REACH,
    SURROGATES,
    PatternMachine,
    SpanMachine,
    WordList,
    WordMachine,
    closed,
    loosened,
    seen_of,
)
from gateway_server.guardrails.ner import model as ner
from gateway_server.guardrails.ner.scanner import EntityScanner
from gateway_server.guardrails.pii import (
    DEFAULT_ENTITY_TYPES,
    RECOGNIZERS,
    SHORT_DECIMAL,
    WINDOW,
    PiiScanner,
    Recognizer,
    ascii_worth_of,
)
from gateway_server.guardrails.pii.added import AddedKind
from gateway_server.guardrails.pii.presidio import find_recognizer, highest_score
from gateway_server.guardrails.text.models import CATEGORIES
from gateway_server.providers.base import ModerationVerdict
from gateway_server.resource_names import parse_provider

Roles = frozenset[Role.ValueType]

ALL_ROLES: Final[Roles] = frozenset(role for role in Role.values() if role)
#: Whose turns are read for attacks and harm: system and developer messages are their author's own orders.
OUTSIDE_ROLES: Final[Roles] = frozenset({Role.ROLE_USER, Role.ROLE_TOOL})

DEFAULT_PII_MIN_SCORE: Final = 0.6
DEFAULT_MIN_SCORE: Final = 0.5
#: What is taken off for content that was retrieved, where a rule is strict about it.
STRICTNESS: Final = 0.2

#: How many patterns all rules of one side of a profile have together.
MAX_PATTERNS: Final = 2000
#: How many of RE2's instructions they have together; one takes some 40 bytes and a microsecond to compile.
MAX_INSTRUCTIONS: Final = 1_000_000
#: RE2's own default, for all patterns of a rule together: for what they are compiled to and for running it.
_MAX_PATTERN_MEMORY: Final = 8 << 20
#: How much of a text is searched at once for what makes it worth a look, and how long that may be.
_PART: Final = 65_536
_LONGEST_WORTH: Final = 64
_PLACEHOLDERS: Final = {
    "US_SSN": "SSN",
    "EMAIL_ADDRESS": "EMAIL",
    "PHONE_NUMBER": "PHONE",
    "IBAN_CODE": "IBAN",
}


@dataclass(frozen=True, slots=True)
class Score:
    """What a text scored highest, and the kinds that reached their thresholds."""

    score: float
    kinds: tuple[str, ...]


class AttackScores(Protocol):
    """How much a text looks like an attack, from 0 to 1."""

    @property
    def injection(self) -> float:
        """Like an attempt to override instructions."""
        ...

    @property
    def jailbreak(self) -> float:
        """Like an attempt to talk a model out of its rules."""
        ...


class TextModels(Protocol):
    """What judges texts."""

    def attack(self, text: str) -> AttackScores:
        """Judges a text as a request."""
        ...

    def moderation(self, text: str) -> Mapping[str, float]:
        """How harmful a text is, from 0 to 1 for each of ``CATEGORIES``."""
        ...


class EntityModel(Protocol):
    """What finds persons and places, beside this thread."""

    def start(self) -> None:
        """Gets ready; waits for nothing."""
        ...

    def why_unusable(self) -> str:
        """Why nothing can be found, empty when it can; may wait for the model to be loaded."""
        ...

    def find(self, texts: Sequence[str], timeout: float) -> Sequence[ner.Entities]:
        """What each text names. Raises TimeoutError after ``timeout`` seconds, ModelError."""
        ...


class Moderator(Protocol):
    """What asks providers whether texts are harmful."""

    async def moderate(
        self, texts: Sequence[str], *, provider: str, provider_model: str, timeout: float
    ) -> Sequence[ModerationVerdict]:
        """What the provider's model says of each text.

        Raises TimeoutError after ``timeout`` seconds, GatewayError that quotes no text.
        """
        ...

    async def require(self, provider: str, field: str) -> None:
        """Raises INVALID_REQUEST that names ``field`` for a provider that is not there or judges no texts."""
        ...


def placeholder_of(kind: str) -> str:
    """What a value's placeholder says it was: ``SSN`` of ``US_SSN``."""
    return _PLACEHOLDERS.get(kind, kind.upper())


@dataclass(frozen=True, slots=True)
class Personal:
    """Finds personal data."""

    recognizers: tuple[Recognizer, ...]
    min_score: float
    allowed_values: frozenset[str]
    #: Of ``ner.ENTITY_TYPES`` those that are looked for, what finds them, and how many seconds it has.
    entity_types: frozenset[str] = frozenset()
    entity_model: EntityModel | None = None
    timeout: float = 0.0
    default_roles: Roles = ALL_ROLES

    def may_find(self, text: str) -> bool:
        """False where nothing can be found, which is quicker to tell than what is."""
        if self.entity_model is not None:
            return True
        worth = ascii_worth_of(self.recognizers)
        if worth is None or not text.isascii():
            return True
        if len(text) <= _PART:
            return worth.search(text) is not None and not SHORT_DECIMAL.fullmatch(text)
        # Nothing else runs during a search, so a long text takes many.
        return any(
            worth.search(text[start : start + _PART + _LONGEST_WORTH]) is not None
            for start in range(0, len(text), _PART)
        )

    def open(self, context: str, window: int) -> Sequence[SpanMachine]:
        """Machines to be run one after another on one text; ``context`` stands before it.

        At most ``window`` characters are held back, 0 for the default; and a sentence where a model is asked.
        """
        scanner = PiiScanner(
            self.recognizers,
            min_score=self.min_score,
            allowed_values=self.allowed_values,
            context=context,
            window=window or WINDOW,
        )
        if self.entity_model is None:
            return (scanner,)
        find = partial(self.entity_model.find, timeout=self.timeout)
        return (EntityScanner(scanner, find, self.entity_types, self.allowed_values),)


@dataclass(frozen=True, slots=True)
class Patterns:
    """Finds patterns and words."""

    pattern: "re2._Regexp[str] | None"
    words: WordList | None
    #: See ``PatternMachine``.
    loose: "re2._Regexp[str] | None" = None
    default_roles: Roles = ALL_ROLES

    def may_find(self, text: str) -> bool:
        """See Personal.may_find; always for what is longer than a match is told by."""
        pattern = self.loose or self.pattern
        return (
            len(text) > REACH
            or (pattern is not None and pattern.search(SURROGATES.sub("\ufffd", text)) is not None)
            or (self.words is not None and self.words.may_be_in(text))
        )

    def open(self, context: str, window: int) -> Sequence[SpanMachine]:
        """See Personal.open; what was before and how much to hold back do not matter here."""
        machines: list[SpanMachine] = []
        if self.pattern is not None:
            machines.append(PatternMachine(self.pattern, "pattern", self.loose))
        if self.words is not None:
            machines.append(WordMachine(self.words))
        return machines


@dataclass(frozen=True, slots=True)
class Attack:
    """Judges whether a text tries to override instructions, or to talk a model out of its rules."""

    models: TextModels
    kind: str
    min_score: float
    is_strict: bool = False
    default_roles: Roles = OUTSIDE_ROLES

    def score(self, text: str, *, is_retrieved: bool) -> Score:
        """``is_retrieved`` tells that somebody else wrote it: a tool's result, a document."""
        scores = self.models.attack(text)
        score = scores.injection if self.kind == "prompt_injection" else scores.jailbreak
        threshold = self.min_score - (STRICTNESS if self.is_strict and is_retrieved else 0.0)
        return Score(score, (self.kind,) if score >= threshold else ())


@dataclass(frozen=True, slots=True)
class Moderation:
    """Judges whether a text is harmful."""

    models: TextModels
    min_scores: Mapping[str, float]
    default_roles: Roles = OUTSIDE_ROLES

    def score(self, text: str, *, is_retrieved: bool) -> Score:
        """See Attack.score; who wrote it does not matter here."""
        scores = self.models.moderation(text)
        kinds = tuple(kind for kind, least in self.min_scores.items() if scores[kind] >= least)
        return Score(max(scores[kind] for kind in self.min_scores), kinds)


class NotJudgedError(Exception):
    """A provider did not judge what a rule asks about; the message tells categories, and nothing of texts."""


@dataclass(frozen=True, slots=True)
class ProviderModeration:
    """Judges whether texts are harmful by asking a provider, which takes a while."""

    moderator: Moderator
    provider: str
    provider_model: str
    #: Empty: what the provider flags.
    min_scores: Mapping[str, float]
    default_roles: Roles = OUTSIDE_ROLES

    async def scores(self, texts: Sequence[str], timeout: float) -> Mapping[str, Score]:
        """By text; raises as Moderator.moderate does, and NotJudgedError."""
        verdicts = await self.moderator.moderate(
            texts, provider=self.provider, provider_model=self.provider_model, timeout=timeout
        )
        return {text: self._score(verdict) for text, verdict in zip(texts, verdicts, strict=True)}

    def _score(self, verdict: ModerationVerdict) -> Score:
        scores = verdict.scores
        if not self.min_scores:
            flagged = tuple(sorted(kind for kind, is_flagged in verdict.flags.items() if is_flagged))
            if verdict.is_flagged and not flagged:
                raise NotJudgedError("the provider flags something that is none of the categories")
            return Score(max(scores.values()), flagged)
        if missing := sorted(self.min_scores.keys() - scores.keys()):
            raise NotJudgedError(f"the provider has no scores for {', '.join(missing)}")
        kinds = tuple(kind for kind, least in self.min_scores.items() if scores[kind] >= least)
        return Score(max(scores[kind] for kind in self.min_scores), kinds)


@dataclass(slots=True)
class PatternBudget:
    """What is left for the patterns of one side of a profile."""

    patterns: int = MAX_PATTERNS
    instructions: int = MAX_INSTRUCTIONS

    def take(self, pattern: "re2._Regexp[str]", field: str) -> None:
        """Raises INVALID_REQUEST that names ``field`` when nothing is left for it."""
        self.patterns -= 1
        self.instructions -= pattern.programsize
        if self.patterns < 0:
            raise invalid_request(
                field, f"a side of a profile may have {MAX_PATTERNS} patterns in all its rules"
            )
        if self.instructions < 0:
            raise invalid_request(field, "the patterns of all rules of the side are too much together")


#: Finds values within a text.
SpanDetector = Personal | Patterns
#: Judges a text as a whole.
TextDetector = Attack | Moderation | ProviderModeration
Detector = SpanDetector | TextDetector


def compile_detector(
    rule: GuardrailRule,
    field: str,
    models: Callable[[], TextModels],
    budget: PatternBudget,
    *,
    timeout: float,
    entity_model: EntityModel | None,
    added_kinds: Mapping[str, AddedKind],
    moderator: Moderator | None,
) -> Detector:
    """Makes a rule's detector, which may take ``timeout`` seconds for a look.

    Raises INVALID_REQUEST that names the field below ``field``.
    """
    kind = rule.WhichOneof("detector")
    match kind:
        case "pii":
            return _personal(rule.pii, f"{field}.pii", timeout, entity_model, added_kinds)
        case "pattern":
            return _patterns(rule.pattern, f"{field}.pattern", budget)
        case "prompt_injection":
            injection = rule.prompt_injection
            least = injection.min_score if injection.HasField("min_score") else DEFAULT_MIN_SCORE
            return Attack(models(), kind, least, injection.strict_for_retrieved_content)
        case "jailbreak":
            jailbreak = rule.jailbreak
            least = jailbreak.min_score if jailbreak.HasField("min_score") else DEFAULT_MIN_SCORE
            return Attack(models(), kind, least)
        case "moderation":
            return _moderation(rule.moderation, f"{field}.moderation", models, moderator)
        case _:
            raise invalid_request(field, "has no detector")


def _moderation(
    detector: ModerationDetector, field: str, models: Callable[[], TextModels], moderator: Moderator | None
) -> Moderation | ProviderModeration:
    min_scores = dict(detector.min_scores)
    for category in min_scores:
        if category not in CATEGORIES:
            raise invalid_request(
                f"{field}.min_scores", f"{category}: must be one of {', '.join(CATEGORIES)}"
            )
    if not detector.provider:
        if detector.provider_model:
            raise invalid_request(f"{field}.provider_model", "is of no use without a provider")
        return Moderation(models(), min_scores or dict.fromkeys(CATEGORIES, DEFAULT_MIN_SCORE))
    parse_provider(detector.provider, f"{field}.provider")
    if not detector.provider_model:
        raise invalid_request(f"{field}.provider_model", "is required with a provider")
    if moderator is None:
        raise invalid_request(f"{field}.provider", "no provider can be asked here")
    return ProviderModeration(moderator, detector.provider, detector.provider_model, min_scores)


def _personal(
    detector: PiiDetector,
    field: str,
    timeout: float,
    entity_model: EntityModel | None,
    added_kinds: Mapping[str, AddedKind],
) -> Personal:
    if detector.language_code not in ("", "en"):
        raise invalid_request(f"{field}.language_code", "only en is built; most kinds are of no language")
    min_score = detector.min_score if detector.HasField("min_score") else DEFAULT_PII_MIN_SCORE
    recognizers: list[Recognizer] = []
    entity_types: set[str] = set()
    for index, entity_type in enumerate(detector.entity_types or DEFAULT_ENTITY_TYPES):
        if entity_type in ner.ENTITY_TYPES and entity_model is not None:
            if min_score > ner.SCORE:
                raise invalid_request(
                    f"{field}.min_score", f"{entity_type} is found with a score of {ner.SCORE}, which is less"
                )
            entity_types.add(entity_type)
            entity_model.start()
            continue
        kind = _kind_of(entity_type, added_kinds)
        if kind is None:
            raise invalid_request(
                f"{field}.entity_types[{index}]", f"{entity_type} is no kind of personal data known here"
            )
        recognizer, highest = kind
        if highest < min_score:
            raise invalid_request(
                f"{field}.min_score",
                f"{entity_type} is found with a score of at most {highest:g}, which is less",
            )
        recognizers.append(recognizer)
    return Personal(
        recognizers=tuple(recognizers),
        min_score=min_score,
        allowed_values=frozenset(detector.allowed_values),
        entity_types=frozenset(entity_types),
        entity_model=entity_model if entity_types else None,
        timeout=timeout,
    )


def _kind_of(entity_type: str, added_kinds: Mapping[str, AddedKind]) -> tuple[Recognizer, float] | None:
    """What finds a kind, and the most that its values score: ours, the operator's, or Presidio's."""
    if entity_type in RECOGNIZERS:
        return RECOGNIZERS[entity_type], 1.0
    if entity_type in added_kinds:
        added = added_kinds[entity_type]
        return added.recognize, added.highest_score
    recognizer = find_recognizer(entity_type)
    return None if recognizer is None else (recognizer, highest_score(entity_type))


def _patterns(detector: PatternDetector, field: str, budget: PatternBudget) -> Patterns:
    if not detector.patterns and not detector.words:
        raise invalid_request(field, "has neither patterns nor words")
    for index, word in enumerate(detector.words):
        if len(word) > REACH:
            raise invalid_request(
                f"{field}.words[{index}]", f"is longer than the {REACH} characters that are compared"
            )
        if not seen_of(word):
            raise invalid_request(f"{field}.words[{index}]", "has only characters that nobody sees")
    options = re2.Options()
    options.max_mem = _MAX_PATTERN_MEMORY
    options.log_errors = False
    # Where groups are does not matter, and to tell takes RE2 many times longer.
    options.never_capture = True
    for index, pattern in enumerate(detector.patterns):
        try:
            compiled = re2.compile(pattern, options)
        except re2.error as error:
            raise invalid_request(
                f"{field}.patterns[{index}]", f"is no RE2 pattern: {_told(error)}"
            ) from None
        if compiled.match("") is not None:
            raise invalid_request(f"{field}.patterns[{index}]", "matches nothing, which is everywhere")
        if _shortest_match(pattern) > REACH:
            raise invalid_request(
                f"{field}.patterns[{index}]",
                f"matches nothing within the {REACH} characters by which a match is told",
            )
        budget.take(compiled, f"{field}.patterns[{index}]")
    try:
        patterns = [closed(pattern) for pattern in detector.patterns]
        together = "|".join(f"(?:{pattern})" for pattern in patterns)
        loose = "|".join(f"(?:{loosened(pattern)})" for pattern in patterns)
        return Patterns(
            pattern=re2.compile(together, options) if together else None,
            words=WordList(detector.words) if detector.words else None,
            loose=re2.compile(loose, options) if loose != together else None,
        )
    except re2.error as error:
        raise invalid_request(f"{field}.patterns", f"are too much together: {_told(error)}") from None


def _shortest_match(pattern: str) -> int:
    """The least that it may match, where that is simply told: for patterns that ``re`` reads as RE2 does."""
    # Without repetition nothing is longer than its pattern; classes such as [:alpha:] are RE2's alone.
    if ("{" not in pattern and len(pattern) <= REACH) or "[:" in pattern:
        return 0
    try:
        # Nothing public tells how short a match may be. The tests run on every Python that is supported.
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            return int(sre_parser.parse(pattern).getwidth()[0])
    except (re.error, FutureWarning, DeprecationWarning, OverflowError, RecursionError):
        return 0


def _told(error: Exception) -> str:
    told = error.args[0] if error.args else ""
    return told.decode(errors="replace") if isinstance(told, bytes) else str(told)
