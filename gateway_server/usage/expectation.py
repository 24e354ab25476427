"""How long answers are expected to be, learned from those that came; for rate limits, put right later."""

from typing import Final

#: What an answer is expected to have when nobody knows better, in tokens.
_UNKNOWN: Final = 256
#: How much of the expectation the last answer is.
_WEIGHT: Final = 0.25


class OutputExpectation:
    """A decayed mean of output tokens for each target, by its label."""

    def __init__(self) -> None:
        self._means: dict[str, float] = {}

    def of(self, target: str, *, limit: int) -> int:
        """The tokens that an answer of a target is expected to have; at most ``limit`` unless that is 0."""
        expected = int(self._means.get(target, _UNKNOWN) + 0.5)
        return min(expected, limit) if limit else expected

    def learn(self, target: str, output_tokens: int) -> None:
        """Takes an answer into account."""
        mean = self._means.get(target, _UNKNOWN)
        self._means[target] = mean + (output_tokens - mean) * _WEIGHT
