"""Transports for tests that meet no public provider."""

from __future__ import annotations

import ssl

import httpx
import pytest


def without_authorities(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes transports verify as any other, but know no public authority: reading those takes each 40 ms."""
    monkeypatch.setattr(httpx, "create_ssl_context", _create_ssl_context)


def _create_ssl_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # The default of a whole context from Python 3.13 on.
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    return context
