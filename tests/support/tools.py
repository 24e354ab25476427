"""Finds the programs not written in Python that some tests drive; `make test-tools` installs them."""

import shutil
from pathlib import Path

from tests.support.absent import tell_absent

_REPOSITORY = Path(__file__).resolve().parents[2]
_TOOLS = _REPOSITORY / ".cache" / "tools"


def require_tool(name: str) -> Path:
    """Returns the program's path; where it is not installed, the test is told absent with the reason."""
    for directory in (_TOOLS / "bin", _TOOLS / "node" / "node_modules" / ".bin"):
        if (directory / name).exists():
            return directory / name
    reason_file = _TOOLS / f"{name}.absent"
    reason = reason_file.read_text().strip() if reason_file.exists() else "run `make test-tools`"
    return tell_absent(f"{name}: {reason}")


def require_node() -> Path:
    """Returns the path of Node.js, for tests that drive a package of .cache/tools/node."""
    node = shutil.which("node")
    return Path(node) if node else tell_absent("node: Node.js is not installed")
