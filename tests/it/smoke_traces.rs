//! Lines 13, 14 and 16 of the smoke checklist: traces as strict decoders read them.

use opentelemetry_proto::tonic::trace::v1::TracesData;
use prost::Message as _;
use serde_json::{Value, json};

use super::doors::{get, send, server};
use super::plugins::{self, jaeger_traces};
use super::shop::{TRACE, fill, now};
use super::trace_api::{TraceByIdResponse, only_known_keys, q};

const PROTOBUF: &str = "Accept: application/protobuf\r\nAccept-Encoding: gzip\r\n";

/// A message whose every byte is known to the schema and whose every part is there.
fn strict(trace: &TracesData) {
    assert!(!trace.resource_spans.is_empty());
    for group in &trace.resource_spans {
        // A resource without attributes loses its spans in the plugin.
        assert!(!group.resource.as_ref().unwrap().attributes.is_empty());
        for scope in &group.scope_spans {
            assert!(scope.scope.is_some() && !scope.spans.is_empty());
            for span in &scope.spans {
                assert!(span.status.is_some() && span.trace_id.len() == 16 && span.span_id.len() == 8);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_strict_decoder_takes_every_trace_and_unknown_ids_are_404() {
    let (server, _folder) = server().await;
    let main = server.addresses.main;
    fill(main, now()).await;
    for flush in [false, true] {
        if flush {
            assert_eq!(send(main, "POST", "/-/flush", "", b"").await.status, 200);
        }
        for id in [TRACE.to_owned(), TRACE.to_uppercase(), format!("{}ff", &TRACE[..30])] {
            let v2 = send(main, "GET", &format!("/tempo/api/v2/traces/{id}"), PROTOBUF, b"").await;
            let v1 = send(main, "GET", &format!("/tempo/api/traces/{id}"), PROTOBUF, b"").await;
            for answer in [&v1, &v2] {
                assert_eq!(answer.status, 200, "{id}: {}", answer.text());
                assert!(answer.head.contains("content-type: application/protobuf"), "{}", answer.head);
            }
            let (v1, v2) = (plugins::plain(&v1, "v1"), plugins::plain(&v2, "v2"));
            let bare = TracesData::decode(v1.as_slice()).unwrap();
            let wrapped = TraceByIdResponse::decode(v2.as_slice()).unwrap();
            assert_eq!(bare.encode_to_vec().len(), v1.len(), "a field that the schema does not know");
            assert_eq!(wrapped.encode_to_vec().len(), v2.len(), "a field that the schema does not know");
            strict(&bare);
            assert_eq!((wrapped.trace.as_ref(), wrapped.status), (Some(&bare), 0));
        }
        for path in ["/tempo/api/v2/traces/dead", "/tempo/api/traces/dead"] {
            for headers in [PROTOBUF, ""] {
                plugins::error(&send(main, "GET", path, headers, b"").await, 404, path);
            }
        }
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_search_has_no_key_that_the_strict_schema_does_not_know() {
    let (server, _folder) = server().await;
    let main = server.addresses.main;
    let search = |query: &str| format!("/tempo/api/search?q={}&limit=20&spss=3", q(query));
    let empty = plugins::json(&get(main, &search("{}")).await, "an empty store");
    assert_eq!(empty["traces"], json!([]));
    assert!(empty["metrics"].is_object());
    only_known_keys(&empty);
    fill(main, now()).await;
    for query in ["{}", "{nestedSetParent<0}", "{} | select(status, kind, span.a/b, duration)", "{} | count() > 1"] {
        let answer = plugins::json(&get(main, &search(query)).await, query);
        only_known_keys(&answer);
        for trace in answer["traces"].as_array().unwrap() {
            assert!(trace["durationMs"].is_u64() || trace.get("durationMs").is_none(), "{trace}");
            assert_eq!(trace["traceID"].as_str().unwrap().len(), 32);
            let sets = trace["spanSets"].as_array().unwrap();
            assert!(sets.iter().all(|set| !set["spans"].as_array().unwrap().is_empty()), "{trace}");
        }
    }
    plugins::error(&get(main, &search("{")).await, 400, "half a query");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn jaeger_names_with_slashes_and_whole_microseconds() {
    let (server, _folder) = server().await;
    let main = server.addresses.main;
    let nothing = plugins::json(&get(main, "/jaeger/api/services").await, "services");
    assert_eq!((&nothing["data"], &nothing["errors"]), (&json!([]), &Value::Null));
    fill(main, now()).await;
    for service in ["cart%2Feu", "cart/eu"] {
        let path = format!("/jaeger/api/services/{service}/operations");
        assert_eq!(plugins::json(&get(main, &path).await, &path)["data"], json!(["GET /", "db"]));
    }
    let path = format!("/jaeger/api/traces?service=cart%2Feu&tags={}&lookback=1h&limit=20", q("{\"error\":\"true\"}"));
    let found = plugins::json(&get(main, &path).await, &path);
    assert_eq!(found["data"].as_array().unwrap().len(), 6);
    jaeger_traces(&found, &path);
    let unknown = plugins::json(&get(main, "/jaeger/api/traces?service=nobody&lookback=1h").await, "nobody");
    assert_eq!(unknown["data"], json!([]));
    assert_eq!(get(main, "/jaeger/api/traces/dead").await.status, 404);
    server.stop().await;
}
