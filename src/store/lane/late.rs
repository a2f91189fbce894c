//! What a lane could not do at once and tries again: opening parts, and removing files that count no
//! more. Until a part is open, queries say so instead of answering less, and nothing is merged or
//! forgotten; until such a file is gone, nothing is flushed or merged, for what is written next may
//! count instead of it or have its name.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::append::{Lane, View, wal_dir};
use super::kind::Kind;
use super::open::{Unopened, remove, said};
use crate::store::conditions::{FLUSH_FAILED, HEAD_SET_ASIDE, PART_NOT_OPEN, SYNC_FAILED};
use crate::store::error::StoreError;
use crate::store::part::PartReader;
use crate::store::wal;

impl<K: Kind> Lane<K> {
    /// What a query reads: all there is, or an error.
    ///
    /// # Errors
    /// [`StoreError::NotOpen`] while a part cannot be opened.
    pub fn whole_view(&self) -> Result<View<K>, StoreError> {
        self.check_open()?;
        Ok(self.view())
    }

    pub(super) fn check_open(&self) -> Result<(), StoreError> {
        match self.state.read().unopened.first() {
            Some(part) => Err(StoreError::NotOpen { path: part.path.clone(), why: part.why.clone() }),
            None => Ok(()),
        }
    }

    /// The newest seq of a part, open or not.
    pub fn newest_seq(&self) -> Option<u64> {
        let state = self.state.read();
        let open = state.parts.iter().map(|part| K::reader(part).info().seq);
        open.chain(state.unopened.iter().map(|part| part.id.0)).max()
    }

    /// Tries again to open what could not be opened.
    pub(super) fn open_late(&self) {
        if self.state.read().unopened.is_empty() {
            return;
        }
        let _one_at_a_time = self.exchanging.lock();
        let unopened = self.state.read().unopened.clone();
        for part in unopened {
            let opened = PartReader::open(&self.env.disk, &part.path).and_then(|reader| self.kind.open(reader));
            match opened {
                Ok(opened) => self.add_late(&part, Arc::new(opened)),
                Err(StoreError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                    tracing::error!(path = ?part.path, "a part that could not be opened is gone");
                    self.damaged.inc();
                    self.forget_unopened(&part);
                }
                Err(error) if error.is_damage() => self.leave_out(&part, &error),
                Err(error) => tracing::debug!(why = said(&error), path = ?part.path, "still not open"),
            }
        }
    }

    fn add_late(&self, unopened: &Unopened, part: Arc<K::Part>) {
        let reader = K::reader(&part);
        tracing::info!(path = ?reader.path(), "a part that could not be opened is open now");
        let replaced: BTreeSet<_> = reader.merged().into_iter().flat_map(|own| own.replaces.iter().copied()).collect();
        let gone: Vec<_> = {
            let mut state = self.state.write();
            state.unopened.retain(|own| own.id != unopened.id && !replaced.contains(&own.id));
            let (gone, mut kept): (Vec<_>, Vec<_>) =
                state.parts.iter().cloned().partition(|own| replaced.contains(&K::reader(own).info().id()));
            kept.push(part.clone());
            kept.sort_by_key(|part| K::reader(part).info().id());
            state.parts = Arc::new(kept);
            gone
        };
        self.register(&part);
        gone.iter().for_each(|part| self.remove_part(part));
    }

    fn forget_unopened(&self, part: &Unopened) {
        self.state.write().unopened.retain(|own| own.id != part.id);
    }

    /// It turned out to be damaged.
    fn leave_out(&self, part: &Unopened, error: &StoreError) {
        let aside = part.path.with_extension("part.damaged");
        if let Err(error) = self.env.disk.rename(&part.path, &aside) {
            tracing::debug!(%error, path = ?part.path, "cannot move a damaged part aside");
            return;
        }
        self.damaged.inc();
        tracing::error!(%error, moved_to = ?aside, "a part cannot be read and is left out");
        self.forget_unopened(part);
    }

    /// Says what is wrong with the lane, and what is so no more.
    pub(super) fn say(&self) {
        let put = |name, text| self.env.conditions.put(name, Some(K::SIGNAL), text);
        put(PART_NOT_OPEN, self.check_open().err().map(|error| error.to_string()));
        let doubted = "a sync of the log failed; what it holds is written to parts, and nothing is taken until then; \
                       look at the disk";
        put(SYNC_FAILED, self.wal.is_doubted().then(|| doubted.to_owned()));
        let failed = self.retry.lock().why.clone();
        let failed = failed.map(|why| format!("{why}; its rows are in the log and in memory, and it is tried again"));
        put(FLUSH_FAILED, failed);
        if self.aside.load(Ordering::Relaxed) {
            let folder = wal_dir(&self.env.dir, K::SIGNAL);
            let left = wal::segments_aside(&*self.env.disk, &folder).map_or(1, |segments| segments.len());
            self.aside.store(left > 0, Ordering::Relaxed);
            let text = format!(
                "rows could not be written as a part and are not answered; their log is kept in {:?}: open it with \
                 another version in a data directory of its own, or remove it",
                folder.join(wal::ASIDE)
            );
            put(HEAD_SET_ASIDE, (left > 0).then_some(text));
        }
    }

    /// Notes a file that is to go.
    pub(super) fn stray(&self, path: PathBuf) {
        self.strays.lock().insert(path);
    }

    /// Removes what is to go.
    ///
    /// # Errors
    /// [`StoreError::NotReady`] when some of it is still there.
    pub(super) fn remove_strays(&self) -> Result<(), StoreError> {
        let mut strays = self.strays.lock();
        remove(&self.env, &self.dir, &mut strays);
        if strays.is_empty() { Ok(()) } else { Err(StoreError::NotReady("removing files that count no more")) }
    }
}
