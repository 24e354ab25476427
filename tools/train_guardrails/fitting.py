"""Fits linear heads on windows of texts, and finds the windows that matter."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.optimize import minimize

from gateway_server.guardrails.text.features import (
    DIMENSIONS,
    NOTHING,
    ROWS,
    Chunk,
    Concepts,
    chunk_texts,
    find_features,
    length_features,
    read_chunk,
    scales,
)
from gateway_server.guardrails.text.normalise import views
from gateway_server.guardrails.text.scoring import window_scores

Floats = NDArray[np.float64]
Weights = NDArray[np.float32]

#: Training reads at most so many chunks of a text.
MAX_CHUNKS = 3


def read_text(text: str, concepts: Concepts, limit: int = MAX_CHUNKS) -> list[Chunk]:
    """The first chunks of a text in its plain form, and of what is encoded in it."""
    chunks: list[Chunk] = []
    for view in views(text):
        for part in chunk_texts(view):
            chunks.append(_small(find_features(read_chunk(part), concepts)))
            if len(chunks) >= limit:
                return chunks
    return chunks


def _small(chunk: Chunk) -> Chunk:
    """The same in half the memory."""
    return replace(chunk, ids=chunk.ids.astype(np.int32), bounds=chunk.bounds.astype(np.int32))


class RowCache:
    """Windows as rows of sparse matrices; each is read once."""

    def __init__(self, chunks: Sequence[Sequence[Chunk]]) -> None:
        self._chunks = chunks
        self._rows: dict[tuple[int, int, int], tuple[NDArray[np.int32], NDArray[np.float32]]] = {}

    def matrix(self, windows: Sequence[tuple[int, int, int]]) -> sparse.csr_matrix:
        """One row for each text, chunk and window."""
        for each in windows:
            if each not in self._rows:
                text, chunk, window = each
                self._rows[each] = window_row(self._chunks[text][chunk], window)
        rows = [self._rows[each] for each in windows]
        ends = np.cumsum([0, *(len(ids) for ids, _ in rows)])
        ids, values = (np.concatenate([row[part] for row in rows]) for part in (0, 1))
        return sparse.csr_matrix((values, ids, ends), shape=(len(rows), DIMENSIONS))


def window_row(chunk: Chunk, window: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """The features of one window and their values, as window_scores weighs them."""
    begins, ends = chunk.bounds[:, chunk.firsts[window]], chunk.bounds[:, chunk.lasts[window]]
    sizes = (ends - begins)[:, None]
    by_block = scales(sizes)[:, 0]
    ids, values, at = [], [], 0
    for block, (rows, length) in enumerate(zip(ROWS, chunk.lengths, strict=True)):
        block_ids = chunk.ids[at : at + rows * length].reshape(rows, length)
        part = block_ids[:, begins[block] : ends[block]].ravel()
        ids.append(part)
        values.append(np.full(len(part), by_block[block], dtype=np.float32))
        at += rows * length
    ids.append(length_features(sizes[0]))
    values.append(np.ones(1, dtype=np.float32))
    unique, inverse = np.unique(np.concatenate(ids), return_inverse=True)
    summed = np.bincount(inverse, weights=np.concatenate(values)).astype(np.float32)
    return unique[unique != NOTHING].astype(np.int32), summed[unique != NOTHING]


def fit_logistic(
    matrix: sparse.csr_matrix,
    labels: Floats,
    weights: Floats,
    penalty: float,
    *,
    start: Weights | None = None,
    iterations: int = 60,
) -> Weights:
    """Weights of an L2-penalised logistic regression."""
    weights = weights / weights.sum()
    transposed = matrix.T.tocsr()
    signs = np.where(labels > 0.5, 1.0, -1.0)

    def loss(params: Floats) -> tuple[float, Floats]:
        margins = signs * (matrix @ params.astype(np.float32))
        value = float((weights * np.logaddexp(0, -margins)).sum() + 0.5 * penalty * (params @ params))
        slopes = -weights * signs / (1 + np.exp(np.clip(margins, -40, 40)))
        return value, np.asarray(transposed @ slopes.astype(np.float32), dtype=np.float64) + penalty * params

    first = np.zeros(matrix.shape[1]) if start is None else start.astype(np.float64)
    result = minimize(loss, first, jac=True, method="L-BFGS-B", options={"maxiter": iterations, "maxcor": 8})
    return np.asarray(result.x, dtype=np.float32)


def best_windows(chunks: Sequence[Chunk], weights: Weights) -> tuple[float, int, int]:
    """The highest score of a text, and the chunk and window that has it."""
    best = (-1e9, 0, 0)
    for place, chunk in enumerate(chunks):
        scores = window_scores(chunk, weights.reshape(-1, 1))[:, 0]
        top = int(scores.argmax())
        if scores[top] > best[0]:
            best = (float(scores[top]), place, top)
    return best
