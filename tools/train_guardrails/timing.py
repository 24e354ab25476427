"""Measures how long the shipped models take, in CPU time of the thread."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gateway_server.guardrails.text.models import load_models
from tools.train_guardrails.texts import load_attack_texts

_LENGTHS = (200, 1000, 8000)
_TEXTS = 400
#: All texts are read so often, one after another: a text that comes again at once is remembered.
_ROUNDS = 3

Milliseconds = NDArray[np.float64]


def print_times(data: Path) -> None:
    """A table of milliseconds for each thousand characters of harmless texts."""
    models = load_models()
    texts = [text.text for text in load_attack_texts(data) if not text.attack]
    together = "\n\n".join(texts)

    def both(text: str) -> None:
        models.attack(text)
        models.moderation(text)

    print("| characters | attack: median | p99 | moderation: median | p99 | both: median | p99 |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for length in _LENGTHS:
        parts = [together[place * length : (place + 1) * length] for place in range(_TEXTS)]
        cells = [
            f"{share * 1000 / length:.2f} ms/kB"
            for check in (models.attack, models.moderation, both)
            for share in np.quantile(_times(check, parts), (0.5, 0.99))
        ]
        print(f"| {length} | {' | '.join(cells)} |")


def _times(check: Callable[[str], object], texts: Sequence[str]) -> Milliseconds:
    """The least CPU time of each text: what else runs on the machine is not measured."""
    least = np.full(len(texts), np.inf)
    for _ in range(_ROUNDS):
        for place, text in enumerate(texts):
            start = time.thread_time()
            check(text)
            least[place] = min(least[place], (time.thread_time() - start) * 1000)
    return least
