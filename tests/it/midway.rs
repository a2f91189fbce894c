//! Queries that end in the middle of their work, which several threads do: because the client hangs
//! up, because the time is over, because there is no memory. What they held comes back.

use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::sync::OnceLock;

use trilith::app::config::{Amount, Config};
use trilith::app::{Server, run};

use super::bodies::{Series, remote_write};
use super::doors::{get, send};
use super::stalled::number;

const SERIES: usize = 100;
/// A sample a second.
const SAMPLES: i64 = 3_000;

/// When the samples begin, seconds.
fn hour() -> i64 {
    static HOUR: OnceLock<i64> = OnceLock::new();
    *HOUR.get_or_init(|| chrono::Utc::now().timestamp() / 3_600 * 3_600 - 3_600)
}

/// A server with one place for queries, on which four threads work, and data.
async fn server(change: impl Fn(&mut Config)) -> (Server, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let mut config = Config::for_tests(folder.path());
    config.query.concurrency = 1;
    config.query.threads = 4;
    change(&mut config);
    let mut server = run(config, None).await.unwrap();
    server.ready().await.unwrap();
    let numbers: Vec<String> = (0..SERIES).map(|n| n.to_string()).collect();
    let samples: Vec<(i64, f64)> = (0..SAMPLES).map(|s| ((hour() + s) * 1_000, (s * 7_919 % 1_000) as f64)).collect();
    let series = |n| Series { labels: vec![("__name__", "many"), ("n", n)], samples: samples.clone() };
    let headers = "Content-Encoding: snappy\r\nContent-Type: application/x-protobuf\r\n";
    let body = remote_write(&numbers.iter().map(|n| series(n)).collect::<Vec<_>>());
    assert_eq!(send(server.addresses.main, "POST", "/api/v1/write", headers, &body).await.status, 204);
    (server, folder)
}

/// A query that takes minutes: each of its steps sorts the samples of an hour, of every series.
fn long() -> String {
    let (start, end) = (hour(), hour() + SAMPLES);
    format!("/api/v1/query_range?query=max(quantile_over_time(0.5,many%5B1h%5D))&start={start}&end={end}&step=0.3")
}

/// Everything is given back, and the next query has its answer.
async fn all_is_back(main: SocketAddr) {
    let counted = get(main, &format!("/api/v1/query?query=count(many)&time={}", hour() + SAMPLES)).await;
    assert!(counted.text().contains("\"100\"]"), "{}", counted.text());
    while number(main, "trilith_queries_running").await > 0.0 {}
    while number(main, "trilith_query_memory_bytes").await > 0.0 {}
    assert_eq!(number(main, "trilith_queries_waiting").await, 0.0);
    assert_eq!(get(main, "/api/v1/status/active_queries").await.text(), r#"{"status":"success","data":[]}"#);
}

/// How many threads of this process work on queries.
fn query_threads() -> usize {
    let threads = std::fs::read_dir("/proc/self/task").unwrap().flatten();
    let names = threads.map(|thread| std::fs::read_to_string(thread.path().join("comm")).unwrap_or_default());
    names.filter(|name| name.trim() == "query").count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_hangs_up_in_the_middle_of_a_query_ends_it() {
    let (server, _folder) = server(|_| {}).await;
    let main = server.addresses.main;
    let mut client = TcpStream::connect(main).unwrap();
    client.write_all(format!("GET {} HTTP/1.1\r\nHost: t\r\n\r\n", long()).as_bytes()).unwrap();
    while number(main, "trilith_query_memory_bytes").await == 0.0 || query_threads() < 3 {}
    // The next one waits for its place.
    let next = tokio::spawn(async move { get(main, "/api/v1/query?query=1").await });
    while number(main, "trilith_queries_waiting").await < 1.0 {}
    assert_eq!(number(main, "trilith_queries_running").await, 1.0);
    drop(client);
    assert_eq!(next.await.unwrap().status, 200);
    all_is_back(main).await;
    let canceled = "trilith_queries_total{language=\"promql\",outcome=\"canceled\"}";
    assert_eq!(number(main, canceled).await, 1.0);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_whose_time_is_over_ends_in_the_middle() {
    let (server, _folder) = server(|_| {}).await;
    let main = server.addresses.main;
    let answer = get(main, &format!("{}&timeout=300ms", long())).await;
    assert_eq!(answer.status, 503, "{}", answer.text());
    assert!(answer.text().contains("\"errorType\":\"timeout\",\"error\":\"the query timed out after 300 ms"));
    all_is_back(main).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_that_needs_too_much_memory_ends_in_the_middle() {
    // All series are found and some are computed, but there is no room for all of them.
    let (server, _folder) = server(|config| config.query_memory_max = Amount::Bytes(2 << 20)).await;
    let main = server.addresses.main;
    let (start, end) = (hour(), hour() + SAMPLES);
    for query in ["many", "many*2", "topk(50,many)", "quantile(0.5,many)", "rate(many%5B1m%5D)"] {
        let path = format!("/api/v1/query_range?query={query}&start={start}&end={end}&step=0.3");
        let answer = get(main, &path).await;
        assert_eq!(answer.status, 422, "{query}: {}", answer.text());
        let text = "\"errorType\":\"execution\",\"error\":\"the query needs more than its 2097152 bytes of memory";
        assert!(answer.text().contains(text), "{query}: {}", answer.text());
        all_is_back(main).await;
    }
    server.stop().await;
}
