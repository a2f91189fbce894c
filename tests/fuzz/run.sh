#!/usr/bin/env bash
# run.sh SECONDS [TARGET ...]: fuzzes each target for so many seconds; all of them when none is named. Ends with 1 when
# one has found something, and says what.
set -uo pipefail
cd "$(dirname "$0")"
seconds=${1:?how many seconds for each target}
shift
targets=("$@")
[ ${#targets[@]} -gt 0 ] || mapfile -t targets < <(cargo +nightly fuzz list --fuzz-dir .)
seeds=$(mktemp -d)
trap 'rm -rf "$seeds"' EXIT
./seeds.sh "$seeds"
# The versions that the server has.
[ Cargo.lock -nt ../../Cargo.lock ] || cp ../../Cargo.lock .
cargo +nightly fuzz build --fuzz-dir . -s none || exit 1
failed=()
for target in "${targets[@]}"; do
    printf '\n== %s for %s s\n' "$target" "$seconds"
    dict=()
    for own in "$target.dict" "${target%%_*}.dict"; do
        if [ -f "$own" ]; then dict=("-dict=$own") && break; fi
    done
    mkdir -p "corpus/$target"
    cargo +nightly fuzz run --fuzz-dir . -s none "$target" "corpus/$target" "$seeds/$target" -- \
        -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 "${dict[@]}" 2>&1 |
        grep -vE '^#[0-9]+\s+(REDUCE|NEW|RELOAD|pulse)' | tail -n 12
    [ "${PIPESTATUS[0]}" = 0 ] || failed+=("$target")
done
[ ${#failed[@]} -eq 0 ] || { printf '\nfound something: %s\n' "${failed[*]}"; exit 1; }
