//! Why the store could not do what it was asked, in the words of this room, and the one place that
//! turns what the system said into them: a disk without room is told apart from one that fails, for
//! the first heals by itself.

use std::io;
use std::path::{Path, PathBuf};

use crate::base::error::{Classify, ErrorClass};
use crate::base::limits::LimitError;

/// Why the store could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A read or write failed.
    #[error("{action} {path:?}")]
    Io {
        /// What was tried, as in "write".
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The disk is full, or nearly: nothing is taken until there is room.
    #[error("no room on disk: {free} bytes free, {needed} needed; queries go on, writes resume when there is room")]
    DiskFull {
        /// Bytes free.
        free: u64,
        /// Bytes that must be.
        needed: u64,
    },
    /// Heads are at their limit until a flush makes room.
    #[error("no room in memory until the next flush; retry")]
    MemoryFull,
    /// The server is replaying or stopping.
    #[error("the store is {0}; retry")]
    NotReady(&'static str),
    /// Bytes on disk are not what was written.
    #[error("{path:?} is damaged: {what}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// A part that a query may need cannot be opened now, though nothing says that it is damaged.
    #[error(
        "{path:?} cannot be opened now ({why}); it is tried again, and nothing is answered without it; move the file away to do without"
    )]
    NotOpen {
        /// The part.
        path: PathBuf,
        /// What the system said.
        why: String,
    },
    /// The query's budget is used up.
    #[error(transparent)]
    Limit(#[from] LimitError),
}

impl StoreError {
    /// Whether bytes are not what was written. Everything else may pass: the same can succeed later, so
    /// nothing is given up for it.
    pub fn is_damage(&self) -> bool {
        matches!(self, Self::Damaged { .. })
    }

    /// Whether the same may succeed later though nobody changes what is on the disk: not where something is
    /// damaged, or has no right or no way to be what it should.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Io { source, .. } => !matches!(
                source.kind(),
                io::ErrorKind::PermissionDenied
                    | io::ErrorKind::ReadOnlyFilesystem
                    | io::ErrorKind::NotADirectory
                    | io::ErrorKind::IsADirectory
                    | io::ErrorKind::AlreadyExists
                    | io::ErrorKind::InvalidInput
                    | io::ErrorKind::InvalidFilename
                    | io::ErrorKind::Unsupported
            ),
            Self::DiskFull { .. } | Self::MemoryFull | Self::NotReady(_) | Self::NotOpen { .. } => true,
            Self::Damaged { .. } | Self::Limit(_) => false,
        }
    }

    /// What an operator can do about an error that keeps a data directory from being opened.
    pub fn advice(&self) -> &'static str {
        let Self::Io { source, .. } = self else {
            return match self {
                Self::DiskFull { .. } => "free some room on its file system",
                Self::Damaged { .. } => "move the file away to do without, or bring it back from a backup",
                _ => "the log says more",
            };
        };
        let number = source.raw_os_error();
        let is = |own: rustix::io::Errno| number == Some(own.raw_os_error());
        match source.kind() {
            io::ErrorKind::PermissionDenied => "give this user read and write access to all in it",
            io::ErrorKind::ReadOnlyFilesystem => "mount its file system for writing",
            io::ErrorKind::NotADirectory | io::ErrorKind::IsADirectory | io::ErrorKind::AlreadyExists => {
                "something that the server has not made has this name: move it away"
            }
            io::ErrorKind::OutOfMemory => "give the process more memory",
            _ if is(rustix::io::Errno::MFILE) || is(rustix::io::Errno::NFILE) => {
                "raise the limit of open files (ulimit -n, LimitNOFILE= of systemd)"
            }
            _ => "look at the disk: the kernel's log (dmesg) may say more",
        }
    }
}

impl Classify for StoreError {
    fn class(&self) -> ErrorClass {
        match self {
            Self::Io { .. } | Self::DiskFull { .. } | Self::MemoryFull | Self::NotReady(_) | Self::NotOpen { .. } => {
                ErrorClass::Unavailable
            }
            Self::Damaged { .. } => ErrorClass::Internal,
            Self::Limit(limit) => limit.class(),
        }
    }
}

/// What to make of an error of the file system: `action` as in "write".
pub(super) fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    let path = path.to_owned();
    move |source| match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => StoreError::DiskFull { free: 0, needed: 1 },
        _ => StoreError::Io { action, path, source },
    }
}
