"""The checks of the contract notice what they are there for; `make check` runs them on the protos."""

import re
import shutil
import subprocess
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BUF = Path(sysconfig.get_path("scripts")) / "buf"
RELEASED = ROOT / "proto/released/aigateway.binpb"


def run_buf(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [BUF, *arguments], cwd=directory, capture_output=True, text=True, check=False, timeout=50
    )


@pytest.fixture
def contract(tmp_path: Path) -> Path:
    """A copy of the contract that a test may damage."""
    shutil.copytree(ROOT / "proto", tmp_path / "proto")
    shutil.copy(ROOT / "buf.yaml", tmp_path)
    return tmp_path


def change(file: Path, pattern: str, replacement: str) -> None:
    text, count = re.subn(pattern, replacement, file.read_text(), count=1, flags=re.MULTILINE)
    assert count == 1, f"{pattern} is not in {file.name}"
    file.write_text(text)


def test_the_contract_does_not_break_the_released_one(contract: Path) -> None:
    done = run_buf(contract, "breaking", "--against", str(RELEASED))
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize(
    ("file", "pattern", "replacement", "rule"),
    [
        ("chat_service", r"^  string model = \d+;\n", "", "Previously present field"),
        ("chat_service", r"^  string model = \d+", "  bytes model = 3", "changed type"),
        ("chat_service", r"^  rpc CountTokens\(", "  rpc CountToken(", "Previously present RPC"),
        ("permission", r"^  SCOPE_INFERENCE = 1", "  SCOPE_INFERENCE = 17", "Previously present enum value"),
    ],
)
def test_a_change_that_breaks_callers_is_found(
    contract: Path, file: str, pattern: str, replacement: str, rule: str
) -> None:
    change(contract / f"proto/aigateway/v1/{file}.proto", pattern, replacement)
    done = run_buf(contract, "breaking", "--against", str(RELEASED))
    assert done.returncode == 100, done.stderr
    assert rule in done.stdout


@pytest.mark.parametrize(
    ("field", "complaint"),
    [
        ("bool bare = 99;", 'Field "bare" should have a non-empty comment'),
        (
            "// T.\n  // buf:lint:ignore FIELD_LOWER_SNAKE_CASE\n  bool badName = 99;",
            '"badName" should be',
        ),
    ],
    ids=["no comment", "an exception in a comment"],
)
def test_a_fault_of_style_is_found(contract: Path, field: str, complaint: str) -> None:
    opening = "message Tenant {\n"
    change(contract / "proto/aigateway/v1/tenant.proto", f"^{opening}", f"{opening}  {field}\n")
    done = run_buf(contract, "lint")
    assert done.returncode == 100, done.stderr
    assert complaint in done.stdout
