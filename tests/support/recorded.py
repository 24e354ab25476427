"""Recorded exchanges with providers, read from beside the repository."""

import json
from base64 import b64decode
from dataclasses import dataclass
from functools import cache
from typing import Any

from tests.support.shared import require_shared_dir


@dataclass(frozen=True, slots=True)
class RecordedCase:
    """One exchange: what was asked, what was answered."""

    name: str
    api: str
    request: dict[str, Any] | None
    status: int
    headers: dict[str, str]
    body: bytes
    is_stream: bool
    url: str = ""
    #: The events of a stream whose framing was not kept.
    events: tuple[Any, ...] = ()

    @property
    def json(self) -> Any:
        """The body, if it is JSON."""
        return json.loads(self.body)

    def __str__(self) -> str:
        return self.name


@cache
def recorded_cases(provider: str) -> tuple[RecordedCase, ...]:
    """All exchanges with a provider, in order of name."""
    folder = require_shared_dir() / "wire" / provider
    return tuple(
        _read_case(path.stem, json.loads(path.read_text())) for path in sorted(folder.glob("*.json"))
    )


def _read_case(name: str, case: dict[str, Any]) -> RecordedCase:
    response = case["response"]
    if "sse_text" in response:
        body = response["sse_text"].encode()
    elif "eventstream_base64" in response:
        body = b64decode(response["eventstream_base64"])
    elif "json" in response:
        body = json.dumps(response["json"], ensure_ascii=False).encode()
    else:
        body = response.get("text", "").encode()
    return RecordedCase(
        name=name,
        api=case["api"],
        request=(case["request"] or {}).get("json"),
        status=response["status"],
        headers={key.lower(): value for key, value in response["headers"].items()},
        body=body,
        is_stream=bool(response.keys() & {"sse_text", "eventstream_base64", "events"}),
        url=(case["request"] or {}).get("url", ""),
        events=() if "eventstream_base64" in response else tuple(response.get("events", ())),
    )
