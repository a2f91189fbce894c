//! From matchers to series: for each label name its values, for each value the numbers of the
//! series that have it. A registry holds them as bitmaps, a part as runs; [`matched`] asks either.

use roaring::RoaringBitmap;

use crate::base::limits::QueryBudget;
use crate::model::matcher::{MatchOp, Matcher};
use crate::store::codec::{Malformed, Reader, put_varint};
use crate::store::error::StoreError;

/// Values looked at between two looks at the deadline.
const VALUES_PER_CHECK: usize = 4096;

/// Numbers of series, wherever they are.
#[derive(Clone, Copy)]
pub enum Ids<'a> {
    /// Just one.
    One(u32),
    /// In memory.
    Bitmap(&'a RoaringBitmap),
    /// As a [`RunsBuilder`] wrote them.
    Runs(&'a [u8]),
}

impl Ids<'_> {
    /// Adds them to `set`.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn add_to(&self, set: &mut RoaringBitmap) -> Result<(), Malformed> {
        match self {
            Self::One(id) => {
                set.insert(*id);
            }
            Self::Bitmap(bitmap) => *set |= *bitmap,
            // Numbers of one pair ascend, so they mostly go to the end.
            Self::Runs(bytes) => visit_runs(bytes, |first, last| {
                if first < last || set.try_push(first).is_err() {
                    set.insert_range(first..=last);
                }
                true
            })?,
        }
        Ok(())
    }

    /// Whether one of them is in `set`.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn touch(&self, set: &RoaringBitmap) -> Result<bool, Malformed> {
        match self {
            Self::One(id) => Ok(set.contains(*id)),
            Self::Bitmap(bitmap) => Ok(!bitmap.is_disjoint(set)),
            Self::Runs(bytes) => {
                let mut hit = false;
                visit_runs(bytes, |first, last| {
                    hit = set.range(first..=last).next().is_some();
                    !hit
                })?;
                Ok(hit)
            }
        }
    }
}

impl Ids<'_> {
    /// Hands out each, in order.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn each(&self, mut visit: impl FnMut(u32)) -> Result<(), Malformed> {
        match self {
            Self::One(id) => visit(*id),
            Self::Bitmap(bitmap) => bitmap.iter().for_each(visit),
            Self::Runs(bytes) => visit_runs(bytes, |first, last| {
                (first..=last).for_each(&mut visit);
                true
            })?,
        }
        Ok(())
    }

    /// How many of them are in `set`.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn count(&self, set: &RoaringBitmap) -> Result<u64, Malformed> {
        match self {
            Self::One(id) => Ok(u64::from(set.contains(*id))),
            Self::Bitmap(bitmap) => Ok(bitmap.intersection_len(set)),
            Self::Runs(bytes) => {
                let mut count = 0;
                visit_runs(bytes, |first, last| {
                    count += if first == last {
                        u64::from(set.contains(first))
                    } else {
                        set.range_cardinality(first..=last)
                    };
                    true
                })?;
                Ok(count)
            }
        }
    }
}

/// Gathers ascending numbers as runs of consecutive ones.
#[derive(Default)]
pub struct RunsBuilder {
    bytes: Vec<u8>,
    run: Option<(u32, u32)>,
    next: u32,
}

impl RunsBuilder {
    /// Adds a number that is the last one or larger.
    pub fn add(&mut self, number: u32) {
        match &mut self.run {
            Some(run) if run.1 == number => {}
            Some(run) if run.1.checked_add(1) == Some(number) => run.1 = number,
            _ => {
                self.put();
                self.run = Some((number, number));
            }
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.run.is_none()
    }

    fn put(&mut self) {
        if let Some((first, last)) = self.run.take() {
            put_varint(&mut self.bytes, u64::from(first - self.next));
            put_varint(&mut self.bytes, u64::from(last - first));
            self.next = last.saturating_add(1);
        }
    }

    /// The runs as bytes: for each the gap to the one before, and its length less one.
    pub fn finish(&mut self) -> &[u8] {
        self.put();
        &self.bytes
    }
}

fn visit_runs(bytes: &[u8], mut visit: impl FnMut(u32, u32) -> bool) -> Result<(), Malformed> {
    let mut reader = Reader::new(bytes);
    let mut next = 0u64;
    while !reader.is_empty() {
        let first = next.saturating_add(reader.varint()?);
        let last = first.saturating_add(reader.varint()?);
        let small = |id: u64| u32::try_from(id).map_err(|_| Malformed("series number too large"));
        if !visit(small(first)?, small(last)?) {
            break;
        }
        next = last + 1;
    }
    Ok(())
}

/// What [`Postings::visit`] hands out: name, value, series.
pub type Visit<'a> = dyn FnMut(&str, &str, Ids<'_>) -> Result<(), StoreError> + 'a;

/// An index of labels.
pub trait Postings {
    /// All series.
    fn all(&self) -> RoaringBitmap;
    /// Adds the series that have the pair to `set`.
    ///
    /// # Errors
    /// [`StoreError`].
    fn add(&self, name: &str, value: &str, set: &mut RoaringBitmap) -> Result<(), StoreError>;
    /// Hands out the values of one name, or of all, that begin with `prefix`.
    ///
    /// # Errors
    /// [`StoreError`], or what `visit` returns.
    fn visit(&self, name: Option<&str>, prefix: &str, visit: &mut Visit<'_>) -> Result<(), StoreError>;
}

/// The series that satisfy all `matchers`.
///
/// # Errors
/// [`StoreError`].
pub fn matched(
    postings: &dyn Postings,
    matchers: &[Matcher],
    budget: &QueryBudget,
) -> Result<RoaringBitmap, StoreError> {
    let mut found: Option<RoaringBitmap> = None;
    // Lookups first: they are cheap and leave least.
    let mut positive: Vec<_> = matchers.iter().filter(|matcher| !matcher.matches_empty()).collect();
    positive.sort_by_key(|matcher| matcher.values().map_or(usize::MAX, |values| values.len()));
    for matcher in positive {
        let set = having(postings, matcher, budget)?;
        let both = found.map_or_else(|| set.clone(), |found| found & &set);
        if both.is_empty() {
            return Ok(both);
        }
        found = Some(both);
    }
    let mut found = found.unwrap_or_else(|| postings.all());
    for matcher in matchers.iter().filter(|matcher| matcher.matches_empty()) {
        if !(matcher.op == MatchOp::Regex && matcher.value == ".*") {
            found -= lacking(postings, matcher, budget)?;
        }
    }
    Ok(found)
}

/// Series with a value that satisfies `matcher`.
fn having(postings: &dyn Postings, matcher: &Matcher, budget: &QueryBudget) -> Result<RoaringBitmap, StoreError> {
    let mut set = RoaringBitmap::new();
    if let Some(values) = matcher.values() {
        for value in values {
            postings.add(&matcher.name, value, &mut set)?;
        }
        return Ok(set);
    }
    let any = matcher.op == MatchOp::Regex && matcher.value == ".+"
        || matcher.op == MatchOp::NotEqual && matcher.value.is_empty();
    gather(postings, &matcher.name, matcher.prefix(), budget, |value| any || matcher.matches(value))
}

/// Series with a value that does not satisfy `matcher`.
fn lacking(postings: &dyn Postings, matcher: &Matcher, budget: &QueryBudget) -> Result<RoaringBitmap, StoreError> {
    if matcher.op == MatchOp::NotEqual {
        let mut set = RoaringBitmap::new();
        postings.add(&matcher.name, &matcher.value, &mut set)?;
        return Ok(set);
    }
    if matcher.op == MatchOp::NotRegex
        && let Some(values) = matcher.listed()
    {
        let mut set = RoaringBitmap::new();
        for value in values {
            postings.add(&matcher.name, value, &mut set)?;
        }
        return Ok(set);
    }
    gather(postings, &matcher.name, "", budget, |value| !matcher.matches(value))
}

fn gather(
    postings: &dyn Postings,
    name: &str,
    prefix: &str,
    budget: &QueryBudget,
    wanted: impl Fn(&str) -> bool,
) -> Result<RoaringBitmap, StoreError> {
    let (mut set, mut seen) = (RoaringBitmap::new(), 0);
    postings.visit(Some(name), prefix, &mut |_, value, ids| {
        seen += 1;
        if usize::is_multiple_of(seen, VALUES_PER_CHECK) {
            budget.check()?;
        }
        if wanted(value) {
            ids.add_to(&mut set).map_err(damaged)?;
        }
        Ok(())
    })?;
    Ok(set)
}

/// The error for index bytes that do not decode; whoever knows the path has checked them before.
pub fn damaged(Malformed(what): Malformed) -> StoreError {
    StoreError::Damaged { path: "postings".into(), what: what.to_owned() }
}

/// The series of a pair, in memory.
#[derive(Default)]
pub enum Held {
    /// There is none yet.
    #[default]
    None,
    /// Most pairs of a label with many values have one.
    One(u32),
    /// More.
    Many(Box<RoaringBitmap>),
}

impl Held {
    /// Adds a number that is larger than all before.
    pub fn push(&mut self, id: u32) {
        match self {
            Self::None => *self = Self::One(id),
            Self::One(first) => *self = Self::Many(Box::new(RoaringBitmap::from_iter([*first, id]))),
            Self::Many(ids) => {
                ids.insert(id);
            }
        }
    }

    /// The numbers.
    pub fn ids(&self) -> Ids<'_> {
        match self {
            Self::None => Ids::Runs(&[]),
            Self::One(id) => Ids::One(*id),
            Self::Many(ids) => Ids::Bitmap(ids),
        }
    }

    /// How many there are in all.
    pub fn total(&self) -> usize {
        match self {
            Self::None => 0,
            Self::One(_) => 1,
            Self::Many(ids) => usize::try_from(ids.len()).unwrap_or(usize::MAX),
        }
    }

    /// How many there are in `set`.
    pub fn count(&self, set: &RoaringBitmap) -> u64 {
        match self {
            Self::None => 0,
            Self::One(id) => u64::from(set.contains(*id)),
            Self::Many(ids) => ids.intersection_len(set),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::labels::Labels;
    use crate::store::metrics::registry::Registry;

    #[test]
    fn runs_come_back_and_touch_what_they_hold() {
        let runs = [(0, 0), (2, 5), (u32::MAX, u32::MAX)];
        let mut builder = RunsBuilder::default();
        runs.iter().for_each(|(first, last)| (*first..=*last).for_each(|number| builder.add(number)));
        let mut bytes = builder.finish().to_vec();
        let mut set = RoaringBitmap::new();
        Ids::Runs(&bytes).add_to(&mut set).unwrap();
        assert_eq!(set.iter().collect::<Vec<_>>(), [0, 2, 3, 4, 5, u32::MAX]);
        assert!(Ids::Runs(&bytes).touch(&RoaringBitmap::from_iter([4])).unwrap());
        assert!(!Ids::Runs(&bytes).touch(&RoaringBitmap::from_iter([1, 6])).unwrap());
        for ids in [Ids::Runs(&bytes), Ids::Bitmap(&set)] {
            assert_eq!(ids.count(&RoaringBitmap::from_iter([1, 2, 4, 6, u32::MAX])).unwrap(), 3);
            let mut each = Vec::new();
            ids.each(|id| each.push(id)).unwrap();
            assert_eq!(each, [0, 2, 3, 4, 5, u32::MAX]);
        }
        bytes.extend_from_slice(&[1, 1]);
        assert!(Ids::Runs(&bytes).add_to(&mut set).is_err());
    }

    #[test]
    fn an_index_finds_what_matching_each_series_finds() {
        let mut sets = Vec::new();
        for at in 0..60 {
            let pairs = [("job", ["", "a", "b"][at % 3]), ("pod", ["", "p-1", "p-2", "q"][at % 4]), ("n", "x")];
            sets.push(Labels::from_pairs(pairs.into_iter().chain([("id", at.to_string().as_str())])).unwrap());
        }
        let registry = Registry::new();
        let mut postings = registry.write();
        for labels in &sets {
            let pairs = postings.intern(labels).unwrap();
            postings.series_of(&pairs).unwrap();
        }
        let mut all = Vec::new();
        for op in [MatchOp::Equal, MatchOp::NotEqual, MatchOp::Regex, MatchOp::NotRegex] {
            for (name, value) in [("job", "a"), ("job", ""), ("pod", "p-.|"), ("pod", ".+"), ("pod", ".*"), ("x", "|y")]
            {
                all.push(Matcher::new(name, op, value).unwrap());
            }
        }
        for first in &all {
            for second in &all {
                let matchers = [first.clone(), second.clone()];
                let found = matched(&*postings, &matchers, &QueryBudget::unlimited()).unwrap();
                for (id, labels) in sets.iter().enumerate() {
                    let expected = matchers.iter().all(|matcher| matcher.matches_labels(labels));
                    assert_eq!(found.contains(id as u32), expected, "{first} {second} {labels}");
                }
            }
        }
    }
}
