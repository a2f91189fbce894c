//! The cardinality explorer over a real store: what is counted in memory, in parts, and by time.

use std::net::SocketAddr;

use serde_json::{Value, json};
use trilith::app::config::Config;
use trilith::app::run;

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

#[tokio::test(flavor = "multi_thread")]
async fn over_a_limit_the_metrics_that_are_refused_are_named_and_those_there_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = Config::for_tests(folder.path());
    for (name, value) in [("series-limit", "6"), ("series-per-metric-limit", "4"), ("labels-limit", "3")] {
        config.set(name, value).unwrap();
    }
    let mut server = run(config, None).await.unwrap();
    server.ready().await.unwrap();
    let main = server.addresses.main;
    let now = chrono::Utc::now().timestamp_millis();
    let headers = "Content-Encoding: snappy\r\nContent-Type: application/x-protobuf\r\n";
    let send_all = async |name: &str, pods: std::ops::Range<usize>| {
        let pods: Vec<String> = pods.map(|pod| pod.to_string()).collect();
        let series =
            |pod| Series { labels: vec![("__name__", name), ("pod", pod)], samples: vec![(now, 1.0), (now + 1, 1.0)] };
        let all: Vec<Series<'_>> = pods.iter().map(|pod| series(pod)).collect();
        send(main, "POST", "/api/v1/write", headers, &remote_write(&all)).await
    };
    // Two pods are over the limit of the metric, then two metrics over that of all.
    let answer = send_all("up", 0..6).await;
    assert_eq!(answer.status, 400);
    assert!(answer.text().contains("metric_series_limit"), "{}", answer.text());
    assert_eq!(send_all("down", 0..2).await.status, 204);
    assert_eq!(send_all("down", 2..5).await.status, 429);
    assert_eq!(send_all("o\"dd", 0..1).await.status, 429);
    let labels = vec![("__name__", "up"), ("pod", "1"), ("a", "1"), ("b", "1")];
    let wide = Series { labels, samples: vec![(now, 1.0)] };
    assert_eq!(send(main, "POST", "/api/v1/write", headers, &remote_write(&[wide])).await.status, 400);
    assert_eq!(send_all("up", 0..4).await.status, 204, "those there go on");
    // So many labels that the request's reader leaves the series out.
    let names: Vec<String> = (0..200).map(|at| format!("l{at}")).collect();
    let labels = [("__name__", "wide")].into_iter().chain(names.iter().map(|name| (name.as_str(), "1"))).collect();
    let wide = Series { labels, samples: vec![(now, 1.0)] };
    let answer = send(main, "POST", "/api/v1/write", headers, &remote_write(&[wide])).await;
    assert!(answer.text().contains("labels or more of \"wide\", over the limit"), "{}", answer.text());
    let row = |name: &str, reason: &str, value: u64| json!({"name": name, "reason": reason, "value": value});
    let refused = [
        row("down", "series_limit", 6),
        row("up", "metric_series_limit", 4),
        row("o\"dd", "series_limit", 2),
        row("up", "too_many_labels", 1),
        row("wide", "too_many_labels", 1),
    ];
    let data = explore(main, "").await;
    assert_eq!(data["refusedByMetricName"], json!(refused));
    assert_eq!(
        data["refusedByReason"],
        json!([
            {"name": "metric_series_limit", "value": 4},
            {"name": "series_limit", "value": 8},
            {"name": "too_many_labels", "value": 2},
        ])
    );
    let metrics = get(main, "/metrics").await.text().to_owned();
    for line in [
        "# TYPE trilith_refused_metric_samples_total counter\n",
        "trilith_refused_metric_samples_total{metric=\"down\",reason=\"series_limit\"} 6\n",
        "trilith_refused_metric_samples_total{metric=\"up\",reason=\"metric_series_limit\"} 4\n",
        "trilith_refused_metric_samples_total{metric=\"o\\\"dd\",reason=\"series_limit\"} 2\n",
    ] {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }
    // However many names are refused, few are told in /metrics.
    for number in 0..40 {
        assert_eq!(send_all(&format!("new_{number}"), 0..1).await.status, 429);
    }
    let metrics = get(main, "/metrics").await.text().to_owned();
    assert_eq!(metrics.lines().filter(|line| line.starts_with("trilith_refused_metric_samples_total{")).count(), 20);
    assert_eq!(explore(main, "").await["refusedByMetricName"].as_array().unwrap().len(), 45);
    assert_eq!(explore(main, "limit=7").await["refusedByMetricName"].as_array().unwrap().len(), 7);
    server.stop().await;
}
