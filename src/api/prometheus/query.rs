//! `query`, `query_range` and `format_query`.

use axum::extract::State;
use axum::response::{IntoResponse, Response};

use super::answer::answer;
use super::error::ApiError;
use super::json::{Stats, Timings};
use super::params::Params;
use super::{json, watch};
use crate::api::context::Context;
use crate::api::stream::{Sink, StreamError};
use crate::query::promql::{self, AnswerValue, LOOKBACK_MS};

/// What both kinds of queries share.
struct Asked {
    query: String,
    params: promql::Params,
    /// Whether statistics are wanted, and then whether by step.
    stats: Option<bool>,
    /// What is to be said of how they were asked for.
    deprecated: Option<String>,
    limit: usize,
}

fn asked(context: &Context, params: &Params) -> Result<Asked, ApiError> {
    // 0 stands for what is usual, as it does for Prometheus.
    let lookback = params.duration("lookback_delta")?.filter(|ms| *ms > 0).unwrap_or(LOOKBACK_MS);
    let limits = &context.engine.options;
    Ok(Asked {
        query: params.query()?,
        params: promql::Params {
            lookback,
            points_max: limits.points_max,
            series_max: limits.selected_series_max,
            count: params.get("stats").is_some(),
            threads: limits.threads,
        },
        stats: params.get("stats").map(|own| own == "all"),
        deprecated: params.get("stats").filter(|own| !matches!(*own, "all" | "true")).map(|own| {
            let what = "is deprecated and will be rejected in the next major release, use \"true\" or \"all\"";
            format!("value {own:?} for parameter \"stats\" {what}")
        }),
        limit: params.limit("limit")?,
    })
}

fn write(sink: &mut Sink, mut result: promql::Answer, asked: &Asked, timings: Timings) -> Result<(), StreamError> {
    result.warnings.extend(asked.deprecated.clone());
    let mut truncated = false;
    if asked.limit > 0 {
        match &mut result.value {
            AnswerValue::Vector(all) => {
                truncated = all.len() > asked.limit;
                all.truncate(asked.limit);
            }
            AnswerValue::Matrix(all) => {
                truncated = all.len() > asked.limit;
                all.truncate(asked.limit);
            }
            AnswerValue::Scalar(..) | AnswerValue::String(..) => {}
        }
    }
    json::answer(sink, result, asked.stats.map(|by_step| Stats { timings, by_step }), truncated)
}

pub(super) async fn instant(State(context): State<Context>, params: Params) -> Response {
    let prepared = || {
        let time = params.time("time")?.unwrap_or_else(|| context.clock.now_ms());
        Ok((asked(&context, &params)?, time, params.timeout()?))
    };
    let (asked, time, timeout) = match prepared() {
        Ok(prepared) => prepared,
        Err(error) => return ApiError::into_response(error),
    };
    let mut watched = watch::begin(&context, &params, &asked.query, (time, time, 0));
    answer(&context, timeout, params.coding, move |context, budget, sink| {
        let waited = budget.elapsed();
        let result = promql::instant(context.metrics.as_ref(), &asked.query, time, asked.params, budget);
        watched.ended(waited, &result, budget);
        Ok(write(sink, result?, &asked, Timings { waited, total: budget.elapsed() })?)
    })
    .await
}

fn required(params: &Params, name: &str) -> Result<i64, ApiError> {
    params.time(name)?.ok_or_else(|| {
        ApiError::bad_data(format!("invalid parameter {name:?}: cannot parse \"\" to a valid timestamp"))
    })
}

pub(super) async fn range(State(context): State<Context>, params: Params) -> Response {
    let prepared = || {
        let (start, end) = (required(&params, "start")?, required(&params, "end")?);
        let step = params
            .duration("step")?
            .ok_or_else(|| ApiError::bad_data("invalid parameter \"step\": cannot parse \"\" to a valid duration"))?;
        Ok((asked(&context, &params)?, (start, end, step), params.timeout()?))
    };
    let (asked, times, timeout) = match prepared() {
        Ok(prepared) => prepared,
        Err(error) => return ApiError::into_response(error),
    };
    let mut watched = watch::begin(&context, &params, &asked.query, times);
    answer(&context, timeout, params.coding, move |context, budget, sink| {
        let waited = budget.elapsed();
        let result = promql::range(context.metrics.as_ref(), &asked.query, times, asked.params, budget);
        watched.ended(waited, &result, budget);
        Ok(write(sink, result?, &asked, Timings { waited, total: budget.elapsed() })?)
    })
    .await
}

pub(super) async fn format(State(context): State<Context>, params: Params) -> Response {
    let query = match params.query() {
        Ok(query) => query,
        Err(error) => return error.into_response(),
    };
    answer(&context, None, params.coding, move |_, budget, sink| {
        sink.text.push_str("{\"status\":\"success\",\"data\":");
        json::string(&mut sink.text, &promql::format(&query, budget)?);
        sink.text.push('}');
        Ok(())
    })
    .await
}
