//! What an administrator may do, so that the API names no store.

use crate::model::matcher::Matcher;
use crate::model::time::RangeMs;
use crate::store::error::StoreError;

/// What an administrator may do with what is stored.
pub trait Administer: Send + Sync {
    /// Deletes the samples in `range` that there are now of the series that satisfy all `matchers`.
    ///
    /// # Errors
    /// [`StoreError`]: nothing is deleted.
    fn delete_series(&self, matchers: &[Matcher], range: RangeMs) -> Result<(), StoreError>;

    /// Removes deleted samples from the disk.
    ///
    /// # Errors
    /// [`StoreError`]: what was not removed is still not seen.
    fn clean_tombstones(&self) -> Result<(), StoreError>;

    /// Takes a snapshot of all signals, with what is in memory if wanted; returns its name.
    ///
    /// # Errors
    /// [`StoreError`]: there is no new snapshot.
    fn snapshot(&self, with_heads: bool) -> Result<String, StoreError>;
}
