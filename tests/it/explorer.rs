//! The cardinality explorer over a real store: what is counted in memory, in parts, and by time.

use std::net::SocketAddr;

use serde_json::{Value, json};

use super::bodies::{Series, remote_write};
use super::doors::{get, send, server};

const HOUR_MS: i64 = 3_600_000;

async fn write(main: SocketAddr, series: &[Series<'_>]) {
    let headers = "Content-Encoding: snappy\r\nContent-Type: application/x-protobuf\r\n";
    assert_eq!(send(main, "POST", "/api/v1/write", headers, &remote_write(series)).await.status, 204);
}

async fn explore(main: SocketAddr, params: &str) -> Value {
    let answer = get(main, &format!("/api/v1/status/tsdb?{params}")).await;
    assert_eq!(answer.status, 200, "{params}: {}", answer.text());
    serde_json::from_slice::<Value>(&answer.body).unwrap()["data"].take()
}

/// Three series of `up` and one of `down`, six pairs in all.
fn check(data: &Value) {
    let stats = &data["headStats"];
    assert_eq!((&stats["numSeries"], &stats["numLabelPairs"]), (&json!(4), &json!(6)), "{data}");
    let row = |name: &str, value: u64| json!({"name": name, "value": value});
    assert_eq!(data["seriesCountByMetricName"], json!([row("up", 3), row("down", 1)]));
    assert_eq!(data["labelValueCountByLabelName"], json!([row("i", 3), row("__name__", 2), row("job", 1)]));
    assert_eq!(data["memoryInBytesByLabelName"], json!([row("__name__", 6), row("i", 3), row("job", 3)]));
    assert_eq!(data["seriesCountByLabelValuePair"][0], row("job=abc", 4));
}

#[tokio::test(flavor = "multi_thread")]
async fn series_are_counted_in_memory_in_parts_and_by_time() {
    let (server, _folder) = server().await;
    let main = server.addresses.main;
    let now = chrono::Utc::now().timestamp_millis();
    let one = |name: &'static str, i: &'static str, t: i64| Series {
        labels: vec![("__name__", name), ("job", "abc"), ("i", i)].into_iter().filter(|(_, v)| !v.is_empty()).collect(),
        samples: vec![(t, 1.0)],
    };
    let series = ["1", "2", "3"].map(|i| one("up", i, now - 60_000));
    write(main, &series).await;
    write(main, &[one("down", "", now - 60_000)]).await;
    let in_memory = explore(main, "").await;
    check(&in_memory);
    let span = |name: &str| in_memory["headStats"][name].as_i64().unwrap();
    assert_eq!((span("minTime"), span("maxTime")), (now - 60_000, now - 60_000));
    let recent = format!("start={}&end={}", (now - HOUR_MS) / 1_000, now / 1_000);
    check(&explore(main, &recent).await);
    assert_eq!(get(main, "/-/flush").await.status, 405);
    assert_eq!(send(main, "POST", "/-/flush", "", b"").await.status, 200);
    // Nothing is in memory any more: what was there lately is counted instead.
    check(&explore(main, "").await);
    check(&explore(main, &recent).await);
    // A series of another time, in memory beside the part.
    write(main, &[one("old", "1", now - 30 * HOUR_MS), one("up", "1", now - 30_000)]).await;
    check(&explore(main, &recent).await);
    let before = format!("start={}&end={}", (now - 40 * HOUR_MS) / 1_000, (now - 20 * HOUR_MS) / 1_000);
    assert_eq!(explore(main, &before).await["seriesCountByMetricName"], json!([{"name": "old", "value": 1}]));
    let matching = explore(main, "match%5B%5D=up%7Bi%3D~%221%7C2%22%7D&match%5B%5D=up%7Bi%3D%221%22%7D").await;
    assert_eq!(matching["headStats"]["numSeries"], 2, "{matching}");
    server.stop().await;
}
