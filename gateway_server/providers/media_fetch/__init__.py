"""Media that a request gives by address, fetched here for providers that do not fetch.

What keeps a caller's address from leading into the operator's own network: docs/decisions/media-fetch.md.
"""

from gateway_server.providers.media_fetch.fetcher import (
    Allowance,
    FetchedMedia,
    MediaFetcher,
    MediaFetchError,
    MediaFetchLimits,
    Network,
)

__all__ = ["Allowance", "FetchedMedia", "MediaFetchError", "MediaFetchLimits", "MediaFetcher", "Network"]
