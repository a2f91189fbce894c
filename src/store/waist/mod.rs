//! The narrow waist: everything above knows the store by these traits alone.

mod administer;
mod append;
mod cardinality;
mod logs;
mod metrics;
mod traces;

pub use administer::Administer;
pub use append::{AppendLogs, AppendMetrics, AppendTraces};
pub use cardinality::{Cardinality, Counter, count};
pub use logs::{LineHints, LogChunk, LogColumns, LogStats, SelectLogs};
pub use metrics::{RefusedMetric, SelectMetrics, SeriesSet, VisitColumns};
pub use traces::{AttrScope, SelectTraces, ServiceOperations, SpanBlock, SpanHint, WantedAttrs};
