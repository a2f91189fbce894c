//! A lane from its opening to what a query reads: records go to the log, then, in the order of the log, to
//! the head, so that replay makes the same head again: rows of one time are answered alike before and
//! after a restart. While one record goes to the head the next one is being written.
//! Invariants and locks: see the folder's `mod.rs`. `held` and `parts_held` come before `state`, the log's
//! before `applying`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};

use super::kind::{Kind, LaneOptions};
use super::merges::Merges;
use super::open::{Unopened, open_parts, replay_all};
use super::retry::Retry;
use crate::base::counters::Cell;
use crate::base::memory::Hold;
use crate::model::batch::Signal;
use crate::store::env::Env;
use crate::store::error::{StoreError, io_error};
use crate::store::part::PartId;
use crate::store::patience::patiently;
use crate::store::wal::{self, Wal};

pub(super) struct State<K: Kind> {
    pub(super) active: Arc<K::Head>,
    /// Heads being written, oldest first, each with the last segment of its records.
    pub(super) frozen: Vec<(u64, Arc<K::Head>)>,
    pub(super) parts: Arc<Vec<Arc<K::Part>>>,
    /// Parts that count but cannot be opened now.
    pub(super) unopened: Vec<Unopened>,
}

/// What heads and open parts have: every row once.
pub struct View<K: Kind> {
    /// Heads, oldest first; the last one still takes rows.
    pub heads: Vec<Arc<K::Head>>,
    /// Parts, oldest first.
    pub parts: Arc<Vec<Arc<K::Part>>>,
}

/// The store of one signal, but for its codecs.
pub struct Lane<K: Kind> {
    pub(super) kind: K,
    pub(super) env: Env,
    pub(super) options: LaneOptions,
    pub(super) dir: PathBuf,
    pub(super) wal: Wal,
    pub(super) state: RwLock<State<K>>,
    /// Held by the one append that applies its record; taken while the log's lock is held.
    applying: Mutex<()>,
    /// Held by the one flush that runs.
    pub(super) flushing: Mutex<()>,
    /// Held by who takes parts away.
    pub(super) exchanging: Mutex<()>,
    /// Parts larger than this are not made by merging, in bytes.
    pub(super) merged_bytes_max: AtomicU64,
    /// Held by the one merge that runs, with the parts that are not to be merged any more.
    pub(super) merging: Mutex<BTreeSet<PartId>>,
    pub(super) merges: Merges,
    pub(super) head_since_ms: AtomicI64,
    /// Heads hold what an earlier process has logged. It may have had a sync that failed, and the system tells
    /// nobody of it twice: only as parts are these rows durable, whatever later syncs of their segments say.
    pub(super) inherited: AtomicBool,
    /// When a flush that has failed is tried again.
    pub(super) retry: Mutex<Retry>,
    /// Whether the log of rows that could not be written lies in its folder.
    pub(super) aside: AtomicBool,
    /// How many parts the last flush has begun.
    pub(super) slices_tried: AtomicU32,
    /// Files that count no more and could not be removed.
    pub(super) strays: Mutex<BTreeSet<PathBuf>>,
    pub(super) damaged: Cell,
    /// What heads, and what outlives them, are charged for; and what open parts are.
    held: Mutex<Hold>,
    parts_held: Mutex<Hold>,
}

/// The folder of a signal's log.
pub(super) fn wal_dir(dir: &Path, signal: Signal) -> PathBuf {
    dir.join("wal").join(signal.name())
}

/// Says how many bytes of log the lanes of all signals will go through, so that
/// [`Progress`](crate::store::env::Progress) only rises.
///
/// # Errors
/// [`StoreError`] when a folder cannot be read.
pub fn expect_replay(env: &Env) -> Result<(), StoreError> {
    let mut total = 0;
    for signal in Signal::ALL {
        let dir = wal_dir(&env.dir, signal);
        patiently(|| env.disk.create_dir_all(&dir).map_err(io_error("create", &dir)))?;
        total += patiently(|| wal::segments(&*env.disk, &dir))?.iter().map(|segment| segment.bytes).sum::<u64>();
    }
    env.progress.done.store(0, Ordering::Relaxed);
    env.progress.total.store(total, Ordering::Relaxed);
    Ok(())
}

impl<K: Kind> Lane<K> {
    /// Opens parts, replays the log, starts a new segment. What is damaged is named in the log,
    /// counted, and moved aside or skipped.
    ///
    /// # Errors
    /// [`StoreError`] when the folders cannot be read or written.
    pub fn open(env: &Env, kind: K, options: LaneOptions) -> Result<Self, StoreError> {
        let name = K::SIGNAL.name();
        let (dir, wal_dir) = (env.dir.join(name), wal_dir(&env.dir, K::SIGNAL));
        for path in [&dir, &wal_dir] {
            patiently(|| env.disk.create_dir_all(path).map_err(io_error("create", path)))?;
        }
        let labels = [("signal", name)];
        let damaged = env.counters.counter("trilith_damaged_total", "Damaged files and records met.", &labels);
        let segments = patiently(|| wal::segments(&*env.disk, &wal_dir))?;
        let opened = open_parts(env, &kind, &dir, &segments, &damaged)?;
        let covered = opened.covered;
        let aside = patiently(|| wal::segments_aside(&*env.disk, &wal_dir))?;
        let seqs = segments.iter().chain(&aside).map(|segment| segment.seq);
        let newest = seqs.chain(opened.seqs).max().unwrap_or(0);
        let head = kind.new_head();
        let (covered_segments, replayed): (Vec<_>, Vec<_>) =
            segments.into_iter().partition(|segment| covered.is_some_and(|covered| segment.seq <= covered));
        env.progress.done.fetch_add(covered_segments.iter().map(|segment| segment.bytes).sum(), Ordering::Relaxed);
        let synced = replay_all(env, &kind, &head, &wal_dir, &replayed, &damaged)?;
        let sync_failures = wal::sync_failures(&env.counters, K::SIGNAL);
        let wal = Wal::open(env.disk.clone(), &wal_dir, options.wal, newest + 1, sync_failures);
        if let Some(last) = covered_segments.last()
            && let Err(error) = wal.remove_upto(last.seq)
        {
            tracing::warn!(%error, "a log whose rows lie in parts cannot be removed; the next flush removes it");
        }
        let replayed = !kind.head_is_empty(&head);
        if !synced {
            wal.doubt_upto(newest);
        }
        let state = State {
            active: Arc::new(head),
            frozen: Vec::new(),
            parts: Arc::new(opened.parts),
            unopened: opened.unopened,
        };
        let lane = Self {
            kind,
            env: env.clone(),
            options,
            dir,
            wal,
            state: RwLock::new(state),
            applying: Mutex::default(),
            flushing: Mutex::new(()),
            exchanging: Mutex::new(()),
            merged_bytes_max: AtomicU64::new(u64::MAX),
            merging: Mutex::default(),
            merges: Merges::new(env, K::SIGNAL),
            head_since_ms: AtomicI64::new(env.clock.now_ms()),
            inherited: AtomicBool::new(replayed),
            retry: Mutex::default(),
            aside: AtomicBool::new(!aside.is_empty()),
            slices_tried: AtomicU32::new(0),
            strays: Mutex::new(opened.strays),
            damaged,
            held: Mutex::new(env.account.heads(K::SIGNAL).hold_anyway(0)),
            parts_held: Mutex::new(env.account.parts.hold_anyway(0)),
        };
        lane.charge_heads();
        lane.charge_parts();
        lane.reconcile_catalog();
        // What the failed sync has dropped is in memory, and nowhere else when this start does not succeed.
        if !synced && let Err(error) = lane.flush_heads() {
            tracing::error!(%error, "what the disk failed to sync cannot be written to parts now; it is tried again");
        }
        lane.say();
        Ok(lane)
    }

    /// The signal's own part.
    pub fn kind(&self) -> &K {
        &self.kind
    }

    /// What the stores share.
    pub fn env(&self) -> &Env {
        &self.env
    }

    /// Logs the record that `encode` writes and applies it to the head. `encode` runs under the
    /// log's lock with the number of the segment: what it notes as written in that segment is.
    /// When an append fails, the next record is in another segment.
    ///
    /// # Errors
    /// [`StoreError`] of class `Unavailable`.
    pub fn append<R, A>(
        &self,
        encode: impl FnOnce(&K::Head, &mut Vec<u8>, u64) -> R,
        apply: impl FnOnce(&K::Head, R) -> A,
    ) -> Result<A, StoreError> {
        self.env.gate.check()?;
        self.make_room()?;
        // Rows that are there already are not written again, and are acknowledged like all.
        if self.wal.syncs_always() {
            self.settle_inherited()?;
        }
        let (answer, position) = {
            let state = self.state.read();
            let encode = |out: &mut Vec<u8>, segment| encode(&state.active, out, segment);
            let (encoded, _in_order, position) = self.wal.append(encode, || self.applying.lock())?;
            (apply(&state.active, encoded), position)
        };
        self.charge_heads();
        // Where a sync fails, parts are as durable.
        if self.wal.syncs_always() && self.wal.sync_through(position).is_err() {
            self.flush_heads()?;
        }
        Ok(answer)
    }

    /// Appends that outrun the flush wait for it, so heads stay within their bytes.
    fn make_room(&self) -> Result<(), StoreError> {
        let full = |lane: &Self| lane.head_bytes() > 2 * lane.options.head_bytes_max;
        if full(self) {
            if self.retry.lock().is_due() {
                self.flush_heads()?;
            }
            if full(self) {
                return Err(StoreError::MemoryFull);
            }
        }
        Ok(())
    }

    /// Charges what heads, and what outlives them, take now.
    pub(super) fn charge_heads(&self) {
        let mut held = self.held.lock();
        let bytes = {
            let state = self.state.read();
            let heads: Vec<&K::Head> =
                state.frozen.iter().map(|(_, head)| head).chain([&state.active]).map(|head| &**head).collect();
            heads.iter().map(|head| self.kind.head_bytes(head)).sum::<usize>() + self.kind.kept_bytes(&heads)
        };
        held.set_anyway(bytes);
    }

    /// Charges what open parts take, after some have come or gone.
    pub(super) fn charge_parts(&self) {
        let mut held = self.parts_held.lock();
        let parts = self.state.read().parts.clone();
        held.set_anyway(parts.iter().map(|part| K::reader(part).memory() + self.kind.part_bytes(part)).sum());
    }

    /// Heads and open parts. A query asks [`whole_view`](Self::whole_view).
    pub fn view(&self) -> View<K> {
        let state = self.state.read();
        let heads = state.frozen.iter().map(|(_, head)| head).chain([&state.active]).cloned().collect();
        View { heads, parts: state.parts.clone() }
    }
}
