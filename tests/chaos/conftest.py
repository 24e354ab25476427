"""The counts of a run, told in its summary."""

from __future__ import annotations

import pytest

from tests.chaos import counts


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if counts.LINES:
        terminalreporter.section("chaos")
        for line in counts.LINES:
            terminalreporter.line(line)
