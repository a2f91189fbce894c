//! The catalog: what parts there are, which label names and values each holds, metric metadata.
//! Everything in it can be read again from parts, so it is moved aside and rebuilt when it fails.
//! Keys: `p` signal seq index -> span and sizes; `n` signal seq index name -> values;
//! `m` metric name -> metadata.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use parking_lot::RwLock;

use super::codec::{Malformed, Reader, put_str, put_varint};
use super::kv::{Batch, Kv, KvError};
use super::part::{PartId, PartInfo};
use crate::base::counters::{Cell, Counters};
use crate::base::disk::Disk;
use crate::model::batch::{MetricMetadata, Signal};

/// Values of one label of one part are listed up to this many bytes; over it the part is asked.
pub const VALUES_BYTES_MAX: usize = 256 << 10;

/// Label (or attribute) names of a part with their distinct values, sorted.
pub type Names = BTreeMap<String, Vec<String>>;

/// Bytes free under which a catalog that does not open is taken for whole: sled may have met the end of
/// the disk in any way.
const ROOM_BYTES_MIN: u64 = 4 << 20;

/// Opens the tree, a new one in place of one that is damaged; says whether it is new.
fn open_or_rebuild(dir: &Path, disk: &dyn Disk, failures: &Cell) -> Result<(Kv, bool), KvError> {
    let error = match Kv::open(dir) {
        Ok(kv) => return Ok((kv, false)),
        Err(error) => error,
    };
    let has_room = disk.space(dir.parent().unwrap_or(dir)).is_ok_and(|space| space.free >= ROOM_BYTES_MIN);
    if matches!(error, KvError::Passing(_)) || !has_room {
        return Err(KvError::Passing(error.to_string()));
    }
    let aside = move_aside(dir, disk).map_err(|error| KvError::Passing(format!("move aside: {error}")))?;
    failures.inc();
    tracing::warn!(%error, moved_to = ?aside, "the catalog is damaged and is rebuilt from parts");
    Ok((Kv::open(dir)?, true))
}

/// Makes `to` hold what `from` holds of parts, and its metadata beside what is there.
fn copy(from: &Kv, to: &Kv) -> Result<(), KvError> {
    let mut batch = Batch::default();
    for prefix in [b"p", b"n"] {
        to.scan(prefix, |key, _| batch.delete(key))?;
    }
    from.scan(b"", |key, value| batch.put(key, value))?;
    to.apply(batch)?;
    to.flush()
}

/// The catalog of all signals.
pub struct Catalog {
    kv: RwLock<Option<Kv>>,
    dir: PathBuf,
    failures: Cell,
}

impl Catalog {
    /// Opens the catalog in `dir`. One that is damaged is moved aside and begun anew; one that the system
    /// does not let open is left as it is, and lives in memory until [`settle`](Self::settle) can open it.
    /// In both cases the answer's second half says that every part has to be registered again.
    pub fn open(dir: &Path, disk: &dyn Disk, counters: &Counters) -> (Self, bool) {
        let failures = counters.counter("trilith_catalog_failures_total", "Failures of the catalog.", &[]);
        let (kv, rebuilt) = match open_or_rebuild(dir, disk, &failures) {
            Ok(opened) => opened,
            Err(error) => {
                failures.inc();
                tracing::error!(%error, path = ?dir, "the catalog cannot be opened now and lives in memory until it can");
                (Kv::in_memory(), true)
            }
        };
        (Self { kv: RwLock::new(Some(kv)), dir: dir.to_owned(), failures }, rebuilt)
    }

    /// Whether it lives in memory, for it could not be opened.
    pub fn is_in_memory(&self) -> bool {
        self.kv.read().as_ref().is_some_and(Kv::is_in_memory)
    }

    /// Moves a catalog that lives in memory to the disk, if it can. What is done with it meanwhile waits.
    pub fn settle(&self, disk: &dyn Disk) {
        if !self.is_in_memory() {
            return;
        }
        let mut own = self.kv.write();
        let Some(memory) = own.as_ref() else { return };
        match open_or_rebuild(&self.dir, disk, &self.failures).and_then(|(kv, _)| copy(memory, &kv).map(|()| kv)) {
            Ok(kv) => *own = Some(kv),
            Err(error) => tracing::debug!(%error, "the catalog stays in memory"),
        }
    }

    /// Runs `work`; a failure is logged and counted, and the answer is then the default. Parts are
    /// the truth, so a failing catalog makes answers slower, never wrong.
    fn with<T: Default>(&self, work: impl FnOnce(&Kv) -> Result<T, KvError>) -> T {
        let guard = self.kv.read();
        let Some(kv) = guard.as_ref() else { return T::default() };
        work(kv).unwrap_or_else(|error| {
            self.failures.inc();
            tracing::error!(%error, path = ?self.dir, "the catalog failed; `trilith repair` rebuilds it");
            T::default()
        })
    }

    /// Parts of a signal that are registered, with the size of their files.
    pub fn parts(&self, signal: Signal) -> BTreeMap<PartId, u64> {
        self.with(|kv| {
            let mut parts = BTreeMap::new();
            kv.scan(&[b'p', signal as u8], |key, value| {
                if let (Some(id), Ok(bytes)) = (part_of_key(key), Reader::new(value).varint()) {
                    parts.insert(id, bytes);
                }
            })?;
            Ok(parts)
        })
    }

    /// Registers a part with the names it holds. Names with many values are kept without them.
    pub fn register(&self, info: &PartInfo, file_bytes: u64, names: &Names) {
        self.with(|kv| {
            let mut batch = Batch::default();
            for (name, values) in names {
                let mut key = part_key(b'n', info.signal, (info.seq, info.index));
                key.extend_from_slice(name.as_bytes());
                batch.put(&key, &encode_values(values));
            }
            // Last: with it the part counts as known.
            let mut value = Vec::new();
            put_varint(&mut value, file_bytes);
            batch.put(&part_key(b'p', info.signal, (info.seq, info.index)), &value);
            kv.apply(batch)
        });
    }

    /// Forgets a part.
    pub fn forget(&self, signal: Signal, part: PartId) {
        self.with(|kv| {
            let mut batch = Batch::default();
            kv.scan(&part_key(b'n', signal, part), |key, _| batch.delete(key))?;
            batch.delete(&part_key(b'p', signal, part));
            kv.apply(batch)
        });
    }

    /// Label names of a part; `None` when the catalog does not know the part.
    pub fn label_names(&self, signal: Signal, part: PartId) -> Option<BTreeSet<String>> {
        self.with(|kv| {
            if kv.get(&part_key(b'p', signal, part))?.is_none() {
                return Ok(None);
            }
            let mut names = BTreeSet::new();
            kv.scan(&part_key(b'n', signal, part), |key, _| {
                names.insert(String::from_utf8_lossy(key.get(PART_KEY_BYTES..).unwrap_or_default()).into_owned());
            })?;
            Ok(Some(names))
        })
    }

    /// Distinct values of a label in a part; `None` when they are too many to be listed or the
    /// catalog does not know the part: then the part itself has to be asked.
    pub fn label_values(&self, signal: Signal, part: PartId, name: &str) -> Option<Vec<String>> {
        self.with(|kv| {
            if kv.get(&part_key(b'p', signal, part))?.is_none() {
                return Ok(None);
            }
            let mut key = part_key(b'n', signal, part);
            key.extend_from_slice(name.as_bytes());
            Ok(match kv.get(&key)? {
                None => Some(Vec::new()),
                Some(value) => decode_values(&value).unwrap_or(None),
            })
        })
    }

    /// Keeps metadata of metric families; the newest of a name wins.
    pub fn put_metadata(&self, metadata: &[MetricMetadata]) {
        self.with(|kv| {
            let mut batch = Batch::default();
            for one in metadata {
                let mut value = Vec::new();
                put_str(&mut value, &one.kind);
                put_str(&mut value, &one.help);
                put_str(&mut value, &one.unit);
                batch.put(&[b"m", one.name.as_bytes()].concat(), &value);
            }
            kv.apply(batch)
        });
    }

    /// Visits the metadata of all metric families, by name.
    pub fn metadata(&self, mut visit: impl FnMut(MetricMetadata)) {
        self.with(|kv| {
            kv.scan(b"m", |key, value| {
                let name = String::from_utf8_lossy(key.get(1..).unwrap_or_default()).into_owned();
                decode_metadata(name, value).into_iter().for_each(&mut visit);
            })
        });
    }

    /// Waits until everything is on the medium.
    pub fn flush(&self) {
        self.with(Kv::flush);
    }

    /// Closes the tree, so that its files can be touched.
    pub fn close(&self) {
        *self.kv.write() = None;
    }
}

/// Renames `dir` to a free name beside it.
///
/// # Errors
/// The system's.
pub fn move_aside(dir: &Path, disk: &dyn Disk) -> std::io::Result<PathBuf> {
    let name = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
    for number in 1.. {
        let aside = dir.with_file_name(format!("{name}.damaged-{number}"));
        if !disk.exists(&aside)? {
            disk.rename(dir, &aside)?;
            return Ok(aside);
        }
    }
    Ok(dir.to_owned())
}

const PART_KEY_BYTES: usize = 14;

fn part_key(prefix: u8, signal: Signal, (seq, index): PartId) -> Vec<u8> {
    let mut key = vec![prefix, signal as u8];
    key.extend_from_slice(&seq.to_be_bytes());
    key.extend_from_slice(&index.to_be_bytes());
    key
}

fn part_of_key(key: &[u8]) -> Option<PartId> {
    let (seq, index) = key.get(2..PART_KEY_BYTES)?.split_at_checked(8)?;
    Some((u64::from_be_bytes(seq.try_into().ok()?), u32::from_be_bytes(index.try_into().ok()?)))
}

fn encode_values(values: &[String]) -> Vec<u8> {
    let bytes: usize = values.iter().map(|value| value.len() + 2).sum();
    let mut out = Vec::new();
    if bytes > VALUES_BYTES_MAX {
        out.push(0);
        return out;
    }
    out.push(1);
    values.iter().for_each(|value| put_str(&mut out, value));
    out
}

fn decode_values(bytes: &[u8]) -> Result<Option<Vec<String>>, Malformed> {
    let mut reader = Reader::new(bytes);
    if reader.byte()? == 0 {
        return Ok(None);
    }
    let mut values = Vec::new();
    while !reader.is_empty() {
        values.push(reader.str()?.to_owned());
    }
    Ok(Some(values))
}

fn decode_metadata(name: String, value: &[u8]) -> Option<MetricMetadata> {
    let mut reader = Reader::new(value);
    Some(MetricMetadata {
        name,
        kind: reader.str().ok()?.to_owned(),
        help: reader.str().ok()?.to_owned(),
        unit: reader.str().ok()?.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::base::disk::RealDisk;

    fn info(index: u32) -> PartInfo {
        PartInfo { signal: Signal::Logs, seq: 3, index, group: 2, min_t: 0, max_t: 1, rows: 1, created_ms: 0 }
    }

    fn families(catalog: &Catalog) -> Vec<String> {
        let mut names = Vec::new();
        catalog.metadata(|own| names.push(own.name));
        names
    }

    #[test]
    fn names_and_values_go_with_their_part() {
        let dir = tempfile::tempdir().unwrap();
        let (catalog, rebuilt) = Catalog::open(&dir.path().join("catalog"), &RealDisk, &Counters::default());
        assert!(!rebuilt);
        let many: Vec<String> = (0..100_000).map(|n| format!("value{n}")).collect();
        let names = Names::from([("app".into(), vec!["a".into(), "b".into()]), ("id".into(), many)]);
        catalog.register(&info(0), 99, &names);
        catalog.register(&info(1), 7, &Names::new());
        assert_eq!(catalog.parts(Signal::Logs), BTreeMap::from([((3, 0), 99), ((3, 1), 7)]));
        assert_eq!(catalog.label_values(Signal::Logs, (3, 0), "app"), Some(vec!["a".into(), "b".into()]));
        assert_eq!(catalog.label_values(Signal::Logs, (3, 0), "id"), None);
        assert_eq!(catalog.label_values(Signal::Logs, (3, 1), "app"), Some(vec![]));
        assert_eq!(catalog.label_names(Signal::Logs, (3, 0)).unwrap().len(), 2);
        catalog.forget(Signal::Logs, (3, 0));
        assert_eq!(catalog.label_names(Signal::Logs, (3, 0)), None);
        assert_eq!(catalog.parts(Signal::Metrics), BTreeMap::new());
    }

    #[test]
    fn a_catalog_in_memory_takes_the_place_of_what_was_on_disk() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("catalog");
        let metadata = |name: &str| MetricMetadata { name: name.into(), ..MetricMetadata::default() };
        let (catalog, _) = Catalog::open(&path, &RealDisk, &Counters::default());
        catalog.register(&info(0), 99, &Names::from([("app".into(), vec!["gone".into()])]));
        catalog.put_metadata(&[metadata("down")]);
        catalog.flush();
        drop(catalog);
        fs::rename(&path, dir.path().join("kept")).unwrap();
        let (catalog, _) = Catalog::open(&path, &RealDisk, &Counters::default());
        *catalog.kv.write() = Some(Kv::in_memory());
        fs::remove_dir_all(&path).unwrap();
        fs::rename(dir.path().join("kept"), &path).unwrap();
        catalog.register(&info(1), 7, &Names::from([("app".into(), vec!["here".into()])]));
        catalog.put_metadata(&[metadata("up")]);
        assert!(catalog.is_in_memory());
        catalog.settle(&RealDisk);
        assert!(!catalog.is_in_memory());
        drop(catalog);
        let (catalog, rebuilt) = Catalog::open(&path, &RealDisk, &Counters::default());
        assert!(!rebuilt);
        assert_eq!(catalog.parts(Signal::Logs), BTreeMap::from([((3, 1), 7)]));
        assert_eq!(catalog.label_values(Signal::Logs, (3, 0), "app"), None);
        assert_eq!(catalog.label_values(Signal::Logs, (3, 1), "app"), Some(vec!["here".into()]));
        assert_eq!(families(&catalog), ["down", "up"]);
    }

    #[test]
    fn a_catalog_that_is_no_catalog_is_moved_aside() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("catalog");
        fs::create_dir(&path).unwrap();
        fs::write(path.join("conf"), b"not a sled config").unwrap();
        fs::write(path.join("db"), [0x55; 5000]).unwrap();
        let (catalog, rebuilt) = Catalog::open(&path, &RealDisk, &Counters::default());
        assert!(rebuilt);
        assert!(dir.path().join("catalog.damaged-1").exists());
        catalog.put_metadata(&[MetricMetadata { name: "up".into(), ..MetricMetadata::default() }]);
        assert_eq!(families(&catalog), ["up"]);
    }
}
