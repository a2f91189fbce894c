//! What a transfer is asked for, and why one ends before its end.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::wire::error::WireError;

/// What is imported.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// OpenMetrics text.
    #[default]
    OpenMetrics,
    /// Prometheus text.
    Prometheus,
    /// A block of the Prometheus TSDB, or a folder of them.
    Tsdb,
}

impl Kind {
    /// Their names on the command line.
    pub const NAMES: [(&'static str, Self); 3] =
        [("openmetrics", Self::OpenMetrics), ("prometheus", Self::Prometheus), ("tsdb", Self::Tsdb)];
}

/// What `import` and `export` are asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transfer {
    /// What is imported.
    pub kind: Kind,
    /// The file or folder; `-` is standard input or output.
    pub path: PathBuf,
    /// The server, when it is not the one at `--listen`.
    pub url: Option<String>,
    /// Selectors of an export.
    pub matches: Vec<String>,
    /// First time of an export.
    pub start: Option<String>,
    /// Last time of an export.
    pub end: Option<String>,
}

/// Why a transfer ended before its end.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// The address is none that can be used.
    #[error("{url:?} is no address of a server: {what}")]
    Url {
        /// As given.
        url: String,
        /// What is wrong.
        what: &'static str,
    },
    /// A file cannot be read or written.
    #[error("{action} {path:?}")]
    File {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The server cannot be reached, or broke off.
    #[error("talk to {address}")]
    Connection {
        /// The server.
        address: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The server says no.
    #[error("the server answers {status}: {text}")]
    Refused {
        /// Status.
        status: u16,
        /// Its words.
        text: String,
    },
    /// A block is not what it should be.
    #[error("{path:?}")]
    Block {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: WireError,
    },
    /// The folder holds no blocks.
    #[error(
        "there is no block in {0:?}: a block is a folder with meta.json, index and chunks; what is only in Prometheus's WAL is not read, so take a snapshot first"
    )]
    NoBlocks(PathBuf),
}

/// How long a server that takes nothing is asked again.
pub(super) const RETRY_FOR: Duration = Duration::from_secs(600);
pub(super) const RETRY_PAUSE: Duration = Duration::from_secs(1);

pub(super) fn say(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

pub(super) fn file_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> TransferError {
    let path = path.to_owned();
    move |source| TransferError::File { action, path, source }
}
