"""What of a request is read, and what is left of it where something is masked."""

import json
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest

from aigateway.v1.chat_service_pb2 import (
    CreateChatCompletionRequest,
    FreeFormTool,
    FunctionTool,
    JsonSchemaFormat,
    ProviderTool,
    ResponseFormat,
    Tool,
    ToolGrammar,
)
from aigateway.v1.content_pb2 import (
    AudioPart,
    Citation,
    ContentPart,
    DocumentPart,
    ImagePart,
    MediaSource,
    Message,
    ProviderPart,
    ReasoningPart,
    RefusalPart,
    Role,
    TextPart,
    ToolCallPart,
    ToolResultPart,
    VideoPart,
)
from aigateway.v1.embeddings_service_pb2 import CreateEmbeddingsRequest, EmbeddingInput, TokenIds
from aigateway.v1.guardrail_profile_pb2 import (
    GuardrailPart,
    GuardrailProfile,
    GuardrailRule,
    PiiDetector,
    PromptInjectionDetector,
)
from aigateway.v1.routing_pb2 import GuardrailAction
from gateway_server.errors import GatewayError
from gateway_server.guardrails.request import RequestGuard
from gateway_server.guardrails.rules import Tally, compile_profile
from gateway_server.providers.wire.json_values import from_struct
from tests.support.text_models import WordModels

LOG, REDACT, BLOCK = (
    GuardrailAction.GUARDRAIL_ACTION_LOG,
    GuardrailAction.GUARDRAIL_ACTION_REDACT,
    GuardrailAction.GUARDRAIL_ACTION_BLOCK,
)
MASK = GuardrailRule(
    rule_id="pii",
    action=GuardrailAction.GUARDRAIL_ACTION_REDACT,
    pii=PiiDetector(entity_types=["EMAIL_ADDRESS"]),
)
MAIL = "jo@acme.io"
WORDY = b'{"bedrock": {"sourceContent": [{"text": "by %s"}]}}' % MAIL.encode()


def guarded(citation: Citation) -> Citation:
    """What goes to the model of a citation in an earlier turn."""
    part = ContentPart(text=TextPart(text="Ask.", citations=[citation]))
    request = CreateChatCompletionRequest(messages=[Message(role=Role.ROLE_ASSISTANT, parts=[part])])
    RequestGuard(tallies_of(MASK), None).apply(request)
    return request.messages[0].parts[0].text.citations[0]


@pytest.mark.parametrize(
    "citation",
    [
        Citation(cited_text=f"by {MAIL}", provider_signature=WORDY),
        Citation(title=MAIL, provider_signature=b"opaque"),
        Citation(uri=f"https://acme.io/?to={MAIL}", provider_signature=b"opaque"),
        Citation(title="what only the signature says", provider_signature=WORDY),
    ],
    ids=["words", "title", "address", "signature"],
)
def test_nothing_of_an_earlier_citation_says_what_is_masked(citation: Citation) -> None:
    left = guarded(citation)
    assert MAIL.encode() not in left.SerializeToString()
    assert not left.provider_signature


@pytest.mark.parametrize("signature", [b'{"index": "Eo8B"}', b"\xff\xfe", b"{\xff"])
def test_an_earlier_citation_in_which_nothing_is_found_goes_as_it_came(signature: bytes) -> None:
    citation = Citation(cited_text="by nobody", title="t", provider_signature=signature)
    assert guarded(citation) == citation


def file_named(name: str) -> MediaSource:
    return MediaSource(provider_file_id="f", filename=name)


#: A request with an address of its own in each kind of part, and which addresses those are.
EVERYTHING = CreateChatCompletionRequest(
    messages=[
        Message(
            role=Role.ROLE_USER,
            author="author@text.io",
            parts=[
                ContentPart(text=TextPart(text="a@text.io", citations=[Citation(title="title@text.io")])),
                ContentPart(document=DocumentPart(source=MediaSource(inline_text="a@document.io"))),
                ContentPart(image=ImagePart(source=file_named("a@image.io"))),
                ContentPart(audio=AudioPart(source=file_named("file@audio.io"), transcript="a@audio.io")),
                ContentPart(video=VideoPart(source=file_named("a@video.io"))),
            ],
        ),
        Message(
            role=Role.ROLE_ASSISTANT,
            parts=[
                ContentPart(refusal=RefusalPart(text="refusal@text.io")),
                ContentPart(reasoning=ReasoningPart(text="a@reasoning.io")),
                ContentPart(tool_call=ToolCallPart(tool_name="f", arguments='{"to": "a@call.io"}')),
                ContentPart(provider=ProviderPart(provider_type="p", block_json='["a@provider.io"]')),
            ],
        ),
        Message(
            role=Role.ROLE_TOOL,
            parts=[
                ContentPart(
                    tool_result=ToolResultPart(
                        tool_call_id="c",
                        parts=[
                            ContentPart(text=TextPart(text="a@result.io")),
                            ContentPart(
                                document=DocumentPart(source=MediaSource(inline_text="r@document.io"))
                            ),
                        ],
                    )
                ),
            ],
        ),
    ],
    tools=[
        Tool(
            function=FunctionTool(
                function_name="f", description="d@tool.io", parameters_json_schema='"s@tool.io"'
            )
        ),
        Tool(
            free_form=FreeFormTool(tool_name="g", grammar=ToolGrammar(syntax="lark", definition="g@tool.io"))
        ),
    ],
    response_format=ResponseFormat(
        json_schema=JsonSchemaFormat(
            schema_name="s", description="d@schema.io", json_schema='["a@schema.io"]'
        )
    ),
)
HOSTS = {
    GuardrailPart.GUARDRAIL_PART_TEXT: b"text.io",
    GuardrailPart.GUARDRAIL_PART_REASONING: b"reasoning.io",
    GuardrailPart.GUARDRAIL_PART_TOOL_CALL: b"call.io",
    GuardrailPart.GUARDRAIL_PART_TOOL_RESULT: b"result.io",
    GuardrailPart.GUARDRAIL_PART_TOOL_DEFINITION: b"tool.io",
    GuardrailPart.GUARDRAIL_PART_RESPONSE_FORMAT: b"schema.io",
    GuardrailPart.GUARDRAIL_PART_DOCUMENT: b"document.io",
    GuardrailPart.GUARDRAIL_PART_IMAGE: b"image.io",
    GuardrailPart.GUARDRAIL_PART_AUDIO: b"audio.io",
    GuardrailPart.GUARDRAIL_PART_VIDEO: b"video.io",
    GuardrailPart.GUARDRAIL_PART_PROVIDER: b"provider.io",
}


@pytest.mark.parametrize("part", [part for part in GuardrailPart.values() if part], ids=GuardrailPart.Name)
def test_a_rule_reads_all_of_the_parts_that_it_chooses_and_nothing_else(
    part: GuardrailPart.ValueType,
) -> None:
    left = masked(EVERYTHING, part)
    for each, host in HOSTS.items():
        assert left.count(b"@" + host) == (
            0 if each == part else EVERYTHING.SerializeToString().count(b"@" + host)
        )


def test_a_rule_that_chooses_no_parts_reads_all() -> None:
    assert b"@" not in masked(EVERYTHING)


@pytest.mark.parametrize(
    ("parts", "unread"),
    [
        ([], {"document": 2}),
        (["TEXT"], {}),
        (["DOCUMENT", "TEXT"], {"document": 2}),
        (["IMAGE", "AUDIO", "VIDEO"], {"image": 1, "audio": 1, "video": 1}),
    ],
    ids=["all texts", "text alone", "documents", "media"],
)
def test_a_rule_tells_of_the_parts_that_it_misses(parts: list[str], unread: dict[str, int]) -> None:
    pdf = ContentPart(
        document=DocumentPart(source=MediaSource(inline_data=b"%PDF", mime_type="application/pdf"))
    )
    request = CreateChatCompletionRequest()
    request.CopyFrom(EVERYTHING)
    request.messages[0].parts.append(pdf)
    request.messages[2].parts[0].tool_result.parts.append(pdf)
    chosen = [GuardrailPart.Value(f"GUARDRAIL_PART_{part}") for part in parts]
    [tally] = tallies_of(GuardrailRule(rule_id="r", action=LOG, pii=PiiDetector(), parts=chosen))
    RequestGuard([tally], None).apply(request)
    assert dict(tally.result().unread_parts) == unread

    [tally] = tallies_of(
        GuardrailRule(rule_id="r", action=LOG, pii=PiiDetector(), parts=chosen, block_unread_parts=True)
    )
    with pytest.raises(GatewayError) if unread else nullcontext() as stopped:
        RequestGuard([tally], None).apply(request)
    if stopped is not None:
        told = ",".join(f"{name}={count}" for name, count in sorted(unread.items()))
        assert stopped.value.reason_name == "GUARDRAIL_BLOCKED"
        assert stopped.value.message == f"rule r of p stopped the request; it cannot read {told}"
        assert stopped.value.metadata["unread_parts"] == told
        assert tally.result().action == GuardrailAction.GUARDRAIL_ACTION_BLOCK


def test_token_ids_are_told_as_text_that_is_not_read() -> None:
    [tally] = tallies_of(MASK)
    ids = CreateEmbeddingsRequest(inputs=[EmbeddingInput(token_ids=TokenIds(values=[1, 2]))] * 2)
    RequestGuard([tally], None).apply(ids)
    assert tally.result().action == GuardrailAction.GUARDRAIL_ACTION_SKIPPED
    assert dict(tally.result().unread_parts) == {"text": 2}


NAMED = {
    "tool": lambda name: CreateChatCompletionRequest(tools=[Tool(free_form=FreeFormTool(tool_name=name))]),
    "function": lambda name: CreateChatCompletionRequest(
        tools=[Tool(function=FunctionTool(function_name=name))]
    ),
    "schema": lambda name: CreateChatCompletionRequest(
        response_format=ResponseFormat(json_schema=JsonSchemaFormat(schema_name=name))
    ),
    "call": lambda name: with_part(ContentPart(tool_call=ToolCallPart(tool_name=name))),
    "result": lambda name: with_part(ContentPart(tool_result=ToolResultPart(tool_name=name))),
}


def with_part(part: ContentPart) -> CreateChatCompletionRequest:
    return CreateChatCompletionRequest(messages=[Message(role=Role.ROLE_TOOL, parts=[part])])


@pytest.mark.parametrize("named", NAMED.values(), ids=NAMED)
@pytest.mark.parametrize("action", [REDACT, BLOCK, LOG], ids=["redact", "block", "log"])
def test_a_name_that_cannot_be_masked_stops_the_call(
    named: Callable[[str], CreateChatCompletionRequest], action: GuardrailAction.ValueType
) -> None:
    request = named("219-16-9994")
    [tally] = tallies_of(GuardrailRule(rule_id="r", action=action, pii=PiiDetector()))
    with nullcontext() if action == LOG else pytest.raises(GatewayError, match="it found US_SSN=1"):
        RequestGuard([tally], None).apply(request)
    assert request == named("219-16-9994")
    assert tally.result().action == (LOG if action == LOG else BLOCK)
    assert dict(tally.result().findings) == {"US_SSN": 1}


@pytest.mark.parametrize(("name", "stops"), [("find_INJECTION", False), ("please, INJECTION", True)])
def test_a_name_is_judged_where_it_is_more_than_one(name: str, *, stops: bool) -> None:
    rule = GuardrailRule(rule_id="r", action=BLOCK, prompt_injection=PromptInjectionDetector())
    with pytest.raises(GatewayError) if stops else nullcontext():
        RequestGuard(tallies_of(rule), None).apply(NAMED["result"](name))


def test_options_of_a_provider_are_masked_and_keep_their_form() -> None:
    request = CreateChatCompletionRequest(tools=[Tool(provider=ProviderTool(tool_type="web_search"))])
    options: dict[str, Any] = {
        "messages": [{"content": f"I am {MAIL}"}],
        "top_a": 0.5,
        "seed": 7,
        "tags": [],
        "x": None,
    }
    request.provider_options["openai"].update(options)
    request.tools[0].provider.config.update({"user": MAIL})
    RequestGuard(tallies_of(MASK), None).apply(request)
    assert from_struct(request.provider_options["openai"]) == {
        **options,
        "messages": [{"content": "I am [EMAIL_REDACTED]"}],
    }
    assert from_struct(request.tools[0].provider.config) == {"user": "[EMAIL_REDACTED]"}


def test_options_that_no_json_can_say_are_told_as_unread() -> None:
    request = CreateChatCompletionRequest()
    request.provider_options["openai"].update({"a": float("nan")})
    [tally] = tallies_of(MASK)
    RequestGuard([tally], None).apply(request)
    assert dict(tally.result().unread_parts) == {"provider": 1}


def tallies_of(rule: GuardrailRule) -> list[Tally]:
    profile = compile_profile(GuardrailProfile(name="p", input_rules=[rule]), WordModels)
    return [Tally(each) for each in profile.input_rules]


def masked(request: CreateChatCompletionRequest, *parts: GuardrailPart.ValueType) -> bytes:
    """What is left of a request when a rule has masked these parts."""
    rule = GuardrailRule()
    rule.CopyFrom(MASK)
    rule.parts.extend(parts)
    copy = CreateChatCompletionRequest()
    copy.CopyFrom(request)
    RequestGuard(tallies_of(rule), None).apply(copy)
    return copy.SerializeToString()


def test_signed_reasoning_is_read_and_loses_its_signature_where_it_is_masked() -> None:
    for text, left, signature in (
        (f"ask {MAIL}", "ask [EMAIL_REDACTED]", b""),
        ("ask nobody", "ask nobody", b"opaque"),
    ):
        part = ContentPart(reasoning=ReasoningPart(text=text), provider_signature=b"opaque")
        [after] = masked_parts(Role.ROLE_ASSISTANT, part)
        assert (after.reasoning.text, after.provider_signature) == (left, signature)


def test_a_signature_of_json_says_nothing_that_is_masked() -> None:
    call = ToolCallPart(tool_call_id="c", tool_name="f", arguments="{}")
    part = ContentPart(tool_call=call, provider_signature=b'{"note": "%s"}' % MAIL.encode())
    [after] = masked_parts(Role.ROLE_ASSISTANT, part)
    assert not after.provider_signature


def test_json_of_a_tool_and_of_a_document_is_read_as_what_it_says_and_stays_json() -> None:
    written = json.dumps({"to": "jo\u0040acme.io"}).replace("@", "\\u0040")
    document = DocumentPart(source=MediaSource(inline_data=written.encode(), mime_type="application/json"))
    result = ToolResultPart(
        tool_call_id="c", parts=[ContentPart(text=TextPart(text=written)), ContentPart(document=document)]
    )
    [after] = masked_parts(Role.ROLE_TOOL, ContentPart(tool_result=result))
    text, read = after.tool_result.parts
    assert json.loads(text.text.text) == json.loads(read.document.source.inline_data)
    assert json.loads(text.text.text) == {"to": "[EMAIL_REDACTED]"}


def test_what_a_value_is_may_stand_in_the_part_before() -> None:
    rule = GuardrailRule(rule_id="pii", action=REDACT, pii=PiiDetector(entity_types=["US_SSN"]))
    said = ["Her social security number is ", "219169994", "."]
    request = CreateChatCompletionRequest(
        messages=[
            Message(role=Role.ROLE_USER, parts=[ContentPart(text=TextPart(text=text)) for text in said]),
            Message(role=Role.ROLE_USER, parts=[ContentPart(text=TextPart(text="219169994"))]),
        ]
    )
    RequestGuard(tallies_of(rule), None).apply(request)
    texts = [[part.text.text for part in message.parts] for message in request.messages]
    assert texts == [[said[0], "[SSN_REDACTED]", "."], ["219169994"]], "no turn says what another's value is"


def masked_parts(role: Role.ValueType, *parts: ContentPart) -> list[ContentPart]:
    request = CreateChatCompletionRequest(messages=[Message(role=role, parts=parts)])
    profile = compile_profile(GuardrailProfile(name="p", input_rules=[MASK]), WordModels)
    RequestGuard([Tally(rule) for rule in profile.input_rules], None).apply(request)
    return list(request.messages[0].parts)
