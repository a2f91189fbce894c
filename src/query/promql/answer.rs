//! Answers of queries. The series of a range query stay columns until somebody takes their points:
//! eight bytes a step instead of sixteen a point, and only one series at a time is more than that.

use std::sync::Arc;

use super::run::Grid;
use super::value::{CellRef, Series};
use crate::base::limits::{LimitError, QueryBudget};
use crate::model::histogram::Histogram;
use crate::model::labels::Labels;
use crate::query::pace::Pace;

/// One series of an answer.
#[derive(Clone, Debug)]
pub struct AnswerSeries {
    /// Its labels.
    pub labels: Labels,
    /// Float samples: milliseconds and values.
    pub floats: Vec<(i64, f64)>,
    /// Histogram samples.
    pub histograms: Vec<(i64, Arc<Histogram>)>,
}

/// Series with many samples each, sorted by labels. Its iterator makes the points.
#[derive(Clone, Debug)]
pub struct Matrix(Inner);

#[derive(Clone, Debug)]
enum Inner {
    Points(Vec<AnswerSeries>),
    Columns(Grid, Vec<Series>),
}

impl Matrix {
    /// These series.
    ///
    /// # Errors
    /// What the budget says.
    pub(super) fn of_points(mut all: Vec<AnswerSeries>, budget: &QueryBudget) -> Result<Self, LimitError> {
        Pace::new(budget).sort_dear(&mut all, |series| series.labels.bytes(), |a, b| a.labels.cmp(&b.labels))?;
        Ok(Self(Inner::Points(all)))
    }

    /// The series whose columns, with the times of `grid`, have samples.
    ///
    /// # Errors
    /// What the budget says.
    pub(super) fn of_columns(mut all: Vec<Series>, grid: Grid, budget: &QueryBudget) -> Result<Self, LimitError> {
        Pace::new(budget).sort_dear(&mut all, |series| series.labels.bytes(), |a, b| a.labels.cmp(&b.labels))?;
        Ok(Self(Inner::Columns(grid, all)))
    }

    /// How many series there are.
    pub fn len(&self) -> usize {
        match &self.0 {
            Inner::Points(all) => all.len(),
            Inner::Columns(_, all) => all.len(),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Leaves the first `count` series.
    pub fn truncate(&mut self, count: usize) {
        match &mut self.0 {
            Inner::Points(all) => all.truncate(count),
            Inner::Columns(_, all) => all.truncate(count),
        }
    }
}

impl IntoIterator for Matrix {
    type Item = AnswerSeries;
    type IntoIter = Box<dyn Iterator<Item = AnswerSeries>>;

    fn into_iter(self) -> Self::IntoIter {
        match self.0 {
            Inner::Points(all) => Box::new(all.into_iter()),
            Inner::Columns(grid, all) => Box::new(all.into_iter().map(move |series| points(series, &grid))),
        }
    }
}

/// The samples of a series with their times.
pub(super) fn points(series: Series, grid: &Grid) -> AnswerSeries {
    let mut answer = AnswerSeries { labels: series.labels, floats: Vec::new(), histograms: Vec::new() };
    for step in 0..grid.steps {
        match series.column.get(step) {
            CellRef::None => {}
            CellRef::Float(value) => answer.floats.push((grid.time(step), value)),
            CellRef::Histogram(histogram) => answer.histograms.push((grid.time(step), histogram.clone())),
        }
    }
    answer
}
