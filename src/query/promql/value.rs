//! What evaluation works on: columns with a cell per step.
//! Invariant: a column never holds the stale marker as a value; its bits mean "no sample here".

use std::sync::Arc;

use crate::base::limits::{LimitError, QueryBudget};
use crate::model::histogram::Histogram;
use crate::model::labels::{Labels, METRIC_NAME};
use crate::model::sample::{STALE_NAN_BITS, is_stale};

/// Marks an empty cell.
pub(super) const ABSENT: f64 = f64::from_bits(STALE_NAN_BITS);

/// A sample without its time.
#[derive(Clone, Debug, PartialEq)]
pub enum Cell {
    /// A float.
    Float(f64),
    /// A native histogram.
    Histogram(Arc<Histogram>),
}

/// Samples of one series, one for each step at most.
#[derive(Clone, Debug, Default)]
pub struct Column {
    floats: Vec<f64>,
    /// Empty while there are none.
    histograms: Vec<Option<Arc<Histogram>>>,
}

/// A cell as it is read.
#[derive(Clone, Copy, Debug)]
pub enum CellRef<'a> {
    /// No sample.
    None,
    /// A float.
    Float(f64),
    /// A native histogram.
    Histogram(&'a Arc<Histogram>),
}

impl CellRef<'_> {
    /// Whether there is a sample.
    pub fn is_some(self) -> bool {
        !matches!(self, Self::None)
    }

    /// The sample.
    pub fn to_cell(self) -> Option<Cell> {
        match self {
            Self::None => None,
            Self::Float(value) => Some(Cell::Float(value)),
            Self::Histogram(histogram) => Some(Cell::Histogram(histogram.clone())),
        }
    }
}

impl Column {
    /// A column of `steps` empty cells, charged to `budget` with the series that it will be of.
    ///
    /// # Errors
    /// [`LimitError`] when the query has no room for it.
    pub fn empty(steps: usize, budget: &QueryBudget) -> Result<Self, LimitError> {
        budget.charge(series_bytes(steps))?;
        Ok(Self::new(steps))
    }

    /// A column of `steps` empty cells, for whoever charges it by himself.
    pub(super) fn new(steps: usize) -> Self {
        Self { floats: vec![ABSENT; steps], histograms: Vec::new() }
    }

    /// The floats, where every step has one.
    ///
    /// # Errors
    /// The column, where not.
    pub(super) fn into_dense(self) -> Result<Vec<f64>, Self> {
        let dense = self.histograms.is_empty() && !self.floats.iter().any(|value| is_stale(*value));
        if dense { Ok(self.floats) } else { Err(self) }
    }

    /// A column of these floats, already charged.
    pub fn of(floats: Vec<f64>) -> Self {
        Self { floats, histograms: Vec::new() }
    }

    /// How many steps there are.
    pub fn steps(&self) -> usize {
        self.floats.len()
    }

    /// The cell of a step.
    #[inline]
    pub fn get(&self, step: usize) -> CellRef<'_> {
        if let Some(Some(histogram)) = self.histograms.get(step) {
            return CellRef::Histogram(histogram);
        }
        match self.floats.get(step) {
            Some(value) if value.to_bits() != STALE_NAN_BITS => CellRef::Float(*value),
            _ => CellRef::None,
        }
    }

    /// Sets the cell of a step.
    pub fn set(&mut self, step: usize, cell: Option<Cell>) {
        let float = match cell {
            Some(Cell::Histogram(histogram)) => {
                if self.histograms.is_empty() {
                    self.histograms.resize(self.floats.len(), None);
                }
                if let Some(place) = self.histograms.get_mut(step) {
                    *place = Some(histogram);
                }
                ABSENT
            }
            Some(Cell::Float(value)) => {
                self.clear_histogram(step);
                value
            }
            None => {
                self.clear_histogram(step);
                ABSENT
            }
        };
        if let Some(place) = self.floats.get_mut(step) {
            *place = float;
        }
    }

    fn clear_histogram(&mut self, step: usize) {
        if let Some(place) = self.histograms.get_mut(step) {
            *place = None;
        }
    }

    /// Whether no step has a sample.
    pub fn is_empty(&self) -> bool {
        self.floats.iter().all(|value| is_stale(*value)) && self.histograms.iter().all(Option::is_none)
    }

    /// The cells where none is a histogram; those without a sample hold the stale marker.
    pub(super) fn floats(&self) -> Option<&[f64]> {
        self.histograms.is_empty().then_some(self.floats.as_slice())
    }

    /// The same, to be changed.
    pub(super) fn floats_mut(&mut self) -> Option<&mut [f64]> {
        self.histograms.is_empty().then_some(self.floats.as_mut_slice())
    }

    /// All cells, for whoever sets every one of them to a float or the stale marker.
    pub(super) fn overwrite(&mut self) -> &mut [f64] {
        self.histograms.clear();
        &mut self.floats
    }

    /// Empties all cells.
    pub(super) fn clear(&mut self) {
        self.overwrite().fill(ABSENT);
    }

    /// Bytes of the histograms and their places, one that is in several steps in a row counted once.
    pub(super) fn histogram_bytes(&self) -> usize {
        let mut before: Option<&Arc<Histogram>> = None;
        let mut bytes = self.histogram_places();
        for histogram in self.histograms.iter().flatten() {
            if !before.is_some_and(|before| Arc::ptr_eq(before, histogram)) {
                bytes += histogram.bytes();
            }
            before = Some(histogram);
        }
        bytes
    }

    /// Bytes of the places of histograms, of which there are none without any.
    pub(super) fn histogram_places(&self) -> usize {
        size_of::<Option<Arc<Histogram>>>() * self.histograms.len()
    }

    /// How many samples each step has, one or none; a histogram counts for what it weighs.
    pub(super) fn samples(&self) -> impl Iterator<Item = u64> {
        (0..self.steps()).map(|step| match self.get(step) {
            CellRef::None => 0,
            CellRef::Float(_) => 1,
            CellRef::Histogram(histogram) => weight(histogram),
        })
    }
}

/// What a series of a result takes besides its cells and labels: itself, in a list with room to grow, and
/// the allocations of its cells and labels.
const SERIES_BYTES: usize = 2 * size_of::<Series>() + 32;

/// Bytes of a series of so many steps, without its labels and histograms.
pub(super) const fn series_bytes(steps: usize) -> usize {
    size_of::<f64>() * steps + SERIES_BYTES
}

/// What work on a cell costs, in those of a float.
pub(super) fn cost(cell: CellRef<'_>) -> usize {
    match cell {
        CellRef::None | CellRef::Float(_) => 1,
        CellRef::Histogram(histogram) => histogram_cost(histogram),
    }
}

/// What work on a histogram costs, in that on a float: each bucket is copied and compared several times.
pub(super) fn histogram_cost(histogram: &Histogram) -> usize {
    10 + histogram.bytes() / 2
}

/// For how many samples a histogram counts: one has a time and a value.
pub(super) fn weight(histogram: &Histogram) -> u64 {
    (histogram.bytes() as u64).div_ceil(16)
}

/// One series of a result.
#[derive(Clone, Debug)]
pub struct Series {
    /// Its labels; `__name__` may still be among them when `drop_name` is set.
    pub labels: Labels,
    /// Whether the name goes at the end of the query.
    pub drop_name: bool,
    /// Its samples.
    pub column: Column,
}

impl Series {
    /// Whom the client sees.
    pub fn final_labels(&self) -> Labels {
        if self.drop_name { nameless(&self.labels) } else { self.labels.clone() }
    }
}

/// Whether a label goes when the name goes: type and unit are of the metric, not of what a function
/// made of it.
pub fn belongs_to_name(name: &str) -> bool {
    matches!(name, METRIC_NAME | "__type__" | "__unit__")
}

/// Labels without the name and what belongs to it.
pub fn nameless(labels: &Labels) -> Labels {
    labels.filter(|name, _| !belongs_to_name(name))
}

/// A list of series in which one may follow another with the same labels.
pub type Vector = Vec<Series>;

/// What an expression gives.
#[derive(Clone, Debug)]
pub enum Value {
    /// A float for each step.
    Scalar(Vec<f64>),
    /// A string.
    String(String),
    /// Series.
    Vector(Vector),
}
