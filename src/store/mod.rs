//! What survives a crash. `Append*` and `Select*` are the narrow waist: everything above knows the
//! store by these traits alone, and everything here is synchronous.
//! Flow: an append goes to the write-ahead log, then to the head; flush writes heads to immutable
//! parts; a select reads heads and parts as one.

pub mod catalog;
pub mod codec;
pub mod env;
pub mod kv;
pub mod lane;
pub mod logs;
pub mod memory;
pub mod metrics;
pub mod migrate;
pub mod part;
pub mod series_set;
pub mod snapshot;
pub mod stores;
pub mod text;
pub mod traces;
pub mod wal;

use std::io;
use std::ops::Range;
use std::path::PathBuf;

use crate::base::error::{Classify, ErrorClass};
use crate::base::limits::{LimitError, QueryBudget};
use crate::model::batch::{Appended, LogsBatch, MetricMetadata, MetricsBatch, TracesBatch};
use crate::model::exemplar::Exemplar;
use crate::model::labels::Labels;
use crate::model::log::LogRows;
use crate::model::matcher::Matcher;
use crate::model::raw::{ParseLabels, RawMetrics};
use crate::model::sample::Columns;
use crate::model::span::{AttrValue, Span, SpanKind, TraceId};
use crate::model::time::{RangeMs, RangeNs};

use metrics::cardinality::{self, Cardinality};
use metrics::refused::RefusedMetric;

/// Why the store could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A read or write failed.
    #[error("{action} {path:?}")]
    Io {
        /// What was tried, as in "write".
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The disk is full, or nearly: nothing is taken until there is room.
    #[error("no room on disk: {free} bytes free, {needed} needed; queries go on, writes resume when there is room")]
    DiskFull {
        /// Bytes free.
        free: u64,
        /// Bytes that must be.
        needed: u64,
    },
    /// Heads are at their limit until a flush makes room.
    #[error("no room in memory until the next flush; retry")]
    MemoryFull,
    /// The server is replaying or stopping.
    #[error("the store is {0}; retry")]
    NotReady(&'static str),
    /// Bytes on disk are not what was written.
    #[error("{path:?} is damaged: {what}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// The query's budget is used up.
    #[error(transparent)]
    Limit(#[from] LimitError),
}

impl Classify for StoreError {
    fn class(&self) -> ErrorClass {
        match self {
            Self::Io { .. } | Self::DiskFull { .. } | Self::MemoryFull | Self::NotReady(_) => ErrorClass::Unavailable,
            Self::Damaged { .. } => ErrorClass::Internal,
            Self::Limit(limit) => limit.class(),
        }
    }
}

/// Takes samples. When it returns `Ok`, what was accepted is in the write-ahead log and seen by
/// queries; what was refused is counted in [`Appended::rejected`]. On `Err` nothing may be assumed,
/// and sending the same again is harmless.
pub trait AppendMetrics: Send + Sync {
    /// Stores a batch.
    ///
    /// # Errors
    /// [`StoreError`] of class `Unavailable`: the sender should retry.
    fn append(&self, batch: &MetricsBatch) -> Result<Appended, StoreError>;

    /// Stores a request whose labels have not been read; `parse` reads those of series that are not
    /// known by their bytes.
    ///
    /// # Errors
    /// As [`append`](Self::append).
    fn append_raw(&self, raw: RawMetrics<'_>, parse: &ParseLabels<'_>) -> Result<Appended, StoreError> {
        let (batch, refused) = raw.read(parse);
        let mut appended = self.append(&batch)?;
        for ((reason, text), count) in refused {
            appended.rejected.add(reason, count as u64, || text);
        }
        Ok(appended)
    }
}

/// Takes log lines, with the promise of [`AppendMetrics`].
pub trait AppendLogs: Send + Sync {
    /// Stores a batch.
    ///
    /// # Errors
    /// [`StoreError`] of class `Unavailable`: the sender should retry.
    fn append(&self, batch: &LogsBatch) -> Result<Appended, StoreError>;
}

/// Takes spans, with the promise of [`AppendMetrics`].
pub trait AppendTraces: Send + Sync {
    /// Stores a batch.
    ///
    /// # Errors
    /// [`StoreError`] of class `Unavailable`: the sender should retry.
    fn append(&self, batch: &TracesBatch) -> Result<Appended, StoreError>;
}

/// What an administrator may do with what is stored.
pub trait Administer: Send + Sync {
    /// Deletes the samples in `range` that there are now of the series that satisfy all `matchers`.
    ///
    /// # Errors
    /// [`StoreError`]: nothing is deleted.
    fn delete_series(&self, matchers: &[Matcher], range: RangeMs) -> Result<(), StoreError>;

    /// Removes deleted samples from the disk.
    ///
    /// # Errors
    /// [`StoreError`]: what was not removed is still not seen.
    fn clean_tombstones(&self) -> Result<(), StoreError>;

    /// Takes a snapshot of all signals, with what is in memory if wanted; returns its name.
    ///
    /// # Errors
    /// [`StoreError`]: there is no new snapshot.
    fn snapshot(&self, with_heads: bool) -> Result<String, StoreError>;
}

/// What is done with the samples of the series at a place of a [`SeriesSet`]. What it wants to keep
/// it takes out of the columns, and charges.
pub type VisitColumns<'a> = dyn FnMut(usize, &mut Columns) -> Result<(), StoreError> + 'a;

/// Series that a select has found, sorted by labels, each once. Samples are read when they are
/// asked for; parts and heads that they lie in stay as they were when the select was made.
pub trait SeriesSet: Send + Sync {
    /// Who the series are. A series may turn out to have no sample in the range.
    fn labels(&self) -> &[Labels];

    /// Reads the samples of the series at `places`, in that order, each handed to `visit` once, also
    /// when there is none in the range. Several threads may read different places at once;
    /// neighbours are best read by one thread. What is held while reading is charged to `budget`
    /// and given back, samples read are counted with its `touch`.
    ///
    /// # Errors
    /// [`StoreError`], or what `visit` returns.
    fn read(&self, places: Range<usize>, budget: &QueryBudget, visit: &mut VisitColumns<'_>) -> Result<(), StoreError>;
}

/// Finds series. `matchers` must all hold; an empty list matches every series.
pub trait SelectMetrics: Send + Sync {
    /// The series that match and may have samples in `range`. What the set holds stays charged to
    /// `budget`.
    ///
    /// # Errors
    /// [`StoreError`].
    fn select(
        &self,
        matchers: &[Matcher],
        range: RangeMs,
        budget: &QueryBudget,
    ) -> Result<Box<dyn SeriesSet>, StoreError>;

    /// Label sets of matching series that may have samples in `range`, sorted.
    ///
    /// # Errors
    /// [`StoreError`].
    fn series(&self, matchers: &[Matcher], range: RangeMs, budget: &QueryBudget) -> Result<Vec<Labels>, StoreError>;

    /// Names of labels of matching series, sorted.
    ///
    /// # Errors
    /// [`StoreError`].
    fn label_names(
        &self,
        matchers: &[Matcher],
        range: RangeMs,
        budget: &QueryBudget,
    ) -> Result<Vec<String>, StoreError>;

    /// Values of one label of matching series, sorted.
    ///
    /// # Errors
    /// [`StoreError`].
    fn label_values(
        &self,
        name: &str,
        matchers: &[Matcher],
        range: RangeMs,
        budget: &QueryBudget,
    ) -> Result<Vec<String>, StoreError>;

    /// Metadata of all metric families, sorted by name; a name may come more than once.
    ///
    /// # Errors
    /// [`StoreError`].
    fn metadata(&self) -> Result<Vec<MetricMetadata>, StoreError>;

    /// Series in memory, counted by label, the `rows` largest of each list; `None` where nothing is
    /// counted there.
    ///
    /// # Errors
    /// [`StoreError::Limit`].
    fn cardinality_now(&self, _rows: usize, _budget: &QueryBudget) -> Result<Option<Cardinality>, StoreError> {
        Ok(None)
    }

    /// Series that match one of `selectors` and may have samples in `range`, likewise.
    ///
    /// # Errors
    /// [`StoreError`].
    fn cardinality(
        &self,
        selectors: &[Vec<Matcher>],
        range: RangeMs,
        rows: usize,
        budget: &QueryBudget,
    ) -> Result<Cardinality, StoreError> {
        let mut all = Vec::new();
        for selector in selectors {
            all.extend(self.series(selector, range, budget)?);
        }
        cardinality::count(all, rows, budget)
    }

    /// The metrics that most samples of new series were refused of, the most first.
    fn refused(&self, _rows: usize) -> Vec<RefusedMetric> {
        Vec::new()
    }

    /// Exemplars of matching series, by series, in time order.
    ///
    /// # Errors
    /// [`StoreError`].
    fn exemplars(
        &self,
        matchers: &[Matcher],
        range: RangeMs,
        budget: &QueryBudget,
    ) -> Result<Vec<(Labels, Vec<Exemplar>)>, StoreError>;
}

/// What a reader wants of log rows besides times and line lengths, which always come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct LogColumns {
    /// The lines.
    pub lines: bool,
    /// The structured metadata.
    pub metadata: bool,
}

/// What the index may use to leave chunks out: each string is part of every line that can match,
/// byte for byte. An index narrows only; whoever reads the rows decides.
#[derive(Clone, Debug, Default)]
pub struct LineHints {
    /// All of these are in the line.
    pub contains: Vec<String>,
}

/// A run of rows of one stream. Chunks of one stream that come from one select do not overlap in
/// time, and a (time, line) pair is in them once.
pub trait LogChunk: Send {
    /// The stream.
    fn labels(&self) -> &Labels;
    /// First and last time of the rows in the chunk, both inclusive; may be wider than what
    /// [`read`](Self::read) gives.
    fn span(&self) -> (i64, i64);
    /// The rows that lie in the select's range, in time order, equal times in the order they came.
    /// What is charged to `budget` while reading is given back; the caller charges what it keeps.
    ///
    /// # Errors
    /// [`StoreError`].
    fn read(&self, columns: LogColumns, budget: &QueryBudget) -> Result<LogRows, StoreError>;
}

/// What an index knows about matching streams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogStats {
    /// Streams.
    pub streams: u64,
    /// Chunks.
    pub chunks: u64,
    /// Bytes of lines; an estimate where a chunk is only partly in range.
    pub bytes: u64,
    /// Lines; an estimate likewise.
    pub entries: u64,
}

/// Finds streams and their lines.
pub trait SelectLogs: Send + Sync {
    /// Chunks with rows in `range` of matching streams, in no order.
    ///
    /// # Errors
    /// [`StoreError`].
    fn chunks(
        &self,
        matchers: &[Matcher],
        range: RangeNs,
        hints: &LineHints,
        budget: &QueryBudget,
    ) -> Result<Vec<Box<dyn LogChunk>>, StoreError>;

    /// Label sets of matching streams with lines in `range`, sorted.
    ///
    /// # Errors
    /// [`StoreError`].
    fn series(&self, matchers: &[Matcher], range: RangeNs, budget: &QueryBudget) -> Result<Vec<Labels>, StoreError>;

    /// Names of labels of matching streams, sorted.
    ///
    /// # Errors
    /// [`StoreError`].
    fn label_names(
        &self,
        matchers: &[Matcher],
        range: RangeNs,
        budget: &QueryBudget,
    ) -> Result<Vec<String>, StoreError>;

    /// Values of one label of matching streams, sorted.
    ///
    /// # Errors
    /// [`StoreError`].
    fn label_values(
        &self,
        name: &str,
        matchers: &[Matcher],
        range: RangeNs,
        budget: &QueryBudget,
    ) -> Result<Vec<String>, StoreError>;

    /// Totals per matching stream, without reading lines.
    ///
    /// # Errors
    /// [`StoreError`].
    fn stats(
        &self,
        matchers: &[Matcher],
        range: RangeNs,
        budget: &QueryBudget,
    ) -> Result<Vec<(Labels, LogStats)>, StoreError>;
}

/// Where an attribute of a span lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum AttrScope {
    /// On the resource.
    Resource,
    /// On the span.
    Span,
    /// On an event of the span.
    Event,
    /// On a link of the span.
    Link,
    /// On the instrumentation scope.
    Instrumentation,
}

/// A condition that every span of interest satisfies, for leaving blocks out. An index narrows only.
#[derive(Clone, Debug, PartialEq)]
pub enum SpanHint {
    /// `resource.service.name` is this.
    Service(String),
    /// The span's name is this.
    Name(String),
    /// An attribute has this value; in one of the scopes given (unscoped ones name two).
    Attr {
        /// Where it may be.
        scopes: Vec<AttrScope>,
        /// Its name.
        name: String,
        /// Its value: a string, integer or boolean.
        value: AttrValue,
    },
}

/// A run of spans that were stored together. A span is in one block only; a trace may be in many.
pub trait SpanBlock: Send {
    /// Earliest start and latest end of its spans, both inclusive.
    fn span(&self) -> (i64, i64);
    /// How many spans it has.
    fn spans(&self) -> u64;
    /// All its spans, in no order.
    ///
    /// # Errors
    /// [`StoreError`].
    fn read(&self, budget: &QueryBudget) -> Result<Vec<Span>, StoreError>;
}

/// A service and the names and kinds of its spans.
pub type ServiceOperations = (String, Vec<(String, SpanKind)>);

/// Finds traces and spans.
pub trait SelectTraces: Send + Sync {
    /// All spans of one trace, each once, by start time; empty when the trace is not known.
    ///
    /// # Errors
    /// [`StoreError`].
    fn trace(&self, id: TraceId, budget: &QueryBudget) -> Result<Vec<Span>, StoreError>;

    /// Blocks with spans that overlap `range`, latest end first. `hints` must all hold for a span
    /// of interest.
    ///
    /// # Errors
    /// [`StoreError`].
    fn blocks(
        &self,
        range: RangeNs,
        hints: &[SpanHint],
        budget: &QueryBudget,
    ) -> Result<Vec<Box<dyn SpanBlock>>, StoreError>;

    /// Names of attributes by scope, sorted.
    ///
    /// # Errors
    /// [`StoreError`].
    fn tag_names(&self, range: RangeNs, budget: &QueryBudget) -> Result<Vec<(AttrScope, String)>, StoreError>;

    /// Distinct values of one attribute in any of `scopes`, at most `limit`.
    ///
    /// # Errors
    /// [`StoreError`].
    fn tag_values(
        &self,
        scopes: &[AttrScope],
        name: &str,
        range: RangeNs,
        limit: usize,
        budget: &QueryBudget,
    ) -> Result<Vec<AttrValue>, StoreError>;

    /// Services and, for each, the names and kinds of its spans, from the index, sorted.
    ///
    /// # Errors
    /// [`StoreError`].
    fn services(&self, budget: &QueryBudget) -> Result<Vec<ServiceOperations>, StoreError>;
}
