//! A part read from its first series to its last, in the order of their labels and in bounded
//! memory: for merging parts into one with a `PartBuilder`.
//! Flow: of several cursors those with the smallest [`labels`](PartCursor::labels) hand over their
//! samples, the oldest part first, with [`read`](PartCursor::read) and `Gathered::add_to`; when all
//! are settled, the series is written and the cursors are moved on.

use super::read::{Gathered, PartScan, Work};
use super::segment::Part;
use crate::base::limits::QueryBudget;
use crate::model::labels::Labels;
use crate::model::time::RangeMs;
use crate::store::error::StoreError;

/// A place in a part.
pub struct PartCursor<'a> {
    part: &'a Part,
    scan: PartScan<'a>,
    work: Work,
    /// Place of the next frame of label sets.
    next: usize,
    /// Number of the first series of the current frame.
    first: u32,
    labels: Vec<Labels>,
    at: usize,
}

impl<'a> PartCursor<'a> {
    /// At the first series; samples are read in `range` only.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn new(part: &'a Part, range: RangeMs, budget: &'a QueryBudget) -> Result<Self, StoreError> {
        let scan = PartScan::new(part, 0, range, budget);
        let mut cursor = Self { part, scan, work: Work::default(), next: 0, first: 0, labels: Vec::new(), at: 0 };
        cursor.enter()?;
        Ok(cursor)
    }

    /// Goes on to the next frame with a series.
    fn enter(&mut self) -> Result<(), StoreError> {
        while self.at >= self.labels.len() {
            let Some((first, labels)) = self.part.labels_at(self.next)? else { return Ok(()) };
            (self.first, self.labels, self.at) = (first, labels, 0);
            self.next += 1;
        }
        Ok(())
    }

    /// Who the series is; none behind the last.
    pub fn labels(&self) -> Option<&Labels> {
        self.labels.get(self.at)
    }

    /// The number of the series in its part.
    pub fn number(&self) -> u32 {
        self.first.saturating_add(self.at as u32)
    }

    /// Adds the samples of the series.
    ///
    /// # Errors
    /// [`StoreError::Limit`], [`StoreError::Io`].
    pub fn read(&mut self, out: &mut Gathered) -> Result<(), StoreError> {
        self.scan.read(self.number(), &mut self.work, out)
    }

    /// Goes to the next series.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn advance(&mut self) -> Result<(), StoreError> {
        self.at += 1;
        self.enter()
    }
}
