//! The API of Tempo: traces by id, search, tags, TraceQL metrics; over HTTP here, over gRPC in
//! `grpc`. Grafana decodes answers strictly, so their shapes are those of `wire::tempo` and no more.
//! Spec: <https://grafana.com/docs/tempo/latest/api_docs/>.

pub mod error;
mod grpc;
pub mod json;
mod metrics;
pub mod params;
mod search;
mod status;
mod tags;
mod trace;

use axum::routing::get;

use super::Context;
use super::Endpoint;
use crate::base::error::Classify;
use crate::base::error::ErrorClass;
use crate::base::limits::QueryBudget;
use crate::query::traceql::QueryError;
use error::Problem;

pub use grpc::GRPC_ENDPOINTS;
pub(super) use trace::trace_id;

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
    Endpoint {
        methods: "GET",
        path: "/api/echo",
        summary: "Says echo, for health checks",
        route: || get(status::echo),
    },
    Endpoint {
        methods: "GET",
        path: "/api/status/buildinfo",
        summary: "The version of Tempo whose API this is",
        route: || get(status::buildinfo),
    },
];

/// Runs a query on a blocking thread and counts how it ended.
pub(super) async fn run<T, F>(context: &Context, work: F) -> Result<T, Problem>
where
    T: Send + 'static,
    F: FnOnce(&Context, &QueryBudget) -> Result<T, QueryError> + Send + 'static,
{
    let result = match context.run(None, work).await {
        Ok(result) => result.map_err(Problem::Query),
        Err(limit) => Err(Problem::Query(limit.into())),
    };
    count(context, &result);
    result
}

/// Counts a query by its outcome.
fn count<T>(context: &Context, result: &Result<T, Problem>) {
    let outcome = match result.as_ref().map_err(Classify::class) {
        Ok(_) => "ok",
        Err(ErrorClass::BadData | ErrorClass::NotFound) => "bad_data",
        Err(ErrorClass::TooLarge | ErrorClass::Execution) => "limit",
        Err(ErrorClass::Timeout) => "timeout",
        Err(ErrorClass::Canceled) => "canceled",
        Err(ErrorClass::Throttled | ErrorClass::Unavailable | ErrorClass::Internal) => "error",
    };
    let labels = [("language", "traceql"), ("outcome", outcome)];
    context.counters.counter("trilith_queries_total", "Queries by language and outcome.", &labels).inc();
}
