"""What is sent for a request in Anthropic's format, written out; and what is refused before it is."""

from base64 import b64encode
from typing import Any

import orjson
import pytest
from google.protobuf.json_format import ParseDict

from aigateway.v1.chat_service_pb2 import CountTokensRequest, CreateChatCompletionRequest
from aigateway.v1.model_pb2 import Model
from gateway_server.errors import GatewayError
from gateway_server.providers.base import CountTokensEndpoint, Target
from tests.support.wire import chat_format, make_endpoint, make_target

SCHEMA = '{"type":"object","properties":{"z":{"type":"string"},"a":{"type":"string"}}}'
PNG = b64encode(b"\x89PNG\r\n\x1a\n").decode()
PDF = b64encode(b"%PDF-1.4").decode()


def text(words: str, **more: Any) -> dict[str, Any]:
    return {"text": {"text": words}, **more}


def turn(role: str, *parts: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"role": f"ROLE_{role}", "parts": list(parts), **more}


HELLO = turn("USER", text("Hello"))
TOOL = {"function": {"functionName": "get_weather", "description": "Weather", "parametersJsonSchema": SCHEMA}}
OUT_TOOL = {"name": "get_weather", "description": "Weather", "input_schema": orjson.loads(SCHEMA)}


def call(call_id: str, arguments: str = "{}", **more: Any) -> dict[str, Any]:
    return {"toolCall": {"toolCallId": call_id, "toolName": "get_weather", "arguments": arguments}, **more}


def result(call_id: str, *parts: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"toolResult": {"toolCallId": call_id, "parts": list(parts), **more}}


def use(call_id: str, **arguments: Any) -> dict[str, Any]:
    return {"type": "tool_use", "id": call_id, "name": "get_weather", "input": arguments}


def make_model(name: str = "claude-test", *, max_output_tokens: int = 0) -> Target:
    target = make_target("anthropic", name)
    return Target(
        provider_id=target.provider_id,
        provider_type=target.provider_type,
        provider_model=name,
        model=Model(max_output_tokens=max_output_tokens),
    )


def render(*messages: dict[str, Any], target: Target | None = None, stream: bool = False, **more: Any) -> Any:
    fields = {"model": "any", "messages": list(messages or [HELLO]), **more}
    request = ParseDict(fields, CreateChatCompletionRequest())
    return orjson.loads(chat_format("anthropic").render_chat(request, target or make_model(), stream=stream))


def refusal(*messages: dict[str, Any], target: Target | None = None, **more: Any) -> GatewayError:
    with pytest.raises(GatewayError) as caught:
        render(*messages, target=target, **more)
    return caught.value


def unsupported(*messages: dict[str, Any], target: Target | None = None, **more: Any) -> str:
    error = refusal(*messages, target=target, **more)
    assert error.reason_name == "FEATURE_NOT_SUPPORTED"
    assert error.metadata["model"] == (target or make_model()).label
    return error.metadata["feature"]


def invalid(*messages: dict[str, Any], **more: Any) -> str:
    error = refusal(*messages, **more)
    assert error.reason_name == "INVALID_REQUEST"
    return error.violations[0].field


def test_a_plain_request() -> None:
    assert render() == {
        "model": "claude-test",
        "max_tokens": 4096,
        "messages": [{"role": "user", "content": "Hello"}],
    }


def test_a_stream_is_asked_for() -> None:
    assert render(stream=True)["stream"] is True


@pytest.mark.parametrize(
    ("asked", "of_model", "sent"), [(100, 8192, 100), (None, 8192, 8192), (None, 0, 4096), (100, 0, 100)]
)
def test_the_limit_is_the_requests_or_the_models_or_a_default(
    asked: int | None, of_model: int, sent: int
) -> None:
    config = {"maxOutputTokens": asked} if asked else {}

    assert (
        render(target=make_model(max_output_tokens=of_model), generationConfig=config)["max_tokens"] == sent
    )


# Turns


def test_leading_system_and_developer_turns_are_the_system_prompt_in_their_order() -> None:
    body = render(
        turn("SYSTEM", text("One.")),
        turn("DEVELOPER", text("Two.", cacheControl={}), text("Three.")),
        turn("SYSTEM", text("Four.")),
        HELLO,
    )

    assert body["system"] == [
        {"type": "text", "text": "One."},
        {"type": "text", "text": "Two.", "cache_control": {"type": "ephemeral"}},
        {"type": "text", "text": "Three."},
        {"type": "text", "text": "Four."},
    ]
    assert body["messages"] == [{"role": "user", "content": "Hello"}]


def test_a_system_prompt_of_one_text_is_a_string() -> None:
    assert render(turn("SYSTEM", text("Be brief.")), HELLO)["system"] == "Be brief."


def test_a_later_system_turn_keeps_its_place_where_the_model_takes_it() -> None:
    later = [HELLO, turn("SYSTEM", text("Now rhyme.")), turn("DEVELOPER", text("Well."))]

    body = render(*later, target=make_model("claude-opus-4-8"))

    assert body["messages"] == [
        {"role": "user", "content": "Hello"},
        {"role": "system", "content": [{"type": "text", "text": t} for t in ("Now rhyme.", "Well.")]},
    ]
    assert "system" not in body
    assert unsupported(*later, target=make_model("claude-opus-4-5")) == (
        "system turns after the conversation has begun"
    )
    assert unsupported(*later) == "system turns after the conversation has begun"


def test_neighbours_of_one_role_become_one_message() -> None:
    body = render(
        turn("USER", text("One.")),
        turn("USER", text("Two.")),
        turn("ASSISTANT", text("Three.")),
        turn("ASSISTANT", call("c1")),
        turn("TOOL", result("c1", text("sunny"))),
        turn("USER", text("Four.")),
    )

    assert body["messages"] == [
        {"role": "user", "content": [{"type": "text", "text": "One."}, {"type": "text", "text": "Two."}]},
        {"role": "assistant", "content": [{"type": "text", "text": "Three."}, use("c1")]},
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "c1", "content": "sunny"},
                {"type": "text", "text": "Four."},
            ],
        },
    ]


def test_results_of_several_tool_turns_are_one_message() -> None:
    body = render(
        HELLO,
        turn("ASSISTANT", call("c1"), call("c2")),
        turn("TOOL", result("c2", text("rain"), isError=True)),
        turn("TOOL", result("c1")),
    )

    assert body["messages"][2] == {
        "role": "user",
        "content": [
            {"type": "tool_result", "tool_use_id": "c2", "content": "rain", "is_error": True},
            {"type": "tool_result", "tool_use_id": "c1"},
        ],
    }


def test_a_result_of_many_parts() -> None:
    parts = [
        text("Look:", cacheControl={"ttl": "3600s"}),
        {"image": {"source": {"inlineData": PNG, "mimeType": "image/png"}}},
        {"document": {"source": {"inlineText": "Words"}}},
        {"provider": {"providerType": "anthropic", "blockJson": '{"type":"search_result","source":"s"}'}},
    ]

    body = render(HELLO, turn("ASSISTANT", call("c1")), turn("TOOL", result("c1", *parts)))

    assert body["messages"][2]["content"][0]["content"] == [
        {"type": "text", "text": "Look:", "cache_control": {"type": "ephemeral", "ttl": "1h"}},
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}},
        {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "Words"}},
        {"type": "search_result", "source": "s"},
    ]


def test_user_turns_between_calls_and_their_results_would_have_to_move_and_are_refused() -> None:
    feature = unsupported(
        HELLO, turn("ASSISTANT", call("c1")), turn("USER", text("Wait.")), turn("TOOL", result("c1"))
    )

    assert feature == "user turns between tool calls and their results"


def test_what_says_nothing_is_left_out() -> None:
    body = render(
        turn("USER", text(""), text("Hello")),
        turn("ASSISTANT", text("")),
        turn("ASSISTANT"),
        turn("USER", text("?")),
    )

    assert body["messages"] == [
        {"role": "user", "content": [{"type": "text", "text": "Hello"}, {"type": "text", "text": "?"}]}
    ]


@pytest.mark.parametrize(
    ("messages", "feature"),
    [
        ([turn("USER", text(""))], "user turns of empty text"),
        ([turn("SYSTEM", text("Be brief."))], "conversations of system turns alone"),
        ([turn("USER", text("Hello"), author="ada")], "turns with an author's name"),
        ([turn("USER", {"audio": {"source": {"uri": "https://a.example/a"}}})], "audio parts"),
        ([turn("USER", {"video": {"source": {"uri": "https://a.example/a"}}})], "video parts"),
        (
            [turn("SYSTEM", {"image": {"source": {"uri": "https://a.example/a"}}})],
            "image parts in system and developer turns",
        ),
        (
            [turn("ASSISTANT", {"image": {"source": {"uri": "https://a.example/a"}}})],
            "image parts in assistant turns",
        ),
        ([turn("ASSISTANT", {"reasoning": {"text": "Hm"}})], "reasoning that it did not sign"),
        (
            [turn("ASSISTANT", {"reasoning": {"redactedData": "/w=="}})],
            "sealed reasoning of another provider",
        ),
        (
            [turn("ASSISTANT", {"reasoning": {"text": "Hm"}, "providerSignature": "/w=="})],
            "reasoning that it did not sign",
        ),
        (
            [turn("ASSISTANT", {"reasoning": {}, "providerSignature": "/w=="})],
            "sealed reasoning of another provider",
        ),
        (
            [turn("ASSISTANT", {"reasoning": {}, "providerSignature": "YQ==", "cacheControl": {}})],
            "cache marks on reasoning",
        ),
        (
            [turn("ASSISTANT", call("c1", '{"city": "Ro'))],
            "tool calls whose arguments are not a JSON object",
        ),
        ([turn("ASSISTANT", call("c1", "[1]"))], "tool calls whose arguments are not a JSON object"),
        (
            [turn("ASSISTANT", {"toolCall": {"toolCallId": "c", "toolName": "f", "freeForm": True}})],
            "free-form tools",
        ),
        (
            [turn("ASSISTANT", {"toolCall": {"toolCallId": "c", "toolName": "f", "providerExecuted": True}})],
            "tool calls that another provider ran itself",
        ),
        (
            [turn("ASSISTANT", {"toolResult": {"toolCallId": "c", "providerExecuted": True}})],
            "results of tools that another provider ran itself",
        ),
        (
            [turn("TOOL", {"toolResult": {"toolCallId": "c", "providerExecuted": True}})],
            "results of tools that another provider ran itself",
        ),
        (
            [turn("USER", {"provider": {"providerType": "openai", "blockType": "x", "blockJson": "{}"}})],
            "x blocks of openai",
        ),
    ],
)
def test_what_has_no_place_in_a_turn_is_refused(messages: list[dict[str, Any]], feature: str) -> None:
    assert unsupported(*messages) == feature


@pytest.mark.parametrize(
    ("messages", "field"),
    [
        ([{"role": "ROLE_USER"}], "messages[0].parts"),
        ([{"parts": [text("a")]}], "messages[0].role"),
        ([turn("USER", {})], "messages[0].parts[0]"),
        ([turn("USER", call("c"))], "messages[0].parts[0].tool_call"),
        ([turn("SYSTEM", call("c"))], "messages[0].parts[0].tool_call"),
        ([turn("ASSISTANT", result("c"))], "messages[0].parts[0].tool_result"),
        ([turn("ASSISTANT", {})], "messages[0].parts[0]"),
        ([turn("TOOL", text("a"))], "messages[0].parts[0]"),
        ([turn("TOOL", result(""))], "messages[0].parts[0].tool_result.tool_call_id"),
        ([turn("TOOL", result("c", call("d")))], "messages[0].parts[0].tool_result.parts[0].tool_call"),
        ([turn("ASSISTANT", call(""))], "messages[0].parts[0].tool_call.tool_call_id"),
        ([turn("ASSISTANT", call("c"), call("c"))], "messages[0].parts[1].tool_call.tool_call_id"),
        ([turn("ASSISTANT", {"toolCall": {"toolCallId": "c"}})], "messages[0].parts[0].tool_call.tool_name"),
        (
            [turn("ASSISTANT", {"reasoning": {"text": "Hm", "redactedData": "YQ=="}})],
            "messages[0].parts[0].reasoning",
        ),
        (
            [turn("USER", {"provider": {"providerType": "anthropic", "blockJson": "[]"}})],
            "messages[0].parts[0].provider.block_json",
        ),
    ],
)
def test_what_makes_no_sense_is_told_by_its_field(messages: list[dict[str, Any]], field: str) -> None:
    assert invalid(*messages) == field


# What the model said before


def test_thoughts_and_calls_keep_their_order_and_their_seals() -> None:
    body = render(
        HELLO,
        turn(
            "ASSISTANT",
            {"reasoning": {"text": "First"}, "providerSignature": b64encode(b"anthropic:sig1").decode()},
            call("c1", '{"z": 1, "a": 5}'),
            {"reasoning": {"redactedData": b64encode(b"anthropic:sealed").decode()}},
            {"reasoning": {}, "providerSignature": b64encode(b"anthropic:sig2").decode()},
            call("c2"),
            {"reasoning": {}},
        ),
    )

    assert body["messages"][1]["content"] == [
        {"type": "thinking", "thinking": "First", "signature": "sig1"},
        {**use("c1"), "input": {"z": 1, "a": 5}},
        {"type": "redacted_thinking", "data": "sealed"},
        {"type": "thinking", "thinking": "", "signature": "sig2"},
        use("c2"),
    ]


def test_arguments_are_sent_as_they_stand() -> None:
    arguments = '{"z" : 12345678901234567890123, "a":1e2}'
    request = ParseDict(
        {"model": "any", "messages": [HELLO, turn("ASSISTANT", call("c1", arguments))]},
        CreateChatCompletionRequest(),
    )

    assert arguments.encode() in chat_format("anthropic").render_chat(request, make_model(), stream=False)


def test_a_call_without_arguments_has_an_empty_object() -> None:
    assert render(HELLO, turn("ASSISTANT", call("c1", "")))["messages"][1]["content"] == [use("c1")]


def test_who_called_a_tool_is_told_again() -> None:
    signature = b64encode(b'{"caller":{"type":"code_execution_20260120","tool_id":"t"}}').decode()

    body = render(HELLO, turn("ASSISTANT", call("c1", providerSignature=signature)))

    caller = {"type": "code_execution_20260120", "tool_id": "t"}
    assert body["messages"][1]["content"] == [{**use("c1"), "caller": caller}]


@pytest.mark.parametrize("signature", [b"CqQBAVSoXO", b"{", b'{"', b"[1]", b"\xff", b'{"type":"x","id":"y"}'])
def test_a_signature_of_another_provider_changes_no_call(signature: bytes) -> None:
    part = call("c1", providerSignature=b64encode(signature).decode())

    assert render(HELLO, turn("ASSISTANT", part))["messages"][1]["content"] == [use("c1")]


def test_an_id_of_another_provider_is_made_one_that_is_taken() -> None:
    body = render(HELLO, turn("ASSISTANT", call("functions.f:0")), turn("TOOL", result("functions.f:0")))

    call_id = "call_d6bdd4de328a22edd610f9548b4f419f"
    assert body["messages"][1]["content"] == [use(call_id)]
    assert body["messages"][2]["content"] == [{"type": "tool_result", "tool_use_id": call_id}]


def test_a_refusal_goes_back_as_its_words() -> None:
    body = render(HELLO, turn("ASSISTANT", {"refusal": {"text": "I can't."}}), HELLO)

    assert body["messages"][1] == {"role": "assistant", "content": "I can't."}


def test_a_block_of_the_provider_goes_back_to_the_letter() -> None:
    block = '{"type": "server_tool_use", "id": "s1", "input": {"z": 12345678901234567890123, "a": 1.50}}'
    request = ParseDict(
        {
            "model": "any",
            "messages": [
                HELLO,
                turn("ASSISTANT", {"provider": {"providerType": "anthropic", "blockJson": block}}),
            ],
        },
        CreateChatCompletionRequest(),
    )

    assert block.encode() in chat_format("anthropic").render_chat(request, make_model(), stream=False)


@pytest.mark.parametrize(("block", "sent"), [('{"type":"x"} ', {"type": "x"}), ("{ }", {})])
def test_a_block_of_the_provider_can_be_marked_for_the_cache(block: str, sent: dict[str, Any]) -> None:
    part = {"provider": {"providerType": "anthropic", "blockJson": block}, "cacheControl": {}}

    body = render(turn("USER", part, text("a")))

    assert body["messages"][0]["content"][0] == {**sent, "cache_control": {"type": "ephemeral"}}


def test_citations_go_back_as_far_as_they_are_understood() -> None:
    citations = [
        {
            "citedText": "a",
            "title": "T",
            "document": {"documentIndex": 1, "unit": "LOCATION_UNIT_CHARACTER", "start": 2, "end": 3},
        },
        {"citedText": "b", "document": {"unit": "LOCATION_UNIT_PAGE", "start": 1, "end": 2}},
        {"citedText": "c", "document": {"unit": "LOCATION_UNIT_BLOCK", "start": 1, "end": 2}},
        {
            "citedText": "d",
            "title": "W",
            "uri": "https://example.com",
            "providerSignature": b64encode(
                b'{"type":"web_search_result_location","encrypted_index":"x"}'
            ).decode(),
        },
        # Of other providers: nothing says where in the sealed results they were.
        {"citedText": "e", "uri": "https://example.com"},
        {"citedText": "f", "providerFileId": "file"},
        {"citedText": "g", "document": {"start": 1, "end": 2}},
    ]

    body = render(HELLO, turn("ASSISTANT", {"text": {"text": "Hi", "citations": citations}}))

    assert body["messages"][1]["content"][0]["citations"] == [
        {
            "type": "char_location",
            "cited_text": "a",
            "document_index": 1,
            "document_title": "T",
            "start_char_index": 2,
            "end_char_index": 3,
        },
        {
            "type": "page_location",
            "cited_text": "b",
            "document_index": 0,
            "document_title": None,
            "start_page_number": 1,
            "end_page_number": 2,
        },
        {
            "type": "content_block_location",
            "cited_text": "c",
            "document_index": 0,
            "document_title": None,
            "start_block_index": 1,
            "end_block_index": 2,
        },
        {
            "type": "web_search_result_location",
            "cited_text": "d",
            "title": "W",
            "url": "https://example.com",
            "encrypted_index": "x",
        },
    ]


# Media


@pytest.mark.parametrize(
    ("part", "block"),
    [
        (
            {"image": {"source": {"inlineData": PNG, "mimeType": "image/jpg"}, "detail": "IMAGE_DETAIL_LOW"}},
            {"type": "image", "source": {"type": "base64", "media_type": "image/jpeg", "data": PNG}},
        ),
        (
            {"image": {"source": {"uri": "https://example.com/a.png"}}},
            {"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}},
        ),
        (
            {"image": {"source": {"uri": f"data:image/png;base64,{PNG}"}}},
            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}},
        ),
        (
            {"image": {"source": {"providerFileId": "file_1"}}},
            {"type": "image", "source": {"type": "file", "file_id": "file_1"}},
        ),
        (
            {
                "document": {
                    "source": {"inlineData": PDF, "mimeType": "application/pdf", "filename": "a.pdf"},
                    "context": "A paper",
                    "citationsEnabled": True,
                },
                "cacheControl": {"ttl": "300s"},
            },
            {
                "type": "document",
                "source": {"type": "base64", "media_type": "application/pdf", "data": PDF},
                "title": "a.pdf",
                "context": "A paper",
                "citations": {"enabled": True},
                "cache_control": {"type": "ephemeral", "ttl": "5m"},
            },
        ),
        (
            {"document": {"source": {"inlineText": "Words", "filename": "a"}, "title": "T"}},
            {
                "type": "document",
                "source": {"type": "text", "media_type": "text/plain", "data": "Words"},
                "title": "T",
            },
        ),
        (
            {"document": {"source": {"inlineData": "w6Q=", "mimeType": "text/plain; charset=utf-8"}}},
            {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "ä"}},
        ),
        (
            {"document": {"source": {"uri": "https://example.com/a.pdf"}}},
            {"type": "document", "source": {"type": "url", "url": "https://example.com/a.pdf"}},
        ),
        (
            {"document": {"source": {"providerFileId": "file_1"}}},
            {"type": "document", "source": {"type": "file", "file_id": "file_1"}},
        ),
    ],
)
def test_media(part: dict[str, Any], block: dict[str, Any]) -> None:
    assert render(turn("USER", part))["messages"][0]["content"] == [block]


@pytest.mark.parametrize(
    ("part", "feature"),
    [
        ({"image": {"source": {"inlineData": PNG, "mimeType": "image/tiff"}}}, "images of type image/tiff"),
        (
            {"image": {"source": {"uri": "file:///etc/passwd"}}},
            "image addresses other than http, https and base64 data",
        ),
        (
            {"document": {"source": {"inlineData": PDF, "mimeType": "text/csv"}}},
            "documents of type text/csv",
        ),
        (
            {"document": {"source": {"inlineData": "/w==", "mimeType": "text/plain"}}},
            "text documents that are not UTF-8",
        ),
    ],
)
def test_media_that_the_provider_does_not_read(part: dict[str, Any], feature: str) -> None:
    assert unsupported(turn("USER", part)) == feature


@pytest.mark.parametrize(
    ("part", "field"),
    [
        ({"image": {}}, "image.source"),
        ({"image": {"source": {"inlineText": "a"}}}, "image.source.inline_text"),
        ({"image": {"source": {"inlineData": PNG}}}, "image.source.mime_type"),
        ({"document": {}}, "document.source"),
    ],
)
def test_media_without_what_they_need(part: dict[str, Any], field: str) -> None:
    assert invalid(turn("USER", part)) == f"messages[0].parts[0].{field}"


# Cache marks


@pytest.mark.parametrize(
    ("ttl", "sent"),
    [
        (None, {"type": "ephemeral"}),
        ("1s", {"type": "ephemeral", "ttl": "5m"}),
        ("300s", {"type": "ephemeral", "ttl": "5m"}),
        ("300.000000001s", {"type": "ephemeral", "ttl": "1h"}),
        ("3600s", {"type": "ephemeral", "ttl": "1h"}),
    ],
)
def test_the_shorter_lifetime_that_is_long_enough(ttl: str | None, sent: dict[str, Any]) -> None:
    control = {"ttl": ttl} if ttl else {}

    body = render(turn("USER", text("a", cacheControl=control)), tools=[{**TOOL, "cacheControl": control}])

    assert body["messages"][0]["content"][0]["cache_control"] == sent
    assert body["tools"][0]["cache_control"] == sent


def test_lifetimes_and_numbers_of_marks_that_there_are_not() -> None:
    longer = turn("USER", text("a", cacheControl={"ttl": "3601s"}))
    marked = [text(str(number), cacheControl={}) for number in range(4)]

    assert unsupported(longer) == "caches that live longer than an hour"
    assert invalid(turn("USER", text("a", cacheControl={"ttl": "0s"}))).endswith("cache_control.ttl")
    assert render(turn("USER", *marked))
    assert (
        unsupported(turn("USER", *marked), tools=[{**TOOL, "cacheControl": {}}]) == "more than 4 cache marks"
    )


def test_marks_on_calls_and_results() -> None:
    body = render(
        HELLO,
        turn("ASSISTANT", call("c1", cacheControl={})),
        turn("TOOL", {**result("c1"), "cacheControl": {}}),
        turn("ASSISTANT", {"refusal": {"text": "No."}, "cacheControl": {}}),
    )

    mark = {"cache_control": {"type": "ephemeral"}}
    assert body["messages"][1]["content"] == [{**use("c1"), **mark}]
    assert body["messages"][2]["content"] == [{"type": "tool_result", "tool_use_id": "c1", **mark}]
    assert body["messages"][3]["content"] == [{"type": "text", "text": "No.", **mark}]


# Tools


def test_tools() -> None:
    tools = [
        TOOL,
        {"function": {"functionName": "now", "strict": True}},
        {"provider": {"toolType": "web_search_20250305", "config": {"max_uses": 3}}},
        {"provider": {"toolType": "text_editor_20250728"}},
        {"provider": {"toolType": "text_editor_20250124"}},
        {"provider": {"toolType": "computer_toolset_20260801"}},
        {"provider": {"toolType": "custom", "config": {"name": "f", "defer_loading": True}}},
        {"provider": {"toolType": "mcp_toolset", "config": {"mcp_server_name": "m"}}},
        {"provider": {"toolType": "tool_search_tool_bm25"}},
    ]

    assert render(tools=tools)["tools"] == [
        OUT_TOOL,
        {"name": "now", "input_schema": {"type": "object", "properties": {}}, "strict": True},
        {"type": "web_search_20250305", "name": "web_search", "max_uses": 3},
        {"type": "text_editor_20250728", "name": "str_replace_based_edit_tool"},
        {"type": "text_editor_20250124", "name": "str_replace_editor"},
        {"type": "computer_toolset_20260801"},
        {"type": "custom", "name": "f", "defer_loading": True},
        {"type": "mcp_toolset", "mcp_server_name": "m"},
        {"type": "tool_search_tool_bm25", "name": "tool_search_tool_bm25"},
    ]


def test_a_schema_is_sent_as_it_stands() -> None:
    request = ParseDict({"model": "any", "messages": [HELLO], "tools": [TOOL]}, CreateChatCompletionRequest())

    assert SCHEMA.encode() in chat_format("anthropic").render_chat(request, make_model(), stream=False)


@pytest.mark.parametrize(
    ("tool", "feature"),
    [
        ({"freeForm": {"toolName": "shell"}}, "free-form tools"),
        ({"provider": {"toolType": "web_search"}}, "the provider-run tool web_search"),
        (
            {"function": {"functionName": "a.b"}},
            "tool names of other characters than letters, digits, _ and -",
        ),
    ],
)
def test_tools_that_there_are_not(tool: dict[str, Any], feature: str) -> None:
    assert unsupported(tools=[tool]) == feature


@pytest.mark.parametrize(
    ("tool", "field"),
    [
        ({}, "tools[0]"),
        (
            {"function": {"functionName": "f", "parametersJsonSchema": "{"}},
            "tools[0].function.parameters_json_schema",
        ),
    ],
)
def test_tools_that_make_no_sense(tool: dict[str, Any], field: str) -> None:
    assert invalid(tools=[tool]) == field


REQUIRED = "TOOL_CHOICE_MODE_REQUIRED"


@pytest.mark.parametrize(
    ("choice", "sent"),
    [
        ({}, None),
        ({"parallelToolCalls": True}, None),
        ({"parallelToolCalls": False}, {"type": "auto", "disable_parallel_tool_use": True}),
        ({"mode": "TOOL_CHOICE_MODE_AUTO"}, {"type": "auto"}),
        (
            {"mode": "TOOL_CHOICE_MODE_AUTO", "parallelToolCalls": False},
            {"type": "auto", "disable_parallel_tool_use": True},
        ),
        ({"mode": "TOOL_CHOICE_MODE_NONE", "parallelToolCalls": False}, {"type": "none"}),
        ({"mode": REQUIRED, "parallelToolCalls": True}, {"type": "any"}),
        (
            {"mode": REQUIRED, "allowedToolNames": ["get_weather"], "parallelToolCalls": False},
            {"type": "tool", "name": "get_weather", "disable_parallel_tool_use": True},
        ),
    ],
)
def test_tool_choice(choice: dict[str, Any], sent: dict[str, Any] | None) -> None:
    assert render(tools=[TOOL], toolChoice=choice).get("tool_choice") == sent


@pytest.mark.parametrize(
    "choice",
    [{"mode": "TOOL_CHOICE_MODE_NONE"}, {"mode": "TOOL_CHOICE_MODE_AUTO"}, {"parallelToolCalls": False}],
)
def test_without_tools_no_choice_is_sent(choice: dict[str, Any]) -> None:
    assert "tool_choice" not in render(toolChoice=choice)


def test_tool_choices_that_there_are_not() -> None:
    other = {"function": {"functionName": "now"}}
    both = {"mode": REQUIRED, "allowedToolNames": ["get_weather", "now"]}

    assert unsupported(tools=[TOOL, other], toolChoice=both) == "a choice limited to several tools"
    assert invalid(toolChoice={"mode": REQUIRED}) == "tool_choice.mode"
    assert invalid(tools=[TOOL], toolChoice={"mode": 9}) == "tool_choice.mode"
    assert invalid(tools=[TOOL], toolChoice={"mode": REQUIRED, "allowedToolNames": ["x"]}) == (
        "tool_choice.allowed_tool_names[0]"
    )
    assert invalid(tools=[TOOL], toolChoice={"allowedToolNames": ["get_weather"]}) == (
        "tool_choice.allowed_tool_names"
    )


# Reasoning


def reason(model: str, *, limit: int | None = 20000, **reasoning: Any) -> dict[str, Any]:
    config = {"maxOutputTokens": limit} if limit else {}
    body = render(target=make_model(model), generationConfig=config, reasoning=reasoning)
    return {key: body[key] for key in ("thinking", "output_config", "max_tokens") if key in body}


@pytest.mark.parametrize(
    ("effort", "word", "budget"),
    [
        ("MINIMAL", "low", 1024),
        ("LOW", "low", 2048),
        ("MEDIUM", "medium", 8192),
        ("HIGH", "high", 10000),
        ("MAX", "max", 10000),
    ],
)
def test_efforts_are_words_for_new_models_and_budgets_for_old_ones(
    effort: str, word: str, budget: int
) -> None:
    """A budget is at most half of the limit."""
    asked = f"REASONING_EFFORT_{effort}"
    adaptive = {"thinking": {"type": "adaptive"}, "output_config": {"effort": word}, "max_tokens": 20000}
    enabled = {"thinking": {"type": "enabled", "budget_tokens": budget}, "max_tokens": 20000}

    for model in ("claude-test", "claude-opus-4-6", "claude-sonnet-5"):
        assert reason(model, effort=asked) == adaptive
    for model in ("claude-3-7-sonnet-latest", "claude-sonnet-4-20250514", "claude-haiku-4-5"):
        assert reason(model, effort=asked) == enabled


def test_no_reasoning() -> None:
    for nothing in ({"effort": "REASONING_EFFORT_NONE"}, {"budgetTokens": 0}):
        assert reason("claude-test", **nothing) == {"thinking": {"type": "disabled"}, "max_tokens": 20000}
        assert reason("claude-3-haiku-20240307", **nothing) == {"max_tokens": 20000}


def test_reasoning_as_the_provider_likes() -> None:
    assert reason("claude-test", effort="REASONING_EFFORT_UNSPECIFIED") == {"max_tokens": 20000}
    assert reason("claude-test", includeReasoning=True) == {"max_tokens": 20000}


def test_the_thought_is_asked_for() -> None:
    shown = reason("claude-opus-5", effort="REASONING_EFFORT_LOW", includeReasoning=True)

    assert shown["thinking"] == {"type": "adaptive", "display": "summarized"}


def test_budgets() -> None:
    enabled = {"type": "enabled", "budget_tokens": 1024}

    assert reason("claude-test", budgetTokens=1024) == {"thinking": enabled, "max_tokens": 20000}
    assert reason("claude-test", limit=None, budgetTokens=1024)["max_tokens"] == 4096 + 1024
    assert reason("claude-sonnet-4-5", limit=None, effort="REASONING_EFFORT_HIGH") == {
        "thinking": {"type": "enabled", "budget_tokens": 16384},
        "max_tokens": 4096 + 16384,
    }


@pytest.mark.parametrize(
    ("model", "limit", "reasoning", "feature"),
    [
        ("claude-test", 4096, {"budgetTokens": 1023}, "a reasoning budget of less than 1024 tokens"),
        ("claude-test", 2048, {"budgetTokens": 2048}, "2048 tokens of reasoning in 2048 tokens of output"),
        ("claude-opus-4-8", 4096, {"budgetTokens": 1024}, "a reasoning budget in tokens"),
        ("claude-3-5-sonnet-20240620", 4096, {"budgetTokens": 1024}, "reasoning"),
        ("claude-3-opus-latest", 4096, {"effort": "REASONING_EFFORT_LOW"}, "reasoning"),
        (
            "claude-haiku-4-5",
            1024,
            {"effort": "REASONING_EFFORT_LOW"},
            "1024 tokens of reasoning in 1024 tokens of output",
        ),
    ],
)
def test_reasoning_that_a_model_does_not_do(
    model: str, limit: int, reasoning: dict[str, Any], feature: str
) -> None:
    config = {"maxOutputTokens": limit}

    assert unsupported(target=make_model(model), generationConfig=config, reasoning=reasoning) == feature


def test_an_effort_that_is_none() -> None:
    assert invalid(reasoning={"effort": 99}) == "reasoning.effort"


def test_a_demanded_call_goes_with_an_effort_but_not_with_a_budget() -> None:
    demanded: dict[str, Any] = {"tools": [TOOL], "toolChoice": {"mode": REQUIRED}}

    body = render(reasoning={"effort": "REASONING_EFFORT_LOW"}, **demanded)

    assert body["tool_choice"] == {"type": "any"}
    assert unsupported(reasoning={"budgetTokens": 1024}, **demanded) == (
        "a tool call that is demanded, together with a reasoning budget"
    )


# Knobs


def sampled(model: str, reasoning: dict[str, Any] | None = None, **config: Any) -> dict[str, Any]:
    more: dict[str, Any] = {"reasoning": reasoning} if reasoning else {}
    body = render(target=make_model(model), generationConfig=config, **more)
    return {key: body[key] for key in ("temperature", "top_p", "top_k") if key in body}


def test_knobs_are_sent_to_models_that_have_them() -> None:
    knobs: dict[str, Any] = {"temperature": 0.5, "topP": 0.9, "topK": 5}

    assert sampled("claude-3-haiku-20240307", **knobs) == {"temperature": 0.5, "top_p": 0.9, "top_k": 5}
    assert sampled("some-alias", **knobs) == {"temperature": 0.5, "top_p": 0.9, "top_k": 5}
    # One or the other.
    assert sampled("claude-sonnet-4-5", **knobs) == {"temperature": 0.5, "top_k": 5}
    assert sampled("claude-sonnet-4-5", topP=0.9) == {"top_p": 0.9}
    assert sampled("claude-opus-4-7", **knobs) == {}


def test_knobs_that_a_thinking_model_does_not_have_are_left_out() -> None:
    effort = {"effort": "REASONING_EFFORT_LOW"}

    assert sampled("some-alias", effort, temperature=0.5, topP=0.9, topK=5) == {}
    assert sampled("some-alias", effort, temperature=1, topP=0.95) == {"temperature": 1, "top_p": 0.95}
    assert sampled("some-alias", {"effort": "REASONING_EFFORT_NONE"}, topK=5) == {"top_k": 5}


def test_knobs_that_the_provider_does_not_have_are_left_out() -> None:
    config = {"seed": 1, "frequencyPenalty": 1, "presencePenalty": 1, "logitBias": {"5": 1}, "choiceCount": 1}
    modalities = {"responseModalities": ["MODALITY_TEXT"]}

    assert render(generationConfig={**config, **modalities}, storageOptions={"store": False}) == render()


@pytest.mark.parametrize(
    ("config", "feature"),
    [
        ({"choiceCount": 2}, "several answers to one request"),
        ({"logprobs": True}, "log probabilities"),
        ({"topLogprobs": 0}, "log probabilities"),
        ({"responseModalities": ["MODALITY_TEXT", "MODALITY_AUDIO"]}, "answers in audio"),
        ({"audioOutput": {"voice": "v"}}, "answers in audio"),
        ({"temperature": 1.1}, "a temperature above 1"),
        ({"stopSequences": ["END", "\n"]}, "stop sequences of white space"),
    ],
)
def test_what_would_change_the_answer_is_refused(config: dict[str, Any], feature: str) -> None:
    assert unsupported(generationConfig=config) == feature


def test_knobs_that_are_no_numbers() -> None:
    assert invalid(generationConfig={"temperature": "NaN"}) == "generation_config.temperature"
    assert invalid(generationConfig={"topP": "NaN"}) == "generation_config.top_p"
    assert invalid(generationConfig={"responseModalities": [99]}) == "generation_config.response_modalities"


def test_stop_sequences() -> None:
    assert render(generationConfig={"stopSequences": ["END", " a"]})["stop_sequences"] == ["END", " a"]


def test_who_asks() -> None:
    assert render(endUserId="u1")["metadata"] == {"user_id": "u1"}


# The form of the answer


def test_an_answer_that_fits_a_schema() -> None:
    wanted = {"jsonSchema": {"schemaName": "n", "jsonSchema": SCHEMA, "strict": True}}

    body = render(responseFormat=wanted, reasoning={"effort": "REASONING_EFFORT_LOW"})

    form = {"type": "json_schema", "schema": orjson.loads(SCHEMA)}
    assert body["output_config"] == {"effort": "low", "format": form}


@pytest.mark.parametrize(
    ("schema", "sent"),
    [
        ('{"type":"object"}', {"description": "D", "type": "object"}),
        ('{"type":"object","description":"E"}', {"type": "object", "description": "E"}),
    ],
)
def test_a_description_goes_into_the_schema(schema: str, sent: dict[str, Any]) -> None:
    wanted = {"jsonSchema": {"description": "D", "jsonSchema": schema}}

    assert render(responseFormat=wanted)["output_config"]["format"]["schema"] == sent


def test_other_forms() -> None:
    assert render(responseFormat={"text": {}}) == render()
    assert unsupported(responseFormat={"jsonObject": {}}) == "JSON answers without a schema"
    assert invalid(responseFormat={}) == "response_format"
    assert invalid(responseFormat={"jsonSchema": {"jsonSchema": "[]"}}) == (
        "response_format.json_schema.json_schema"
    )


# Options


def test_options_are_merged_and_betas_kept_out() -> None:
    options = {
        "anthropic": {
            "betas": ["b"],
            "service_tier": "auto",
            "cache_control": {"type": "ephemeral"},
            "output_config": {"effort": "max"},
        },
        "openai": {"verbosity": "low"},
    }

    body = render(providerOptions=options, responseFormat={"jsonSchema": {"jsonSchema": "{}"}})

    assert body == {
        **render(),
        "service_tier": "auto",
        "cache_control": {"type": "ephemeral"},
        "output_config": {"effort": "max", "format": {"type": "json_schema", "schema": {}}},
    }


@pytest.mark.parametrize("key", ["model", "messages", "system", "stream", "max_tokens"])
def test_options_may_not_touch_what_limits_and_guardrails_rest_on(key: str) -> None:
    assert invalid(providerOptions={"anthropic": {key: 1}}) == f'provider_options["anthropic"].{key}'


# Counts


def test_a_count_asks_for_the_conversation_and_its_tools() -> None:
    endpoint = make_endpoint("anthropic")
    assert isinstance(endpoint, CountTokensEndpoint)
    request = ParseDict(
        {
            "model": "any",
            "messages": [turn("SYSTEM", text("Be brief.")), HELLO],
            "tools": [TOOL],
            "providerOptions": {
                "anthropic": {"betas": ["b"], "service_tier": "auto", "thinking": {"type": "adaptive"}}
            },
        },
        CountTokensRequest(),
    )

    body = orjson.loads(endpoint.count_format.render_count(request, make_model()))

    assert body == {
        "model": "claude-test",
        "system": "Be brief.",
        "messages": [{"role": "user", "content": "Hello"}],
        "tools": [OUT_TOOL],
        "thinking": {"type": "adaptive"},
    }
