//! Real agents against a real server, each a process of its own: what they sent comes back from the
//! query APIs, value for value.
//!
//! They need programs that `cargo test` alone does not bring: Debian's prometheus and
//! prometheus-node-exporter, and a Python with tests/agents/requirements.txt (named by
//! AGENTS_PYTHON). Without them each test says that it is skipped. With AGENTS=require, which
//! `.ci/run` sets, a missing program is a failure.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::doors::{ask, try_ask};
use super::program::Process;

/// How long an agent may take until what it sent can be seen.
const PATIENCE: Duration = Duration::from_secs(60);

/// Finds a program, or says that the test is skipped.
pub(super) fn program(name: &str) -> Option<PathBuf> {
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&folders).map(|folder| folder.join(name)).find(|path| path.is_file());
    skipped_without(found, name)
}

#[expect(clippy::print_stdout, reason = "a test that is skipped says so")]
fn skipped_without<T>(found: Option<T>, what: &str) -> Option<T> {
    if found.is_none() {
        let required = std::env::var("AGENTS").is_ok_and(|value| value == "require");
        assert!(!required, "AGENTS=require, but {what} is missing");
        println!("SKIPPED: {what} is missing; .ci/run installs it");
    }
    found
}

fn python() -> Option<PathBuf> {
    skipped_without(std::env::var_os("AGENTS_PYTHON").map(PathBuf::from), "AGENTS_PYTHON")
}

/// Runs a script of tests/agents and returns what it prints as JSON.
fn send(python: &Path, script: &str, args: &[&str]) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/agents").join(script);
    let output = Command::new(python).arg(path).args(args).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{script}: {errors}");
    assert!(!errors.contains("Failed to export") && !errors.contains("Exception"), "{script}: {errors}");
    serde_json::from_slice(&output.stdout).unwrap()
}

pub(super) struct Killed(pub(super) Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(super) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

pub(super) fn encode(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

/// GET of a JSON page; `None` unless it is answered with 200.
pub(super) fn try_json(address: SocketAddr, path: &str) -> Option<Value> {
    let answer = try_ask(address, "GET", path, "", b"")?;
    (answer.status == 200).then(|| serde_json::from_slice(&answer.body).unwrap())
}

pub(super) fn json(address: SocketAddr, path: &str) -> Value {
    let answer = ask(address, "GET", path, "", b"");
    assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    serde_json::from_slice(&answer.body).unwrap()
}

/// Asks until there is an answer.
pub(super) fn wait_for<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(started.elapsed() < PATIENCE, "waited {PATIENCE:?} for {what}");
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// The answer of an instant query as series and what each holds.
pub(super) fn series(address: SocketAddr, query: &str, time: &str) -> Option<BTreeMap<String, Value>> {
    let answer = try_json(address, &format!("/api/v1/query?query={}&time={time}", encode(query)))?;
    let result = answer["data"]["result"].as_array()?;
    let held = |row: &Value| row.get("values").or_else(|| row.get("value")).cloned().unwrap_or(Value::Null);
    Some(result.iter().map(|row| (sorted(&row["metric"]), held(row))).collect())
}

fn sorted(labels: &Value) -> String {
    let labels: BTreeMap<String, Value> = serde_json::from_value(labels.clone()).unwrap();
    serde_json::to_string(&labels).unwrap()
}

/// Whether two answers have the same series and, but for the order in which sums were rounded, the
/// same values.
pub(super) fn close(ours: &BTreeMap<String, Value>, theirs: &BTreeMap<String, Value>) -> bool {
    let number = |held: &Value| held[1].as_str().and_then(|text| text.parse::<f64>().ok()).unwrap_or(f64::NAN);
    let pairs = ours.iter().zip(theirs);
    ours.len() == theirs.len()
        && pairs.into_iter().all(|((our_name, our), (their_name, their))| {
            let (our, their) = (number(our), number(their));
            our_name == their_name && (our - their).abs() <= their.abs() * 1e-12
        })
}

fn start_node_exporter(program: &Path) -> (Killed, u16) {
    let port = free_port();
    let mut command = Command::new(program);
    command.arg(format!("--web.listen-address=127.0.0.1:{port}"));
    let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    (Killed(child), port)
}

fn scrape_and_write(exporter: u16, write_to: SocketAddr) -> String {
    format!(
        "global: {{scrape_interval: 1s, scrape_timeout: 1s}}
scrape_configs:
  - job_name: node
    static_configs: [{{targets: ['127.0.0.1:{exporter}']}}]
remote_write:
  - url: http://{write_to}/api/v1/write
    metadata_config: {{send: true, send_interval: 1s}}
    queue_config: {{batch_send_deadline: 500ms}}
"
    )
}

pub(super) fn start_prometheus(program: &Path, folder: &Path, config: &str, flags: &[&str]) -> (Killed, SocketAddr) {
    let address: SocketAddr = format!("127.0.0.1:{}", free_port()).parse().unwrap();
    let file = folder.join("prometheus.yml");
    std::fs::write(&file, config).unwrap();
    let mut command = Command::new(program);
    command.arg(format!("--config.file={}", file.display()));
    command.arg(format!("--storage.tsdb.path={}", folder.join("prometheus").display()));
    command.arg(format!("--web.listen-address={address}"));
    let child = command.args(flags).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    (Killed(child), address)
}

#[test]
fn what_prometheus_scrapes_and_writes_here_is_answered_as_prometheus_answers_it() {
    let (Some(prometheus), Some(exporter)) = (program("prometheus"), program("prometheus-node-exporter")) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let process = Process::start(&folder.path().join("data"), &[]);
    let (exporter, port) = start_node_exporter(&exporter);
    let (_prometheus, theirs) =
        start_prometheus(&prometheus, folder.path(), &scrape_and_write(port, process.main), &[]);
    let now = || format!("{:.3}", chrono::Utc::now().timestamp_millis() as f64 / 1e3);
    wait_for("five scrapes", || {
        let count = series(theirs, "count_over_time(up{job=\"node\"}[1m])", &now())?;
        let count: u32 = count.values().next()?[1].as_str()?.parse().ok()?;
        (count >= 5).then_some(())
    });
    // Stop the target: its series end with staleness markers, which have to arrive too.
    drop(exporter);
    wait_for("the target to be down", || series(theirs, "up{job=\"node\"} == 0", &now())?.len().eq(&1).then_some(()));
    let at = now();
    let everything = "{job=\"node\"}[2m]";
    let expected = series(theirs, everything, &at).unwrap();
    assert!(expected.len() > 100, "only {} series were scraped", expected.len());
    let mut last = BTreeMap::new();
    let started = Instant::now();
    while started.elapsed() < PATIENCE {
        last = series(process.main, everything, &at).unwrap_or_default();
        if last == expected {
            break;
        }
        std::thread::sleep(Duration::from_millis(500));
    }
    let other = expected.iter().find(|(name, values)| last.get(*name) != Some(values));
    let came = other.and_then(|(name, _)| last.get(name));
    assert!(other.is_none(), "of {} series, {} came; expected {other:?}, got {came:?}", expected.len(), last.len());
    assert_eq!(last.len(), expected.len(), "there are series that Prometheus does not have");
    // Staleness: neither of them answers with a series of the target that is gone.
    let gone = "count({job=\"node\", __name__=~\"node_.*\"})";
    assert_eq!(series(process.main, gone, &at), series(theirs, gone, &at));
    for query in [
        "sum by (mode) (rate(node_cpu_seconds_total[1m]))",
        "node_load1 offset 3s",
        "topk(3, node_memory_MemTotal_bytes)",
    ] {
        let (ours, theirs) = (series(process.main, query, &at), series(theirs, query, &at));
        assert!(close(&ours.unwrap(), &theirs.unwrap()), "{query}: the answers differ");
    }
    let metadata = wait_for("metadata", || {
        let answer = try_json(process.main, "/api/v1/metadata?metric=node_cpu_seconds_total")?;
        answer["data"]["node_cpu_seconds_total"].as_array().cloned()
    });
    assert_eq!(metadata[0]["type"], "counter");
}

fn check_open_telemetry(protocol: &str, options: &[&str]) {
    let Some(python) = python() else { return };
    let folder = tempfile::tempdir().unwrap();
    let process = Process::start(folder.path(), &[]);
    let base = format!("http://{}", process.main);
    let args: Vec<&str> = [protocol, base.as_str()].into_iter().chain(options.iter().copied()).collect();
    let sent = send(&python, "otel_send.py", &args);
    check_metrics(process.main, &sent);
    check_logs(process.main, &sent);
    check_traces(process.main, &sent);
    // The same after what is in memory became a part.
    assert!(ask(process.main, "POST", "/-/flush", "", b"").status < 300);
    check_metrics(process.main, &sent);
    check_logs(process.main, &sent);
    check_traces(process.main, &sent);
}

fn check_metrics(main: SocketAddr, sent: &Value) {
    for (query, value) in sent["metrics"].as_object().unwrap() {
        let answer = json(main, &format!("/api/v1/query?query={}", encode(query)));
        let result = answer["data"]["result"].as_array().unwrap();
        assert_eq!(result.len(), 1, "{query}: {answer}");
        let got: f64 = result[0]["value"][1].as_str().unwrap().parse().unwrap();
        assert_eq!(got, value.as_f64().unwrap(), "{query}");
    }
}

fn check_logs(main: SocketAddr, sent: &Value) {
    let selector = format!("{{service_name={}}}", sent["service"]);
    let path = format!("/loki/api/v1/query_range?query={}&direction=forward&limit=100", encode(&selector));
    let answer = json(main, &path);
    let mut lines = Vec::new();
    for stream in answer["data"]["result"].as_array().unwrap() {
        assert_eq!(stream["stream"]["service_name"], sent["service"], "{answer}");
        assert_eq!(stream["stream"]["trace_id"], sent["spans"][0]["trace"], "{answer}");
        assert_eq!(stream["stream"]["order_id"], "4711", "{answer}");
        lines.extend(stream["values"].as_array().unwrap().iter().cloned());
    }
    lines.sort_by_key(|line| line[0].as_str().unwrap().to_owned());
    assert_eq!(Value::Array(lines), sent["logs"]);
}

fn check_traces(main: SocketAddr, sent: &Value) {
    let spans = sent["spans"].as_array().unwrap();
    let trace = spans[0]["trace"].as_str().unwrap();
    let answer = json(main, &format!("/jaeger/api/traces/{trace}"));
    let got = answer["data"][0]["spans"].as_array().unwrap();
    assert_eq!(got.len(), spans.len(), "{answer}");
    for span in spans {
        let found = got.iter().find(|got| got["spanID"] == span["span"]).unwrap_or_else(|| panic!("{span} is missing"));
        assert_eq!(found["operationName"], span["name"]);
        let nanoseconds = |name: &str| span[name].as_str().unwrap().parse::<i64>().unwrap();
        assert_eq!(found["startTime"].as_i64().unwrap(), nanoseconds("start_ns") / 1_000);
    }
    let otlp = json(main, &format!("/tempo/api/v2/traces/{trace}")).to_string();
    for exact in
        ["start_ns", "end_ns"].iter().flat_map(|name| spans.iter().map(move |span| span[*name].as_str().unwrap()))
    {
        assert!(otlp.contains(exact), "{exact} is not in {otlp}");
    }
    for value in ["Zoë ☕", "book", "reserved", "card refused", "12.5"] {
        assert!(otlp.contains(value), "{value} is not in {otlp}");
    }
    let found = json(main, &format!("/tempo/api/search?q={}", encode("{ span.order.id = 4711 }")));
    assert!(
        found["traces"].as_array().unwrap().iter().any(|found| trace.ends_with(found["traceID"].as_str().unwrap())),
        "{found}"
    );
}

#[test]
fn the_open_telemetry_sdk_is_understood_over_grpc() {
    check_open_telemetry("grpc", &[]);
}

#[test]
fn the_open_telemetry_sdk_is_understood_over_grpc_with_gzip() {
    check_open_telemetry("grpc", &["gzip"]);
}

#[test]
fn the_open_telemetry_sdk_is_understood_over_http() {
    check_open_telemetry("http", &[]);
}

#[test]
fn the_open_telemetry_sdk_is_understood_over_http_with_gzip() {
    check_open_telemetry("http", &["gzip"]);
}

/// Lines by stream: labels as sorted JSON, then `[time, line]` in time order.
type Lines = BTreeMap<String, Vec<(String, String)>>;

fn gather(lines: &mut Lines, labels: &Value, values: &[Value]) {
    let all = lines.entry(sorted(labels)).or_default();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    all.extend(values.iter().map(|pair| (text(&pair[0]), text(&pair[1]))));
    all.sort();
}

#[test]
fn lines_of_loki_clients_come_back() {
    let Some(python) = python() else { return };
    let folder = tempfile::tempdir().unwrap();
    let process = Process::start(folder.path(), &[]);
    let sent = send(&python, "loki_send.py", &[&format!("http://{}", process.main)]);
    let mut expected = Lines::new();
    for stream in sent.as_array().unwrap() {
        gather(&mut expected, &stream["stream"], stream["values"].as_array().unwrap());
    }
    assert!(expected.len() >= 4 && expected.values().map(Vec::len).sum::<usize>() >= 53, "{expected:?}");
    // With this header the labels of a stream come apart from what was added to its lines.
    let path = format!("/loki/api/v1/query_range?query={}&limit=1000", encode("{job=\"agents\"}"));
    let answer = ask(process.main, "GET", &path, "X-Loki-Response-Encoding-Flags: categorize-labels\r\n", b"");
    assert_eq!(answer.status, 200, "{}", answer.text());
    let answer: Value = serde_json::from_slice(&answer.body).unwrap();
    let mut got = Lines::new();
    for stream in answer["data"]["result"].as_array().unwrap() {
        let mut labels = stream["stream"].clone();
        labels.as_object_mut().unwrap().remove("service_name");
        gather(&mut got, &labels, stream["values"].as_array().unwrap());
    }
    assert_eq!(got, expected);
    let by_trace = "{app=\"loki-logger-handler\"} | trace_id=\"4bf92f3577b34da6a3ce929d0e0e4736\"";
    let counted = json(
        process.main,
        &format!("/loki/api/v1/query?query={}", encode(&format!("sum(count_over_time({by_trace} [1h]))"))),
    );
    assert_eq!(counted["data"]["result"][0]["value"][1], "50", "{counted}");
}
