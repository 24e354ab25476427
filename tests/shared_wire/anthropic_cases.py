"""Which recorded exchanges with Anthropic are in scope, and what of them cannot be replayed and why."""

import json
from dataclasses import replace
from functools import cache

from tests.support.recorded import RecordedCase, recorded_cases

#: How many are in scope, by surface. All are.
IN_SCOPE = {"messages": 193, "count_tokens": 3, "models": 1}

#: Answers whose request was not recorded: only the answers are replayed.
NO_REQUEST = {
    "messages__response_only_anthropic_clear_thinking_1",
    "messages__response_only_anthropic_fallback_stream",
    "messages__response_only_anthropic_message_delta_input_tokens_stream",
    "messages__response_only_anthropic_refusal",
    "messages__response_only_anthropic_refusal_no_details",
    "messages__response_only_anthropic_refusal_stream",
    "messages__response_only_anthropic_text",
    "messages__response_only_anthropic_tool_no_args",
}

#: Requests that the gateway refuses before it sends anything, with what it says.
REFUSED_BEFORE_SENDING: dict[str, str] = {}


@cache
def cases_of(api: str) -> tuple[RecordedCase, ...]:
    """All exchanges of a surface."""
    return tuple(_whole(case) for case in recorded_cases("anthropic") if case.api == api)


def _whole(case: RecordedCase) -> RecordedCase:
    """The case with the bytes of its stream also where only the events were kept."""
    if not case.events:
        return case
    text = "".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in case.events)
    return replace(case, body=text.encode())
