//! Writing log parts. A pack is about a megabyte of lines of one or more streams, in up to three
//! frames: times with lengths, lines, metadata; a run is what one stream has in a pack.
//! Flow: rows come stream by stream; a run ends with its stream, its order or its pack; every so
//! many packs an index frame lists their runs, so that a query finds them without reading packs.
//! Invariants: every frame names its pack, and the times frame names its streams, so that packs
//! can be read without the index frame, and a damaged frame costs its own pack.
//! Bytes: docs/format/logs.md.

use super::rows::{ROW_BYTES, Rows, put_labels, put_metadata, put_times};
use crate::model::labels::Labels;
use crate::store::codec::{put_signed, put_varint};
use crate::store::error::StoreError;
use crate::store::part::{FrameRef, PartWriter};

/// Kind of the frame with times and line lengths.
pub(super) const TIMES: u8 = 1;
/// Kind of the frame with lines.
pub(super) const LINES: u8 = 2;
/// Kind of the frame with structured metadata.
pub(super) const METADATA: u8 = 3;
/// Kind of the frame that lists packs and their runs.
pub(super) const INDEX: u8 = 4;

/// A pack of this size is closed; lines, metadata and labels count.
const PACK_BYTES: usize = if cfg!(test) { 8 << 10 } else { 1 << 20 };
/// An index frame of about this size is closed.
const INDEX_BYTES: usize = if cfg!(test) { 60 } else { 1 << 20 };

/// Writes the packs of one part.
pub(super) struct Packer<'a> {
    out: &'a mut PartWriter,
    level: i32,
    number: u32,
    /// Bytes in the open pack, the open run's among them.
    bytes: usize,
    labels: Labels,
    run: Rows,
    runs: Vec<Run>,
    times: Vec<u8>,
    lines: Vec<u8>,
    metadata: Vec<u8>,
    index: Index,
}

struct Run {
    labels: Labels,
    span: (i64, i64),
    rows: usize,
    text_bytes: usize,
    times_at: usize,
}

#[derive(Default)]
struct Index {
    first: u32,
    packs: u32,
    streams: Vec<Labels>,
    body: Vec<u8>,
    bytes: usize,
}

impl<'a> Packer<'a> {
    /// Packs go to `out`, compressed at zstd's `level`.
    pub(super) fn new(out: &'a mut PartWriter, level: i32) -> Self {
        Self {
            out,
            level,
            number: 0,
            bytes: 0,
            labels: Labels::default(),
            run: Rows::default(),
            runs: Vec::new(),
            times: Vec::new(),
            lines: Vec::new(),
            metadata: Vec::new(),
            index: Index::default(),
        }
    }

    /// Adds rows of a stream: in order, each once. A call whose rows begin at or before the
    /// end of the last call's begins a new run.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub(super) fn push(&mut self, labels: &Labels, rows: &Rows) -> Result<(), StoreError> {
        let follows = self.run.times.last() < rows.times.first();
        if self.run.is_empty() || self.labels != *labels || !follows {
            self.begin_run(labels);
        }
        for (row, line) in rows.lines().enumerate() {
            let Some(t) = rows.times.get(row) else { break };
            let metadata = rows.metadata_of(row);
            let bytes = line.len() + metadata.bytes() + ROW_BYTES / 4;
            if self.bytes + bytes > PACK_BYTES && !self.run.is_empty() {
                self.end_run();
                self.end_pack()?;
                self.begin_run(labels);
            }
            self.run.push(*t, line, &metadata);
            self.bytes += bytes;
        }
        if self.bytes > PACK_BYTES {
            self.end_run();
            self.end_pack()?;
        }
        Ok(())
    }

    fn begin_run(&mut self, labels: &Labels) {
        self.end_run();
        self.labels = labels.clone();
        self.bytes += labels.bytes();
    }

    fn end_run(&mut self) {
        let rows = std::mem::take(&mut self.run);
        let (Some(first), Some(last)) = (rows.times.first(), rows.times.last()) else { return };
        self.runs.push(Run {
            labels: self.labels.clone(),
            span: (*first, *last),
            rows: rows.len(),
            text_bytes: rows.text.len(),
            times_at: self.times.len(),
        });
        put_labels(&mut self.times, &self.labels);
        // One more than where the run's metadata begins; 0 says that there is none.
        let metadata_at = if rows.metadata.is_empty() { 0 } else { self.metadata.len() + 1 };
        put_varint(&mut self.times, metadata_at as u64);
        put_times(&mut self.times, &rows.times, &rows.line_bytes);
        self.lines.extend_from_slice(rows.text.as_bytes());
        if metadata_at > 0 {
            put_metadata(&mut self.metadata, &rows.metadata);
        }
    }

    fn end_pack(&mut self) -> Result<(), StoreError> {
        self.bytes = 0;
        let runs = std::mem::take(&mut self.runs);
        if runs.is_empty() {
            return Ok(());
        }
        let times = self.frame(TIMES, runs.len(), |packer| &mut packer.times)?;
        let lines = self.frame(LINES, 0, |packer| &mut packer.lines)?;
        let metadata =
            if self.metadata.is_empty() { None } else { Some(self.frame(METADATA, 0, |packer| &mut packer.metadata)?) };
        self.index.add(times, lines, metadata, &runs);
        self.number += 1;
        if self.index.bytes >= INDEX_BYTES { self.end_index() } else { Ok(()) }
    }

    /// Writes a column with the number of its pack in front, and in the times frame that of its runs.
    fn frame(&mut self, kind: u8, runs: usize, column: fn(&mut Self) -> &mut Vec<u8>) -> Result<FrameRef, StoreError> {
        let mut payload = Vec::new();
        put_varint(&mut payload, u64::from(self.number));
        if kind == TIMES {
            put_varint(&mut payload, runs as u64);
        }
        let level = self.level;
        let body = column(self);
        payload.append(body);
        self.out.frame_at_level(kind, &payload, level)
    }

    fn end_index(&mut self) -> Result<(), StoreError> {
        let index = std::mem::take(&mut self.index);
        if index.packs == 0 {
            return Ok(());
        }
        let mut payload = Vec::with_capacity(index.bytes + 16);
        put_varint(&mut payload, u64::from(index.first));
        put_varint(&mut payload, u64::from(index.packs));
        put_varint(&mut payload, index.streams.len() as u64);
        index.streams.iter().for_each(|labels| put_labels(&mut payload, labels));
        payload.extend_from_slice(&index.body);
        self.out.frame_at_level(INDEX, &payload, self.level)?;
        self.index.first = self.number;
        Ok(())
    }

    /// Ends the last pack and index.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub(super) fn finish(mut self) -> Result<(), StoreError> {
        self.end_run();
        self.end_pack()?;
        self.end_index()
    }
}

impl Index {
    fn add(&mut self, times: FrameRef, lines: FrameRef, metadata: Option<FrameRef>, runs: &[Run]) {
        self.packs += 1;
        let before = self.body.len();
        put_varint(&mut self.body, times.offset);
        put_varint(&mut self.body, lines.offset);
        put_varint(&mut self.body, metadata.map_or(0, |frame| frame.offset));
        put_varint(&mut self.body, runs.len() as u64);
        for run in runs {
            // Runs come stream by stream, so a known stream is the last one.
            if self.streams.last() != Some(&run.labels) {
                self.streams.push(run.labels.clone());
                self.bytes += run.labels.bytes() + 8;
            }
            put_varint(&mut self.body, self.streams.len() as u64 - 1);
            put_signed(&mut self.body, run.span.0);
            put_varint(&mut self.body, run.span.1.wrapping_sub(run.span.0) as u64);
            put_varint(&mut self.body, run.rows as u64);
            put_varint(&mut self.body, run.text_bytes as u64);
            put_varint(&mut self.body, run.times_at as u64);
        }
        self.bytes += self.body.len() - before;
    }
}
