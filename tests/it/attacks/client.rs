//! A client that says every byte and loses no answer: it reads while it writes, gives up when its
//! patience ends, and tells an answer from a connection that was cut and from silence.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::doors::Answer;

/// Bytes of an answer that are read; what comes after them says nothing new.
const ANSWER_BYTES_MAX: usize = 32 << 20;

/// What came of a request.
pub(super) enum Outcome {
    /// A whole answer, or the beginning of a very long one.
    Answered(Answer),
    /// The connection ended without an answer.
    Cut,
    /// Nothing, or no end, within the client's patience: it hung up.
    Silent,
}

impl Outcome {
    /// The status, where there is one.
    pub(super) fn status(&self) -> Option<u16> {
        match self {
            Self::Answered(answer) => Some(answer.status),
            Self::Cut | Self::Silent => None,
        }
    }

    /// For people.
    pub(super) fn shown(&self) -> String {
        match self {
            Self::Answered(answer) => {
                let text: String = answer.text().chars().take(160).collect();
                format!("{} {text}", answer.status)
            }
            Self::Cut => "cut off without an answer".to_owned(),
            Self::Silent => "no end of an answer".to_owned(),
        }
    }
}

/// The head of a request, with a length only where there is one; the connection is for this request alone.
pub(super) fn head(method: &str, path: &str, headers: &str, length: Option<usize>) -> Vec<u8> {
    let length = length.map_or_else(String::new, |bytes| format!("Content-Length: {bytes}\r\n"));
    format!("{method} {path} HTTP/1.1\r\nHost: t\r\nConnection: close\r\n{length}{headers}\r\n").into_bytes()
}

/// A whole request.
pub(super) fn request(method: &str, path: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let mut bytes = head(method, path, headers, Some(body.len()));
    bytes.extend_from_slice(body);
    bytes
}

/// Sends `bytes` over a connection of its own and reads until the server closes it.
pub(super) fn exchange(address: SocketAddr, bytes: &[u8], patience: Duration) -> Outcome {
    let Ok(stream) = TcpStream::connect_timeout(&address, patience) else { return Outcome::Cut };
    stream.set_write_timeout(Some(patience)).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // A server that refuses early may close before it has read everything.
            let _ = (&stream).write_all(bytes);
        });
        let outcome = read(&stream, patience);
        // The writer gives up as well.
        let _ = stream.shutdown(Shutdown::Both);
        outcome
    })
}

/// Reads an answer from `stream` to its end.
pub(super) fn read(mut stream: &TcpStream, patience: Duration) -> Outcome {
    let until = Instant::now() + patience;
    let mut bytes = Vec::new();
    let mut block = vec![0; 64 << 10];
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Outcome::Silent;
        }
        stream.set_read_timeout(Some(left)).unwrap();
        match stream.read(&mut block) {
            Ok(0) => break,
            Ok(length) => bytes.extend_from_slice(&block[..length]),
            Err(error) if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {
                return Outcome::Silent;
            }
            Err(_) => break,
        }
        if bytes.len() > ANSWER_BYTES_MAX {
            break;
        }
    }
    parse(&bytes).map_or(Outcome::Cut, Outcome::Answered)
}

fn parse(bytes: &[u8]) -> Option<Answer> {
    let split = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&bytes[..split]).to_lowercase();
    let status = head.get(9..12)?.parse().ok()?;
    let body = &bytes[split + 4..];
    let body = if head.contains("transfer-encoding: chunked") { unchunk(body) } else { body.to_vec() };
    Some(Answer { status, head, body })
}

/// The content of chunks, of as many as there are.
fn unchunk(mut bytes: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(line) = bytes.windows(2).position(|window| window == b"\r\n") {
        let size = std::str::from_utf8(&bytes[..line]).ok().and_then(|text| usize::from_str_radix(text, 16).ok());
        let Some(chunk) = size.filter(|size| *size > 0).and_then(|size| bytes.get(line + 2..line + 2 + size)) else {
            break;
        };
        body.extend_from_slice(chunk);
        bytes = bytes.get(line + 4 + chunk.len()..).unwrap_or_default();
    }
    body
}

/// A connection that has sent `bytes` and waits; nothing when the server takes no more.
pub(super) fn open(address: SocketAddr, bytes: &[u8]) -> Option<TcpStream> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(2)).ok()?;
    stream.set_write_timeout(Some(Duration::from_secs(2))).unwrap();
    stream.write_all(bytes).ok()?;
    Some(stream)
}

/// Percent-encodes everything, so that no letter of a query means anything to a URL.
pub(super) fn percent(text: &str) -> String {
    let mut out = String::with_capacity(text.len() * 3);
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() {
            out.push(byte.into());
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}
