//! The stores of all three signals over one data directory, and what keeps them in bounds.
//! Flow: [`Store::open`] migrates, opens the catalog, opens the lanes (which replay their logs) and
//! starts three threads: one syncs the logs several times a second, one flushes what is due, looks at
//! the disk, and removes what retention and the disk budget say, one merges parts.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::Weak;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use parking_lot::Mutex;

use super::account::Account;
use super::catalog;
use super::conditions::{Condition, DISK_FULL};
use super::env::{Env, Progress};
use super::error::StoreError;
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
use crate::base::disk::Disk;
use crate::base::memory::MemoryBudget;
use crate::model::batch::Signal;

/// How often logs are synced; well within the second that is promised.
const SYNC_EVERY: Duration = Duration::from_millis(300);
/// How often the store looks whether parts should be merged.
const MERGE_EVERY: Duration = Duration::from_secs(5);
/// How often the store looks after itself.
const TICK_EVERY: Duration = Duration::from_secs(1);
/// A block that the allocator does not take from its pages of small ones.
const GIVE_BACK_BYTES: usize = 8 << 20;
/// Ticks between two looks at retention and the disk budget.
const TICKS_PER_SWEEP: u64 = 30;
/// Share of the file system that is the disk budget when none is set, in percent.
const DISK_PERCENT: u64 = 80;
/// A signal's log may take this share of the disk budget, or a quarter of the room left, before its
/// head is flushed: as parts the same rows are smaller, and go one by one when the budget is over.
const LOG_SHARE: u64 = 16;
/// But not less than this, in bytes, so that a full disk does not make many tiny parts.
const LOG_BYTES_MIN: u64 = 1 << 20;

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

/// The stores of all three signals.
pub struct Store {
    env: Env,
    /// Samples.
    pub metrics: Arc<MetricsStore>,
    /// Lines.
    pub logs: Arc<LogsStore>,
    /// Spans.
    pub traces: Arc<TracesStore>,
    retention: Mutex<Retention>,
    rules: Mutex<Vec<Rule>>,
    /// Raised with each [`next_number`](Self::next_number).
    numbers: AtomicU64,
    disk_max: Mutex<Option<u64>>,
    ticks: Mutex<u64>,
}

impl Store {
    /// Opens a data directory, replaying its logs; see [`StoreOptions::progress`].
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(options: StoreOptions) -> Result<Arc<Self>, OpenError> {
        migrate::migrate(&options.dir)?;
        let env = Env::open(&options.dir, options.disk, options.clock, options.counters, options.progress)?;
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
        });
        snapshot::remove_unfinished(&*store.env.disk, &store.env.dir)?;
        store.tell_retention();
        store.show();
        if options.background {
            every("wal-sync", SYNC_EVERY, Arc::downgrade(&store), Self::sync);
            every("maintenance", TICK_EVERY, Arc::downgrade(&store), Self::tick);
            every("merge", MERGE_EVERY, Arc::downgrade(&store), Self::merge_slowly);
        }
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

    /// Merges parts with a quarter of a core at the most.
    fn merge_slowly(&self) {
        for lane in self.lanes() {
            match lane.merge(&mut Pace::quarter(&self.env.gate)) {
                Ok(_) | Err(StoreError::NotReady(_) | StoreError::NotOpen { .. }) => {}
                // It goes on when there is room; that there is none is said elsewhere.
                Err(error @ StoreError::DiskFull { .. }) => tracing::debug!(%error, "no merge"),
                Err(error) => self.failed("merge", lane.signal(), &error),
            }
        }
    }

    /// Makes everything acknowledged survive a power cut.
    pub fn sync(&self) {
        for lane in self.lanes() {
            if let Err(error) = lane.sync() {
                self.failed("sync", lane.signal(), &error);
            }
        }
    }

    /// Looks after the store: disk space, due flushes, now and then retention and disk budget.
    pub fn tick(&self) {
        if let Err(error) = self.env.gate.look(&self.env) {
            tracing::error!(%error, "cannot see how much room the disk has");
        }
        let full = self.env.gate.check().err().filter(|error| matches!(error, StoreError::DiskFull { .. }));
        self.env.conditions.put(
            DISK_FULL,
            None,
            full.map(|error| format!("{error}; free some, or lower --disk-limit")),
        );
        let log_bytes_max = self.log_bytes_max();
        for lane in self.lanes() {
            if let Err(error) = lane.flush_if_due(log_bytes_max) {
                self.failed("flush", lane.signal(), &error);
            }
        }
        let sweep = {
            let mut ticks = self.ticks.lock();
            *ticks += 1;
            *ticks % TICKS_PER_SWEEP == 1
        };
        if sweep || self.env.gate.check().is_err() {
            self.sweep();
        }
        self.show();
        give_back();
    }

    fn failed(&self, action: &'static str, signal: Signal, error: &StoreError) {
        tracing::error!(%error, source = ?std::error::Error::source(error), signal = signal.name(), "{action} failed; it is tried again");
        let labels = [("action", action), ("signal", signal.name())];
        self.env.counters.counter("trilith_store_failures_total", "Failed work of the store.", &labels).inc();
    }

    /// Removes parts that are older than their retention, then the oldest while over the budget.
    pub fn sweep(&self) {
        let now = self.env.clock.now_ms();
        let retention = *self.retention.lock();
        for lane in self.lanes() {
            let longest = match lane.signal() {
                Signal::Metrics => self.metrics_longest(),
                Signal::Logs | Signal::Traces => retention.of(lane.signal()),
            };
            let Some(kept) = longest else { continue };
            let cutoff = now.saturating_sub(i64::try_from(kept.as_millis()).unwrap_or(i64::MAX));
            let removed = lane.remove_before(cutoff);
            if removed > 0 {
                tracing::info!(signal = lane.signal().name(), parts = removed, "removed by retention");
            }
        }
        let Some(limit) = self.disk_limit() else { return };
        loop {
            // Measured anew each time: a text index goes with its part.
            let used = self.disk_used();
            if used <= limit {
                return;
            }
            let oldest =
                self.lanes().into_iter().filter_map(|lane| Some((lane.oldest_end_ms()?, lane))).min_by_key(|it| it.0);
            let Some(freed) = oldest.and_then(|(_, lane)| lane.remove_oldest()) else { return };
            tracing::warn!(used, limit, freed, "over the disk budget: removed the oldest part");
        }
    }

    /// Bytes that a signal's log may have before its head is flushed.
    fn log_bytes_max(&self) -> u64 {
        let share = self.disk_limit().map_or(u64::MAX, |limit| limit / LOG_SHARE);
        share.min(self.env.gate.free() / 4).max(LOG_BYTES_MIN)
    }

    /// The disk budget in bytes.
    pub fn disk_limit(&self) -> Option<u64> {
        let set = *self.disk_max.lock();
        set.or_else(|| Some(self.env.disk.space(&self.env.dir).ok()?.total / 100 * DISK_PERCENT))
    }

    /// Bytes of everything in the data directory.
    pub fn disk_used(&self) -> u64 {
        folder_bytes(&self.env.dir, &mut HashSet::new())
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

    /// Writes the lanes' numbers into the counters.
    fn show(&self) {
        let counters = &self.env.counters;
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
        if let Ok(space) = self.env.disk.space(&self.env.dir) {
            counters.gauge("trilith_disk_free_bytes", "Room on the file system.", &[]).set(space.free);
            counters.gauge("trilith_disk_total_bytes", "Size of the file system.", &[]).set(space.total);
        }
        let (active, most) = (self.metrics.active_series() as u64, self.metrics.active_series_max() as u64);
        counters.gauge("trilith_active_series", "Series with samples since the last flush.", &[]).set(active);
        counters.gauge("trilith_active_series_limit", "What --series-limit says.", &[]).set(most);
        let limit = self.disk_limit().unwrap_or(0);
        counters.gauge("trilith_disk_limit_bytes", "Disk budget of all signals.", &[]).set(limit);
    }
}

/// Has the allocator give back what a flush or a dear query has freed. It does so when a large block is
/// freed some time after; on a quiet server nobody else frees one. The block is never touched.
fn give_back() {
    drop(std::hint::black_box(Vec::<u8>::with_capacity(GIVE_BACK_BYTES)));
}

/// Calls `work` every `pause` on a thread that ends with the store.
fn every(name: &str, pause: Duration, store: Weak<Store>, work: fn(&Store)) {
    let spawned = thread::Builder::new().name(name.into()).spawn(move || {
        loop {
            thread::sleep(pause);
            let Some(store) = store.upgrade() else { return };
            work(&store);
        }
    });
    if let Err(error) = spawned {
        tracing::error!(%error, thread = name, "cannot start a thread of the store");
    }
}

/// Bytes of all files; one with several names, as those of snapshots are, counts once, and what is
/// being written not yet: the room for a merge must not cost the oldest part.
fn folder_bytes(path: &Path, seen: &mut HashSet<(u64, u64)>) -> u64 {
    let Ok(entries) = fs::read_dir(path) else { return 0 };
    let sizes = entries.flatten().map(|entry| match entry.metadata() {
        Ok(meta) if meta.is_dir() => folder_bytes(&entry.path(), seen),
        Ok(_) if entry.file_name().to_string_lossy().ends_with(".tmp") => 0,
        Ok(meta) if meta.nlink() > 1 && !seen.insert((meta.dev(), meta.ino())) => 0,
        Ok(meta) => meta.len(),
        Err(_) => 0,
    });
    sizes.sum()
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
            let aside = catalog::move_aside(&path).map_err(|source| StoreError::Io {
                action: "move aside",
                path: path.clone(),
                source,
            })?;
            moved.push((path, aside));
        }
    }
    Ok(moved)
}
