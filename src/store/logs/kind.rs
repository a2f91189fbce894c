//! What is particular to logs on the way from append to part.
//! Flow: a frozen head is divided by day; the chunks of a stream that overlap are merged, others
//! go through one at a time, so a flush holds little more than one pack in memory.

use std::collections::BTreeMap;
use std::sync::Arc;

use ahash::AHashSet;
use parking_lot::Mutex;

use super::cache::FrameCache;
use super::head::{Head, HeadStream, OpenView, Sealed};
use super::pack::Packer;
use super::part::LogsPart;
use super::record;
use super::rows::{Rows, merge};
use crate::base::counters::Cell;
use crate::model::batch::Signal;
use crate::model::labels::Labels;
use crate::store::catalog::Names;
use crate::store::codec::Malformed;
use crate::store::env::Env;
use crate::store::error::StoreError;
use crate::store::lane::{Kind, SliceSpan, partition};
use crate::store::part::{PartReader, PartWriter};
use crate::store::text::narrow::Narrower;

/// Nanoseconds in a day.
pub(super) const DAY_NS: i64 = 86_400_000_000_000;
/// Overlapping chunks with more lines than this, in bytes, are not merged when they are written.
const MERGE_BYTES_MAX: usize = 32 << 20;
/// Memory of an interned label set beside its text, and of a pack while it is written.
const LABELS_BYTES: usize = 48;
const PACK_BYTES: usize = 4 << 20;
/// zstd's level for parts.
const LEVEL: i32 = 3;

/// The logs of a lane.
pub(super) struct LogsKind {
    env: Env,
    /// Parts with fewer bytes of lines get no text index.
    pub(super) text_bytes_min: u64,
    /// Text indexes.
    pub(super) narrower: Narrower<LogsPart>,
    /// Frames read lately.
    pub(super) cache: Arc<FrameCache>,
    /// Damage met.
    pub(super) damaged: Cell,
    /// One copy of each label set in parts.
    labels: Mutex<Interned>,
}

/// Label sets, one copy of each.
#[derive(Default)]
struct Interned {
    sets: AHashSet<Labels>,
    bytes: usize,
}

/// An open part, shared with whoever indexes or reads it.
pub(super) struct Part(pub(super) Arc<LogsPart>);

/// A chunk of a head.
#[derive(Clone)]
pub(super) enum Chunk {
    /// Compressed.
    Sealed(Arc<Sealed>),
    /// The open buffer.
    Open(OpenView),
}

impl Chunk {
    /// All chunks of a stream, oldest first.
    pub(super) fn of(stream: &HeadStream) -> Vec<Self> {
        let (sealed, open) = stream.chunks();
        sealed.into_iter().map(Self::Sealed).chain(open.map(Self::Open)).collect()
    }

    /// First and last time, both inclusive.
    pub(super) fn span(&self) -> (i64, i64) {
        match self {
            Self::Sealed(sealed) => sealed.span,
            Self::Open(open) => open.span,
        }
    }

    /// Rows.
    pub(super) fn rows(&self) -> usize {
        match self {
            Self::Sealed(sealed) => sealed.rows,
            Self::Open(open) => open.rows,
        }
    }

    /// Bytes of lines.
    pub(super) fn text_bytes(&self) -> usize {
        match self {
            Self::Sealed(sealed) => sealed.text_bytes,
            Self::Open(open) => open.text_bytes,
        }
    }

    /// The rows, in order, each once, with the columns asked for.
    ///
    /// # Errors
    /// [`Malformed`] when memory is damaged.
    pub(super) fn read(&self, text: bool, metadata: bool) -> Result<Rows, Malformed> {
        match self {
            Self::Sealed(sealed) => sealed.read(text, metadata),
            Self::Open(open) => {
                // All columns tell what is twice, also when not all are asked for.
                let mut rows = open.read();
                if !text {
                    rows = rows.without_text();
                }
                if !metadata {
                    rows.metadata = Vec::new();
                }
                Ok(rows)
            }
        }
    }
}

/// What one part of a flush takes.
#[derive(Default)]
pub(super) struct DaySlice {
    /// See [`partition`].
    day: i64,
    now: i64,
    streams: Vec<(Arc<HeadStream>, Vec<Chunk>)>,
}

impl LogsKind {
    /// The kind, with its thread for text indexes.
    pub(super) fn new(env: &Env, text_bytes_min: u64, cache_bytes_max: usize) -> Self {
        let labels = [("signal", Signal::Logs.name())];
        let damaged = env.counters.counter("trilith_damaged_total", "Damaged files and records met.", &labels);
        Self {
            env: env.clone(),
            text_bytes_min,
            narrower: Narrower::start(&env.disk, &env.dir.join("text"), damaged.clone(), &env.account),
            cache: FrameCache::new(cache_bytes_max, &env.account.caches),
            damaged,
            labels: Mutex::default(),
        }
    }

    /// Bytes of lines of overlapping chunks that are merged when they are written; queries merge the others.
    fn merge_bytes_max(&self) -> usize {
        MERGE_BYTES_MAX.min(self.env.account.decoded_bytes_max())
    }

    fn intern(&self, labels: Labels) -> Labels {
        let mut known = self.labels.lock();
        if let Some(own) = known.sets.get(&labels) {
            return own.clone();
        }
        known.bytes += labels.bytes() + LABELS_BYTES;
        known.sets.insert(labels.clone());
        labels
    }

    /// Has the part's text index opened or built, if it is worth one.
    pub(super) fn index(&self, part: &Part) {
        if part.0.text_bytes() >= self.text_bytes_min {
            self.narrower.submit(&part.0);
        }
    }
}

impl Kind for LogsKind {
    const SIGNAL: Signal = Signal::Logs;
    const DAY: i64 = DAY_NS;
    type Head = Head;
    type Part = Part;
    type Slice = DaySlice;

    fn new_head(&self) -> Head {
        Head::default()
    }

    fn replay(&self, head: &Head, bytes: &[u8], _segment: u64) -> Result<(), Malformed> {
        for (labels, rows) in record::decode(bytes)? {
            head.push(&labels, &rows);
        }
        Ok(())
    }

    fn head_bytes(&self, head: &Head) -> usize {
        head.bytes()
    }

    fn kept_bytes(&self, _heads: &[&Head]) -> usize {
        self.labels.lock().bytes
    }

    fn part_bytes(&self, part: &Part) -> usize {
        part.0.memory()
    }

    /// Chunks that are merged are there as they lie in the head, decoded, and merged.
    fn flush_bytes(&self, head: &Head) -> usize {
        (2 * self.merge_bytes_max() + PACK_BYTES).min(head.bytes().saturating_mul(20))
    }

    fn head_is_empty(&self, head: &Head) -> bool {
        head.is_empty()
    }

    fn slices(&self, head: &Head) -> Vec<SliceSpan<DaySlice>> {
        let now = self.env.clock.now_ns();
        let mut days: BTreeMap<i64, SliceSpan<DaySlice>> = BTreeMap::new();
        let mut streams = head.streams();
        streams.sort_by(|a, b| a.labels.cmp(&b.labels));
        for stream in streams {
            for chunk in Chunk::of(&stream) {
                for (day, (min, max), rows) in days_of(&chunk, now) {
                    let slice = DaySlice { day, now, streams: Vec::new() };
                    let span = days.entry(day).or_insert(SliceSpan { min_t: min, max_t: max, rows: 0, slice });
                    span.min_t = span.min_t.min(min);
                    span.max_t = span.max_t.max(max);
                    span.rows += rows;
                    match span.slice.streams.last_mut() {
                        Some((last, chunks)) if Arc::ptr_eq(last, &stream) => chunks.push(chunk.clone()),
                        _ => span.slice.streams.push((stream.clone(), vec![chunk.clone()])),
                    }
                }
            }
        }
        days.into_values().collect()
    }

    fn write(&self, _head: &Head, slice: DaySlice, out: &mut PartWriter) -> Result<(), StoreError> {
        let mut packer = Packer::new(out, LEVEL);
        for (stream, chunks) in &slice.streams {
            for group in overlapping(chunks) {
                let bytes: usize = group.iter().map(|chunk| chunk.text_bytes()).sum();
                let together = if bytes <= self.merge_bytes_max() { group.len().max(1) } else { 1 };
                for chunks in group.chunks(together) {
                    let rows = read_day(chunks, slice.day, slice.now)?;
                    packer.push(&stream.labels, &rows)?;
                }
            }
        }
        packer.finish()
    }

    fn open(&self, part: PartReader) -> Result<Part, StoreError> {
        let path = part.path().to_owned();
        let (part, damage) = LogsPart::open(part, |labels| self.intern(labels))?;
        if let Some(what) = damage {
            self.damaged.inc();
            tracing::error!(?path, what, "a log part is damaged; what can be read counts");
        }
        Ok(Part(Arc::new(part)))
    }

    fn reader(part: &Part) -> &PartReader {
        part.0.reader()
    }

    fn names(&self, part: &Part) -> Result<Names, StoreError> {
        let mut names: BTreeMap<&str, AHashSet<&str>> = BTreeMap::new();
        for (name, value) in part.0.streams.iter().flatten() {
            names.entry(name).or_default().insert(value);
        }
        let sorted = |values: AHashSet<&str>| {
            let mut values: Vec<String> = values.into_iter().map(str::to_owned).collect();
            values.sort_unstable();
            values
        };
        Ok(names.into_iter().map(|(name, values)| (name.to_owned(), sorted(values))).collect())
    }

    fn added(&self, part: &Part) {
        self.index(part);
    }

    fn removed(&self, part: &Part) {
        self.narrower.remove(&part.0);
        let info = part.0.reader().info();
        self.cache.forget(info.seq, info.index);
        // Streams of parts that are gone are not kept; those of later parts come in anew.
        *self.labels.lock() = Interned::default();
    }
}

/// The days that a chunk has rows in, with span and number of those rows.
fn days_of(chunk: &Chunk, now: i64) -> Vec<(i64, (i64, i64), u64)> {
    let (min, max) = chunk.span();
    let day = |t: i64| partition(t, now, DAY_NS);
    if day(min) == day(max) {
        return vec![(day(min), (min, max), chunk.rows() as u64)];
    }
    let mut days: BTreeMap<i64, ((i64, i64), u64)> = BTreeMap::new();
    for t in chunk.read(false, false).map(|rows| rows.times).unwrap_or_default() {
        let (span, rows) = days.entry(day(t)).or_insert(((t, t), 0));
        *span = (span.0.min(t), span.1.max(t));
        *rows += 1;
    }
    days.into_iter().map(|(day, (span, rows))| (day, span, rows)).collect()
}

/// Groups chunks that overlap in time one with another; a group keeps the order they came in, and
/// groups are in order of time.
fn overlapping(chunks: &[Chunk]) -> Vec<Vec<&Chunk>> {
    let mut order: Vec<(usize, &Chunk)> = chunks.iter().enumerate().collect();
    order.sort_by_key(|(_, chunk)| chunk.span().0);
    let mut groups: Vec<Vec<(usize, &Chunk)>> = Vec::new();
    let mut end = i64::MIN;
    for (at, chunk) in order {
        match groups.last_mut() {
            Some(group) if chunk.span().0 <= end => group.push((at, chunk)),
            _ => groups.push(vec![(at, chunk)]),
        }
        end = end.max(chunk.span().1);
    }
    let in_order = |mut group: Vec<(usize, _)>| {
        group.sort_by_key(|(at, _)| *at);
        group.into_iter().map(|(_, chunk)| chunk).collect()
    };
    groups.into_iter().map(in_order).collect()
}

/// The rows of a day, merged.
fn read_day(chunks: &[&Chunk], day: i64, now: i64) -> Result<Rows, StoreError> {
    let read = |chunk: &&Chunk| Ok(chunk.read(true, true)?.filter(|t| partition(t, now, DAY_NS) == day));
    let rows: Result<Vec<Rows>, Malformed> = chunks.iter().map(read).collect();
    let rows = rows.map_err(|Malformed(what)| StoreError::Damaged { path: "memory".into(), what: what.into() })?;
    Ok(merge(rows))
}
