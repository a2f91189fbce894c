//! Deleting series and taking snapshots, for administrators: off unless the server was started with
//! `--admin-api`, as in Prometheus.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;

use super::answer::success;
use super::error::ApiError;
use super::params::Params;
use crate::api::context::Context;
use crate::base::limits::{LimitError, QueryBudget};
use crate::model::matcher::Matcher;
use crate::store::{Administer, StoreError};

/// Does what is asked on a blocking thread; it is done to its end even when the client hangs up.
async fn administer<T: Send + 'static>(
    context: &Context,
    work: impl FnOnce(&dyn Administer) -> Result<T, StoreError> + Send + 'static,
) -> Result<T, ApiError> {
    let Some(admin) = context.server_info.admin.clone() else {
        return Err(ApiError::unavailable("admin APIs disabled; start the server with --admin-api"));
    };
    let admin: Arc<dyn Administer> = admin;
    match tokio::task::spawn_blocking(move || work(&*admin)).await {
        Ok(result) => Ok(result?),
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_) => Err(LimitError::Canceled.into()),
    }
}

fn done(result: Result<(), ApiError>) -> Response {
    match result {
        Ok(()) => (StatusCode::NO_CONTENT, Body::empty()).into_response(),
        Err(error) => error.into_response(),
    }
}

pub(super) async fn delete_series(State(context): State<Context>, params: Params) -> Response {
    let read = move |_: &Context, budget: &QueryBudget| {
        params.selectors(budget).and_then(|selectors| Ok((selectors, params.range()?)))
    };
    let asked = match context.run(None, read).await {
        Ok(asked) => asked,
        Err(limit) => Err(limit.into()),
    };
    let (selectors, range) = match asked {
        Ok((selectors, _)) if selectors.is_empty() => {
            return ApiError::bad_data("no match[] parameter provided").into_response();
        }
        Ok(asked) => asked,
        Err(error) => return error.into_response(),
    };
    let shown = |own: &Vec<Matcher>| own.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    let series = selectors.iter().map(|own| format!("{{{}}}", shown(own))).collect::<Vec<_>>().join(" ");
    tracing::info!(series, start_ms = range.start, end_ms = range.end, "deleting");
    let deleted = administer(&context, move |admin| {
        selectors.iter().try_for_each(|matchers| admin.delete_series(matchers, range))
    });
    done(deleted.await)
}

pub(super) async fn clean_tombstones(State(context): State<Context>) -> Response {
    done(administer(&context, |admin| admin.clean_tombstones()).await)
}

pub(super) async fn snapshot(State(context): State<Context>, params: Params) -> Response {
    let with_heads = match params.get("skip_head") {
        None | Some("false") => true,
        Some("true") => false,
        Some(other) => {
            let message = format!("invalid parameter \"skip_head\": {other:?} is neither true nor false");
            return ApiError::bad_data(message).into_response();
        }
    };
    match administer(&context, move |admin| admin.snapshot(with_heads)).await {
        // Digits, letters and dashes: nothing to escape.
        Ok(name) => success(&format!("{{\"name\":\"{name}\"}}")),
        Err(error) => error.into_response(),
    }
}
