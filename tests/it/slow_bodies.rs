//! Senders that are slow, or many: every door has a deadline for a whole body, and whoever sends as one should finds
//! room whatever others hold.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use axum::http::Request;
use trilith::app::config::Config;
use trilith::app::{Server, run};

use super::bodies::{Series, remote_write};
use super::doors::{get, send};
use super::stalled::number;

const PROTOBUF: &str = "Content-Type: application/x-protobuf\r\n";
const FORM: &str = "Content-Type: application/x-www-form-urlencoded\r\n";

/// Every kind of door whose body a handler reads.
const DOORS: &[(&str, &str)] = &[
    ("POST /api/v1/write", PROTOBUF),
    ("POST /loki/api/v1/push", "Content-Type: application/json\r\n"),
    ("POST /v1/traces", PROTOBUF),
    ("POST /otlp/v1/logs", PROTOBUF),
    ("POST /v1/metrics", PROTOBUF),
    ("POST /api/v1/import/prometheus", "Content-Type: text/plain\r\n"),
    ("POST /api/v1/read", PROTOBUF),
    ("POST /api/v1/query", FORM),
    ("POST /api/v1/query_range", FORM),
    ("POST /api/v1/series", FORM),
    ("POST /loki/api/v1/query_range", FORM),
    ("GET /tempo/api/search", FORM),
    ("GET /jaeger/api/traces", FORM),
];

async fn server(change: impl FnOnce(&mut Config)) -> (Server, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let mut config = Config::for_tests(folder.path());
    change(&mut config);
    let mut server = run(config, None).await.unwrap();
    server.ready().await.unwrap();
    (server, folder)
}

/// Sends a head that promises `length` bytes, and some of them.
fn begin(address: SocketAddr, door: &str, headers: &str, length: usize, sent: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let head = format!("{door} HTTP/1.1\r\nHost: t\r\n{headers}Content-Length: {length}\r\n\r\n");
    stream.write_all(&[head.as_bytes(), sent].concat()).unwrap();
    stream
}

/// The status that comes, if any does.
fn status(mut stream: TcpStream) -> Option<u16> {
    let mut head = [0; 12];
    stream.read_exact(&mut head).ok()?;
    std::str::from_utf8(&head[9..]).ok()?.parse().ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_does_not_come_is_given_up_at_every_door() {
    let (server, _folder) = server(|config| {
        config.bodies.deadline = Duration::from_millis(300);
        config.bodies.idle_max = Duration::from_millis(300);
    })
    .await;
    let main = server.addresses.main;
    let streams: Vec<_> = DOORS.iter().map(|(door, headers)| begin(main, door, headers, 1_000, b"a=b")).collect();
    let answers = tokio::task::spawn_blocking(|| streams.into_iter().map(status).collect::<Vec<_>>()).await.unwrap();
    for ((door, _), status) in DOORS.iter().zip(answers) {
        assert!(matches!(status, Some(503 | 504)), "{door}: {status:?}");
    }
    while number(main, "trilith_requests_in_flight_bytes").await > 0.0 {}
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grpc_message_that_does_not_come_is_given_up() {
    let (server, _folder) = server(|config| config.bodies.deadline = Duration::from_millis(300)).await;
    let main = server.addresses.main;
    let calls = [
        ("/tempopb.StreamingQuerier/Search", None, "4"),
        ("/opentelemetry.proto.collector.trace.v1.TraceService/Export", None, "4"),
        ("/tempopb.StreamingQuerier/SearchTags", Some("50m"), "4"),
        ("/opentelemetry.proto.collector.logs.v1.LogsService/Export", Some("50m"), "4"),
    ];
    for (path, timeout, expected) in calls {
        let stream = tokio::net::TcpStream::connect(main).await.unwrap();
        let (client, connection) = h2::client::handshake(stream).await.unwrap();
        let driver = tokio::spawn(connection);
        let mut request = Request::post(format!("http://{main}{path}")).header("content-type", "application/grpc");
        if let Some(timeout) = timeout {
            request = request.header("grpc-timeout", timeout);
        }
        let (response, mut body) =
            client.ready().await.unwrap().send_request(request.body(()).unwrap(), false).unwrap();
        body.send_data(vec![0, 0, 0].into(), false).unwrap();
        let response = tokio::time::timeout(Duration::from_secs(30), response).await.expect(path).unwrap();
        assert_eq!(response.headers()["grpc-status"], expected, "{path}");
        driver.abort();
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_that_trickle_leave_room_for_one_that_sends() {
    let (server, _folder) = server(|config| {
        config.bodies.bytes_max = 1 << 20;
        config.bodies.young = Duration::from_millis(100);
    })
    .await;
    let main = server.addresses.main;
    let piece = [b'x'; 2_000];
    let begin_one = |n: usize| {
        let (door, headers) = DOORS[n % DOORS.len()];
        begin(main, door, headers, 100_000, &piece)
    };
    let mut slow: Vec<_> = (0..1_000).map(begin_one).collect();
    // Half of the room is taken, which is all that one sender gets.
    while number(main, "trilith_requests_in_flight_bytes").await < 500_000.0 {}
    for n in 0..5 {
        slow.iter_mut().for_each(|stream| drop(stream.write_all(b"x")));
        let now = chrono::Utc::now().timestamp_millis();
        // Text that stays long when it is packed.
        let long: String = (0..600_u64).map(|at| format!("{:x}", at.wrapping_mul(0x9e37_79b9_7f4a_7c15))).collect();
        let labels = vec![("__name__", "ordinary"), ("long", long.as_str())];
        let body = remote_write(&[Series { labels, samples: vec![(now, f64::from(n))] }]);
        let headers = "Content-Encoding: snappy\r\nContent-Type: application/x-protobuf\r\n";
        // Told to retry, as others may be who came at the same time, it does.
        let mut answer = send(main, "POST", "/api/v1/write", headers, &body).await;
        while answer.status == 503 && answer.head.contains("retry-after") {
            answer = send(main, "POST", "/api/v1/write", headers, &body).await;
        }
        assert_eq!(answer.status, 204, "{}", answer.text());
        let answer = send(main, "POST", "/api/v1/query", FORM, b"query=ordinary").await;
        assert!(answer.text().contains(&format!("\"{n}\"")), "{}", answer.text());
    }
    assert!(number(main, "trilith_requests_in_flight_bytes").await < (1 << 20) as f64);
    drop(slow);
    while number(main, "trilith_requests_in_flight_bytes").await > 0.0 {}
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_may_take_longer_than_a_body() {
    let (server, _folder) = server(|config| {
        config.bodies.deadline = Duration::from_millis(200);
        config.bodies.idle_max = Duration::from_secs(60);
    })
    .await;
    let main = server.addresses.main;
    let line = format!("imported 1 {}\n", chrono::Utc::now().timestamp_millis());
    let mut stream = begin(main, "POST /api/v1/import/prometheus", "", 4 * line.len(), line.as_bytes());
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_millis(150)).await;
        stream.write_all(line.as_bytes()).unwrap();
    }
    assert_eq!(tokio::task::spawn_blocking(move || status(stream)).await.unwrap(), Some(204));
    assert!(get(main, "/api/v1/query?query=imported").await.text().contains("imported"));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_that_is_not_utf8_is_refused() {
    let (server, _folder) = server(|_| {}).await;
    let main = server.addresses.main;
    for path in [
        "/api/v1/query?query=up%ff",
        "/api/v1/series?match[]=up%ff",
        "/loki/api/v1/query?query=%7Ba%3D%22%ff%22%7D",
        "/loki/api/v1/labels?query=%ff",
        "/tempo/api/search?q=%ff",
    ] {
        let answer = get(main, path).await;
        assert_eq!(answer.status, 400, "{path}: {}", answer.text());
    }
    let answer = send(main, "POST", "/api/v1/query", FORM, b"query=\"\xff\"").await;
    assert_eq!((answer.status, answer.text().contains("not UTF-8")), (400, true), "{}", answer.text());
    server.stop().await;
}
