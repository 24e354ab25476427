"""docs/decisions/dependencies.md gives the reason of each dependency, and of nothing else."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def read_names(requirements: list[str]) -> set[str]:
    return {re.split(r"[\[<>=!~; ]", requirement, maxsplit=1)[0] for requirement in requirements}


def read_sections() -> dict[str, set[str]]:
    text = (ROOT / "docs/decisions/dependencies.md").read_text()
    sections = {}
    for section in text.split("\n## ")[1:]:
        title, _, body = section.partition("\n")
        cells = [line.split("|")[1] for line in body.splitlines() if line.startswith("| `")]
        sections[title] = {name for cell in cells for name in re.findall(r"`([^`]+)`", cell)}
    return sections


def test_each_dependency_has_its_reason() -> None:
    server = tomllib.loads((ROOT / "pyproject.toml").read_text())
    sdk = tomllib.loads((ROOT / "clients/python/pyproject.toml").read_text())
    sections = read_sections()
    assert sections["The Python SDK"] == read_names(sdk["project"]["dependencies"])
    assert sections["The server"] == read_names(server["project"]["dependencies"])
    assert sections["Development"] == read_names(server["dependency-groups"]["dev"])
