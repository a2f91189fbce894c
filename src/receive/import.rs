//! Import of text: OpenMetrics or the Prometheus text format, of any length. Bodies are read piece by
//! piece: a piece is inflated, its whole lines parsed, and a full batch stored before more is read, so
//! that an import holds the memory of one batch, and the sender is as fast as the store.

use std::io::{self, Read};
use std::sync::Arc;
use std::time::Instant;

use axum::body::{Body, Bytes};
use http_body::Frame;
use http_body_util::BodyExt as _;
use tokio::sync::mpsc;

use super::failure::Failure;
use super::imports::Meter;
use super::receiver::{self, Batch, DecodeError, Decoded, Dialect, Headers, Receiver};
use super::work::State;
use crate::base::in_flight::{self, BodyError};
use crate::model::batch::{Appended, MetricsBatch, Signal};
use crate::wire::decompress::{self, DecompressError, Encoding};
use crate::wire::limits;
use crate::wire::openmetrics::{Format, Parser};

/// The row of [`RECEIVERS`](super::RECEIVERS).
pub(super) const TEXT: Receiver = Receiver {
    name: "import_text",
    summary: "OpenMetrics and Prometheus text of any length: samples, exemplars, metadata",
    paths: &["/api/v1/import/prometheus"],
    grpc: None,
    signal: Signal::Metrics,
    spec: "https://prometheus.io/docs/specs/om/open_metrics_spec/",
    dialect: Dialect::Text,
    encoding,
    decode,
    growth: 8,
    lines: Some(parser),
    untyped: None,
};

/// Bytes that are read at once.
const PIECE_BYTES: usize = 64 << 10;
/// Memory that an import takes, however long it is: a batch of its samples and a line.
const IMPORT_BYTES: usize = 12 << 20;
/// Pieces of a body that wait to be parsed.
const PIECES_MAX: usize = 4;

fn encoding(headers: &Headers) -> Option<Encoding> {
    receiver::encoding(headers, Encoding::Identity)
}

/// What no header decides is decided by how times look; clients such as curl say nothing of the body.
fn parser(headers: &Headers, now_ms: i64) -> Parser {
    let format = match (receiver::media_type(headers).as_str(), receiver::media_parameter(headers, "version")) {
        ("application/openmetrics-text", _) => Format::OpenMetrics,
        ("text/plain", Some("0.0.4" | "1.0.0")) => Format::Prometheus,
        _ => Format::Unknown,
    };
    Parser::new(format, now_ms, &limits::DEFAULT)
}

/// A whole body at once; samples without a time are put at 1970.
fn decode(headers: &Headers, body: &[u8], _limits: &limits::Options) -> Result<Decoded<'static>, DecodeError> {
    let mut parser = parser(headers, 0);
    parser.feed(body)?;
    let (decoded, whole) = parser.finish();
    whole?;
    Ok(Decoded { batch: Batch::Metrics { batch: decoded.batch, deltas: Vec::new() }, rejected: decoded.rejected })
}

/// A body as the thread that parses it reads it.
struct Pieces {
    pieces: mpsc::Receiver<Result<Bytes, axum::Error>>,
    piece: Bytes,
    /// How fast they come.
    meter: Arc<Meter>,
    /// Where the bytes are charged until they have been read.
    account: Option<Arc<in_flight::Body>>,
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            let began = Instant::now();
            match self.pieces.blocking_recv() {
                Some(Ok(piece)) => {
                    self.meter.came(began.elapsed(), piece.len());
                    self.piece = piece;
                }
                Some(Err(error)) => return Err(io::Error::new(io::ErrorKind::ConnectionAborted, error)),
                None => return Ok(0),
            }
        }
        let piece = self.piece.split_to(buffer.len().min(self.piece.len()));
        buffer.iter_mut().zip(&piece).for_each(|(to, from)| *to = *from);
        if let Some(account) = &self.account {
            account.shrink(piece.len() as u64);
        }
        Ok(piece.len())
    }
}

/// Stores a body piece by piece. It may take as long as it comes and is stored, but not trickle.
pub(super) async fn take(
    receiver: &'static Receiver,
    state: &State,
    encoding: Encoding,
    parser: Parser,
    mut body: Body,
    account: Option<Arc<in_flight::Body>>,
) -> Result<Appended, Failure> {
    if let Some(account) = &account {
        account.set_open_ended();
    }
    let running = state.import_place().await?;
    let meter = running.meter.clone();
    let (sender, pieces) = mpsc::channel(PIECES_MAX);
    let (own, source) = (state.clone(), Pieces { pieces, piece: Bytes::new(), meter: meter.clone(), account });
    let work = tokio::task::spawn_blocking(move || {
        // A batch, as text and as samples, and what is on its way.
        let _memory = own.hold(IMPORT_BYTES)?;
        let mut import = Import { state: own, receiver, parser, total: Appended::default() };
        let outcome = import.run(encoding, source);
        drop(running);
        let (stored, lines) = (import.total.accepted, import.parser.lines());
        match outcome {
            Ok(()) => Ok(import.total),
            Err(cause) if stored == 0 => Err(cause),
            Err(cause) => Err(Failure::Partly { stored, lines, cause: Box::new(cause) }),
        }
    });
    loop {
        let frame = tokio::select! {
            frame = body.frame() => frame,
            () = meter.given_up() => Some(Err(axum::Error::new(BodyError::GivenUp))),
        };
        let Some(frame) = frame else { break };
        let piece = match frame.map(Frame::into_data) {
            Ok(Ok(data)) => Ok(data),
            Ok(Err(_)) => continue,
            Err(error) => Err(error),
        };
        // The thread has ended when nobody takes the piece; its outcome says why.
        let last = piece.is_err();
        if sender.send(piece).await.is_err() || last {
            break;
        }
    }
    drop(sender);
    match work.await {
        Ok(outcome) => outcome,
        Err(error) => {
            tracing::error!(receiver = receiver.name, %error, "an import ended early");
            Err(Failure::Defect)
        }
    }
}

struct Import {
    state: State,
    receiver: &'static Receiver,
    parser: Parser,
    total: Appended,
}

impl Import {
    fn run(&mut self, encoding: Encoding, source: Pieces) -> Result<(), Failure> {
        let mut reader = decompress::reader(encoding, source, limits::DEFAULT.body_bytes_max)?;
        let mut buffer = vec![0; PIECE_BYTES];
        loop {
            let bytes = reader.read(&mut buffer).map_err(failed)?;
            if bytes == 0 {
                break;
            }
            self.parser.feed(buffer.get(..bytes).unwrap_or_default()).map_err(DecodeError::from)?;
            if self.parser.is_full() {
                let decoded = self.parser.take();
                self.store(decoded)?;
            }
        }
        let (decoded, whole) = self.parser.finish();
        self.store(decoded)?;
        whole.map_err(DecodeError::from)?;
        Ok(())
    }

    fn store(&mut self, decoded: crate::wire::Decoded<MetricsBatch>) -> Result<(), Failure> {
        let batch = Batch::Metrics { batch: decoded.batch, deltas: Vec::new() };
        let appended = self.state.push(self.receiver, Decoded { batch, rejected: decoded.rejected })?;
        self.total.accepted += appended.accepted;
        self.total.histograms += appended.histograms;
        self.total.exemplars += appended.exemplars;
        self.total.rejected.merge(appended.rejected);
        Ok(())
    }
}

/// A body that ends early, or one that does not inflate.
fn failed(error: io::Error) -> Failure {
    let kind = error.kind();
    match error.into_inner() {
        Some(inner) if kind == io::ErrorKind::ConnectionAborted => {
            let lost = BodyError::among(&*inner).cloned();
            lost.map_or_else(|| Failure::Cut(inner.to_string()), Failure::Body)
        }
        inner => {
            let what = inner.map_or_else(|| kind.to_string(), |inner| inner.to_string());
            Failure::Decompress(DecompressError::BadData { format: "compression", what })
        }
    }
}
