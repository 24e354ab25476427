"""Telling that a test cannot run on this machine; the run's summary lists every such reason."""

from typing import NoReturn

import pytest

#: How the summary knows these skips from others.
ABSENT_PREFIX = "ABSENT: "


def tell_absent(reason: str) -> NoReturn:
    """Skips the calling test and has the run's summary name the reason."""
    pytest.skip(f"{ABSENT_PREFIX}{reason}")
