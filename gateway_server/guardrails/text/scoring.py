"""Scores of windows: sums of the weights of their features, for any number of heads at once."""

import numpy as np
from numpy.typing import NDArray

from gateway_server.guardrails.text.features import LENGTHS_AT, Chunk, Ids, length_classes, scales


def _sums(
    blocks: tuple[Ids, ...], weights: NDArray[np.int8] | NDArray[np.float32], begins: Ids, ends: Ids
) -> NDArray[np.float32]:
    exact = weights.dtype == np.int8
    count = len(blocks[0]) if blocks else 0
    total = np.zeros((count + 1, weights.shape[1]), dtype=np.int32 if exact else np.float64)
    for ids in blocks:
        total[1 : len(ids) + 1] += weights.take(ids, axis=0)
    np.cumsum(total, axis=0, out=total)
    sums: NDArray[np.float32] = total[np.minimum(ends, count)] - total[np.minimum(begins, count)]
    return sums.astype(np.float32)


def window_scores(chunk: Chunk, weights: NDArray[np.int8] | NDArray[np.float32]) -> NDArray[np.float32]:
    """The score of each window of the chunk for each head, in units of the weights."""
    by_char, by_word, by_concept = scales(chunk)
    scores = _sums(chunk.chars, weights, chunk.starts, chunk.ends) * by_char[:, None]
    begins, ends = (
        np.searchsorted(chunk.word_starts, chunk.starts),
        np.searchsorted(chunk.word_starts, chunk.ends),
    )
    scores += _sums(chunk.words, weights, begins, ends) * by_word[:, None]
    places = chunk.concept_starts
    begins, ends = np.searchsorted(places, chunk.starts), np.searchsorted(places, chunk.ends)
    scores += _sums(chunk.concepts, weights, begins, ends) * by_concept[:, None]
    return scores + weights[LENGTHS_AT + length_classes(chunk.ends - chunk.starts)]


#: By how much a passage may stand out of a harmless whole and still count fully.
_STANDS_OUT = 5.0
#: What a head of one category adds to the head of all, and by how much that may raise it.
_OWN_SHARE = 0.35
_MOST_RAISED = 1.5


def category_scores(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    """The score of a chunk for each category, out of its windows' for the categories and for any harm.

    Requests for something illicit, the last category, are no harm by themselves: that head stands alone.
    """
    own, shared = scores[:, :-1], scores[:, -1:]
    together = np.minimum(_OWN_SHARE * own + shared, own + _MOST_RAISED)
    together[:, -1] = own[:, -1]
    worst, whole = together.max(axis=0), together[-1]
    mixed: NDArray[np.float32] = worst - np.minimum((worst - whole) / 2, _STANDS_OUT / 2)
    return mixed
