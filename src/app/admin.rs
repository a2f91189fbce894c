//! Pages of the server about itself: health, readiness, its own numbers, flush and reload.

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{Response, StatusCode};
use axum::routing::{MethodRouter, get, post};
use serde_json::{Value, json};

use crate::store::conditions::Condition;

use super::config::Config;
use super::listener::ListenerKind;
use super::reply::Refusal;
use super::state::ServerState;
use super::status::{conditions, status};
use super::{metrics, reply};

/// One page.
struct Page {
    methods: &'static str,
    path: &'static str,
    summary: &'static str,
    /// Whether every listener has it, or the main one alone.
    everywhere: bool,
    route: fn() -> MethodRouter<ServerState>,
}

const PAGES: &[Page] = &[
    Page { methods: "GET", path: "/-/", summary: "this list", everywhere: false, route: || get(list) },
    Page {
        methods: "GET",
        path: "/-/healthy",
        summary: "200 while the process lives",
        everywhere: true,
        route: || get(healthy),
    },
    Page {
        methods: "GET",
        path: "/-/ready",
        summary: "200 when requests are answered, with what is wrong with the store, else 503 and the reason",
        everywhere: true,
        route: || get(ready),
    },
    Page {
        methods: "GET",
        path: "/ready",
        summary: "the same, as Loki and Tempo have it",
        everywhere: true,
        route: || get(ready),
    },
    Page {
        methods: "GET",
        path: "/metrics",
        summary: "the server's own numbers, in the Prometheus text format",
        everywhere: true,
        route: || get(show_metrics),
    },
    Page {
        methods: "GET",
        path: "/-/status",
        summary: "what the web page shows, as JSON",
        everywhere: false,
        route: || get(status),
    },
    Page {
        methods: "POST",
        path: "/-/flush",
        summary: "writes what is in memory to parts; answers when they are durable",
        everywhere: false,
        route: || post(flush),
    },
    Page {
        methods: "POST",
        path: "/-/trust-clock",
        summary: "says that the machine's clock is right, when retention waits because it has jumped ahead",
        everywhere: false,
        route: || post(trust_clock),
    },
    Page {
        methods: "POST",
        path: "/-/reload",
        summary: "read the configuration again; says what changed and what needs a restart",
        everywhere: false,
        route: || post(reload),
    },
];

/// The pages that a listener has.
pub(super) fn routes(kind: ListenerKind) -> Router<ServerState> {
    let pages = PAGES.iter().filter(|page| page.everywhere || kind == ListenerKind::Main);
    pages.fold(Router::new(), |router, page| router.route(page.path, (page.route)()))
}

async fn list() -> Response<Body> {
    reply::json(StatusCode::OK, &listing())
}

fn listing() -> Value {
    let row = |page: &Page| json!({"methods": page.methods, "path": page.path, "summary": page.summary});
    Value::Array(PAGES.iter().map(row).collect())
}

async fn healthy() -> Response<Body> {
    reply::text(StatusCode::OK, "healthy\n")
}

async fn ready(State(state): State<ServerState>) -> Response<Body> {
    match state.readiness.phase().reason() {
        None => reply::text(StatusCode::OK, ready_text(&conditions(&state))),
        Some(reason) => reply::text(StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
    }
}

fn ready_text(conditions: &[Condition]) -> String {
    conditions.iter().fold("ready\n".to_owned(), |text, own| {
        let signal = own.signal.map(|signal| format!(" ({})", signal.name())).unwrap_or_default();
        format!("{text}{}{signal}: {}\n", own.name, own.text)
    })
}

async fn show_metrics(State(state): State<ServerState>) -> Response<Body> {
    metrics::refresh(&state);
    reply::typed(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", state.counters.expose())
}

/// Writes heads to parts and answers when those are durable.
async fn flush(State(state): State<ServerState>) -> Response<Body> {
    let Some(services) = state.services.get().cloned() else {
        return reply::refuse(Refusal::Unavailable, false, "the server is not ready; retry");
    };
    match tokio::task::spawn_blocking(move || services.store.flush()).await {
        Ok(Ok(())) => reply::json(StatusCode::OK, &json!({"status": "success"})),
        Ok(Err(error)) => {
            tracing::error!(%error, source = ?std::error::Error::source(&error), "flush asked for failed");
            reply::refuse(Refusal::Unavailable, false, &format!("flush: {error}"))
        }
        Err(error) => reply::refuse(Refusal::Internal, false, &format!("flush: {error}")),
    }
}

/// Has retention go by the machine's clock again.
async fn trust_clock(State(state): State<ServerState>) -> Response<Body> {
    let Some(services) = state.services.get().cloned() else {
        return reply::refuse(Refusal::Unavailable, false, "the server is not ready; retry");
    };
    tracing::warn!("told that the machine's clock is right");
    match tokio::task::spawn_blocking(move || services.store.trust_clock()).await {
        Ok(()) => reply::json(StatusCode::OK, &json!({"status": "success"})),
        Err(error) => reply::refuse(Refusal::Internal, false, &format!("trust the clock: {error}")),
    }
}

/// Reads the configuration again and puts in force what can change while the server runs.
async fn reload(State(state): State<ServerState>) -> Response<Body> {
    let before = state.config.lock().clone();
    let invocation = before.invocation.clone();
    let loaded = tokio::task::spawn_blocking(move || Config::load(invocation)).await;
    let after = match loaded {
        Ok(Ok(after)) => after,
        Ok(Err(problems)) => {
            let text = problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
            tracing::error!(problems = text, "reload refused; nothing changed");
            let body = json!({"status": "error", "errorType": "bad_data", "error": text});
            return reply::json(StatusCode::BAD_REQUEST, &body);
        }
        Err(error) => {
            let body = json!({"status": "error", "errorType": "internal", "error": error.to_string()});
            return reply::json(StatusCode::INTERNAL_SERVER_ERROR, &body);
        }
    };
    let changed = before.changed(&after);
    let names = |live: bool| changed.iter().filter(|s| s.live == live).map(|s| s.name).collect::<Vec<_>>();
    let (applied, needs_restart) = (names(true), names(false));
    let mut config = state.config.lock();
    config.retention = after.retention;
    config.metrics_rules.clone_from(&after.metrics_rules);
    if let Some(services) = state.services.get() {
        services.set_retention(after.retention, after.metrics_rules);
    }
    if let Some(telemetry) = state.telemetry.as_ref().filter(|_| applied.contains(&"log-level")) {
        telemetry.set_level(&after.log_level);
    }
    config.log_level = after.log_level;
    for name in &applied {
        if let Some(value) = after.effective.get(name) {
            config.effective.insert(name, value.clone());
        }
    }
    drop(config);
    tracing::info!(?applied, ?needs_restart, "configuration read again");
    reply::json(StatusCode::OK, &json!({"status": "success", "applied": applied, "needs_restart": needs_restart}))
}
