"""Which recorded exchanges of the OpenAI family are in scope, and why the others are not."""

from dataclasses import replace
from urllib.parse import urlsplit

from tests.support.recorded import RecordedCase, recorded_cases
from tests.support.wire import to_sse

#: Types of providers, and the folders of their recordings.
PROVIDERS = {"openai": "openai", "vllm": "vllm", "azure_openai": "azure"}

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
    ("azure_openai", "responses"): (14, "as for OpenAI"),
}

#: Requests that cannot be written in the contract, so that only their answers are replayed.
NO_REQUEST = {
    "chat__response_only_openai_text": "nothing was recorded but the answer",
    "chat__error_bad_json_randomweights": "the request is not JSON; the gateway sends only what it rendered",
    "chat__response_only_azure_model_router_1_stream": "nothing was recorded but the answer",
    "chat__error_missing_messages_randomweights": "a conversation without turns is refused by the contract",
}

#: How often what we send is spelled otherwise than what was recorded; the reasons stand in
#: ``tests/support/openai_meaning.py``.
DIFFERENCE_COUNTS = {
    "a single input": 17,
    "assistant content null": 24,
    "content as one text block": 8,
    "empty description": 77,
    "encoding_format": 14,
    "fields of an answer sent back": 24,
    "functions": 2,
    "max_completion_tokens": 1,
    "max_tokens": 10,
    "null for an absent key": 2,
    "stop as one string": 1,
    "stream or logprobs false": 90,
    "usage of streams": 14,
}

#: How many are in scope, by provider and surface.
IN_SCOPE = {
    ("openai", "chat"): 145,
    ("openai", "embeddings"): 12,
    ("vllm", "chat"): 38,
    ("vllm", "embeddings"): 6,
    ("vllm", "models"): 1,
    ("azure_openai", "chat"): 49,
    ("azure_openai", "embeddings"): 4,
}


def cases_of(api: str) -> list[tuple[str, RecordedCase]]:
    """All exchanges of a surface, with their type of provider."""
    return [
        (provider, _with_body(case))
        for provider, folder in PROVIDERS.items()
        for case in recorded_cases(folder)
        if case.api == api
    ]


def _with_body(case: RecordedCase) -> RecordedCase:
    """A stream of which only the events were kept, framed as all of them are."""
    return replace(case, body=to_sse(case.events)) if case.events else case


def config_of(provider: str, case: RecordedCase) -> dict[str, object]:
    """The settings of a provider that calls what was called."""
    if provider != "azure_openai":
        return {}
    called = urlsplit(case.url)
    surfaces = {"/openai/v1/": "v1", "/openai/deployments/": "deployments", "/models/": "models"}
    surface = next((surface for start, surface in surfaces.items() if called.path.startswith(start)), "v1")
    version = called.query.removeprefix("api-version=")
    return {"surface": surface, **({"api_version": version} if version else {})}


def model_of(case: RecordedCase) -> str:
    """The model that was called: where the path names it, the body may say something else."""
    _, named, rest = case.url.partition("/deployments/")
    if named:
        return rest.partition("/")[0]
    assert case.request is not None
    model = case.request["model"]
    assert isinstance(model, str)
    return model


def path_of(provider: str, case: RecordedCase) -> str:
    """Path and query of what was called, with the address of the server taken away."""
    if provider != "azure_openai":
        return f"/v1/{'embeddings' if case.api == 'embeddings' else 'chat/completions'}"
    called = urlsplit(case.url)
    # One recording lost its query, which that surface cannot be called without.
    version = called.query or ("api-version=2024-10-21" if "/deployments/" in called.path else "")
    return f"{called.path}?{version}".removesuffix("?")


def name_of(value: object) -> str:
    """Names a case in the list of tests."""
    return str(value)
