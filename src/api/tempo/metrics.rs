//! TraceQL metrics, over a range and at an instant.

use axum::extract::{Request, State};

use super::search::size;
use crate::api::context::Context;
use crate::api::traces::error::TraceError;
use crate::api::traces::json::Written;
use crate::api::traces::params::Params;
use crate::api::traces::run::run;
use crate::base::duration;
use crate::base::limits::QueryBudget;
use crate::model::span::AttrValue;
use crate::query::traceql::QueryError;
use crate::query::traceql::metric::{Grid, MetricExemplar, MetricResult, MetricSeries, metric};
use crate::query::traceql::parse_within;
use crate::wire::tempo::{
    AnyValue, Exemplar, InstantSeries, KeyValue, QueryInstantResponse, QueryRangeResponse, Sample, SearchMetrics,
    TimeSeries, key_values,
};

/// Exemplars when none are asked for, and most that can be.
pub(super) const EXEMPLARS: u64 = 100;
/// Range when none is given, in nanoseconds: the last hour.
const RANGE_NS: i64 = 3_600_000_000_000;
/// Steps that the server chooses from, in seconds.
const STEPS_S: &[i64] = &[1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1_800, 3_600, 7_200, 21_600, 43_200, 86_400];
/// About how many samples a series has when the server chooses the step.
const SAMPLES: i64 = 120;

/// What a metrics query asks for, over HTTP or gRPC; times in nanoseconds.
pub(super) struct Asked {
    /// TraceQL.
    pub(super) query: String,
    /// Since the Unix epoch.
    pub(super) start: i64,
    /// Since the Unix epoch.
    pub(super) end: i64,
    /// Distance of samples; `None` lets the server choose.
    pub(super) step: Option<i64>,
    /// Most exemplars.
    pub(super) exemplars: u64,
}

/// `GET, POST /api/metrics/query_range`
pub(super) async fn range(State(context): State<Context>, request: Request) -> Result<Written, TraceError> {
    let asked = asked(&context, &Params::read(request).await?)?;
    range_answer(&context, asked, |answer, budget| Written::of(&answer, budget)).await
}

/// `GET, POST /api/metrics/query`
pub(super) async fn instant(State(context): State<Context>, request: Request) -> Result<Written, TraceError> {
    let asked = asked(&context, &Params::read(request).await?)?;
    instant_answer(&context, asked, |answer, budget| Written::of(&answer, budget)).await
}

fn asked(context: &Context, params: &Params) -> Result<Asked, TraceError> {
    let end = params.time_ns("end")?.unwrap_or_else(|| context.clock.now_ns());
    let since = params.duration_ns("since")?.unwrap_or(RANGE_NS);
    let start = params.time_ns("start")?.unwrap_or_else(|| end.saturating_sub(since));
    let step = match params.get("step") {
        None => None,
        Some(text) => Some(step_of(text).ok_or_else(|| {
            let text: String = text.chars().take(100).collect();
            TraceError::Bad(format!("invalid step: expected a duration or seconds above 0, got {text:?}"))
        })?),
    };
    let exemplars = params.number("exemplars")?.unwrap_or(EXEMPLARS);
    let query = params.get("q").or_else(|| params.get("query")).unwrap_or_default().to_owned();
    Ok(Asked { query, start, end, step, exemplars })
}

fn step_of(text: &str) -> Option<i64> {
    let ns = match (text.parse::<f64>(), duration::nanoseconds(text)) {
        (Ok(seconds), _) => (seconds * 1e9).round() as i64,
        (Err(_), ns) => ns?,
    };
    (ns > 0).then_some(ns)
}

fn chosen_step(start: i64, end: i64) -> i64 {
    let wanted = end.saturating_sub(start) / SAMPLES / 1_000_000_000;
    STEPS_S.iter().copied().find(|step| *step >= wanted).unwrap_or(wanted) * 1_000_000_000
}

/// Runs a query over a range; its answer is written where the query runs.
pub(super) async fn range_answer<T, F>(context: &Context, asked: Asked, write: F) -> Result<T, TraceError>
where
    T: Send + 'static,
    F: FnOnce(QueryRangeResponse, &QueryBudget) -> Result<T, QueryError> + Send + 'static,
{
    let step = asked.step.unwrap_or_else(|| chosen_step(asked.start, asked.end));
    let grid = Grid::range(asked.start, asked.end, step)?;
    compute(context, asked, grid, |result, budget| {
        let series = result.series.iter().map(time_series).collect();
        write(QueryRangeResponse { series, metrics: Some(took(&result)) }, budget)
    })
    .await
}

/// Runs a query at an instant: one value over the whole range.
pub(super) async fn instant_answer<T, F>(context: &Context, asked: Asked, write: F) -> Result<T, TraceError>
where
    T: Send + 'static,
    F: FnOnce(QueryInstantResponse, &QueryBudget) -> Result<T, QueryError> + Send + 'static,
{
    let grid = Grid::instant(asked.start, asked.end)?;
    compute(context, Asked { exemplars: 0, ..asked }, grid, |result, budget| {
        let series = result.series.iter().filter_map(|own| {
            let (_, value) = own.samples.first()?;
            Some(InstantSeries { labels: key_values(&own.labels), value: *value })
        });
        write(QueryInstantResponse { series: series.collect(), metrics: Some(took(&result)) }, budget)
    })
    .await
}

async fn compute<T, F>(context: &Context, asked: Asked, grid: Grid, write: F) -> Result<T, TraceError>
where
    T: Send + 'static,
    F: FnOnce(MetricResult, &QueryBudget) -> Result<T, QueryError> + Send + 'static,
{
    let exemplars = size(asked.exemplars.min(EXEMPLARS));
    run(context, move |context, budget| {
        let query = parse_within(&asked.query, budget)?;
        let result = metric(&*context.traces, &query, grid, exemplars, budget)?;
        budget.check()?;
        write(result, budget)
    })
    .await
}

fn took(result: &MetricResult) -> SearchMetrics {
    SearchMetrics {
        inspected_traces: 0,
        total_blocks: u32::try_from(result.blocks).unwrap_or(u32::MAX),
        completed_jobs: 1,
        total_jobs: 1,
        inspected_spans: result.inspected_spans,
    }
}

fn time_series(series: &MetricSeries) -> TimeSeries {
    let sample = |(t, value): &(i64, f64)| Sample { timestamp_ms: *t, value: *value };
    TimeSeries {
        labels: key_values(&series.labels),
        samples: series.samples.iter().map(sample).collect(),
        exemplars: series.exemplars.iter().map(exemplar).collect(),
    }
}

fn exemplar(exemplar: &MetricExemplar) -> Exemplar {
    let id = AnyValue::of(&AttrValue::Str(exemplar.trace_id.to_string()));
    let labels = vec![KeyValue { key: "trace:id".to_owned(), value: Some(id) }];
    Exemplar { labels, value: exemplar.value, timestamp_ms: exemplar.t }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_durations_or_seconds() {
        assert_eq!(step_of("15s"), Some(15_000_000_000));
        assert_eq!(step_of("0.5"), Some(500_000_000));
        assert_eq!(step_of("0"), None);
        assert_eq!(step_of("-1"), None);
        assert_eq!(step_of("x"), None);
        assert_eq!(chosen_step(0, RANGE_NS), 30_000_000_000);
    }
}
