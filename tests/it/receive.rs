//! Every receiver by what senders really send, and by what hostile ones might. A folder of
//! `tests/payloads/` for each row of `RECEIVERS` holds requests: NAME.headers (the request line and
//! headers), NAME.body (the bytes), NAME.expected (the answer and what the store got). With
//! `TRILITH_BLESS=1` the expected files are written anew, to be read in the diff.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::Mutex;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Request, Response};
use http_body_util::BodyExt as _;
use tower::ServiceExt as _;
use trilith::base::counters::Counters;
use trilith::base::memory::MemoryBudget;
use trilith::ingest::Ingestor;
use trilith::model::batch::{Appended, LogsBatch, MetricsBatch, TracesBatch};
use trilith::model::span::Span;
use trilith::receive::{Listener, Options, RECEIVERS, State, router_for};
use trilith::store::{AppendLogs, AppendMetrics, AppendTraces, StoreError};
use trilith::wire::decompress::compress_snappy;
use trilith::wire::protobuf::{put_bytes, put_double, put_message, put_uint};

use super::support::ManualClock;

/// A day after the payloads were captured.
const NOW_NS: i64 = 1_795_435_000_000_000_000;

/// Remembers what it got, one line for each item.
#[derive(Default)]
struct Memory {
    lines: Mutex<Vec<String>>,
    full: Mutex<bool>,
}

impl Memory {
    fn add(&self, line: String) -> Result<(), StoreError> {
        if *self.full.lock().unwrap() {
            return Err(StoreError::DiskFull { free: 1, needed: 2 });
        }
        self.lines.lock().unwrap().push(line);
        Ok(())
    }
}

impl AppendMetrics for Memory {
    fn append(&self, batch: &MetricsBatch) -> Result<Appended, StoreError> {
        let mut appended = Appended { accepted: batch.samples() as u64, ..Appended::default() };
        for series in &batch.series {
            let labels = &series.labels;
            for sample in &series.samples {
                let bits = if sample.value.is_nan() { format!(" {:x}", sample.value.to_bits()) } else { String::new() };
                self.add(format!("sample {labels} {} {}{bits}", sample.t, sample.value))?;
            }
            for sample in &series.histograms {
                self.add(format!("histogram {labels} {} {:?}", sample.t, sample.histogram))?;
            }
            for exemplar in &series.exemplars {
                self.add(format!("exemplar {labels} {} {} {}", exemplar.t, exemplar.value, exemplar.labels))?;
            }
            appended.histograms += series.histograms.len() as u64;
            appended.exemplars += series.exemplars.len() as u64;
        }
        for family in &batch.metadata {
            self.add(format!("metadata {} {} {:?} {:?}", family.name, family.kind, family.unit, family.help))?;
        }
        Ok(appended)
    }
}

impl AppendLogs for Memory {
    fn append(&self, batch: &LogsBatch) -> Result<Appended, StoreError> {
        let mut appended = Appended::default();
        for stream in &batch.streams {
            for entry in &stream.entries {
                self.add(format!("line {} {} {:?} {}", stream.labels, entry.t, entry.line, entry.metadata))?;
                appended.accepted += 1;
            }
        }
        Ok(appended)
    }
}

impl AppendTraces for Memory {
    fn append(&self, batch: &TracesBatch) -> Result<Appended, StoreError> {
        for span in &batch.spans {
            self.add(shown(span))?;
        }
        Ok(Appended { accepted: batch.spans.len() as u64, ..Appended::default() })
    }
}

fn shown(span: &Span) -> String {
    let Span { trace_id, span_id, parent_id, name, kind, start, end, status, status_message, attrs, .. } = span;
    let mut text = format!("span {trace_id} {span_id} parent {parent_id} {name:?} {kind:?} {start}..{end} ");
    write!(text, "{status:?} {status_message:?} {attrs:?}").unwrap();
    for event in &span.events {
        write!(text, "\n  event {} {:?} {:?}", event.t, event.name, event.attrs).unwrap();
    }
    for link in &span.links {
        write!(text, "\n  link {} {} {:?}", link.trace_id, link.span_id, link.attrs).unwrap();
    }
    write!(text, "\n  resource {:?}\n  scope {:?}", span.resource.attrs, span.scope.name).unwrap();
    text
}

struct Door {
    memory: Arc<Memory>,
    router: Router,
    ingestor: Arc<Ingestor>,
}

fn door_with(options: Options, listener: Listener) -> Door {
    door_within(options, listener, &MemoryBudget::new(1 << 30))
}

fn door_within(options: Options, listener: Listener, account: &Arc<MemoryBudget>) -> Door {
    let memory = Arc::new(Memory::default());
    let forever = trilith::ingest::Options {
        retention_metrics: Arc::default(),
        retention_logs: None,
        retention_traces: None,
        ..trilith::ingest::Options::default()
    };
    let clock = Arc::new(ManualClock::at_ns(NOW_NS));
    let counters = Counters::default();
    let (metrics, logs, traces) = (memory.clone(), memory.clone(), memory.clone());
    let ingestor = Arc::new(Ingestor::new(forever, metrics, logs, traces, clock, &counters));
    let router = router_for(listener, State::new(options, ingestor.clone(), &counters, account));
    Door { memory, router, ingestor }
}

fn door() -> Door {
    door_with(Options::default(), Listener::Main)
}

struct Answer {
    status: u16,
    headers: HeaderMap,
    trailers: Option<HeaderMap>,
    body: Vec<u8>,
}

impl Answer {
    async fn of(response: Response<Body>) -> Self {
        let (parts, body) = response.into_parts();
        let collected = body.collect().await.unwrap();
        let trailers = collected.trailers().cloned();
        let body = collected.to_bytes().to_vec();
        Self { status: parts.status.as_u16(), headers: parts.headers, trailers, body }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

impl Door {
    async fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: impl Into<Body>) -> Answer {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        Answer::of(self.router.clone().oneshot(request.body(body.into()).unwrap()).await.unwrap()).await
    }

    async fn post(&self, path: &str, content_type: &str, body: impl Into<Body>) -> Answer {
        self.ask("POST", path, &[("content-type", content_type)], body).await
    }

    fn stored(&self) -> Vec<String> {
        self.memory.lines.lock().unwrap().clone()
    }
}

const PROTOBUF: &str = "application/x-protobuf";
const JSON: &str = "application/json";

/// A remote-write body of one series.
fn write_request(labels: &[(&str, &str)], t: i64) -> Vec<u8> {
    let mut body = Vec::new();
    put_message(&mut body, 1, |out| {
        for (name, value) in labels {
            put_message(out, 1, |out| {
                put_bytes(out, 1, name.as_bytes());
                put_bytes(out, 2, value.as_bytes());
            });
        }
        put_message(out, 2, |out| {
            put_double(out, 1, 1.0);
            put_uint(out, 2, t.cast_unsigned());
        });
    });
    body
}

fn good_write() -> Vec<u8> {
    compress_snappy(&write_request(&[("__name__", "up")], 1)).unwrap()
}

fn payloads(receiver: &str) -> Vec<PathBuf> {
    let folder = Path::new("tests/payloads").join(receiver);
    let mut cases: Vec<PathBuf> = std::fs::read_dir(folder)
        .map(|entries| entries.map(|entry| entry.unwrap().path()).collect())
        .unwrap_or_default();
    cases.retain(|path| path.extension().is_some_and(|extension| extension == "headers"));
    cases.sort();
    cases
}

async fn replay(case: &Path) -> String {
    let head = std::fs::read_to_string(case).unwrap();
    let mut lines = head.lines();
    let (method, path) = lines.next().unwrap().split_once(' ').unwrap();
    let headers: Vec<(&str, &str)> = lines.filter_map(|line| line.split_once(": ")).collect();
    let body = std::fs::read(case.with_extension("body")).unwrap();
    let door = door();
    let answer = door.ask(method, path, &headers, body).await;
    let mut shown = format!("{}\n", answer.status);
    for (name, value) in answer.headers.iter().filter(|(name, _)| name.as_str().starts_with("x-")) {
        writeln!(shown, "{name}: {}", value.to_str().unwrap()).unwrap();
    }
    let text = answer.body.escape_ascii().to_string().replace("\\n", "\n").replace("\\\"", "\"");
    writeln!(shown, "{}", text.trim_end()).unwrap();
    shown + &door.stored().join("\n") + "\n"
}

#[tokio::test]
async fn payloads_are_stored_as_expected() {
    for receiver in RECEIVERS {
        for case in payloads(receiver.name) {
            let got = replay(&case).await;
            let expected = case.with_extension("expected");
            if std::env::var_os("TRILITH_BLESS").is_some() {
                std::fs::write(&expected, &got).unwrap();
            }
            assert_eq!(got, std::fs::read_to_string(&expected).unwrap_or_default(), "{}", expected.display());
        }
    }
}

#[test]
fn every_receiver_has_a_payload() {
    for receiver in RECEIVERS {
        let name = receiver.name;
        assert!(!payloads(name).is_empty(), "tests/payloads/{name}/ holds no request");
        assert!(receiver.spec.starts_with("https://") && !receiver.summary.is_empty());
    }
}

#[tokio::test]
async fn remote_write_says_what_it_wrote_and_refuses_other_types() {
    let door = door();
    let answer = door.post("/api/v1/write", PROTOBUF, good_write()).await;
    assert_eq!((answer.status, answer.header("x-prometheus-remote-write-samples-written")), (204, "1"));
    let unknown = "application/x-protobuf;proto=io.prometheus.write.v9.Request";
    for content_type in ["application/json", "text/plain", unknown] {
        assert_eq!(door.post("/api/v1/write", content_type, good_write()).await.status, 415, "{content_type}");
    }
    for encoding in ["br", "gzip", "deflate", "identity"] {
        let headers = [("content-type", PROTOBUF), ("content-encoding", encoding)];
        assert_eq!(door.ask("POST", "/api/v1/write", &headers, good_write()).await.status, 415, "{encoding}");
    }
    assert_eq!(door.stored().len(), 1);
}

#[tokio::test]
async fn only_post_is_taken_on_any_path() {
    let door = door();
    for receiver in RECEIVERS {
        for path in receiver.paths.iter().chain(&receiver.grpc) {
            for method in ["GET", "PUT", "DELETE"] {
                assert_eq!(door.ask(method, path, &[], Body::empty()).await.status, 405, "{method} {path}");
            }
        }
    }
}

#[tokio::test]
async fn a_listener_serves_its_own_paths_only() {
    for (listener, path, status) in [
        (Listener::Loki, "/loki/api/v1/push", 405),
        (Listener::Loki, "/otlp/v1/logs", 405),
        (Listener::Loki, "/v1/traces", 404),
        (Listener::OtlpHttp, "/v1/traces", 405),
        (Listener::OtlpHttp, "/api/v1/write", 404),
        (Listener::OtlpGrpc, "/opentelemetry.proto.collector.trace.v1.TraceService/Export", 405),
        // Who takes one port of OTLP for the other is not sent away.
        (Listener::OtlpGrpc, "/v1/traces", 405),
        (Listener::OtlpHttp, "/opentelemetry.proto.collector.trace.v1.TraceService/Export", 405),
        (Listener::OtlpGrpc, "/api/v1/write", 404),
    ] {
        let door = door_with(Options::default(), listener);
        assert_eq!(door.ask("GET", path, &[], Body::empty()).await.status, status, "{listener:?} {path}");
    }
}

#[tokio::test]
async fn loki_json_is_taken_though_nobody_says_that_it_is_json() {
    let body = r#"{"streams":[{"stream":{"a":"b"},"values":[["1","x"]]}]}"#;
    let door = door();
    assert_eq!(door.ask("POST", "/loki/api/v1/push", &[], body).await.status, 204);
    let spaced = body.replacen('{', "{ ", 1);
    assert_eq!(door.post("/loki/api/v1/push", "application/x-www-form-urlencoded", spaced).await.status, 204);
    let broken = door.ask("POST", "/loki/api/v1/push", &[], "{\"streams\":1}").await;
    assert_eq!(broken.status, 400);
}

#[tokio::test]
async fn loki_answers_as_loki_does() {
    let door = door();
    let push = |body: &'static str| door.post("/loki/api/v1/push", JSON, body);
    assert_eq!(push(r#"{"streams":[{"stream":{"a":"b"},"values":[["1","x"]]}]}"#).await.status, 204);
    for unlabelled in [
        r#"{"streams":[{"stream":{},"values":[["1","x"]]}]}"#,
        r#"{"streams":[{"stream":{"a":""},"values":[["1","x"]]}]}"#,
        r#"{"streams":[{"labels":"","entries":[{"ts":"2026-01-01T00:00:00Z","line":"x"}]}]}"#,
    ] {
        assert_eq!(push(unlabelled).await.status, 400, "{unlabelled}");
    }
    assert_eq!(push(r#"{"streams":[{"stream":{"a":"b"},"values":[]}]}"#).await.status, 204);
    assert_eq!(push(r#"{"streams":[]}"#).await.status, 422);
    assert_eq!(push("").await.status, 400);
    assert_eq!(push(r#"{"streams":[{"stream":{"a":"b"},"values":[[1,"x"]]}]}"#).await.status, 400);
    assert_eq!(door.ask("POST", "/loki/api/v1/push", &[], "x").await.status, 400);
    let mixed =
        push(r#"{"streams":[{"stream":{"a":"b"},"values":[["1","good"],["9223372036854775807","ahead"]]}]}"#).await;
    assert_eq!(mixed.status, 400);
    assert!(mixed.text().contains("too_far_in_future"), "{}", mixed.text());
    assert_eq!(door.stored().len(), 2);
}

fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(body).unwrap();
    encoder.finish().unwrap()
}

#[tokio::test]
async fn bombs_and_oversized_bodies_are_too_large() {
    let door = door();
    let zeros = vec![0u8; 40 << 20];
    let bombs = [
        ("gzip", gzip(&zeros)),
        ("zstd", zstd::bulk::compress(&zeros, 1).unwrap()),
        ("snappy", compress_snappy(&zeros).unwrap()),
        ("identity", vec![0; 17 << 20]),
    ];
    for receiver in RECEIVERS {
        for (encoding, bomb) in &bombs {
            let headers = [("content-type", PROTOBUF), ("content-encoding", encoding)];
            let answer = door.ask("POST", receiver.paths[0], &headers, bomb.clone()).await;
            let taken = receiver.name != "remote_write" || ["zstd", "snappy"].contains(encoding);
            assert_eq!(answer.status, if taken { 413 } else { 415 }, "{} {encoding}", receiver.name);
        }
    }
    let declared = [("content-type", PROTOBUF), ("content-length", "99999999999")];
    assert_eq!(door.ask("POST", "/api/v1/write", &declared, Body::empty()).await.status, 413);
    assert_eq!(door.post("/api/v1/write", PROTOBUF, good_write()).await.status, 204);
}

#[tokio::test]
async fn truncated_bodies_are_bad_data_everywhere() {
    let door = door();
    // What is taken line by line is stored up to where it ends.
    for receiver in RECEIVERS.iter().filter(|receiver| receiver.lines.is_none()) {
        for case in payloads(receiver.name) {
            let head = std::fs::read_to_string(&case).unwrap();
            let headers: Vec<(&str, &str)> = head.lines().skip(1).filter_map(|line| line.split_once(": ")).collect();
            let body = std::fs::read(case.with_extension("body")).unwrap();
            let answer = door.ask("POST", receiver.paths[0], &headers, body[..body.len() / 2].to_vec()).await;
            assert_eq!(answer.status, 400, "{}: {}", case.display(), answer.text());
        }
    }
    assert_eq!(door.stored(), Vec::<String>::new());
}

#[tokio::test]
async fn a_full_store_and_a_closed_door_ask_to_retry() {
    let door = door();
    *door.memory.full.lock().unwrap() = true;
    for (path, content_type, body) in [
        ("/api/v1/write", PROTOBUF, good_write()),
        ("/loki/api/v1/push", JSON, br#"{"streams":[{"stream":{"a":"b"},"values":[["1","x"]]}]}"#.to_vec()),
    ] {
        let answer = door.post(path, content_type, body).await;
        assert_eq!((answer.status, answer.header("retry-after")), (503, "1"), "{}", answer.text());
        assert!(answer.text().contains("no room on disk"), "{}", answer.text());
    }
    *door.memory.full.lock().unwrap() = false;
    door.ingestor.close("stopping");
    let answer = door.post("/api/v1/write", PROTOBUF, good_write()).await;
    assert_eq!((answer.status, answer.header("retry-after")), (503, "1"));
    let answer = door.post("/v1/traces", JSON, "{}").await;
    assert_eq!((answer.status, answer.header("retry-after"), answer.header("content-type")), (503, "1", JSON));
    assert!(answer.text().contains("stopping"));
}

#[tokio::test]
async fn otlp_errors_are_status_messages_in_the_format_of_the_request() {
    let door = door();
    let answer = door.post("/v1/logs", PROTOBUF, "\u{1}").await;
    assert_eq!((answer.status, answer.header("content-type")), (400, PROTOBUF));
    assert!(answer.body.starts_with(b"\x08\x03\x12"), "{:?}", answer.body);
    let answer = door.post("/v1/logs", JSON, "{").await;
    assert_eq!(answer.status, 400);
    assert!(answer.text().starts_with(r#"{"code":3,"message":"#), "{}", answer.text());
    assert_eq!(door.post("/v1/logs", "text/plain", "").await.status, 415);
    let answer = door.post("/v1/logs", PROTOBUF, "").await;
    assert_eq!((answer.status, answer.body.len()), (200, 0));
    let nested = format!("{{\"resourceLogs\":{}", "[".repeat(10_000));
    assert_eq!(door.post("/v1/logs", JSON, nested).await.status, 400);
}

#[tokio::test]
async fn what_a_body_is_decoded_to_is_charged_before_it_is_there_and_given_back() {
    let account = MemoryBudget::new(4 << 20);
    let door = door_within(Options::default(), Listener::Main, &account);
    let push = |lines: usize| {
        let values: Vec<String> = (0..lines).map(|n| format!("[\"{}\",\"line {n}\"]", NOW_NS + n as i64)).collect();
        format!("{{\"streams\":[{{\"stream\":{{\"a\":\"b\"}},\"values\":[{}]}}]}}", values.join(",")).into_bytes()
    };
    assert_eq!(door.post("/loki/api/v1/push", JSON, push(10)).await.status, 204);
    let held = account.hold(3 << 20).unwrap();
    let busy = door.post("/loki/api/v1/push", JSON, push(5_000)).await;
    assert_eq!((busy.status, busy.header("retry-after")), (503, "1"), "{:?}", String::from_utf8_lossy(&busy.body));
    drop(held);
    assert_eq!(door.post("/loki/api/v1/push", JSON, push(5_000)).await.status, 204, "it heals");
    let never = door.post("/loki/api/v1/push", JSON, push(14_000)).await;
    assert_eq!(never.status, 413, "what never fits is not to be tried again");
    drop(door);
    assert_eq!(account.used(), 0, "nothing stays charged");
}

/// The five bytes before a message, and the message.
fn grpc_frame(packed: u8, message: &[u8]) -> Vec<u8> {
    let mut frame = vec![packed];
    frame.extend(u32::try_from(message.len()).unwrap().to_be_bytes());
    frame.extend(message);
    frame
}

const EXPORT: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

#[tokio::test]
async fn grpc_calls_end_with_a_status_in_trailers() {
    let door = door();
    let gzipped = std::fs::read("tests/payloads/otlp_traces/python_sdk_http.body").unwrap();
    let headers = [("content-type", "application/grpc"), ("grpc-encoding", "gzip"), ("grpc-timeout", "10S")];
    let answer = door.ask("POST", EXPORT, &headers, grpc_frame(1, &gzipped)).await;
    assert_eq!((answer.status, answer.header("content-type")), (200, "application/grpc"));
    assert_eq!(answer.trailers.unwrap().get("grpc-status").unwrap(), "0");
    assert_eq!(answer.body, [0, 0, 0, 0, 0]);
    assert_eq!(door.stored().len(), 2);
}

#[tokio::test]
async fn grpc_errors_have_a_code_and_a_message() {
    let door = door();
    let call = |encoding: &'static str, body: Vec<u8>| {
        let headers = [("content-type", "application/grpc+proto"), ("grpc-encoding", encoding)];
        let door = &door;
        async move {
            let answer = door.ask("POST", EXPORT, &headers, body).await;
            assert_eq!(answer.status, 200);
            (answer.header("grpc-status").to_owned(), answer)
        }
    };
    assert_eq!(call("", vec![0, 0]).await.0, "3");
    assert_eq!(call("", vec![0, 0, 0, 0, 9, 1]).await.0, "3");
    assert_eq!(call("", grpc_frame(0, &[1])).await.0, "3");
    assert_eq!(call("br", grpc_frame(1, &[1])).await.0, "12");
    assert_eq!(call("gzip", grpc_frame(1, &gzip(&vec![0; 40 << 20]))).await.0, "8");
    door.ingestor.close("starting");
    let (code, answer) = call("", grpc_frame(0, &[])).await;
    assert_eq!((code.as_str(), answer.header("grpc-message")), ("14", "the server is starting; retry"));
    assert!(!answer.header("grpc-status-details-bin").is_empty());
    let answer = door.post(EXPORT, JSON, "{}").await;
    assert_eq!(answer.status, 415);
}
