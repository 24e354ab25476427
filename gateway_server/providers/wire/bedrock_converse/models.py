"""What the models of one maker take and others refuse, read from their names.

A name that tells no maker, such as an application inference profile's, is taken for a model that only knows
what Converse itself describes.
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal

from gateway_server.providers.wire.anthropic_messages.models import ModelTraits as ClaudeTraits
from gateway_server.providers.wire.anthropic_messages.models import traits_of as claude_traits_of

#: How a model is told to think.
Thinking = Literal["claude", "nova", "reasoning_config", "reasoning_effort"]

#: ``us.anthropic.claude-...``: with the regions of an inference profile or without, or so at an ARN's end.
_NAME: Final = re.compile(
    r"(?:.*/)?(?:(?P<regions>us|us-gov|eu|apac|jp|au|ca|sa|me|af|il|mx|global)\.)?"
    r"(?P<maker>[a-z0-9]+)\.(?P<model>[^/]+)"
)
#: As its first generations are called here alone: ``claude-v2:1``, ``claude-instant-v1``.
_OLD_CLAUDE: Final = re.compile(r"claude-(?:instant-)?v(\d)")
_GPT_OSS: Final = "gpt-oss"


@dataclass(frozen=True, slots=True)
class ModelTraits:
    """In what models differ that a request has to mind."""

    #: Of Claude models, what their generation takes.
    claude: ClaudeTraits | None = None

    #: How it is told to think, if it can be told.
    thinking: Thinking | None = None

    #: Where ``top_k`` goes among the additional fields, if anywhere.
    top_k: tuple[str, ...] = ()

    #: Whether it may cache prefixes; where it does not, marks are left out.
    cache_points: bool = True

    #: Whether its tokens can be counted.
    counts: bool = False


@lru_cache(maxsize=1024)
def traits_of(model: str) -> ModelTraits:
    """The traits of a model by its id, or the id or ARN of an inference profile."""
    match = _NAME.fullmatch(model.lower())
    if match is None:
        return ModelTraits()
    name = match["model"]
    match match["maker"]:
        case "anthropic":
            claude = claude_traits_of(_OLD_CLAUDE.sub(r"claude-\1", name))
            return ModelTraits(claude, "claude", top_k=("top_k",), counts=True)
        case "amazon" if name.startswith("nova"):
            thinking: Thinking | None = "nova" if name.startswith("nova-2") else None
            return ModelTraits(thinking=thinking, top_k=("inferenceConfig", "topK"))
        case "qwen":
            return ModelTraits(thinking="reasoning_config", cache_points=False)
        case "openai" if name.startswith(_GPT_OSS):
            return ModelTraits(thinking="reasoning_effort", cache_points=False)
        case _:
            return ModelTraits(cache_points=False)


@lru_cache(maxsize=1024)
def base_model(model: str) -> str:
    """The id of the model itself where the id names an inference profile over several regions."""
    match = _NAME.fullmatch(model)
    if match is None or match["regions"] is None or "/" in model:
        return model
    return f"{match['maker']}.{match['model']}"
