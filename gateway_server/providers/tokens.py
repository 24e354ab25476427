"""Bearer tokens that a program prints, and when they end."""

import binascii
import os
import re
import shlex
import subprocess
import time
from base64 import urlsafe_b64decode
from datetime import datetime
from typing import Final

import orjson

from gateway_server.providers.kept_fresh import Lease, SecretUnavailableError

_COMMAND_SECONDS: Final = 60.0
#: How long a token is used whose end is not told, in seconds.
_UNKNOWN_LIFE_SECONDS: Final = 300.0
#: What programs call the token: Azure's and Google's tools, OAuth, Kubernetes.
_TOKEN_KEYS: Final = ("accessToken", "access_token", "token")
_JWT_PARTS: Final = 3
_SECONDS: Final = re.compile(r"\d{1,15}", re.ASCII)


def run_token_command(variable: str) -> Lease[str]:
    """Runs the command line that stands in a variable of the environment, without a shell. Blocks.

    It prints the token, or a JSON object that holds one and may tell its end. Raises
    SecretUnavailableError.
    """
    try:
        command = shlex.split(os.environ.get(variable, ""))
    except ValueError as error:
        raise SecretUnavailableError(f"cannot be had: {variable} is not a command line") from error
    if not command:
        raise SecretUnavailableError(f"cannot be had: the variable {variable} holds no command")
    try:
        done = subprocess.run(  # noqa: S603 -- whoever sets the variables of this process chose it
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_COMMAND_SECONDS, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise SecretUnavailableError(f"cannot be had: the command in {variable} takes too long") from error
    except (OSError, ValueError) as error:
        raise SecretUnavailableError(f"cannot be had: the command in {variable} cannot be started") from error
    if done.returncode:
        raise SecretUnavailableError(
            f"cannot be had: the command in {variable} ended with status {done.returncode}"
        )
    lease = read_token(done.stdout, now=time.time())
    if lease is None:
        raise SecretUnavailableError(f"cannot be had: the command in {variable} printed no token")
    return lease


def read_token(output: bytes, *, now: float) -> Lease[str] | None:
    """The token in what a program printed; None when there is none. ``now`` is in seconds since the epoch."""
    try:
        text = output.decode().strip()
    except UnicodeDecodeError:
        return None
    expires_at: float | None = None
    if text.startswith("{"):
        try:
            printed = orjson.loads(text)
        except orjson.JSONDecodeError:
            return None
        words = [printed[key] for key in _TOKEN_KEYS if isinstance(printed.get(key), str)]
        text = words[0].strip() if words else ""
        expires_at = _read_end(printed, now)
    if not text or not text.isascii() or not text.isprintable() or " " in text:
        return None
    if expires_at is None:
        expires_at = _read_jwt_end(text)
    if expires_at is None:
        return Lease(secret=text, expires_at=None, refresh_at=now + _UNKNOWN_LIFE_SECONDS)
    return Lease(secret=text, expires_at=expires_at)


def _read_end(printed: dict[str, object], now: float) -> float | None:
    """The end: since the epoch (``expires_on``), from now (``expires_in``), or as a date with a zone."""
    seconds = _to_seconds(printed.get("expires_on"))
    if seconds is not None:
        return seconds
    seconds = _to_seconds(printed.get("expires_in"))
    if seconds is not None:
        return now + seconds
    date = printed.get("expiresOn")
    if isinstance(date, str):
        try:
            end = datetime.fromisoformat(date)
        except ValueError:
            return None
        # A date without a zone would have to be guessed at; the token itself tells, too.
        return end.timestamp() if end.tzinfo is not None else None
    return None


def _to_seconds(value: object) -> float | None:
    if isinstance(value, str) and _SECONDS.fullmatch(value):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
        return None
    return float(value)


def _read_jwt_end(token: str) -> float | None:
    """The ``exp`` of a JSON Web Token, unverified: it only decides when to fetch the next."""
    parts = token.split(".")
    if len(parts) != _JWT_PARTS:
        return None
    try:
        claims = orjson.loads(urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (binascii.Error, ValueError):
        return None
    return _to_seconds(claims.get("exp")) if isinstance(claims, dict) else None
