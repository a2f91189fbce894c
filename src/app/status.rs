//! The page `/-/status`: what the web page shows, as JSON. Its numbers are cheap to find out, for an open page asks
//! every two seconds.

use std::cmp::Reverse;

use axum::body::Body;
use axum::extract::State;
use axum::http::{Response, StatusCode};
use serde_json::{Map, Value, json};

use crate::base::counters::{Counters, LabelPairs};
use crate::base::disk::{Disk as _, RealDisk};
use crate::model::batch::Signal;
use crate::receive::ROWS_MAX;
use crate::store::conditions::Condition;
use crate::store::wal::EMPTY_BYTES;

use super::config::{Config, Extra};
use super::listener::ListenerKind;
use super::state::ServerState;
use super::{host, rates, reply};

/// What is wrong with the store, though it answers.
pub(super) fn conditions(state: &ServerState) -> Vec<Condition> {
    state.services.get().map(|services| services.store.conditions()).unwrap_or_default()
}

/// Answers the page.
pub(super) async fn status(State(state): State<ServerState>) -> Response<Body> {
    let config = state.config.lock().clone();
    let space = RealDisk.space(&config.data_dir).ok();
    let shown = |name: &str| config.effective.get(name).map_or_else(String::new, |(text, _)| text.clone());
    let body = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "ready": state.readiness.phase().reason().is_none(),
        "reason": state.readiness.phase().reason(),
        "conditions": conditions(&state).iter().map(condition).collect::<Vec<_>>(),
        "uptime_seconds": state.started.elapsed().as_secs(),
        "listeners": listeners(&config),
        "retention": {
            "metrics": shown("retention-metrics"),
            "logs": shown("retention-logs"),
            "traces": shown("retention-traces"),
        },
        "signals": signals(&state),
        "refused": refused(&state.counters),
        "refused_lately": refused_lately(&state),
        "connections": total(&state.counters, "trilith_connections"),
        "cpu_seconds": host::cpu_ns() as f64 / 1e9,
        "memory": {"resident_bytes": host::memory_resident(), "limit_bytes": state.memory_limit},
        "disk": {"free_bytes": space.map(|space| space.free), "total_bytes": space.map(|space| space.total)},
        "data_dir": config.data_dir.display().to_string(),
    });
    reply::json(StatusCode::OK, &body)
}

fn condition(own: &Condition) -> Value {
    json!({"name": own.name, "signal": own.signal.map(|signal| signal.name()), "text": own.text})
}

/// The address of every listener by its name.
fn listeners(config: &Config) -> Map<String, Value> {
    let extra = Extra::ALL.into_iter().filter_map(|extra| {
        let address = config.address(extra)?;
        Some((ListenerKind::Extra(extra).name().to_owned(), Value::String(address.to_string())))
    });
    let main = (ListenerKind::Main.name().to_owned(), Value::String(config.listen.to_string()));
    std::iter::once(main).chain(extra).collect()
}

/// What comes in and what is stored, by signal. What is acknowledged lies in parts or in the log, and that of the
/// log in memory as well.
fn signals(state: &ServerState) -> Map<String, Value> {
    let counters = &state.counters;
    let all = Signal::ALL.into_iter().map(|signal| {
        let rate = state.rates.of(signal);
        let of = |name| of_signal(counters, name, signal);
        let (parts_bytes, log_bytes) = (of("trilith_part_bytes"), of("trilith_wal_bytes"));
        let log_bytes = if log_bytes <= EMPTY_BYTES { 0 } else { log_bytes };
        let own = json!({
            "rate": thousandths(rate.now),
            "rate_line": rate.line.into_iter().map(thousandths).collect::<Vec<_>>(),
            "rate_line_seconds": rates::POINT_SECONDS,
            "taken": total(counters, rates::counter(signal)),
            "stored_bytes": parts_bytes + log_bytes,
            "log_bytes": log_bytes,
            "memory_bytes": of("trilith_head_bytes"),
            "parts_rows": of("trilith_part_rows"),
            "active_series": (signal == Signal::Metrics).then(|| total(counters, "trilith_active_series")),
        });
        (signal.name().to_owned(), own)
    });
    all.collect()
}

/// What was refused since the start, by signal and reason.
fn refused(counters: &Counters) -> Vec<Value> {
    let row = |(labels, count): (LabelPairs, u64)| {
        let labels = labels.into_iter().map(|(name, value)| (name.to_owned(), Value::String(value)));
        Value::Object(labels.chain([("count".to_owned(), Value::from(count))]).collect())
    };
    let refused = counters.values("trilith_rejected_total").into_iter();
    refused.filter(|(_, count)| *count > 0).map(row).collect()
}

/// The last of what was refused, the newest first.
fn refused_lately(state: &ServerState) -> Vec<Value> {
    let mut rows = state.astray.rows();
    rows.extend(state.services.get().map(|services| services.receive.refused().rows()).unwrap_or_default());
    rows.sort_by_key(|own| Reverse(own.at_ms));
    let shown = rows.into_iter().take(ROWS_MAX).map(|own| {
        json!({
            "at_ms": own.at_ms,
            "reason": own.reason,
            "name": own.name,
            "receiver": own.receiver,
            "sender": own.sender.map(|sender| sender.to_string()),
            "count": own.count,
            "advice": own.advice,
        })
    });
    shown.collect()
}

fn total(counters: &Counters, name: &str) -> u64 {
    counters.values(name).iter().map(|(_, value)| value).sum()
}

fn of_signal(counters: &Counters, name: &str, signal: Signal) -> u64 {
    let is_its =
        |labels: &[(&str, String)]| labels.iter().any(|(name, value)| *name == "signal" && value == signal.name());
    counters.values(name).iter().filter(|(labels, _)| is_its(labels)).map(|(_, value)| value).sum()
}

fn thousandths(value: f64) -> f64 {
    (value * 1_000.0).round() / 1_000.0
}
