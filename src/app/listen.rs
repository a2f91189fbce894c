//! Listeners: HTTP/1.1, HTTP/2 without TLS and gRPC on one port, with bounds on connections and
//! on the time a client may take to say what it wants.
//! Flow: accept, serve, route by the server's phase, catch panics.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::{Request, Response, StatusCode, Uri};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tower::ServiceExt as _;

use crate::base::counters::{Cell, Counters};

use super::listener::ListenerKind;
use super::readiness::Readiness;
use super::reply::{self, Refusal};
use super::router::BASES;
use super::stall::Impatient;

/// Connections of all listeners together; more wait in the kernel's queue.
const CONNECTIONS_MAX: u64 = 4_096;

/// How long a connection may stay without sending the head of its next request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(60);

/// Head of a request, the longest URI that the `http` crate takes (65,534 bytes) included.
const HEAD_BYTES_MAX: usize = 128 << 10;

/// What one client may have in flight on one HTTP/2 connection before somebody reads it.
const HTTP2_WINDOW_BYTES: u32 = 1 << 20;

/// How long open connections may take to end their last request when the server stops.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);

/// What all listeners share.
pub(super) struct Front {
    readiness: Arc<Readiness>,
    places: Arc<Semaphore>,
    counters: Counters,
    panics: Cell,
    connections: Cell,
    http: auto::Builder<TokioExecutor>,
    /// How long a client may take nothing.
    patience: Duration,
}

impl Front {
    /// `open_files` is how many files this process may open; connections get half of it at most. A
    /// connection is closed when its client takes nothing for `patience`.
    pub(super) fn new(readiness: Arc<Readiness>, counters: &Counters, open_files: u64, patience: Duration) -> Self {
        let places = usize::try_from(CONNECTIONS_MAX.min(open_files / 2)).unwrap_or(usize::MAX).max(16);
        Self {
            readiness,
            places: Arc::new(Semaphore::new(places)),
            panics: counters.counter("trilith_panics_total", "Requests that met a defect of ours.", &[]),
            connections: counters.gauge("trilith_connections", "Open connections of all listeners.", &[]),
            counters: counters.clone(),
            http: protocol(),
            patience,
        }
    }

    async fn answer(&self, kind: ListenerKind, request: Request<Incoming>) -> Response<Body> {
        let started = Instant::now();
        let mut request = request.map(Body::new);
        if let Some(uri) = tidy(request.uri()) {
            *request.uri_mut() = uri;
        }
        let grpc = reply::is_grpc(request.headers());
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let mut work = Box::pin(self.readiness.router(kind).oneshot(request));
        let caught = poll_fn(|context| match catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(context))) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(Ok(response))) => Poll::Ready(Some(response)),
            Ok(Poll::Ready(Err(never))) => match never {},
            Err(_) => Poll::Ready(None),
        });
        let response = caught.await.unwrap_or_else(|| {
            self.panics.inc();
            tracing::error!(%method, path, "a request met a defect of ours; it was answered with 500");
            reply::refuse(Refusal::Internal, grpc, "the server met a defect of its own; its log says more")
        });
        self.count(kind, response.status());
        let elapsed_us = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
        tracing::debug!(listener = kind.name(), %method, path, status = response.status().as_u16(), elapsed_us, "request");
        response
    }

    fn count(&self, kind: ListenerKind, status: StatusCode) {
        let class = match status.as_u16() {
            0..=199 => "1xx",
            200..=299 => "2xx",
            300..=399 => "3xx",
            400..=499 => "4xx",
            _ => "5xx",
        };
        let labels = [("listener", kind.name()), ("status", class)];
        self.counters
            .counter("trilith_http_requests_total", "Requests answered, gRPC calls among them.", &labels)
            .inc();
    }
}

fn protocol() -> auto::Builder<TokioExecutor> {
    let mut http = auto::Builder::new(TokioExecutor::new());
    http.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_buf_size(HEAD_BYTES_MAX);
    http.http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(256)
        .initial_stream_window_size(HTTP2_WINDOW_BYTES)
        .initial_connection_window_size(HTTP2_WINDOW_BYTES)
        .max_header_list_size(HEAD_BYTES_MAX as u32)
        .keep_alive_interval(Some(Duration::from_secs(60)))
        .keep_alive_timeout(Duration::from_secs(20));
    http
}

/// Answers at `kind` until `stop` turns true, then lets open connections end.
pub(super) async fn serve(
    listener: TcpListener,
    kind: ListenerKind,
    front: Arc<Front>,
    mut stop: watch::Receiver<bool>,
) {
    let mut open = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener, &front) => accepted,
            Some(_) = open.join_next(), if !open.is_empty() => continue,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        let Some((stream, place)) = accepted else { break };
        let (front, stop) = (front.clone(), stop.clone());
        open.spawn(async move {
            front.connections.add(1);
            connection(stream, kind, &front, stop).await;
            front.connections.sub(1);
            drop(place);
        });
    }
    drop(listener);
    let drained = async { while open.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(DRAIN_TIMEOUT, drained).await;
}

async fn accept(listener: &TcpListener, front: &Front) -> Option<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let place = front.places.clone().acquire_owned().await.ok()?;
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return Some((stream, place)),
            Err(error) => {
                // Out of files, or a client that left before we came: neither ends the listener.
                tracing::debug!(%error, "accept");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
}

async fn connection(stream: TcpStream, kind: ListenerKind, front: &Arc<Front>, mut stop: watch::Receiver<bool>) {
    let _ = stream.set_nodelay(true);
    let spoke = Arc::new(AtomicBool::new(false));
    let service = service_fn(|request: Request<Incoming>| {
        spoke.store(true, Ordering::Relaxed);
        let front = front.clone();
        async move { Ok::<_, Infallible>(front.answer(kind, request).await) }
    });
    let stream = Impatient::new(stream, front.patience);
    let served = front.http.serve_connection_with_upgrades(TokioIo::new(stream), service);
    tokio::pin!(served);
    // Until it is known which protocol a client speaks, hyper sets it no time limit.
    let silence = tokio::time::sleep(HEAD_TIMEOUT);
    tokio::pin!(silence);
    let mut listening = true;
    let mut stopping = false;
    loop {
        tokio::select! {
            result = served.as_mut() => {
                if let Err(error) = result {
                    tracing::debug!(error, "connection");
                }
                return;
            }
            () = silence.as_mut(), if listening => {
                if !spoke.load(Ordering::Relaxed) {
                    return;
                }
                listening = false;
            }
            _ = stop.wait_for(|stop| *stop), if !stopping => {
                stopping = true;
                served.as_mut().graceful_shutdown();
            }
        }
    }
}

/// Mends the path of a client whose base URL ends in a slash: `//api/v1/query`, `/tempo//api/echo`.
/// Slashes further inside may be part of a name and stay.
fn tidy(uri: &Uri) -> Option<Uri> {
    let path = uri.path();
    if !path.contains("//") {
        return None;
    }
    let mut mended = format!("/{}", path.trim_start_matches('/'));
    for base in BASES {
        if let Some(rest) = mended.strip_prefix(base).filter(|rest| rest.starts_with("//")) {
            mended = format!("{base}/{}", rest.trim_start_matches('/'));
        }
    }
    if let Some(query) = uri.query() {
        mended.push('?');
        mended.push_str(query);
    }
    mended.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

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
    }

    #[test]
    fn slashes_within_a_name_stay() {
        let path = "/jaeger/api/services/http://shop/operations";
        assert_eq!(mended(path), path);
    }
}
