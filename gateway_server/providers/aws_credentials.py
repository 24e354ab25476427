"""Keys to AWS: written down by the operator, or found where AWS's own tools look.

botocore does the looking: variables of the environment, profiles in shared files, programs, single sign-on,
and the roles of containers and machines, whose keys end and are fetched again.
"""

import os
import re
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

import orjson

from gateway_server.providers.kept_fresh import KeptFresh, Lease, SecretUnavailableError, share

if TYPE_CHECKING:
    from botocore.credentials import Credentials

#: How often what was found is looked at again, in seconds: botocore fetches keys that end 15 minutes before.
_LOOK_SECONDS: Final = 30.0
_ACCESS_KEY: Final = re.compile(r"[A-Za-z0-9]{16,128}", re.ASCII)
_SECRET: Final = re.compile(r"[!-~]{1,4096}", re.ASCII)


@dataclass(frozen=True, slots=True)
class AwsKeys:
    """What a request is signed with."""

    access_key: str = field(repr=False)
    secret_key: str = field(repr=False)
    #: Empty for keys that do not end.
    session_token: str = field(default="", repr=False)


def read_keys(secret: str) -> AwsKeys | None:
    """The keys that an operator wrote down; None when it is one word, which is a Bedrock API key.

    Either ``ACCESS_KEY:SECRET_KEY`` with ``:SESSION_TOKEN`` behind it where there is one, or JSON as AWS's
    tools print it. Raises SecretUnavailableError for what looks like keys and is none.
    """
    if secret.startswith("{"):
        keys = _read_json(secret)
    elif ":" in secret:
        access_key, _, rest = secret.partition(":")
        secret_key, _, session_token = rest.partition(":")
        keys = AwsKeys(access_key, secret_key, session_token)
    else:
        return None
    if not _ACCESS_KEY.fullmatch(keys.access_key) or not _SECRET.fullmatch(keys.secret_key):
        raise SecretUnavailableError("is neither ACCESS_KEY:SECRET_KEY[:SESSION_TOKEN] nor JSON with these")
    if keys.session_token and not _SECRET.fullmatch(keys.session_token):
        raise SecretUnavailableError("holds a session token that is none")
    return keys


def _read_json(secret: str) -> AwsKeys:
    """``{"AccessKeyId", "SecretAccessKey", "SessionToken"?}``, also under ``Credentials``."""
    try:
        found = orjson.loads(secret)
    except orjson.JSONDecodeError as error:
        raise SecretUnavailableError("is not JSON, although it begins as if") from error
    if isinstance(inner := found.get("Credentials"), dict):
        found = inner
    values = [found.get(key) for key in ("AccessKeyId", "SecretAccessKey", "SessionToken")]
    access_key, secret_key, session_token = [value if isinstance(value, str) else "" for value in values]
    return AwsKeys(access_key, secret_key, session_token)


def find_keys(profile: str) -> KeptFresh[AwsKeys]:
    """The keys that AWS's own tools would use, with a profile or without; looked for once it is started."""
    return share(("aws", profile), _Chain(profile).fetch)


class _Chain:
    """Looks in the order of AWS's tools, and goes on with what it found until the shared files change."""

    def __init__(self, profile: str) -> None:
        self._profile = profile
        self._credentials: Credentials | None = None
        self._files: tuple[tuple[str, int], ...] = ()

    def fetch(self) -> Lease[AwsKeys]:
        """The keys as they are now. Blocks: it may ask a service or run a program."""
        from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415 -- heavy, seldom needed

        try:
            keys = self._find()
        except (BotoCoreError, ClientError, OSError) as error:
            # Their words may name accounts and places; the kind is enough to know where to look.
            raise SecretUnavailableError(f"cannot be had from AWS's chain: {type(error).__name__}") from error
        if keys is None:
            raise SecretUnavailableError(
                "is not set, and neither the environment nor a profile nor a role has keys"
            )
        return Lease(secret=keys, expires_at=None, refresh_at=time.time() + _LOOK_SECONDS)

    def _find(self) -> AwsKeys | None:
        from botocore.session import Session  # noqa: PLC0415 -- heavy, seldom needed

        files = tuple(_states(("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE")))
        if self._credentials is None or files != self._files:
            session = Session(profile=self._profile or None)
            self._credentials = session.get_credentials()
            self._files = files
        if self._credentials is None:
            return None
        frozen = self._credentials.get_frozen_credentials()
        return AwsKeys(frozen.access_key or "", frozen.secret_key or "", frozen.token or "")


def _states(variables: Iterable[str]) -> Iterable[tuple[str, int]]:
    """The shared files, wherever they are, and when each was last changed."""
    for variable, name in zip(variables, ("credentials", "config"), strict=True):
        path = Path(os.environ.get(variable) or f"~/.aws/{name}").expanduser()
        try:
            yield str(path), path.stat().st_mtime_ns
        except OSError:
            yield str(path), 0
