//! The log store: lines by stream, from append to select.
//! Flow: an append becomes records of the write-ahead log and rows in the head (`head.rs`); a flush
//! writes packs (`pack.rs`) to a part per day; a select (`select.rs`) merges heads and parts.
//! Invariants: a (time, line, metadata) of a stream is answered once; lines of one time come in the
//! order pushed; lines may come at any time and in any order.
//! Bytes: docs/format/logs.md.

mod cache;
mod head;
mod kind;
mod narrow;
mod pack;
mod part;
mod record;
mod rows;
mod select;

#[cfg(test)]
mod mutated_tests;
#[cfg(test)]
mod tests;

use ahash::AHashSet;

use self::kind::LogsKind;
use self::record::Item;
use self::rows::Rows;
use super::lane::{Lane, LaneOptions, Maintain};
use crate::model::batch::{Appended, Example, LogsBatch, StreamBatch};
use crate::store::env::Env;
use crate::store::error::StoreError;
use crate::store::waist::AppendLogs;

/// Lines of one stream go to the log and the head in pieces of up to this many bytes, ...
const ITEM_BYTES_MAX: usize = 8 << 20;
/// ... and a record takes pieces up to this many.
const RECORD_BYTES_MAX: usize = 16 << 20;
/// The label that says of a stream what it is; `ingest` sees to it that there is one.
const SERVICE_NAME: &str = "service_name";

/// How the log store behaves.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Log and heads.
    pub lane: LaneOptions,
    /// Most streams in the active head; lines of further ones are refused until a flush.
    pub streams_max: usize,
    /// Longest line, in bytes.
    pub line_bytes_max: usize,
    /// Most structured metadata of one line, in bytes.
    pub metadata_bytes_max: usize,
    /// Largest label set of a stream, in bytes.
    pub labels_bytes_max: usize,
    /// A part with fewer bytes of lines gets no text index.
    pub text_bytes_min: u64,
    /// Frames of parts that are kept decompressed, in bytes.
    pub cache_bytes_max: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            lane: LaneOptions { head_bytes_max: 64 << 20, ..LaneOptions::default() },
            streams_max: 100_000,
            line_bytes_max: 256 << 10,
            metadata_bytes_max: 64 << 10,
            labels_bytes_max: 64 << 10,
            text_bytes_min: 4 << 20,
            cache_bytes_max: 16 << 20,
        }
    }
}

/// Lines of log streams on disk and in memory.
pub struct LogsStore {
    lane: Lane<LogsKind>,
    options: Options,
}

impl LogsStore {
    /// Opens the store: parts, write-ahead log, and in the background the text indexes.
    ///
    /// # Errors
    /// [`StoreError`] when the folders cannot be read or written.
    pub fn open(env: &Env, options: Options) -> Result<Self, StoreError> {
        let text = env.dir.join("text");
        env.disk.create_dir_all(&text).map_err(|source| StoreError::Io { action: "create", path: text, source })?;
        let kind = LogsKind::new(env, options.text_bytes_min, options.cache_bytes_max);
        let lane = Lane::open(env, kind, options.lane)?;
        let parts = lane.view().parts;
        lane.kind().narrower.remove_strays(parts.iter().map(|part| &part.0));
        parts.iter().for_each(|part| lane.kind().index(part));
        Ok(Self { lane, options })
    }

    /// What the store does with every lane.
    pub fn lane(&self) -> &dyn Maintain {
        &self.lane
    }

    /// Waits until text indexes that are being opened or built are ready; for tests and repairs.
    pub fn settle_indexes(&self) {
        self.lane.kind().narrower.settle();
    }

    /// Divides a batch into what is taken, in pieces, and what is refused.
    fn admit(&self, batch: &LogsBatch) -> (Vec<Item>, Appended) {
        let (mut items, mut appended) = (Vec::new(), Appended::default());
        let mut added = AHashSet::new();
        let view = self.lane.view();
        for stream in &batch.streams {
            if let Some(head) = view.heads.last()
                && !head.knows(&stream.labels)
                && !added.contains(&stream.labels)
            {
                if head.len() + added.len() >= self.options.streams_max {
                    let limit = self.options.streams_max;
                    let count = stream.entries.len() as u64;
                    let text = || format!("{} would be one more than {limit} active streams", stream.labels);
                    let example = || Example::of(stream.labels.value(SERVICE_NAME), text());
                    appended.rejected.add("stream_limit", count, example);
                    continue;
                }
                added.insert(stream.labels.clone());
            }
            self.admit_stream(stream, &mut items, &mut appended);
        }
        (items, appended)
    }

    fn admit_stream(&self, stream: &StreamBatch, items: &mut Vec<Item>, appended: &mut Appended) {
        let Options { line_bytes_max, metadata_bytes_max, labels_bytes_max, .. } = self.options;
        let rejected = &mut appended.rejected;
        if stream.labels.bytes() > labels_bytes_max {
            let example = || format!("a label set of {} bytes, over {labels_bytes_max}", stream.labels.bytes());
            rejected.add("labels_too_long", stream.entries.len() as u64, example);
            return;
        }
        let (mut rows, mut bytes) = (Rows::default(), 0);
        for entry in &stream.entries {
            let (line, metadata) = (entry.line.len(), entry.metadata.bytes());
            if line > line_bytes_max {
                let text = || format!("a line of {line} bytes in {}, over {line_bytes_max}", stream.labels);
                let example = || Example::of(stream.labels.value(SERVICE_NAME), text());
                rejected.add("line_too_long", 1, example);
                continue;
            }
            if metadata > metadata_bytes_max {
                let text = || format!("metadata of {metadata} bytes in {}, over {metadata_bytes_max}", stream.labels);
                let example = || Example::of(stream.labels.value(SERVICE_NAME), text());
                rejected.add("metadata_too_long", 1, example);
                continue;
            }
            rows.push_entry(entry);
            bytes += line + metadata + rows::ROW_BYTES;
            appended.accepted += 1;
            if bytes >= ITEM_BYTES_MAX {
                items.push((stream.labels.clone(), std::mem::take(&mut rows)));
                bytes = 0;
            }
        }
        if !rows.is_empty() {
            items.push((stream.labels.clone(), rows));
        }
    }
}

impl AppendLogs for LogsStore {
    fn append(&self, batch: &LogsBatch) -> Result<Appended, StoreError> {
        let (items, appended) = self.admit(batch);
        let mut rest = items.as_slice();
        while !rest.is_empty() {
            let mut bytes = 0;
            let fits = |(_, rows): &&Item| {
                let takes = bytes < RECORD_BYTES_MAX;
                bytes += rows.bytes();
                takes
            };
            let count = rest.iter().take_while(fits).count();
            let (now, later) = rest.split_at(count);
            let record = record::encode(now);
            self.lane.append(
                |_, out, _| out.extend_from_slice(&record),
                |head, ()| now.iter().for_each(|(labels, rows)| head.push(labels, rows)),
            )?;
            rest = later;
        }
        Ok(appended)
    }
}
