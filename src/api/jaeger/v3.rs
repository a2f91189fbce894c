//! `/api/v3`: what Jaeger's own UI has asked since version 2. JSON over HTTP, traces as OTLP/JSON.

use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::{Value, json};

use super::error::FailureV3;
use super::services::{index, of_service, shown_kind};
use super::traces::with_trace;
use crate::api::context::Context;
use crate::api::traces::error::TraceError;
use crate::api::traces::json::{Json, Written};
use crate::api::traces::params::Params;
use crate::base::limits::QueryBudget;
use crate::model::span::Span;
use crate::wire::otlp_trace_out::{JsonStyle, TraceJson};

#[derive(Serialize)]
struct Answer<'s> {
    result: Group<'s>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Group<'s> {
    resource_spans: TraceJson<'s>,
}

/// `GET /api/v3/services`
pub(super) async fn services(State(context): State<Context>) -> Result<Json<Value>, FailureV3> {
    let names: Vec<_> = index(&context).await?.into_iter().map(|(name, _)| name).collect();
    Ok(Json(json!({ "services": names })))
}

/// `GET /api/v3/operations?service=&span_kind=`
pub(super) async fn operations(State(context): State<Context>, request: Request) -> Result<Json<Value>, FailureV3> {
    let params = Params::read(request).await?;
    let Some(service) = params.get("service") else {
        return Err(TraceError::Bad("parameter 'service' is required".to_owned()).into());
    };
    let kind = params.get("spanKind").or_else(|| params.get("span_kind"));
    let mut operations = of_service(&context, service).await?;
    operations.retain(|(_, own)| kind.is_none_or(|kind| own.name() == kind));
    let operations: Vec<_> =
        operations.iter().map(|(name, kind)| json!({ "name": name, "spanKind": shown_kind(*kind) })).collect();
    Ok(Json(json!({ "operations": operations })))
}

/// `GET /api/v3/traces/{id}`
pub(super) async fn by_id(State(context): State<Context>, Path(id): Path<String>) -> Result<Response, FailureV3> {
    let answer = |spans: &[Span], budget: &QueryBudget| {
        let result = Group { resource_spans: TraceJson { spans, style: JsonStyle::Otlp } };
        Ok(Written::of(&Answer { result }, budget)?.into_response())
    };
    Ok(with_trace(&context, &id, answer).await?)
}
