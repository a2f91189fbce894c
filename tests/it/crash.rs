//! `kill -9` at random moments under load from all three signals: every acknowledged sample, line
//! and span is answered after the restart, exactly once. A sender repeats what was not acknowledged,
//! as agents do, so what it repeats must not be there twice either.
//! `CRASH_ROUNDS=500 cargo test --test it crash` runs longer; the seed is printed.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::Value;
use trilith::base::clock::{Clock as _, SystemClock};

use super::bodies::{self, Series};
use super::doors::try_ask;
use super::program::Process;

/// Samples of one series, lines, or spans that one request carries.
const ROWS: u64 = 20;
/// Requests that a sender has acknowledged at the most in one round, so that checking stays quick.
const REQUESTS_MAX: u64 = 40;

fn random(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

fn now_ms() -> u64 {
    u64::try_from(SystemClock.now_ms()).unwrap()
}

/// Request `number` of the metrics sender: samples number*ROWS.. of two series, a millisecond apart.
fn remote_write(base_ms: u64, number: u64) -> Vec<u8> {
    let samples: Vec<_> =
        (number * ROWS..(number + 1) * ROWS).map(|row| ((base_ms + row) as i64, row as f64)).collect();
    let series = ["a", "b"].map(|series| Series {
        labels: vec![("__name__", "crash_total"), ("series", series)],
        samples: samples.clone(),
    });
    bodies::remote_write(&series)
}

fn push(base_ms: u64, number: u64) -> Vec<u8> {
    let values: Vec<_> = (number * ROWS..(number + 1) * ROWS)
        .map(|row| serde_json::json!([format!("{}", base_ms * 1_000_000 + row), format!("line {row}"), {"row": row.to_string()}]))
        .collect();
    serde_json::json!({"streams": [{"stream": {"job": "crash"}, "values": values}]}).to_string().into_bytes()
}

fn trace_id(number: u64) -> String {
    format!("{:032x}", u128::from(number) + (0xabcd_u128 << 64))
}

fn export(base_ms: u64, number: u64) -> Vec<u8> {
    let spans: Vec<_> = (0..ROWS)
        .map(|row| {
            let start = base_ms * 1_000_000 + number * 1000 + row;
            serde_json::json!({
                "traceId": trace_id(number), "spanId": format!("{:016x}", number * ROWS + row + 1), "name": format!("op {row}"),
                "startTimeUnixNano": start.to_string(), "endTimeUnixNano": (start + 500).to_string(),
            })
        })
        .collect();
    let resource = serde_json::json!({"attributes": [{"key": "service.name", "value": {"stringValue": "crash"}}]});
    serde_json::json!({"resourceSpans": [{"resource": resource, "scopeSpans": [{"spans": spans}]}]})
        .to_string()
        .into_bytes()
}

struct Sender {
    path: &'static str,
    headers: &'static str,
    body: fn(u64, u64) -> Vec<u8>,
    acknowledged: u64,
}

impl Sender {
    /// Sends until the server dies or enough is acknowledged.
    fn run(&mut self, address: SocketAddr, base_ms: u64, stop: &AtomicBool) {
        for _ in 0..REQUESTS_MAX {
            let body = (self.body)(base_ms, self.acknowledged);
            let Some(answer) = try_ask(address, "POST", self.path, self.headers, &body) else { return };
            if answer.status / 100 == 2 {
                self.acknowledged += 1;
            } else {
                assert_eq!(answer.status, 503, "{}: {}", self.path, answer.text());
            }
            if stop.load(Ordering::Relaxed) {
                return;
            }
        }
    }
}

fn senders() -> [Sender; 3] {
    let json = "Content-Type: application/json\r\n";
    let protobuf = "Content-Type: application/x-protobuf\r\nContent-Encoding: snappy\r\n";
    [
        Sender { path: "/api/v1/write", headers: protobuf, body: remote_write, acknowledged: 0 },
        Sender { path: "/loki/api/v1/push", headers: json, body: push, acknowledged: 0 },
        Sender { path: "/v1/traces", headers: json, body: export, acknowledged: 0 },
    ]
}

pub(super) fn wait_ready(address: SocketAddr) {
    for _ in 0..600 {
        if try_ask(address, "GET", "/-/ready", "", b"").is_some_and(|answer| answer.status == 200) {
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("not ready after 30 s");
}

fn json(address: SocketAddr, path: &str) -> Value {
    let answer = try_ask(address, "GET", path, "", b"").expect("an answer");
    assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    serde_json::from_slice(&answer.body).unwrap()
}

fn round(dir: &Path, base_ms: u64, senders: &mut [Sender; 3], seed: &mut u64) {
    let mut process = Process::start(dir, &[]);
    let address = process.main;
    wait_ready(address);
    let stop = AtomicBool::new(false);
    let pause = Duration::from_millis(random(seed) % 400);
    let flushes = random(seed).is_multiple_of(2);
    std::thread::scope(|scope| {
        for sender in senders.iter_mut() {
            scope.spawn(|| sender.run(address, base_ms, &stop));
        }
        if flushes {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) && try_ask(address, "POST", "/-/flush", "", b"").is_some() {
                    std::thread::sleep(Duration::from_millis(30));
                }
            });
        }
        std::thread::sleep(pause);
        process.child.kill().unwrap();
        process.child.wait().unwrap();
        stop.store(true, Ordering::Relaxed);
    });
}

/// Rows 0 to `count` are there once each; what was sent but not acknowledged may be there once too.
fn check_rows(what: &str, found: &BTreeMap<u64, u64>, acknowledged: u64) {
    let missing: Vec<_> = (0..acknowledged * ROWS).filter(|row| !found.contains_key(row)).take(5).collect();
    assert!(missing.is_empty(), "{what}: acknowledged and lost: {missing:?} of {}", acknowledged * ROWS);
    let twice: Vec<_> = found.iter().filter(|(_, count)| **count != 1).take(5).collect();
    assert!(twice.is_empty(), "{what}: more than once: {twice:?}");
    let beyond: Vec<_> = found.keys().filter(|row| **row >= (acknowledged + 1) * ROWS).take(5).collect();
    assert!(beyond.is_empty(), "{what}: never sent: {beyond:?}");
}

fn check_metrics(address: SocketAddr, base_ms: u64, acknowledged: u64) {
    let seconds = acknowledged * ROWS / 1000 + 2;
    let time = base_ms / 1000 + seconds;
    let answer = json(address, &format!("/api/v1/query?query=crash_total[{}s]&time={time}", seconds + 2));
    let result = answer["data"]["result"].as_array().unwrap();
    assert_eq!(result.len(), if acknowledged == 0 { result.len() } else { 2 });
    for series in result {
        let mut found = BTreeMap::new();
        for value in series["values"].as_array().unwrap() {
            let row = (value[0].as_f64().unwrap() * 1000.0).round() as u64 - base_ms;
            assert_eq!(value[1], row.to_string());
            *found.entry(row).or_default() += 1;
        }
        check_rows("samples", &found, acknowledged);
    }
}

fn check_logs(address: SocketAddr, base_ms: u64, acknowledged: u64) {
    let mut found = BTreeMap::new();
    let (mut start, end) = (base_ms * 1_000_000, base_ms * 1_000_000 + (acknowledged + 2) * ROWS);
    loop {
        let query = "query=%7Bjob%3D%22crash%22%7D&direction=forward&limit=5000";
        let answer = json(address, &format!("/loki/api/v1/query_range?{query}&start={start}&end={end}"));
        let mut rows = 0;
        for stream in answer["data"]["result"].as_array().unwrap() {
            for value in stream["values"].as_array().unwrap() {
                let time: u64 = value[0].as_str().unwrap().parse().unwrap();
                let row = time - base_ms * 1_000_000;
                assert_eq!(value[1], format!("line {row}"));
                assert_eq!(stream["stream"]["row"], row.to_string());
                *found.entry(row).or_default() += 1;
                start = start.max(time + 1);
                rows += 1;
            }
        }
        if rows < 5000 {
            return check_rows("lines", &found, acknowledged);
        }
    }
}

fn check_traces(address: SocketAddr, acknowledged: u64) {
    for number in 0..acknowledged {
        let answer = json(address, &format!("/tempo/api/v2/traces/{}", trace_id(number)));
        let mut names: Vec<String> = Vec::new();
        for resource in answer["trace"]["resourceSpans"].as_array().unwrap() {
            for scope in resource["scopeSpans"].as_array().unwrap() {
                names.extend(
                    scope["spans"].as_array().unwrap().iter().map(|span| span["name"].as_str().unwrap().to_owned()),
                );
            }
        }
        names.sort();
        let mut expected: Vec<_> = (0..ROWS).map(|row| format!("op {row}")).collect();
        expected.sort();
        assert_eq!(names, expected, "trace {number}");
    }
}

#[test]
fn what_was_acknowledged_survives_kill_9_exactly_once() {
    let rounds: u64 = std::env::var("CRASH_ROUNDS").map_or(50, |rounds| rounds.parse().unwrap());
    let mut seed = now_ms() | 1;
    println!("{rounds} rounds, seed {seed}");
    let dir = tempfile::tempdir().unwrap();
    let base_ms = now_ms() - 3_600_000;
    let mut senders = senders();
    for number in 0..rounds {
        round(dir.path(), base_ms, &mut senders, &mut seed);
        if number % 10 == 9 || number + 1 == rounds {
            let process = Process::start(dir.path(), &[]);
            wait_ready(process.main);
            let [metrics, logs, traces] = [0, 1, 2].map(|at: usize| senders[at].acknowledged);
            println!("round {number}: {metrics} {logs} {traces} requests acknowledged");
            check_metrics(process.main, base_ms, metrics);
            check_logs(process.main, base_ms, logs);
            check_traces(process.main, traces);
        }
    }
    assert!(senders.iter().all(|sender| sender.acknowledged > rounds), "too little was sent to mean anything");
}
