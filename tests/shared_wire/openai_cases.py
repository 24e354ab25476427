"""Which recorded exchanges of the OpenAI family are in scope, and why the others are not."""

from tests.support.recorded import RecordedCase, recorded_cases

PROVIDERS = ("openai", "vllm")

#: Surfaces that the gateway does not call, and how many recordings each has.
OTHER_SURFACES = {
    ("openai", "responses"): (
        90,
        "the Responses API is not used: chat completions say all that the contract has",
    ),
    ("openai", "moderations"): (2, "guardrails do not ask a provider"),
    ("openai", "count_tokens"): (2, "belongs to the Responses API"),
    ("vllm", "completions"): (4, "the legacy API without messages"),
    ("vllm", "messages"): (6, "vLLM's copy of Anthropic's API"),
}

#: Requests that cannot be written in the contract, so that only their answers are replayed.
NO_REQUEST = {
    "chat__response_only_openai_text": "nothing was recorded but the answer",
    "chat__error_bad_json_randomweights": "the request is not JSON; the gateway sends only what it rendered",
    "chat__error_missing_messages_randomweights": "a conversation without turns is refused by the contract",
}

#: How often what we send is spelled otherwise than what was recorded; the reasons stand in
#: ``tests/support/openai_meaning.py``.
DIFFERENCE_COUNTS = {
    "a single input": 15,
    "assistant content null": 24,
    "content as one text block": 8,
    "empty description": 77,
    "encoding_format": 12,
    "fields of an answer sent back": 24,
    "functions": 2,
    "max_completion_tokens": 1,
    "max_tokens": 10,
    "null for an absent key": 2,
    "stop as one string": 1,
    "stream or logprobs false": 63,
    "usage of streams": 13,
}

#: How many are in scope, by provider and surface.
IN_SCOPE = {
    ("openai", "chat"): 145,
    ("openai", "embeddings"): 12,
    ("vllm", "chat"): 38,
    ("vllm", "embeddings"): 6,
    ("vllm", "models"): 1,
}


def cases_of(api: str) -> list[tuple[str, RecordedCase]]:
    """All exchanges of a surface, with their provider."""
    return [
        (provider, case) for provider in PROVIDERS for case in recorded_cases(provider) if case.api == api
    ]


def name_of(value: object) -> str:
    """Names a case in the list of tests."""
    return str(value)
