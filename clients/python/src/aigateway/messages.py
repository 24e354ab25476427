"""Makes the turns of a conversation and the tools a model may call, and reads what it answered."""

import json
import mimetypes
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from aigateway.v1.chat_service_pb2 import (
    ChatCompletion,
    FunctionTool,
    JsonSchemaFormat,
    ResponseFormat,
    Tool,
)
from aigateway.v1.content_pb2 import (
    AudioPart,
    ContentPart,
    DocumentPart,
    ImageDetail,
    ImagePart,
    MediaSource,
    Message,
    Role,
    TextPart,
    ToolCallPart,
    ToolResultPart,
)

#: What a turn is made of: text, or a part made by one of the functions below.
Content = str | ContentPart
#: A JSON Schema, as the text itself or as what ``json.loads`` makes of it.
JsonSchema = str | Mapping[str, Any]

# The types that models take and that not every machine's table knows.
_MIME_TYPES: Final = {".webp": "image/webp", ".md": "text/markdown", ".flac": "audio/flac"}


def system(*content: Content) -> Message:
    """Instructions from whoever runs the platform."""
    return _turn(Role.ROLE_SYSTEM, content)


def developer(*content: Content) -> Message:
    """Instructions from the developer of the application."""
    return _turn(Role.ROLE_DEVELOPER, content)


def user(*content: Content, author: str = "") -> Message:
    """A turn of the end user; ``author`` tells several users apart."""
    return _turn(Role.ROLE_USER, content, author=author)


def assistant(*content: Content) -> Message:
    """A turn of the model. One that a model gave, ``completion.choices[0].message``, is used as it is."""
    return _turn(Role.ROLE_ASSISTANT, content)


def tool_result(call: ToolCallPart | str, *content: Content, is_error: bool = False) -> Message:
    """The answer to a call of a tool, named by the call itself or by its id."""
    tool_call_id, tool_name = (call, "") if isinstance(call, str) else (call.tool_call_id, call.tool_name)
    result = ToolResultPart(
        tool_call_id=tool_call_id, tool_name=tool_name, parts=map(_part, content), is_error=is_error
    )
    return Message(role=Role.ROLE_TOOL, parts=[ContentPart(tool_result=result)])


def text(content: str) -> ContentPart:
    """Text as a part, for use beside pictures and documents."""
    return ContentPart(text=TextPart(text=content))


def image(
    source: bytes | Path,
    *,
    mime_type: str = "",
    detail: "ImageDetail.ValueType" = ImageDetail.IMAGE_DETAIL_UNSPECIFIED,
) -> ContentPart:
    """A picture, from its bytes or a file. ``mime_type`` is needed with bytes."""
    return ContentPart(image=ImagePart(source=_inline(source, mime_type), detail=detail))


def image_url(
    uri: str, *, detail: "ImageDetail.ValueType" = ImageDetail.IMAGE_DETAIL_UNSPECIFIED
) -> ContentPart:
    """A picture that the provider fetches."""
    return ContentPart(image=ImagePart(source=MediaSource(uri=uri), detail=detail))


def audio(source: bytes | Path, *, mime_type: str = "") -> ContentPart:
    """Sound, from its bytes or a file. ``mime_type`` is needed with bytes."""
    return ContentPart(audio=AudioPart(source=_inline(source, mime_type)))


def document(
    source: bytes | Path, *, mime_type: str = "", title: str = "", citations_enabled: bool = False
) -> ContentPart:
    """A PDF or another file, from its bytes or a file. ``mime_type`` is needed with bytes."""
    part = DocumentPart(source=_inline(source, mime_type), title=title, citations_enabled=citations_enabled)
    return ContentPart(document=part)


def document_url(uri: str, *, title: str = "", citations_enabled: bool = False) -> ContentPart:
    """A document that the provider fetches."""
    part = DocumentPart(source=MediaSource(uri=uri), title=title, citations_enabled=citations_enabled)
    return ContentPart(document=part)


def document_text(content: str, *, title: str = "", citations_enabled: bool = False) -> ContentPart:
    """A document given as text."""
    source = MediaSource(inline_text=content, mime_type="text/plain")
    return ContentPart(document=DocumentPart(source=source, title=title, citations_enabled=citations_enabled))


def function_tool(
    name: str, parameters: JsonSchema | None = None, *, description: str = "", strict: bool | None = None
) -> Tool:
    """A function that the model may ask for and that the caller runs. ``strict`` holds it to the schema."""
    function = FunctionTool(
        function_name=name,
        description=description,
        parameters_json_schema="" if parameters is None else _schema_text(parameters),
        strict=strict,
    )
    return Tool(function=function)


def json_schema_format(
    name: str, schema: JsonSchema, *, description: str = "", strict: bool | None = None
) -> ResponseFormat:
    """Asks for an answer that is JSON and fits the schema."""
    return ResponseFormat(
        json_schema=JsonSchemaFormat(
            schema_name=name, description=description, json_schema=_schema_text(schema), strict=strict
        )
    )


def completion_text(completion: ChatCompletion) -> str:
    """The text of the first answer; empty when it has none."""
    return "".join(part.text.text for part in _first_parts(completion) if part.HasField("text"))


def completion_tool_calls(completion: ChatCompletion) -> list[ToolCallPart]:
    """The calls in the first answer that the caller has to run, in order."""
    return [
        part.tool_call
        for part in _first_parts(completion)
        if part.HasField("tool_call") and not part.tool_call.provider_executed
    ]


def _first_parts(completion: ChatCompletion) -> Iterable[ContentPart]:
    return completion.choices[0].message.parts if completion.choices else ()


def _turn(role: "Role.ValueType", content: Iterable[Content], *, author: str = "") -> Message:
    return Message(role=role, author=author, parts=map(_part, content))


def _part(content: Content) -> ContentPart:
    return text(content) if isinstance(content, str) else content


def _inline(source: bytes | Path, mime_type: str) -> MediaSource:
    if isinstance(source, bytes):
        if not mime_type:
            raise ValueError("bytes need a mime_type")
        return MediaSource(inline_data=source, mime_type=mime_type)
    mime_type = (
        mime_type or _MIME_TYPES.get(source.suffix.lower(), "") or mimetypes.guess_type(source.name)[0] or ""
    )
    if not mime_type:
        raise ValueError(f"{source.name} does not tell its mime_type")
    return MediaSource(inline_data=source.read_bytes(), mime_type=mime_type, filename=source.name)


def _schema_text(schema: JsonSchema) -> str:
    # As text, and in the order given: some providers write the fields in that order.
    return schema if isinstance(schema, str) else json.dumps(schema, ensure_ascii=False)
