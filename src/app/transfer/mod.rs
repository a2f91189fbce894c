//! `trilith import` and `trilith export`: data from files to a running server and back, over HTTP.
//! The server stays the only one who writes its data directory, so nothing has to be stopped, and a
//! server far away will do. What was sent before is kept once: to begin again after an interruption,
//! run the same command again.

mod blocks;
mod http;

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use self::http::{Reply, Url};
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
const RETRY_FOR: Duration = Duration::from_secs(600);
const RETRY_PAUSE: Duration = Duration::from_secs(1);

fn say(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

fn file_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> TransferError {
    let path = path.to_owned();
    move |source| TransferError::File { action, path, source }
}

fn server(transfer: &Transfer, listen: SocketAddr) -> Result<Url, TransferError> {
    match &transfer.url {
        Some(url) => Url::parse(url),
        None => Ok(Url::of(listen)),
    }
}

/// Sends what the command names; true when all of it was taken.
///
/// # Errors
/// [`TransferError`].
pub fn import(transfer: &Transfer, listen: SocketAddr) -> Result<bool, TransferError> {
    let url = server(transfer, listen)?;
    match transfer.kind {
        Kind::Tsdb => blocks::import(&transfer.path, &url),
        Kind::OpenMetrics => text(transfer, &url, "application/openmetrics-text; version=1.0.0"),
        Kind::Prometheus => text(transfer, &url, "text/plain; version=0.0.4"),
    }
}

fn text(transfer: &Transfer, url: &Url, content_type: &str) -> Result<bool, TransferError> {
    let from_stdin = transfer.path == Path::new("-");
    let (source, bytes): (Box<dyn Read>, u64) = if from_stdin {
        (Box::new(io::stdin().lock()), 0)
    } else {
        let file = File::open(&transfer.path).map_err(file_error("open", &transfer.path))?;
        let bytes = file.metadata().map_or(0, |meta| meta.len());
        (Box::new(file), bytes)
    };
    let mut source = Shown { source, read: 0, bytes, last: Instant::now() };
    let headers = [("Content-Type", content_type)];
    let mut reply = url.send("POST", "/api/v1/import/prometheus", &headers, &mut source)?;
    let message = reply.text();
    match reply.status {
        204 => {
            say(&format!("imported {} bytes of text", source.read));
            Ok(true)
        }
        400 => {
            say(&format!("imported {} bytes of text, but for this: {message}", source.read));
            Ok(false)
        }
        status => Err(TransferError::Refused { status, text: message }),
    }
}

/// A source that says now and then how far it has been read.
struct Shown<R> {
    source: R,
    read: u64,
    bytes: u64,
    last: Instant,
}

impl<R: Read> Read for Shown<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.source.read(buffer)?;
        self.read += count as u64;
        if self.last.elapsed() >= Duration::from_secs(2) {
            self.last = Instant::now();
            match (self.read * 100).checked_div(self.bytes) {
                Some(percent) => say(&format!("{percent} % of {} bytes", self.bytes)),
                None => say(&format!("{} bytes", self.read)),
            }
        }
        Ok(count)
    }
}

/// Writes what the server exports to the file; true when it is whole.
///
/// # Errors
/// [`TransferError`].
pub fn export(transfer: &Transfer, listen: SocketAddr) -> Result<bool, TransferError> {
    let url = server(transfer, listen)?;
    let everything = ["{__name__!=\"\"}".to_owned()];
    let matches = if transfer.matches.is_empty() { &everything[..] } else { &transfer.matches[..] };
    let mut pairs: Vec<(&str, &str)> = matches.iter().map(|selector| ("match[]", selector.as_str())).collect();
    pairs.extend(transfer.start.as_deref().map(|start| ("start", start)));
    pairs.extend(transfer.end.as_deref().map(|end| ("end", end)));
    let form = http::form(&pairs);
    let headers = [("Content-Type", "application/x-www-form-urlencoded")];
    let mut reply = url.send("POST", "/api/v1/export", &headers, &mut form.as_bytes())?;
    if reply.status != 200 {
        return Err(TransferError::Refused { status: reply.status, text: reply.text() });
    }
    if let Some(left_out) = reply.header("x-trilith-left-out") {
        say(&format!("left out, for the format cannot say them: {left_out}"));
    }
    let mut copy = |target: &mut dyn Write| copy(&mut reply, target, &transfer.path, &url);
    if transfer.path == Path::new("-") {
        return copy(&mut io::stdout().lock());
    }
    // A file that is not whole must not look like one.
    let unfinished = transfer.path.with_extension("unfinished");
    let mut file = File::create(&unfinished).map_err(file_error("create", &unfinished))?;
    let whole = copy(&mut file)?;
    file.sync_all().map_err(file_error("sync", &unfinished))?;
    std::fs::rename(&unfinished, &transfer.path).map_err(file_error("rename", &unfinished))?;
    Ok(whole)
}

fn copy(reply: &mut Reply, target: &mut dyn Write, path: &Path, url: &Url) -> Result<bool, TransferError> {
    let mut buffer = vec![0; 64 << 10];
    let mut total = 0;
    loop {
        let count = reply.read(&mut buffer).map_err(|source| url.connection(source))?;
        if count == 0 {
            say(&format!("exported {total} bytes of text"));
            return Ok(true);
        }
        target.write_all(&buffer[..count]).map_err(file_error("write", path))?;
        total += count;
    }
}
