#!/usr/bin/env python3
"""Generates the Python code of the contract into the SDK, or compares it with what is committed.

Run through `make generate` or `make check`; needs the tools of the dev group and no network.
"""

from __future__ import annotations

import argparse
import difflib
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from importlib import resources
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROTO = ROOT / "proto"
OUTPUT = ROOT / "clients" / "python" / "src"

# The only directories this tool owns below OUTPUT: whatever else stands there is written by hand.
# google.api is not generated, it comes from the package googleapis-common-protos.
OWNED = ("aigateway/v1", "buf")
# `buf` has no __init__.py: as a namespace it can be shared with other packages that ship Buf's protos.
PACKAGES = {"aigateway/v1": "Generated code of the contract aigateway.v1. Never edited: see proto/."}
PACKAGES["buf/validate"] = "Generated code of the validation rules that the contract's protos import."


def find_protos() -> tuple[list[str], list[str]]:
    """Returns the protos to generate from, and those of them that hold a service."""
    protos = sorted(
        path.relative_to(PROTO).as_posix() for owned in OWNED for path in (PROTO / owned).rglob("*.proto")
    )
    if not any(name.startswith("aigateway/") for name in protos):
        sys.exit(f"generate: no protos below {PROTO / 'aigateway'}")
    return protos, [name for name in protos if name.endswith("_service.proto")]


def run_protoc(out: Path, plugins: tuple[str, ...], protos: list[str]) -> None:
    """Runs protoc of grpcio-tools with the given plugins; exits with protoc's own message on a fault."""
    scripts = Path(sysconfig.get_path("scripts"))
    well_known = resources.files("grpc_tools") / "_proto"
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{PROTO}", f"-I{well_known}"]
    command += [
        f"--plugin=protoc-gen-{name}={scripts / f'protoc-gen-{name}'}" for name in ("mypy", "mypy_grpc")
    ]
    command += [f"--{plugin}_out={out}" for plugin in plugins]
    # protoc-gen-mypy tells each file it writes on stderr, so stderr is shown on a failure only.
    done = subprocess.run([*command, *protos], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{done.stdout}{done.stderr}generate: protoc failed with {done.returncode}")


def generate(out: Path) -> None:
    """Writes all generated packages below `out`."""
    protos, services = find_protos()
    run_protoc(out, ("python", "mypy"), protos)
    # A grpc file for a proto without a service would be empty.
    run_protoc(out, ("grpc_python", "mypy_grpc"), services)
    for package, docstring in PACKAGES.items():
        (out / package / "__init__.py").write_text(f'"""{docstring}"""\n')
    (out / "buf/validate/py.typed").touch()


def read_tree(root: Path) -> dict[str, str]:
    """Returns the text of every file in the owned directories, by path relative to `root`."""
    return {
        path.relative_to(root).as_posix(): path.read_text()
        for owned in OWNED
        for path in sorted((root / owned).rglob("*"))
        if path.is_file() and path.suffix != ".pyc"
    }


def compare(fresh: dict[str, str], committed: dict[str, str]) -> list[str]:
    """Returns one line per file that differs, with the start of the difference."""
    faults = [f"missing: {name}" for name in sorted(fresh.keys() - committed.keys())]
    faults += [f"left over: {name}" for name in sorted(committed.keys() - fresh.keys())]
    for name in sorted(fresh.keys() & committed.keys()):
        if fresh[name] != committed[name]:
            old, new = committed[name].splitlines(), fresh[name].splitlines()
            lines = list(difflib.unified_diff(old, new, "committed", "generated", lineterm="", n=0))
            faults.append("\n  ".join([f"differs: {name}", *(line[:160] for line in lines[:12])]))
    return faults


def replace(fresh: Path) -> None:
    """Puts the generated directories in the place of the old ones."""
    for owned in OWNED:
        shutil.rmtree(OUTPUT / owned, ignore_errors=True)
        shutil.copytree(fresh / owned, OUTPUT / owned)


def main() -> None:
    """Generates, or with --check exits with 1 where the committed code differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="only compare with the committed code")
    check = parser.parse_args().check
    with tempfile.TemporaryDirectory() as tmp:
        generate(Path(tmp))
        fresh = read_tree(Path(tmp))
        if not check:
            replace(Path(tmp))
            print(f"generate: wrote {len(fresh)} files")
            return
        if faults := compare(fresh, read_tree(OUTPUT)):
            sys.exit("\n".join([*faults, "generate: the committed code is stale; run `make generate`"]))
        print(f"generate: {len(fresh)} files are up to date")


if __name__ == "__main__":
    main()
