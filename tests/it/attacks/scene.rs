//! Where an attack takes place: the server's address, how large things may be, what was found wrong.
//! An attack says what it saw; whether that is a failure is decided here, the same way for all.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use parking_lot::Mutex;

use super::client::{self, Outcome, exchange, request};
use super::http2::{self, Called};

/// Statuses that are an answer to a hostile request. 500 is a defect of ours, 502 and 504 are a proxy's.
const POLITE: &[u16] =
    &[200, 202, 204, 206, 304, 400, 404, 405, 408, 411, 413, 414, 415, 417, 421, 422, 426, 429, 431, 499, 501, 503];

/// Statuses of gRPC that are one: all but unknown (2), internal (13) and data loss (15).
const GRPC_POLITE: &[&str] = &["0", "1", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "14", "16"];

/// A running server under attack.
pub(super) struct Scene<'a> {
    /// Its main listener.
    pub(super) main: SocketAddr,
    /// Whether sizes and numbers are those of the long run.
    pub(super) full: bool,
    /// Nanoseconds since 1970, when the data behind the server ends.
    pub(super) now_ns: i64,
    /// Asks an ordinary sender and an ordinary query in the middle of an attack; what is wrong, if anything.
    pub(super) others: &'a (dyn Fn() -> Result<(), String> + Sync),
    faults: Mutex<Vec<String>>,
    asked: Mutex<BTreeSet<String>>,
}

impl<'a> Scene<'a> {
    pub(super) fn new(
        main: SocketAddr,
        full: bool,
        now_ns: i64,
        others: &'a (dyn Fn() -> Result<(), String> + Sync),
    ) -> Self {
        Self { main, full, now_ns, others, faults: Mutex::default(), asked: Mutex::default() }
    }

    /// A number that is small in `cargo test`, large in the long run.
    pub(super) fn pick(&self, fast: usize, full: usize) -> usize {
        if self.full { full } else { fast }
    }

    /// How long a client waits before it hangs up.
    pub(super) fn patience(&self) -> Duration {
        Duration::from_secs(if self.full { 15 } else { 12 })
    }

    /// What is wrong, and the paths that were asked.
    pub(super) fn done(self) -> (Vec<String>, BTreeSet<String>) {
        (self.faults.into_inner(), self.asked.into_inner())
    }

    pub(super) fn fault(&self, what: &str, seen: &str) {
        let mut faults = self.faults.lock();
        if faults.len() < 10 {
            faults.push(format!("{what}: {seen}"));
        }
    }

    /// Notes that `path` was attacked, for requests that do not go through the methods below.
    pub(super) fn touch(&self, path: &str) {
        let path = path.split('?').next().unwrap_or_default();
        self.asked.lock().insert(path.to_owned());
    }

    pub(super) fn get(&self, path: &str) -> Outcome {
        self.send("GET", path, "", b"")
    }

    pub(super) fn post(&self, path: &str, headers: &str, body: &[u8]) -> Outcome {
        self.send("POST", path, headers, body)
    }

    /// Parameters as a form, so that no bound on URLs hides what is behind them.
    pub(super) fn form(&self, path: &str, body: &str) -> Outcome {
        self.post(path, "Content-Type: application/x-www-form-urlencoded\r\n", body.as_bytes())
    }

    pub(super) fn send(&self, method: &str, path: &str, headers: &str, body: &[u8]) -> Outcome {
        self.touch(path);
        exchange(self.main, &request(method, path, headers, body), self.patience())
    }

    /// The same with a client that soon hangs up: for requests that are right and take long.
    pub(super) fn hasty(&self) -> Hasty<'_> {
        Hasty { scene: self, patience: Duration::from_millis(if self.full { 10_000 } else { 250 }) }
    }

    /// Bytes that need be no request.
    pub(super) fn raw(&self, bytes: &[u8]) -> Outcome {
        exchange(self.main, bytes, self.patience())
    }

    /// A connection that has sent `bytes` and waits.
    pub(super) fn open(&self, path: &str, bytes: &[u8]) -> Option<std::net::TcpStream> {
        self.touch(path);
        client::open(self.main, bytes)
    }

    pub(super) fn grpc(&self, path: &str, body: Vec<u8>) -> Called {
        self.touch(path);
        http2::call(self.main, path, &[], body, self.hasty().patience)
    }

    /// The request is not done: 4xx with a short reason, or the connection ends, since a body that is refused
    /// early is not read. In the long run others may have taken the room: 429 and 503 say so.
    pub(super) fn refused(&self, what: &str, outcome: &Outcome) {
        let fine = match outcome {
            Outcome::Answered(answer) => {
                let class = matches!(answer.status, 400 | 404 | 405 | 408 | 411 | 413 | 414 | 415 | 422 | 429 | 431);
                let busy = self.full && answer.status == 503;
                (class || busy) && answer.body.len() < 20_000
            }
            Outcome::Cut => true,
            Outcome::Silent => self.full,
        };
        if !fine {
            self.fault(what, &outcome.shown());
        }
    }

    /// As [`refused`](Self::refused), and 2xx is an answer too: the request may be odd without being wrong.
    pub(super) fn polite(&self, what: &str, outcome: &Outcome) {
        let fine = match outcome {
            Outcome::Answered(answer) => POLITE.contains(&answer.status),
            Outcome::Cut => true,
            Outcome::Silent => self.full,
        };
        if !fine {
            self.fault(what, &outcome.shown());
        }
    }

    /// A dear request: it is answered, or the client tires of it and hangs up; what it leaves behind is looked at
    /// after the attack.
    pub(super) fn dear(&self, what: &str, outcome: &Outcome) {
        if outcome.status().is_some_and(|status| !POLITE.contains(&status)) || matches!(outcome, Outcome::Cut) {
            self.fault(what, &outcome.shown());
        }
    }

    /// A gRPC call ends with a status that is no defect of ours, or is cut off.
    pub(super) fn called(&self, what: &str, called: &Called) {
        if let Called::Status(status) = called
            && !GRPC_POLITE.contains(&status.as_str())
            && !status.starts_with("HTTP 4")
        {
            self.fault(what, &format!("{called:?}"));
        }
    }

    /// Others are served while the attack goes on.
    pub(super) fn others(&self, what: &str) {
        if let Err(error) = (self.others)() {
            self.fault(what, &format!("meanwhile {error}"));
        }
    }

    /// Does `work` `times` times, from as many threads.
    pub(super) fn at_once(&self, times: usize, work: impl Fn(usize) + Sync) {
        std::thread::scope(|scope| {
            for number in 0..times {
                let work = &work;
                let builder = std::thread::Builder::new().stack_size(256 << 10);
                builder.spawn_scoped(scope, move || work(number)).unwrap();
            }
        });
    }
}

/// A client of little patience.
pub(super) struct Hasty<'a> {
    scene: &'a Scene<'a>,
    patience: Duration,
}

impl Hasty<'_> {
    pub(super) fn get(&self, path: &str) -> Outcome {
        self.send("GET", path, "", b"")
    }

    pub(super) fn post(&self, path: &str, headers: &str, body: &[u8]) -> Outcome {
        self.send("POST", path, headers, body)
    }

    pub(super) fn form(&self, path: &str, body: &str) -> Outcome {
        self.post(path, "Content-Type: application/x-www-form-urlencoded\r\n", body.as_bytes())
    }

    pub(super) fn send(&self, method: &str, path: &str, headers: &str, body: &[u8]) -> Outcome {
        self.scene.touch(path);
        exchange(self.scene.main, &request(method, path, headers, body), self.patience)
    }
}
