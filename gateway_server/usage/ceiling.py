"""The most tokens that one attempt can use, and the most that those can cost: what a budget has to hold.

A token of every tokenizer in use stands for at least one byte of text, so a text has at most as many tokens
as UTF-8 bytes. What is not text is counted at an upper bound for its kind; and nothing is ever more than the
model's context window, where that is known.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

from aigateway.v1.chat_service_pb2 import CreateChatCompletionRequest, Tool
from aigateway.v1.content_pb2 import ContentPart, Message
from aigateway.v1.embeddings_service_pb2 import CreateEmbeddingsRequest, EmbeddingInput
from aigateway.v1.model_pb2 import LongContextPrice, Model, Price

#: What a provider's template adds to a request, to each message and to each part.
_REQUEST_TOKENS: Final = 64
_MESSAGE_TOKENS: Final = 16
_PART_TOKENS: Final = 16
#: What using tools adds at all: Anthropic tells 159 to 804 for its system prompt
#: (https://docs.anthropic.com/en/docs/build-with-claude/tool-use), the others less.
_TOOLS_TOKENS: Final = 1_024
#: A picture: gpt-4o-mini counts up to 2,833 + 8 * 5,667 at high detail
#: (https://platform.openai.com/docs/guides/images-vision), the others far less.
_IMAGE_TOKENS: Final = 48_169
#: Sound, film and documents: nothing in their bytes bounds what a provider makes of them, so a whole window.
_MEDIA_TOKENS: Final = 1_000_000
#: The output limit that is sent where neither the request nor the model tells one.
_UNTOLD_OUTPUT_TOKENS: Final = 16_384

_MILLION: Final = 1_000_000
#: No cost is more than an int64 holds: see ``usage/cost.py``.
_MAX_NANOS: Final = 2**63 - 1


@dataclass(frozen=True, slots=True)
class TokenCeiling:
    """The most that an attempt can read and write, in tokens.

    ``output_tokens`` is for each of ``choices`` answers; it must be told to the provider unless
    ``is_known_upstream``.
    """

    input_tokens: int
    output_tokens: int = 0
    choices: int = 1
    is_known_upstream: bool = True


NOTHING: Final = TokenCeiling(0)


def chat_ceiling(request: CreateChatCompletionRequest, model: Model) -> TokenCeiling:
    """The ceiling of one attempt at a conversation."""
    config = request.generation_config
    told = [limit for limit in (config.max_output_tokens, model.max_output_tokens) if limit]
    output = min(told, default=0)
    return TokenCeiling(
        input_tokens=_within(model, _conversation_bound(request)),
        output_tokens=output or _within(model, _UNTOLD_OUTPUT_TOKENS),
        choices=max(config.choice_count, 1),
        is_known_upstream=bool(output),
    )


def embeddings_ceiling(request: CreateEmbeddingsRequest, model: Model) -> TokenCeiling:
    """The ceiling of one attempt at embeddings."""
    bounds = [_PART_TOKENS + _within(model, _embedding_bound(each)) for each in request.inputs]
    return TokenCeiling(input_tokens=_REQUEST_TOKENS + sum(bounds))


def most_nanos(ceiling: TokenCeiling, price: Price) -> int:
    """The most that an attempt can cost, in billionths of a US dollar, whichever rates turn out to apply."""
    tiers: list[Price | LongContextPrice] = [
        price,
        *(tier for tier in price.long_context_prices if ceiling.input_tokens > tier.above_input_tokens),
    ]
    output_tokens = ceiling.output_tokens * ceiling.choices
    most = max(
        _nanos(ceiling.input_tokens * _highest_input_rate(tier))
        + _nanos(output_tokens * tier.output_nanos_per_million)
        for tier in tiers
    )
    return min(most, _MAX_NANOS)


def limit_output(ceiling: TokenCeiling, price: Price, nanos: int) -> TokenCeiling | None:
    """The ceiling with as much output as ``nanos`` pay for; None when that is none at all."""
    if most_nanos(ceiling, price) <= nanos:
        return ceiling
    low, high = 0, ceiling.output_tokens  # low is paid for, or nothing is; high is not
    while high - low > 1:
        middle = (low + high) // 2
        if most_nanos(replace(ceiling, output_tokens=middle), price) <= nanos:
            low = middle
        else:
            high = middle
    return replace(ceiling, output_tokens=low, is_known_upstream=False) if low else None


def least_nanos(ceiling: TokenCeiling, price: Price) -> int:
    """What the smallest answer within ``ceiling`` has to be held to."""
    return most_nanos(replace(ceiling, output_tokens=min(ceiling.output_tokens, 1)), price)


def _highest_input_rate(rates: Price | LongContextPrice) -> int:
    """Unset rates count as those that stand for them, which are among the others."""
    return max(
        rates.input_nanos_per_million,
        rates.cache_read_nanos_per_million,
        rates.cache_write_nanos_per_million,
        rates.cache_write_long_nanos_per_million,
    )


def _nanos(tokens_times_rate: int) -> int:
    """Rounded up, and a few more: each class of tokens is rounded by itself, see ``usage/cost.py``."""
    return -(-tokens_times_rate // _MILLION) + 4 if tokens_times_rate else 0


def _within(model: Model, tokens: int) -> int:
    return min(tokens, model.context_window_tokens or tokens)


def _conversation_bound(request: CreateChatCompletionRequest) -> int:
    return (
        _REQUEST_TOKENS
        + sum(_message_bound(message) for message in request.messages)
        + _tools_bound(request.tools)
        + 2 * request.response_format.ByteSize()
    )


def _message_bound(message: Message) -> int:
    return _MESSAGE_TOKENS + sum(_part_bound(part) for part in message.parts)


def _tools_bound(tools: Iterable[Tool]) -> int:
    """Twice their bytes: templates write a schema in other words."""
    sizes = [_PART_TOKENS + 2 * tool.ByteSize() for tool in tools]
    return _TOOLS_TOKENS + sum(sizes) if sizes else 0


def _part_bound(part: ContentPart) -> int:
    match part.WhichOneof("kind"):
        case "image":
            return _PART_TOKENS + _IMAGE_TOKENS
        case "tool_result":
            return _PART_TOKENS + part.ByteSize() + sum(_part_bound(each) for each in part.tool_result.parts)
        case "document" if part.document.source.WhichOneof("location") == "inline_text":
            return _PART_TOKENS + part.ByteSize()
        case "audio" | "video" | "document":
            return _PART_TOKENS + _MEDIA_TOKENS
        case _:
            return _PART_TOKENS + part.ByteSize()


def _embedding_bound(each: EmbeddingInput) -> int:
    match each.WhichOneof("kind"):
        case "token_ids":
            return len(each.token_ids.values)
        case "content":
            return sum(_part_bound(part) for part in each.content.parts)
        case _:
            return len(each.text.encode())
