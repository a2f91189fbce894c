//! Rules, alerts, targets and notifications: there are none yet, which their lists say in the right
//! shapes.

use axum::response::{IntoResponse as _, Response};
use http::StatusCode;

use super::answer::success;
use super::error::ApiError;
use super::params::Params;

pub(super) async fn rules(params: Params) -> Response {
    if let Some(kind) = params.get("type").filter(|kind| !matches!(*kind, "alert" | "record")) {
        return ApiError::bad_data(format!("invalid parameter \"type\": not supported value {kind:?}")).into_response();
    }
    success("{\"groups\":[]}")
}

pub(super) async fn alerts() -> Response {
    success("{\"alerts\":[]}")
}

pub(super) async fn alertmanagers() -> Response {
    success("{\"activeAlertmanagers\":[],\"droppedAlertmanagers\":[]}")
}

pub(super) async fn targets() -> Response {
    success("{\"activeTargets\":[],\"droppedTargets\":[],\"droppedTargetCounts\":{}}")
}

pub(super) async fn targets_metadata() -> Response {
    success("[]")
}

pub(super) async fn scrape_pools() -> Response {
    success("{\"scrapePools\":[]}")
}

/// The configuration of a scrape pool, or what relabelling does to its targets.
pub(super) async fn scrape_pool(params: Params) -> Response {
    match params.get("scrapePool") {
        None => ApiError::bad_data("no scrapePool parameter provided").into_response(),
        Some(name) => ApiError::not_found(format!("scrape pool {name:?} not found")).into_response(),
    }
}

pub(super) async fn notifications() -> Response {
    success("[]")
}

/// "No more subscribers": there will be nothing to hear.
pub(super) async fn notifications_live() -> Response {
    StatusCode::NO_CONTENT.into_response()
}
