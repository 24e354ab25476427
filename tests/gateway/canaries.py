"""Secrets that can be recognised wherever they turn up, and what was seen where."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import quote

MASTER_KEY: Final = base64.b64encode(b"canary-of-the-master-key-3f9a71c").decode()
CANARIES: Final = {
    "admin key": "sk-gw-" + "canaryADMINkey" + "7" * 29,
    "key of nobody": "sk-gw-" + "canaryNOBODYkey" + "5" * 28,
    "pepper": "canary-pepper-88d1e0c2aa",
    "master key": MASTER_KEY,
    "bytes of the master key": base64.b64decode(MASTER_KEY).decode(),
    "kept credential": "sk-canary-kept-51c7b0ff",
    "replaced credential": "sk-canary-replaced-9917ac",
    "credential that was refused": "sk-canary-refused-6d21bb",
    "credential of the variable": "sk-canary-variable-b3305e",
    "credential of the file": "sk-canary-file-04c1d9",
    "credential for anthropic": "sk-ant-canary-5be0d1f7",
    "credential for google": "AIza-canary-72c11aa0",
    "credential for azure": "azure-canary-e90417bd",
    "credential for bedrock": "bedrock+canary/secret-19f3cc02",
    "prompt": "canary prompt: my cat is called Xylophone-77",
    "tool result": "canary result: the vault opens at 04:17",
    "option": "canary-option-31ce",
    "answer": "canary answer: so is mine, Marimba-12",
}


def forms_of(secret: str) -> set[bytes]:
    """How a secret may stand in what is seen: plain, escaped, or encoded."""
    raw = secret.encode()
    forms = {raw, quote(secret).encode(), quote(secret, safe="").encode(), json.dumps(secret)[1:-1].encode()}
    forms |= {raw.hex().encode(), raw.hex().upper().encode(), secret[::-1].encode()}
    for shift in range(3):  # in the middle of something longer, base64 has three ways
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            forms.add(encode(bytes(shift) + raw)[4 if shift else 0 :].rstrip(b"=")[:-2])
    return forms


FORMS: Final = {name: forms_of(secret) for name, secret in CANARIES.items()}


def found_in(data: bytes | str) -> list[str]:
    """The names of the canaries that are in there."""
    text = data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data
    return [name for name, forms in FORMS.items() if any(form in text for form in forms)]


@dataclass
class Seen:
    """All that was told, each with where it was seen."""

    things: list[tuple[str, bytes]] = field(default_factory=list)

    def add(self, where: str, data: bytes | str) -> None:
        self.things.append((where, data.encode() if isinstance(data, str) else data))

    def leaks(self, *, allowed: Mapping[str, tuple[str, ...]]) -> list[str]:
        """Where canaries were seen, but for those of them in places that begin as the allowed ones do."""
        return [
            f"{name} in {where}: {data[:2000]!r}"
            for where, data in self.things
            for name in found_in(data)
            if not where.startswith(allowed.get(name, ()) or "\0")
        ]
