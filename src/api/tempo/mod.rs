//! The API of Tempo: traces by id, search, tags, TraceQL metrics; over HTTP here, over gRPC in
//! `grpc`. Grafana decodes answers strictly, so their shapes are those of `wire::tempo` and no more.
//! Spec: <https://grafana.com/docs/tempo/latest/api_docs/>.

mod grpc;
mod metrics;
mod search;
mod tags;
mod trace;

use axum::response::IntoResponse;
use axum::routing::get;
use serde_json::json;

use super::endpoint::Endpoint;
use super::traces::json::Json;

pub use grpc::GRPC_ENDPOINTS;

/// Paths below Tempo's base.
pub const ENDPOINTS: &[Endpoint] = &[
    Endpoint {
        methods: "GET",
        path: "/api/traces/{id}",
        summary: "A trace by id, as protobuf or JSON",
        route: || get(trace::v1),
    },
    Endpoint {
        methods: "GET",
        path: "/api/v2/traces/{id}",
        summary: "A trace by id in an envelope, as protobuf or JSON",
        route: || get(trace::v2),
    },
    Endpoint {
        methods: "GET, POST",
        path: "/api/search",
        summary: "The newest traces that TraceQL, or tags and durations, find",
        route: || get(search::search).post(search::search),
    },
    Endpoint { methods: "GET", path: "/api/search/tags", summary: "Names of tags", route: || get(tags::names_v1) },
    Endpoint {
        methods: "GET",
        path: "/api/v2/search/tags",
        summary: "Names of tags by scope",
        route: || get(tags::names_v2),
    },
    Endpoint {
        methods: "GET",
        path: "/api/search/tag/{*tag}",
        summary: "Values of a tag; the path ends in /values",
        route: || get(tags::values_v1),
    },
    Endpoint {
        methods: "GET",
        path: "/api/v2/search/tag/{*tag}",
        summary: "Typed values of a tag; the path ends in /values",
        route: || get(tags::values_v2),
    },
    Endpoint {
        methods: "GET, POST",
        path: "/api/metrics/query_range",
        summary: "TraceQL metrics over time",
        route: || get(metrics::range).post(metrics::range),
    },
    Endpoint {
        methods: "GET, POST",
        path: "/api/metrics/query",
        summary: "TraceQL metrics as one value per series",
        route: || get(metrics::instant).post(metrics::instant),
    },
    Endpoint { methods: "GET", path: "/api/echo", summary: "Says echo, for health checks", route: || get(echo) },
    Endpoint {
        methods: "GET",
        path: "/api/status/buildinfo",
        summary: "The version of Tempo whose API this is",
        route: || get(buildinfo),
    },
];

/// The version of Tempo whose API this is. Grafana up to 12 allows streaming from 2.7 on.
const TEMPO_VERSION: &str = "2.8.0";

/// `GET /api/echo`
async fn echo() -> &'static str {
    "echo"
}

/// `GET /api/status/buildinfo`: the version lies at the top level.
async fn buildinfo() -> impl IntoResponse {
    Json(json!({
        "version": TEMPO_VERSION, "revision": "", "branch": "", "buildUser": "", "buildDate": "", "goVersion": "",
    }))
}
