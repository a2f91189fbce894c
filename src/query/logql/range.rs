//! Range aggregations: lines or unwrapped values of each window, per series.
//! Flow: each thread reads chunks and fills accumulators by series; these are merged, then turned
//! into one value per step. Counting needs no sample kept: a line adds one where its windows begin
//! and takes it back where they end.

use ahash::AHashMap;

use crate::base::limits::QueryBudget;
use crate::model::labels::{Labels, LabelsError};
use crate::model::log::LogRows;
use crate::model::time::RangeNs;
use crate::query::pace::Pace;
use crate::store::LogChunk;
use crate::store::LogColumns;

use super::LogqlError;
use super::ast::{Grouping, RangeExpr, RangeOp};
use super::metric::{ABSENT, Context, Vector};
use super::scan::{Kept, Plan, Stats, each_chunk};
use super::stages::{Row, run};
use super::window::{Over, slide};

/// Which labels make a series.
enum Keys<'q> {
    All,
    By(&'q [String]),
    Without(&'q [String]),
}

/// The windows of a query: window `k` is left-open and ends at `start + k * step`.
#[derive(Clone, Copy, Debug)]
struct Windows {
    /// End of the first window, offset taken off.
    start: i64,
    step: i64,
    count: usize,
    range: i64,
}

impl Windows {
    fn end(&self, k: usize) -> i64 {
        self.start.saturating_add(self.step.saturating_mul(i64::try_from(k).unwrap_or(i64::MAX)))
    }

    /// The first window that ends at or after `t`.
    fn first_from(&self, t: i64) -> usize {
        let past = t.saturating_sub(self.start);
        if past <= 0 {
            return 0;
        }
        usize::try_from((past - 1) / self.step + 1).unwrap_or(usize::MAX).min(self.count)
    }

    /// Windows that hold `t`: from the first up to but without the second.
    fn of(&self, t: i64) -> (usize, usize) {
        (self.first_from(t), self.first_from(t.saturating_add(self.range)))
    }

    /// The last time that is in the same windows as a `t` whose windows are `first..past`.
    fn same_until(&self, first: usize, past: usize) -> i64 {
        let until = |k: usize| if k < self.count { self.end(k) } else { i64::MAX };
        until(first).min(until(past).saturating_sub(self.range))
    }
}

/// What a series has gathered.
#[derive(Debug)]
enum Gathered {
    /// Changes of the number of lines and of their bytes from window to window.
    Counts { lines: Vec<i64>, bytes: Vec<i64> },
    /// Unwrapped values with their times.
    Samples(Vec<(i64, f64)>),
}

#[derive(Default)]
struct Worker {
    stats: Stats,
    ids: AHashMap<Box<str>, usize>,
    series: Vec<(Labels, Gathered)>,
    scratch: String,
}

struct Gather<'q> {
    expr: &'q RangeExpr,
    plan: Plan<'q>,
    keys: Keys<'q>,
    windows: Windows,
    unwraps: bool,
    counts_bytes: bool,
    context: &'q Context<'q>,
}

/// Evaluates a range aggregation, grouped by `outer` where the aggregation around it is a sum.
pub(super) fn evaluate(
    expr: &RangeExpr,
    outer: Option<&Grouping>,
    context: &Context<'_>,
    stats: &mut Stats,
) -> Result<Vec<Vector>, LogqlError> {
    let windows = Windows {
        start: context.start.saturating_sub(expr.offset_ns),
        step: context.step,
        count: context.steps,
        range: expr.range_ns,
    };
    let grouping = outer.or(expr.grouping.as_ref());
    let keys = match grouping {
        _ if expr.op == RangeOp::AbsentOverTime => Keys::By(&[]),
        None => Keys::All,
        Some(Grouping { without: true, names }) => Keys::Without(names),
        Some(Grouping { without: false, names }) => Keys::By(names),
    };
    let unwraps = expr.log.unwraps();
    let counts_bytes = matches!(expr.op, RangeOp::BytesOverTime | RangeOp::BytesRate);
    let gather = Gather { expr, plan: Plan::new(&expr.log), keys, windows, unwraps, counts_bytes, context };
    let range = RangeNs {
        start: windows.start.saturating_sub(windows.range).saturating_add(1),
        end: windows.end(windows.count.saturating_sub(1)).saturating_add(1),
    };
    let chunks = if windows.range == 0 || range.start >= range.end {
        Vec::new()
    } else {
        context.logs.chunks(&expr.log.matchers, range, &gather.plan.hints, context.budget)?
    };
    let workers = each_chunk(chunks, Worker::default, |worker, chunk| {
        gather.chunk(worker, chunk.as_ref(), range)?;
        Ok(true)
    })?;
    let pace = Pace::new(context.budget);
    let mut merged = Worker::default();
    for worker in workers {
        merged.merge(worker, &pace)?;
    }
    stats.add(merged.stats);
    gather.finish(merged, &pace)
}

impl Worker {
    fn merge(&mut self, other: Self, pace: &Pace<'_>) -> Result<(), LogqlError> {
        self.stats.add(other.stats);
        if self.series.is_empty() {
            self.ids = other.ids;
            self.series = other.series;
            return Ok(());
        }
        let mut others: Vec<Option<(Labels, Gathered)>> = other.series.into_iter().map(Some).collect();
        for (key, id) in other.ids {
            let Some((labels, gathered)) = others.get_mut(id).and_then(Option::take) else { continue };
            pace.go(64 + key.len() + gathered.cells())?;
            let own = self.ids.get(&key).and_then(|id| self.series.get_mut(*id));
            match (own.map(|(_, own)| own), gathered) {
                (Some(Gathered::Counts { lines, bytes }), Gathered::Counts { lines: more, bytes: more_bytes }) => {
                    lines.iter_mut().zip(more).for_each(|(own, more)| *own += more);
                    bytes.iter_mut().zip(more_bytes).for_each(|(own, more)| *own += more);
                }
                (Some(Gathered::Samples(own)), Gathered::Samples(more)) => own.extend(more),
                (_, gathered) => {
                    self.ids.insert(key, self.series.len());
                    self.series.push((labels, gathered));
                }
            }
        }
        Ok(())
    }
}

impl Gathered {
    fn cells(&self) -> usize {
        match self {
            Self::Counts { lines, bytes } => lines.len() + bytes.len(),
            Self::Samples(samples) => 2 * samples.len(),
        }
    }
}

impl Gather<'_> {
    fn chunk(&self, worker: &mut Worker, chunk: &dyn LogChunk, range: RangeNs) -> Result<(), LogqlError> {
        let budget = self.context.budget;
        let key_needs_metadata = match &self.keys {
            Keys::All | Keys::Without(_) => true,
            Keys::By(names) => names.iter().any(|name| chunk.labels().get(name).is_none()),
        };
        let columns =
            LogColumns { lines: self.plan.columns.lines, metadata: self.plan.columns.metadata || key_needs_metadata };
        let pace = Pace::new(budget);
        let (rows, kept, _held) = self.plan.read(chunk, columns, &pace, &mut worker.stats)?;
        if self.plan.stages.is_empty() {
            return self.plain_rows(worker, chunk, &rows, &kept, range, key_needs_metadata);
        }
        let empty = Labels::default();
        for at in kept.rows(rows.times.len(), false) {
            pace.result()?;
            let Some(t) = rows.times.get(at).copied().filter(|t| range.contains(*t)) else { continue };
            let metadata = rows.metadata.get(at).unwrap_or(&empty);
            let mut row = Row::new(t, rows.lines.get(at), chunk.labels(), metadata, self.context.now_ns).paced(&pace);
            if !run(&self.plan.stages, &mut row) {
                continue;
            }
            pace.result()?;
            if let Some(error) = &row.error {
                return Err(pipeline_error(error, &row));
            }
            let id = self.series_of_row(worker, &row, budget)?;
            let value = if self.unwraps {
                let Some(value) = row.value else { continue };
                Some(value)
            } else {
                None
            };
            let stored = rows.line_bytes.get(at).copied().unwrap_or(0) as usize;
            let bytes = if columns.lines { row.line.len() } else { stored };
            self.add(worker, id, t, i64::try_from(bytes).unwrap_or(0), value)?;
        }
        Ok(pace.result()?)
    }

    /// Rows that no stage has to see: their series depends on stream and metadata alone.
    fn plain_rows(
        &self,
        worker: &mut Worker,
        chunk: &dyn LogChunk,
        rows: &LogRows,
        kept: &Kept,
        range: RangeNs,
        by_metadata: bool,
    ) -> Result<(), LogqlError> {
        let empty = Labels::default();
        let mut known: AHashMap<&str, usize> = AHashMap::new();
        let mut last: Option<(&Labels, usize)> = None;
        // Windows of the last row, and the last time for which they hold.
        let (mut first, mut past, mut from, mut until) = (0, 0, i64::MAX, i64::MIN);
        for at in kept.rows(rows.times.len(), false) {
            let Some(t) = rows.times.get(at).copied().filter(|t| range.contains(*t)) else { continue };
            let metadata = if by_metadata { rows.metadata.get(at).unwrap_or(&empty) } else { &empty };
            let id = match last {
                Some((own, id)) if own == metadata => id,
                _ => {
                    let id = match known.get(metadata.key()) {
                        Some(id) => *id,
                        None => {
                            let row = Row::new(t, "", chunk.labels(), metadata, 0);
                            let id = self.series_of_row(worker, &row, self.context.budget)?;
                            known.insert(metadata.key(), id);
                            id
                        }
                    };
                    last = Some((metadata, id));
                    id
                }
            };
            if t < from || t > until {
                (first, past) = self.windows.of(t);
                (from, until) = (t, self.windows.same_until(first, past));
            }
            if let Some((_, Gathered::Counts { lines, bytes })) = worker.series.get_mut(id) {
                change(lines, first, past, 1);
                if self.counts_bytes {
                    change(bytes, first, past, rows.line_bytes.get(at).map_or(0, |bytes| i64::from(*bytes)));
                }
            }
        }
        Ok(())
    }

    fn add(&self, worker: &mut Worker, id: usize, t: i64, size: i64, value: Option<f64>) -> Result<(), LogqlError> {
        let Some((_, gathered)) = worker.series.get_mut(id) else { return Ok(()) };
        match gathered {
            Gathered::Counts { lines, bytes } => {
                let (first, past) = self.windows.of(t);
                change(lines, first, past, 1);
                if self.counts_bytes {
                    change(bytes, first, past, size);
                }
            }
            Gathered::Samples(samples) => {
                if samples.len() == samples.capacity() {
                    self.context.budget.charge(samples.len().max(16) * size_of::<(i64, f64)>())?;
                }
                samples.push((t, value.unwrap_or(1.0)));
            }
        }
        Ok(())
    }

    /// The number of the row's series, made when it is the first of it.
    fn series_of_row(&self, worker: &mut Worker, row: &Row<'_>, budget: &QueryBudget) -> Result<usize, LogqlError> {
        let mut key = std::mem::take(&mut worker.scratch);
        key.clear();
        let mut add = |name: &str, value: &str| {
            key.push_str(name);
            key.push('\u{0}');
            key.push_str(value);
            key.push('\u{0}');
        };
        if let Keys::By(names) = &self.keys {
            for name in *names {
                if row.unwrapped != Some(name) {
                    add(name, row.get(name).unwrap_or_default());
                }
            }
        } else {
            self.sorted_labels(row, &mut add);
        }
        let found = worker.ids.get(key.as_str()).copied();
        let id = match found {
            Some(id) => id,
            None => {
                let labels = self.labels_of_row(row)?;
                let cells = if self.keeps_samples() {
                    0
                } else {
                    (self.windows.count + 1) * if self.counts_bytes { 16 } else { 8 }
                };
                budget.charge(labels.bytes() + key.len() + cells + 200)?;
                worker.ids.insert(key.as_str().into(), worker.series.len());
                worker.series.push((labels, self.gathered()));
                worker.series.len() - 1
            }
        };
        worker.scratch = key;
        Ok(id)
    }

    fn sorted_labels(&self, row: &Row<'_>, add: &mut dyn FnMut(&str, &str)) {
        let mut pairs: Vec<(String, String)> = Vec::new();
        let without: &[String] = if let Keys::Without(names) = &self.keys { names } else { &[] };
        row.labels(|name, value| {
            if !value.is_empty() && !without.iter().any(|own| own == name) {
                pairs.push((name.to_owned(), value.to_owned()));
            }
        });
        pairs.sort();
        pairs.iter().for_each(|(name, value)| add(name, value));
    }

    fn labels_of_row(&self, row: &Row<'_>) -> Result<Labels, LabelsError> {
        let mut pairs: Vec<(String, String)> = Vec::new();
        match &self.keys {
            Keys::By(names) => {
                for name in *names {
                    let known = pairs.iter().any(|(own, _)| own == name);
                    if let Some(value) = row.get(name).filter(|_| !known && row.unwrapped != Some(name)) {
                        pairs.push((name.clone(), value.to_owned()));
                    }
                }
            }
            Keys::All | Keys::Without(_) => {
                self.sorted_labels(row, &mut |name, value| pairs.push((name.to_owned(), value.to_owned())));
            }
        }
        Labels::from_pairs(pairs)
    }

    fn keeps_samples(&self) -> bool {
        self.unwraps && self.expr.op != RangeOp::AbsentOverTime
    }

    fn gathered(&self) -> Gathered {
        if self.keeps_samples() {
            return Gathered::Samples(Vec::new());
        }
        let bytes = if self.counts_bytes { self.windows.count + 1 } else { 0 };
        Gathered::Counts { lines: vec![0; self.windows.count + 1], bytes: vec![0; bytes] }
    }

    fn finish(&self, worker: Worker, pace: &Pace<'_>) -> Result<Vec<Vector>, LogqlError> {
        let seconds = self.expr.range_ns as f64 / 1e9;
        let mut answer = Vec::with_capacity(worker.series.len());
        for (labels, gathered) in worker.series {
            pace.go(64 + gathered.cells())?;
            let values = match gathered {
                Gathered::Counts { lines, bytes } => self.count_values(&lines, &bytes, seconds),
                Gathered::Samples(mut samples) => {
                    self.context.budget.charge(labels.bytes() + 8 * self.windows.count + 64)?;
                    pace.sort(&mut samples, |a, b| a.0.cmp(&b.0))?;
                    self.sample_values(&samples, seconds, pace)?
                }
            };
            answer.push(Vector { labels, values });
        }
        if self.expr.op == RangeOp::AbsentOverTime {
            return Ok(vec![absent(self.expr, answer.pop(), self.windows.count)]);
        }
        pace.sort(&mut answer, |a, b| a.labels.cmp(&b.labels))?;
        Ok(answer)
    }

    fn count_values(&self, lines: &[i64], bytes: &[i64], seconds: f64) -> Vec<f64> {
        let (mut count, mut size) = (0, 0);
        let value = |k: usize| {
            count += lines.get(k).copied().unwrap_or(0);
            size += bytes.get(k).copied().unwrap_or(0);
            match self.expr.op {
                _ if count == 0 => ABSENT,
                RangeOp::Rate => count as f64 / seconds,
                RangeOp::BytesOverTime => size as f64,
                RangeOp::BytesRate => size as f64 / seconds,
                _ => count as f64,
            }
        };
        (0..self.windows.count).map(value).collect()
    }

    fn sample_values(&self, samples: &[(i64, f64)], seconds: f64, pace: &Pace<'_>) -> Result<Vec<f64>, LogqlError> {
        let over = match self.expr.op {
            RangeOp::Sum => Over::Sum,
            RangeOp::Rate => Over::Rate(seconds),
            RangeOp::RateCounter => Over::RateCounter,
            RangeOp::Avg => Over::Avg,
            RangeOp::Min => Over::Min,
            RangeOp::Max => Over::Max,
            RangeOp::First => Over::First,
            RangeOp::Last => Over::Last,
            RangeOp::Stddev => Over::Stddev,
            RangeOp::Stdvar => Over::Stdvar,
            RangeOp::Quantile => Over::Quantile(self.expr.parameter.unwrap_or(0.5)),
            RangeOp::CountOverTime | RangeOp::BytesOverTime | RangeOp::BytesRate | RangeOp::AbsentOverTime => {
                Over::Count
            }
        };
        let windows = &self.windows;
        let ends = (0..windows.count).map(|k| windows.end(k));
        let each = ends.map(|end| (end.saturating_sub(windows.range), end));
        let mut values = Vec::with_capacity(windows.count);
        let shared = if windows.count == 1 { 1 } else { windows.range / windows.step };
        slide(over, samples, each, shared, pace, |value| values.push(value.unwrap_or(ABSENT)))?;
        Ok(values)
    }
}

fn change(cells: &mut [i64], first: usize, past: usize, amount: i64) {
    if first < past {
        if let Some(cell) = cells.get_mut(first) {
            *cell += amount;
        }
        if let Some(cell) = cells.get_mut(past) {
            *cell -= amount;
        }
    }
}

fn pipeline_error(error: &str, row: &Row<'_>) -> LogqlError {
    let mut pairs: Vec<(String, String)> = Vec::new();
    row.labels(|name, value| {
        pairs.push((name.chars().take(100).collect(), value.chars().take(200).collect()));
    });
    pairs.truncate(50);
    LogqlError::Pipeline { error: error.to_owned(), labels: Labels::from_pairs(pairs).unwrap_or_default() }
}

/// One where `counted` has nothing, with the labels that equality matchers give.
fn absent(expr: &RangeExpr, counted: Option<Vector>, steps: usize) -> Vector {
    use crate::model::matcher::MatchOp;
    let mut times: AHashMap<&str, usize> = AHashMap::new();
    expr.log.matchers.iter().for_each(|matcher| *times.entry(&matcher.name).or_default() += 1);
    let mut pairs: Vec<(&str, &str)> = Vec::new();
    for matcher in &expr.log.matchers {
        if matcher.op == MatchOp::Equal && times.get(matcher.name.as_str()) == Some(&1) {
            pairs.push((&matcher.name, &matcher.value));
        }
    }
    let values = counted.map_or_else(|| vec![ABSENT; steps], |vector| vector.values);
    let values = values.into_iter().map(|value| if super::metric::is_absent(value) { 1.0 } else { ABSENT }).collect();
    Vector { labels: Labels::from_pairs(pairs).unwrap_or_default(), values }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_left_open() {
        let windows = Windows { start: 100, step: 10, count: 4, range: 20 };
        assert_eq!(windows.of(100), (0, 2));
        assert_eq!(windows.of(101), (1, 3));
        assert_eq!(windows.of(80), (0, 0));
        assert_eq!(windows.of(81), (0, 1));
        assert_eq!(windows.of(130), (3, 4));
        assert_eq!(windows.of(131), (4, 4));
        assert_eq!(Windows { range: 0, ..windows }.of(110), (1, 1));
    }

    #[test]
    fn the_same_windows_hold_until_the_next_edge() {
        let windows = Windows { start: 100, step: 10, count: 6, range: 15 };
        for t in 60..200 {
            let (first, past) = windows.of(t);
            let until = windows.same_until(first, past).min(300);
            for later in t..=until {
                assert_eq!(windows.of(later), (first, past), "{t} {later}");
            }
            assert!(until >= t);
        }
    }
}
