"""Marks on what a provider seals, so that it goes back to that provider alone.

Callers send back whole conversations, also such as began at another provider, which would only make this one
refuse the request.
"""


def seal(origin: str, sealed: str) -> bytes:
    """A signature or a sealed thought, as callers keep it; nothing where there is none."""
    return f"{origin}:{sealed}".encode() if sealed else b""


def unseal(origin: str, kept: bytes) -> str | None:
    """What the provider sealed, as it came; None when it is not of this origin."""
    mark = f"{origin}:".encode()
    if not kept.startswith(mark):
        return None
    try:
        return kept.removeprefix(mark).decode()
    except UnicodeDecodeError:
        return None
