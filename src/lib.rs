//! Trilith: metrics, logs and traces in one binary. The modules follow the data:
//! senders → `receive` → `ingest` → `store` → `query` → `api` → Grafana.

// So that what tests share can name this library as integration tests do.
#[cfg(test)]
extern crate self as trilith;

/// What clients see, one folder per dialect.
pub mod api;
/// Wiring: configuration, router, tasks, shutdown.
pub mod app;
/// Errors and their classes, clock, disk, limits, counters. Knows nothing of telemetry.
pub mod base;
/// The one door in.
pub mod ingest;
/// The nouns: labels, samples, lines, spans. No I/O.
pub mod model;
/// Channels that alerts go out by.
pub mod notify;
/// The one door out: PromQL, LogQL, TraceQL.
pub mod query;
/// How telemetry arrives, one file per protocol.
pub mod receive;
/// Recording and alerting rules.
pub mod rules;
/// What survives a crash: write-ahead log, heads, parts and their indexes.
pub mod store;
/// The web page.
pub mod ui;
/// Bytes to wire types and back, one file per format.
pub mod wire;
