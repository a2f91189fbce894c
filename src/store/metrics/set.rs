//! What a select of metrics gives: the series of all parts and heads, merged and sorted, and their
//! samples when they are asked for.
//! Flow: for each series the sources that have it hand over what they have, oldest first. Mostly
//! that is in time order and simply joined; only where samples overlap, [`Rows`] applies its rule.
//! Times are shared: a column of a part stays one column, joined columns and those of heads are
//! looked up, so that series scraped together come out with the same [`Times`].
//! Locks: `shared`, held for a look-up.

use std::ops::Range;
use std::sync::Arc;

use ahash::{AHashMap, RandomState};
use parking_lot::Mutex;
use roaring::RoaringBitmap;

use super::keep::{Sieve, cover};
use super::names::{Names, PartNames, merge};
use super::read::{ColumnKey, Gathered, PartScan, Piece, Work};
use super::rows::Rows;
use super::segment::Part;
use super::series::Series;
use crate::base::limits::QueryBudget;
use crate::model::labels::Labels;
use crate::model::sample::{Columns, Times};
use crate::model::time::RangeMs;
use crate::store::codec::Malformed;
use crate::store::error::StoreError;
use crate::store::waist::{SeriesSet, VisitColumns};

/// Memory of joined columns of times that a set keeps, in bytes.
const SHARED_BYTES_MAX: usize = 8 << 20;
/// Charged for a series beside the text of its labels.
const SERIES_BYTES: usize = 48;

/// Where series come from.
pub enum Source {
    /// A part, which knows its series by number.
    Part(Arc<Part>),
    /// Series of a head; their numbers are places in it.
    Head(Vec<Series>),
}

/// Gathers the sources of a set, oldest first.
pub struct SetBuilder<'a> {
    range: RangeMs,
    budget: &'a QueryBudget,
    sources: Vec<Source>,
    names: Vec<Names>,
    /// For each source what to leave out.
    sieves: Vec<Sieve>,
}

impl<'a> SetBuilder<'a> {
    /// A set without sources.
    pub fn new(range: RangeMs, budget: &'a QueryBudget) -> Self {
        Self { range, budget, sources: Vec::new(), names: Vec::new(), sieves: Vec::new() }
    }

    /// Adds series of a part, but for what the sieve leaves out.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn part(&mut self, part: Arc<Part>, numbers: RoaringBitmap, sieve: Sieve) -> Result<(), StoreError> {
        if !numbers.is_empty() {
            self.names.push(Names::Part(PartNames::new(part.clone(), Some(numbers))?));
            self.sources.push(Source::Part(part));
            self.sieves.push(sieve);
        }
        Ok(())
    }

    /// Adds series of a head, likewise.
    ///
    /// # Errors
    /// [`StoreError::Limit`].
    pub fn head(&mut self, series: Vec<Series>, sieve: Sieve) -> Result<(), StoreError> {
        if !series.is_empty() {
            let names = series.iter().zip(0..).map(|(series, number)| (series.labels(), number));
            let mut names: Vec<_> = names.collect();
            self.budget.charge(series.len() * size_of::<(Labels, u32)>())?;
            names.sort_unstable_by(|a, b| a.0.cmp(&b.0));
            self.names.push(Names::Head(names, 0));
            self.sources.push(Source::Head(series));
            self.sieves.push(sieve);
        }
        Ok(())
    }

    /// The set.
    ///
    /// # Errors
    /// [`StoreError::Limit`].
    pub fn finish(self) -> Result<StoreSet, StoreError> {
        let Self { range, budget, sources, names, sieves } = self;
        let (shared, left_out) = (Mutex::default(), AHashMap::new());
        let (labels, firsts, entries) = (Vec::new(), Vec::new(), Vec::new());
        let mut set = StoreSet { range, sources, left_out, labels, firsts, entries, shared };
        merge(names, budget, &mut |own, series| {
            let first = set.entries.len();
            for entry in series {
                if sieves.get(entry.0 as usize).is_none_or(|sieve| sieve.is_open()) {
                    set.entries.push(*entry);
                } else if let Some(sieve) = sieves.get(entry.0 as usize) {
                    set.sift(&own, *entry, sieve, budget)?;
                }
            }
            let added = set.entries.len() - first;
            if added > 0 {
                budget.charge(own.bytes() + SERIES_BYTES + added * size_of::<(u32, u32)>())?;
                set.labels.push(own);
                set.firsts.push(first);
            }
            Ok(())
        })?;
        Ok(set)
    }
}

#[derive(Default)]
struct Shared {
    joined: AHashMap<Box<[ColumnKey]>, Times>,
    equal: AHashMap<u64, Times>,
    bytes: usize,
}

/// Series of parts and heads.
pub struct StoreSet {
    range: RangeMs,
    sources: Vec<Source>,
    /// By source and number: times that count no more.
    left_out: AHashMap<(u32, u32), Box<[RangeMs]>>,
    labels: Vec<Labels>,
    /// For each series its first entry.
    firsts: Vec<usize>,
    /// Source and number in it.
    entries: Vec<(u32, u32)>,
    shared: Mutex<Shared>,
}

impl StoreSet {
    /// Adds an entry but for what a sieve leaves out.
    fn sift(
        &mut self,
        labels: &Labels,
        entry: (u32, u32),
        sieve: &Sieve,
        budget: &QueryBudget,
    ) -> Result<(), StoreError> {
        let left_out = sieve.left_out(labels);
        let span = match self.sources.get(entry.0 as usize) {
            Some(Source::Part(part)) => {
                let info = part.reader().info();
                RangeMs { start: self.range.start.max(info.min_t), end: self.range.end.min(info.max_t) }
            }
            Some(Source::Head(_)) | None => self.range,
        };
        if cover(&left_out, span) {
            return Ok(());
        }
        if left_out.iter().any(|own| own.overlaps(self.range.start, self.range.end)) {
            budget.charge(size_of_val(left_out.as_slice()) + SERIES_BYTES)?;
            self.left_out.insert(entry, left_out.into());
        }
        self.entries.push(entry);
        Ok(())
    }

    /// The label sets.
    pub fn into_labels(self) -> Vec<Labels> {
        self.labels
    }
}

impl SeriesSet for StoreSet {
    fn labels(&self) -> &[Labels] {
        &self.labels
    }

    fn read(&self, places: Range<usize>, budget: &QueryBudget, visit: &mut VisitColumns<'_>) -> Result<(), StoreError> {
        let mut reading = Reading::new(self, budget);
        for place in places {
            let start = self.firsts.get(place).copied().unwrap_or(self.entries.len());
            let end = self.firsts.get(place + 1).copied().unwrap_or(self.entries.len());
            let entries = self.entries.get(start..end).unwrap_or_default();
            reading.series(entries)?;
            visit(place, &mut reading.columns)?;
        }
        Ok(())
    }
}

/// One call of `read`.
struct Reading<'a> {
    set: &'a StoreSet,
    budget: &'a QueryBudget,
    scans: Vec<Option<PartScan<'a>>>,
    gathered: Gathered,
    /// What one source has, before some of it is left out.
    aside: Gathered,
    rows: Rows,
    work: Work,
    keys: Vec<ColumnKey>,
    columns: Columns,
    hasher: RandomState,
    held: usize,
}

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        self.budget.release(self.held);
    }
}

impl<'a> Reading<'a> {
    fn new(set: &'a StoreSet, budget: &'a QueryBudget) -> Self {
        let scans = set.sources.iter().enumerate().map(|(at, source)| match source {
            Source::Part(part) => Some(PartScan::new(part, at as u32, set.range, budget)),
            Source::Head(_) => None,
        });
        Self {
            set,
            budget,
            scans: scans.collect(),
            gathered: Gathered::default(),
            aside: Gathered::default(),
            rows: Rows::default(),
            work: Work::default(),
            keys: Vec::new(),
            columns: Columns::default(),
            hasher: RandomState::with_seeds(1, 2, 3, 4),
            held: 0,
        }
    }

    /// Puts the samples of a series into `columns`.
    fn series(&mut self, entries: &[(u32, u32)]) -> Result<(), StoreError> {
        self.gathered.clear();
        for entry in entries {
            self.gather(*entry)?;
        }
        let mixed = !self.gathered.histograms.is_empty() && !self.gathered.values.is_empty();
        if self.gathered.disordered || mixed && entries.len() > 1 {
            return self.overlapping(entries);
        }
        self.budget.touch(self.gathered.count())?;
        self.hold(gathered_bytes(&self.gathered))?;
        self.columns.times = self.times()?;
        std::mem::swap(&mut self.columns.values, &mut self.gathered.values);
        std::mem::swap(&mut self.columns.starts, &mut self.gathered.starts);
        std::mem::swap(&mut self.columns.histograms, &mut self.gathered.histograms);
        Ok(())
    }

    /// Has at least as much charged.
    fn hold(&mut self, bytes: usize) -> Result<(), StoreError> {
        if bytes > self.held {
            self.budget.charge(bytes - self.held)?;
            self.held = bytes;
        }
        Ok(())
    }

    /// Adds what one source has of a series.
    fn gather(&mut self, entry: (u32, u32)) -> Result<(), StoreError> {
        let Some(left_out) = self.set.left_out.get(&entry) else { return self.gather_all(entry) };
        // Apart from what other sources had.
        std::mem::swap(&mut self.gathered, &mut self.aside);
        let read = self.gather_all(entry);
        std::mem::swap(&mut self.gathered, &mut self.aside);
        read?;
        self.aside.leave_out(left_out);
        self.aside.append_to(&mut self.gathered);
        Ok(())
    }

    fn gather_all(&mut self, (source, number): (u32, u32)) -> Result<(), StoreError> {
        match (self.set.sources.get(source as usize), self.scans.get_mut(source as usize)) {
            (Some(Source::Part(_)), Some(Some(scan))) => scan.read(number, &mut self.work, &mut self.gathered),
            (Some(Source::Head(series)), _) => match series.get(number as usize) {
                Some(series) => self.gather_head(series),
                None => Ok(()),
            },
            _ => Ok(()),
        }
    }

    fn gather_head(&mut self, series: &Series) -> Result<(), StoreError> {
        self.rows.clear();
        series.read(self.set.range, &mut self.rows).map_err(damaged)?;
        self.rows.settle();
        let starts = self.rows.float_starts();
        let times = Arc::new(std::mem::take(&mut self.rows.times));
        self.gathered.values.extend_from_slice(&self.rows.values);
        let range = 0..times.len();
        self.gathered.add(Piece { key: None, times, range }, &starts);
        self.rows.histograms.drain(..).for_each(|sample| self.gathered.add_histogram(sample));
        Ok(())
    }

    /// The samples of sources that overlap in time: each source's added to those before it.
    fn overlapping(&mut self, entries: &[(u32, u32)]) -> Result<(), StoreError> {
        let (mut all, mut bytes) = (Rows::default(), 0);
        for entry in entries {
            self.gathered.clear();
            self.gather(*entry)?;
            let own = &self.gathered;
            self.budget.touch(own.count())?;
            bytes += gathered_bytes(own) + 24 * own.values.len();
            self.hold(bytes)?;
            self.gathered.add_to(&mut all);
        }
        let bytes = all.settle_bytes();
        self.budget.charge(bytes)?;
        all.settle();
        self.budget.release(bytes);
        let starts = all.float_starts();
        let Rows { times, values, histograms, .. } = all;
        self.columns = Columns { times: times.into(), values, starts, histograms };
        Ok(())
    }

    /// The times of what is gathered, shared where others have had the same.
    fn times(&mut self) -> Result<Times, StoreError> {
        match self.gathered.pieces.as_slice() {
            [] => return Ok(Times::default()),
            [Piece { key: Some(_), times, range }] => return Ok(Times::part(times.clone(), range.clone())),
            _ => {}
        }
        self.keys.clear();
        self.keys.extend(self.gathered.pieces.iter().filter_map(|piece| piece.key));
        let keyed = self.keys.len() == self.gathered.pieces.len();
        if keyed && let Some(times) = self.set.shared.lock().joined.get(self.keys.as_slice()) {
            return Ok(times.clone());
        }
        let times = match self.gathered.pieces.as_slice() {
            [only] => only.times.clone(),
            pieces => Arc::new(pieces.iter().flat_map(|piece| piece.times()).copied().collect::<Vec<_>>()),
        };
        let hash = self.hasher.hash_one(times.as_slice());
        let mut shared = self.set.shared.lock();
        let len = times.len();
        let times = match shared.equal.get(&hash).filter(|known| ***known == **times) {
            Some(known) => known.clone(),
            None => {
                let times = Times::part(times, 0..len);
                let bytes = 8 * len + 48 * (self.keys.len() + 1);
                shared.keep(bytes, self.budget)?;
                shared.equal.insert(hash, times.clone());
                times
            }
        };
        if keyed {
            shared.joined.insert(self.keys.as_slice().into(), times.clone());
        }
        Ok(times)
    }
}

impl Shared {
    fn keep(&mut self, bytes: usize, budget: &QueryBudget) -> Result<(), StoreError> {
        if self.bytes + bytes > SHARED_BYTES_MAX {
            budget.release(self.bytes);
            *self = Self::default();
        }
        budget.charge(bytes)?;
        self.bytes += bytes;
        Ok(())
    }
}

fn gathered_bytes(gathered: &Gathered) -> usize {
    let histograms = gathered.histograms.iter().map(|sample| size_of_val(sample) + sample.histogram.bytes());
    8 * (gathered.values.capacity() + gathered.starts.capacity()) + histograms.sum::<usize>()
}

fn damaged(Malformed(what): Malformed) -> StoreError {
    StoreError::Damaged { path: "head".into(), what: what.to_owned() }
}
