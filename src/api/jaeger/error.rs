//! Errors and envelopes of Jaeger's JSON.

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::json;

use crate::api::error::status;
use crate::api::traces::error::{TraceError, log};
use crate::api::traces::json::{Json, Written};
use crate::base::error::{Classify, brief};
use crate::base::limits::QueryBudget;
use crate::query::traceql::QueryError;

/// `{"data":null,"errors":[{"code":404,"msg":"trace not found"}]}`
pub(super) struct Failure(TraceError);

impl From<TraceError> for Failure {
    fn from(problem: TraceError) -> Self {
        Self(problem)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let code = code_of(&self.0);
        let errors = json!([{ "code": code.as_u16(), "msg": brief(self.0.to_string()) }]);
        let body = json!({ "data": null, "total": 0, "limit": 0, "offset": 0, "errors": errors });
        (code, Json(body)).into_response()
    }
}

/// `{"error":{"httpCode":404,"message":"...","grpcCode":5}}`
pub(super) struct FailureV3(TraceError);

impl From<TraceError> for FailureV3 {
    fn from(problem: TraceError) -> Self {
        Self(problem)
    }
}

impl IntoResponse for FailureV3 {
    fn into_response(self) -> Response {
        let code = code_of(&self.0);
        let grpc = match code {
            StatusCode::BAD_REQUEST => 3,
            StatusCode::NOT_FOUND => 5,
            StatusCode::GATEWAY_TIMEOUT => 4,
            StatusCode::SERVICE_UNAVAILABLE => 14,
            _ => 13,
        };
        let error = json!({ "httpCode": code.as_u16(), "message": brief(self.0.to_string()), "grpcCode": grpc });
        (code, Json(json!({ "error": error }))).into_response()
    }
}

fn code_of(problem: &TraceError) -> StatusCode {
    log(problem);
    status(problem.class())
}

/// Jaeger's envelope.
#[derive(Serialize)]
struct Envelope<T> {
    data: T,
    total: usize,
    limit: usize,
    offset: usize,
    errors: Option<()>,
}

/// A short answer in Jaeger's envelope.
pub(super) fn envelope(data: impl Serialize, total: usize) -> Response {
    Json(Envelope { data, total, limit: 0, offset: 0, errors: None }).into_response()
}

/// A long answer in Jaeger's envelope, written within the budget of its query.
pub(super) fn envelope_within(
    data: impl Serialize,
    total: usize,
    budget: &QueryBudget,
) -> Result<Response, QueryError> {
    let answer = Envelope { data, total, limit: 0, offset: 0, errors: None };
    Ok(Written::of(&answer, budget)?.into_response())
}
