//! The way of one signal's data to disk, the same for all three: gate, write-ahead log, active
//! head, frozen heads, parts. What differs is behind [`Kind`].
//! Flow: [`Lane::append`] logs and applies; [`Lane::flush`] seals the log, freezes the head, writes
//! it as parts and removes the log; [`Lane::view`] is what a query reads.
//! Invariants: a record is in the log before it is in the head; the records of the sealed segments
//! are exactly those of the frozen heads; a view has every row once, because parts come in and the
//! frozen head goes out under one lock.
//! Locks: `merging`, then `flushing`, then `state`, then the log's.

mod merge;
mod open;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use parking_lot::{Mutex, RwLock};

use self::merge::Merges;
pub use self::merge::Pace;
use self::open::{open_parts, replay_all};

use super::StoreError;
use super::catalog::{Names, PartId};
use super::codec::Malformed;
use super::env::Env;
use super::part::{self, PartInfo, PartReader, PartWriter};
use super::wal::{self, Wal, WalOptions};
use crate::base::counters::Cell;
use crate::model::batch::Signal;

/// What is particular to a signal's store.
pub trait Kind: Send + Sync + Sized + 'static {
    /// Whose.
    const SIGNAL: Signal;
    /// Units of time in a day: milliseconds or nanoseconds.
    const DAY: i64;
    /// Rows in memory; appended to from many threads.
    type Head: Send + Sync;
    /// An open part.
    type Part: Send + Sync;
    /// The rows of a head that go to one part.
    type Slice: Send;

    /// An empty head.
    fn new_head(&self) -> Self::Head;
    /// Applies a record of the log; records come in the order written, segment by segment.
    ///
    /// # Errors
    /// [`Malformed`]: the record is skipped and counted.
    fn replay(&self, head: &Self::Head, record: &[u8], segment: u64) -> Result<(), Malformed>;
    /// Memory the head takes, in bytes; cheap.
    fn head_bytes(&self, head: &Self::Head) -> usize;
    /// Whether the head has nothing that a flush would write.
    fn head_is_empty(&self, head: &Self::Head) -> bool;
    /// Divides a frozen head into parts; see [`partition`].
    fn slices(&self, head: &Self::Head) -> Vec<SliceSpan<Self::Slice>>;
    /// Writes the frames of one part.
    ///
    /// # Errors
    /// [`StoreError`].
    fn write(&self, head: &Self::Head, slice: Self::Slice, out: &mut PartWriter) -> Result<(), StoreError>;
    /// Opens a part: reads what queries need at hand, checks what it reads.
    ///
    /// # Errors
    /// [`StoreError`]: the part is moved aside.
    fn open(&self, part: PartReader) -> Result<Self::Part, StoreError>;
    /// The container of an open part.
    fn reader(part: &Self::Part) -> &PartReader;
    /// Label or attribute names of a part with their values, for the catalog.
    ///
    /// # Errors
    /// [`StoreError`].
    fn names(&self, part: &Self::Part) -> Result<Names, StoreError>;
    /// Whether parts of this kind can be merged.
    const MERGES: bool = false;
    /// Bytes of memory that a merge takes for reading a part, by estimate.
    fn merge_bytes(&self, _part: &Self::Part) -> u64 {
        0
    }
    /// Writes what `parts`, oldest first, hold as one part, without what was deleted; says whether
    /// there is anything left to keep.
    ///
    /// # Errors
    /// [`StoreError`].
    fn merge(&self, _parts: &[Arc<Self::Part>], _out: &mut PartWriter, _pace: &mut Pace) -> Result<bool, StoreError> {
        Err(StoreError::NotReady("not able to merge parts of this kind"))
    }
    /// Whether a part should be written anew by itself, for it holds rows that are to go.
    ///
    /// # Errors
    /// [`StoreError`].
    fn wants_rewrite(&self, _part: &Self::Part) -> Result<bool, StoreError> {
        Ok(false)
    }
    /// No part wants to be merged or written anew any more.
    ///
    /// # Errors
    /// [`StoreError`].
    fn merged_all(&self, _parts: &[Arc<Self::Part>]) -> Result<(), StoreError> {
        Ok(())
    }
    /// Noted in merged parts when their merge begins.
    fn merge_mark(&self) -> u64 {
        0
    }
    /// A part has come: a good time to build its text index. Failures are the kind's to handle.
    fn added(&self, _part: &Self::Part) {}
    /// A part is gone: drop what was kept beside it.
    fn removed(&self, _part: &Self::Part) {}
}

/// What a slice spans.
pub struct SliceSpan<S> {
    /// Earliest time, inclusive.
    pub min_t: i64,
    /// Latest time, inclusive.
    pub max_t: i64,
    /// Samples, lines or spans.
    pub rows: u64,
    /// The slice.
    pub slice: S,
}

/// How a lane behaves.
#[derive(Clone, Copy, Debug)]
pub struct LaneOptions {
    /// The log.
    pub wal: WalOptions,
    /// A head of this many bytes is flushed by the next tick; twice that much makes appends wait.
    pub head_bytes_max: usize,
    /// A head of this age is flushed, in milliseconds.
    pub head_age_ms_max: i64,
    /// Parts that together span more than a day are merged if reading them takes no more memory.
    pub merge_bytes_max: u64,
}

impl Default for LaneOptions {
    fn default() -> Self {
        Self {
            wal: WalOptions::default(),
            head_bytes_max: 256 << 20,
            head_age_ms_max: 2 * 3600 * 1000,
            merge_bytes_max: 64 << 20,
        }
    }
}

struct State<K: Kind> {
    active: Arc<K::Head>,
    /// Heads being written, oldest first, each with the last segment of its records.
    frozen: Vec<(u64, Arc<K::Head>)>,
    parts: Arc<Vec<Arc<K::Part>>>,
}

/// What a query reads: every row once.
pub struct View<K: Kind> {
    /// Heads, oldest first; the last one still takes rows.
    pub heads: Vec<Arc<K::Head>>,
    /// Parts, oldest first.
    pub parts: Arc<Vec<Arc<K::Part>>>,
}

/// The store of one signal, but for its codecs.
pub struct Lane<K: Kind> {
    kind: K,
    env: Env,
    options: LaneOptions,
    dir: PathBuf,
    wal: Wal,
    state: RwLock<State<K>>,
    flushing: Mutex<()>,
    /// Held by the one merge that runs, with the parts that are not to be merged any more.
    merging: Mutex<BTreeSet<PartId>>,
    merges: Merges,
    head_since_ms: AtomicI64,
    damaged: Cell,
}

/// Groups times so that rows of one part lie close together: by day within about a year of
/// `now`, else by 400 days, so that hostile times cannot make many parts.
pub fn partition(t: i64, now: i64, day: i64) -> i64 {
    let days = t.div_euclid(day);
    if (days - now.div_euclid(day)).abs() <= 400 { days } else { days.div_euclid(400) * 400 }
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> StoreError {
    let path = path.to_owned();
    move |source| StoreError::Io { action, path, source }
}

fn wal_dir(dir: &Path, signal: Signal) -> PathBuf {
    dir.join("wal").join(signal.name())
}

/// Says how many bytes of log the lanes of all signals will go through, so that
/// [`Progress`](super::env::Progress) only rises.
///
/// # Errors
/// [`StoreError`] when a folder cannot be read.
pub fn expect_replay(env: &Env) -> Result<(), StoreError> {
    let mut total = 0;
    for signal in Signal::ALL {
        let dir = wal_dir(&env.dir, signal);
        env.disk.create_dir_all(&dir).map_err(io_error("create", &dir))?;
        total += wal::segments(&*env.disk, &dir)?.iter().map(|segment| segment.bytes).sum::<u64>();
    }
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
            env.disk.create_dir_all(path).map_err(io_error("create", path))?;
        }
        let labels = [("signal", name)];
        let damaged = env.counters.counter("trilith_damaged_total", "Damaged files and records met.", &labels);
        let segments = wal::segments(&*env.disk, &wal_dir)?;
        let opened = open_parts(env, &kind, &dir, &segments, &damaged)?;
        let covered = opened.covered;
        let newest = segments.iter().map(|segment| segment.seq).chain(opened.seqs).max().unwrap_or(0);
        let head = kind.new_head();
        let (covered_segments, replayed): (Vec<_>, Vec<_>) =
            segments.into_iter().partition(|segment| covered.is_some_and(|covered| segment.seq <= covered));
        env.progress.done.fetch_add(covered_segments.iter().map(|segment| segment.bytes).sum(), Ordering::Relaxed);
        replay_all(env, &kind, &head, &wal_dir, &replayed, &damaged)?;
        let wal = Wal::open(env.disk.clone(), &wal_dir, options.wal, newest + 1)?;
        if let Some(last) = covered_segments.last() {
            wal.remove_upto(last.seq)?;
        }
        let state = State { active: Arc::new(head), frozen: Vec::new(), parts: Arc::new(opened.parts) };
        let lane = Self {
            kind,
            env: env.clone(),
            options,
            dir,
            wal,
            state: RwLock::new(state),
            flushing: Mutex::new(()),
            merging: Mutex::default(),
            merges: Merges::new(env, K::SIGNAL),
            head_since_ms: AtomicI64::new(env.clock.now_ms()),
            damaged,
        };
        lane.reconcile_catalog();
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
        let (answer, position) = {
            let state = self.state.read();
            let (encoded, position) = self.wal.append(|out, segment| encode(&state.active, out, segment))?;
            (apply(&state.active, encoded), position)
        };
        if self.wal.syncs_always() {
            self.wal.sync_through(position)?;
        }
        Ok(answer)
    }

    /// Appends that outrun the flush wait for it, so heads stay within their bytes.
    fn make_room(&self) -> Result<(), StoreError> {
        let full = |lane: &Self| lane.head_bytes() > 2 * lane.options.head_bytes_max;
        if full(self) {
            self.flush()?;
            if full(self) {
                return Err(StoreError::MemoryFull);
            }
        }
        Ok(())
    }

    /// What a query reads.
    pub fn view(&self) -> View<K> {
        let state = self.state.read();
        let heads = state.frozen.iter().map(|(_, head)| head).chain([&state.active]).cloned().collect();
        View { heads, parts: state.parts.clone() }
    }

    fn head_bytes(&self) -> usize {
        let state = self.state.read();
        state.frozen.iter().map(|(_, head)| head).chain([&state.active]).map(|head| self.kind.head_bytes(head)).sum()
    }

    /// Moves the active head behind the frozen ones.
    fn freeze(&self) -> Result<(), StoreError> {
        self.wal.sync()?;
        let mut state = self.state.write();
        if !self.kind.head_is_empty(&state.active) {
            let sealed = self.wal.rotate()?;
            let head = std::mem::replace(&mut state.active, Arc::new(self.kind.new_head()));
            state.frozen.push((sealed, head));
        }
        self.head_since_ms.store(self.env.clock.now_ms(), Ordering::Relaxed);
        Ok(())
    }

    /// Writes the frozen heads, oldest first, as parts; what a failed try has begun is removed, so
    /// that it does not take the room that the next try needs.
    fn write_frozen(&self) -> Result<(), StoreError> {
        loop {
            let Some((seq, head)) = self.state.read().frozen.first().cloned() else { return Ok(()) };
            let written = self.write_head(seq, &head).inspect_err(|_| self.remove_unfinished(seq))?;
            {
                let mut state = self.state.write();
                let mut parts = state.parts.to_vec();
                parts.extend(written);
                state.parts = Arc::new(parts);
                state.frozen.remove(0);
            }
            self.env.catalog.flush();
            self.wal.remove_upto(seq)?;
        }
    }

    /// What a merge is writing has a lower seq and stays.
    fn remove_unfinished(&self, seq: u64) {
        for entry in self.env.disk.list(&self.dir).unwrap_or_default() {
            let path = self.dir.join(&entry.name);
            let id = entry.name.strip_suffix(".tmp").and_then(PartInfo::parse_file_name);
            if id.is_some_and(|id| id.0 == seq)
                && let Err(error) = self.env.disk.remove(&path)
            {
                tracing::warn!(%error, ?path, "cannot remove an unfinished part");
            }
        }
    }

    fn log_bytes(&self) -> u64 {
        let wal_dir = wal_dir(&self.env.dir, K::SIGNAL);
        let segments = wal::segments(&*self.env.disk, &wal_dir).unwrap_or_default();
        segments.iter().map(|segment| segment.bytes).sum()
    }

    fn write_head(&self, seq: u64, head: &K::Head) -> Result<Vec<Arc<K::Part>>, StoreError> {
        let slices = self.kind.slices(head);
        let group = u32::try_from(slices.len()).unwrap_or(u32::MAX);
        let mut pending = Vec::new();
        for (index, span) in slices.into_iter().enumerate() {
            let info = PartInfo {
                signal: K::SIGNAL,
                seq,
                index: index as u32,
                group,
                min_t: span.min_t,
                max_t: span.max_t,
                rows: span.rows,
                created_ms: self.env.clock.now_ms(),
            };
            let mut writer = PartWriter::create(&self.env.disk, &self.dir, info)?;
            self.kind.write(head, span.slice, &mut writer)?;
            pending.push(writer.finish()?);
        }
        let mut parts = Vec::new();
        for path in part::commit(&*self.env.disk, &self.dir, &pending)? {
            let part = self.kind.open(PartReader::open(&*self.env.disk, &path)?)?;
            self.register(&part);
            parts.push(Arc::new(part));
        }
        Ok(parts)
    }

    fn register(&self, part: &K::Part) {
        let reader = K::reader(part);
        match self.kind.names(part) {
            Ok(names) => self.env.catalog.register(reader.info(), reader.bytes(), &names),
            Err(error) => tracing::error!(%error, path = ?reader.path(), "cannot list the names in a part"),
        }
        self.kind.added(part);
    }

    fn reconcile_catalog(&self) {
        let mut known = self.env.catalog.parts(K::SIGNAL);
        for part in self.view().parts.iter() {
            let reader = K::reader(part);
            let id = (reader.info().seq, reader.info().index);
            if known.remove(&id) != Some(reader.bytes()) || self.env.catalog_is_new {
                self.register(part);
            }
        }
        known.keys().for_each(|id| self.env.catalog.forget(K::SIGNAL, *id));
    }

    fn remove_part(&self, part: &K::Part) {
        let reader = K::reader(part);
        self.env.catalog.forget(K::SIGNAL, (reader.info().seq, reader.info().index));
        self.kind.removed(part);
        if let Err(error) = self.env.disk.remove(reader.path()) {
            tracing::error!(%error, path = ?reader.path(), "cannot remove a part");
            self.damaged.inc();
        }
    }
}

/// What the store does with every lane, whatever its signal.
pub trait Maintain: Send + Sync {
    /// Whose lane it is.
    fn signal(&self) -> Signal;
    /// Writes heads to parts and returns when those are durable and the log is gone.
    ///
    /// # Errors
    /// [`StoreError`]: heads and log are kept, the next flush tries again.
    fn flush(&self) -> Result<(), StoreError>;
    /// Flushes when a head is large or old, or its log on disk is larger than `log_bytes_max`.
    ///
    /// # Errors
    /// As [`flush`](Self::flush).
    fn flush_if_due(&self, log_bytes_max: u64) -> Result<(), StoreError>;
    /// Makes everything acknowledged survive a power cut.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    fn sync(&self) -> Result<(), StoreError>;
    /// Removes parts that end before `cutoff_ms`; returns how many.
    fn remove_before(&self, cutoff_ms: i64) -> usize;
    /// Removes the part that ends first; returns the bytes it had.
    fn remove_oldest(&self) -> Option<u64>;
    /// When the oldest part ends, in milliseconds.
    fn oldest_end_ms(&self) -> Option<i64>;
    /// Merges parts until none should be, at the given pace; returns how many merges that took.
    ///
    /// # Errors
    /// [`StoreError`]: the parts are as they were.
    fn merge(&self, pace: &mut Pace) -> Result<usize, StoreError>;
    /// Writes anew the parts that hold rows that are to go; returns how many there were.
    ///
    /// # Errors
    /// [`StoreError`]: what was not written anew is as it was.
    fn rewrite(&self, pace: &mut Pace) -> Result<usize, StoreError>;
    /// Links every part into a folder, which must be there.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    fn link_parts(&self, folder: &Path) -> Result<(), StoreError>;
    /// Numbers for people.
    fn stats(&self) -> LaneStats;
}

/// A lane in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LaneStats {
    /// Parts.
    pub parts: u64,
    /// Bytes of all parts.
    pub part_bytes: u64,
    /// Rows in parts.
    pub part_rows: u64,
    /// Bytes of memory of all heads.
    pub head_bytes: u64,
    /// Bytes of log on disk.
    pub wal_bytes: u64,
    /// Earliest time in a part, in milliseconds.
    pub oldest_ms: Option<i64>,
}

fn to_ms<K: Kind>(t: i64) -> i64 {
    t.div_euclid(K::DAY / 86_400_000)
}

impl<K: Kind> Maintain for Lane<K> {
    fn signal(&self) -> Signal {
        K::SIGNAL
    }

    fn flush(&self) -> Result<(), StoreError> {
        let _one_at_a_time = self.flushing.lock();
        // What an earlier flush could not write comes first, so failing flushes freeze no more heads.
        self.write_frozen()?;
        self.freeze()?;
        self.write_frozen()
    }

    fn flush_if_due(&self, log_bytes_max: u64) -> Result<(), StoreError> {
        let now = self.env.clock.now_ms();
        // A clock that was ahead when the head began, and is right now, must not keep it for long.
        let age = now - self.head_since_ms.fetch_min(now, Ordering::Relaxed);
        let waiting = !self.state.read().frozen.is_empty();
        let large = || self.head_bytes() >= self.options.head_bytes_max || self.log_bytes() > log_bytes_max;
        if waiting || age >= self.options.head_age_ms_max || large() {
            self.flush()?;
        }
        Ok(())
    }

    fn sync(&self) -> Result<(), StoreError> {
        self.wal.sync()
    }

    fn remove_before(&self, cutoff_ms: i64) -> usize {
        let _one_at_a_time = self.flushing.lock();
        let gone: Vec<_> = {
            let mut state = self.state.write();
            let ends_before = |part: &Arc<K::Part>| to_ms::<K>(K::reader(part).info().max_t) < cutoff_ms;
            let (gone, kept) = state.parts.iter().cloned().partition(ends_before);
            state.parts = Arc::new(kept);
            gone
        };
        gone.iter().for_each(|part| self.remove_part(part));
        gone.len()
    }

    fn remove_oldest(&self) -> Option<u64> {
        let _one_at_a_time = self.flushing.lock();
        let oldest = {
            let mut state = self.state.write();
            let oldest = state.parts.iter().min_by_key(|part| K::reader(part).info().max_t).cloned()?;
            let kept = state.parts.iter().filter(|part| !Arc::ptr_eq(part, &oldest)).cloned().collect();
            state.parts = Arc::new(kept);
            oldest
        };
        self.remove_part(&oldest);
        Some(K::reader(&oldest).bytes())
    }

    fn merge(&self, pace: &mut Pace) -> Result<usize, StoreError> {
        self.merge_due(pace, false)
    }

    fn rewrite(&self, pace: &mut Pace) -> Result<usize, StoreError> {
        self.merge_due(pace, true)
    }

    fn link_parts(&self, folder: &Path) -> Result<(), StoreError> {
        // Nothing removes a part meanwhile.
        let _one_at_a_time = self.flushing.lock();
        for part in self.view().parts.iter() {
            let reader = K::reader(part);
            let to = folder.join(reader.info().file_name());
            self.env.disk.link(reader.path(), &to).map_err(io_error("link", reader.path()))?;
        }
        self.env.disk.sync_dir(folder).map_err(io_error("sync", folder))
    }

    fn oldest_end_ms(&self) -> Option<i64> {
        self.view().parts.iter().map(|part| to_ms::<K>(K::reader(part).info().max_t)).min()
    }

    fn stats(&self) -> LaneStats {
        let mut stats = LaneStats { head_bytes: self.head_bytes() as u64, ..LaneStats::default() };
        for part in self.view().parts.iter() {
            let reader = K::reader(part);
            stats.parts += 1;
            stats.part_bytes += reader.bytes();
            stats.part_rows += reader.info().rows;
            let start = to_ms::<K>(reader.info().min_t);
            stats.oldest_ms = Some(stats.oldest_ms.map_or(start, |oldest| oldest.min(start)));
        }
        stats.wal_bytes = self.log_bytes();
        stats
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_times_fall_into_few_partitions() {
        let day = 86_400_000;
        let now = 20_000 * day;
        assert_eq!(partition(now, now, day), 20_000);
        assert_eq!(partition(-1, 0, day), -1);
        let far = (0..10_000).map(|years| partition(-years * 365 * day, now, day));
        assert!(far.collect::<std::collections::BTreeSet<_>>().len() < 9_200);
        assert_eq!(partition(100 * day, now, day), partition(300 * day, now, day));
    }
}
