#!/bin/sh
# A made-up shop. Every second it serves a few orders; each leaves a trace of three spans, log lines
# that carry its id, and counts in metrics whose exemplar is its id. Needs sh, awk, od and wget
# (busybox has them all).
# TARGET: where Trilith is. ROUNDS: seconds to run; 0 is for ever.
set -eu
TARGET=${TARGET:-http://localhost:9090}
ROUNDS=${ROUNDS:-0}

hex() { od -An -N"$1" -tx1 /dev/urandom | tr -d ' \n'; }
post() { wget -q -O /dev/null --header 'Content-Type: application/json' --post-data "$2" "$TARGET$1" || echo "no answer from $TARGET$1" >&2; }
attr() { printf '{"key":"%s","value":{"stringValue":"%s"}}' "$1" "$2"; }
span() { # trace id parent name kind start_ns end_ns status
  printf '{"traceId":"%s","spanId":"%s","parentSpanId":"%s","name":"%s","kind":%s,"startTimeUnixNano":"%s","endTimeUnixNano":"%s","attributes":[%s],"status":{"code":%s}}' \
    "$1" "$2" "$3" "$4" "$5" "$6" "$7" "$(attr order.channel web)" "$8"
}
spans_of() { # service spans
  printf '{"resource":{"attributes":[%s]},"scopeSpans":[{"scope":{"name":"shop"},"spans":[%s]}]}' "$(attr service.name "$1")" "$2"
}

started=$(date +%s)000000000
ok=0 failed=0 round=0 sum=0
b1=0 b2=0 b3=0 b4=0
while [ "$ROUNDS" -eq 0 ] || [ "$round" -lt "$ROUNDS" ]; do
  round=$((round + 1))
  now=$(date +%s)
  order=0
  while [ "$order" -lt 3 ]; do
    order=$((order + 1))
    trace=$(hex 16) root=$(hex 8) cart=$(hex 8) pay=$(hex 8)
    draw=$((0x$(hex 2)))
    ms=$((20 + draw % 400))
    start=$((now * 1000000000 + order * 200000000))
    end=$((start + ms * 1000000))
    mid=$((start + ms * 400000))
    if [ $((draw % 17)) -eq 0 ]; then code=500 status=2 level=error text="payment refused" failed=$((failed + 1))
    else code=200 status=1 level=info text="order placed" ok=$((ok + 1)); fi
    sum=$((sum + ms))
    [ "$ms" -le 50 ] && b1=$((b1 + 1)) || { [ "$ms" -le 100 ] && b2=$((b2 + 1)) || { [ "$ms" -le 250 ] && b3=$((b3 + 1)) || b4=$((b4 + 1)); }; }

    post /v1/traces "{\"resourceSpans\":[$(spans_of gateway "$(span "$trace" "$root" "" "POST /orders" 2 "$start" "$end" "$status")"),$(
      spans_of cart "$(span "$trace" "$cart" "$root" "cart.checkout" 2 "$((start + 2000000))" "$mid" 1)"),$(
      spans_of payment "$(span "$trace" "$pay" "$root" "payment.charge" 2 "$mid" "$((end - 2000000))" "$status")")]}"

    line() { printf '["%s","{\\"level\\":\\"%s\\",\\"msg\\":\\"%s\\",\\"trace_id\\":\\"%s\\",\\"duration_ms\\":%s,\\"status\\":%s}",{"trace_id":"%s"}]' "$1" "$2" "$3" "$trace" "$ms" "$code" "$trace"; }
    post /loki/api/v1/push "{\"streams\":[{\"stream\":{\"job\":\"backend_logs\",\"app\":\"gateway\",\"service_name\":\"gateway\",\"level\":\"$level\"},\"values\":[$(line "$end" "$level" "$text")]},{\"stream\":{\"job\":\"backend_logs\",\"app\":\"payment\",\"service_name\":\"payment\",\"level\":\"debug\"},\"values\":[$(line "$mid" debug "asking the bank")]}]}"
  done

  at=${now}000000000
  total=$((ok + failed))
  point() { printf '{"startTimeUnixNano":"%s","timeUnixNano":"%s","asDouble":%s,"attributes":[%s,%s]}' "$started" "$at" "$1" "$(attr code "$2")" "$(attr route /orders)"; }
  seconds() { awk "BEGIN { print $1 / 1000 }"; }
  post /v1/metrics "{\"resourceMetrics\":[{\"resource\":{\"attributes\":[$(attr service.name gateway)]},\"scopeMetrics\":[{\"scope\":{\"name\":\"shop\"},\"metrics\":[
    {\"name\":\"http.requests\",\"description\":\"Requests served.\",\"sum\":{\"aggregationTemporality\":2,\"isMonotonic\":true,\"dataPoints\":[$(point "$ok" 200),$(point "$failed" 500)]}},
    {\"name\":\"http.request.duration\",\"unit\":\"s\",\"description\":\"Time to serve a request.\",\"histogram\":{\"aggregationTemporality\":2,\"dataPoints\":[{\"startTimeUnixNano\":\"$started\",\"timeUnixNano\":\"$at\",\"count\":\"$total\",\"sum\":$(seconds "$sum"),\"bucketCounts\":[\"$b1\",\"$b2\",\"$b3\",\"$b4\"],\"explicitBounds\":[0.05,0.1,0.25],\"attributes\":[$(attr route /orders)],\"exemplars\":[{\"timeUnixNano\":\"$at\",\"asDouble\":$(seconds "$ms"),\"traceId\":\"$trace\",\"spanId\":\"$root\"}]}]}}]}]}]}"
  sleep 1
done
