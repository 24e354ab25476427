"""Which recorded exchanges with Bedrock are in scope, and why the others are not."""

from dataclasses import replace
from urllib.parse import unquote

from tests.support.event_stream import to_event_stream
from tests.support.recorded import RecordedCase, recorded_cases

#: How many there are of each surface.
IN_SCOPE = {"converse": 77, "converse-stream": 21, "count_tokens": 5, "embeddings-invoke": 7}

#: Of these nothing was recorded but the answer.
ANSWER_ONLY = {
    "converse__response_only_amazon_bedrock_reasoning_stream",
    "converse__response_only_amazon_bedrock_tool_call_1_stream",
    "converse__response_only_amazon_bedrock_tool_no_args",
}

#: Requests that cannot be written in the contract, so that only their answers are replayed.
NO_REQUEST = {
    "count_tokens__count_tokens__04": "a count of InvokeModel's format, which is not spoken",
    "count_tokens__error_400_invalid_request__01": "the same",
}


def cases_of(*apis: str) -> list[RecordedCase]:
    """All exchanges of some surfaces."""
    return [_with_body(case) for case in recorded_cases("bedrock") if case.api in apis]


def _with_body(case: RecordedCase) -> RecordedCase:
    """A stream of which only the events were kept, framed as all of them are."""
    return replace(case, body=to_event_stream(case.events)) if case.events else case


def model_of(case: RecordedCase) -> str:
    """The model that was called."""
    return unquote(case.url.partition("/model/")[2].rpartition("/")[0]) or "anthropic.claude-test"
