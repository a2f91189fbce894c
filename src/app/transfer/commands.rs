//! The two commands: what goes to the server, and what comes from it.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use super::blocks;
use super::http::{self, Reply, Url};
use super::order::{Kind, Transfer, TransferError, file_error, say};

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
