//! Finding streams and reading their lines, heads and parts as one.

use crate::base::limits::QueryBudget;
use crate::model::labels::Labels;
use crate::model::log::LogRows;
use crate::model::matcher::Matcher;
use crate::model::time::RangeNs;
use crate::store::error::StoreError;

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
