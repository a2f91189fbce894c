//! What log queries and metric queries share: a plan of what to fetch and filter, reading a chunk by
//! that plan, and spreading chunks over threads.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use crate::model::log::LogRows;
use crate::query::pace::{Held, Pace};
use crate::store::LineHints;
use crate::store::LogChunk;
use crate::store::LogColumns;

use super::LogqlError;
use super::ast::LogExpr;
use super::filter::LineFilter;
use super::stages::Stage;

/// Most threads that work for one query.
const THREADS_MAX: usize = 4;

/// What a query read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Chunks read.
    pub chunks: u64,
    /// Lines looked at.
    pub lines: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Stats {
    /// Adds another's numbers.
    pub fn add(&mut self, other: Self) {
        self.chunks += other.chunks;
        self.lines += other.lines;
        self.bytes += other.bytes;
    }
}

/// The stages of a query, sorted by what they need.
pub(super) struct Plan<'q> {
    /// Line filters that see the stored line, so that a whole block can be searched at once.
    pub(super) filters: Vec<&'q LineFilter>,
    /// The other stages, in order.
    pub(super) stages: Vec<Arc<dyn Stage>>,
    /// What the filters and stages read.
    pub(super) columns: LogColumns,
    /// Texts that every line of the answer contains.
    pub(super) hints: LineHints,
}

impl<'q> Plan<'q> {
    pub(super) fn new(log: &'q LogExpr) -> Self {
        let mut plan = Plan {
            filters: Vec::new(),
            stages: Vec::new(),
            columns: LogColumns::default(),
            hints: LineHints::default(),
        };
        let mut changed = false;
        for stage in &log.stages {
            let needs = stage.needs();
            plan.columns.lines |= needs.line;
            plan.columns.metadata |= needs.labels || needs.changes_labels;
            match stage.line_filter() {
                Some(filter) if !changed => {
                    plan.hints.contains.extend(filter.hints().iter().cloned());
                    plan.filters.push(filter);
                }
                _ => plan.stages.push(stage.clone()),
            }
            changed |= needs.changes_line;
        }
        plan
    }

    /// Reads a chunk's rows and says which of them the line filters keep. Other columns than lines
    /// are fetched only when a row is kept. The store counts the rows it reads.
    pub(super) fn read<'b>(
        &self,
        chunk: &dyn LogChunk,
        columns: LogColumns,
        pace: &Pace<'b>,
        stats: &mut Stats,
    ) -> Result<(LogRows, Kept, Held<'b>), LogqlError> {
        let budget = pace.budget();
        budget.check()?;
        let held = Held::new(budget);
        let late = columns.metadata && !self.filters.is_empty();
        let mut rows = chunk.read(LogColumns { metadata: columns.metadata && !late, ..columns }, budget)?;
        held.add(bytes(&rows))?;
        stats.chunks += 1;
        stats.lines += rows.times.len() as u64;
        stats.bytes += rows.line_bytes.iter().map(|bytes| u64::from(*bytes)).sum::<u64>();
        let Some((first, others)) = self.filters.split_first() else {
            return Ok((rows, Kept::All, held));
        };
        let mut kept = first.rows(&rows.lines, pace);
        for filter in others {
            kept.retain(|row| filter.keeps_paced(rows.lines.get(*row as usize), pace));
        }
        pace.result()?;
        if late && !kept.is_empty() {
            let second = chunk.read(LogColumns { lines: false, metadata: true }, budget)?;
            held.add(bytes(&second))?;
            if second.times == rows.times {
                rows.metadata = second.metadata;
            } else {
                // The newest chunk grew in between: what was read first is no longer all of it.
                rows = chunk.read(LogColumns { lines: true, metadata: true }, budget)?;
                let keeps = |line: &str| self.filters.iter().all(|filter| filter.keeps_paced(line, pace));
                let all = 0..u32::try_from(rows.times.len()).unwrap_or(u32::MAX);
                kept = all.filter(|row| keeps(rows.lines.get(*row as usize))).collect();
                pace.result()?;
            }
        }
        Ok((rows, Kept::Some(kept), held))
    }
}

/// Memory of rows that were read: a time, a length and an end for each; label sets are mostly shared.
fn bytes(rows: &LogRows) -> usize {
    rows.times.len() * 16 + rows.lines.text().len() + rows.metadata.len() * 32
}

/// Rows that line filters keep.
pub(super) enum Kept {
    All,
    Some(Vec<u32>),
}

impl Kept {
    /// The kept rows of `count`, ascending or descending.
    pub(super) fn rows(&self, count: usize, reverse: bool) -> Box<dyn Iterator<Item = usize> + '_> {
        match (self, reverse) {
            (Self::All, false) => Box::new(0..count),
            (Self::All, true) => Box::new((0..count).rev()),
            (Self::Some(rows), false) => Box::new(rows.iter().map(|row| *row as usize)),
            (Self::Some(rows), true) => Box::new(rows.iter().rev().map(|row| *row as usize)),
        }
    }
}

type Queue = Mutex<std::vec::IntoIter<Box<dyn LogChunk>>>;

/// Works through chunks in order, on several threads when there are many. `work` says whether to go
/// on; each thread has a state of its own, and all states come back.
pub(super) fn each_chunk<T: Send>(
    chunks: Vec<Box<dyn LogChunk>>,
    state: impl Fn() -> T + Sync,
    work: impl Fn(&mut T, Box<dyn LogChunk>) -> Result<bool, LogqlError> + Sync,
) -> Result<Vec<T>, LogqlError> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = cores.min(THREADS_MAX).min(chunks.len() / 2);
    let queue: Queue = Mutex::new(chunks.into_iter());
    let stop = AtomicBool::new(false);
    let run = || -> Result<T, LogqlError> {
        let mut own = state();
        while !stop.load(Ordering::Relaxed) {
            let Some(chunk) = queue.lock().next() else { break };
            match work(&mut own, chunk) {
                Ok(true) => {}
                Ok(false) => stop.store(true, Ordering::Relaxed),
                Err(error) => {
                    stop.store(true, Ordering::Relaxed);
                    return Err(error);
                }
            }
        }
        Ok(own)
    };
    if threads <= 1 {
        return Ok(vec![run()?]);
    }
    std::thread::scope(|scope| {
        // A system that has no thread left for us leaves the work to those that there are.
        let helper = || std::thread::Builder::new().name("query".to_owned()).spawn_scoped(scope, run);
        let workers: Vec<_> = (1..threads).map_while(|_| helper().ok()).collect();
        let mut states = vec![run()];
        for worker in workers {
            match worker.join() {
                Ok(state) => states.push(state),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        states.into_iter().collect()
    })
}
