//! Answers that no query makes: version, limits, and what is absent on purpose.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};

use super::answer::json_response;
use super::params::LINES_MAX;
use crate::api::context::Context;

/// The Loki release whose API this is.
const VERSION: &str = "3.5.0";

/// No patterns are mined.
pub(super) async fn patterns() -> Response {
    json_response("{\"status\":\"success\",\"data\":[]}".to_owned())
}

/// No rules are evaluated over logs.
pub(super) async fn rules() -> Response {
    json_response("{\"status\":\"success\",\"data\":{\"groups\":[]}}".to_owned())
}

/// Hence there are no alerts.
pub(super) async fn alerts() -> Response {
    json_response("{\"status\":\"success\",\"data\":{\"alerts\":[]}}".to_owned())
}

/// Grafana takes this for "rules cannot be edited here" and shows no error.
pub(super) async fn not_found() -> Response {
    (StatusCode::NOT_FOUND, [(header::CONTENT_TYPE, "text/plain; charset=utf-8")], "404 page not found\n")
        .into_response()
}

/// The version, without an envelope.
pub(super) async fn buildinfo() -> Response {
    json_response(format!(
        "{{\"version\":\"{VERSION}\",\"revision\":\"trilith-{}\",\"branch\":\"\",\"buildUser\":\"\",\"buildDate\":\"\",\"goVersion\":\"rust\"}}",
        env!("CARGO_PKG_VERSION")
    ))
}

/// What Logs Drilldown adapts itself to.
pub(super) async fn drilldown_limits(State(context): State<Context>) -> Response {
    let options = &context.engine.options;
    let retention = context.retention_logs.map_or(0, |retention| retention.as_secs());
    json_response(format!(
        "{{\"limits\":{{\"discover_log_levels\":true,\
         \"discover_service_name\":[\"service\",\"app\",\"application\",\"name\",\"container\",\"component\",\"workload\",\"job\"],\
         \"log_level_fields\":[\"level\",\"severity\",\"lvl\",\"log.level\"],\"max_entries_limit_per_query\":{LINES_MAX},\
         \"max_line_size_truncate\":false,\"max_query_bytes_read\":\"0B\",\"max_query_length\":\"0s\",\
         \"max_query_lookback\":\"0s\",\"max_query_range\":\"0s\",\"max_query_series\":{},\
         \"metric_aggregation_enabled\":false,\"pattern_persistence_enabled\":false,\"query_timeout\":\"{}s\",\
         \"retention_period\":\"{retention}s\",\"volume_enabled\":true,\"volume_max_series\":{LINES_MAX}}},\
         \"pattern_ingester_enabled\":false,\"version\":\"{VERSION}\"}}",
        options.series_max,
        options.timeout.as_secs(),
    ))
}
