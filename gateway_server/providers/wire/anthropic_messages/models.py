"""What models of one generation take and others refuse, read from their names.

The lists of old generations are closed: no more models of them will come. A name that tells no generation
is taken for one of the newest, except where only some of those are known to take a thing.
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

_GENERATION: Final = re.compile(r"claude-(?:[a-z]+-)?(\d{1,2})(?:[-.](\d{1,2}))?(?!\d)")


@dataclass(frozen=True, slots=True)
class ModelTraits:
    """In what models differ that a request has to mind."""

    #: Whether it thinks at all.
    thinking: bool = True

    #: Whether it decides how long to think, by ``thinking.type: adaptive`` and ``output_config.effort``.
    adaptive_thinking: bool = True

    #: Whether it takes a budget for thinking, by ``thinking.type: enabled``.
    thinking_budget: bool = True

    #: Whether it takes ``temperature``, ``top_p`` and ``top_k``.
    sampling: bool = True

    #: Whether it takes ``temperature`` and ``top_p`` in one request.
    temperature_and_top_p: bool = True

    #: Whether it takes system turns between those of the conversation.
    system_turns: bool = False


@lru_cache(maxsize=1024)
def traits_of(model: str) -> ModelTraits:
    """The traits of a model by its provider's name for it."""
    match = _GENERATION.search(model)
    if match is None:
        return ModelTraits()
    generation = int(match[1]), int(match[2] or 0)
    return ModelTraits(
        thinking=generation >= (3, 7),
        adaptive_thinking=generation >= (4, 6),
        thinking_budget=(3, 7) <= generation <= (4, 6),
        sampling=generation <= (4, 6),
        temperature_and_top_p=generation <= (4, 0),
        system_turns=generation >= (4, 8),
    )
