"""The secrets of API keys: making them, hashing them, and the pepper they are hashed under.

A secret has 256 random bits, so a fast hash is enough: nobody can try them all. The pepper keeps a copy of
the database alone from being of any use for making or testing secrets.
"""

import asyncio
import base64
import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gateway_server.secret_files import create_secret_file, read_secret_file
from gateway_server.storage.api_keys import HashedSecret
from gateway_server.storage.engine import Store
from gateway_server.storage.facts import settle_fact

PREFIX: Final = "sk-gw-"
_SECRET_BYTES: Final = 32
_SECRET: Final = re.compile(r"sk-gw-[A-Za-z0-9_-]{43}")
#: How much of a secret is shown to recognise it by: 24 of its 256 random bits, and 24 more at its end.
_SHOWN_PREFIX: Final = len(PREFIX) + 4
_MIN_PEPPER_BYTES: Final = 16


class PepperError(Exception):
    """A pepper that cannot be used; the message never holds it."""


@dataclass(frozen=True, slots=True)
class Pepper:
    """A secret of the gateway's own that goes into every hash of a key."""

    version: int
    value: bytes

    def __repr__(self) -> str:
        return f"Pepper(version={self.version})"


@dataclass(frozen=True, slots=True)
class Peppers:
    """The pepper for new secrets, and those under which older ones are still known."""

    current: Pepper
    former: tuple[Pepper, ...] = ()

    def hash(self, secret: str) -> bytes:
        """The hash under the current pepper."""
        return hash_secret(secret, self.current)

    def hashes(self, secret: str) -> tuple[bytes, ...]:
        """The hashes under all peppers, the current one's first."""
        return tuple(hash_secret(secret, pepper) for pepper in (self.current, *self.former))

    def hashed(self, secret: str) -> HashedSecret:
        """What is kept of a new secret."""
        return HashedSecret(
            hash=self.hash(secret),
            pepper_version=self.current.version,
            prefix=secret[:_SHOWN_PREFIX],
            last4=secret[-4:],
        )


def new_secret() -> str:
    """A new secret: ``sk-gw-`` and 43 characters for 32 random bytes."""
    return PREFIX + base64.urlsafe_b64encode(secrets.token_bytes(_SECRET_BYTES)).rstrip(b"=").decode()


def is_well_formed(secret: str) -> bool:
    """Whether it could be a secret at all."""
    return _SECRET.fullmatch(secret) is not None


def hash_secret(secret: str, pepper: Pepper) -> bytes:
    """HMAC-SHA-256 of the secret under the pepper: 32 bytes."""
    return hmac.digest(pepper.value, secret.encode(), "sha256")


def parse_peppers(text: str) -> Peppers:
    """Reads a pepper, or several as in ``2:NEW,1:OLD``, the one for new secrets first; raises PepperError.

    A pepper has at least 16 bytes and no comma; without a number it is version 1.
    """
    peppers: list[Pepper] = []
    for item in text.split(","):
        version, separator, value = item.strip().partition(":")
        if not separator or not version.isdecimal():
            version, value = "1", item.strip()
        if len(value.encode()) < _MIN_PEPPER_BYTES:
            raise PepperError(f"a pepper must have at least {_MIN_PEPPER_BYTES} bytes")
        peppers.append(Pepper(int(version), value.encode()))
    if len({pepper.version for pepper in peppers}) != len(peppers):
        raise PepperError("two peppers have the same version")
    return Peppers(peppers[0], tuple(peppers[1:]))


def load_or_create_pepper(path: Path) -> Peppers:
    """The peppers in the file, which is made with a random one when missing; raises PepperError, OSError.

    Processes that start at once end up with the same one. Reads and writes files: call it in a thread.
    """
    try:
        text = read_secret_file(path)
    except FileNotFoundError:
        create_secret_file(path, f"1:{secrets.token_urlsafe(32)}\n")
        text = read_secret_file(path)
    try:
        return parse_peppers(text.strip())
    except PepperError as error:
        raise PepperError(f"{path}: {error}") from None


async def check_peppers(store: Store, peppers: Peppers) -> None:
    """Raises PepperError when the database's keys were hashed under another pepper of the same version.

    Without this, a lost pepper or a second replica with one of its own would turn valid keys away.
    """
    for pepper in (peppers.current, *peppers.former):
        mark = hmac.new(pepper.value, b"ai-gateway pepper", hashlib.sha256).hexdigest()[:16]
        if not hmac.compare_digest(await settle_fact(store, f"pepper:{pepper.version}", mark), mark):
            raise PepperError(
                f"the API keys in the database were hashed under another pepper (version {pepper.version}); "
                "give every process of the gateway the pepper that the first one had"
            )


async def load_peppers(key_pepper: str, path: Path) -> Peppers:
    """The peppers from the setting, from the file when that is empty; raises PepperError, OSError."""
    if key_pepper:
        return parse_peppers(key_pepper)
    return await asyncio.to_thread(load_or_create_pepper, path)
