"""The judge that nobody here wrote: boto3's own request for a scenario means what ours means."""

from base64 import b64decode, b64encode
from dataclasses import dataclass
from typing import Any

import orjson
import pytest
from google.protobuf.json_format import ParseDict

from aigateway.v1.chat_service_pb2 import CreateChatCompletionRequest
from tests.support.bedrock_meaning import chat_meaning
from tests.support.wire import make_endpoint, make_target
from tests.wire.bedrock.test_endpoint import boto3_request

CLAUDE = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
NOVA = "us.amazon.nova-2-lite-v1:0"
PNG = b64encode(b"\x89PNG\r\n\x1a\n").decode()
PDF = b64encode(b"%PDF-1.4").decode()
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
SCHEMA_TEXT = orjson.dumps(SCHEMA).decode()
TOOL = {"toolSpec": {"name": "get_weather", "description": "Weather", "inputSchema": {"json": SCHEMA}}}
OUR_TOOL = {
    "function": {"functionName": "get_weather", "description": "Weather", "parametersJsonSchema": SCHEMA_TEXT}
}


def text(words: str) -> dict[str, Any]:
    return {"text": {"text": words}}


def user(*parts: dict[str, Any]) -> dict[str, Any]:
    return {"role": "ROLE_USER", "parts": list(parts)}


def asked(*blocks: dict[str, Any]) -> dict[str, Any]:
    return {"role": "user", "content": list(blocks)}


HELLO = asked({"text": "Hello"})
OUR_HELLO = user(text("Hello"))
OUR_IMAGE = {"image": {"source": {"inlineData": PNG, "mimeType": "image/png"}}}


def call(call_id: str, city: str) -> dict[str, Any]:
    return {"toolUse": {"toolUseId": call_id, "name": "get_weather", "input": {"city": city}}}


def our_call(call_id: str, city: str) -> dict[str, Any]:
    arguments = orjson.dumps({"city": city}).decode()
    return {"toolCall": {"toolCallId": call_id, "toolName": "get_weather", "arguments": arguments}}


@dataclass(frozen=True, slots=True)
class Scenario:
    """The same thing asked of boto3, and in our own words."""

    name: str
    theirs: dict[str, Any]
    ours: dict[str, Any]
    model: str = CLAUDE
    stream: bool = False


SCENARIOS = [
    Scenario("plain", {"messages": [HELLO]}, {"messages": [OUR_HELLO]}),
    Scenario("stream", {"messages": [HELLO]}, {"messages": [OUR_HELLO]}, stream=True),
    Scenario(
        "system, with a cache mark",
        {
            "messages": [HELLO],
            "system": [
                {"text": "Be brief."},
                {"text": "Be kind."},
                {"cachePoint": {"type": "default", "ttl": "1h"}},
            ],
        },
        {
            "messages": [
                {"role": "ROLE_SYSTEM", "parts": [text("Be brief.")]},
                {"role": "ROLE_DEVELOPER", "parts": [{**text("Be kind."), "cacheControl": {"ttl": "3600s"}}]},
                OUR_HELLO,
            ]
        },
    ),
    Scenario(
        "knobs and stop sequences",
        {
            "messages": [HELLO],
            "inferenceConfig": {"maxTokens": 100, "temperature": 0.5, "stopSequences": ["END"]},
            "additionalModelRequestFields": {"top_k": 5},
        },
        {
            "messages": [OUR_HELLO],
            "generationConfig": {
                "maxOutputTokens": 100,
                "temperature": 0.5,
                "topK": 5,
                "stopSequences": ["END"],
            },
        },
    ),
    Scenario(
        "a tool that must be called",
        {"messages": [HELLO], "toolConfig": {"tools": [TOOL], "toolChoice": {"any": {}}}},
        {
            "messages": [OUR_HELLO],
            "tools": [OUR_TOOL],
            "toolChoice": {"mode": "TOOL_CHOICE_MODE_REQUIRED"},
        },
    ),
    Scenario(
        "a tool that is named",
        {
            "messages": [HELLO],
            "toolConfig": {"tools": [TOOL], "toolChoice": {"tool": {"name": "get_weather"}}},
        },
        {
            "messages": [OUR_HELLO],
            "tools": [OUR_TOOL],
            "toolChoice": {"mode": "TOOL_CHOICE_MODE_REQUIRED", "allowedToolNames": ["get_weather"]},
        },
    ),
    Scenario(
        "parallel calls and their results",
        {
            "messages": [
                HELLO,
                {
                    "role": "assistant",
                    "content": [{"text": "Looking."}, call("c1", "Rome"), call("c2", "Bari")],
                },
                asked(
                    {"toolResult": {"toolUseId": "c1", "content": [{"text": "sunny"}]}},
                    {
                        "toolResult": {
                            "toolUseId": "c2",
                            "content": [{"image": {"format": "png", "source": {"bytes": b64decode(PNG)}}}],
                            "status": "error",
                        }
                    },
                ),
            ],
            "toolConfig": {"tools": [TOOL]},
        },
        {
            "messages": [
                OUR_HELLO,
                {
                    "role": "ROLE_ASSISTANT",
                    "parts": [text("Looking."), our_call("c1", "Rome"), our_call("c2", "Bari")],
                },
                {
                    "role": "ROLE_TOOL",
                    "parts": [{"toolResult": {"toolCallId": "c1", "parts": [text("sunny")]}}],
                },
                {
                    "role": "ROLE_TOOL",
                    "parts": [
                        {
                            "toolResult": {
                                "toolCallId": "c2",
                                "parts": [
                                    {"image": {"source": {"inlineData": PNG, "mimeType": "image/png"}}}
                                ],
                                "isError": True,
                            }
                        }
                    ],
                },
            ],
            "tools": [OUR_TOOL],
        },
    ),
    Scenario(
        "image and document",
        {
            "messages": [
                asked(
                    {"text": "Look:"},
                    {"image": {"format": "png", "source": {"bytes": b64decode(PNG)}}},
                    {
                        "document": {
                            "format": "pdf",
                            "name": "a report",
                            "source": {"bytes": b64decode(PDF)},
                            "context": "of last year",
                            "citations": {"enabled": True},
                        }
                    },
                )
            ]
        },
        {
            "messages": [
                user(
                    text("Look:"),
                    {"image": {"source": {"inlineData": PNG, "mimeType": "image/png"}}},
                    {
                        "document": {
                            "source": {"inlineData": PDF, "mimeType": "application/pdf"},
                            "title": "a report",
                            "context": "of last year",
                            "citationsEnabled": True,
                        }
                    },
                )
            ]
        },
    ),
    Scenario(
        "an answer that fits a schema",
        {
            "messages": [HELLO],
            "outputConfig": {
                "textFormat": {
                    "type": "json_schema",
                    "structure": {"jsonSchema": {"name": "city", "schema": SCHEMA_TEXT}},
                }
            },
        },
        {
            "messages": [OUR_HELLO],
            "responseFormat": {"jsonSchema": {"schemaName": "city", "jsonSchema": SCHEMA_TEXT}},
        },
    ),
    Scenario(
        "reasoning on a second turn",
        {
            "messages": [
                HELLO,
                {
                    "role": "assistant",
                    "content": [
                        {"reasoningContent": {"reasoningText": {"text": "Hm", "signature": "c2ln"}}},
                        {"reasoningContent": {"redactedContent": b"RXQ="}},
                        {"text": "Hi"},
                    ],
                },
                HELLO,
            ],
            "inferenceConfig": {"maxTokens": 4000},
            "additionalModelRequestFields": {"thinking": {"type": "enabled", "budget_tokens": 2000}},
        },
        {
            "messages": [
                OUR_HELLO,
                {
                    "role": "ROLE_ASSISTANT",
                    "parts": [
                        {
                            "reasoning": {"text": "Hm"},
                            "providerSignature": b64encode(b"anthropic:c2ln").decode(),
                        },
                        {"reasoning": {"redactedData": b64encode(b"anthropic:RXQ=").decode()}},
                        text("Hi"),
                    ],
                },
                OUR_HELLO,
            ],
            "generationConfig": {"maxOutputTokens": 4000},
            "reasoning": {"budgetTokens": 2000},
        },
    ),
    Scenario(
        "an effort of Nova's, and a guardrail",
        {
            "messages": [HELLO],
            "guardrailConfig": {"guardrailIdentifier": "abc", "guardrailVersion": "1", "trace": "enabled"},
            "additionalModelRequestFields": {
                "reasoningConfig": {"type": "enabled", "maxReasoningEffort": "medium"}
            },
        },
        {
            "messages": [OUR_HELLO],
            "reasoning": {"effort": "REASONING_EFFORT_MEDIUM"},
            "providerOptions": {
                "bedrock": {
                    "guardrailConfig": {
                        "guardrailIdentifier": "abc",
                        "guardrailVersion": "1",
                        "trace": "enabled",
                    }
                }
            },
        },
        model=NOVA,
    ),
]


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_chat_means_what_boto3_means(scenario: Scenario) -> None:
    operation = "converse_stream" if scenario.stream else "converse"
    theirs = boto3_request(operation, scenario.model, **scenario.theirs)
    endpoint, target = make_endpoint("bedrock"), make_target("bedrock", scenario.model)
    assert endpoint.chat_format is not None
    request = ParseDict(scenario.ours, CreateChatCompletionRequest())

    body = endpoint.chat_format.render_chat(request, target, stream=scenario.stream)
    ours = endpoint.chat_call(target, body, stream=scenario.stream)

    assert chat_meaning(orjson.loads(ours.body)) == chat_meaning(orjson.loads(theirs.body))
    assert (ours.method, str(ours.url)) == (theirs.method, theirs.url)
