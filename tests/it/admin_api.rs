//! Deleting series and snapshots over HTTP, as Prometheus has them, and retention by matchers.

use serde_json::Value;
use trilith::app::config::Config;
use trilith::app::run;

use super::bodies::{Series, remote_write};
use super::doors::{Answer, get, send};

const WRITE: &str = "Content-Encoding: snappy\r\nContent-Type: application/x-protobuf\r\n";
const DELETE: &str = "/api/v1/admin/tsdb/delete_series";

fn now_ms() -> i64 {
    chrono::Utc::now().timestamp_millis()
}

fn admin_config(folder: &std::path::Path) -> Config {
    Config { admin_api: true, ..Config::for_tests(folder) }
}

async fn count(main: std::net::SocketAddr, selector: &str) -> Option<u64> {
    let answer = get(main, &format!("/api/v1/query?query=sum(count_over_time({selector}%5B40d%5D))")).await;
    let answer: Value = serde_json::from_slice(&answer.body).unwrap();
    answer["data"]["result"][0]["value"][1].as_str().map(|text| text.parse().unwrap())
}

async fn try_write(main: std::net::SocketAddr, job: &str, samples: Vec<(i64, f64)>) -> Answer {
    let series = Series { labels: vec![("__name__", "kept"), ("job", job)], samples };
    send(main, "POST", "/api/v1/write", WRITE, &remote_write(&[series])).await
}

async fn write(main: std::net::SocketAddr, job: &str, samples: Vec<(i64, f64)>) {
    assert_eq!(try_write(main, job, samples).await.status, 204);
}

fn error(answer: &Answer) -> String {
    serde_json::from_slice::<Value>(&answer.body).unwrap()["errorType"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn admin_endpoints_are_off_unless_turned_on() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = run(Config::for_tests(folder.path()), None).await.unwrap();
    server.ready().await.unwrap();
    let main = server.addresses.main;
    for path in
        [&format!("{DELETE}?match%5B%5D=up"), "/api/v1/admin/tsdb/clean_tombstones", "/api/v1/admin/tsdb/snapshot"]
    {
        let answer = send(main, "POST", path, "", b"").await;
        assert_eq!((answer.status, error(&answer).as_str()), (503, "unavailable"), "{path}");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_deleted_is_not_seen_and_a_snapshot_opens_as_a_data_directory() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = run(admin_config(folder.path()), None).await.unwrap();
    server.ready().await.unwrap();
    let main = server.addresses.main;
    let begin = now_ms() / 1000 * 1000 - 100_000;
    let samples: Vec<_> = (0..100).map(|at| (begin + at * 1000, at as f64)).collect();
    write(main, "a", samples.clone()).await;
    write(main, "b", samples.clone()).await;
    assert_eq!(send(main, "POST", DELETE, "", b"").await.status, 400);
    assert_eq!(send(main, "GET", &format!("{DELETE}?match%5B%5D=kept"), "", b"").await.status, 405);
    let (start, end) = (begin / 1000 + 10, begin / 1000 + 19);
    let path = format!("{DELETE}?match%5B%5D=kept%7Bjob%3D%22a%22%7D&start={start}&end={end}");
    let deleted = send(main, "POST", &path, "", b"").await;
    assert_eq!((deleted.status, deleted.body.len()), (204, 0), "{}", deleted.text());
    assert_eq!((count(main, "kept%7Bjob=%22a%22%7D").await, count(main, "kept").await), (Some(90), Some(190)));
    let answer = send(main, "PUT", "/api/v1/admin/tsdb/snapshot", "", b"").await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let answer: Value = serde_json::from_slice(&answer.body).unwrap();
    let snapshot = folder.path().join("snapshots").join(answer["data"]["name"].as_str().unwrap());
    assert_eq!(send(main, "POST", "/api/v1/admin/tsdb/clean_tombstones", "", b"").await.status, 204);
    assert_eq!(count(main, "kept").await, Some(190));
    // What is sent again after the deletion is there again.
    write(main, "a", samples[10..12].to_vec()).await;
    assert_eq!(count(main, "kept").await, Some(192));
    let everything = send(main, "PUT", &format!("{DELETE}?match%5B%5D=kept"), "", b"").await;
    assert_eq!((everything.status, count(main, "kept").await), (204, None));
    server.stop().await;
    let mut server = run(Config::for_tests(&snapshot), None).await.unwrap();
    server.ready().await.unwrap();
    assert_eq!(count(server.addresses.main, "kept").await, Some(190), "the snapshot holds what there was");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn series_are_kept_as_long_as_their_rule_says() {
    let folder = tempfile::tempdir().unwrap();
    let hours = |hours: i64| (now_ms() - hours * 3_600_000, 1.0);
    let samples = || vec![hours(20 * 24), hours(100), hours(5), hours(1)];
    // All are stored before there are rules, which would have refused some.
    let mut server = run(Config::for_tests(folder.path()), None).await.unwrap();
    server.ready().await.unwrap();
    for job in ["debug", "gold", "a;b", "other"] {
        write(server.addresses.main, job, samples()).await;
    }
    server.stop().await;
    let mut config = Config::for_tests(folder.path());
    config.retention.metrics = Some(std::time::Duration::from_secs(5 * 86_400));
    config.set("retention-metrics-rules", "{job=\"debug\"}=2h; {job=~\"gold|a;b\"}=30d").unwrap();
    let mut server = run(config, None).await.unwrap();
    server.ready().await.unwrap();
    let main = server.addresses.main;
    let expected = [("debug", 1), ("gold", 4), ("a;b", 4), ("other", 3)];
    for (job, kept) in expected {
        assert_eq!(count(main, &format!("kept%7Bjob=%22{job}%22%7D")).await, Some(kept), "{job}, stored before");
        // What would never be seen is refused and named, the rest of its request is kept.
        let answer = try_write(main, job, samples()).await;
        let told = answer.text();
        assert_eq!(answer.status, if kept < 4 { 400 } else { 204 }, "{job}: {told}");
        assert!(kept == 4 || told.contains(job), "{job}: {told}");
    }
    for flushed in [false, true] {
        for (job, kept) in expected {
            let found = count(main, &format!("kept%7Bjob=%22{job}%22%7D")).await;
            assert_eq!(found, Some(2 * kept), "{job}, flushed: {flushed}");
        }
        assert_eq!(send(main, "POST", "/-/flush", "", b"").await.status, 200);
    }
    server.stop().await;
}
