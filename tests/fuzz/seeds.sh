#!/usr/bin/env bash
# Writes first inputs for the fuzz targets below the folder given.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
out=${1:?a folder}
mkdir -p "$out"/{promql_parse,promql_eval,remote_write_v1,remote_write_v2,chunk_codecs,wal_replay}
number=0
grep -hE '^eval' "$here"/../scripts/promql/*.test |
    sed -E 's/^eval instant at [^ ]+ +//; s/^eval range from [^ ]+ to [^ ]+ step [^ ]+ +//' | sort -u |
    while IFS= read -r query; do
        number=$((number + 1))
        printf '%s' "$query" >"$out/promql_parse/$number"
        printf '%s' "$query" >"$out/promql_eval/$number"
    done
# Bodies as they came, snappy and all: short ones have long literal runs that the decoders know.
for body in "$here"/../payloads/remote_write/v1*.body "$here"/../payloads/remote_write/prometheus*.body; do
    cp "$body" "$out/remote_write_v1/"
done
cp "$here"/../payloads/remote_write/v2*.body "$out/remote_write_v2/"
for target in chunk_codecs wal_replay; do
    head -c 200 /dev/urandom >"$out/$target/random"
done
