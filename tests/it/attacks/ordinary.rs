//! Ordinary senders and queries beside the attacks: each signal at 1,000 items a second, what was acknowledged
//! is counted and must be answered later, exactly as often as it was sent.

use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde_json::Value;

use super::client::{Outcome, exchange, percent, request};
use super::encode::{PROTOBUF, SNAPPY, bytes, int, otlp, span};
use crate::bodies::{Series, remote_write, snappy};

/// Items in one request; two are sent each second.
pub(super) const ITEMS: u64 = 500;
/// Milliseconds between two requests of a sender.
const PERIOD_MS: u64 = 500;
/// Spans of a trace.
const TRACE_SPANS: u64 = 50;
/// Milliseconds from which an ordinary write or query is said to be long.
const LONG_MS: u64 = 2_000;
/// How long a client waits for one answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// What ordinary clients saw.
#[derive(Default)]
pub(super) struct Seen {
    /// Milliseconds from the first try to the acknowledgement, of each request of each signal.
    pub(super) writes_ms: Mutex<Vec<u64>>,
    /// Milliseconds of each query.
    pub(super) queries_ms: Mutex<Vec<u64>>,
    /// Requests that were sent again: refused for the moment, or cut off.
    pub(super) again: AtomicU64,
    /// What is wrong.
    pub(super) wrong: Mutex<Vec<String>>,
    /// Attacks under way.
    pub(super) running: Mutex<Vec<&'static str>>,
}

impl Seen {
    /// Says what took long beside which attacks, at once: so a run shows where to look.
    fn took(&self, what: &str, times_ms: &Mutex<Vec<u64>>, tries: u64, started: Instant) {
        let took = started.elapsed().as_millis() as u64;
        times_ms.lock().push(took);
        if took > LONG_MS {
            let running = self.running.lock();
            let _ = writeln!(std::io::stdout(), "{what} took {took} ms in {tries} tries; now {running:?}");
        }
    }

    fn fault(&self, text: String) {
        let mut wrong = self.wrong.lock();
        if wrong.len() < 20 {
            wrong.push(text);
        }
    }
}

/// A sender of one signal: its requests in order, each until it is acknowledged.
pub(super) struct Sender {
    pub(super) signal: &'static str,
    path: &'static str,
    headers: &'static str,
    body: fn(i64, u64) -> Vec<u8>,
    /// Requests that were acknowledged.
    pub(super) acknowledged: AtomicU64,
    /// Requests that were sent again after no answer had come, so that they may be there twice in a count.
    pub(super) unsure: AtomicU64,
}

pub(super) fn senders() -> [Sender; 3] {
    let sender = |signal, path, headers, body| Sender {
        signal,
        path,
        headers,
        body,
        acknowledged: AtomicU64::new(0),
        unsure: AtomicU64::new(0),
    };
    [
        sender("metrics", "/api/v1/write", SNAPPY, samples),
        sender("logs", "/loki/api/v1/push", SNAPPY, lines),
        sender("traces", "/v1/traces", PROTOBUF, spans),
    ]
}

/// The moment of request `number`, in milliseconds.
fn moment_ms(base_ms: i64, number: u64) -> i64 {
    base_ms + (number * PERIOD_MS) as i64
}

fn samples(base_ms: i64, number: u64) -> Vec<u8> {
    let names: Vec<_> = (0..ITEMS).map(|series| series.to_string()).collect();
    let time = moment_ms(base_ms, number);
    let series: Vec<_> = names
        .iter()
        .map(|name| Series {
            labels: vec![("__name__", "siege_total"), ("series", name)],
            samples: vec![(time, number as f64)],
        })
        .collect();
    remote_write(&series)
}

fn lines(base_ms: i64, number: u64) -> Vec<u8> {
    let time = moment_ms(base_ms, number) as u64;
    let mut request = Vec::new();
    for pod in 0..5 {
        let mut stream = bytes(1, format!("{{job=\"siege\", pod=\"{pod}\"}}").as_bytes());
        for row in (0..ITEMS).filter(|row| row % 5 == pod) {
            let at = [int(1, time / 1_000), int(2, time % 1_000 * 1_000_000 + row)].concat();
            let line = format!("level=info request={number} row={row} msg=\"an ordinary line\"");
            stream.extend(bytes(2, &[bytes(1, &at), bytes(2, line.as_bytes())].concat()));
        }
        request.extend(bytes(1, &stream));
    }
    snappy(&request)
}

fn trace_id(number: u64, trace: u64) -> u128 {
    (0x51e6e << 80) + (u128::from(number) << 16) + u128::from(trace)
}

fn spans(base_ms: i64, number: u64) -> Vec<u8> {
    let time = moment_ms(base_ms, number) as u64 * 1_000_000;
    let one = |row: u64| span(trace_id(number, row / TRACE_SPANS), row + 1, time + row, b"");
    otlp("siege", &(0..ITEMS).flat_map(one).collect::<Vec<_>>())
}

impl Sender {
    /// Sends until `stop`; the request that is on its way then is sent to its end.
    pub(super) fn run(&self, main: SocketAddr, base_ms: i64, seen: &Seen, stop: &AtomicBool) {
        let started = Instant::now();
        let mut number = 0;
        while !stop.load(Ordering::Relaxed) {
            let due = Duration::from_millis(number * PERIOD_MS);
            std::thread::sleep(due.saturating_sub(started.elapsed()));
            if !self.send(main, &(self.body)(base_ms, number), seen) {
                return;
            }
            self.acknowledged.fetch_add(1, Ordering::Relaxed);
            number += 1;
        }
    }

    fn send(&self, main: SocketAddr, body: &[u8], seen: &Seen) -> bool {
        let started = Instant::now();
        let bytes = request("POST", self.path, self.headers, body);
        for tries in 1.. {
            let outcome = exchange(main, &bytes, PATIENCE);
            match &outcome {
                Outcome::Answered(answer) if answer.status / 100 == 2 => {
                    seen.took(self.signal, &seen.writes_ms, tries, started);
                    return true;
                }
                Outcome::Answered(answer) if matches!(answer.status, 429 | 503) => {}
                Outcome::Answered(_) => {
                    seen.fault(format!("{} were refused: {}", self.signal, outcome.shown()));
                    return false;
                }
                Outcome::Cut | Outcome::Silent => _ = self.unsure.fetch_add(1, Ordering::Relaxed),
            }
            seen.again.fetch_add(1, Ordering::Relaxed);
            if started.elapsed() > 2 * PATIENCE {
                seen.fault(format!("{} are not taken for {PATIENCE:?} twice: {}", self.signal, outcome.shown()));
                return false;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        false
    }
}

/// A query of each signal every second.
pub(super) fn ask(main: SocketAddr, seen: &Seen, stop: &AtomicBool) {
    let selector = percent("{job=\"siege\"}");
    let find = percent("{ resource.service.name = \"siege\" }");
    let paths = [
        "/api/v1/query?query=sum(siege_total)".to_owned(),
        format!("/loki/api/v1/query_range?query={selector}&limit=10&since=5m"),
        format!("/tempo/api/search?q={find}&limit=5"),
    ];
    while !stop.load(Ordering::Relaxed) {
        let round = Instant::now();
        for path in &paths {
            let started = Instant::now();
            let mut outcome = exchange(main, &request("GET", path, "", b""), PATIENCE);
            let mut tries = 1;
            // Whoever is told to try again does, as agents do with a push.
            while matches!(outcome.status(), Some(429 | 503)) && started.elapsed() < PATIENCE {
                seen.again.fetch_add(1, Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(200));
                outcome = exchange(main, &request("GET", path, "", b""), PATIENCE);
                tries += 1;
            }
            seen.took(path, &seen.queries_ms, tries, started);
            let took = started.elapsed().as_millis() as u64;
            match &outcome {
                Outcome::Answered(answer) if answer.status == 200 => {}
                _ => seen.fault(format!("an ordinary query, {path}, after {took} ms: {}", outcome.shown())),
            }
        }
        std::thread::sleep(Duration::from_secs(1).saturating_sub(round.elapsed()));
    }
}

/// What `path` answers, tried again for a while.
fn json(main: SocketAddr, path: &str) -> Result<Value, String> {
    let mut last = String::new();
    for _ in 0..5 {
        match exchange(main, &request("GET", path, "Accept: application/json\r\n", b""), Duration::from_secs(60)) {
            Outcome::Answered(answer) if answer.status == 200 => {
                return serde_json::from_slice(&answer.body).map_err(|error| format!("{path}: {error}"));
            }
            other => last = other.shown(),
        }
        std::thread::sleep(Duration::from_secs(1));
    }
    Err(format!("{path}: {last}"))
}

/// Looks for everything that was acknowledged.
///
/// # Errors
/// What is missing, or there too often.
pub(super) fn check(main: SocketAddr, base_ms: i64, senders: &[Sender; 3]) -> Result<(), String> {
    let [metrics, logs, traces] = [0, 1, 2].map(|at: usize| senders[at].acknowledged.load(Ordering::Relaxed));
    check_samples(main, base_ms, metrics)?;
    check_lines(main, base_ms, logs)?;
    check_spans(main, traces)
}

fn check_samples(main: SocketAddr, base_ms: i64, requests: u64) -> Result<(), String> {
    // In pieces, so that no limit of one query hides anything.
    for first in (0..requests).step_by(200) {
        let count = 200.min(requests - first);
        let end_ms = moment_ms(base_ms, first + count - 1);
        let window = count * PERIOD_MS;
        for (function, expected) in [("count", count * ITEMS), ("sum", (first..first + count).sum::<u64>() * ITEMS)] {
            let query = percent(&format!("sum({function}_over_time(siege_total[{window}ms]))"));
            let path = format!("/api/v1/query?query={query}&time={}.{:03}", end_ms / 1_000, end_ms % 1_000);
            let found = json(main, &path)?["data"]["result"][0]["value"][1].as_str().map(str::to_owned);
            if found.as_deref().and_then(|text| text.parse::<f64>().ok()) != Some(expected as f64) {
                return Err(format!("samples of requests from {first}: {function} is {found:?}, not {expected}"));
            }
        }
    }
    Ok(())
}

fn check_lines(main: SocketAddr, base_ms: i64, requests: u64) -> Result<(), String> {
    for first in (0..requests).step_by(200) {
        let count = 200.min(requests - first);
        let end_ns = moment_ms(base_ms, first + count) * 1_000_000 - 1;
        let window = count * PERIOD_MS;
        let query = percent(&format!("sum(count_over_time({{job=\"siege\"}}[{window}ms]))"));
        let found = json(main, &format!("/loki/api/v1/query?query={query}&time={end_ns}"))?;
        let found = found["data"]["result"][0]["value"][1].as_str().map(str::to_owned);
        if found != Some((count * ITEMS).to_string()) {
            return Err(format!("lines of requests from {first}: {found:?}, not {}", count * ITEMS));
        }
    }
    Ok(())
}

/// Every trace of some requests by its id; of all of them, one.
fn check_spans(main: SocketAddr, requests: u64) -> Result<(), String> {
    for number in 0..requests {
        let traces = if number % 50 == 0 { ITEMS / TRACE_SPANS } else { 1 };
        for trace in 0..traces {
            let path = format!("/tempo/api/v2/traces/{:032x}", trace_id(number, trace));
            let found = json(main, &path)?;
            let spans: usize = found["trace"]["resourceSpans"]
                .as_array()
                .into_iter()
                .flatten()
                .flat_map(|resource| resource["scopeSpans"].as_array().into_iter().flatten())
                .map(|scope| scope["spans"].as_array().map_or(0, Vec::len))
                .sum();
            if spans as u64 != TRACE_SPANS {
                return Err(format!("trace {trace} of request {number} has {spans} spans, not {TRACE_SPANS}"));
            }
        }
    }
    Ok(())
}
