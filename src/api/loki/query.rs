//! `query`, `query_range` and `format_query`.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode};

use super::answer::{answer, json_response};
use super::error::ApiError;
use super::json;
use super::params::Params;
use crate::api::context::Context;
use crate::base::limits::QueryBudget;
use crate::query::Engine;
use crate::query::logql::{Expr, LogExpr, LogQuery, MetricExpr, MetricQuery, log_query, metric_query, parse_within};

/// The header with which Grafana asks for labels by kind.
const ENCODING_FLAGS: &str = "x-loki-response-encoding-flags";
const CATEGORIZE: &str = "categorize-labels";

fn categorizes(headers: &HeaderMap) -> bool {
    let values = headers.get_all(ENCODING_FLAGS).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|flag| flag.trim() == CATEGORIZE)
}

fn flags(categorize: bool) -> &'static str {
    if categorize { "\"encodingFlags\":[\"categorize-labels\"]," } else { "" }
}

/// A metric query at one time.
pub(super) async fn instant(State(context): State<Context>, headers: HeaderMap, params: Params) -> Response {
    let categorize = categorizes(&headers);
    answer(&context, move |context, budget| {
        let now = context.clock.now_ns();
        let time = params.time("time")?.unwrap_or(now);
        params.limit()?;
        params.direction()?;
        let expr = match parse_within(params.query(), budget)? {
            Expr::Metric(expr) => expr,
            Expr::Log(_) => {
                return Err(ApiError::bad_data(
                    "log queries are not supported as an instant query type, please change your query to a range query type",
                ));
            }
        };
        let query = metric_at(&context.engine, time, time, 1, now);
        let answer = metric_query(context.logs.as_ref(), &expr, query, budget)?;
        let stats = json::stats(answer.stats, budget.elapsed(), answer.series.len());
        if answer.scalar {
            let value = answer.series.first().and_then(|series| series.points.first().copied());
            let mut result = String::new();
            json::push_sample(&mut result, value.unwrap_or((time, f64::NAN)));
            return Ok(json::data("scalar", flags(categorize), &result, &stats));
        }
        Ok(json::data("vector", flags(categorize), &json::series(&answer.series, true, budget)?, &stats))
    })
    .await
}

fn metric_at(engine: &Engine, start: i64, end: i64, step: i64, now_ns: i64) -> MetricQuery {
    let options = &engine.options;
    MetricQuery { start, end, step, points_max: options.points_max, series_max: options.series_max, now_ns }
}

/// A query over a range.
pub(super) async fn range(State(context): State<Context>, headers: HeaderMap, params: Params) -> Response {
    let categorize = categorizes(&headers);
    answer(&context, move |context, budget| {
        // Wrong parameters are told before wrong queries, whichever kind of query it is.
        let limit = params.limit()?;
        params.range(context.clock.now_ns())?;
        match parse_within(params.query(), budget)? {
            Expr::Log(expr) => log_range(context, budget, &params, &expr, limit, categorize),
            Expr::Metric(expr) => metric_range(context, budget, &params, &expr, categorize),
        }
    })
    .await
}

fn log_range(
    context: &Context,
    budget: &QueryBudget,
    params: &Params,
    expr: &LogExpr,
    limit: usize,
    categorize: bool,
) -> Result<String, ApiError> {
    let now_ns = context.clock.now_ns();
    let query = LogQuery { range: params.range(now_ns)?, limit, direction: params.direction()?, now_ns };
    let answer = log_query(context.logs.as_ref(), expr, query, budget)?;
    let stats = json::stats(answer.stats, budget.elapsed(), answer.lines.len());
    Ok(json::data("streams", flags(categorize), &json::streams(&answer.lines, categorize, budget)?, &stats))
}

fn metric_range(
    context: &Context,
    budget: &QueryBudget,
    params: &Params,
    expr: &MetricExpr,
    categorize: bool,
) -> Result<String, ApiError> {
    let now = context.clock.now_ns();
    let range = params.range(now)?;
    let step = params.step(range)?;
    let start = range.start.div_euclid(step).saturating_mul(step);
    let end = range.end.div_euclid(step).saturating_mul(step);
    let end = if end < range.end { end.saturating_add(step) } else { end };
    let query = metric_at(&context.engine, start, end, step, now);
    let answer = metric_query(context.logs.as_ref(), expr, query, budget)?;
    let stats = json::stats(answer.stats, budget.elapsed(), answer.series.len());
    Ok(json::data("matrix", flags(categorize), &json::series(&answer.series, false, budget)?, &stats))
}

/// A query in its canonical form. Errors of this endpoint alone are JSON.
pub(super) async fn format(State(context): State<Context>, params: Params) -> Response {
    let work =
        move |_: &Context, budget: &QueryBudget| parse_within(params.query(), budget).map(|expr| expr.to_string());
    match context.run(None, work).await {
        Err(limit) => ApiError::from(limit).into_response(),
        Ok(Ok(written)) => {
            let mut text = String::new();
            json::string(&mut text, &written);
            json_response(format!("{{\"status\":\"success\",\"data\":{text}}}"))
        }
        Ok(Err(error)) => {
            let mut text = String::new();
            json::string(&mut text, &error.to_string());
            let body = json_response(format!("{{\"status\":\"invalid-query\",\"error\":{text}}}"));
            (StatusCode::BAD_REQUEST, body).into_response()
        }
    }
}
