//! The metrics store: series of float and histogram samples, with exemplars and metadata.
//! Flow: [`AppendMetrics::append`] finds the series in the head, logs the batch, applies it; a flush
//! writes a head as one part a day; a select merges parts and heads.
//! Invariants: samples are taken in any order. At one time a series has one sample: a histogram
//! outranks a float, and of two of a kind the one written last counts ([`rows`]), alike in the head,
//! in parts and across them.
//! Bytes: docs/format/wal.md, docs/format/metrics.md.

pub mod build;
pub mod cache;
pub mod chunk;
pub mod cursor;
pub mod flush;
pub mod head;
pub mod layout;
pub mod postings;
pub mod read;
pub mod record;
pub mod rows;
pub mod segment;
pub mod select;
pub mod series;
pub mod set;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use self::cache::FrameCache;
use self::flush::Slice;
use self::head::Head;
use self::segment::Part;
use super::catalog::{Catalog, Names, VALUES_BYTES_MAX};
use super::codec::Malformed;
use super::env::Env;
use super::lane::{Kind, Lane, LaneOptions, Maintain, SliceSpan};
use super::part::{PartReader, PartWriter};
use super::{AppendMetrics, StoreError};
use crate::base::clock::Clock;
use crate::base::counters::Cell;
use crate::base::limits::QueryBudget;
use crate::model::batch::{Appended, MetricsBatch, Signal};

/// Limits of the metrics store.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Log and head.
    pub lane: LaneOptions,
    /// Series in one head; new ones over it are refused, those there go on.
    pub active_series_max: usize,
    /// Exemplars of one series in one head; the oldest makes room.
    pub exemplars_per_series_max: usize,
    /// Exemplars of all series in one head.
    pub exemplars_max: usize,
    /// Metric families with metadata in one head.
    pub metadata_max: usize,
    /// Bytes of decoded frames of parts that are kept.
    pub cache_bytes_max: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            lane: LaneOptions::default(),
            active_series_max: 2_000_000,
            exemplars_per_series_max: 10,
            exemplars_max: 100_000,
            metadata_max: 100_000,
            cache_bytes_max: 64 << 20,
        }
    }
}

/// What is particular to metrics in their lane.
pub struct MetricsKind {
    options: Options,
    clock: Arc<dyn Clock>,
    catalog: Arc<Catalog>,
    damaged: Cell,
    heads: AtomicU64,
    cache: Arc<FrameCache>,
}

impl Kind for MetricsKind {
    const SIGNAL: Signal = Signal::Metrics;
    const DAY: i64 = 86_400_000;
    type Head = Head;
    type Part = Part;
    type Slice = Slice;

    fn new_head(&self) -> Head {
        Head::new(self.heads.fetch_add(1, Ordering::Relaxed), self.options)
    }

    fn replay(&self, head: &Head, record: &[u8], segment: u64) -> Result<(), Malformed> {
        head.replay(record, segment)
    }

    fn head_bytes(&self, head: &Head) -> usize {
        head.bytes()
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
        Ok(Part::open(part, self.cache.clone(), self.damaged.clone()))
    }

    fn reader(part: &Part) -> &PartReader {
        part.reader()
    }

    fn names(&self, part: &Part) -> Result<Names, StoreError> {
        let mut names: BTreeMap<String, (usize, BTreeSet<String>)> = BTreeMap::new();
        part.pairs(None, &[], &QueryBudget::unlimited(), &mut |name, value| {
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

    fn added(&self, part: &Part) {
        let metadata = part.metadata();
        if !metadata.is_empty() {
            self.catalog.put_metadata(&metadata);
        }
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
            damaged,
            heads: AtomicU64::new(0),
            cache: Arc::new(FrameCache::new(options.cache_bytes_max, &env.counters)),
        };
        let lane = Lane::open(env, kind, options.lane)?;
        lane.view().heads.iter().for_each(|head| head.end_replay());
        Ok(Self { lane })
    }

    /// Flush, retention, numbers.
    pub fn lane(&self) -> &dyn Maintain {
        &self.lane
    }

    /// Series in memory.
    pub fn active_series(&self) -> usize {
        self.lane.view().heads.last().map_or(0, |head| head.series_count())
    }
}

impl AppendMetrics for MetricsStore {
    fn append(&self, batch: &MetricsBatch) -> Result<Appended, StoreError> {
        // Series are found before the log's lock is taken; only when a flush has changed the head
        // in between, they are found again under it.
        let resolved = self.lane.view().heads.last().map(|head| head.resolve(batch));
        self.lane.append(
            |head, out, segment| {
                let resolved = resolved.filter(|own| own.head == head.number()).unwrap_or_else(|| head.resolve(batch));
                record::encode(batch, &resolved, segment, out);
                resolved
            },
            |head, resolved| head.apply(batch, resolved),
        )
    }
}
