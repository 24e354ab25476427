"""The demo provider, read through the same formats and transport as any other."""

import asyncio
from contextlib import aclosing
from typing import Any

import jsonschema
import orjson
import pytest
from google.protobuf.json_format import ParseDict

from aigateway.fold import fold_events
from aigateway.v1.chat_service_pb2 import ChatCompletion, ChatEvent, CreateChatCompletionRequest, FinishReason
from aigateway.v1.embeddings_service_pb2 import CreateEmbeddingsRequest, CreateEmbeddingsResponse
from gateway_server.errors import GatewayError
from gateway_server.providers.demo import DEMO_MODELS, DemoTransport
from gateway_server.providers.demo.schema import make_value
from gateway_server.providers.transport import HttpResponse, Timeouts, Transport, TransportError
from tests.support.wire import make_endpoint, make_target

LABEL = "This is the demo provider of the gateway, not a language model."
TIMEOUTS = Timeouts(connect=5, first_byte=5, idle=5, total=20)
WEATHER = {
    "functionName": "get_weather",
    "parametersJsonSchema": orjson.dumps(
        {
            "type": "object",
            "properties": {
                "city": {"type": "string", "enum": ["Paris", "Rome"]},
                "days": {"type": "integer"},
            },
            "required": ["city", "days"],
        }
    ).decode(),
}


class Demo:
    """Asks the demo provider as the gateway does; time passes only in ``slept``."""

    def __init__(self) -> None:
        self.slept: list[float] = []
        self._endpoint = make_endpoint("demo")
        self._transport = Transport(mounts={"demo": DemoTransport(sleep=self._sleep)})

    async def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)

    async def open(self, prompt: str, model: str, *, stream: bool, **fields: Any) -> HttpResponse:
        messages = [{"role": "ROLE_USER", "parts": [{"text": {"text": prompt}}]}]
        request = ParseDict({"messages": messages, **fields}, CreateChatCompletionRequest())
        target = make_target("demo", model)
        assert self._endpoint.chat_format is not None
        body = self._endpoint.chat_format.render_chat(request, target, stream=stream)
        call = self._endpoint.chat_call(target, body, stream=stream)
        return await self._transport.send(call, timeouts=TIMEOUTS, max_response_bytes=10_000_000)

    async def ask(self, prompt: str, model: str = "demo-chat", **fields: Any) -> ChatCompletion:
        response = await self.open(prompt, model, stream=False, **fields)
        async with response:
            body = await response.read()
        target = make_target("demo", model)
        assert self._endpoint.chat_format is not None
        if response.status != 200:
            raise self._endpoint.chat_format.parse_error(response.status, response.headers, body, target)
        return self._endpoint.chat_format.parse_chat(body, target)

    async def stream(self, prompt: str, model: str = "demo-chat", **fields: Any) -> list[ChatEvent]:
        target = make_target("demo", model)
        assert self._endpoint.chat_format is not None
        parser = self._endpoint.chat_format.chat_stream(target)
        events: list[ChatEvent] = []
        response = await self.open(prompt, model, stream=True, **fields)
        async with response:
            async for data in response.chunks():
                events += parser.feed(data)
        return events + parser.close()

    async def embed(self, *texts: str, **fields: Any) -> CreateEmbeddingsResponse:
        target = make_target("demo", "demo-embeddings")
        request = ParseDict(
            {"inputs": [{"text": text} for text in texts], **fields}, CreateEmbeddingsRequest()
        )
        wire_format = self._endpoint.embeddings_format
        assert wire_format is not None
        call = self._endpoint.embeddings_call(target, wire_format.render_embeddings(request, target))
        response = await self._transport.send(call, timeouts=TIMEOUTS, max_response_bytes=10_000_000)
        async with response:
            return wire_format.parse_embeddings(await response.read(), request, target)

    async def check(self) -> list[str]:
        call = self._endpoint.check_call()
        response = await self._transport.send(call, timeouts=TIMEOUTS, max_response_bytes=10_000_000)
        async with response:
            return self._endpoint.parse_check(await response.read())

    async def aclose(self) -> None:
        await self._transport.aclose()


@pytest.fixture
async def demo() -> Any:
    async with aclosing(Demo()) as demo:
        yield demo


def text_of(completion: ChatCompletion) -> str:
    return "".join(part.text.text for part in completion.choices[0].message.parts)


async def test_says_what_it_is_and_what_it_was_told(demo: Demo) -> None:
    completion = await demo.ask("Hello there")

    assert text_of(completion).startswith(f"{LABEL} You wrote: Hello there\n")
    assert completion.served_by.provider_model == "demo-chat"
    assert completion.usage.input_tokens == 4  # Hell|o| ther|e
    assert completion.usage.output_tokens > 10


@pytest.mark.parametrize(
    ("prompt", "model", "fields"),
    [
        ("Hello", "demo-chat", {}),
        ("Hello", "demo-chat", {"generationConfig": {"choiceCount": 3}}),
        ("Hello", "demo-tools", {"tools": [{"function": WEATHER}]}),
        ("Hello", "demo-tools", {"tools": [{"freeForm": {"toolName": "shell"}}]}),
        ("Hello", "demo-chat", {"generationConfig": {"maxOutputTokens": 3}}),
    ],
)
async def test_a_stream_says_the_same_in_small_pieces_every_time(
    demo: Demo, prompt: str, model: str, fields: dict[str, Any]
) -> None:
    whole = await demo.ask(prompt, model, **fields)
    first = await demo.stream(prompt, model, **fields)
    second = await demo.stream(prompt, model, **fields)

    folded = fold_events(first)
    assert folded.choices == whole.choices
    assert folded.usage == whole.usage
    assert fold_events(second) == folded
    deltas = [event for event in first if event.WhichOneof("event") == "part_delta"]
    assert len(deltas) >= 2
    assert await demo.ask(prompt, model, **fields) == whole


async def test_calls_the_first_tool_and_answers_its_result(demo: Demo) -> None:
    tools = [{"function": WEATHER}, {"function": {"functionName": "other"}}]

    asked = await demo.ask("What is the weather?", "demo-tools", tools=tools)
    call = asked.choices[0].message.parts[0].tool_call
    turns = [
        {"role": "ROLE_USER", "parts": [{"text": {"text": "What is the weather?"}}]},
        {
            "role": "ROLE_ASSISTANT",
            "parts": [{"toolCall": {"toolCallId": call.tool_call_id, "toolName": call.tool_name}}],
        },
        {
            "role": "ROLE_TOOL",
            "parts": [
                {"toolResult": {"toolCallId": call.tool_call_id, "parts": [{"text": {"text": "sunny"}}]}}
            ],
        },
    ]
    answered = await demo.ask("", "demo-tools", tools=tools, messages=turns)

    assert asked.choices[0].finish.reason == FinishReason.FINISH_REASON_TOOL_CALLS
    assert (call.tool_name, orjson.loads(call.arguments)) == ("get_weather", {"city": "Paris", "days": 1})
    assert text_of(answered) == f"{LABEL} The tool returned: sunny"


@pytest.mark.parametrize(
    ("prompt", "model", "choice", "names"),
    [
        ("hi", "demo-chat", {}, []),
        ("/tools 2", "demo-chat", {}, ["a", "b"]),
        ("/tools 2", "demo-chat", {"parallelToolCalls": False}, ["a"]),
        ("hi", "demo-chat", {"mode": "TOOL_CHOICE_MODE_REQUIRED"}, ["a"]),
        ("hi", "demo-chat", {"mode": "TOOL_CHOICE_MODE_REQUIRED", "allowedToolNames": ["b"]}, ["b"]),
        ("hi", "demo-chat", {"mode": "TOOL_CHOICE_MODE_REQUIRED", "allowedToolNames": ["b", "c"]}, ["b"]),
        ("hi", "demo-tools", {"mode": "TOOL_CHOICE_MODE_NONE"}, []),
    ],
)
async def test_which_tools_it_calls(
    demo: Demo, prompt: str, model: str, choice: dict[str, Any], names: list[str]
) -> None:
    tools = [{"function": {"functionName": name}} for name in ("a", "b", "c")]

    completion = await demo.ask(prompt, model, tools=tools, toolChoice=choice)

    parts = completion.choices[0].message.parts
    assert [part.tool_call.tool_name for part in parts if part.HasField("tool_call")] == names


async def test_answers_that_must_fit_a_schema_do(demo: Demo) -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer", "minimum": 5}}, "required": ["n"]}
    wanted = {"jsonSchema": {"jsonSchema": orjson.dumps(schema).decode()}}

    assert orjson.loads(text_of(await demo.ask("x", responseFormat=wanted))) == {"n": 5}
    json = orjson.loads(text_of(await demo.ask("x", responseFormat={"jsonObject": {}})))
    assert json == {"note": LABEL, "you_wrote": "x"}


async def test_limits_of_the_output_are_kept(demo: Demo) -> None:
    short = await demo.ask("Hello", generationConfig={"maxOutputTokens": 3})
    stopped = await demo.ask("Hello", generationConfig={"stopSequences": [" You wrote"]})

    assert (text_of(short), short.usage.output_tokens) == ("This is the", 3)
    assert short.choices[0].finish.reason == FinishReason.FINISH_REASON_MAX_OUTPUT_TOKENS
    assert text_of(stopped) == LABEL


@pytest.mark.parametrize(
    ("prompt", "model", "pause"),
    [("Hello", "demo-slow", 0.15), ("Hello\n/slow 20", "demo-chat", 0.02), ("/slow 5", "demo-slow", 0.005)],
)
async def test_pauses_between_deltas(demo: Demo, prompt: str, model: str, pause: float) -> None:
    events = await demo.stream(prompt, model)

    assert fold_events(events).choices
    assert set(demo.slept) == {pause}
    assert len(demo.slept) > 10


@pytest.mark.parametrize(
    ("prompt", "model", "reason"),
    [
        ("hi", "demo-fail", "UPSTREAM_UNAVAILABLE"),
        ("please answer 429 now", "demo-fail", "UPSTREAM_RATE_LIMITED"),
        ("/fail 401", "demo-chat", "UPSTREAM_CREDENTIAL_REJECTED"),
        ("/fail 404", "demo-chat", "UPSTREAM_REJECTED"),
        ("/fail", "demo-chat", "UPSTREAM_UNAVAILABLE"),
        ("/fail 200", "demo-chat", "UPSTREAM_REJECTED"),
        ("/error 2", "demo-chat", "UPSTREAM_UNAVAILABLE"),
        ("hi", "gpt-4o", "UPSTREAM_REJECTED"),
    ],
)
async def test_fails_as_it_is_told(demo: Demo, prompt: str, model: str, reason: str) -> None:
    with pytest.raises(GatewayError) as caught:
        await demo.ask(prompt, model)

    assert caught.value.reason_name == reason


async def test_tells_how_long_to_wait(demo: Demo) -> None:
    with pytest.raises(GatewayError) as caught:
        await demo.ask("/fail 429")

    assert caught.value.retry_after == 1


@pytest.mark.parametrize(("prompt", "error"), [("/cut 4", TransportError), ("/error 4", GatewayError)])
async def test_breaks_off_in_mid_stream(demo: Demo, prompt: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        await demo.stream(prompt)
    with pytest.raises(error):
        await demo.stream(prompt, "demo-fail")


async def test_a_stream_nobody_reads_any_more_stops() -> None:
    transport = DemoTransport()
    endpoint = make_endpoint("demo")
    target = make_target("demo", "demo-slow")
    assert endpoint.chat_format is not None
    request = CreateChatCompletionRequest()
    request.messages.add(role="ROLE_USER").parts.add().text.text = "/slow 99999"
    body = endpoint.chat_format.render_chat(request, target, stream=True)
    async with aclosing(Transport(mounts={"demo": transport})) as carrier:
        response = await carrier.send(
            endpoint.chat_call(target, body, stream=True), timeouts=TIMEOUTS, max_response_bytes=10_000
        )
        async with response:
            chunks = aiter(response.chunks())
            assert (await anext(chunks)).startswith(b"data: ")
            stuck = asyncio.ensure_future(anext(chunks))
            await asyncio.sleep(0)
            stuck.cancel()
            with pytest.raises(asyncio.CancelledError):
                await stuck


async def test_lists_its_models(demo: Demo) -> None:
    assert await demo.check() == list(DEMO_MODELS)


async def test_texts_that_share_words_are_near(demo: Demo) -> None:
    response = await demo.embed("the cat sat down", "the cat sat up", "quarterly revenue report")

    near, nearer, far = (embedding.float_vector.values for embedding in response.embeddings)
    assert len(near) == 64
    assert dot(near, near) == pytest.approx(1)
    assert dot(near, nearer) > dot(near, far)
    assert response.usage.input_tokens == 15


async def test_the_length_of_vectors_can_be_chosen(demo: Demo) -> None:
    response = await demo.embed("a", "", dimensions=7)

    assert [len(embedding.float_vector.values) for embedding in response.embeddings] == [7, 7]


def dot(left: Any, right: Any) -> float:
    return sum(a * b for a, b in zip(left, right, strict=True))


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "number"}}},
        {
            "type": "object",
            "required": ["a"],
            "properties": {"a": {"const": 7}},
            "additionalProperties": False,
        },
        {"type": "array", "items": {"type": "boolean"}, "minItems": 3},
        {"type": "array", "prefixItems": [{"type": "string"}, {"type": "null"}], "items": False},
        {"type": ["null", "integer"], "minimum": 4, "multipleOf": 3},
        {"type": "integer", "exclusiveMinimum": 9, "maximum": 10},
        {"type": "number", "exclusiveMaximum": -1},
        {"type": "string", "minLength": 12, "maxLength": 12},
        {"type": "string", "format": "date-time"},
        {"enum": [None, 1]},
        {
            "anyOf": [
                {"type": "null"},
                {"type": "object", "properties": {"x": {"enum": ["y"]}}, "required": ["x"]},
            ]
        },
        {"oneOf": [{"type": "integer", "minimum": 3}, {"type": "string"}]},
        {
            "allOf": [
                {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]},
                {"properties": {"b": {"type": "string"}}, "required": ["b"]},
            ]
        },
        {
            "$defs": {
                "city": {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
            },
            "type": "object",
            "properties": {"city": {"$ref": "#/$defs/city"}},
            "required": ["city"],
        },
        {
            "type": "object",
            "properties": {
                "value": {"type": "integer"},
                "next": {"anyOf": [{"$ref": "#"}, {"type": "null"}]},
            },
            "required": ["value"],
        },
        True,
        {},
    ],
)
def test_makes_values_that_fit_a_schema(schema: Any) -> None:
    jsonschema.Draft202012Validator(
        schema, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER
    ).validate(make_value(schema))


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#"},
        {"$ref": "#/nowhere"},
        {"$ref": 5},
        {"allOf": [{"$ref": "#"}]},
        {"allOf": [{"$ref": "#"}] * 50},
        {"properties": {name: {"$ref": "#"} for name in "abcdefghij"}},
        {"type": "array", "items": {"$ref": "#"}, "minItems": 50},
        {"anyOf": [{"$ref": "#"}]},
        {"type": "object", "properties": {"self": {"$ref": "#"}}, "required": ["self"]},
        {"type": "array", "items": {"$ref": "#"}, "minItems": 1},
        {"type": "array", "minItems": 10**9},
        {"type": "string", "minLength": 10**9},
        {"enum": []},
        {"type": "integer", "minimum": 1e300},
        {"type": "integer", "multipleOf": 1e-320},
        {"type": 5, "properties": 5, "required": 5},
        None,
    ],
)
def test_odd_schemas_end(schema: Any) -> None:
    assert len(orjson.dumps(make_value(schema))) < 100_000
