#!/usr/bin/env python3
"""Makes the blocking client and its tests, _sync, from _async, or with --check compares with what is there.

A table of words is enough because _async is written for it: it names what is asynchronous by the prefix
Async and uses nothing of asyncio. Formatting, and so lines that got short, is left to ruff.
"""

import argparse
import re
import subprocess
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
#: Folders that hold an _async to read and a _sync to write.
PARENTS = (ROOT / "clients" / "python" / "src" / "aigateway", ROOT / "tests" / "sdk")

RUFF = Path(sysconfig.get_path("scripts")) / "ruff"
HEADER = "# Made from _async by tools/make_sync.py: edit there, then run it.\n"

# In this order; each is a regular expression over whole words.
WORDS = (
    (r"\basync (def|for|with)\b", r"\1"),
    (r"\bawait ", ""),
    (r"\bimport grpc\.aio\n", "import grpc\n"),
    (r"\bgrpc\.aio\.", "grpc."),
    (r"\b_async\b", "_sync"),
    (r"\b(\w+)AsyncStub\b", r"\1Stub"),
    (r"\bStopAsyncIteration\b", "StopIteration"),
    (r"\bAsync([A-Z]\w*)\b", r"\1"),
    (r"\b__a(enter|exit|iter)__\b", r"__\1__"),
    (r"\b__anext__\b", "__next__"),
    (r"\ba(iter|next)\(", r"\1("),
)
# What must not be left over: words of an asynchronous program that the table does not know.
FOREIGN = re.compile(r"\b(async|await|asyncio|Awaitable|Coroutine|grpc\.aio)\b")


def make(source: Path) -> str:
    """Returns the synchronous twin of one module; exits when a word of it cannot be turned."""
    text = source.read_text()
    if source.parent.name == "_async" and source.name == "__init__.py":
        return HEADER + '"""Made from _async."""\n'
    for pattern, replacement in WORDS:
        text = re.sub(pattern, replacement, text)
    # `import grpc` may stand twice now.
    text = re.sub(r"(^import grpc\n)(import grpc\n)+", r"\1", text, flags=re.MULTILINE)
    if left := FOREIGN.search(text):
        line = text.count("\n", 0, left.start()) + 1
        sys.exit(f"make_sync: {source}:{line}: {left[0]} is not in the table of words")
    return format_code(HEADER + text, target_of(source))


def format_code(text: str, path: Path) -> str:
    """Returns the text as ruff formats it, with imports in order and what can be shorter now shortened."""
    for command in (
        ["check", "--select", "C416,I,SIM117,UP028", "--fix", "--unsafe-fixes", "--exit-zero", "-q"],
        ["format", "-q"],
    ):
        text = subprocess.run(
            [RUFF, *command, "--stdin-filename", str(path), "-"],
            input=text,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    return text


def target_of(source: Path) -> Path:
    """Where the twin of a module stands."""
    parent = next(parent for parent in PARENTS if source.is_relative_to(parent))
    return parent / "_sync" / source.relative_to(parent / "_async")


def main() -> None:
    """Writes the modules, or with --check exits with 1 where a committed one differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare only, change nothing")
    check = parser.parse_args().check
    sources = [path for parent in PARENTS for path in sorted((parent / "_async").rglob("*.py"))]
    committed = {path: path.read_text() for parent in PARENTS for path in (parent / "_sync").rglob("*.py")}
    if not check:
        for source in sources:  # ruff tells a module of ours from others by its being there
            target_of(source).parent.mkdir(parents=True, exist_ok=True)
            target_of(source).touch()
    fresh = {target_of(source): make(source) for source in sources}
    if check:
        paths = sorted(fresh.keys() | committed.keys())
        if stale := [str(path.relative_to(ROOT)) for path in paths if fresh.get(path) != committed.get(path)]:
            sys.exit(f"make_sync: stale: {', '.join(stale)}; run `make generate`")
        print(f"make_sync: {len(fresh)} modules are up to date")
        return
    for path in committed.keys() - fresh.keys():
        path.unlink()
    for path, text in fresh.items():
        path.write_text(text)
    print(f"make_sync: wrote {len(fresh)} modules")


if __name__ == "__main__":
    main()
