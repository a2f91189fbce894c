//! A server under attack as a process of its own: what memory it holds, whether ordinary senders and queries
//! of all three signals are served, and a guard that ends it before a defect of its takes the machine's memory.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use trilith::base::clock::{Clock as _, SystemClock};

use crate::bodies::{Series, remote_write};
use crate::crash::wait_ready;
use crate::program::Process;

use super::client::{Outcome, exchange, percent, request};
use super::encode::{JSON, PROTOBUF, SNAPPY, otlp, span};

/// Resident bytes at which the guard ends the server: far over what it may grow by, far below what hurts.
const GUARD_BYTES: u64 = 1 << 30;

/// Nanoseconds since 1970.
pub(super) fn now_ns() -> i64 {
    SystemClock.now_ns()
}

/// A running server.
pub(super) struct Target {
    pub(super) process: Process,
    pub(super) main: SocketAddr,
    written: AtomicU64,
    guard: Arc<Guard>,
}

struct Guard {
    over: AtomicBool,
    peak: AtomicU64,
    tripped: AtomicBool,
}

impl Target {
    /// Starts a server that may use 256 MiB.
    pub(super) fn start(dir: &Path) -> Self {
        let process = Process::start(dir, &["--memory-limit", "256MiB"]);
        let main = process.main;
        wait_ready(main);
        let guard =
            Arc::new(Guard { over: AtomicBool::new(false), peak: AtomicU64::new(0), tripped: AtomicBool::new(false) });
        let (watched, seen) = (process.child.id(), guard.clone());
        std::thread::spawn(move || watch(watched, &seen));
        Self { process, main, written: AtomicU64::new(0), guard }
    }

    /// Resident bytes.
    pub(super) fn resident(&self) -> u64 {
        resident(self.process.child.id())
    }

    /// Most resident bytes since it was asked last.
    pub(super) fn peak(&self) -> u64 {
        self.guard.peak.swap(0, Ordering::Relaxed)
    }

    /// Why the process is no more; nothing while it lives.
    pub(super) fn dead(&mut self) -> Option<String> {
        let status = self.process.child.try_wait().unwrap()?;
        if self.guard.tripped.load(Ordering::Relaxed) {
            return Some(format!("it took {} MiB of memory and was ended", GUARD_BYTES >> 20));
        }
        self.guard.over.store(true, Ordering::Relaxed);
        let log = self.process.rest_of_log();
        let last: Vec<&str> = log.lines().rev().take(3).collect();
        Some(format!("it died: {status}; {}", last.join(" | ")))
    }

    /// Writes and queries each signal once.
    ///
    /// # Errors
    /// What went wrong, or what took longer than `within`.
    pub(super) fn ordinary(&self, within: Duration) -> Result<(), String> {
        let number = self.written.fetch_add(1, Ordering::Relaxed) + 1;
        let time = now_ns();
        let samples = vec![(time / 1_000_000, number as f64)];
        let sample = remote_write(&[Series { labels: vec![("__name__", "ordinary")], samples }]);
        let text = format!("ordinary line {number}");
        let line =
            serde_json::json!({"streams": [{"stream": {"app": "ordinary"}, "values": [[time.to_string(), text]]}]});
        let trace = (0x0dd << 100) + u128::from(number);
        let spans = otlp("ordinary", &span(trace, number, time as u64, b""));
        self.write(within, "/api/v1/write", SNAPPY, &sample)?;
        self.write(within, "/loki/api/v1/push", JSON, line.to_string().as_bytes())?;
        self.write(within, "/v1/traces", PROTOBUF, &spans)?;
        self.query(within, "/api/v1/query?query=max_over_time(ordinary%5B1h%5D)", &format!("\"{number}\""))?;
        let (start, end) = (time - 60_000_000_000, time + 1_000_000_000);
        let selector = percent("{app=\"ordinary\"}");
        self.query(
            within,
            &format!("/loki/api/v1/query_range?query={selector}&start={start}&end={end}&limit=5"),
            &text,
        )?;
        self.query(within, &format!("/tempo/api/v2/traces/{trace:032x}"), "GET /")
    }

    fn write(&self, within: Duration, path: &str, headers: &str, body: &[u8]) -> Result<(), String> {
        let outcome = self.timed(within, path, &request("POST", path, headers, body))?;
        match outcome.status() {
            Some(200 | 204) => Ok(()),
            _ => Err(format!("an ordinary write to {path} was answered {}", outcome.shown())),
        }
    }

    fn query(&self, within: Duration, path: &str, expected: &str) -> Result<(), String> {
        match self.timed(within, path, &request("GET", path, "Accept: application/json\r\n", b""))? {
            Outcome::Answered(answer) if answer.text().contains(expected) => Ok(()),
            other => Err(format!("{path} lacks {expected}: {}", other.shown())),
        }
    }

    fn timed(&self, within: Duration, path: &str, bytes: &[u8]) -> Result<Outcome, String> {
        let started = Instant::now();
        let outcome = exchange(self.main, bytes, within + Duration::from_secs(8));
        let took = started.elapsed();
        if took > within {
            return Err(format!("{path} took {} ms: {}", took.as_millis(), outcome.shown()));
        }
        Ok(outcome)
    }

    /// One of the server's own numbers, summed over its labels.
    pub(super) fn number(&self, name: &str) -> Option<f64> {
        let answer = exchange(self.main, &request("GET", "/metrics", "", b""), Duration::from_secs(10));
        let Outcome::Answered(answer) = answer else { return None };
        let text = answer.text();
        let values = text.lines().filter_map(|line| {
            let rest = line.strip_prefix(name)?;
            rest.starts_with([' ', '{']).then(|| rest.rsplit(' ').next()?.parse::<f64>().ok()).flatten()
        });
        Some(values.sum())
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        self.guard.over.store(true, Ordering::Relaxed);
    }
}

/// Resident bytes of a process; 0 when there is none.
pub(super) fn resident(pid: u32) -> u64 {
    let statm = std::fs::read_to_string(format!("/proc/{pid}/statm")).unwrap_or_default();
    statm.split_whitespace().nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0) * 4_096
}

fn watch(pid: u32, guard: &Guard) {
    while !guard.over.load(Ordering::Relaxed) {
        let bytes = resident(pid);
        guard.peak.fetch_max(bytes, Ordering::Relaxed);
        if bytes > GUARD_BYTES {
            guard.tripped.store(true, Ordering::Relaxed);
            let _ = std::process::Command::new("kill").args(["-9", &pid.to_string()]).status();
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}
