"""Names within the path of a URL."""

from urllib.parse import quote

from gateway_server.errors import invalid_request


def path_segment(name: str) -> str:
    """The name as one segment of a path, whatever is in it.

    Raises INVALID_REQUEST for the two names that would lead to another place in spite of all escapes.
    """
    if name in {".", ".."}:
        raise invalid_request("model", "is no name that can stand in the address of a provider")
    return quote(name, safe="")
