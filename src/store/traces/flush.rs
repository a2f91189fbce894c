//! From a frozen head to parts: spans ordered by the start of their trace, cut into blocks.
//! Invariants: the spans of one part began within one partition of time; a block holds whole traces
//! unless a trace is larger than a block; few spans are decoded at any time, never the whole head.

use std::collections::BTreeMap;
use std::sync::Arc;

use ahash::AHashMap;

use super::head::{Chunk, Head};
use super::part::PartBuilder;
use super::spanset::SpanSet;
use crate::model::span::{Span, TraceId};
use crate::store::codec::Malformed;
use crate::store::error::StoreError;
use crate::store::lane::{SliceSpan, partition};
use crate::store::part::PartWriter;

/// Nanoseconds of a day.
pub(super) const DAY_NS: i64 = 86_400_000_000_000;

/// A block with so many spans ends with its trace ...
const BLOCK_SPANS: usize = 4_000;
/// ... and one with so many, or of so much memory when decoded, ends at once.
const BLOCK_SPANS_MAX: usize = 2 * BLOCK_SPANS;
const BLOCK_MEMORY_MAX: usize = 16 << 20;
/// Chunks kept unpacked, because traces that begin together came together.
const UNPACKED_MAX: usize = 16;

/// Where a span lies in its head.
#[derive(Clone, Copy)]
struct Place {
    /// Number of its trace.
    trace: u32,
    chunk: u32,
    row: u32,
    start: i64,
}

/// Spans of one part, those of one trace together, traces by their first start.
pub struct Slice(Vec<Place>);

/// Divides a head by partition of time.
pub(super) fn slices(head: &Head, now: i64) -> Vec<SliceSpan<Slice>> {
    let mut traces: AHashMap<TraceId, u32> = AHashMap::new();
    let mut slices: BTreeMap<i64, Vec<Place>> = BTreeMap::new();
    for (number, chunk) in head.chunks().iter().enumerate() {
        if let Err(error) = places(chunk, number as u32, now, &mut traces, &mut slices) {
            tracing::error!(%error, spans = chunk.spans, "spans in memory cannot be read and are lost");
        }
    }
    slices.into_values().map(slice).collect()
}

fn places(
    chunk: &Chunk,
    number: u32,
    now: i64,
    traces: &mut AHashMap<TraceId, u32>,
    slices: &mut BTreeMap<i64, Vec<Place>>,
) -> Result<(), Malformed> {
    let raw = chunk.unpack()?;
    let mut at = 0;
    SpanSet::parse(&raw)?.rows(|row| {
        let next = traces.len() as u32;
        let trace = *traces.entry(row.trace_id).or_insert(next);
        let place = Place { trace, chunk: number, row: at, start: row.start };
        slices.entry(partition(row.start, now, DAY_NS)).or_default().push(place);
        at += 1;
    })
}

fn slice(mut places: Vec<Place>) -> SliceSpan<Slice> {
    let mut firsts: AHashMap<u32, i64> = AHashMap::new();
    for place in &places {
        firsts.entry(place.trace).and_modify(|first| *first = place.start.min(*first)).or_insert(place.start);
    }
    let first = |place: &Place| firsts.get(&place.trace).copied().unwrap_or_default();
    places.sort_unstable_by_key(|place| (first(place), place.trace, place.start, place.chunk, place.row));
    let starts = || places.iter().map(|place| place.start);
    SliceSpan {
        min_t: starts().min().unwrap_or_default(),
        // By start, so that a span which ends in the far future does not keep its part for ever.
        max_t: starts().max().unwrap_or_default(),
        rows: places.len() as u64,
        slice: Slice(places),
    }
}

/// Writes a part.
pub(super) fn write(head: &Head, slice: &Slice, out: &mut PartWriter) -> Result<(), StoreError> {
    let mut chunks = Chunks { chunks: head.chunks(), unpacked: Vec::new() };
    let mut builder = PartBuilder::new(out);
    let mut rest = slice.0.as_slice();
    while !rest.is_empty() {
        let len = chunks.block_len(rest);
        let (block, after) = rest.split_at(len);
        rest = after;
        let spans = chunks.spans(block);
        builder.block(&spans.iter().collect::<Vec<_>>())?;
    }
    builder.finish()
}

struct Chunks {
    chunks: Vec<Arc<Chunk>>,
    /// The last used at the end.
    unpacked: Vec<(u32, Arc<Vec<u8>>)>,
}

impl Chunks {
    /// How many of `places` the next block takes; at least one.
    fn block_len(&self, places: &[Place]) -> usize {
        let mut memory = 0;
        let mut last = None;
        for (at, place) in places.iter().enumerate() {
            let another = last.is_some_and(|last| last != place.trace);
            last = Some(place.trace);
            memory += self.chunks.get(place.chunk as usize).map_or(0, |chunk| chunk.memory_of(place.row));
            let full = at >= BLOCK_SPANS_MAX || memory > BLOCK_MEMORY_MAX || (another && at >= BLOCK_SPANS);
            if full && at > 0 {
                return at;
            }
        }
        places.len()
    }

    fn unpack(&mut self, number: u32) -> Result<Arc<Vec<u8>>, Malformed> {
        if let Some(at) = self.unpacked.iter().position(|(own, _)| *own == number) {
            let found = self.unpacked.remove(at);
            let raw = found.1.clone();
            self.unpacked.push(found);
            return Ok(raw);
        }
        let chunk = self.chunks.get(number as usize).ok_or(Malformed("no such chunk"))?;
        let raw = Arc::new(chunk.unpack()?);
        if self.unpacked.len() >= UNPACKED_MAX {
            self.unpacked.remove(0);
        }
        self.unpacked.push((number, raw.clone()));
        Ok(raw)
    }

    /// Decodes spans, in the order of `places`.
    fn spans(&mut self, places: &[Place]) -> Vec<Span> {
        let mut by_chunk: BTreeMap<u32, Vec<(u32, usize)>> = BTreeMap::new();
        for (at, place) in places.iter().enumerate() {
            by_chunk.entry(place.chunk).or_default().push((place.row, at));
        }
        let mut spans: Vec<Option<Span>> = Vec::new();
        spans.resize_with(places.len(), || None);
        for (chunk, mut rows) in by_chunk {
            rows.sort_unstable();
            if let Err(error) = self.fill(chunk, &rows, &mut spans) {
                tracing::error!(%error, spans = rows.len(), "spans in memory cannot be read and are lost");
            }
        }
        spans.into_iter().flatten().collect()
    }

    fn fill(&mut self, chunk: u32, rows: &[(u32, usize)], spans: &mut [Option<Span>]) -> Result<(), Malformed> {
        let raw = self.unpack(chunk)?;
        let mut next = rows.iter().peekable();
        let found =
            SpanSet::parse(&raw)?.some_spans(|row, _| next.next_if(|(own, _)| *own as usize == row).is_some())?;
        for (span, (_, at)) in found.into_iter().zip(rows) {
            if let Some(place) = spans.get_mut(*at) {
                *place = Some(span);
            }
        }
        Ok(())
    }
}
