//! Deleting series, and how long samples are kept.

use super::MetricsStore;
use super::keep::{Retention, Sieves};
use crate::model::matcher::Matcher;
use crate::model::time::RangeMs;
use crate::store::error::StoreError;
use crate::store::lane::Maintain as _;

impl MetricsStore {
    /// Deletes the samples in `range` that there are now of the series that satisfy all `matchers`.
    /// They are not seen any more when this returns, also after a crash; samples that come later are.
    /// Labels of a series of which a part has nothing else are not listed either; those of one that
    /// had no other samples in the part's time are until it is written anew.
    /// The head is written to parts first.
    ///
    /// # Errors
    /// [`StoreError`]: nothing is deleted.
    pub fn delete(&self, matchers: &[Matcher], range: RangeMs) -> Result<(), StoreError> {
        self.lane.flush()?;
        let view = self.lane.whole_view()?;
        // The newest seq of all, not only of those with a time in the range: a merge that is under way
        // writes a part that has the seq of the newest of its parts, and knows nothing of this deletion.
        match view.parts.iter().map(|part| part.reader().info().seq).max() {
            Some(seq) if view.parts.iter().any(|part| part.overlaps(range)) => {
                self.lane.kind().keep.delete(matchers, range, seq)
            }
            _ => Ok(()),
        }
    }

    /// Deletions whose samples are still in parts, though nobody sees them.
    pub fn tombstones(&self) -> usize {
        self.lane.kind().keep.tombstones().len()
    }

    /// Where the deletions are written down.
    pub fn tombstones_path(&self) -> std::path::PathBuf {
        self.lane.kind().keep.path()
    }

    /// Changes how long samples are kept.
    pub fn set_retention(&self, retention: Retention) {
        self.lane.kind().keep.set_retention(retention);
    }

    /// What to leave out of parts and heads; to be asked before a view is taken.
    pub(super) fn sieves(&self) -> Sieves {
        let kind = self.lane.kind();
        kind.keep.sieves(kind.clock.now_ms())
    }
}
