"""Scores of texts by the guardrails alone, without a gateway: how their quality is measured from outside."""

import json
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import cache, partial
from typing import Any, Final

from gateway_server.guardrails.detectors import DEFAULT_PII_MIN_SCORE, placeholder_of
from gateway_server.guardrails.machines import SpanMachine
from gateway_server.guardrails.ner.model import ENTITY_TYPES, EntityModel, ModelError, find_all, why_absent
from gateway_server.guardrails.ner.scanner import EntityScanner
from gateway_server.guardrails.pii import RECOGNIZERS, PiiScanner, scan, spans
from gateway_server.guardrails.text.models import TextModels, load_models

#: How many lines a process is given at once.
_CHUNK: Final = 64
_DECIMALS: Final = 4


def score_lines(lines: Iterable[bytes], *, processes: int = 0, ner_model: str = "") -> Iterator[str]:
    """For each line of ``{"text": ...}`` one of JSON with its scores, in the same order.

    ``{"attack", "injection", "jailbreak": score, "moderation": {category: score}, "pii": [{"start", "end",
    "type", "score"}], "redacted": text}``, ends exclusive, all scores from 0 to 1, every kind of personal
    data that needs no language model; with ``ner_model``, a spaCy model, persons and places too.
    Raises ValueError for a line that is none, ModelError.
    """
    if ner_model and (why := why_absent(ner_model)):
        raise ModelError(why)
    score = partial(score_line, ner_model=ner_model)
    count = processes or os.cpu_count() or 1
    if count == 1:
        yield from map(score, lines)
        return
    with ProcessPoolExecutor(count) as executor:
        yield from executor.map(score, lines, chunksize=_CHUNK)


def score_line(line: bytes, *, ner_model: str = "") -> str:
    """The scores of one line; raises ValueError, ModelError."""
    try:
        asked = json.loads(line)
    except RecursionError:
        raise ValueError("is nested too deeply") from None
    match asked:
        case {"text": str(text)}:
            return json.dumps(score_text(text, ner_model=ner_model))
        case _:
            raise ValueError('is not of the form {"text": "..."}')


def score_text(text: str, *, ner_model: str = "") -> dict[str, Any]:
    """See ``score_lines``."""
    models = _models()
    attack = models.attack(text)
    scanner: SpanMachine = PiiScanner(tuple(RECOGNIZERS.values()), min_score=DEFAULT_PII_MIN_SCORE)
    if ner_model:
        scanner = EntityScanner(scanner, partial(find_all, _entity_model(ner_model)), frozenset(ENTITY_TYPES))
    found = spans(scan(scanner, text))
    redacted, done = [], 0
    for each in found:
        redacted += [text[done : each.start], f"[{placeholder_of(each.entity_type)}_REDACTED]"]
        done = each.end
    return {
        "attack": round(attack.attack, _DECIMALS),
        "injection": round(attack.injection, _DECIMALS),
        "jailbreak": round(attack.jailbreak, _DECIMALS),
        "moderation": {
            category: round(score, _DECIMALS) for category, score in models.moderation(text).items()
        },
        "pii": [
            {"start": each.start, "end": each.end, "type": each.entity_type, "score": each.score}
            for each in found
        ],
        "redacted": "".join([*redacted, text[done:]]),
    }


@cache
def _entity_model(name: str) -> EntityModel:
    return EntityModel(name)


@cache
def _models() -> TextModels:
    return load_models()
