//! The newest parts found at start, so that a batch that was stored and flushed before the server
//! stopped, and is sent again because its sender saw no answer, is known.
//! Flow: for each trace of a batch the directory says whether these parts have it; if so its blocks
//! are read, once each, and the keys of their spans kept.
//! Invariants: a part that cannot be read keeps no span out. It costs what it was asked for: a span that is
//! sent again is then stored again, and a trace is answered with it once all the same. The next batch
//! asks anew.

use std::sync::Arc;

use ahash::{AHashSet, RandomState};
use parking_lot::RwLock;

use super::head::{Entry, Seen};
use super::part::{OpenPart, directory_key, of_key};
use super::spanset::SpanSet;
use super::survey::{SpanKey, Surveyor};
use crate::store::error::StoreError;

struct RecentPart {
    part: Arc<OpenPart>,
    directory: Directory,
    loaded: AHashSet<u32>,
}

/// The directory of a part.
enum Directory {
    /// Not read yet.
    Unread,
    /// Read at the first batch.
    Read(Vec<(u64, u32)>),
    /// Damaged: every block may have the trace.
    Damaged,
}

#[derive(Default)]
struct State {
    parts: Vec<RecentPart>,
    keys: Seen,
}

/// The newest parts found at start; empty from the first flush on.
#[derive(Default)]
pub(super) struct Recent(RwLock<State>);

impl Recent {
    /// Takes the parts of the newest flush.
    pub(super) fn set(&self, parts: &[Arc<OpenPart>]) {
        let newest = parts.iter().map(|part| part.reader().info().seq).max();
        let of_newest = parts.iter().filter(|part| Some(part.reader().info().seq) == newest);
        let recent = |part: &Arc<OpenPart>| RecentPart {
            part: part.clone(),
            directory: Directory::Unread,
            loaded: AHashSet::new(),
        };
        *self.0.write() = State { parts: of_newest.map(recent).collect(), keys: Seen::default() };
    }

    /// Forgets them.
    pub(super) fn clear(&self) {
        *self.0.write() = State::default();
    }

    /// Memory that it takes, in bytes, more or less.
    pub(super) fn bytes(&self) -> usize {
        let state = self.0.read();
        let directories = state.parts.iter().map(|own| match &own.directory {
            Directory::Read(entries) => entries.capacity() * size_of::<(u64, u32)>(),
            Directory::Unread | Directory::Damaged => 0,
        });
        directories.sum::<usize>() + state.keys.bytes()
    }

    /// Whether a span is known, after [`recall`](Self::recall) of its batch.
    pub(super) fn contains(&self, key: SpanKey) -> bool {
        let state = self.0.read();
        !state.parts.is_empty() && state.keys.contains(key)
    }

    /// Reads the blocks that may have spans of the batch.
    pub(super) fn recall(&self, entries: &[Entry<'_>], hashes: &RandomState) {
        if self.0.read().parts.is_empty() {
            return;
        }
        let mut state = self.0.write();
        let State { parts, keys } = &mut *state;
        for recent in parts {
            if let Err(error) = recent.recall(entries, keys, hashes) {
                tracing::warn!(%error, "spans that are sent again may be stored again");
            }
        }
    }
}

impl RecentPart {
    fn recall(&mut self, entries: &[Entry<'_>], keys: &Seen, hashes: &RandomState) -> Result<(), StoreError> {
        for group in entries.chunk_by(|left, right| left.0.trace_id == right.0.trace_id) {
            let Some((first, _)) = group.first() else { continue };
            for block in self.blocks_with(directory_key(first.trace_id))? {
                if !self.loaded.contains(&block) {
                    self.load(block, keys, hashes)?;
                    self.loaded.insert(block);
                }
            }
        }
        Ok(())
    }

    fn blocks_with(&mut self, key: u64) -> Result<Vec<u32>, StoreError> {
        if let Directory::Unread = self.directory {
            self.directory = self.part.directory()?.map_or(Directory::Damaged, Directory::Read);
        }
        Ok(match &self.directory {
            Directory::Read(entries) => of_key(entries, key),
            Directory::Unread | Directory::Damaged => (0..self.part.blocks().len() as u32).collect(),
        })
    }

    fn load(&self, block: u32, keys: &Seen, hashes: &RandomState) -> Result<(), StoreError> {
        let Some(raw) = self.part.block(block as usize)? else { return Ok(()) };
        let spans = match SpanSet::parse(&raw).and_then(|set| set.all_spans()) {
            Ok(spans) => spans,
            Err(error) => {
                self.part.note(&error, "spans of a block cannot be read");
                return Ok(());
            }
        };
        let mut surveyor = Surveyor::new(hashes);
        for span in &spans {
            if let Ok(survey) = surveyor.survey(span) {
                keys.insert(survey.key);
            }
        }
        Ok(())
    }
}
