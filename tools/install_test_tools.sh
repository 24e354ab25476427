#!/usr/bin/env bash
# Installs the test tools that are not Python packages into .cache/tools: grpcurl (Go) and aimock (Node.js).
# Where a toolchain is missing, the reason is written to .cache/tools/NAME.absent, and the tests that need the
# tool say so in the summary of their run. Always exits with 0 unless REQUIRE_TEST_TOOLS=1.
set -uo pipefail
cd "$(dirname "$0")/.." || exit

grpcurl_version=v1.9.4
tools=$PWD/.cache/tools
absent=()
mkdir -p "$tools/bin"

tell_absent() {
    local name=$1 reason=$2
    echo "$reason" >"$tools/$name.absent"
    absent+=("$name: $reason")
}

install_grpcurl() {
    local stamp="$tools/bin/.grpcurl-$grpcurl_version" log="$tools/grpcurl.log"
    [ -e "$stamp" ] && [ -x "$tools/bin/grpcurl" ] && return
    rm -f "$tools/grpcurl.absent" "$tools"/bin/.grpcurl-*
    command -v go >/dev/null || { tell_absent grpcurl "Go is not installed"; return; }
    echo "test tools: building grpcurl $grpcurl_version"
    # GOTOOLCHAIN=local: a Go that is too old says so instead of downloading another.
    if GOBIN=$tools/bin GOFLAGS='' GOTOOLCHAIN=local CGO_ENABLED=0 \
        go install "github.com/fullstorydev/grpcurl/cmd/grpcurl@$grpcurl_version" >"$log" 2>&1; then
        touch "$stamp"
    else
        tell_absent grpcurl "go install failed: $(tail -n 1 "$log")"
    fi
}

install_aimock() {
    local node=$tools/node log="$tools/aimock.log"
    cmp -s tests/tools/package-lock.json "$node/package-lock.json" && [ -e "$node/.complete" ] && return
    rm -rf "$tools/aimock.absent" "$node"
    command -v node >/dev/null || { tell_absent aimock "Node.js is not installed"; return; }
    command -v npm >/dev/null || { tell_absent aimock "npm is not installed"; return; }
    node -e 'const [a, b] = process.versions.node.split(".").map(Number); process.exit(a > 20 || (a === 20 && b >= 15) ? 0 : 1)' || {
        tell_absent aimock "Node.js 20.15 or newer is needed"
        return
    }
    echo "test tools: installing aimock"
    mkdir -p "$node"
    cp tests/tools/package.json tests/tools/package-lock.json "$node/"
    if (cd "$node" && npm ci --ignore-scripts --no-audit --no-fund) >"$log" 2>&1; then
        touch "$node/.complete"
    else
        tell_absent aimock "npm ci failed: $(grep -m 1 -i error "$log" || tail -n 1 "$log")"
    fi
}

install_grpcurl
install_aimock

if [ ${#absent[@]} -gt 0 ]; then
    printf 'test tools: ABSENT %s\n' "${absent[@]}"
    [ "${REQUIRE_TEST_TOOLS:-0}" != 1 ]
else
    echo "test tools: grpcurl and aimock are installed"
fi
