//! What the web page shows, as `/-/status` says it.

use serde_json::Value;

use super::agents::{json, wait_for};
use super::doors::{ask, until_ready};
use super::program::Process;

#[test]
fn what_was_acknowledged_counts_as_stored_before_it_is_a_part_and_its_rate_is_shown() {
    let folder = tempfile::tempdir().unwrap();
    let process = Process::start(folder.path(), &[]);
    until_ready(process.main);
    let of_metrics = || json(process.main, "/-/status")["signals"]["metrics"].clone();
    let number = |own: &Value, name: &str| own[name].as_f64().unwrap_or_else(|| panic!("{name}: {own}"));
    let empty = of_metrics();
    for name in ["rate", "taken", "stored_bytes", "parts_rows", "active_series"] {
        assert_eq!(number(&empty, name), 0.0, "{name}: {empty}");
    }
    let samples = b"# TYPE a gauge\na{b=\"1\"} 1\na{b=\"2\"} 2\na{b=\"3\"} 3\n";
    assert_eq!(ask(process.main, "POST", "/api/v1/import/prometheus", "", samples).status, 204);
    let own = wait_for("what is stored", || Some(of_metrics()).filter(|own| number(own, "stored_bytes") > 0.0));
    assert_eq!((number(&own, "taken"), number(&own, "parts_rows")), (3.0, 0.0), "{own}");
    assert_eq!((number(&own, "stored_bytes"), number(&own, "active_series")), (number(&own, "log_bytes"), 3.0));
    // A line of five minutes, the newest last, is the same number that is shown.
    let own = wait_for("a rate", || Some(of_metrics()).filter(|own| number(own, "rate") > 0.0));
    let line: Vec<f64> = own["rate_line"].as_array().unwrap().iter().map(|point| point.as_f64().unwrap()).collect();
    assert_eq!((line.len(), line.last().copied()), (60, Some(number(&own, "rate"))), "{own}");
    assert_eq!(ask(process.main, "POST", "/-/flush", "", b"").status, 200);
    let own = of_metrics();
    assert_eq!((number(&own, "parts_rows"), number(&own, "taken")), (3.0, 3.0), "{own}");
    assert!(number(&own, "stored_bytes") > number(&own, "log_bytes"), "{own}");
}

#[test]
fn what_was_refused_lately_is_named_with_reason_and_sender_and_nothing_else_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let process = Process::start(folder.path(), &[]);
    until_ready(process.main);
    let push = |path: &str, headers: &str, body: &str| ask(process.main, "POST", path, headers, body.as_bytes()).status;
    let typed = "Content-Type: application/json\r\n";
    let line = r#"{"streams":[{"stream":{"app":"shop","key":"hunter2"},"values":[["1000000000","hunter2"],["1000000001","hunter2"]]}]}"#;
    for _ in 0..2 {
        assert_eq!(push("/loki/api/v1/push", typed, line), 400);
    }
    assert_eq!(push("/api/v1/import/prometheus", "", "old_one{key=\"hunter2\"} 1 1000\n"), 400);
    assert_eq!(push("/v1/logs", typed, r#"{"resourceLogs":"hunter2"}"#), 400);
    assert_eq!(push("/v1/traces", "Content-Type: text/hunter2\r\n", "x"), 415);
    assert_eq!(push("/v1/logs", "Content-Encoding: br\r\n", "x"), 415);
    assert_eq!(push("/loki/push", typed, "hunter2"), 404);
    let status = json(process.main, "/-/status");
    let rows = status["refused_lately"].as_array().unwrap();
    let text = |row: &Value, name: &str| row[name].as_str().unwrap_or_else(|| panic!("{name}: {row}")).to_owned();
    let shown: Vec<_> =
        rows.iter().map(|row| (text(row, "reason"), text(row, "name"), text(row, "receiver"))).collect();
    let expected = [
        ("wrong_path", "/loki/push", "main"),
        ("encoding_not_taken", "", "otlp_logs"),
        ("content_type_not_taken", "", "otlp_traces"),
        ("malformed", "", "otlp_logs"),
        ("too_old", "old_one", "import_text"),
        ("too_old", "shop", "loki_push"),
    ];
    let mut sorted = shown.clone();
    sorted.sort();
    let mut wanted = expected.map(|(reason, name, receiver)| (reason.into(), name.into(), receiver.into()));
    wanted.sort();
    assert_eq!(sorted, wanted, "{status}");
    let lines = rows.iter().find(|row| row["name"] == "shop").unwrap();
    assert_eq!((lines["count"].as_u64(), lines["sender"].as_str()), (Some(4), Some("127.0.0.1")), "{lines}");
    let now = chrono::Utc::now().timestamp_millis();
    assert!(rows.iter().all(|row| (now - row["at_ms"].as_i64().unwrap()).abs() < 60_000), "{status}");
    let astray = rows.iter().find(|row| row["reason"] == "wrong_path").unwrap();
    assert!(text(astray, "advice").contains("/loki/api/v1/push"), "{astray}");
    assert!(!status.to_string().contains("hunter2"), "{status}");
    assert_eq!(status["refused"][0]["signal"], "logs", "{status}");
}
