//! What survives a crash. `Append*` and `Select*` are the narrow waist: everything above knows the
//! store by these traits alone, and everything here is synchronous.
//! Flow: an append goes to the write-ahead log, then to the head; flush writes heads to immutable
//! parts; a select reads heads and parts as one.
//! Order: error and waist, then the disk (account, codec, part, wal, kv, catalog, env, lane), then the signals,
//! then the store of all three. A file imports only from above it.

pub mod error;
pub mod waist;

pub mod account;
pub mod catalog;
pub mod codec;
pub mod conditions;
pub mod env;
pub mod kv;
pub mod lane;
pub mod part;
mod patience;
pub mod text;
pub mod trusted_clock;
pub mod wal;

pub mod logs;
pub mod memory;
pub mod metrics;
pub mod series_set;
pub mod traces;

mod administer;
pub mod budget;
pub mod migrate;
pub mod snapshot;
pub mod stores;
mod upkeep;

pub use error::StoreError;
pub use waist::{
    Administer, AppendLogs, AppendMetrics, AppendTraces, AttrScope, Cardinality, LineHints, LogChunk, LogColumns,
    LogStats, RefusedMetric, SelectLogs, SelectMetrics, SelectTraces, SeriesSet, ServiceOperations, SpanBlock,
    SpanHint, VisitColumns, WantedAttrs,
};
