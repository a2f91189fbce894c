//! The API of Jaeger, as Grafana calls it.

use axum::http::StatusCode;
use serde_json::{Value, json};

use super::trace_api::{ID, json_of, q, refused};

#[tokio::test]
async fn jaeger_lists_services_and_operations_also_with_slashes() {
    let services = json_of("/jaeger/api/services").await;
    assert_eq!(services["data"], json!(["shop", "team/billing"]));
    assert_eq!((&services["total"], &services["errors"]), (&json!(2), &json!(null)));
    for service in ["team/billing", "team%2Fbilling"] {
        let answer = json_of(&format!("/jaeger/api/services/{service}/operations")).await;
        assert_eq!(answer["data"], json!(["pay"]), "{service}");
    }
    assert_eq!(json_of("/jaeger/api/services/none/operations").await["data"], json!([]));
    let answer = json_of("/jaeger/api/operations?service=shop&spanKind=server").await;
    assert_eq!(answer["data"], json!([{"name": "GET /", "spanKind": "server"}]));
    assert_eq!(json_of("/jaeger/api/v3/services").await, json!({"services": ["shop", "team/billing"]}));
    let answer = json_of("/jaeger/api/v3/operations?service=team/billing").await;
    assert_eq!(answer, json!({"operations": [{"name": "pay", "spanKind": "client"}]}));
}

#[tokio::test]
async fn jaeger_searches_by_what_is_known_of_a_span() {
    let count = async |parameters: &str| {
        let path = format!("/jaeger/api/traces?start=1000000&end=200000000&limit=20&{parameters}");
        let answer = json_of(&path).await;
        for trace in answer["data"].as_array().unwrap() {
            assert!(!trace["spans"].as_array().unwrap().is_empty());
            for span in trace["spans"].as_array().unwrap() {
                assert!(span["startTime"].is_i64() && span["duration"].is_i64(), "{span}");
                assert!(trace["processes"][span["processID"].as_str().unwrap()]["serviceName"].is_string());
            }
        }
        answer["data"].as_array().unwrap().len()
    };
    let error = q(r#"{"error":"true"}"#);
    assert_eq!(count("service=shop").await, 2);
    assert_eq!(count("service=team%2Fbilling&operation=pay").await, 1);
    assert_eq!(count(&format!("service=team%2Fbilling&tags={error}")).await, 1);
    assert_eq!(count(&format!("service=shop&tags={error}")).await, 0);
    assert_eq!(count(&format!("service=shop&tags={}", q(r#"{"http.status_code":"200"}"#))).await, 1);
    assert_eq!(count("service=shop&minDuration=1.2s").await, 0);
    assert_eq!(count("service=shop&minDuration=100ms&maxDuration=1s").await, 1);
    assert_eq!(count("service=none").await, 0);
    for parameters in ["", "service=shop&tags=x", "service=shop&limit=0", "service=shop&minDuration=x", "traceID=xyz"] {
        let text = refused(&format!("/jaeger/api/traces?{parameters}"), StatusCode::BAD_REQUEST).await;
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap()["errors"][0]["code"], 400);
    }
}

#[tokio::test]
async fn jaeger_shows_a_trace_with_its_processes() {
    let answer = json_of(&format!("/jaeger/api/traces/{ID}?start=1&end=2")).await;
    let trace = &answer["data"][0];
    let pay = trace["spans"].as_array().unwrap().iter().find(|span| span["operationName"] == "pay").unwrap();
    assert_eq!(pay["references"], json!([{"refType": "CHILD_OF", "traceID": ID, "spanID": "0000000000000001"}]));
    assert_eq!((&pay["startTime"], &pay["duration"]), (&json!(100_100_000), &json!(100_000)));
    assert!(pay["tags"].as_array().unwrap().contains(&json!({"key": "error", "type": "bool", "value": true})));
    assert_eq!(trace["processes"][pay["processID"].as_str().unwrap()]["serviceName"], "team/billing");
    let text = refused("/jaeger/api/traces/abc", StatusCode::NOT_FOUND).await;
    let failure: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        (&failure["data"], &failure["errors"][0]),
        (&json!(null), &json!({"code": 404, "msg": "trace not found"}))
    );
    let v3 = json_of(&format!("/jaeger/api/v3/traces/{ID}")).await;
    let span = &v3["result"]["resourceSpans"][0]["scopeSpans"][0]["spans"][0];
    assert_eq!((&span["traceId"], &span["kind"]), (&json!(ID), &json!(2)));
}

#[tokio::test]
async fn jaeger_tells_who_calls_whom() {
    let answer = json_of("/jaeger/api/dependencies?endTs=200000&lookback=190000").await;
    assert_eq!(answer["data"], json!([{"parent": "shop", "child": "team/billing", "callCount": 1}]));
    refused("/jaeger/api/dependencies", StatusCode::BAD_REQUEST).await;
}
