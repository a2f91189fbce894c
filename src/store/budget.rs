//! The disk budget: what the data directory takes, and what goes when that is too much.
//! Order: snapshots first, the oldest first, as long as they keep anything that is nowhere else or hold
//! the part that would go next, for such a part frees nothing; then the oldest data of all signals, no
//! more of it than a step beyond what is too much. What frees nothing ends it, and is said; data that has
//! another name in the data directory still is not removed at all.
//! Everything removed is named: signal, range of time, why, in the log and in numbers.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use super::conditions::OVER_BUDGET;
use super::env::Env;
use super::error::StoreError;
use super::lane::{Maintain, Removed};
use super::snapshot::{self, SNAPSHOTS};
use crate::base::disk::Disk;
use crate::model::batch::Signal;

/// A part larger than this share of the budget is cut, not removed whole, and is not made by merging.
const STEP_SHARE: u64 = 16;
/// But a part of this many bytes may always be made and removed.
const STEP_BYTES_MIN: u64 = 1 << 20;

/// Bytes of the data directory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Of everything but snapshots.
    pub live: u64,
    /// Of what lies in snapshots alone.
    pub snapshots: u64,
}

impl Usage {
    /// All of it.
    pub fn total(&self) -> u64 {
        self.live + self.snapshots
    }
}

/// How many names of each file that has several were met; by its id.
type Seen = BTreeMap<(u64, u64), u64>;

/// Measures a data directory. A file with several names counts once, and where it lives if it lives at
/// all; what is being written does not count yet: the room for a merge must not cost the oldest part.
///
/// # Errors
/// The system's; what goes away meanwhile is no error.
pub fn measure(disk: &dyn Disk, dir: &Path) -> io::Result<Usage> {
    measure_names(disk, dir, &mut Seen::new())
}

/// As [`measure`]; tells the names that it met.
fn measure_names(disk: &dyn Disk, dir: &Path, seen: &mut Seen) -> io::Result<Usage> {
    let mut usage = Usage::default();
    for entry in disk.list(dir)? {
        let path = dir.join(&entry.name);
        match entry.is_dir {
            true if entry.name == SNAPSHOTS => {}
            true => usage.live += folder(disk, &path, seen)?,
            false => usage.live += entry.bytes,
        }
    }
    usage.snapshots = folder(disk, &dir.join(SNAPSHOTS), seen)?;
    Ok(usage)
}

fn missing<T>(error: io::Error) -> io::Result<Vec<T>> {
    if error.kind() == io::ErrorKind::NotFound { Ok(Vec::new()) } else { Err(error) }
}

fn folder(disk: &dyn Disk, path: &Path, seen: &mut Seen) -> io::Result<u64> {
    let mut sum = 0;
    for entry in disk.list(path).or_else(missing)? {
        let own = path.join(&entry.name);
        if entry.is_dir {
            sum += folder(disk, &own, seen)?;
        } else if !entry.name.ends_with(".tmp") && is_new(disk, &own, seen)? {
            sum += entry.bytes;
        }
    }
    Ok(sum)
}

fn is_new(disk: &dyn Disk, path: &Path, seen: &mut Seen) -> io::Result<bool> {
    match disk.metadata(path) {
        Ok(file) if file.links > 1 => {
            let names = seen.entry(file.id).or_default();
            *names += 1;
            Ok(*names == 1)
        }
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Bytes of a part from which on it is cut, not removed, under a budget of `limit` bytes.
pub(super) fn step(limit: u64) -> u64 {
    (limit / STEP_SHARE).max(STEP_BYTES_MIN)
}

/// Says in the log and in numbers what was removed, and why.
pub(super) fn tell(env: &Env, signal: Signal, reason: &'static str, removed: &Removed) {
    let Removed { parts, rows, bytes, from_ms, to_ms } = *removed;
    let time = |ms: i64| chrono::DateTime::from_timestamp_millis(ms).map_or_else(|| ms.to_string(), |t| t.to_rfc3339());
    let (from, to) = (time(from_ms), time(to_ms));
    if reason == RETENTION {
        tracing::info!(signal = signal.name(), parts, rows, bytes, from, to, "removed by retention");
    } else {
        tracing::warn!(
            signal = signal.name(),
            parts,
            rows,
            bytes,
            from,
            to,
            "over the disk budget: removed the oldest data before its retention; raise --disk-limit or lower the retention"
        );
    }
    let labels = [("reason", reason), ("signal", signal.name())];
    let counter = |name, help| env.counters.counter(name, help, &labels);
    counter("trilith_removed_rows_total", "Samples, lines or spans removed.").add(rows);
    counter("trilith_removed_bytes_total", "Bytes of parts removed.").add(bytes);
    let help = "The newest time of what was removed, in seconds since the Unix epoch.";
    let newest = env.counters.gauge("trilith_removed_newest_timestamp_seconds", help, &labels);
    newest.set(newest.get().max(u64::try_from(to_ms.div_euclid(1000)).unwrap_or_default()));
}

/// The reason of what is past its retention.
pub(super) const RETENTION: &str = "retention";
/// The reason of what goes for others' sake.
pub(super) const DISK_BUDGET: &str = "disk_budget";

/// Removes what is over `limit` bytes.
pub(super) fn enforce(env: &Env, lanes: &[&dyn Maintain], limit: u64) {
    let mut before = u64::MAX;
    let wrong = loop {
        // Measured anew each time: a text index goes with its part.
        let mut seen = Seen::new();
        let usage = match measure_names(&*env.disk, &env.dir, &mut seen) {
            Ok(usage) => usage,
            Err(error) => {
                tracing::error!(%error, "cannot measure the data directory; nothing is removed for the disk budget");
                return;
            }
        };
        show(env, &usage);
        let used = usage.total();
        if used <= limit {
            break None;
        }
        if used >= before {
            break Some(format!("{used} bytes are used of {limit}, and what was removed last has freed nothing"));
        }
        let oldest = lanes.iter().filter_map(|lane| Some((lane.oldest()?, *lane))).min_by_key(|own| own.0.end_ms);
        let kept_twice = oldest.and_then(|(part, _)| part.linked).is_some_and(|id| seen.get(&id) > Some(&1));
        if (usage.snapshots > 0 || kept_twice)
            && let Some(name) = snapshot::names(&*env.disk, &env.dir).first()
        {
            if let Err(error) = snapshot::remove(&*env.disk, &env.dir, name) {
                break Some(format!(
                    "{used} bytes are used of {limit}, and the snapshot {name} cannot be removed: {error}"
                ));
            }
            let kept = usage.snapshots;
            tracing::warn!(snapshot = %name, used, limit, kept, "over the disk budget: removed the oldest snapshot; raise --disk-limit, or copy snapshots elsewhere sooner");
            let help = "Snapshots removed for the disk budget.";
            env.counters.counter("trilith_removed_snapshots_total", help, &[("reason", DISK_BUDGET)]).inc();
            continue;
        }
        let Some((_, lane)) = oldest else {
            break Some(format!("{used} bytes are used of {limit}, and there is no data left that could go"));
        };
        if kept_twice {
            // No snapshot is left to go. Sweep after sweep would take a part that frees nothing.
            break Some(format!(
                "{used} bytes are used of {limit}, and the oldest part has a second name in the data directory, so \
                 removing it would free nothing"
            ));
        }
        match remove(env, lane, used - limit, step(limit)) {
            Ok(Some(removed)) => tell(env, lane.signal(), DISK_BUDGET, &removed),
            Ok(None) => {}
            // It goes on with the next sweep.
            Err(StoreError::NotReady(_) | StoreError::NotOpen { .. }) => return,
            Err(error) => {
                break Some(format!("{used} bytes are used of {limit}, and the oldest part cannot be cut: {error}"));
            }
        }
        before = used;
    };
    let advice = "raise --disk-limit, lower the retention, or look for what else lies in the data directory";
    env.conditions.put(OVER_BUDGET, None, wrong.map(|wrong| format!("{wrong}; {advice}")));
}

/// Cuts the oldest part, or removes it where that is not possible: damaged, or no room to write it anew.
fn remove(env: &Env, lane: &dyn Maintain, over: u64, step: u64) -> Result<Option<Removed>, StoreError> {
    match lane.remove_oldest(over, step) {
        Err(StoreError::Damaged { .. }) => lane.remove_oldest(over, u64::MAX),
        Err(StoreError::DiskFull { .. } | StoreError::NotReady(_)) if env.gate.is_full() => {
            lane.remove_oldest(over, u64::MAX)
        }
        removed => removed,
    }
}

fn show(env: &Env, usage: &Usage) {
    let help = "Bytes of the data directory but for what snapshots keep.";
    env.counters.gauge("trilith_disk_used_bytes", help, &[]).set(usage.live);
    let help = "Bytes that lie in snapshots alone, and go when those are removed.";
    env.counters.gauge("trilith_snapshot_bytes", help, &[]).set(usage.snapshots);
}
