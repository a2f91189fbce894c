//! The stores of all three signals over one data directory.
//! Flow: opening migrates, opens the catalog and opens the lanes, which replay their logs. What looks after
//! them all the while, and [`Store::open`], is above, in `upkeep.rs`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::account::Account;
use super::budget::{self, Usage};
use super::catalog;
use super::conditions::Condition;
use super::env::{Env, Progress};
use super::error::{StoreError, io_error};
use super::lane::{LaneOptions, Maintain, Pace, expect_replay};
use super::logs::{self, LogsStore};
use super::metrics::keep::{self, Rule};
use super::metrics::{self, MetricsStore};
use super::migrate::{self, MigrateError};
use super::snapshot;
use super::traces::{self, TracesStore};
use super::wal::WalOptions;
use crate::base::clock::Clock;
use crate::base::counters::Counters;
use crate::base::disk::{Disk, RealDisk};
use crate::base::memory::MemoryBudget;
use crate::model::batch::Signal;

/// Share of the file system that is the disk budget when none is set, in percent.
const DISK_PERCENT: u64 = 80;
/// How long each signal is kept; `None` is forever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Samples.
    pub metrics: Option<Duration>,
    /// Lines.
    pub logs: Option<Duration>,
    /// Spans.
    pub traces: Option<Duration>,
}

impl Default for Retention {
    fn default() -> Self {
        let days = |days: u64| Some(Duration::from_secs(days * 86_400));
        Self { metrics: days(30), logs: days(14), traces: days(7) }
    }
}

impl Retention {
    /// How long a signal is kept.
    pub fn of(&self, signal: Signal) -> Option<Duration> {
        match signal {
            Signal::Metrics => self.metrics,
            Signal::Logs => self.logs,
            Signal::Traces => self.traces,
        }
    }
}

/// What a store is opened with.
pub struct StoreOptions {
    /// The data directory; must exist and belong to this process alone.
    pub dir: PathBuf,
    /// The file system.
    pub disk: Arc<dyn Disk>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// The server's own numbers.
    pub counters: Counters,
    /// How far the start has come; read it from another thread.
    pub progress: Arc<Progress>,
    /// Memory of the whole process; see [`Account`].
    pub memory: Arc<MemoryBudget>,
    /// Most bytes on disk; `None` is 80 % of the file system.
    pub disk_max: Option<u64>,
    /// How long each signal is kept.
    pub retention: Retention,
    /// How long the samples of some series are kept instead; the first that fits counts.
    pub rules: Vec<Rule>,
    /// The write-ahead logs.
    pub wal: WalOptions,
    /// Whether the store looks after itself on threads of its own; tests say no and call
    /// [`Store::tick`] and [`Store::sync`].
    pub background: bool,
    /// Limits of metrics.
    pub metrics: metrics::Options,
    /// Limits of logs.
    pub logs: logs::Options,
    /// Limits of traces.
    pub traces: traces::Options,
}

/// Why a data directory could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Its format is not ours.
    #[error(transparent)]
    Migrate(#[from] MigrateError),
    /// It could not be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl OpenError {
    /// What the store met, unless the format is not ours.
    fn met(&self) -> Option<&StoreError> {
        match self {
            Self::Migrate(MigrateError::Newer { .. } | MigrateError::Unreadable { .. }) => None,
            Self::Migrate(MigrateError::Part { source, .. } | MigrateError::Store(source)) | Self::Store(source) => {
                Some(source)
            }
        }
    }

    /// Whether opening it may succeed later though nobody changes what is on the disk.
    pub fn is_passing(&self) -> bool {
        self.met().is_some_and(StoreError::is_passing)
    }

    /// What an operator can do, where the error does not say so itself.
    pub fn advice(&self) -> Option<&'static str> {
        self.met().map(StoreError::advice)
    }
}

/// The stores of all three signals.
pub struct Store {
    env: Env,
    /// Samples.
    pub metrics: Arc<MetricsStore>,
    /// Lines.
    pub logs: Arc<LogsStore>,
    /// Spans.
    pub traces: Arc<TracesStore>,
    pub(super) retention: Mutex<Retention>,
    pub(super) rules: Mutex<Vec<Rule>>,
    /// Raised with each [`next_number`](Self::next_number).
    numbers: AtomicU64,
    disk_max: Mutex<Option<u64>>,
    pub(super) ticks: Mutex<u64>,
    /// Since when the machine's clock is not believed, and the newest seq of each lane then.
    pub(super) disbelieved: Mutex<Option<(Instant, [u64; 3])>>,
}

impl Store {
    /// Opens a data directory, replaying its logs; nothing looks after it yet.
    ///
    /// # Errors
    /// [`OpenError`].
    pub(super) fn open_quiet(options: StoreOptions) -> Result<Arc<Self>, OpenError> {
        migrate::migrate(&options.disk, &options.dir)?;
        let env = Env::open(&options.dir, options.disk, options.clock, options.counters, options.progress);
        let env = Env { account: Account::new(&options.memory), ..env };
        env.gate.look(&env).map_err(|source| StoreError::Io { action: "look at", path: env.dir.clone(), source })?;
        expect_replay(&env)?;
        let account = &env.account;
        let segment_bytes_max = options.wal.segment_bytes_max.min(account.segment_bytes_max());
        let lane = |own: LaneOptions| LaneOptions {
            wal: WalOptions { segment_bytes_max, ..options.wal },
            head_bytes_max: own.head_bytes_max.min(account.head_bytes_max()),
            ..own
        };
        let metrics = metrics::Options {
            lane: lane(options.metrics.lane),
            cache_bytes_max: options.metrics.cache_bytes_max.min(account.metrics_cache_bytes_max()),
            ..options.metrics
        };
        let logs = logs::Options {
            lane: lane(options.logs.lane),
            cache_bytes_max: options.logs.cache_bytes_max.min(account.logs_cache_bytes_max()),
            ..options.logs
        };
        let traces = traces::Options { lane: lane(options.traces.lane), ..options.traces };
        let store = Arc::new(Self {
            metrics: Arc::new(MetricsStore::open(&env, metrics)?),
            logs: Arc::new(LogsStore::open(&env, logs)?),
            traces: Arc::new(TracesStore::open(&env, traces)?),
            env,
            retention: Mutex::new(options.retention),
            rules: Mutex::new(options.rules),
            numbers: AtomicU64::new(0),
            disk_max: Mutex::new(options.disk_max),
            ticks: Mutex::new(0),
            disbelieved: Mutex::default(),
        });
        if let Some(newest) = store.lanes().iter().filter_map(|lane| lane.newest_ms()).max() {
            store.env.trusted.data_until(newest);
        }
        snapshot::remove_unfinished(&*store.env.disk, &store.env.dir)?;
        store.tell_retention();
        store.show();
        Ok(store)
    }

    /// What the stores share.
    pub(super) fn env(&self) -> &Env {
        &self.env
    }

    /// A number that was not given before in this process.
    pub(super) fn next_number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    pub(super) fn lanes(&self) -> [&dyn Maintain; 3] {
        [self.metrics.lane(), self.logs.lane(), self.traces.lane()]
    }

    /// Makes everything acknowledged survive a power cut.
    pub fn sync(&self) {
        for lane in self.lanes() {
            if let Err(error) = lane.sync() {
                self.failed("sync", lane.signal(), &error);
            }
        }
    }

    /// Says that work failed which is tried again.
    pub(super) fn failed(&self, action: &'static str, signal: Signal, error: &StoreError) {
        tracing::error!(%error, source = ?std::error::Error::source(error), signal = signal.name(), "{action} failed; it is tried again");
        let labels = [("action", action), ("signal", signal.name())];
        self.env().counters.counter("trilith_store_failures_total", "Failed work of the store.", &labels).inc();
    }

    /// Writes the lanes' numbers into the counters.
    pub(super) fn show(&self) {
        let counters = &self.env().counters;
        for lane in self.lanes() {
            let stats = lane.stats();
            let labels = [("signal", lane.signal().name())];
            counters.gauge("trilith_parts", "Immutable parts on disk.", &labels).set(stats.parts);
            counters.gauge("trilith_part_bytes", "Bytes of parts on disk.", &labels).set(stats.part_bytes);
            counters.gauge("trilith_part_rows", "Samples, lines or spans in parts.", &labels).set(stats.part_rows);
            counters.gauge("trilith_head_bytes", "Memory of heads.", &labels).set(stats.head_bytes);
            counters.gauge("trilith_wal_bytes", "Bytes of the write-ahead log on disk.", &labels).set(stats.wal_bytes);
        }
        let help = "Deletions whose samples are still in parts, though nobody sees them.";
        counters.gauge("trilith_tombstones", help, &[]).set(self.metrics.tombstones() as u64);
        if let Ok(space) = self.env().disk.space(&self.env().dir) {
            counters.gauge("trilith_disk_free_bytes", "Room on the file system.", &[]).set(space.free);
            counters.gauge("trilith_disk_total_bytes", "Size of the file system.", &[]).set(space.total);
        }
        let (active, most) = (self.metrics.active_series() as u64, self.metrics.active_series_max() as u64);
        counters.gauge("trilith_active_series", "Series with samples since the last flush.", &[]).set(active);
        counters.gauge("trilith_active_series_limit", "What --series-limit says.", &[]).set(most);
        let limit = self.disk_limit().unwrap_or(0);
        counters.gauge("trilith_disk_limit_bytes", "Disk budget of all signals.", &[]).set(limit);
    }

    /// Writes all heads to parts; returns when they are durable.
    ///
    /// # Errors
    /// The first [`StoreError`]; the other signals are flushed all the same.
    pub fn flush(&self) -> Result<(), StoreError> {
        let results = self.lanes().map(Maintain::flush);
        self.show();
        results.into_iter().collect()
    }

    /// Merges parts, as fast as it goes, until none should be; returns how many merges that took.
    ///
    /// # Errors
    /// The first [`StoreError`].
    pub fn merge(&self) -> Result<usize, StoreError> {
        let mut merges = 0;
        for lane in self.lanes() {
            merges += lane.merge(&mut Pace::full(&self.env.gate))?;
        }
        Ok(merges)
    }

    /// Writes anew what holds rows that are to go; returns how many parts those were.
    ///
    /// # Errors
    /// The first [`StoreError`].
    pub fn rewrite(&self) -> Result<usize, StoreError> {
        let mut rewritten = 0;
        for lane in self.lanes() {
            rewritten += lane.rewrite(&mut Pace::full(&self.env.gate))?;
        }
        Ok(rewritten)
    }

    /// The disk budget in bytes.
    pub fn disk_limit(&self) -> Option<u64> {
        let set = *self.disk_max.lock();
        set.or_else(|| Some(self.env.disk.space(&self.env.dir).ok()?.total / 100 * DISK_PERCENT))
    }

    /// Bytes of everything in the data directory, and of them what snapshots keep.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn disk_used(&self) -> Result<Usage, StoreError> {
        let env = &self.env;
        budget::measure(&*env.disk, &env.dir).map_err(io_error("measure", &env.dir))
    }

    /// Changes how long data is kept, from the next sweep on.
    pub fn set_retention(&self, retention: Retention) {
        *self.retention.lock() = retention;
        self.tell_retention();
    }

    /// Changes how long the samples of some series are kept.
    pub fn set_rules(&self, rules: Vec<Rule>) {
        *self.rules.lock() = rules;
        self.tell_retention();
    }

    /// The longest that any sample is kept; `None` is forever.
    pub fn metrics_longest(&self) -> Option<Duration> {
        self.retention_metrics().longest()
    }

    /// How long the samples of which series are kept.
    pub fn retention_metrics(&self) -> keep::Retention {
        keep::Retention { rules: self.rules.lock().clone(), others: self.retention.lock().metrics }
    }

    fn tell_retention(&self) {
        self.metrics.set_retention(self.retention_metrics());
    }

    /// How long data is kept.
    pub fn retention(&self) -> Retention {
        *self.retention.lock()
    }

    /// The clock that data is kept by: the machine's, unless that has jumped ahead.
    pub fn clock(&self) -> Arc<dyn Clock> {
        self.env.clock.clone()
    }

    /// What is wrong just now, in words that say what to do.
    pub fn conditions(&self) -> Vec<Condition> {
        self.env.conditions.all()
    }

    /// Whether data is taken now.
    ///
    /// # Errors
    /// Why not.
    pub fn check(&self) -> Result<(), StoreError> {
        self.env.gate.check()
    }

    /// Takes nothing any more, writes heads to parts, syncs.
    ///
    /// # Errors
    /// [`StoreError`]: what could not be flushed stays in the log.
    pub fn stop(&self) -> Result<(), StoreError> {
        self.env.gate.stop();
        let flushed = self.flush();
        self.sync();
        self.env.catalog.flush();
        flushed
    }
}

/// Moves aside what is only an index, so that the next [`Store::open`] builds it from parts and
/// logs. Returns what was moved where. The data directory must not be in use.
///
/// # Errors
/// [`StoreError::Io`].
pub fn repair(dir: &Path) -> Result<Vec<(PathBuf, PathBuf)>, StoreError> {
    let mut moved = Vec::new();
    for name in ["catalog", "text"] {
        let path = dir.join(name);
        if path.exists() {
            let aside = catalog::move_aside(&path, &RealDisk).map_err(|source| StoreError::Io {
                action: "move aside",
                path: path.clone(),
                source,
            })?;
            moved.push((path, aside));
        }
    }
    Ok(moved)
}
