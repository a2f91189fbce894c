//! What a team's services tell of themselves over half an hour, as their libraries and agents write it: FastAPI with
//! OpenTelemetry by the HTTP conventions old and new, FastAPI with prometheus-fastapi-instrumentator, Promtail's
//! lines with and without labels, a machine, and Trilith itself. Two requests a second, one of ten fails.

use std::fmt::Write as _;
use std::net::SocketAddr;

use serde_json::{Value, json};

use super::doors::{get, send};
use super::shop::{attributes, push, text};

/// Seconds between two reports: what SDKs of OpenTelemetry and Prometheus have when nobody changes it.
const EVERY: i64 = 60;
/// Reports there are; the last is at the time that is asked for.
const REPORTS: i64 = 30;
/// Requests between two reports.
const OK: i64 = 108;
const FAILED: i64 = 12;

/// The trace of a request that failed.
pub(super) const TRACE: &str = "5b8efff798038103d269b633813fc60c";

fn resource(service: &str) -> Value {
    json!({"attributes": attributes(&[("service.name", text(service)), ("telemetry.sdk.language", text("python"))])})
}

fn ns(seconds: i64) -> String {
    (seconds * 1_000_000_000).to_string()
}

/// The times of the reports, with their number.
fn reports(now: i64) -> impl Iterator<Item = (i64, i64)> {
    (0..=REPORTS).map(move |i| (i, now - EVERY * (REPORTS - i)))
}

/// A histogram of requests, all of them in the bucket that ends at `bounds[4]`.
fn histogram(now: i64, bounds: &[f64], with: impl Fn(&str) -> Value) -> Value {
    let point = |(i, t): (i64, i64), status: &str, each: i64| {
        let mut buckets = vec!["0".to_owned(); bounds.len() + 1];
        buckets[4] = (i * each).to_string();
        json!({"attributes": with(status), "startTimeUnixNano": ns(now - 3_600), "timeUnixNano": ns(t),
            "count": (i * each).to_string(), "sum": (i * each) as f64 * bounds[3], "explicitBounds": bounds,
            "bucketCounts": buckets, "exemplars": [{"timeUnixNano": ns(t), "asDouble": bounds[3], "traceId": TRACE,
                "spanId": "eee19b7ec3c1b174"}]})
    };
    let points: Vec<Value> = reports(now).flat_map(|at| [point(at, "200", OK), point(at, "500", FAILED)]).collect();
    json!({"aggregationTemporality": 2, "dataPoints": points})
}

fn active(now: i64, with: &Value) -> Value {
    let point = |(_, t)| json!({"attributes": with, "timeUnixNano": ns(t), "asInt": "3"});
    let points: Vec<Value> = reports(now).map(point).collect();
    json!({"name": "http.server.active_requests", "unit": "{request}",
        "sum": {"aggregationTemporality": 2, "isMonotonic": false, "dataPoints": points}})
}

/// Metrics of `opentelemetry-instrumentation-fastapi`: those of the old conventions, which it sends unless told
/// otherwise, and those of the new ones (`OTEL_SEMCONV_STABILITY_OPT_IN=http`).
fn opentelemetry_metrics(now: i64) -> Value {
    let old = |status: &str| {
        attributes(&[
            ("http.method", text("GET")),
            ("http.scheme", text("http")),
            ("http.target", text("/orders/{id}")),
            ("http.status_code", json!({"intValue": status})),
            ("net.host.port", json!({"intValue": "8000"})),
        ])
    };
    let new = |status: &str| {
        attributes(&[
            ("http.request.method", text("GET")),
            ("url.scheme", text("http")),
            ("http.route", text("/orders/{id}")),
            ("http.response.status_code", json!({"intValue": status})),
        ])
    };
    let of = |service: &str, metrics: Value| json!({"resource": resource(service), "scopeMetrics": [{"scope": {"name": "opentelemetry.instrumentation.fastapi"}, "metrics": metrics}]});
    let ms = [25.0, 50.0, 75.0, 100.0, 250.0, 500.0];
    let seconds = [0.025, 0.05, 0.075, 0.1, 0.25, 0.5];
    json!({"resourceMetrics": [
        of("otel-old", json!([
            {"name": "http.server.duration", "unit": "ms", "histogram": histogram(now, &ms, old)},
            active(now, &attributes(&[("http.method", text("GET"))])),
        ])),
        of("otel-new", json!([
            {"name": "http.server.request.duration", "unit": "s", "histogram": histogram(now, &seconds, new)},
            active(now, &attributes(&[("http.request.method", text("GET"))])),
        ])),
    ]})
}

/// Exposition text as a scrape adds labels and a time to it, and as it counts on: counters have grown `i` times.
fn scraped(exposition: &str, labels: &str, i: i64, t: i64, out: &mut String) {
    for line in exposition.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (series, value) = line.rsplit_once(' ').unwrap();
        let (name, own) = series.split_once('{').unwrap_or((series, "}"));
        let counts = ["_total", "_count", "_sum", "_bucket"].iter().any(|suffix| name.ends_with(suffix));
        let value: f64 = value.parse().unwrap();
        let value = if counts { value * i as f64 } else { value };
        let comma = if own == "}" { "" } else { "," };
        writeln!(out, "{name}{{{labels}{comma}{own} {value} {}", t * 1_000).unwrap();
    }
}

async fn import(main: SocketAddr, now: i64, labels: &str, exposition: &str) {
    let mut body = String::new();
    for (i, t) in reports(now) {
        scraped(exposition, labels, i, t, &mut body);
    }
    let answer = send(main, "POST", "/api/v1/import/prometheus", "", body.as_bytes()).await;
    assert_eq!(answer.status / 100, 2, "{labels}: {}", answer.text());
}

/// What a scrape finds of `Instrumentator(should_instrument_requests_inprogress=True).instrument(app).expose(app)`.
const INSTRUMENTATOR: &str = r#"
# HELP http_requests_total Total number of requests by method, status and handler.
# TYPE http_requests_total counter
http_requests_total{handler="/orders/{id}",method="GET",status="2xx"} 108.0
http_requests_total{handler="/orders/{id}",method="GET",status="5xx"} 12.0
# HELP http_requests_created Total number of requests by method, status and handler.
# TYPE http_requests_created gauge
http_requests_created{handler="/orders/{id}",method="GET",status="2xx"} 1.7e+09
# TYPE http_request_size_bytes summary
http_request_size_bytes_count{handler="/orders/{id}"} 120.0
http_request_size_bytes_sum{handler="/orders/{id}"} 0.0
# HELP http_request_duration_highr_seconds Latency with many buckets but no API specific labels.
# TYPE http_request_duration_highr_seconds histogram
http_request_duration_highr_seconds_bucket{le="0.1"} 0.0
http_request_duration_highr_seconds_bucket{le="0.25"} 120.0
http_request_duration_highr_seconds_bucket{le="60.0"} 120.0
http_request_duration_highr_seconds_bucket{le="+Inf"} 120.0
http_request_duration_highr_seconds_count 120.0
http_request_duration_highr_seconds_sum 12.0
# HELP http_request_duration_seconds Latency with only few buckets by handler.
# TYPE http_request_duration_seconds histogram
http_request_duration_seconds_bucket{handler="/orders/{id}",le="0.1",method="GET"} 0.0
http_request_duration_seconds_bucket{handler="/orders/{id}",le="0.5",method="GET"} 120.0
http_request_duration_seconds_bucket{handler="/orders/{id}",le="1.0",method="GET"} 120.0
http_request_duration_seconds_bucket{handler="/orders/{id}",le="+Inf",method="GET"} 120.0
http_request_duration_seconds_count{handler="/orders/{id}",method="GET"} 120.0
http_request_duration_seconds_sum{handler="/orders/{id}",method="GET"} 12.0
# TYPE http_requests_inprogress gauge
http_requests_inprogress{handler="/orders/{id}",method="GET"} 3.0
"#;

const NODE: &str = r#"
node_cpu_seconds_total{cpu="0",mode="idle"} 45
node_cpu_seconds_total{cpu="0",mode="user"} 15
node_memory_MemAvailable_bytes 3e+09
node_memory_MemTotal_bytes 8e+09
node_network_receive_bytes_total{device="eth0"} 1e+06
node_network_transmit_bytes_total{device="eth0"} 2e+06
node_filesystem_avail_bytes{device="/dev/sda1",fstype="ext4",mountpoint="/"} 3e+10
node_filesystem_size_bytes{device="/dev/sda1",fstype="ext4",mountpoint="/"} 9e+10
"#;

/// Python's own records, as `opentelemetry-instrumentation-logging` sends them.
fn opentelemetry_logs(now: i64) -> Value {
    let records: Vec<Value> = reports(now)
        .map(|(i, t)| {
            let (word, number, body) =
                if i % 10 == 3 { ("ERROR", 17, "order refused") } else { ("INFO", 9, "order placed") };
            json!({"timeUnixNano": ns(t), "severityText": word, "severityNumber": number, "body": text(body),
                "traceId": TRACE, "spanId": "eee19b7ec3c1b174"})
        })
        .collect();
    json!({"resourceLogs": [{"resource": resource("otel-new"), "scopeLogs": [{"logRecords": records}]}]})
}

fn opentelemetry_trace(now: i64) -> Value {
    json!({"resourceSpans": [{"resource": resource("otel-new"), "scopeSpans": [{"spans": [
        {"traceId": TRACE, "spanId": "eee19b7ec3c1b174", "name": "GET /orders/{id}", "kind": 2,
            "startTimeUnixNano": ns(now - 60), "endTimeUnixNano": ns(now - 59), "status": {"code": 2}}]}]}]})
}

/// What Promtail finds in the files of services that log JSON and plain text.
fn promtail(now: i64) -> Value {
    let json_line = |i: i64, word: &str, space: &str| {
        let status = if word == "ERROR" { 500 } else { 200 };
        format!(
            r#"{{"trace_id":{space}"{TRACE}", "levelname": "{word}", "name": "orders", "message": "order {i}", "status": {status}}}"#
        )
    };
    let plain = |i: i64, word: &str| format!("2026-01-02 10:00:00,123 {word} [orders] order {i} trace_id={TRACE}");
    let stream = |labels: Value, line: &dyn Fn(i64, &str) -> String| {
        let word = |i: i64| if i % 10 == 3 { "ERROR" } else { "INFO" };
        let values: Vec<Value> = reports(now).map(|(i, t)| json!([ns(t), line(i, word(i))])).collect();
        json!({"stream": labels, "values": values})
    };
    json!({"streams": [
        stream(json!({"job": "backend_logs", "filename": "/var/log/backend.log"}), &|i, word| json_line(i, word, " ")),
        stream(json!({"job": "backend_logs", "app": "shop", "level": "ERROR"}), &|i, _| json_line(i, "ERROR", "")),
        stream(json!({"job": "plain_logs", "filename": "/var/log/plain.log"}), &plain),
    ]})
}

/// What a scrape finds of this server, once it has looked at its disk.
async fn own_metrics(main: SocketAddr) -> String {
    loop {
        let own = get(main, "/metrics").await.text();
        if own.contains("\ntrilith_disk_used_bytes ") {
            return own;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

/// Sends everything; the last of it is at `now`, in seconds. Trilith's own numbers are those of this server.
pub(super) async fn fill(main: SocketAddr, now: i64) {
    push(main, "/v1/metrics", &opentelemetry_metrics(now)).await;
    push(main, "/v1/logs", &opentelemetry_logs(now)).await;
    push(main, "/v1/traces", &opentelemetry_trace(now)).await;
    push(main, "/loki/api/v1/push", &promtail(now)).await;
    import(main, now, r#"job="instrumentator",instance="api:8000""#, INSTRUMENTATOR).await;
    import(main, now, r#"job="node",instance="host:9100""#, NODE).await;
    // Refused, so that the panels of refusals have something to show.
    let labels: Vec<String> = (0..70).map(|i| format!("l{i}=\"x\"")).collect();
    let refused = format!("old_metric 1 1000\nwide_metric{{{}}} 1 {}\n", labels.join(","), now * 1_000);
    let refused = send(main, "POST", "/api/v1/import/prometheus", "", refused.as_bytes()).await;
    assert_eq!(refused.status, 400, "{}", refused.text());
    let own = own_metrics(main).await;
    import(main, now, r#"job="trilith",instance="trilith:9090""#, &own).await;
}
