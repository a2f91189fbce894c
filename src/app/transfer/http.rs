//! As much of an HTTP/1.1 client as `import` and `export` need: one request a connection, bodies in
//! chunks both ways.

use std::io::{self, BufRead as _, BufReader, Read, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs as _};
use std::time::Duration;

use super::order::TransferError;
use crate::base::percent;

/// How long the server may neither take nor send anything.
const PATIENCE: Duration = Duration::from_secs(300);
/// Longest line of a reply's head, and most lines.
const LINE_BYTES_MAX: u64 = 64 << 10;
const HEADERS_MAX: usize = 200;
/// Longest text of a refusal that is read.
const TEXT_BYTES_MAX: u64 = 8 << 10;

/// A server: `http://host:port/base`.
#[derive(Clone, Debug)]
pub(super) struct Url {
    host: String,
    base: String,
}

impl Url {
    pub(super) fn parse(url: &str) -> Result<Self, TransferError> {
        let wrong = |what| TransferError::Url { url: url.to_owned(), what };
        if url.starts_with("https://") {
            return Err(wrong("TLS is not spoken here; use a tunnel or a proxy"));
        }
        let rest = url.strip_prefix("http://").ok_or_else(|| wrong("it must begin with http://"))?;
        let (host, base) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        if host.is_empty() || host.contains(['@', ' ', '\r', '\n']) || base.contains([' ', '\r', '\n', '?', '#']) {
            return Err(wrong("it must be http://HOST:PORT, perhaps with a path"));
        }
        let port = host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        let host = if port { host.to_owned() } else { format!("{host}:80") };
        Ok(Self { host, base: base.trim_end_matches('/').to_owned() })
    }

    /// The server of this machine that listens at `address`.
    pub(super) fn of(mut address: SocketAddr) -> Self {
        if address.ip().is_unspecified() {
            let ip = if address.is_ipv4() { IpAddr::V4(Ipv4Addr::LOCALHOST) } else { IpAddr::V6(Ipv6Addr::LOCALHOST) };
            address.set_ip(ip);
        }
        Self { host: address.to_string(), base: String::new() }
    }

    pub(super) fn connection(&self, source: io::Error) -> TransferError {
        TransferError::Connection { address: self.host.clone(), source }
    }

    /// Sends a request and reads the head of the reply. A server that answers before it has read
    /// everything is listened to.
    pub(super) fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &mut dyn Read,
    ) -> Result<Reply, TransferError> {
        self.try_send(method, path, headers, body).map_err(|source| self.connection(source))
    }

    fn try_send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &mut dyn Read) -> io::Result<Reply> {
        let mut stream = self.connect()?;
        let mut head = format!("{method} {}{path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n", self.base, self.host);
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        head += "Transfer-Encoding: chunked\r\n\r\n";
        stream.write_all(head.as_bytes())?;
        let sent = send_chunks(&mut stream, body);
        match (Reply::read_head(stream), sent) {
            (Ok(reply), _) => Ok(reply),
            (Err(_), Err(error)) => Err(error),
            (Err(error), Ok(())) => Err(error),
        }
    }

    fn connect(&self) -> io::Result<TcpStream> {
        let mut last = io::Error::other("no address");
        for address in self.host.to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, Duration::from_secs(10)) {
                Ok(stream) => {
                    stream.set_read_timeout(Some(PATIENCE))?;
                    stream.set_write_timeout(Some(PATIENCE))?;
                    return Ok(stream);
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

fn send_chunks(stream: &mut TcpStream, body: &mut dyn Read) -> io::Result<()> {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let count = body.read(&mut buffer)?;
        write!(stream, "{count:x}\r\n")?;
        stream.write_all(&buffer[..count])?;
        stream.write_all(b"\r\n")?;
        if count == 0 {
            return Ok(());
        }
    }
}

/// How the rest of a reply is delimited.
enum Rest {
    Bytes(u64),
    /// Bytes left of the chunk.
    Chunk(u64),
    Close,
    Nothing,
}

/// A reply; reading it gives the body.
pub(super) struct Reply {
    pub(super) status: u16,
    headers: Vec<(String, String)>,
    stream: BufReader<TcpStream>,
    rest: Rest,
}

fn bad(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

fn line(stream: &mut BufReader<TcpStream>) -> io::Result<String> {
    let mut line = Vec::new();
    stream.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line)?;
    if line.last() != Some(&b'\n') {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the reply ends early"));
    }
    Ok(String::from_utf8_lossy(&line).trim_end().to_owned())
}

impl Reply {
    fn read_head(stream: TcpStream) -> io::Result<Self> {
        let mut stream = BufReader::new(stream);
        let status = line(&mut stream)?;
        let status = status.strip_prefix("HTTP/1.").and_then(|rest| rest.get(2..5)?.parse().ok());
        let status = status.ok_or_else(|| bad("the reply is not HTTP"))?;
        let mut headers = Vec::new();
        while let Some((name, value)) = line(&mut stream)?.split_once(':') {
            headers.push((name.trim().to_ascii_lowercase(), value.trim().to_owned()));
            if headers.len() > HEADERS_MAX {
                return Err(bad("the reply has too many headers"));
            }
        }
        let mut reply = Self { status, headers, stream, rest: Rest::Close };
        let length = reply.header("content-length").and_then(|length| length.parse().ok());
        let chunked = reply.header("transfer-encoding").is_some_and(|own| own.eq_ignore_ascii_case("chunked"));
        reply.rest = match length {
            _ if status == 204 => Rest::Nothing,
            _ if chunked => Rest::Chunk(0),
            Some(length) => Rest::Bytes(length),
            None => Rest::Close,
        };
        Ok(reply)
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }

    /// The beginning of the body, for people.
    pub(super) fn text(&mut self) -> String {
        let mut bytes = Vec::new();
        let _ = self.take(TEXT_BYTES_MAX).read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).trim().to_owned()
    }

    fn part(&mut self, buffer: &mut [u8], left: u64) -> io::Result<usize> {
        let count = self.stream.by_ref().take(left).read(buffer)?;
        if count == 0 && left > 0 && !buffer.is_empty() {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the reply breaks off"));
        }
        Ok(count)
    }
}

impl Read for Reply {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.rest {
            Rest::Nothing => Ok(0),
            Rest::Close => self.stream.read(buffer),
            Rest::Bytes(left) => {
                let count = self.part(buffer, left)?;
                self.rest = Rest::Bytes(left - count as u64);
                Ok(count)
            }
            Rest::Chunk(0) => {
                let size = line(&mut self.stream)?;
                let size = u64::from_str_radix(size.split(';').next().unwrap_or_default(), 16);
                let size = size.map_err(|_| bad("a chunk of the reply has no size"))?;
                if size == 0 {
                    self.rest = Rest::Nothing;
                    return Ok(0);
                }
                self.rest = Rest::Chunk(size);
                self.read(buffer)
            }
            Rest::Chunk(left) => {
                let count = self.part(buffer, left)?;
                let left = left - count as u64;
                self.rest = Rest::Chunk(left);
                if left == 0 {
                    line(&mut self.stream)?;
                }
                Ok(count)
            }
        }
    }
}

/// Pairs as a form.
pub(super) fn form(pairs: &[(&str, &str)]) -> String {
    let mut form = String::new();
    for (name, value) in pairs {
        if !form.is_empty() {
            form.push('&');
        }
        form.push_str(&percent::encode(name));
        form.push('=');
        form.push_str(&percent::encode(value));
    }
    form
}
