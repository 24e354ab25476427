"""Which uris may be fetched, and which addresses their hosts may have. Pure functions."""

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final

import httpx

#: Not for hosts of the public internet, by IANA's registry of special-purpose addresses, and multicast.
#: Written out: what ``ipaddress`` takes for global differs between versions of Python.
_SPECIAL_V4: Final = tuple(
    IPv4Network(network)
    for network in (
        "0.0.0.0/8",  # this network
        "10.0.0.0/8",  # private
        "100.64.0.0/10",  # carrier-grade NAT; some clouds keep their metadata there
        "127.0.0.0/8",  # loopback
        "168.63.129.16/32",  # what every machine at Azure calls the host below it
        "169.254.0.0/16",  # link-local, the metadata of clouds among it
        "172.16.0.0/12",  # private
        "192.0.0.0/24",  # protocol assignments
        "192.0.2.0/24",  # documentation
        "192.31.196.0/24",  # AS112
        "192.52.193.0/24",  # AMT relays
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",  # private
        "192.175.48.0/24",  # AS112
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, broadcast among it
    )
)
#: All that is given to hosts so far; loopback, link-local, unique-local and multicast are outside.
_GLOBAL_V6: Final = IPv6Network("2000::/3")
#: The parts of it that are not for hosts of the public internet; Teredo and 6to4 lead on to IPv4 hosts.
_SPECIAL_V6: Final = tuple(
    IPv6Network(network)
    for network in (
        "2001::/23",  # protocol assignments: Teredo, benchmarks, ORCHID
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4
        "2620:4f:8000::/48",  # AS112
        "3fff::/20",  # documentation
    )
)
#: Where networks without IPv4 put IPv4 hosts: the last 32 bits are the address (RFC 6052).
_NAT64: Final = IPv6Network("64:ff9b::/96")

_LABEL: Final = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME: Final = re.compile(rf"(?:{_LABEL}\.)*{_LABEL}", re.ASCII)
_MAX_NAME: Final = 253


class RefusedUriError(Exception):
    """A uri that is never fetched; the message says why and quotes none of it."""


@dataclass(frozen=True, slots=True)
class MediaUri:
    """A uri that may be fetched, and its host as it is looked up and as the certificate must have it."""

    url: httpx.URL
    host: str


def parse_uri(uri: str) -> MediaUri:
    """The parts of a uri; raises RefusedUriError unless it is https to a host's own port, without a user."""
    try:
        url = httpx.URL(uri)
    except httpx.InvalidURL as error:
        raise RefusedUriError("is not an address") from error
    if url.scheme != "https":
        raise RefusedUriError("is not an https address, and no others are fetched")
    if url.userinfo:
        raise RefusedUriError("holds a user name or password")
    if url.port is not None:  # httpx leaves out 443, the one that https has
        raise RefusedUriError("names another port than 443")
    host = url.raw_host.decode("ascii").lower()
    if not _is_host(host):
        raise RefusedUriError("has no host")
    return MediaUri(url, host)


def is_public(text: str) -> bool:
    """Whether an address, written as text, is one that hosts of the public internet have."""
    try:
        address = ip_address(text)
    except ValueError:
        return False
    if isinstance(address, IPv6Address):
        return _is_public_v6(address)
    return _is_public_v4(address)


def _is_public_v4(address: IPv4Address) -> bool:
    return not any(address in network for network in _SPECIAL_V4)


def _is_public_v6(address: IPv6Address) -> bool:
    if address.scope_id is not None:
        return False
    embedded = address.ipv4_mapped
    if embedded is None and address in _NAT64:
        embedded = IPv4Address(int(address) & 0xFFFFFFFF)
    if embedded is not None:
        return _is_public_v4(embedded)
    return address in _GLOBAL_V6 and not any(address in network for network in _SPECIAL_V6)


def _is_host(host: str) -> bool:
    if ":" not in host:
        return len(host) <= _MAX_NAME and _NAME.fullmatch(host) is not None
    try:
        return IPv6Address(host).scope_id is None
    except ValueError:
        return False
