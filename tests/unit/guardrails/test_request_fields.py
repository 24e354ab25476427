"""Every field of a request that can carry words is read by rules, or it is said why not."""

from collections.abc import Iterator

import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message as ProtoMessage
from google.protobuf.struct_pb2 import Struct

from aigateway.v1.chat_service_pb2 import CountTokensRequest, CreateChatCompletionRequest
from aigateway.v1.content_pb2 import Role
from aigateway.v1.embeddings_service_pb2 import CreateEmbeddingsRequest
from aigateway.v1.guardrail_profile_pb2 import GuardrailProfile, GuardrailRule, PiiDetector
from aigateway.v1.routing_pb2 import GuardrailAction
from gateway_server.guardrails.request import RequestGuard
from gateway_server.guardrails.request_texts import Request
from gateway_server.guardrails.rules import Tally, compile_profile
from tests.support.text_models import WordModels

#: JSON, for where only that is read.
WORDS = '{"to": "jo@acme.io"}'
LOG = GuardrailRule(rule_id="pii", action=GuardrailAction.GUARDRAIL_ACTION_LOG, pii=PiiDetector())

#: Fields that no rule reads, by the message that they are in.
UNREAD = {
    "CreateChatCompletionRequest": {
        "model": "chooses a target",
        "end_user_id": "an id that the provider keeps, and no model reads",
        "labels": "stay in the gateway",
    },
    "CountTokensRequest": {"model": "chooses a target"},
    "CreateEmbeddingsRequest": {
        "model": "chooses a target",
        "end_user_id": "an id that the provider keeps, and no model reads",
        "labels": "stay in the gateway",
    },
    "GatewayOptions": {
        "guardrail_profiles": "names of resources",
        "allowed_providers": "names of resources",
        "excluded_providers": "names of resources",
    },
    "StorageOptions": {"prompt_cache_key": "a key that no model reads"},
    "GenerationConfig": {"stop_sequences": "compared with what a model writes; no model reads them"},
    "AudioOutput": {"voice": "chosen from the provider's list", "mime_type": "a type"},
    "ToolChoice": {"allowed_tool_names": "names of tools that are read where they are defined"},
    "ToolGrammar": {"syntax": "the name of a notation"},
    "ProviderTool": {"tool_type": "chosen from the provider's list"},
    "ContentPart": {"provider_signature": "sealed by a provider"},
    "MediaSource": {
        "uri": "an address, which cannot be changed; what it leads to is told as unread",
        "provider_file_id": "an id; what it stands for is told as unread",
        "mime_type": "a type",
    },
    "ToolCallPart": {"tool_call_id": "links a result to its call"},
    "ToolResultPart": {"tool_call_id": "links a result to its call"},
    "ReasoningPart": {"redacted_data": "sealed by a provider"},
    "RefusalPart": {"category": "chosen from the provider's list"},
    "ProviderPart": {"provider_type": "chooses a format", "block_type": "chosen from the provider's list"},
    "Citation": {"provider_file_id": "an id"},
}

Path = tuple[FieldDescriptor, ...]


def paths_of(message: Descriptor, above: Path = ()) -> Iterator[Path]:
    """The way to every field that can hold words; each kind of message is entered once on a way."""
    for field in message.fields:
        value = value_of(field)
        path = (*above, field)
        if value.type in (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES) or is_struct(value):
            yield path
        elif value.message_type and value.message_type not in [each.containing_type for each in path]:
            yield from paths_of(value.message_type, path)


def value_of(field: FieldDescriptor) -> FieldDescriptor:
    """The field itself; of a map, that of its values."""
    if field.message_type is None or not field.message_type.GetOptions().map_entry:
        return field
    return field.message_type.fields_by_name["value"]


def is_struct(field: FieldDescriptor) -> bool:
    return field.message_type is not None and field.message_type.full_name == "google.protobuf.Struct"


def put(message: ProtoMessage, path: Path) -> None:
    """Writes ``WORDS`` at the end of a way."""
    field, *rest = path
    held = getattr(message, field.name)
    if hasattr(message, "role"):
        message.role = Role.ROLE_USER
    if value_of(field) is not field:
        if not is_struct(value_of(field)):
            held["key"] = WORDS
            return
        held = held["key"]
    if rest:
        put(held.add() if field.is_repeated else held, tuple(rest))
    elif isinstance(held, Struct):
        held.update({"to": "jo@acme.io"})
    elif field.type == FieldDescriptor.TYPE_BYTES:
        setattr(message, field.name, WORDS.encode())
    elif field.is_repeated:
        held.append(WORDS)
    else:
        setattr(message, field.name, WORDS)


def is_read(request: Request) -> bool:
    profile = compile_profile(GuardrailProfile(name="p", input_rules=[LOG]), WordModels)
    [tally] = [Tally(rule) for rule in profile.input_rules]
    RequestGuard([tally], None).apply(request)
    return tally.findings == {"EMAIL_ADDRESS": 1}


@pytest.mark.parametrize("kind", [CreateChatCompletionRequest, CountTokensRequest, CreateEmbeddingsRequest])
def test_every_field_with_words_is_read_or_it_is_said_why_not(kind: type[Request]) -> None:
    wrong = []
    for path in paths_of(kind.DESCRIPTOR):
        request = kind()
        put(request, path)
        holder, name = path[-1].full_name.split(".")[-2:]
        if is_read(request) == (name in UNREAD.get(holder, {})):
            wrong.append(f"{holder}.{name}")
    assert not wrong
