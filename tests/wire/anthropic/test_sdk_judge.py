"""The judge that nobody here wrote: the anthropic package's own requests mean what ours mean."""

from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import anthropic
import httpx2
import orjson
import pytest
from google.protobuf.json_format import ParseDict

from aigateway.v1.chat_service_pb2 import CountTokensRequest, CreateChatCompletionRequest
from gateway_server.providers.base import CountTokensEndpoint, HttpCall
from tests.support.anthropic_meaning import chat_meaning
from tests.support.wire import make_endpoint, make_target

PNG = b64encode(b"\x89PNG\r\n\x1a\n").decode()
PDF = b64encode(b"%PDF-1.4").decode()
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "additionalProperties": False}
SCHEMA_TEXT = orjson.dumps(SCHEMA).decode()
TOOL = {"name": "get_weather", "description": "Weather", "input_schema": SCHEMA}
OUR_TOOL = {
    "function": {"functionName": "get_weather", "description": "Weather", "parametersJsonSchema": SCHEMA_TEXT}
}
HELLO: dict[str, Any] = {"role": "user", "content": "Hello"}

#: Which headers differ, and why that changes nothing.
HEADERS = {
    "accept": "the package asks for JSON also where it streams; the server does not look",
    "x-api-key": "with its newer version the package sends the key as a bearer token",
    "anthropic-version": "every recording is of 2023-06-01; newer ones are a setting",
}


def text(words: str, **more: Any) -> dict[str, Any]:
    return {"text": {"text": words}, **more}


def turn(role: str, *parts: dict[str, Any]) -> dict[str, Any]:
    return {"role": f"ROLE_{role}", "parts": list(parts)}


def seal(words: str) -> str:
    return b64encode(words.encode()).decode()


OUR_HELLO = turn("USER", text("Hello"))


@dataclass(frozen=True, slots=True)
class Scenario:
    """The same thing asked of the anthropic package, and in our own words."""

    name: str
    theirs: dict[str, Any]
    ours: dict[str, Any]
    stream: bool = False
    beta: bool = False
    model: str = "claude-test"


SCENARIOS = [
    Scenario("plain", {"messages": [HELLO]}, {"messages": [OUR_HELLO]}),
    Scenario(
        "system, kept for an hour",
        {
            "system": [
                {"type": "text", "text": "Be brief."},
                {"type": "text", "text": "Be kind.", "cache_control": {"type": "ephemeral", "ttl": "1h"}},
            ],
            "messages": [HELLO],
        },
        {
            "messages": [
                turn("SYSTEM", text("Be brief.")),
                turn("DEVELOPER", text("Be kind.", cacheControl={"ttl": "3600s"})),
                OUR_HELLO,
            ]
        },
    ),
    Scenario(
        "a system turn later on",
        {"messages": [HELLO, {"role": "system", "content": "Now rhyme."}]},
        {"messages": [OUR_HELLO, turn("SYSTEM", text("Now rhyme."))]},
        model="claude-opus-4-8",
    ),
    Scenario("stream", {"messages": [HELLO], "stream": True}, {"messages": [OUR_HELLO]}, stream=True),
    Scenario(
        "limit, stop sequences and who asks",
        {
            "messages": [HELLO],
            "max_tokens": 100,
            "stop_sequences": ["END"],
            "metadata": {"user_id": "u1"},
        },
        {
            "messages": [OUR_HELLO],
            "generationConfig": {"maxOutputTokens": 100, "stopSequences": ["END"]},
            "endUserId": "u1",
        },
    ),
    Scenario(
        "one tool",
        {"messages": [HELLO], "tools": [TOOL], "tool_choice": {"type": "auto"}},
        {"messages": [OUR_HELLO], "tools": [OUR_TOOL], "toolChoice": {"mode": "TOOL_CHOICE_MODE_AUTO"}},
    ),
    Scenario(
        "a named choice of a strict tool, without parallel calls",
        {
            "messages": [HELLO],
            "tools": [{"name": "f", "input_schema": SCHEMA, "strict": True}],
            "tool_choice": {"type": "tool", "name": "f", "disable_parallel_tool_use": True},
        },
        {
            "messages": [OUR_HELLO],
            "tools": [
                {"function": {"functionName": "f", "parametersJsonSchema": SCHEMA_TEXT, "strict": True}}
            ],
            "toolChoice": {
                "mode": "TOOL_CHOICE_MODE_REQUIRED",
                "allowedToolNames": ["f"],
                "parallelToolCalls": False,
            },
        },
    ),
    Scenario(
        "no tools for now, and some of the provider's own",
        {
            "messages": [HELLO],
            "tools": [
                {"type": "web_search_20250305", "name": "web_search", "max_uses": 2},
                {**TOOL, "cache_control": {"type": "ephemeral"}},
            ],
            "tool_choice": {"type": "none"},
        },
        {
            "messages": [OUR_HELLO],
            "tools": [
                {"provider": {"toolType": "web_search_20250305", "config": {"max_uses": 2}}},
                {**OUR_TOOL, "cacheControl": {}},
            ],
            "toolChoice": {"mode": "TOOL_CHOICE_MODE_NONE"},
        },
    ),
    Scenario(
        "parallel calls and their results",
        {
            "messages": [
                HELLO,
                {
                    "role": "assistant",
                    "content": [
                        {"type": "text", "text": "Looking."},
                        {"type": "tool_use", "id": "c1", "name": "get_weather", "input": {"city": "Rome"}},
                        {"type": "tool_use", "id": "c2", "name": "get_weather", "input": {}},
                    ],
                },
                {
                    "role": "user",
                    "content": [
                        {"type": "tool_result", "tool_use_id": "c1", "content": "sunny"},
                        {
                            "type": "tool_result",
                            "tool_use_id": "c2",
                            "is_error": True,
                            "content": [
                                {"type": "text", "text": "rain"},
                                {
                                    "type": "image",
                                    "source": {"type": "base64", "media_type": "image/png", "data": PNG},
                                },
                            ],
                        },
                        {"type": "text", "text": "Well?"},
                    ],
                },
            ],
            "tools": [TOOL],
        },
        {
            "messages": [
                OUR_HELLO,
                turn(
                    "ASSISTANT",
                    text("Looking."),
                    {
                        "toolCall": {
                            "toolCallId": "c1",
                            "toolName": "get_weather",
                            "arguments": '{"city":"Rome"}',
                        }
                    },
                    {"toolCall": {"toolCallId": "c2", "toolName": "get_weather"}},
                ),
                turn("TOOL", {"toolResult": {"toolCallId": "c1", "parts": [text("sunny")]}}),
                turn(
                    "TOOL",
                    {
                        "toolResult": {
                            "toolCallId": "c2",
                            "isError": True,
                            "parts": [
                                text("rain"),
                                {"image": {"source": {"inlineData": PNG, "mimeType": "image/png"}}},
                            ],
                        }
                    },
                ),
                turn("USER", text("Well?")),
            ],
            "tools": [OUR_TOOL],
        },
    ),
    Scenario(
        "images and documents",
        {
            "messages": [
                {
                    "role": "user",
                    "content": [
                        {
                            "type": "image",
                            "source": {"type": "base64", "media_type": "image/png", "data": PNG},
                        },
                        {"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}},
                        {
                            "type": "document",
                            "source": {"type": "base64", "media_type": "application/pdf", "data": PDF},
                            "title": "A paper",
                            "context": "Of last year",
                            "citations": {"enabled": True},
                        },
                        {
                            "type": "document",
                            "source": {"type": "text", "media_type": "text/plain", "data": "Words"},
                        },
                    ],
                }
            ]
        },
        {
            "messages": [
                turn(
                    "USER",
                    {"image": {"source": {"inlineData": PNG, "mimeType": "image/png"}}},
                    {"image": {"source": {"uri": "https://example.com/a.png"}}},
                    {
                        "document": {
                            "source": {"inlineData": PDF, "mimeType": "application/pdf"},
                            "title": "A paper",
                            "context": "Of last year",
                            "citationsEnabled": True,
                        }
                    },
                    {"document": {"source": {"inlineText": "Words"}}},
                )
            ]
        },
    ),
    Scenario(
        "an uploaded file, which is a beta",
        {
            "messages": [
                {
                    "role": "user",
                    "content": [{"type": "document", "source": {"type": "file", "file_id": "file_1"}}],
                }
            ],
            "betas": ["files-api-2025-04-14"],
        },
        {
            "messages": [turn("USER", {"document": {"source": {"providerFileId": "file_1"}}})],
            "providerOptions": {"anthropic": {"betas": ["files-api-2025-04-14"]}},
        },
        beta=True,
    ),
    Scenario(
        "an answer that fits a schema",
        {
            "messages": [HELLO],
            "output_config": {"format": {"type": "json_schema", "schema": SCHEMA}},
        },
        {
            "messages": [OUR_HELLO],
            "responseFormat": {"jsonSchema": {"schemaName": "city", "jsonSchema": SCHEMA_TEXT}},
        },
    ),
    Scenario(
        "an effort",
        {
            "messages": [HELLO],
            "thinking": {"type": "adaptive", "display": "summarized"},
            "output_config": {"effort": "high"},
        },
        {
            "messages": [OUR_HELLO],
            "reasoning": {"effort": "REASONING_EFFORT_HIGH", "includeReasoning": True},
        },
    ),
    Scenario(
        "no thinking",
        {"messages": [HELLO], "thinking": {"type": "disabled"}},
        {"messages": [OUR_HELLO], "reasoning": {"effort": "REASONING_EFFORT_NONE"}},
    ),
    Scenario(
        "thoughts on a second turn",
        {
            "messages": [
                HELLO,
                {
                    "role": "assistant",
                    "content": [
                        {"type": "thinking", "thinking": "Hm", "signature": "sig1"},
                        {"type": "redacted_thinking", "data": "sealed"},
                        {"type": "tool_use", "id": "c1", "name": "get_weather", "input": {}},
                    ],
                },
                {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c1"}]},
            ],
            "max_tokens": 4096,
            "thinking": {"type": "enabled", "budget_tokens": 2048},
            "tools": [TOOL],
        },
        {
            "messages": [
                OUR_HELLO,
                turn(
                    "ASSISTANT",
                    {"reasoning": {"text": "Hm"}, "providerSignature": seal("anthropic:sig1")},
                    {"reasoning": {"redactedData": seal("anthropic:sealed")}},
                    {"toolCall": {"toolCallId": "c1", "toolName": "get_weather"}},
                ),
                turn("TOOL", {"toolResult": {"toolCallId": "c1"}}),
            ],
            "generationConfig": {"maxOutputTokens": 4096},
            "reasoning": {"budgetTokens": 2048},
            "tools": [OUR_TOOL],
        },
    ),
    Scenario(
        "a cited answer goes on, and options of the provider",
        {
            "messages": [
                HELLO,
                {
                    "role": "assistant",
                    "content": [
                        {
                            "type": "text",
                            "text": "Hi",
                            "citations": [
                                {
                                    "type": "page_location",
                                    "cited_text": "a",
                                    "document_index": 0,
                                    "document_title": "T",
                                    "start_page_number": 1,
                                    "end_page_number": 2,
                                }
                            ],
                        }
                    ],
                },
                HELLO,
            ],
            "service_tier": "auto",
            "cache_control": {"type": "ephemeral"},
        },
        {
            "messages": [
                OUR_HELLO,
                turn(
                    "ASSISTANT",
                    {
                        "text": {
                            "text": "Hi",
                            "citations": [
                                {
                                    "citedText": "a",
                                    "title": "T",
                                    "document": {"unit": "LOCATION_UNIT_PAGE", "start": 1, "end": 2},
                                }
                            ],
                        }
                    },
                ),
                OUR_HELLO,
            ],
            "providerOptions": {
                "anthropic": {"service_tier": "auto", "cache_control": {"type": "ephemeral"}}
            },
        },
    ),
]


def capture(ask: Callable[[anthropic.Anthropic], object]) -> httpx2.Request:
    """The request that the package sends."""
    requests: list[httpx2.Request] = []

    def refuse(request: httpx2.Request) -> httpx2.Response:
        requests.append(request)
        return httpx2.Response(400, json={"type": "error", "error": {"type": "x", "message": "captured"}})

    http_client = httpx2.Client(transport=httpx2.MockTransport(refuse))
    with (
        anthropic.Anthropic(api_key="sk-test", max_retries=0, http_client=http_client) as client,
        pytest.raises(anthropic.BadRequestError),
    ):
        ask(client)
    return requests[0]


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_chat_means_what_the_anthropic_package_means(scenario: Scenario) -> None:
    asked = {"model": scenario.model, "max_tokens": 4096, **scenario.theirs}
    theirs = capture(lambda client: (client.beta if scenario.beta else client).messages.create(**asked))
    ours = call_chat(scenario)

    assert chat_meaning(orjson.loads(ours.body)) == chat_meaning(orjson.loads(theirs.content))
    assert_same_request(ours, theirs)


def call_chat(scenario: Scenario) -> HttpCall:
    endpoint, target = make_endpoint("anthropic"), make_target("anthropic", scenario.model)
    assert endpoint.chat_format is not None
    request = ParseDict({"model": "any", **scenario.ours}, CreateChatCompletionRequest())
    body = endpoint.chat_format.render_chat(request, target, stream=scenario.stream)
    return endpoint.chat_call(target, body, stream=scenario.stream, options=request.provider_options)


def test_a_count_means_what_the_anthropic_package_means() -> None:
    endpoint, target = make_endpoint("anthropic"), make_target("anthropic", "claude-test")
    assert isinstance(endpoint, CountTokensEndpoint)
    request = ParseDict(
        {"model": "any", "messages": [turn("SYSTEM", text("Be brief.")), OUR_HELLO], "tools": [OUR_TOOL]},
        CountTokensRequest(),
    )

    asked: dict[str, Any] = {"system": "Be brief.", "messages": [HELLO], "tools": [TOOL]}
    theirs = capture(lambda client: client.messages.count_tokens(model="claude-test", **asked))
    ours = endpoint.count_call(target, endpoint.count_format.render_count(request, target))

    assert chat_meaning(orjson.loads(ours.body)) == chat_meaning(orjson.loads(theirs.content))
    assert_same_request(ours, theirs)


def test_the_check_asks_what_the_anthropic_package_asks() -> None:
    ours = make_endpoint("anthropic").check_call()
    theirs = capture(lambda client: client.models.list(limit=1000))

    assert_same_request(ours, theirs)


def assert_same_request(ours: HttpCall, theirs: httpx2.Request) -> None:
    """The beta surface of the package differs by ``?beta=true`` alone, which the server does not need."""
    assert ours.method == theirs.method
    assert str(ours.url) == str(theirs.url).removesuffix("?beta=true")
    headers = {name.decode(): value.decode() for name, value in ours.headers}
    differing = {name for name in headers if headers[name] != theirs.headers.get(name)}
    assert differing <= HEADERS.keys()
    assert theirs.headers["authorization"] == f"Bearer {headers['x-api-key']}"
