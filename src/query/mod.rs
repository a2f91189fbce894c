//! The one door out: query languages over the `Select*` traits of the store. Synchronous; whoever
//! calls from async code runs it on a blocking thread. `Engine` hands out budgets.

/// The log query language.
pub mod logql;
pub mod pace;
pub mod promql;
pub mod traceql;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::base::limits::{LimitError, MemoryBudget, QueryBudget};

/// Limits of one query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Longest time a query may run; a request can ask for less.
    pub timeout: Duration,
    /// Most memory that one query may hold, in bytes.
    pub memory_max: u64,
    /// Most samples, lines or spans that one query may touch.
    pub rows_max: u64,
    /// Queries that run at the same time; more wait in line.
    pub concurrency: usize,
    /// Queries that may wait; more are refused.
    pub queue_max: usize,
    /// Most points of one series in a range query.
    pub points_max: u64,
    /// Most series that one selector of PromQL may find.
    pub selected_series_max: u64,
    /// Most series in the answer of a LogQL metric query.
    pub series_max: u64,
    /// Most threads that work on one query of PromQL; 0 for as many as there are cores.
    pub threads: usize,
    /// How long a client may take nothing of an answer that flows.
    pub stall_max: Duration,
    /// How long a whole answer may take to be read.
    pub read_max: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(60),
            memory_max: 192 << 20,
            rows_max: 500_000_000,
            concurrency: 8,
            queue_max: 100,
            points_max: 11_000,
            selected_series_max: 3_000_000,
            series_max: 10_000,
            threads: 0,
            stall_max: Duration::from_secs(30),
            read_max: Duration::from_secs(600),
        }
    }
}

/// Hands out budgets and knows the limits.
#[derive(Clone, Debug, Default)]
pub struct Engine {
    /// The limits.
    pub options: Options,
    /// Memory that all running queries share; none for no bound but each query's own.
    pub memory: Option<Arc<MemoryBudget>>,
    /// How many queries wait in line.
    line: Arc<AtomicUsize>,
}

/// A place in the line of queries that wait, until it is dropped.
#[derive(Debug)]
pub struct Waiting(Arc<AtomicUsize>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Engine {
    /// An engine with these limits, whose queries share `memory`.
    pub fn new(options: Options, memory: Option<Arc<MemoryBudget>>) -> Self {
        Self { options, memory, line: Arc::default() }
    }

    /// A place in the line of queries that wait for others to end.
    ///
    /// # Errors
    /// [`LimitError::QueueFull`] when the line is as long as it may be.
    pub fn wait(&self) -> Result<Waiting, LimitError> {
        let limit = self.options.queue_max;
        let place = Waiting(self.line.clone());
        if self.line.fetch_add(1, Ordering::Relaxed) >= limit {
            Err(LimitError::QueueFull { limit })
        } else {
            Ok(place)
        }
    }

    /// How many queries wait.
    pub fn waiting(&self) -> usize {
        self.line.load(Ordering::Relaxed)
    }

    /// A budget for one query that starts now; `timeout` can only shorten the configured one.
    pub fn budget(&self, timeout: Option<Duration>) -> Arc<QueryBudget> {
        let timeout = timeout.map_or(self.options.timeout, |asked| asked.min(self.options.timeout));
        QueryBudget::sharing(timeout, self.options.memory_max, self.options.rows_max, self.memory.clone())
    }

    /// A budget for a copy of data, which may take as long as `whole` and touch any number of rows.
    pub fn copy_budget(&self, whole: Duration) -> Arc<QueryBudget> {
        QueryBudget::sharing(whole, self.options.memory_max, u64::MAX, self.memory.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_has_an_end_and_who_leaves_makes_room() {
        let engine = Engine::new(Options { queue_max: 2, ..Options::default() }, None);
        let (first, _second) = (engine.wait().unwrap(), engine.wait().unwrap());
        assert_eq!(engine.clone().wait().unwrap_err(), LimitError::QueueFull { limit: 2 });
        assert_eq!(engine.waiting(), 2, "who was refused does not wait");
        drop(first);
        assert!(engine.wait().is_ok());
    }
}
