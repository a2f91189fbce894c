//! Answers that clients are reading: how many there may be at a time, and what waits of each for its client.
//! An answer has its place from its first piece until its client has all of it, and no place among the running
//! queries any more. When there is no place for one that comes, the one goes whose client has taken nothing
//! for longest, of the sender that has most; what it had buffered goes with it.
//! Locks: the list's, then an answer's buffer.

use std::collections::HashMap;
use std::sync::Arc;
use std::task::{Context as Poller, Poll, Waker};
use std::time::{Duration, Instant};

use axum::body::Bytes;
use parking_lot::{Condvar, Mutex};
use tokio::sync::{Notify, mpsc};

use crate::base::counters::Cell;
use crate::base::in_flight::Sender;
use crate::base::limits::{Hold, LimitError};

/// A client may take nothing for so long, whoever waits for a place.
const STALL_MIN: Duration = Duration::from_millis(500);
/// How often one that waits for a place looks again.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Answers that may wait for a place, for each place.
const WAITING_PER_PLACE: usize = 2;

/// What comes through the channel of an answer.
pub(super) enum Piece {
    Bytes(Bytes),
    /// All has been sent: what ends without it has broken off.
    End,
}

/// What waits of an answer for its client.
pub(super) struct Buffer {
    /// The first piece.
    pub(super) first: Option<Bytes>,
    /// The others.
    pub(super) rest: mpsc::Receiver<Piece>,
    /// Counts the bytes.
    pub(super) buffered: Cell,
    /// What it is charged for.
    #[expect(dead_code, reason = "held until it is dropped")]
    pub(super) memory: Option<Hold>,
}

impl Buffer {
    fn is_empty(&self) -> bool {
        self.first.is_none() && self.rest.is_empty()
    }
}

impl Drop for Buffer {
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

/// An answer that a client is reading.
pub(super) struct Reading {
    /// Who reads; nobody that is known in tests.
    sender: Option<Sender>,
    /// None when it has broken off.
    buffer: Mutex<Option<Buffer>>,
    taken: Mutex<Instant>,
    /// Wakes the client's side, which waits for a piece.
    waiting: Mutex<Option<Waker>>,
    /// Rings for the writer, who may wait for the client, when it has broken off.
    bell: Notify,
}

impl Reading {
    pub(super) fn new(sender: Option<Sender>, buffer: Buffer) -> Arc<Self> {
        let buffer = Mutex::new(Some(buffer));
        Arc::new(Self {
            sender,
            buffer,
            taken: Mutex::new(Instant::now()),
            waiting: Mutex::default(),
            bell: Notify::new(),
        })
    }

    /// The next piece; none when it has broken off.
    pub(super) fn poll(&self, context: &mut Poller<'_>) -> Poll<Option<Piece>> {
        let mut buffer = self.buffer.lock();
        let Some(own) = buffer.as_mut() else { return Poll::Ready(None) };
        let piece = match own.first.take() {
            Some(first) => Some(Piece::Bytes(first)),
            None => match own.rest.poll_recv(context) {
                Poll::Ready(piece) => piece,
                Poll::Pending => {
                    *self.waiting.lock() = Some(context.waker().clone());
                    return Poll::Pending;
                }
            },
        };
        *self.taken.lock() = Instant::now();
        if let Some(Piece::Bytes(bytes)) = &piece {
            own.buffered.sub(bytes.len() as u64);
        }
        Poll::Ready(piece)
    }

    /// How long its client has not taken what there is.
    fn stalled(&self) -> Duration {
        let waits = self.buffer.lock().as_ref().is_some_and(|buffer| !buffer.is_empty());
        if waits { self.taken.lock().elapsed() } else { Duration::ZERO }
    }

    /// Lets go of what waits; the client sees that the answer breaks off.
    fn break_off(&self) {
        drop(self.buffer.lock().take());
        self.bell.notify_one();
        if let Some(waker) = self.waiting.lock().take() {
            waker.wake();
        }
    }

    /// Returns when it has broken off.
    pub(super) async fn broken_off(&self) {
        self.bell.notified().await;
    }
}

#[derive(Default)]
struct State {
    open: HashMap<u64, Arc<Reading>>,
    waiting: usize,
    next: u64,
}

impl State {
    /// Has the one go that is to make room for another; says whether there was one.
    fn make_room(&mut self) -> bool {
        let mut senders: HashMap<Option<Sender>, usize> = HashMap::new();
        for reading in self.open.values() {
            *senders.entry(reading.sender).or_default() += 1;
        }
        let stalled = self.open.iter().map(|(id, reading)| (senders.get(&reading.sender), reading.stalled(), *id));
        let Some((.., id)) = stalled.filter(|(_, stalled, _)| *stalled >= STALL_MIN).max() else { return false };
        if let Some(reading) = self.open.remove(&id) {
            tracing::debug!("an answer that its client does not read was broken off to make room for another");
            reading.break_off();
        }
        true
    }
}

/// All answers that clients are reading.
pub struct Flows {
    places: usize,
    state: Mutex<State>,
    freed: Condvar,
}

impl Flows {
    /// Room for so many.
    pub fn new(places: usize) -> Arc<Self> {
        Arc::new(Self { places, state: Mutex::default(), freed: Condvar::new() })
    }

    /// A place for one more, no later than in `wait`; on a blocking thread. `is_gone` says whether its client is.
    ///
    /// # Errors
    /// [`LimitError`]: too many wait, it took too long, or the client is gone.
    pub(super) fn enter(
        self: &Arc<Self>,
        reading: &Arc<Reading>,
        wait: Duration,
        is_gone: impl Fn() -> bool,
    ) -> Result<FlowPlace, LimitError> {
        let end = Instant::now() + wait;
        let mut state = self.state.lock();
        if state.open.len() >= self.places && !state.make_room() {
            let limit = WAITING_PER_PLACE * self.places;
            if state.waiting >= limit {
                return Err(LimitError::QueueFull { limit });
            }
            state.waiting += 1;
            let outcome = loop {
                if state.open.len() < self.places || state.make_room() {
                    break Ok(());
                }
                if is_gone() {
                    break Err(LimitError::Canceled);
                }
                if Instant::now() >= end {
                    break Err(LimitError::Deadline { after_ms: u64::try_from(wait.as_millis()).unwrap_or(u64::MAX) });
                }
                self.freed.wait_for(&mut state, LOOK_EVERY);
            };
            state.waiting -= 1;
            outcome?;
        }
        let id = state.next;
        state.next += 1;
        state.open.insert(id, reading.clone());
        Ok(FlowPlace { flows: self.clone(), id })
    }

    /// Places that nobody has.
    #[cfg(test)]
    pub(super) fn free(&self) -> usize {
        self.places - self.state.lock().open.len()
    }
}

/// A place among the answers that clients are reading.
#[derive(Clone)]
pub(super) struct FlowPlace {
    flows: Arc<Flows>,
    id: u64,
}

impl FlowPlace {
    /// Gives it back; also when somebody else has it by now, who has another number.
    pub(super) fn leave(&self) {
        let gone = self.flows.state.lock().open.remove(&self.id);
        self.flows.freed.notify_one();
        if let Some(reading) = gone {
            reading.break_off();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    fn reading(sender: u8) -> (mpsc::Sender<Piece>, Arc<Reading>) {
        let (pieces, rest) = mpsc::channel(4);
        let first = Some(Bytes::from_static(b"first"));
        let buffer = Buffer { first, rest, buffered: Cell::default(), memory: None };
        (pieces, Reading::new(Some(IpAddr::from([10, 0, 0, sender]).into()), buffer))
    }

    fn age(reading: &Reading, by: u64) {
        let mut taken = reading.taken.lock();
        *taken = taken.checked_sub(Duration::from_secs(by)).unwrap();
    }

    #[test]
    fn the_one_goes_whose_client_has_taken_nothing_for_longest_of_the_sender_that_has_most() {
        let flows = Flows::new(4);
        let all: Vec<_> = [(1, 9), (2, 3), (2, 5), (2, 7)].map(|(sender, age)| (reading(sender), age)).into();
        for ((_, reading), by) in &all {
            flows.enter(reading, Duration::ZERO, || false).unwrap();
            age(reading, *by);
        }
        // What waits for its writer is no stall.
        assert!(all[3].0.1.poll(&mut Poller::from_waker(std::task::Waker::noop())).is_ready());
        age(&all[3].0.1, 7);
        let (_, one_more) = reading(3);
        let place = flows.enter(&one_more, Duration::ZERO, || false).unwrap();
        let broken: Vec<bool> = all.iter().map(|((_, reading), _)| reading.buffer.lock().is_none()).collect();
        assert_eq!(broken, [false, false, true, false]);
        place.leave();
        place.leave();
        assert_eq!(flows.free(), 1);
    }

    #[tokio::test]
    async fn a_client_that_waits_for_a_piece_learns_that_none_will_come() {
        let (_pieces, own) = reading(1);
        assert!(matches!(std::future::poll_fn(|context| own.poll(context)).await, Some(Piece::Bytes(_))));
        let waits = tokio::spawn({
            let own = own.clone();
            async move { std::future::poll_fn(|context| own.poll(context)).await.is_none() }
        });
        while own.waiting.lock().is_none() {
            tokio::task::yield_now().await;
        }
        own.break_off();
        assert!(waits.await.unwrap());
    }

    #[test]
    fn who_finds_no_place_waits_for_one_within_bounds() {
        let flows = Flows::new(1);
        let ((_first, first), (_second, second)) = (reading(1), reading(2));
        let place = flows.enter(&first, Duration::ZERO, || false).unwrap();
        let refused = |gone: bool| flows.enter(&second, Duration::ZERO, || gone).err().unwrap();
        assert_eq!((refused(true), refused(false)), (LimitError::Canceled, LimitError::Deadline { after_ms: 0 }));
        flows.state.lock().waiting = 2;
        assert_eq!(refused(false), LimitError::QueueFull { limit: 2 });
        flows.state.lock().waiting = 0;
        std::thread::scope(|scope| {
            let waits = scope.spawn(|| flows.enter(&second, Duration::from_secs(600), || false));
            while flows.state.lock().waiting == 0 {
                std::thread::yield_now();
            }
            place.leave();
            assert!(waits.join().unwrap().is_ok());
        });
    }
}
