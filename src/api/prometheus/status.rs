//! What the server says of itself. `version` is that of the Prometheus API spoken: Grafana picks
//! endpoints by it. There is no `features` key, which would make Grafana take us for Mimir.

use axum::extract::State;
use axum::response::Response;
use serde_json::{Map, Value, json};

use super::answer::success;
use crate::api::context::Context;
use crate::query::promql::LOOKBACK_MS;

/// The Prometheus release whose API this is.
const API_VERSION: &str = "2.55.0";

pub(super) async fn buildinfo() -> Response {
    let own = env!("CARGO_PKG_VERSION");
    success(&format!(
        "{{\"version\":\"{API_VERSION}\",\"revision\":\"trilith-{own}\",\"branch\":\"\",\"buildUser\":\"\",\
         \"buildDate\":\"\",\"goVersion\":\"rust\"}}"
    ))
}

/// RFC 3339, as Prometheus writes times of the server.
fn iso(ms: i64) -> String {
    chrono::DateTime::from_timestamp_millis(ms)
        .map_or_else(String::new, |time| time.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true))
}

fn setting(context: &Context, name: &str) -> String {
    (context.server_info.settings)().into_iter().find(|(own, _)| *own == name).map(|(_, text)| text).unwrap_or_default()
}

pub(super) async fn runtimeinfo(State(context): State<Context>) -> Response {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let folder = std::env::current_dir().map(|path| path.display().to_string()).unwrap_or_default();
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let data = json!({
        "startTime": iso(context.server_info.started_ms),
        "CWD": folder,
        "hostname": host.trim(),
        "serverTime": iso(context.clock.now_ms()),
        "reloadConfigSuccess": true,
        "lastConfigTime": iso(context.server_info.started_ms),
        "corruptionCount": 0,
        "goroutineCount": 0,
        "GOMAXPROCS": cores,
        "GOMEMLIMIT": 0,
        "GOGC": "",
        "GODEBUG": "",
        "storageRetention": setting(&context, "retention-metrics"),
        "freeQueryPlaces": context.places.free(),
    });
    success(&data.to_string())
}

/// The settings in force, as the file would have them.
pub(super) async fn config(State(context): State<Context>) -> Response {
    let quoted = |text: &str| text.replace('\'', "''");
    let lines =
        (context.server_info.settings)().into_iter().map(|(name, text)| format!("{name}: '{}'\n", quoted(&text)));
    success(&json!({"yaml": lines.collect::<String>()}).to_string())
}

/// The settings by their own names, and by those of Prometheus that tools look for.
pub(super) async fn flags(State(context): State<Context>) -> Response {
    let options = &context.engine.options;
    let theirs = [
        ("query.lookback-delta", format!("{}s", LOOKBACK_MS / 1_000)),
        ("query.max-concurrency", options.concurrency.to_string()),
        ("query.max-samples", options.rows_max.to_string()),
        ("query.timeout", format!("{}s", options.timeout.as_secs())),
        ("storage.tsdb.path", setting(&context, "data-dir")),
        ("storage.tsdb.retention.time", setting(&context, "retention-metrics")),
        ("web.enable-admin-api", context.server_info.admin.is_some().to_string()),
        ("web.enable-lifecycle", "true".to_owned()),
        ("web.enable-otlp-receiver", "true".to_owned()),
        ("web.enable-remote-write-receiver", "true".to_owned()),
        ("web.listen-address", setting(&context, "listen")),
    ];
    let all: Map<String, Value> = (context.server_info.settings)()
        .into_iter()
        .chain(theirs)
        .map(|(name, text)| (name.to_owned(), Value::String(text)))
        .collect();
    success(&Value::Object(all).to_string())
}

/// Whoever can ask this is answered after the replay.
pub(super) async fn walreplay() -> Response {
    success("{\"min\":0,\"max\":0,\"current\":0,\"state\":\"done\"}")
}

/// Parts are no blocks of Prometheus.
pub(super) async fn blocks() -> Response {
    success("{\"blocks\":[]}")
}

/// The queries that run or wait for a place, the oldest first.
pub(super) async fn active_queries(State(context): State<Context>) -> Response {
    let row = |(number, query): (u64, std::sync::Arc<crate::api::server_info::RunningQuery>)| {
        let (start, end, step) = query.times;
        json!({
            "id": number,
            "query": query.text,
            "start": start as f64 / 1e3,
            "end": end as f64 / 1e3,
            "step": step as f64 / 1e3,
            "duration": query.since.elapsed().as_secs_f64(),
            "asker": query.asker.iter().map(|(name, value)| ((*name).to_owned(), Value::String(value.clone())))
                .collect::<Map<_, _>>(),
        })
    };
    success(&Value::Array(context.server_info.running.all().into_iter().map(row).collect()).to_string())
}
