#!/usr/bin/env bash
# Packages a binary as docker/dist/dist.sh does, and lives with what comes out: installs the .deb where a real systemd runs, upgrades,
# removes, purges; checks the image layout, unpacks it and starts its entry point.
#   tests/dist/check.sh BINARY           a static binary of any profile
# All of it happens on an overlay over this machine's root, in namespaces of its own, where systemd is booted as in a container:
# nothing here changes and no port is taken. Needs root, a kernel with overlayfs and cgroup 2, and Debian's dpkg, systemd,
# curl, iproute2, binutils and python3.
set -Eeuo pipefail
here=$(cd "$(dirname "$0")" && pwd)

fail() { printf 'FAILED: %s\n' "$*" >&2; exit 1; }
step() { printf -- '-- %s (%s s)\n' "$*" "$SECONDS"; }
# expect TEXT WORD: TEXT has WORD in it.
expect() { case "$1" in *"$2"*) ;; *) fail "expected \"$2\" in: $1" ;; esac; }

# Ends the systemd with all that runs in it, and takes away what was made for it.
clean_up() {
    if [ -n "$boot" ]; then
        kill -KILL "$boot" 2>/dev/null || true
        wait "$boot" 2>/dev/null || true
    fi
    rm -rf "$work"
}

outside() {
    [ "$(id -u)" = 0 ] || fail "this needs root"
    local binary dist="$here/../../docker/dist/dist.sh" init
    binary=$(realpath "$1")
    # Not below /tmp, which systemd takes for itself.
    boot='' work=$(mktemp -d /var/tmp/trilith-dist.XXXXXX)
    trap clean_up EXIT
    step "packages, twice the same"
    for to in first again; do
        "$dist" --binary "$binary" --level 1 --out "$work/$to" >"$work/$to.log"
    done
    cmp "$work/first/SHA256SUMS" "$work/again/SHA256SUMS" || fail "the same binary was packaged to other bytes"
    rm -rf "$work/again"
    (cd "$work/first" && sha256sum --quiet --check SHA256SUMS)
    "$dist" --binary "$binary" --level 1 --revision 2 --out "$work/second" >"$work/second.log"
    mv "$work/second"/*.deb "$work/first"
    rm -rf "$work/second"

    step "systemd in namespaces"
    unshare --mount --net --pid --ipc --uts --cgroup --fork --kill-child \
        bash "$here/boot.sh" "$work" "$here" >"$work/boot.log" 2>&1 </dev/null &
    boot=$!
    init=$(until pgrep -P "$boot"; do sleep 0.1; done)
    until [ "$(cat "/proc/$init/comm" 2>/dev/null)" = systemd ]; do
        kill -0 "$boot" 2>/dev/null || fail "systemd did not come up: $(cat "$work/boot.log")"
        sleep 0.1
    done
    nsenter --target "$init" --mount --net --pid --ipc --uts --cgroup --root --wd \
        env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive \
        bash /run/check/check.sh --inside
    printf 'the packages are as they should be (%s s)\n' "$SECONDS"
}

inside() {
    trap 'printf "FAILED: %s, line %s\n" "${BASH_SOURCE[0]}" "$LINENO" >&2; journalctl --no-pager -u trilith -n 40 >&2' ERR
    cd /run/dist
    . /run/check/deb.sh
    . /run/check/image.sh
    # "degraded" where a unit of this machine's own could not start.
    local tries=0
    until systemctl is-system-running 2>/dev/null | grep -qE 'running|degraded'; do
        tries=$((tries + 1))
        [ "$tries" -lt 600 ] || fail "systemd is $(systemctl is-system-running 2>&1)"
        sleep 0.1
    done
    check_package
    check_image
}

# until_ready: the server at the usual port answers.
until_ready() {
    local tries=0
    until curl -fs -o /dev/null http://127.0.0.1:9090/-/ready; do
        tries=$((tries + 1))
        [ "$tries" -lt 600 ] || fail "the server is not ready after a minute"
        sleep 0.1
    done
}

# Sends one item of each signal.
write_data() {
    local now
    now=$(date +%s)
    curl -fsS --data-binary "dist_check 42 ${now}000" http://127.0.0.1:9090/api/v1/import/prometheus
    curl -fsS -H 'Content-Type: application/json' http://127.0.0.1:3100/loki/api/v1/push \
        -d '{"streams":[{"stream":{"job":"dist"},"values":[["'"$now"'000000000","a line that stays"]]}]}'
    curl -fsS -H 'Content-Type: application/json' -o /dev/null http://127.0.0.1:4318/v1/traces -d '{"resourceSpans":[{"scopeSpans":[{"spans":[
        {"traceId":"4bf92f3577b34da6a3ce929d0e0e4736","spanId":"00f067aa0ba902b7","name":"stays","kind":2,
         "startTimeUnixNano":"'"$now"'000000000","endTimeUnixNano":"'"$now"'500000000"}]}]}]}'
}

# Reads what write_data has sent.
read_data() {
    until_ready
    expect "$(curl -fsS http://127.0.0.1:9090/api/v1/query --data-urlencode 'query=last_over_time(dist_check[1h])')" '"42"'
    expect "$(curl -fsS -G http://127.0.0.1:3100/loki/api/v1/query_range --data-urlencode 'query={job="dist"}')" 'a line that stays'
    expect "$(curl -fsS http://127.0.0.1:3200/api/traces/4bf92f3577b34da6a3ce929d0e0e4736)" '"stays"'
}

# status_of PID NAME: a line of /proc/PID/status.
status_of() { sed -n "s/^$2:\s*//p" "/proc/$1/status"; }

case "${1:-}" in
--inside) inside ;;
'' | -*) fail "usage: tests/dist/check.sh BINARY" ;;
*) outside "$1" ;;
esac
