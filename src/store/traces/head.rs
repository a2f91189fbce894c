//! The head: the newest spans, encoded as they came, one chunk per batch.
//! Flow: `admit` tells new spans from those stored before; `insert` adds the chunk once its record is
//! in the log; many small chunks are made one; flush and queries decode chunks.
//! Invariants: a span (trace, ids and content) is in a head once, and not in a head when it was in the
//! one before; whether it is stored is decided by who first puts its key into the set.
//! Locks: `merging` or `facets`, then one shard of a map or the list of chunks, never two of those.

use std::mem::size_of;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use ahash::{AHashMap, AHashSet, RandomState};
use parking_lot::{Mutex, RwLock};

use super::facets::Facets;
use super::spanset::{self, SpanSet};
use super::survey::{SpanKey, Survey, Surveyor};
use crate::model::span::{Span, TraceId};
use crate::store::codec::Malformed;

const SHARDS: usize = 16;
/// Memory of a key in a set, in bytes, with the room a hash table leaves free.
const KEY_BYTES: usize = 2 * size_of::<SpanKey>();
/// Memory of a trace in the map, likewise.
const TRACE_BYTES: usize = 2 * (size_of::<TraceId>() + 8);

/// So many small chunks are made one ...
const SMALL_CHUNKS_MAX: usize = 64;
/// ... where small means fewer spans and less memory, decoded, than this.
const SMALL_SPANS: usize = 64;
const SMALL_MEMORY: usize = 256 << 10;

/// Keys of the spans of one head.
#[derive(Default)]
pub(super) struct Seen([Mutex<AHashSet<SpanKey>>; SHARDS]);

impl Seen {
    fn shard(&self, key: SpanKey) -> &Mutex<AHashSet<SpanKey>> {
        &self.0[key.hash as usize % SHARDS]
    }

    /// Whether it has a key.
    pub(super) fn contains(&self, key: SpanKey) -> bool {
        self.shard(key).lock().contains(&key)
    }

    /// Adds a key; says whether it is new.
    pub(super) fn insert(&self, key: SpanKey) -> bool {
        self.shard(key).lock().insert(key)
    }

    /// Memory that it takes, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.0.iter().map(|shard| shard.lock().len() * KEY_BYTES).sum()
    }

    /// Hands the hashes of all keys to `visit`.
    pub(super) fn each_hash(&self, mut visit: impl FnMut(u64)) {
        self.0.iter().for_each(|shard| shard.lock().iter().for_each(|key| visit(key.hash)));
    }
}

/// Spans that came together, encoded.
pub(super) struct Chunk {
    /// A packed span set, as in the log.
    packed: Vec<u8>,
    /// Traces in it, sorted.
    traces: Vec<TraceId>,
    /// Later ones in a head's list have larger numbers.
    serial: u64,
    /// How many spans.
    pub(super) spans: usize,
    /// Earliest start.
    pub(super) min_start: i64,
    /// Latest end, or start of a span that ends before it starts.
    pub(super) max_end: i64,
    /// Memory of the spans when decoded, in bytes.
    pub(super) memory: usize,
    /// Rows of spans that take more than twice the mean, and what they take.
    large: Vec<(u32, u32)>,
}

impl Chunk {
    /// A chunk of spans, each with the memory that it takes when decoded, of which `packed` is the
    /// encoding.
    fn new<'s>(packed: Vec<u8>, spans: impl Iterator<Item = (&'s Span, usize)> + Clone) -> Self {
        let (min_start, max_end) = (i64::MAX, i64::MIN);
        let (traces, large) = (Vec::new(), Vec::new());
        let mut chunk = Self { packed, traces, serial: 0, spans: 0, min_start, max_end, memory: 0, large };
        for (span, memory) in spans.clone() {
            chunk.spans += 1;
            chunk.memory += memory;
            chunk.min_start = chunk.min_start.min(span.start);
            chunk.max_end = chunk.max_end.max(span.end).max(span.start);
            if chunk.traces.last() != Some(&span.trace_id) {
                chunk.traces.push(span.trace_id);
            }
        }
        chunk.traces.sort_unstable();
        chunk.traces.dedup();
        chunk.traces.shrink_to_fit();
        let large = 2 * chunk.mean();
        let rows = spans.zip(0..).filter(|((_, memory), _)| *memory > large);
        chunk.large = rows.map(|((_, memory), row)| (row, u32::try_from(memory).unwrap_or(u32::MAX))).collect();
        chunk
    }

    fn mean(&self) -> usize {
        self.memory / self.spans.max(1)
    }

    /// Memory of a span when decoded, in bytes; at least half of what it takes.
    pub(super) fn memory_of(&self, row: u32) -> usize {
        let known = self.large.binary_search_by_key(&row, |(own, _)| *own).ok().and_then(|at| self.large.get(at));
        known.map_or(self.mean(), |(_, memory)| *memory as usize)
    }

    fn is_small(&self) -> bool {
        self.spans < SMALL_SPANS && self.memory < SMALL_MEMORY
    }

    /// Whether spans of the trace are in it.
    pub(super) fn has(&self, id: TraceId) -> bool {
        self.traces.binary_search(&id).is_ok()
    }

    /// The span set.
    ///
    /// # Errors
    /// [`Malformed`]; memory would have to be damaged.
    pub(super) fn unpack(&self) -> Result<Vec<u8>, Malformed> {
        spanset::unpack(&self.packed)
    }

    fn bytes(&self) -> usize {
        let large = self.large.capacity() * size_of::<(u32, u32)>();
        size_of::<Self>() + self.packed.capacity() + self.traces.capacity() * size_of::<TraceId>() + large
    }
}

/// A span of a batch with what the survey found.
pub(super) type Entry<'s> = (&'s Span, Survey);

/// What becomes of the spans of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is stored.
    New,
    /// It has been stored before.
    Known,
    /// Its trace has reached its limit in this head.
    TraceFull,
}

/// A batch, or what is left of it, ready for log and head.
pub(super) struct Prepared<'s> {
    /// Its spans, those of one trace together.
    pub(super) entries: Vec<Entry<'s>>,
    /// Their encoding, packed; empty without spans.
    pub(super) packed: Vec<u8>,
}

impl<'s> Prepared<'s> {
    /// Sorts by trace and start, and drops what is in the batch twice.
    pub(super) fn new(mut entries: Vec<Entry<'s>>) -> Self {
        entries.sort_unstable_by_key(|(span, survey)| (span.trace_id, span.start, survey.key));
        entries.dedup_by_key(|(span, survey)| (span.trace_id, survey.key));
        Self::encode(entries)
    }

    fn encode(entries: Vec<Entry<'s>>) -> Self {
        let spans: Vec<&Span> = entries.iter().map(|(span, _)| *span).collect();
        let packed = if spans.is_empty() { Vec::new() } else { spanset::pack(&spanset::encode(&spans)) };
        Self { entries, packed }
    }

    /// Keeps only the entries that `keep` names by place.
    pub(super) fn retain(self, keep: &[bool]) -> Self {
        if keep.iter().all(|keep| *keep) {
            return self;
        }
        Self::encode(self.entries.into_iter().zip(keep).filter(|(_, keep)| **keep).map(|(entry, _)| entry).collect())
    }
}

/// Names and values of the chunks up to a serial.
#[derive(Default)]
struct HeadFacets {
    upto: u64,
    facets: Arc<Facets>,
}

/// Spans in memory.
pub struct Head {
    chunks: RwLock<Vec<Arc<Chunk>>>,
    merging: Mutex<()>,
    /// Serial of the newest chunk; changed with the list locked.
    serial: AtomicU64,
    /// Small chunks in the list.
    small: AtomicUsize,
    /// Bytes of decoded spans by trace.
    traces: [Mutex<AHashMap<TraceId, usize>>; SHARDS],
    seen: Arc<Seen>,
    /// Keys of the head before, or of the parts found at start.
    before: Arc<Seen>,
    trace_bytes_max: usize,
    bytes: AtomicUsize,
    facets: Mutex<HeadFacets>,
}

impl Head {
    /// An empty head that follows one with the keys `before`.
    pub(super) fn new(before: Arc<Seen>, trace_bytes_max: usize) -> Self {
        Self {
            chunks: RwLock::default(),
            merging: Mutex::default(),
            serial: AtomicU64::default(),
            small: AtomicUsize::default(),
            traces: Default::default(),
            seen: Arc::default(),
            trace_bytes_max,
            bytes: AtomicUsize::new(before.bytes()),
            before,
            facets: Mutex::default(),
        }
    }

    /// The keys of this head.
    pub(super) fn seen(&self) -> &Arc<Seen> {
        &self.seen
    }

    /// Memory, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// The chunks, in the order they came.
    pub(super) fn chunks(&self) -> Vec<Arc<Chunk>> {
        self.chunks.read().clone()
    }

    /// Whether there are no spans.
    pub(super) fn is_empty(&self) -> bool {
        self.chunks.read().is_empty()
    }

    fn shard(&self, id: TraceId) -> &Mutex<AHashMap<TraceId, usize>> {
        &self.traces[usize::from(id.0[15]) % SHARDS]
    }

    /// Says of each entry whether it is to be stored.
    pub(super) fn admit(&self, entries: &[Entry<'_>]) -> Vec<Verdict> {
        let mut trace = (TraceId::default(), 0usize);
        let mut verdicts = Vec::with_capacity(entries.len());
        for (span, survey) in entries {
            if span.trace_id != trace.0 || verdicts.is_empty() {
                let stored = self.shard(span.trace_id).lock().get(&span.trace_id).copied();
                trace = (span.trace_id, stored.unwrap_or_default());
            }
            verdicts.push(if self.seen.contains(survey.key) || self.before.contains(survey.key) {
                Verdict::Known
            } else if trace.1 + survey.memory > self.trace_bytes_max {
                Verdict::TraceFull
            } else {
                trace.1 += survey.memory;
                Verdict::New
            });
        }
        verdicts
    }

    /// Adds what is logged; what another thread has added meanwhile is left out.
    pub(super) fn insert(&self, prepared: Prepared<'_>) {
        let keep: Vec<bool> = prepared.entries.iter().map(|(_, survey)| self.seen.insert(survey.key)).collect();
        let prepared = prepared.retain(&keep);
        if prepared.entries.is_empty() {
            return;
        }
        let chunk = Chunk::new(prepared.packed, prepared.entries.iter().map(|(span, survey)| (*span, survey.memory)));
        let mut bytes = chunk.bytes() + chunk.spans * KEY_BYTES;
        for group in prepared.entries.chunk_by(|left, right| left.0.trace_id == right.0.trace_id) {
            let Some((first, _)) = group.first() else { continue };
            let memory: usize = group.iter().map(|(_, survey)| survey.memory).sum();
            let mut traces = self.shard(first.trace_id).lock();
            *traces.entry(first.trace_id).or_insert_with(|| {
                bytes += TRACE_BYTES;
                0
            }) += memory;
        }
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        let small = usize::from(chunk.is_small());
        self.push(&mut self.chunks.write(), chunk);
        if self.small.fetch_add(small, Ordering::Relaxed) + small >= SMALL_CHUNKS_MAX
            && let Err(error) = self.merge_small()
        {
            tracing::error!(%error, "small chunks of spans cannot be made one and stay as they are");
        }
    }

    fn push(&self, chunks: &mut Vec<Arc<Chunk>>, mut chunk: Chunk) {
        chunk.serial = self.serial.fetch_add(1, Ordering::Relaxed) + 1;
        chunks.push(Arc::new(chunk));
    }

    /// Makes all small chunks one, so that senders of single spans cost little more than others.
    fn merge_small(&self) -> Result<(), Malformed> {
        let Some(_one_at_a_time) = self.merging.try_lock() else { return Ok(()) };
        let small: Vec<_> = self.chunks.read().iter().filter(|chunk| chunk.is_small()).cloned().collect();
        self.small.store(0, Ordering::Relaxed);
        let mut spans = Vec::new();
        for chunk in &small {
            let raw = chunk.unpack()?;
            let own = SpanSet::parse(&raw)?.all_spans()?;
            spans.extend(own.into_iter().zip(0..).map(|(span, row)| (span, chunk.memory_of(row))));
        }
        spans.sort_by_key(|(span, _)| (span.trace_id, span.start));
        let packed = spanset::pack(&spanset::encode(&spans.iter().map(|(span, _)| span).collect::<Vec<_>>()));
        let merged = Chunk::new(packed, spans.iter().map(|(span, memory)| (span, *memory)));
        let (fewer, more) = (small.iter().map(|chunk| chunk.bytes()).sum::<usize>(), merged.bytes());
        let mut chunks = self.chunks.write();
        // Only this changes or removes what is in the list; both are in the order of the list.
        let mut gone = small.iter().peekable();
        chunks.retain(|chunk| gone.next_if(|small| Arc::ptr_eq(small, chunk)).is_none());
        self.push(&mut chunks, merged);
        drop(chunks);
        self.bytes.fetch_add(more, Ordering::Relaxed);
        self.bytes.fetch_sub(fewer, Ordering::Relaxed);
        Ok(())
    }

    /// Adds a record of the log.
    ///
    /// # Errors
    /// [`Malformed`]: nothing is added.
    pub(super) fn replay(&self, record: &[u8], hashes: &RandomState) -> Result<(), Malformed> {
        let raw = spanset::unpack(record)?;
        let spans = SpanSet::parse(&raw)?.all_spans()?;
        let mut surveyor = Surveyor::new(hashes);
        let mut entries = Vec::with_capacity(spans.len());
        for span in &spans {
            let survey = surveyor.survey(span).map_err(|_| Malformed("values are nested too deeply"))?;
            entries.push((span, survey));
        }
        let keep: Vec<bool> = entries.iter().map(|(_, survey)| !self.before.contains(survey.key)).collect();
        self.insert(Prepared { entries, packed: record.to_vec() }.retain(&keep));
        Ok(())
    }

    /// Names and values of all its spans.
    ///
    /// # Errors
    /// [`Malformed`]; memory would have to be damaged.
    pub(super) fn facets(&self) -> Result<Arc<Facets>, Malformed> {
        let mut known = self.facets.lock();
        let fresh: Vec<_> = self.chunks.read().iter().filter(|chunk| chunk.serial > known.upto).cloned().collect();
        for chunk in fresh {
            let raw = chunk.unpack()?;
            let before = known.facets.bytes();
            Arc::make_mut(&mut known.facets).add(&SpanSet::parse(&raw)?)?;
            self.bytes.fetch_add(known.facets.bytes() - before, Ordering::Relaxed);
            known.upto = chunk.serial;
        }
        Ok(known.facets.clone())
    }
}
