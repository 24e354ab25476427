"""Refuses every address outside this machine, for the whole run and in whichever module."""

from __future__ import annotations

import ipaddress
import sys
from typing import Any

_EVENTS = frozenset({"socket.connect", "socket.bind", "socket.sendto", "socket.sendmsg"})
_refused: list[str] = []


class ForeignAddressError(OSError):
    """A test reached for an address outside this machine."""


def take_refused() -> list[str]:
    """Returns what was refused since the last call, and forgets it."""
    refused = list(_refused)
    _refused.clear()
    return refused


def install() -> None:
    """Starts refusing, for good. Sees what Python opens, not what the C code of gRPC and uvloop does."""
    sys.addaudithook(_audit)


def _audit(event: str, args: tuple[Any, ...]) -> None:
    if event == "socket.getaddrinfo":
        host = args[0].decode() if isinstance(args[0], bytes) else args[0]
        # No host means: the addresses of this machine for a port.
        allowed = host is None or _is_loopback(host)
    elif event in _EVENTS and isinstance(args[1], tuple):
        host = args[1][0]
        allowed = _is_loopback(host)
    else:
        return
    if not allowed:
        _refused.append(f"{event} {host!r}")
        raise ForeignAddressError(f"{event} {host!r}: tests use loopback only")


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        # Other names, and "", which is every interface.
        return False
