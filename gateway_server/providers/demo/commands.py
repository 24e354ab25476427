"""What can be asked of the demo provider: by the model's name, or on a line of its own in the last user turn.

/slow 200     pause so many milliseconds between deltas
/tools 2      call so many of the tools that are offered
/fail 429     answer with this HTTP status
/error 3      fail after so many pieces, as a provider reports it within a stream
/cut 3        drop the connection after so many pieces
"""

import re
from dataclasses import dataclass
from typing import Any, Final

import orjson

#: The names that the list of models gives.
DEMO_MODELS: Final = ("demo-chat", "demo-slow", "demo-tools", "demo-fail", "demo-embeddings")

#: How every text of the demo provider begins.
LABEL: Final = "This is the demo provider of the gateway, not a language model."
HINT: Final = "Try /slow 200, /tools 1, /fail 429, /error 3 or /cut 3 on a line of its own."

_COMMAND: Final = re.compile(r"^/(slow|tools|fail|error|cut)(?:[ \t]+(\d{1,5}))?[ \t]*$", re.MULTILINE)
_DEFAULTS: Final = {"slow": 150, "tools": 1, "fail": 500, "error": 1, "cut": 1}
_STATUS: Final = re.compile(r"\b([45]\d\d)\b")
_CODES: Final = {401: "invalid_api_key", 429: "rate_limit_exceeded"}

JsonObject = dict[str, Any]


class DemoFailureError(Exception):
    """An HTTP error that the demo provider answers with."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.headers = {"retry-after": "1"} if status in {429, 503} else {}
        kind = "invalid_request_error" if status < 500 else "server_error"
        self.body = {"error": {"message": message, "type": kind, "param": None, "code": code}}


@dataclass(frozen=True, slots=True)
class Commands:
    """What was asked; ``pause`` is in seconds, counts of pieces are None where nothing is to go wrong."""

    pause: float = 0.0
    tools: int = 0
    error_after: int | None = None
    cut_after: int | None = None


def read_request(body: bytes) -> JsonObject:
    """The request; raises DemoFailureError unless it is an object that names a model of this provider."""
    try:
        request = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise DemoFailureError(400, "invalid_json", "The body is not JSON.") from error
    if not isinstance(request, dict):
        raise DemoFailureError(400, "invalid_json", "The body is not a JSON object.")
    if request.get("model") not in DEMO_MODELS:
        known = ", ".join(DEMO_MODELS)
        raise DemoFailureError(404, "model_not_found", f"The demo provider has the models {known}.")
    return request


def read_commands(model: str, prompt: str) -> Commands:
    """What the model's name and the prompt ask for; raises DemoFailureError when that is to fail at once."""
    asked = {match[1]: int(match[2] or _DEFAULTS[match[1]]) for match in _COMMAND.finditer(prompt)}
    if model == "demo-slow":
        asked.setdefault("slow", _DEFAULTS["slow"])
    if model == "demo-tools":
        asked.setdefault("tools", _DEFAULTS["tools"])
    if model == "demo-fail" and not asked.keys() & {"fail", "error", "cut"}:
        named = _STATUS.search(prompt)
        asked["fail"] = int(named[1]) if named else _DEFAULTS["fail"]
    if "fail" in asked:
        raise _failure(asked["fail"])
    return Commands(
        pause=asked.get("slow", 0) / 1000,
        tools=asked.get("tools", 0),
        error_after=asked.get("error"),
        cut_after=asked.get("cut"),
    )


def _failure(status: int) -> DemoFailureError:
    if not 400 <= status <= 599:
        return DemoFailureError(400, "invalid_value", "/fail takes an HTTP status from 400 to 599.")
    code = _CODES.get(status, "demo_failure")
    return DemoFailureError(status, code, f"{LABEL} It fails with {status}, as it was told to.")
