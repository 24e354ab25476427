"""Documents whose bytes are text are read, masked in their own encoding, and otherwise left as they are."""

from base64 import b64decode, b64encode, urlsafe_b64encode

import pytest

from aigateway.v1.chat_service_pb2 import CreateChatCompletionRequest
from aigateway.v1.content_pb2 import ContentPart, DocumentPart, MediaSource, Message, Role
from aigateway.v1.guardrail_profile_pb2 import GuardrailPart
from gateway_server.guardrails.request_texts import slots_of

TEXT = "caf\u00e9, SSN 219-16-9994"
#: Bytes that are no text, whatever their type says.
NOISE = bytes(range(128, 256)) + b"\0"


def request_with(source: MediaSource) -> CreateChatCompletionRequest:
    part = ContentPart(document=DocumentPart(source=source))
    return CreateChatCompletionRequest(messages=[Message(role=Role.ROLE_USER, parts=[part])])


def masked(source: MediaSource) -> MediaSource:
    """The source after each of its texts was masked."""
    request = request_with(source)
    for slot in slots_of(request):
        slot.write(slot.text.replace("219-16-9994", "[SSN_REDACTED]"))
    return request.messages[0].parts[0].document.source


@pytest.mark.parametrize(
    ("mime_type", "encoding"),
    [
        ("text/plain", "utf-8"),
        ("text/plain", "utf-8-sig"),
        ("text/plain; charset=utf-8", "latin-1"),
        ("text/plain", "latin-1"),
        ("text/csv", "utf-16-le"),
        ("text/csv", "utf-16-be"),
        ("application/json", "utf-32"),
        ('TEXT/PLAIN; Charset="cp437"', "cp437"),
        ("text/plain; charset=cp037", "utf-8"),  # what it is counts, not what it is said to be
        ("text/plain; charset=cp037", "latin-1"),
        ("text/plain; charset=zlib", "latin-1"),
    ],
)
@pytest.mark.parametrize("end", ["", "\0"])
def test_text_is_masked_in_its_own_encoding(mime_type: str, encoding: str, end: str) -> None:
    source = MediaSource(inline_data=(TEXT + end).encode(encoding), mime_type=mime_type)
    data = masked(source).inline_data
    assert data.decode(encoding) == TEXT.replace("219-16-9994", "[SSN_REDACTED]") + end


@pytest.mark.parametrize(
    ("mime_type", "is_unread"),
    [
        ("text/plain; charset=latin-1", False),
        ("text/plain; Charset=ISO-8859-1", False),
        ("text/plain", False),
        ("text/plain; Charset=cp037", True),
        ("text/plain; charset=unheard-of", True),
    ],
)
def test_text_that_may_say_something_else_in_its_charset_is_unread(mime_type: str, is_unread: bool) -> None:
    source = MediaSource(inline_data=TEXT.encode("latin-1"), mime_type=mime_type)
    slots = slots_of(request_with(source))
    assert any(slot.text == TEXT for slot in slots)
    assert any(slot.is_unread for slot in slots) is is_unread


def test_bytes_of_no_type_are_read_where_they_are_text() -> None:
    source = MediaSource(inline_data=TEXT.encode(), mime_type="application/octet-stream")
    assert masked(source).inline_data == "caf\u00e9, SSN [SSN_REDACTED]".encode()


@pytest.mark.parametrize(
    ("source", "is_json"),
    [
        (MediaSource(inline_text='{"a": 1}'), True),
        (MediaSource(inline_text='\ufeff {"a": 1}'), True),
        (MediaSource(inline_text="[a]"), False),
        (MediaSource(inline_data=b'{"a": 1}'), True),
        (MediaSource(inline_data=b'\xef\xbb\xbf{"a": 1}'), True),
        (MediaSource(inline_data='{"a": 1}'.encode("utf-16")), True),
        (MediaSource(inline_data=b'\xef\xbb\xbf{"a": 1', mime_type="application/json"), False),
    ],
)
def test_json_is_told_however_it_comes(source: MediaSource, *, is_json: bool) -> None:
    [slot] = [slot for slot in slots_of(request_with(source)) if slot.text]
    assert slot.is_json is is_json


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_byte_order_mark_stays(encoding: str) -> None:
    source = MediaSource(inline_data=f'{{"a": "{TEXT}"}}'.encode(encoding), mime_type="application/json")
    data = masked(source).inline_data
    assert data == '{"a": "caf\u00e9, SSN [SSN_REDACTED]"}'.encode(encoding)


@pytest.mark.parametrize("mime_type", ["image/svg+xml", "image/svg+xml; charset=utf-8"])
def test_a_drawing_in_xml_is_text(mime_type: str) -> None:
    source = MediaSource(inline_data=f"<svg><text>{TEXT}</text></svg>".encode(), mime_type=mime_type)
    assert masked(source).inline_data == "<svg><text>caf\u00e9, SSN [SSN_REDACTED]</text></svg>".encode()


@pytest.mark.parametrize("encode", [b64encode, urlsafe_b64encode])
@pytest.mark.parametrize("padding", ["", "=="])
def test_text_in_a_data_url_is_masked(encode: object, padding: str) -> None:
    assert callable(encode)
    written = encode(f"{TEXT}??>>".encode()).decode().rstrip("=") + padding
    uri = masked(MediaSource(uri=f"DATA:text/plain;charset=utf-8;base64,{written}")).uri
    head, _, data = uri.partition(",")
    assert head == "data:text/plain;charset=utf-8;base64"
    assert b64decode(data).decode() == "caf\u00e9, SSN [SSN_REDACTED]??>>"


@pytest.mark.parametrize("mime_type", ["text/plain", "application/xml;charset=x", "application/ld+json"])
def test_bytes_that_are_no_text_come_out_as_they_were(mime_type: str) -> None:
    assert masked(MediaSource(inline_data=NOISE, mime_type=mime_type)).inline_data == NOISE


@pytest.mark.parametrize(
    "source",
    [
        MediaSource(inline_data=b"SSN 219-16-9994", mime_type="application/pdf"),
        MediaSource(inline_data=NOISE, mime_type="application/octet-stream"),
        MediaSource(uri="data:image/png;base64,U1NOIDIxOS0xNi05OTk0"),
        MediaSource(uri="https://example.org/a.txt"),
        MediaSource(provider_file_id="file-1", mime_type="text/plain"),
    ],
)
def test_what_is_no_text_is_not_read_and_that_is_told(source: MediaSource) -> None:
    slots = slots_of(request_with(source))
    assert not any(slot.text for slot in slots)
    assert [slot.part for slot in slots if slot.is_unread] == [GuardrailPart.GUARDRAIL_PART_DOCUMENT]


@pytest.mark.parametrize(
    "source",
    [
        MediaSource(inline_data=TEXT.encode(), mime_type="text/plain"),
        MediaSource(inline_data=b"", mime_type="application/pdf"),
        MediaSource(inline_text=TEXT),
    ],
    ids=["read", "nothing", "text"],
)
def test_nothing_is_told_of_what_is_read_or_empty(source: MediaSource) -> None:
    assert not any(slot.is_unread for slot in slots_of(request_with(source)))
