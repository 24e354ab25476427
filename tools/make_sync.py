#!/usr/bin/env python3
"""Makes aigateway/_sync from aigateway/_async, or with --check compares it with what is committed.

A table of words is enough because _async is written for it: it names what is asynchronous by the prefix
Async and uses nothing of asyncio. Formatting, and so lines that got short, is left to ruff.
"""

import argparse
import re
import shutil
import subprocess
import sys
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent / "clients" / "python" / "src" / "aigateway"
SOURCE = PACKAGE / "_async"
TARGET = PACKAGE / "_sync"

HEADER = "# Made from _async by tools/make_sync.py: edit there, then run it.\n"
PACKAGE_DOCSTRING = '"""The client that blocks, made from _async."""\n'

# In this order; each is a regular expression over whole words.
WORDS = (
    (r"\basync (def|for|with)\b", r"\1"),
    (r"\bawait ", ""),
    (r"\bimport grpc\.aio\n", "import grpc\n"),
    (r"\bgrpc\.aio\.", "grpc."),
    (r"\baigateway\._async\b", "aigateway._sync"),
    (r"\b(\w+)AsyncStub\b", r"\1Stub"),
    (r"\bStopAsyncIteration\b", "StopIteration"),
    (r"\bAsync([A-Z]\w*)\b", r"\1"),
    (r"\b__a(enter|exit|iter)__\b", r"__\1__"),
    (r"\b__anext__\b", "__next__"),
    (r"\ba(iter|next)\(", r"\1("),
)
# What must not be left over: words of an asynchronous program that the table does not know.
FOREIGN = re.compile(r"\b(async|await|asyncio|Awaitable|Coroutine|grpc\.aio|_async)\b")


def make(source: Path) -> str:
    """Returns the synchronous twin of one module; exits when a word of it cannot be turned."""
    text = source.read_text()
    for pattern, replacement in WORDS:
        text = re.sub(pattern, replacement, text)
    # `import grpc` may stand twice now.
    text = re.sub(r"(^import grpc\n)(import grpc\n)+", r"\1", text, flags=re.MULTILINE)
    if source == SOURCE / "__init__.py":
        return HEADER + PACKAGE_DOCSTRING
    if left := FOREIGN.search(text):
        line = text.count("\n", 0, left.start()) + 1
        sys.exit(f"make_sync: {source}:{line}: {left[0]} is not in the table of words")
    return format_code(HEADER + text)


def format_code(text: str) -> str:
    """Returns the text as ruff formats it, with its imports in order and loops that only yield shortened."""
    for command in (["check", "--select", "I,UP028", "--fix", "--unsafe-fixes", "-q"], ["format", "-q"]):
        text = subprocess.run(
            [shutil.which("ruff") or "ruff", *command, "--stdin-filename", str(TARGET / "module.py"), "-"],
            input=text,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    return text


def main() -> None:
    """Writes the modules, or with --check exits with 1 where a committed one differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare only, change nothing")
    check = parser.parse_args().check
    sources = sorted(SOURCE.rglob("*.py"))
    if not check:
        for path in sources:  # ruff tells a module of ours from others by its being there
            target = TARGET / path.relative_to(SOURCE)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.touch()
    fresh = {path.relative_to(SOURCE): make(path) for path in sources}
    committed = {path.relative_to(TARGET): path.read_text() for path in TARGET.rglob("*.py")}
    if check:
        paths = sorted(fresh.keys() | committed.keys())
        if stale := [str(path) for path in paths if fresh.get(path) != committed.get(path)]:
            sys.exit(f"make_sync: stale in _sync: {', '.join(stale)}; run `make generate`")
        print(f"make_sync: {len(fresh)} modules are up to date")
        return
    for path in committed.keys() - fresh.keys():
        (TARGET / path).unlink()
    for path, text in fresh.items():
        (TARGET / path).write_text(text)
    print(f"make_sync: wrote {len(fresh)} modules")


if __name__ == "__main__":
    main()
