//! Rules, alerts and targets: there are none yet, which their lists say in the right shape.

use axum::response::Response;

use super::success;

pub(super) async fn rules() -> Response {
    success("{\"groups\":[]}")
}

pub(super) async fn alerts() -> Response {
    success("{\"alerts\":[]}")
}

pub(super) async fn targets() -> Response {
    success("{\"activeTargets\":[],\"droppedTargets\":[],\"droppedTargetCounts\":{}}")
}
