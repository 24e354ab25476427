"""Transports for tests that meet no public provider."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest


@contextmanager
def without_authorities() -> Iterator[None]:
    """Has transports verify as any other, but know no public authority: reading those takes each 40 ms."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(httpx, "create_ssl_context", _create_ssl_context)
        yield


def _create_ssl_context(**_: Any) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # The default of a whole context from Python 3.13 on.
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    return context
