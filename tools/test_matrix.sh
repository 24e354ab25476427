#!/usr/bin/env bash
# Runs the fast suites on every supported Python, and the SDK on the oldest and newest gRPC and protobuf it allows.
# Usage: tools/test_matrix.sh UV. A Python that is not installed is named, not downloaded.
set -euo pipefail
cd "$(dirname "$0")/.."

uv=$1
export UV_PYTHON_DOWNLOADS=never
# pyenv keeps its Pythons off the PATH but for the chosen one.
for bin in "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.*/bin; do
    [ -d "$bin" ] && PATH=$PATH:$bin
done
failed=() absent=() passed=()

# NAME PYTHON SUITES [REQUIREMENT...]: one row, in an environment of its own.
run_row() {
    local name=$1 python=$2 requirement with=() suites
    read -ra suites <<<"$3"
    shift 3
    "$uv" python find "$python" >/dev/null 2>&1 || { absent+=("$name: no Python $python"); return; }
    for requirement in "$@"; do with+=(--with "$requirement"); done
    echo "matrix: $name"
    if "$uv" run --isolated --frozen --python "$python" "${with[@]}" \
        python -m pytest -m "not slow and not vllm" "${suites[@]}"; then
        passed+=("$name")
    else
        failed+=("$name")
    fi
}

# The floor of clients/python/pyproject.toml: what the generated code was made for.
floor=(protobuf==6.31.1 googleapis-common-protos==1.70.0)
# grpcio-tools holds the locked environment back to protobuf 6, so the newest is laid over it.
newest=("protobuf>=7")
for package in grpcio grpcio-health-checking grpcio-reflection; do
    floor+=("$package==1.74.0")
    newest+=("$package")
done

# The rest of the tests runs on the oldest Python anyway: make test.
run_row "Python 3.12, locked" 3.12 "tests/unit tests/sdk"
run_row "Python 3.13, locked" 3.13 "tests/unit tests/sdk"
run_row "Python 3.11, oldest gRPC and protobuf" 3.11 tests/sdk "${floor[@]}"
run_row "Python 3.11, newest gRPC and protobuf" 3.11 tests/sdk "${newest[@]}"

[ ${#passed[@]} -eq 0 ] || printf 'matrix: passed  %s\n' "${passed[@]}"
[ ${#absent[@]} -eq 0 ] || printf 'matrix: ABSENT  %s\n' "${absent[@]}"
[ ${#failed[@]} -eq 0 ] || { printf 'matrix: FAILED  %s\n' "${failed[@]}"; exit 1; }
