"""Further kinds of personal data from Presidio's registry, such as national ids.

Presidio is imported when a profile first asks for such a kind: it takes seconds and over 100 MB, because it
imports spaCy. Its recognizers see what ours see, the neighbourhood of digits, so kinds that are made of
letters alone, such as names, are not among them.
"""

from collections.abc import Callable, Iterator
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


def find_recognizer(entity_type: str) -> Recognizer | None:
    """A recognizer of ``entity_type`` by Presidio's pattern recognizers, None when it has none."""
    recognizers = _recognizers().get(entity_type)
    return None if recognizers is None else partial(_recognize, entity_type, recognizers)


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
    before = text[max(0, start - CONTEXT) : start].lower()
    for recognizer in recognizers:
        for result in recognizer.analyze(text, [entity_type]) or ():
            told = any(word.lower() in before for word in recognizer.context or ())
            score = min(result.score + (_CONTEXT_SCORE if told else 0.0), 1.0)
            if result.start >= start:
                yield Match(result.start, result.end, entity_type, score)
