//! The head: the newest samples of every series, in memory, backed by the write-ahead log.
//! Flow: `resolve` finds or makes the series of a request (`resolve.rs`); the log takes the record;
//! [`Head::apply`] puts the samples into their series. Replay does the same from records.
//! Invariants: a series has one number for the life of its registry, which heads hand on; only those
//! count as series of the head that it was given something of.
//! Locks: the registry's, then `pages`, then a page's; `exemplars`, `metadata`, `replaying` alone.
//! Bytes: docs/format/wal.md.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};

use ahash::AHashMap;
use parking_lot::{Mutex, RwLock};
use roaring::RoaringBitmap;

use super::accepted::{Accepted, Columns};
use super::options::Options;
use super::postings::{Postings as _, damaged, matched};
use super::record::exemplar_fits;
use super::refused::Refused;
use super::registry::Registry;
use super::replaying::Replaying;
use super::series::{Page, Series};
use crate::base::limits::QueryBudget;
use crate::model::batch::{Appended, MetricMetadata};
use crate::model::exemplar::Exemplar;
use crate::model::labels::Labels;
use crate::model::matcher::Matcher;
use crate::model::sample::HistogramSample;
use crate::model::time::RangeMs;
use crate::store::error::StoreError;

/// Series between two looks at the deadline.
const SERIES_PER_CHECK: usize = 4096;
/// Longest texts of metadata, in bytes; a longer name is refused, the others are cut.
const METADATA_BYTES_MAX: usize = 4 << 10;

#[derive(Default)]
struct Exemplars {
    by_series: AHashMap<u32, VecDeque<Exemplar>>,
    count: usize,
}

/// How many series a head has, also for those who outlive it.
#[derive(Default)]
pub struct Activity {
    /// Series that it was given something of.
    pub present: AtomicUsize,
    /// The same and those that are about to be: what the limit is for.
    pub claimed: AtomicUsize,
}

/// What the newest head has, for the next one to go on with.
#[derive(Default)]
pub struct Heads {
    last: Mutex<Option<(Arc<Registry>, Arc<Activity>)>>,
    /// What all of them have refused.
    pub refused: Arc<Refused>,
}

impl Heads {
    /// The next head: with the series of the one before, unless too many of them are quiet.
    pub fn next(&self, options: Options) -> Head {
        let mut last = self.last.lock();
        let bytes_max = options.lane.head_bytes_max / 2;
        let kept = last.take().filter(|(registry, activity)| {
            registry.is_worth_keeping(activity.present.load(Ordering::Relaxed), bytes_max)
        });
        let mut head = Head::new(kept.map_or_else(Registry::new, |(registry, _)| registry), options);
        head.refused = self.refused.clone();
        *last = Some((head.registry.clone(), head.activity.clone()));
        head
    }
}

/// The newest samples.
pub struct Head {
    pub(super) registry: Arc<Registry>,
    pub(super) options: Options,
    pub(super) activity: Arc<Activity>,
    pub(super) refused: Arc<Refused>,
    /// Series with smaller numbers were made for an earlier head.
    made_before: u32,
    /// Bytes that the registry had by then.
    inherited: usize,
    pages: RwLock<Vec<Arc<Page>>>,
    exemplars: Mutex<Exemplars>,
    metadata: Mutex<BTreeMap<String, MetricMetadata>>,
    pub(super) replaying: Mutex<Replaying>,
    bytes: AtomicI64,
    min_t: AtomicI64,
    max_t: AtomicI64,
}

impl Head {
    /// An empty head whose series are those of `registry`.
    pub fn new(registry: Arc<Registry>, options: Options) -> Self {
        let (made_before, inherited) = {
            let known = registry.read();
            (known.len() as u32, known.bytes())
        };
        Self {
            registry,
            options,
            activity: Arc::default(),
            refused: Arc::default(),
            made_before,
            inherited,
            pages: RwLock::default(),
            exemplars: Mutex::default(),
            metadata: Mutex::default(),
            replaying: Mutex::default(),
            bytes: AtomicI64::new(0),
            min_t: AtomicI64::new(i64::MAX),
            max_t: AtomicI64::new(i64::MIN),
        }
    }

    /// Who its series are.
    pub fn registry(&self) -> &Arc<Registry> {
        &self.registry
    }

    /// How many series it has.
    pub fn activity(&self) -> &Arc<Activity> {
        &self.activity
    }

    /// Memory taken, in bytes, beside what its registry took before it.
    pub fn bytes(&self) -> usize {
        usize::try_from(self.bytes.load(Ordering::Relaxed)).unwrap_or_default()
    }

    /// Memory that its registry took before it, in bytes.
    pub(super) fn inherited(&self) -> usize {
        self.inherited
    }

    pub(super) fn grow(&self, bytes: i64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Whether a flush would neither write anything nor make room.
    pub fn is_empty(&self) -> bool {
        self.bytes() == 0 && self.metadata.lock().is_empty()
    }

    /// Series with a place in the head.
    pub fn series_count(&self) -> usize {
        self.activity.present.load(Ordering::Relaxed)
    }

    /// Whether there may be samples or exemplars in `range`.
    pub fn overlaps(&self, range: RangeMs) -> bool {
        range.overlaps(self.min_t.load(Ordering::Acquire), self.max_t.load(Ordering::Acquire))
    }

    /// Earliest and latest time of samples and exemplars; none when there are none.
    pub fn span(&self) -> Option<RangeMs> {
        let (start, end) = (self.min_t.load(Ordering::Acquire), self.max_t.load(Ordering::Acquire));
        (start <= end).then_some(RangeMs { start, end })
    }

    /// The numbers of its series.
    pub fn present(&self) -> RoaringBitmap {
        let words: Vec<u8> = self.pages.read().iter().flat_map(|page| page.lock().present().to_le_bytes()).collect();
        RoaringBitmap::from_lsb0_bytes(0, &words)
    }

    /// All series, in the order of their labels.
    pub fn sorted(&self) -> Vec<Series> {
        let mut ids: Vec<u32> = self.present().iter().collect();
        self.registry.read().sort(&mut ids);
        self.by_ids(&ids)
    }

    /// The series of these numbers, in that order.
    pub fn by_ids(&self, ids: &[u32]) -> Vec<Series> {
        let pages = self.pages.read();
        let series = |id: &u32| Some(Series::new(*id, self.registry.clone(), pages.get(Page::number(*id))?.clone()));
        ids.iter().filter_map(series).collect()
    }

    /// The labels of a series.
    pub fn labels_of(&self, id: u32) -> Option<Labels> {
        let known = self.registry.read();
        ((id as usize) < known.len()).then(|| known.labels(id))
    }

    /// The series that satisfy all `matchers`; what is handed out stays charged.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn matching(&self, matchers: &[Matcher], budget: &QueryBudget) -> Result<Vec<Series>, StoreError> {
        let ids = {
            let known = self.registry.read();
            if known.is_empty() {
                return Ok(Vec::new());
            }
            matched(&*known, matchers, budget)? & self.present()
        };
        let count = usize::try_from(ids.len()).unwrap_or(usize::MAX);
        budget.charge(count.saturating_mul(size_of::<Series>() + size_of::<u32>()))?;
        Ok(self.by_ids(&ids.iter().collect::<Vec<_>>()))
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
        let known = self.registry.read();
        let present = self.present();
        let found = match matchers {
            [] if present.len() == known.len() as u64 => None,
            [] => Some(present),
            _ => Some(matched(&*known, matchers, budget)? & present),
        };
        known.visit(name, "", &mut |name, value, ids| {
            if found.as_ref().map_or(Ok(true), |found| ids.touch(found)).map_err(damaged)? {
                visit(name, value)?;
            }
            Ok(())
        })
    }

    /// The numbers of the series that satisfy one of `selectors` and may have samples in `range`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn numbers(
        &self,
        selectors: &[Vec<Matcher>],
        range: RangeMs,
        budget: &QueryBudget,
    ) -> Result<RoaringBitmap, StoreError> {
        let mut found = RoaringBitmap::new();
        {
            let known = self.registry.read();
            if known.is_empty() {
                return Ok(found);
            }
            for selector in selectors {
                found |= matched(&*known, selector, budget)?;
            }
        }
        found &= self.present();
        if self.span().is_none_or(|own| range.contains(own.start) && range.contains(own.end)) {
            return Ok(found);
        }
        let (mut kept, mut ids) = (RoaringBitmap::new(), found.iter().peekable());
        while ids.peek().is_some() {
            budget.check()?;
            let some: Vec<u32> = ids.by_ref().take(SERIES_PER_CHECK).collect();
            kept.extend(self.by_ids(&some).iter().filter(|series| series.overlaps(range)).map(|series| series.id));
        }
        Ok(kept)
    }

    /// Metadata that came since the last flush, by name.
    pub fn metadata(&self) -> Vec<MetricMetadata> {
        self.metadata.lock().values().cloned().collect()
    }

    /// Visits metadata of families, by name.
    pub fn visit_metadata(&self, visit: impl FnMut(&MetricMetadata)) {
        self.metadata.lock().values().for_each(visit);
    }

    /// Whether it has any.
    pub fn has_metadata(&self) -> bool {
        !self.metadata.lock().is_empty()
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

    /// What the head does not have yet of metadata, and has room for.
    pub(super) fn new_metadata(&self, batch: &[MetricMetadata]) -> Vec<MetricMetadata> {
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

    /// Takes what was accepted of a request; the log has it.
    pub fn apply(&self, accepted: Accepted) -> Appended {
        let Accepted { columns, rejected, .. } = accepted;
        let mut appended = Appended { rejected, ..Appended::default() };
        self.widen(&columns);
        self.make_pages(&columns);
        appended.histograms = columns.histograms.iter().map(|own| own.1.len() as u64).sum();
        appended.accepted = columns.ids.len() as u64 + appended.histograms;
        let grown = self.put_floats(&columns) + self.put_histograms(columns.histograms);
        self.grow(grown as i64);
        for (id, own) in &columns.exemplars {
            if let Some(page) = self.pages.read().get(Page::number(*id))
                && let Some((_, new)) = page.lock().enter(*id)
            {
                self.count_present(*id, new);
            }
            appended.exemplars += self.keep_exemplars(*id, own);
        }
        self.keep_metadata(columns.metadata);
        appended
    }

    /// Widens the span before samples can be seen, so that no query passes over them.
    fn widen(&self, columns: &Columns) {
        let floats = columns.times.iter().copied();
        let (mut min, mut max) = floats.fold((i64::MAX, i64::MIN), |(min, max), t| (min.min(t), max.max(t)));
        let histograms = columns.histograms.iter().flat_map(|own| &own.1).map(|sample| sample.t);
        let exemplars = columns.exemplars.iter().flat_map(|own| &own.1).map(|exemplar| exemplar.t);
        for t in histograms.chain(exemplars) {
            (min, max) = (min.min(t), max.max(t));
        }
        if min <= max {
            self.min_t.fetch_min(min, Ordering::AcqRel);
            self.max_t.fetch_max(max, Ordering::AcqRel);
        }
    }

    fn make_pages(&self, columns: &Columns) {
        let Some(needed) = columns.series().max().map(|id| Page::number(id) + 1) else { return };
        if self.pages.read().len() >= needed {
            return;
        }
        let mut pages = self.pages.write();
        if let Some(more) = needed.checked_sub(pages.len()) {
            pages.resize_with(needed, Arc::default);
            self.grow((more * Page::BYTES) as i64);
        }
    }

    fn put_floats(&self, columns: &Columns) -> isize {
        let pages = self.pages.read();
        let Columns { ids, times, values, starts, .. } = columns;
        let mut rows = ids.iter().zip(times).zip(values).enumerate().peekable();
        let mut grown = 0;
        while let Some((_, ((first, _), _))) = rows.peek() {
            let number = Page::number(**first);
            let Some(page) = pages.get(number) else { break };
            let mut slots = page.lock();
            while let Some((at, ((id, t), value))) = rows.next_if(|(_, ((id, _), _))| Page::number(**id) == number) {
                let Some((data, new)) = slots.enter(*id) else { continue };
                self.count_present(*id, new);
                grown += data.push(*t, *value);
                let start = starts.get(at).copied().unwrap_or_default();
                if start != 0 || data.has_starts() {
                    grown += data.push_start(*t, start);
                }
            }
        }
        grown
    }

    fn put_histograms(&self, histograms: Vec<(u32, Vec<HistogramSample>)>) -> isize {
        let mut grown = 0;
        for (id, own) in histograms {
            let Some(page) = self.pages.read().get(Page::number(id)).cloned() else { continue };
            let mut slots = page.lock();
            let Some((data, new)) = slots.enter(id) else { continue };
            self.count_present(id, new);
            for sample in own {
                let (t, start) = (sample.t, sample.start);
                grown += data.push_histogram(sample) + data.push_start(t, start);
            }
        }
        grown
    }

    #[inline]
    fn count_present(&self, id: u32, new: bool) {
        if new {
            self.activity.present.fetch_add(1, Ordering::Relaxed);
            // Those made for this head were claimed then.
            if id < self.made_before {
                self.activity.claimed.fetch_add(1, Ordering::Relaxed);
            }
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
        self.grow(grown);
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
                self.grow(bytes as i64);
            }
        }
    }
}

/// Whether two exemplars are one.
pub fn same_exemplar(a: &Exemplar, b: &Exemplar) -> bool {
    a.t == b.t && a.value.to_bits() == b.value.to_bits() && a.labels == b.labels
}

fn exemplar_bytes(exemplar: &Exemplar) -> usize {
    size_of::<Exemplar>() + exemplar.labels.bytes() + 48
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
