"""Token counts for answers whose provider reported none.

Four characters a token is the rule of thumb that OpenAI gives for English text
(https://help.openai.com/en/articles/4936856); rows made from it say that they are estimated.
"""

from collections.abc import Iterable
from typing import Final

from aigateway.v1.chat_service_pb2 import (
    ChatCompletion,
    ChatEvent,
    CreateChatCompletionRequest,
    Tool,
)
from aigateway.v1.content_pb2 import ContentPart, Message
from aigateway.v1.embeddings_service_pb2 import CreateEmbeddingsRequest, EmbeddingInput
from aigateway.v1.usage_pb2 import TokenUsage, UsageState

_CHARACTERS_A_TOKEN: Final = 4

#: What one picture, sound or document counts as: about a small picture at OpenAI's low detail.
_TOKENS_A_MEDIA_PART: Final = 85


def estimate_chat_usage(
    request: CreateChatCompletionRequest, output_characters: int, state: UsageState.ValueType
) -> TokenUsage:
    """The usage of an answer of which ``output_characters`` were read."""
    input_tokens = estimate_input_tokens(request.messages, request.tools)
    return make_usage(input_tokens, _tokens(output_characters), state)


def estimate_input_tokens(messages: Iterable[Message], tools: Iterable[Tool]) -> int:
    """The tokens of a conversation and of the tools that come with it."""
    parts = [part for message in messages for part in message.parts]
    characters = sum(_text_length(part) for part in parts)
    characters += sum(
        len(tool.function.description) + len(tool.function.parameters_json_schema) for tool in tools
    )
    return _tokens(characters) + sum(_is_media(part) for part in parts) * _TOKENS_A_MEDIA_PART


def estimate_embeddings_usage(request: CreateEmbeddingsRequest, state: UsageState.ValueType) -> TokenUsage:
    """The usage of embeddings whose provider reported none."""
    return make_usage(sum(_embedding_tokens(each) for each in request.inputs), 0, state)


def make_usage(input_tokens: int, output_tokens: int, state: UsageState.ValueType) -> TokenUsage:
    """A usage without classes."""
    return TokenUsage(
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        total_tokens=input_tokens + output_tokens,
        state=state,
    )


def answer_characters(answer: ChatCompletion) -> int:
    """The length of what a model wrote."""
    return sum(_text_length(part) for choice in answer.choices for part in choice.message.parts)


def event_characters(events: Iterable[ChatEvent]) -> int:
    """The length of what a model wrote in some events of a stream."""
    characters = 0
    for event in events:
        match event.WhichOneof("event"):
            case "part_delta":
                delta = event.part_delta
                characters += (
                    len(delta.text) + len(delta.reasoning_text) + len(delta.arguments) + len(delta.transcript)
                )
            case "part_start":
                characters += _text_length(event.part_start.part)
            case _:
                pass
    return characters


def _text_length(part: ContentPart) -> int:
    """Characters in a part, whatever its kind: fields of other kinds are empty."""
    return (
        len(part.text.text)
        + len(part.tool_call.tool_name)
        + len(part.tool_call.arguments)
        + sum(_text_length(each) for each in part.tool_result.parts)
        + len(part.reasoning.text)
        + len(part.refusal.text)
        + len(part.provider.block_json)
        + len(part.document.source.inline_text)
        + len(part.audio.transcript)
    )


def _is_media(part: ContentPart) -> bool:
    return part.WhichOneof("kind") in ("image", "audio", "video", "document")


def _embedding_tokens(each: EmbeddingInput) -> int:
    match each.WhichOneof("kind"):
        case "token_ids":
            return len(each.token_ids.values)
        case "content":
            return _tokens(sum(_text_length(part) for part in each.content.parts))
        case _:
            return _tokens(len(each.text))


def _tokens(characters: int) -> int:
    return -(-characters // _CHARACTERS_A_TOKEN)
