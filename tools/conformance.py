"""Makes the table of docs/providers.md, provider by feature, by asking each format to say each thing.

Run as ``python -m tools.conformance``; with --check it compares with what is there. A feature is a pair of
requests, with it and without: one that is refused names its reason, one that changes nothing is left out.
"""

import argparse
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import orjson

from aigateway import messages
from aigateway.v1.chat_service_pb2 import (
    CountTokensRequest,
    CreateChatCompletionRequest,
    FreeFormTool,
    GenerationConfig,
    JsonObjectFormat,
    ProviderTool,
    ReasoningConfig,
    ReasoningEffort,
    ResponseFormat,
    Tool,
    ToolChoice,
    ToolChoiceMode,
)
from aigateway.v1.content_pb2 import CacheControl, ContentPart, MediaSource, Message, VideoPart
from aigateway.v1.embeddings_service_pb2 import CreateEmbeddingsRequest, EmbeddingInput
from aigateway.v1.error_reason_pb2 import ErrorReason
from bench.bodies import stream_pieces
from gateway_server.errors import GatewayError
from gateway_server.providers.base import ChatFormat, CountTokensEndpoint
from tests.portability.origins import MODELS, PROVIDERS, begin
from tests.support.wire import make_endpoint, make_target

ROOT: Final = Path(__file__).resolve().parent.parent
DOCUMENT: Final = ROOT / "docs" / "providers.md"
MARKS: Final = re.compile(r"(<!-- conformance -->\n).*?(<!-- /conformance -->)", re.DOTALL)

Request = CreateChatCompletionRequest
YES: Final = "yes"
LEFT_OUT: Final = "left out without an error: a knob of sampling or caching, no content"

_USER: Final = messages.user("Hello")
_SCHEMA: Final = '{"type":"object","properties":{"city":{"type":"string"}}}'
_TOOL: Final = messages.function_tool("get_weather", description="The weather", parameters=_SCHEMA)
#: A tool that the provider runs, by its own name for it.
_PROVIDER_TOOLS: Final = {"anthropic": "web_search_20250305", "google": "googleSearch"}

#: Where the model decides how it is asked.
_EMBEDDING_MODELS: Final = {"bedrock": "amazon.titan-embed-text-v2:0"}


def _chat(*turns: Message, **fields: object) -> Request:
    return Request(model="any", messages=turns or [_USER], **fields)  # type: ignore[arg-type]


_PLAIN: Final = _chat()
_WITH_TOOLS: Final = _chat(tools=[_TOOL])


@dataclass(frozen=True, slots=True)
class Feature:
    """One row: a request that has it, made for a type of provider, and the same without it.

    Without ``without`` that is a word of greeting.
    """

    name: str
    ask: Callable[[str], Request]
    without: Request | None = None


def _says(name: str, *parts: messages.Content) -> Feature:
    return Feature(name, lambda _: _chat(messages.user("Look", *parts)), _chat(messages.user("Look")))


def _generates(name: str, config: GenerationConfig) -> Feature:
    return Feature(name, lambda _: _chat(generation_config=config))


def _chooses(name: str, choice: ToolChoice) -> Feature:
    return Feature(name, lambda _: _chat(tools=[_TOOL], tool_choice=choice), _WITH_TOOLS)


def _answers(name: str, response_format: ResponseFormat) -> Feature:
    return Feature(name, lambda _: _chat(response_format=response_format))


def _reasons(name: str, reasoning: ReasoningConfig) -> Feature:
    config = GenerationConfig(max_output_tokens=8192)
    return Feature(
        name,
        lambda _: _chat(generation_config=config, reasoning=reasoning),
        _chat(generation_config=config),
    )


def _image_url() -> ContentPart:
    part = messages.image_url("https://example.com/a.png")
    part.image.source.mime_type = "image/png"
    return part


def _video() -> ContentPart:
    return ContentPart(video=VideoPart(source=MediaSource(inline_data=b"v", mime_type="video/mp4")))


def _cached() -> ContentPart:
    part = messages.text("Look")
    part.cache_control.CopyFrom(CacheControl())
    return part


def _provider_tool(provider_type: str) -> Request:
    tool_type = _PROVIDER_TOOLS.get(provider_type, "web_search")
    return _chat(tools=[Tool(provider=ProviderTool(tool_type=tool_type))])


def _results(*content: messages.Content) -> Callable[[str], Request]:
    """Results of the calls that the provider itself made."""

    def ask(provider_type: str) -> Request:
        turn = begin(provider_type, "calls")
        calls = [part.tool_call for part in turn.parts]
        results = [messages.tool_result(call, "Sunny", *content) for call in calls]
        return _chat(_USER, turn, *results, tools=[_TOOL])

    return ask


def _thought(provider_type: str) -> Request:
    """A thought of the provider itself, in the turn after."""
    return _chat(_USER, begin(provider_type, "thought", "text"), _USER)


FEATURES: Final = (
    Feature("System turns", lambda _: _chat(messages.system("Be brief."), _USER)),
    Feature("Developer turns", lambda _: _chat(messages.developer("Be brief."), _USER)),
    _says("Images, inline", messages.image(b"i", mime_type="image/png")),
    _says("Images, by address", _image_url()),
    _says("Audio, inline", messages.audio(b"a", mime_type="audio/wav")),
    _says("Video, inline", _video()),
    _says("Documents (PDF), inline", messages.document(b"%PDF", mime_type="application/pdf")),
    Feature("Function tools", lambda _: _WITH_TOOLS),
    _chooses("At most one tool call in a turn", ToolChoice(parallel_tool_calls=False)),
    _chooses(
        "A named tool required",
        ToolChoice(mode=ToolChoiceMode.TOOL_CHOICE_MODE_REQUIRED, allowed_tool_names=["get_weather"]),
    ),
    Feature("Free-form tools", lambda _: _chat(tools=[Tool(free_form=FreeFormTool(tool_name="sql"))])),
    Feature("Tools that the provider runs", _provider_tool),
    Feature("Tool results", _results()),
    Feature("Tool results with images", _results(messages.image(b"i", mime_type="image/png"))),
    _answers("JSON object", ResponseFormat(json_object=JsonObjectFormat())),
    _answers("JSON schema", messages.json_schema_format("place", _SCHEMA)),
    _reasons("Reasoning effort", ReasoningConfig(effort=ReasoningEffort.REASONING_EFFORT_HIGH)),
    _reasons("Reasoning budget in tokens", ReasoningConfig(budget_tokens=2048)),
    Feature(
        "Its reasoning in the next turn", _thought, _chat(_USER, messages.assistant("Let me look."), _USER)
    ),
    _generates("Several answers to one request", GenerationConfig(choice_count=2)),
    _generates("Log probabilities", GenerationConfig(logprobs=True, top_logprobs=2)),
    _generates("Stop sequences", GenerationConfig(stop_sequences=["END"])),
    _generates("top_k", GenerationConfig(top_k=5)),
    _generates("Seed", GenerationConfig(seed=7)),
    Feature("cache_control", lambda _: _chat(messages.user(_cached())), _chat(messages.user("Look"))),
    _says(
        "Citations from documents",
        messages.document(b"%PDF", mime_type="application/pdf", citations_enabled=True),
    ),
)


def probe(feature: Feature, provider_type: str, chat: ChatFormat) -> str:
    """``yes``, or the reason why not; raises when the provider finds fault with the request itself."""
    target = make_target(provider_type, MODELS[provider_type])
    try:
        asked = chat.render_chat(feature.ask(provider_type), target, stream=False)
    except GatewayError as error:
        return _reason_of(error)
    plain = chat.render_chat(feature.without or _PLAIN, target, stream=False)
    return LEFT_OUT if orjson.loads(asked) == orjson.loads(plain) else YES


def _reason_of(error: GatewayError) -> str:
    if error.reason != ErrorReason.ERROR_REASON_FEATURE_NOT_SUPPORTED:
        raise error
    return f"refused: {error.metadata['feature']}"


def probe_provider(provider_type: str) -> dict[str, str]:
    """What one type of provider says to every feature, the surfaces beside chat among them."""
    endpoint = make_endpoint(provider_type)
    target = make_target(provider_type, MODELS[provider_type])
    chat = endpoint.chat_format
    if chat is None:
        raise ValueError(f"{provider_type} serves no chat")
    found = {feature.name: probe(feature, provider_type, chat) for feature in FEATURES}
    parser = chat.chat_stream(target)
    events = [
        event for piece in stream_pieces(provider_type, ["Hello", " there"]) for event in parser.feed(piece)
    ]
    events += parser.close()
    if events[-1].WhichOneof("event") != "end":
        raise ValueError(f"{provider_type}: a stream did not come to its end")
    found["Streaming"] = YES
    found["Embeddings"] = "the provider type serves none"
    if endpoint.embeddings_format is not None:
        request = CreateEmbeddingsRequest(model="any", inputs=[EmbeddingInput(text="Hello")])
        model = _EMBEDDING_MODELS.get(provider_type, MODELS[provider_type])
        endpoint.embeddings_format.render_embeddings(request, make_target(provider_type, model))
        found["Embeddings"] = YES
    found["Counting tokens"] = "the provider counts none here; the gateway estimates"
    if isinstance(endpoint, CountTokensEndpoint):
        count = endpoint.count_format.render_count(CountTokensRequest(model="any", messages=[_USER]), target)
        endpoint.count_call(target, count)
        found["Counting tokens"] = YES
    return found


def make_table() -> str:
    """The table, and below it the reasons by number."""
    columns = {provider_type: probe_provider(provider_type) for provider_type in PROVIDERS}
    reasons: list[str] = []
    rows = [
        _row(name, [_cell(column[name], reasons) for column in columns.values()])
        for name in next(iter(columns.values()))
    ]
    head = [_row("", [f"`{name}`" for name in columns]), _row("---", ["---"] * len(columns))]
    asked = _row("Model asked", [f"`{MODELS[name]}`" for name in columns])
    notes = [f"{number}. {reason}" for number, reason in enumerate(reasons, 1)]
    return "\n".join([*head, asked, *rows, "", "Reasons:", "", *notes])


def _cell(found: str, reasons: list[str]) -> str:
    if found == YES:
        return YES
    if found not in reasons:
        reasons.append(found)
    return f"no ({reasons.index(found) + 1})"


def _row(name: str, cells: Sequence[str]) -> str:
    return f"| {' | '.join([name, *cells])} |"


def main(arguments: Mapping[str, bool]) -> int:
    """Writes the table, or says whether it is the one that is there."""
    document = DOCUMENT.read_text()
    table = make_table()
    made, count = MARKS.subn(lambda found: f"{found[1]}\n{table}\n\n{found[2]}", document)
    if count != 1:
        print(f"{DOCUMENT} has no place marked conformance", file=sys.stderr)
        return 2
    if not arguments["check"]:
        DOCUMENT.write_text(made)
    elif made != document:
        print(f"{DOCUMENT} is stale: run python -m tools.conformance", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare, and write nothing")
    sys.exit(main(vars(parser.parse_args())))
