//! The API of Tempo, as Grafana calls it: shapes, parameters, errors. Protobuf answers
//! are decoded strictly, JSON answers of searches are checked against the keys that Grafana knows.

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{Method, Request, StatusCode};
use axum::response::Response;
use http_body_util::BodyExt as _;
use opentelemetry_proto::tonic::trace::v1::TracesData;
use prost::Message as _;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use trilith::api::{Context, jaeger, routes, tempo};
use trilith::base::counters::Counters;
use trilith::query::{Engine, Options};
use trilith::store::memory::Nothing;
use trilith::wire::tempo as wire;

use super::support::ManualClock;
use super::traceql::span;
use super::vec_traces::VecTraces;

pub(super) const ID: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

fn context(store: VecTraces) -> Context {
    Context {
        metrics: Arc::new(Nothing),
        logs: Arc::new(Nothing),
        traces: Arc::new(store),
        engine: Engine::default(),
        clock: Arc::new(ManualClock::at_ns(200_000_000_000)),
        counters: Counters::default(),
        places: trilith::api::Places::new(4),
        flows: trilith::api::Flows::new(4),
        server_info: Default::default(),
        retention_logs: None,
    }
}

fn app(context: Context) -> Router {
    routes("/tempo", tempo::ENDPOINTS)
        .merge(routes("", tempo::GRPC_ENDPOINTS))
        .merge(routes("/jaeger", jaeger::ENDPOINTS))
        .with_state(context)
}

/// A shop that calls a team's billing, from 100 s on, and a trace whose root never came.
fn shop() -> VecTraces {
    let shop = [
        "1 - \"GET /\" 100000 100557.9 service=shop kind=server span.http.status_code=200 span.ratio=7.0 resource.host=a",
        "2 1 pay 100100 100200 service=team/billing kind=client status=error message=boom span.http.status_code=500 \
         event.exception.exception.message=no span.flag=true span.a/b=x",
    ];
    let stray = ["9 8 late 90000 90001 service=shop"];
    let stray = stray.iter().map(|line| span("f", line)).collect();
    VecTraces(vec![shop.iter().map(|line| span(ID, line)).collect(), stray])
}

async fn call(request: Request<Body>) -> Response {
    app(context(shop())).oneshot(request).await.unwrap()
}

async fn get_with(path: &str, accept: &str) -> (StatusCode, String, Bytes) {
    // What Grafana and its users send along; no tenant, and headers that mean nothing here.
    let request = Request::get(path)
        .header("accept", accept)
        .header("user-agent", "Grafana/13.0.1")
        .header("x-datasource-uid", "c91e98f4")
        .header("x-whatever", "1");
    let response = call(request.body(Body::empty()).unwrap()).await;
    let status = response.status();
    let kind = response.headers().get("content-type").map(|value| value.to_str().unwrap().to_owned());
    (status, kind.unwrap_or_default(), response.into_body().collect().await.unwrap().to_bytes())
}

pub(super) async fn json_of(path: &str) -> Value {
    let (status, kind, body) = get_with(path, "application/json").await;
    assert_eq!(status, StatusCode::OK, "{path}: {}", String::from_utf8_lossy(&body));
    assert_eq!(kind, "application/json", "{path}");
    serde_json::from_slice(&body).unwrap()
}

pub(super) async fn refused(path: &str, wanted: StatusCode) -> String {
    let (status, kind, body) = get_with(path, "application/json").await;
    let text = String::from_utf8(body.to_vec()).unwrap();
    assert_eq!(status, wanted, "{path}: {text}");
    assert!(kind.starts_with("text/plain") || kind == "application/json", "{path}: {kind}");
    text
}

/// Query text as part of a URL.
pub(super) fn q(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

/// Fails on a key that Grafana's strict decoder does not know.
pub(super) fn only_known_keys(answer: &Value) {
    fn check(value: &Value, known: &[&str]) {
        for key in value.as_object().unwrap().keys() {
            assert!(known.contains(&key.as_str()), "{key} is unknown in {value}");
        }
    }
    fn attributes(value: &Value) {
        for pair in value["attributes"].as_array().into_iter().flatten() {
            check(pair, &["key", "value"]);
            check(&pair["value"], &["stringValue", "intValue", "doubleValue", "boolValue", "arrayValue"]);
        }
    }
    fn set(value: &Value) {
        check(value, &["spans", "matched", "attributes"]);
        attributes(value);
        for span in value["spans"].as_array().unwrap() {
            check(span, &["spanID", "name", "startTimeUnixNano", "durationNanos", "attributes"]);
            assert!(span["startTimeUnixNano"].is_string() && span["durationNanos"].is_string(), "{span}");
            attributes(span);
        }
    }
    check(answer, &["traces", "metrics"]);
    let metrics = ["inspectedTraces", "inspectedBytes", "totalBlocks", "completedJobs", "totalJobs", "totalBlockBytes"];
    check(&answer["metrics"], &[metrics.as_slice(), &["inspectedSpans"]].concat());
    for trace in answer["traces"].as_array().unwrap() {
        let known = ["traceID", "rootServiceName", "rootTraceName", "startTimeUnixNano", "durationMs", "spanSet"];
        check(trace, &[known.as_slice(), &["spanSets", "serviceStats"]].concat());
        assert!(trace["startTimeUnixNano"].is_string(), "{trace}");
        assert!(!trace["spanSets"].as_array().unwrap().is_empty(), "{trace}");
        trace["spanSets"].as_array().unwrap().iter().for_each(set);
        set(&trace["spanSet"]);
        for stats in trace["serviceStats"].as_object().unwrap().values() {
            check(stats, &["spanCount", "errorCount"]);
        }
    }
}

#[tokio::test]
async fn echo_and_buildinfo_answer() {
    let (status, _, body) = get_with("/tempo/api/echo", "*/*").await;
    assert_eq!((status, body.as_ref()), (StatusCode::OK, b"echo".as_slice()));
    assert!(json_of("/tempo/api/status/buildinfo").await["version"].is_string());
}

/// Nothing in it is counted.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct TraceByIdMetrics {}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct TraceByIdResponse {
    #[prost(message, optional, tag = "1")]
    pub(super) trace: Option<TracesData>,
    #[prost(message, optional, tag = "2")]
    pub(super) metrics: Option<TraceByIdMetrics>,
    #[prost(int32, tag = "3")]
    pub(super) status: i32,
}

fn complete(trace: &TracesData) {
    assert_eq!(trace.resource_spans.len(), 2);
    for group in &trace.resource_spans {
        assert!(!group.resource.as_ref().unwrap().attributes.is_empty());
        for scope in &group.scope_spans {
            assert!(scope.scope.is_some());
            assert!(scope.spans.iter().all(|span| span.status.is_some()));
        }
    }
}

#[tokio::test]
async fn traces_by_id_are_protobuf_or_json_as_asked() {
    let (status, kind, body) = get_with(&format!("/tempo/api/v2/traces/{ID}"), "application/protobuf").await;
    assert_eq!((status, kind.as_str()), (StatusCode::OK, "application/protobuf"));
    let answer = TraceByIdResponse::decode(body).unwrap();
    complete(answer.trace.as_ref().unwrap());
    assert_eq!(answer.status, 0);

    let (_, kind, body) = get_with(&format!("/tempo/api/traces/{ID}"), "application/protobuf").await;
    assert_eq!(kind, "application/protobuf");
    complete(&TracesData::decode(body).unwrap());

    let v1 = json_of(&format!("/tempo/api/traces/{}", ID.to_uppercase())).await;
    let span = &v1["batches"][0]["scopeSpans"][0]["spans"][0];
    assert_eq!(span["traceId"], "S/kvNXezTaajzpKdDg5HNg==");
    assert_eq!((&span["kind"], &span["status"]), (&json!("SPAN_KIND_SERVER"), &json!({})));
    assert_eq!(span["startTimeUnixNano"], "100000000000");
    let v2 = json_of(&format!("/tempo/api/v2/traces/{ID}?start=1&end=2")).await;
    assert_eq!(v2["trace"]["resourceSpans"], v1["batches"]);
}

#[tokio::test]
async fn unknown_ids_are_not_found_and_wrong_ones_are_refused() {
    for base in ["/tempo/api/traces", "/tempo/api/v2/traces", "/jaeger/api/traces", "/jaeger/api/v3/traces"] {
        refused(&format!("{base}/abc"), StatusCode::NOT_FOUND).await;
        refused(&format!("{base}/xyz"), StatusCode::BAD_REQUEST).await;
        refused(&format!("{base}/{}", "1".repeat(33)), StatusCode::BAD_REQUEST).await;
        // A short id has lost its zeros.
        json_of(&format!("{base}/F")).await;
    }
}

#[tokio::test]
async fn a_trace_too_large_for_a_query_is_an_error_that_says_so() {
    let line = format!("2 1 work 1 2 service=shop span.text={}", "x".repeat(1_000));
    let spans = (0..5_000).map(|_| span(ID, &line)).collect();
    let options = Options { memory_max: 4 << 20, ..Options::default() };
    let context = Context { engine: Engine::new(options, None), ..context(VecTraces(vec![spans])) };
    let jaeger = format!("/jaeger/api/traces?traceID={ID}");
    for (path, accept) in [
        (format!("/tempo/api/traces/{ID}"), "*/*"),
        (format!("/tempo/api/v2/traces/{ID}"), "application/protobuf"),
        (format!("/jaeger/api/traces/{ID}"), "*/*"),
        (format!("/jaeger/api/v3/traces/{ID}"), "*/*"),
        (jaeger, "*/*"),
        ("/tempo/api/search?q=%7B%7D%20%7C%20count()%20%3E%201".to_owned(), "*/*"),
    ] {
        let request = Request::get(&path).header("accept", accept).body(Body::empty()).unwrap();
        let response = app(context.clone()).oneshot(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::UNPROCESSABLE_ENTITY, "{path}");
        let text = response.into_body().collect().await.unwrap().to_bytes();
        let text = String::from_utf8_lossy(&text).into_owned();
        assert!(text.contains("--query-memory-max"), "{path}: {text}");
    }
}

#[tokio::test]
async fn a_filter_on_a_trace_drops_spans_and_says_partial() {
    let path = format!("/tempo/api/v2/traces/{ID}?q=");
    let answer = json_of(&(path.clone() + &q("{ status = error }"))).await;
    assert_eq!(answer["status"], "PARTIAL");
    assert_eq!(answer["trace"]["resourceSpans"].as_array().unwrap().len(), 1);
    for query in ["{} | count() > 1", "{} >> {}", "{ rootName = \"x\" }", "{} | rate()"] {
        refused(&(path.clone() + &q(query)), StatusCode::BAD_REQUEST).await;
    }
}

#[tokio::test]
async fn a_search_answers_with_known_keys_alone() {
    let query = "{ span.http.status_code >= 200 } | select(status, nestedSetLeft, span.ratio, span.flag) | by(kind)";
    let answer = json_of(&format!("/tempo/api/search?q={}&limit=5&spss=3&start=1&end=200", q(query))).await;
    only_known_keys(&answer);
    let trace = &answer["traces"][0];
    assert_eq!((&trace["traceID"], &trace["durationMs"]), (&json!(ID), &json!(557)));
    assert_eq!((&trace["rootServiceName"], &trace["rootTraceName"]), (&json!("shop"), &json!("GET /")));
    assert_eq!(
        trace["serviceStats"],
        json!({"shop": {"spanCount": 1}, "team/billing": {"spanCount": 1, "errorCount": 1}})
    );
    let set = &trace["spanSets"][0];
    assert_eq!(set["attributes"], json!([{"key": "by(kind)", "value": {"stringValue": "client"}}]));
    assert_eq!(
        set["spans"][0]["attributes"],
        json!([
            {"key": "http.status_code", "value": {"intValue": "500"}},
            {"key": "status", "value": {"stringValue": "error"}},
            {"key": "nestedSetLeft", "value": {"intValue": "2"}},
            {"key": "flag", "value": {"boolValue": true}},
            {"key": "kind", "value": {"stringValue": "client"}},
        ])
    );
    let everything = json_of("/tempo/api/search").await;
    only_known_keys(&everything);
    assert_eq!(everything["traces"].as_array().unwrap().len(), 2);
    assert_eq!(everything["traces"][1]["rootServiceName"], "<root span not yet received>");
    assert_eq!(everything["traces"][1]["traceID"], format!("{:032x}", 0xf));
    let nothing = json_of(&format!("/tempo/api/search?q={}", q("{ .none = 1 }"))).await;
    assert_eq!(nothing["traces"], json!([]));
}

#[tokio::test]
async fn a_search_by_tags_compares_text_and_the_duration_of_the_trace() {
    let count = async |path: &str| json_of(path).await["traces"].as_array().unwrap().len();
    assert_eq!(count("/tempo/api/search?tags=http.status_code%3D500").await, 1);
    assert_eq!(count("/tempo/api/search?tags=service.name%3Dbill").await, 1);
    assert_eq!(count("/tempo/api/search?tags=service.name%3DBill").await, 0);
    assert_eq!(count("/tempo/api/search?tags=http.status_code%3D50").await, 0);
    assert_eq!(count("/tempo/api/search?tags=name%3D%22GET+%2F%22+host%3Da").await, 1);
    assert_eq!(count("/tempo/api/search?tags=error%3Dtrue").await, 1);
    // The span that fails lasts 100 ms, its trace longer.
    assert_eq!(count("/tempo/api/search?tags=error%3Dtrue&minDuration=500ms").await, 1);
    assert_eq!(count("/tempo/api/search?tags=error%3Dtrue&maxDuration=500ms").await, 0);
}

#[tokio::test]
async fn wrong_parameters_are_refused_with_a_line_of_text() {
    for parameters in [
        "limit=0",
        "limit=x",
        "limit=-1",
        "limit=1000000000",
        "spss=101",
        "spss=0",
        "start=1",
        "end=1",
        "start=5&end=5",
        "start=6&end=5",
        "q=%7B%7D&tags=a%3Db",
        "q=%7B",
        "q=%7B%7D%7Crate()",
        "tags=a",
        "minDuration=x",
        "minDuration=2s&maxDuration=1s",
        "start=1&end=99999999999999999",
    ] {
        let text = refused(&format!("/tempo/api/search?{parameters}"), StatusCode::BAD_REQUEST).await;
        assert!(!text.is_empty() && !text.contains('\n'), "{parameters}: {text}");
    }
}

#[tokio::test]
async fn a_search_by_post_reads_the_form() {
    let request = Request::post("/tempo/api/search?limit=1")
        .header("content-type", "application/x-www-form-urlencoded")
        .body(Body::from("q=%7Bstatus%3Derror%7D"))
        .unwrap();
    let body = call(request).await.into_body().collect().await.unwrap().to_bytes();
    let answer: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(answer["traces"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn names_of_tags_come_by_scope() {
    let answer = json_of("/tempo/api/v2/search/tags?limit=5000&start=1&end=200").await;
    let scopes = answer["scopes"].as_array().unwrap();
    let tags = |name: &str| scopes.iter().find(|scope| scope["name"] == name).map(|scope| scope["tags"].clone());
    assert_eq!(tags("resource"), Some(json!(["host", "service.name"])));
    assert_eq!(tags("event"), Some(json!(["exception.message"])));
    assert!(tags("intrinsic").unwrap().as_array().unwrap().contains(&json!("duration")));
    let filtered = json_of(&format!("/tempo/api/v2/search/tags?scope=span&q={}", q("{ status = error }"))).await;
    assert_eq!(filtered["scopes"], json!([{"name": "span", "tags": ["a/b", "flag", "http.status_code"]}]));
    let v1 = json_of("/tempo/api/search/tags").await;
    assert_eq!(
        v1["tagNames"],
        json!(["a/b", "exception.message", "flag", "host", "http.status_code", "ratio", "service.name"])
    );
    assert!(json_of("/tempo/api/search/tags?scope=none").await["tagNames"].is_array());
    refused("/tempo/api/v2/search/tags?scope=all", StatusCode::BAD_REQUEST).await;
    let few = json_of("/tempo/api/v2/search/tags?limit=4").await;
    assert_eq!(few["scopes"].as_array().unwrap().len(), 4);
}

async fn values(tag: &str, query: &str) -> Vec<String> {
    let answer = json_of(&format!("/tempo/api/v2/search/tag/{tag}/values?limit=5000&tag=x&q={}", q(query))).await;
    let values = answer["tagValues"].as_array().unwrap();
    values
        .iter()
        .map(|value| format!("{}:{}", value["type"].as_str().unwrap(), value["value"].as_str().unwrap()))
        .collect()
}

#[tokio::test]
async fn values_of_tags_have_types() {
    assert_eq!(values("resource.service.name", "{}").await, ["string:shop", "string:team/billing"]);
    assert_eq!(values("span.http.status_code", "{}").await, ["int:200", "int:500"]);
    assert_eq!(values(".ratio", "{}").await, ["float:7.0"]);
    assert_eq!(values("span.flag", "{}").await, ["bool:true"]);
    assert_eq!(values("status", "{}").await, ["keyword:error", "keyword:ok", "keyword:unset"]);
    assert_eq!(values("name", "{}").await, ["string:GET /", "string:late", "string:pay"]);
    assert_eq!(values("rootName", "{}").await, ["string:GET /"]);
    assert_eq!(values("duration", "{}").await, Vec::<String>::new());
    assert_eq!(values("span.a/b", "{}").await, ["string:x"]);
    assert_eq!(values("span.a%2Fb", "{}").await, ["string:x"]);
    let v1 = json_of("/tempo/api/search/tag/service.name/values").await;
    assert_eq!(v1["tagValues"], json!(["shop", "team/billing"]));
}

#[tokio::test]
async fn what_an_editor_sends_while_somebody_types_is_no_error() {
    let all = ["string:shop", "string:team/billing"];
    for query in ["{span.foo=}", "{", "{ .a = } >> {}", "{} >> {}", "{} | rate()", "{}", ""] {
        assert_eq!(values("resource.service.name", query).await, all, "{query}");
    }
    assert_eq!(values("resource.service.name", "{ status = error }").await, ["string:team/billing"]);
    assert_eq!(values("resource.service.name", "{ status = error && span.foo= }").await, ["string:team/billing"]);
}

#[tokio::test]
async fn metrics_are_samples_on_a_grid() {
    let path = format!("/tempo/api/metrics/query_range?q={}&start=60&end=120&step=30s", q("{} | rate() by(name)"));
    let answer = json_of(&path).await;
    let series = answer["series"].as_array().unwrap();
    assert_eq!(series.len(), 3);
    assert_eq!(series[0]["labels"], json!([{"key": "name", "value": {"stringValue": "GET /"}}]));
    let samples = &series[0]["samples"];
    assert_eq!(samples[0], json!({"timestampMs": "60000"}));
    assert_eq!(samples[2], json!({"timestampMs": "120000", "value": 1.0 / 30.0}));
    let exemplar = &series[0]["exemplars"][0];
    assert_eq!(exemplar["labels"], json!([{"key": "trace:id", "value": {"stringValue": ID}}]));
    assert_eq!(exemplar["timestampMs"], "100000");

    let nanos = json_of(&path.replace("start=60", "start=60000000000")).await;
    assert_eq!(nanos["series"], answer["series"]);
    let instant =
        json_of(&format!("/tempo/api/metrics/query?q={}&start=60&end=120", q("{} | count_over_time()"))).await;
    assert_eq!(
        instant["series"],
        json!([{"labels": [{"key": "__name__", "value": {"stringValue": "count_over_time"}}], "value": 3.0}])
    );
    for parameters in ["step=0", "step=x", "start=5&end=5", "step=1ms&start=1&end=3600", "start=yesterday"] {
        let query = q("{} | rate()");
        refused(&format!("/tempo/api/metrics/query_range?q={query}&{parameters}"), StatusCode::BAD_REQUEST).await;
    }
    refused("/tempo/api/metrics/query_range?q=%7B%7D", StatusCode::BAD_REQUEST).await;
}

pub(super) fn frame(message: &impl wire::Encode) -> Vec<u8> {
    let bytes = wire::encode(message);
    let mut frame = vec![0];
    frame.extend(u32::try_from(bytes.len()).unwrap().to_be_bytes());
    frame.extend(bytes);
    frame
}

/// Messages and status of a gRPC answer.
async fn grpc(method: &str, body: Vec<u8>) -> (Vec<Vec<u8>>, String) {
    let request = Request::builder()
        .method(Method::POST)
        .uri(format!("/tempopb.StreamingQuerier/{method}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Body::from(body))
        .unwrap();
    let response = call(request).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()["content-type"], "application/grpc");
    let in_head = response.headers().get("grpc-status").cloned();
    let body = response.into_body().collect().await.unwrap();
    let status = in_head.or_else(|| body.trailers().unwrap().get("grpc-status").cloned()).unwrap();
    let bytes = body.to_bytes();
    let mut rest = bytes.as_ref();
    let mut messages = Vec::new();
    while let Some((head, tail)) = rest.split_first_chunk::<5>() {
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
        messages.push(tail[..length].to_vec());
        rest = &tail[length..];
    }
    (messages, status.to_str().unwrap().to_owned())
}

#[tokio::test]
async fn streaming_queries_answer_with_messages_and_trailers() {
    // The health check of a datasource with streaming on.
    let request = wire::SearchRequest { query: "{}".into(), limit: 1, start: 1, end: 200, ..Default::default() };
    let (messages, status) = grpc("Search", frame(&request)).await;
    assert_eq!(status, "0");
    let answer: wire::SearchResponse = wire::decode(&messages[0]).unwrap();
    assert_eq!(answer.traces.len(), 1);
    assert_eq!(answer.traces[0].trace_id, ID);
    assert_eq!(answer.traces[0].span_sets[0].matched, 2);

    let (messages, status) = grpc("Search", frame(&wire::SearchRequest::default())).await;
    assert_eq!((messages.len(), status.as_str()), (1, "0"));

    let second = 1_000_000_000;
    let request = wire::QueryRangeRequest {
        query: "{} | rate()".into(),
        start: 60 * second,
        end: 120 * second,
        step: 30 * second,
        ..Default::default()
    };
    let (messages, status) = grpc("MetricsQueryRange", frame(&request)).await;
    assert_eq!(status, "0");
    let answer: wire::QueryRangeResponse = wire::decode(&messages[0]).unwrap();
    assert_eq!(answer.series[0].samples.len(), 3);
    let (messages, _) = grpc("MetricsQueryInstant", frame(&request)).await;
    let answer: wire::QueryInstantResponse = wire::decode(&messages[0]).unwrap();
    assert_eq!(answer.series.len(), 1);

    let (messages, _) = grpc("SearchTagsV2", frame(&wire::SearchTagsRequest::default())).await;
    let answer: wire::SearchTagsV2Response = wire::decode(&messages[0]).unwrap();
    assert_eq!(answer.scopes[0].name, "resource");
    let request = wire::SearchTagValuesRequest { tag_name: "span.http.status_code".into(), ..Default::default() };
    let (messages, _) = grpc("SearchTagValues", frame(&request)).await;
    let answer: wire::SearchTagValuesResponse = wire::decode(&messages[0]).unwrap();
    assert_eq!(answer.tag_values, ["200", "500"]);
}

#[tokio::test]
async fn broken_grpc_requests_get_a_status() {
    let wrong = wire::SearchRequest { query: "{".into(), ..Default::default() };
    assert_eq!(grpc("Search", frame(&wrong)).await.1, "3");
    assert_eq!(grpc("Search", Vec::new()).await.1, "3");
    assert_eq!(grpc("Search", vec![0, 255, 255, 255, 255, 1]).await.1, "8", "four GiB are announced");
    assert_eq!(grpc("Search", vec![1, 0, 0, 0, 0]).await.1, "3");
    assert_eq!(grpc("Search", vec![0, 0, 0, 0, 1, 255]).await.1, "3");
    assert_eq!(grpc("Search", vec![0; 2 << 20]).await.1, "8");
}

#[tokio::test]
async fn a_search_by_tens_of_thousands_of_tags_is_refused_over_grpc_as_over_http() {
    let tags = (0..60_000).map(|at| (format!("t{at}"), "x".to_owned())).collect();
    let many = wire::SearchRequest { tags, ..Default::default() };
    assert_eq!(grpc("Search", frame(&many)).await.1, "3");
    let tags: String = (0..101).map(|at| format!("t{at}=x+")).collect();
    assert!(refused(&format!("/tempo/api/search?tags={tags}"), StatusCode::BAD_REQUEST).await.contains("100"));
}

#[tokio::test]
async fn unknown_paths_are_not_found() {
    for path in ["/tempo/api/overrides", "/tempo/api/v2/search/tag/x/y", "/jaeger/api/services/a", "/jaeger/api/x"] {
        let (status, _, _) = get_with(path, "*/*").await;
        assert_eq!(status, StatusCode::NOT_FOUND, "{path}");
    }
}

#[tokio::test]
async fn queries_are_counted_by_outcome() {
    let context = context(shop());
    for path in ["/tempo/api/search", "/tempo/api/metrics/query_range?q=%7B%7D"] {
        let request = Request::get(path).body(Body::empty()).unwrap();
        app(context.clone()).oneshot(request).await.unwrap();
    }
    let text = context.counters.expose();
    assert!(text.contains("trilith_queries_total{language=\"traceql\",outcome=\"ok\"} 1"), "{text}");
    assert!(text.contains("trilith_queries_total{language=\"traceql\",outcome=\"bad_data\"} 1"), "{text}");
}
