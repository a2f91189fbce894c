//! Hostile requests at a running server: each gets a clear error of the right class, the server
//! lives, its memory grows by less than 256 MiB, other senders notice nothing, and what was
//! acknowledged stays.

use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::{Value, json};
use trilith::base::clock::{Clock as _, SystemClock};

use super::bodies::{Series, field, remote_write, snappy, varint, write_request};
use super::crash::wait_ready;
use super::doors::{Answer, try_ask};
use super::program::Process;

const PROTOBUF: &str = "Content-Type: application/x-protobuf\r\nContent-Encoding: snappy\r\n";
const JSON: &str = "Content-Type: application/json\r\n";
/// Growth of the peak of resident memory that all requests together may cause, in KiB.
const GROWTH_KIB_MAX: u64 = 256 << 10;

fn now_ms() -> i64 {
    SystemClock.now_ms()
}

/// A server and what its peak memory was before the hostile requests.
struct Target {
    process: Process,
    address: SocketAddr,
    before_kib: u64,
    ordinary: u64,
}

impl Target {
    fn start(dir: &std::path::Path) -> Self {
        let process = Process::start(dir, &[]);
        let address = process.main;
        wait_ready(address);
        let mut target = Self { process, address, before_kib: 0, ordinary: 0 };
        target.ordinary("start");
        target.before_kib = target.peak_kib();
        target
    }

    fn peak_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    fn post(&self, path: &str, headers: &str, body: &[u8]) -> Answer {
        try_ask(self.address, "POST", path, headers, body).expect("an answer")
    }

    fn get(&self, path: &str) -> Answer {
        try_ask(self.address, "GET", path, "", b"").expect("an answer")
    }

    /// An ordinary sender and an ordinary query go on as if nothing had happened.
    fn ordinary(&mut self, after: &str) {
        self.ordinary += 1;
        let samples = vec![(now_ms(), self.ordinary as f64)];
        let body = remote_write(&[Series { labels: vec![("__name__", "ordinary")], samples }]);
        let written = self.post("/api/v1/write", PROTOBUF, &body);
        assert_eq!(written.status / 100, 2, "after {after}: {}", written.text());
        let answer = self.get("/api/v1/query?query=ordinary");
        let value: Value = serde_json::from_slice(&answer.body).unwrap();
        let found = value["data"]["result"][0]["value"][1].as_str().map(str::to_owned);
        assert_eq!(found, Some(self.ordinary.to_string()), "after {after}: {}", answer.text());
        let growth = self.peak_kib().saturating_sub(self.before_kib);
        assert!(self.before_kib == 0 || growth < GROWTH_KIB_MAX, "after {after}: memory grew by {growth} KiB");
    }

    /// A request that must be refused, and not be sent again.
    fn refused(&mut self, what: &str, answer: &Answer) {
        assert!(matches!(answer.status, 400 | 413 | 415 | 422), "{what}: {} {}", answer.status, answer.text());
        assert!(!answer.body.is_empty(), "{what}: no reason given");
        assert!(answer.body.len() < 20_000, "{what}: a reason of {} bytes", answer.body.len());
        self.ordinary(what);
    }
}

fn gzip(bytes: impl Iterator<Item = [u8; 65536]>) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    bytes.for_each(|block| encoder.write_all(&block).unwrap());
    encoder.finish().unwrap()
}

fn one(labels: Vec<(&str, &str)>, t: i64) -> Vec<u8> {
    remote_write(&[Series { labels, samples: vec![(t, 1.0)] }])
}

#[test]
fn broken_bodies_are_refused_at_every_door() {
    let dir = tempfile::tempdir().unwrap();
    let mut target = Target::start(dir.path());
    let doors = [
        ("/api/v1/write", "Content-Type: application/x-protobuf\r\n", "snappy"),
        ("/loki/api/v1/push", "Content-Type: application/json\r\n", ""),
        ("/loki/api/v1/push", "Content-Type: application/x-protobuf\r\n", "snappy"),
        ("/v1/traces", "Content-Type: application/x-protobuf\r\n", ""),
        ("/v1/logs", "Content-Type: application/json\r\n", ""),
        ("/v1/metrics", "Content-Type: application/x-protobuf\r\n", ""),
    ];
    for (path, kind, encoding) in doors {
        let plain = if encoding.is_empty() { String::new() } else { format!("Content-Encoding: {encoding}\r\n") };
        let headers = format!("{kind}{plain}");
        let garbage = target.post(path, &headers, &[0xff; 300]);
        target.refused(&format!("garbage at {path}"), &garbage);
        let mut truncated = Vec::new();
        field(1, &[0x0a, 0x7f, 1, 2, 3], &mut truncated);
        let truncated = if encoding == "snappy" { snappy(&truncated) } else { truncated };
        let answer = target.post(path, &headers, &truncated);
        target.refused(&format!("a cut body at {path}"), &answer);
        let lie = {
            let mut bytes = Vec::new();
            varint(u64::from(u32::MAX), &mut bytes);
            bytes.extend([0; 50]);
            bytes
        };
        if encoding == "snappy" {
            let answer = target.post(path, &headers, &lie);
            target.refused(&format!("a snappy length that lies at {path}"), &answer);
        }
        let bomb = gzip(std::iter::repeat_n([0; 65536], 16_000));
        let answer = target.post(path, &format!("{kind}Content-Encoding: gzip\r\n"), &bomb);
        target.refused(&format!("a gzip bomb at {path}"), &answer);
        let zeros = zstd::bulk::compress(&vec![0; 400 << 20], 1).unwrap();
        let answer = target.post(path, &format!("{kind}Content-Encoding: zstd\r\n"), &zeros);
        target.refused(&format!("a zstd bomb at {path}"), &answer);
    }
    let answer = target.post("/api/v1/write", PROTOBUF, &snappy(&vec![0x0a; 64 << 20]));
    target.refused("an oversized body", &answer);
    let empties: Vec<u8> = [0x0a, 0].repeat(12 << 20);
    for path in ["/v1/traces", "/v1/logs", "/v1/metrics"] {
        let answer = target.post(path, "Content-Type: application/x-protobuf\r\n", &empties);
        target.refused(&format!("millions of empty messages at {path}"), &answer);
    }
}

#[test]
fn bad_series_are_refused_alone() {
    let dir = tempfile::tempdir().unwrap();
    let mut target = Target::start(dir.path());
    let long = "x".repeat(100 << 10);
    let now = now_ms();
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("no name", one(vec![("job", "a")], now)),
        ("an empty label name", one(vec![("__name__", "bad"), ("", "a")], now)),
        ("a label twice", one(vec![("__name__", "bad"), ("a", "1"), ("a", "2")], now)),
        ("a label of 100 kB", one(vec![("__name__", "bad"), ("a", &long)], now)),
        ("a year ahead", one(vec![("__name__", "bad")], now + 365 * 86_400_000)),
        ("nanoseconds for milliseconds", one(vec![("__name__", "bad")], now * 1_000_000)),
        ("the last of times", one(vec![("__name__", "bad")], i64::MAX)),
        ("older than retention", one(vec![("__name__", "bad")], 0)),
        ("before 1970, older than retention", one(vec![("__name__", "bad")], -1)),
    ];
    for (what, body) in cases {
        let answer = target.post("/api/v1/write", PROTOBUF, &body);
        target.refused(what, &answer);
    }
    let text = |bytes: &[u8]| {
        let mut request =
            write_request(&[Series { labels: vec![("__name__", "bad"), ("a", "#")], samples: vec![(now, 1.0)] }]);
        let at = request.iter().position(|byte| *byte == b'#').unwrap();
        request.splice(at..=at, bytes.iter().copied());
        snappy(&request)
    };
    let answer = target.post("/api/v1/write", PROTOBUF, &text(&[0xff]));
    target.refused("invalid UTF-8", &answer);
    let mixed = remote_write(&[
        Series { labels: vec![("__name__", "good")], samples: vec![(now, 1.0), (now + 400 * 86_400_000, 2.0)] },
        Series { labels: vec![("__name__", "bad"), ("a", &long)], samples: vec![(now, 1.0)] },
        Series {
            labels: vec![("z", "unsorted"), ("__name__", "good"), ("a", "1")],
            samples: vec![(now, f64::from_bits(0x7ff0_0000_dead_beef))],
        },
    ]);
    let answer = target.post("/api/v1/write", PROTOBUF, &mixed);
    target.refused("good and bad together", &answer);
    let good = target.get("/api/v1/query?query=count(good)").text();
    assert!(good.contains("\"2\""), "the good ones are kept: {good}");
}

#[test]
fn bad_lines_and_spans_are_refused_alone() {
    let dir = tempfile::tempdir().unwrap();
    let mut target = Target::start(dir.path());
    let nested = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    for path in ["/loki/api/v1/push", "/v1/logs", "/v1/traces", "/v1/metrics"] {
        let answer = target.post(path, JSON, nested.as_bytes());
        target.refused(&format!("JSON nested 10,000 deep at {path}"), &answer);
    }
    let mut deep = json!({"stringValue": "x"});
    for _ in 0..60 {
        deep = json!({"arrayValue": {"values": [deep]}});
    }
    let span = |trace: &str, attributes: Value| {
        let span = json!({"traceId": trace, "spanId": "00000000000000aa", "name": "n", "startTimeUnixNano": (now_ms() * 1_000_000).to_string(), "endTimeUnixNano": "0", "attributes": attributes});
        json!({"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}).to_string()
    };
    let good = "0af7651916cd43dd8448eb211c80319c";
    let many: Vec<_> =
        (0..10_000).map(|n| json!({"key": format!("k{n}"), "value": {"intValue": n.to_string()}})).collect();
    let cases = [
        ("a short trace id", span("0af7", json!([]))),
        ("a long trace id", span(&good.repeat(2), json!([]))),
        ("a trace id of zeros", span(&"0".repeat(32), json!([]))),
        ("10,000 attributes", span(good, Value::Array(many))),
        ("attributes nested 60 deep", span(good, json!([{"key": "k", "value": deep}]))),
    ];
    for (what, body) in cases {
        let answer = target.post("/v1/traces", JSON, body.as_bytes());
        let partial = answer.status == 200;
        assert!(partial || matches!(answer.status, 400 | 413), "{what}: {} {}", answer.status, answer.text());
        target.ordinary(what);
    }
    let push =
        |time: String, line: &str| json!({"streams": [{"stream": {"a": "b"}, "values": [[time, line]]}]}).to_string();
    let ns = now_ms() * 1_000_000;
    let cases = [
        ("a line a year ahead", push((ns + 365 * 86_400 * 1_000_000_000).to_string(), "x")),
        ("a line before retention", push("0".into(), "x")),
        ("a time that is no time", push("soon".into(), "x")),
        ("a line over 256 KiB", push(ns.to_string(), &"y".repeat(300 << 10))),
        (
            "a label name that is none",
            json!({"streams": [{"stream": {"a b": "c"}, "values": [[ns.to_string(), "x"]]}]}).to_string(),
        ),
    ];
    for (what, body) in cases {
        let answer = target.post("/loki/api/v1/push", JSON, body.as_bytes());
        target.refused(what, &answer);
    }
}

#[test]
fn dear_queries_end_alone() {
    let dir = tempfile::tempdir().unwrap();
    let mut target = Target::start(dir.path());
    let now = now_ms();
    let names: Vec<String> = (0..2000).map(|n| n.to_string()).collect();
    for batch in 0..60 {
        let series: Vec<_> = names
            .iter()
            .map(|n| Series {
                labels: vec![("__name__", "many"), ("n", n)],
                samples: vec![(now - batch * 15_000, 1.0)],
            })
            .collect();
        assert_eq!(target.post("/api/v1/write", PROTOBUF, &remote_write(&series)).status / 100, 2);
    }
    let encode = |text: &str| text.bytes().map(|byte| format!("%{byte:02X}")).collect::<String>();
    let everything = "{__name__=~\".+\"}";
    let cases = [
        ("max_over_time(many[1y:1s])".to_owned(), "/api/v1/query?timeout=10s&query="),
        ("max_over_time(many[1y:1ms])".to_owned(), "/api/v1/query?timeout=10s&query="),
        (vec![everything; 200].join(" or "), "/api/v1/query?timeout=10s&query="),
        (format!("{}1{}", "(".repeat(10_000), ")".repeat(10_000)), "/api/v1/query?timeout=10s&query="),
        (format!("{}1", "-".repeat(10_000)), "/api/v1/query?timeout=10s&query="),
        (
            "{job=~\".+\"} | line_format `{{ range $i, $x := .x }}{{ end }}{{ repeat 1000000000 \"x\" }}`".to_owned(),
            "/loki/api/v1/query_range?query=",
        ),
        ("(".repeat(10_000), "/loki/api/v1/query_range?query="),
        (format!("{{ {} }}", "(".repeat(10_000)), "/tempo/api/search?q="),
    ];
    for (query, path) in cases {
        let answer = target.get(&format!("{path}{}", encode(&query)));
        let shown: String = query.chars().take(60).collect();
        assert!(
            matches!(answer.status, 200 | 400 | 413 | 414 | 422 | 503),
            "{shown}: {} {}",
            answer.status,
            answer.text()
        );
        target.ordinary(&shown);
    }
    let (start, end) = (now / 1000 - 365 * 86_400, now / 1000);
    let year =
        target.get(&format!("/api/v1/query_range?query={}&start={start}&end={end}&step=3600", encode(everything)));
    assert!(matches!(year.status, 200 | 422), "{} {}", year.status, year.text());
    target.ordinary("everything over a year");
    let points = target.get(&format!("/api/v1/query_range?query=up&start={start}&end={end}&step=1"));
    target.refused("a point a second for a year", &points);
}

#[test]
fn a_thousand_idle_connections_stop_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let mut target = Target::start(dir.path());
    let idle: Vec<_> = (0..1000).map(|_| TcpStream::connect(target.address).unwrap()).collect();
    let mut slow = TcpStream::connect(target.address).unwrap();
    slow.write_all(b"POST /api/v1/write HTTP/1.1\r\nHost: t\r\nContent-Length: 1000\r\n\r\nabc").unwrap();
    std::thread::sleep(Duration::from_millis(100));
    target.ordinary("1,000 idle connections");
    drop(idle);
}
