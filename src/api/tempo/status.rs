//! What Grafana asks to see whether Tempo is there.

use axum::response::IntoResponse;
use serde_json::json;

use super::json::Json;

/// The version of Tempo whose API this is. Grafana up to 12 allows streaming from 2.7 on.
const TEMPO_VERSION: &str = "2.8.0";

/// `GET /api/echo`
pub(super) async fn echo() -> &'static str {
    "echo"
}

/// `GET /api/status/buildinfo`: the version lies at the top level.
pub(super) async fn buildinfo() -> impl IntoResponse {
    Json(json!({
        "version": TEMPO_VERSION, "revision": "", "branch": "", "buildUser": "", "buildDate": "", "goVersion": "",
    }))
}
