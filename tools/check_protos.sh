#!/usr/bin/env bash
# Checks the contract without a network: vendored files untouched, style, layout, no break since the release,
# generated code up to date. Run through `make check`.
set -euo pipefail
cd "$(dirname "$0")/.."

image=proto/released/aigateway.binpb
failed=()

step() {
    local name=$1
    shift
    echo "protos: $name"
    "$@" || failed+=("$name")
}

check_vendored() {
    # The digests stand at the end of SOURCES.md; a vendored file that is not listed there is a fault too.
    local listed present
    listed=$(grep -E '^[0-9a-f]{64}  ' proto/SOURCES.md)
    (cd proto && sha256sum --check --quiet --strict <<<"$listed") || return 1
    present=$(cd proto && find google buf -name '*.proto' | sort)
    diff <(cut -c67- <<<"$listed" | sort) <(echo "$present")
}

check_format() {
    buf format --path proto/aigateway --diff --exit-code || {
        echo "run: make format"
        return 1
    }
}

check_breaking() {
    [ -s "$image" ] || {
        echo "$image is missing: nothing to compare with"
        return 1
    }
    buf breaking --against "$image"
}

step "vendored files are untouched" check_vendored
step "lint" buf lint
step "format" check_format
step "no break since the last release" check_breaking
step "generated code is up to date" python tools/generate.py --check
step "the blocking client is made from the asynchronous one" python tools/make_sync.py --check

[ ${#failed[@]} -eq 0 ] || {
    printf 'protos: FAILED: %s\n' "${failed[@]}"
    exit 1
}
