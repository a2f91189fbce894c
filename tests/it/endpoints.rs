//! Every row of every table of endpoints is called once, over a listener, with data of all three
//! signals behind it. A row that no call below names fails the test, as does a call that no row answers.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use serde_json::{Value, json};

use trilith::api::{self, Endpoint};

use super::bodies::{Series, remote_write, snappy};
use super::doors::{get, send, server};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const SELECTOR: &str = "query=%7Bapp%3D%22shop%22%7D";

/// A row, and a call of it: what stands in for the row's `{...}`, the parameters, the status.
pub(super) type Call = (&'static str, &'static str, &'static str, u16);

const PROMETHEUS: &[Call] = &[
    ("/api/v1/query", "", "query=up", 200),
    ("/api/v1/query_range", "", "query=up&start=0&end=60&step=15", 200),
    ("/api/v1/query_exemplars", "", "query=up&start=0&end=60", 200),
    ("/api/v1/labels", "", "", 200),
    ("/api/v1/label/{name}/values", "job", "", 200),
    ("/api/v1/series", "", "match%5B%5D=up", 200),
    ("/api/v1/metadata", "", "", 200),
    ("/api/v1/read", "", "", 200),
    ("/api/v1/export", "", "match%5B%5D=up", 200),
    // Off unless turned on.
    ("/api/v1/admin/tsdb/delete_series", "", "match%5B%5D=up", 503),
    ("/api/v1/admin/tsdb/clean_tombstones", "", "", 503),
    ("/api/v1/admin/tsdb/snapshot", "", "", 503),
    ("/api/v1/rules", "", "", 200),
    ("/api/v1/alerts", "", "", 200),
    ("/api/v1/targets", "", "", 200),
    ("/api/v1/format_query", "", "query=up%2B1", 200),
    ("/api/v1/parse_query", "", "query=up%2B1", 200),
    ("/api/v1/status/buildinfo", "", "", 200),
    ("/api/v1/status/runtimeinfo", "", "", 200),
    ("/api/v1/status/config", "", "", 200),
    ("/api/v1/status/flags", "", "", 200),
    ("/api/v1/status/walreplay", "", "", 200),
    ("/api/v1/status/tsdb", "", "limit=3", 200),
    ("/api/v1/status/active_queries", "", "", 200),
    ("/api/v1/status/tsdb/blocks", "", "", 200),
    ("/api/v1/alertmanagers", "", "", 200),
    ("/api/v1/targets/metadata", "", "", 200),
    ("/api/v1/targets/relabel_steps", "", "scrapePool=a&labels=%7B%7D", 404),
    ("/api/v1/scrape_pools", "", "", 200),
    ("/api/v1/scrape_pools/config", "", "scrapePool=a", 404),
    ("/api/v1/notifications", "", "", 200),
    ("/api/v1/notifications/live", "", "", 204),
    ("/api/v1/features", "", "", 200),
    ("/federate", "", "match%5B%5D=up", 200),
];

const LOKI: &[Call] = &[
    ("/loki/api/v1/query", "", "query=vector(1)", 200),
    ("/loki/api/v1/query_range", "", SELECTOR, 200),
    ("/loki/api/v1/labels", "", "", 200),
    ("/loki/api/v1/label", "", "", 200),
    ("/loki/api/v1/label/{name}/values", "app", "", 200),
    ("/loki/api/v1/series", "", "match%5B%5D=%7Bapp%3D%22shop%22%7D", 200),
    ("/loki/api/v1/index/stats", "", SELECTOR, 200),
    ("/loki/api/v1/index/volume", "", SELECTOR, 200),
    ("/loki/api/v1/index/volume_range", "", SELECTOR, 200),
    ("/loki/api/v1/detected_labels", "", "", 200),
    ("/loki/api/v1/detected_fields", "", SELECTOR, 200),
    ("/loki/api/v1/detected_field/{name}/values", "took", SELECTOR, 200),
    ("/loki/api/v1/patterns", "", SELECTOR, 200),
    ("/loki/api/v1/drilldown-limits", "", "", 200),
    ("/loki/api/v1/status/buildinfo", "", "", 200),
    ("/loki/api/v1/format_query", "", SELECTOR, 200),
    // Without the headers of a WebSocket there is nothing to upgrade.
    ("/loki/api/v1/tail", "", SELECTOR, 400),
    ("/prometheus/api/v1/rules", "", "", 200),
    ("/prometheus/api/v1/alerts", "", "", 200),
    // Grafana takes this for "rules cannot be edited here".
    ("/loki/api/v1/rules", "", "", 404),
    ("/loki/api/v1/rules/{*path}", "a/b", "", 404),
    ("/api/prom/rules", "", "", 404),
    ("/api/prom/rules/{*path}", "a/b", "", 404),
];

const TEMPO: &[Call] = &[
    ("/api/traces/{id}", TRACE, "", 200),
    ("/api/v2/traces/{id}", TRACE, "", 200),
    ("/api/search", "", "q=%7B%7D", 200),
    ("/api/search/tags", "", "", 200),
    ("/api/v2/search/tags", "", "", 200),
    ("/api/search/tag/{*tag}", "service.name/values", "", 200),
    ("/api/v2/search/tag/{*tag}", "resource.service.name/values", "", 200),
    ("/api/metrics/query_range", "", "q=%7B%7D%7Crate()", 200),
    ("/api/metrics/query", "", "q=%7B%7D%7Crate()", 200),
    ("/api/echo", "", "", 200),
    ("/api/status/buildinfo", "", "", 200),
];

const JAEGER: &[Call] = &[
    ("/api/services", "", "", 200),
    ("/api/services/{*service}", "shop/operations", "", 200),
    ("/api/operations", "", "service=shop", 200),
    ("/api/traces", "", "service=shop", 200),
    ("/api/traces/{id}", TRACE, "", 200),
    ("/api/dependencies", "", "endTs=1&lookback=1", 200),
    ("/api/v3/services", "", "", 200),
    ("/api/v3/operations", "", "service=shop", 200),
    ("/api/v3/traces/{id}", TRACE, "", 200),
];

/// A dialect's table, where it lies, and the calls.
pub(super) const TABLES: &[(&str, &[Endpoint], &[Call])] = &[
    ("", api::prometheus::ENDPOINTS, PROMETHEUS),
    ("", api::loki::ENDPOINTS, LOKI),
    ("/loki", api::loki::ENDPOINTS, LOKI),
    ("/tempo", api::tempo::ENDPOINTS, TEMPO),
    ("/jaeger", api::jaeger::ENDPOINTS, JAEGER),
];

#[test]
fn every_endpoint_is_called() {
    for (base, endpoints, calls) in TABLES {
        let rows: BTreeSet<&str> = endpoints.iter().map(|endpoint| endpoint.path).collect();
        let called: BTreeSet<&str> = calls.iter().map(|call| call.0).collect();
        assert_eq!(rows, called, "below {base:?}: a row wants a call in tests/it/endpoints.rs, and a call a row");
        assert_eq!(rows.len(), endpoints.len(), "below {base:?}: a path stands in two rows");
    }
}

async fn fill(main: SocketAddr) {
    let now = chrono::Utc::now().timestamp_nanos_opt().unwrap();
    let up = Series { labels: vec![("__name__", "up"), ("job", "shop")], samples: vec![(now / 1_000_000, 1.0)] };
    let headers = "Content-Encoding: snappy\r\nContent-Type: application/x-protobuf\r\n";
    assert_eq!(send(main, "POST", "/api/v1/write", headers, &remote_write(&[up])).await.status, 204);
    let line = json!({"streams": [{"stream": {"app": "shop"}, "values": [[now.to_string(), "took=5ms"]]}]});
    let span = json!({
        "traceId": TRACE, "spanId": "00f067aa0ba902b7", "name": "GET /", "kind": 2,
        "startTimeUnixNano": (now - 5_000_000).to_string(), "endTimeUnixNano": now.to_string(),
    });
    let service = json!([{"key": "service.name", "value": {"stringValue": "shop"}}]);
    let trace = json!({"resourceSpans": [{"resource": {"attributes": service}, "scopeSpans": [{"spans": [span]}]}]});
    for (path, body) in [("/loki/api/v1/push", line), ("/v1/traces", trace)] {
        let answer = send(main, "POST", path, "Content-Type: application/json\r\n", body.to_string().as_bytes()).await;
        assert!(answer.status < 300, "{path}: {} {}", answer.status, answer.text());
    }
}

/// The row's path with `stand_in` for its `{...}`.
pub(super) fn concrete(base: &str, row: &str, stand_in: &str) -> String {
    let Some((before, rest)) = row.split_once('{') else { return format!("{base}{row}") };
    let after = rest.split_once('}').unwrap().1;
    format!("{base}{before}{stand_in}{after}")
}

#[tokio::test(flavor = "multi_thread")]
async fn every_endpoint_answers_every_method_it_names() {
    let (server, _folder) = server().await;
    let main = server.addresses.main;
    fill(main).await;
    for (base, endpoints, calls) in TABLES {
        for (row, stand_in, params, status) in *calls {
            let path = concrete(base, row, stand_in);
            let methods = endpoints.iter().find(|endpoint| endpoint.path == *row).unwrap().methods;
            let answer = get(main, &format!("{path}?{params}")).await;
            let expected = if methods.starts_with("POST") { 405 } else { *status };
            assert_eq!(answer.status, expected, "GET {path}?{params}: {}", answer.text());
            if answer.head.contains("content-type: application/json") {
                let parsed = serde_json::from_slice::<Value>(&answer.body);
                assert!(parsed.is_ok(), "GET {path}?{params}: {}", answer.text());
            }
            let form = "Content-Type: application/x-www-form-urlencoded\r\n";
            // A request of remote read is no form; this one asks for nothing.
            let body = if *row == "/api/v1/read" { snappy(b"") } else { params.as_bytes().to_vec() };
            let posted = send(main, "POST", &path, form, &body).await;
            let expected = if methods == "GET" { 405 } else { *status };
            assert_eq!(posted.status, expected, "POST {path} {params}, which names {methods}: {}", posted.text());
        }
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_call_over_grpc_answers_over_http_2_alone() {
    let (server, _folder) = server().await;
    for endpoint in api::tempo::GRPC_ENDPOINTS {
        assert_eq!(endpoint.methods, "POST");
        // An empty message: no compression, length 0.
        let headers = "Content-Type: application/grpc\r\n";
        let answer = send(server.addresses.main, "POST", endpoint.path, headers, &[0; 5]).await;
        assert!(answer.head.contains("content-type: application/grpc"), "{}: {}", endpoint.path, answer.head);
        assert_eq!(answer.status, 200, "{}: {}", endpoint.path, answer.text());
    }
    server.stop().await;
}
