//! What the Prometheus API answers to requests that are odd or wrong: as a Prometheus would.

use serde_json::Value;

use super::doors::{get, send, server};

#[tokio::test(flavor = "multi_thread")]
async fn odd_requests_are_answered_as_a_prometheus_answers_them() {
    let (server, _folder) = server().await;
    let main = server.addresses.main;
    let bad = |text: &str| (400, "bad_data", text.to_owned());
    let wrong = |name: &str| {
        bad(&format!(
            "invalid parameter \"query\": invalid expression type {name:?} for range query, must be Scalar or instant Vector"
        ))
    };
    for (path, (status, kind, error)) in [
        ("query?query=1%2B%2B", bad("invalid parameter \"query\": 1:4: parse error: unexpected end of input")),
        ("query", bad("invalid parameter \"query\": 1:1: parse error: no expression found in input")),
        ("format_query?query=1%2B%2B", bad("invalid parameter \"query\": 1:4: parse error: unexpected end of input")),
        ("query_range?query=up%5B1m%5D&start=1&end=2&step=1", wrong("range vector")),
        ("query_range?query=(up%5B1m:1s%5D)&start=1&end=2&step=1", wrong("range vector")),
        ("query_range?query=%22x%22&start=1&end=2&step=1", wrong("string")),
        (
            "query_range?query=up&start=2&end=1&step=1",
            bad("invalid parameter \"end\": end timestamp must not be before start time"),
        ),
        (
            "query_range?query=up&start=1&end=2&step=0",
            bad("invalid parameter \"step\": zero or negative query resolution step widths are not accepted. Try a \
                 positive integer"),
        ),
        ("rules?type=neither", bad("invalid parameter \"type\": not supported value \"neither\"")),
    ] {
        let answer = get(main, &format!("/api/v1/{path}")).await;
        let body: Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!((answer.status, &body["errorType"]), (status, &kind.into()), "{path}: {body}");
        assert_eq!(body["error"], error, "{path}");
    }
    for path in [
        "query?query=vector(1)&time=4&lookback_delta=0",
        "query?query=vector(1)&time=4&lookback_delta=-1",
        "labels?start=2&end=1",
        "series?match%5B%5D=up&start=2&end=1",
        "label/job/values?start=2&end=1",
        "rules?type=record",
    ] {
        let answer = get(main, &format!("/api/v1/{path}")).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_another_origin_may_ask_before_it_asks() {
    let (server, _folder) = server().await;
    let asks = "Origin: http://x\r\nAccess-Control-Request-Method: POST\r\n";
    for path in ["/api/v1/query", "/api/v1/label/job/values", "/federate"] {
        let answer = send(server.addresses.main, "OPTIONS", path, asks, b"").await;
        assert_eq!(answer.status, 204, "{path}: {}", answer.text());
        assert!(answer.head.contains("access-control-allow-origin: *\r\n"), "{path}: {}", answer.head);
        assert!(answer.head.contains("access-control-allow-methods: get, post, options\r\n"), "{path}");
    }
    assert_eq!(send(server.addresses.main, "PUT", "/api/v1/query", "", b"").await.status, 405);
    // But not what changes the store, with or without asking before.
    for method in ["OPTIONS", "POST"] {
        let answer = send(server.addresses.main, method, "/api/v1/admin/tsdb/delete_series", asks, b"").await;
        assert!(matches!(answer.status, 403 | 405), "{method}: {}", answer.text());
        assert!(!answer.head.contains("access-control-allow"), "{method}: {}", answer.head);
    }
    server.stop().await;
}
