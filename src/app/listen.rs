//! Listeners: HTTP/1.1, HTTP/2 without TLS and gRPC on one port, with bounds on connections and
//! on the time a client may take to say what it wants.
//! Flow: accept, serve, route by the server's phase, catch panics.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::{Request, Response, StatusCode, Uri};
use hyper::body::{Body as _, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tower::ServiceExt as _;

use crate::api::{self, Asker};
use crate::base::clock::{Clock as _, SystemClock};
use crate::base::counters::{Cell, Counters};
use crate::base::in_flight::{self, BodyError, InFlight, Room, Sender};
use crate::receive::{RECEIVERS, Refused, RefusedLately};

use super::answers;
use super::astray::{Advice, Seldom};
use super::body::Watched;
use super::connections::{Connection, Connections};
use super::listener::ListenerKind;
use super::readiness::Readiness;
use super::reply::{self, Refusal};
use super::router::BASES;
use super::stall::Impatient;

/// How long a connection may stay without sending the head of its next request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(60);

/// Head of a request, the longest URI that the `http` crate takes (65,534 bytes) included.
const HEAD_BYTES_MAX: usize = 128 << 10;

/// What one client may have in flight on one HTTP/2 connection before somebody reads it.
const HTTP2_WINDOW_BYTES: u32 = 256 << 10;

/// Streams that a client may have open on one HTTP/2 connection.
const HTTP2_STREAMS_MAX: u32 = 128;

/// Streams that a client may have reset on one HTTP/2 connection before they were looked at; with more it is closed.
const HTTP2_RESETS_MAX: usize = 20;

/// Streams that we may have reset for a client's errors on one HTTP/2 connection; with more it is closed.
const HTTP2_ERRORS_MAX: usize = 256;

/// What waits to be sent on one stream.
const HTTP2_SEND_BYTES: usize = 256 << 10;

/// A head of up to this size is not charged.
const HEAD_BYTES_FREE: u64 = 8 << 10;

/// How long open connections may take to end their last request when the server stops.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);

/// What all listeners share.
pub(super) struct Front {
    readiness: Arc<Readiness>,
    counters: Counters,
    panics: Cell,
    connections: Arc<Connections>,
    in_flight: Arc<InFlight>,
    http: auto::Builder<TokioExecutor>,
    /// How long a client may take nothing.
    patience: Duration,
    /// What the log has said of requests that came to the wrong door.
    mistakes: Seldom,
    /// The last of them, for people to look at.
    astray: Arc<RefusedLately>,
}

impl Front {
    /// A connection is closed when its client takes nothing for `patience`.
    pub(super) fn new(
        readiness: Arc<Readiness>,
        counters: &Counters,
        connections: Arc<Connections>,
        in_flight: Arc<InFlight>,
        patience: Duration,
        astray: Arc<RefusedLately>,
    ) -> Self {
        Self {
            readiness,
            panics: counters.counter("trilith_panics_total", "Requests that met a defect of ours.", &[]),
            connections,
            in_flight,
            counters: counters.clone(),
            http: protocol(),
            patience,
            mistakes: Seldom::default(),
            astray,
        }
    }

    /// Keeps `account` until the answer begins, so that what handlers make of a body is charged, too.
    async fn answer(
        &self,
        kind: ListenerKind,
        request: Request<Incoming>,
        sender: Sender,
        account: Arc<in_flight::Body>,
    ) -> Response<Body> {
        let started = Instant::now();
        let (method, path) = (request.method().clone(), tidy(request.uri()).unwrap_or_else(|| request.uri().clone()));
        let mut response = match charge_head(&account, &request) {
            Ok(()) => {
                let mut request = watch(request, &account);
                *request.uri_mut() = path.clone();
                self.route(kind, request).await
            }
            Err(error) => reply::refuse(Refusal::Unavailable, reply::is_grpc(request.headers()), &error.to_string()),
        };
        self.count(kind, response.status());
        if let Some(advice) = response.extensions_mut().remove::<Advice>() {
            let path: String = path.path().chars().take(200).collect();
            self.remember(kind, sender, "wrong_path", &path, &advice.text);
            if let Some(times) = self.mistakes.count(advice.mistake, started) {
                tracing::warn!(%sender, listener = kind.name(), %method, path, times, "refused, and lost: {}", advice.text);
            }
        }
        let (path, status) = (path.path(), response.status().as_u16());
        let elapsed_us = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
        tracing::debug!(listener = kind.name(), %method, path, status, elapsed_us, "request");
        response
    }

    fn remember(&self, kind: ListenerKind, sender: Sender, reason: &'static str, name: &str, advice: &str) {
        let (name, receiver, advice) = (name.to_owned(), kind.name(), advice.to_owned());
        let at_ms = SystemClock.now_ns().div_euclid(1_000_000);
        self.astray.add(Refused { at_ms, reason, name, receiver, sender: Some(sender), count: 1, advice });
    }

    /// What the router of this phase answers, or that it met a defect of ours.
    async fn route(&self, kind: ListenerKind, request: Request<Body>) -> Response<Body> {
        let grpc = reply::is_grpc(request.headers());
        let (method, uri) = (request.method().clone(), request.uri().clone());
        let mut work = Box::pin(self.readiness.router(kind).oneshot(request));
        let caught = poll_fn(|context| match catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(context))) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(Ok(response))) => Poll::Ready(Some(response)),
            Ok(Poll::Ready(Err(never))) => match never {},
            Err(_) => Poll::Ready(None),
        });
        caught.await.unwrap_or_else(|| {
            self.panics.inc();
            tracing::error!(%method, path = uri.path(), "a request met a defect of ours; it was answered with 500");
            reply::refuse(Refusal::Internal, grpc, "the server met a defect of its own; its log says more")
        })
    }

    /// Says once a minute that clients speak TLS. They are answered 400 without it, which most of them understand.
    fn note_tls(&self, kind: ListenerKind, connection: &Connection) {
        if !connection.speaks_tls() {
            return;
        }
        let advice = "write http:// for https:// in its URL, or put a proxy with TLS in between";
        let (sender, listener) = (connection.sender, kind.name());
        self.remember(kind, sender, "tls", "", advice);
        if let Some(times) = self.mistakes.count("tls", Instant::now()) {
            tracing::warn!(%sender, listener, times, "a client speaks TLS, which is not served here: {advice}");
        }
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

/// A request whose body, if it has one, is charged and watched over.
fn watch(request: Request<Incoming>, account: &Arc<in_flight::Body>) -> Request<Body> {
    if request.body().is_end_stream() {
        account.set_whole();
        return request.map(Body::new);
    }
    let mut request = request.map(|body| Body::new(Watched::new(body, account.clone())));
    request.extensions_mut().insert(account.clone());
    request
}

/// Charges the head of a request that is longer than usual.
fn charge_head(account: &in_flight::Body, request: &Request<Incoming>) -> Result<(), BodyError> {
    let uri = request.uri();
    let uri_bytes = uri.path().len() + uri.query().map_or(0, str::len);
    let header_bytes: usize = request.headers().iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    let bytes = (uri_bytes + header_bytes) as u64;
    if bytes <= HEAD_BYTES_FREE {
        return Ok(());
    }
    match account.grow(bytes, Waker::noop())? {
        Room::Taken => Ok(()),
        Room::Wait => Err(BodyError::Busy),
    }
}

fn protocol() -> auto::Builder<TokioExecutor> {
    let mut http = auto::Builder::new(TokioExecutor::new());
    http.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_buf_size(HEAD_BYTES_MAX);
    http.http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(HTTP2_STREAMS_MAX)
        .max_pending_accept_reset_streams(HTTP2_RESETS_MAX)
        .max_local_error_reset_streams(HTTP2_ERRORS_MAX)
        .max_send_buf_size(HTTP2_SEND_BYTES)
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
            accepted = accept(&listener) => accepted,
            Some(_) = open.join_next(), if !open.is_empty() => continue,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        let (stream, sender) = accepted;
        // Apart from the wait for the next, which is given up whenever a connection ends: this one must not be lost.
        let place = tokio::select! {
            place = front.connections.place() => place,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        let (front, stop) = (front.clone(), stop.clone());
        open.spawn(async move {
            let open = front.connections.open(sender, place);
            serve_connection(stream, kind, &front, &open.connection, stop).await;
        });
    }
    drop(listener);
    let drained = async { while open.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(DRAIN_TIMEOUT, drained).await;
}

/// The next connection.
async fn accept(listener: &TcpListener) -> (TcpStream, Sender) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => return (stream, peer.ip().into()),
            Err(error) => {
                // Out of files, or a client that left before we came: neither ends the listener.
                tracing::debug!(%error, "accept");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
}

async fn serve_connection(
    stream: TcpStream,
    kind: ListenerKind,
    front: &Arc<Front>,
    connection: &Arc<Connection>,
    mut stop: watch::Receiver<bool>,
) {
    let _ = stream.set_nodelay(true);
    let spoke = Arc::new(AtomicBool::new(false));
    let service = service_fn(|request: Request<Incoming>| {
        spoke.store(true, Ordering::Relaxed);
        let (front, sender) = (front.clone(), connection.sender);
        let account = front.in_flight.begin(sender);
        let active = connection.begin(account.coming());
        let asker = Asker { sender: Some(sender), connection: connection.id };
        async move {
            let response = api::on_behalf_of(asker, front.answer(kind, request, sender, account)).await;
            // An answer that flows is being answered still.
            Ok::<_, Infallible>(answers::answered(response, active))
        }
    });
    let stream = Impatient::new(stream, front.patience, connection.clone());
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
                front.note_tls(kind, connection);
                return;
            }
            () = silence.as_mut(), if listening => {
                if !spoke.load(Ordering::Relaxed) {
                    return;
                }
                listening = false;
            }
            () = connection.given_up() => return,
            () = takes_nothing(connection, front.patience) => {
                tracing::debug!("a client that takes nothing of an answer was cut off");
                return;
            }
            _ = stop.wait_for(|stop| *stop), if !stopping => {
                stopping = true;
                served.as_mut().graceful_shutdown();
            }
        }
    }
}

/// Returns when the client has taken nothing of an answer for `patience`, though the connection itself may move: by
/// HTTP/2 it can keep a stream without a window.
async fn takes_nothing(connection: &Connection, patience: Duration) {
    loop {
        let left = patience.saturating_sub(connection.stalled().unwrap_or_default());
        if left.is_zero() {
            return;
        }
        tokio::time::sleep(left).await;
    }
}

/// Mends the path of a client whose base URL ends in a slash: `//api/v1/query`, `/tempo//api/echo`, and of a sender
/// whose path does: `/v1/traces/`.
/// Slashes further inside may be part of a name and stay.
fn tidy(uri: &Uri) -> Option<Uri> {
    let path = uri.path();
    let path = path.strip_suffix('/').filter(|bare| is_receiver(bare)).unwrap_or(path);
    if path.len() == uri.path().len() && !path.contains("//") {
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

fn is_receiver(path: &str) -> bool {
    RECEIVERS.iter().any(|receiver| receiver.paths.contains(&path))
}

#[cfg(test)]
#[path = "listen_tests.rs"]
mod tests;
