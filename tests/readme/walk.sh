#!/usr/bin/env bash
# Walks the README's first sections in a clean clone, as somebody new would: runs the first command as it is written there,
# reads what is printed, sends the first log line by the snippet, asks every listener and data source that is named, stops
# and starts again. Needs Rust, git and curl, and the default ports. README_TARGET names a target folder to build in.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
folder=$(mktemp -d)
server=
cleanup() {
    if [ -n "$server" ]; then kill -KILL "$server" 2>/dev/null || true; fi
    rm -rf "$folder"
}
trap cleanup EXIT
export CARGO_TERM_COLOR=never CARGO_TARGET_DIR="${README_TARGET:-$folder/target}"
out=$folder/output
passed=0

fail() {
    printf 'FAILED: %s\n--- what was printed:\n' "$*" >&2
    tail -n 40 "$out" >&2 || true
    exit 1
}
pass() { passed=$((passed + 1)); printf 'ok: %s\n' "$*"; }
# Whether the output, or the file that is named, has the text.
says() { grep -qF -- "$1" "${2:-$out}" || fail "nothing says: $1"; pass "says: $1"; }
# Of what the server prints; cargo names crates such as thiserror.
silent_about() {
    if grep -E '^[0-9]{4}-' "$out" | grep -qiE -- "$1"; then fail "speaks of $1"; fi
    pass "does not speak of: $1"
}
# The n-th block of code below a heading.
block() {
    awk -v heading="## $1" -v wanted="$2" '
        /^## / { inside = ($0 == heading) }
        inside && /^```/ { if (open) { open = 0 } else { open = 1; count++; next } }
        inside && open && count == wanted { print }
    ' "$root/README.md"
}
# Runs until what it prints has the text; the server's process id is in $server.
start() {
    : >"$out"
    "$@" >"$out" 2>&1 &
    server=$!
    until grep -q ' ready after_ms=' "$out"; do
        kill -0 "$server" 2>/dev/null || fail "it ended: $*"
        sleep 0.1
    done
    # `cargo run` becomes the server's parent.
    program=$(pgrep -P "$server" -x trilith || echo "$server")
}
stop() {
    kill -TERM "$program"
    local code=0
    wait "$server" || code=$?
    server=
    [ "$code" = 0 ] || fail "it ended with $code"
    pass "SIGTERM ends it with exit code 0"
}
answers() {
    local got
    got=$(curl -fsS --max-time 20 "${@:2}") || fail "no answer: ${*:2}"
    grep -qF -- "$1" <<<"$got" || fail "${*:2} answers $got, without $1"
    pass "answers $1: ${*: -1}"
}

git clone --quiet --depth 1 "file://$root" "$folder/trilith"
cd "$folder/trilith"
mapfile -t commands < <(block "Run it" 1 | sed 's/ *#.*//')
[ "${commands[0]}" = "cargo run --release" ] || fail "the first command is ${commands[0]}"
[ "${commands[1]}" = "cargo test" ] || fail "the second command is ${commands[1]}"
minimum=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
says "Rust $minimum or later" README.md

echo "== ${commands[0]}"
# shellcheck disable=SC2086 # the words of the command
start ${commands[0]}
grep -v '^ *Compiling\|^ *Download' "$out"
says "open http://127.0.0.1:9090/ in a browser"
says "data lies in $folder/trilith/trilith-data (a new data directory: nothing was there)"
mapfile -t listeners < <(grep -oE '^\| `127\.0\.0\.1:[0-9]+`' README.md | tr -d '|` ')
[ "${#listeners[@]}" = 5 ] || fail "the README has ${#listeners[@]} listeners"
for listener in "${listeners[@]}"; do
    says "listening on $listener: "
    curl -sS --max-time 20 -o "$folder/answer" "http://$listener/" || fail "nobody answers at $listener"
    pass "is there: $listener"
done
says "metrics are kept 30d, logs 14d, traces 7d"
silent_about 'migrat|replay|warn|error'

echo "== what the README sends"
bash -euo pipefail -c "$(block "Send to it" 5)" || fail "the first log line was not taken"
pass "takes the first log line"
answers hello -G http://127.0.0.1:9090/loki/api/v1/query_range --data-urlencode 'query={job="try"}'
answers hello -G http://127.0.0.1:3100/loki/api/v1/query_range --data-urlencode 'query={job="try"}'
printf 'shop_orders_total{job="shop"} 7 %s\n' "$(date +%s)000" >samples.txt
"$CARGO_TARGET_DIR/release/trilith" import prometheus samples.txt || fail "samples were not taken"
answers '"7"' -G http://127.0.0.1:9090/api/v1/query --data-urlencode 'query=shop_orders_total'
"$CARGO_TARGET_DIR/release/trilith" export --match '{job="shop"}' --start 2026-01-01T00:00:00Z exported.txt
says 'shop_orders_total{job="shop"} 7' exported.txt

echo "== what Grafana asks the data sources of the README"
url() { sed -n "s/^| $1 | \`\\(.*\\)\` |\$/\\1/p" README.md; }
answers success "$(url Prometheus)/api/v1/labels"
answers success "$(url Loki)/loki/api/v1/labels"
answers echo "$(url Tempo)/api/echo"
answers data "$(url Jaeger)/api/services"
answers "<title>Trilith" http://127.0.0.1:9090/

echo "== words"
trilith=$CARGO_TARGET_DIR/release/trilith
for words in help "help repair" "repair --help" version check-config "check-config --listen 127.0.0.1:9999"; do
    # shellcheck disable=SC2086 # the words of the command
    "$trilith" $words >"$folder/words" 2>&1 || fail "trilith $words ended with $?"
    [ -s "$folder/words" ] || fail "trilith $words says nothing"
    pass "trilith $words"
done
says "127.0.0.1:9999" "$folder/words"
refused() {
    local code=0
    "$trilith" "${@:2}" >"$folder/words" 2>&1 || code=$?
    [ "$code" = 2 ] || fail "trilith ${*:2} ended with $code"
    says "$1" "$folder/words"
}
refused "--listen 127.0.0.1:9090" --port 9090
refused "--retention-logs" --retention-log 30d
refused "64" --memory-limit 1MiB

echo "== stop, and start again"
stop
start "$trilith" serve
says "data lies in $folder/trilith/trilith-data"
silent_about 'new data directory|migrat'
answers hello -G http://127.0.0.1:9090/loki/api/v1/query_range --data-urlencode 'query={job="try"}'
stop

echo "== among Kubernetes' variables"
start env TRILITH_PORT=tcp://10.0.0.1:9090 TRILITH_SERVICE_HOST=10.0.0.1 TRILITH_SERVICE_PORT=9090 \
    TRILITH_PORT_9090_TCP_ADDR=10.0.0.1 "$trilith"
says TRILITH_SERVICE_HOST
answers "" http://127.0.0.1:9090/-/ready
stop
printf '%s passed, 0 failed\n' "$passed"
