//! How telemetry arrives, one file per protocol; [`RECEIVERS`] lists them.
//! Flow: `http.rs` (or `grpc.rs`) reads a body within its caps → a blocking thread inflates it, runs
//! the row's `decode` and pushes the batch into `ingest` → `reply.rs` answers as the dialect does.
//! A row is a pure function and its names; caps, deadlines and counters are the handler's work, so a
//! new protocol cannot forget them.

#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

mod failure;
mod grpc;
mod http;
mod import;
mod imports;
mod listener;
mod loki_push;
mod otlp;
mod receiver;
mod refused;
mod remote_write;
mod reply;
mod work;

use axum::Router;
use axum::routing::post;

pub use self::failure::Failure;
pub use self::listener::Listener;
pub use self::receiver::{Batch, DecodeError, Decoded, Dialect, Headers, Receiver};
pub use self::refused::{ROWS_MAX, Refused, RefusedLately};
pub use self::work::{Options, State};

/// All push protocols.
pub const RECEIVERS: &[Receiver] =
    &[remote_write::WRITE, loki_push::PUSH, otlp::TRACES, otlp::LOGS, otlp::METRICS, import::TEXT];

/// Every receiver, as the main listener serves them.
pub fn router(state: State) -> Router {
    router_for(Listener::Main, state)
}

/// The receivers of one listener. Other methods than POST are answered with 405.
pub fn router_for(listener: Listener, state: State) -> Router {
    let mut router = Router::new();
    for receiver in RECEIVERS {
        for path in receiver.paths.iter().filter(|path| listener.serves_path(receiver, path)) {
            let state = state.clone();
            router = router.route(path, post(move |request| http::handle(receiver, state, request)));
        }
        if let Some(path) = receiver.grpc.filter(|_| listener.serves_grpc()) {
            let state = state.clone();
            router = router.route(path, post(move |request| grpc::handle(receiver, state, request)));
        }
    }
    router
}
