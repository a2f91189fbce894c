//! Traces by id.

use axum::extract::{Path, Request, State};
use axum::http::HeaderMap;
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::api::context::Context;
use crate::api::traces::error::TraceError;
use crate::api::traces::json::Written;
use crate::api::traces::params::Params;
use crate::api::traces::run::{run_asked, trace_id};
use crate::base::limits::QueryBudget;
use crate::model::span::{Span, TraceId, spans_bytes};
use crate::query::pace::Pace;
use crate::query::traceql::QueryError;
use crate::query::traceql::ast::{Expr, Field};
use crate::query::traceql::eval::Around;
use crate::query::traceql::parse_within;
use crate::query::traceql::value::Truth;
use crate::wire::otlp_trace_out::{JsonStyle, TraceJson, encode_v1};
use crate::wire::tempo::encode_v2;

/// `GET /api/traces/{id}`: a bare trace.
pub(super) async fn v1(
    State(context): State<Context>,
    Path(id): Path<String>,
    request: Request,
) -> Result<Response, TraceError> {
    let protobuf = wants_protobuf(request.headers());
    find(&context, &id, None, move |spans, _, budget| match protobuf {
        true => protobuf_response(spans, budget, encode_v1),
        false => {
            let batches = TraceJson { spans, style: JsonStyle::Tempo };
            Ok(Written::of(&Batches { batches }, budget)?.into_response())
        }
    })
    .await
}

#[derive(Serialize)]
struct Batches<'s> {
    batches: TraceJson<'s>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Group<'s> {
    resource_spans: TraceJson<'s>,
}

#[derive(Serialize)]
struct Envelope<'s> {
    trace: Group<'s>,
    metrics: Nothing,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<&'static str>,
}

#[derive(Serialize)]
struct Nothing {}

/// `GET /api/v2/traces/{id}`: a trace in an envelope; with `q`, only the spans that a filter keeps.
pub(super) async fn v2(
    State(context): State<Context>,
    Path(id): Path<String>,
    request: Request,
) -> Result<Response, TraceError> {
    let protobuf = wants_protobuf(request.headers());
    let params = Params::read(request).await?;
    let filter = params.get("q").map(str::to_owned);
    find(&context, &id, filter, move |spans, partial, budget| {
        if protobuf {
            return protobuf_response(spans, budget, |spans| encode_v2(spans, partial));
        }
        let trace = Group { resource_spans: TraceJson { spans, style: JsonStyle::Tempo } };
        let answer = Envelope { trace, metrics: Nothing {}, status: partial.then_some("PARTIAL") };
        Ok(Written::of(&answer, budget)?.into_response())
    })
    .await
}

/// A filter that each span alone decides.
fn filter_of(text: &str, budget: &QueryBudget) -> Result<Option<Expr>, TraceError> {
    let query = parse_within(text, budget)?;
    let filter = match query.only_filter() {
        Some(filter) if query.metric.is_none() => filter,
        _ => return Err(TraceError::Bad("only a filter in { } is possible here".to_owned())),
    };
    match filter {
        Some(filter) if filter.any_field(Field::needs_trace) => {
            Err(TraceError::Bad("a filter on the whole trace is not possible here".to_owned()))
        }
        filter => Ok(filter.cloned()),
    }
}

/// Answers with the spans of a trace, and whether a filter dropped some. The answer is encoded where
/// the query runs: a trace may be large, and async tasks must not wait for it.
async fn find<F>(context: &Context, id: &str, filter: Option<String>, encode: F) -> Result<Response, TraceError>
where
    F: FnOnce(&[Span], bool, &QueryBudget) -> Result<Response, QueryError> + Send + 'static,
{
    let Some(trace_id) = trace_id(id) else {
        return Err(TraceError::Bad("a trace id has 1 to 32 hexadecimal digits".to_owned()));
    };
    let answer = run_asked(context, move |context, budget| {
        let filter = filter.map(|text| filter_of(&text, budget)).transpose()?.flatten();
        Ok(encoded(context, trace_id, filter.as_ref(), budget, encode)?)
    });
    answer.await?.ok_or_else(|| TraceError::NotFound(format!("trace {trace_id} not found")))
}

fn encoded<F>(
    context: &Context,
    id: TraceId,
    filter: Option<&Expr>,
    budget: &QueryBudget,
    encode: F,
) -> Result<Option<Response>, QueryError>
where
    F: FnOnce(&[Span], bool, &QueryBudget) -> Result<Response, QueryError>,
{
    let mut spans = context.traces.trace(id, budget)?;
    budget.charge(spans_bytes(&spans))?;
    let all = spans.len();
    if let Some(filter) = filter {
        let pace = Pace::new(budget);
        spans.retain(|span| pace.spend(64) && Around::alone(span).paced(&pace).truth(filter) == Truth::Yes);
        pace.result()?;
    }
    let partial = spans.len() < all;
    if all == 0 { Ok(None) } else { encode(&spans, partial, budget).map(Some) }
}

fn wants_protobuf(headers: &HeaderMap) -> bool {
    let mut accepted = headers.get_all(ACCEPT).iter();
    accepted.any(|value| value.to_str().is_ok_and(|text| text.contains("application/protobuf")))
}

/// The encoder makes messages of all spans first, then their bytes.
fn protobuf_response(
    spans: &[Span],
    budget: &QueryBudget,
    encode: impl FnOnce(&[Span]) -> Vec<u8>,
) -> Result<Response, QueryError> {
    budget.check()?;
    budget.charge(spans_bytes(spans).saturating_mul(3))?;
    Ok(([(CONTENT_TYPE, "application/protobuf")], encode(spans)).into_response())
}
