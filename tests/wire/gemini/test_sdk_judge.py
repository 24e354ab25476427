"""The judge that nobody here wrote: google-genai's own request for a scenario means what ours means."""

from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx
import orjson
import pytest
from google import genai
from google.genai import errors, types
from google.protobuf.json_format import ParseDict

from aigateway.v1.chat_service_pb2 import CountTokensRequest, CreateChatCompletionRequest
from aigateway.v1.embeddings_service_pb2 import CreateEmbeddingsRequest
from gateway_server.providers.base import CountTokensEndpoint, HttpCall
from tests.support.gemini_meaning import chat_meaning, count_meaning
from tests.support.wire import make_endpoint, make_target

PNG = b"\x89PNG\r\n\x1a\n\xfb\xff"
PDF = b"%PDF-1.4\xfb\xff"
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
SCHEMA_TEXT = orjson.dumps(SCHEMA).decode()
SIGNATURE = b"\xfb\xff\xfe signed"
FUNCTION = types.FunctionDeclaration(name="get_weather", description="Weather", parameters_json_schema=SCHEMA)
OTHER_FUNCTION = types.FunctionDeclaration(name="f", description="F")
TOOL = types.Tool(function_declarations=[FUNCTION])
OUR_TOOL = {
    "function": {"functionName": "get_weather", "description": "Weather", "parametersJsonSchema": SCHEMA_TEXT}
}


def encode(data: bytes) -> str:
    return b64encode(data).decode()


#: As the answer that held it was read.
OUR_SIGNATURE = encode(b"gemini:" + b64encode(SIGNATURE))


def text(words: str) -> dict[str, Any]:
    return {"text": {"text": words}}


def turn(role: str, *parts: dict[str, Any]) -> dict[str, Any]:
    return {"role": f"ROLE_{role}", "parts": list(parts)}


HELLO = types.Content(role="user", parts=[types.Part(text="Hello")])
OUR_HELLO = turn("USER", text("Hello"))


def content(role: str, *parts: types.Part) -> types.Content:
    return types.Content(role=role, parts=list(parts))


def call(city: str, signature: bytes | None = None, call_id: str | None = None) -> types.Part:
    return types.Part(
        function_call=types.FunctionCall(name="get_weather", args={"city": city}, id=call_id),
        thought_signature=signature,
    )


def our_call(call_id: str, city: str, **more: Any) -> dict[str, Any]:
    arguments = orjson.dumps({"city": city}).decode()
    return {"toolCall": {"toolCallId": call_id, "toolName": "get_weather", "arguments": arguments}, **more}


def response(value: dict[str, Any], call_id: str | None = None, **more: Any) -> types.Part:
    return types.Part(
        function_response=types.FunctionResponse(name="get_weather", response=value, id=call_id, **more)
    )


def our_result(call_id: str, *parts: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"toolResult": {"toolCallId": call_id, "parts": list(parts), **more}}


@dataclass(frozen=True, slots=True)
class Scenario:
    """The same thing asked of google-genai, and in our own words."""

    name: str
    ours: dict[str, Any]
    config: types.GenerateContentConfig | None = None
    contents: tuple[types.Content, ...] = (HELLO,)
    stream: bool = False
    model: str = "gemini-2.5-flash"


def configured(name: str, ours: dict[str, Any], model: str = "gemini-2.5-flash", **config: Any) -> Scenario:
    """A scenario of one user turn that is all about the settings."""
    messages = {"messages": [OUR_HELLO]}
    return Scenario(name, messages | ours, types.GenerateContentConfig(**config), model=model)


SCENARIOS = [
    Scenario("plain", {"messages": [OUR_HELLO]}),
    Scenario("stream", {"messages": [OUR_HELLO]}, stream=True),
    configured(
        "system and developer",
        {
            "messages": [
                turn("SYSTEM", text("Be brief.")),
                turn("DEVELOPER", text("Be kind.")),
                OUR_HELLO,
            ]
        },
        system_instruction=["Be brief.", "Be kind."],
    ),
    configured(
        "knobs",
        {
            "generationConfig": {
                "maxOutputTokens": 100,
                "temperature": 0.7,
                "topP": 0.9,
                "topK": 40,
                "frequencyPenalty": 0.5,
                "presencePenalty": -0.5,
                "stopSequences": ["END", "STOP"],
                "seed": 7,
                "choiceCount": 2,
                "logprobs": True,
                "topLogprobs": 3,
            }
        },
        max_output_tokens=100,
        temperature=0.7,
        top_p=0.9,
        top_k=40,
        frequency_penalty=0.5,
        presence_penalty=-0.5,
        stop_sequences=["END", "STOP"],
        seed=7,
        candidate_count=2,
        response_logprobs=True,
        logprobs=3,
    ),
    configured("a tool", {"tools": [OUR_TOOL]}, tools=[TOOL]),
    configured(
        "one of two tools, named",
        {
            "tools": [OUR_TOOL, {"function": {"functionName": "f", "description": "F"}}],
            "toolChoice": {"mode": "TOOL_CHOICE_MODE_REQUIRED", "allowedToolNames": ["f"]},
        },
        tools=[
            types.Tool(function_declarations=[FUNCTION, types.FunctionDeclaration(name="f", description="F")])
        ],
        tool_config=types.ToolConfig(
            function_calling_config=types.FunctionCallingConfig(
                mode=types.FunctionCallingConfigMode.ANY, allowed_function_names=["f"]
            )
        ),
    ),
    configured(
        "a strict tool",
        {"tools": [{"function": {**OUR_TOOL["function"], "strict": True}}]},
        tools=[TOOL],
        tool_config=types.ToolConfig(
            function_calling_config=types.FunctionCallingConfig(
                mode=types.FunctionCallingConfigMode.VALIDATED
            )
        ),
    ),
    configured(
        "tools that may not be called",
        {"tools": [OUR_TOOL], "toolChoice": {"mode": "TOOL_CHOICE_MODE_NONE"}},
        tools=[TOOL],
        tool_config=types.ToolConfig(
            function_calling_config=types.FunctionCallingConfig(mode=types.FunctionCallingConfigMode.NONE)
        ),
    ),
    configured(
        "tools that the provider runs",
        {
            "tools": [
                {"provider": {"toolType": "google_search"}},
                {"provider": {"toolType": "codeExecution"}},
                {"provider": {"toolType": "urlContext"}},
                OUR_TOOL,
            ],
            "providerOptions": {"google": {"toolConfig": {"includeServerSideToolInvocations": True}}},
        },
        tools=[
            types.Tool(google_search=types.GoogleSearch()),
            types.Tool(code_execution=types.ToolCodeExecution()),
            types.Tool(url_context=types.UrlContext()),
            TOOL,
        ],
        tool_config=types.ToolConfig(include_server_side_tool_invocations=True),
    ),
    Scenario(
        "parallel calls without ids, and their results",
        {
            "messages": [
                OUR_HELLO,
                turn(
                    "ASSISTANT",
                    text("Looking."),
                    our_call("aigw_r1_0_0", "Rome", providerSignature=OUR_SIGNATURE),
                    our_call("aigw_r1_0_1", "Bari"),
                ),
                turn("TOOL", our_result("aigw_r1_0_0", text('{"sky": "blue"}'))),
                turn("TOOL", our_result("aigw_r1_0_1", text("rain"))),
            ],
            "tools": [OUR_TOOL],
        },
        types.GenerateContentConfig(tools=[TOOL]),
        (
            HELLO,
            content("model", types.Part(text="Looking."), call("Rome", SIGNATURE), call("Bari")),
            content("user", response({"sky": "blue"}), response({"output": "rain"})),
        ),
    ),
    Scenario(
        "a call with an id that failed",
        {
            "messages": [
                OUR_HELLO,
                turn("ASSISTANT", our_call("c1", "Rome")),
                turn("TOOL", our_result("c1", text("no such city"), isError=True)),
            ],
            "tools": [OUR_TOOL],
        },
        types.GenerateContentConfig(tools=[TOOL]),
        (
            HELLO,
            content("model", call("Rome", call_id="c1")),
            content("user", response({"error": "no such city"}, call_id="c1")),
        ),
    ),
    Scenario(
        "a function that returned a picture",
        {
            "messages": [
                OUR_HELLO,
                turn(
                    "ASSISTANT",
                    our_call("c1", "Rome", providerSignature=OUR_SIGNATURE),
                ),
                turn(
                    "TOOL",
                    our_result(
                        "c1",
                        text("Here:"),
                        {"image": {"source": {"inlineData": encode(PNG), "mimeType": "image/png"}}},
                    ),
                ),
            ],
            "tools": [OUR_TOOL],
        },
        types.GenerateContentConfig(tools=[TOOL]),
        (
            HELLO,
            content("model", call("Rome", SIGNATURE, "c1")),
            content(
                "user",
                response(
                    {"output": "Here:"},
                    "c1",
                    parts=[
                        types.FunctionResponsePart(
                            inline_data=types.FunctionResponseBlob(mime_type="image/png", data=PNG)
                        )
                    ],
                ),
            ),
        ),
        model="gemini-3-flash-preview",
    ),
    Scenario(
        "picture, document, sound and film",
        {
            "messages": [
                turn(
                    "USER",
                    text("Look:"),
                    {"image": {"source": {"inlineData": encode(PNG), "mimeType": "image/png"}}},
                    {"image": {"source": {"uri": "https://example.com/a.png", "mimeType": "image/png"}}},
                    {"document": {"source": {"inlineData": encode(PDF), "mimeType": "application/pdf"}}},
                    {"audio": {"source": {"inlineData": encode(PDF), "mimeType": "audio/mpeg"}}},
                    {
                        "video": {
                            "source": {"uri": "gs://bucket/a.mp4", "mimeType": "video/mp4"},
                            "startOffset": "1.5s",
                            "endOffset": "60s",
                            "frameRate": 2,
                        }
                    },
                )
            ]
        },
        None,
        (
            content(
                "user",
                types.Part(text="Look:"),
                types.Part.from_bytes(data=PNG, mime_type="image/png"),
                types.Part.from_uri(file_uri="https://example.com/a.png", mime_type="image/png"),
                types.Part.from_bytes(data=PDF, mime_type="application/pdf"),
                types.Part.from_bytes(data=PDF, mime_type="audio/mpeg"),
                types.Part(
                    file_data=types.FileData(file_uri="gs://bucket/a.mp4", mime_type="video/mp4"),
                    video_metadata=types.VideoMetadata(start_offset="1.5s", end_offset="60s", fps=2),
                ),
            ),
        ),
    ),
    configured(
        "an answer that fits a schema",
        {"responseFormat": {"jsonSchema": {"schemaName": "city", "jsonSchema": SCHEMA_TEXT}}},
        response_mime_type="application/json",
        response_json_schema=SCHEMA,
    ),
    configured(
        "an answer in JSON",
        {"responseFormat": {"jsonObject": {}}},
        response_mime_type="application/json",
    ),
    configured(
        "a budget for thinking",
        {"reasoning": {"budgetTokens": 2048, "includeReasoning": True}},
        thinking_config=types.ThinkingConfig(thinking_budget=2048, include_thoughts=True),
    ),
    configured(
        "a level of thinking",
        {"reasoning": {"effort": "REASONING_EFFORT_LOW"}},
        model="gemini-3-pro-preview",
        thinking_config=types.ThinkingConfig(thinking_level=types.ThinkingLevel.LOW),
    ),
    Scenario(
        "a second turn after thoughts, signed on the last part",
        {
            "messages": [
                OUR_HELLO,
                turn(
                    "ASSISTANT",
                    {"reasoning": {"text": "Polite.", "isSummary": True}},
                    text("Hi!"),
                    {**text(""), "providerSignature": OUR_SIGNATURE},
                ),
                OUR_HELLO,
            ]
        },
        None,
        (
            HELLO,
            content(
                "model",
                types.Part(text="Polite.", thought=True),
                types.Part(text="Hi!"),
                types.Part(text="", thought_signature=SIGNATURE),
            ),
            HELLO,
        ),
    ),
    configured(
        "from the cache",
        {"providerOptions": {"google": {"cachedContent": "cachedContents/c1"}}},
        cached_content="cachedContents/c1",
    ),
    configured(
        "what may be refused",
        {
            "providerOptions": {
                "google": {
                    "safetySettings": [
                        {"category": "HARM_CATEGORY_HATE_SPEECH", "threshold": "BLOCK_LOW_AND_ABOVE"}
                    ]
                }
            }
        },
        safety_settings=[
            types.SafetySetting(
                category=types.HarmCategory.HARM_CATEGORY_HATE_SPEECH,
                threshold=types.HarmBlockThreshold.BLOCK_LOW_AND_ABOVE,
            )
        ],
    ),
    configured(
        "a spoken answer",
        {
            "generationConfig": {
                "responseModalities": ["MODALITY_AUDIO"],
                "audioOutput": {"voice": "Kore", "mimeType": "audio/L16;rate=24000"},
            }
        },
        response_modalities=["AUDIO"],
        speech_config=types.SpeechConfig(
            voice_config=types.VoiceConfig(prebuilt_voice_config=types.PrebuiltVoiceConfig(voice_name="Kore"))
        ),
    ),
    configured(
        "a picture with words",
        {"generationConfig": {"responseModalities": ["MODALITY_TEXT", "MODALITY_IMAGE"]}},
        response_modalities=["TEXT", "IMAGE"],
    ),
    Scenario(
        "a picture to be changed, and code that the provider ran",
        {
            "messages": [
                OUR_HELLO,
                turn(
                    "ASSISTANT",
                    {
                        "provider": {
                            "providerType": "google",
                            "blockType": "executableCode",
                            "blockJson": '{"executableCode":{"code":"print(1)","language":"PYTHON"}}',
                        }
                    },
                    {
                        "image": {"source": {"inlineData": encode(PNG), "mimeType": "image/png"}},
                        "providerSignature": OUR_SIGNATURE,
                    },
                ),
                OUR_HELLO,
            ]
        },
        None,
        (
            HELLO,
            content(
                "model",
                types.Part(
                    executable_code=types.ExecutableCode(code="print(1)", language=types.Language.PYTHON)
                ),
                types.Part(
                    inline_data=types.Blob(data=PNG, mime_type="image/png"), thought_signature=SIGNATURE
                ),
            ),
            HELLO,
        ),
    ),
]


def capture(ask: Callable[[genai.Client], object]) -> httpx.Request:
    """The request that the package sends."""
    requests: list[httpx.Request] = []

    def refuse(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        return httpx.Response(400, json={"error": {"code": 400, "message": "captured", "status": "X"}})

    options = types.HttpOptions(
        # Its own default is v1, which has no thinking and fewer tools.
        api_version="v1beta",
        client_args={"transport": httpx.MockTransport(refuse)},
    )
    client = genai.Client(api_key="sk-test", http_options=options)
    try:
        with pytest.raises(errors.ClientError):
            ask(client)
    finally:
        client.close()
    return requests[0]


def ask_for_chat(client: genai.Client, scenario: Scenario) -> object:
    asked: dict[str, Any] = {"model": scenario.model, "contents": list(scenario.contents)}
    if scenario.stream:
        return list(client.models.generate_content_stream(**asked, config=scenario.config))
    return client.models.generate_content(**asked, config=scenario.config)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_chat_means_what_the_google_package_means(scenario: Scenario) -> None:
    endpoint, target = make_endpoint("google"), make_target("google", scenario.model)
    assert endpoint.chat_format is not None

    theirs = capture(lambda client: ask_for_chat(client, scenario))
    request = ParseDict(scenario.ours, CreateChatCompletionRequest())
    body = endpoint.chat_format.render_chat(request, target, stream=scenario.stream)
    ours = endpoint.chat_call(target, body, stream=scenario.stream)

    assert chat_meaning(orjson.loads(ours.body)) == chat_meaning(orjson.loads(theirs.content))
    assert_same_request(ours, theirs)


def test_a_count_means_what_the_google_package_means() -> None:
    endpoint, target = make_endpoint("google"), make_target("google", "gemini-2.5-flash")
    assert isinstance(endpoint, CountTokensEndpoint)
    request = ParseDict({"messages": [OUR_HELLO]}, CountTokensRequest())

    theirs = capture(lambda client: client.models.count_tokens(model="gemini-2.5-flash", contents=[HELLO]))
    ours = endpoint.count_call(target, endpoint.count_format.render_count(request, target))

    assert count_meaning(orjson.loads(ours.body)) == count_meaning(orjson.loads(theirs.content))
    assert_same_request(ours, theirs)


@pytest.mark.parametrize(
    ("contents", "config", "ours"),
    [
        (["a"], None, {"inputs": [{"text": "a"}]}),
        (
            ["a", "b"],
            types.EmbedContentConfig(output_dimensionality=8, task_type="RETRIEVAL_QUERY"),
            {"inputs": [{"text": "a"}, {"text": "b"}], "dimensions": 8, "task": "EMBEDDING_TASK_QUERY"},
        ),
        (
            ["a"],
            types.EmbedContentConfig(task_type="RETRIEVAL_DOCUMENT", title="A title"),
            {
                "inputs": [{"text": "a"}],
                "task": "EMBEDDING_TASK_DOCUMENT",
                "providerOptions": {"google": {"title": "A title"}},
            },
        ),
        (
            [types.Content(parts=[types.Part(text="a"), types.Part(text="b")])],
            None,
            {"inputs": [{"content": {"parts": [text("a"), text("b")]}}]},
        ),
    ],
)
def test_embeddings_mean_what_the_google_package_means(
    contents: Any, config: types.EmbedContentConfig | None, ours: dict[str, Any]
) -> None:
    endpoint, target = make_endpoint("google"), make_target("google", "gemini-embedding-001")
    assert endpoint.embeddings_format is not None
    request = ParseDict(ours, CreateEmbeddingsRequest())

    theirs = capture(
        lambda client: client.models.embed_content(
            model="gemini-embedding-001", contents=contents, config=config
        )
    )
    our_call = endpoint.embeddings_call(target, endpoint.embeddings_format.render_embeddings(request, target))

    their_body = orjson.loads(theirs.content)
    for each in their_body["requests"]:
        # Who said what is to be embedded has no meaning.
        each["content"].pop("role", None)
    assert orjson.loads(our_call.body) == their_body
    assert_same_request(our_call, theirs)


def test_the_check_asks_what_the_google_package_asks() -> None:
    theirs = capture(lambda client: client.models.list(config={"page_size": 1000}))

    assert_same_request(make_endpoint("google").check_call(), theirs)


def assert_same_request(ours: HttpCall, theirs: httpx.Request) -> None:
    assert (ours.method, str(ours.url)) == (theirs.method, str(theirs.url))
    headers = {name.decode(): value.decode() for name, value in ours.headers}
    # The package takes whatever comes.
    assert headers.pop("accept") in {"application/json", "text/event-stream"}
    assert headers == {name: theirs.headers[name] for name in headers}
