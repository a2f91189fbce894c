//! How handlers of this dialect answer: a query on a blocking thread writes JSON into a sink, and each
//! answer is counted by its outcome.

use std::ops::Range;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::header;

use super::error::ApiError;
use crate::api::context::Context;
use crate::api::stream::Sink;
use crate::base::counters::Counters;
use crate::base::limits::{LimitError, QueryBudget};
use crate::model::sample::Columns;
use crate::store::{SeriesSet, StoreError};
use crate::wire::compress::Coding;

const JSON: &str = "application/json";

/// Runs a query and answers with the JSON that it writes; counts it.
pub(super) async fn answer<F>(context: &Context, timeout: Option<Duration>, coding: Coding, work: F) -> Response
where
    F: FnOnce(&Context, &QueryBudget, &mut Sink) -> Result<(), ApiError> + Send + 'static,
{
    counted(context, context.stream(timeout, coding, JSON, work)).await
}

/// Counts a query when it has an answer, or when nobody waits for it any more.
struct Count {
    counters: Counters,
    started: Instant,
    outcome: &'static str,
}

impl Drop for Count {
    fn drop(&mut self) {
        let took = self.started.elapsed();
        let language = ("language", "promql");
        let help = "Queries answered, by language and outcome.";
        self.counters.counter("trilith_queries_total", help, &[language, ("outcome", self.outcome)]).inc();
        let help = "Time until a query had an answer, waiting included.";
        self.counters.durations("trilith_query_duration_seconds", help, &[language]).observe(took);
        let help = "Time spent on queries, waiting included.";
        let spent = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.counters.nanoseconds("trilith_query_seconds_total", help, &[language]).add(spent);
    }
}

/// Counts an answer of any type, and says why there is none.
pub(super) async fn counted(context: &Context, answer: impl Future<Output = Result<Response, ApiError>>) -> Response {
    let counters = context.counters.clone();
    let mut count = Count { counters, started: Instant::now(), outcome: "canceled" };
    let result = answer.await;
    count.outcome = result.as_ref().map_or_else(ApiError::kind, |_| "success");
    result.unwrap_or_else(ApiError::into_response)
}

/// Hands the samples of series to `write`, which may fail in its own way.
pub(super) fn read_each<E: From<StoreError>>(
    set: &dyn SeriesSet,
    places: Range<usize>,
    budget: &QueryBudget,
    mut write: impl FnMut(usize, &Columns) -> Result<(), E>,
) -> Result<(), E> {
    let mut failed = None;
    let read = set.read(places, budget, &mut |place, columns| {
        write(place, columns).map_err(|error| {
            failed = Some(error);
            LimitError::Canceled.into()
        })
    });
    match failed {
        Some(error) => Err(error),
        None => Ok(read?),
    }
}

fn json_response(body: String) -> Response {
    ([(header::CONTENT_TYPE, JSON)], Body::from(body)).into_response()
}

/// Wraps JSON in the envelope of a success.
pub(super) fn success(data: &str) -> Response {
    json_response(format!("{{\"status\":\"success\",\"data\":{data}}}"))
}
