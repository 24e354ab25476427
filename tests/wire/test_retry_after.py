"""How long a provider asks to wait."""

import time

import pytest

from gateway_server.providers.wire.retry_after import read_duration, read_retry_after

YEAR = 366 * 86_400.0
NOW = "Wed, 21 Oct 2026 07:28:00 GMT"


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after": "0"}, 0.0),
        ({"retry-after-ms": "250"}, 0.25),
        ({"retry-after-ms": "250", "retry-after": "7"}, 0.25),
        ({"retry-after-ms": "0", "retry-after": "1"}, 1.0),
        ({"retry-after": "Wed, 21 Oct 2026 07:28:30 GMT", "date": NOW}, 30.0),
        ({"retry-after": "Wed, 21 Oct 2026 07:27:30 GMT", "date": NOW}, 0.0),
        ({"retry-after": "Wed, 21 Oct 2026 07:28:30 GMT"}, None),
        ({"retry-after": "Wed, 21 Oct 2026 07:28:30 +9999999999999999", "date": NOW}, None),
        ({"retry-after": "Wed, 21 Oct 99999999999 07:28:30 GMT", "date": NOW}, None),
        ({"retry-after": NOW, "date": "21 Oct 2026 7:28:30 -99999999999999"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "1e400"}, None),
        ({"retry-after": "1e300"}, YEAR),
        ({"retry-after-ms": "1e300"}, YEAR),
        ({"x-ratelimit-reset-requests": "99999999999999h"}, YEAR),
        ({"x-ratelimit-reset-requests": "120ms"}, 0.12),
        ({"x-ratelimit-reset-requests": "120ms", "x-ratelimit-reset-tokens": "6m0s"}, 360.0),
        (
            {
                "x-ratelimit-remaining-requests": "0",
                "x-ratelimit-reset-requests": "120ms",
                "x-ratelimit-remaining-tokens": "5",
                "x-ratelimit-reset-tokens": "6m0s",
            },
            0.12,
        ),
        ({"retry-after": "2", "x-ratelimit-reset-requests": "1h"}, 2.0),
        ({"x-ratelimit-reset-requests": "later"}, None),
    ],
)
def test_reads_headers(headers: dict[str, str], seconds: float | None) -> None:
    assert read_retry_after(headers) == seconds


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0s", 0.0),
        ("8.64s", 8.64),
        ("6m0s", 360.0),
        ("1h30m1s", 5401.0),
        ("12ms", 0.012),
        ("", None),
        ("5", None),
        ("s", None),
        ("5x", None),
        ("1s x", None),
        ("x1s", None),
    ],
)
def test_reads_durations(text: str, seconds: float | None) -> None:
    assert read_duration(text) == seconds


@pytest.mark.parametrize("text", ["1" * 60_000, "1h" * 30_000, "1." * 30_000])
def test_a_duration_without_end_is_none(text: str) -> None:
    began = time.process_time()

    assert read_duration(text) is None

    # Looked for at every place, its unit would take a minute to find.
    assert time.process_time() - began < 1
