//! The HTTP API of Loki, version 1, over LogQL and the logs of the store.
//! Flow: parameters of URL and form, merged → a query on a blocking thread → JSON written straight
//! into the body; errors are plain text. Spec: https://grafana.com/docs/loki/latest/reference/loki-http-api/

mod detected;
mod error;
mod fixed;
mod index;
mod json;
mod meta;
mod params;
mod query;
mod tail;

use std::time::Instant;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, any, get};
use http::header;

use super::{Context, Endpoint};
use crate::base::limits::QueryBudget;

use error::ApiError;

/// What this dialect answers, below its base.
pub const ENDPOINTS: &[Endpoint] = &[
    endpoint("GET, POST", "/loki/api/v1/query", "a metric query at one time", || {
        get(query::instant).post(query::instant)
    }),
    endpoint("GET, POST", "/loki/api/v1/query_range", "a query over a range", || get(query::range).post(query::range)),
    endpoint("GET, POST", "/loki/api/v1/labels", "names of labels", || get(meta::labels).post(meta::labels)),
    endpoint("GET, POST", "/loki/api/v1/label", "names of labels", || get(meta::labels).post(meta::labels)),
    endpoint("GET, POST", "/loki/api/v1/label/{name}/values", "values of a label", || {
        get(meta::label_values).post(meta::label_values)
    }),
    endpoint("GET, POST", "/loki/api/v1/series", "label sets of streams", || get(meta::series).post(meta::series)),
    endpoint("GET, POST", "/loki/api/v1/index/stats", "streams, chunks, bytes and lines of a selector", || {
        get(index::stats).post(index::stats)
    }),
    endpoint("GET, POST", "/loki/api/v1/index/volume", "bytes by labels", || get(index::volume).post(index::volume)),
    endpoint("GET, POST", "/loki/api/v1/index/volume_range", "bytes by labels over time", || {
        get(index::volume_range).post(index::volume_range)
    }),
    endpoint("GET, POST", "/loki/api/v1/detected_labels", "labels and how many values they have", || {
        get(detected::labels).post(detected::labels)
    }),
    endpoint("GET, POST", "/loki/api/v1/detected_fields", "fields of a sample of lines", || {
        get(detected::fields).post(detected::fields)
    }),
    endpoint("GET, POST", "/loki/api/v1/detected_field/{name}/values", "values of a field", || {
        get(detected::values).post(detected::values)
    }),
    endpoint("GET, POST", "/loki/api/v1/patterns", "patterns of lines: none are mined", || {
        get(fixed::patterns).post(fixed::patterns)
    }),
    endpoint("GET", "/loki/api/v1/drilldown-limits", "limits that Logs Drilldown asks for", || {
        get(fixed::drilldown_limits)
    }),
    endpoint("GET", "/loki/api/v1/status/buildinfo", "version", || get(fixed::buildinfo)),
    endpoint("GET, POST", "/loki/api/v1/format_query", "a query in its canonical form", || {
        get(query::format).post(query::format)
    }),
    endpoint("GET", "/loki/api/v1/tail", "new lines by WebSocket", || get(tail::tail)),
    endpoint("GET", "/prometheus/api/v1/rules", "rule groups over logs: none", || get(fixed::rules)),
    endpoint("GET", "/prometheus/api/v1/alerts", "alerts over logs: none", || get(fixed::alerts)),
    endpoint("any", "/loki/api/v1/rules", "404: rules are not edited here", || any(fixed::not_found)),
    endpoint("any", "/loki/api/v1/rules/{*path}", "404: rules are not edited here", || any(fixed::not_found)),
    endpoint("any", "/api/prom/rules", "404: rules are not edited here", || any(fixed::not_found)),
    endpoint("any", "/api/prom/rules/{*path}", "404: rules are not edited here", || any(fixed::not_found)),
];

const fn endpoint(
    methods: &'static str,
    path: &'static str,
    summary: &'static str,
    route: fn() -> MethodRouter<Context>,
) -> Endpoint {
    Endpoint { methods, path, summary, route }
}

/// Runs a query and answers with its JSON; counts it.
async fn answer<F>(context: &Context, work: F) -> Response
where
    F: FnOnce(&Context, &QueryBudget) -> Result<String, ApiError> + Send + 'static,
{
    let started = Instant::now();
    let result = match context.run(None, work).await {
        Ok(result) => result,
        Err(limit) => Err(ApiError::from(limit)),
    };
    let outcome = result.as_ref().map_or_else(ApiError::outcome, |_| "success");
    let labels = [("language", "logql"), ("outcome", outcome)];
    context.counters.counter("trilith_queries_total", "Queries answered, by language and outcome.", &labels).inc();
    let spent = u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX);
    let help = "Time spent on queries, waiting included.";
    context.counters.nanoseconds("trilith_query_seconds_total", help, &[("language", "logql")]).add(spent);
    match result {
        Ok(body) => json_response(body),
        Err(error) => error.into_response(),
    }
}

fn json_response(body: String) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], Body::from(body)).into_response()
}

#[cfg(test)]
mod tests;
