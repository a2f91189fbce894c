//! The metrics store: series of float and histogram samples, with exemplars and metadata.
//! Flow: [`AppendMetrics::append`] finds the series in the head, logs the batch, applies it; a flush
//! writes a head as one part a day; a select merges parts and heads.
//! Invariants: samples are taken in any order. At one time a series has one sample: a histogram
//! outranks a float, and of two of a kind the one written last counts ([`rows`]), alike in the head,
//! in parts and across them.
//! Bytes: docs/format/wal.md, docs/format/metrics.md.

pub mod accepted;
pub mod admin;
pub mod build;
pub mod cache;
pub mod chunk;
pub mod cursor;
pub mod data;
mod explore;
pub mod flush;
pub mod gone;
pub mod head;
pub mod keep;
mod keys;
pub mod layout;
pub mod merge;
#[cfg(test)]
mod mutated_tests;
pub mod names;
mod options;
mod pair_frames;
pub mod pairs;
pub mod postings;
pub mod read;
pub mod record;
pub mod record_v2;
pub mod refused;
pub mod registry;
mod replay;
mod replaying;
mod resolve;
#[cfg(test)]
mod resolve_tests;
pub mod rows;
pub mod segment;
pub mod select;
pub mod series;
pub mod set;
pub mod table;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

pub use self::options::Options;

use self::accepted::Accepted;
use self::cache::FrameCache;
use self::flush::Slice;
use self::head::{Head, Heads};
use self::keep::{Keep, Tombstone};
use self::merge::Rewrites;
use self::segment::Part;
use super::catalog::{Catalog, Names, VALUES_BYTES_MAX};
use super::codec::Malformed;
use super::env::Env;
use super::error::StoreError;
use super::lane::{Kind, Lane, Maintain, Pace, SliceSpan};
use super::part::{PartReader, PartWriter};
use super::waist::{AppendMetrics, RefusedMetric};
use crate::base::clock::Clock;
use crate::base::counters::{Cell, Counters};
use crate::base::disk::Disk;
use crate::base::limits::QueryBudget;
use crate::base::memory::MemoryBudget;
use crate::model::batch::{Appended, MetricsBatch, Signal};
use crate::model::raw::{ParseLabels, RawMetrics};

/// Bytes of frames that a merge keeps at hand.
const MERGE_CACHE_BYTES: usize = 8 << 20;
/// Memory of what a part's directory says of a frame, by estimate.
const DIRECTORY_BYTES: usize = 100;
/// Memory that putting series in the order of their labels takes, each, and that a part takes while it
/// is written.
const SORTED_BYTES: usize = 100;
const BUILDER_BYTES: usize = 6 << 20;

/// What is particular to metrics in their lane.
pub struct MetricsKind {
    options: Options,
    clock: Arc<dyn Clock>,
    catalog: Arc<Catalog>,
    damaged: Cell,
    cache: Arc<FrameCache>,
    heads: Heads,
    disk: Arc<dyn Disk>,
    keep: Keep,
    rewrites: Rewrites,
}

impl MetricsKind {
    /// Writes what `parts` hold from a time on.
    fn merge_from(
        &self,
        parts: &[Arc<Part>],
        from: i64,
        out: &mut PartWriter,
        pace: &mut Pace,
    ) -> Result<bool, StoreError> {
        // With a cache of their own, so that the frames of queries stay in theirs.
        let bytes = MERGE_CACHE_BYTES.min(self.options.cache_bytes_max);
        let cache = FrameCache::new(bytes, &MemoryBudget::new(u64::MAX), &Counters::default());
        let reopen = |part: &Arc<Part>| {
            let reader = PartReader::open(&self.disk, part.reader().path())?;
            Part::open(reader, cache.clone(), self.damaged.clone())
        };
        let parts = parts.iter().map(reopen).collect::<Result<Vec<_>, StoreError>>()?;
        merge::merge(&parts, &self.keep.sieves(self.clock.now_ms()).from(from), out, pace)
    }
}

impl Kind for MetricsKind {
    const SIGNAL: Signal = Signal::Metrics;
    const DAY: i64 = 86_400_000;
    type Head = Head;
    type Part = Part;
    type Slice = Slice;

    fn new_head(&self) -> Head {
        self.heads.next(self.options)
    }

    fn replay(&self, head: &Head, record: &[u8], segment: u64) -> Result<(), Malformed> {
        head.replay(record, segment)
    }

    fn head_bytes(&self, head: &Head) -> usize {
        head.bytes()
    }

    /// A registry grows with the heads that use it; here is what it had before the oldest of them.
    fn kept_bytes(&self, heads: &[&Head]) -> usize {
        let mut last: Option<&Head> = None;
        let mut bytes = 0;
        for head in heads {
            if last.is_none_or(|last| !Arc::ptr_eq(last.registry(), head.registry())) {
                bytes += head.inherited();
            }
            last = Some(head);
        }
        bytes
    }

    fn part_bytes(&self, part: &Part) -> usize {
        DIRECTORY_BYTES * part.reader().frames().len()
    }

    fn flush_bytes(&self, head: &Head) -> usize {
        (SORTED_BYTES * head.series_count()).saturating_add(head.bytes().min(BUILDER_BYTES))
    }

    fn head_is_empty(&self, head: &Head) -> bool {
        head.is_empty()
    }

    fn slices(&self, head: &Head) -> Vec<SliceSpan<Slice>> {
        flush::slices(head, self.clock.now_ms())
    }

    fn write(&self, head: &Head, slice: Slice, out: &mut PartWriter) -> Result<(), StoreError> {
        flush::write(head, slice, out)
    }

    fn open(&self, part: PartReader) -> Result<Part, StoreError> {
        self.keep.past(part.merged().map_or(0, |merged| merged.mark));
        Part::open(part, self.cache.clone(), self.damaged.clone())
    }

    fn reader(part: &Part) -> &PartReader {
        part.reader()
    }

    fn names(&self, part: &Part) -> Result<Names, StoreError> {
        // Here, so that a part whose metadata cannot be read now is not registered, and read again.
        let metadata = part.metadata()?;
        if !metadata.is_empty() {
            self.catalog.put_metadata(&metadata);
        }
        let mut names: BTreeMap<String, (usize, BTreeSet<String>)> = BTreeMap::new();
        part.pairs(None, None, &QueryBudget::unlimited(), &mut |name, value| {
            if !names.contains_key(name) {
                names.insert(name.to_owned(), (0, BTreeSet::new()));
            }
            // A list over the limit is not kept by the catalog, so it need not be whole.
            if let Some((bytes, values)) = names.get_mut(name)
                && *bytes <= VALUES_BYTES_MAX
                && !values.contains(value)
            {
                *bytes += value.len() + 2;
                values.insert(value.to_owned());
            }
            Ok(())
        })?;
        Ok(names.into_iter().map(|(name, (_, values))| (name, values.into_iter().collect())).collect())
    }

    const MERGES: bool = true;

    fn merge(&self, parts: &[Arc<Part>], out: &mut PartWriter, pace: &mut Pace) -> Result<bool, StoreError> {
        self.merge_from(parts, i64::MIN, out, pace)
    }

    fn cut_time(&self, part: &Part, bytes: u64) -> Option<i64> {
        part.cut_time(bytes)
    }

    fn cut(&self, part: &Arc<Part>, from: i64, out: &mut PartWriter, pace: &mut Pace) -> Result<bool, StoreError> {
        self.merge_from(std::slice::from_ref(part), from, out, pace)
    }

    fn merge_bytes(&self, part: &Part) -> u64 {
        part.scan_bytes()
    }

    fn wants_rewrite(&self, part: &Part) -> Result<bool, StoreError> {
        self.rewrites.wanted(part, &self.keep, self.clock.now_ms())
    }

    fn merge_mark(&self) -> u64 {
        self.keep.newest()
    }

    fn merged_all(&self, parts: &[Arc<Part>], mark: u64) -> Result<(), StoreError> {
        let done = |part: &Part, id| self.rewrites.is_done(part, id);
        let concerned = |part: &Arc<Part>, own: &Tombstone| own.concerns(part.reader()) && !done(part, own.id);
        self.keep.forget(|own| own.id > mark || parts.iter().any(|part| concerned(part, own)))
    }

    fn removed(&self, part: &Part) {
        self.rewrites.forget(part);
    }
}

/// The store of metrics.
pub struct MetricsStore {
    lane: Lane<MetricsKind>,
}

impl MetricsStore {
    /// Opens parts and replays the log.
    ///
    /// # Errors
    /// [`StoreError`] when the folders cannot be read or written.
    pub fn open(env: &Env, options: Options) -> Result<Self, StoreError> {
        let labels = [("signal", Signal::Metrics.name())];
        let damaged = env.counters.counter("trilith_damaged_total", "Damaged files and records met.", &labels);
        let kind = MetricsKind {
            options,
            clock: env.clock.clone(),
            catalog: env.catalog.clone(),
            cache: FrameCache::new(options.cache_bytes_max, &env.account.caches, &env.counters),
            heads: Heads::default(),
            keep: Keep::open(env.disk.clone(), &env.dir.join(Signal::Metrics.name()), &damaged)?,
            disk: env.disk.clone(),
            rewrites: Rewrites::default(),
            damaged,
        };
        let lane = Lane::open(env, kind, options.lane)?;
        lane.view().heads.iter().for_each(|head| head.end_replay());
        Ok(Self { lane })
    }

    /// Flush, retention, numbers.
    pub fn lane(&self) -> &dyn Maintain {
        &self.lane
    }

    /// Series with samples since the last flush.
    pub fn active_series(&self) -> usize {
        self.lane.view().heads.last().map_or(0, |head| head.series_count())
    }

    /// How many of them there may be.
    pub fn active_series_max(&self) -> usize {
        self.lane.kind().options.active_series_max
    }

    /// Metrics that new series were refused of, those with the most refused samples first.
    pub fn refused(&self, rows: usize) -> Vec<RefusedMetric> {
        self.lane.kind().heads.refused.top(rows)
    }

    fn resolved(&self, resolve: impl FnOnce(&Head) -> Accepted) -> Result<Appended, StoreError> {
        // Series are found before the log's lock is taken, and the samples encoded; only when a flush
        // has changed the registry in between, this is done again under it.
        let Some(head) = self.lane.view().heads.pop() else { return Ok(Appended::default()) };
        let accepted = resolve(&head);
        let mut columns = Vec::new();
        record_v2::put_columns(&mut columns, &accepted.columns);
        self.lane.append(
            |head, out, segment| {
                if !Arc::ptr_eq(&accepted.registry, head.registry()) {
                    let accepted = head.adopt(accepted);
                    columns.clear();
                    record_v2::put_columns(&mut columns, &accepted.columns);
                    put_record(out, head, &accepted, &columns, segment);
                    return accepted;
                }
                put_record(out, head, &accepted, &columns, segment);
                accepted
            },
            |head, accepted| head.apply(accepted),
        )
    }
}

fn put_record(out: &mut Vec<u8>, head: &Head, accepted: &Accepted, columns: &[u8], segment: u64) {
    if !accepted.columns.is_empty() {
        record_v2::put(out, &head.registry().read(), &accepted.columns, columns, segment);
    }
}

impl AppendMetrics for MetricsStore {
    fn append(&self, batch: &MetricsBatch) -> Result<Appended, StoreError> {
        self.resolved(|head| head.resolve(batch))
    }

    fn append_raw(&self, raw: RawMetrics<'_>, parse: &ParseLabels<'_>) -> Result<Appended, StoreError> {
        self.resolved(|head| head.resolve_raw(raw, parse))
    }
}
