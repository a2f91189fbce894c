//! HTTP/2: gRPC calls by the `h2` crate, and frames by hand for what no client library would send.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use axum::http::Request;

/// Kinds of frames.
pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PING: u8 = 6;
pub(super) const WINDOW_UPDATE: u8 = 8;
pub(super) const CONTINUATION: u8 = 9;

/// Flags of `HEADERS` and `DATA`.
pub(super) const END_STREAM: u8 = 1;
pub(super) const END_HEADERS: u8 = 4;

/// What came of a call.
#[derive(Debug)]
pub(super) enum Called {
    /// Its gRPC status, or the HTTP status when it is no answer of gRPC.
    Status(String),
    /// The stream or the connection was ended.
    Cut,
    /// Nothing within the client's patience.
    Silent,
}

/// A gRPC message in its frame.
pub(super) fn framed(message: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0];
    bytes.extend(u32::try_from(message.len()).unwrap().to_be_bytes());
    bytes.extend_from_slice(message);
    bytes
}

/// One call with `body` as it is, over a connection of its own.
pub(super) fn call(
    address: SocketAddr,
    path: &str,
    headers: &[(&str, &str)],
    body: Vec<u8>,
    patience: Duration,
) -> Called {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let work = async {
            match one_call(address, path, headers, body).await {
                Ok(status) => Called::Status(status),
                Err(_) => Called::Cut,
            }
        };
        tokio::time::timeout(patience, work).await.unwrap_or(Called::Silent)
    })
}

async fn one_call(
    address: SocketAddr,
    path: &str,
    headers: &[(&str, &str)],
    body: Vec<u8>,
) -> Result<String, Box<dyn std::error::Error>> {
    let stream = tokio::net::TcpStream::connect(address).await?;
    let (client, connection) = h2::client::handshake(stream).await?;
    tokio::spawn(connection);
    let mut request = Request::post(format!("http://{address}{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let (response, mut send) = client.ready().await?.send_request(request.body(())?, false)?;
    send.send_data(body.into(), true)?;
    let response = response.await?;
    if response.status() != 200 {
        return Ok(format!("HTTP {}", response.status().as_u16()));
    }
    let in_head = response.headers().get("grpc-status").cloned();
    let mut body = response.into_body();
    while let Some(chunk) = body.data().await {
        let length = chunk?.len();
        body.flow_control().release_capacity(length)?;
    }
    let trailers = body.trailers().await?;
    let status = trailers.and_then(|trailers| trailers.get("grpc-status").cloned()).or(in_head);
    Ok(status.map_or_else(|| "none".to_owned(), |status| String::from_utf8_lossy(status.as_bytes()).into_owned()))
}

/// A connection whose frames are written by hand. What the server says is read and thrown away by a
/// thread, or left where it is.
pub(super) struct Frames {
    stream: TcpStream,
}

impl Frames {
    /// Opens a connection with the preface and `settings` (id, value).
    pub(super) fn open(address: SocketAddr, settings: &[(u16, u32)], reads: bool) -> Option<Self> {
        let stream = TcpStream::connect_timeout(&address, Duration::from_secs(2)).ok()?;
        stream.set_write_timeout(Some(Duration::from_secs(1))).unwrap();
        if reads {
            let mut reader = stream.try_clone().ok()?;
            std::thread::spawn(move || {
                let mut block = vec![0; 64 << 10];
                while reader.read(&mut block).is_ok_and(|length| length > 0) {}
            });
        }
        let mut frames = Self { stream };
        let mut payload = Vec::new();
        for (id, value) in settings {
            payload.extend(id.to_be_bytes());
            payload.extend(value.to_be_bytes());
        }
        frames.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").then_some(())?;
        frames.frame(SETTINGS, 0, 0, &payload).then_some(frames)
    }

    /// Whether the server took it.
    pub(super) fn write(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    /// Sends a frame; whether the server took it.
    pub(super) fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> bool {
        self.write(&frame(kind, flags, stream, payload))
    }
}

impl Drop for Frames {
    fn drop(&mut self) {
        // Ends the reader too.
        let _ = self.stream.shutdown(std::net::Shutdown::Both);
    }
}

/// The bytes of a frame.
pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = u32::try_from(payload.len()).unwrap().to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// A header block without compression.
pub(super) fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, value) in fields {
        bytes.push(0);
        text(name, &mut bytes);
        text(value, &mut bytes);
    }
    bytes
}

/// The usual fields of a request.
pub(super) fn ask(method: &str, path: &str) -> Vec<u8> {
    block(&[(":method", method), (":scheme", "http"), (":authority", "t"), (":path", path)])
}

fn text(text: &str, out: &mut Vec<u8>) {
    let mut length = text.len();
    if length < 127 {
        out.push(length as u8);
    } else {
        out.push(127);
        length -= 127;
        while length >= 128 {
            out.push(length as u8 | 0x80);
            length >>= 7;
        }
        out.push(length as u8);
    }
    out.extend_from_slice(text.as_bytes());
}
