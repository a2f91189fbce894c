//! What keeps the stores in bounds while nobody asks: each kind of work on a thread of its own, so that
//! none waits for another. A long flush of one signal holds up neither the flush of the others nor
//! the look at the disk, retention and the disk budget; those wait for no merge either.
//! Threads: `wal-sync` syncs the logs, `disk` looks how much room there is, `flush-SIGNAL` flushes what is
//! due, `sweep` removes what retention and budget say, `merge` merges parts.
//! [`Store::open`] is here, above what the store is, for it starts them.

use std::sync::{Arc, Weak};
use std::thread;
use std::time::{Duration, Instant};

use super::budget;
use super::conditions::{CATALOG_IN_MEMORY, DISK_FULL, RETENTION_PAUSED};
use super::error::StoreError;
use super::lane::{Maintain, Pace};
use super::stores::{OpenError, Store, StoreOptions};
use super::trusted_clock::{AHEAD_MS_MAX, CONFIRMED_AFTER, is_confirmed};
use crate::model::batch::Signal;

/// How often logs are synced; well within the second that is promised.
const SYNC_EVERY: Duration = Duration::from_millis(300);
/// How often the store looks whether parts should be merged.
const MERGE_EVERY: Duration = Duration::from_secs(5);
/// How often the store looks after itself.
const TICK_EVERY: Duration = Duration::from_secs(1);
/// Ticks between two looks at retention and the disk budget.
const TICKS_PER_SWEEP: u64 = 30;
/// A signal's log may take this share of the disk budget, or a quarter of the room left, before its
/// head is flushed: as parts the same rows are smaller, and go one by one when the budget is over.
const LOG_SHARE: u64 = 16;
/// But not less than this, in bytes, so that a full disk does not make many tiny parts.
const LOG_BYTES_MIN: u64 = 1 << 20;

/// Starts the threads; they end with the store.
fn start(store: &Arc<Store>) {
    let every = |name, pause, work| every(name, pause, Arc::downgrade(store), work);
    every("wal-sync", SYNC_EVERY, Store::sync);
    every("disk", TICK_EVERY, Store::look);
    every("flush-metrics", TICK_EVERY, |store| store.flush_due(store.metrics.lane()));
    every("flush-logs", TICK_EVERY, |store| store.flush_due(store.logs.lane()));
    every("flush-traces", TICK_EVERY, |store| store.flush_due(store.traces.lane()));
    every("sweep", TICK_EVERY, Store::sweep_now_and_then);
    every("merge", MERGE_EVERY, Store::merge_slowly);
}

impl Store {
    /// Opens a data directory, replaying its logs, see [`StoreOptions::progress`], and has the store look
    /// after itself if that is asked for.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(options: StoreOptions) -> Result<Arc<Self>, OpenError> {
        let background = options.background;
        let store = Self::open_quiet(options)?;
        // What was found at the start is said before anything is asked.
        store.say_room();
        if background {
            start(&store);
        }
        Ok(store)
    }

    /// Merges parts with a quarter of a core at the most.
    fn merge_slowly(&self) {
        for lane in self.lanes() {
            match lane.merge(&mut Pace::quarter(&self.env().gate)) {
                Ok(_) | Err(StoreError::NotReady(_) | StoreError::NotOpen { .. }) => {}
                // It goes on when there is room; that there is none is said elsewhere.
                Err(error @ StoreError::DiskFull { .. }) => tracing::debug!(%error, "no merge"),
                Err(error) => self.failed("merge", lane.signal(), &error),
            }
        }
    }

    /// Looks after the store, all at once; what the threads do each by itself.
    pub fn tick(&self) {
        self.look();
        self.lanes().into_iter().for_each(|lane| self.flush_due(lane));
        self.sweep_now_and_then();
    }

    /// Looks how much room the disk has, and what time it is.
    fn look(&self) {
        let env = self.env();
        if let Err(error) = env.gate.look(env) {
            tracing::error!(%error, "cannot see how much room the disk has");
        }
        if !env.gate.is_full() {
            env.catalog.settle(&*env.disk);
        }
        self.say_room();
        self.look_at_clock(CONFIRMED_AFTER);
    }

    /// Says whether there is no room for data or for the catalog, as last seen.
    fn say_room(&self) {
        let env = self.env();
        let full = env.gate.check().err().filter(|error| matches!(error, StoreError::DiskFull { .. }));
        let text = full.map(|error| format!("{error}: free some, or lower --disk-limit or the retention"));
        env.conditions.put(DISK_FULL, None, text);
        let text =
            "the catalog cannot be opened and lives in memory, so the next start takes longer; it is tried again";
        env.conditions.put(CATALOG_IN_MEMORY, None, env.catalog.is_in_memory().then(|| text.to_owned()));
    }

    fn flush_due(&self, lane: &dyn Maintain) {
        if let Err(error) = lane.flush_if_due(self.log_bytes_max()) {
            self.failed("flush", lane.signal(), &error);
        }
    }

    fn sweep_now_and_then(&self) {
        let is_time = {
            let mut ticks = self.ticks.lock();
            *ticks += 1;
            *ticks % TICKS_PER_SWEEP == 1
        };
        if is_time || self.env().gate.is_full() {
            self.sweep();
        }
        self.show();
    }

    /// Whether the machine's clock is believed; data that comes with its time for `confirmed_after`
    /// makes it so.
    pub fn look_at_clock(&self, confirmed_after: Duration) {
        let (env, mut disbelieved) = (self.env(), self.disbelieved.lock());
        let Some(ahead) = env.trusted.ahead_ms() else {
            *disbelieved = None;
            env.conditions.clear(RETENTION_PAUSED, None);
            return;
        };
        let lanes = self.lanes();
        let (since, seqs) = *disbelieved.get_or_insert_with(|| (Instant::now(), lanes.map(Maintain::newest_part_seq)));
        let from = env.trusted.wall_ms().saturating_sub(AHEAD_MS_MAX);
        let rows = lanes.iter().zip(seqs).map(|(lane, seq)| lane.rows_behind(seq, from));
        let (of_its_time, all) = rows.fold((0, 0), |sum, own| (sum.0 + own.0, sum.1 + own.1));
        if is_confirmed(since.elapsed(), confirmed_after, of_its_time, all) {
            tracing::warn!(
                ahead_ms = ahead,
                "the data that comes is of the time that the clock shows; retention goes by it"
            );
            env.trusted.trust();
            *disbelieved = None;
            env.conditions.clear(RETENTION_PAUSED, None);
            return;
        }
        let hours = ahead / 3_600_000;
        let text = format!(
            "the machine's clock is {hours} hours ahead of what is known, so retention does not go by it. If it is wrong, \
             mend it; if it is right (the server was off, or a backup was restored), POST /-/trust-clock, or wait until \
             enough data of the new time is stored"
        );
        env.conditions.set(RETENTION_PAUSED, None, text);
    }

    /// Somebody says that the machine's clock is right.
    pub fn trust_clock(&self) {
        self.env().trusted.trust();
        self.look_at_clock(CONFIRMED_AFTER);
    }

    /// Removes parts that are older than their retention, then the oldest while over the budget.
    pub fn sweep(&self) {
        let env = self.env();
        let now = env.clock.now_ms();
        env.trusted.note(&*env.disk, &env.dir);
        let retention = *self.retention.lock();
        for lane in self.lanes() {
            let longest = match lane.signal() {
                Signal::Metrics => self.metrics_longest(),
                Signal::Logs | Signal::Traces => retention.of(lane.signal()),
            };
            let Some(kept) = longest else { continue };
            let cutoff = now.saturating_sub(i64::try_from(kept.as_millis()).unwrap_or(i64::MAX));
            if let Some(removed) = lane.remove_before(cutoff) {
                budget::tell(self.env(), lane.signal(), budget::RETENTION, &removed);
            }
        }
        let Some(limit) = self.disk_limit() else { return };
        self.lanes().iter().for_each(|lane| lane.set_merged_bytes_max(budget::step(limit)));
        budget::enforce(self.env(), &self.lanes(), limit);
    }

    /// Bytes that a signal's log may have before its head is flushed.
    fn log_bytes_max(&self) -> u64 {
        let share = self.disk_limit().map_or(u64::MAX, |limit| limit / LOG_SHARE);
        share.min(self.env().gate.free() / 4).max(LOG_BYTES_MIN)
    }
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
