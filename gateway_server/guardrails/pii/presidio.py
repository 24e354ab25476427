"""Further kinds of personal data from Presidio's registry, such as national ids.

Presidio is imported when a profile first asks for such a kind: it takes seconds and over 100 MB, because it
imports spaCy. Its recognizers see what ours see, the neighbourhood of digits, so kinds that are made of
letters alone, such as names, are not among them.
"""

from collections.abc import Callable, Iterable, Iterator
from functools import cache, partial
from typing import TYPE_CHECKING, Final, cast

from gateway_server.guardrails.pii.matches import CONTEXT, Match, Recognizer

if TYPE_CHECKING:
    from presidio_analyzer import PatternRecognizer

#: Kinds whose values hold no digit, or that need a language model.
_WITHOUT_DIGITS: Final = frozenset(
    {"PERSON", "LOCATION", "NRP", "ORGANIZATION", "DATE_TIME", "URL", "CRYPTO"}
)
#: What a word before a value adds to its score, as in Presidio's own context enhancer.
_CONTEXT_SCORE: Final = 0.35
#: What a value has at least after such a word.
_LEAST_IN_CONTEXT: Final = 0.4


def find_recognizer(entity_type: str) -> Recognizer | None:
    """A recognizer of ``entity_type`` by Presidio's pattern recognizers, None when it has none."""
    recognizers = _recognizers().get(entity_type)
    return None if recognizers is None else partial(_recognize, entity_type, recognizers)


def highest_score(entity_type: str) -> float:
    """The most that a value of a kind with a recognizer can score."""
    return max(
        score_in_context(1.0 if _validates(recognizer) else pattern.score, told=bool(recognizer.context))
        for recognizer in _recognizers()[entity_type]
        for pattern in recognizer.patterns  # type: ignore[has-type]
    )


def _validates(recognizer: "PatternRecognizer") -> bool:
    """Whether it may know for certain, such as by a check digit."""
    from presidio_analyzer import PatternRecognizer  # noqa: PLC0415

    return type(recognizer).validate_result is not PatternRecognizer.validate_result


def score_in_context(score: float, *, told: bool) -> float:
    """What a value scores where one of its context words was ``told`` before it."""
    return min(max(round(score + _CONTEXT_SCORE, 6), _LEAST_IN_CONTEXT), 1.0) if told else score


def told_before(text: str, start: int, words: Iterable[str]) -> bool:
    """Whether one of these words, in small letters, stands shortly before a place."""
    before = text[max(0, start - CONTEXT) : start].lower()
    return any(word in before for word in words)


@cache
def _recognizers() -> dict[str, list["PatternRecognizer"]]:
    from presidio_analyzer import PatternRecognizer, predefined_recognizers  # noqa: PLC0415

    found: dict[str, list[PatternRecognizer]] = {}
    for name in predefined_recognizers.__all__:
        made = getattr(predefined_recognizers, name)
        if not (isinstance(made, type) and issubclass(made, PatternRecognizer)):
            continue
        try:
            recognizer = cast("Callable[[], PatternRecognizer]", made)()
        except (TypeError, ValueError, ImportError, OSError):
            continue  # needs settings or a service of its own
        for entity_type in recognizer.supported_entities:
            if entity_type not in _WITHOUT_DIGITS:
                found.setdefault(entity_type, []).append(recognizer)
    return found


def _recognize(
    entity_type: str, recognizers: list["PatternRecognizer"], text: str, start: int
) -> Iterator[Match]:
    for recognizer in recognizers:
        words = [word.lower() for word in recognizer.context or ()]
        for result in recognizer.analyze(text, [entity_type]) or ():
            told = told_before(text, result.start, words)
            if result.start >= start:
                score = score_in_context(result.score, told=told)
                yield Match(result.start, result.end, entity_type, score)
