//! Ordered keys in one sled tree; the only file that names sled.
//! Invariants: every value carries a crc32c over key and value, so a damaged one reads as absent;
//! what fails to open or panics is an error here, never an abort. Nothing here has no other source.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use super::codec::Reader;

/// Memory that sled may cache, in bytes.
const CACHE_BYTES: u64 = 16 << 20;

/// The tree failed; the catalog must be rebuilt.
#[derive(Clone, Debug, thiserror::Error)]
#[error("catalog: {0}")]
pub struct KvError(String);

impl From<sled::Error> for KvError {
    fn from(error: sled::Error) -> Self {
        Self(error.to_string())
    }
}

/// A change of several keys that is made whole or not at all.
#[derive(Default)]
pub struct Batch(sled::Batch);

impl Batch {
    /// Sets `key`.
    pub fn put(&mut self, key: &[u8], value: &[u8]) {
        self.0.insert(key, sealed(key, value));
    }

    /// Removes `key`.
    pub fn delete(&mut self, key: &[u8]) {
        self.0.remove(key);
    }
}

/// Ordered keys and values.
pub struct Kv(sled::Db);

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
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| Err(KvError("sled panicked".into())))
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
                    return Err(KvError("a value's checksum does not hold".into()));
                }
            }
            Ok(Self(db))
        })
    }

    /// The value of `key`.
    ///
    /// # Errors
    /// [`KvError`].
    pub fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, KvError> {
        guarded(|| Ok(self.0.get(key)?.and_then(|value| unsealed(key, &value))))
    }

    /// Makes the changes of `batch` together.
    ///
    /// # Errors
    /// [`KvError`].
    pub fn apply(&self, batch: Batch) -> Result<(), KvError> {
        guarded(|| Ok(self.0.apply_batch(batch.0)?))
    }

    /// Hands keys that begin with `prefix` and their values to `visit`, in order of keys.
    ///
    /// # Errors
    /// [`KvError`].
    pub fn scan(&self, prefix: &[u8], mut visit: impl FnMut(&[u8], &[u8])) -> Result<(), KvError> {
        guarded(|| {
            for item in self.0.scan_prefix(prefix) {
                let (key, value) = item?;
                if let Some(value) = unsealed(&key, &value) {
                    visit(&key, &value);
                }
            }
            Ok(())
        })
    }

    /// Waits until everything is on the medium.
    ///
    /// # Errors
    /// [`KvError`].
    pub fn flush(&self) -> Result<(), KvError> {
        guarded(|| self.0.flush().map(|_| ()).map_err(KvError::from))
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
    fn a_value_under_another_key_does_not_count() {
        assert_eq!(unsealed(b"other", &sealed(b"key", b"value")), None);
        assert_eq!(unsealed(b"key", &sealed(b"key", b"value")), Some(b"value".to_vec()));
        assert_eq!(unsealed(b"key", b"abc"), None);
    }
}
