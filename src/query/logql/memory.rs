//! A store of vectors, for tests of what lies above the store.

use std::collections::BTreeSet;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::base::limits::QueryBudget;
use crate::model::labels::Labels;
use crate::model::log::{LogEntry, LogRows};
use crate::model::matcher::{Matcher, all_match};
use crate::model::time::RangeNs;
use crate::store::{LineHints, LogChunk, LogColumns, LogStats, SelectLogs, StoreError};

type Streams = Vec<(Labels, Vec<LogEntry>)>;

/// Streams with their lines, cut into chunks of so many rows. Says what was asked of it.
#[derive(Clone, Debug)]
pub(crate) struct MemoryLogs {
    streams: Arc<Mutex<Streams>>,
    chunk_rows: usize,
    /// The columns of every read, in order.
    pub(crate) reads: Arc<Mutex<Vec<LogColumns>>>,
    /// The hints of every select, in order.
    pub(crate) hints: Arc<Mutex<Vec<Vec<String>>>>,
}

impl MemoryLogs {
    /// An empty store.
    pub(crate) fn new(chunk_rows: usize) -> Self {
        Self { streams: Arc::default(), chunk_rows, reads: Arc::default(), hints: Arc::default() }
    }

    /// Adds a line.
    pub(crate) fn push(&self, labels: &Labels, t: i64, line: &str, metadata: &Labels) {
        let entry = LogEntry { t, line: line.to_owned(), metadata: metadata.clone() };
        let mut streams = self.streams.lock();
        match streams.iter_mut().find(|(own, _)| own == labels) {
            Some((_, entries)) => entries.push(entry),
            None => streams.push((labels.clone(), vec![entry])),
        }
    }

    fn matching(&self, matchers: &[Matcher], range: RangeNs) -> Vec<(Labels, Vec<LogEntry>)> {
        let mut found = Vec::new();
        for (labels, entries) in self.streams.lock().iter().filter(|(labels, _)| all_match(matchers, labels)) {
            let mut entries: Vec<LogEntry> = entries.iter().filter(|entry| range.contains(entry.t)).cloned().collect();
            entries.sort_by_key(|entry| entry.t);
            if !entries.is_empty() {
                found.push((labels.clone(), entries));
            }
        }
        found.sort_by(|a, b| a.0.cmp(&b.0));
        found
    }
}

struct Chunk {
    labels: Labels,
    entries: Vec<LogEntry>,
    reads: Arc<Mutex<Vec<LogColumns>>>,
}

impl LogChunk for Chunk {
    fn labels(&self) -> &Labels {
        &self.labels
    }

    fn span(&self) -> (i64, i64) {
        (self.entries[0].t, self.entries[self.entries.len() - 1].t)
    }

    fn read(&self, columns: LogColumns, _: &QueryBudget) -> Result<LogRows, StoreError> {
        self.reads.lock().push(columns);
        let mut rows = LogRows::default();
        for entry in &self.entries {
            rows.times.push(entry.t);
            rows.line_bytes.push(u32::try_from(entry.line.len()).unwrap());
            if columns.lines {
                rows.lines.push(&entry.line);
            }
            if columns.metadata {
                rows.metadata.push(entry.metadata.clone());
            }
        }
        Ok(rows)
    }
}

impl SelectLogs for MemoryLogs {
    fn chunks(
        &self,
        matchers: &[Matcher],
        range: RangeNs,
        hints: &LineHints,
        _: &QueryBudget,
    ) -> Result<Vec<Box<dyn LogChunk>>, StoreError> {
        self.hints.lock().push(hints.contains.clone());
        let mut chunks: Vec<Box<dyn LogChunk>> = Vec::new();
        for (labels, entries) in self.matching(matchers, range) {
            // Chunks of a stream do not overlap: equal times stay together.
            let mut groups: Vec<Vec<LogEntry>> = Vec::new();
            for entry in entries {
                match groups.last_mut() {
                    Some(group) if group.len() < self.chunk_rows || group[group.len() - 1].t == entry.t => {
                        group.push(entry);
                    }
                    _ => groups.push(vec![entry]),
                }
            }
            for entries in groups {
                // What an index would leave out.
                let lacks = |hint: &String| !entries.iter().any(|entry| entry.line.contains(hint.as_str()));
                if !hints.contains.iter().any(lacks) {
                    let chunk = Chunk { labels: labels.clone(), entries, reads: self.reads.clone() };
                    chunks.push(Box::new(chunk));
                }
            }
        }
        Ok(chunks)
    }

    fn series(&self, matchers: &[Matcher], range: RangeNs, _: &QueryBudget) -> Result<Vec<Labels>, StoreError> {
        Ok(self.matching(matchers, range).into_iter().map(|(labels, _)| labels).collect())
    }

    fn label_names(&self, matchers: &[Matcher], range: RangeNs, _: &QueryBudget) -> Result<Vec<String>, StoreError> {
        let found = self.matching(matchers, range);
        let names: BTreeSet<String> =
            found.iter().flat_map(|(labels, _)| labels.iter().map(|(name, _)| name.to_owned())).collect();
        Ok(names.into_iter().collect())
    }

    fn label_values(
        &self,
        name: &str,
        matchers: &[Matcher],
        range: RangeNs,
        _: &QueryBudget,
    ) -> Result<Vec<String>, StoreError> {
        let found = self.matching(matchers, range);
        let values: BTreeSet<String> =
            found.iter().filter_map(|(labels, _)| labels.get(name).map(str::to_owned)).collect();
        Ok(values.into_iter().collect())
    }

    fn stats(
        &self,
        matchers: &[Matcher],
        range: RangeNs,
        _: &QueryBudget,
    ) -> Result<Vec<(Labels, LogStats)>, StoreError> {
        let stats = |(labels, entries): (Labels, Vec<LogEntry>)| {
            let bytes = entries.iter().map(|entry| entry.line.len() as u64).sum();
            (labels, LogStats { streams: 1, chunks: 1, bytes, entries: entries.len() as u64 })
        };
        Ok(self.matching(matchers, range).into_iter().map(stats).collect())
    }
}
