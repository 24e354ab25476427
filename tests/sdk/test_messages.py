"""What the helpers make is what a request holds."""

from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

import aigateway
from aigateway import (
    assistant,
    audio,
    chat_request,
    completion_text,
    completion_tool_calls,
    developer,
    document,
    document_text,
    document_url,
    function_tool,
    image,
    image_url,
    json_schema_format,
    system,
    text,
    tool_result,
    types,
    user,
)
from aigateway.options import ChatOptions, timestamp
from aigateway.types import ContentPart, Message, Role


def test_turns_hold_texts_and_parts_in_order() -> None:
    picture = image_url("https://example/x.png", detail=types.ImageDetail.IMAGE_DETAIL_HIGH)

    assert user("Look:", picture, author="ann") == Message(
        role=Role.ROLE_USER, author="ann", parts=[ContentPart(text=types.TextPart(text="Look:")), picture]
    )
    assert [turn.role for turn in (system("a"), developer("a"), assistant("a"))] == [
        Role.ROLE_SYSTEM,
        Role.ROLE_DEVELOPER,
        Role.ROLE_ASSISTANT,
    ]
    assert text("a") == ContentPart(text=types.TextPart(text="a"))


def test_a_tool_result_answers_a_call_or_an_id() -> None:
    call = types.ToolCallPart(tool_call_id="t1", tool_name="look")
    expected = types.ToolResultPart(tool_call_id="t1", tool_name="look", parts=[text("42")], is_error=True)

    by_call = tool_result(call, "42", is_error=True)
    by_id = tool_result("t1", "42")

    assert by_call == Message(role=Role.ROLE_TOOL, parts=[ContentPart(tool_result=expected)])
    assert by_id.parts[0].tool_result.tool_call_id == "t1"


def test_media_come_from_bytes_files_and_addresses(tmp_path: Path) -> None:
    path = tmp_path / "scan.PDF"
    path.write_bytes(b"%PDF")
    source = types.MediaSource(inline_data=b"%PDF", mime_type="application/pdf", filename="scan.PDF")

    assert document(path, title="Scan").document == types.DocumentPart(source=source, title="Scan")
    assert image(b"x", mime_type="image/png").image.source == types.MediaSource(
        inline_data=b"x", mime_type="image/png"
    )
    assert audio(b"x", mime_type="audio/wav").audio.source.mime_type == "audio/wav"
    assert document_url("https://example/a.pdf").document.source.uri == "https://example/a.pdf"
    assert document_text("words").document.source.inline_text == "words"
    (tmp_path / "picture.webp").write_bytes(b"w")
    assert image(tmp_path / "picture.webp").image.source.mime_type == "image/webp"


def test_bytes_without_a_type_are_refused(tmp_path: Path) -> None:
    (tmp_path / "thing").write_bytes(b"x")
    with pytest.raises(ValueError, match="bytes need a mime_type"):
        image(b"x")
    with pytest.raises(ValueError, match="thing does not tell its mime_type"):
        document(tmp_path / "thing")


def test_a_schema_keeps_its_order_and_its_letters() -> None:
    schema = {"type": "object", "properties": {"b": {"description": "Größe"}, "a": {}}}
    written = '{"type": "object", "properties": {"b": {"description": "Größe"}, "a": {}}}'

    tool = function_tool("look", schema, description="Looks.", strict=True)

    assert tool == types.Tool(
        function=types.FunctionTool(
            function_name="look", description="Looks.", parameters_json_schema=written, strict=True
        )
    )
    assert function_tool("now").function == types.FunctionTool(function_name="now")
    assert json_schema_format("s", '{"b":1}').json_schema.json_schema == '{"b":1}'


def test_the_text_and_the_calls_of_an_answer_are_those_of_its_first_choice() -> None:
    mine = types.ToolCallPart(tool_call_id="t1", tool_name="look")
    theirs = types.ToolCallPart(tool_call_id="t2", tool_name="search", provider_executed=True)
    parts = [
        text("a"),
        ContentPart(tool_call=mine),
        ContentPart(tool_call=theirs),
        ContentPart(refusal=types.RefusalPart(text="no")),
        text("b"),
    ]
    first = types.Choice(message=Message(parts=parts))
    completion = types.ChatCompletion(choices=[first, types.Choice(index=1, message=user("c"))])

    assert completion_text(completion) == "ab"
    assert completion_tool_calls(completion) == [mine]
    assert completion_text(types.ChatCompletion()) == ""
    assert completion_tool_calls(types.ChatCompletion()) == []


#: One value for each option, and where it must turn up.
OPTIONS: dict[str, tuple[Any, Any]] = {
    "max_output_tokens": (0, 0),
    "temperature": (0.0, 0.0),
    "top_p": (0.5, 0.5),
    "top_k": (3, 3),
    "stop_sequences": (["a"], ["a"]),
    "seed": (0, 0),
    "frequency_penalty": (-1.0, -1.0),
    "presence_penalty": (1.0, 1.0),
    "choice_count": (2, 2),
    "logprobs": (True, True),
    "top_logprobs": (4, 4),
    "logit_bias": ({5: -1.0}, {5: -1.0}),
    "response_modalities": ([types.Modality.MODALITY_TEXT], [types.Modality.MODALITY_TEXT]),
    "audio_output": (types.AudioOutput(voice="v"), types.AudioOutput(voice="v")),
    "tools": ((function_tool("f"),), [function_tool("f")]),
    "tool_choice": ("required", types.ToolChoice(mode=types.ToolChoiceMode.TOOL_CHOICE_MODE_REQUIRED)),
    "response_format": (json_schema_format("s", "{}"), json_schema_format("s", "{}")),
    "reasoning": (
        "low",
        types.ReasoningConfig(effort=types.ReasoningEffort.REASONING_EFFORT_LOW, include_reasoning=True),
    ),
    "gateway_options": (types.GatewayOptions(disable_fallback=True),) * 2,
    "end_user_id": ("u", "u"),
    "labels": ({"a": "b"}, {"a": "b"}),
    "storage_options": (types.StorageOptions(store=False),) * 2,
}


@pytest.mark.parametrize("name", OPTIONS)
def test_each_option_is_a_field_of_the_request_and_leaves_the_others_alone(name: str) -> None:
    given, expected = OPTIONS[name]
    request = chat_request("m", "Hi", **{name: given})
    config = types.GenerationConfig.DESCRIPTOR.fields_by_name
    holder = request.generation_config if name in config else request

    assert getattr(holder, name) == expected
    set_fields = {field.name for field, _ in request.ListFields()} - {"model", "messages"}
    assert set_fields == {"generation_config" if name in config else name}
    if name in config:
        assert [field.name for field, _ in request.generation_config.ListFields()] == [name]


def test_every_field_of_a_request_has_an_option() -> None:
    request = set(types.CreateChatCompletionRequest.DESCRIPTOR.fields_by_name)
    config = set(types.GenerationConfig.DESCRIPTOR.fields_by_name)
    fields = (request | config) - {"model", "messages", "generation_config"}

    assert set(ChatOptions.__annotations__) == fields
    assert set(OPTIONS) | {"provider_options"} == fields


def test_provider_options_may_nest() -> None:
    request = chat_request("m", "Hi", provider_options={"openai": {"a": {"b": [1, None, "c"]}}})

    assert request.provider_options["openai"]["a"] == {"b": [1, None, "c"]}


def test_none_is_the_same_as_leaving_out_and_unknown_options_are_refused() -> None:
    assert chat_request("m", "Hi", temperature=None, tools=None, reasoning=None) == chat_request("m", "Hi")
    with pytest.raises(TypeError, match="temprature: no such option"):
        chat_request("m", "Hi", temprature=1)  # type: ignore[call-arg]
    with pytest.raises(ValueError, match="TOOL_CHOICE_MODE_MAYBE"):
        chat_request("m", "Hi", tool_choice="maybe")  # type: ignore[arg-type]


def test_a_conversation_is_text_a_turn_or_turns() -> None:
    assert chat_request("m", "Hi").messages == [user("Hi")]
    assert chat_request("m", user("Hi")).messages == [user("Hi")]
    assert chat_request("m", iter([system("S"), user("Hi")])).messages == [system("S"), user("Hi")]


def test_reasoning_switched_off_is_not_asked_for() -> None:
    assert not chat_request("m", "Hi", reasoning="none").reasoning.include_reasoning


def test_a_time_without_a_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="no time zone"):
        timestamp(datetime(2026, 1, 1))  # noqa: DTZ001 -- the point


def test_the_public_surface_is_this() -> None:
    assert sorted(aigateway.__all__) == aigateway.__all__
    assert set(aigateway.__all__) == PUBLIC
    assert all(hasattr(aigateway, name) for name in PUBLIC)


PUBLIC = {
    *("Client", "AsyncClient", "ChatStream", "AsyncChatStream", "Tls", "ChatOptions", "__version__", "types"),
    *("AuthenticationError", "BudgetExceededError", "CallCancelledError", "ConflictError"),
    *("DeadlineExceededError", "FieldViolation", "GatewayError", "GuardrailBlockedError", "InternalError"),
    *("InvalidRequestError", "NotFoundError", "PermissionDeniedError", "RateLimitError", "SlowReaderError"),
    *("StreamProtocolError", "UnavailableError", "UnimplementedError", "UpstreamError"),
    *("ChatAccumulator", "fold_events", "chat_request", "completion_text", "completion_tool_calls"),
    *("system", "developer", "user", "assistant", "tool_result", "text", "function_tool"),
    *("image", "image_url", "audio", "document", "document_text", "document_url", "json_schema_format"),
}
