"""What models of one generation take and others refuse, read from their names.

A name that tells no generation (``gemini-flash-latest``) is taken for one of the newest. Models of other
families that Google serves (Gemma, models tuned by users) are taken for ones without any of this.
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal

_GENERATION: Final = re.compile(r"gemini-(\d{1,2})(?:\.(\d{1,2}))?(?!\d)")
#: The collections in which models are; a name without one is of the first.
_COLLECTIONS: Final = ("models/", "tunedModels/")


@dataclass(frozen=True, slots=True)
class ModelTraits:
    """In what models differ that a request has to mind."""

    #: Whether it thinks at all.
    thinking: bool = True

    #: The level of the least thinking, None where only a budget of tokens is taken.
    lowest_thinking_level: Literal["MINIMAL", "LOW"] | None = "MINIMAL"

    #: The largest budget for thinking, in tokens.
    largest_thinking_budget: int = 24_576

    #: Whether it refuses function calls of earlier turns that bear no signature.
    signed_calls: bool = True

    #: Whether functions may return pictures and documents.
    media_in_results: bool = True

    #: Whether it can be told how closely to look at a single picture.
    media_resolution: bool = True


@lru_cache(maxsize=1024)
def traits_of(model: str) -> ModelTraits:
    """The traits of a model by its provider's name for it."""
    name = resource_name(model).partition("/")[2]
    match = _GENERATION.match(name)
    if match is not None:
        generation = int(match[1]), int(match[2] or 0)
    else:
        generation = (99, 0) if name.startswith("gemini-") else (0, 0)
    is_large = "-pro" in name
    is_third = generation >= (3, 0)
    lowest: Literal["MINIMAL", "LOW"] = "LOW" if is_large else "MINIMAL"
    return ModelTraits(
        thinking=generation >= (2, 5),
        lowest_thinking_level=lowest if is_third else None,
        largest_thinking_budget=32_768 if is_large else 24_576,
        signed_calls=is_third,
        media_in_results=is_third,
        media_resolution=is_third,
    )


def resource_name(model: str) -> str:
    """A model as the provider's resources are named: ``models/gemini-2.5-flash``."""
    return model if model.startswith(_COLLECTIONS) else f"models/{model}"
