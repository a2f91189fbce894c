//! What the store has every lane do.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::append::Lane;
use super::kind::Kind;
use super::maintain::{LaneStats, Maintain};
use super::pace::Pace;
use crate::model::batch::Signal;
use crate::store::error::{StoreError, io_error};
use crate::store::part::PartInfo;

/// While memory is short a head is flushed when it has this share of its bytes.
const PRESSED_SHARE: usize = 3;

fn to_ms<K: Kind>(t: i64) -> i64 {
    t.div_euclid(K::DAY / 86_400_000)
}

impl<K: Kind> Maintain for Lane<K> {
    fn signal(&self) -> Signal {
        K::SIGNAL
    }

    fn flush(&self) -> Result<(), StoreError> {
        self.flush_heads()
    }

    fn flush_if_due(&self, log_bytes_max: u64) -> Result<(), StoreError> {
        self.open_late();
        self.say();
        let now = self.env.clock.now_ms();
        // A clock that was ahead when the head began, and is right now, must not keep it for long.
        let age = now - self.head_since_ms.fetch_min(now, Ordering::Relaxed);
        let soon = self.flush_soon.load(Ordering::Relaxed) || self.wal.is_doubted();
        let waiting = soon || !self.state.read().frozen.is_empty();
        self.charge_heads();
        // A head is worth a part at this size when others want the memory.
        let pressed = self.env.account.whole().is_pressed();
        let head_bytes_max = self.options.head_bytes_max / if pressed { PRESSED_SHARE } else { 1 };
        let large = || self.head_bytes() >= head_bytes_max || self.log_bytes() > log_bytes_max;
        if self.retry.lock().is_due() && (waiting || age >= self.options.head_age_ms_max || large()) {
            self.flush()?;
        }
        Ok(())
    }

    fn sync(&self) -> Result<(), StoreError> {
        let synced = self.wal.sync();
        if synced.is_err() {
            self.say();
        }
        synced
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
        self.charge_parts();
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
        self.charge_parts();
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
        for part in &self.state.read().unopened {
            let to = folder.join(PartInfo::name_of(part.id));
            self.env.disk.link(&part.path, &to).map_err(io_error("link", &part.path))?;
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
