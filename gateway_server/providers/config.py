"""Reads what an administrator wrote about a provider; faults name the field of the Provider resource."""

from typing import Final, TypeVar

import httpx

from gateway_server.errors import GatewayError, invalid_request
from gateway_server.providers.base import ProviderConfig

_BASE_URL: Final = "provider.base_url"
_OPENAI_PATH: Final = b"/v1"
_Choice = TypeVar("_Choice", bound=str)


class ConfigReader:
    """Reads the settings of one provider, one key after another; ``finish`` refuses those nobody read."""

    def __init__(self, config: ProviderConfig) -> None:
        self._unread = dict(config)
        self._known: list[str] = []

    def choice(self, key: str, choices: tuple[_Choice, ...]) -> _Choice:
        """One of the choices, the first of them unless set."""
        value = self._take(key)
        if value is None:
            return choices[0]
        for choice in choices:
            if value == choice:
                return choice
        raise _fault(key, f"is none of {', '.join(choices)}")

    def flag(self, key: str, *, default: bool) -> bool:
        """True or false."""
        value = self._take(key)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise _fault(key, "is neither true nor false")
        return value

    def header_value(self, key: str) -> str:
        """Text that can stand in a header, empty unless set."""
        value = self._take(key)
        if value is None:
            return ""
        if not isinstance(value, str) or not is_header_value(value):
            raise _fault(key, "is not text of printable ASCII characters")
        return value

    def header_values(self, key: str) -> tuple[str, ...]:
        """A list of texts that can stand in one header, separated by commas; empty unless set."""
        value = self._take(key)
        if value is None:
            return ()
        if not isinstance(value, list) or not all(
            isinstance(item, str) and is_header_value(item) and "," not in item for item in value
        ):
            raise _fault(key, "is not a list of texts of printable ASCII characters without commas")
        return tuple(value)

    def finish(self) -> None:
        """Refuses settings that this type of provider does not have."""
        if self._unread:
            known = f"it has {', '.join(sorted(self._known))}" if self._known else "it has none"
            raise _fault(min(self._unread), f"is not a setting of this type of provider; {known}")

    def _take(self, key: str) -> object:
        self._known.append(key)
        return self._unread.pop(key, None)


def _fault(key: str, description: str) -> GatewayError:
    return invalid_request(f"provider.config.{key}", description)


def is_header_value(text: str) -> bool:
    """Whether the text can be sent in a header and is not blank."""
    return text.isascii() and text.isprintable() and bool(text.strip())


def read_base_url(base_url: str, *, default: str = "", default_path: bytes = _OPENAI_PATH) -> httpx.URL:
    """The address below which a provider's paths are; ``default_path`` where it names none.

    Raises INVALID_REQUEST for anything but a plain http or https address.
    """
    if not base_url and not default:
        raise invalid_request(_BASE_URL, "is required for this type of provider")
    if any(character.isspace() or not character.isprintable() for character in base_url):
        raise invalid_request(_BASE_URL, "is not a URL")
    try:
        url = httpx.URL(base_url or default)
    except (httpx.InvalidURL, ValueError) as error:
        raise invalid_request(_BASE_URL, "is not a URL") from error
    if url.scheme not in {"http", "https"} or not url.host:
        raise invalid_request(_BASE_URL, "is not an http:// or https:// URL with a host")
    if url.userinfo:
        raise invalid_request(_BASE_URL, "holds a user name or password; use the credential")
    if url.query or url.fragment or "?" in base_url or "#" in base_url:
        raise invalid_request(_BASE_URL, "holds a query or a fragment")
    return url.copy_with(raw_path=url.raw_path.rstrip(b"/") or default_path)


def refuse_base_url(base_url: str) -> None:
    """For providers that have no address of their own to set."""
    if base_url:
        raise invalid_request(_BASE_URL, "cannot be set for this type of provider")
