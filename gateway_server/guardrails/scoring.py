"""Scores of texts by the guardrails alone, without a gateway: how their quality is measured from outside."""

import json
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from typing import Any, Final

from gateway_server.guardrails.detectors import DEFAULT_PII_MIN_SCORE, placeholder_of
from gateway_server.guardrails.pii import RECOGNIZERS, PiiScanner, scan, spans
from gateway_server.guardrails.text.models import TextModels, load_models

#: How many lines a process is given at once.
_CHUNK: Final = 64
_DECIMALS: Final = 4


def score_lines(lines: Iterable[bytes], *, processes: int = 0) -> Iterator[str]:
    """For each line of ``{"text": ...}`` one of JSON with its scores, in the same order.

    ``{"attack", "injection", "jailbreak": score, "moderation": {category: score}, "pii": [{"start", "end",
    "type", "score"}], "redacted": text}``, ends exclusive, all scores from 0 to 1, every kind of personal
    data that needs no language model. Raises ValueError for a line that is none.
    """
    count = processes or os.cpu_count() or 1
    if count == 1:
        yield from map(score_line, lines)
        return
    with ProcessPoolExecutor(count) as executor:
        yield from executor.map(score_line, lines, chunksize=_CHUNK)


def score_line(line: bytes) -> str:
    """The scores of one line; raises ValueError."""
    asked = json.loads(line)
    match asked:
        case {"text": str(text)}:
            return json.dumps(score_text(text))
        case _:
            raise ValueError('is not of the form {"text": "..."}')


def score_text(text: str) -> dict[str, Any]:
    """See ``score_lines``."""
    models = _models()
    attack = models.attack(text)
    found = spans(scan(PiiScanner(tuple(RECOGNIZERS.values()), min_score=DEFAULT_PII_MIN_SCORE), text))
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
def _models() -> TextModels:
    return load_models()
