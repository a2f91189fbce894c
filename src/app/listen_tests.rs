//! Paths that are mended; clients that hang up, handlers that panic.

use std::net::SocketAddr;
use std::sync::atomic::AtomicUsize;

use axum::Router;
use axum::routing::any;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;
use crate::base::memory::MemoryBudget;
use crate::store::env::Progress;

fn mended(path: &str) -> String {
    let uri: Uri = path.parse().unwrap();
    tidy(&uri).unwrap_or(uri).to_string()
}

#[test]
fn a_trailing_slash_in_a_base_url_does_no_harm() {
    assert_eq!(mended("//api/v1/query?query=a//b"), "/api/v1/query?query=a//b");
    assert_eq!(mended("/tempo//api/echo"), "/tempo/api/echo");
    assert_eq!(mended("//jaeger///api/services"), "/jaeger/api/services");
    assert_eq!(mended("/api/v1/query"), "/api/v1/query");
    assert_eq!(mended("/v1/traces/?a=b"), "/v1/traces?a=b");
    assert_eq!(mended("/-/"), "/-/");
}

#[test]
fn slashes_within_a_name_stay() {
    let path = "/jaeger/api/services/http://shop/operations";
    assert_eq!(mended(path), path);
}

/// Counts requests that wait, and those of them that were given up.
#[derive(Clone, Default)]
struct Waiting {
    began: Arc<AtomicUsize>,
    ended: Arc<AtomicUsize>,
}

struct Guard(Arc<AtomicUsize>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Waiting {
    /// Comes back when so many have begun, or ended.
    async fn reach(counter: &AtomicUsize, count: usize) {
        while counter.load(Ordering::SeqCst) < count {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

/// A body that panics when it is read.
struct Bomb;

impl http_body::Body for Bomb {
    type Data = axum::body::Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Self::Data>, Infallible>>> {
        panic!("a body that panics")
    }
}

async fn panic_in_a_thread() -> &'static str {
    let work = tokio::task::spawn_blocking(|| -> &'static str { panic!("a thread that panics") });
    match work.await {
        Ok(text) => text,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

/// A listener that waits for ever at `/wait` (when it has read the body), and panics at two others.
async fn listen() -> (SocketAddr, Waiting, Counters, watch::Sender<bool>) {
    listen_with(10_000).await
}

async fn listen_with(open_files: u64) -> (SocketAddr, Waiting, Counters, watch::Sender<bool>) {
    let (waiting, counters) = (Waiting::default(), Counters::default());
    let readiness = Arc::new(Readiness::new(Arc::new(Progress::default())));
    let own = waiting.clone();
    let wait = move |body: axum::body::Bytes| {
        let own = own.clone();
        async move {
            drop(body);
            let _guard = Guard(own.ended.clone());
            own.began.fetch_add(1, Ordering::SeqCst);
            std::future::pending::<()>().await;
        }
    };
    let router = Router::new()
        .route("/wait", any(wait))
        .route("/ok", any(|| async { "ok" }))
        .route("/take", any(|body: axum::body::Bytes| async move { body.len().to_string() }))
        .route(
            "/panic",
            any(|| async {
                if true {
                    panic!("a handler that panics")
                }
            }),
        )
        .route("/panic_thread", any(panic_in_a_thread))
        .route("/panic_body", any(|| async { Response::new(Body::new(Bomb)) }));
    readiness.set_ready(Box::new(move |_| router.clone()));
    let in_flight = InFlight::new(in_flight::Options::default(), MemoryBudget::new(64 << 20));
    let memory = MemoryBudget::new(u64::MAX);
    let connections = Arc::new(Connections::new(&counters, open_files, in_flight.limit() / 4, &memory));
    let front =
        Arc::new(Front::new(readiness, &counters, connections, in_flight, Duration::from_secs(60), Arc::default()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = watch::channel(false);
    tokio::spawn(serve(listener, ListenerKind::Main, front, stopped));
    (address, waiting, counters, stop)
}

async fn write(address: SocketAddr, bytes: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    stream
}

/// All that comes until the connection ends.
async fn ask(address: SocketAddr, path: &str) -> String {
    let head = format!("GET {path} HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n");
    let mut stream = write(address, head.as_bytes()).await;
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes).await;
    String::from_utf8_lossy(&bytes).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_client_waited_for_ends_when_it_hangs_up() {
    let (address, waiting, _, _stop) = listen().await;
    let plain = b"GET /wait HTTP/1.1\r\nHost: t\r\n\r\n";
    let form = b"POST /wait HTTP/1.1\r\nHost: t\r\nContent-Length: 3\r\n\r\na=b";
    for (n, request) in [&plain[..], form].into_iter().enumerate() {
        let stream = write(address, request).await;
        Waiting::reach(&waiting.began, 2 * n + 1).await;
        drop(stream);
        Waiting::reach(&waiting.ended, 2 * n + 1).await;
        let mut half_closed = write(address, request).await;
        Waiting::reach(&waiting.began, 2 * n + 2).await;
        half_closed.shutdown().await.unwrap();
        Waiting::reach(&waiting.ended, 2 * n + 2).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_client_waited_for_ends_when_it_resets_its_stream() {
    let (address, waiting, _, _stop) = listen().await;
    let (client, connection) = h2::client::handshake(TcpStream::connect(address).await.unwrap()).await.unwrap();
    let driver = tokio::spawn(connection);
    let mut client = client.ready().await.unwrap();
    let mut call = |whole: bool| {
        let request = Request::post(format!("http://{address}/wait")).header("content-type", "application/grpc");
        client.send_request(request.body(()).unwrap(), whole).unwrap()
    };
    let (_response, mut stream) = call(true);
    Waiting::reach(&waiting.began, 1).await;
    stream.send_reset(h2::Reason::CANCEL);
    Waiting::reach(&waiting.ended, 1).await;
    // A message, and then a client that is gone with its connection.
    let (_response, mut stream) = call(false);
    stream.send_data(vec![0; 5].into(), true).unwrap();
    Waiting::reach(&waiting.began, 2).await;
    driver.abort();
    Waiting::reach(&waiting.ended, 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_is_answered_and_takes_nothing_with_it() {
    let (address, _, counters, _stop) = listen().await;
    for path in ["/panic", "/panic_thread"] {
        let answer = ask(address, path).await;
        assert!(answer.starts_with("HTTP/1.1 500 ") && answer.contains("its log says more"), "{path}: {answer}");
    }
    let answer = ask(address, "/panic_body").await;
    assert!(!answer.ends_with("0\r\n\r\n"), "an answer that broke off does not look whole: {answer}");
    assert!(ask(address, "/ok").await.ends_with("ok"));
    let text = |counters: &Counters| counters.expose();
    assert!(text(&counters).contains("trilith_panics_total 2\n"), "{}", text(&counters));
    // No connection is counted for ever, whatever it died of.
    while !text(&counters).contains("trilith_connections 0\n") {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_connections_make_room_for_each_that_comes() {
    // The fewest places that there are: sixteen.
    let (address, _, counters, _stop) = listen_with(0).await;
    let mut open = Vec::new();
    for _ in 0..16 {
        open.push(TcpStream::connect(address).await.unwrap());
    }
    for _ in 0..5 {
        let mut stream = write(address, b"GET /ok HTTP/1.1\r\nHost: t\r\n\r\n").await;
        let mut bytes = [0; 12];
        stream.read_exact(&mut bytes).await.expect("one that comes is not lost while another goes");
        assert_eq!(&bytes, b"HTTP/1.1 200");
        open.push(stream);
    }
    assert!(!counters.expose().contains("trilith_connections_given_up_total 0\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_trickle_make_room_and_a_whole_request_keeps_its_place() {
    let (address, waiting, _, _stop) = listen_with(0).await;
    let mut whole = write(address, b"GET /wait HTTP/1.1\r\nHost: t\r\n\r\n").await;
    Waiting::reach(&waiting.began, 1).await;
    let mut slow = tokio::task::JoinSet::new();
    for _ in 0..15 {
        let mut stream = write(address, b"POST /take HTTP/1.1\r\nHost: t\r\nContent-Length: 9000000\r\n\r\n").await;
        slow.spawn(async move {
            while stream.write_all(&[7; 20]).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
    }
    for _ in 0..5 {
        let mut stream = write(address, b"POST /take HTTP/1.1\r\nHost: t\r\nContent-Length: 2\r\n\r\nab").await;
        let mut bytes = [0; 12];
        let answered = tokio::time::timeout(Duration::from_secs(20), stream.read_exact(&mut bytes)).await;
        answered.expect("nobody makes room").unwrap();
        assert_eq!(&bytes, b"HTTP/1.1 200");
    }
    slow.join_next().await.unwrap().unwrap();
    assert!(slow.len() >= 10, "no more are cut off than have to be: {} stay", slow.len());
    assert!(whole.try_read(&mut [0]).is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock));
    whole.shutdown().await.unwrap();
    Waiting::reach(&waiting.ended, 1).await;
}
