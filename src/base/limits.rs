//! The budget of each running query: time, memory, rows. Its memory is also charged to the account of
//! the whole process ([`MemoryBudget`]). Whoever allocates in proportion to data from outside charges first.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};

use super::error::{Classify, ErrorClass};
use super::pattern::Pool;

pub use super::memory::{Hold, MemoryBudget, MemoryFull};

/// Rows that a query touches between two looks at the clock, which costs as much as a few of them.
const ROWS_PER_CHECK: u64 = 1024;

/// A query that has run for so long is ended when the process holds more memory than it may.
const DEAR_AFTER: Duration = Duration::from_millis(100);

/// Why a budget said no.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum LimitError {
    /// The query's deadline passed.
    #[error("the query timed out after {after_ms} ms (--query-timeout, or its own timeout); narrow it")]
    Deadline {
        /// The allowed time, in milliseconds.
        after_ms: u64,
    },
    /// The client went away.
    #[error("the query was canceled")]
    Canceled,
    /// The query's share of memory is used up.
    #[error(
        "the query needs more than its {limit} bytes of memory (--query-memory-max); narrow its selectors or its time range"
    )]
    QueryMemory {
        /// The share, in bytes.
        limit: u64,
    },
    /// All running queries together have used up their memory.
    #[error(
        "running queries together need more than their {limit} bytes of memory, a share of --memory-limit; try again, or \
         narrow the query"
    )]
    AllQueriesMemory {
        /// What they share, in bytes.
        limit: u64,
    },
    /// The process has used up its memory.
    #[error("the server has no memory left for the query: {0}")]
    ServerMemory(MemoryFull),
    /// A selector found too many series.
    #[error("a selector finds {found} series, over the limit of {limit} (--query-series-max); narrow it")]
    QuerySeries {
        /// How many it finds.
        found: usize,
        /// The limit.
        limit: u64,
    },
    /// Too many queries wait already.
    #[error("{limit} queries wait for others to end, and no more may (--query-queue-max); try again")]
    QueueFull {
        /// How many may wait.
        limit: usize,
    },
    /// The query touched too many samples, lines or spans.
    #[error(
        "the query touches more than {limit} samples, lines or spans (--query-rows-max); narrow its selectors or its time \
         range"
    )]
    QueryRows {
        /// The limit.
        limit: u64,
    },
}

impl Classify for LimitError {
    fn class(&self) -> ErrorClass {
        match self {
            Self::Deadline { .. } => ErrorClass::Timeout,
            Self::Canceled => ErrorClass::Canceled,
            Self::AllQueriesMemory { .. } | Self::ServerMemory(_) => ErrorClass::Unavailable,
            Self::QueueFull { .. } => ErrorClass::Throttled,
            Self::QueryMemory { .. } | Self::QueryRows { .. } | Self::QuerySeries { .. } => ErrorClass::Execution,
        }
    }
}

/// What one query may use: time, memory, rows. Shared by all threads that work for it; a clone of
/// the `Arc` lets the front cancel it. What it took of the memory that all queries share goes back
/// when it is dropped, at the latest.
#[derive(Debug)]
pub struct QueryBudget {
    started: Instant,
    timeout: Duration,
    memory_max: u64,
    rows_max: u64,
    shared: Option<Arc<MemoryBudget>>,
    memory: AtomicU64,
    memory_peak: AtomicU64,
    rows: AtomicU64,
    canceled: AtomicBool,
    patterns: Mutex<Pool>,
}

impl QueryBudget {
    /// A budget that starts now.
    pub fn new(timeout: Duration, memory_max: u64, rows_max: u64) -> Arc<Self> {
        Self::sharing(timeout, memory_max, rows_max, None)
    }

    /// A budget that starts now; its memory is also taken from `shared`.
    pub fn sharing(timeout: Duration, memory_max: u64, rows_max: u64, shared: Option<Arc<MemoryBudget>>) -> Arc<Self> {
        Arc::new(Self {
            started: Instant::now(),
            timeout,
            memory_max,
            rows_max,
            shared,
            memory: AtomicU64::new(0),
            memory_peak: AtomicU64::new(0),
            rows: AtomicU64::new(0),
            canceled: AtomicBool::new(false),
            patterns: Mutex::default(),
        })
    }

    /// A budget without bounds, for tests and for the server's own work.
    pub fn unlimited() -> Arc<Self> {
        Self::new(Duration::from_secs(86_400), u64::MAX, u64::MAX)
    }

    /// The regular expressions of the query.
    pub(super) fn patterns(&self) -> MutexGuard<'_, Pool> {
        self.patterns.lock()
    }

    /// Asks all workers of the query to stop at their next [`check`](Self::check).
    pub fn cancel(&self) {
        self.canceled.store(true, Ordering::Relaxed);
    }

    /// Fails when the deadline has passed or the query was canceled. Call it about every
    /// ten thousand rows or once per block.
    ///
    /// # Errors
    /// [`LimitError::Deadline`] or [`LimitError::Canceled`]; [`LimitError::ServerMemory`] when it has run for
    /// a while and the process holds more memory than it may.
    pub fn check(&self) -> Result<(), LimitError> {
        self.check_canceled()?;
        let elapsed = self.started.elapsed();
        if elapsed > self.timeout {
            let after_ms = u64::try_from(self.timeout.as_millis()).unwrap_or(u64::MAX);
            return Err(LimitError::Deadline { after_ms });
        }
        match &self.shared {
            Some(shared) if elapsed > DEAR_AFTER && shared.is_overrun() => {
                Err(LimitError::ServerMemory(MemoryFull { share: shared.name(), limit: shared.limit() }))
            }
            _ => Ok(()),
        }
    }

    fn check_canceled(&self) -> Result<(), LimitError> {
        if self.canceled.load(Ordering::Relaxed) { Err(LimitError::Canceled) } else { Ok(()) }
    }

    /// Takes `bytes` of the query's share of memory, before they are allocated.
    ///
    /// # Errors
    /// [`LimitError::QueryMemory`] when the share is used up, [`LimitError::AllQueriesMemory`] when
    /// that of all queries is, [`LimitError::ServerMemory`] when the process has none left; nothing is
    /// taken then.
    pub fn charge(&self, bytes: usize) -> Result<(), LimitError> {
        let bytes = bytes as u64;
        let used = self.memory.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
        if used > self.memory_max {
            self.memory.fetch_sub(bytes, Ordering::Relaxed);
            return Err(LimitError::QueryMemory { limit: self.memory_max });
        }
        if let Some(shared) = &self.shared
            && let Err(full) = shared.take(bytes)
        {
            self.memory.fetch_sub(bytes, Ordering::Relaxed);
            return Err(if full.share == shared.name() {
                LimitError::AllQueriesMemory { limit: full.limit }
            } else {
                LimitError::ServerMemory(full)
            });
        }
        self.memory_peak.fetch_max(used, Ordering::Relaxed);
        Ok(())
    }

    /// Gives back what was charged and is freed.
    pub fn release(&self, bytes: usize) {
        let less = |used: u64| Some(used.saturating_sub(bytes as u64));
        let before = self.memory.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).unwrap_or_default();
        if let Some(shared) = &self.shared {
            shared.release(usize::try_from(before.min(bytes as u64)).unwrap_or(usize::MAX));
        }
    }

    /// Counts `rows` samples, lines or spans that the query touches, and looks at the clock with
    /// the first and with every [`ROWS_PER_CHECK`] of them.
    ///
    /// # Errors
    /// [`LimitError::QueryRows`] over the limit, or what [`check`](Self::check) says.
    pub fn touch(&self, rows: usize) -> Result<(), LimitError> {
        let rows = rows as u64;
        let before = self.rows.fetch_add(rows, Ordering::Relaxed);
        let after = before.saturating_add(rows);
        if after > self.rows_max {
            return Err(LimitError::QueryRows { limit: self.rows_max });
        }
        let looks = before == 0 || before / ROWS_PER_CHECK != after / ROWS_PER_CHECK;
        if looks { self.check() } else { self.check_canceled() }
    }

    /// Rows touched so far.
    pub fn rows(&self) -> u64 {
        self.rows.load(Ordering::Relaxed)
    }

    /// The most memory held at once so far, in bytes.
    pub fn memory_peak(&self) -> u64 {
        self.memory_peak.load(Ordering::Relaxed)
    }

    /// Time since the query started.
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }
}

impl Drop for QueryBudget {
    fn drop(&mut self) {
        if let Some(shared) = &self.shared {
            shared.release(usize::try_from(*self.memory.get_mut()).unwrap_or(usize::MAX));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_charge_over_the_share_takes_nothing() {
        let budget = QueryBudget::new(Duration::from_secs(60), 100, 10);
        budget.charge(60).unwrap();
        assert_eq!(budget.charge(50), Err(LimitError::QueryMemory { limit: 100 }));
        budget.charge(40).unwrap();
        budget.release(100);
        assert_eq!(budget.memory_peak(), 100);
    }

    #[test]
    fn queries_share_memory_and_give_it_back_when_they_end() {
        let shared = MemoryBudget::new(100);
        let query = || QueryBudget::sharing(Duration::from_secs(60), 80, 10, Some(shared.clone()));
        let (one, other) = (query(), query());
        one.charge(60).unwrap();
        assert_eq!(other.charge(50), Err(LimitError::AllQueriesMemory { limit: 100 }));
        assert_eq!(one.charge(30), Err(LimitError::QueryMemory { limit: 80 }));
        one.release(20);
        other.charge(50).unwrap();
        assert_eq!(shared.used(), 90);
        other.release(70);
        assert_eq!(shared.used(), 40, "no more is given back than was taken");
        drop(one);
        drop(other);
        assert_eq!(shared.used(), 0);
    }

    #[test]
    fn a_query_is_refused_when_the_process_has_no_memory_left() {
        let root = MemoryBudget::new(100);
        let (queries, heads) = (root.share("queries", 80), root.share("heads", 100));
        let held = heads.hold(70).unwrap();
        let query = QueryBudget::sharing(Duration::from_secs(60), 80, 10, Some(queries.clone()));
        let error = query.charge(40).unwrap_err();
        assert_eq!(error, LimitError::ServerMemory(MemoryFull { share: "all", limit: 100 }));
        assert_eq!((error.class(), queries.used()), (ErrorClass::Unavailable, 0));
        drop(held);
        query.charge(40).unwrap();
        drop(query);
        assert_eq!(root.used(), 0);
    }

    #[test]
    fn a_canceled_query_ends_at_its_next_check() {
        let budget = QueryBudget::unlimited();
        budget.touch(5).unwrap();
        budget.cancel();
        assert_eq!(budget.touch(5), Err(LimitError::Canceled));
    }
}
