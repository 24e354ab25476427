"""Trains the heads for attacks: on windows, in rounds, with whole sources weighing about the same."""

import random
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gateway_server.guardrails.text.concepts import ATTACK
from gateway_server.guardrails.text.features import Chunk, make_concepts
from tools.train_guardrails.fitting import RowCache, Weights, best_windows, fit_logistic, read_text
from tools.train_guardrails.texts import (
    UNLICENSED,
    Text,
    hide,
    load_attack_texts,
    load_plain_texts,
    load_stress_texts,
    make_attacks,
    make_benign,
    make_system_prompts,
)

GRAMMAR_ATTACKS = 14000
GRAMMAR_BENIGN = 11000
GRAMMAR_PROMPTS = 5000
HIDDEN_ATTACKS = 3500
PENALTY = 2e-6
ROUNDS = 2
#: How much more harmless texts weigh than attacks, all together.
BENIGN_WEIGHT = 2.0

_CARRIERS = frozenset({
    "t0_p3", "docs_train", "awesome_chatgpt_prompts", "plain_wildbench_outputs", "plain_oasst_responses",
    "plain_coconot_responses",
})  # fmt: skip


@dataclass(slots=True)
class AttackCorpus:
    """All texts, read once; what a training leaves out is chosen by place."""

    texts: list[Text]
    chunks: list[list[Chunk]]
    #: The sources of the texts that a text was made of: an attack and the longer text that it was hidden in.
    made_of: list[frozenset[str]]
    rows: RowCache = field(init=False)

    def __post_init__(self) -> None:
        self.rows = RowCache(self.chunks)

    def without(self, sources: Collection[str]) -> list[int]:
        """The places of all texts that may train a model which must not have seen the sources."""
        return [
            place
            for place, text in enumerate(self.texts)
            if text.headline and text.source not in sources and self.made_of[place].isdisjoint(sources)
            and text.source not in UNLICENSED and not text.held_out
        ]  # fmt: skip


def build_attack_corpus(data: Path) -> AttackCorpus:
    """Labelled sources and our own grammars."""
    texts = load_attack_texts(data) + load_plain_texts(data) + load_stress_texts()
    rng = random.Random(5)
    long = [text for text in texts if text.source in _CARRIERS and len(text.text) > 600 and not text.held_out]
    texts += make_attacks(1, GRAMMAR_ATTACKS) + make_benign(2, GRAMMAR_BENIGN)
    texts += make_system_prompts(4, GRAMMAR_PROMPTS)
    made_of: list[frozenset[str]] = [frozenset()] * len(texts)
    for attack in make_attacks(3, HIDDEN_ATTACKS):
        carrier = rng.choice(long)
        texts.append(hide(rng, attack, carrier.text, "hidden_" + attack.source))
        made_of.append(frozenset((attack.source, carrier.source)))
    concepts = make_concepts(ATTACK)
    return AttackCorpus(texts, [read_text(text.text, concepts) for text in texts], made_of)


#: Prompts of systems speak of rules and secrets as attacks do.
_HARD = frozenset({"bigprompt_system_prompts", "twins_system_prompt", "prompt_guarded"})


def _source_weights(texts: Iterable[Text]) -> dict[str, float]:
    weights = {}
    for source, count in Counter(text.source for text in texts).items():
        weight = count**0.5
        if source.startswith("hidden_"):
            weight *= 0.3
        elif source in _HARD:
            weight *= 4
        elif source.startswith("plain_") or (
            source.startswith("grammar_") and len(source) == len("grammar_xx")
        ):
            weight *= 0.5
        weights[source] = weight / count
    return weights


def _is_hidden(text: Text) -> bool:
    return text.source.startswith(("hidden_", "synthetic_hidden"))


def _first_windows(place: int, text: Text, chunks: Sequence[Chunk]) -> set[tuple[int, int]]:
    widest = (0, len(chunks[0].firsts) - 1)
    if text.attack:
        return set() if _is_hidden(text) else {widest}
    windows = [(number, window) for number, chunk in enumerate(chunks) for window in range(len(chunk.firsts))]
    return {widest, *random.Random(place).sample(windows, min(5, len(windows)))}


def train_attack(corpus: AttackCorpus, keep: Sequence[int]) -> Weights:
    """Weights of the head that tells attacks from harmless texts."""
    weight_of = _source_weights(corpus.texts[place] for place in keep)
    windows = {place: _first_windows(place, corpus.texts[place], corpus.chunks[place]) for place in keep}
    weights: Weights | None = None
    for turn in range(ROUNDS + 1):
        if weights is not None:
            for place in keep:
                _look_again(corpus, place, weights, windows)
        chosen = [(place, *window) for place in keep for window in sorted(windows[place])]
        labels = np.array([corpus.texts[place].attack for place, _, _ in chosen], dtype=np.float64)
        importance = np.array([
            weight_of[corpus.texts[place].source] / len(windows[place]) for place, _, _ in chosen
        ])  # fmt: skip
        importance[labels > 0.5] /= importance[labels > 0.5].sum()
        importance[labels < 0.5] *= BENIGN_WEIGHT / importance[labels < 0.5].sum()
        matrix = corpus.rows.matrix(chosen)
        weights = fit_logistic(
            matrix, labels, importance, PENALTY, start=weights, iterations=30 if turn else 50
        )
    assert weights is not None
    return weights


def _look_again(
    corpus: AttackCorpus, place: int, weights: Weights, windows: dict[int, set[tuple[int, int]]]
) -> None:
    text, chunks = corpus.texts[place], corpus.chunks[place]
    score, number, window = best_windows(chunks, weights)
    if not text.attack:
        if score > -3:
            windows[place].add((number, window))
    elif _is_hidden(text):
        windows[place] = {(number, window)}
    else:
        windows[place] = {(number, window), (0, len(chunks[0].firsts) - 1)}


def train_kind(corpus: AttackCorpus, keep: Sequence[int], attack: Weights) -> Weights:
    """Weights of the head that tells jailbreaks from injections, on the windows that the other head finds."""
    attacks = [place for place in keep if corpus.texts[place].attack]
    weight_of = _source_weights(corpus.texts[place] for place in attacks)
    chosen = [(place, *best_windows(corpus.chunks[place], attack)[1:]) for place in attacks]
    labels = np.array([corpus.texts[place].kind == "jailbreak" for place in attacks], dtype=np.float64)
    importance = np.array([weight_of[corpus.texts[place].source] for place in attacks])
    for side in (labels > 0.5, labels < 0.5):
        importance[side] /= importance[side].sum()
    return fit_logistic(corpus.rows.matrix(chosen), labels, importance, 1e-4)


def score_texts(corpus: AttackCorpus, places: Iterable[int], weights: Weights) -> NDArray[np.float64]:
    """The highest window of each text."""
    return np.array([best_windows(corpus.chunks[place], weights)[0] for place in places])
