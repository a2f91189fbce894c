//! Ordered keys in one sled tree, or in memory while the disk does not let sled open; the only file
//! that names sled.
//! Invariants: every value carries a crc32c over key and value, so a damaged one reads as absent;
//! what fails to open or panics is an error here, never an abort. Nothing here has no other source.

use std::collections::BTreeMap;
use std::io;
use std::ops::Bound;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use parking_lot::RwLock;

use super::codec::Reader;

/// Memory that sled may cache, in bytes.
const CACHE_BYTES: u64 = 16 << 20;

/// Sled takes memory for all that is changed at once, so a large change is made in pieces of so many bytes, ...
const PIECE_BYTES: usize = 64 << 10;
/// ... of which each key takes so many beside its own.
const CHANGE_BYTES: usize = 64;

/// The tree failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum KvError {
    /// What it holds is damaged, or sled gave up: the catalog must be rebuilt.
    #[error("catalog: {0}")]
    Damaged(String),
    /// The system did not let it work, which says nothing of what it holds: try again later.
    #[error("catalog: {0}")]
    Passing(String),
}

/// Numbers of errors of the system that say nothing of what lies on the disk.
const PASSING: [rustix::io::Errno; 11] = [
    rustix::io::Errno::NOSPC,
    rustix::io::Errno::DQUOT,
    rustix::io::Errno::IO,
    rustix::io::Errno::MFILE,
    rustix::io::Errno::NFILE,
    rustix::io::Errno::NOMEM,
    rustix::io::Errno::INTR,
    rustix::io::Errno::AGAIN,
    rustix::io::Errno::ACCESS,
    rustix::io::Errno::PERM,
    rustix::io::Errno::ROFS,
];

fn is_passing(error: &io::Error) -> bool {
    let number = error.raw_os_error();
    number.is_some_and(|number| PASSING.iter().any(|own| own.raw_os_error() == number))
        // Sled passes on copies of errors that have only their kind.
        || matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::OutOfMemory)
}

impl From<sled::Error> for KvError {
    fn from(error: sled::Error) -> Self {
        match &error {
            sled::Error::Io(source) if is_passing(source) => Self::Passing(error.to_string()),
            _ => Self::Damaged(error.to_string()),
        }
    }
}

/// A change of several keys.
#[derive(Default)]
pub struct Batch(Vec<(Vec<u8>, Option<Vec<u8>>)>);

impl Batch {
    /// Sets `key`.
    pub fn put(&mut self, key: &[u8], value: &[u8]) {
        self.0.push((key.to_vec(), Some(sealed(key, value))));
    }

    /// Removes `key`.
    pub fn delete(&mut self, key: &[u8]) {
        self.0.push((key.to_vec(), None));
    }
}

/// Ordered keys and values.
pub struct Kv(Tree);

enum Tree {
    Sled(sled::Db),
    Memory(RwLock<BTreeMap<Vec<u8>, Vec<u8>>>),
}

fn sealed(key: &[u8], value: &[u8]) -> Vec<u8> {
    let crc = crc32c::crc32c_append(crc32c::crc32c(key), value);
    let mut bytes = Vec::with_capacity(4 + value.len());
    bytes.extend_from_slice(&crc.to_le_bytes());
    bytes.extend_from_slice(value);
    bytes
}

fn unsealed(key: &[u8], bytes: &[u8]) -> Option<Vec<u8>> {
    let mut reader = Reader::new(bytes);
    let crc = reader.u32().ok()?;
    (crc32c::crc32c_append(crc32c::crc32c(key), reader.rest()) == crc).then(|| reader.rest().to_vec())
}

/// Runs what may panic inside sled.
fn guarded<T>(work: impl FnOnce() -> Result<T, KvError>) -> Result<T, KvError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| Err(KvError::Damaged("sled panicked".into())))
}

impl Kv {
    /// Opens the tree in folder `path` and reads all of it once, so that damage shows now.
    ///
    /// # Errors
    /// [`KvError`] when it does not open or does not read; move the folder aside and rebuild.
    pub fn open(path: &Path) -> Result<Self, KvError> {
        guarded(|| {
            let config = sled::Config::new().path(path).cache_capacity(CACHE_BYTES).flush_every_ms(Some(1000));
            let db = config.open()?;
            for item in db.iter() {
                let (key, value) = item?;
                if unsealed(&key, &value).is_none() {
                    return Err(KvError::Damaged("a value's checksum does not hold".into()));
                }
            }
            Ok(Self(Tree::Sled(db)))
        })
    }

    /// An empty tree in memory.
    pub fn in_memory() -> Self {
        Self(Tree::Memory(RwLock::default()))
    }

    /// Whether it is gone when the process ends.
    pub fn is_in_memory(&self) -> bool {
        matches!(self.0, Tree::Memory(_))
    }

    /// The value of `key`.
    ///
    /// # Errors
    /// [`KvError`].
    pub fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, KvError> {
        let found = match &self.0 {
            Tree::Sled(db) => guarded(|| Ok(db.get(key)?.and_then(|value| unsealed(key, &value))))?,
            Tree::Memory(keys) => keys.read().get(key).and_then(|value| unsealed(key, value)),
        };
        Ok(found)
    }

    /// Makes the changes of `batch` in their order; a large one in pieces, of which the first may be there
    /// without the last. So what says that all is there comes last.
    ///
    /// # Errors
    /// [`KvError`].
    pub fn apply(&self, batch: Batch) -> Result<(), KvError> {
        match &self.0 {
            Tree::Sled(db) => {
                let (mut piece, mut bytes) = (sled::Batch::default(), 0);
                for (key, value) in batch.0 {
                    bytes += key.len() + value.as_ref().map_or(0, Vec::len) + CHANGE_BYTES;
                    match value {
                        Some(value) => piece.insert(key, value),
                        None => piece.remove(key),
                    }
                    if bytes >= PIECE_BYTES {
                        let full = std::mem::take(&mut piece);
                        guarded(|| Ok(db.apply_batch(full)?))?;
                        bytes = 0;
                    }
                }
                guarded(|| Ok(db.apply_batch(piece)?))
            }
            Tree::Memory(keys) => {
                let mut keys = keys.write();
                for (key, value) in batch.0 {
                    match value {
                        Some(value) => keys.insert(key, value),
                        None => keys.remove(&key),
                    };
                }
                Ok(())
            }
        }
    }

    /// Hands keys that begin with `prefix` and their values to `visit`, in order of keys.
    ///
    /// # Errors
    /// [`KvError`].
    pub fn scan(&self, prefix: &[u8], mut visit: impl FnMut(&[u8], &[u8])) -> Result<(), KvError> {
        match &self.0 {
            Tree::Sled(db) => guarded(|| {
                for item in db.scan_prefix(prefix) {
                    let (key, value) = item?;
                    if let Some(value) = unsealed(&key, &value) {
                        visit(&key, &value);
                    }
                }
                Ok(())
            }),
            Tree::Memory(keys) => {
                let keys = keys.read();
                let from = keys.range::<[u8], _>((Bound::Included(prefix), Bound::Unbounded));
                for (key, value) in from.take_while(|(key, _)| key.starts_with(prefix)) {
                    if let Some(value) = unsealed(key, value) {
                        visit(key, &value);
                    }
                }
                Ok(())
            }
        }
    }

    /// Waits until everything is on the medium.
    ///
    /// # Errors
    /// [`KvError`].
    pub fn flush(&self) -> Result<(), KvError> {
        match &self.0 {
            Tree::Sled(db) => guarded(|| db.flush().map(|_| ()).map_err(KvError::from)),
            Tree::Memory(_) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_back_in_order_after_reopening() {
        let dir = tempfile::tempdir().unwrap();
        let kv = Kv::open(dir.path()).unwrap();
        let mut batch = Batch::default();
        batch.put(b"a/2", b"two");
        batch.put(b"a/1", b"");
        batch.put(b"b", b"x");
        batch.delete(b"b");
        kv.apply(batch).unwrap();
        kv.flush().unwrap();
        drop(kv);
        let kv = Kv::open(dir.path()).unwrap();
        let mut found = Vec::new();
        kv.scan(b"a/", |key, value| found.push((key.to_vec(), value.to_vec()))).unwrap();
        assert_eq!(found, [(b"a/1".to_vec(), b"".to_vec()), (b"a/2".to_vec(), b"two".to_vec())]);
        assert_eq!(kv.get(b"b").unwrap(), None);
    }

    #[test]
    fn a_tree_in_memory_is_like_one_on_disk() {
        let dir = tempfile::tempdir().unwrap();
        for kv in [Kv::open(dir.path()).unwrap(), Kv::in_memory()] {
            let mut batch = Batch::default();
            for key in [&b"a/2"[..], b"a/1", b"b", b"a"] {
                batch.put(key, key);
            }
            batch.delete(b"a/2");
            kv.apply(batch).unwrap();
            let mut found = Vec::new();
            kv.scan(b"a/", |key, value| found.push((key.to_vec(), value.to_vec()))).unwrap();
            assert_eq!(found, [(b"a/1".to_vec(), b"a/1".to_vec())]);
            assert_eq!((kv.get(b"b").unwrap(), kv.get(b"a/2").unwrap()), (Some(b"b".to_vec()), None));
        }
    }

    #[test]
    fn what_the_system_refuses_is_not_damage() {
        for number in PASSING {
            let error = sled::Error::Io(number.into());
            assert!(matches!(KvError::from(error), KvError::Passing(_)), "{number}");
        }
        let torn = sled::Error::Io(io::ErrorKind::UnexpectedEof.into());
        assert!(matches!(KvError::from(torn), KvError::Damaged(_)));
    }

    #[test]
    fn a_value_under_another_key_does_not_count() {
        assert_eq!(unsealed(b"other", &sealed(b"key", b"value")), None);
        assert_eq!(unsealed(b"key", &sealed(b"key", b"value")), Some(b"value".to_vec()));
        assert_eq!(unsealed(b"key", b"abc"), None);
    }
}
