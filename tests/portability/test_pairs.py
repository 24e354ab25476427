"""A conversation that began at one provider goes on at any other: whole, or refused with what is in the way.

No seal goes to a provider that cannot open it, and no part is lost on the way without a word. Claude's seals
hold at Anthropic and at Bedrock alike, as Anthropic documents.
"""

from itertools import product
from typing import Final

import pytest

from aigateway import messages
from aigateway.v1.chat_service_pb2 import CreateChatCompletionRequest
from aigateway.v1.content_pb2 import Message
from aigateway.v1.error_reason_pb2 import ErrorReason
from gateway_server.errors import GatewayError
from tests.portability.origins import (
    CALLS,
    KIN,
    MODELS,
    PROVIDERS,
    SECRETS,
    TEXT,
    THOUGHT,
    begin,
    untested_types,
)
from tests.portability.readings import Said, read_request
from tests.support.wire import chat_format, make_target

PAIRS: Final = list(product(PROVIDERS, PROVIDERS))
RESULTS: Final = ("12 degrees", "noon")

UNREAD: Final = "reasoning in earlier turns"
UNSIGNED: Final = "reasoning that it did not sign"
SEALED: Final = "sealed reasoning of another provider"
FREE_FORM: Final = "free-form tools"
SOUND: Final = "audio parts in assistant turns"
OTHERS_SOUND: Final = "audio in assistant turns that it did not answer itself"
CODE: Final = "executableCode blocks of google"
SEARCH: Final = "server_tool_use blocks of anthropic"
NEW: Final = "somethingNew blocks of bedrock"
#: It goes on, with everything.
WHOLE: Final = None

#: What stands in the way of a thought in the open: by where it comes from, then by where it goes.
THOUGHTS: Final[dict[str, dict[str, str | None]]] = {
    "anthropic": {"anthropic": WHOLE, "bedrock": WHOLE, "google": WHOLE, "vllm": WHOLE},
    "bedrock": {"anthropic": WHOLE, "bedrock": WHOLE, "google": WHOLE, "vllm": WHOLE},
    "google": {"anthropic": UNSIGNED, "bedrock": UNSIGNED, "google": WHOLE, "vllm": WHOLE},
    "openai_compatible": {"anthropic": UNSIGNED, "bedrock": UNSIGNED, "google": WHOLE, "vllm": WHOLE},
    "vllm": {"anthropic": UNSIGNED, "bedrock": UNSIGNED, "google": WHOLE, "vllm": WHOLE},
}
TAKES_NO_THOUGHT: Final = ("azure_openai", "openai", "openai_compatible")


def others(refusal: str, **exceptions: str | None) -> dict[str, str | None]:
    """What each provider says: the refusal, but for the exceptions."""
    return {provider_type: exceptions.get(provider_type, refusal) for provider_type in PROVIDERS}


#: What only one provider understands: provider and kind of part, then what each one says of it.
PECULIAR: Final = {
    ("anthropic", "sealed"): others(SEALED, anthropic=WHOLE, bedrock=WHOLE),
    ("anthropic", "hidden"): others(SEALED, anthropic=WHOLE, bedrock=WHOLE),
    ("anthropic", "block"): others(SEARCH, anthropic=WHOLE),
    ("bedrock", "sealed"): others(SEALED, anthropic=WHOLE, bedrock=WHOLE),
    ("bedrock", "hidden"): others(SEALED, anthropic=WHOLE, bedrock=WHOLE),
    ("bedrock", "block"): others(NEW, bedrock=WHOLE),
    ("google", "hidden"): others(SEALED, google=WHOLE),
    ("google", "block"): others(CODE, google=WHOLE),
    ("google", "sound"): others(OTHERS_SOUND, anthropic=SOUND, bedrock=SOUND, google=WHOLE),
    ("openai", "sound"): others(
        OTHERS_SOUND, anthropic=SOUND, azure_openai=WHOLE, bedrock=SOUND, google=WHOLE, openai=WHOLE
    ),
    ("openai", "free_form"): others(FREE_FORM, azure_openai=WHOLE, openai=WHOLE),
}


def continue_from(turn: Message) -> CreateChatCompletionRequest:
    """The conversation up to and after a turn of the model, whose calls have been answered."""
    calls = [part.tool_call for part in turn.parts if part.HasField("tool_call")]
    return CreateChatCompletionRequest(
        model="any",
        tools=[messages.function_tool(name, parameters="{}") for name, _ in CALLS],
        messages=[
            messages.system("Be brief."),
            messages.user("How is it there?"),
            turn,
            *(messages.tool_result(call, text) for call, text in zip(calls, RESULTS, strict=False)),
            messages.user("Thanks. And then?"),
        ],
    )


def send(turn: Message, provider_type: str) -> bytes:
    target = make_target(provider_type, MODELS[provider_type])
    return chat_format(provider_type).render_chat(continue_from(turn), target, stream=False)


def refusal_of(turn: Message, provider_type: str) -> str | None:
    """What stands in the way, None when it goes on."""
    try:
        send(turn, provider_type)
    except GatewayError as error:
        refusal = error
    else:
        return None
    assert refusal.reason == ErrorReason.ERROR_REASON_FEATURE_NOT_SUPPORTED
    assert refusal.metadata["model"] == f"my-{provider_type}/{MODELS[provider_type]}"
    return refusal.metadata["feature"]


def expected_of(turn: Message, provider_type: str, *, thought: Said | None = None) -> list[Said]:
    """Everything that was said, as ``provider_type`` should hear it."""
    ids = [part.tool_call.tool_call_id for part in turn.parts if part.HasField("tool_call")]
    assert len(set(ids)) == len(CALLS)
    if provider_type == "google":
        # It gave these calls no ids and wants to hear of none.
        ids = ["" if call_id.startswith("aigw_") else call_id for call_id in ids]
    return [
        ("text", "system", "Be brief."),
        ("text", "user", "How is it there?"),
        *([thought] if thought else []),
        ("text", "assistant", TEXT),
        *(("call", call_id, name, arguments) for call_id, (name, arguments) in zip(ids, CALLS, strict=True)),
        *(("result", call_id, text) for call_id, text in zip(ids, RESULTS, strict=True)),
        ("text", "user", "Thanks. And then?"),
    ]


def takes_seals(origin: str, destination: str) -> bool:
    return origin == destination or {origin, destination} <= KIN


def foreign_secrets(origin: str, body: bytes, destination: str) -> list[str]:
    if takes_seals(origin, destination):
        return []
    return [word for word in SECRETS.values() if word.encode() in body]


def test_every_type_of_provider_is_in_the_table() -> None:
    assert untested_types() == set()


@pytest.mark.parametrize(("origin", "destination"), PAIRS)
def test_text_calls_and_results_go_on_anywhere(origin: str, destination: str) -> None:
    turn = begin(origin, "text", "calls")
    body = send(turn, destination)
    assert read_request(destination, body) == expected_of(turn, destination)
    assert foreign_secrets(origin, body, destination) == []


@pytest.mark.parametrize(
    ("origin", "destination"), [pair for pair in product(THOUGHTS, PROVIDERS) if pair[0] in PROVIDERS]
)
def test_a_thought_goes_on_or_is_refused(origin: str, destination: str) -> None:
    turn = begin(origin, "thought", "text", "calls")
    refusal = UNREAD if destination in TAKES_NO_THOUGHT else THOUGHTS[origin][destination]
    assert refusal_of(turn, destination) == refusal
    if refusal is None:
        body = send(turn, destination)
        signature = SECRETS.get(origin, "") if takes_seals(origin, destination) else ""
        thought = ("thought", THOUGHT, signature)
        assert read_request(destination, body) == expected_of(turn, destination, thought=thought)
        assert foreign_secrets(origin, body, destination) == []


@pytest.mark.parametrize(
    ("origin", "kind", "destination"),
    [(*key, to) for key, to in product(PECULIAR, PROVIDERS) if key[0] in PROVIDERS],
)
def test_what_one_provider_understands_goes_back_to_it_alone(
    origin: str, kind: str, destination: str
) -> None:
    turn = begin(origin, kind, "text")
    refusal = PECULIAR[origin, kind][destination]
    assert refusal_of(turn, destination) == refusal
    if refusal is None:
        assert foreign_secrets(origin, send(turn, destination), destination) == []


@pytest.mark.parametrize("origin", [name for name in SECRETS if name in PROVIDERS])
@pytest.mark.parametrize("kind", ["thought", "hidden"])
def test_a_signature_goes_back_to_who_made_it(origin: str, kind: str) -> None:
    turn = begin(origin, kind, "text", "calls")
    assert SECRETS[origin].encode() in send(turn, origin)


@pytest.mark.parametrize("destination", PROVIDERS)
def test_a_refusal_in_words_goes_on_anywhere(destination: str) -> None:
    assert b'"No."' in send(begin("openai", "refusal"), destination)
