//! Answers that are written piece by piece while the client reads them.
//! Flow: a query on a blocking thread writes text into a [`Sink`]. What fits into one piece is sent
//! as a whole, with its length. What does not goes piece by piece through a bounded channel, so that
//! an answer of any length takes the memory of a few pieces; a slow reader holds its writer back.
//! Invariants: an answer is whole or its connection breaks; a client that hangs up, or takes nothing
//! for too long, ends the writing. Once an answer flows, its query's place is free for the next, and it has one
//! among the answers that clients are reading (`flows.rs`).

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
use tokio::sync::{mpsc, oneshot};

use super::context::{Admitted, CancelOnDrop, Context, asker};
use super::flows::{Buffer, FlowPlace, Flows, Piece, Reading};
use super::places::Place;
use crate::base::counters::Cell;
use crate::base::error::{Classify, ErrorClass};
use crate::base::in_flight::Sender;
use crate::base::limits::{Hold, LimitError, MemoryBudget, QueryBudget};
use crate::wire::compress::{Coding, Packer};

/// Text that makes a piece; the last item of a piece may reach beyond it.
pub(super) const PIECE_BYTES: usize = 64 << 10;
/// Pieces that wait for the connection to take them.
pub(super) const PIECES_MAX: usize = 4;
/// Answers below this size are sent as they are: packing would not make them smaller by a packet.
const PACK_BYTES_MIN: usize = 1_024;
/// What an answer that flows is charged for: pieces that wait, one on its way in, one on its way out.
const FLOW_BYTES: usize = (PIECES_MAX + 2) * PIECE_BYTES;

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
    /// The client took nothing, and others wait to be answered.
    #[error("the client took nothing of the answer while others waited for a place")]
    Displaced,
    /// There is no room for an answer of this length.
    #[error(transparent)]
    NoRoom(#[from] LimitError),
    /// The encoder failed.
    #[error("compress the answer")]
    Pack(#[source] std::io::Error),
}

impl Classify for StreamError {
    fn class(&self) -> ErrorClass {
        match self {
            Self::HungUp | Self::Stalled(_) | Self::Slow(_) | Self::Displaced => ErrorClass::Canceled,
            Self::NoRoom(limit) => limit.class(),
            Self::Pack(_) => ErrorClass::Internal,
        }
    }
}

/// An answer that begins to flow.
struct Flow {
    reading: Arc<Reading>,
    place: FlowPlace,
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
    place: Option<Place>,
    flows: Arc<Flows>,
    sender: Option<Sender>,
    memory: Option<Arc<MemoryBudget>>,
    buffered: Cell,
}

enum Way {
    /// Nothing was sent yet.
    Waiting(Option<oneshot::Sender<Flow>>),
    /// Pieces flow.
    Flowing { pieces: mpsc::Sender<Piece>, packer: Packer, since: Instant, reading: Arc<Reading>, place: FlowPlace },
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
            Way::Flowing { pieces, packer, since, reading, .. } => {
                let packed = packer.pack(piece).map_err(StreamError::Pack)?;
                send(pieces, packed, self.patience.wait(*since), reading, &self.buffered)
            }
            Way::Waiting(_) => self.begin(piece),
        }
    }

    /// The answer begins to flow. It waits for its place without one among the running queries.
    fn begin(&mut self, piece: Vec<u8>) -> Result<(), StreamError> {
        let Way::Waiting(Some(tell)) = std::mem::replace(&mut self.way, Way::Waiting(None)) else {
            return Err(StreamError::HungUp);
        };
        let mut packer = Packer::new(self.coding).map_err(StreamError::Pack)?;
        let first = packer.pack(piece).map_err(StreamError::Pack)?;
        let memory = self.memory.as_ref().map(|memory| self.charge(memory)).transpose()?;
        let (pieces, rest) = mpsc::channel(PIECES_MAX);
        self.buffered.add(first.len() as u64);
        let buffer = Buffer { first: Some(first.into()), rest, buffered: self.buffered.clone(), memory };
        let reading = Reading::new(self.sender, buffer);
        drop(self.place.take());
        let place = self.flows.enter(&reading, self.patience.stall, || tell.is_closed())?;
        if let Err(flow) = tell.send(Flow { reading: reading.clone(), place: place.clone() }) {
            flow.place.leave();
            return Err(StreamError::HungUp);
        }
        self.way = Way::Flowing { pieces, packer, since: Instant::now(), reading, place };
        Ok(())
    }

    fn charge(&self, memory: &Arc<MemoryBudget>) -> Result<Hold, LimitError> {
        memory.try_hold(FLOW_BYTES).map_err(|full| LimitError::AllQueriesMemory { limit: full.limit })
    }

    /// What was written will not be followed by more.
    fn break_off(&self, error: &dyn std::fmt::Display) {
        if let Way::Flowing { place, .. } = &self.way {
            tracing::debug!(%error, "an answer broke off");
            place.leave();
        }
    }

    fn end(&mut self) -> Result<(), StreamError> {
        let way = std::mem::replace(&mut self.way, Way::Waiting(None));
        let Way::Flowing { pieces, packer, since, reading, place } = way else { return Ok(()) };
        let last = packer.finish().map_err(StreamError::Pack);
        let sent = last.and_then(|last| send(&pieces, last, self.patience.wait(since), &reading, &self.buffered));
        let ended = sent.and_then(|()| hand_over(&pieces, Piece::End, self.patience.wait(since), &reading));
        ended.inspect_err(|_| place.leave())
    }

    /// Sends the end; an answer that did not flow comes back, packed.
    fn finish(&mut self) -> Result<Option<Whole>, StreamError> {
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
        self.end()?;
        Ok(None)
    }
}

fn send(
    pieces: &mpsc::Sender<Piece>,
    bytes: Vec<u8>,
    wait: (Duration, StreamError),
    reading: &Reading,
    buffered: &Cell,
) -> Result<(), StreamError> {
    if bytes.is_empty() {
        return Ok(());
    }
    let size = bytes.len() as u64;
    buffered.add(size);
    let sent = hand_over(pieces, Piece::Bytes(bytes.into()), wait, reading);
    if sent.is_err() {
        buffered.sub(size);
    }
    sent
}

fn hand_over(
    pieces: &mpsc::Sender<Piece>,
    piece: Piece,
    (wait, over): (Duration, StreamError),
    reading: &Reading,
) -> Result<(), StreamError> {
    let piece = match pieces.try_send(piece) {
        Ok(()) => return Ok(()),
        Err(mpsc::error::TrySendError::Closed(_)) => return Err(StreamError::HungUp),
        Err(mpsc::error::TrySendError::Full(piece)) => piece,
    };
    // On a blocking thread, which may wait. The time-out is made where there is a timer.
    Handle::current().block_on(async {
        tokio::select! {
            sent = tokio::time::timeout(wait, pieces.send(piece)) => match sent {
                Ok(Ok(())) => Ok(()),
                Ok(Err(_)) => Err(StreamError::HungUp),
                Err(_) => Err(over),
            },
            () = reading.broken_off() => Err(StreamError::Displaced),
        }
    })
}

/// The body of an answer that flows.
struct Pieces {
    reading: Arc<Reading>,
    place: FlowPlace,
    ended: bool,
    _guard: CancelOnDrop,
}

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Poller<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let piece = std::task::ready!(self.reading.poll(cx));
        self.ended = !matches!(piece, Some(Piece::Bytes(_)));
        Poll::Ready(match piece {
            Some(Piece::Bytes(bytes)) => Some(Ok(Frame::data(bytes))),
            Some(Piece::End) => None,
            None => Some(Err(std::io::Error::other("the answer broke off"))),
        })
    }
}

impl Drop for Pieces {
    fn drop(&mut self) {
        self.place.leave();
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
            flows: self.flows.clone(),
            sender: asker().sender,
            memory: self.engine.memory.clone(),
            buffered,
        };
        let (context, budget) = (self.clone(), admitted.budget);
        let worker = tokio::task::spawn_blocking(move || {
            let written = work(&context, &budget, &mut sink).and_then(|()| sink.finish().map_err(E::from));
            if let Err(error) = &written {
                sink.break_off(error);
            }
            written
        });
        if let Ok(Flow { reading, place }) = told.await {
            let body = Pieces { reading, place, ended: false, _guard: admitted.guard };
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
