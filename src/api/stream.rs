//! Answers that are written piece by piece while the client reads them.
//! Flow: a query on a blocking thread writes text into a [`Sink`]. What fits into one piece is sent
//! as a whole, with its length. What does not goes piece by piece through a bounded channel, so that
//! an answer of any length takes the memory of a few pieces; a slow reader holds its writer back.
//! Invariants: an answer is whole or its connection breaks; a client that hangs up, or takes nothing
//! for too long, ends the writing. Once an answer flows, its query's place is free for the next.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as Poller, Poll};
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes};
use axum::response::Response;
use http::HeaderValue;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, VARY};
use http_body::Frame;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use super::context::{Admitted, CancelOnDrop, Context};
use crate::base::counters::Cell;
use crate::base::error::{Classify, ErrorClass};
use crate::base::limits::{LimitError, QueryBudget};
use crate::wire::compress::{Coding, Packer};

/// Text that makes a piece; the last item of a piece may reach beyond it.
pub(super) const PIECE_BYTES: usize = 64 << 10;
/// Pieces that wait for the connection to take them.
pub(super) const PIECES_MAX: usize = 4;
/// Answers below this size are sent as they are: packing would not make them smaller by a packet.
const PACK_BYTES_MIN: usize = 1_024;

/// Why an answer was not written to its end.
#[derive(Debug, thiserror::Error)]
pub(super) enum StreamError {
    /// The client went away.
    #[error("the client hung up")]
    HungUp,
    /// The client does not read.
    #[error("the client took nothing of the answer for {0:?}")]
    Stalled(Duration),
    /// The client reads too slowly.
    #[error("the client did not read the answer within {0:?}")]
    Slow(Duration),
    /// The encoder failed.
    #[error("compress the answer")]
    Pack(#[source] std::io::Error),
}

impl Classify for StreamError {
    fn class(&self) -> ErrorClass {
        match self {
            Self::HungUp | Self::Stalled(_) | Self::Slow(_) => ErrorClass::Canceled,
            Self::Pack(_) => ErrorClass::Internal,
        }
    }
}

/// What comes through the channel.
enum Piece {
    Bytes(Bytes),
    /// All has been sent: what ends without it has broken off.
    End,
}

/// The first piece of an answer, and where the others come from.
struct Flow {
    first: Bytes,
    rest: mpsc::Receiver<Piece>,
}

/// An answer of one piece.
struct Whole {
    bytes: Vec<u8>,
    coding: Coding,
}

/// How long one who reads an answer may take.
#[derive(Clone, Copy, Debug)]
struct Patience {
    /// While nothing is taken.
    stall: Duration,
    /// For the whole answer.
    whole: Duration,
}

impl Patience {
    /// How long to wait now for one who has read since then, and what it means when that is over.
    fn wait(self, since: Instant) -> (Duration, StreamError) {
        let left = self.whole.saturating_sub(since.elapsed());
        if left < self.stall {
            (left, StreamError::Slow(self.whole))
        } else {
            (self.stall, StreamError::Stalled(self.stall))
        }
    }
}

/// Where a query writes its answer.
pub(super) struct Sink {
    /// What was written since the last piece. Write here, and call [`Sink::pass`] now and then.
    pub(super) text: String,
    /// The same for answers that are no text; an answer is either.
    pub(super) bytes: Vec<u8>,
    coding: Coding,
    patience: Patience,
    way: Way,
    /// The place among the running queries, until the answer flows.
    place: Option<OwnedSemaphorePermit>,
    streams: Arc<Semaphore>,
    buffered: Cell,
}

enum Way {
    /// Nothing was sent yet.
    Waiting(Option<oneshot::Sender<Flow>>),
    /// Pieces flow.
    Flowing { pieces: mpsc::Sender<Piece>, packer: Packer, since: Instant, _place: OwnedSemaphorePermit },
}

impl Sink {
    /// Sends a piece if there is text enough for one; waits for the client if it must.
    ///
    /// # Errors
    /// [`StreamError`].
    #[inline]
    pub(super) fn pass(&mut self) -> Result<(), StreamError> {
        if self.text.len() + self.bytes.len() < PIECE_BYTES { Ok(()) } else { self.flush() }
    }

    /// What was written since the last piece; leaves room for the next.
    fn take(&mut self) -> Vec<u8> {
        const ROOM: usize = PIECE_BYTES + PIECE_BYTES / 8;
        if self.text.is_empty() {
            std::mem::replace(&mut self.bytes, Vec::with_capacity(ROOM))
        } else {
            std::mem::replace(&mut self.text, String::with_capacity(ROOM)).into_bytes()
        }
    }

    fn flush(&mut self) -> Result<(), StreamError> {
        let piece = self.take();
        match &mut self.way {
            Way::Flowing { pieces, packer, since, .. } => {
                let packed = packer.pack(piece).map_err(StreamError::Pack)?;
                send(pieces, packed, self.patience.wait(*since), &self.buffered)
            }
            Way::Waiting(tell) => {
                let mut packer = Packer::new(self.coding).map_err(StreamError::Pack)?;
                let first = packer.pack(piece).map_err(StreamError::Pack)?;
                let (pieces, rest) = mpsc::channel(PIECES_MAX);
                self.buffered.add(first.len() as u64);
                let flow = Flow { first: first.into(), rest };
                if tell.take().is_none_or(|tell| tell.send(flow).is_err()) {
                    return Err(StreamError::HungUp);
                }
                // Without a free place among the flowing answers it keeps the one it has.
                let own = self.place.take();
                let Some(_place) = self.streams.clone().try_acquire_owned().ok().or(own) else {
                    return Err(StreamError::HungUp);
                };
                self.way = Way::Flowing { pieces, packer, since: Instant::now(), _place };
                Ok(())
            }
        }
    }

    /// Sends the end; an answer that did not flow comes back, packed.
    fn finish(mut self) -> Result<Option<Whole>, StreamError> {
        if matches!(self.way, Way::Waiting(_)) {
            let (mut whole, text) = (std::mem::take(&mut self.bytes), std::mem::take(&mut self.text));
            if whole.is_empty() {
                whole = text.into_bytes();
            }
            let coding = if whole.len() < PACK_BYTES_MIN { Coding::Identity } else { self.coding };
            let mut packer = Packer::new(coding).map_err(StreamError::Pack)?;
            let mut bytes = packer.pack(whole).map_err(StreamError::Pack)?;
            bytes.extend(packer.finish().map_err(StreamError::Pack)?);
            return Ok(Some(Whole { bytes, coding }));
        }
        self.flush()?;
        if let Way::Flowing { pieces, packer, since, .. } = self.way {
            let packed = packer.finish().map_err(StreamError::Pack)?;
            send(&pieces, packed, self.patience.wait(since), &self.buffered)?;
            hand_over(&pieces, Piece::End, self.patience.wait(since))?;
        }
        Ok(None)
    }
}

fn send(
    pieces: &mpsc::Sender<Piece>,
    bytes: Vec<u8>,
    wait: (Duration, StreamError),
    buffered: &Cell,
) -> Result<(), StreamError> {
    if bytes.is_empty() {
        return Ok(());
    }
    let size = bytes.len() as u64;
    buffered.add(size);
    let sent = hand_over(pieces, Piece::Bytes(bytes.into()), wait);
    if sent.is_err() {
        buffered.sub(size);
    }
    sent
}

fn hand_over(
    pieces: &mpsc::Sender<Piece>,
    piece: Piece,
    (wait, over): (Duration, StreamError),
) -> Result<(), StreamError> {
    let piece = match pieces.try_send(piece) {
        Ok(()) => return Ok(()),
        Err(mpsc::error::TrySendError::Closed(_)) => return Err(StreamError::HungUp),
        Err(mpsc::error::TrySendError::Full(piece)) => piece,
    };
    // On a blocking thread, which may wait. The time-out is made where there is a timer.
    match Handle::current().block_on(async { tokio::time::timeout(wait, pieces.send(piece)).await }) {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) => Err(StreamError::HungUp),
        Err(_) => Err(over),
    }
}

/// The body of an answer that flows.
struct Pieces {
    first: Option<Bytes>,
    rest: mpsc::Receiver<Piece>,
    ended: bool,
    buffered: Cell,
    _guard: CancelOnDrop,
}

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Poller<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let bytes = match self.first.take() {
            Some(first) => first,
            None => match std::task::ready!(self.rest.poll_recv(cx)) {
                Some(Piece::Bytes(bytes)) => bytes,
                Some(Piece::End) => {
                    self.ended = true;
                    return Poll::Ready(None);
                }
                None => {
                    self.ended = true;
                    return Poll::Ready(Some(Err(std::io::Error::other("the answer broke off"))));
                }
            },
        };
        self.buffered.sub(bytes.len() as u64);
        Poll::Ready(Some(Ok(Frame::data(bytes))))
    }
}

impl Drop for Pieces {
    fn drop(&mut self) {
        // What nobody will take any more is not buffered either.
        self.rest.close();
        let mut left = self.first.take().map_or(0, |first| first.len());
        while let Ok(piece) = self.rest.try_recv() {
            if let Piece::Bytes(bytes) = piece {
                left += bytes.len();
            }
        }
        self.buffered.sub(left as u64);
    }
}

impl Context {
    /// Runs a query as [`Context::run`] does and answers with what it writes. What the query charged
    /// to its budget stays charged until the answer is written.
    ///
    /// # Errors
    /// What `work` returns before the first piece, or why it could not run.
    pub(super) async fn stream<E, F>(
        &self,
        timeout: Option<Duration>,
        coding: Coding,
        content_type: &'static str,
        work: F,
    ) -> Result<Response, E>
    where
        E: From<LimitError> + From<StreamError> + std::fmt::Display + Send + 'static,
        F: FnOnce(&Context, &QueryBudget, &mut Sink) -> Result<(), E> + Send + 'static,
    {
        let admitted = self.admit(timeout).await?;
        let options = &self.engine.options;
        let patience = Patience { stall: options.stall_max, whole: options.read_max };
        self.flow(admitted, patience, coding, content_type, work).await
    }

    /// The same for a copy of data, which may take as long as `whole`, once it has its place, and touch
    /// any number of rows.
    ///
    /// # Errors
    /// As [`stream`](Self::stream).
    pub(super) async fn stream_copy<E, F>(
        &self,
        whole: Duration,
        coding: Coding,
        content_type: &'static str,
        work: F,
    ) -> Result<Response, E>
    where
        E: From<LimitError> + From<StreamError> + std::fmt::Display + Send + 'static,
        F: FnOnce(&Context, &QueryBudget, &mut Sink) -> Result<(), E> + Send + 'static,
    {
        let options = &self.engine.options;
        let admitted = self.admit_to(self.engine.copy_budget(whole), options.timeout).await?;
        let patience = Patience { stall: options.stall_max, whole };
        self.flow(admitted, patience, coding, content_type, work).await
    }

    async fn flow<E, F>(
        &self,
        admitted: Admitted,
        patience: Patience,
        coding: Coding,
        content_type: &'static str,
        work: F,
    ) -> Result<Response, E>
    where
        E: From<LimitError> + From<StreamError> + std::fmt::Display + Send + 'static,
        F: FnOnce(&Context, &QueryBudget, &mut Sink) -> Result<(), E> + Send + 'static,
    {
        let (tell, told) = oneshot::channel();
        let help = "Bytes of answers that wait for their clients to read.";
        let buffered = self.counters.gauge("trilith_answer_buffered_bytes", help, &[]);
        let mut sink = Sink {
            text: String::new(),
            bytes: Vec::new(),
            coding,
            patience,
            way: Way::Waiting(Some(tell)),
            place: Some(admitted.place),
            streams: self.streams.clone(),
            buffered: buffered.clone(),
        };
        let (context, budget) = (self.clone(), admitted.budget);
        let worker = tokio::task::spawn_blocking(move || match work(&context, &budget, &mut sink) {
            Ok(()) => sink.finish().map_err(E::from),
            Err(error) => {
                if matches!(sink.way, Way::Flowing { .. }) {
                    tracing::debug!(%error, "an answer broke off");
                }
                Err(error)
            }
        });
        if let Ok(flow) = told.await {
            let body =
                Pieces { first: Some(flow.first), rest: flow.rest, ended: false, buffered, _guard: admitted.guard };
            return Ok(response(Body::new(body), coding, content_type));
        }
        match worker.await {
            Ok(Ok(Some(whole))) => Ok(response(Body::from(whole.bytes), whole.coding, content_type)),
            Ok(Ok(None)) => Err(StreamError::HungUp.into()),
            Ok(Err(error)) => Err(error),
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_) => Err(LimitError::Canceled.into()),
        }
    }
}

fn response(body: Body, coding: Coding, content_type: &'static str) -> Response {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    if let Some(name) = coding.name() {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static(name));
        headers.insert(VARY, HeaderValue::from_static("accept-encoding"));
    }
    response
}

#[cfg(test)]
#[path = "stream_tests.rs"]
mod tests;
