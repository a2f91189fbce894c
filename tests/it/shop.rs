//! What a shop tells of itself over ten minutes: metrics, logs and traces in OTLP, and a stream by Loki push.

use std::net::SocketAddr;

use serde_json::{Value, json};

use super::doors::send;

/// The first of the shop's traces; the others differ in the last byte.
pub(super) const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const SECOND: i64 = 1_000_000_000;
const JSON: &str = "Content-Type: application/json\r\n";

pub(super) async fn push(main: SocketAddr, path: &str, content: &Value) {
    let answer = send(main, "POST", path, JSON, content.to_string().as_bytes()).await;
    assert_eq!(answer.status / 100, 2, "{path}: {} {}", answer.status, answer.text());
}

pub(super) fn attributes(pairs: &[(&str, Value)]) -> Value {
    pairs.iter().map(|(key, value)| json!({"key": key, "value": value})).collect()
}

pub(super) fn text(text: &str) -> Value {
    json!({"stringValue": text})
}

fn resource() -> Value {
    json!({"attributes": attributes(&[("service.name", text("cart/eu"))])})
}

fn ns(seconds: i64) -> String {
    (seconds * SECOND).to_string()
}

fn metrics(now: i64) -> Value {
    let points = |more: fn(i64) -> Value| -> Value {
        let point = |i: i64| {
            let mut point = more(i);
            point["timeUnixNano"] = json!(ns(now - 600 + 15 * i));
            point["startTimeUnixNano"] = json!(ns(now - 700));
            point["attributes"] = attributes(&[("code", text("200"))]);
            point
        };
        (0..=40).map(point).collect()
    };
    let buckets = |i: i64| {
        json!({"count": (4 * i).to_string(), "sum": 1.5 * i as f64, "explicitBounds": [0.1, 0.5],
            "bucketCounts": [i.to_string(), (2 * i).to_string(), i.to_string()]})
    };
    let native = |i: i64| {
        json!({"count": (4 * i).to_string(), "sum": 1.5 * i as f64, "scale": 2, "zeroCount": i.to_string(),
            "positive": {"offset": 1, "bucketCounts": [i.to_string(), (2 * i).to_string()]}})
    };
    let mut latency = points(buckets);
    latency[20]["exemplars"] = json!([{"timeUnixNano": ns(now - 300), "asDouble": 0.31, "traceId": TRACE,
        "spanId": "00f067aa0ba902b7"}]);
    json!({"resourceMetrics": [{"resource": resource(), "scopeMetrics": [{"metrics": [
        {"name": "http_requests", "description": "Requests.",
            "sum": {"aggregationTemporality": 2, "isMonotonic": true, "dataPoints": points(|i| json!({"asDouble": 3 * i}))}},
        {"name": "temp", "gauge": {"dataPoints": points(|i| json!({"asDouble": i % 7 - 3}))}},
        {"name": "latency", "unit": "s", "histogram": {"aggregationTemporality": 2, "dataPoints": latency}},
        {"name": "native", "exponentialHistogram": {"aggregationTemporality": 2, "dataPoints": points(native)}},
    ]}]}]})
}

fn logs(now: i64) -> Value {
    let record = |i: i64| {
        let body = match i % 2 {
            0 => json!({"msg": format!("y{i}"), "n": i, "a": {"b": "c"}}).to_string(),
            _ => format!("level=info msg=x{i} dur={i}ms"),
        };
        json!({"timeUnixNano": ns(now - 600 + 15 * i), "body": text(&body), "severityNumber": 9 + 4 * (i % 3),
            "traceId": if i % 5 == 0 { TRACE } else { "" }, "attributes": attributes(&[("k.x", text("v"))])})
    };
    let records: Vec<Value> = (0..40).map(record).collect();
    json!({"resourceLogs": [{"resource": resource(), "scopeLogs": [{"logRecords": records}]}]})
}

fn traces(now: i64) -> Value {
    let spans = (0..6).flat_map(|n: i64| {
        let trace = format!("{}{:02x}", &TRACE[..30], 0x36 + n);
        let start = (now - 500 + 60 * n) * SECOND;
        let at = |ms: i64| (start + ms * 1_000_000).to_string();
        let failure = attributes(&[("exception.message", text("boom")), ("exception.type", text("E"))]);
        let root = attributes(&[("http.status_code", json!({"intValue": "200"})), ("a/b", json!({"boolValue": true}))]);
        [
            json!({"traceId": trace, "spanId": "00f067aa0ba902b7", "name": "GET /", "kind": 2,
                "startTimeUnixNano": at(0), "endTimeUnixNano": at(557), "attributes": root}),
            json!({"traceId": trace, "spanId": "00f067aa0ba902b8", "parentSpanId": "00f067aa0ba902b7", "name": "db",
                "kind": 3, "startTimeUnixNano": at(1), "endTimeUnixNano": at(400), "status": {"code": 2, "message": "no"},
                "events": [{"timeUnixNano": at(2), "name": "exception", "attributes": failure}]}),
        ]
    });
    let spans: Vec<Value> = spans.collect();
    // A resource without attributes, and spans without a scope or a status: what plugins stumble over.
    let bare = json!({"traceId": format!("{}{:02x}", &TRACE[..30], 0xff), "spanId": "00f067aa0ba902b9", "name": "bare",
        "startTimeUnixNano": ns(now - 50), "endTimeUnixNano": ns(now - 49)});
    json!({"resourceSpans": [
        {"resource": resource(), "scopeSpans": [{"scope": {"name": "lib", "version": "1"}, "spans": spans}]},
        {"scopeSpans": [{"spans": [bare]}]},
    ]})
}

/// Sends everything; the last of it is at `now`, in seconds.
pub(super) async fn fill(main: SocketAddr, now: i64) {
    push(main, "/v1/metrics", &metrics(now)).await;
    push(main, "/v1/logs", &logs(now)).await;
    push(main, "/v1/traces", &traces(now)).await;
    let values: Vec<Value> =
        (0..20).map(|i| json!([ns(now - 300 + i), format!("level=error boom {i}"), {"trace_id": "abc"}])).collect();
    let stream = json!({"streams": [{"stream": {"app": "b", "env": "prod"}, "values": values}]});
    push(main, "/loki/api/v1/push", &stream).await;
}

/// Seconds since 1970.
pub(super) fn now() -> i64 {
    chrono::Utc::now().timestamp()
}
