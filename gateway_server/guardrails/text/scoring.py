"""Scores of windows: sums of the weights of their features, for any number of heads at once."""

import numpy as np
from numpy.typing import NDArray

from gateway_server.guardrails.text.features import ROWS, Chunk, length_features, scales

Weights = NDArray[np.int8] | NDArray[np.float32]


def window_scores(chunk: Chunk, weights: Weights) -> NDArray[np.float32]:
    """The score of each window of the chunk for each head, (windows, heads), in units of the weights."""
    totals = _running_sums(chunk, weights)
    sums = totals.take(chunk.lasts, axis=1) - totals.take(chunk.firsts, axis=1)
    sizes = chunk.bounds.take(chunk.lasts, axis=1) - chunk.bounds.take(chunk.firsts, axis=1)
    scores: NDArray[np.float32] = np.einsum("bwh,bw->wh", sums.astype(np.float32), scales(sizes))
    scores += weights.take(length_features(sizes[0]), axis=0)
    return scores


def _running_sums(chunk: Chunk, weights: Weights) -> NDArray[np.int32] | NDArray[np.float64]:
    """The sums of each block up to each segment: (3, segments + 1, heads)."""
    exact = weights.dtype == np.int8
    taken = weights.take(chunk.ids, axis=0)
    heads = taken.shape[1]
    lengths = chunk.lengths
    # The last row is of nothing: a segment may begin behind the last word or concept.
    sums = np.zeros((sum(lengths) + 1, heads), dtype=np.int16 if exact else np.float64)
    begins = np.empty((len(ROWS), chunk.bounds.shape[1] - 1), dtype=np.int64)
    first = at = 0
    for block, (rows, length) in enumerate(zip(ROWS, lengths, strict=True)):
        last = first + rows * length
        np.add.reduce(
            taken[first:last].reshape(rows, length, heads),
            axis=0,
            dtype=sums.dtype,
            out=sums[at : at + length],
        )
        np.add(chunk.bounds[block, :-1], at, out=begins[block])
        first, at = last, at + length
    wide = np.int32 if exact else np.float64
    segments = np.add.reduceat(sums, begins.ravel(), axis=0, dtype=wide).reshape(*begins.shape, heads)
    # numpy gives an empty sum the value of what stands there.
    segments[chunk.bounds[:, 1:] == chunk.bounds[:, :-1]] = 0
    totals = np.zeros((begins.shape[0], begins.shape[1] + 1, heads), dtype=wide)
    np.add.accumulate(segments, axis=1, out=totals[:, 1:])
    return totals


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
