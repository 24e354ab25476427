"""Secrets at rest: AES-256-GCM under a master key of the operator's, bound to the place that they are for.

A sealed secret that is copied to another row, or whose row is made to point elsewhere, cannot be opened.
"""

import base64
import binascii
import hmac
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from gateway_server.secret_files import create_secret_file, read_secret_file

_KEY_BYTES: Final = 32
_NONCE_BYTES: Final = 12
_TAG_BYTES: Final = 16
#: The first byte of an envelope: which layout it has.
_LAYOUT: Final = b"\x01"


class MasterKeyError(Exception):
    """A master key that cannot be used; the message never holds it."""


class UnsealError(Exception):
    """A secret that cannot be opened; the message says why and holds no secret."""


@dataclass(frozen=True, slots=True)
class SealedSecret:
    """An encrypted secret, and which master key opens it."""

    key_id: str
    envelope: bytes = field(repr=False)


class MasterKeys:
    """The key under which secrets are sealed, and former ones that still open what they sealed.

    Keys in a file are read again when one is missing: call ``prepare`` and ``open`` in a thread.
    """

    def __init__(self, text: str = "", *, file: Path | None = None, make_file: bool = False) -> None:
        """Takes keys as ``parse_keys`` does, or else those in the file. Raises MasterKeyError.

        ``make_file`` makes the file, with a new key, when the first secret is sealed and there is none.
        """
        self._file = file
        self._make = make_file
        self._keys: Mapping[str, AESGCM] = parse_keys(text) if text else MappingProxyType({})
        if not text and file is not None:
            self._read_file(file)

    @property
    def current_id(self) -> str:
        """The id of the key that seals; empty when there is none yet."""
        return next(iter(self._keys), "")

    def prepare(self) -> None:
        """Makes a key if there is none; raises MasterKeyError when that cannot be."""
        if not self._keys:
            self._make_keys()

    def seal(self, secret: str, place: str) -> SealedSecret:
        """Encrypts a secret for a place, once there is a key. Does no I/O."""
        key_id, cipher = next(iter(self._keys.items()))
        nonce = secrets.token_bytes(_NONCE_BYTES)
        data = cipher.encrypt(nonce, secret.encode(), _associated(key_id, place))
        return SealedSecret(key_id, _LAYOUT + nonce + data)

    def open(self, sealed: SealedSecret, place: str) -> str:
        """The secret that was sealed for the place. Raises UnsealError."""
        cipher = self._keys.get(sealed.key_id)
        if cipher is None and self._file is not None:
            # Another process may have made it, or an operator added a key.
            try:
                self._read_file(self._file)
            except MasterKeyError as error:
                raise UnsealError(f"cannot be opened: {error}") from None
            cipher = self._keys.get(sealed.key_id)
        if cipher is None:
            raise UnsealError(f"is sealed under the master key {sealed.key_id}, which is not here")
        envelope = sealed.envelope
        if envelope[:1] != _LAYOUT or len(envelope) < 1 + _NONCE_BYTES + _TAG_BYTES:
            raise UnsealError("is sealed in a way that this version of the gateway does not know")
        nonce, data = envelope[1 : 1 + _NONCE_BYTES], envelope[1 + _NONCE_BYTES :]
        try:
            return cipher.decrypt(nonce, data, _associated(sealed.key_id, place)).decode()
        except InvalidTag:
            raise UnsealError("cannot be opened: it was changed, or sealed for another place") from None

    def _read_file(self, file: Path) -> None:
        try:
            text = read_secret_file(file)
        except FileNotFoundError:
            if self._make:
                return  # not yet
            raise MasterKeyError(f"{file}: there is no such file") from None
        except (OSError, UnicodeDecodeError):
            raise MasterKeyError(f"{file}: the file cannot be read") from None
        try:
            self._keys = parse_keys(text)
        except MasterKeyError as error:
            raise MasterKeyError(f"{file}: {error}") from None

    def _make_keys(self) -> None:
        if self._file is None or not self._make:
            raise MasterKeyError("there is no master key")
        key = base64.b64encode(secrets.token_bytes(_KEY_BYTES)).decode()
        try:
            create_secret_file(self._file, f"{key}\n")
        except OSError:
            raise MasterKeyError(f"{self._file}: the file cannot be made") from None
        self._read_file(self._file)


def parse_keys(text: str) -> Mapping[str, AESGCM]:
    """Keys by id, the one that seals first: each 32 bytes in base64, with commas or blanks between them.

    An id is a hash of its key, so that a key is known again wherever it stands. Raises MasterKeyError.
    """
    keys: dict[str, AESGCM] = {}
    for word in re.split(r"[,\s]+", text.strip(", \t\r\n")):
        key = _decode(word)
        key_id = hmac.digest(key, b"ai-gateway master key", "sha256").hex()[:16]
        if key_id in keys:
            raise MasterKeyError("the same master key stands twice")
        keys[key_id] = AESGCM(key)
    return MappingProxyType(keys)


def _decode(word: str) -> bytes:
    """The key that the word stands for, in either alphabet of base64, padded or not."""
    standard = word.rstrip("=").replace("-", "+").replace("_", "/")
    try:
        key = base64.b64decode(standard + "=" * (-len(standard) % 4), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != _KEY_BYTES:
        raise MasterKeyError(f"a master key must be {_KEY_BYTES} bytes in base64")
    return key


def _associated(key_id: str, place: str) -> bytes:
    """What must be the same when a secret is opened. No id holds a NUL, so that nothing can be shifted."""
    return b"\0".join((b"ai-gateway secret", _LAYOUT, key_id.encode(), place.encode()))
