"""Writes the model file: all heads trained on all licensed sources, as whole bytes."""

import io
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tools.train_guardrails.attack_training import AttackCorpus, train_attack, train_kind
from tools.train_guardrails.evaluation import AttackFigures, ModerationFigures
from tools.train_guardrails.fitting import Weights
from tools.train_guardrails.moderation_training import ModerationCorpus, train_heads

MODEL_FILE = Path("gateway_server/guardrails/text/model.npz")


def quantise(heads: Sequence[Weights]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Each head's weights as bytes, and by what to multiply them."""
    columns, scales = [], []
    for head in heads:
        scale = float(np.abs(head).max()) / 127
        columns.append(np.round(head / scale).astype(np.int8))
        scales.append(scale)
    return np.stack(columns, axis=1), np.array(scales, dtype=np.float32)


def train_attack_heads(corpus: AttackCorpus, figures: AttackFigures) -> dict[str, NDArray[np.generic]]:
    """The two heads for attacks on all sources, with the threshold that unseen sources ask for."""
    keep = corpus.without(())
    attack = train_attack(corpus, keep)
    kind = train_kind(corpus, keep, attack)
    weights, scales = quantise([attack, kind])
    thresholds = np.array([figures.shipped()], dtype=np.float32)
    return {"attack_weights": weights, "attack_scales": scales, "attack_thresholds": thresholds}


def train_moderation_heads(
    corpus: ModerationCorpus, figures: ModerationFigures
) -> dict[str, NDArray[np.generic]]:
    """One head for each category on all sources, with the thresholds that unseen sources ask for."""
    keep = corpus.without(())
    weights, scales = quantise(list(train_heads(corpus, keep).T))
    thresholds = figures.thresholds().astype(np.float32)
    return {"moderation_weights": weights, "moderation_scales": scales, "moderation_thresholds": thresholds}


def write_model(path: Path, arrays: dict[str, NDArray[np.generic]]) -> None:
    """Writes arrays as numpy reads them, the same bytes for the same arrays."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, array in arrays.items():
            data = io.BytesIO()
            np.save(data, array, allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), data.getvalue(), zipfile.ZIP_DEFLATED, 9)
