//! Remote read, with a real Prometheus at either end: one that answers its own queries from our data,
//! and one whose chunks ours are compared with, byte for byte, those of float histograms among them. They need Debian's prometheus, as
//! tests/it/agents.rs says.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde_json::Value;

use super::agents::{close, encode, json, program, series, start_prometheus, try_json, wait_for};
use super::bodies::{Series, field, remote_write, snappy, varint};
use super::doors::{ask, try_ask};
use super::program::Process;

const STEP_MS: i64 = 15_000;

/// Series of many shapes, `steps` samples each, the last one at `end`.
fn shapes(end: i64, steps: i64) -> Vec<Series<'static>> {
    type Shape = fn(f64) -> f64;
    let all: [(&str, &str, Shape); 7] = [
        ("requests_total", "a", |n| n * 7.0),
        ("requests_total", "b", |n| (n % 40.0) * 3.0),
        ("temp", "ü \"x\" \\", |n| 20.0 + n * 0.1),
        ("temp", "c", |n| (n * 0.7).sin()),
        ("constant", "a", |_| 42.0),
        ("odd", "inf", |n| if n % 2.0 == 0.0 { f64::INFINITY } else { -0.0 }),
        ("odd", "tiny", |n| 5e-324 * n),
    ];
    let one = |(name, job, shape): &(&'static str, &'static str, Shape)| Series {
        labels: vec![("__name__", name), ("job", job), ("service_name", "shop")],
        samples: (0..steps).map(|n| (end - (steps - 1 - n) * STEP_MS, shape(n as f64))).collect(),
    };
    all.iter().map(one).collect()
}

fn write(address: SocketAddr, series: &[Series<'_>]) {
    post(address, &remote_write(series));
}

fn post(address: SocketAddr, body: &[u8]) {
    let headers = "Content-Encoding: snappy\r\nContent-Type: application/x-protobuf\r\n";
    let answer = ask(address, "POST", "/api/v1/write", headers, body);
    assert!(answer.status < 300, "{}", answer.text());
}

const QUERIES: &[&str] = &[
    "{service_name=\"shop\"}",
    "{__name__=~\"temp|odd\",job!~\"i.*\"}[20m]",
    "sum by (job) (rate(requests_total[5m]))",
    "increase(requests_total{job=\"b\"}[10m])",
    "max_over_time(temp[10m:1m])",
    "constant offset 7m",
    "count({service_name=~\".+\"})",
    "absent(nothing)",
];

#[test]
fn a_prometheus_answers_its_own_queries_from_our_data() {
    let Some(prometheus) = program("prometheus") else { return };
    let folder = tempfile::tempdir().unwrap();
    let process = Process::start(&folder.path().join("data"), &[]);
    wait_for("the store", || try_ask(process.main, "GET", "/-/ready", "", b"").filter(|answer| answer.status == 200));
    let end = chrono::Utc::now().timestamp_millis() - 60_000;
    write(process.main, &shapes(end, 200));
    let config = format!("remote_read: [{{url: 'http://{}/api/v1/read', read_recent: true}}]", process.main);
    let (_prometheus, theirs) = start_prometheus(&prometheus, folder.path(), &config, &[]);
    wait_for("prometheus", || try_json(theirs, "/api/v1/status/buildinfo"));
    let at = format!("{:.3}", (end + 1) as f64 / 1e3);
    for flushed in [false, true] {
        if flushed {
            assert!(ask(process.main, "POST", "/-/flush", "", b"").status < 300);
        }
        for query in QUERIES {
            let ours = series(process.main, query, &at).unwrap();
            let theirs = series(theirs, query, &at).unwrap();
            assert!(!ours.is_empty(), "{query}");
            let same = if query.ends_with("m]") { ours == theirs } else { close(&ours, &theirs) };
            assert!(same, "{query}: ours {ours:?}, from ours {theirs:?}");
        }
        let range = format!(
            "/api/v1/query_range?query={}&start={}&end={}&step=30",
            encode("sum by (job) (rate(requests_total[5m]))"),
            end / 1000 - 1_500,
            end / 1000
        );
        let values = |address| -> BTreeMap<String, usize> {
            let answer = json(address, &range);
            let result = answer["data"]["result"].as_array().unwrap();
            result.iter().map(|row| (row["metric"].to_string(), row["values"].as_array().unwrap().len())).collect()
        };
        assert_eq!(values(process.main), values(theirs));
        let listed = format!("/api/v1/series?match[]={}", encode("{job=~\"a|b\"}"));
        assert_eq!(sets(&json(process.main, &listed)), sets(&json(theirs, &listed)));
    }
}

fn sets(answer: &Value) -> Vec<BTreeMap<String, String>> {
    let mut all: Vec<_> =
        answer["data"].as_array().unwrap().iter().map(|set| serde_json::from_value(set.clone()).unwrap()).collect();
    all.sort();
    assert_eq!(all.len(), 3, "{answer}");
    all
}

/// A request for the chunks of all series of a job that matches the pattern.
fn chunks_request(pattern: &str, start: i64, end: i64) -> Vec<u8> {
    let mut matcher = vec![1 << 3, 2];
    field(2, b"job", &mut matcher);
    field(3, pattern.as_bytes(), &mut matcher);
    let mut query = vec![1 << 3];
    varint(start as u64, &mut query);
    query.push(2 << 3);
    varint(end as u64, &mut query);
    field(3, &matcher, &mut query);
    let mut request = Vec::new();
    field(1, &query, &mut request);
    request.extend([2 << 3, 1]);
    snappy(&request)
}

fn read_varint(bytes: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..).step_by(7) {
        let byte = bytes[0];
        *bytes = &bytes[1..];
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            break;
        }
    }
    value
}

/// Fields of a message: numbers, and values as bytes; a varint is its little-endian bytes.
fn fields(mut bytes: &[u8]) -> Vec<(u64, Vec<u8>)> {
    let mut all = Vec::new();
    while !bytes.is_empty() {
        let key = read_varint(&mut bytes);
        let value = match key & 7 {
            0 => read_varint(&mut bytes).to_le_bytes().to_vec(),
            2 => {
                let length = usize::try_from(read_varint(&mut bytes)).unwrap();
                let (value, rest) = bytes.split_at(length);
                bytes = rest;
                value.to_vec()
            }
            other => panic!("wire type {other}"),
        };
        all.push((key >> 3, value));
    }
    all
}

/// One chunk: its fields, by number.
type ChunkFields = BTreeMap<u64, Vec<u8>>;

/// Chunks by series, of frames whose checksums hold.
fn frames(mut body: &[u8]) -> BTreeMap<Vec<(String, String)>, Vec<ChunkFields>> {
    let mut all: BTreeMap<_, Vec<_>> = BTreeMap::new();
    while !body.is_empty() {
        let length = usize::try_from(read_varint(&mut body)).unwrap();
        let (sum, rest) = body.split_at(4);
        let (message, rest) = rest.split_at(length);
        body = rest;
        assert_eq!(sum, crc32c::crc32c(message).to_be_bytes());
        for (_, series) in fields(message).into_iter().filter(|(number, _)| *number == 1) {
            let (labels, chunks): (Vec<_>, Vec<_>) = fields(&series).into_iter().partition(|(number, _)| *number == 1);
            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
            let label = |(_, pair): &(u64, Vec<u8>)| {
                let pair = fields(pair);
                (text(&pair[0].1), text(&pair[1].1))
            };
            let key: Vec<(String, String)> = labels.iter().map(label).collect();
            let chunk = |(_, chunk): &(u64, Vec<u8>)| fields(chunk).into_iter().collect::<ChunkFields>();
            all.entry(key).or_default().extend(chunks.iter().map(chunk));
        }
    }
    all
}

/// Newest samples as text: what is not too old now is the same, but for how it is called.
/// A `WriteRequest` of a series of native histograms whose counts are floats, beside the float series.
fn float_histograms(end: i64, steps: i64) -> Vec<u8> {
    let double = |number: u8, value: f64, out: &mut Vec<u8>| {
        out.push(number << 3 | 1);
        out.extend_from_slice(&value.to_le_bytes());
    };
    let mut series = Vec::new();
    for (name, value) in [("__name__", "native"), ("job", "native")] {
        let mut label = Vec::new();
        field(1, name.as_bytes(), &mut label);
        field(2, value.as_bytes(), &mut label);
        field(1, &label, &mut series);
    }
    for step in 0..steps {
        let n = step as f64;
        let mut one = Vec::new();
        double(2, 8.0 * n + 100.5, &mut one);
        double(3, -1.5 * n, &mut one);
        one.extend([4 << 3, 6]); // schema 3
        double(5, 0.001, &mut one);
        double(7, 0.25 * n, &mut one);
        // Buckets 1 and 2, then one fourteen further up: a span's offset is zigzag, then its length.
        field(11, &[1 << 3, 2, 2 << 3, 2], &mut one);
        field(11, &[1 << 3, 28, 2 << 3, 1], &mut one);
        let counts: Vec<u8> = [n, 2.5 * n, 1.25].iter().flat_map(|count: &f64| count.to_le_bytes()).collect();
        field(13, &counts, &mut one);
        one.push(15 << 3);
        varint((end - (steps - 1 - step) * STEP_MS) as u64, &mut one);
        field(4, &one, &mut series);
    }
    let mut request = Vec::new();
    field(1, &series, &mut request);
    request
}

fn same_federation(ours: SocketAddr, theirs: SocketAddr) {
    let now = chrono::Utc::now().timestamp_millis();
    let fresh = |name: &'static str, labels: &[(&'static str, &'static str)], value| Series {
        labels: [("__name__", name)].into_iter().chain(labels.iter().copied()).collect(),
        samples: vec![(now - 20_000, value / 2.0), (now - 5_000, value)],
    };
    let series = [
        fresh("fed_b", &[("job", "x \"y\" \\\nz")], 1_234_567.5),
        fresh("fed_a", &[("instance", "i:1"), ("zone", "z")], 0.000_012_5),
        fresh("fed_a", &[("apple", "i:1"), ("zone", "z")], f64::INFINITY),
        fresh("fed_a", &[("zone", "ended")], f64::from_bits(0x7ff0_0000_0000_0002)),
        fresh("fed_c", &[], 20.0),
    ];
    write(ours, &series);
    write(theirs, &series);
    let path = format!("/federate?match[]=fed_a&match[]={}", encode("{__name__=~\"fed_.\"}"));
    let (ours, theirs) = (ask(ours, "GET", &path, "", b""), ask(theirs, "GET", &path, "", b""));
    assert_eq!(theirs.text().lines().count(), 7, "{}", theirs.text());
    assert_eq!(ours.text(), theirs.text());
    assert!(ours.head.contains("content-type: text/plain; version=0.0.4"), "{}", ours.head);
}

fn read_chunks(address: SocketAddr, request: &[u8]) -> BTreeMap<Vec<(String, String)>, Vec<ChunkFields>> {
    // A client in Go would have any answer gzipped.
    let headers = "Content-Encoding: snappy\r\nContent-Type: application/x-protobuf\r\nAccept-Encoding: gzip\r\n";
    let answer = ask(address, "POST", "/api/v1/read", headers, request);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let kind = "content-type: application/x-streamed-protobuf; proto=prometheus.chunkedreadresponse";
    assert!(answer.head.contains(kind) && !answer.head.contains("content-encoding"), "{}", answer.head);
    frames(&answer.body)
}

#[test]
fn chunks_are_those_that_a_prometheus_streams() {
    let Some(prometheus) = program("prometheus") else { return };
    let folder = tempfile::tempdir().unwrap();
    let process = Process::start(&folder.path().join("data"), &[]);
    wait_for("the store", || try_ask(process.main, "GET", "/-/ready", "", b"").filter(|answer| answer.status == 200));
    let flags = ["--web.enable-remote-write-receiver", "--enable-feature=native-histograms"];
    let (_prometheus, theirs) = start_prometheus(&prometheus, folder.path(), "global: {}", &flags);
    wait_for("prometheus", || try_json(theirs, "/api/v1/status/buildinfo"));
    // Within one block of two hours and one chunk of 120 samples, wherever in time that is.
    let block = 7_200_000;
    let end = chrono::Utc::now().timestamp_millis() / block * block - 60_000;
    let series = shapes(end, 100);
    write(process.main, &series);
    write(theirs, &series);
    let natives = float_histograms(end, 100);
    post(process.main, &snappy(&natives));
    post(theirs, &snappy(&natives));
    same_federation(process.main, theirs);
    let request = chunks_request(".+", end - 99 * STEP_MS, end);
    let expected = read_chunks(theirs, &request);
    assert_eq!(expected.len(), 8);
    assert!(expected.values().all(|chunks| chunks.len() == 1), "one chunk each");
    assert_eq!(read_chunks(process.main, &request), expected);
    let some = read_chunks(process.main, &chunks_request("a|b", end - 20 * STEP_MS, end));
    assert_eq!(some.len(), 3);
}

#[test]
fn a_pattern_that_is_none_or_too_large_is_refused_in_words_whatever_form_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let process = Process::start(&folder.path().join("data"), &[]);
    wait_for("the store", || try_ask(process.main, "GET", "/-/ready", "", b"").filter(|answer| answer.status == 200));
    let headers = "Content-Encoding: snappy\r\nContent-Type: application/x-protobuf\r\n";
    for (pattern, said) in [("a(", "unclosed"), ("(?<x", ""), (&r"\w{100}".repeat(300), "")] {
        let chunks = chunks_request(pattern, 0, 1_000);
        // Without the list of accepted forms samples are asked for.
        let mut samples = snap::raw::Decoder::new().decompress_vec(&chunks).unwrap();
        samples.truncate(samples.len() - 2);
        for request in [chunks, snappy(&samples)] {
            let answer = ask(process.main, "POST", "/api/v1/read", headers, &request);
            let text = answer.text();
            assert!(matches!(answer.status, 400 | 422), "{pattern:.20}: {} {text}", answer.status);
            assert!(text.contains(said) && text.len() < 2_000 && !text.is_empty(), "{pattern:.20}: {text}");
        }
    }
    assert_eq!(ask(process.main, "GET", "/-/healthy", "", b"").status, 200);
}
