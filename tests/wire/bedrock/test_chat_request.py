"""What is sent to Bedrock for each thing that a request can say, and what is refused before anything is."""

from base64 import b64encode
from typing import Any

import orjson
import pytest
from google.protobuf.json_format import ParseDict

from aigateway.v1.chat_service_pb2 import CountTokensRequest, CreateChatCompletionRequest
from gateway_server.errors import GatewayError
from gateway_server.providers.wire.bedrock_converse import BedrockConverseFormat
from gateway_server.providers.wire.bedrock_converse.models import base_model, traits_of
from tests.support.wire import chat_format, make_target

CLAUDE = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
NOVA = "us.amazon.nova-2-lite-v1:0"
OLD_NOVA = "amazon.nova-lite-v1:0"
LLAMA = "meta.llama3-2-1b-instruct-v1:0"
GPT_OSS = "openai.gpt-oss-120b-1:0"
QWEN = "qwen.qwen3-32b-v1:0"
UNKNOWN = "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/abc123"
PNG = b64encode(b"\x89PNG").decode()


def user(*parts: dict[str, Any]) -> dict[str, Any]:
    return {"role": "ROLE_USER", "parts": list(parts)}


def assistant(*parts: dict[str, Any]) -> dict[str, Any]:
    return {"role": "ROLE_ASSISTANT", "parts": list(parts)}


def tool(*results: dict[str, Any]) -> dict[str, Any]:
    return {"role": "ROLE_TOOL", "parts": [{"toolResult": result} for result in results]}


def text(words: str, **fields: Any) -> dict[str, Any]:
    return {"text": {"text": words}, **fields}


HELLO = user(text("Hello"))
HELLO_SENT = {"role": "user", "content": [{"text": "Hello"}]}
CALL = {"toolCall": {"toolCallId": "c1", "toolName": "f", "arguments": '{"a": 1}'}}
RESULT = {"toolCallId": "c1", "parts": [text("sunny")]}
TOOLS = [{"function": {"functionName": "f"}}]


def render(model: str = CLAUDE, **fields: Any) -> dict[str, Any]:
    request = ParseDict({"model": "any", "messages": [HELLO], **fields}, CreateChatCompletionRequest())
    body = orjson.loads(
        chat_format("bedrock").render_chat(request, make_target("bedrock", model), stream=False)
    )
    assert isinstance(body, dict)
    return body


def refuse(model: str = CLAUDE, **fields: Any) -> GatewayError:
    with pytest.raises(GatewayError) as caught:
        render(model, **fields)
    return caught.value


def test_nothing_but_what_was_asked_for_is_sent() -> None:
    assert render() == {"messages": [HELLO_SENT]}


def test_turns_are_merged_and_the_prompt_is_moved() -> None:
    body = render(
        messages=[
            {"role": "ROLE_SYSTEM", "parts": [text("Be brief."), text("")]},
            {"role": "ROLE_DEVELOPER", "parts": [text("Be kind.")]},
            HELLO,
            user(text("Again")),
            assistant(text("Hi"), CALL),
            assistant(text("")),
            tool(RESULT),
            tool({**RESULT, "toolCallId": "c2", "isError": True}),
            HELLO,
        ],
        tools=TOOLS,
    )

    assert body["system"] == [{"text": "Be brief."}, {"text": "Be kind."}]
    assert body["messages"] == [
        {"role": "user", "content": [{"text": "Hello"}, {"text": "Again"}]},
        {
            "role": "assistant",
            "content": [{"text": "Hi"}, {"toolUse": {"toolUseId": "c1", "name": "f", "input": {"a": 1}}}],
        },
        {
            "role": "user",
            "content": [
                {"toolResult": {"toolUseId": "c1", "content": [{"text": "sunny"}]}},
                {"toolResult": {"toolUseId": "c2", "content": [{"text": "sunny"}], "status": "error"}},
                {"text": "Hello"},
            ],
        },
    ]


def test_media_and_documents() -> None:
    def source(**fields: Any) -> dict[str, Any]:
        return {"source": fields}

    body = render(
        messages=[
            user(
                {"image": source(inlineData=PNG, mimeType="image/jpg")},
                {"image": source(uri=f"data:image/png;base64,{PNG}")},
                {"image": source(uri="s3://bucket/a.JPG")},
                {"video": source(inlineData=PNG, mimeType="video/quicktime")},
                {"audio": source(inlineData=PNG, mimeType="audio/mpeg")},
                {
                    "document": {
                        **source(inlineData=PNG, mimeType="application/pdf", filename="Ümläut_2.0.pdf"),
                        "context": "old",
                        "citationsEnabled": True,
                    }
                },
                {"document": {**source(inlineText="words"), "title": "A  title [1]"}},
                {"document": {**source(inlineText="more"), "title": "A title [1]"}},
                {"document": source(inlineText="last")},
            )
        ]
    )

    assert body["messages"][0]["content"] == [
        {"image": {"format": "jpeg", "source": {"bytes": PNG}}},
        {"image": {"format": "png", "source": {"bytes": PNG}}},
        {"image": {"format": "jpeg", "source": {"s3Location": {"uri": "s3://bucket/a.JPG"}}}},
        {"video": {"format": "mov", "source": {"bytes": PNG}}},
        {"audio": {"format": "mp3", "source": {"bytes": PNG}}},
        {
            "document": {
                "format": "pdf",
                "source": {"bytes": PNG},
                "name": "ml-ut-2-0",
                "context": "old",
                "citations": {"enabled": True},
            }
        },
        {"document": {"format": "txt", "source": {"text": "words"}, "name": "A title [1]"}},
        {"document": {"format": "txt", "source": {"text": "more"}, "name": "A title [1] (2)"}},
        {"document": {"format": "txt", "source": {"text": "last"}, "name": "document"}},
    ]


def test_cache_marks_are_blocks_of_their_own() -> None:
    fields: dict[str, Any] = {
        "messages": [
            {"role": "ROLE_SYSTEM", "parts": [text("Be brief.", cacheControl={})]},
            user(text("Hello", cacheControl={"ttl": "3600s"})),
        ],
        "tools": [{**TOOLS[0], "cacheControl": {"ttl": "10s"}}],
    }
    mark = {"cachePoint": {"type": "default"}}
    body = render(**fields)

    assert body["system"] == [{"text": "Be brief."}, mark]
    assert body["messages"][0]["content"][1] == {"cachePoint": {"type": "default", "ttl": "1h"}}
    assert body["toolConfig"]["tools"][1] == {"cachePoint": {"type": "default", "ttl": "5m"}}
    # A model without such a cache would refuse the request for a mark that changes nothing of its answer.
    assert "cachePoint" not in str(render(LLAMA, **fields))
    assert "cachePoint" in str(render(UNKNOWN, **fields))


def test_knobs() -> None:
    config = {
        "maxOutputTokens": 9,
        "temperature": 0.5,
        "topK": 7,
        "stopSequences": ["END"],
        "seed": 1,
        "frequencyPenalty": 1,
        "presencePenalty": 1,
        "logitBias": {"1": 1},
        "choiceCount": 1,
    }
    inference = {"maxTokens": 9, "temperature": 0.5, "stopSequences": ["END"]}

    for model, fields in (
        (CLAUDE, {"top_k": 7}),
        (NOVA, {"inferenceConfig": {"topK": 7}}),
        (LLAMA, None),
        (UNKNOWN, None),
    ):
        body = render(model, generationConfig=config, endUserId="u", storageOptions={"store": True})
        assert body.pop("additionalModelRequestFields", None) == fields
        assert body == {"messages": [HELLO_SENT], "inferenceConfig": inference}
    assert render(LLAMA, generationConfig={"topP": 0.9})["inferenceConfig"] == {"topP": 0.9}


FUNCTION = {
    "functionName": "f",
    "description": "Does",
    "parametersJsonSchema": '{"type":"object","properties":{}}',
    "strict": True,
}


def test_tools_and_the_choice_among_them() -> None:
    tools = [
        {"function": FUNCTION},
        {"function": {"functionName": "g"}},
        {"provider": {"toolType": "nova_x"}},
    ]
    sent = [
        {
            "toolSpec": {
                "name": "f",
                "description": "Does",
                "inputSchema": {"json": {"type": "object", "properties": {}}},
                "strict": True,
            }
        },
        {"toolSpec": {"name": "g", "inputSchema": {"json": {"type": "object", "properties": {}}}}},
        {"systemTool": {"name": "nova_x"}},
    ]
    for choice, rendered in (
        ({}, None),
        ({"mode": "TOOL_CHOICE_MODE_AUTO"}, {"auto": {}}),
        ({"mode": "TOOL_CHOICE_MODE_REQUIRED"}, {"any": {}}),
        ({"mode": "TOOL_CHOICE_MODE_REQUIRED", "allowedToolNames": ["g"]}, {"tool": {"name": "g"}}),
    ):
        config = render(tools=tools, toolChoice=choice)["toolConfig"]
        assert config["tools"] == sent
        assert config.get("toolChoice") == rendered
    # The only way to forbid calls is to offer no tools.
    assert "toolConfig" not in render(tools=tools, toolChoice={"mode": "TOOL_CHOICE_MODE_NONE"})


def test_an_answer_that_fits_a_schema() -> None:
    schema = '{"type": "object", "big": 12345678901234567890123}'
    wanted = {
        "jsonSchema": {"schemaName": "city", "description": "A city", "jsonSchema": schema, "strict": True}
    }

    body = render(responseFormat=wanted)

    assert body["outputConfig"] == {
        "textFormat": {
            "type": "json_schema",
            "structure": {"jsonSchema": {"name": "city", "description": "A city", "schema": schema}},
        }
    }
    assert "outputConfig" not in render(responseFormat={"text": {}})


@pytest.mark.parametrize(
    ("model", "reasoning", "fields", "effort"),
    [
        (CLAUDE, {"budgetTokens": 2000}, {"thinking": {"type": "enabled", "budget_tokens": 2000}}, None),
        (CLAUDE, {"budgetTokens": 0}, {"thinking": {"type": "disabled"}}, None),
        (CLAUDE, {"effort": "LOW"}, {"thinking": {"type": "enabled", "budget_tokens": 2048}}, None),
        ("anthropic.claude-opus-4-6-v1", {"effort": "MAX"}, {"thinking": {"type": "adaptive"}}, "max"),
        ("anthropic.claude-v2", {"effort": "NONE"}, None, None),
        (
            NOVA,
            {"effort": "MINIMAL"},
            {"reasoningConfig": {"type": "enabled", "maxReasoningEffort": "low"}},
            None,
        ),
        (
            NOVA,
            {"effort": "MAX"},
            {"reasoningConfig": {"type": "enabled", "maxReasoningEffort": "high"}},
            None,
        ),
        (NOVA, {"budgetTokens": 0}, {"reasoningConfig": {"type": "disabled"}}, None),
        (QWEN, {"effort": "MEDIUM"}, {"reasoning_config": "medium"}, None),
        (GPT_OSS, {"effort": "HIGH"}, {"reasoning_effort": "high"}, None),
        (LLAMA, {}, None, None),
        (LLAMA, {"effort": "UNSPECIFIED"}, None, None),
    ],
)
def test_how_much_to_think(
    model: str, reasoning: dict[str, Any], fields: dict[str, Any] | None, effort: str | None
) -> None:
    if "effort" in reasoning:
        reasoning = {"effort": f"REASONING_EFFORT_{reasoning['effort']}"}

    body = render(model, reasoning=reasoning)

    assert body.get("additionalModelRequestFields") == fields
    assert body.get("outputConfig", {}).get("effort") == effort


def test_options_are_merged_last() -> None:
    options = {
        "bedrock": {
            "guardrailConfig": {"guardrailIdentifier": "abc", "guardrailVersion": "1", "trace": "enabled"},
            "additionalModelRequestFields": {"anthropic_beta": ["x"]},
            "performanceConfig": {"latency": "optimized"},
        },
        "anthropic": {"x": 1},
    }

    body = render(providerOptions=options, generationConfig={"topK": 3})

    assert body["guardrailConfig"]["guardrailIdentifier"] == "abc"
    assert body["additionalModelRequestFields"] == {"top_k": 3, "anthropic_beta": ["x"]}
    assert body["performanceConfig"] == {"latency": "optimized"}
    assert "x" not in body


@pytest.mark.parametrize(
    "option",
    [
        {"messages": []},
        {"system": []},
        {"modelId": "x"},
        {"inferenceConfig": {"maxTokens": 1}},
        {"additionalModelRequestFields": {"max_tokens": 1}},
        {"additionalModelRequestFields": {"inferenceConfig": {"maxTokens": 1}}},
        {"additionalModelRequestFields": {"textGenerationConfig": {"maxTokenCount": 1}}},
    ],
)
def test_options_cannot_go_around_fields(option: dict[str, Any]) -> None:
    assert refuse(providerOptions={"bedrock": option}).reason_name == "INVALID_REQUEST"


def sealed(origin: str, words: str) -> str:
    return b64encode(f"{origin}:{words}".encode()).decode()


SIGNED = {"reasoning": {"text": "Hm"}, "providerSignature": sealed("anthropic", "sig")}
UNSIGNED = {"reasoning": {"text": "Hm"}}


def test_thoughts_go_back_as_they_were_signed() -> None:
    def back(model: str, part: dict[str, Any]) -> Any:
        return render(model, messages=[HELLO, assistant(part, text("Hi"))])["messages"][1]["content"][0]

    thought = {"text": "Hm", "signature": "sig"}
    assert back(CLAUDE, SIGNED) == {"reasoningContent": {"reasoningText": thought}}
    own = {**UNSIGNED, "providerSignature": sealed("bedrock", "sig")}
    assert back(CLAUDE, own) == back(UNKNOWN, own) == {"reasoningContent": {"reasoningText": thought}}
    # What nobody signed, or somebody else, is a thought like any other to models that sign nothing.
    for part in (UNSIGNED, SIGNED):
        assert back(NOVA, part) == {"reasoningContent": {"reasoningText": {"text": "Hm"}}}
    hidden = {"reasoning": {"redactedData": sealed("anthropic", "RXQ=")}}
    assert back(CLAUDE, hidden) == {"reasoningContent": {"redactedContent": b64encode(b"RXQ=").decode()}}
    mine = {"reasoning": {"redactedData": sealed("bedrock", "AAE=")}}
    assert back(NOVA, mine) == {"reasoningContent": {"redactedContent": "AAE="}}


def test_calls_of_other_providers_get_ids_that_fit() -> None:
    call = {"toolCall": {"toolCallId": "call|ü", "toolName": "f"}}
    result = {"toolCallId": "call|ü", "parts": []}

    messages = render(messages=[HELLO, assistant(call), tool(result)], tools=TOOLS)["messages"]

    used = messages[1]["content"][0]["toolUse"]
    assert used["toolUseId"].startswith("call_")
    assert used["input"] == {}
    assert messages[2]["content"][0]["toolResult"] == {"toolUseId": used["toolUseId"], "content": []}


def test_citations_go_back_to_the_provider_that_made_them() -> None:
    cited = {"title": "T", "location": {"documentChar": {"documentIndex": 0, "start": 0, "end": 1}}}
    signature = b64encode(orjson.dumps({"bedrock": cited})).decode()
    own = {"text": {"text": "Hi", "citations": [{"title": "T", "providerSignature": signature}]}}
    foreign = {"text": {"text": "Hi", "citations": [{"uri": "https://example.com"}]}}

    [first, second] = render(messages=[HELLO, assistant(own, foreign)])["messages"][1]["content"]

    assert first == {"citationsContent": {"content": [{"text": "Hi"}], "citations": [cited]}}
    assert second == {"text": "Hi"}


def block(provider_type: str, json: str) -> dict[str, Any]:
    return {"provider": {"providerType": provider_type, "blockType": "x", "blockJson": json}}


def test_blocks_of_the_provider_go_back_as_they_came() -> None:
    guarded = '{"guardContent": {"text": {"text": "q", "qualifiers": ["query"]}}}'
    found = {"toolCallId": "c1", "parts": [block("bedrock", '{"json": {"a": 1e400}}')]}
    request = {"messages": [user(block("bedrock", guarded)), assistant(CALL), tool(found)], "tools": TOOLS}
    message = ParseDict({"model": "any", **request}, CreateChatCompletionRequest())

    with pytest.raises(GatewayError):  # 1e400 is no number to anybody
        chat_format("bedrock").render_chat(message, make_target("bedrock"), stream=False)
    message.messages[2].parts[0].tool_result.parts[0].provider.block_json = '{"json": {"a": 1.50}}'
    body = chat_format("bedrock").render_chat(message, make_target("bedrock"), stream=False)

    assert guarded.encode() in body
    assert b'{"json": {"a": 1.50}}' in body


DOTTED = {"toolCall": {"toolCallId": "c", "toolName": "a.b"}}
MARKED = {"toolCallId": "c1", "parts": [text("a", cacheControl={})]}
IMAGE = {"image": {"source": {"inlineData": PNG, "mimeType": "image/png"}}}


@pytest.mark.parametrize(
    ("model", "fields", "feature"),
    [
        (LLAMA, {"messages": [assistant(text("Hi"))]}, "conversations that the model begins"),
        (LLAMA, {"messages": [{"role": "ROLE_SYSTEM", "parts": [text("a")]}]}, "system turns alone"),
        (
            CLAUDE,
            {"messages": [HELLO, {"role": "ROLE_SYSTEM", "parts": [text("a")]}]},
            "after the conversation",
        ),
        (CLAUDE, {"messages": [{**HELLO, "author": "ada"}]}, "author"),
        (CLAUDE, {"messages": [user(text(""))]}, "empty text"),
        (CLAUDE, {"messages": [HELLO, assistant(IMAGE)]}, "image parts in assistant turns"),
        (CLAUDE, {"messages": [{"role": "ROLE_SYSTEM", "parts": [IMAGE]}, HELLO]}, "in system"),
        (CLAUDE, {"messages": [user({"image": {"source": {"uri": "https://a/b.png"}}})]}, "by address"),
        (CLAUDE, {"messages": [user({"image": {"source": {"providerFileId": "f"}}})]}, "by file id"),
        (
            CLAUDE,
            {"messages": [user({"image": {"source": {"inlineData": PNG, "mimeType": "image/tiff"}}})]},
            "tiff",
        ),
        (CLAUDE, {"messages": [user({"document": {"source": {"uri": "s3://a/b"}}})]}, "not named"),
        (
            CLAUDE,
            {"messages": [user({"video": {"source": {"uri": "s3://a/b.mp4"}, "frameRate": 1}})]},
            "frame rates",
        ),
        (CLAUDE, {"messages": [HELLO, assistant(CALL), tool(RESULT)]}, "where the request has no tools"),
        (
            CLAUDE,
            {
                "messages": [HELLO, assistant(CALL), tool(RESULT)],
                "tools": TOOLS,
                "toolChoice": {"mode": "TOOL_CHOICE_MODE_NONE"},
            },
            "ban on tool calls",
        ),
        (
            CLAUDE,
            {"messages": [HELLO, assistant(CALL), HELLO, tool(RESULT)], "tools": TOOLS},
            "between tool calls and their results",
        ),
        (CLAUDE, {"messages": [HELLO, assistant(UNSIGNED)]}, "did not sign"),
        (
            NOVA,
            {
                "messages": [
                    HELLO,
                    assistant({"reasoning": {}, "providerSignature": sealed("anthropic", "s")}),
                ]
            },
            "sealed reasoning",
        ),
        (
            NOVA,
            {"messages": [HELLO, assistant({"reasoning": {"redactedData": sealed("anthropic", "s")}})]},
            "sealed reasoning",
        ),
        (CLAUDE, {"messages": [HELLO, assistant(block("anthropic", "{}"))]}, "x blocks of anthropic"),
        (
            CLAUDE,
            {
                "messages": [HELLO, assistant(DOTTED)],
                "tools": TOOLS,
            },
            "tool names",
        ),
        (
            CLAUDE,
            {
                "messages": [
                    HELLO,
                    assistant({"toolCall": {"toolCallId": "c", "toolName": "f", "arguments": "["}}),
                ],
                "tools": TOOLS,
            },
            "not a JSON object",
        ),
        (CLAUDE, {"tools": [{"freeForm": {"toolName": "f"}}]}, "free-form"),
        (CLAUDE, {"tools": [{"provider": {"toolType": "x", "config": {"a": 1}}}]}, "settings of"),
        (CLAUDE, {"tools": TOOLS, "toolChoice": {"parallelToolCalls": False}}, "several tool calls"),
        (
            CLAUDE,
            {
                "tools": [*TOOLS, {"function": {"functionName": "g"}}],
                "toolChoice": {"mode": "TOOL_CHOICE_MODE_REQUIRED", "allowedToolNames": ["f", "g"]},
            },
            "limited to several",
        ),
        (
            CLAUDE,
            {
                "tools": TOOLS,
                "toolChoice": {"mode": "TOOL_CHOICE_MODE_REQUIRED"},
                "reasoning": {"budgetTokens": 2000},
            },
            "demanded, together with a reasoning budget",
        ),
        (CLAUDE, {"responseFormat": {"jsonObject": {}}}, "without a schema"),
        (CLAUDE, {"generationConfig": {"choiceCount": 2}}, "several answers"),
        (CLAUDE, {"generationConfig": {"logprobs": True}}, "log probabilities"),
        (CLAUDE, {"generationConfig": {"temperature": 1.5}}, "temperature above 1"),
        (LLAMA, {"generationConfig": {"temperature": 1.5}}, "temperature above 1"),
        (LLAMA, {"generationConfig": {"responseModalities": ["MODALITY_IMAGE"]}}, "answers in image"),
        (LLAMA, {"generationConfig": {"audioOutput": {"voice": "a"}}}, "answers in audio"),
        (LLAMA, {"reasoning": {"effort": "REASONING_EFFORT_LOW"}}, "a reasoning effort"),
        (OLD_NOVA, {"reasoning": {"effort": "REASONING_EFFORT_LOW"}}, "a reasoning effort"),
        (GPT_OSS, {"reasoning": {"budgetTokens": 0}}, "told not to reason"),
        (NOVA, {"reasoning": {"budgetTokens": 5}}, "a reasoning budget"),
        (
            CLAUDE,
            {
                "messages": [
                    HELLO,
                    assistant(CALL),
                    tool(MARKED),
                ]
            },
            "within tool results",
        ),
        (CLAUDE, {"messages": [user(*[text("a", cacheControl={})] * 5)]}, "more than 4 cache marks"),
    ],
)
def test_what_it_cannot_say_is_refused(model: str, fields: dict[str, Any], feature: str) -> None:
    failure = refuse(model, **fields)

    assert failure.reason_name == "FEATURE_NOT_SUPPORTED"
    assert feature in failure.metadata["feature"]
    assert failure.metadata["model"] == f"my-bedrock/{model}"


@pytest.mark.parametrize(
    "fields",
    [
        {"messages": [{"role": 99, "parts": [text("a")]}]},
        {"messages": [{"role": "ROLE_USER"}]},
        {"messages": [user({})]},
        {"messages": [user(CALL)]},
        {"messages": [HELLO, tool(RESULT, {"parts": []})]},
        {"messages": [HELLO, {"role": "ROLE_TOOL", "parts": [text("a")]}]},
        {"messages": [HELLO, assistant(CALL, CALL)]},
        {"messages": [HELLO, assistant({"toolCall": {"toolName": "f"}})]},
        {"messages": [HELLO, assistant({"toolCall": {"toolCallId": "c"}})]},
        {"messages": [HELLO, assistant({"toolResult": RESULT})]},
        {"messages": [user({"image": {"source": {}}})]},
        {"messages": [user({"image": {"source": {"inlineData": PNG}}})]},
        {"messages": [user({"image": {"source": {"inlineText": "a"}}})]},
        {"messages": [user(block("bedrock", "[]"))]},
        {"tools": [{}]},
        {"tools": [{"function": {"functionName": "f", "parametersJsonSchema": "{"}}]},
        {"toolChoice": {"mode": "TOOL_CHOICE_MODE_REQUIRED"}},
        {"tools": TOOLS, "toolChoice": {"mode": "TOOL_CHOICE_MODE_REQUIRED", "allowedToolNames": ["x"]}},
        {"tools": TOOLS, "toolChoice": {"mode": "TOOL_CHOICE_MODE_AUTO", "allowedToolNames": ["f"]}},
        {"responseFormat": {}},
        {"responseFormat": {"jsonSchema": {"jsonSchema": "[]"}}},
        {"messages": [user(text("a", cacheControl={"ttl": "0s"}))]},
    ],
)
def test_what_makes_no_sense_is_refused(fields: dict[str, Any]) -> None:
    assert refuse(**fields).reason_name == "INVALID_REQUEST"


def test_counts() -> None:
    wire_format = BedrockConverseFormat()
    request = ParseDict({"model": "any", "messages": [HELLO], "tools": TOOLS}, CountTokensRequest())

    body = orjson.loads(wire_format.render_count(request, make_target("bedrock", CLAUDE)))

    assert body["input"]["converse"].keys() == {"messages", "toolConfig"}
    assert wire_format.counts(make_target("bedrock", CLAUDE))
    assert not wire_format.counts(make_target("bedrock", NOVA))
    with pytest.raises(GatewayError, match="does not support counting tokens"):
        wire_format.render_count(request, make_target("bedrock", NOVA))
    for answer in (b"{}", b'{"inputTokens": "5"}', b"[]"):
        with pytest.raises(GatewayError) as caught:
            wire_format.parse_count(answer, make_target("bedrock", CLAUDE))
        assert caught.value.reason_name == "UPSTREAM_PROTOCOL_ERROR"


@pytest.mark.parametrize(
    ("model", "claude", "thinking"),
    [
        (CLAUDE, True, "claude"),
        ("anthropic.claude-v2:1", True, "claude"),
        (
            "arn:aws:bedrock:eu-west-1:123456789012:inference-profile/eu.anthropic.claude-sonnet-4-v1:0",
            True,
            "claude",
        ),
        ("arn:aws:bedrock:us-east-1::foundation-model/amazon.nova-2-lite-v1:0", False, "nova"),
        ("global.amazon.nova-2-lite-v1:0", False, "nova"),
        (OLD_NOVA, False, None),
        (UNKNOWN, False, None),
        ("anthropic", False, None),
        ("", False, None),
    ],
)
def test_the_maker_is_read_from_the_name(model: str, claude: bool, thinking: str | None) -> None:
    traits = traits_of(model)

    assert (traits.claude is not None, traits.thinking) == (claude, thinking)


@pytest.mark.parametrize(
    ("model", "base"),
    [
        (CLAUDE, "anthropic.claude-sonnet-4-5-20250929-v1:0"),
        ("us-gov.amazon.nova-pro-v1:0", "amazon.nova-pro-v1:0"),
        ("amazon.nova-pro-v1:0", "amazon.nova-pro-v1:0"),
        (UNKNOWN, UNKNOWN),
    ],
)
def test_the_model_behind_a_profile(model: str, base: str) -> None:
    assert base_model(model) == base
