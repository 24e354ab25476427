"""The judge that nobody here wrote: the openai package's own request for a scenario means what ours means."""

from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx
import openai
import orjson
import pytest
from google.protobuf.json_format import ParseDict

from aigateway.v1.chat_service_pb2 import CreateChatCompletionRequest
from aigateway.v1.embeddings_service_pb2 import CreateEmbeddingsRequest
from gateway_server.providers.base import HttpCall
from tests.support.openai_meaning import chat_meaning, embeddings_meaning
from tests.support.wire import make_endpoint, make_target

PNG = b64encode(b"\x89PNG\r\n\x1a\n").decode()
PDF = b64encode(b"%PDF-1.4").decode()
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
SCHEMA_TEXT = orjson.dumps(SCHEMA).decode()
TOOL = {
    "type": "function",
    "function": {"name": "get_weather", "description": "Weather", "parameters": SCHEMA},
}
OUR_TOOL = {
    "function": {"functionName": "get_weather", "description": "Weather", "parametersJsonSchema": SCHEMA_TEXT}
}


def user(*parts: dict[str, Any]) -> dict[str, Any]:
    return {"role": "ROLE_USER", "parts": list(parts)}


def text(words: str) -> dict[str, Any]:
    return {"text": {"text": words}}


HELLO: dict[str, Any] = {"role": "user", "content": "Hello"}
OUR_HELLO = user(text("Hello"))


@dataclass(frozen=True, slots=True)
class Scenario:
    """The same thing asked of the openai package, and in our own words."""

    name: str
    theirs: dict[str, Any]
    ours: dict[str, Any]
    stream: bool = False


SCENARIOS = [
    Scenario("plain", {"messages": [HELLO]}, {"messages": [OUR_HELLO]}),
    Scenario(
        "system and developer",
        {
            "messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "developer", "content": [{"type": "text", "text": "Be kind."}]},
                {"role": "user", "content": "Hello", "name": "ada"},
            ]
        },
        {
            "messages": [
                {"role": "ROLE_SYSTEM", "parts": [text("Be brief.")]},
                {"role": "ROLE_DEVELOPER", "parts": [text("Be kind.")]},
                {**OUR_HELLO, "author": "ada"},
            ]
        },
    ),
    Scenario(
        "stream",
        {"messages": [HELLO], "stream": True, "stream_options": {"include_usage": True}},
        {"messages": [OUR_HELLO]},
        stream=True,
    ),
    Scenario(
        "knobs",
        {
            "messages": [HELLO],
            "max_completion_tokens": 100,
            "temperature": 0.7,
            "top_p": 0.9,
            "frequency_penalty": 0.5,
            "presence_penalty": -0.5,
            "stop": ["END", "STOP"],
            "seed": 7,
            "n": 2,
            "logprobs": True,
            "top_logprobs": 3,
            "logit_bias": {"50256": -100},
        },
        {
            "messages": [OUR_HELLO],
            "generationConfig": {
                "maxOutputTokens": 100,
                "temperature": 0.7,
                "topP": 0.9,
                "frequencyPenalty": 0.5,
                "presencePenalty": -0.5,
                "stopSequences": ["END", "STOP"],
                "seed": 7,
                "choiceCount": 2,
                "logprobs": True,
                "topLogprobs": 3,
                "logitBias": {"50256": -100},
            },
        },
    ),
    Scenario(
        "tools",
        {"messages": [HELLO], "tools": [TOOL], "tool_choice": "auto", "parallel_tool_calls": False},
        {
            "messages": [OUR_HELLO],
            "tools": [OUR_TOOL],
            "toolChoice": {"mode": "TOOL_CHOICE_MODE_AUTO", "parallelToolCalls": False},
        },
    ),
    Scenario(
        "named choice of a strict tool",
        {
            "messages": [HELLO],
            "tools": [{"type": "function", "function": {"name": "f", "parameters": SCHEMA, "strict": True}}],
            "tool_choice": {"type": "function", "function": {"name": "f"}},
        },
        {
            "messages": [OUR_HELLO],
            "tools": [
                {"function": {"functionName": "f", "parametersJsonSchema": SCHEMA_TEXT, "strict": True}}
            ],
            "toolChoice": {"mode": "TOOL_CHOICE_MODE_REQUIRED", "allowedToolNames": ["f"]},
        },
    ),
    Scenario(
        "allowed tools, one of them free-form",
        {
            "messages": [HELLO],
            "tools": [TOOL, {"type": "custom", "custom": {"name": "shell", "description": "Runs"}}],
            "tool_choice": {
                "type": "allowed_tools",
                "allowed_tools": {
                    "mode": "required",
                    "tools": [
                        {"type": "function", "function": {"name": "get_weather"}},
                        {"type": "custom", "custom": {"name": "shell"}},
                    ],
                },
            },
        },
        {
            "messages": [OUR_HELLO],
            "tools": [OUR_TOOL, {"freeForm": {"toolName": "shell", "description": "Runs"}}],
            "toolChoice": {
                "mode": "TOOL_CHOICE_MODE_REQUIRED",
                "allowedToolNames": ["get_weather", "shell"],
            },
        },
    ),
    Scenario(
        "parallel calls and their results",
        {
            "messages": [
                HELLO,
                {
                    "role": "assistant",
                    "content": "Looking.",
                    "tool_calls": [
                        {
                            "id": "c1",
                            "type": "function",
                            "function": {"name": "get_weather", "arguments": '{"city": "Rome"}'},
                        },
                        {
                            "id": "c2",
                            "type": "function",
                            "function": {"name": "get_weather", "arguments": '{"city": "Bari"}'},
                        },
                    ],
                },
                {"role": "tool", "tool_call_id": "c1", "content": "sunny"},
                {"role": "tool", "tool_call_id": "c2", "content": [{"type": "text", "text": "rain"}]},
            ],
            "tools": [TOOL],
        },
        {
            "messages": [
                OUR_HELLO,
                {
                    "role": "ROLE_ASSISTANT",
                    "parts": [
                        text("Looking."),
                        {
                            "toolCall": {
                                "toolCallId": "c1",
                                "toolName": "get_weather",
                                "arguments": '{"city": "Rome"}',
                            }
                        },
                        {
                            "toolCall": {
                                "toolCallId": "c2",
                                "toolName": "get_weather",
                                "arguments": '{"city": "Bari"}',
                            }
                        },
                    ],
                },
                {
                    "role": "ROLE_TOOL",
                    "parts": [
                        {"toolResult": {"toolCallId": "c1", "parts": [text("sunny")]}},
                        {"toolResult": {"toolCallId": "c2", "parts": [text("rain")]}},
                    ],
                },
            ],
            "tools": [OUR_TOOL],
        },
    ),
    Scenario(
        "image, document and sound",
        {
            "messages": [
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": "Look:"},
                        {
                            "type": "image_url",
                            "image_url": {"url": f"data:image/png;base64,{PNG}", "detail": "low"},
                        },
                        {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
                        {
                            "type": "file",
                            "file": {"filename": "a.pdf", "file_data": f"data:application/pdf;base64,{PDF}"},
                        },
                        {"type": "input_audio", "input_audio": {"data": PDF, "format": "mp3"}},
                    ],
                }
            ]
        },
        {
            "messages": [
                user(
                    text("Look:"),
                    {
                        "image": {
                            "source": {"inlineData": PNG, "mimeType": "image/png"},
                            "detail": "IMAGE_DETAIL_LOW",
                        }
                    },
                    {"image": {"source": {"uri": "https://example.com/a.png"}}},
                    {
                        "document": {
                            "source": {
                                "inlineData": PDF,
                                "mimeType": "application/pdf",
                                "filename": "a.pdf",
                            }
                        }
                    },
                    {"audio": {"source": {"inlineData": PDF, "mimeType": "audio/mpeg"}}},
                )
            ]
        },
    ),
    Scenario(
        "an answer that fits a schema",
        {
            "messages": [HELLO],
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "city", "schema": SCHEMA, "strict": True},
            },
        },
        {
            "messages": [OUR_HELLO],
            "responseFormat": {
                "jsonSchema": {"schemaName": "city", "jsonSchema": SCHEMA_TEXT, "strict": True}
            },
        },
    ),
    Scenario(
        "reasoning, and a refusal in an earlier turn",
        {
            "messages": [HELLO, {"role": "assistant", "refusal": "I can't."}, HELLO],
            "reasoning_effort": "low",
            "verbosity": "low",
        },
        {
            "messages": [
                OUR_HELLO,
                {"role": "ROLE_ASSISTANT", "parts": [{"refusal": {"text": "I can't."}}]},
                OUR_HELLO,
            ],
            "reasoning": {"effort": "REASONING_EFFORT_LOW"},
            "providerOptions": {"openai": {"verbosity": "low"}},
        },
    ),
    Scenario(
        "a spoken conversation",
        {
            "messages": [HELLO, {"role": "assistant", "audio": {"id": "audio_1"}}, HELLO],
            "modalities": ["text", "audio"],
            "audio": {"voice": "alloy", "format": "wav"},
        },
        {
            "messages": [
                OUR_HELLO,
                {
                    "role": "ROLE_ASSISTANT",
                    "parts": [
                        {
                            "audio": {"source": {"inlineData": PDF, "mimeType": "audio/wav"}},
                            "providerSignature": b64encode(b"audio_1").decode(),
                        }
                    ],
                },
                OUR_HELLO,
            ],
            "generationConfig": {
                "responseModalities": ["MODALITY_TEXT", "MODALITY_AUDIO"],
                "audioOutput": {"voice": "alloy", "mimeType": "audio/wav"},
            },
        },
    ),
    Scenario(
        "who asks, and what may be kept",
        {"messages": [HELLO], "safety_identifier": "u1", "store": True, "prompt_cache_key": "k"},
        {
            "messages": [OUR_HELLO],
            "endUserId": "u1",
            "storageOptions": {"store": True, "promptCacheKey": "k"},
        },
    ),
    Scenario(
        "web search",
        {"messages": [HELLO], "web_search_options": {"search_context_size": "low"}},
        {
            "messages": [OUR_HELLO],
            "tools": [{"provider": {"toolType": "web_search", "config": {"search_context_size": "low"}}}],
        },
    ),
]


def make_client(http_client: Any) -> openai.OpenAI:
    """The package's client. Newer versions are typed for a fork of httpx; they take either."""
    return openai.OpenAI(api_key="sk-test", max_retries=0, http_client=http_client)


def capture(
    ask: Callable[[openai.OpenAI], object], make: Callable[[Any], openai.OpenAI] = make_client
) -> httpx.Request:
    """The request that the package sends."""
    requests: list[httpx.Request] = []

    def refuse(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        return httpx.Response(400, json={"error": {"message": "captured"}})

    http_client = httpx.Client(transport=httpx.MockTransport(refuse))
    with make(http_client) as client, pytest.raises(openai.BadRequestError):
        ask(client)
    return requests[0]


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_chat_means_what_the_openai_package_means(scenario: Scenario) -> None:
    theirs = capture(lambda client: client.chat.completions.create(model="gpt-test", **scenario.theirs))
    ours = call_chat(scenario)

    assert chat_meaning(orjson.loads(ours.body)) == chat_meaning(orjson.loads(theirs.content))
    assert_same_request(ours, theirs)


def call_chat(scenario: Scenario) -> HttpCall:
    endpoint, target = make_endpoint("openai"), make_target()
    assert endpoint.chat_format is not None
    request = ParseDict(scenario.ours, CreateChatCompletionRequest())
    body = endpoint.chat_format.render_chat(request, target, stream=scenario.stream)
    return endpoint.chat_call(target, body, stream=scenario.stream)


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ({"input": "a"}, {"inputs": [{"text": "a"}]}),
        ({"input": ["a", "b"], "dimensions": 8}, {"inputs": [{"text": "a"}, {"text": "b"}], "dimensions": 8}),
        ({"input": [1, 2], "user": "u"}, {"inputs": [{"tokenIds": {"values": [1, 2]}}], "endUserId": "u"}),
        ({"input": [[1], [2]]}, {"inputs": [{"tokenIds": {"values": [1]}}, {"tokenIds": {"values": [2]}}]}),
    ],
)
def test_embeddings_mean_what_the_openai_package_means(theirs: dict[str, Any], ours: dict[str, Any]) -> None:
    endpoint, target = make_endpoint("openai"), make_target()
    assert endpoint.embeddings_format is not None
    request = ParseDict(ours, CreateEmbeddingsRequest())

    their_call = capture(lambda client: client.embeddings.create(model="gpt-test", **theirs))
    our_call = endpoint.embeddings_call(target, endpoint.embeddings_format.render_embeddings(request, target))

    assert embeddings_meaning(orjson.loads(our_call.body)) == embeddings_meaning(
        orjson.loads(their_call.content)
    )
    assert_same_request(our_call, their_call)


def test_the_check_asks_what_the_openai_package_asks() -> None:
    assert_same_request(make_endpoint("openai").check_call(), capture(lambda client: client.models.list()))


def assert_same_request(ours: HttpCall, theirs: httpx.Request) -> None:
    assert (ours.method, str(ours.url)) == (theirs.method, str(theirs.url))
    headers = {name.decode(): value.decode() for name, value in ours.headers}
    # The package asks for JSON also where it streams; the server does not look.
    if headers["accept"] == "text/event-stream":
        headers["accept"] = "application/json"
    assert headers == {name: theirs.headers[name] for name in headers}
