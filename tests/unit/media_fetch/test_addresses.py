"""Which addresses and uris are fetched from: a table of each class, and a law for all addresses."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, IPv6Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway_server.providers.media_fetch.addresses import RefusedUriError, is_public, parse_uri

PUBLIC = [
    "1.1.1.1",
    "8.8.8.8",
    "93.184.215.14",
    "9.255.255.255",  # beside 10.0.0.0/8
    "11.0.0.0",
    "100.63.255.255",  # beside carrier-grade NAT
    "100.128.0.0",
    "126.255.255.255",  # beside loopback
    "128.0.0.0",
    "169.253.255.255",  # beside link-local
    "169.255.0.0",
    "172.15.255.255",  # beside 172.16.0.0/12
    "172.32.0.0",
    "192.0.1.0",
    "192.167.255.255",
    "192.169.0.0",
    "198.17.255.255",
    "198.20.0.0",
    "223.255.255.255",  # beside multicast
    "2001:4860:4860::8888",
    "2606:2800:21f:cb07:6820:80da:af6b:8b2c",
    "2a00:1450:4001:80b::200e",
    "2001:200::1",  # beside protocol assignments
    "::ffff:8.8.8.8",
    "64:ff9b::808:808",  # 8.8.8.8 behind NAT64
]

NOT_PUBLIC = {
    "this network": ["0.0.0.0", "0.1.2.3"],
    "private": ["10.0.0.1", "10.255.255.255", "172.16.0.1", "172.31.255.255", "192.168.0.1"],
    "carrier-grade NAT": ["100.64.0.0", "100.100.100.200", "100.127.255.255"],
    "loopback": ["127.0.0.1", "127.255.255.254", "::1"],
    "link-local": ["169.254.0.1", "169.254.169.254", "fe80::1", "febf::1", "fe80::1%eth0", "fe80::1%2"],
    "a cloud's own": ["168.63.129.16", "192.0.0.192", "fd00:ec2::254"],
    "assignments": ["192.0.0.1", "192.0.0.170", "192.88.99.1", "192.31.196.1", "192.52.193.1"],
    "AS112": ["192.175.48.1", "2620:4f:8000::1"],
    "documentation": ["192.0.2.1", "198.51.100.1", "203.0.113.1", "2001:db8::1", "3fff::1"],
    "benchmarks": ["198.18.0.1", "198.19.255.255", "2001:2::1"],
    "multicast": ["224.0.0.1", "239.255.255.255", "ff02::1", "ff0e::1"],
    "reserved": ["240.0.0.1", "255.255.255.255", "4000::1", "5f00::1", "e000::1", "100::1"],
    "unspecified": ["::"],
    "unique-local": ["fc00::1", "fd12:3456:789a::1"],
    "site-local": ["fec0::1"],
    "IPv4-mapped": ["::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::ffff:100.64.0.1"],
    "IPv4-compatible": ["::127.0.0.1", "::10.0.0.1", "::8.8.8.8"],
    "IPv4-translated": ["::ffff:0:10.0.0.1"],
    "NAT64": ["64:ff9b::a00:1", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b::6440:1"],
    "NAT64 of a network": ["64:ff9b:1::a00:1", "64:ff9b:1::808:808"],
    "6to4": ["2002:a00:1::", "2002:7f00:1::1", "2002:a9fe:a9fe::", "2002:808:808::1"],
    "Teredo": ["2001::1", "2001:0:a00:1::f5ff:fffe", "2001:0:808:808::f7f7:f7f7"],
    "ORCHID": ["2001:10::1", "2001:20::1"],
    "no address": ["", "localhost", "8.8.8", "0x08080808", "8.8.8.8/32", "08.8.8.8", "[::1]", "8.8.8.8 "],
}


@pytest.mark.parametrize("address", PUBLIC)
def test_hosts_of_the_internet_are_fetched_from(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    ("kind", "address"), [(kind, each) for kind, addresses in NOT_PUBLIC.items() for each in addresses]
)
def test_other_addresses_are_not(kind: str, address: str) -> None:
    assert not is_public(address)


@given(st.ip_addresses(v=4))
def test_an_embedded_address_counts_as_itself(address: IPv4Address) -> None:
    number = int(address)
    public = is_public(str(address))
    assert is_public(str(IPv6Address((0xFFFF << 32) | number))) == public
    assert is_public(str(IPv6Address((0x64FF9B << 96) | number))) == public
    assert not is_public(str(IPv6Address((0x2002 << 112) | (number << 80) | 1)))
    assert not is_public(str(IPv6Address((0x20010000 << 96) | (number << 64) | (number ^ 0xFFFFFFFF))))


@given(st.ip_addresses())
def test_what_the_standard_library_takes_for_private_is_never_public(
    address: IPv4Address | IPv6Address,
) -> None:
    # What these embed is not told by the library; see the law above.
    if is_public(str(address)) and address not in IPv6Network("64:ff9b::/96"):
        plain = getattr(address, "ipv4_mapped", None) or address
        assert not plain.is_private
        assert not plain.is_multicast
        assert not plain.is_reserved


@pytest.mark.parametrize(
    ("uri", "host"),
    [
        ("https://media.example.com/a.png", "media.example.com"),
        ("HTTPS://Media.Example.COM/a.png", "media.example.com"),
        ("https://media.example.com:443/a.png?size=1#top", "media.example.com"),
        ("https://bücher.example/a.png", "xn--bcher-kva.example"),
        ("https://93.184.215.14/a.png", "93.184.215.14"),
        ("https://[2606:2800::1]/a.png", "2606:2800::1"),
        # Numbers that some resolvers read as addresses: what they are resolved to is checked.
        ("https://2130706433/", "2130706433"),
        ("https://0x7f.1/", "0x7f.1"),
        ("https://a_b.example/", "a_b.example"),
    ],
)
def test_a_uri_of_the_web_has_a_host(uri: str, host: str) -> None:
    assert parse_uri(uri).host == host


@pytest.mark.parametrize(
    ("uri", "why"),
    [
        ("http://media.example.com/a.png", "https"),
        ("ftp://media.example.com/a.png", "https"),
        ("file:///etc/passwd", "https"),
        ("gopher://media.example.com/", "https"),
        ("data:image/png;base64,AA==", "https"),
        ("//media.example.com/a.png", "https"),
        ("/etc/passwd", "https"),
        ("", "https"),
        (" https://media.example.com/", "https"),
        ("https:/media.example.com/", "host"),
        ("https:///a.png", "host"),
        ("https:media.example.com", "host"),
        ("https://media.example.com:8443/", "port"),
        ("https://media.example.com:22/", "port"),
        ("https://media.example.com:80/", "port"),
        ("https://media.example.com:0/", "port"),
        ("https://user@media.example.com/", "user"),
        ("https://user:password@media.example.com/", "user"),
        ("https://media.example.com@127.0.0.1/", "user"),
        ("https://:@media.example.com/", "user"),
        ("https://media.example.com\\@127.0.0.1/", "user"),
        ("https://media%2eexample.com/", "host"),
        ("https://a..example/", "host"),
        ("https://.example/", "host"),
        ("https://-a.example/", "host"),
        ("https://[fe80::1%25eth0]/", "host"),
        ("https://" + "a" * 64 + ".example/", "host"),
        ("https://" + "a." * 130 + "example/", "host"),
        ("https://media.example.com:x/", "address"),
        ("https://[::1/", "address"),
        ("https://media.example.com/\r\nhost: evil", "address"),
        ("https://media.example.com/\x00", "address"),
        ("https://\uff11\uff12\uff17.0.0.1/", "address"),
        ("https://media.example.com/" + "a" * 70_000, "address"),
    ],
)
def test_other_uris_are_refused(uri: str, why: str) -> None:
    with pytest.raises(RefusedUriError, match=why):
        parse_uri(uri)
