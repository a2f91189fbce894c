//! Merges parts of metrics, and says which should be written anew.
//! Flow: the parts are read side by side, series by series in the order of their labels; of each
//! series the samples of all of them, oldest part first, without what a [`Sieve`] leaves out, go to
//! the new part. Then the label pairs of the parts are read side by side in their order, and the numbers
//! of their series exchanged for the new ones. In memory are one series, a few frames of each part, what
//! a `PartBuilder` holds, and the new number of each series of each part.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use ahash::AHashMap;
use parking_lot::Mutex;
use roaring::RoaringBitmap;

use super::build::{PartBuilder, Samples};
use super::cursor::PartCursor;
use super::keep::{Keep, Sieve, Sieves};
use super::pair_frames::PostingsFrames;
use super::pairs::PairCursor;
use super::postings::RunsBuilder;
use super::read::Gathered;
use super::rows::Rows;
use super::segment::Part;
use crate::base::limits::QueryBudget;
use crate::model::exemplar::Exemplar;
use crate::model::labels::Labels;
use crate::model::time::RangeMs;
use crate::store::codec::Malformed;
use crate::store::error::StoreError;
use crate::store::lane::Pace;
use crate::store::part::PartId;
use crate::store::part::PartWriter;

/// Writes what `parts`, oldest first, hold; says whether there is anything.
///
/// # Errors
/// [`StoreError`]; [`StoreError::Damaged`] when a part cannot be read whole, so that what is left of it
/// is not mistaken for all of it.
pub fn merge(parts: &[Part], sieves: &Sieves, out: &mut PartWriter, pace: &mut Pace) -> Result<bool, StoreError> {
    let budget = QueryBudget::unlimited();
    let sieves: Vec<Sieve> = parts.iter().map(|part| sieves.of(Some(part.reader()))).collect();
    let cursors = parts.iter().map(|part| PartCursor::new(part, RangeMs::ALL, &budget));
    let mut cursors = cursors.collect::<Result<Vec<PartCursor<'_>>, StoreError>>()?;
    let mut next: BinaryHeap<Reverse<(Labels, usize)>> =
        cursors.iter().enumerate().filter_map(|(at, own)| Some(Reverse((own.labels()?.clone(), at)))).collect();
    let mut builder = PartBuilder::without_pairs(out);
    let mut numbers: Vec<Numbers> = parts.iter().map(Numbers::of).collect();
    let (mut rows, mut gathered) = (Rows::default(), Gathered::default());
    while let Some(Reverse((labels, _))) = next.peek() {
        let labels = labels.clone();
        rows.clear();
        let number = builder.series_count();
        // Equal labels come by the place of their part: oldest first.
        while next.peek().is_some_and(|Reverse((own, _))| *own == labels) {
            let Some(Reverse((_, at))) = next.pop() else { break };
            let (Some(cursor), Some(sieve), Some(own)) = (cursors.get_mut(at), sieves.get(at), numbers.get_mut(at))
            else {
                break;
            };
            own.set(cursor.number(), number);
            cursor.read(&mut gathered)?;
            if !sieve.is_open() {
                gathered.leave_out(&sieve.left_out(&labels));
            }
            gathered.add_to(&mut rows);
            cursor.advance()?;
            next.extend(cursor.labels().map(|labels| Reverse((labels.clone(), at))));
        }
        rows.settle();
        let starts = rows.float_starts();
        let samples =
            Samples { times: &rows.times, values: &rows.values, starts: &starts, histograms: &rows.histograms };
        builder.series(&labels, samples)?;
        if builder.series_count() == number {
            // Nothing of it is left, and the next one takes its number.
            numbers.iter_mut().for_each(|own| own.unset(number));
        }
        pace.rest()?;
    }
    drop(cursors);
    let mut metadata = BTreeMap::new();
    for (part, sieve) in parts.iter().zip(&sieves) {
        copy_exemplars(part, sieve, &budget, &mut builder)?;
        metadata.extend(part.metadata()?.into_iter().map(|own| (own.name.clone(), own)));
        pace.rest()?;
    }
    metadata.values().try_for_each(|own| builder.metadata(own))?;
    if let Some(part) = parts.iter().find(|part| part.is_damaged()) {
        return Err(part.reader().damaged("a part with damage is not merged"));
    }
    let anything = builder.rows() > 0 || !metadata.is_empty();
    builder.finish_with(|frames| merge_pairs(parts, &numbers, &budget, frames, pace))?;
    Ok(anything)
}

/// No series has this number in the new part.
const GONE: u32 = u32::MAX;

/// For each series of a part, by its number, which one it is in the new part. Both are in the order of
/// the labels.
struct Numbers {
    new: Vec<u32>,
    last: usize,
}

impl Numbers {
    fn of(part: &Part) -> Self {
        Self { new: vec![GONE; part.directory().count as usize], last: 0 }
    }

    fn set(&mut self, old: u32, new: u32) {
        if let Some(place) = self.new.get_mut(old as usize) {
            (*place, self.last) = (new, old as usize);
        }
    }

    /// The series that was set last is not in the new part, if it was to have this number.
    fn unset(&mut self, new: u32) {
        if let Some(place) = self.new.get_mut(self.last).filter(|place| **place == new) {
            *place = GONE;
        }
    }
}

/// Hands over the label pairs of the new part.
fn merge_pairs(
    parts: &[Part],
    numbers: &[Numbers],
    budget: &QueryBudget,
    frames: &mut PostingsFrames<'_>,
    pace: &mut Pace,
) -> Result<(), StoreError> {
    let cursors = parts.iter().map(|part| PairCursor::with_series(part, budget));
    let mut cursors = cursors.collect::<Result<Vec<_>, StoreError>>()?;
    let (mut name, mut value, mut series) = (String::new(), String::new(), Vec::new());
    while let Some((own_name, own_value, _)) = cursors.iter().filter_map(PairCursor::get).min() {
        name.clear();
        name.push_str(own_name);
        value.clear();
        value.push_str(own_value);
        series.clear();
        for ((cursor, own), part) in cursors.iter_mut().zip(numbers).zip(parts) {
            if cursor.get().is_none_or(|(own, text, _)| own != name || text != value) {
                continue;
            }
            let add = |old: u32| series.extend(own.new.get(old as usize).filter(|new| **new != GONE));
            cursor.series().each(add).map_err(|Malformed(what)| part.reader().damaged(what))?;
            cursor.advance()?;
        }
        // Of each part they ascend.
        series.sort();
        let mut runs = RunsBuilder::default();
        series.iter().for_each(|number| runs.add(*number));
        frames.pair(&name, &value, &mut runs)?;
        pace.rest()?;
    }
    Ok(())
}

fn copy_exemplars(
    part: &Part,
    sieve: &Sieve,
    budget: &QueryBudget,
    builder: &mut PartBuilder<'_>,
) -> Result<(), StoreError> {
    let mut own: (Labels, Vec<Exemplar>) = Default::default();
    part.exemplars(&[], RangeMs::ALL, budget, &mut |labels, exemplar| {
        if own.0 != *labels {
            builder.exemplars(&own.0, &own.1)?;
            own = (labels.clone(), Vec::new());
        }
        if sieve.is_open() || !sieve.left_out(labels).iter().any(|range| range.contains(exemplar.t)) {
            own.1.push(exemplar);
        }
        Ok(())
    })?;
    builder.exemplars(&own.0, &own.1)
}

/// What is known of a part, so that it is not searched again and again.
#[derive(Clone, Copy, Default)]
struct Looked {
    /// No tombstone up to this one speaks of a series of it.
    tombstone: u64,
    /// Which version of the retention it was looked at with, and how many of its periods were over.
    retention: (u64, usize),
}

/// Finds the parts that hold what is to go.
#[derive(Default)]
pub struct Rewrites(Mutex<AHashMap<PartId, Looked>>);

impl Rewrites {
    /// Whether a part should be written anew without what is deleted, or past its retention as a whole.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn wanted(&self, part: &Part, keep: &Keep, now_ms: i64) -> Result<bool, StoreError> {
        let id = part.reader().info().id();
        let looked = self.0.lock().get(&id).copied().unwrap_or_default();
        let sieves = keep.sieves(now_ms);
        let budget = QueryBudget::unlimited();
        let newer = sieves.tombstones().iter().filter(|own| own.id > looked.tombstone && own.concerns(part.reader()));
        for tombstone in newer {
            if !part.matched(&tombstone.matchers, tombstone.range, &budget)?.is_empty() {
                return Ok(true);
            }
        }
        let (version, over) = sieves.periods_over(part.reader().info().max_t);
        let retention = (version, over.iter().filter(|over| **over).count());
        if retention.1 > 0 && retention != looked.retention && has_series_past(part, &sieves, &over, &budget)? {
            return Ok(true);
        }
        let tombstone = sieves.tombstones().last().map_or(looked.tombstone, |own| own.id);
        self.0.lock().insert(id, Looked { tombstone, retention });
        Ok(false)
    }

    /// Whether a part has nothing that a tombstone deletes.
    pub fn is_done(&self, part: &Part, tombstone: u64) -> bool {
        self.0.lock().get(&part.reader().info().id()).is_some_and(|looked| looked.tombstone >= tombstone)
    }

    /// A part is gone.
    pub fn forget(&self, part: &Part) {
        self.0.lock().remove(&part.reader().info().id());
    }
}

/// Whether a part has a series whose retention is one of those that are over for all of the part.
fn has_series_past(part: &Part, sieves: &Sieves, over: &[bool], budget: &QueryBudget) -> Result<bool, StoreError> {
    let Some(retention) = sieves.retention() else { return Ok(false) };
    let mut before = RoaringBitmap::new();
    let matchers = retention.rules.iter().map(|rule| rule.matchers.as_slice()).chain([&[][..]]);
    for (matchers, over) in matchers.zip(over) {
        let own = part.matched(matchers, RangeMs::ALL, budget)?;
        if *over && !(&own - &before).is_empty() {
            return Ok(true);
        }
        before |= own;
    }
    Ok(false)
}
