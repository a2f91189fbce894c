//! What a lane does when it is opened: which parts count, and the replay of the log.
//! Invariants: of a group of a flush all parts count, or its log; of a merged part and those that it
//! was made of, the merged one. What is damaged is moved aside or skipped, named and counted. What the
//! system does not let us open or remove now is no damage: it is handed on, to be tried again.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::kind::Kind;
use crate::base::counters::Cell;
use crate::store::env::Env;
use crate::store::error::{StoreError, io_error};
use crate::store::part::{PartId, PartInfo, PartReader};
use crate::store::patience::patiently;
use crate::store::wal::{self, Segment};

/// A part that the system does not let us open now.
#[derive(Clone, Debug)]
pub(super) struct Unopened {
    pub(super) id: PartId,
    pub(super) path: PathBuf,
    /// What it said.
    pub(super) why: String,
}

/// What was found in the folder of parts.
pub(super) struct OpenedParts<P> {
    pub(super) parts: Vec<Arc<P>>,
    /// Seqs of all part files, also of those not opened.
    pub(super) seqs: Vec<u64>,
    /// The newest segment whose records all lie in parts.
    pub(super) covered: Option<u64>,
    /// What counts, too, but cannot be opened now.
    pub(super) unopened: Vec<Unopened>,
    /// What should be removed, but could not be.
    pub(super) strays: BTreeSet<PathBuf>,
}

struct Found<P> {
    id: PartId,
    path: PathBuf,
    part: Result<P, StoreError>,
}

/// Opens the parts of all complete groups. A group with a part missing or unreadable is given up
/// for its log while that is there; once it is gone, what can be read counts.
pub(super) fn open_parts<K: Kind>(
    env: &Env,
    kind: &K,
    dir: &Path,
    segments: &[Segment],
    damaged: &Cell,
) -> Result<OpenedParts<K::Part>, StoreError> {
    let mut groups: BTreeMap<u64, Vec<Found<K::Part>>> = BTreeMap::new();
    let mut strays = BTreeSet::new();
    for entry in patiently(|| env.disk.list(dir).map_err(io_error("list", dir)))? {
        let path = dir.join(&entry.name);
        if entry.name.ends_with(".tmp") {
            strays.insert(path);
        } else if let Some(id) = PartInfo::parse_file_name(&entry.name) {
            let part = PartReader::open(&env.disk, &path).and_then(|part| kind.open(part));
            groups.entry(id.0).or_default().push(Found { id, path, part });
        }
    }
    let seqs = groups.keys().copied().collect();
    let parts = take_merged::<K>(&mut groups, &mut strays);
    let mut opened = OpenedParts { parts, seqs, covered: None, unopened: Vec::new(), strays };
    for (seq, files) in groups {
        let logged = segments.iter().any(|segment| segment.seq == seq);
        let groups = || files.iter().map(|file| file.part.as_ref().ok().map(|part| K::reader(part).info().group));
        if logged && !groups().all(|group| group.is_some_and(|group| group as usize == files.len())) {
            tracing::warn!(seq, "parts of a flush that did not end, or cannot be read; their log is replayed instead");
            opened.strays.extend(files.into_iter().map(|file| file.path));
            continue;
        }
        opened.covered = opened.covered.max(Some(seq));
        for file in files {
            opened.take(env, file, damaged)?;
        }
    }
    opened.parts.sort_by_key(|part| K::reader(part).info().id());
    opened.covered = opened.covered.max(opened.parts.last().map(|part| K::reader(part).info().seq));
    for part in &opened.parts {
        let reader = K::reader(part);
        if let Some(what) = reader.salvaged() {
            damaged.inc();
            tracing::error!(path = ?reader.path(), what, "a damaged part was opened");
        }
    }
    remove(env, dir, &mut opened.strays);
    Ok(opened)
}

impl<P> OpenedParts<P> {
    /// Adds a part that counts.
    fn take(&mut self, env: &Env, file: Found<P>, damaged: &Cell) -> Result<(), StoreError> {
        let Found { id, path, part } = file;
        match part {
            Ok(part) => self.parts.push(Arc::new(part)),
            Err(error) if error.is_damage() => {
                damaged.inc();
                let aside = path.with_extension("part.damaged");
                tracing::error!(%error, moved_to = ?aside, "a part cannot be read and is left out");
                patiently(|| env.disk.rename(&path, &aside).map_err(io_error("rename", &path)))?;
            }
            Err(error) => {
                let why = said(&error);
                tracing::error!(why, ?path, "a part cannot be opened now; it is tried again");
                self.unopened.push(Unopened { id, path, why });
            }
        }
        Ok(())
    }
}

/// An error with what the system said.
pub(super) fn said(error: &StoreError) -> String {
    let source = std::error::Error::source(error).map(|source| format!(": {source}"));
    format!("{error}{}", source.unwrap_or_default())
}

/// Takes out the parts that were merged from others; those others, where a crash has left them, are
/// to go. Merged parts belong to no group: when they are made, the log of their rows is gone.
fn take_merged<K: Kind>(
    groups: &mut BTreeMap<u64, Vec<Found<K::Part>>>,
    strays: &mut BTreeSet<PathBuf>,
) -> Vec<Arc<K::Part>> {
    let (mut merged, mut replaced) = (Vec::new(), BTreeSet::new());
    for files in groups.values_mut() {
        for file in files.extract_if(.., |file| {
            let merged = |part: &K::Part| K::reader(part).merged().is_some();
            file.part.as_ref().is_ok_and(merged)
        }) {
            let Ok(part) = file.part else { continue };
            replaced.extend(K::reader(&part).merged().into_iter().flat_map(|own| own.replaces.iter().copied()));
            merged.push(Arc::new(part));
        }
    }
    let is_replaced = |id: &PartId| replaced.contains(id);
    let (gone, merged): (Vec<_>, Vec<_>) =
        merged.into_iter().partition(|part: &Arc<K::Part>| is_replaced(&K::reader(part).info().id()));
    strays.extend(gone.iter().map(|part| K::reader(part).path().to_owned()));
    for files in groups.values_mut() {
        strays.extend(files.extract_if(.., |file| is_replaced(&file.id)).map(|file| file.path));
    }
    groups.retain(|_, files| !files.is_empty());
    merged
}

/// Removes files; what cannot be removed for good now stays in the list.
pub(super) fn remove(env: &Env, dir: &Path, strays: &mut BTreeSet<PathBuf>) {
    if strays.is_empty() {
        return;
    }
    let stays = |path: &&PathBuf| match env.disk.remove(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            tracing::warn!(%error, ?path, "a file that counts no more cannot be removed; it is tried again");
            true
        }
        _ => {
            tracing::debug!(?path, "removed a file that counts no more");
            false
        }
    };
    let left = strays.iter().filter(stays).cloned().collect();
    // A power cut must not bring them back.
    match env.disk.sync_dir(dir) {
        Ok(()) => *strays = left,
        Err(error) => tracing::warn!(%error, ?dir, "cannot sync the folder of parts; it is tried again"),
    }
}

/// Applies the records of `segments` to a head; what is damaged is skipped and counted. Says whether the
/// segments are on the medium afterwards.
pub(super) fn replay_all<K: Kind>(
    env: &Env,
    kind: &K,
    head: &K::Head,
    dir: &Path,
    segments: &[Segment],
    damaged: &Cell,
) -> Result<bool, StoreError> {
    let name = K::SIGNAL.name();
    let mut synced = true;
    for segment in segments {
        let mut malformed = 0u64;
        let mut seen = 0u64;
        let bytes = patiently(|| wal::read(&*env.disk, dir, segment))?;
        let report = wal::replay(&bytes, |record| {
            if kind.replay(head, record, segment.seq).is_err() {
                malformed += 1;
            }
            seen += record.len() as u64;
            env.progress.done.fetch_add(record.len() as u64, Ordering::Relaxed);
        });
        env.progress.done.fetch_add(segment.bytes.saturating_sub(seen), Ordering::Relaxed);
        if report.bytes_lost > 0 || malformed > 0 {
            damaged.add(malformed.max(1));
            tracing::warn!(
                signal = name,
                segment = segment.seq,
                bytes_lost = report.bytes_lost,
                records_lost = malformed,
                "the write-ahead log has a torn tail or damaged records; what is whole was replayed"
            );
        }
        // Whoever died may have acknowledged what it had no time to sync.
        if let Err(error) = wal::sync_segment(&*env.disk, dir, segment) {
            wal::sync_failures(&env.counters, K::SIGNAL).inc();
            tracing::error!(%error, "a segment of the log cannot be synced; its rows are written to parts at once");
            synced = false;
        }
        if report.records > 0 {
            tracing::info!(signal = name, segment = segment.seq, records = report.records, "replayed");
        }
    }
    Ok(synced)
}
