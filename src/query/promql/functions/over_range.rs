//! A function over the windows of a range vector, series by series.
//! Whether a series takes the fast way or the one that works for all is decided in `fill`, nowhere else.

use super::change::hint_non_counter;
use super::row::{OfWindow, RangeContext, is_range};
use super::sliding::{Floats, Sliding};
use crate::model::labels::Labels;
use crate::model::sample::Columns;
use crate::query::pace::{Held, Pace};
use crate::query::promql::PromqlError;
use crate::query::promql::ast::{Call, Edges, Pos};
use crate::query::promql::leaf::{Leaf, Scratch};
use crate::query::promql::native::TOTAL_FACTOR;
use crate::query::promql::range::{Matrix, Slide};
use crate::query::promql::run::{Eval, Grid};
use crate::query::promql::samples::{Samples, drop_stale};
use crate::query::promql::value::{Column, weight};
use crate::query::promql::windows::Windows;

/// What a function takes of memory for each sample of a window at most, histograms left out.
const SAMPLE_BYTES: usize = 64;
/// The same for each sample of a series, for those that slide.
const SCRATCH_BYTES: usize = 24;
/// Bytes of scratch memory that are not worth charging.
const SMALL_BYTES: usize = 64 << 10;

/// A call of a function over a range vector whose series are found but not yet read.
pub(super) struct OverRange {
    matrix: Matrix,
    of_window: OfWindow,
    sliding: Option<Sliding>,
    keeps_name: bool,
    /// The scalar arguments.
    scalars: Vec<Vec<f64>>,
    /// Where the range vector and the first scalar begin in the query.
    pos: Pos,
    scalar_pos: Pos,
    grid: Grid,
    /// Where the window of each step ends.
    ends: Vec<i64>,
}

impl OverRange {
    /// Evaluates the scalars of a call and finds its series.
    ///
    /// # Errors
    /// What the arguments, the store or the budget say.
    pub(super) fn of(
        eval: &mut Eval<'_>,
        call: &Call,
        (of_window, sliding): (OfWindow, Option<Sliding>),
        keeps_name: bool,
        grid: &Grid,
    ) -> Result<Self, PromqlError> {
        let (mut scalars, mut range, mut scalar_pos) = (Vec::new(), None, Pos(0));
        for arg in &call.args {
            if is_range(arg) {
                range = Some(arg);
            } else {
                if scalars.is_empty() {
                    scalar_pos = arg.bare().pos;
                }
                scalars.push(eval.scalar(arg, grid)?);
            }
        }
        let Some(arg) = range else {
            return Err(PromqlError::Execution(format!("{} needs a range vector", call.function)));
        };
        let matrix = eval.matrix(arg, grid)?;
        eval.budget.charge(8 * grid.steps)?;
        let ends = (0..grid.steps).map(|step| eval.looks_at(matrix.at, matrix.offset, grid, step)).collect();
        Ok(Self { matrix, of_window, sliding, keeps_name, scalars, pos: arg.bare().pos, scalar_pos, grid: *grid, ends })
    }

    /// Slides over a series of floats.
    fn fill_floats(
        &self,
        eval: &mut Eval<'_>,
        sliding: Sliding,
        Scratch { windows: known, said, .. }: &mut Scratch,
        labels: &Labels,
        columns: &Columns,
        column: &mut Column,
    ) -> Result<(), PromqlError> {
        eval.spend(columns.times.len() + self.ends.len())?;
        let range = self.matrix.range;
        let find = |times: &[i64]| Windows::find(times, &self.ends, range, sliding.gaps);
        let windows = known.of(&columns.times, Windows::BYTES * self.ends.len(), eval.budget, find)?;
        // Series of one name come one after the other; what is said of one is said of all.
        let repeats = || *said == labels.metric_name() && labels.get("__type__").is_none();
        if sliding.counter && !repeats() && windows.bounds().iter().any(|(from, to)| to - from > 1) {
            said.clear();
            said.push_str(labels.metric_name());
            hint_non_counter(&mut self.context(eval, labels), true);
        }
        let mut seen = 0;
        eval.count(windows.bounds().iter().map(|(from, to)| {
            let new = to.saturating_sub(seen.max(*from));
            seen = *to;
            (u64::from(to - from), u64::from(new))
        }));
        let Columns { times, values, .. } = columns;
        let floats = Floats { times, values, windows, range };
        let held = Held::new(eval.budget);
        let bytes = SCRATCH_BYTES * values.len();
        if bytes > SMALL_BYTES {
            held.add(bytes)?;
        }
        let pace = Pace::new(eval.budget);
        (sliding.fill)(&floats, column.overwrite(), &pace);
        Ok(pace.result()?)
    }

    fn context<'e, 'a>(&self, eval: &'e mut Eval<'a>, labels: &'e Labels) -> RangeContext<'e, 'a> {
        let Matrix { range, edges, .. } = self.matrix;
        RangeContext { eval, labels, pos: self.pos, scalar_pos: self.scalar_pos, range, edges }
    }

    /// Shows every window to the function.
    fn fill_any(
        &self,
        eval: &mut Eval<'_>,
        labels: &Labels,
        columns: &Columns,
        column: &mut Column,
    ) -> Result<(), PromqlError> {
        column.clear();
        let Matrix { range, edges, beyond, .. } = self.matrix;
        let before = if edges == Edges::Plain { 0 } else { beyond };
        let after = if edges == Edges::Smoothed { beyond } else { 0 };
        let mut params = vec![0.0; self.scalars.len()];
        let mut slide = Slide::new(columns);
        let mut counted = Vec::new();
        let held = Held::new(eval.budget);
        for (step, end) in self.ends.iter().copied().enumerate() {
            let start = end.saturating_sub(range);
            let mut window = slide.to(start.saturating_sub(before), end.saturating_add(after), self.grid.time(step));
            (window.start, window.end) = (start, end);
            let bytes: usize = window.histograms.iter().map(|sample| sample.histogram.bytes()).sum();
            eval.spend(window.times.len() + 10 * window.histograms.len() + bytes / 2 + 1)?;
            let bytes = SAMPLE_BYTES * (window.times.len() + window.histograms.len()) + TOTAL_FACTOR * bytes;
            if bytes > held.bytes().max(SMALL_BYTES) {
                held.add(bytes - held.bytes())?;
            }
            if eval.counted.is_some() {
                let before = step.checked_sub(1).and_then(|step| self.ends.get(step)).copied();
                let seen = before.map_or(i64::MIN, |end| end.saturating_add(after));
                let histograms = window.histograms.iter().map(|sample| (sample.t, weight(&sample.histogram)));
                let all = window.times.iter().map(|t| (*t, 1)).chain(histograms);
                let add = |(all, new): (u64, u64), (t, one)| (all + one, if t > seen { new + one } else { new });
                counted.push(all.fold((0, 0), add));
            }
            if window.is_empty() {
                continue;
            }
            for (param, scalar) in params.iter_mut().zip(&self.scalars) {
                *param = scalar.get(step).copied().unwrap_or(f64::NAN);
            }
            let cell = (self.of_window)(&window, &params, &mut self.context(eval, labels));
            if let Some(failure) = eval.failure.take() {
                return Err(failure);
            }
            eval.set(column, step, cell)?;
        }
        eval.count(counted.into_iter());
        Ok(())
    }
}

impl Leaf for OverRange {
    fn samples(&self) -> &Samples {
        &self.matrix.samples
    }

    fn span(&self) -> i64 {
        let ends = self.ends.first().zip(self.ends.last());
        ends.map_or(0, |(first, last)| last.saturating_sub(*first)).saturating_add(self.matrix.range)
    }

    fn drops_name(&self) -> bool {
        !self.keeps_name
    }

    fn fill(
        &self,
        eval: &mut Eval<'_>,
        scratch: &mut Scratch,
        labels: &Labels,
        series: &mut Columns,
        column: &mut Column,
    ) -> Result<(), PromqlError> {
        drop_stale(series);
        let plain = series.histograms.is_empty() && series.starts.is_empty() && self.matrix.edges == Edges::Plain;
        match self.sliding.filter(|_| plain && !eval.general) {
            Some(sliding) => self.fill_floats(eval, sliding, scratch, labels, series, column),
            None => self.fill_any(eval, labels, series, column),
        }
    }
}
