//! Clients that ask for much and read none of it.

use std::io::Write as _;
use std::net::TcpStream;
use std::time::Duration;

use trilith::app::config::Config;
use trilith::app::run;

use super::bodies::{Series, remote_write};
use super::doors::{get, send};

const HEADERS: &str = "Content-Encoding: snappy\r\nContent-Type: application/x-protobuf\r\n";

/// The value of one of the server's own numbers.
pub(super) async fn number(main: std::net::SocketAddr, name: &str) -> f64 {
    let text = get(main, "/metrics").await.text();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("{name} is missing in\n{text}")).parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_stall_lose_their_places_and_their_connections() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = Config::for_tests(folder.path());
    config.query.concurrency = 1;
    config.query.stall_max = Duration::from_millis(100);
    let mut server = run(config, None).await.unwrap();
    server.ready().await.unwrap();
    let main = server.addresses.main;
    // More text than the sockets of both sides hold.
    let long = "x".repeat(10_000);
    let now = chrono::Utc::now().timestamp_millis();
    let samples = (0..4_000).map(|step| (now - 4_000 + step, step as f64)).collect();
    let body = remote_write(&[Series { labels: vec![("__name__", "wide"), ("long", &long)], samples }]);
    assert_eq!(send(main, "POST", "/api/v1/write", HEADERS, &body).await.status, 204);
    // One place for a query, and four for answers that flow.
    let stalled: Vec<TcpStream> = (0..5)
        .map(|_| {
            let mut stream = TcpStream::connect(main).unwrap();
            stream.write_all(b"GET /api/v1/export?match%5B%5D=wide HTTP/1.1\r\nHost: t\r\n\r\n").unwrap();
            stream
        })
        .collect();
    while number(main, "trilith_connections").await < 6.0 {}
    let answer = get(main, "/api/v1/query?query=count(wide)").await;
    assert!(answer.text().contains("\"1\"]"), "{}", answer.text());
    // All answers were given up, and what waited for their clients is gone.
    while number(main, "trilith_answer_buffered_bytes").await > 0.0 {}
    while number(main, "trilith_connections").await > 1.0 {}
    let free = get(main, "/api/v1/status/runtimeinfo").await.text();
    assert!(free.contains("\"freeQueryPlaces\":1"), "{free}");
    drop(stalled);
    server.stop().await;
}
