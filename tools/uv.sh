#!/bin/sh
# Prints the path of a usable uv; where there is none, puts a pinned one into .cache/uv first (needs Python with venv).
set -eu

version=0.13.9
root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
own=$root/.cache/uv/bin/uv

# A uv that is too old is told by pyproject's required-version; one that does not start is a version manager's shim.
if found=$(command -v uv) && (cd "$root" && uv tree --frozen --depth 0 >/dev/null 2>&1); then
    echo "$found"
    exit 0
fi
if [ "$("$own" --version 2>/dev/null | cut -d' ' -f2)" = "$version" ]; then
    echo "$own"
    exit 0
fi

echo "Installing uv $version into .cache/uv (nothing outside this directory is touched)" >&2
for python in python3 python3.13 python3.12 python3.11 python; do
    "$python" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 8))' 2>/dev/null || continue
    rm -rf "$root/.cache/uv"
    "$python" -m venv "$root/.cache/uv" >&2
    "$root/.cache/uv/bin/pip" install --quiet --disable-pip-version-check "uv==$version" >&2
    echo "$own"
    exit 0
done
echo "No Python with the venv module was found. Install uv (https://docs.astral.sh/uv) or, on Debian, python3-venv." >&2
exit 1
