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
