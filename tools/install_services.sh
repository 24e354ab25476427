#!/usr/bin/env bash
# Installs Redis and PostgreSQL from Debian's packages for the tests that run against real ones, where that is
# possible. Where it is not, the reason is written to .cache/tools/NAME.absent, and those tests say so in the
# summary of their run. Nothing is started: the tests start servers of their own. Always exits with 0.
set -uo pipefail
cd "$(dirname "$0")/.." || exit

tools=$PWD/.cache/tools
mkdir -p "$tools"

has_redis() { command -v redis-server >/dev/null; }
has_postgresql() { command -v postgres >/dev/null || compgen -G '/usr/lib/postgresql/*/bin/postgres' >/dev/null; }

updated=
install_service() {
    local name=$1 package=$2 log="$tools/$1.log"
    rm -f "$tools/$name.absent"
    "has_$name" && return
    if ! command -v apt-get >/dev/null; then
        echo "it is not installed, and there is no apt-get to install it with" >"$tools/$name.absent"
    elif [ "$(id -u)" != 0 ]; then
        echo "it is not installed, and only root can: apt-get install $package" >"$tools/$name.absent"
    else
        echo "services for tests: installing $package"
        # Debian would start a server at once; what runs in tests is started by them.
        printf '#!/bin/sh\nexit 101\n' >"$tools/policy-rc.d"
        chmod +x "$tools/policy-rc.d"
        [ -e /usr/sbin/policy-rc.d ] || { ln -s "$tools/policy-rc.d" /usr/sbin/policy-rc.d && linked=1; }
        [ -n "$updated" ] || apt-get update >"$log" 2>&1
        updated=1
        DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$package" >>"$log" 2>&1
        [ -z "${linked:-}" ] || rm -f /usr/sbin/policy-rc.d
        linked=
        "has_$name" || echo "apt-get install $package failed: $(tail -n 1 "$log")" >"$tools/$name.absent"
    fi
    [ ! -e "$tools/$name.absent" ] || echo "services for tests: no $name: $(cat "$tools/$name.absent")"
}

install_service redis redis-server
install_service postgresql postgresql
