//! Instant vector selectors: at each step the newest sample within the lookback.
//! Which sample that is depends on the times alone, so it is found once for all series that share them.

use std::sync::Arc;

use super::PromqlError;
use super::ast::{Edges, Pos, Selector};
use super::leaf::{Leaf, Picks, Scratch};
use super::native;
use super::native::Work;
use super::notes::{MIXED, MIXED_SCHEMAS};
use super::run::{Eval, Gives, Grid};
use super::samples::{Samples, drop_stale};
use super::value::{ABSENT, Cell, Column, histogram_cost};
use super::windows::{Known, advance};
use crate::model::histogram::ResetHint;
use crate::model::labels::Labels;
use crate::model::sample::{Columns, is_stale};
use crate::model::time::RangeMs;

/// A selector whose series are found but not yet read.
pub(super) struct Instant {
    samples: Samples,
    span: i64,
    /// The time that each step looks at.
    looks: Vec<i64>,
    lookback: i64,
    smoothed: bool,
    gives: Gives,
    pos: Pos,
}

fn picks(times: &[i64], looks: &[i64], lookback: i64) -> Picks {
    let mut end = times.partition_point(|t| looks.first().is_some_and(|first| t <= first));
    let pick = |until: &i64| {
        while times.get(end).is_some_and(|t| t <= until) {
            end += 1;
        }
        let newest = end.checked_sub(1).and_then(|at| times.get(at));
        let near = newest.is_some_and(|t| *t > until.saturating_sub(lookback));
        if near { u32::try_from(end).unwrap_or(0) } else { 0 }
    };
    looks.iter().map(pick).collect()
}

impl Instant {
    /// Finds the series of a selector.
    ///
    /// # Errors
    /// What the store or the budget says.
    pub(super) fn select(
        eval: &Eval<'_>,
        selector: &Selector,
        grid: &Grid,
        gives: Gives,
        pos: Pos,
    ) -> Result<Self, PromqlError> {
        eval.budget.charge(8 * grid.steps)?;
        let looks: Vec<i64> =
            (0..grid.steps).map(|step| eval.looks_at(selector.at, selector.offset, grid, step)).collect();
        let (first, last) = (looks.first().copied().unwrap_or(0), looks.last().copied().unwrap_or(0));
        let smoothed = selector.edges == Edges::Smoothed;
        let beyond = if smoothed { eval.lookback } else { 0 };
        let start = first.saturating_sub(eval.lookback).saturating_add(1);
        let range = RangeMs { start, end: last.saturating_add(beyond) };
        let samples = Samples::select(eval, selector, range)?;
        let span = range.end.saturating_sub(range.start);
        Ok(Self { samples, span, looks, lookback: eval.lookback, smoothed, gives, pos })
    }

    /// Whether all steps look at one time.
    fn is_fixed(&self) -> bool {
        self.looks.first() == self.looks.last()
    }

    fn fill_column(
        &self,
        eval: &mut Eval<'_>,
        known: &mut Known<Picks>,
        labels: &Labels,
        series: &Columns,
        column: &mut Column,
    ) -> Result<(), PromqlError> {
        eval.spend(self.looks.len())?;
        if self.smoothed {
            // As in ranges, the ends of series are nothing to interpolate to.
            let mut alive = series.clone();
            drop_stale(&mut alive);
            return self.fill_any(eval, labels, &alive, column);
        }
        let of_time = self.gives == Gives::Time;
        if !series.histograms.is_empty() || !(of_time || self.gives == Gives::Sample) {
            return self.fill_any(eval, labels, series, column);
        }
        let find = |times: &[i64]| picks(times, &self.looks, self.lookback);
        let ends = known.of(&series.times, 4 * self.looks.len(), eval.budget, find)?;
        // The stale marker ends a series, and in a column it means that there is no sample.
        let taken = |end: u32| (end as usize).checked_sub(1).and_then(|at| series.values.get(at)).copied();
        for (cell, end) in column.overwrite().iter_mut().zip(ends) {
            *cell = taken(*end).unwrap_or(ABSENT);
        }
        if of_time {
            for (cell, end) in column.overwrite().iter_mut().zip(ends).filter(|(cell, _)| !is_stale(**cell)) {
                let t = (*end as usize).checked_sub(1).and_then(|at| series.times.get(at));
                *cell = t.map_or(ABSENT, |t| *t as f64 / 1000.0);
            }
        }
        Ok(())
    }

    /// The same for series with histograms, and for values between samples.
    fn fill_any(
        &self,
        eval: &mut Eval<'_>,
        labels: &Labels,
        series: &Columns,
        column: &mut Column,
    ) -> Result<(), PromqlError> {
        column.clear();
        let (mut floats, mut histograms) = (0, 0);
        let mut charged = 0;
        for (step, until) in self.looks.iter().copied().enumerate() {
            floats += advance(&series.times, floats, until, |t| *t);
            histograms += advance(&series.histograms, histograms, until, |sample| sample.t);
            let after = until.saturating_sub(self.lookback);
            let Some((time, cell)) = latest(series, floats, histograms).filter(|(time, _)| *time > after) else {
                continue;
            };
            if self.smoothed && self.is_mixed(series, until) {
                eval.warn(self.pos, format!("{} {:?}", MIXED, labels.metric_name()));
                continue;
            }
            let between = self.smoothed && time != until;
            if let Some(Cell::Histogram(histogram)) = cell.as_ref().filter(|_| between) {
                eval.spend(histogram_cost(histogram))?;
            }
            let mut cell = match cell {
                Some(cell) if between => {
                    self.between(eval, (labels, series), (floats, histograms), (time, cell), until)
                }
                cell => cell,
            };
            let seconds = |ms: i64| Cell::Float(ms as f64 / 1000.0);
            cell = cell.map(|cell| match self.gives {
                Gives::Sample => cell,
                Gives::Time => seconds(time),
                Gives::Start => seconds(start_of(series, floats, histograms, time)),
            });
            // Steps that take the same histogram share it.
            if matches!(cell, Some(Cell::Histogram(_))) && (between || charged != histograms) {
                eval.set(column, step, cell)?;
                charged = histograms;
            } else {
                eval.set_shared(column, step, cell)?;
            }
        }
        Ok(())
    }

    /// Whether there are both kinds of samples from which a value could be made.
    fn is_mixed(&self, series: &Columns, until: i64) -> bool {
        let (after, to) = (until.saturating_sub(self.lookback), until.saturating_add(self.lookback));
        let floats = series.times.partition_point(|t| *t <= after);
        let histograms = series.histograms.partition_point(|sample| sample.t <= after);
        series.times.get(floats).is_some_and(|t| *t <= to)
            && series.histograms.get(histograms).is_some_and(|sample| sample.t <= to)
    }

    /// The value between a sample and the one after it; without one after it, the sample itself.
    fn between(
        &self,
        eval: &mut Eval<'_>,
        (labels, series): (&Labels, &Columns),
        (floats, histograms): (usize, usize),
        (time, cell): (i64, Cell),
        until: i64,
    ) -> Option<Cell> {
        let in_reach = |t: i64| t <= until.saturating_add(self.lookback);
        let float = series.times.get(floats).copied().zip(series.values.get(floats).copied());
        let float = float.filter(|(t, value)| in_reach(*t) && !is_stale(*value));
        let histogram = series.histograms.get(histograms).filter(|sample| in_reach(sample.t));
        let share = |next: i64| (until - time) as f64 / (next - time) as f64;
        let name = labels.metric_name();
        match (cell, float, histogram) {
            (Cell::Float(value), Some((t, next)), other) if other.is_none_or(|sample| sample.t > t) => {
                Some(Cell::Float(value + (next - value) * share(t)))
            }
            (Cell::Histogram(value), float, Some(sample)) if float.is_none_or(|(t, _)| sample.t < t) => {
                let (value, next) = (Work::from(value.as_ref()), Work::from(sample.histogram.as_ref()));
                let counter = value.hint != ResetHint::Gauge;
                match value.towards(&next, share(sample.t), counter) {
                    Ok(between) => Some(Cell::Histogram(Arc::new(between.into()))),
                    Err(native::Incompatible) => {
                        eval.warn(self.pos, format!("{} {name:?}", MIXED_SCHEMAS));
                        None
                    }
                }
            }
            (cell, None, None) => Some(cell),
            _ => {
                eval.warn(self.pos, format!("{} {name:?}", MIXED));
                None
            }
        }
    }
}

impl Leaf for Instant {
    fn samples(&self) -> &Samples {
        &self.samples
    }

    fn span(&self) -> i64 {
        self.span
    }

    fn drops_name(&self) -> bool {
        false
    }

    fn fill(
        &self,
        eval: &mut Eval<'_>,
        scratch: &mut Scratch,
        labels: &Labels,
        series: &mut Columns,
        column: &mut Column,
    ) -> Result<(), PromqlError> {
        self.fill_column(eval, &mut scratch.picks, labels, series, column)?;
        // At a fixed time all steps take the one sample that the first has read.
        let new = |step: usize, samples| if step > 0 && self.is_fixed() { 0 } else { samples };
        eval.count(column.samples().enumerate().map(|(step, samples)| (samples, new(step, samples))));
        Ok(())
    }
}

/// When counting began for the sample of a time that is the later of those before two indexes.
fn start_of(series: &Columns, floats: usize, histograms: usize, time: i64) -> i64 {
    let histogram = histograms.checked_sub(1).and_then(|at| series.histograms.get(at));
    match histogram.filter(|sample| sample.t == time) {
        Some(sample) => sample.start,
        None => floats.checked_sub(1).map_or(0, |at| series.start(at)),
    }
}

/// The later of the samples before two indexes; no cell when it ends the series.
fn latest(series: &Columns, floats: usize, histograms: usize) -> Option<(i64, Option<Cell>)> {
    let float = floats.checked_sub(1).and_then(|at| Some((*series.times.get(at)?, *series.values.get(at)?)));
    let histogram = histograms.checked_sub(1).and_then(|at| series.histograms.get(at));
    match (float, histogram) {
        (Some((time, value)), other) if other.is_none_or(|sample| sample.t < time) => {
            Some((time, (!is_stale(value)).then_some(Cell::Float(value))))
        }
        (_, Some(sample)) => {
            let alive = !is_stale(sample.histogram.sum);
            Some((sample.t, alive.then(|| Cell::Histogram(sample.histogram.clone()))))
        }
        _ => None,
    }
}
