//! The head: the newest samples of every series, in memory, backed by the write-ahead log.
//! Flow: [`Head::resolve`] finds or makes the series of a batch; the log takes the record;
//! [`Head::apply`] puts the samples into their series. Replay does the same from records.
//! Invariants: a series has one number for the life of the head, and its labels are compared, so
//! two sets with one hash stay two series.
//! Locks: a shard, then `index`; a series' own lock alone; `exemplars`, `metadata`, `replaying` alone.
//! Bytes: docs/format/wal.md.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use ahash::{AHashMap, RandomState};
use parking_lot::{Mutex, RwLock};

use super::Options;
use super::postings::{HeadPostings, Postings as _, damaged, matched};
use super::record::{self, exemplar_fits};
use super::series::{Series, SeriesRef, fits};
use crate::base::limits::QueryBudget;
use crate::model::batch::{Appended, MetricMetadata, MetricsBatch, Rejections, SeriesBatch};
use crate::model::exemplar::Exemplar;
use crate::model::labels::Labels;
use crate::model::matcher::Matcher;
use crate::model::time::RangeMs;
use crate::store::StoreError;
use crate::store::codec::Malformed;

const SHARDS: usize = 64;
/// Largest label set that is kept, in bytes; larger ones are refused.
const LABELS_BYTES_MAX: usize = 64 << 10;
/// Longest label name that is kept, in bytes.
const NAME_BYTES_MAX: usize = 4 << 10;
/// Longest texts of metadata, in bytes; a longer name is refused, the others are cut.
const METADATA_BYTES_MAX: usize = 4 << 10;

/// Passes on a hash that is one already.
#[derive(Default)]
pub struct Through(u64);

impl Hasher for Through {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.0 = self.0.rotate_left(8) ^ u64::from(*byte));
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = value;
    }
}

type Shard = RwLock<HashMap<u64, Arc<Series>, BuildHasherDefault<Through>>>;

/// All series of a head, by number and by label.
#[derive(Default)]
struct Index {
    series: Vec<SeriesRef>,
    postings: HeadPostings,
}

#[derive(Default)]
struct Exemplars {
    by_series: AHashMap<u32, VecDeque<Exemplar>>,
    count: usize,
}

#[derive(Default)]
struct Replaying {
    segment: u64,
    series: AHashMap<u64, Arc<Series>>,
}

/// The newest samples.
pub struct Head {
    number: u64,
    hasher: RandomState,
    options: Options,
    shards: Vec<Shard>,
    index: RwLock<Index>,
    exemplars: Mutex<Exemplars>,
    metadata: Mutex<BTreeMap<String, MetricMetadata>>,
    replaying: Mutex<Replaying>,
    bytes: AtomicI64,
    min_t: AtomicI64,
    max_t: AtomicI64,
}

/// A batch whose series have been found.
pub struct Resolved {
    /// The head that they are of.
    pub head: u64,
    /// For each of the batch its series, or none where it was refused.
    pub series: Vec<Option<Arc<Series>>>,
    /// Metadata that the head does not have yet.
    pub metadata: Vec<MetricMetadata>,
    /// What was refused.
    pub rejected: Rejections,
}

impl Head {
    /// An empty head; `number` tells it from others.
    pub fn new(number: u64, options: Options) -> Self {
        Self {
            number,
            hasher: RandomState::new(),
            options,
            shards: (0..SHARDS).map(|_| Shard::default()).collect(),
            index: RwLock::default(),
            exemplars: Mutex::default(),
            metadata: Mutex::default(),
            replaying: Mutex::default(),
            bytes: AtomicI64::new(0),
            min_t: AtomicI64::new(i64::MAX),
            max_t: AtomicI64::new(i64::MIN),
        }
    }

    /// Tells it from others.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Memory taken, in bytes.
    pub fn bytes(&self) -> usize {
        usize::try_from(self.bytes.load(Ordering::Relaxed)).unwrap_or_default()
    }

    /// Whether a flush would neither write anything nor make room.
    pub fn is_empty(&self) -> bool {
        self.series_count() == 0 && self.metadata.lock().is_empty()
    }

    /// Series with a place in the head.
    pub fn series_count(&self) -> usize {
        self.index.read().series.len()
    }

    /// Whether there may be samples or exemplars in `range`.
    pub fn overlaps(&self, range: RangeMs) -> bool {
        range.overlaps(self.min_t.load(Ordering::Acquire), self.max_t.load(Ordering::Acquire))
    }

    /// First and last time of all samples and exemplars, if there is one.
    pub fn span(&self) -> Option<RangeMs> {
        let span = RangeMs { start: self.min_t.load(Ordering::Acquire), end: self.max_t.load(Ordering::Acquire) };
        (span.start <= span.end).then_some(span)
    }

    /// All series, in the order of their labels.
    pub fn sorted(&self) -> Vec<SeriesRef> {
        let mut all = self.index.read().series.clone();
        all.sort_unstable_by(|a, b| a.labels.cmp(&b.labels));
        all
    }

    /// The series of these numbers, in that order.
    pub fn by_ids(&self, ids: &[u32]) -> Vec<SeriesRef> {
        let index = self.index.read();
        ids.iter().filter_map(|id| index.series.get(*id as usize)).cloned().collect()
    }

    /// The labels of a series.
    pub fn labels_of(&self, id: u32) -> Option<Labels> {
        self.index.read().series.get(id as usize).map(|series| series.labels())
    }

    /// The series that satisfy all `matchers`; what is handed out stays charged.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn matching(&self, matchers: &[Matcher], budget: &QueryBudget) -> Result<Vec<SeriesRef>, StoreError> {
        let index = self.index.read();
        let ids = matched(&index.postings, matchers, budget)?;
        budget.charge(usize::try_from(ids.len()).unwrap_or(usize::MAX).saturating_mul(8))?;
        Ok(ids.iter().filter_map(|id| index.series.get(id as usize)).cloned().collect())
    }

    /// Hands out the label pairs of matching series, of one name or of all.
    ///
    /// # Errors
    /// [`StoreError`], or what `visit` returns.
    pub fn pairs(
        &self,
        name: Option<&str>,
        matchers: &[Matcher],
        budget: &QueryBudget,
        visit: &mut dyn FnMut(&str, &str) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let index = self.index.read();
        let found = if matchers.is_empty() { None } else { Some(matched(&index.postings, matchers, budget)?) };
        index.postings.visit(name, "", &mut |name, value, ids| {
            if found.as_ref().map_or(Ok(true), |found| ids.touch(found)).map_err(damaged)? {
                visit(name, value)?;
            }
            Ok(())
        })
    }

    /// Metadata that came since the last flush, by name.
    pub fn metadata(&self) -> Vec<MetricMetadata> {
        self.metadata.lock().values().cloned().collect()
    }

    /// Exemplars by series number.
    pub fn exemplars(&self) -> Vec<(u32, Vec<Exemplar>)> {
        let exemplars = self.exemplars.lock();
        exemplars.by_series.iter().map(|(id, own)| (*id, own.iter().cloned().collect())).collect()
    }

    /// Exemplars of one series, in the order they came.
    pub fn exemplars_of(&self, id: u32) -> Vec<Exemplar> {
        self.exemplars.lock().by_series.get(&id).into_iter().flatten().cloned().collect()
    }

    /// Finds the series of a batch, and makes those that are new and within the limits.
    pub fn resolve(&self, batch: &MetricsBatch) -> Resolved {
        let mut rejected = Rejections::default();
        let series = batch.series.iter().map(|own| self.resolve_one(own, &mut rejected)).collect();
        Resolved { head: self.number, series, metadata: self.new_metadata(&batch.metadata), rejected }
    }

    fn resolve_one(&self, batch: &SeriesBatch, rejected: &mut Rejections) -> Option<Arc<Series>> {
        if batch.samples.is_empty() && batch.histograms.is_empty() && batch.exemplars.is_empty() {
            return None;
        }
        let hash = self.hasher.hash_one(&batch.labels);
        let found = self.find(hash, &batch.labels);
        let rows = (batch.samples.len() + batch.histograms.len()).max(1) as u64;
        let series = match found {
            Some(series) => series,
            None if !labels_fit(&batch.labels) => {
                let bytes = batch.labels.bytes();
                rejected.add("labels_too_long", rows, || {
                    let name: String = batch.labels.metric_name().chars().take(200).collect();
                    format!(
                        "a series of {name:?} with labels of {bytes} bytes; at most {LABELS_BYTES_MAX} are kept, \
                         {NAME_BYTES_MAX} of one name"
                    )
                });
                return None;
            }
            None => {
                let made = self.make(hash, &batch.labels, self.options.active_series_max);
                if made.is_none() {
                    rejected.add("series_limit", rows, || {
                        let limit = self.options.active_series_max;
                        format!("{}: there are {limit} active series already, as many as are allowed", batch.labels)
                    });
                }
                made?
            }
        };
        let large = batch.histograms.iter().filter(|sample| !fits(sample)).count();
        rejected.add("histogram_too_large", large as u64, || batch.labels.to_string());
        Some(series)
    }

    fn shard(&self, hash: u64) -> Option<&Shard> {
        // The map itself uses the lowest and the highest bits.
        self.shards.get((hash >> 32) as usize % SHARDS)
    }

    fn find(&self, hash: u64, labels: &Labels) -> Option<Arc<Series>> {
        let shard = self.shard(hash)?.read();
        let mut key = hash;
        // Another set with the same hash has the place: the next one, then. Nothing is ever removed.
        while let Some(series) = shard.get(&key) {
            if series.labels == *labels {
                return Some(series.clone());
            }
            key = key.wrapping_add(1);
        }
        None
    }

    fn make(&self, hash: u64, labels: &Labels, limit: usize) -> Option<Arc<Series>> {
        let mut shard = self.shard(hash)?.write();
        let mut key = hash;
        while let Some(series) = shard.get(&key) {
            if series.labels == *labels {
                return Some(series.clone());
            }
            key = key.wrapping_add(1);
        }
        let mut index = self.index.write();
        let id = u32::try_from(index.series.len()).ok().filter(|id| (*id as usize) < limit)?;
        let series = Arc::new(Series::new(labels.clone(), id));
        let grown = index.postings.insert(labels) + series.base_bytes();
        index.series.push(series.clone());
        drop(index);
        shard.insert(key, series.clone());
        self.bytes.fetch_add(grown as i64, Ordering::Relaxed);
        Some(series)
    }

    fn new_metadata(&self, batch: &[MetricMetadata]) -> Vec<MetricMetadata> {
        if batch.is_empty() {
            return Vec::new();
        }
        let own = self.metadata.lock();
        let mut fresh = Vec::new();
        for metadata in batch.iter().filter(|one| one.name.len() <= METADATA_BYTES_MAX) {
            let metadata = cut(metadata);
            let known = own.get(&metadata.name);
            if known != Some(&metadata) && (known.is_some() || own.len() + fresh.len() < self.options.metadata_max) {
                fresh.push(metadata);
            }
        }
        fresh
    }

    /// Takes what was accepted of a batch; the log has it.
    pub fn apply(&self, batch: &MetricsBatch, resolved: Resolved) -> Appended {
        let mut appended = Appended { rejected: resolved.rejected, ..Appended::default() };
        let pairs = batch.series.iter().zip(&resolved.series);
        let accepted = || pairs.clone().filter_map(|(own, series)| Some((own, series.as_ref()?)));
        self.widen(accepted().map(|(own, _)| own));
        let mut grown = 0;
        for (own, series) in accepted() {
            let kept = own.histograms.iter().filter(|sample| fits(sample)).count() as u64;
            appended.accepted += own.samples.len() as u64 + kept;
            appended.histograms += kept;
            grown += series.push(own);
            appended.exemplars += self.keep_exemplars(series.id, &own.exemplars);
        }
        self.bytes.fetch_add(grown as i64, Ordering::Relaxed);
        self.keep_metadata(resolved.metadata);
        appended
    }

    /// Widens the span before samples can be seen, so that no query passes over them.
    fn widen<'a>(&self, batches: impl Iterator<Item = &'a SeriesBatch>) {
        let (mut min, mut max) = (i64::MAX, i64::MIN);
        for own in batches {
            let floats = own.samples.iter().map(|sample| sample.t);
            let histograms = own.histograms.iter().map(|sample| sample.t);
            for t in floats.chain(histograms).chain(own.exemplars.iter().map(|exemplar| exemplar.t)) {
                (min, max) = (min.min(t), max.max(t));
            }
        }
        if min <= max {
            self.min_t.fetch_min(min, Ordering::AcqRel);
            self.max_t.fetch_max(max, Ordering::AcqRel);
        }
    }

    /// Keeps exemplars that are new; of one series the newest few, of all series a bounded number.
    fn keep_exemplars(&self, id: u32, exemplars: &[Exemplar]) -> u64 {
        if exemplars.is_empty() {
            return 0;
        }
        let mut guard = self.exemplars.lock();
        let (mut kept, mut grown) = (0, 0i64);
        for exemplar in exemplars.iter().filter(|exemplar| exemplar_fits(exemplar)) {
            let full = guard.count >= self.options.exemplars_max;
            let Exemplars { by_series, count } = &mut *guard;
            if full && !by_series.contains_key(&id) {
                break;
            }
            let own = by_series.entry(id).or_default();
            if own.iter().any(|known| same_exemplar(known, exemplar)) {
                continue;
            }
            if full || own.len() >= self.options.exemplars_per_series_max {
                grown -= own.pop_front().map_or(0, |old| exemplar_bytes(&old) as i64);
                *count -= 1;
            }
            grown += exemplar_bytes(exemplar) as i64;
            own.push_back(exemplar.clone());
            *count += 1;
            kept += 1;
        }
        self.bytes.fetch_add(grown, Ordering::Relaxed);
        kept
    }

    fn keep_metadata(&self, metadata: Vec<MetricMetadata>) {
        if metadata.is_empty() {
            return;
        }
        let mut own = self.metadata.lock();
        for one in metadata {
            let bytes = one.name.len() * 2 + one.kind.len() + one.help.len() + one.unit.len() + 150;
            if own.insert(one.name.clone(), one).is_none() {
                self.bytes.fetch_add(bytes as i64, Ordering::Relaxed);
            }
        }
    }

    /// Takes a record of the log. Limits do not hold here: what is in the log was accepted.
    ///
    /// # Errors
    /// [`Malformed`] when the record, or the one with the labels of a series, is damaged; the
    /// rest of the record has been taken.
    pub fn replay(&self, bytes: &[u8], segment: u64) -> Result<(), Malformed> {
        let mut replaying = self.replaying.lock();
        if replaying.segment != segment {
            *replaying = Replaying { segment, series: AHashMap::new() };
        }
        let mut lost = false;
        let metadata = record::decode(bytes, |entry| {
            if entry.has_labels {
                let hash = self.hasher.hash_one(&entry.batch.labels);
                if let Some(series) = self.make(hash, &entry.batch.labels, usize::MAX) {
                    replaying.series.insert(entry.id, series);
                }
            }
            let Some(series) = replaying.series.get(&entry.id) else {
                lost = true;
                return;
            };
            self.widen(std::iter::once(&entry.batch));
            self.bytes.fetch_add(series.push(&entry.batch) as i64, Ordering::Relaxed);
            self.keep_exemplars(series.id, &entry.batch.exemplars);
        })?;
        self.keep_metadata(metadata);
        if lost { Err(Malformed("a series whose labels were in a damaged record")) } else { Ok(()) }
    }

    /// Lets go of what only replay needs.
    pub fn end_replay(&self) {
        *self.replaying.lock() = Replaying::default();
    }
}

/// Whether two exemplars are one.
pub fn same_exemplar(a: &Exemplar, b: &Exemplar) -> bool {
    a.t == b.t && a.value.to_bits() == b.value.to_bits() && a.labels == b.labels
}

fn exemplar_bytes(exemplar: &Exemplar) -> usize {
    size_of::<Exemplar>() + exemplar.labels.bytes() + 48
}

fn labels_fit(labels: &Labels) -> bool {
    labels.bytes() <= LABELS_BYTES_MAX && labels.iter().all(|(name, _)| name.len() <= NAME_BYTES_MAX)
}

fn cut(metadata: &MetricMetadata) -> MetricMetadata {
    let cut = |text: &str| {
        let end = text.char_indices().map(|(at, c)| at + c.len_utf8()).take_while(|end| *end <= METADATA_BYTES_MAX);
        if text.len() <= METADATA_BYTES_MAX {
            text.to_owned()
        } else {
            text.get(..end.last().unwrap_or_default()).unwrap_or_default().to_owned()
        }
    };
    MetricMetadata {
        name: metadata.name.clone(),
        kind: cut(&metadata.kind),
        help: cut(&metadata.help),
        unit: cut(&metadata.unit),
    }
}
