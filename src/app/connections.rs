//! Open connections of all listeners: how many there may be, and which has to go when there is no place for one that
//! comes: of the sender that has most, the one that says nothing for longest; then the one that takes nothing of an
//! answer, which goes after a while in any case, and sooner when others need the memory; then the one whose request
//! comes slowest. One whose request is whole, and whose client takes the answer, stays.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use crate::base::counters::{Cell, Counters};
use crate::base::in_flight::{Coming, Sender};
use crate::base::memory::{Hold, MemoryBudget};

/// Connections of all listeners together, where memory and open files allow it.
const CONNECTIONS_MAX: u64 = 4_096;

/// Memory of a connection, with its buffers and the task that serves it; and the share of the account that
/// all of them may have.
const CONNECTION_BYTES: usize = 24 << 10;
const MEMORY_SHARE: u64 = 5;

/// A connection may be silent for so long, whoever waits.
const SILENT_MIN: Duration = Duration::from_secs(1);

/// A client may take nothing of an answer for so long, whoever needs the memory.
const STALL_MIN: Duration = Duration::from_secs(1);

/// A client may take so long for the body of a request, whoever waits.
const SLOW_MIN: Duration = Duration::from_secs(1);

/// How often one that waits for a place asks for it again.
const ASK_AGAIN: Duration = Duration::from_millis(50);

/// Bytes of the heads of requests, not yet whole, that a connection may hold without being counted.
const HEAD_BYTES_FREE: u64 = 8 << 10;

/// All open connections.
pub(super) struct Connections {
    places: Arc<Semaphore>,
    /// What connections are charged to.
    memory: Arc<MemoryBudget>,
    open: Mutex<HashMap<u64, Arc<Connection>>>,
    next: AtomicU64,
    /// Bytes of heads that are not whole.
    heads: Arc<AtomicU64>,
    heads_max: u64,
    gauge: Cell,
    given_up: Cell,
}

/// One of them.
pub(super) struct Connection {
    /// Who is at the other end.
    pub(super) sender: Sender,
    /// Its number.
    pub(super) id: u64,
    /// Requests that come, or are being answered, by number.
    active: Mutex<HashMap<u64, Coming>>,
    quiet_since: Mutex<Instant>,
    /// Bytes of a head that is not whole.
    head: AtomicU64,
    heads: Arc<AtomicU64>,
    heads_max: u64,
    /// Answers of which there is something to take, by number, and since when.
    offered: Mutex<HashMap<u64, Instant>>,
    requests: AtomicU64,
    /// It has to go though it is being answered.
    must_go: AtomicBool,
    /// Its client began as TLS does, which nothing here speaks.
    speaks_tls: AtomicBool,
    close: Notify,
}

/// A connection as long as it is open.
pub(super) struct Open<'a> {
    all: &'a Connections,
    id: u64,
    /// The connection.
    pub(super) connection: Arc<Connection>,
    _place: OwnedSemaphorePermit,
    _memory: Hold,
}

/// A request that is being answered.
pub(super) struct Active {
    connection: Arc<Connection>,
    /// Its number within the connection.
    number: u64,
}

impl Connections {
    /// Of this process, which may open `open_files` files, of which connections get half at most; heads of requests
    /// that are not whole may hold `heads_max` bytes in all, and connections a share of `memory`.
    pub(super) fn new(counters: &Counters, open_files: u64, heads_max: u64, memory: &Arc<MemoryBudget>) -> Self {
        let memory = memory.share("connections", memory.limit() / MEMORY_SHARE);
        let fit = memory.limit() / CONNECTION_BYTES as u64;
        let places = usize::try_from(CONNECTIONS_MAX.min(open_files / 2).min(fit)).unwrap_or(usize::MAX).max(16);
        let help = "Connections that were closed for others, because they said nothing for longest.";
        Self {
            places: Arc::new(Semaphore::new(places)),
            memory,
            open: Mutex::default(),
            next: AtomicU64::new(0),
            heads: Arc::default(),
            heads_max,
            gauge: counters.gauge("trilith_connections", "Open connections of all listeners.", &[]),
            given_up: counters.counter("trilith_connections_given_up_total", help, &[]),
        }
    }

    /// A place for one more; if there is none, another has to go.
    pub(super) async fn place(&self) -> OwnedSemaphorePermit {
        loop {
            if let Ok(place) = self.places.clone().try_acquire_owned() {
                return place;
            }
            self.give_up_one();
            // The semaphore is never closed.
            if let Ok(Ok(place)) = tokio::time::timeout(ASK_AGAIN, self.places.clone().acquire_owned()).await {
                return place;
            }
        }
    }

    /// Notes a connection of `sender` as open.
    pub(super) fn open(&self, sender: Sender, place: OwnedSemaphorePermit) -> Open<'_> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let connection = Arc::new(Connection {
            sender,
            id,
            active: Mutex::default(),
            quiet_since: Mutex::new(Instant::now()),
            head: AtomicU64::new(0),
            heads: self.heads.clone(),
            heads_max: self.heads_max,
            offered: Mutex::default(),
            requests: AtomicU64::new(0),
            must_go: AtomicBool::new(false),
            speaks_tls: AtomicBool::new(false),
            close: Notify::new(),
        });
        self.open.lock().insert(id, connection.clone());
        self.gauge.add(1);
        Open { all: self, id, connection, _place: place, _memory: self.memory.hold_anyway(CONNECTION_BYTES) }
    }

    fn give_up_one(&self) {
        if let Some(silent) = self.longest(|connection| connection.silent().filter(|since| *since >= SILENT_MIN)) {
            silent.close.notify_one();
            self.given_up.inc();
        } else if !self.give_up_stalled() {
            self.give_up(self.longest(Connection::slow).as_deref());
        }
    }

    /// Has a connection go whose client takes nothing of an answer, so that what that holds comes free; says
    /// whether there was one.
    pub(super) fn give_up_stalled(&self) -> bool {
        self.give_up(self.longest(|connection| connection.stalled().filter(|since| *since >= STALL_MIN)).as_deref())
    }

    /// Has a connection go whatever it does.
    fn give_up(&self, connection: Option<&Connection>) -> bool {
        let Some(connection) = connection else { return false };
        connection.must_go.store(true, Ordering::Release);
        connection.close.notify_one();
        self.given_up.inc();
        true
    }

    /// Whether there is one that is to go, and has not yet.
    pub(super) fn is_giving_up(&self) -> bool {
        self.open.lock().values().any(|connection| connection.must_go.load(Ordering::Acquire))
    }

    /// The one of which `state` says the longest time, of the sender that has most.
    fn longest(&self, state: impl Fn(&Connection) -> Option<Duration>) -> Option<Arc<Connection>> {
        let open = self.open.lock();
        let mut senders: HashMap<Sender, u64> = HashMap::new();
        for connection in open.values() {
            *senders.entry(connection.sender).or_default() += 1;
        }
        let found = open
            .values()
            .filter(|connection| !connection.must_go.load(Ordering::Acquire))
            .filter_map(|own| state(own).map(|time| (senders.get(&own.sender), time, own)));
        found.max_by_key(|(count, time, _)| (*count, *time)).map(|(.., connection)| connection.clone())
    }
}

impl Connection {
    /// One of nobody.
    #[cfg(test)]
    pub(super) fn for_tests() -> Arc<Self> {
        let all = Connections::new(&Counters::default(), 0, 0, &MemoryBudget::new(u64::MAX));
        let place = all.places.clone().try_acquire_owned().unwrap();
        all.open(std::net::IpAddr::from([127, 0, 0, 1]).into(), place).connection.clone()
    }

    /// A request begins to be answered, whose body is `coming`.
    pub(super) fn begin(self: &Arc<Self>, coming: Coming) -> Active {
        let number = self.requests.fetch_add(1, Ordering::Relaxed);
        self.active.lock().insert(number, coming);
        self.heads.fetch_sub(self.head.swap(0, Ordering::AcqRel), Ordering::AcqRel);
        Active { connection: self.clone(), number }
    }

    /// A request of which all has come.
    #[cfg(test)]
    pub(super) fn begin_whole(self: &Arc<Self>) -> Active {
        use crate::base::in_flight::{InFlight, Options};
        let body = InFlight::new(Options::default(), MemoryBudget::new(0)).begin(self.sender);
        body.set_whole();
        self.begin(body.coming())
    }

    /// How long its client has taken nothing of an answer; `None` while it takes all there is.
    pub(super) fn stalled(&self) -> Option<Duration> {
        self.offered.lock().values().min().map(Instant::elapsed)
    }

    /// Looks at the first bytes that came.
    pub(super) fn began(&self, bytes: &[u8]) {
        // A record of a handshake, of any version, whose length is of two bytes.
        if matches!(bytes, [0x16, 3, ..]) {
            self.speaks_tls.store(true, Ordering::Relaxed);
        }
    }

    /// Whether its client began as TLS does.
    pub(super) fn speaks_tls(&self) -> bool {
        self.speaks_tls.load(Ordering::Relaxed)
    }

    /// How long nothing has been asked; `None` while something is answered.
    fn silent(&self) -> Option<Duration> {
        self.active.lock().is_empty().then(|| self.quiet_since.lock().elapsed())
    }

    /// How long its client takes for a byte of the body that comes fastest; `None` while there is a request that is
    /// whole, or a young one.
    fn slow(&self) -> Option<Duration> {
        let active = self.active.lock();
        let times: Option<Vec<_>> = active.values().map(|coming| coming.time_per_byte(SLOW_MIN)).collect();
        times?.into_iter().min()
    }

    /// Returns when the connection has to go.
    pub(super) async fn given_up(&self) {
        loop {
            self.close.notified().await;
            if self.silent().is_some() || self.must_go.load(Ordering::Acquire) {
                return;
            }
        }
    }

    /// Counts bytes that came; says whether there is room for them.
    pub(super) fn came(&self, bytes: u64) -> bool {
        if !self.active.lock().is_empty() {
            return true;
        }
        let head = self.head.fetch_add(bytes, Ordering::AcqRel) + bytes;
        let all = self.heads.fetch_add(bytes, Ordering::AcqRel) + bytes;
        head <= HEAD_BYTES_FREE || all <= self.heads_max
    }
}

impl Active {
    /// There is something of the answer for the client to take.
    pub(super) fn offered(&self) {
        self.connection.offered.lock().insert(self.number, Instant::now());
    }

    /// The client has taken what there was.
    pub(super) fn taken(&self) {
        self.connection.offered.lock().remove(&self.number);
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        self.taken();
        *self.connection.quiet_since.lock() = Instant::now();
        self.connection.active.lock().remove(&self.number);
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.all.open.lock().remove(&self.id);
        self.all.gauge.sub(1);
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.heads.fetch_sub(*self.head.get_mut(), Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    fn sender(last: u8) -> Sender {
        IpAddr::from([10, 0, 0, last]).into()
    }

    fn age(connection: &Connection, by: u64) {
        let mut since = connection.quiet_since.lock();
        *since = since.checked_sub(Duration::from_secs(by)).unwrap();
    }

    #[tokio::test]
    async fn where_none_is_silent_one_that_takes_nothing_makes_room() {
        let all = Connections::new(&Counters::default(), 0, 0, &MemoryBudget::new(u64::MAX));
        let mut open = Vec::new();
        while let Ok(place) = all.places.clone().try_acquire_owned() {
            let own = all.open(sender(1), place);
            let active = own.connection.begin_whole();
            open.push((own, active));
        }
        let (stalled, active) = open.pop().unwrap();
        active.offered();
        let long_ago = Instant::now().checked_sub(Duration::from_secs(10)).unwrap();
        stalled.connection.offered.lock().values_mut().for_each(|since| *since = long_ago);
        let leaves = async {
            stalled.connection.given_up().await;
            drop((active, stalled));
        };
        let both = async { tokio::join!(all.place(), leaves) };
        drop(tokio::time::timeout(Duration::from_secs(20), both).await.expect("nobody makes room"));
        assert!(open.iter().all(|(own, _)| !own.connection.must_go.load(Ordering::Acquire)));
    }

    #[test]
    fn the_request_that_comes_slowest_makes_room_and_none_that_is_whole() {
        use crate::base::in_flight::{InFlight, Options, Room};
        let all = Connections::new(&Counters::default(), 0, 0, &MemoryBudget::new(u64::MAX));
        let bodies = InFlight::new(Options::default(), MemoryBudget::new(1 << 20));
        let place = || all.places.clone().try_acquire_owned().unwrap();
        let open: Vec<_> = (0..4).map(|_| all.open(sender(1), place())).collect();
        let begin = |at: usize, bytes: u64| {
            let body = bodies.begin(sender(1));
            assert_eq!(body.grow(bytes, std::task::Waker::noop()), Ok(Room::Taken));
            body.set_awaited(true);
            (open[at].connection.begin(body.coming()), body)
        };
        let requests = [begin(0, 500), begin(1, 10), begin(2, 90), begin(3, 20), begin(3, 1)];
        all.give_up_one();
        let gone = || (0..4).filter(|at| open[*at].connection.must_go.load(Ordering::Acquire)).collect::<Vec<_>>();
        assert_eq!(gone(), [0; 0], "all have just begun");
        std::thread::sleep(SLOW_MIN);
        // One that waits for us, and one of whose requests one is whole.
        requests[2].1.set_awaited(false);
        requests[4].1.set_whole();
        for expected in [&[1][..], &[0, 1], &[0, 1]] {
            all.give_up_one();
            assert_eq!(gone(), expected);
        }
    }

    #[tokio::test]
    async fn the_silent_one_of_the_sender_with_most_makes_room() {
        let all = Connections::new(&Counters::default(), 0, 0, &MemoryBudget::new(u64::MAX));
        let mut open = Vec::new();
        for n in 0..16 {
            let connection = all.open(sender(u8::from(n > 0)), all.place().await);
            age(&connection.connection, 100 - n);
            open.push(connection);
        }
        let busy = open[1].connection.begin_whole();
        let gone = tokio::time::timeout(Duration::from_secs(60), async {
            tokio::join!(all.place(), async {
                open[2].connection.given_up().await;
                drop(open.remove(2));
            })
        });
        let _ = gone.await.expect("the longest silent one that is not busy goes, and the other sender's stays");
        drop(busy);
        assert_eq!(all.open.lock().len(), 15);
    }

    #[tokio::test]
    async fn one_whose_client_takes_nothing_makes_room_though_it_is_being_answered() {
        let all = Connections::new(&Counters::default(), 0, 0, &MemoryBudget::new(u64::MAX));
        let place = || all.places.clone().try_acquire_owned().unwrap();
        let open: Vec<_> = (1..=3).map(|last| all.open(sender(last), place())).collect();
        let answers: Vec<_> = open.iter().map(|open| open.connection.begin_whole()).collect();
        answers.iter().for_each(Active::offered);
        assert!(!all.give_up_stalled(), "all have just begun");
        for (at, by) in [(0, 5), (1, 9), (2, 7)] {
            let mut offered = open[at].connection.offered.lock();
            let since = offered.values_mut().next().unwrap();
            *since = since.checked_sub(Duration::from_secs(by)).unwrap();
        }
        answers[1].taken();
        assert!(all.give_up_stalled());
        tokio::time::timeout(Duration::from_secs(60), open[2].connection.given_up()).await.unwrap();
        assert!(all.give_up_stalled() && !all.give_up_stalled(), "each goes once");
    }

    #[test]
    fn heads_share_their_room_and_give_it_back() {
        let all = Connections::new(&Counters::default(), 100, 20_000, &MemoryBudget::new(u64::MAX));
        let place = || all.places.clone().try_acquire_owned().unwrap();
        let (one, two) = (all.open(sender(1), place()), all.open(sender(2), place()));
        assert!(one.connection.came(15_000));
        assert!(two.connection.came(8_000), "a short head always has room");
        assert!(!two.connection.came(1_000));
        let request = one.connection.begin_whole();
        assert!(one.connection.came(1 << 20), "bodies are counted elsewhere");
        assert!(two.connection.came(1_000));
        drop(request);
        drop((one, two));
        assert_eq!((all.heads.load(Ordering::Relaxed), all.memory.used()), (0, 0));
    }
}
