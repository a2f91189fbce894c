//! The store of spans: heads of encoded batches, parts of blocks, a trace by its id, blocks for search.
//! Flow: `append` surveys and encodes a batch, logs it, adds it to the head as a chunk; `flush` orders
//! spans by trace and time into blocks; `select` reads heads and parts as one.
//! Invariants: a span sent again unchanged is stored once, while its first copy is in the head, in the
//! head before, among the many before those (`past`), or in the newest parts found at start; spans
//! that share their ids but differ are kept.
//! Bytes: docs/format/traces.md.

mod facets;
mod flush;
mod head;
mod index;
mod narrow;
mod part;
mod past;
mod recent;
mod select;
mod spanset;
mod survey;
mod terms;

use std::sync::Arc;

use ahash::RandomState;
use parking_lot::{Mutex, RwLock};

use self::flush::{DAY_NS, Slice};
use self::head::{Entry, Head, Prepared, Seen, Verdict};
use self::part::{OpenPart, TracesPart};
use self::past::Past;
use self::recent::Recent;
use self::survey::Surveyor;
use super::catalog::Names;
use super::codec::Malformed;
use super::env::Env;
use super::lane::{Kind, Lane, LaneOptions, Maintain, SliceSpan};
use super::part::{PartReader, PartWriter};
use super::text::narrow::Narrower;
use crate::base::clock::Clock;
use crate::base::counters::Cell;
use crate::model::batch::{Appended, Signal, TracesBatch};
use crate::model::span::Span;
use crate::store::error::StoreError;
use crate::store::waist::AppendTraces;

/// A batch of more memory than this is logged as several records.
const RECORD_MEMORY_MAX: usize = 64 << 20;

/// Memory that encoding blocks takes, in bytes, by estimate.
const FLUSH_BYTES: usize = 24 << 20;

/// How the store of spans behaves.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Log and head.
    pub lane: LaneOptions,
    /// Spans of one trace may take so many bytes of memory, decoded, within one head.
    pub trace_bytes_max: usize,
    /// One span may take so many bytes of memory.
    pub span_bytes_max: usize,
    /// Parts of so many spans and more get a text index.
    pub index_spans_min: u64,
}

impl Default for Options {
    fn default() -> Self {
        let lane = LaneOptions { head_bytes_max: 64 << 20, ..LaneOptions::default() };
        Self { lane, trace_bytes_max: 64 << 20, span_bytes_max: 16 << 20, index_spans_min: narrow::SPANS_MIN }
    }
}

/// What is particular to spans.
pub struct TracesKind {
    options: Options,
    clock: Arc<dyn Clock>,
    damaged: Cell,
    hashes: RandomState,
    /// Keys of the newest head made, and of the one before.
    newest: Mutex<[Arc<Seen>; 2]>,
    past: RwLock<Past>,
    recent: Recent,
    narrower: Narrower<TracesPart>,
}

impl TracesKind {
    /// Has the part's text index opened or built, if it is worth one.
    fn index(&self, part: &OpenPart) {
        if part.reader().info().rows >= self.options.index_spans_min {
            self.narrower.submit(&part.0);
        }
    }
}

impl Kind for TracesKind {
    const SIGNAL: Signal = Signal::Traces;
    const DAY: i64 = DAY_NS;
    type Head = Head;
    type Part = OpenPart;
    type Slice = Slice;

    fn new_head(&self) -> Head {
        self.recent.clear();
        let mut newest = self.newest.lock();
        let [last, before] = &mut *newest;
        self.past.write().add(before);
        let head = Head::new(last.clone(), self.options.trace_bytes_max);
        *newest = [head.seen().clone(), last.clone()];
        head
    }

    fn replay(&self, head: &Head, record: &[u8], _segment: u64) -> Result<(), Malformed> {
        head.replay(record, &self.hashes)
    }

    fn head_bytes(&self, head: &Head) -> usize {
        head.bytes()
    }

    fn kept_bytes(&self, _heads: &[&Head]) -> usize {
        self.past.read().bytes() + self.recent.bytes()
    }

    fn part_bytes(&self, part: &OpenPart) -> usize {
        part.0.memory()
    }

    /// A place for each span, and what is decoded for a block.
    fn flush_bytes(&self, head: &Head) -> usize {
        head.bytes().min(FLUSH_BYTES) + head.bytes() / 2
    }

    fn head_is_empty(&self, head: &Head) -> bool {
        head.is_empty()
    }

    fn slices(&self, head: &Head) -> Vec<SliceSpan<Slice>> {
        flush::slices(head, self.clock.now_ns())
    }

    fn write(&self, head: &Head, slice: Slice, out: &mut PartWriter) -> Result<(), StoreError> {
        flush::write(head, &slice, out)
    }

    fn open(&self, part: PartReader) -> Result<OpenPart, StoreError> {
        Ok(OpenPart(Arc::new(TracesPart::open(part, self.damaged.clone())?)))
    }

    fn reader(part: &OpenPart) -> &PartReader {
        part.reader()
    }

    fn names(&self, part: &OpenPart) -> Result<Names, StoreError> {
        Ok(part.facets()?.catalog())
    }

    fn added(&self, part: &OpenPart) {
        self.index(part);
    }

    fn removed(&self, part: &OpenPart) {
        self.narrower.remove(part);
    }
}

/// The store of spans.
pub struct TracesStore {
    lane: Lane<TracesKind>,
}

impl TracesStore {
    /// Opens parts and replays the log.
    ///
    /// # Errors
    /// [`StoreError`] when the folders cannot be read or written.
    pub fn open(env: &Env, options: Options) -> Result<Self, StoreError> {
        let labels = [("signal", Signal::Traces.name())];
        let damaged = env.counters.counter("trilith_damaged_total", "Damaged files and records met.", &labels);
        let kind = TracesKind {
            options,
            clock: env.clock.clone(),
            damaged: damaged.clone(),
            hashes: RandomState::new(),
            newest: Mutex::default(),
            past: RwLock::new(Past::new(options.lane.head_bytes_max / 2)),
            recent: Recent::default(),
            narrower: Narrower::start(&env.disk, &env.dir.join("text"), damaged, &env.account),
        };
        let lane = Lane::open(env, kind, options.lane)?;
        let parts = lane.view().parts;
        lane.kind().recent.set(&parts);
        lane.kind().narrower.remove_strays(parts.iter().map(|part| &part.0));
        parts.iter().for_each(|part| lane.kind().index(part));
        Ok(Self { lane })
    }

    /// What the store does with every lane.
    pub fn lane(&self) -> &dyn Maintain {
        &self.lane
    }

    /// Refuses what is too deep or too large.
    fn survey<'s>(&self, batch: &'s TracesBatch, appended: &mut Appended) -> Vec<Entry<'s>> {
        let kind = self.lane.kind();
        let mut surveyor = Surveyor::new(&kind.hashes);
        let mut entries = Vec::with_capacity(batch.spans.len());
        for span in &batch.spans {
            match surveyor.survey(span) {
                Err(survey::TooDeep) => appended.rejected.add("attribute_too_deep", 1, || named(span)),
                Ok(survey) if survey.memory > kind.options.span_bytes_max => {
                    appended.rejected.add("span_too_large", 1, || named(span));
                }
                Ok(survey) => entries.push((span, survey)),
            }
        }
        entries
    }
}

impl AppendTraces for TracesStore {
    fn append(&self, batch: &TracesBatch) -> Result<Appended, StoreError> {
        let mut appended = Appended::default();
        let mut entries = self.survey(batch, &mut appended);
        while !entries.is_empty() {
            let mut memory = 0;
            let over = |(_, survey): &Entry<'_>| {
                memory += survey.memory;
                memory > RECORD_MEMORY_MAX
            };
            let len = entries.iter().position(over).unwrap_or(entries.len()).max(1);
            let rest = entries.split_off(len);
            self.append_record(entries, &mut appended)?;
            entries = rest;
        }
        Ok(appended)
    }
}

impl TracesStore {
    /// Logs and adds what is new of the entries.
    fn append_record(&self, entries: Vec<Entry<'_>>, appended: &mut Appended) -> Result<(), StoreError> {
        let kind = self.lane.kind();
        let taken = entries.len() as u64;
        let prepared = Prepared::new(entries);
        kind.recent.recall(&prepared.entries, &kind.hashes);
        let rejected = &mut appended.rejected;
        let mut full = 0;
        self.lane.append(
            |head, out, _segment| {
                let verdicts = kind.admit(head, &prepared.entries);
                for (verdict, (span, _)) in verdicts.iter().zip(&prepared.entries) {
                    if *verdict == Verdict::TraceFull {
                        full += 1;
                        rejected.add("trace_too_large", 1, || named(span));
                    }
                }
                let keep: Vec<bool> = verdicts.iter().map(|verdict| *verdict == Verdict::New).collect();
                let prepared = prepared.retain(&keep);
                out.extend_from_slice(&prepared.packed);
                prepared
            },
            |head, prepared| head.insert(prepared),
        )?;
        appended.accepted += taken - full;
        Ok(())
    }
}

/// A span in a message to its sender.
fn named(span: &Span) -> String {
    format!("span {} of trace {}", span.span_id, span.trace_id)
}

impl TracesKind {
    /// Says of each entry whether it is to be stored.
    fn admit(&self, head: &Head, entries: &[Entry<'_>]) -> Vec<Verdict> {
        let mut verdicts = head.admit(entries);
        let past = self.past.read();
        for (verdict, (_, survey)) in verdicts.iter_mut().zip(entries) {
            if *verdict == Verdict::New && (past.contains(survey.key.hash) || self.recent.contains(survey.key)) {
                *verdict = Verdict::Known;
            }
        }
        verdicts
    }
}

#[cfg(test)]
mod tests;
