//! Snapshots: folders that can be opened as data directories.
//! Flow: heads are flushed, then every part gets a second name below
//! `snapshots/NAME.tmp`, which is renamed when it is whole. Parts are immutable, so a name is enough,
//! and takes no room until the original is gone.

use std::path::Path;

use super::env::Env;
use super::error::{StoreError, io_error};
use super::lane::Maintain;
use crate::base::disk::Disk;
use crate::model::batch::Signal;

/// The folder of snapshots in a data directory.
pub const SNAPSHOTS: &str = "snapshots";

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

/// The snapshots that are whole, oldest first: their names begin with when they were taken.
pub fn names(disk: &dyn Disk, dir: &Path) -> Vec<String> {
    let entries = disk.list(&dir.join(SNAPSHOTS)).unwrap_or_default();
    let whole = entries.into_iter().filter(|entry| entry.is_dir && !entry.name.ends_with(".tmp"));
    let mut names: Vec<String> = whole.map(|entry| entry.name).collect();
    names.sort();
    names
}

/// Removes a snapshot. It is no whole one any more before anything of it is gone.
///
/// # Errors
/// [`StoreError::Io`].
pub fn remove(disk: &dyn Disk, dir: &Path, name: &str) -> Result<(), StoreError> {
    let dir = dir.join(SNAPSHOTS);
    let (path, going) = (dir.join(name), dir.join(format!("{name}.tmp")));
    disk.rename(&path, &going).map_err(io_error("rename", &path))?;
    disk.remove_dir_all(&going).map_err(io_error("remove", &going))?;
    disk.sync_dir(&dir).map_err(io_error("sync", &dir))
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

fn fill(env: &Env, lanes: &[&dyn Maintain], tombstones: &Path, folder: &Path) -> Result<(), StoreError> {
    let disk = &*env.disk;
    disk.create_dir_all(folder).map_err(io_error("create", folder))?;
    copy(disk, &env.dir.join("FORMAT"), &folder.join("FORMAT"))?;
    // Deletions first: what a merge works off meanwhile is then in both, which harms nobody.
    let metrics = folder.join(Signal::Metrics.name());
    disk.create_dir_all(&metrics).map_err(io_error("create", &metrics))?;
    if disk.exists(tombstones).map_err(io_error("look at", tombstones))? {
        copy(disk, tombstones, &metrics.join(tombstones.file_name().unwrap_or_default()))?;
    }
    for lane in lanes {
        let to = folder.join(lane.signal().name());
        disk.create_dir_all(&to).map_err(io_error("create", &to))?;
        lane.link_parts(&to)?;
    }
    disk.sync_dir(folder).map_err(io_error("sync", folder))
}

/// Takes a snapshot of the parts of `lanes`; returns its name. `number` was not given before in this process.
///
/// # Errors
/// [`StoreError`]: there is no new snapshot.
pub(super) fn take(env: &Env, lanes: &[&dyn Maintain], tombstones: &Path, number: u64) -> Result<String, StoreError> {
    let now = env.clock.now_ns();
    let second = chrono::DateTime::from_timestamp_nanos(now).format("%Y%m%dT%H%M%SZ");
    let name = format!("{second}-{:016x}", now.rem_euclid(1_000_000_000).unsigned_abs() << 16 | number);
    let dir = env.dir.join(SNAPSHOTS);
    env.disk.create_dir_all(&dir).map_err(io_error("create", &dir))?;
    let (unfinished, path) = (dir.join(format!("{name}.tmp")), dir.join(&name));
    let taken = fill(env, lanes, tombstones, &unfinished).and_then(|()| {
        env.disk.rename(&unfinished, &path).map_err(io_error("rename", &unfinished))?;
        env.disk.sync_dir(&dir).map_err(io_error("sync", &dir))
    });
    if let Err(error) = taken {
        if env.disk.exists(&unfinished).unwrap_or(true)
            && let Err(error) = env.disk.remove_dir_all(&unfinished)
        {
            tracing::warn!(%error, path = ?unfinished, "cannot remove an unfinished snapshot");
        }
        return Err(error);
    }
    Ok(name)
}
