//! The one door out: query languages over the `Select*` traits of the store. Synchronous; whoever
//! calls from async code runs it on a blocking thread. `Engine` hands out budgets.

/// The log query language.
pub mod logql;
pub mod pace;
pub mod promql;
pub mod traceql;

use std::sync::Arc;
use std::time::Duration;

use crate::base::limits::{MemoryBudget, QueryBudget};

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
}

impl Engine {
    /// An engine with these limits, whose queries share `memory`.
    pub fn new(options: Options, memory: Option<Arc<MemoryBudget>>) -> Self {
        Self { options, memory }
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
