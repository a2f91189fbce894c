//! Merging: several parts of a day become one, and rows that are to go are left out on the way.
//! Flow: [`Lane::merge_due`] picks parts that lie side by side in age, writes what they hold as one
//! part under a temporary name, and exchanges it for them.
//! Invariants: the merged part names the parts that it counts for, and is durable before they go: a
//! crash at any moment leaves each row in exactly one part that counts. Queries keep the parts of
//! their view. Of the parts with a time in common the later ones still come later.
//! Locks: `merging` while it runs; `exchanging` for the exchange alone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::append::{Lane, wal_dir};
use super::kind::{Kind, partition};
use super::pace::{Pace, cpu_time};
use crate::store::error::{StoreError, io_error};
use crate::store::part::{self, Merged, PartId, PartInfo, PartReader, PartWriter, PendingPart};
use crate::store::wal;

/// So many parts of a day that is not over are merged, and so many of one that is, or of the time of
/// one head: a head that is flushed early, for it is large, leaves each series in several parts.
const PARTS_MIN: usize = 4;
const PARTS_MIN_CLOSED: usize = 2;
/// Most parts of one merge.
const PARTS_MAX: usize = 64;
/// From so many on the largest part is merged again however small the others are.
const PARTS_MANY: usize = 12;
/// Otherwise the others have at least this share of the largest, so that a row is written a few times at most.
const LARGEST_SHARE: u64 = 3;
/// Most bytes of the parts of one merge.
const BYTES_MAX: u64 = 16 << 30;
impl<K: Kind> Lane<K> {
    /// Merges until nothing is due, or only writes anew what has to be; see
    /// [`Maintain::merge`](super::Maintain::merge).
    pub(super) fn merge_due(&self, pace: &mut Pace, rewrites_only: bool) -> Result<usize, StoreError> {
        let mut merges = 0;
        if !K::MERGES {
            return Ok(merges);
        }
        let mut left_out = self.merging.lock();
        self.check_open()?;
        self.remove_strays()?;
        while let Some(parts) = self.plan(&left_out, rewrites_only)? {
            let begun = cpu_time();
            let ids: Vec<PartId> = parts.iter().map(|part| K::reader(part).info().id()).collect();
            self.merges.running.set(1);
            let merged = self.merge_parts(&parts, pace);
            self.merges.running.set(0);
            match merged {
                Ok(()) => merges += 1,
                // They stay as they are; whoever repairs them has all that is left.
                Err(StoreError::Damaged { path, what }) => {
                    tracing::error!(?path, what, "parts are not merged, for one of them is damaged");
                    left_out.extend(ids);
                }
                Err(error) => return Err(error),
            }
            let spent = cpu_time().saturating_sub(begun).as_nanos();
            self.merges.cpu.add(u64::try_from(spent).unwrap_or_default());
        }
        // What is left of a part that is gone needs its deletions until it is gone, too.
        self.remove_strays()?;
        // In this order: a deletion that comes now speaks of parts that may not be in the view.
        let mark = self.kind.merge_mark();
        self.kind.merged_all(&self.view().parts, mark)?;
        Ok(merges)
    }

    /// The parts to merge next: one that should be written anew, or several of a day.
    fn plan(&self, left_out: &BTreeSet<PartId>, rewrites_only: bool) -> Result<Option<Vec<Arc<K::Part>>>, StoreError> {
        let logs = wal::segments(&*self.env.disk, &wal_dir(&self.env.dir, K::SIGNAL))?;
        let logged = logs.iter().map(|segment| segment.seq).min().unwrap_or(u64::MAX);
        let now = self.env.clock.now_ms().saturating_mul(K::DAY / 86_400_000);
        let view = self.view();
        let free = |part: &Arc<K::Part>| {
            let info = K::reader(part).info();
            info.seq < logged && !left_out.contains(&info.id())
        };
        for part in view.parts.iter().filter(|part| free(part)) {
            if self.kind.wants_rewrite(part)? {
                return Ok(Some(vec![part.clone()]));
            }
        }
        if rewrites_only {
            return Ok(None);
        }
        // Runs of parts of one day, in age; what may not be merged ends a run.
        let mut days: BTreeMap<i64, Vec<Vec<Arc<K::Part>>>> = BTreeMap::new();
        for part in view.parts.iter() {
            let runs = days.entry(partition(K::reader(part).info().min_t, now, K::DAY)).or_default();
            match runs.last_mut() {
                Some(run) if free(part) => run.push(part.clone()),
                None if free(part) => runs.push(vec![part.clone()]),
                _ => runs.push(Vec::new()),
            }
        }
        let today = partition(now, now, K::DAY);
        for (day, runs) in days.iter().rev() {
            let least = if *day < today && now > (day + 1).saturating_mul(K::DAY) + K::DAY / 8 {
                PARTS_MIN_CLOSED
            } else {
                PARTS_MIN
            };
            for run in runs {
                if let Some(own) = self.best(run, least, &view.parts) {
                    return Ok(Some(own.to_vec()));
                }
            }
        }
        Ok(None)
    }

    /// The longest piece of a run that is worth merging; of several the smallest.
    fn best<'r>(&self, run: &'r [Arc<K::Part>], least: usize, all: &[Arc<K::Part>]) -> Option<&'r [Arc<K::Part>]> {
        let mut best: Option<(&[Arc<K::Part>], u64)> = None;
        // A third is left for what the merged part takes while it is written.
        let room = self.env.account.merges.room() / 3 * 2;
        let bytes_max = BYTES_MAX.min(self.merged_bytes_max.load(Ordering::Relaxed));
        let head_time = self.options.head_age_ms_max.saturating_mul(K::DAY / 86_400_000);
        for from in 0..run.len().min(4 * PARTS_MAX) {
            let (mut total, mut largest, mut memory) = (0u64, 0u64, 0u64);
            let (mut first, mut last) = (i64::MAX, i64::MIN);
            for (at, part) in run.iter().enumerate().skip(from).take(PARTS_MAX) {
                let (bytes, info) = (K::reader(part).bytes(), K::reader(part).info());
                (total, largest) = (total.saturating_add(bytes), largest.max(bytes));
                (first, last) = (first.min(info.min_t), last.max(info.max_t));
                memory = memory.saturating_add(self.kind.merge_bytes(part));
                let fits = last.saturating_sub(first) <= K::DAY || memory <= self.options.merge_bytes_max;
                let of_one_head = last.saturating_sub(first) <= head_time;
                let least = if of_one_head { PARTS_MIN_CLOSED } else { least };
                let length = at + 1 - from;
                let worth = (total - largest).saturating_mul(LARGEST_SHARE) >= largest || length >= PARTS_MANY;
                let better = best.is_none_or(|(own, bytes)| length > own.len() || length == own.len() && total < bytes);
                let piece = run.get(from..=at).unwrap_or_default();
                if length >= least
                    && total <= bytes_max
                    && fits
                    && memory <= room
                    && worth
                    && better
                    && in_order::<K>(piece, all)
                {
                    best = Some((piece, total));
                }
            }
        }
        best.map(|(own, _)| own)
    }

    /// Writes one part of `parts` and exchanges it for them.
    fn merge_parts(&self, parts: &[Arc<K::Part>], pace: &mut Pace) -> Result<(), StoreError> {
        let bytes: u64 = parts.iter().map(|part| K::reader(part).bytes()).sum();
        let merged = self.replace(parts, i64::MIN, |writer| self.kind.merge(parts, writer, pace))?;
        let written = merged.map_or(0, |part| K::reader(&part).bytes());
        self.merges.done.inc();
        self.merges.parts.add(parts.len() as u64);
        self.merges.bytes_read.add(bytes);
        self.merges.bytes_written.add(written);
        tracing::debug!(signal = K::SIGNAL.name(), parts = parts.len(), bytes, written, "merged parts");
        Ok(())
    }

    /// Writes a part anew with what it holds from `from` on; returns the new one, if anything is left.
    ///
    /// # Errors
    /// [`StoreError`]: the part is as it was. [`StoreError::NotReady`] while a merge is under way.
    pub(super) fn write_without(&self, part: &Arc<K::Part>, from: i64) -> Result<Option<Arc<K::Part>>, StoreError> {
        let _merging = self.merging.try_lock().ok_or(StoreError::NotReady("busy merging"))?;
        self.check_open()?;
        self.remove_strays()?;
        let logs = wal::segments(&*self.env.disk, &wal_dir(&self.env.dir, K::SIGNAL))?;
        if logs.iter().any(|segment| segment.seq <= K::reader(part).info().seq) {
            return Err(StoreError::NotReady("busy with the log of the part that is to go"));
        }
        let mut pace = Pace::full(&self.env.gate);
        self.replace(std::slice::from_ref(part), from, |writer| self.kind.cut(part, from, writer, &mut pace))
    }

    /// Exchanges parts for one that `write` writes, which says whether there is anything in it; nothing
    /// in it is before `from`. `merging` is held.
    fn replace(
        &self,
        parts: &[Arc<K::Part>],
        from: i64,
        write: impl FnOnce(&mut PartWriter) -> Result<bool, StoreError>,
    ) -> Result<Option<Arc<K::Part>>, StoreError> {
        let infos = || parts.iter().map(|part| K::reader(part).info());
        let bytes: u64 = parts.iter().map(|part| K::reader(part).bytes()).sum();
        self.env.gate.look(&self.env).map_err(io_error("look at", &self.dir))?;
        self.env.gate.check_room(bytes)?;
        // That there is room was looked at before, but for a part that has to be written anew by itself.
        let memory: u64 = parts.iter().map(|part| self.kind.merge_bytes(part)).sum();
        let memory = usize::try_from(memory.saturating_add(memory / 2)).unwrap_or(usize::MAX);
        let _memory = self.env.account.merges.hold_anyway(memory);
        let seq = infos().map(|info| info.seq).max().unwrap_or_default();
        let info = PartInfo {
            signal: K::SIGNAL,
            seq,
            index: self.free_index(seq)?,
            group: 0,
            min_t: infos().map(|info| info.min_t).min().unwrap_or_default().max(from),
            max_t: infos().map(|info| info.max_t).max().unwrap_or_default(),
            rows: 0,
            created_ms: self.env.clock.now_ms(),
        };
        let merged = Merged { replaces: self.replaced(parts)?, mark: self.kind.merge_mark() };
        let mut writer = PartWriter::create(&self.env.disk, &self.dir, info)?;
        let unfinished = writer.unfinished();
        let written = writer.merged(&merged).and_then(|()| write(&mut writer));
        let exchanged = written.and_then(|keep| {
            let pending = if keep { Some(writer.finish()?) } else { None };
            self.exchange(parts, pending)
        });
        // What has its name has left this one.
        match (&exchanged, self.env.disk.remove(&unfinished)) {
            (_, Err(error)) if error.kind() != std::io::ErrorKind::NotFound => {
                tracing::warn!(%error, path = ?unfinished, "cannot remove an unfinished part");
            }
            _ => {}
        }
        exchanged
    }

    /// What a part merged from `parts` counts for: they, and what they count for where it could not
    /// be removed.
    fn replaced(&self, parts: &[Arc<K::Part>]) -> Result<Vec<PartId>, StoreError> {
        let entries = self.env.disk.list(&self.dir).map_err(io_error("list", &self.dir))?;
        let there: BTreeSet<PartId> =
            entries.iter().filter_map(|entry| PartInfo::parse_file_name(&entry.name)).collect();
        let older =
            parts.iter().filter_map(|part| K::reader(part).merged()).flat_map(|own| own.replaces.iter().copied());
        let older = older.filter(|id| there.contains(id));
        Ok(parts.iter().map(|part| K::reader(part).info().id()).chain(older).collect())
    }

    /// An index that no part of `seq` has or had as far as any part remembers: what a part says that
    /// it replaces must never be a later one.
    fn free_index(&self, seq: u64) -> Result<u32, StoreError> {
        let entries = self.env.disk.list(&self.dir).map_err(io_error("list", &self.dir))?;
        let named =
            entries.iter().filter_map(|entry| PartInfo::parse_file_name(entry.name.split_inclusive(".part").next()?));
        let view = self.view();
        let remembered =
            view.parts.iter().filter_map(|part| K::reader(part).merged()).flat_map(|own| own.replaces.iter().copied());
        let largest = named.chain(remembered).filter(|id| id.0 == seq).map(|id| id.1).max();
        Ok(largest.map_or(0, |index| index.saturating_add(1)))
    }

    /// Gives the merged part its name and lets the others go; `None` when one has gone already.
    fn exchange(
        &self,
        parts: &[Arc<K::Part>],
        pending: Option<PendingPart>,
    ) -> Result<Option<Arc<K::Part>>, StoreError> {
        let _one_at_a_time = self.exchanging.lock();
        let current = self.state.read().parts.clone();
        if !parts.iter().all(|part| current.iter().any(|own| Arc::ptr_eq(own, part))) {
            return Ok(None);
        }
        let merged = match pending {
            Some(pending) => Some(self.name(&pending)?),
            None => None,
        };
        {
            let mut state = self.state.write();
            // A flush may have brought parts meanwhile.
            let mut kept: Vec<_> =
                state.parts.iter().filter(|own| !parts.iter().any(|part| Arc::ptr_eq(own, part))).cloned().collect();
            kept.extend(merged.clone());
            kept.sort_by_key(|part| K::reader(part).info().id());
            state.parts = Arc::new(kept);
        }
        self.charge_parts();
        parts.iter().for_each(|part| self.remove_part(part));
        self.env.disk.sync_dir(&self.dir).map_err(io_error("sync", &self.dir))?;
        self.env.catalog.flush();
        Ok(merged)
    }

    /// Names and opens a merged part. When that fails the file goes, so that it never counts beside
    /// those that it was made of.
    fn name(&self, pending: &PendingPart) -> Result<Arc<K::Part>, StoreError> {
        let named = part::commit(&*self.env.disk, &self.dir, std::slice::from_ref(pending)).and_then(|paths| {
            let path = paths.first().cloned().unwrap_or_default();
            self.kind.open(PartReader::open(&self.env.disk, &path)?)
        });
        match named {
            Ok(part) => {
                self.register(&part);
                Ok(Arc::new(part))
            }
            Err(error) => {
                if let Err(error) = self.env.disk.remove(pending.path())
                    && error.kind() != std::io::ErrorKind::NotFound
                {
                    tracing::error!(%error, path = ?pending.path(), "cannot remove a merged part; it is tried again");
                    self.stray(pending.path().to_owned());
                }
                Err(error)
            }
        }
    }
}

/// Whether one part can stand for these: no other part that is younger than the oldest and older than
/// the youngest of them may have a time in common with them.
fn in_order<K: Kind>(parts: &[Arc<K::Part>], all: &[Arc<K::Part>]) -> bool {
    let infos = || parts.iter().map(|part| K::reader(part).info());
    let (Some(first), Some(last)) = (infos().map(|info| info.seq).min(), infos().map(|info| info.seq).max()) else {
        return false;
    };
    let span = (infos().map(|info| info.min_t).min(), infos().map(|info| info.max_t).max());
    all.iter().filter(|own| !parts.iter().any(|part| Arc::ptr_eq(own, part))).all(|own| {
        let info = K::reader(own).info();
        let between = first < info.seq && info.seq < last || info.seq == last || info.seq == first;
        !between || Some(info.max_t) < span.0 || span.1 < Some(info.min_t)
    })
}
