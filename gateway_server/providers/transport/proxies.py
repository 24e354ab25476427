"""Which proxy, if any, the environment wants between the gateway and a provider."""

import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True, slots=True)
class ProxySettings:
    """Proxy URLs by scheme (``http``, ``https``, ``all``) and, under ``no``, the hosts that need none."""

    by_scheme: Mapping[str, str]

    def __post_init__(self) -> None:
        """Raises ValueError for a kind of proxy that is not spoken here."""
        for scheme in ("http", "https", "all"):
            kind, separator, _ = self.by_scheme.get(scheme, "").partition("://")
            if separator and kind.lower() not in {"http", "https"}:
                raise ValueError(
                    f"the {scheme.upper()}_PROXY of the environment is neither http:// nor https://"
                )

    @classmethod
    def from_environment(cls) -> Self:
        """Reads HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY, in either case."""
        return cls(urllib.request.getproxies_environment())

    def find(self, scheme: str, host: str, port: int) -> str | None:
        """The URL of the proxy for an origin; None when it is reached directly."""
        proxy = self.by_scheme.get(scheme) or self.by_scheme.get("all")
        if not proxy:
            return None
        if urllib.request.proxy_bypass_environment(f"{host}:{port}", self.by_scheme):  # type: ignore[attr-defined]
            return None
        return proxy if "://" in proxy else f"http://{proxy}"
