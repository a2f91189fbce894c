//! Queries while they run, and the log of slow ones: each once, with what it asked, what it took and
//! which panel of which dashboard it is for.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::error::ApiError;
use super::params::Params;
use crate::api::context::Context;
use crate::api::server_info::RunningQuery;
use crate::base::counters::Cell;
use crate::base::limits::QueryBudget;
use crate::query::promql::{Answer, AnswerValue, PromqlError};

/// Characters of a query's text that are logged.
const TEXT_MAX: usize = 2_000;

/// A query that is watched until it is dropped.
pub(super) struct Watched {
    query: Arc<RunningQuery>,
    number: u64,
    context: Context,
    slow: Cell,
    is_logged: bool,
}

/// Watches a query; `times` are its first and last time and its step.
pub(super) fn begin(context: &Context, params: &Params, text: &str, times: (i64, i64, i64)) -> Watched {
    let text: String = text.chars().take(TEXT_MAX).collect();
    let query = Arc::new(RunningQuery { text, times, asker: params.asker.clone(), since: Instant::now() });
    let help = "Queries that took longer than --slow-query.";
    Watched {
        number: context.server_info.running.add(query.clone()),
        query,
        context: context.clone(),
        slow: context.counters.counter("trilith_slow_queries_total", help, &[("language", "promql")]),
        is_logged: false,
    }
}

/// What came of a query.
#[derive(Default)]
struct End<'a> {
    outcome: &'a str,
    waited: Duration,
    samples: u64,
    memory_peak: u64,
    series: usize,
}

impl Watched {
    /// The query has an answer, or none; it had waited for `waited` before it began.
    pub(super) fn ended(&mut self, waited: Duration, result: &Result<Answer, PromqlError>, budget: &QueryBudget) {
        let series = result.as_ref().map_or(0, |answer| match &answer.value {
            AnswerValue::Vector(all) => all.len(),
            AnswerValue::Matrix(all) => all.len(),
            AnswerValue::Scalar(..) | AnswerValue::String(..) => 1,
        });
        let outcome = result.as_ref().err().map_or("success", |error| ApiError::kind_of(error));
        let (samples, memory_peak) = (budget.rows(), budget.memory_peak());
        self.log(&End { outcome, waited, samples, memory_peak, series });
    }

    fn log(&mut self, end: &End<'_>) {
        let took = self.query.since.elapsed();
        self.is_logged = true;
        if self.context.server_info.slow_query.is_none_or(|limit| took < limit) {
            return;
        }
        self.slow.inc();
        let ms = |duration: Duration| duration.as_secs_f64() * 1e3;
        let (start, end_time, step) = self.query.times;
        let asker = self.query.asker.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>();
        tracing::warn!(
            query = self.query.text,
            start_ms = start,
            end_ms = end_time,
            step_ms = step,
            outcome = end.outcome,
            samples = end.samples,
            memory_peak_bytes = end.memory_peak,
            series = end.series,
            queue_ms = ms(end.waited),
            run_ms = ms(took.saturating_sub(end.waited)),
            asker = asker.join(" "),
            "slow query"
        );
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.context.server_info.running.remove(self.number);
        if !self.is_logged {
            // It never began: its place did not come free in time, or its client went away.
            let waited = self.query.since.elapsed();
            self.log(&End { outcome: "not run", waited, ..End::default() });
        }
    }
}
