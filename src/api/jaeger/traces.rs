//! Traces by id and by search.

use axum::extract::{Path, Request, State};
use axum::response::Response;

use super::error::{Failure, envelope_within};
use crate::api::context::Context;
use crate::api::traces::error::TraceError;
use crate::api::traces::params::Params;
use crate::api::traces::run::{run, trace_id};
use crate::base::limits::QueryBudget;
use crate::model::span::{Span, TraceId, spans_bytes};
use crate::query::traceql::QueryError;
use crate::query::traceql::legacy::query_of_jaeger;
use crate::query::traceql::search::{SearchRequest, search as find};
use crate::wire::jaeger_out::{Trace, trace};

/// Traces in an answer when none are asked for.
const LIMIT: u64 = 100;
/// Most traces in an answer: all their spans come.
const LIMIT_MAX: u64 = 1_500;
/// Memory that a span takes in an answer beside its texts, in bytes.
const SPAN_BYTES: usize = 512;
/// How much more its attributes take there.
const ATTRIBUTES_FACTOR: usize = 2;

/// `GET /api/traces/{id}`: over all time. Grafana sends a range in milliseconds, Jaeger reads
/// microseconds, and neither is needed to find a trace.
pub(super) async fn by_id(State(context): State<Context>, Path(id): Path<String>) -> Result<Response, Failure> {
    let answer = |spans: &[Span], budget: &QueryBudget| {
        charge(spans, budget)?;
        envelope_within(trace(spans).into_iter().collect::<Vec<_>>(), 0, budget)
    };
    Ok(with_trace(&context, &id, answer).await?)
}

/// Answers with the spans of a trace, by its id as text; encoded where the query runs.
pub(super) async fn with_trace<F>(context: &Context, id: &str, encode: F) -> Result<Response, TraceError>
where
    F: FnOnce(&[Span], &QueryBudget) -> Result<Response, QueryError> + Send + 'static,
{
    let Some(id) = trace_id(id) else {
        return Err(TraceError::Bad("cannot parse trace id: expected 1 to 32 hexadecimal digits".to_owned()));
    };
    let answer = run(context, move |context, budget| {
        let spans = context.traces.trace(id, budget)?;
        budget.charge(spans_bytes(&spans))?;
        if spans.is_empty() { Ok(None) } else { encode(&spans, budget).map(Some) }
    });
    answer.await?.ok_or_else(|| TraceError::NotFound("trace not found".to_owned()))
}

/// `GET /api/traces`: by ids, or by service and what else is known of a span.
pub(super) async fn search(State(context): State<Context>, request: Request) -> Result<Response, Failure> {
    let params = Params::read(request).await?;
    let ids: Vec<_> = params
        .all("traceID")
        .map(trace_id)
        .collect::<Option<_>>()
        .ok_or_else(|| TraceError::Bad("cannot parse traceID: expected 1 to 32 hexadecimal digits".to_owned()))?;
    let request = if ids.is_empty() { Some(request_of(&context, &params)?) } else { None };
    let answer = run(&context, move |context, budget| {
        let traces = match request {
            Some(request) => found(context, &request, budget)?,
            None => whole(context, ids.into_iter(), budget)?,
        };
        let total = traces.len();
        envelope_within(traces, total, budget)
    });
    Ok(answer.await?)
}

fn found(context: &Context, request: &SearchRequest, budget: &QueryBudget) -> Result<Vec<Trace>, QueryError> {
    let result = find(&*context.traces, request, budget)?;
    whole(context, result.traces.iter().map(|trace| trace.id), budget)
}

/// Whole traces; those without spans are left out, for Grafana's plugin does not survive them.
fn whole(
    context: &Context,
    ids: impl Iterator<Item = TraceId>,
    budget: &QueryBudget,
) -> Result<Vec<Trace>, QueryError> {
    let mut traces = Vec::new();
    for id in ids {
        let spans = context.traces.trace(id, budget)?;
        charge(&spans, budget)?;
        traces.extend(trace(&spans));
    }
    Ok(traces)
}

/// Takes the memory of spans in the form of an answer.
fn charge(spans: &[Span], budget: &QueryBudget) -> Result<(), QueryError> {
    let bytes = spans_bytes(spans).saturating_mul(ATTRIBUTES_FACTOR).saturating_add(spans.len() * SPAN_BYTES);
    Ok(budget.charge(bytes)?)
}

fn request_of(context: &Context, params: &Params) -> Result<SearchRequest, TraceError> {
    let Some(service) = params.get("service") else {
        return Err(TraceError::Bad("parameter 'service' is required".to_owned()));
    };
    let tags = tags(params)?;
    let bounds = (params.duration_ns("minDuration")?, params.duration_ns("maxDuration")?);
    let limit = params.number("limit")?.unwrap_or(LIMIT).min(LIMIT_MAX);
    if limit == 0 {
        return Err(TraceError::Bad("parameter 'limit' must be above 0".to_owned()));
    }
    Ok(SearchRequest {
        query: query_of_jaeger(service, params.get("operation"), &tags, bounds)?,
        range: Some(range(context, params)?),
        duration: (None, None),
        limit: usize::try_from(limit).unwrap_or(usize::MAX),
        spans_per_set: 1,
    })
}

/// `start` and `end` in microseconds, or `lookback` before now; two days when nothing is said.
fn range(context: &Context, params: &Params) -> Result<(i64, i64), TraceError> {
    let now = context.clock.now_ns();
    let outside = |_| TraceError::Bad("start or end is out of bounds".to_owned());
    let us = |us: u64| i64::try_from(u128::from(us) * 1_000).map_err(outside);
    let end = params.number("end")?.map(us).transpose()?.unwrap_or(now);
    let start = match (params.number("start")?, params.get("lookback")) {
        (Some(start), _) => us(start)?,
        (None, Some("custom") | None) => end.saturating_sub(2 * 86_400_000_000_000),
        (None, Some(_)) => end.saturating_sub(params.duration_ns("lookback")?.unwrap_or_default()),
    };
    if start > end { Err(TraceError::Bad("start must not be after end".to_owned())) } else { Ok((start, end)) }
}

/// `tags` as a JSON map, and each `tag` as `name:value`.
fn tags(params: &Params) -> Result<Vec<(String, String)>, TraceError> {
    let mut tags = Vec::new();
    if let Some(text) = params.get("tags") {
        let broken = || TraceError::Bad("malformed 'tags' parameter: expected a JSON map of strings".to_owned());
        let map: serde_json::Map<String, serde_json::Value> = serde_json::from_str(text).map_err(|_| broken())?;
        for (name, value) in map {
            tags.push((
                name,
                match value {
                    serde_json::Value::String(text) => text,
                    value @ (serde_json::Value::Bool(_) | serde_json::Value::Number(_)) => value.to_string(),
                    _ => return Err(broken()),
                },
            ));
        }
    }
    for tag in params.all("tag") {
        let Some((name, value)) = tag.split_once(':') else {
            return Err(TraceError::Bad("malformed 'tag' parameter: expected name:value".to_owned()));
        };
        tags.push((name.to_owned(), value.to_owned()));
    }
    if tags.len() > 100 { Err(TraceError::Bad("more than 100 tags".to_owned())) } else { Ok(tags) }
}
