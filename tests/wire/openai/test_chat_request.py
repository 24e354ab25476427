"""A chat request becomes the body that is sent; what cannot be said is refused before anything is."""

from base64 import b64encode
from hashlib import sha256
from typing import Any

import orjson
import pytest
from google.protobuf.json_format import ParseDict

from aigateway.v1.chat_service_pb2 import CreateChatCompletionRequest
from aigateway.v1.error_reason_pb2 import ErrorReason
from gateway_server.errors import GatewayError
from tests.support.wire import chat_format, make_target

HELLO = {"role": "ROLE_USER", "parts": [{"text": {"text": "Hello"}}]}
PNG = b"\x89PNG\r\n\x1a\n"
WEATHER = {"function": {"functionName": "get_weather", "parametersJsonSchema": '{"type": "object"}'}}
TIME = {"function": {"functionName": "get_time"}}
SHELL = {"freeForm": {"toolName": "shell"}}


def encode(data: bytes) -> str:
    return b64encode(data).decode()


def render(
    fields: dict[str, Any], provider_type: str = "openai", *, stream: bool = False, **config: Any
) -> dict[str, Any]:
    return orjson.loads(render_bytes(fields, provider_type, stream=stream, **config))


def render_bytes(
    fields: dict[str, Any], provider_type: str = "openai", *, stream: bool = False, **config: Any
) -> bytes:
    request = ParseDict({"model": "any", "messages": [HELLO], **fields}, CreateChatCompletionRequest())
    return chat_format(provider_type, **config).render_chat(
        request, make_target(provider_type), stream=stream
    )


def render_turn(
    role: str, parts: list[dict[str, Any]], provider_type: str = "openai", **config: Any
) -> list[Any]:
    messages = render({"messages": [{"role": role, "parts": parts}]}, provider_type, **config)["messages"]
    assert isinstance(messages, list)
    return messages


def test_the_least_request_holds_nothing_that_was_not_asked_for() -> None:
    assert render_bytes({}) == b'{"model":"gpt-test","messages":[{"role":"user","content":"Hello"}]}'


def test_a_stream_asks_for_its_usage() -> None:
    body = render({}, stream=True)

    assert body["stream"] is True
    assert body["stream_options"] == {"include_usage": True}


@pytest.mark.parametrize(
    ("role", "provider_type", "rendered"),
    [
        ("ROLE_SYSTEM", "openai", "system"),
        ("ROLE_DEVELOPER", "openai", "developer"),
        ("ROLE_DEVELOPER", "vllm", "system"),
        ("ROLE_USER", "openai", "user"),
        ("ROLE_ASSISTANT", "openai", "assistant"),
    ],
)
def test_roles(role: str, provider_type: str, rendered: str) -> None:
    assert render_turn(role, [{"text": {"text": "x"}}], provider_type) == [{"role": rendered, "content": "x"}]


def test_the_author_of_a_turn_is_its_name() -> None:
    body = render({"messages": [{**HELLO, "author": "ada"}]})

    assert body["messages"] == [{"role": "user", "content": "Hello", "name": "ada"}]


@pytest.mark.parametrize(
    ("part", "block"),
    [
        ({"text": {"text": "x"}}, {"type": "text", "text": "x"}),
        (
            {"image": {"source": {"uri": "https://example.com/a.png"}, "detail": "IMAGE_DETAIL_HIGH"}},
            {"type": "image_url", "image_url": {"url": "https://example.com/a.png", "detail": "high"}},
        ),
        (
            {"image": {"source": {"inlineData": encode(PNG), "mimeType": "image/png"}}},
            {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{encode(PNG)}"}},
        ),
        (
            {"audio": {"source": {"inlineData": encode(b"RIFF"), "mimeType": "audio/x-wav"}}},
            {"type": "input_audio", "input_audio": {"data": encode(b"RIFF"), "format": "wav"}},
        ),
        (
            {"audio": {"source": {"inlineData": encode(b"ID3"), "mimeType": "audio/mpeg"}}},
            {"type": "input_audio", "input_audio": {"data": encode(b"ID3"), "format": "mp3"}},
        ),
        (
            {"document": {"source": {"inlineData": encode(b"%PDF"), "mimeType": "application/pdf"}}},
            {
                "type": "file",
                "file": {
                    "filename": "document.pdf",
                    "file_data": f"data:application/pdf;base64,{encode(b'%PDF')}",
                },
            },
        ),
        (
            {
                "document": {
                    "source": {"inlineData": encode(b"%PDF"), "mimeType": "application/pdf"},
                    "title": "Report",
                }
            },
            {
                "type": "file",
                "file": {"filename": "Report", "file_data": f"data:application/pdf;base64,{encode(b'%PDF')}"},
            },
        ),
        (
            {"document": {"source": {"providerFileId": "file-1"}}},
            {"type": "file", "file": {"file_id": "file-1"}},
        ),
        (
            {"document": {"source": {"inlineText": "né", "filename": "a.txt"}}},
            {
                "type": "file",
                "file": {
                    "filename": "a.txt",
                    "file_data": f"data:text/plain;base64,{encode('né'.encode())}",
                },
            },
        ),
        (
            {
                "provider": {
                    "providerType": "openai",
                    "blockType": "new",
                    "blockJson": '{"type": "new", "b": 1}',
                }
            },
            {"type": "new", "b": 1},
        ),
    ],
)
def test_parts_of_a_user_turn(part: dict[str, Any], block: dict[str, Any]) -> None:
    first: dict[str, Any] = {"text": {"text": "Look:"}}

    content = render_turn("ROLE_USER", [first, part])[0]["content"]

    assert content == [{"type": "text", "text": "Look:"}, block]


@pytest.mark.parametrize(
    ("part", "block"),
    [
        (
            {"video": {"source": {"uri": "https://example.com/a.mp4"}}},
            {"type": "video_url", "video_url": {"url": "https://example.com/a.mp4"}},
        ),
        (
            {"audio": {"source": {"uri": "https://example.com/a.ogg"}}},
            {"type": "audio_url", "audio_url": {"url": "https://example.com/a.ogg"}},
        ),
        (
            {"audio": {"source": {"inlineData": encode(b"OggS"), "mimeType": "audio/ogg"}}},
            {"type": "audio_url", "audio_url": {"url": f"data:audio/ogg;base64,{encode(b'OggS')}"}},
        ),
        (
            {"audio": {"source": {"inlineData": encode(b"RIFF"), "mimeType": "audio/wav"}}},
            {"type": "input_audio", "input_audio": {"data": encode(b"RIFF"), "format": "wav"}},
        ),
    ],
)
def test_media_that_vllm_takes_beyond_openai(part: dict[str, Any], block: dict[str, Any]) -> None:
    assert render_turn("ROLE_USER", [part], "vllm")[0]["content"] == [block]


def test_an_assistant_turn_has_one_content_and_one_list_of_calls() -> None:
    parts: list[dict[str, Any]] = [
        {"text": {"text": "Let me see."}},
        {"toolCall": {"toolCallId": "c1", "toolName": "get_weather", "arguments": '{"b": 1, "a": 2}'}},
        {"toolCall": {"toolCallId": "c2", "toolName": "get_time"}},
        {"toolCall": {"toolCallId": "c3", "toolName": "shell", "arguments": "ls {", "freeForm": True}},
    ]

    assert render_turn("ROLE_ASSISTANT", parts) == [
        {
            "role": "assistant",
            "content": "Let me see.",
            "tool_calls": [
                {
                    "id": "c1",
                    "type": "function",
                    "function": {"name": "get_weather", "arguments": '{"b": 1, "a": 2}'},
                },
                {"id": "c2", "type": "function", "function": {"name": "get_time", "arguments": "{}"}},
                {"id": "c3", "type": "custom", "custom": {"name": "shell", "input": "ls {"}},
            ],
        }
    ]


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ([], {"content": ""}),
        ([{"refusal": {"text": "No."}}], {"refusal": "No."}),
        ([{"text": {"text": "a"}}, {"refusal": {"text": "No."}}], {"content": "a", "refusal": "No."}),
        (
            [{"text": {"text": "a"}}, {"text": {"text": "b"}}],
            {"content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        ),
        (
            [{"audio": {"source": {"inlineData": ""}}, "providerSignature": encode(b"audio_1")}],
            {"audio": {"id": "audio_1"}},
        ),
        (
            [
                {
                    "provider": {
                        "providerType": "openai",
                        "blockType": "tool_calls/mcp",
                        "blockJson": '{"type":"mcp","id":"m"}',
                    }
                }
            ],
            {"tool_calls": [{"type": "mcp", "id": "m"}]},
        ),
    ],
)
def test_what_else_an_assistant_turn_holds(parts: list[dict[str, Any]], message: dict[str, Any]) -> None:
    assert render_turn("ROLE_ASSISTANT", parts) == [{"role": "assistant", **message}]


@pytest.mark.parametrize(
    ("provider_type", "config", "key"),
    [
        ("vllm", {}, "reasoning"),
        ("vllm", {"reasoning_key": "reasoning_content"}, "reasoning_content"),
        ("openai_compatible", {"reasoning_key": "reasoning"}, "reasoning"),
        ("openai_compatible", {"reasoning_key": "reasoning_content"}, "reasoning_content"),
    ],
)
def test_reasoning_goes_back_to_servers_that_take_it(
    provider_type: str, config: dict[str, str], key: str
) -> None:
    parts = [{"reasoning": {"text": "Hm."}}, {"text": {"text": "Yes."}}]

    turns = render_turn("ROLE_ASSISTANT", parts, provider_type, **config)

    assert turns == [{"role": "assistant", "content": "Yes.", key: "Hm."}]


def test_each_tool_result_is_a_message_of_its_own() -> None:
    image = {"image": {"source": {"uri": "https://example.com/a.png"}}}
    parts: list[dict[str, Any]] = [
        {"toolResult": {"toolCallId": "c1", "parts": [{"text": {"text": "sunny"}}]}},
        {"toolResult": {"toolCallId": "c2", "parts": [{"text": {"text": "see"}}, image], "isError": True}},
        {"toolResult": {"toolCallId": "c3"}},
    ]

    assert render_turn("ROLE_TOOL", parts) == [
        {"role": "tool", "tool_call_id": "c1", "content": "sunny"},
        {
            "role": "tool",
            "tool_call_id": "c2",
            "content": [
                {"type": "text", "text": "see"},
                {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
            ],
        },
        {"role": "tool", "tool_call_id": "c3", "content": ""},
    ]


def test_knobs() -> None:
    config = {
        "maxOutputTokens": 100,
        "temperature": 0.0,
        "topP": 0.5,
        "topK": 5,
        "stopSequences": ["a", "b"],
        "seed": "9007199254740993",
        "frequencyPenalty": -1,
        "presencePenalty": 0.25,
        "choiceCount": 2,
        "topLogprobs": 3,
        "logitBias": {"50256": -100.0, "1": 0.5},
    }
    common = {
        "temperature": 0,
        "top_p": 0.5,
        "stop": ["a", "b"],
        "seed": 9007199254740993,
        "frequency_penalty": -1,
        "presence_penalty": 0.25,
        "n": 2,
        "logprobs": True,
        "top_logprobs": 3,
        "logit_bias": {"50256": -100, "1": 0.5},
    }
    head = {"model": "gpt-test", "messages": [{"role": "user", "content": "Hello"}]}

    openai = render({"generationConfig": config})
    vllm = render({"generationConfig": config}, "vllm")

    assert openai == {**head, **common, "max_completion_tokens": 100}
    assert vllm == {**head, **common, "max_tokens": 100, "top_k": 5}


@pytest.mark.parametrize(
    ("provider_type", "config", "key"),
    [
        ("openai", {}, "max_completion_tokens"),
        ("openai", {"output_limit_key": "max_tokens"}, "max_tokens"),
        ("vllm", {}, "max_tokens"),
        ("vllm", {"output_limit_key": "max_completion_tokens"}, "max_completion_tokens"),
    ],
)
def test_where_the_output_limit_goes_is_a_setting(
    provider_type: str, config: dict[str, Any], key: str
) -> None:
    assert render({"generationConfig": {"maxOutputTokens": 7}}, provider_type, **config)[key] == 7


def test_spoken_answers() -> None:
    config = {
        "responseModalities": ["MODALITY_TEXT", "MODALITY_AUDIO"],
        "audioOutput": {"voice": "alloy", "mimeType": "audio/pcm;rate=24000"},
    }

    body = render({"generationConfig": config})

    assert body["modalities"] == ["text", "audio"]
    assert body["audio"] == {"voice": "alloy", "format": "pcm16"}


def test_text_alone_is_not_asked_for_where_there_is_nothing_else() -> None:
    assert "modalities" not in render({"generationConfig": {"responseModalities": ["MODALITY_TEXT"]}}, "vllm")


def test_a_tool_schema_is_sent_as_it_was_written() -> None:
    schema = '{"type":"object", "properties": {"z":{"const":12345678901234567890123}, "a":{}}}'
    tool = {
        "functionName": "f",
        "description": "does it",
        "parametersJsonSchema": schema,
        "strict": False,
    }

    body = render_bytes({"tools": [{"function": tool}]})

    assert (
        b'"tools":[{"type":"function","function":{"name":"f","description":"does it","parameters":'
        + schema.encode()
        + b',"strict":false}}]'
    ) in body


def test_free_form_tools() -> None:
    grammar = {"syntax": "lark", "definition": "start: WORD"}
    tools = [SHELL, {"freeForm": {"toolName": "sql", "description": "runs it", "grammar": grammar}}]

    assert render({"tools": tools})["tools"] == [
        {"type": "custom", "custom": {"name": "shell"}},
        {
            "type": "custom",
            "custom": {
                "name": "sql",
                "description": "runs it",
                "format": {"type": "grammar", "grammar": grammar},
            },
        },
    ]


def test_web_search_has_a_key_of_its_own() -> None:
    tool = {"provider": {"toolType": "web_search", "config": {"search_context_size": "low"}}}

    body = render({"tools": [tool]})

    assert body["web_search_options"] == {"search_context_size": "low"}
    assert "tools" not in body


@pytest.mark.parametrize(
    ("choice", "rendered"),
    [
        ({}, {}),
        ({"mode": "TOOL_CHOICE_MODE_AUTO"}, {"tool_choice": "auto"}),
        ({"mode": "TOOL_CHOICE_MODE_NONE"}, {"tool_choice": "none"}),
        ({"mode": "TOOL_CHOICE_MODE_REQUIRED"}, {"tool_choice": "required"}),
        ({"parallelToolCalls": False}, {"parallel_tool_calls": False}),
        (
            {"mode": "TOOL_CHOICE_MODE_REQUIRED", "allowedToolNames": ["get_time"]},
            {"tool_choice": {"type": "function", "function": {"name": "get_time"}}},
        ),
        (
            {"mode": "TOOL_CHOICE_MODE_REQUIRED", "allowedToolNames": ["shell"]},
            {"tool_choice": {"type": "custom", "custom": {"name": "shell"}}},
        ),
        (
            {"mode": "TOOL_CHOICE_MODE_REQUIRED", "allowedToolNames": ["get_weather", "shell"]},
            {
                "tool_choice": {
                    "type": "allowed_tools",
                    "allowed_tools": {
                        "mode": "required",
                        "tools": [
                            {"type": "function", "function": {"name": "get_weather"}},
                            {"type": "custom", "custom": {"name": "shell"}},
                        ],
                    },
                }
            },
        ),
    ],
)
def test_the_choice_among_tools(choice: dict[str, Any], rendered: dict[str, Any]) -> None:
    body = render({"tools": [WEATHER, TIME, SHELL], "toolChoice": choice})

    assert {
        key: value for key, value in body.items() if key in {"tool_choice", "parallel_tool_calls"}
    } == rendered


@pytest.mark.parametrize(
    ("wanted", "rendered"),
    [
        ({"text": {}}, {"type": "text"}),
        ({"jsonObject": {}}, {"type": "json_object"}),
        (
            {"jsonSchema": {"jsonSchema": '{"type": "object"}'}},
            {"type": "json_schema", "json_schema": {"name": "response", "schema": {"type": "object"}}},
        ),
        (
            {
                "jsonSchema": {
                    "schemaName": "city",
                    "description": "A city",
                    "jsonSchema": '{"type": "object"}',
                    "strict": True,
                }
            },
            {
                "type": "json_schema",
                "json_schema": {
                    "name": "city",
                    "description": "A city",
                    "schema": {"type": "object"},
                    "strict": True,
                },
            },
        ),
    ],
)
def test_the_form_of_the_answer(wanted: dict[str, Any], rendered: dict[str, Any]) -> None:
    assert render({"responseFormat": wanted})["response_format"] == rendered


@pytest.mark.parametrize(
    ("reasoning", "effort"),
    [
        ({}, None),
        ({"includeReasoning": True}, None),
        ({"effort": "REASONING_EFFORT_UNSPECIFIED"}, None),
        ({"effort": "REASONING_EFFORT_NONE"}, "none"),
        ({"effort": "REASONING_EFFORT_MINIMAL"}, "minimal"),
        ({"effort": "REASONING_EFFORT_LOW"}, "low"),
        ({"effort": "REASONING_EFFORT_MEDIUM"}, "medium"),
        ({"effort": "REASONING_EFFORT_HIGH"}, "high"),
        ({"effort": "REASONING_EFFORT_MAX"}, "max"),
        ({"budgetTokens": 0}, "none"),
    ],
)
def test_reasoning_effort(reasoning: dict[str, Any], effort: str | None) -> None:
    assert render({"reasoning": reasoning}).get("reasoning_effort") == effort


@pytest.mark.parametrize(
    ("end_user_id", "provider_type", "rendered"),
    [
        ("u" * 64, "openai", {"safety_identifier": "u" * 64}),
        ("u" * 65, "openai", {"safety_identifier": sha256(b"u" * 65).hexdigest()}),
        ("u" * 65, "vllm", {"user": "u" * 65}),
    ],
)
def test_the_end_user(end_user_id: str, provider_type: str, rendered: dict[str, str]) -> None:
    body = render({"endUserId": end_user_id}, provider_type)

    assert {key: value for key, value in body.items() if key in {"user", "safety_identifier"}} == rendered


def test_storage_options_go_to_openai_only() -> None:
    fields = {"storageOptions": {"store": False, "promptCacheKey": "k"}}

    assert render(fields) | {"store": False, "prompt_cache_key": "k"} == render(fields)
    assert render(fields, "vllm") == render({}, "vllm")


def test_cache_marks_are_left_out_since_openai_caches_by_itself() -> None:
    marked = {"text": {"text": "Hello"}, "cacheControl": {"ttl": "300s"}}

    assert render({"messages": [{"role": "ROLE_USER", "parts": [marked]}]}) == render({})


def test_provider_options_are_merged_last_and_deeply() -> None:
    options = {
        "openai": {"verbosity": "low", "stream_options": {"include_obfuscation": False}, "temperature": 1},
        "vllm": {"ignored": True},
    }

    body = render({"providerOptions": options, "generationConfig": {"temperature": 0.5}}, stream=True)

    assert body["verbosity"] == "low"
    assert body["temperature"] == 1
    assert body["stream_options"] == {"include_usage": True, "include_obfuscation": False}
    assert "ignored" not in body


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"model": "gpt-5"}, "model"),
        ({"messages": []}, "messages"),
        ({"stream": True}, "stream"),
        ({"n": 100}, "n"),
        ({"max_tokens": 1}, "max_tokens"),
        ({"max_completion_tokens": 1}, "max_completion_tokens"),
        ({"stream_options": {"include_usage": False}}, "stream_options.include_usage"),
        ({"stream_options": None}, "stream_options.include_usage"),
    ],
)
def test_provider_options_cannot_touch_what_limits_and_guardrails_rest_on(
    options: dict[str, Any], field: str
) -> None:
    error = refusal({"providerOptions": {"openai": options}})

    assert error.reason == ErrorReason.ERROR_REASON_INVALID_REQUEST
    assert error.violations[0].field == f'provider_options["openai"].{field}'


def user(part: dict[str, Any]) -> dict[str, Any]:
    return {"messages": [{"role": "ROLE_USER", "parts": [part]}]}


def turn(role: str, *parts: dict[str, Any]) -> dict[str, Any]:
    return {"messages": [{"role": role, "parts": list(parts)}]}


INLINE = {"inlineData": encode(b"x"), "mimeType": "image/png"}
CALL = {"toolCallId": "c", "toolName": "f", "arguments": "{}"}


def refusal(fields: dict[str, Any], provider_type: str = "openai") -> GatewayError:
    with pytest.raises(GatewayError) as caught:
        render(fields, provider_type)
    return caught.value


@pytest.mark.parametrize(
    ("provider_type", "fields", "feature"),
    [
        ("openai", user({"video": {"source": INLINE}}), "video parts"),
        (
            "openai",
            user({"audio": {"source": {"uri": "https://a/b"}}}),
            "audio other than inline WAV and MP3",
        ),
        (
            "openai",
            user({"audio": {"source": {"inlineData": "", "mimeType": "audio/ogg"}}}),
            "audio other than inline WAV and MP3",
        ),
        ("openai", user({"image": {"source": {"providerFileId": "f"}}}), "image parts by file id"),
        (
            "openai",
            user({"image": {"source": {"uri": "file:///etc/passwd"}}}),
            "image addresses other than http, https and data",
        ),
        ("openai", user({"document": {"source": {"uri": "https://a/b.pdf"}}}), "document parts by address"),
        (
            "openai",
            user({"document": {"source": INLINE, "context": "c"}}),
            "the context of document parts",
        ),
        (
            "openai",
            user({"document": {"source": INLINE, "citationsEnabled": True}}),
            "citations from document parts",
        ),
        ("vllm", user({"document": {"source": INLINE}}), "document parts"),
        (
            "vllm",
            user({"video": {"source": {"uri": "https://a/b"}, "frameRate": 1}}),
            "offsets and frame rates of video parts",
        ),
        (
            "openai",
            user({"provider": {"providerType": "anthropic", "blockType": "x", "blockJson": "{}"}}),
            "x blocks of anthropic",
        ),
        (
            "openai",
            turn("ROLE_SYSTEM", {"image": {"source": INLINE}}),
            "image parts in system and developer turns",
        ),
        ("openai", turn("ROLE_ASSISTANT", {"image": {"source": INLINE}}), "image parts in assistant turns"),
        ("openai", turn("ROLE_ASSISTANT", {"reasoning": {"text": "t"}}), "reasoning in earlier turns"),
        (
            "vllm",
            turn("ROLE_ASSISTANT", {"reasoning": {"redactedData": encode(b"x")}}),
            "sealed reasoning of another provider",
        ),
        (
            "openai",
            turn("ROLE_ASSISTANT", {"audio": {"source": INLINE}}),
            "audio in assistant turns that it did not answer itself",
        ),
        (
            "openai",
            turn("ROLE_ASSISTANT", {"toolCall": {**CALL, "providerExecuted": True}}),
            "tool calls that another provider ran itself",
        ),
        ("vllm", turn("ROLE_ASSISTANT", {"toolCall": {**CALL, "freeForm": True}}), "free-form tools"),
        (
            "openai",
            turn("ROLE_TOOL", {"toolResult": {"toolCallId": "c", "providerExecuted": True}}),
            "results of tools that another provider ran itself",
        ),
        (
            "openai",
            turn(
                "ROLE_TOOL", {"toolResult": {"toolCallId": "c", "parts": [{"document": {"source": INLINE}}]}}
            ),
            "document parts in tool results",
        ),
        ("vllm", {"tools": [SHELL]}, "free-form tools"),
        ("openai", {"tools": [{"provider": {"toolType": "code"}}]}, "the provider-run tool code"),
        ("vllm", {"tools": [{"provider": {"toolType": "web_search"}}]}, "the provider-run tool web_search"),
        (
            "vllm",
            {
                "tools": [WEATHER, TIME],
                "toolChoice": {
                    "mode": "TOOL_CHOICE_MODE_REQUIRED",
                    "allowedToolNames": ["get_weather", "get_time"],
                },
            },
            "a choice limited to several tools",
        ),
        ("openai", {"reasoning": {"budgetTokens": 1024}}, "a reasoning budget in tokens"),
        (
            "openai",
            {"generationConfig": {"stopSequences": list("abcde")}},
            "more than 4 stop sequences",
        ),
        ("openai", {"generationConfig": {"responseModalities": ["MODALITY_IMAGE"]}}, "answers in image"),
        ("vllm", {"generationConfig": {"responseModalities": ["MODALITY_AUDIO"]}}, "answers in audio"),
        (
            "openai",
            {"generationConfig": {"audioOutput": {"voice": "v", "mimeType": "audio/midi"}}},
            "audio as audio/midi",
        ),
        ("vllm", {"generationConfig": {"audioOutput": {"mimeType": "audio/wav"}}}, "answers in audio"),
    ],
)
def test_what_cannot_be_said_is_refused(provider_type: str, fields: dict[str, Any], feature: str) -> None:
    error = refusal(fields, provider_type)

    assert error.reason == ErrorReason.ERROR_REASON_FEATURE_NOT_SUPPORTED
    assert error.metadata == {"feature": feature, "model": f"my-{provider_type}/gpt-test"}


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"messages": [{"parts": [{"text": {}}]}]}, "messages[0].role"),
        ({"messages": [{"role": "ROLE_USER"}]}, "messages[0].parts"),
        ({"messages": [{"role": "ROLE_TOOL"}]}, "messages[0].parts"),
        (user({}), "messages[0].parts[0]"),
        (user({"toolCall": CALL}), "messages[0].parts[0].tool_call"),
        (user({"reasoning": {"text": "t"}}), "messages[0].parts[0].reasoning"),
        (user({"toolResult": {"toolCallId": "c"}}), "messages[0].parts[0].tool_result"),
        (turn("ROLE_SYSTEM", {"refusal": {}}), "messages[0].parts[0].refusal"),
        (turn("ROLE_TOOL", {"text": {"text": "x"}}), "messages[0].parts[0]"),
        (turn("ROLE_TOOL", {"toolResult": {}}), "messages[0].parts[0].tool_result.tool_call_id"),
        (
            turn("ROLE_TOOL", {"toolResult": {"toolCallId": "c", "parts": [{"toolCall": CALL}]}}),
            "messages[0].parts[0].tool_result.parts[0].tool_call",
        ),
        (turn("ROLE_ASSISTANT", {"toolResult": {}}), "messages[0].parts[0].tool_result"),
        (
            turn("ROLE_ASSISTANT", {"toolCall": {"toolName": "f"}}),
            "messages[0].parts[0].tool_call.tool_call_id",
        ),
        (
            turn("ROLE_ASSISTANT", {"toolCall": {"toolCallId": "c"}}),
            "messages[0].parts[0].tool_call.tool_name",
        ),
        (
            turn("ROLE_ASSISTANT", {"toolCall": CALL}, {"toolCall": CALL}),
            "messages[0].parts[1].tool_call.tool_call_id",
        ),
        (user({"image": {}}), "messages[0].parts[0].image.source"),
        (user({"image": {"source": {"inlineText": "x"}}}), "messages[0].parts[0].image.source.inline_text"),
        (user({"image": {"source": {"inlineData": "eA=="}}}), "messages[0].parts[0].image.source.mime_type"),
        (
            user({"image": {"source": {"inlineData": "eA==", "mimeType": "image/png,x"}}}),
            "messages[0].parts[0].image.source.mime_type",
        ),
        (user({"document": {}}), "messages[0].parts[0].document.source"),
        (
            user({"provider": {"providerType": "openai", "blockJson": "["}}),
            "messages[0].parts[0].provider.block_json",
        ),
        ({"tools": [{}]}, "tools[0]"),
        (
            {"tools": [TIME, {"function": {"functionName": "f", "parametersJsonSchema": "{'a': 1}"}}]},
            "tools[1].function.parameters_json_schema",
        ),
        (
            {"tools": [{"function": {"functionName": "f", "parametersJsonSchema": "[]"}}]},
            "tools[0].function.parameters_json_schema",
        ),
        (
            {"toolChoice": {"mode": "TOOL_CHOICE_MODE_REQUIRED", "allowedToolNames": ["f"]}},
            "tool_choice.allowed_tool_names[0]",
        ),
        (
            {"tools": [TIME], "toolChoice": {"allowedToolNames": ["get_time"]}},
            "tool_choice.allowed_tool_names",
        ),
        ({"responseFormat": {}}, "response_format"),
        ({"responseFormat": {"jsonSchema": {"jsonSchema": "{"}}}, "response_format.json_schema.json_schema"),
        ({"generationConfig": {"temperature": "NaN"}}, "generation_config.temperature"),
        ({"generationConfig": {"logitBias": {"7": "Infinity"}}}, "generation_config.logit_bias[7]"),
    ],
)
def test_faults_name_their_field(fields: dict[str, Any], field: str) -> None:
    error = refusal(fields)

    assert error.reason == ErrorReason.ERROR_REASON_INVALID_REQUEST
    assert [violation.field for violation in error.violations] == [field]
