//! What the store has every lane do.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::append::Lane;
use super::kind::Kind;
use super::maintain::{LaneStats, Maintain, OldestPart, Removed};
use super::pace::Pace;
use crate::model::batch::Signal;
use crate::store::error::{StoreError, io_error};
use crate::store::part::PartInfo;

/// While memory is short a head is flushed when it has this share of its bytes.
const PRESSED_SHARE: usize = 3;

fn to_ms<K: Kind>(t: i64) -> i64 {
    t.div_euclid(K::DAY / 86_400_000)
}

/// What these parts held; `None` when there is none.
fn removed<K: Kind>(parts: &[Arc<K::Part>]) -> Option<Removed> {
    let infos = || parts.iter().map(|part| K::reader(part).info());
    Some(Removed {
        parts: parts.len(),
        rows: infos().map(|info| info.rows).sum(),
        bytes: parts.iter().map(|part| K::reader(part).bytes()).sum(),
        from_ms: to_ms::<K>(infos().map(|info| info.min_t).min()?),
        to_ms: to_ms::<K>(infos().map(|info| info.max_t).max()?),
    })
}

impl<K: Kind> Lane<K> {
    fn oldest_part(&self) -> Option<Arc<K::Part>> {
        self.view().parts.iter().min_by_key(|part| K::reader(part).info().max_t).cloned()
    }

    /// Writes a part anew from a time on.
    fn cut_part(&self, part: &Arc<K::Part>, from: i64) -> Result<Option<Removed>, StoreError> {
        let before = K::reader(part);
        let after = self.write_without(part, from)?;
        let (rows, bytes) =
            after.as_ref().map_or((0, 0), |part| (K::reader(part).info().rows, K::reader(part).bytes()));
        Ok(Some(Removed {
            parts: 1,
            rows: before.info().rows.saturating_sub(rows),
            bytes: before.bytes().saturating_sub(bytes),
            from_ms: to_ms::<K>(before.info().min_t),
            to_ms: to_ms::<K>(from.saturating_sub(1)),
        }))
    }
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
        let soon = self.inherited.load(Ordering::Acquire) || self.wal.is_doubted();
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
        synced?;
        self.settle_inherited()
    }

    fn remove_before(&self, cutoff_ms: i64) -> Option<Removed> {
        let _one_at_a_time = self.exchanging.lock();
        let gone: Vec<_> = {
            let mut state = self.state.write();
            let ends_before = |part: &Arc<K::Part>| to_ms::<K>(K::reader(part).info().max_t) < cutoff_ms;
            let (gone, kept) = state.parts.iter().cloned().partition(ends_before);
            state.parts = Arc::new(kept);
            gone
        };
        gone.iter().for_each(|part| self.remove_part(part));
        self.charge_parts();
        removed::<K>(&gone)
    }

    fn remove_oldest(&self, bytes: u64, step: u64) -> Result<Option<Removed>, StoreError> {
        let Some(oldest) = self.oldest_part() else { return Ok(None) };
        let size = K::reader(&oldest).bytes();
        let target = bytes.max(step / 2);
        if size > step && target < size - size / 8 {
            let info = K::reader(&oldest).info();
            let cut = self.kind.cut_time(&oldest, target).filter(|cut| info.min_t < *cut && *cut <= info.max_t);
            if let Some(cut) = cut {
                return self.cut_part(&oldest, cut);
            }
        }
        let _one_at_a_time = self.exchanging.lock();
        {
            let mut state = self.state.write();
            if !state.parts.iter().any(|part| Arc::ptr_eq(part, &oldest)) {
                return Err(StoreError::NotReady("busy with the part that is to go"));
            }
            let kept = state.parts.iter().filter(|part| !Arc::ptr_eq(part, &oldest)).cloned().collect();
            state.parts = Arc::new(kept);
        }
        self.remove_part(&oldest);
        self.charge_parts();
        Ok(removed::<K>(std::slice::from_ref(&oldest)))
    }

    fn merge(&self, pace: &mut Pace) -> Result<usize, StoreError> {
        self.merge_due(pace, false)
    }

    fn rewrite(&self, pace: &mut Pace) -> Result<usize, StoreError> {
        self.merge_due(pace, true)
    }

    fn link_parts(&self, folder: &Path) -> Result<(), StoreError> {
        // Nothing removes a part meanwhile.
        let _one_at_a_time = self.exchanging.lock();
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

    fn oldest(&self) -> Option<OldestPart> {
        let oldest = self.oldest_part()?;
        let reader = K::reader(&oldest);
        let linked = self.env.disk.metadata(reader.path()).ok().filter(|file| file.links > 1).map(|file| file.id);
        Some(OldestPart { end_ms: to_ms::<K>(reader.info().max_t), linked })
    }

    fn newest_ms(&self) -> Option<i64> {
        self.view().parts.iter().map(|part| to_ms::<K>(K::reader(part).info().max_t)).max()
    }

    fn newest_part_seq(&self) -> u64 {
        self.view().parts.iter().map(|part| K::reader(part).info().seq).max().unwrap_or_default()
    }

    fn rows_behind(&self, seq: u64, from_ms: i64) -> (u64, u64) {
        let view = self.view();
        let infos = view.parts.iter().map(|part| K::reader(part).info()).filter(|info| info.seq > seq);
        infos.fold((0, 0), |(from, all), info| {
            let own = if to_ms::<K>(info.max_t) >= from_ms { info.rows } else { 0 };
            (from + own, all + info.rows)
        })
    }

    fn set_merged_bytes_max(&self, bytes: u64) {
        self.merged_bytes_max.store(bytes, Ordering::Relaxed);
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
