//! The lines of Grafana's smoke checklist that touch Loki, against a store of vectors.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use futures_util::StreamExt;
use http::{Request, StatusCode};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;
use tower::ServiceExt;

use super::ENDPOINTS;
use crate::api::context::Context;
use crate::api::endpoint::routes;
use crate::base::counters::Counters;
use crate::base::support::ManualClock;
use crate::model::labels::Labels;
use crate::query::logql::memory::MemoryLogs;
use crate::query::{Engine, Options};
use crate::store::memory::{Memory, Nothing};

/// The clock of all tests, in seconds.
const NOW: i64 = 1_700_000_000;
const SECOND: i64 = 1_000_000_000;

fn labels(pairs: &[(&str, &str)]) -> Labels {
    Labels::from_pairs(pairs.iter().copied()).unwrap()
}

fn context(logs: MemoryLogs, options: Options) -> Context {
    Context {
        metrics: Arc::new(Memory::default()),
        logs: Arc::new(logs),
        traces: Arc::new(Nothing),
        engine: Engine::new(options, None),
        clock: Arc::new(ManualClock::at_ns(NOW * SECOND)),
        counters: Counters::default(),
        places: crate::api::Places::new(2),
        flows: crate::api::Flows::new(2),
        server_info: Default::default(),
        retention_logs: Some(Duration::from_secs(14 * 86_400)),
    }
}

fn router(logs: MemoryLogs) -> Router {
    routes("", ENDPOINTS).with_state(context(logs, Options::default()))
}

fn example() -> MemoryLogs {
    let logs = MemoryLogs::new(2);
    let web = labels(&[("service_name", "web"), ("env", "prod")]);
    let none = Labels::default();
    let traced = labels(&[("trace_id", "4bf9"), ("detected_level", "error")]);
    logs.push(&web, (NOW - 30) * SECOND, "level=error msg=boom", &traced);
    logs.push(&web, (NOW - 20) * SECOND + 1, "plain", &none);
    logs.push(&labels(&[("service_name", "api")]), (NOW - 10) * SECOND, r#"{"a":{"b":5},"took":"5ms"}"#, &none);
    logs
}

async fn send(router: Router, request: Request<Body>) -> (StatusCode, String, String) {
    let response = router.oneshot(request).await.unwrap();
    let status = response.status();
    let kind = response.headers().get("content-type").map(|kind| kind.to_str().unwrap().to_owned());
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, kind.unwrap_or_default(), String::from_utf8(body.to_vec()).unwrap())
}

async fn ask(logs: MemoryLogs, uri: &str) -> (StatusCode, String, String) {
    let uri = uri.replace(' ', "%20").replace('{', "%7B").replace('}', "%7D").replace('"', "%22").replace('|', "%7C");
    let request = Request::get(uri).header("x-unknown", "1").body(Body::empty()).unwrap();
    send(router(logs), request).await
}

async fn get(logs: MemoryLogs, uri: &str) -> String {
    let (status, kind, body) = ask(logs, uri).await;
    assert_eq!((status, kind.as_str()), (StatusCode::OK, "application/json"), "{uri}: {body}");
    body
}

async fn get_json(logs: MemoryLogs, uri: &str) -> Value {
    serde_json::from_str(&get(logs, uri).await).unwrap()
}

#[tokio::test]
async fn the_health_check_gets_one_sample() {
    let uri = "/loki/api/v1/query?query=vector(1)%2Bvector(1)&time=4000000000&direction=backward";
    let body = get_json(MemoryLogs::new(1), uri).await;
    assert_eq!(body["status"], "success");
    assert_eq!(body["data"]["resultType"], "vector");
    assert_eq!(body["data"]["result"], json!([{"metric": {}, "value": [4, "2"]}]));
}

#[tokio::test]
async fn lines_come_in_triples_with_the_flag_and_in_pairs_without() {
    let uri = "/loki/api/v1/query_range?query=%7Benv=%22prod%22%7D%20%7C%20logfmt&direction=forward&step=1000ms";
    let request = Request::get(uri).header("X-Loki-Response-Encoding-Flags", "categorize-labels");
    let (status, _, body) = send(router(example()), request.body(Body::empty()).unwrap()).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    let place = |text: &str| body.find(text).unwrap_or_else(|| panic!("{body} lacks {text}"));
    assert!(place("\"resultType\"") < place("\"encodingFlags\"") && place("\"encodingFlags\"") < place("\"result\":"));
    let data: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(data["data"]["encodingFlags"], json!(["categorize-labels"]));
    assert_eq!(
        data["data"]["result"],
        json!([{"stream": {"env": "prod", "service_name": "web"}, "values": [
            ["1699999970000000000", "level=error msg=boom", {
                "structuredMetadata": {"detected_level": "error", "trace_id": "4bf9"},
                "parsed": {"level": "error", "msg": "boom"}
            }],
            ["1699999980000000001", "plain", {}]
        ]}])
    );
    let data = get_json(example(), uri).await;
    assert_eq!(data["data"].get("encodingFlags"), None);
    assert_eq!(
        data["data"]["result"],
        json!([
            {"stream": {"detected_level": "error", "env": "prod", "level": "error", "msg": "boom", "service_name": "web",
                "trace_id": "4bf9"}, "values": [["1699999970000000000", "level=error msg=boom"]]},
            {"stream": {"env": "prod", "service_name": "web"}, "values": [["1699999980000000001", "plain"]]}
        ])
    );
    assert!(data["data"]["stats"]["summary"]["totalLinesProcessed"].as_u64().unwrap() >= 2);
}

#[tokio::test]
async fn metric_ranges_are_aligned_to_the_step() {
    let uri = format!(
        "/loki/api/v1/query_range?query=sum(count_over_time({{env=\"prod\"}}[1m]))&start={}&end={}&step=30",
        (NOW - 35) * SECOND,
        NOW * SECOND
    );
    let data = get_json(example(), &uri).await;
    assert_eq!(data["data"]["resultType"], "matrix");
    assert_eq!(data["data"]["result"], json!([{"metric": {}, "values": [[1_699_999_980, "1"], [1_700_000_010, "2"]]}]));
}

#[tokio::test]
async fn a_form_does_what_a_url_does() {
    let form = "query=%7Benv%3D%22prod%22%7D&limit=1";
    let request = Request::post("/loki/api/v1/query_range").header("content-type", "application/x-www-form-urlencoded");
    let (status, _, body) = send(router(example()), request.body(Body::from(form)).unwrap()).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    let data: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(data["data"]["result"][0]["values"], json!([["1699999980000000001", "plain"]]));
}

#[tokio::test]
async fn a_range_without_length_finds_the_labels_around_it() {
    let t = (NOW - 30) * SECOND;
    let body = get(example(), &format!("/loki/api/v1/labels?start={t}&end={t}")).await;
    assert_eq!(body, r#"{"status":"success","data":["env","service_name"]}"#);
    let body = get(example(), "/loki/api/v1/label/service_name/values").await;
    assert_eq!(body, r#"{"status":"success","data":["api","web"]}"#);
    let body = get(example(), "/loki/api/v1/label/env/values?query={service_name=\"api\"}").await;
    assert_eq!(body, r#"{"status":"success","data":[]}"#);
    let body = get(example(), "/loki/api/v1/series?match[]={env=\"prod\"}").await;
    assert_eq!(body, r#"{"status":"success","data":[{"env":"prod","service_name":"web"}]}"#);
    let body = get(MemoryLogs::new(1), "/loki/api/v1/series").await;
    assert_eq!(body, r#"{"status":"success","data":[]}"#);
}

#[tokio::test]
async fn an_empty_store_answers_in_the_right_shapes() {
    let empty = || MemoryLogs::new(1);
    let shape = |body: Value| json!([body["data"]["resultType"], body["data"]["result"]]);
    let volume = get_json(empty(), "/loki/api/v1/index/volume?query={service_name=~\".%2B\"}").await;
    assert_eq!(shape(volume), json!(["vector", []]));
    let volume = get_json(empty(), "/loki/api/v1/index/volume_range?query={service_name=~\".%2B\"}").await;
    assert_eq!(shape(volume), json!(["matrix", []]));
    let streams = get_json(empty(), "/loki/api/v1/query_range?query={a=\"b\"}").await;
    assert_eq!(shape(streams), json!(["streams", []]));
    assert_eq!(get(empty(), "/loki/api/v1/detected_labels").await, r#"{"detectedLabels":[]}"#);
    let fields = get(empty(), "/loki/api/v1/detected_fields?query={a=\"b\"}").await;
    assert_eq!(fields, r#"{"fields":[],"limit":1000}"#);
    let patterns = get(empty(), "/loki/api/v1/patterns?query={a=\"b\"}").await;
    assert_eq!(patterns, r#"{"status":"success","data":[]}"#);
    let stats = get(empty(), "/loki/api/v1/index/stats?query={a=\"b\"}").await;
    assert_eq!(stats, r#"{"streams":0,"chunks":0,"bytes":0,"entries":0}"#);
    let streams = get(empty(), "/loki/api/v1/label/__stream_shard__/values").await;
    assert_eq!(streams, r#"{"status":"success","data":[]}"#);
}

#[tokio::test]
async fn volumes_and_fields_are_what_is_stored() {
    let body = get_json(example(), "/loki/api/v1/index/volume?query={service_name=~\".%2B\"}&limit=5000").await;
    assert_eq!(
        body["data"]["result"],
        json!([
            {"metric": {"service_name": "api"}, "value": [NOW, "26"]},
            {"metric": {"service_name": "web"}, "value": [NOW, "25"]}
        ])
    );
    let body = get_json(example(), "/loki/api/v1/index/volume?query={service_name=~\".%2B\"}&targetLabels=env").await;
    assert_eq!(body["data"]["result"], json!([{"metric": {"env": "prod"}, "value": [NOW, "25"]}]));
    let body = get(example(), "/loki/api/v1/index/stats?query={env=\"prod\"}").await;
    assert_eq!(body, r#"{"streams":1,"chunks":1,"bytes":25,"entries":2}"#);
    let body = get_json(example(), "/loki/api/v1/detected_labels?query=").await;
    assert_eq!(
        body["detectedLabels"],
        json!([{"label": "env", "cardinality": 1}, {"label": "service_name", "cardinality": 2}])
    );
    let body = get_json(example(), "/loki/api/v1/detected_fields?query={service_name=~\".%2B\"}").await;
    let fields = body["fields"].as_array().unwrap();
    let field = |name: &str| fields.iter().find(|field| field["label"] == name).unwrap().clone();
    assert_eq!(
        field("a_b"),
        json!({"label": "a_b", "type": "int", "cardinality": 1, "parsers": ["json"], "jsonPath": ["a", "b"]})
    );
    assert_eq!(field("took")["type"], "duration");
    assert_eq!(field("trace_id")["parsers"], Value::Null);
    assert_eq!(field("level")["parsers"], json!(["logfmt"]));
    let body = get(example(), "/loki/api/v1/detected_field/level/values?query={env=\"prod\"}").await;
    assert_eq!(body, r#"{"values":["error"],"limit":1000}"#);
}

#[tokio::test]
async fn errors_are_plain_text_with_the_right_status() {
    for (uri, text) in [
        ("/loki/api/v1/query_range?query={a=\"b\"", "parse error at line 1, col 7"),
        ("/loki/api/v1/query_range?query={a=\"b\"}&limit=0", "limit"),
        ("/loki/api/v1/query_range?query={a=\"b\"}&limit=5001", "max_entries_limit_per_query"),
        ("/loki/api/v1/query_range?query={a=\"b\"}&start=20&end=10", "before start"),
        ("/loki/api/v1/query_range?query={a=\"b\"}&direction=up", "direction"),
        ("/loki/api/v1/query_range?query=vector(1)&start=0.5&end=1000000.5&step=1s", "maximum resolution"),
        ("/loki/api/v1/query_range?query=vector(1)&step=0", "step"),
        ("/loki/api/v1/query?query={a=\"b\"}", "not supported as an instant query"),
        ("/loki/api/v1/query?query=vector(1)&time=soon", "invalid time"),
        ("/loki/api/v1/labels?query={", "parse error"),
        ("/loki/api/v1/tail?query={", "parse error"),
        ("/loki/api/v1/tail?query={a=\"b\"}", "WebSocket"),
    ] {
        let (status, kind, body) = ask(example(), uri).await;
        assert_eq!((status, kind.as_str()), (StatusCode::BAD_REQUEST, "text/plain; charset=utf-8"), "{uri} {body}");
        assert!(body.contains(text) && !body.contains("timeout"), "{uri}: {body}");
    }
}

#[tokio::test]
async fn limits_end_a_query_with_a_status_and_a_reason() {
    let logs = || {
        let logs = MemoryLogs::new(100);
        for at in 0..50 {
            let stream = labels(&[("a", "b"), ("n", &at.to_string())]);
            logs.push(&stream, (NOW - 1) * SECOND, &"x".repeat(10_000), &Labels::default());
        }
        logs
    };
    let ask = |options: Options, query: &str| {
        let router = routes("", ENDPOINTS).with_state(context(logs(), options));
        let uri = format!("/loki/api/v1/query_range?query={query}");
        send(router, Request::get(uri).body(Body::empty()).unwrap())
    };
    let all = "%7Ba=%22b%22%7D";
    let few = Options { series_max: 49, ..Options::default() };
    let (status, _, body) = ask(few, &format!("count_over_time({all}[1m])")).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(body.contains("maximum of series"), "{body}");
    let small = Options { memory_max: 100_000, ..Options::default() };
    let (status, _, body) = ask(small, all).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(body.contains("memory"), "{body}");
    let hasty = Options { timeout: Duration::ZERO, ..Options::default() };
    let (status, _, body) = ask(hasty, all).await;
    assert_eq!(status, StatusCode::GATEWAY_TIMEOUT);
    assert!(body.contains("timed out"), "{body}");
}

#[tokio::test]
async fn rules_are_read_only_and_unknown_paths_are_404() {
    let (status, kind, body) = ask(example(), "/api/prom/rules/test/test?subtype=mimir").await;
    assert_eq!((status, kind.as_str()), (StatusCode::NOT_FOUND, "text/plain; charset=utf-8"));
    assert!(body.contains("page not found"));
    let (status, _, _) = ask(example(), "/loki/api/v1/rules").await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    let body = get(example(), "/prometheus/api/v1/rules").await;
    assert_eq!(body, r#"{"status":"success","data":{"groups":[]}}"#);
    let (status, _, _) = ask(example(), "/loki/api/v1/nosuch").await;
    assert_eq!(status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn fixed_answers_have_what_grafana_reads() {
    let body = get_json(example(), "/loki/api/v1/status/buildinfo").await;
    assert_eq!(body["version"], "3.5.0");
    let body = get_json(example(), "/loki/api/v1/drilldown-limits").await;
    assert_eq!(body["limits"]["max_entries_limit_per_query"], 5_000);
    assert_eq!(body["limits"]["retention_period"], "1209600s");
    assert_eq!(body["pattern_ingester_enabled"], false);
    let body = get_json(example(), "/loki/api/v1/format_query?query={a=\"b\"}|=`c`").await;
    assert_eq!(body["data"], r#"{a="b"} |= "c""#);
    let (status, _, body) = ask(example(), "/loki/api/v1/format_query?query={").await;
    assert_eq!((status, body.contains("invalid-query")), (StatusCode::BAD_REQUEST, true));
}

#[tokio::test]
async fn queries_are_counted_by_outcome() {
    let context = context(example(), Options::default());
    let router = routes("", ENDPOINTS).with_state(context.clone());
    for query in ["vector(1)", "nonsense("] {
        let uri = format!("/loki/api/v1/query?query={query}");
        send(router.clone(), Request::get(uri).body(Body::empty()).unwrap()).await;
    }
    let text = context.counters.expose();
    assert!(text.contains("trilith_queries_total{language=\"logql\",outcome=\"success\"} 1"), "{text}");
    assert!(text.contains("trilith_queries_total{language=\"logql\",outcome=\"bad_data\"} 1"), "{text}");
}

#[tokio::test]
async fn a_tail_sends_old_and_new_lines_once_and_pings() {
    let logs = example();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(axum::serve(listener, router(logs.clone())).into_future());
    let uri = format!("ws://{address}/loki/api/v1/tail?query=%7Benv%3D%22prod%22%7D&limit=1");
    let (mut socket, _) = tokio_tungstenite::connect_async(uri).await.unwrap();
    let mut pinged = false;
    let mut texts: Vec<Value> = Vec::new();
    while texts.len() < 2 || !pinged {
        match socket.next().await.unwrap().unwrap() {
            Message::Ping(_) => pinged = true,
            Message::Text(text) => {
                texts.push(serde_json::from_str(text.as_str()).unwrap());
                let web = labels(&[("service_name", "web"), ("env", "prod")]);
                if texts.len() == 1 {
                    // A late line, older than the newest that was sent.
                    logs.push(&web, (NOW - 2) * SECOND, "late", &Labels::default());
                }
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(
        texts[0],
        json!({"streams": [{"stream": {"env": "prod", "service_name": "web"}, "values": [["1699999980000000001", "plain"]]}],
            "dropped_entries": null})
    );
    assert_eq!(texts[1]["streams"][0]["values"], json!([["1699999998000000000", "late"]]));
    server.abort();
}
