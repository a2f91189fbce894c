//! Traces by id.

use axum::extract::{Path, Request, State};
use axum::http::HeaderMap;
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::api::context::Context;
use crate::api::traces::error::TraceError;
use crate::api::traces::json::Json;
use crate::api::traces::params::Params;
use crate::api::traces::run::{run, trace_id};
use crate::model::span::Span;
use crate::query::traceql::ast::{Expr, Field};
use crate::query::traceql::eval::Around;
use crate::query::traceql::parse;
use crate::query::traceql::value::Truth;
use crate::wire::otlp_trace_out::{JsonStyle, encode_v1, json as otlp_json};
use crate::wire::tempo::encode_v2;

/// `GET /api/traces/{id}`: a bare trace.
pub(super) async fn v1(
    State(context): State<Context>,
    Path(id): Path<String>,
    request: Request,
) -> Result<Response, TraceError> {
    let protobuf = wants_protobuf(request.headers());
    find(&context, &id, None, move |spans, _| match protobuf {
        true => protobuf_response(encode_v1(spans)),
        false => Json(json!({ "batches": otlp_json(spans, JsonStyle::Tempo) })).into_response(),
    })
    .await
}

/// `GET /api/v2/traces/{id}`: a trace in an envelope; with `q`, only the spans that a filter keeps.
pub(super) async fn v2(
    State(context): State<Context>,
    Path(id): Path<String>,
    request: Request,
) -> Result<Response, TraceError> {
    let protobuf = wants_protobuf(request.headers());
    let params = Params::read(request).await?;
    let filter = params.get("q").map(filter_of).transpose()?.flatten();
    find(&context, &id, filter, move |spans, partial| {
        if protobuf {
            return protobuf_response(encode_v2(spans, partial));
        }
        let trace = json!({ "resourceSpans": otlp_json(spans, JsonStyle::Tempo) });
        let answer = match partial {
            true => json!({ "trace": trace, "metrics": {}, "status": "PARTIAL" }),
            false => json!({ "trace": trace, "metrics": {} }),
        };
        Json(answer).into_response()
    })
    .await
}

/// A filter that each span alone decides.
fn filter_of(text: &str) -> Result<Option<Expr>, TraceError> {
    let query = parse(text)?;
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
async fn find<F>(context: &Context, id: &str, filter: Option<Expr>, encode: F) -> Result<Response, TraceError>
where
    F: FnOnce(&[Span], bool) -> Response + Send + 'static,
{
    let Some(trace_id) = trace_id(id) else {
        return Err(TraceError::Bad("a trace id has 1 to 32 hexadecimal digits".to_owned()));
    };
    let answer = run(context, move |context, budget| {
        let mut spans = context.traces.trace(trace_id, budget)?;
        let all = spans.len();
        if let Some(filter) = &filter {
            spans.retain(|span| Around::alone(span).truth(filter) == Truth::Yes);
        }
        let partial = spans.len() < all;
        Ok((all > 0).then(|| encode(&spans, partial)))
    });
    answer.await?.ok_or_else(|| TraceError::NotFound(format!("trace {trace_id} not found")))
}

fn wants_protobuf(headers: &HeaderMap) -> bool {
    let mut accepted = headers.get_all(ACCEPT).iter();
    accepted.any(|value| value.to_str().is_ok_and(|text| text.contains("application/protobuf")))
}

fn protobuf_response(bytes: Vec<u8>) -> Response {
    ([(CONTENT_TYPE, "application/protobuf")], bytes).into_response()
}
