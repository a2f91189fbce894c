//! What a lane does when it is opened: which parts count, and the replay of the log.
//! Invariants: of a group of a flush all parts count, or its log; of a merged part and those that it
//! was made of, the merged one. What is damaged is moved aside or skipped, named and counted.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::kind::Kind;
use crate::base::counters::Cell;
use crate::store::env::Env;
use crate::store::error::{StoreError, io_error};
use crate::store::part::{PartId, PartInfo, PartReader};
use crate::store::wal::{self, Segment};

/// What was found in the folder of parts.
pub(super) struct OpenedParts<P> {
    pub(super) parts: Vec<Arc<P>>,
    /// Seqs of all part files, also of those not opened.
    pub(super) seqs: Vec<u64>,
    /// The newest segment whose records all lie in parts.
    pub(super) covered: Option<u64>,
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
    let mut groups: BTreeMap<u64, Vec<(PartId, PathBuf)>> = BTreeMap::new();
    for entry in env.disk.list(dir).map_err(io_error("list", dir))? {
        let path = dir.join(&entry.name);
        if entry.name.ends_with(".tmp") {
            env.disk.remove(&path).map_err(io_error("remove", &path))?;
        } else if let Some(id) = PartInfo::parse_file_name(&entry.name) {
            groups.entry(id.0).or_default().push((id, path));
        }
    }
    let mut opened = OpenedParts { parts: Vec::new(), seqs: groups.keys().copied().collect(), covered: None };
    let merged = open_merged(env, kind, &mut groups)?;
    for (seq, files) in groups {
        let logged = segments.iter().any(|segment| segment.seq == seq);
        let results: Vec<_> =
            files.iter().map(|(_, path)| PartReader::open(&*env.disk, path).and_then(|part| kind.open(part))).collect();
        let whole = results.iter().all(Result::is_ok)
            && results.iter().flatten().all(|part| K::reader(part).info().group as usize == results.len());
        if logged && !whole {
            tracing::warn!(seq, "parts of a flush that did not end; their log is replayed instead");
            for (_, path) in &files {
                env.disk.remove(path).map_err(io_error("remove", path))?;
            }
            continue;
        }
        if logged {
            opened.covered = Some(seq);
        }
        for (result, (_, path)) in results.into_iter().zip(&files) {
            match result {
                Ok(part) => opened.parts.push(Arc::new(part)),
                Err(error) => {
                    damaged.inc();
                    let aside = path.with_extension("part.damaged");
                    tracing::error!(%error, moved_to = ?aside, "a part cannot be read and is left out");
                    env.disk.rename(path, &aside).map_err(io_error("rename", path))?;
                }
            }
        }
    }
    opened.parts.extend(merged);
    opened.parts.sort_by_key(|part| K::reader(part).info().id());
    for part in &opened.parts {
        let reader = K::reader(part);
        if let Some(what) = reader.salvaged() {
            damaged.inc();
            tracing::error!(path = ?reader.path(), what, "a damaged part was opened");
        }
    }
    Ok(opened)
}

/// Opens the parts that were merged from others, and removes those others where a crash has left
/// them. Merged parts belong to no group: when they are made, the log of their rows is gone.
fn open_merged<K: Kind>(
    env: &Env,
    kind: &K,
    groups: &mut BTreeMap<u64, Vec<(PartId, PathBuf)>>,
) -> Result<Vec<Arc<K::Part>>, StoreError> {
    let (mut merged, mut replaced) = (Vec::new(), BTreeSet::new());
    for files in groups.values_mut() {
        // What does not open is left to the caller.
        files.retain(|(_, path)| match PartReader::open(&*env.disk, path) {
            Ok(reader) if reader.merged().is_some() => {
                let replaces = reader.merged().map(|own| own.replaces.clone()).unwrap_or_default();
                let Ok(part) = kind.open(reader) else { return true };
                replaced.extend(replaces);
                merged.push(Arc::new(part));
                false
            }
            Ok(_) | Err(_) => true,
        });
    }
    let is_replaced = |id: &PartId| replaced.contains(id);
    let (gone, merged): (Vec<_>, Vec<_>) =
        merged.into_iter().partition(|part: &Arc<K::Part>| is_replaced(&K::reader(part).info().id()));
    let mut remove: Vec<PathBuf> = gone.iter().map(|part| K::reader(part).path().to_owned()).collect();
    for files in groups.values_mut() {
        let of_merged = files.extract_if(.., |(id, _)| is_replaced(id));
        remove.extend(of_merged.map(|(_, path)| path));
    }
    groups.retain(|_, files| !files.is_empty());
    for path in &remove {
        tracing::info!(?path, "removing a part whose merge was cut off behind its end");
        env.disk.remove(path).map_err(io_error("remove", path))?;
    }
    if let Some(dir) = remove.first().and_then(|path| path.parent()) {
        env.disk.sync_dir(dir).map_err(io_error("sync", dir))?;
    }
    Ok(merged)
}

/// Applies the records of `segments` to a head; what is damaged is skipped and counted.
pub(super) fn replay_all<K: Kind>(
    env: &Env,
    kind: &K,
    head: &K::Head,
    dir: &Path,
    segments: &[Segment],
    damaged: &Cell,
) -> Result<(), StoreError> {
    let name = K::SIGNAL.name();
    for segment in segments {
        let mut malformed = 0u64;
        let mut seen = 0u64;
        let report = wal::replay(&*env.disk, dir, segment, |record| {
            if kind.replay(head, record, segment.seq).is_err() {
                malformed += 1;
            }
            seen += record.len() as u64;
            env.progress.done.fetch_add(record.len() as u64, Ordering::Relaxed);
            Ok(())
        })?;
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
        tracing::info!(signal = name, segment = segment.seq, records = report.records, "replayed");
    }
    Ok(())
}
