//! How a query of traces runs and is counted.

use super::error::TraceError;
use crate::api::context::Context;
use crate::base::error::{Classify, ErrorClass};
use crate::base::limits::QueryBudget;
use crate::model::span::TraceId;
use crate::query::traceql::QueryError;

/// Runs a query on a blocking thread and counts how it ended.
pub(in crate::api) async fn run<T, F>(context: &Context, work: F) -> Result<T, TraceError>
where
    T: Send + 'static,
    F: FnOnce(&Context, &QueryBudget) -> Result<T, QueryError> + Send + 'static,
{
    run_asked(context, |context, budget| Ok(work(context, budget)?)).await
}

/// The same for work that reads first what is asked: text is parsed where the query runs, within its budget.
pub(in crate::api) async fn run_asked<T, F>(context: &Context, work: F) -> Result<T, TraceError>
where
    T: Send + 'static,
    F: FnOnce(&Context, &QueryBudget) -> Result<T, TraceError> + Send + 'static,
{
    let result = match context.run(None, work).await {
        Ok(result) => result,
        Err(limit) => Err(TraceError::Query(limit.into())),
    };
    count(context, &result);
    result
}

/// Counts a query by its outcome.
fn count<T>(context: &Context, result: &Result<T, TraceError>) {
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

/// Up to 32 hexadecimal digits; shorter ids have lost their leading zeros.
pub(in crate::api) fn trace_id(text: &str) -> Option<TraceId> {
    let plain = (1..=32).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let number = u128::from_str_radix(text, 16).ok().filter(|_| plain)?;
    Some(TraceId(number.to_be_bytes()))
}
