//! A server within the test: health, its own numbers, unknown paths, odd clients.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use trilith::app::config::Config;
use trilith::app::{Server, run};

/// An answer: status, head, body.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) head: String,
    pub(super) body: Vec<u8>,
}

impl Answer {
    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// One request over a connection of its own, written out so that a test says every byte.
pub(super) fn ask(address: SocketAddr, method: &str, path: &str, headers: &str, body: &[u8]) -> Answer {
    try_ask(address, method, path, headers, body).expect("an HTTP head")
}

/// As [`ask`]; nothing when the server is gone before it has answered.
pub(super) fn try_ask(address: SocketAddr, method: &str, path: &str, headers: &str, body: &[u8]) -> Option<Answer> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: t\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n"
    );
    // A server that refuses early may close before it has read everything.
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body));
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes);
    bytes.windows(4).any(|window| window == b"\r\n\r\n").then(|| answer(&bytes))
}

/// Waits until the server at `address` answers everything.
pub(super) fn until_ready(address: SocketAddr) {
    while ask(address, "GET", "/-/ready", "", b"").status != 200 {
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn answer(bytes: &[u8]) -> Answer {
    let split = bytes.windows(4).position(|window| window == b"\r\n\r\n").expect("an HTTP head");
    let head = String::from_utf8_lossy(&bytes[..split]).to_lowercase();
    let body = &bytes[split + 4..];
    let status = head[9..12].parse().unwrap();
    let body = if head.contains("transfer-encoding: chunked") { unchunk(body) } else { body.to_vec() };
    Answer { status, head, body }
}

fn unchunk(mut bytes: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    loop {
        let line = bytes.windows(2).position(|window| window == b"\r\n").expect("a chunk size");
        let size = usize::from_str_radix(std::str::from_utf8(&bytes[..line]).unwrap(), 16).unwrap();
        if size == 0 {
            return body;
        }
        body.extend_from_slice(&bytes[line + 2..line + 2 + size]);
        bytes = &bytes[line + 2 + size + 2..];
    }
}

/// GET, off the runtime's threads.
pub(super) async fn get(address: SocketAddr, path: &str) -> Answer {
    send(address, "GET", path, "", b"").await
}

pub(super) async fn send(address: SocketAddr, method: &str, path: &str, headers: &str, body: &[u8]) -> Answer {
    let (method, path, headers, body) = (method.to_owned(), path.to_owned(), headers.to_owned(), body.to_vec());
    tokio::task::spawn_blocking(move || ask(address, &method, &path, &headers, &body)).await.unwrap()
}

/// A server on a free port with a data directory of its own, ready.
pub(super) async fn server() -> (Server, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let mut server = run(Config::for_tests(folder.path()), None).await.unwrap();
    server.ready().await.unwrap();
    (server, folder)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_says_how_it_is() {
    let (server, _folder) = server().await;
    let main = server.addresses.main;
    for path in ["/-/healthy", "/-/ready", "/ready", "/"] {
        assert_eq!(get(main, path).await.status, 200, "{path}");
    }
    let metrics = get(main, "/metrics").await;
    assert!(metrics.head.contains("content-type: text/plain; version=0.0.4"), "{}", metrics.head);
    for name in
        ["process_resident_memory_bytes ", "trilith_build_info{version=", "trilith_ready 1", "trilith_disk_free_bytes "]
    {
        assert!(metrics.text().contains(name), "{name} is missing in\n{}", metrics.text());
    }
    let status: serde_json::Value = serde_json::from_slice(&get(main, "/-/status").await.body).unwrap();
    assert_eq!(status["ready"], true);
    assert_eq!(status["retention"]["logs"], "14d");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_path_is_a_short_json_404_under_every_prefix() {
    let (server, _folder) = server().await;
    for prefix in ["", "/loki", "/tempo", "/jaeger", "/alertmanager", "/loki/api/v1", "/api/v1", "/ui", "/v1", "/-"] {
        let path = format!("{prefix}/no/such/thing");
        let answer = get(server.addresses.main, &path).await;
        assert_eq!(answer.status, 404, "{path}");
        let body: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(body["status"], "error", "{path}");
        assert_eq!(body["errorType"], "not_found", "{path}");
    }
    let answer = send(server.addresses.main, "DELETE", "/-/healthy", "", b"").await;
    assert_eq!(answer.status, 405);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn compression_is_gzip_or_nothing() {
    let (server, _folder) = server().await;
    let main = server.addresses.main;
    let encoding = |headers: &'static str| async move {
        let answer = send(main, "GET", "/metrics", headers, b"").await;
        answer.head.lines().find_map(|line| line.strip_prefix("content-encoding: ").map(str::to_owned))
    };
    assert_eq!(encoding("").await, None);
    assert_eq!(encoding("Accept-Encoding: gzip, deflate, br, zstd\r\n").await.as_deref(), Some("gzip"));
    assert_eq!(encoding("Accept-Encoding: zstd, br, deflate\r\n").await, None);
    assert_eq!(encoding("Accept-Encoding: gzip;q=0\r\n").await, None);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_idle_connections_do_not_keep_others_out() {
    let (server, _folder) = server().await;
    let main = server.addresses.main;
    let idle: Vec<TcpStream> = (0..1_000).map_while(|_| TcpStream::connect(main).ok()).collect();
    assert_eq!(idle.len(), 1_000, "this test needs 2,000 open files");
    assert_eq!(get(main, "/-/healthy").await.status, 200);
    drop(idle);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_longest_uri_is_answered_and_a_longer_one_refused() {
    let (server, _folder) = server().await;
    let main = server.addresses.main;
    let long = |bytes: usize| format!("/-/healthy?{}", "x".repeat(bytes));
    assert_eq!(get(main, &long(60_000)).await.status, 200);
    let refused = get(main, &long(70_000)).await.status;
    assert!((400..500).contains(&refused), "{refused}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_server_is_told_who_has_the_directory() {
    let (server, folder) = server().await;
    let Err(error) = run(Config::for_tests(folder.path()), None).await else { panic!("it took the same directory") };
    assert!(error.to_string().contains(&format!("process id {}", std::process::id())), "{error}");
    server.stop().await;
    let again = run(Config::for_tests(folder.path()), None).await.unwrap();
    again.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_taken_port_is_named_with_the_flag_that_turns_it_off() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut config = Config::for_tests(folder.path());
    config.no_extra_listeners = false;
    for extra in trilith::app::config::Extra::ALL {
        config.extra.insert(extra, trilith::app::config::Place::Off);
    }
    let place = trilith::app::config::Place::At(address);
    config.extra.insert(trilith::app::config::Extra::Loki, place);
    let Err(error) = run(config, None).await else { panic!("it listens on a taken port") };
    let error = error.to_string();
    assert!(error.contains(&address.to_string()) && error.contains("--listen-loki off"), "{error}");
}
