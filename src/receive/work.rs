//! Reads bodies and runs decoders within bounds. What all requests together may hold is bounded:
//! bytes of bodies by the account that comes with a request, kept until they are worked off; inflated and
//! decoded data by a share of memory, charged before it is there, and by places: many for small bodies,
//! few for large ones, so that hostile bodies cannot add up. Inflating, decoding and storing run on
//! blocking threads.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::header::CONTENT_LENGTH;
use axum::http::request::Parts;
use http_body_util::BodyExt as _;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::failure::Failure;
use super::imports::{Imports, Running};
use super::receiver::{self, Batch, DecodeError, Decoded, Headers, Receiver};
use super::refused::{Refused, RefusedLately};
use crate::base::counters::Counters;
use crate::base::error::{Classify as _, ErrorClass};
use crate::base::in_flight;
use crate::base::memory::{Hold, MemoryBudget};
use crate::ingest::Ingestor;
use crate::model::batch::Appended;
use crate::wire::decompress::{DecompressError, Encoding, decompress_into, expected_len};
use crate::wire::error::WireError;
use crate::wire::limits;

/// Bounds of what is received at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Most bytes of one body as it comes over the wire.
    pub body_bytes_max: usize,
    /// How long a body waits for its place before the sender is told to retry.
    pub place_deadline: Duration,
    /// Bodies of at most 512 KiB, inflated, that are worked on at the same time.
    pub small_places: usize,
    /// Larger bodies that are worked on at the same time.
    pub large_places: usize,
    /// Bodies that are stored piece by piece at the same time.
    pub import_places: usize,
}

/// Inflated bodies up to this many bytes are small.
pub(super) const SMALL_BYTES_MAX: usize = 512 << 10;

/// The share of the account that bodies are inflated and decoded within.
const DECODING_SHARE: (u64, u64) = (2, 3);
/// Of it small bodies have a reserve, so that ordinary pushes are taken whatever others hold: one in so many
/// bytes of the account, and at most ...
const SMALL_RESERVE_SHARE: u64 = 32;
/// ... so many.
const SMALL_RESERVE_BYTES_MAX: u64 = 16 << 20;
/// Times that a body is guessed to inflate where it does not say, and then again.
const INFLATED_GUESS: usize = 8;
const INFLATED_AGAIN: usize = 4;
/// Times that what is charged for a decoded body is raised by.
const DECODED_AGAIN: usize = 2;
/// What any body may inflate to, and be decoded to, before it is asked how large it is.
const INFLATED_MIN: usize = 16 << 10;
const DECODED_MIN: usize = 64 << 10;
/// Memory that storing takes for each inflated byte: as a record of the log, and in between.
const STORING_GROWTH: usize = 2;

/// Buffers for inflated bodies that are kept for the next, and how large one may be.
const BUFFERS_MAX: usize = 4;
const BUFFER_BYTES_MAX: usize = 4 << 20;

impl Default for Options {
    fn default() -> Self {
        Self {
            body_bytes_max: 16 << 20,
            place_deadline: Duration::from_secs(10),
            small_places: 16,
            large_places: 2,
            import_places: 2,
        }
    }
}

/// What every receiver needs; cheap to clone. One for all listeners.
#[derive(Clone)]
pub struct State(Arc<Inner>);

struct Inner {
    options: Options,
    ingestor: Arc<Ingestor>,
    counters: Counters,
    small: Room,
    large: Room,
    imports: Arc<Imports>,
    refused: RefusedLately,
}

/// Where bodies of a size are worked on.
struct Room {
    places: Arc<Semaphore>,
    /// They inflate to at most this many bytes.
    inflated_max: usize,
    memory: Arc<MemoryBudget>,
    /// Buffers for inflated bodies that nobody uses now, and their charges.
    buffers: Mutex<Vec<(Vec<u8>, Hold)>>,
}

impl Room {
    fn new(places: usize, inflated_max: usize, memory: Arc<MemoryBudget>) -> Self {
        Self { places: Arc::new(Semaphore::new(places.max(1))), inflated_max, memory, buffers: Mutex::default() }
    }
}

/// A body that has arrived; its bytes are charged until it is dropped.
pub(super) struct Arrived {
    pub(super) bytes: Bytes,
    account: Option<Arc<in_flight::Body>>,
}

impl Arrived {
    /// The same charge for a part of the bytes.
    pub(super) fn part(&self, bytes: Bytes) -> Self {
        Self { bytes, account: self.account.clone() }
    }
}

impl State {
    /// Receivers that push into `ingestor` and draw on `memory`, the account of the process.
    pub fn new(options: Options, ingestor: Arc<Ingestor>, counters: &Counters, memory: &Arc<MemoryBudget>) -> Self {
        let limit = memory.limit() / DECODING_SHARE.1 * DECODING_SHARE.0;
        // Where there are no bounds nothing need be kept for anybody.
        let bounded = memory.limit() < u64::MAX;
        let reserve = (memory.limit() / SMALL_RESERVE_SHARE).min(SMALL_RESERVE_BYTES_MAX) * u64::from(bounded);
        let small = memory.share_with_reserve("small_bodies_decoded", limit, reserve);
        let small = Room::new(options.small_places, SMALL_BYTES_MAX, small);
        let large = memory.share("bodies_decoded", limit);
        let large = Room::new(options.large_places, limits::DEFAULT.body_bytes_max, large);
        let imports = Imports::new(options.import_places);
        let refused = RefusedLately::default();
        Self(Arc::new(Inner { options, ingestor, counters: counters.clone(), small, large, imports, refused }))
    }

    /// The time, in milliseconds.
    pub(super) fn now_ms(&self) -> i64 {
        self.0.ingestor.now_ms()
    }

    /// A place among the bodies that are stored piece by piece.
    pub(super) async fn import_place(&self) -> Result<Running, Failure> {
        self.0.imports.enter(self.0.options.place_deadline).await.ok_or(Failure::Busy)
    }

    /// Reads a body within its cap. How fast it must come, and whether there is room, is the connection's work.
    pub(super) async fn read(&self, request: &Parts, mut body: Body) -> Result<Arrived, Failure> {
        let limit = self.0.options.body_bytes_max;
        let declared = receiver::text(&request.headers, &CONTENT_LENGTH).and_then(|length| length.parse::<u64>().ok());
        if declared.is_some_and(|length| length > limit as u64) {
            return Err(Failure::TooLarge { limit });
        }
        let mut first = Bytes::new();
        let mut rest = Vec::new();
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.map_err(Failure::of_body)?.into_data() else { continue };
            if first.len().max(rest.len()) + data.len() > limit {
                return Err(Failure::TooLarge { limit });
            }
            // A body that comes in one piece is not copied.
            if first.is_empty() {
                first = data;
                continue;
            }
            if rest.is_empty() {
                rest.extend_from_slice(&first);
            }
            rest.extend_from_slice(&data);
        }
        let bytes = if rest.is_empty() { first } else { Bytes::from(rest) };
        Ok(Arrived { bytes, account: receiver::account(request) })
    }

    /// Inflates, decodes and stores a body on a blocking thread: in one of many places first, and in one of few when it
    /// inflates to more than a small body.
    pub(super) async fn run(
        &self,
        receiver: &'static Receiver,
        request: &Headers,
        encoding: Encoding,
        body: Arrived,
    ) -> Result<Appended, Failure> {
        let labels = [("receiver", receiver.name)];
        let help = "Bytes of pushes as they came over the wire.";
        self.0.counters.counter("trilith_received_bytes_total", help, &labels).add(body.bytes.len() as u64);
        let body = Arc::new(body);
        let rooms: [fn(&Inner) -> &Room; 2] = [|own| &own.small, |own| &own.large];
        for room in rooms {
            if body.bytes.len() > room(&self.0).inflated_max {
                continue;
            }
            let place = self.place(&room(&self.0).places).await?;
            let (state, request, body) = (self.clone(), request.clone(), body.clone());
            // The place goes with the job: a sender that hangs up frees it only when the job is done.
            let job = move || {
                let outcome = state.store(receiver, &request, encoding, &body.bytes, room(&state.0));
                drop(place);
                outcome
            };
            match tokio::task::spawn_blocking(job).await {
                Ok(Err(Failure::Decompress(DecompressError::TooLarge { .. }))) => {}
                Ok(outcome) => return outcome,
                Err(error) => {
                    tracing::error!(receiver = receiver.name, %error, "a receiver ended early");
                    return Err(Failure::Defect);
                }
            }
        }
        Err(DecompressError::TooLarge { limit: limits::DEFAULT.body_bytes_max }.into())
    }

    /// Waits for one of `places`.
    async fn place(&self, places: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, Failure> {
        let wait = tokio::time::timeout(self.0.options.place_deadline, places.clone().acquire_owned());
        // The semaphores are never closed.
        let Ok(Ok(place)) = wait.await else { return Err(Failure::Busy) };
        Ok(place)
    }

    fn store(
        &self,
        receiver: &Receiver,
        request: &Headers,
        encoding: Encoding,
        body: &[u8],
        room: &Room,
    ) -> Result<Appended, Failure> {
        let kept = room.buffers.lock().pop();
        let (mut buffer, mut held) = match kept {
            Some(kept) => kept,
            None => (Vec::new(), room.memory.hold_anyway(0)),
        };
        let outcome = self.inflate(encoding, body, room.inflated_max, &mut buffer, &mut held).and_then(|len| {
            // What is not packed stays where it is.
            let inflated = if encoding == Encoding::Identity { body } else { buffer.get(..len).unwrap_or_default() };
            let (mut decoding, beside) = (room.memory.hold_anyway(0), held.bytes());
            self.grow(&mut decoding, beside, inflated.len().saturating_mul(STORING_GROWTH))?;
            let decoded = self.decode(receiver, request, inflated, &mut decoding, beside)?;
            self.push(receiver, decoded)
        });
        let mut buffers = room.buffers.lock();
        if buffer.capacity() <= BUFFER_BYTES_MAX && buffers.len() < BUFFERS_MAX && !room.memory.is_pressed() {
            held.set_anyway(buffer.capacity());
            buffers.push((buffer, held));
        }
        outcome
    }

    /// Charges `bytes` for what is received piece by piece until the hold is dropped.
    pub(super) fn hold(&self, bytes: usize) -> Result<Hold, Failure> {
        let mut held = self.0.large.memory.hold_anyway(0);
        self.grow(&mut held, 0, bytes)?;
        Ok(held)
    }

    /// Charges `more` bytes; what could not be had with nobody else there, with the bytes that the same body
    /// holds `beside`, is too large, not to be tried again.
    fn grow(&self, held: &mut Hold, beside: u64, more: usize) -> Result<(), Failure> {
        let limit = self.0.large.memory.limit();
        if held.bytes().saturating_add(beside).saturating_add(more as u64) > limit {
            return Err(Failure::TooLargeDecoded { limit });
        }
        Ok(held.grow(more)?)
    }

    /// Inflates a body to at most `inflated_max` bytes, charged before they are there; returns how many they are.
    fn inflate(
        &self,
        encoding: Encoding,
        body: &[u8],
        inflated_max: usize,
        buffer: &mut Vec<u8>,
        held: &mut Hold,
    ) -> Result<usize, Failure> {
        let guess = || body.len().saturating_mul(INFLATED_GUESS);
        let expected = expected_len(encoding, body).unwrap_or_else(guess);
        let mut room = expected.clamp(INFLATED_MIN.min(inflated_max), inflated_max);
        loop {
            let needed = if encoding == Encoding::Identity { 0 } else { room };
            let more = needed.saturating_sub(usize::try_from(held.bytes()).unwrap_or(usize::MAX));
            self.grow(held, 0, more)?;
            match decompress_into(encoding, body, room, buffer) {
                Ok(inflated) => return Ok(inflated.len()),
                Err(DecompressError::TooLarge { .. }) if room < inflated_max => {
                    room = room.saturating_mul(INFLATED_AGAIN).min(inflated_max);
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Decodes a body to what is charged for it; where that is too little for an unusual one, it is
    /// charged more and decoded again.
    fn decode<'a>(
        &self,
        receiver: &Receiver,
        request: &Headers,
        inflated: &'a [u8],
        held: &mut Hold,
        beside: u64,
    ) -> Result<Decoded<'a>, Failure> {
        let most = limits::decoded_bytes_allowed(&limits::DEFAULT, inflated.len());
        let mut room = inflated.len().saturating_mul(receiver.growth).max(DECODED_MIN).min(most);
        self.grow(held, beside, room)?;
        loop {
            let limits = limits::Options { decoded_bytes_max: room, ..limits::DEFAULT };
            match (receiver.decode)(request, inflated, &limits) {
                Err(DecodeError::Wire(WireError::TooLarge { .. })) if room < most => {
                    let more = room.saturating_mul(DECODED_AGAIN).min(most);
                    self.grow(held, beside, more - room)?;
                    room = more;
                }
                decoded => return Ok(decoded?),
            }
        }
    }

    /// Stores what was decoded.
    pub(super) fn push(&self, receiver: &Receiver, decoded: Decoded<'_>) -> Result<Appended, Failure> {
        let ingestor = &self.0.ingestor;
        let mut appended = match decoded.batch {
            Batch::Metrics { batch, deltas } => ingestor.push_metrics_with_deltas(batch, &deltas)?,
            Batch::Raw { batch, parse } => ingestor.push_raw(batch, &parse)?,
            Batch::Logs(batch) => ingestor.push_logs(batch)?,
            Batch::Traces(batch) => ingestor.push_traces(batch)?,
        };
        ingestor.count_rejected(receiver.signal, &decoded.rejected);
        appended.rejected.merge(decoded.rejected);
        Ok(appended)
    }

    /// What was refused lately.
    pub fn refused(&self) -> &RefusedLately {
        &self.0.refused
    }

    /// Counts and logs what became of a push, and remembers what was refused.
    pub(super) fn note(&self, receiver: &Receiver, request: &Parts, outcome: &Result<Appended, Failure>) {
        self.remember(receiver, request, outcome);
        let name = receiver.name;
        let result = match outcome {
            Ok(appended) if appended.rejected.is_empty() => "stored",
            Ok(appended) => {
                tracing::debug!(receiver = name, refused = %appended.rejected.summary(), "partly refused");
                "partly_refused"
            }
            Err(failure) => match failure.class() {
                ErrorClass::Unavailable | ErrorClass::Internal => {
                    tracing::warn!(receiver = name, error = %failure.text(), "push not taken");
                    "unavailable"
                }
                ErrorClass::BadData
                | ErrorClass::TooLarge
                | ErrorClass::Execution
                | ErrorClass::NotFound
                | ErrorClass::Timeout
                | ErrorClass::Canceled
                | ErrorClass::Throttled => {
                    tracing::debug!(receiver = name, error = %failure.text(), "push refused");
                    "refused"
                }
            },
        };
        let labels = [("receiver", name), ("result", result)];
        self.0.counters.counter("trilith_received_requests_total", "Pushes by what became of them.", &labels).inc();
    }

    fn remember(&self, receiver: &Receiver, request: &Parts, outcome: &Result<Appended, Failure>) {
        let add = |reason, name: &str, count, advice| {
            let sender = receiver::account(request).map(|own| own.sender());
            let (at_ms, name, receiver) = (self.now_ms(), name.to_owned(), receiver.name);
            self.0.refused.add(Refused { at_ms, reason, name, receiver, sender, count, advice });
        };
        match outcome {
            Ok(appended) => {
                appended.rejected.iter().for_each(|(reason, own)| add(reason, &own.name, own.count, String::new()));
            }
            Err(failure) => add(failure.word(), "", 1, failure.advice()),
        }
    }
}
