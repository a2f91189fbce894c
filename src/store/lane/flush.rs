//! From frozen heads to parts, and from parts to nothing.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::append::{Lane, wal_dir};
use super::kind::Kind;
use crate::store::error::StoreError;
use crate::store::part::{self, PartInfo, PartReader, PartWriter};
use crate::store::wal;

impl<K: Kind> Lane<K> {
    /// [`Maintain::flush`](super::Maintain::flush).
    pub(super) fn flush_heads(&self) -> Result<(), StoreError> {
        let _one_at_a_time = self.flushing.lock();
        // What an earlier flush could not write comes first, so failing flushes freeze no more heads.
        self.write_frozen()?;
        self.freeze()?;
        self.write_frozen()
    }

    pub(super) fn head_bytes(&self) -> usize {
        let state = self.state.read();
        state.frozen.iter().map(|(_, head)| head).chain([&state.active]).map(|head| self.kind.head_bytes(head)).sum()
    }

    /// Moves the active head behind the frozen ones.
    pub(super) fn freeze(&self) -> Result<(), StoreError> {
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
    pub(super) fn write_frozen(&self) -> Result<(), StoreError> {
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
    pub(super) fn remove_unfinished(&self, seq: u64) {
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

    pub(super) fn log_bytes(&self) -> u64 {
        let wal_dir = wal_dir(&self.env.dir, K::SIGNAL);
        let segments = wal::segments(&*self.env.disk, &wal_dir).unwrap_or_default();
        segments.iter().map(|segment| segment.bytes).sum()
    }

    pub(super) fn write_head(&self, seq: u64, head: &K::Head) -> Result<Vec<Arc<K::Part>>, StoreError> {
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
        if let Err(error) = self.env.disk.remove(reader.path()) {
            tracing::error!(%error, path = ?reader.path(), "cannot remove a part");
            self.damaged.inc();
        }
    }
}
