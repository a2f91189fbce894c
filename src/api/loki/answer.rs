//! How handlers of this dialect answer: a query on a blocking thread gives JSON, and each answer is
//! counted by its outcome.

use std::time::Instant;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::header;

use super::error::ApiError;
use crate::api::context::Context;
use crate::base::limits::QueryBudget;

/// Runs a query and answers with its JSON; counts it.
pub(super) async fn answer<F>(context: &Context, work: F) -> Response
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

/// An answer that is JSON already.
pub(super) fn json_response(body: String) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], Body::from(body)).into_response()
}
