"""Scores of windows: sums of the weights of their features, for any number of heads at once."""

import numpy as np
from numpy.typing import NDArray

from gateway_server.guardrails.text.features import ROWS, Chunk, Ids, length_features, scales

Weights = NDArray[np.int8] | NDArray[np.float32]


def window_scores(chunk: Chunk, weights: Weights) -> NDArray[np.float32]:
    """The score of each window of the chunk for each head, (windows, heads), in units of the weights."""
    totals, begins = _running_sums(chunk, weights)
    places = (chunk.bounds + begins).take(chunk.edges, axis=1)
    edges = totals.take(places, axis=0)
    sums = edges[:, 1] - edges[:, 0]
    sizes = places[:, 1] - places[:, 0]
    scores: NDArray[np.float32] = np.einsum("bwh,bw->wh", sums.astype(np.float32), scales(sizes))
    scores += weights.take(length_features(sizes[0]), axis=0)
    return scores


def _running_sums(chunk: Chunk, weights: Weights) -> tuple[NDArray[np.int32] | NDArray[np.float64], Ids]:
    """The sums of all that stands before a place, (places, heads), and where each block begins, (3, 1).

    Places are characters, then words, then concepts.
    """
    exact = weights.dtype == np.int8
    taken = weights.take(chunk.ids, axis=0)
    heads = taken.shape[1]
    lengths = chunk.lengths
    sums = np.zeros((sum(lengths) + 1, heads), dtype=np.int16 if exact else np.float64)
    begins = []
    first = at = 0
    for rows, length in zip(ROWS, lengths, strict=True):
        begins.append(at)
        last = first + rows * length
        block = taken[first:last].reshape(rows, length, heads)
        np.add.reduce(block, axis=0, dtype=sums.dtype, out=sums[at + 1 : at + length + 1])
        first, at = last, at + length
    totals = np.add.accumulate(sums, axis=0, dtype=np.int32 if exact else np.float64)
    return totals, np.array(begins)[:, None]


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
