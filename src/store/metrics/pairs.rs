//! The label pairs of a part in order, each with how many of some series have it, or with the series
//! themselves. One frame of postings is in memory at a time, and no label set is read.

use std::collections::BTreeMap;
use std::collections::btree_map::IntoIter;
use std::ops::Range;
use std::sync::Arc;

use roaring::RoaringBitmap;

use super::postings::Ids;
use super::segment::Part;
use crate::base::limits::QueryBudget;
use crate::store::codec::{Malformed, Reader};
use crate::store::error::StoreError;

/// Charged for a pair that is kept beside its text, when the postings are damaged.
const PAIR_BYTES: usize = 100;

/// Goes through the pairs of a part.
pub struct PairCursor<'a> {
    part: &'a Part,
    /// Series that count; all when there is none.
    among: Option<&'a RoaringBitmap>,
    budget: &'a QueryBudget,
    /// Place of the next frame.
    next: usize,
    payload: Arc<Vec<u8>>,
    at: usize,
    /// Values that follow of this name.
    left: usize,
    name: String,
    value: String,
    count: u64,
    /// Where in `payload` the series of the pair are.
    runs: Range<usize>,
    /// What the label sets have, where there are no postings.
    walked: Option<IntoIter<(String, String), u64>>,
}

impl<'a> PairCursor<'a> {
    /// At the first pair that one of the series `among` has.
    ///
    /// # Errors
    /// [`StoreError`]; when the postings are damaged the part knows it then, and a cursor made anew
    /// does without them.
    pub fn new(part: &'a Part, among: &'a RoaringBitmap, budget: &'a QueryBudget) -> Result<Self, StoreError> {
        let walked = if part.has_index() { None } else { Some(walk(part, among, budget)?.into_iter()) };
        let mut own = Self::before_first(part, Some(among), budget);
        own.walked = walked;
        own.advance()?;
        Ok(own)
    }

    /// At the first pair of all, for [`series`](Self::series).
    ///
    /// # Errors
    /// [`StoreError`]; [`StoreError::Damaged`] when the postings are damaged.
    pub fn with_series(part: &'a Part, budget: &'a QueryBudget) -> Result<Self, StoreError> {
        if !part.has_index() {
            return Err(part.reader().damaged("the index of labels is lost"));
        }
        let mut own = Self::before_first(part, None, budget);
        own.advance()?;
        Ok(own)
    }

    fn before_first(part: &'a Part, among: Option<&'a RoaringBitmap>, budget: &'a QueryBudget) -> Self {
        Self {
            part,
            among,
            budget,
            next: 0,
            payload: Arc::default(),
            at: 0,
            left: 0,
            name: String::new(),
            value: String::new(),
            count: 0,
            runs: 0..0,
            walked: None,
        }
    }

    /// The numbers of the series that have the pair, of a cursor [`with_series`](Self::with_series).
    pub fn series(&self) -> Ids<'_> {
        Ids::Runs(self.payload.get(self.runs.clone()).unwrap_or_default())
    }

    /// Name, value and how many series have them; none behind the last pair.
    pub fn get(&self) -> Option<(&str, &str, u64)> {
        (self.count > 0).then_some((self.name.as_str(), self.value.as_str(), self.count))
    }

    /// Goes to the next pair that one of the series has.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn advance(&mut self) -> Result<(), StoreError> {
        if let Some(walked) = &mut self.walked {
            let ((name, value), count) = walked.next().unwrap_or_default();
            (self.name, self.value, self.count) = (name, value, count);
            return Ok(());
        }
        self.count = 0;
        while self.count == 0 {
            if self.at >= self.payload.len() {
                let Some(frame) = self.part.directory().postings.get(self.next) else { return Ok(()) };
                self.budget.check()?;
                let payload = self.part.payload(frame.offset);
                self.payload = payload.inspect_err(|error| {
                    if error.is_damage() {
                        self.part.lose_index(error);
                    }
                })?;
                (self.next, self.at, self.left) = (self.next + 1, 0, 0);
                continue;
            }
            self.step().map_err(|Malformed(what)| {
                let error = self.part.reader().damaged(what);
                self.part.lose_index(&error);
                error
            })?;
        }
        Ok(())
    }

    fn step(&mut self) -> Result<(), Malformed> {
        let mut reader = Reader::new(self.payload.get(self.at..).unwrap_or_default());
        if self.left == 0 {
            self.name.clear();
            self.name.push_str(reader.str()?);
            self.left = reader.count(self.payload.len())?;
        } else {
            self.left -= 1;
            let (value, runs) = (reader.str()?, reader.bytes()?);
            let end = self.payload.len() - reader.rest().len();
            self.runs = end - runs.len()..end;
            self.count = self.among.map_or(Ok(1), |among| Ids::Runs(runs).count(among))?;
            if self.count > 0 {
                self.value.clear();
                self.value.push_str(value);
            }
        }
        self.at = self.payload.len() - reader.rest().len();
        Ok(())
    }
}

fn walk(
    part: &Part,
    among: &RoaringBitmap,
    budget: &QueryBudget,
) -> Result<BTreeMap<(String, String), u64>, StoreError> {
    let mut pairs = BTreeMap::new();
    part.walk_labels(Some(among), budget, &mut |_, labels| {
        for (name, value) in &labels {
            let count = pairs.entry((name.to_owned(), value.to_owned())).or_insert(0);
            *count += 1;
            if *count == 1 {
                budget.charge(PAIR_BYTES + name.len() + value.len())?;
            }
        }
        Ok(())
    })?;
    Ok(pairs)
}
