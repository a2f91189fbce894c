//! Log queries: the newest or oldest lines that pass, up to a limit.
//! Flow: chunks are read in the order of their nearest end; a heap holds the best lines so far, and
//! reading stops when no chunk left can hold a better one.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use parking_lot::Mutex;

use crate::base::limits::QueryBudget;
use crate::model::labels::Labels;
use crate::model::time::RangeNs;
use crate::query::pace::Pace;
use crate::store::LogChunk;
use crate::store::LogColumns;
use crate::store::SelectLogs;

use super::LogqlError;
use super::ast::LogExpr;
use super::scan::{Plan, Stats, each_chunk};
use super::stages::{ERROR, ERROR_DETAILS, Row, run};

/// Which lines come first, and which are left out when a limit is met.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Direction {
    /// Newest first.
    #[default]
    Backward,
    /// Oldest first.
    Forward,
}

/// What is asked of a log query.
#[derive(Clone, Copy, Debug)]
pub struct LogQuery {
    /// Lines in this range only.
    pub range: RangeNs,
    /// At most so many.
    pub limit: usize,
    /// Newest or oldest.
    pub direction: Direction,
    /// The query's time, for templates, in nanoseconds.
    pub now_ns: i64,
}

/// A line of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Its time, in nanoseconds.
    pub t: i64,
    /// The text, as stages left it.
    pub line: String,
    /// The stream's labels that stages left as they are.
    pub stream: Labels,
    /// The structured metadata that stages left as it is.
    pub metadata: Labels,
    /// What stages added or changed; values may be empty.
    pub parsed: Vec<(String, String)>,
}

impl Line {
    /// Bytes of memory that it takes.
    pub fn bytes(&self) -> usize {
        let parsed: usize = self.parsed.iter().map(|(name, value)| name.capacity() + value.capacity() + 48).sum();
        // What stages left of the stream's labels is a set of its own.
        let stream = if self.parsed.is_empty() { 0 } else { self.stream.bytes() };
        self.line.capacity() + self.metadata.bytes() + stream + parsed + 200
    }
}

/// Lines in the order asked for, and what was read for them.
#[derive(Clone, Debug, Default)]
pub struct LogAnswer {
    /// The lines.
    pub lines: Vec<Line>,
    /// What was read.
    pub stats: Stats,
}

/// A line with its rank: the greatest in the heap is the first to go.
struct Ranked {
    /// Greater is better.
    key: (i64, i64),
    line: Line,
}

impl Ord for Ranked {
    fn cmp(&self, other: &Self) -> Ordering {
        let labels = || self.line.stream.cmp(&other.line.stream);
        other.key.0.cmp(&self.key.0).then_with(labels).then_with(|| other.key.1.cmp(&self.key.1))
    }
}

impl PartialOrd for Ranked {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Ranked {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Ranked {}

/// The key of a time; greater is better. `!` turns the order around without overflow.
fn key(direction: Direction, value: i64) -> i64 {
    match direction {
        Direction::Backward => value,
        Direction::Forward => !value,
    }
}

/// Answers a log query.
///
/// # Errors
/// [`LogqlError`], when the store fails or the budget is used up.
pub fn log_query(
    logs: &dyn SelectLogs,
    expr: &LogExpr,
    query: LogQuery,
    budget: &QueryBudget,
) -> Result<LogAnswer, LogqlError> {
    if query.limit == 0 || query.range.start >= query.range.end {
        return Ok(LogAnswer::default());
    }
    let plan = Plan::new(expr);
    let mut chunks = logs.chunks(&expr.matchers, query.range, &plan.hints, budget)?;
    let nearest = |chunk: &dyn LogChunk| match query.direction {
        Direction::Backward => key(query.direction, chunk.span().1.min(query.range.end.saturating_sub(1))),
        Direction::Forward => key(query.direction, chunk.span().0.max(query.range.start)),
    };
    chunks.sort_by_cached_key(|chunk| std::cmp::Reverse(nearest(chunk.as_ref())));
    let heap: Mutex<BinaryHeap<Ranked>> = Mutex::new(BinaryHeap::new());
    let worst = || {
        let heap = heap.lock();
        if heap.len() < query.limit { None } else { heap.peek().map(|ranked| ranked.key.0) }
    };
    let states = each_chunk(chunks, Stats::default, |stats, chunk| {
        if worst().is_some_and(|worst| nearest(chunk.as_ref()) < worst) {
            return Ok(false);
        }
        let columns = LogColumns { lines: true, metadata: true };
        let pace = Pace::new(budget);
        let (rows, kept, _held) = plan.read(chunk.as_ref(), columns, &pace, stats)?;
        let empty = Labels::default();
        let mut bound = worst();
        for at in kept.rows(rows.times.len(), query.direction == Direction::Backward) {
            let Some(t) = rows.times.get(at).copied() else { continue };
            if bound.is_some_and(|bound| key(query.direction, t) < bound) {
                break;
            }
            pace.result()?;
            let metadata = rows.metadata.get(at).unwrap_or(&empty);
            let mut row = Row::new(t, rows.lines.get(at), chunk.labels(), metadata, query.now_ns).paced(&pace);
            if !query.range.contains(t) || !run(&plan.stages, &mut row) {
                continue;
            }
            pace.result()?;
            let line = finish(row);
            budget.charge(line.bytes())?;
            let place = i64::try_from(at).unwrap_or(i64::MAX);
            let ranked = Ranked { key: (key(query.direction, t), key(query.direction, place)), line };
            let mut heap = heap.lock();
            heap.push(ranked);
            if heap.len() > query.limit
                && let Some(out) = heap.pop()
            {
                budget.release(out.line.bytes());
            }
            bound = if heap.len() < query.limit { None } else { heap.peek().map(|ranked| ranked.key.0) };
        }
        pace.result()?;
        Ok(true)
    })?;
    let mut answer = LogAnswer::default();
    states.into_iter().for_each(|stats| answer.stats.add(stats));
    answer.lines = heap.into_inner().into_sorted_vec().into_iter().map(|ranked| ranked.line).collect();
    Ok(answer)
}

fn finish(row: Row<'_>) -> Line {
    let untouched = row.gone.is_empty() && row.parsed.is_empty();
    let standing = |labels: &Labels| {
        if untouched { labels.clone() } else { labels.filter(|name, _| row.stands(name)) }
    };
    let (stream, metadata) = (standing(row.stream), standing(row.metadata));
    let mut parsed: Vec<(String, String)> =
        row.parsed.into_iter().map(|(name, value)| (name.into_owned(), value.into_owned())).collect();
    parsed.extend(row.error.map(|error| (ERROR.to_owned(), error.into_owned())));
    parsed.extend(row.details.map(|details| (ERROR_DETAILS.to_owned(), details)));
    parsed.sort();
    Line { t: row.t, line: row.line.into_owned(), stream, metadata, parsed }
}
