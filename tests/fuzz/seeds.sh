#!/usr/bin/env bash
# Writes first inputs for the fuzz targets below the folder given.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
out=${1:?a folder}
for target in "$here"/targets/*.rs; do
    mkdir -p "$out/$(basename "$target" .rs)"
done
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
# Queries of the other languages; the first byte of an input says over which times.
number=0
for language in logql traceql; do
    grep -hE '^eval' "$here"/../scripts/$language/*.test |
        sed -E 's/^eval( instant| range| search| logs)?( at [^ ]+| from [^ ]+ to [^ ]+ step [^ ]+)? +//' | sort -u |
        while IFS= read -r query; do
            number=$((number + 1))
            printf 'A%s' "$query" >"$out/$language/$number"
            template=$(printf '%s' "$query" | sed -nE 's/.*line_format [`"]([^`"]*)[`"].*/\1/p')
            [ -z "$template" ] || printf '%s' "$template" >"$out/templates/$number"
        done
done
payloads=$here/../payloads
for signal in logs metrics traces; do
    gzip -dc "$payloads/otlp_$signal/python_sdk_http.body" >"$out/otlp_protobuf/$signal.captured"
done
cp "$payloads"/otlp_traces/json*.body "$out/otlp_json/"
cp "$payloads"/loki_push/json_bad*.body "$out/loki_json/"
cp "$payloads"/loki_push/promtail*.body "$out/loki_protobuf/"
cp "$payloads"/loki_push/*.body "$payloads"/remote_write/v2.body "$payloads"/otlp_logs/python*.body "$out/decompress/"
for body in "$payloads"/import_text/*.body; do
    { printf '\7'; cat "$body"; } >"$out/openmetrics/$(basename "$body")"
done
# A segment of the log, and its one record without what the log puts before it.
for version in 1 2; do
    log=$here/../fixtures/store-v$version/wal/metrics/0000000000000002.wal
    cp "$log" "$out/wal_replay/segment.v$version"
    tail -c +21 "$log" >"$out/wal_replay/record.v$version"
done
# Which part or log, and no change.
for which in 0 1 2 3 4 5; do printf '%b' "\\x0$which" >"$out/parts/$which"; done
printf '\0\0\1\2\7' >"$out/text_index/one"
head -c 200 /dev/zero | tr '\0' '\17' >"$out/chunk_codecs/some"
# What was written for a target.
for folder in "$here"/seeds/*; do cp "$folder"/* "$out/$(basename "$folder")/"; done
