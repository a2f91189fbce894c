//! Blocks of the Prometheus TSDB: what Debian's promtool and Prometheus have written is imported value
//! for value, and what we export promtool makes blocks of. Skipped where the programs are missing, as
//! in agents.rs.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;
use trilith::wire::decompress::compress_snappy;
use trilith::wire::protobuf::{put_bytes, put_double, put_message, put_uint, zigzagged};

use super::agents::{self, Killed};
use super::crash::wait_ready;
use super::doors::try_ask;
use super::program::{Process, program};

const HOUR_MS: i64 = 3_600_000;
const STALE: f64 = f64::from_bits(0x7ff0_0000_0000_0002);

fn now_ms() -> i64 {
    chrono::Utc::now().timestamp_millis()
}

/// Series and their (milliseconds, bits of the value).
type Rows = BTreeMap<String, BTreeMap<i64, u64>>;

/// Values that an encoding could get wrong.
fn value(step: i64, seed: i64) -> f64 {
    match (step + seed) % 7 {
        0 => step as f64,
        1 => step as f64 * 0.1,
        2 => 1e300 / (step + 1) as f64,
        3 => -(step as f64).sqrt(),
        4 if step % 3 == 0 => f64::INFINITY,
        4 => 5e-324,
        _ => 42.0,
    }
}

/// Rows over half a day, irregular in time, of two series.
fn rows() -> Rows {
    let begin = now_ms() - 12 * HOUR_MS;
    let series = |seed: i64| {
        (0..2_400).map(move |step| (begin + step * 15_000 + step * step % 977 + seed, value(step, seed).to_bits()))
    };
    BTreeMap::from([
        ("blocks{job=\"a\"}".to_owned(), series(0).collect()),
        ("blocks{job=\"b \\\"quoted\\\"\"}".to_owned(), series(3).collect()),
    ])
}

fn openmetrics(rows: &Rows) -> String {
    let mut text = String::from("# TYPE blocks gauge\n");
    for (series, samples) in rows {
        for (t, bits) in samples {
            let value = f64::from_bits(*bits);
            let value = if value == f64::INFINITY { "+Inf".to_owned() } else { format!("{value:e}") };
            // Past the middle of the millisecond, for readers that cut.
            text += &format!("{series} {value} {}.{:03}3\n", t / 1000, t % 1000);
        }
    }
    text + "# EOF\n"
}

/// What OpenMetrics text holds.
fn parse(text: &str) -> Rows {
    let mut rows = Rows::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let mut fields = line.rsplitn(3, ' ');
        let t = (fields.next().unwrap().parse::<f64>().unwrap() * 1000.0).round() as i64;
        let bits = fields.next().unwrap().parse::<f64>().unwrap().to_bits();
        assert_eq!(rows.entry(fields.next().unwrap().to_owned()).or_default().insert(t, bits), None, "{line}");
    }
    rows
}

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {text}");
    text
}

fn import_tsdb(folder: &Path, main: SocketAddr) -> String {
    run(program().args(["import", "tsdb"]).arg(folder).args(["--url", &format!("http://{main}")]))
}

fn export(main: SocketAddr, file: &Path) -> String {
    run(program().arg("export").arg(file).args(["--url", &format!("http://{main}/")]));
    std::fs::read_to_string(file).unwrap()
}

#[test]
fn blocks_of_promtool_are_imported_and_our_export_makes_blocks() {
    let Some(promtool) = agents::program("promtool") else { return };
    let folder = tempfile::tempdir().unwrap();
    let (text, blocks) = (folder.path().join("in.om"), folder.path().join("blocks"));
    let rows = rows();
    std::fs::write(&text, openmetrics(&rows)).unwrap();
    run(Command::new(&promtool).args(["tsdb", "create-blocks-from", "openmetrics"]).args([&text, &blocks]));
    let server = Process::start(&folder.path().join("data"), &[]);
    wait_ready(server.main);
    let said = import_tsdb(&blocks, server.main);
    assert!(said.contains("sent 4800 samples, 4800 stored"), "{said}");
    // Again: kept once.
    import_tsdb(&blocks, server.main);
    let exported = folder.path().join("out.om");
    let text = export(server.main, &exported);
    assert!(parse(&text) == rows, "what was imported is not what promtool had");
    let again = folder.path().join("again");
    run(Command::new(&promtool).args(["tsdb", "create-blocks-from", "openmetrics"]).args([&exported, &again]));
    let second = Process::start(&folder.path().join("second"), &[]);
    wait_ready(second.main);
    import_tsdb(&again, second.main);
    assert!(parse(&export(second.main, &exported)) == rows, "promtool's blocks of our export hold something else");
    let text = run(program()
        .args(["import", "openmetrics"])
        .arg(&exported)
        .args(["--url", &format!("http://{}", second.main)]));
    assert!(text.contains("imported"), "{text}");
}

/// A `prometheus.Histogram` of integers, or of floats, that grows with `step`.
fn histogram(out: &mut Vec<u8>, t: i64, step: u64, floats: bool) {
    let counts = [2 + step, 3 + 2 * step, 1, 5 * step];
    let total: u64 = counts.iter().sum::<u64>() + step;
    if floats {
        put_double(out, 2, total as f64)
    } else {
        put_uint(out, 1, total)
    }
    put_double(out, 3, 1.5 * step as f64);
    put_uint(out, 4, zigzagged(3));
    put_double(out, 5, 2f64.powi(-10));
    if floats {
        put_double(out, 7, step as f64)
    } else {
        put_uint(out, 6, step)
    }
    for (number, own, offset) in [(8, &counts[..1], -2), (11, &counts[1..3], 4), (11, &counts[3..], 7)] {
        put_message(out, number, |out| {
            put_uint(out, 1, zigzagged(offset));
            put_uint(out, 2, own.len() as u64);
        });
    }
    let packed = |values: &[f64]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<_>>();
    let doubles = counts.map(|count| count as f64);
    if floats {
        put_bytes(out, 10, &packed(&doubles[..1]));
        put_bytes(out, 13, &packed(&doubles[1..]));
    } else {
        put_uint(out, 9, zigzagged(counts[0] as i64));
        let mut before = 0;
        for count in &counts[1..] {
            put_uint(out, 12, zigzagged(*count as i64 - before));
            before = *count as i64;
        }
    }
    put_uint(out, 15, t as u64);
}

/// Floats, a stale marker, integer and float histograms, each an hour long up to now.
fn write_request(begin: i64, steps: std::ops::Range<i64>) -> Vec<u8> {
    let mut body = Vec::new();
    let mut series = |name: &str, fill: &mut dyn FnMut(&mut Vec<u8>, i64, i64)| {
        put_message(&mut body, 1, |out| {
            for (name, value) in [("__name__", name), ("instance", "localhost:1")] {
                put_message(out, 1, |out| {
                    put_bytes(out, 1, name.as_bytes());
                    put_bytes(out, 2, value.as_bytes());
                });
            }
            steps.clone().for_each(|step| fill(out, step, begin + step * 15_000 + step % 5));
        });
    };
    series("floats", &mut |out, step, t| {
        put_message(out, 2, |out| {
            put_double(out, 1, if step % 50 == 49 { STALE } else { value(step, 1) });
            put_uint(out, 2, t as u64);
        });
    });
    for (name, floats) in [("integers", false), ("fractions", true)] {
        series(name, &mut |out, step, t| {
            // Every now and then it begins anew.
            put_message(out, 4, |out| histogram(out, t, (step % 70) as u64, floats));
        });
    }
    compress_snappy(&body).unwrap()
}

fn json(address: SocketAddr, path: &str) -> Value {
    let answer = try_ask(address, "GET", path, "", b"").expect("an answer");
    assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    serde_json::from_slice(&answer.body).unwrap()
}

/// All samples of a metric, as the API shows them.
fn samples(address: SocketAddr, query: &str) -> Vec<Value> {
    let found = json(address, &format!("/api/v1/query?query={}", agents::encode(query)));
    let mut rows = found["data"]["result"].as_array().unwrap().clone();
    rows.sort_by_key(|row| row["metric"].to_string());
    rows
}

/// The same with the bounds of buckets rounded: their last digit differs from release to release.
fn rounded(value: &Value) -> Value {
    match value {
        Value::Array(all) => match &all[..] {
            [side @ Value::Number(_), from @ Value::String(_), to @ Value::String(_), count] => {
                let round = |bound: &Value| format!("{:.12e}", bound.as_str().unwrap().parse::<f64>().unwrap());
                serde_json::json!([side, round(from), round(to), count])
            }
            _ => all.iter().map(rounded).collect(),
        },
        Value::Object(all) => all.iter().map(|(key, value)| (key.clone(), rounded(value))).collect(),
        other => other.clone(),
    }
}

#[test]
fn blocks_of_a_prometheus_are_imported_value_for_value_without_what_was_deleted() {
    let (Some(promtool), Some(prometheus)) = (agents::program("promtool"), agents::program("prometheus")) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let (text, data) = (folder.path().join("in.om"), folder.path().join("prometheus"));
    let rows = rows();
    std::fs::write(&text, openmetrics(&rows)).unwrap();
    run(Command::new(promtool).args(["tsdb", "create-blocks-from", "openmetrics"]).args([&text, &data]));
    let config = folder.path().join("prometheus.yml");
    std::fs::write(&config, "global: {}\n").unwrap();
    let theirs: SocketAddr = format!("127.0.0.1:{}", agents::free_port()).parse().unwrap();
    let mut command = Command::new(prometheus);
    command.arg(format!("--config.file={}", config.display())).arg(format!("--storage.tsdb.path={}", data.display()));
    command
        .arg(format!("--web.listen-address={theirs}"))
        .args(["--web.enable-admin-api", "--web.enable-remote-write-receiver"]);
    command.args(["--enable-feature=native-histograms", "--log.level=error"]);
    let _running = Killed(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    wait_ready(theirs);
    let begin = now_ms() - 240 * 15_000;
    let headers = "Content-Type: application/x-protobuf\r\nContent-Encoding: snappy\r\nX-Prometheus-Remote-Write-Version: 0.1.0\r\n";
    for first in (0..240).step_by(60) {
        let answer =
            try_ask(theirs, "POST", "/api/v1/write", headers, &write_request(begin, first..first + 60)).unwrap();
        assert_eq!(answer.status, 204, "{}", answer.text());
    }
    let (first, last) = (now_ms() / 1000 - 9 * 3600, now_ms() / 1000 - 8 * 3600);
    let selector = agents::encode("blocks{job=\"a\"}");
    let delete = format!("/api/v1/admin/tsdb/delete_series?match%5B%5D={selector}&start={first}&end={last}");
    assert_eq!(try_ask(theirs, "POST", &delete, "", b"").unwrap().status, 204);
    let answer = try_ask(theirs, "POST", "/api/v1/admin/tsdb/snapshot", "", b"").unwrap();
    let answer: Value = serde_json::from_slice(&answer.body).unwrap();
    let snapshot = data.join("snapshots").join(answer["data"]["name"].as_str().unwrap());
    let server = Process::start(&folder.path().join("data"), &[]);
    wait_ready(server.main);
    import_tsdb(&snapshot, server.main);
    for query in
        ["floats[2h]", "integers[2h]", "fractions[2h]", "blocks[20h]", "rate(integers[1h])", "rate(fractions[1h])"]
    {
        let (ours, theirs) = (samples(server.main, query), samples(theirs, query));
        assert!(!theirs.is_empty(), "{query} finds nothing in Prometheus");
        if query.starts_with("rate") {
            let count = |rows: &[Value]| rows[0]["histogram"][1]["count"].as_str().unwrap().parse::<f64>().unwrap();
            let (ours, theirs) = (count(&ours), count(&theirs));
            assert!((ours - theirs).abs() < 1e-9 * theirs, "{query}: {ours}, not {theirs}");
        } else {
            let (ours, theirs) = (ours.iter().map(rounded), theirs.iter().map(rounded));
            assert!(ours.eq(theirs), "{query} does not answer as Prometheus does");
        }
    }
    let left = parse(&export(server.main, &folder.path().join("out.om")));
    let deleted = rows["blocks{job=\"a\"}"].keys().filter(|t| (first * 1000..=last * 1000).contains(t)).count();
    assert!(deleted > 200);
    assert_eq!(left["blocks{job=\"a\"}"].len(), 2_400 - deleted);
}
