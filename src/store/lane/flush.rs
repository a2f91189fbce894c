//! From frozen heads to parts, and from parts to nothing.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::append::{Lane, wal_dir};
use super::kind::Kind;
use super::open::said;
use crate::store::error::StoreError;
use crate::store::part::{self, PartInfo, PartReader, PartWriter};
use crate::store::wal;

/// What the store is doing until rows of an earlier process lie in parts, as in "the store is ...; retry".
const INHERITED: &str = "writing to parts what was logged before it was started";
/// A head that cannot be written though the disk does what it should is set aside after so many tries.
const TRIES: u32 = 3;

impl<K: Kind> Lane<K> {
    /// [`Maintain::flush`](super::Maintain::flush).
    pub(super) fn flush_heads(&self) -> Result<(), StoreError> {
        let _one_at_a_time = self.flushing.lock();
        let flushed = self.flush_all();
        match &flushed {
            Ok(()) => self.retry.lock().succeeded(),
            Err(error) => self.retry.lock().failed(said(error)),
        }
        self.say();
        flushed
    }

    fn flush_all(&self) -> Result<(), StoreError> {
        self.remove_strays()?;
        self.wal.remove_leftover()?;
        // What an earlier flush could not write comes first, so failing flushes freeze no more heads.
        self.write_frozen()?;
        self.freeze()?;
        self.write_frozen()?;
        self.inherited.store(false, Ordering::Release);
        Ok(())
    }

    /// Makes rows durable that an earlier process has logged.
    ///
    /// # Errors
    /// [`StoreError`] of the flush; [`StoreError::NotReady`] until one that has failed is tried again.
    pub(super) fn settle_inherited(&self) -> Result<(), StoreError> {
        match self.inherited.load(Ordering::Acquire) {
            false => Ok(()),
            true if self.retry.lock().is_due() => self.flush_heads(),
            true => Err(StoreError::NotReady(INHERITED)),
        }
    }

    pub(super) fn head_bytes(&self) -> usize {
        let state = self.state.read();
        state.frozen.iter().map(|(_, head)| head).chain([&state.active]).map(|head| self.kind.head_bytes(head)).sum()
    }

    /// Moves the active head behind the frozen ones.
    pub(super) fn freeze(&self) -> Result<(), StoreError> {
        // So that the next one, with appends waiting, has little to do. One that fails is the log's to note.
        if let Err(error) = self.wal.sync() {
            tracing::debug!(%error, "what a sync has failed on is written to parts");
        }
        let mut state = self.state.write();
        let empty = self.kind.head_is_empty(&state.active);
        if !empty || self.wal.is_doubted() {
            let sealed = self.wal.rotate()?;
            if empty {
                self.wal.trust_upto(sealed);
            } else {
                let head = std::mem::replace(&mut state.active, Arc::new(self.kind.new_head()));
                state.frozen.push((sealed, head));
            }
        }
        self.head_since_ms.store(self.env.clock.now_ms(), Ordering::Relaxed);
        Ok(())
    }

    /// Writes the frozen heads, oldest first, as parts; what a failed try has begun is removed, so
    /// that it does not take the room that the next try needs. A head that cannot be written for a reason
    /// of its own is set aside.
    pub(super) fn write_frozen(&self) -> Result<(), StoreError> {
        loop {
            let Some((seq, head)) = self.state.read().frozen.first().cloned() else { return Ok(()) };
            let written = match self.write_head(seq, &head) {
                Ok(written) => written,
                Err(error) => {
                    self.remove_unfinished(seq);
                    if !error.is_damage() || self.retry.lock().failures + 1 < TRIES {
                        return Err(error);
                    }
                    self.set_aside(seq, &error)?;
                    continue;
                }
            };
            {
                let mut state = self.state.write();
                let mut parts = state.parts.to_vec();
                parts.extend(written);
                state.parts = Arc::new(parts);
                state.frozen.remove(0);
            }
            self.charge_heads();
            self.charge_parts();
            self.env.catalog.flush();
            self.wal.remove_upto(seq)?;
        }
    }

    /// Removes what a flush has written that has failed, whether named or not. What a merge is writing
    /// has a lower seq and stays.
    fn remove_unfinished(&self, seq: u64) {
        let index_max = self.slices_tried.load(Ordering::Relaxed);
        for index in 0..index_max {
            let path = self.dir.join(PartInfo::name_of((seq, index)));
            self.stray(path.with_extension("part.tmp"));
            self.stray(path);
        }
        if let Err(error) = self.remove_strays() {
            tracing::warn!(%error, "what a failed flush has written is removed before the next one");
        }
    }

    /// Takes a head out of the way that cannot be written: its log is kept under another name.
    fn set_aside(&self, seq: u64, error: &StoreError) -> Result<(), StoreError> {
        let folder = self.wal.set_aside_upto(seq)?;
        self.state.write().frozen.remove(0);
        self.aside.store(true, Ordering::Relaxed);
        let signal = K::SIGNAL.name();
        tracing::error!(
            %error,
            signal,
            kept_in = ?folder,
            "rows in memory cannot be written as a part and are answered no more; their log is kept: open it with a \
             newer version in a data directory of its own, or remove the folder to get the room back"
        );
        let help = "Heads that could not be written; their log is kept in the folder aside of the signal's log.";
        self.env.counters.counter("trilith_heads_set_aside_total", help, &[("signal", signal)]).inc();
        Ok(())
    }

    pub(super) fn log_bytes(&self) -> u64 {
        let wal_dir = wal_dir(&self.env.dir, K::SIGNAL);
        let segments = wal::segments(&*self.env.disk, &wal_dir).unwrap_or_default();
        segments.iter().map(|segment| segment.bytes).sum()
    }

    pub(super) fn write_head(&self, seq: u64, head: &K::Head) -> Result<Vec<Arc<K::Part>>, StoreError> {
        // It must go on whatever others hold, for nothing makes more room.
        let _memory = self.env.account.flushes.hold_anyway(self.kind.flush_bytes(head));
        let slices = self.kind.slices(head);
        let group = u32::try_from(slices.len()).unwrap_or(u32::MAX);
        self.slices_tried.store(group, Ordering::Relaxed);
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
            let part = self.kind.open(PartReader::open(&self.env.disk, &path)?)?;
            self.register(&part);
            parts.push(Arc::new(part));
        }
        Ok(parts)
    }

    pub(super) fn register(&self, part: &K::Part) {
        let reader = K::reader(part);
        match self.kind.names(part) {
            Ok(names) => self.env.catalog.register(reader.info(), reader.bytes(), &names),
            Err(error) => tracing::error!(%error, path = ?reader.path(), "cannot list the names in a part"),
        }
        self.kind.added(part);
    }

    pub(super) fn reconcile_catalog(&self) {
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

    pub(super) fn remove_part(&self, part: &K::Part) {
        let reader = K::reader(part);
        self.env.catalog.forget(K::SIGNAL, (reader.info().seq, reader.info().index));
        self.kind.removed(part);
        reader.pin();
        if let Err(error) = self.env.disk.remove(reader.path()) {
            tracing::error!(%error, path = ?reader.path(), "cannot remove a part; it is tried again");
            self.stray(reader.path().to_owned());
        }
    }
}
