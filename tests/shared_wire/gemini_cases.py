"""Which recorded exchanges with Google are in scope, and what of them cannot be replayed and why."""

import json
from dataclasses import replace
from functools import cache
from typing import Any
from urllib.parse import urlsplit

from tests.support.recorded import RecordedCase, recorded_cases

#: How many are in scope, by surface.
IN_SCOPE = {"generateContent": 89, "streamGenerateContent": 47, "count_tokens": 3, "embeddings": 6}

#: Surfaces that the provider type does not call, and how many recordings each has.
OTHER_SURFACES = {
    "chat": (4, "Google's copy of OpenAI's API; below, it is replayed in that format"),
}

#: Answers whose request was not recorded: only the answers are replayed.
NO_REQUEST = {
    "generatecontent__response_only_google_429_retry_info",
    "generatecontent__response_only_google_reasoning_gemini3",
    "generatecontent__response_only_google_reasoning_gemini3_stream",
    "generatecontent__response_only_google_stream_no_args_tool_call_stream",
    "generatecontent__response_only_google_tool_call_gemini3",
}


#: How often what we send is spelled otherwise than what was recorded; the reasons stand in
#: ``tests/support/gemini_meaning.py``.
DIFFERENCE_COUNTS = {
    "a thing for a list of one": 5,
    "base64 for addresses": 36,
    "contents beside a request": 2,
    "description null": 3,
    "empty generationConfig": 38,
    "lower-case mode": 1,
    "model in a count": 1,
    "neighbouring contents of one role": 10,
    "role of the instruction": 35,
    "schema in OpenAPI's words": 56,
    "snake_case": 94,
}


@cache
def cases_of(*apis: str) -> tuple[RecordedCase, ...]:
    """All exchanges of some surfaces."""
    return tuple(_framed(case) for case in recorded_cases("gemini") if case.api in apis)


def model_of(case: RecordedCase) -> str:
    """The model, which stands in the address."""
    return urlsplit(case.url).path.rpartition("/")[2].partition(":")[0] or "gemini-3-pro-preview"


def _framed(case: RecordedCase) -> RecordedCase:
    """The case, with its stream framed as the gateway asks for it.

    Some clients ask without ``alt=sse`` and get one long list; of some streams only the events were kept.
    """
    chunks: list[Any] = list(case.events)
    if not chunks and case.status == 200 and case.body.startswith(b"["):
        chunks = json.loads(case.body)
    return replace(case, body=to_sse(chunks), is_stream=True) if chunks else case


def to_sse(chunks: list[Any]) -> bytes:
    """Chunks as Google frames them."""
    return b"".join(
        b"data: " + json.dumps(chunk, ensure_ascii=False).encode() + b"\r\n\r\n" for chunk in chunks
    )
