//! Bodies that are being received: what they hold together, what one sender may hold of it, and how fast they must
//! come. One who sends slowly, or opens many connections, cannot keep others out: when there is no room, the slowest
//! body that is still coming is given up, and who has to wait waits only for that.
//! Locks: one for the table of bodies, held for a few instructions, or for one pass over the bodies when there is
//! no room.

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::Waker;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::error::{Classify, ErrorClass};
use super::memory::MemoryBudget;

/// Who sends: an IPv4 address, or the first half of an IPv6 address, of which one sender has the other half to choose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Sender(u64);

impl From<IpAddr> for Sender {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            // No IPv6 network begins with 64 bits of this form, so the two kinds do not meet.
            IpAddr::V4(address) => Self(u64::from(u32::from(address))),
            IpAddr::V6(address) => Self((u128::from(address) >> 64) as u64),
        }
    }
}

impl fmt::Display for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match u32::try_from(self.0) {
            Ok(address) if address > 0 => write!(f, "{}", Ipv4Addr::from(address)),
            _ => write!(f, "{}/64", Ipv6Addr::from(u128::from(self.0) << 64)),
        }
    }
}

/// Bounds of bodies that are being received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Bytes of all bodies together, at most; a share of the memory limit can make it less.
    pub bytes_max: u64,
    /// How long a sender may take for a whole body.
    pub deadline: Duration,
    /// How long a sender of a body without an end in sight (an import) may send nothing.
    pub idle_max: Duration,
    /// Bytes a second that must come while we wait for the sender, on average over [`rate_window`](Self::rate_window).
    pub rate_min: u64,
    /// How long a sender is waited for before its rate is looked at.
    pub rate_window: Duration,
    /// How long a body waits for room before its sender is told to retry.
    pub room_wait: Duration,
    /// Bodies that may wait for room, half of them of one sender; more are told to retry at once.
    pub waiting_max: usize,
    /// Bodies younger than this are not given up for others.
    pub young: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            bytes_max: 64 << 20,
            deadline: Duration::from_secs(30),
            idle_max: Duration::from_secs(30),
            rate_min: 1 << 10,
            rate_window: Duration::from_secs(10),
            room_wait: Duration::from_secs(10),
            waiting_max: 64,
            young: Duration::from_secs(1),
        }
    }
}

/// Why a body was not received.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// It did not arrive in time.
    #[error("the body did not arrive within {} s; send it faster, or in smaller pieces", .0.as_secs_f64())]
    Slow(Duration),
    /// Its sender all but stopped.
    #[error("the body came with less than {0} bytes a second; send it faster")]
    Trickle(u64),
    /// It was given up for others, as the slowest.
    #[error("too much is being received at once, and this body was the slowest; retry")]
    GivenUp,
    /// There was no room for it.
    #[error("too much is being received at once; retry")]
    Busy,
    /// There will never be room for it.
    #[error(
        "the body has more than {limit} bytes, all that one sender may have under way (a share of --memory-limit); send smaller batches"
    )]
    TooLarge {
        /// What one sender may have, in bytes.
        limit: u64,
    },
}

impl Classify for BodyError {
    fn class(&self) -> ErrorClass {
        match self {
            Self::Slow(_) | Self::Trickle(_) => ErrorClass::Timeout,
            Self::GivenUp | Self::Busy => ErrorClass::Unavailable,
            Self::TooLarge { .. } => ErrorClass::TooLarge,
        }
    }
}

impl BodyError {
    /// The error of this kind among an error and its causes.
    pub fn among<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a Self> {
        std::iter::successors(Some(error), |error| error.source()).find_map(|error| error.downcast_ref())
    }
}

/// What all bodies share; one for all listeners.
#[derive(Debug)]
pub struct InFlight {
    /// The bounds.
    pub options: Options,
    budget: Arc<MemoryBudget>,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    next: u64,
    /// Bodies that hold bytes or wait for room.
    bodies: HashMap<u64, Arc<Progress>>,
    senders: HashMap<Sender, u64>,
    waiting: HashMap<u64, (Sender, Waker)>,
    /// Bytes of bodies that were given up and are not gone yet.
    leaving: u64,
}

/// How one body comes along.
#[derive(Debug)]
struct Progress {
    sender: Sender,
    began: Instant,
    /// Whether more of it is to come; what is whole is worked on, and never given up.
    coming: AtomicBool,
    /// Whether its reader has all that came, and waits for the sender.
    awaited: AtomicBool,
    given_up: AtomicBool,
    state: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    bytes: u64,
    /// Bytes since `since`, and the rate before it.
    recent: u64,
    since: Option<Instant>,
    before: f64,
    /// Wakes the task that reads the body.
    reader: Option<Waker>,
}

/// How long a rate is measured, at least, before it counts anew.
const RATE_SPAN: Duration = Duration::from_secs(2);

impl Progress {
    /// Bytes a second that came lately.
    fn rate(&self, now: Instant) -> f64 {
        let held = self.state.lock();
        let since = held.since.unwrap_or(self.began);
        let span = now.saturating_duration_since(since).as_secs_f64();
        if span < RATE_SPAN.as_secs_f64() { held.before.max(held.recent as f64) } else { held.recent as f64 / span }
    }

    fn arrived(&self, bytes: u64, now: Instant) {
        let mut held = self.state.lock();
        held.bytes += bytes;
        let span = now.saturating_duration_since(*held.since.get_or_insert(self.began));
        if span >= RATE_SPAN {
            held.before = held.recent as f64 / span.as_secs_f64();
            held.since = Some(now);
            held.recent = 0;
        }
        held.recent += bytes;
    }
}

/// How one body comes along, as others see it.
#[derive(Clone, Debug)]
pub struct Coming(Arc<Progress>);

impl Coming {
    /// How long its sender takes for a byte, when it has been at it for `min` at least and more is awaited from it;
    /// `None` for a body that is whole, or that we have not read as far as it has come.
    pub fn time_per_byte(&self, min: Duration) -> Option<Duration> {
        let (body, now) = (&self.0, Instant::now());
        let awaited = body.awaited.load(Ordering::Acquire) && body.coming.load(Ordering::Acquire);
        let old = now.saturating_duration_since(body.began) >= min;
        (awaited && old).then(|| Duration::from_secs_f64(1.0 / body.rate(now).max(1e-3)))
    }
}

/// Whether a body may grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// The bytes are charged.
    Taken,
    /// There is no room now; the waker is called when there may be.
    Wait,
}

impl InFlight {
    /// Bodies that share `budget`.
    pub fn new(options: Options, budget: Arc<MemoryBudget>) -> Arc<Self> {
        Arc::new(Self { options, budget, table: Mutex::default() })
    }

    /// The account of a body that begins to arrive. It is empty and costs nothing until bytes come.
    pub fn begin(self: &Arc<Self>, sender: Sender) -> Arc<Body> {
        let progress = Progress {
            sender,
            began: Instant::now(),
            coming: AtomicBool::new(true),
            awaited: AtomicBool::new(false),
            given_up: AtomicBool::new(false),
            state: Mutex::default(),
        };
        let (in_flight, progress) = (self.clone(), Arc::new(progress));
        Arc::new(Body { in_flight, progress, id: AtomicU64::new(0), open_ended: AtomicBool::new(false) })
    }

    /// Bytes of all bodies.
    pub fn bytes(&self) -> u64 {
        self.budget.used()
    }

    /// Bytes that all bodies together may hold.
    pub fn limit(&self) -> u64 {
        self.budget.limit()
    }

    /// Bytes that all bodies of one sender may hold: half, so that there is always room for others.
    fn sender_max(&self) -> u64 {
        self.budget.limit() / 2
    }

    /// Gives up the slowest body that is still coming, of `of` if that is named; says whether bytes will come free.
    fn make_room(&self, table: &mut Table, of: Option<Sender>, needed: u64, asking: u64) -> bool {
        if table.leaving >= needed {
            return true;
        }
        let now = Instant::now();
        let old = |body: &Progress| now.saturating_duration_since(body.began) >= self.options.young;
        let slowest = table
            .bodies
            .iter()
            .filter(|(id, body)| {
                **id != asking
                    && of.is_none_or(|sender| sender == body.sender)
                    && body.coming.load(Ordering::Acquire)
                    && !body.given_up.load(Ordering::Acquire)
                    && old(body)
            })
            // One that holds nothing has no room to give.
            .filter(|(_, body)| body.state.lock().bytes > 0)
            .map(|(_, body)| (body.rate(now), body))
            .min_by(|a, b| a.0.total_cmp(&b.0));
        let Some((_, body)) = slowest else { return false };
        body.given_up.store(true, Ordering::Release);
        let mut held = body.state.lock();
        let (bytes, reader) = (held.bytes, held.reader.take());
        drop(held);
        table.leaving += bytes;
        if let Some(reader) = reader {
            reader.wake();
        }
        true
    }
}

/// The account of one body: what it holds is given back when this is dropped. Whoever works on the bytes keeps it.
#[derive(Debug)]
pub struct Body {
    in_flight: Arc<InFlight>,
    progress: Arc<Progress>,
    /// Its number in the table; 0 while it holds nothing.
    id: AtomicU64,
    open_ended: AtomicBool,
}

impl Body {
    /// The bounds it has to keep.
    pub fn options(&self) -> &Options {
        &self.in_flight.options
    }

    /// Lets it be of any length: bounded by its rate and by how long nothing comes, not by a deadline for the whole.
    pub fn set_open_ended(&self) {
        self.open_ended.store(true, Ordering::Relaxed);
    }

    /// Whether it may be of any length.
    pub fn is_open_ended(&self) -> bool {
        self.open_ended.load(Ordering::Relaxed)
    }

    /// Bytes that it holds.
    pub fn bytes(&self) -> u64 {
        self.progress.state.lock().bytes
    }

    /// Takes room for `bytes` that came, or has `waker` called when there may be some. For one that waits longer than
    /// the room is worth waiting for, the reader gives up.
    ///
    /// # Errors
    /// [`BodyError::GivenUp`] when it had to make room itself, [`BodyError::Busy`] when too many wait already,
    /// [`BodyError::TooLarge`] when it could never have so much.
    pub fn grow(&self, bytes: u64, waker: &Waker) -> Result<Room, BodyError> {
        if self.is_given_up() {
            return Err(BodyError::GivenUp);
        }
        let now = Instant::now();
        let (sender, in_flight) = (self.progress.sender, &self.in_flight);
        let mut table = in_flight.table.lock();
        let id = self.number(&mut table);
        let of_sender = table.senders.get(&sender).copied().unwrap_or_default();
        let own_full = of_sender.saturating_add(bytes) > in_flight.sender_max();
        let size = usize::try_from(bytes).unwrap_or(usize::MAX);
        if !own_full && in_flight.budget.try_charge(size) {
            *table.senders.entry(sender).or_default() += bytes;
            table.waiting.remove(&id);
            self.progress.arrived(bytes, now);
            return Ok(Room::Taken);
        }
        let limit = in_flight.sender_max();
        if self.bytes().saturating_add(bytes) > limit {
            return Err(BodyError::TooLarge { limit });
        }
        if !table.waiting.contains_key(&id) {
            let waiting_max = in_flight.options.waiting_max;
            let of_sender = table.waiting.values().filter(|(other, _)| *other == sender).count();
            if table.waiting.len() >= waiting_max || of_sender >= waiting_max.div_ceil(2) {
                return Err(BodyError::Busy);
            }
        }
        in_flight.make_room(&mut table, own_full.then_some(sender), bytes, id);
        table.waiting.insert(id, (sender, waker.clone()));
        Ok(Room::Wait)
    }

    /// Gives back `bytes` that are worked off while more is to come.
    pub fn shrink(&self, bytes: u64) {
        let mut held = self.progress.state.lock();
        let bytes = bytes.min(held.bytes);
        held.bytes -= bytes;
        drop(held);
        self.give_back(bytes);
    }

    /// Who sends it.
    pub fn sender(&self) -> Sender {
        self.progress.sender
    }

    /// How it comes along, for those who have to choose among many.
    pub fn coming(&self) -> Coming {
        Coming(self.progress.clone())
    }

    /// Says whether its reader has all that came, and waits for the sender.
    pub fn set_awaited(&self, awaited: bool) {
        self.progress.awaited.store(awaited, Ordering::Release);
    }

    /// Says that all of it has come.
    pub fn set_whole(&self) {
        self.progress.coming.store(false, Ordering::Release);
    }

    /// Whether it has to make room for others; if not, `waker` is called when it has to.
    pub fn poll_given_up(&self, waker: &Waker) -> bool {
        let mut held = self.progress.state.lock();
        if held.reader.as_ref().is_none_or(|reader| !reader.will_wake(waker)) {
            held.reader = Some(waker.clone());
        }
        drop(held);
        self.is_given_up()
    }

    fn is_given_up(&self) -> bool {
        self.progress.given_up.load(Ordering::Acquire)
    }

    /// Its number in the table, where it is put with its first bytes.
    fn number(&self, table: &mut Table) -> u64 {
        let id = self.id.load(Ordering::Relaxed);
        if id != 0 {
            return id;
        }
        table.next += 1;
        self.id.store(table.next, Ordering::Relaxed);
        table.bodies.insert(table.next, self.progress.clone());
        table.next
    }

    fn give_back(&self, bytes: u64) {
        let in_flight = &self.in_flight;
        in_flight.budget.release(usize::try_from(bytes).unwrap_or(usize::MAX));
        let mut table = in_flight.table.lock();
        let sender = self.progress.sender;
        if let Some(held) = table.senders.get_mut(&sender) {
            *held = held.saturating_sub(bytes);
            if *held == 0 {
                table.senders.remove(&sender);
            }
        }
        if self.is_given_up() {
            table.leaving = table.leaving.saturating_sub(bytes);
        }
        let waiting: Vec<Waker> = table.waiting.values().map(|(_, waker)| waker.clone()).collect();
        drop(table);
        waiting.into_iter().for_each(Waker::wake);
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        let id = *self.id.get_mut();
        if id == 0 {
            return;
        }
        let mut table = self.in_flight.table.lock();
        table.bodies.remove(&id);
        table.waiting.remove(&id);
        drop(table);
        let bytes = std::mem::take(&mut self.progress.state.lock().bytes);
        self.give_back(bytes);
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

    use super::*;

    fn sender(last: u8) -> Sender {
        IpAddr::from([10, 0, 0, last]).into()
    }

    fn in_flight(bytes: u64) -> Arc<InFlight> {
        let options = Options { young: Duration::ZERO, waiting_max: 3, ..Options::default() };
        InFlight::new(options, MemoryBudget::new(bytes))
    }

    fn grow(body: &Body, bytes: u64) -> Result<Room, BodyError> {
        body.grow(bytes, Waker::noop())
    }

    #[test]
    fn a_sender_is_an_address_or_half_of_one() {
        let v6 = |last: u16, net: u16| Sender::from(IpAddr::from(Ipv6Addr::new(0x2001, 0xdb8, 0, net, 0, 0, 0, last)));
        assert_eq!(v6(1, 1), v6(2, 1));
        assert_ne!(v6(1, 1), v6(1, 2));
        assert_ne!(sender(1), sender(2));
        let mapped = IpAddr::from(std::net::Ipv4Addr::new(10, 0, 0, 1).to_ipv6_mapped());
        assert_eq!(Sender::from(mapped), sender(1));
    }

    #[test]
    fn one_sender_has_half_and_others_have_room() {
        let all = in_flight(1_000);
        let (one, other) = (all.begin(sender(1)), all.begin(sender(2)));
        one.set_whole();
        assert_eq!(grow(&one, 500), Ok(Room::Taken));
        let more = all.begin(sender(1));
        assert_eq!(grow(&more, 1), Ok(Room::Wait), "what is whole is not given up");
        assert_eq!(grow(&other, 400), Ok(Room::Taken));
        assert_eq!(grow(&other, 200), Err(BodyError::TooLarge { limit: 500 }));
        assert_eq!(all.bytes(), 900);
        drop((one, other, more));
        assert_eq!(all.bytes(), 0);
        let table = all.table.lock();
        assert!(table.bodies.is_empty() && table.senders.is_empty() && table.waiting.is_empty(), "{table:?}");
    }

    #[test]
    fn the_slowest_body_makes_room_and_only_one_does() {
        let all = in_flight(1_000);
        let (slow, fast, new) = (all.begin(sender(1)), all.begin(sender(1)), all.begin(sender(1)));
        assert_eq!(grow(&slow, 100), Ok(Room::Taken));
        assert_eq!(grow(&fast, 350), Ok(Room::Taken));
        assert_eq!(grow(&new, 100), Ok(Room::Wait));
        assert_eq!(grow(&new, 100), Ok(Room::Wait));
        assert!(slow.poll_given_up(Waker::noop()) && !fast.poll_given_up(Waker::noop()));
        assert_eq!(grow(&slow, 1), Err(BodyError::GivenUp));
        drop(slow);
        assert_eq!(grow(&new, 100), Ok(Room::Taken));
        assert!(!fast.poll_given_up(Waker::noop()));
    }

    #[test]
    fn few_wait_and_more_are_told_to_retry() {
        let all = in_flight(1_000);
        let held = all.begin(sender(1));
        assert_eq!(grow(&held, 450), Ok(Room::Taken));
        held.set_whole();
        let waiting: Vec<_> = (0..3).map(|_| all.begin(sender(1))).collect();
        let said: Vec<_> = waiting.iter().map(|body| grow(body, 100)).collect();
        assert_eq!(said, [Ok(Room::Wait), Ok(Room::Wait), Err(BodyError::Busy)]);
        held.shrink(450);
        assert_eq!(grow(&waiting[0], 100), Ok(Room::Taken));
    }
}
