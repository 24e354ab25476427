"""Every text of a request that goes to a model, and whose words it is."""

import json
from collections.abc import Callable, Iterable, Iterator, MutableMapping
from functools import partial
from itertools import islice
from typing import Final, NamedTuple

from google.protobuf.struct_pb2 import Struct

from aigateway.v1.chat_service_pb2 import CountTokensRequest, CreateChatCompletionRequest, Tool
from aigateway.v1.content_pb2 import Citation, ContentPart, MediaSource, Role
from aigateway.v1.embeddings_service_pb2 import CreateEmbeddingsRequest
from aigateway.v1.guardrail_profile_pb2 import GuardrailPart
from gateway_server.guardrails.documents import is_json_text, read_media
from gateway_server.guardrails.parts import part_of
from gateway_server.providers.wire.json_values import from_struct, to_struct

Request = CreateChatCompletionRequest | CountTokensRequest | CreateEmbeddingsRequest

_TEXT: Final = GuardrailPart.GUARDRAIL_PART_TEXT
_TOOL_DEFINITION: Final = GuardrailPart.GUARDRAIL_PART_TOOL_DEFINITION
_RESPONSE_FORMAT: Final = GuardrailPart.GUARDRAIL_PART_RESPONSE_FORMAT
#: A look at an enum's value takes longer than one at a name.
_TOOL: Final = Role.ROLE_TOOL
_MEDIA: Final = frozenset({"image", "audio", "video", "document"})
_TEXT_FIELDS: Final = {
    "audio": ("transcript",),
    "document": ("title", "context"),
    "refusal": ("text",),
    "provider": ("block_json",),
}


class Slot(NamedTuple):
    """One text of a request, or what stands where one cannot be read.

    Texts of one ``group`` are read together, as a model reads them. ``is_retrieved`` tells that neither the
    user nor the application wrote it.
    """

    group: int
    role: Role.ValueType
    part: GuardrailPart.ValueType
    text: str
    write: Callable[[str], None]
    is_json: bool = False
    is_retrieved: bool = False
    #: Whether there is something that no rule can read, in place of a text.
    is_unread: bool = False
    #: Whether other places refer to it, so that it cannot be written anew.
    is_name: bool = False


def slots_of(request: Request, *, most: int | None = None) -> list[Slot]:
    """Every text of a request that goes to a model, or the first ``most`` of them."""
    return list(islice(_slots(request), most))


def _slots(request: Request) -> Iterator[Slot]:
    if isinstance(request, CreateEmbeddingsRequest):
        for index, embedding_input in enumerate(request.inputs):
            match embedding_input.WhichOneof("kind"):
                case "text":
                    yield _field(index, Role.ROLE_USER, _TEXT, embedding_input, "text")
                case "content":
                    yield from _parts(index, Role.ROLE_USER, embedding_input.content.parts)
                case _:
                    yield _unread(index, Role.ROLE_USER, _TEXT)  # token ids say nothing to a reader of text
        yield from _options(len(request.inputs), request.provider_options)
        return
    for index, message in enumerate(request.messages):
        if message.author:
            yield _field(index, message.role, _TEXT, message, "author")
        yield from _parts(index, message.role, message.parts)
    group = len(request.messages)
    for tool in request.tools:
        yield from _tool(group, tool)
    if isinstance(request, CreateChatCompletionRequest) and request.response_format.HasField("json_schema"):
        schema = request.response_format.json_schema
        yield _name(group, Role.ROLE_DEVELOPER, _RESPONSE_FORMAT, schema, "schema_name")
        yield _field(group, Role.ROLE_DEVELOPER, _RESPONSE_FORMAT, schema, "description")
        yield _field(group, Role.ROLE_DEVELOPER, _RESPONSE_FORMAT, schema, "json_schema", is_json=True)
    yield from _options(group, request.provider_options)


def _options(group: int, provider_options: MutableMapping[str, Struct]) -> Iterator[Slot]:
    """What is put into the body for a provider may be anything, its messages too."""
    for struct in provider_options.values():
        yield _struct(group, GuardrailPart.GUARDRAIL_PART_PROVIDER, struct)


def _struct(group: int, part: GuardrailPart.ValueType, struct: Struct) -> Slot:
    try:
        text = json.dumps(from_struct(struct), ensure_ascii=False)
    except ValueError:
        return _unread(group, Role.ROLE_DEVELOPER, part)  # no number of JSON's, so no body can have it

    def write(replaced: str) -> None:
        struct.CopyFrom(to_struct(json.loads(replaced)))

    return Slot(group, Role.ROLE_DEVELOPER, part, text, write, is_json=True)


def _tool(group: int, tool: Tool) -> Iterator[Slot]:
    role = Role.ROLE_DEVELOPER
    match tool.WhichOneof("kind"):
        case "function":
            yield _name(group, role, _TOOL_DEFINITION, tool.function, "function_name")
            yield _field(group, role, _TOOL_DEFINITION, tool.function, "description")
            yield _field(group, role, _TOOL_DEFINITION, tool.function, "parameters_json_schema", is_json=True)
        case "free_form":
            yield _name(group, role, _TOOL_DEFINITION, tool.free_form, "tool_name")
            yield _field(group, role, _TOOL_DEFINITION, tool.free_form, "description")
            yield _field(group, role, _TOOL_DEFINITION, tool.free_form.grammar, "definition")
        case "provider":
            yield _struct(group, _TOOL_DEFINITION, tool.provider.config)
        case _:
            pass


def _parts(
    group: int, role: Role.ValueType, parts: Iterable[ContentPart], *, in_result: bool = False
) -> Iterator[Slot]:
    for each in parts:
        kind = each.WhichOneof("kind") or ""
        if not kind:
            continue
        content, part = getattr(each, kind), part_of(kind, in_result=in_result)
        is_retrieved = in_result or role == _TOOL or kind == "document"
        if kind == "text":
            is_json = in_result and is_json_text(content.text)
            yield _field(group, role, part, content, "text", is_json=is_json, is_retrieved=is_retrieved)
            for citation in content.citations:
                yield from _citation(group, role, part, citation, is_retrieved=is_retrieved)
            continue
        if kind == "tool_result":
            yield _name(group, _TOOL, part, content, "tool_name")
            yield from _parts(group, _TOOL, content.parts, in_result=True)
        elif kind == "tool_call":
            yield _name(group, role, part, content, "tool_name")
            yield _field(group, role, part, content, "arguments", is_json=not each.tool_call.free_form)
        elif kind in _MEDIA:
            yield from _media(group, role, part, content.source, is_retrieved=is_retrieved)
        if each.provider_signature:
            yield from _signed(group, role, part, each, is_retrieved=is_retrieved)
        if kind == "reasoning":
            yield _reasoning(group, role, part, each)
            continue
        for field in _TEXT_FIELDS.get(kind, ()):
            is_json = field == "block_json"
            yield _field(group, role, part, content, field, is_json=is_json, is_retrieved=is_retrieved)


def _citation(
    group: int, role: Role.ValueType, part: GuardrailPart.ValueType, citation: Citation, *, is_retrieved: bool
) -> Iterator[Slot]:
    """The words of a citation, and its signature, into which providers write them once more."""

    def slot(field: str) -> Slot:
        def write(replaced: str) -> None:
            setattr(citation, field, replaced)
            citation.ClearField("provider_signature")

        return Slot(group, role, part, getattr(citation, field), write, is_retrieved=is_retrieved)

    yield slot("cited_text")
    yield slot("title")
    if citation.uri:
        yield slot("uri")
    yield from _signed(group, role, part, citation, is_retrieved=is_retrieved)


def _signed(
    group: int,
    role: Role.ValueType,
    part: GuardrailPart.ValueType,
    signed: ContentPart | Citation,
    *,
    is_retrieved: bool,
) -> Iterator[Slot]:
    """What a signature says that is JSON, from which formats make fields: it goes where anything is found."""
    signature = signed.provider_signature
    if signature.startswith(b"{"):

        def drop(_: str) -> None:
            signed.ClearField("provider_signature")

        text = signature.decode(errors="replace")
        yield Slot(group, role, part, text, drop, is_json=True, is_retrieved=is_retrieved)


def _reasoning(group: int, role: Role.ValueType, part: GuardrailPart.ValueType, each: ContentPart) -> Slot:
    """A provider takes back only unchanged what it has signed, and anybody can write a signature."""

    def write(replaced: str) -> None:
        each.reasoning.text = replaced
        each.ClearField("provider_signature")

    return Slot(group, role, part, each.reasoning.text, write)


def _media(
    group: int,
    role: Role.ValueType,
    part: GuardrailPart.ValueType,
    source: MediaSource,
    *,
    is_retrieved: bool,
) -> Iterator[Slot]:
    if source.filename:
        yield _field(group, role, part, source, "filename", is_retrieved=is_retrieved)
    media = read_media(source)
    if media.text:
        is_json = media.is_json
        yield Slot(group, role, part, media.text, media.write, is_json=is_json, is_retrieved=is_retrieved)
    if media.is_unread:
        yield _unread(group, role, part)


def _unread(group: int, role: Role.ValueType, part: GuardrailPart.ValueType) -> Slot:
    """What says something that no rule can read."""
    return Slot(group, role, part, "", lambda _: None, is_unread=True)


def _field(
    group: int,
    role: Role.ValueType,
    part: GuardrailPart.ValueType,
    message: object,
    field: str,
    *,
    is_json: bool = False,
    is_retrieved: bool = False,
) -> Slot:
    return Slot(
        group,
        role,
        part,
        getattr(message, field),
        partial(setattr, message, field),
        is_json,
        is_retrieved,
    )


def _name(
    group: int, role: Role.ValueType, part: GuardrailPart.ValueType, message: object, field: str
) -> Slot:
    return _field(group, role, part, message, field)._replace(is_name=True)
