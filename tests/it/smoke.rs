//! What a stock Grafana asks of each data source before anything works: one test a line of its smoke
//! checklist, over a real listener, first on an empty store.

use std::net::SocketAddr;

use serde_json::{Value, json};

use super::doors::{Answer, get, send, server};

const FORM: &str = "Content-Type: application/x-www-form-urlencoded\r\n";
const JSON: &str = "Content-Type: application/json\r\n";

fn body(answer: &Answer, path: &str) -> Value {
    assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    assert!(answer.head.contains("content-type: application/json"), "{path}: {}", answer.head);
    serde_json::from_slice(&answer.body).unwrap()
}

async fn ask_json(main: SocketAddr, path: &str) -> Value {
    body(&get(main, path).await, path)
}

async fn post_form(main: SocketAddr, path: &str, form: &str) -> Answer {
    send(main, "POST", path, FORM, form.as_bytes()).await
}

async fn push(main: SocketAddr, path: &str, content: &Value) {
    let answer = send(main, "POST", path, JSON, content.to_string().as_bytes()).await;
    assert!((200..300).contains(&answer.status), "{path}: {} {}", answer.status, answer.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn prometheus_save_and_test_passes() {
    let (server, _folder) = server().await;
    let main = server.addresses.main;
    let scalar = json!([4, "2"]);
    let posted = post_form(main, "/api/v1/query", "query=1%2B1&time=4").await;
    for answer in [posted, get(main, "/api/v1/query?query=1%2B1&time=4").await] {
        let answer = body(&answer, "query");
        assert_eq!(answer["data"]["resultType"], "scalar");
        assert_eq!(answer["data"]["result"][0].as_f64(), scalar[0].as_f64());
        assert_eq!(answer["data"]["result"][1], "2");
    }
    let build = ask_json(main, "/api/v1/status/buildinfo").await;
    let version: Vec<u32> =
        build["data"]["version"].as_str().unwrap().split('.').map_while(|n| n.parse().ok()).collect();
    assert!(version >= vec![2, 50], "{build}");
    assert!(build["data"].get("features").is_none(), "{build}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn prometheus_answers_every_list_on_an_empty_store() {
    let (server, _folder) = server().await;
    let main = server.addresses.main;
    let exemplars =
        post_form(main, "/api/v1/query_exemplars", "query=test&start=1763797000000&end=1763798800000").await;
    let exemplars = body(&exemplars, "query_exemplars");
    assert_eq!((&exemplars["status"], &exemplars["data"]), (&json!("success"), &json!([])));
    assert_eq!(ask_json(main, "/api/v1/rules").await["data"]["groups"], json!([]));
    assert_eq!(ask_json(main, "/api/v1/alerts").await["data"]["alerts"], json!([]));
    assert_eq!(ask_json(main, "/api/v1/metadata?limit=40000").await["data"], json!({}));
    for path in [
        "/api/v1/label/U__service_2e_name/values",
        "/api/v1/label/job/values?match[]=%7B__name__%3D~%22.%2B%22%2C%7D",
        "/api/v1/label/job/values?limit=0",
        "/api/v1/labels",
    ] {
        assert!(ask_json(main, path).await["data"].is_array(), "{path}");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn prometheus_says_what_is_wrong_with_the_right_status() {
    let (server, _folder) = server().await;
    let main = server.addresses.main;
    let bad = get(main, "/api/v1/query?query=sum(").await;
    assert_eq!(bad.status, 400);
    let bad: Value = serde_json::from_slice(&bad.body).unwrap();
    assert_eq!((&bad["status"], &bad["errorType"]), (&json!("error"), &json!("bad_data")));
    let missing = get(main, "/api/v1/query").await;
    assert_eq!(missing.status, 400);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn loki_save_and_test_passes_below_each_of_its_bases() {
    let (server, _folder) = server().await;
    for base in ["", "/loki"] {
        let path = format!("{base}/loki/api/v1/query?query=vector(1)%2Bvector(1)&time=4000000000&direction=backward");
        let answer = ask_json(server.addresses.main, &path).await;
        assert_eq!(answer["data"]["resultType"], "vector", "{answer}");
        assert_eq!(answer["data"]["result"].as_array().unwrap().len(), 1);
        assert_eq!(answer["data"]["result"][0]["value"][1], "2");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn loki_answers_lines_with_and_without_categories() {
    let (server, _folder) = server().await;
    let main = server.addresses.main;
    let now = chrono::Utc::now().timestamp_nanos_opt().unwrap();
    let values = json!([[now.to_string(), "hello", {"trace_id": "abc"}]]);
    push(main, "/loki/api/v1/push", &json!({"streams": [{"stream": {"app": "a"}, "values": values}]})).await;
    let path = "/loki/api/v1/query_range?query=%7Bapp%3D%22a%22%7D";
    let plain = ask_json(main, path).await;
    assert_eq!(plain["data"]["result"][0]["values"][0], json!([now.to_string(), "hello"]));
    assert_eq!(plain["data"]["result"][0]["stream"]["trace_id"], "abc");
    let flag = "X-Loki-Response-Encoding-Flags: categorize-labels\r\n";
    let answer = send(main, "GET", path, flag, b"").await;
    let text = answer.text();
    let split = body(&answer, path);
    assert_eq!(split["data"]["encodingFlags"], json!(["categorize-labels"]));
    let value = &split["data"]["result"][0]["values"][0];
    assert_eq!((&value[0], &value[1]), (&json!(now.to_string()), &json!("hello")));
    assert_eq!(value[2]["structuredMetadata"]["trace_id"], "abc");
    assert!(split["data"]["result"][0]["stream"].get("trace_id").is_none());
    // Grafana's streaming parser wants these keys in this order.
    assert!(
        text.find("\"resultType\"") < text.find("\"result\":")
            && text.find("\"encodingFlags\"") < text.find("\"result\":")
    );
    let at = now / 1_000_000_000 * 1_000_000_000;
    let labels = ask_json(main, &format!("/loki/api/v1/labels?start={at}&end={at}")).await;
    assert!(labels["data"].as_array().unwrap().contains(&json!("app")), "a zero range means around it: {labels}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn loki_answers_every_list_on_an_empty_store() {
    let (server, _folder) = server().await;
    let main = server.addresses.main;
    assert_eq!(
        ask_json(main, "/loki/api/v1/index/volume?query=%7Bapp%3D~%22.%2B%22%7D").await["data"]["result"],
        json!([])
    );
    let stats = ask_json(main, "/loki/api/v1/index/stats?query=%7Bapp%3D~%22.%2B%22%7D").await;
    assert_eq!(stats["streams"], 0, "{stats}");
    for path in [
        "/loki/api/v1/detected_labels",
        "/loki/api/v1/detected_fields?query=%7Bapp%3D%22a%22%7D",
        "/loki/api/v1/patterns?query=%7Bapp%3D%22a%22%7D",
    ] {
        let answer = get(main, path).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    }
    let rules = ask_json(main, "/prometheus/api/v1/rules").await;
    assert_eq!(rules["data"]["groups"], json!([]));
    let ruler = get(main, "/api/prom/rules/test/test").await;
    assert_eq!(ruler.status, 404);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tempo_save_and_test_passes() {
    let (server, _folder) = server().await;
    let main = server.addresses.main;
    let echo = get(main, "/tempo/api/echo").await;
    assert_eq!((echo.status, echo.text().as_str()), (200, "echo"));
    for path in ["/tempo/api/v2/traces/4bf92f3577b34da6", "/tempo/api/traces/4bf92f3577b34da6"] {
        let answer = send(main, "GET", path, "Accept: application/protobuf\r\n", b"").await;
        assert_eq!(answer.status, 404, "{path}");
    }
    let search = ask_json(main, "/tempo/api/search?q=%7B%7D&limit=20&spss=3").await;
    assert_eq!(search["traces"].as_array().map_or(0, Vec::len), 0);
    let values = get(main, "/tempo/api/v2/search/tag/resource.service.name/values?q=%7Bspan.foo%3D%7D").await;
    assert_eq!(values.status, 200, "a query that is being typed is no error");
    assert!(ask_json(main, "/tempo/api/status/buildinfo").await["version"].is_string());
    server.stop().await;
}

fn otlp_trace() -> Value {
    let now = chrono::Utc::now().timestamp_nanos_opt().unwrap();
    let span = json!({
        "traceId": "4bf92f3577b34da6a3ce929d0e0e4736", "spanId": "00f067aa0ba902b7", "name": "GET /", "kind": 2,
        "startTimeUnixNano": (now - 5_000_000).to_string(), "endTimeUnixNano": now.to_string(), "status": {"code": 2},
    });
    let service = json!([{"key": "service.name", "value": {"stringValue": "team/billing"}}]);
    json!({"resourceSpans": [{"resource": {"attributes": service}, "scopeSpans": [{"spans": [span]}]}]})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trace_in_protobuf_has_every_part_that_the_plugin_reaches_for() {
    let (server, _folder) = server().await;
    let main = server.addresses.main;
    push(main, "/v1/traces", &otlp_trace()).await;
    let path = "/tempo/api/v2/traces/4bf92f3577b34da6a3ce929d0e0e4736";
    let answer = send(main, "GET", path, "Accept: application/protobuf\r\n", b"").await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(answer.head.contains("content-type: application/protobuf"), "{}", answer.head);
    let trace = field(&answer.body, 1).expect("trace");
    let resource_spans = field(trace, 1).expect("resourceSpans");
    assert!(field(resource_spans, 1).is_some(), "resource");
    let scope_spans = field(resource_spans, 2).expect("scopeSpans");
    assert!(field(scope_spans, 1).is_some(), "scope");
    let span = field(scope_spans, 2).expect("span");
    assert!(field(span, 15).is_some(), "status");
    server.stop().await;
}

/// The first length-delimited field of that number in a protobuf message.
fn field(mut bytes: &[u8], wanted: u64) -> Option<&[u8]> {
    while !bytes.is_empty() {
        let key = varint(&mut bytes);
        let (number, kind) = (key >> 3, key & 7);
        let length = match kind {
            0 => {
                varint(&mut bytes);
                0
            }
            1 => 8,
            2 => usize::try_from(varint(&mut bytes)).unwrap(),
            5 => 4,
            _ => panic!("wire type {kind}"),
        };
        let (value, rest) = bytes.split_at(length);
        if number == wanted && kind == 2 {
            return Some(value);
        }
        bytes = rest;
    }
    None
}

fn varint(bytes: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..).step_by(7) {
        let byte = bytes[0];
        *bytes = &bytes[1..];
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            break;
        }
    }
    value
}

#[tokio::test(flavor = "multi_thread")]
async fn jaeger_answers_what_its_plugin_decodes() {
    let (server, _folder) = server().await;
    let main = server.addresses.main;
    push(main, "/v1/traces", &otlp_trace()).await;
    let services = ask_json(main, "/jaeger/api/services").await;
    assert_eq!(services["data"], json!(["team/billing"]));
    for path in ["/jaeger/api/services/team%2Fbilling/operations", "/jaeger/api/services/team/billing/operations"] {
        assert_eq!(ask_json(main, path).await["data"], json!(["GET /"]), "{path}");
    }
    let tags = "tags=%7B%22error%22%3A%22true%22%7D";
    let found = ask_json(main, &format!("/jaeger/api/traces?service=team%2Fbilling&{tags}&lookback=1h&limit=20")).await;
    let traces = found["data"].as_array().unwrap();
    assert_eq!(traces.len(), 1, "{found}");
    for span in traces[0]["spans"].as_array().unwrap() {
        assert!(span["startTime"].is_i64() && span["duration"].is_i64(), "{span}");
        assert!(traces[0]["processes"].get(span["processID"].as_str().unwrap()).is_some(), "{span}");
    }
    assert_eq!(get(main, "/jaeger/api/traces/00000000000000000000000000000001").await.status, 404);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_encodings_prefixes_and_slashes_change_nothing() {
    let (server, _folder) = server().await;
    let main = server.addresses.main;
    let paths = [
        "/api/v1/query?query=1%2B1&time=4",
        "//api/v1/query?query=1%2B1&time=4",
        "/loki/api/v1/query?query=vector(1)%2Bvector(1)&time=4000000000",
        "/loki//loki/api/v1/query?query=vector(1)%2Bvector(1)&time=4000000000",
        "/tempo//api/echo",
        "/jaeger//api/services",
    ];
    for path in paths {
        for headers in
            ["", "X-Scope-OrgID: a|b\r\n", "X-Unheard-Of: 1\r\n", "Accept-Encoding: gzip, deflate, br, zstd\r\n"]
        {
            let answer = send(main, "GET", path, headers, b"").await;
            assert_eq!(answer.status, 200, "{path} with {headers}");
        }
    }
    server.stop().await;
}
