"""docs/decisions/dependencies.md gives the reason of each dependency, and of nothing else."""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
#: What extras of the server bring.
OPTIONAL = {"pyarrow"}


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


def test_what_the_server_imports_is_declared_and_not_only_brought_by_others() -> None:
    declared = read_names(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"])
    declared |= read_names(
        tomllib.loads((ROOT / "clients/python/pyproject.toml").read_text())["project"]["dependencies"]
    )
    distributions = packages_distributions()
    undeclared = {
        name
        for path in (ROOT / "gateway_server").rglob("*.py")
        for name in imported(ast.parse(path.read_text()))
        if name not in sys.stdlib_module_names | {"gateway_server", "aigateway", *OPTIONAL}
        and not {each.lower().replace("_", "-") for each in distributions.get(name, [])} & declared
    }
    assert undeclared == set()


def imported(tree: ast.Module) -> set[str]:
    """The packages that a module imports, also where it does so late."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            names.add(node.module.partition(".")[0])
    return names
