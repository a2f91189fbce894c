//! What an administrator may do with stored data: delete series, clean up behind that, and take a
//! snapshot, a folder that can be opened as a data directory.
//! Flow of a snapshot: heads are flushed, then every part gets a second name below
//! `snapshots/NAME.tmp`, which is renamed when it is whole. Parts are immutable, so a name is enough,
//! and takes no room until the original is gone.

use std::path::Path;

use super::stores::Store;
use super::{Administer, StoreError};
use crate::base::disk::Disk;
use crate::model::matcher::Matcher;
use crate::model::time::RangeMs;

/// The folder of snapshots in a data directory.
pub const SNAPSHOTS: &str = "snapshots";

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> StoreError {
    let path = path.to_owned();
    move |source| StoreError::Io { action, path, source }
}

/// Removes snapshots that were not taken to their end.
///
/// # Errors
/// [`StoreError::Io`].
pub fn remove_unfinished(disk: &dyn Disk, dir: &Path) -> Result<(), StoreError> {
    let dir = dir.join(SNAPSHOTS);
    for entry in disk.list(&dir).unwrap_or_default() {
        let path = dir.join(&entry.name);
        if entry.is_dir && entry.name.ends_with(".tmp") {
            disk.remove_dir_all(&path).map_err(io_error("remove", &path))?;
        }
    }
    Ok(())
}

fn copy(disk: &dyn Disk, from: &Path, to: &Path) -> Result<(), StoreError> {
    let copied = || {
        let bytes = disk.read(from)?;
        let file = disk.append(to)?;
        file.write_all(&bytes)?;
        file.sync()
    };
    copied().map_err(io_error("copy", from))
}

impl Store {
    fn fill_snapshot(&self, folder: &Path) -> Result<(), StoreError> {
        let env = self.env();
        let disk = &*env.disk;
        disk.create_dir_all(folder).map_err(io_error("create", folder))?;
        copy(disk, &env.dir.join("FORMAT"), &folder.join("FORMAT"))?;
        // Deletions first: what a merge works off meanwhile is then in both, which harms nobody.
        let metrics = folder.join(crate::model::batch::Signal::Metrics.name());
        disk.create_dir_all(&metrics).map_err(io_error("create", &metrics))?;
        let tombstones = self.metrics.tombstones_path();
        if tombstones.exists() {
            copy(disk, &tombstones, &metrics.join(tombstones.file_name().unwrap_or_default()))?;
        }
        for lane in self.lanes() {
            let to = folder.join(lane.signal().name());
            disk.create_dir_all(&to).map_err(io_error("create", &to))?;
            lane.link_parts(&to)?;
        }
        disk.sync_dir(folder).map_err(io_error("sync", folder))
    }
}

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
        let env = self.env();
        let now = env.clock.now_ns();
        let second = chrono::DateTime::from_timestamp_nanos(now).format("%Y%m%dT%H%M%SZ");
        let name = format!("{second}-{:016x}", now.rem_euclid(1_000_000_000).unsigned_abs() << 16 | self.next_number());
        let dir = env.dir.join(SNAPSHOTS);
        env.disk.create_dir_all(&dir).map_err(io_error("create", &dir))?;
        let (unfinished, path) = (dir.join(format!("{name}.tmp")), dir.join(&name));
        let taken = self.fill_snapshot(&unfinished).and_then(|()| {
            env.disk.rename(&unfinished, &path).map_err(io_error("rename", &unfinished))?;
            env.disk.sync_dir(&dir).map_err(io_error("sync", &dir))
        });
        if let Err(error) = taken {
            if unfinished.exists()
                && let Err(error) = env.disk.remove_dir_all(&unfinished)
            {
                tracing::warn!(%error, path = ?unfinished, "cannot remove an unfinished snapshot");
            }
            return Err(error);
        }
        Ok(name)
    }
}
