"""docs/providers.md says of each provider what its format says."""

from pathlib import Path

import pytest

from tests.portability.origins import PROVIDERS
from tools import conformance


def test_the_table_is_what_the_formats_say() -> None:
    assert conformance.main({"check": True}) == 0, "run: uv run --frozen python -m tools.conformance"


def test_every_provider_sends_text_tools_and_streams() -> None:
    for provider_type in PROVIDERS:
        found = conformance.probe_provider(provider_type)
        for name in ("System turns", "Function tools", "Tool results", "Stop sequences", "Streaming"):
            assert found[name] == conformance.YES


def test_a_stale_table_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    document = tmp_path / "providers.md"
    document.write_text(conformance.DOCUMENT.read_text().replace("| yes |", "| no |", 1))
    monkeypatch.setattr(conformance, "DOCUMENT", document)
    assert conformance.main({"check": True}) == 1
    assert "is stale" in capsys.readouterr().err
