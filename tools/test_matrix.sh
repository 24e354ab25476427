#!/usr/bin/env bash
# Runs the fast suites on every supported Python, and the SDK on the oldest and newest gRPC and protobuf it allows.
# Usage: tools/test_matrix.sh UV. A Python that is not installed is named, not downloaded. Rows run two at a time,
# since each keeps one CPU busy; their output is shown when they have ended, one after the other.
set -euo pipefail
cd "$(dirname "$0")/.."

uv=$1
export UV_PYTHON_DOWNLOADS=never
# pyenv keeps its Pythons off the PATH but for the chosen one.
for bin in "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.*/bin; do
    [ -d "$bin" ] && PATH=$PATH:$bin
done
told=$(mktemp -d)
trap 'rm -rf "$told"' EXIT
names=()

# NAME PYTHON SUITES [REQUIREMENT...]: begins one row, in an environment of its own.
begin_row() {
    local name=$1 python=$2 requirement with=() suites row=$told/${#names[@]}
    read -ra suites <<<"$3"
    shift 3
    names+=("$name")
    for requirement in "$@"; do with+=(--with "$requirement"); done
    {
        if ! "$uv" python find "$python"; then
            echo ABSENT >"$row.status"
        elif "$uv" run --isolated --frozen --python "$python" "${with[@]}" \
            python -m pytest -m "not slow and not vllm" -p no:cacheprovider "${suites[@]}"; then
            echo passed >"$row.status"
        else
            echo FAILED >"$row.status"
        fi
    } >"$row.log" 2>&1 &
}

# Waits for the rows that run, and shows what they said.
end_rows() {
    local number
    wait
    for number in "${!names[@]}"; do
        [ -e "$told/$number.log" ] || continue
        echo "matrix: ${names[$number]}"
        cat "$told/$number.log"
        rm "$told/$number.log"
    done
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
begin_row "Python 3.12, locked" 3.12 "tests/unit tests/sdk"
begin_row "Python 3.13, locked" 3.13 "tests/unit tests/sdk"
end_rows
begin_row "Python 3.11, oldest gRPC and protobuf" 3.11 tests/sdk "${floor[@]}"
begin_row "Python 3.11, newest gRPC and protobuf" 3.11 tests/sdk "${newest[@]}"
end_rows

failed=0
for number in "${!names[@]}"; do
    status=$(cat "$told/$number.status" 2>/dev/null || echo FAILED)
    printf 'matrix: %-6s  %s\n' "$status" "${names[$number]}"
    [ "$status" != FAILED ] || failed=1
done
exit "$failed"
