"""Where conversations begin: answers as each provider writes them, read by its own parser.

Each answer is written by hand. What a provider seals bears a word of SECRETS, so that it can be looked for.
"""

from base64 import b64encode
from typing import Any, Final

import orjson

from aigateway.v1.content_pb2 import Message
from gateway_server.providers.registry import provider_types
from tests.support.wire import chat_format, make_target

#: The model asked at each provider. Each type in the registry belongs here.
MODELS: Final = {
    "anthropic": "claude-sonnet-4-5",
    "azure_openai": "gpt-4o",
    "bedrock": "us.anthropic.claude-sonnet-4-5-20250929-v1:0",
    "google": "gemini-3-flash",
    "openai": "gpt-4o",
    "openai_compatible": "some-model",
    "vllm": "some-model",
}
PROVIDERS: Final = tuple(name for name in MODELS if name in provider_types())
#: Speaks to nobody: it echoes, and reads what OpenAI's format says.
UNTESTED: Final = frozenset({"demo"})

#: What the parts of a sealed thought hold, by provider; to be sent to nobody else.
SECRETS: Final = {
    "anthropic": b64encode(b"sealed by anthropic").decode(),
    "bedrock": b64encode(b"sealed by bedrock").decode(),
    "google": b64encode(b"sealed by google").decode(),
}
#: One maker's model at two providers, which take each other's seals.
KIN: Final = frozenset({"anthropic", "bedrock"})

TEXT: Final = "Let me look."
THOUGHT: Final = "Two cities, two calls."
#: The calls of every answer: name and arguments, whose order of keys and big number must last.
CALLS: Final = (
    ("get_weather", '{"zone":"b","city":"Graz","id":12345678901234567890}'),
    ("get_time", '{"city":"Wien"}'),
)
_IDS: Final = {
    "anthropic": ("toolu_01A", "toolu_01B"),
    "azure_openai": ("call_A", "call_B"),
    "bedrock": ("tooluse_A", "tooluse_B"),
    "openai": ("call_A", "call_B"),
    "openai_compatible": ("call_A", "call_B"),
    "vllm": ("chatcmpl-tool-1", "chatcmpl-tool-2"),
}


def begin(provider_type: str, *kinds: str) -> Message:
    """The turn of the model with which a conversation goes on: the kinds of part named, in their order."""
    body = _WRITERS[_format_of(provider_type)](provider_type, kinds)
    target = make_target(provider_type, MODELS[provider_type])
    completion = chat_format(provider_type).parse_chat(orjson.dumps(body), target)
    assert len(completion.choices) == 1
    return completion.choices[0].message


def _format_of(provider_type: str) -> str:
    return provider_type if provider_type in _WRITERS else "openai"


def _calls() -> list[tuple[str, orjson.Fragment]]:
    return [(name, orjson.Fragment(arguments)) for name, arguments in CALLS]


def _write_openai(provider_type: str, kinds: tuple[str, ...]) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": None}
    for kind in kinds:
        match kind:
            case "text":
                message["content"] = TEXT
            case "thought":
                message["reasoning_content"] = THOUGHT
            case "calls":
                message["tool_calls"] = [
                    {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}
                    for call_id, (name, arguments) in zip(_IDS[provider_type], CALLS, strict=True)
                ]
            case "free_form":
                custom = {"name": "sql", "input": "select 1"}
                message["tool_calls"] = [{"id": "call_C", "type": "custom", "custom": custom}]
            case "sound":
                message["audio"] = {"id": "audio_1", "data": "AAAA", "transcript": "Hi", "expires_at": 1}
            case "refusal":
                message["refusal"] = "No."
            case _:
                raise ValueError(kind)
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return {"id": "c1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}


def _write_anthropic(provider_type: str, kinds: tuple[str, ...]) -> dict[str, Any]:
    seal = SECRETS["anthropic"]
    content: list[dict[str, Any]] = []
    for kind in kinds:
        match kind:
            case "text":
                content.append({"type": "text", "text": TEXT})
            case "thought":
                content.append({"type": "thinking", "thinking": THOUGHT, "signature": seal})
            case "hidden":
                content.append({"type": "thinking", "thinking": "", "signature": seal})
            case "sealed":
                content.append({"type": "redacted_thinking", "data": seal})
            case "calls":
                content += [
                    {"type": "tool_use", "id": call_id, "name": name, "input": arguments}
                    for call_id, (name, arguments) in zip(_IDS[provider_type], _calls(), strict=True)
                ]
            case "block":
                content.append({"type": "server_tool_use", "id": "s1", "name": "web_search", "input": {}})
            case _:
                raise ValueError(kind)
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude",
        "content": content,
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": 1, "output_tokens": 1},
    }


def _write_bedrock(provider_type: str, kinds: tuple[str, ...]) -> dict[str, Any]:
    seal = SECRETS["bedrock"]
    content: list[dict[str, Any]] = []
    for kind in kinds:
        match kind:
            case "text":
                content.append({"text": TEXT})
            case "thought" | "hidden":
                text = {"text": THOUGHT if kind == "thought" else "", "signature": seal}
                content.append({"reasoningContent": {"reasoningText": text}})
            case "sealed":
                content.append({"reasoningContent": {"redactedContent": seal}})
            case "calls":
                content += [
                    {"toolUse": {"toolUseId": call_id, "name": name, "input": arguments}}
                    for call_id, (name, arguments) in zip(_IDS[provider_type], _calls(), strict=True)
                ]
            case "block":
                content.append({"somethingNew": {"a": 1}})
            case _:
                raise ValueError(kind)
    usage = {"inputTokens": 1, "outputTokens": 1, "totalTokens": 2}
    message = {"role": "assistant", "content": content}
    return {"output": {"message": message}, "stopReason": "end_turn", "usage": usage}


def _write_google(provider_type: str, kinds: tuple[str, ...]) -> dict[str, Any]:
    """Its calls have no ids; the first of them is signed."""
    seal = SECRETS["google"]
    parts: list[dict[str, Any]] = []
    for kind in kinds:
        match kind:
            case "text":
                parts.append({"text": TEXT})
            case "thought":
                parts.append({"text": THOUGHT, "thought": True, "thoughtSignature": seal})
            case "hidden":
                parts.append({"text": "", "thought": True, "thoughtSignature": seal})
            case "calls":
                parts += [{"functionCall": {"name": name, "args": args}} for name, args in _calls()]
                parts[-len(CALLS)]["thoughtSignature"] = seal
            case "block":
                parts.append({"executableCode": {"language": "PYTHON", "code": "1"}})
            case "sound":
                sound = {"mimeType": "audio/wav", "data": "AAAA"}
                parts.append({"inlineData": sound, "thoughtSignature": seal})
            case _:
                raise ValueError(kind)
    candidate = {"index": 0, "content": {"role": "model", "parts": parts}, "finishReason": "STOP"}
    return {"responseId": "r1", "modelVersion": "gemini", "candidates": [candidate]}


_WRITERS: Final = {
    "anthropic": _write_anthropic,
    "bedrock": _write_bedrock,
    "google": _write_google,
    "openai": _write_openai,
}


def untested_types() -> set[str]:
    """Types of the registry that have no line here, and should."""
    return set(provider_types()) - set(MODELS) - UNTESTED
