//! The data directory: made when missing, locked against a second process while this one lives.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

const LOCK_FILE: &str = "trilith.lock";

/// What no data directory is without once a store was opened in it.
const WRITTEN_FIRST: [&str; 4] = ["FORMAT", "FORMAT.sum", "wal", "catalog"];

/// `path` from the root on.
pub(super) fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// Why the data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum DataDirError {
    #[error("the data directory {0:?} is not a directory; name another with --data-dir")]
    NotADirectory(PathBuf),
    #[error(
        "no permission to {action} the data directory {path:?}: give user id {uid} write access, or name another with --data-dir"
    )]
    Permission { action: &'static str, path: PathBuf, uid: u32 },
    #[error("no room on disk for the data directory {0:?}: free some, or name another with --data-dir")]
    DiskFull(PathBuf),
    #[error("the file system of the data directory {0:?} is read-only; name another with --data-dir")]
    ReadOnly(PathBuf),
    #[error(
        "the data directory {path:?} is in use by another process ({holder}); stop it, or name another with --data-dir"
    )]
    InUse { path: PathBuf, holder: String },
    #[error("cannot {action} the data directory {path:?}")]
    Io { action: &'static str, path: PathBuf, source: io::Error },
}

impl DataDirError {
    /// Whether it may be had in a moment.
    pub(super) fn may_pass(&self) -> bool {
        matches!(self, Self::InUse { .. } | Self::Io { .. })
    }

    fn from_io(action: &'static str, path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::PermissionDenied => {
                Self::Permission { action, path, uid: rustix::process::geteuid().as_raw() }
            }
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull(path),
            io::ErrorKind::ReadOnlyFilesystem => Self::ReadOnly(path),
            io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists => Self::NotADirectory(path),
            _ => Self::Io { action, path, source },
        }
    }
}

/// The data directory, ours until this is dropped.
#[derive(Debug)]
pub(super) struct DataDir {
    path: PathBuf,
    is_new: bool,
    _lock: File,
}

impl DataDir {
    /// Makes the directory when missing and locks it; a relative path begins where the program was started. The kernel frees the lock when the process
    /// ends in whatever way, so a lock file that was left behind blocks nobody.
    ///
    /// # Errors
    /// [`DataDirError`].
    pub(super) fn take(path: &Path) -> Result<Self, DataDirError> {
        let path = &absolute(path);
        fs::create_dir_all(path).map_err(|error| DataDirError::from_io("create", path, error))?;
        let options = OpenOptions::new().read(true).write(true).create(true).truncate(false).clone();
        let lock = options.open(path.join(LOCK_FILE));
        let mut lock = lock.map_err(|error| DataDirError::from_io("write to", path, error))?;
        if let Err(error) = flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            if error == rustix::io::Errno::WOULDBLOCK {
                return Err(DataDirError::InUse { path: path.to_owned(), holder: holder(&mut lock) });
            }
            return Err(DataDirError::from_io("lock", path, error.into()));
        }
        if let Err(error) = sign(&mut lock) {
            // The lock holds without our name in it; a full disk must not keep queries from being answered.
            tracing::warn!(%error, "cannot write our process id to the lock file");
        }
        let is_new = !WRITTEN_FIRST.iter().any(|name| path.join(name).exists());
        Ok(Self { path: path.to_owned(), is_new, _lock: lock })
    }

    /// Whether nothing of ours was there.
    pub(super) fn is_new(&self) -> bool {
        self.is_new
    }

    /// Its path, from the root on.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

fn sign(lock: &mut File) -> io::Result<()> {
    lock.set_len(0)?;
    lock.rewind()?;
    writeln!(lock, "{}", std::process::id())
}

fn holder(lock: &mut File) -> String {
    let mut text = String::new();
    let read = lock.take(32).read_to_string(&mut text);
    match text.trim().parse::<u32>() {
        Ok(pid) if read.is_ok() => format!("process id {pid}"),
        _ => "of unknown process id".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_made_and_taken_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b");
        let first = DataDir::take(&path).unwrap();
        let error = DataDir::take(&path).unwrap_err().to_string();
        assert!(error.contains(&format!("process id {}", std::process::id())), "{error}");
        assert!(error.contains("--data-dir"), "{error}");
        assert!(first.is_new());
        drop(first);
        // A lock alone is no data.
        assert!(DataDir::take(&path).unwrap().is_new());
        fs::write(path.join("FORMAT"), "1").unwrap();
        assert!(!DataDir::take(&path).unwrap().is_new());
    }

    #[test]
    fn a_file_in_its_place_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, "x").unwrap();
        assert!(DataDir::take(&path).unwrap_err().to_string().contains("is not a directory"));
        let below = path.join("below");
        assert!(DataDir::take(&below).unwrap_err().to_string().contains("is not a directory"));
    }

    #[test]
    fn each_cause_has_its_own_words() {
        let from = |kind: io::ErrorKind| DataDirError::from_io("create", Path::new("d"), kind.into()).to_string();
        assert!(from(io::ErrorKind::PermissionDenied).contains("no permission to create"));
        assert!(from(io::ErrorKind::StorageFull).contains("no room on disk"));
        assert!(from(io::ErrorKind::ReadOnlyFilesystem).contains("read-only"));
    }
}
