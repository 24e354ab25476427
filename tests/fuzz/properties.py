"""What must hold for any bytes at all. Each check takes some and raises unless its law holds.

Only a GatewayError may come out of the gateway's parsers and renderers, and it must fit into a status;
only a StreamProtocolError out of the fold.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from random import Random
from typing import Any, Final

import orjson
import protovalidate
from google.protobuf.message import DecodeError, Message
from google.rpc import error_details_pb2
from google.rpc.status_pb2 import Status

from aigateway.errors import StreamProtocolError
from aigateway.fold import ChatAccumulator
from aigateway.v1.chat_service_pb2 import ChatCompletion, ChatEvent, CreateChatCompletionRequest
from aigateway.v1.embeddings_service_pb2 import CreateEmbeddingsRequest
from aigateway.v1.model_pb2 import Price
from aigateway.v1.usage_pb2 import TokenUsage, UsageState
from gateway_server.errors import GatewayError
from gateway_server.providers.base import ChatStreamParser
from gateway_server.providers.wire.sse import EventTooLargeError, SseDecoder, SseEvent
from gateway_server.rpc.methods import Method, all_methods
from gateway_server.rpc.plain_requests import is_plainly_valid
from gateway_server.rpc.requests import parse_request
from gateway_server.rpc.status import DETAILS_KEY, status_of
from gateway_server.storage.paging import decode_page_token
from gateway_server.storage.usage_records import conditions_in
from gateway_server.streaming.merge import merge_deltas
from gateway_server.usage.cost import price_usage
from gateway_server.usage.estimate import answer_characters, estimate_chat_usage, estimate_embeddings_usage
from gateway_server.usage.filter import parse_filter
from tests.fuzz.events import read_events
from tests.fuzz.responses import read_response
from tests.support.wire import chat_format, make_endpoint, make_target, one_byte_pieces, random_pieces

#: HTTP/2 stacks take 8 KiB of trailers; base64 makes four bytes of three.
_MAX_DETAILS: Final = 8192 * 3 // 4
_ANSWER_REASONS: Final = frozenset(
    {
        "UPSTREAM_PROTOCOL_ERROR",
        "UPSTREAM_REJECTED",
        "UPSTREAM_RATE_LIMITED",
        "UPSTREAM_UNAVAILABLE",
        "UPSTREAM_CREDENTIAL_REJECTED",
    }
)
_REQUEST_REASONS: Final = frozenset({"INVALID_REQUEST", "FEATURE_NOT_SUPPORTED"})
_DEAR: Final = Price(input_nanos_per_million=10**12, output_nanos_per_million=10**12)
_EMBEDDINGS: Final = make_endpoint("openai").embeddings_format
_RENDERERS: Final = tuple(
    (make_target(kind), chat_format(kind)) for kind in ("openai", "vllm", "demo", "anthropic", "google")
)
#: The list that page tokens are for.
PAGED: Final = ("records", "tenants/a")
METHODS: Final = tuple(all_methods())


def check_chat_answer(provider_type: str, data: bytes) -> None:
    """A whole answer is read, or refused with a reason."""
    with allowed(_ANSWER_REASONS):
        answer = chat_format(provider_type).parse_chat(data, make_target(provider_type))
        check_answer(answer)
        assert answer.choices
        assert answer_characters(answer) >= 0


def check_chat_stream(provider_type: str, data: bytes) -> None:
    """A streamed answer comes to the same whatever the cuts, up to the failure if it fails."""
    random = Random(zlib.crc32(data))
    whole = read_stream(provider_type, [data])
    assert read_stream(provider_type, random_pieces(data, random)) == whole
    assert read_stream(provider_type, random_pieces(data, random, longest=5)) == whole
    if random.random() < 0.2 and len(data) < 4096:
        assert read_stream(provider_type, one_byte_pieces(data)) == whole


def read_stream(provider_type: str, pieces: Iterable[bytes]) -> tuple[bytes, str, bytes | None, bool, bool]:
    """What was read, the failure, the usage, whether content came, whether it ended."""
    parser = chat_format(provider_type).chat_stream(make_target(provider_type))
    accumulator = ChatAccumulator()
    failure = ""
    try:
        for event in _drain(parser, pieces):
            accumulator.add(event)
    except GatewayError as error:
        check_error(error, _ANSWER_REASONS)
        failure = f"{error.reason_name} {error.message} {error.retryable}"
    assert accumulator.finished is not bool(failure)
    answer = accumulator.completion
    check_answer(answer)
    if failure:
        # Those of the last words wait for more words, and have none to go with when the stream breaks.
        for choice in answer.choices:
            choice.ClearField("logprobs")
    usage = parser.usage
    return (
        answer.SerializeToString(deterministic=True),
        failure,
        None if usage is None else usage.SerializeToString(deterministic=True),
        parser.has_content,
        accumulator.finished,
    )


def _drain(parser: ChatStreamParser, pieces: Iterable[bytes]) -> Iterator[ChatEvent]:
    """All events; the failure follows at the call after the events that came before it."""
    for piece in pieces:
        yield from parser.feed(piece)
    events = parser.close()
    yield from events
    if not events or events[-1].WhichOneof("event") != "end":
        yield from parser.close()
        raise AssertionError("the stream has neither an end nor a failure")


def check_response(data: bytes) -> None:
    """A response on a connection is read or refused, and to the same end whatever the cuts."""
    random = Random(zlib.crc32(data))
    with asyncio.Runner() as runner:
        whole = runner.run(read_response([data]))
        for longest in (200, 5) if len(data) < 2048 else (200,):
            cut = runner.run(read_response(random_pieces(data, random, longest=longest)))
            assert (cut.status, cut.headers, cut.failure) == (whole.status, whole.headers, whole.failure)
            if whole.failure:
                # How much of a body that breaks is given out depends on how much came at once.
                shorter, longer = sorted((cut.body, whole.body), key=len)
                assert longer.startswith(shorter)
            else:
                assert cut.body == whole.body


def check_sse(data: bytes) -> None:
    """Events are the same whatever the cuts, also where one is too large."""
    random = Random(zlib.crc32(data))
    whole = _read_sse([data])
    assert _read_sse(random_pieces(data, random, longest=5)) == whole
    assert _read_sse(one_byte_pieces(data)) == whole


def _read_sse(pieces: Iterable[bytes]) -> list[SseEvent] | None:
    decoder = SseDecoder(max_event_bytes=64)
    events: list[SseEvent] = []
    try:
        for piece in pieces:
            events += decoder.feed(piece)
        return events + decoder.close()
    except EventTooLargeError:
        return None


def check_embeddings(data: bytes) -> None:
    """Embeddings are read, one for each input, or refused with a reason."""
    assert _EMBEDDINGS is not None
    for count in (1, 2):
        request = CreateEmbeddingsRequest(model="any")
        for _ in range(count):
            request.inputs.add(text="a")
        with allowed(_ANSWER_REASONS):
            answer = _EMBEDDINGS.parse_embeddings(data, request, make_target())
            assert [each.index for each in answer.embeddings] == list(range(count))
            assert all(each.float_vector.values for each in answer.embeddings)
            assert _survives(answer)
            check_usage(answer.usage)


def check_error_answer(provider_type: str, data: bytes) -> None:
    """An answer with an error status has a reason. Status and headers are the first lines."""
    head, _, body = data.partition(b"\n\n")
    first, *lines = head.split(b"\n")
    status = int(first) if first.isdigit() and len(first) < 4 else 500
    if not 201 <= status <= 999:
        return
    headers = {name.strip().lower(): value.strip() for name, _, value in map(_split_header, lines)}
    target = make_target(provider_type)
    error = chat_format(provider_type).parse_error(status, headers, body, target)
    check_error(error, _ANSWER_REASONS)
    if error.retry_after is not None:
        assert error.retryable


def _split_header(line: bytes) -> tuple[str, str, str]:
    return line.decode("latin-1").partition(":")


def check_fold(data: bytes) -> None:
    """A stream of events is folded or refused; a refused event changes nothing; merging changes nothing."""
    events = read_events(data)
    plain, refused = _fold(events)
    copies = [ChatEvent.FromString(event.SerializeToString()) for event in events[:refused]]
    fewer = merge_deltas(copies)
    merged, merged_refused = _fold(fewer)
    assert merged_refused == len(fewer), "merging broke a stream"
    assert merged == plain


def _fold(events: list[ChatEvent]) -> tuple[bytes, int]:
    """The answer, and how many events went into it until one was refused."""
    accumulator = ChatAccumulator()
    for place, event in enumerate(events):
        before = (accumulator.finished, accumulator.completion.SerializeToString(deterministic=True))
        try:
            accumulator.add(event)
        except StreamProtocolError:
            after = (accumulator.finished, accumulator.completion.SerializeToString(deterministic=True))
            assert after == before, "a refused event changed the answer"
            return before[1], place
    return accumulator.completion.SerializeToString(deterministic=True), len(events)


def check_query(data: bytes) -> None:
    """Filters and page tokens, which callers write as text, are read or refused."""
    text = data.decode("utf-8", "replace")
    with allowed(_REQUEST_REASONS):
        for condition in conditions_in(parse_filter(text)):
            assert condition.field
    with allowed(_REQUEST_REASONS):
        place = decode_page_token(text, PAGED, (int, str))
        assert place is None or [type(value) for value in place] == [int, str]


def check_request(data: bytes) -> None:
    """A request is read or refused, one for a model rendered or refused. The first byte chooses the RPC."""
    if not data:
        return
    method = METHODS[data[0] % len(METHODS)]
    with allowed(_REQUEST_REASONS):
        request = parse_request(method, data[1:])
        assert not protovalidate.collect_violations(request)
        match request:
            case CreateChatCompletionRequest():
                _render_chat(request)
            case CreateEmbeddingsRequest():
                _render_embeddings(request)
    _check_quick_look(method, data[1:])


def _render_chat(request: CreateChatCompletionRequest) -> None:
    check_usage(estimate_chat_usage(request, 10, UsageState.USAGE_STATE_PARTIAL))
    for target, renderer in _RENDERERS:
        for stream in (False, True):
            with allowed(_REQUEST_REASONS):
                body = orjson.loads(renderer.render_chat(request, target, stream=stream))
                assert type(body) is dict
                if "model" in body:
                    assert body["model"] == target.provider_model
                    assert body["messages"]
                    assert body.get("stream", False) is stream


def _render_embeddings(request: CreateEmbeddingsRequest) -> None:
    assert _EMBEDDINGS is not None
    check_usage(estimate_embeddings_usage(request, UsageState.USAGE_STATE_PARTIAL))
    with allowed(_REQUEST_REASONS):
        body = orjson.loads(_EMBEDDINGS.render_embeddings(request, make_target()))
        assert len(body["input"]) == len(request.inputs)


def _check_quick_look(method: Method, data: bytes) -> None:
    """The quick look never passes what the rules would not."""
    if method.request_type is not CreateChatCompletionRequest:
        return
    request = CreateChatCompletionRequest()
    try:
        request.ParseFromString(data)
    except DecodeError:
        return
    if is_plainly_valid(request):
        assert not protovalidate.collect_violations(request)


def check_answer(answer: ChatCompletion) -> None:
    """What was read can be sent, paid for and counted."""
    assert _survives(answer)
    check_usage(answer.usage)
    for choice in answer.choices:
        ids = [part.tool_call.tool_call_id for part in choice.message.parts if part.HasField("tool_call")]
        assert len(set(ids)) == len(ids)
        assert all(part.WhichOneof("kind") for part in choice.message.parts)


def check_usage(usage: TokenUsage) -> None:
    """The sums hold, no count is negative, and the dearest price gives a cost."""
    assert usage.total_tokens == usage.input_tokens + usage.output_tokens
    assert 0 <= usage.cache_read_input_tokens + usage.cache_write_input_tokens <= usage.input_tokens
    assert 0 <= usage.reasoning_output_tokens <= usage.output_tokens
    cost = price_usage(usage, _DEAR)
    parts = (cost.input_nanos, cost.cache_read_nanos, cost.cache_write_nanos, cost.output_nanos)
    assert min(parts) >= 0
    assert cost.total_nanos == sum(parts)


@contextmanager
def allowed(reasons: frozenset[str]) -> Iterator[None]:
    """Lets a GatewayError of these reasons pass, once it has been seen to fit into a status."""
    try:
        yield
    except GatewayError as error:
        check_error(error, reasons)


def check_error(error: GatewayError, reasons: frozenset[str]) -> None:
    """The error is one of those allowed here and becomes a status that a client can read."""
    assert error.reason_name in reasons, f"{error.reason_name}: {error.message}"
    status = status_of(error, "request-1")
    assert status.reason == error.reason_name
    trailers: Mapping[str, Any] = dict(status.trailing_metadata)
    details = trailers[DETAILS_KEY]
    assert len(details) + len(status.message.encode()) < _MAX_DETAILS
    for detail in Status.FromString(details).details:
        retry = error_details_pb2.RetryInfo()
        if detail.Unpack(retry):
            retry.retry_delay.ToJsonString()  # raises unless it is a Duration that others can read
            assert retry.retry_delay.ToNanoseconds() >= 0


def _survives(message: Message) -> bool:
    """Whether the message is the same after its way to a caller."""
    return type(message).FromString(message.SerializeToString()) == message
