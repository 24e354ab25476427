"""What is sent for a request in Gemini's format, written out; and what is refused before it is."""

from base64 import b64encode
from typing import Any

import orjson
import pytest
from google.protobuf.json_format import ParseDict

from aigateway.v1.chat_service_pb2 import CountTokensRequest, CreateChatCompletionRequest
from gateway_server.errors import GatewayError
from gateway_server.providers.base import CountTokensEndpoint
from tests.support.wire import chat_format, make_endpoint, make_target

#: Key order and an integer that no float holds.
SCHEMA = '{"type":"object","properties":{"z":{"type":"integer","maximum":12345678901234567890},"a":{}}}'
PNG = b64encode(b"\x89PNG").decode()
OLD, NEW = "gemini-2.5-flash", "gemini-3-flash-preview"


def text(words: str, **more: Any) -> dict[str, Any]:
    return {"text": {"text": words}, **more}


def turn(role: str, *parts: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"role": f"ROLE_{role}", "parts": list(parts), **more}


HELLO = turn("USER", text("Hello"))
OUT_HELLO = {"role": "user", "parts": [{"text": "Hello"}]}
TOOL = {"function": {"functionName": "f", "description": "F", "parametersJsonSchema": SCHEMA}}
SEARCH = {"provider": {"toolType": "googleSearch"}}


def signed(signature: str) -> dict[str, str]:
    return {"providerSignature": b64encode(b"gemini:" + signature.encode()).decode()}


def call(call_id: str, name: str = "f", arguments: str = "{}", **more: Any) -> dict[str, Any]:
    return {"toolCall": {"toolCallId": call_id, "toolName": name, "arguments": arguments}, **more}


def result(call_id: str, *parts: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"toolResult": {"toolCallId": call_id, "parts": list(parts), **more}}


def media(kind: str, source: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {kind: {"source": source, **more}}


INLINE = media("image", {"inlineData": PNG, "mimeType": "image/png"})
OUT_INLINE = {"inlineData": {"mimeType": "image/png", "data": PNG}}


def render(*messages: dict[str, Any], model: str = OLD, **more: Any) -> Any:
    fields = {"model": "any", "messages": list(messages or [HELLO]), **more}
    request = ParseDict(fields, CreateChatCompletionRequest())
    body = chat_format("google").render_chat(request, make_target("google", model), stream=False)
    return orjson.loads(body)


def contents(*messages: dict[str, Any], model: str = OLD, **more: Any) -> Any:
    return render(*messages, model=model, **more)["contents"]


def generation(**fields: Any) -> Any:
    return render(generationConfig=fields)["generationConfig"]


def refusal(*messages: dict[str, Any], model: str = OLD, **more: Any) -> GatewayError:
    with pytest.raises(GatewayError) as caught:
        render(*messages, model=model, **more)
    return caught.value


def unsupported(*messages: dict[str, Any], model: str = OLD, **more: Any) -> str:
    error = refusal(*messages, model=model, **more)
    assert error.reason_name == "FEATURE_NOT_SUPPORTED"
    assert error.metadata["model"] == f"my-google/{model}"
    return error.metadata["feature"]


def invalid(*messages: dict[str, Any], **more: Any) -> str:
    error = refusal(*messages, **more)
    assert error.reason_name == "INVALID_REQUEST"
    return error.violations[0].field


def test_a_plain_request_is_the_same_for_whole_answers_and_streams() -> None:
    request = ParseDict({"model": "any", "messages": [HELLO]}, CreateChatCompletionRequest())
    bodies = [
        chat_format("google").render_chat(request, make_target("google"), stream=stream)
        for stream in (False, True)
    ]

    assert bodies[0] == bodies[1] == orjson.dumps({"contents": [OUT_HELLO]})


def test_system_and_developer_turns_are_one_instruction() -> None:
    body = render(
        turn("SYSTEM", text("A"), text("B")),
        turn("DEVELOPER", text("C")),
        HELLO,
        turn("ASSISTANT", text("Hi")),
    )

    assert body == {
        "systemInstruction": {"parts": [{"text": "A"}, {"text": "B"}, {"text": "C"}]},
        "contents": [OUT_HELLO, {"role": "model", "parts": [{"text": "Hi"}]}],
    }


def test_turns_of_one_role_stay_apart_unless_they_are_results() -> None:
    assert contents(HELLO, HELLO) == [OUT_HELLO, OUT_HELLO]


# -- media -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("part", "rendered"),
    [
        (INLINE, OUT_INLINE),
        (
            media("audio", {"inlineData": PNG, "mimeType": "audio/wav"}),
            {"inlineData": {"mimeType": "audio/wav", "data": PNG}},
        ),
        (
            media(
                "document", {"inlineData": PNG, "mimeType": "application/pdf", "filename": "a.pdf"}, title="A"
            ),
            {"inlineData": {"mimeType": "application/pdf", "data": PNG}},
        ),
        (
            media("document", {"inlineText": "words"}),
            {"inlineData": {"mimeType": "text/plain", "data": b64encode(b"words").decode()}},
        ),
        (
            media("document", {"inlineText": "a,b", "mimeType": "text/csv"}),
            {"inlineData": {"mimeType": "text/csv", "data": b64encode(b"a,b").decode()}},
        ),
        (
            media("image", {"uri": "https://example.com/a.png", "mimeType": "image/png"}),
            {"fileData": {"fileUri": "https://example.com/a.png", "mimeType": "image/png"}},
        ),
        (
            media("image", {"uri": "gs://bucket/a.png", "mimeType": "image/png"}),
            {"fileData": {"fileUri": "gs://bucket/a.png", "mimeType": "image/png"}},
        ),
        (
            media("video", {"uri": "https://www.youtube.com/watch?v=1"}),
            {"fileData": {"fileUri": "https://www.youtube.com/watch?v=1"}},
        ),
        (
            media("document", {"uri": "https://generativelanguage.googleapis.com/v1beta/files/f1"}),
            {"fileData": {"fileUri": "https://generativelanguage.googleapis.com/v1beta/files/f1"}},
        ),
        (
            media("document", {"providerFileId": "https://host/files/f1", "mimeType": "application/pdf"}),
            {"fileData": {"fileUri": "https://host/files/f1", "mimeType": "application/pdf"}},
        ),
        (
            media("image", {"uri": f"data:image/png;base64,{PNG}"}),
            OUT_INLINE,
        ),
        (
            media(
                "video",
                {"inlineData": PNG, "mimeType": "video/mp4"},
                startOffset="1.5s",
                endOffset="90s",
                frameRate=0.5,
            ),
            {
                "inlineData": {"mimeType": "video/mp4", "data": PNG},
                "videoMetadata": {"startOffset": "1.5s", "endOffset": "90s", "fps": 0.5},
            },
        ),
        (
            media(
                "video",
                {"inlineData": PNG, "mimeType": "video/mp4"},
                startOffset="0s",
                endOffset="0.000000001s",
            ),
            {
                "inlineData": {"mimeType": "video/mp4", "data": PNG},
                "videoMetadata": {"startOffset": "0s", "endOffset": "0.000000001s"},
            },
        ),
    ],
)
def test_media(part: dict[str, Any], rendered: dict[str, Any]) -> None:
    assert contents(turn("USER", text("Look:"), part)) == [
        {"role": "user", "parts": [{"text": "Look:"}, rendered]}
    ]
    # What the model made goes back the same way.
    assert contents(HELLO, turn("ASSISTANT", part))[1] == {"role": "model", "parts": [rendered]}


@pytest.mark.parametrize(
    ("model", "detail", "rendered"),
    [
        (NEW, "IMAGE_DETAIL_LOW", {"mediaResolution": {"level": "MEDIA_RESOLUTION_LOW"}}),
        (NEW, "IMAGE_DETAIL_HIGH", {"mediaResolution": {"level": "MEDIA_RESOLUTION_HIGH"}}),
        (NEW, "IMAGE_DETAIL_AUTO", {}),
        (OLD, "IMAGE_DETAIL_HIGH", {}),
    ],
)
def test_how_closely_to_look_is_told_to_models_that_know_it(
    model: str, detail: str, rendered: dict[str, Any]
) -> None:
    part = media("image", {"inlineData": PNG, "mimeType": "image/png"}, detail=detail)

    assert contents(turn("USER", part), model=model)[0]["parts"] == [{**OUT_INLINE, **rendered}]


@pytest.mark.parametrize(
    ("part", "feature"),
    [
        (
            media("image", {"uri": "file:///etc/passwd", "mimeType": "image/png"}),
            "image addresses other than",
        ),
        (
            media("image", {"uri": "data:image/png,raw", "mimeType": "image/png"}),
            "image addresses other than",
        ),
        (media("image", {"uri": "https://example.com/a.png"}), "image parts by address without mime_type"),
        (
            media("video", {"uri": "https://evil.com/https://www.youtube.com/watch"}),
            "video parts by address without mime_type",
        ),
        (media("document", {"inlineText": "a"}, context="c"), "the context of document parts"),
        (media("document", {"inlineText": "a"}, citationsEnabled=True), "citations from document parts"),
    ],
)
def test_media_that_is_refused(part: dict[str, Any], feature: str) -> None:
    assert unsupported(turn("USER", part)).startswith(feature)


@pytest.mark.parametrize(
    ("part", "field"),
    [
        (media("image", {"inlineData": PNG}), "image.source.mime_type"),
        (media("image", {"inlineData": PNG, "mimeType": "nonsense"}), "image.source.mime_type"),
        (media("image", {"inlineText": "a"}), "image.source.inline_text"),
        (media("audio", {}), "audio.source"),
        (media("image", {"inlineData": PNG, "mimeType": "image/png"}, detail=9), "image.detail"),
        (
            media("video", {"inlineData": PNG, "mimeType": "video/mp4"}, startOffset="-1s"),
            "video.start_offset",
        ),
        (
            media("video", {"inlineData": PNG, "mimeType": "video/mp4"}, frameRate="NaN"),
            "video.frame_rate",
        ),
    ],
)
def test_media_that_cannot_be_right(part: dict[str, Any], field: str) -> None:
    assert invalid(turn("USER", part)) == f"messages[0].parts[0].{field}"


# -- turns of the model ------------------------------------------------------------------------------------


def test_a_turn_of_the_model_keeps_its_order_and_signatures() -> None:
    answer = turn(
        "ASSISTANT",
        {"reasoning": {"text": "Hm.", "isSummary": True}},
        text("Looking."),
        call("aigw_r_0_0", arguments='{"b": 1, "a": 12345678901234567890}', **signed("s-1")),
        call("call_2"),
        text("", **signed("s-2")),
    )

    assert contents(HELLO, answer)[1] == {
        "role": "model",
        "parts": [
            {"text": "Hm.", "thought": True},
            {"text": "Looking."},
            {
                "functionCall": {"name": "f", "args": {"b": 1, "a": 12345678901234567890}},
                "thoughtSignature": "s-1",
            },
            {"functionCall": {"name": "f", "args": {}, "id": "call_2"}},
            {"text": "", "thoughtSignature": "s-2"},
        ],
    }


@pytest.mark.parametrize("signature", [b"foreign", b"gemini:\xff", b""])
def test_signatures_of_other_providers_are_not_sent(signature: bytes) -> None:
    part = text("Hi", providerSignature=b64encode(signature).decode())

    assert contents(HELLO, turn("ASSISTANT", part))[1]["parts"] == [{"text": "Hi"}]


def test_the_first_call_of_a_turn_without_a_signature_gets_a_stand_in_where_one_is_wanted() -> None:
    stand_in = "skip_thought_signature_validator"
    answers = (
        turn("ASSISTANT", call("a"), call("b")),
        turn("ASSISTANT", call("a", **signed("s")), call("b")),
        turn("ASSISTANT", text("Hi")),
    )

    found = [
        [part.get("thoughtSignature") for part in contents(HELLO, answer, model=NEW)[1]["parts"]]
        for answer in answers
    ]

    assert found == [[stand_in, None], ["s", None], [None]]
    assert "thoughtSignature" not in contents(HELLO, answers[0], model=OLD)[1]["parts"][0]


def test_what_the_model_ran_itself_goes_back_as_it_came() -> None:
    block = '{"executableCode": {"code": "print(12345678901234567890)"}, "thoughtSignature": "s"}'
    part = {"provider": {"providerType": "google", "blockType": "executableCode", "blockJson": block}}
    request = ParseDict(
        {"model": "any", "messages": [HELLO, turn("ASSISTANT", part)]}, CreateChatCompletionRequest()
    )

    body = chat_format("google").render_chat(request, make_target("google"), stream=False)

    assert block.encode() in body


def test_a_refusal_is_told_in_words() -> None:
    assert contents(HELLO, turn("ASSISTANT", {"refusal": {"text": "No."}}))[1]["parts"] == [{"text": "No."}]


def test_a_hidden_thought_says_nothing_but_keeps_its_turn() -> None:
    hidden = {"reasoning": {"text": ""}}

    assert contents(HELLO, turn("ASSISTANT", hidden, text("Hi")))[1]["parts"] == [{"text": "Hi"}]
    assert contents(HELLO, turn("ASSISTANT", hidden), HELLO)[1] == {"role": "model", "parts": [{"text": ""}]}
    assert contents(HELLO, turn("ASSISTANT", {**hidden, **signed("s")}))[1]["parts"] == [
        {"text": "", "thought": True, "thoughtSignature": "s"}
    ]


@pytest.mark.parametrize(
    ("part", "feature"),
    [
        ({"reasoning": {"redactedData": PNG}}, "sealed reasoning of another provider"),
        (call("a", arguments='{"a": '), "tool calls whose arguments are not a JSON object"),
        (call("a", arguments="[1]"), "tool calls whose arguments are not a JSON object"),
        ({"toolCall": {"toolCallId": "a", "toolName": "f", "freeForm": True}}, "free-form tools"),
        (
            {"toolCall": {"toolCallId": "a", "toolName": "f", "providerExecuted": True}},
            "tool calls that another provider ran itself",
        ),
        (
            {"toolResult": {"toolCallId": "a", "providerExecuted": True}},
            "results of tools that another provider ran itself",
        ),
        (
            {"provider": {"providerType": "anthropic", "blockType": "odd", "blockJson": "{}"}},
            "odd blocks of anthropic",
        ),
    ],
)
def test_parts_of_other_providers_that_cannot_be_said(part: dict[str, Any], feature: str) -> None:
    assert unsupported(HELLO, turn("ASSISTANT", part)) == feature


@pytest.mark.parametrize(
    ("role", "part", "field"),
    [
        ("ASSISTANT", {"toolCall": {"toolName": "f"}}, "tool_call.tool_call_id"),
        ("ASSISTANT", {"toolCall": {"toolCallId": "a"}}, "tool_call.tool_name"),
        ("ASSISTANT", result("a"), "tool_result"),
        ("ASSISTANT", {}, ""),
        (
            "ASSISTANT",
            {"provider": {"providerType": "google", "blockType": "odd", "blockJson": "[]"}},
            "provider.block_json",
        ),
        ("USER", call("a"), "tool_call"),
        ("USER", {}, ""),
        ("TOOL", text("a"), ""),
        ("TOOL", {"toolResult": {"toolCallId": ""}}, "tool_result.tool_call_id"),
        ("TOOL", result("unknown", text("a")), "tool_result.tool_name"),
        ("TOOL", result("a", call("b"), toolName="f"), "tool_result.parts[0].tool_call"),
        ("TOOL", result("a", {}, toolName="f"), "tool_result.parts[0]"),
    ],
)
def test_parts_that_stand_where_they_cannot(role: str, part: dict[str, Any], field: str) -> None:
    expected = f"messages[1].parts[0].{field}".rstrip(".")
    assert invalid(HELLO, turn(role, part)) == expected


def test_turns_that_cannot_be_said() -> None:
    assert unsupported(turn("SYSTEM", text("A"))) == "conversations of system turns alone"
    assert unsupported(HELLO, turn("SYSTEM", text("A"))) == "system turns after the conversation has begun"
    assert unsupported(turn("USER", text("A"), author="ada")) == "turns with an author's name"
    assert unsupported(turn("SYSTEM", INLINE), HELLO) == "image parts in system and developer turns"
    assert invalid(turn("SYSTEM", call("a")), HELLO) == "messages[0].parts[0].tool_call"
    assert invalid({"role": "ROLE_USER"}) == "messages[0].parts"
    assert invalid({"role": 99, "parts": [text("A")]}) == "messages[0].role"


# -- results -----------------------------------------------------------------------------------------------


def responses(*parts: dict[str, Any], model: str = OLD, **more: Any) -> Any:
    answer = turn("ASSISTANT", call("c1", "get"))
    [part] = contents(HELLO, answer, turn("TOOL", result("c1", *parts, **more)), model=model)[2]["parts"]
    return part["functionResponse"]


@pytest.mark.parametrize(
    ("parts", "is_error", "response"),
    [
        ([], False, {"output": ""}),
        ([text("sunny")], False, {"output": "sunny"}),
        ([text("[1]")], False, {"output": "[1]"}),
        ([text("{broken")], False, {"output": "{broken"}),
        ([text(' {"a": 1}')], False, {"a": 1}),
        ([text("a"), text('{"b": 1}')], False, {"output": ["a", '{"b": 1}']}),
        ([], True, {"error": ""}),
        ([text("no")], True, {"error": "no"}),
        ([text('{"a": 1}')], True, {"error": {"a": 1}}),
    ],
)
def test_a_result_is_an_object(parts: list[dict[str, Any]], is_error: bool, response: dict[str, Any]) -> None:
    assert responses(*parts, isError=is_error) == {"name": "get", "id": "c1", "response": response}


def test_a_result_keeps_the_name_that_it_has() -> None:
    assert responses(text("a"), toolName="other")["name"] == "other"


def test_media_in_results_go_to_models_that_take_them() -> None:
    picture = media("image", {"inlineData": PNG, "mimeType": "image/png"}, detail="IMAGE_DETAIL_LOW")
    by_address = media("document", {"uri": "https://host/a.pdf", "mimeType": "application/pdf"})
    out_address = {"fileData": {"fileUri": "https://host/a.pdf", "mimeType": "application/pdf"}}

    assert responses(picture, model=NEW) == {
        "name": "get",
        "id": "c1",
        "response": {},
        "parts": [OUT_INLINE],
    }
    assert responses(text("Here:"), by_address, model=NEW)["response"] == {"output": "Here:"}
    assert responses(text("Here:"), by_address, model=NEW)["parts"] == [out_address]
    assert responses(picture, model=NEW, isError=True)["response"] == {"error": ""}
    tool_turn = turn("TOOL", result("c1", picture, toolName="get"))
    assert unsupported(HELLO, tool_turn) == "image parts in tool results"


def test_results_of_parallel_calls_are_one_content() -> None:
    answer = turn("ASSISTANT", call("c1", "f"), call("c2", "g"))

    rendered = contents(
        HELLO, answer, turn("TOOL", result("c1")), turn("TOOL", result("c2")), turn("USER", text("And?"))
    )

    assert [content["role"] for content in rendered] == ["user", "model", "user", "user"]
    assert [part["functionResponse"]["name"] for part in rendered[2]["parts"]] == ["f", "g"]


def test_results_without_ids_come_in_the_order_of_their_calls() -> None:
    """Nothing else tells the provider which of them is which."""
    answer = turn("ASSISTANT", call("aigw_r_0_0"), call("c9", "g"), call("aigw_r_0_1"), call("aigw_r_0_2"))
    results = turn(
        "TOOL",
        result("aigw_r_0_2", text("third")),
        result("c9", text("named")),
        result("aigw_r_0_0", text("first")),
        result("aigw_r_0_1", text("second")),
    )

    parts = [part["functionResponse"] for part in contents(HELLO, answer, results)[2]["parts"]]

    assert [part["response"]["output"] for part in parts] == ["first", "named", "second", "third"]
    assert [part.get("id") for part in parts] == [None, "c9", None, None]


def test_a_result_answers_the_last_call_of_its_id() -> None:
    """Ids that other gateways make, such as call_0, come again in each turn."""
    rendered = contents(
        HELLO,
        turn("ASSISTANT", call("call_0", "first")),
        turn("TOOL", result("call_0")),
        turn("ASSISTANT", call("call_0", "second")),
        turn("TOOL", result("call_0")),
    )

    names = [content["parts"][0]["functionResponse"]["name"] for content in rendered[2::2]]
    assert names == ["first", "second"]


def test_results_of_tools_that_another_provider_ran_are_refused() -> None:
    tool_turn = turn("TOOL", result("a", toolName="f", providerExecuted=True))

    assert unsupported(HELLO, tool_turn) == "results of tools that another provider ran itself"


# -- tools -------------------------------------------------------------------------------------------------


def test_functions_stand_together_and_schemas_as_they_were_written() -> None:
    tools = [TOOL, SEARCH, {"function": {"functionName": "g"}}]
    request = ParseDict({"model": "any", "messages": [HELLO], "tools": tools}, CreateChatCompletionRequest())

    body = chat_format("google").render_chat(request, make_target("google"), stream=False)

    assert orjson.loads(body)["tools"] == [
        {
            "functionDeclarations": [
                {"name": "f", "description": "F", "parametersJsonSchema": orjson.loads(SCHEMA)},
                {"name": "g", "description": ""},
            ]
        },
        {"googleSearch": {}},
    ]
    assert SCHEMA.encode() in body
    assert "toolConfig" not in orjson.loads(body)


@pytest.mark.parametrize(
    ("tool_type", "name"),
    [
        ("code_execution", "codeExecution"),
        ("computerUse", "computerUse"),
        ("file_search", "fileSearch"),
        ("google_maps", "googleMaps"),
        ("google_search", "googleSearch"),
        ("googleSearchRetrieval", "googleSearchRetrieval"),
        ("url_context", "urlContext"),
    ],
)
def test_tools_that_the_provider_runs(tool_type: str, name: str) -> None:
    tool = {"provider": {"toolType": tool_type, "config": {"topK": 3, "ratio": 0.5}}}

    assert render(tools=[tool])["tools"] == [{name: {"topK": 3, "ratio": 0.5}}]


@pytest.mark.parametrize(
    ("tools", "choice", "calling"),
    [
        ([TOOL], {"mode": "TOOL_CHOICE_MODE_AUTO"}, {"mode": "AUTO"}),
        ([TOOL], {"mode": "TOOL_CHOICE_MODE_NONE"}, {"mode": "NONE"}),
        ([TOOL], {"mode": "TOOL_CHOICE_MODE_REQUIRED"}, {"mode": "ANY"}),
        (
            [TOOL],
            {"mode": "TOOL_CHOICE_MODE_REQUIRED", "allowedToolNames": ["f"]},
            {"mode": "ANY", "allowedFunctionNames": ["f"]},
        ),
        ([TOOL], {}, None),
        ([TOOL], {"parallelToolCalls": True}, None),
        ([TOOL], {"mode": "TOOL_CHOICE_MODE_NONE", "parallelToolCalls": False}, {"mode": "NONE"}),
        ([SEARCH], {"mode": "TOOL_CHOICE_MODE_AUTO"}, None),
        ([SEARCH], {"parallelToolCalls": False}, None),
        ([], {"mode": "TOOL_CHOICE_MODE_NONE"}, None),
    ],
)
def test_the_choice_among_tools(
    tools: list[Any], choice: dict[str, Any], calling: dict[str, Any] | None
) -> None:
    body = render(tools=tools, toolChoice=choice)

    assert body.get("toolConfig") == (None if calling is None else {"functionCallingConfig": calling})


@pytest.mark.parametrize(
    ("choice", "mode"),
    [
        (None, "VALIDATED"),
        ({}, "VALIDATED"),
        ({"mode": "TOOL_CHOICE_MODE_AUTO"}, "VALIDATED"),
        ({"mode": "TOOL_CHOICE_MODE_REQUIRED"}, "ANY"),
        ({"mode": "TOOL_CHOICE_MODE_NONE"}, "NONE"),
    ],
)
def test_a_strict_function_holds_the_model_to_the_schemas(choice: dict[str, Any] | None, mode: str) -> None:
    strict = {"function": {"functionName": "g", "strict": True}}

    chosen: dict[str, Any] = {} if choice is None else {"toolChoice": choice}
    body = render(tools=[TOOL, strict], **chosen)

    assert body["toolConfig"] == {"functionCallingConfig": {"mode": mode}}


@pytest.mark.parametrize(
    ("tools", "choice", "feature"),
    [
        ([TOOL], {"parallelToolCalls": False}, "at most one tool call in a turn"),
        ([SEARCH, TOOL], {"mode": "TOOL_CHOICE_MODE_NONE"}, "forbidding tools that it runs itself"),
        ([SEARCH], {"mode": "TOOL_CHOICE_MODE_REQUIRED"}, "requiring a call of tools that are no functions"),
        ([{"freeForm": {"toolName": "g"}}], {}, "free-form tools"),
        (
            [{"provider": {"toolType": "web_search_20250305"}}],
            {},
            "the provider-run tool web_search_20250305",
        ),
    ],
)
def test_tools_and_choices_that_are_refused(tools: list[Any], choice: dict[str, Any], feature: str) -> None:
    assert unsupported(tools=tools, toolChoice=choice) == feature


@pytest.mark.parametrize(
    ("tools", "choice", "field"),
    [
        ([{}], {}, "tools[0]"),
        (
            [{"function": {"functionName": "g", "parametersJsonSchema": "[]"}}],
            {},
            "tools[0].function.parameters_json_schema",
        ),
        ([SEARCH, {}], {}, "tools[1]"),
        (
            [TOOL],
            {"mode": "TOOL_CHOICE_MODE_REQUIRED", "allowedToolNames": ["f", "x"]},
            "tool_choice.allowed_tool_names[1]",
        ),
        ([TOOL], {"allowedToolNames": ["f"]}, "tool_choice.allowed_tool_names"),
        ([TOOL], {"mode": 99}, "tool_choice.mode"),
    ],
)
def test_tools_and_choices_that_cannot_be_right(tools: list[Any], choice: dict[str, Any], field: str) -> None:
    assert invalid(tools=tools, toolChoice=choice) == field


# -- settings ----------------------------------------------------------------------------------------------


def test_knobs() -> None:
    assert generation(
        maxOutputTokens=100,
        temperature=1,
        topP=0.9,
        topK=40,
        frequencyPenalty=0.5,
        presencePenalty=-0.5,
        stopSequences=["END"],
        seed=7,
        choiceCount=2,
        topLogprobs=3,
    ) == {
        "maxOutputTokens": 100,
        "temperature": 1,
        "topP": 0.9,
        "topK": 40,
        "frequencyPenalty": 0.5,
        "presencePenalty": -0.5,
        "stopSequences": ["END"],
        "seed": 7,
        "candidateCount": 2,
        "responseLogprobs": True,
        "logprobs": 3,
    }


def test_knobs_that_the_format_lacks_are_left_out() -> None:
    body = render(
        generationConfig={"logitBias": {"1": 5}},
        endUserId="u1",
        storageOptions={"store": True, "promptCacheKey": "k"},
    )
    marked = {**TOOL, "cacheControl": {"ttl": "300s"}}

    assert body == {"contents": [OUT_HELLO]}
    assert contents(turn("USER", text("Hello", cacheControl={})), tools=[marked]) == [OUT_HELLO]


@pytest.mark.parametrize(
    ("seed", "sent"),
    [(0, 0), (2**31 - 1, 2**31 - 1), (2**31, -(2**31)), (-1, -1), (2**40 + 5, 5), (-(2**63), 0)],
)
def test_a_seed_has_32_bits(seed: int, sent: int) -> None:
    assert generation(seed=seed) == {"seed": sent}


def test_logprobs_alone() -> None:
    assert generation(logprobs=True) == {"responseLogprobs": True}


def test_answers_in_other_modalities() -> None:
    assert generation(
        responseModalities=["MODALITY_TEXT", "MODALITY_IMAGE", "MODALITY_AUDIO"],
        audioOutput={"voice": "Kore", "mimeType": "audio/pcm"},
    ) == {
        "responseModalities": ["TEXT", "IMAGE", "AUDIO"],
        "speechConfig": {"voiceConfig": {"prebuiltVoiceConfig": {"voiceName": "Kore"}}},
    }
    assert generation(audioOutput={"mimeType": "audio/L16; rate=24000"}) == {"speechConfig": {}}


@pytest.mark.parametrize(
    ("wanted", "rendered"),
    [
        ({"text": {}}, None),
        ({"jsonObject": {}}, {"responseMimeType": "application/json"}),
        (
            {"jsonSchema": {"schemaName": "s", "jsonSchema": SCHEMA, "strict": True}},
            {"responseMimeType": "application/json", "responseJsonSchema": orjson.loads(SCHEMA)},
        ),
    ],
)
def test_the_form_of_the_answer(wanted: dict[str, Any], rendered: dict[str, Any] | None) -> None:
    assert render(responseFormat=wanted).get("generationConfig") == rendered


GEMMA = "gemma-3-27b-it"


@pytest.mark.parametrize(
    ("model", "reasoning", "thinking"),
    [
        (OLD, {}, None),
        (OLD, {"effort": "REASONING_EFFORT_UNSPECIFIED"}, None),
        (OLD, {"effort": "REASONING_EFFORT_NONE"}, {"thinkingBudget": 0}),
        (OLD, {"effort": "REASONING_EFFORT_MINIMAL"}, {"thinkingBudget": 512}),
        (OLD, {"effort": "REASONING_EFFORT_LOW"}, {"thinkingBudget": 1024}),
        (OLD, {"effort": "REASONING_EFFORT_MEDIUM"}, {"thinkingBudget": 8192}),
        (OLD, {"effort": "REASONING_EFFORT_HIGH"}, {"thinkingBudget": 24576}),
        (OLD, {"effort": "REASONING_EFFORT_MAX"}, {"thinkingBudget": 24576}),
        ("gemini-2.5-pro", {"effort": "REASONING_EFFORT_MAX"}, {"thinkingBudget": 32768}),
        (OLD, {"budgetTokens": 0}, {"thinkingBudget": 0}),
        (OLD, {"budgetTokens": 100}, {"thinkingBudget": 100}),
        (NEW, {"budgetTokens": 100}, {"thinkingBudget": 100}),
        (NEW, {"effort": "REASONING_EFFORT_NONE"}, {"thinkingBudget": 0}),
        (NEW, {"effort": "REASONING_EFFORT_MINIMAL"}, {"thinkingLevel": "MINIMAL"}),
        ("gemini-3.1-pro-preview", {"effort": "REASONING_EFFORT_MINIMAL"}, {"thinkingLevel": "LOW"}),
        (NEW, {"effort": "REASONING_EFFORT_LOW"}, {"thinkingLevel": "LOW"}),
        (NEW, {"effort": "REASONING_EFFORT_MEDIUM"}, {"thinkingLevel": "MEDIUM"}),
        (NEW, {"effort": "REASONING_EFFORT_HIGH"}, {"thinkingLevel": "HIGH"}),
        (NEW, {"effort": "REASONING_EFFORT_MAX"}, {"thinkingLevel": "HIGH"}),
        ("models/gemini-3-flash", {"effort": "REASONING_EFFORT_LOW"}, {"thinkingLevel": "LOW"}),
        ("gemini-flash-latest", {"effort": "REASONING_EFFORT_LOW"}, {"thinkingLevel": "LOW"}),
        (OLD, {"includeReasoning": True}, {"includeThoughts": True}),
        (
            NEW,
            {"effort": "REASONING_EFFORT_LOW", "includeReasoning": True},
            {"thinkingLevel": "LOW", "includeThoughts": True},
        ),
        ("gemini-2.0-flash", {"includeReasoning": True}, None),
        ("gemini-1.5-pro", {"effort": "REASONING_EFFORT_NONE"}, None),
        (GEMMA, {"budgetTokens": 0}, None),
    ],
)
def test_reasoning(model: str, reasoning: dict[str, Any], thinking: dict[str, Any] | None) -> None:
    body = render(model=model, reasoning=reasoning)

    assert body.get("generationConfig", {}).get("thinkingConfig") == thinking


@pytest.mark.parametrize(
    ("more", "feature"),
    [
        ({"model": "gemini-2.0-flash", "reasoning": {"effort": "REASONING_EFFORT_LOW"}}, "reasoning"),
        ({"model": GEMMA, "reasoning": {"budgetTokens": 5}}, "reasoning"),
        ({"generationConfig": {"stopSequences": list("abcdef")}}, "more than 5 stop sequences"),
        ({"generationConfig": {"responseModalities": ["MODALITY_VIDEO"]}}, "answers in video"),
        ({"generationConfig": {"audioOutput": {"mimeType": "audio/mpeg"}}}, "audio as audio/mpeg"),
    ],
)
def test_settings_that_are_refused(more: dict[str, Any], feature: str) -> None:
    assert unsupported(**more) == feature


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"reasoning": {"effort": 99}}, "reasoning.effort"),
        ({"generationConfig": {"responseModalities": [99]}}, "generation_config.response_modalities"),
        ({"generationConfig": {"temperature": "NaN"}}, "generation_config.temperature"),
        ({"responseFormat": {}}, "response_format"),
        (
            {"responseFormat": {"jsonSchema": {"jsonSchema": "nonsense"}}},
            "response_format.json_schema.json_schema",
        ),
    ],
)
def test_settings_that_cannot_be_right(more: dict[str, Any], field: str) -> None:
    assert invalid(**more) == field


# -- options of the provider -------------------------------------------------------------------------------


def test_options_are_merged_last_and_deeply() -> None:
    options = {
        "cachedContent": "cachedContents/c1",
        "generationConfig": {"imageConfig": {"aspectRatio": "1:1"}, "temperature": 2},
        "toolConfig": {"retrievalConfig": {"languageCode": "de"}},
    }

    body = render(
        generationConfig={"temperature": 1, "topK": 3},
        tools=[TOOL],
        toolChoice={"mode": "TOOL_CHOICE_MODE_REQUIRED"},
        providerOptions={"google": options, "openai": {"verbosity": "low"}},
    )

    assert body["cachedContent"] == "cachedContents/c1"
    assert body["generationConfig"] == {"temperature": 2, "topK": 3, "imageConfig": {"aspectRatio": "1:1"}}
    assert body["toolConfig"] == {
        "functionCallingConfig": {"mode": "ANY"},
        "retrievalConfig": {"languageCode": "de"},
    }


@pytest.mark.parametrize(
    "key",
    [
        "model",
        "contents",
        "systemInstruction",
        "system_instruction",
        "generation_config",
        "tool_config",
        "generationConfig.candidateCount",
        "generationConfig.candidate_count",
        "generationConfig.maxOutputTokens",
        "generationConfig.max_output_tokens",
    ],
)
def test_options_may_not_touch_what_limits_and_guardrails_rest_on(key: str) -> None:
    outer, _, inner = key.partition(".")
    options = {outer: {inner: 1} if inner else "x"}

    assert invalid(providerOptions={"google": options}) == f'provider_options["google"].{key}'


# -- counts ------------------------------------------------------------------------------------------------


def render_count(**fields: Any) -> Any:
    endpoint = make_endpoint("google")
    assert isinstance(endpoint, CountTokensEndpoint)
    request = ParseDict({"model": "any", "messages": [HELLO], **fields}, CountTokensRequest())
    return orjson.loads(endpoint.count_format.render_count(request, make_target("google", OLD)))


def test_a_count_has_instructions_and_tools() -> None:
    assert render_count(messages=[turn("SYSTEM", text("A")), HELLO], tools=[TOOL]) == {
        "generateContentRequest": {
            "model": "models/gemini-2.5-flash",
            "systemInstruction": {"parts": [{"text": "A"}]},
            "contents": [OUT_HELLO],
            "tools": [
                {
                    "functionDeclarations": [
                        {"name": "f", "description": "F", "parametersJsonSchema": orjson.loads(SCHEMA)}
                    ]
                }
            ],
        }
    }


def test_a_count_takes_options_like_a_request() -> None:
    options = {"google": {"cachedContent": "cachedContents/c1"}}

    assert (
        render_count(providerOptions=options)["generateContentRequest"]["cachedContent"]
        == "cachedContents/c1"
    )
    with pytest.raises(GatewayError, match="messages"):
        render_count(providerOptions={"google": {"contents": []}})
