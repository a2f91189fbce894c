//! The log of slow queries: what somebody finds who looks for the panel that makes the server slow.

use serde_json::Value;

use super::doors::ask;
use super::program::Process;

fn slow(args: &[&str]) -> Vec<Value> {
    let folder = tempfile::tempdir().unwrap();
    let mut process = Process::start(folder.path(), args);
    while ask(process.main, "GET", "/-/ready", "", b"").status != 200 {}
    let grafana = "X-Dashboard-Uid: abc\r\nX-Panel-Id: 4\r\nUser-Agent: Grafana/12.3.0\r\nX-Unheard-Of: 1\r\n";
    let range = "/api/v1/query_range?query=vector(7)&start=0&end=60&step=15";
    assert_eq!(ask(process.main, "GET", range, grafana, b"").status, 200);
    assert_eq!(ask(process.main, "GET", "/api/v1/query?query=topk(NaN,vector(1))&time=9.5", "", b"").status, 422);
    assert_eq!(ask(process.main, "GET", "/api/v1/labels", "", b"").status, 200);
    let metrics = ask(process.main, "GET", "/metrics", "", b"").text();
    assert!(metrics.contains("trilith_query_duration_seconds_count{language=\"promql\"} 3\n"), "{metrics}");
    process.signal("TERM");
    let log = process.rest_of_log();
    let events = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    events.filter(|event| event["message"] == "slow query").collect()
}

#[test]
fn a_slow_query_is_logged_once_with_its_panel() {
    let found = slow(&["--slow-query", "0s"]);
    assert_eq!(found.len(), 2, "{found:?}");
    let first = &found[0];
    assert_eq!(first["query"], "vector(7)");
    assert_eq!((&first["start_ms"], &first["end_ms"], &first["step_ms"]), (&0.into(), &60_000.into(), &15_000.into()));
    assert_eq!((&first["outcome"], &first["series"]), (&"success".into(), &1.into()));
    assert_eq!(first["asker"], "dashboard=abc panel=4 agent=Grafana/12.3.0");
    for number in ["samples", "memory_peak_bytes", "queue_ms", "run_ms"] {
        assert!(first[number].is_number(), "{number} in {first}");
    }
    assert_eq!((&found[1]["outcome"], &found[1]["start_ms"]), (&"execution".into(), &9_500.into()));
}

#[test]
fn queries_are_not_logged_when_they_are_fast_or_nobody_wants_it() {
    assert_eq!(slow(&["--slow-query", "1h"]), [] as [Value; 0]);
    assert_eq!(slow(&["--slow-query", "off"]), [] as [Value; 0]);
}
