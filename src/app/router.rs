//! Which listener serves which paths. The tables of `receive` and `api` say what there is; this file
//! says where it lies.

use std::future::ready;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::header::ACCEPT;
use axum::http::{HeaderMap, Method, StatusCode};
use axum::middleware::map_response;
use axum::response::Response;
use axum::routing::get;
use tower_http::compression::CompressionLayer;
use tower_http::compression::predicate::{DefaultPredicate, NotForContentType, Predicate as _, SizeAbove};

use crate::api::{self, Endpoint, jaeger, loki, prometheus, tempo};
use crate::receive::{self, Listener};

use super::admin;
use super::answers;
use super::astray::{Asked, Doors};
use super::config::Extra;
use super::listener::ListenerKind;
use super::reply::{self, Refusal};
use super::services::Services;
use super::state::ServerState;

/// Prefixes below which a dialect has its own base URL.
pub(super) const BASES: [&str; 3] = ["/loki", "/tempo", "/jaeger"];

/// Tables of the main listener besides Prometheus's: each dialect at its base. Loki's paths begin with names of their own
/// (`/loki/api`, `/api/prom`), so they can also lie at the root.
const MAIN: &[(&str, &[Endpoint])] = &[
    ("", loki::ENDPOINTS),
    ("/loki", loki::ENDPOINTS),
    ("/tempo", tempo::ENDPOINTS),
    ("", tempo::GRPC_ENDPOINTS),
    ("/jaeger", jaeger::ENDPOINTS),
];

/// Tables of the Loki listener.
const LOKI: &[(&str, &[Endpoint])] = &[("", loki::ENDPOINTS)];

/// Tables of the Tempo listener.
const TEMPO: &[(&str, &[Endpoint])] = &[("", tempo::ENDPOINTS), ("", tempo::GRPC_ENDPOINTS)];

/// Answers below this size are sent as they are: gzip would not make them smaller by a packet.
const COMPRESS_BYTES_MIN: u64 = 1_024;

/// What answers while the server starts and when it stops.
pub(super) fn waiting(state: &ServerState, kind: ListenerKind) -> Router {
    let readiness = state.readiness.clone();
    let refuse = move |headers: HeaderMap| {
        let reason = readiness.phase().reason().unwrap_or_else(|| "just getting ready".to_owned());
        let response =
            reply::refuse(Refusal::Unavailable, reply::is_grpc(&headers), &format!("the server is {reason}"));
        async move { response }
    };
    let readiness = state.readiness.clone();
    let replay = get(move || async move { reply::json(StatusCode::OK, &readiness.phase().replay()) });
    let router = server_pages(state, kind);
    // The one endpoint of an API that is asked for its answer before there are others.
    let router = if kind == ListenerKind::Main { router.route("/api/v1/status/walreplay", replay) } else { router };
    router.fallback(refuse).layer(gzip())
}

/// Pages of the server itself at `kind`.
fn server_pages(state: &ServerState, kind: ListenerKind) -> Router {
    let router = admin::routes(kind).with_state(state.clone());
    if kind == ListenerKind::Main { router.merge(crate::ui::routes()) } else { router }
}

/// Adds the answers for everything else, and compression.
fn finish(router: Router, state: &ServerState, kind: ListenerKind) -> Router {
    let doors = Arc::new(Doors::new(&state.config.lock()));
    let other = doors.clone();
    let unknown = move |request: Request| ready(astray(&doors, kind, Refusal::NotFound, &request));
    let wrong_method = move |request: Request| ready(astray(&other, kind, Refusal::Method, &request));
    router.fallback(unknown).method_not_allowed_fallback(wrong_method).layer(gzip())
}

/// The answer where there is no such path, or not for this method: a page for browsers, with what is meant instead
/// where that can be told; a sender's answer carries it to the log, too.
fn astray(doors: &Doors, kind: ListenerKind, refusal: Refusal, request: &Request) -> Response<Body> {
    let (method, uri, headers) = (request.method(), request.uri(), request.headers());
    let asked = Asked { kind, method, uri, headers };
    let path: String = uri.path().chars().take(200).collect();
    let what = match refusal {
        Refusal::Method => format!("{path} does not answer {method}"),
        _ => format!("page not found: {path}"),
    };
    let advice = doors.advise(&asked);
    if is_browser(method, headers) {
        // A page that is known elsewhere is no mistake of who asks for it.
        let what = if advice.as_ref().is_some_and(|own| !own.loses) { format!("{path} is not here") } else { what };
        let advice = advice.map_or_else(String::new, |advice| advice.text);
        return reply::page(refusal, &what, &advice, &doors.home(&asked));
    }
    let message = advice.as_ref().map_or_else(|| what.clone(), |advice| format!("{what}; {}", advice.text));
    let mut response = reply::refuse(refusal, reply::is_grpc(headers), &message);
    if let Some(advice) = advice.filter(|advice| advice.loses) {
        response.extensions_mut().insert(advice);
    }
    response
}

/// Whether a person asks: programs want JSON, also those that say so beside other types.
fn is_browser(method: &Method, headers: &HeaderMap) -> bool {
    let accept = headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    *method == Method::GET && accept.contains("text/html") && !accept.contains("application/json")
}

/// Gzip and nothing else: Grafana's plugins fail on zstd and on the usual deflate even where the
/// browser offers them. Answers of `api::stream` come packed already.
fn gzip() -> CompressionLayer<impl tower_http::compression::Predicate> {
    let worth_it = DefaultPredicate::new()
        .and(SizeAbove::new(COMPRESS_BYTES_MIN))
        .and(NotForContentType::const_new("application/x-streamed-protobuf"));
    CompressionLayer::new().quality(tower_http::CompressionLevel::Fastest).compress_when(worth_it)
}

/// What answers once the store is open.
pub(super) fn open(state: &ServerState, services: &Services, kind: ListenerKind) -> Router {
    let receivers = |listener| receive::router_for(listener, services.receive.clone());
    let queries = |tables: &[(&str, &[Endpoint])]| {
        let routes = tables.iter().fold(Router::new(), |router, (base, rows)| router.merge(api::routes(base, rows)));
        routes.with_state(services.api.clone())
    };
    let router = match kind {
        ListenerKind::Main => receivers(Listener::Main)
            .merge(queries(MAIN))
            .merge(prometheus::router("").with_state(services.api.clone())),
        ListenerKind::Extra(Extra::OtlpGrpc) => receivers(Listener::OtlpGrpc),
        ListenerKind::Extra(Extra::OtlpHttp) => receivers(Listener::OtlpHttp),
        ListenerKind::Extra(Extra::Loki) => receivers(Listener::Loki).merge(queries(LOKI)),
        ListenerKind::Extra(Extra::Tempo) => queries(TEMPO),
    };
    // The server's own pages are answered also when there is no memory for anything else.
    let (answers, connections) = (services.answers.clone(), state.connections.clone());
    let held = map_response(move |response| {
        let (answers, connections) = (answers.clone(), connections.clone());
        async move { answers::hold(&answers, &connections, response).await }
    });
    finish(server_pages(state, kind).merge(router.layer(held)), state, kind)
}
