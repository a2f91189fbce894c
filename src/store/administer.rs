//! What an administrator may do with stored data: delete series, clean up behind that, and take a
//! snapshot.

use super::error::StoreError;
use super::snapshot;
use super::stores::Store;
use super::waist::Administer;
use crate::model::matcher::Matcher;
use crate::model::time::RangeMs;

impl Administer for Store {
    fn delete_series(&self, matchers: &[Matcher], range: RangeMs) -> Result<(), StoreError> {
        self.metrics.delete(matchers, range)
    }

    fn clean_tombstones(&self) -> Result<(), StoreError> {
        self.rewrite().map(|_| ())
    }

    fn snapshot(&self, with_heads: bool) -> Result<String, StoreError> {
        if with_heads {
            self.flush()?;
        }
        snapshot::take(self.env(), &self.lanes(), &self.metrics.tombstones_path(), self.next_number())
    }
}
