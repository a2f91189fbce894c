//! Lines 6, 11 and 18 to 21 of the smoke checklist: every base URL that a data source may have, with and
//! without a slash at its end, with headers and encodings of all sorts, gives the same answers.

use std::net::SocketAddr;

use serde_json::{Value, json};
use trilith::app::config::{Config, Extra, Place};
use trilith::app::{Server, run};

use super::doors::{Answer, get, send, server};
use super::plugins;
use super::shop::{TRACE, fill, now};
use super::trace_api::q;

/// A server on free ports with all its extra listeners.
pub(super) async fn every_listener() -> (Server, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let mut config = Config::for_tests(folder.path());
    config.no_extra_listeners = false;
    for extra in Extra::ALL {
        config.extra.insert(extra, Place::At(SocketAddr::from(([127, 0, 0, 1], 0))));
    }
    let mut server = run(config, None).await.unwrap();
    server.ready().await.unwrap();
    (server, folder)
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Dialect {
    Prometheus,
    Loki,
    Tempo,
    Jaeger,
}
use Dialect::{Jaeger, Loki, Prometheus, Tempo};

/// Where each dialect is served: listener and prefix.
fn bases(server: &Server) -> Vec<(Dialect, SocketAddr, &'static str)> {
    let addresses = &server.addresses;
    vec![
        (Prometheus, addresses.main, ""),
        (Loki, addresses.main, ""),
        (Loki, addresses.main, "/loki"),
        (Loki, addresses.extra[&Extra::Loki], ""),
        (Tempo, addresses.main, "/tempo"),
        (Tempo, addresses.extra[&Extra::Tempo], ""),
        (Jaeger, addresses.main, "/jaeger"),
    ]
}

/// The lines of the checklist as requests, with the status that each must get. Times are given
/// wherever an answer depends on them.
fn checklist(now: i64) -> Vec<(Dialect, u16, String)> {
    let seconds = format!("start={}&end={}", now - 1_200, now + 60);
    let nanos = format!("start={0}000000000&end={1}000000000", now - 1_200, now + 60);
    let micros = format!("start={0}000000&end={1}000000", now - 1_200, now + 60);
    let any = q("{service_name=~\".+\"}");
    let zero = format!("start={0}000000000&end={0}000000000", now - 300);
    let rows = [
        (Prometheus, 200, "/api/v1/query?query=1%2B1&time=4".to_owned()),
        (Prometheus, 200, "/api/v1/status/buildinfo".into()),
        (Prometheus, 200, "/api/v1/query_exemplars?query=test&start=1763797000000&end=1763798800000".into()),
        (Prometheus, 200, "/api/v1/rules".into()),
        (Prometheus, 200, "/api/v1/alerts".into()),
        (Prometheus, 200, "/api/v1/metadata?limit=40000".into()),
        (Prometheus, 200, "/api/v1/label/U__service_2e_name/values".into()),
        (Prometheus, 200, format!("/api/v1/label/job/values?match[]={}&limit=0", q("{__name__=~\".+\",}"))),
        (Prometheus, 200, format!("/api/v1/query_range?query={}&{seconds}&step=15", q("{job=~\".+\"}"))),
        (Prometheus, 400, "/api/v1/query?query=sum(".into()),
        (Prometheus, 422, format!("/api/v1/query?query={}&time={now}", q("temp + on() latency_seconds_bucket"))),
        (Prometheus, 200, "/api/v1/status/flags".into()),
        (Loki, 200, "/loki/api/v1/query?query=vector(1)%2Bvector(1)&time=4000000000&direction=backward".into()),
        (Loki, 200, format!("/loki/api/v1/query_range?query={any}&{nanos}&step=15000ms&limit=100")),
        (Loki, 400, "/loki/api/v1/query_range?query=%7B".into()),
        (Loki, 200, format!("/loki/api/v1/labels?{zero}")),
        (Loki, 200, format!("/loki/api/v1/index/volume?query={any}&{nanos}")),
        (Loki, 200, format!("/loki/api/v1/index/stats?query={any}&{nanos}")),
        (Loki, 200, format!("/loki/api/v1/detected_labels?query=&{nanos}")),
        (Loki, 200, format!("/loki/api/v1/detected_fields?query={any}&{nanos}")),
        (Loki, 200, format!("/loki/api/v1/patterns?query={any}&{nanos}")),
        (Loki, 200, "/prometheus/api/v1/rules".into()),
        (Loki, 404, "/api/prom/rules/test/test?subtype=cortex".into()),
        (Tempo, 200, "/api/echo".into()),
        (Tempo, 200, "/api/status/buildinfo".into()),
        (Tempo, 200, format!("/api/v2/traces/{TRACE}")),
        (Tempo, 200, format!("/api/traces/{TRACE}")),
        (Tempo, 404, "/api/v2/traces/dead".into()),
        (Tempo, 404, "/api/traces/dead".into()),
        (Tempo, 200, format!("/api/search?q=%7B%7D&{seconds}")),
        (Tempo, 400, "/api/search?q=%7B".into()),
        (Tempo, 200, format!("/api/v2/search/tag/resource.service.name/values?q={}", q("{span.foo=}"))),
        (Tempo, 200, "/api/v2/search/tags".into()),
        (Tempo, 200, format!("/api/metrics/query_range?q={}&{seconds}&step=1m", q("{} | rate()"))),
        (Jaeger, 200, "/api/services".into()),
        (Jaeger, 200, "/api/services/cart/eu/operations".into()),
        (Jaeger, 200, "/api/services/cart%2Feu/operations".into()),
        (Jaeger, 200, format!("/api/traces?service=cart%2Feu&tags={}&{micros}", q("{\"error\":\"true\"}"))),
        (Jaeger, 200, format!("/api/traces/{TRACE}")),
        (Jaeger, 404, "/api/traces/dead".into()),
    ];
    rows.into_iter().collect()
}

/// Headers that change nothing but how the bytes are packed.
const HEADERS: &[&str] = &[
    "",
    "X-Scope-OrgID: tenant-1\r\n",
    "X-Scope-OrgID: a|b\r\n",
    "X-Unheard-Of: 1\r\nX-Query-Tags: Source=datasample\r\nFromAlert: true\r\ntraceparent: no\r\n",
    "Accept-Encoding: gzip\r\n",
    "Accept-Encoding: gzip, deflate, br, zstd\r\n",
    "Accept-Encoding: identity\r\n",
    "Accept-Encoding: br, deflate\r\n",
];

/// What must be equal: status, type, and the content as far as it lasts.
fn content(answer: &Answer, what: &str) -> (u16, String, Value) {
    let kind = answer.head.lines().find(|line| line.starts_with("content-type: ")).unwrap_or_default().to_owned();
    let body = plugins::plain(answer, what);
    let text = || Value::String(String::from_utf8_lossy(&body).into_owned());
    let value = if kind.contains("json") { serde_json::from_slice(&body).unwrap() } else { text() };
    (answer.status, kind, plugins::lasting(value))
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_encodings_bases_and_slashes_change_nothing() {
    let (server, _folder) = every_listener().await;
    let now = now();
    fill(server.addresses.main, now).await;
    let bases = bases(&server);
    let mut zipped = 0;
    for (dialect, status, path) in checklist(now) {
        let mut first: Option<(u16, String, Value)> = None;
        for (_, address, prefix) in bases.iter().filter(|base| base.0 == dialect) {
            for slash in ["", "/"] {
                for headers in HEADERS {
                    let what = format!("{prefix}{slash}{path} with {headers:?}");
                    let answer = send(*address, "GET", &format!("{prefix}{slash}{path}"), headers, b"").await;
                    if answer.head.contains("content-encoding") {
                        assert!(headers.contains("gzip"), "{what}: nobody asked for an encoding");
                        zipped += 1;
                    }
                    match status {
                        200 => assert_eq!(answer.status, 200, "{what}: {}", answer.text()),
                        _ => drop(plugins::error(&answer, status, &what)),
                    }
                    let content = content(&answer, &what);
                    assert!(!content.1.contains("html"), "{what}");
                    assert_eq!(first.get_or_insert_with(|| content.clone()), &content, "{what}");
                }
            }
        }
    }
    assert!(zipped > 20, "{zipped} answers were compressed");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_paths_are_404_at_every_listener_and_prefix() {
    let (server, _folder) = every_listener().await;
    let mut places: Vec<(SocketAddr, &str)> = server.addresses.extra.values().map(|address| (*address, "")).collect();
    assert_eq!(places.len(), Extra::ALL.len());
    for prefix in ["", "/loki", "/tempo", "/jaeger", "/alertmanager", "/prometheus", "/api", "/api/prom"] {
        places.push((server.addresses.main, prefix));
    }
    let unknown = [
        "/no/such/thing",
        "/api/v9/query",
        "/api/v2/nothing",
        "/loki/api/v9/query",
        "/rules",
        "/config/v1/rules",
        "/alertmanager/api/v2/status",
        "/api/v1/status/nothing",
        "/index.html",
        "/%3Cscript%3E",
    ];
    for (address, prefix) in places {
        for path in unknown {
            for method in ["GET", "POST"] {
                let path = format!("{prefix}{path}");
                let answer = send(address, method, &path, "Accept: application/json, text/html, */*\r\n", b"").await;
                plugins::error(&answer, 404, &format!("{method} {path} at {address}"));
            }
        }
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn prometheus_tells_bad_queries_from_failing_and_from_slow_ones() {
    let (server, _folder) = server().await;
    let main = server.addresses.main;
    let now = now();
    fill(main, now).await;
    let slow = "sum_over_time(sum_over_time(sum(temp)[1h:1s])[1h:1s])";
    for (query, more, status, kind) in [
        ("sum(", "", 400, "bad_data"),
        ("temp + on() latency_seconds_bucket", "", 422, "execution"),
        (slow, "&timeout=1ms", 503, "timeout"),
    ] {
        let path = format!("/api/v1/query?query={}&time={now}{more}", q(query));
        let answer = get(main, &path).await;
        let text = plugins::error(&answer, status, query);
        let body: Value = serde_json::from_str(&text).unwrap();
        assert_eq!((&body["status"], &body["errorType"]), (&json!("error"), &json!(kind)), "{text}");
        assert!(body["error"].is_string() && answer.head.contains("application/json"), "{text}");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn loki_shapes_of_an_empty_store_are_as_documented_at_each_base() {
    let (server, _folder) = every_listener().await;
    let selector = q("{service_name=~\".+\"}");
    let shapes = [
        (format!("index/volume?query={selector}&limit=5000"), json!({"resultType": "vector", "result": []}), "/data"),
        (
            format!("index/volume_range?query={selector}&step=60"),
            json!({"resultType": "matrix", "result": []}),
            "/data",
        ),
        (format!("index/stats?query={selector}"), json!({"streams": 0, "chunks": 0, "bytes": 0, "entries": 0}), ""),
        ("detected_labels?query=".to_owned(), json!({"detectedLabels": []}), ""),
        (format!("detected_fields?query={selector}&limit=1000"), json!({"fields": [], "limit": 1000}), ""),
        (format!("detected_field/x/values?query={selector}&limit=1000"), json!({"values": [], "limit": 1000}), ""),
        (format!("patterns?query={selector}&step=60s"), json!({"status": "success", "data": []}), ""),
        ("labels".to_owned(), json!({"status": "success", "data": []}), ""),
        ("series".to_owned() + "?match[]=" + &selector, json!({"status": "success", "data": []}), ""),
        ("label/app/values".to_owned(), json!({"status": "success", "data": []}), ""),
    ];
    for (_, address, prefix) in bases(&server).into_iter().filter(|base| base.0 == Loki) {
        for (path, shape, place) in &shapes {
            let answer = plugins::json(&get(address, &format!("{prefix}/loki/api/v1/{path}")).await, path);
            let mut part = answer.pointer(place).unwrap().clone();
            part.as_object_mut().unwrap().remove("stats");
            assert_eq!(&part, shape, "{path}");
        }
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_of_the_two_dialects_have_paths_of_their_own() {
    let (server, _folder) = every_listener().await;
    for (dialect, address, prefix) in bases(&server) {
        let (lists, editor) = match dialect {
            Prometheus => ("/api/v1", "/rules/test/test"),
            Loki => ("/prometheus/api/v1", "/api/prom/rules/test/test"),
            Tempo | Jaeger => continue,
        };
        for (list, key) in [("rules?type=alert&rule_name[]=x&exclude_alerts=true", "groups"), ("alerts", "alerts")] {
            let path = format!("{prefix}{lists}/{list}");
            assert_eq!(plugins::json(&get(address, &path).await, &path)["data"][key], json!([]), "{path}");
        }
        let text = plugins::error(&get(address, &format!("{prefix}{editor}")).await, 404, editor);
        assert!(text.contains("page not found"), "{text}");
    }
    // A base of Loki does not show the rules of Prometheus, nor the other way around.
    assert_eq!(get(server.addresses.extra[&Extra::Loki], "/api/v1/rules").await.status, 404);
    assert_eq!(get(server.addresses.main, "/loki/api/v1/rules").await.status, 404);
    server.stop().await;
}
