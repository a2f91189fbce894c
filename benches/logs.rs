//! What do a million log lines cost: CPU to take and to flush, bytes on disk, time to search?
//! `TRILITH_BENCH_LOGS` names a folder of real `*.txt` logs, whose digits are drawn anew; without
//! it the lines are made up. `TRILITH_BENCH_LINES` says how many.

use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use trilith::base::clock::SystemClock;
use trilith::base::counters::Counters;
use trilith::base::disk::RealDisk;
use trilith::base::limits::QueryBudget;
use trilith::model::batch::{LogsBatch, StreamBatch};
use trilith::model::labels::Labels;
use trilith::model::log::LogEntry;
use trilith::model::time::RangeNs;
use trilith::store::env::Env;
use trilith::store::logs::{LogsStore, Options};
use trilith::store::{AppendLogs as _, LineHints, LogColumns, SelectLogs as _};

struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit as u64) as usize
    }

    /// The line with half of its digits drawn anew.
    fn redraw(&mut self, line: &str) -> String {
        let draw = |c: char| {
            if c.is_ascii_digit() && self.below(2) == 0 { char::from(b'0' + self.below(10) as u8) } else { c }
        };
        line.chars().map(draw).collect()
    }
}

fn samples() -> Vec<(String, Vec<String>)> {
    let Ok(folder) = std::env::var("TRILITH_BENCH_LOGS") else {
        let made = |app: &str| {
            let line = |n: i32| {
                format!(
                    "ts=2026-05-02T12:17:{n:02}.606619951Z level=info app={app} msg=\"request {n} done\" id=54680f2e6c3a09c4"
                )
            };
            (app.to_owned(), (10..60).map(line).collect())
        };
        return ["shop", "cart", "mail"].into_iter().map(made).collect();
    };
    let files = std::fs::read_dir(folder).expect("TRILITH_BENCH_LOGS is a folder").flatten().map(|entry| entry.path());
    let mut files: Vec<_> = files.filter(|path| path.extension().is_some_and(|extension| extension == "txt")).collect();
    files.sort();
    let read = |path: &std::path::PathBuf| {
        let text = String::from_utf8_lossy(&std::fs::read(path).expect("a readable file")).into_owned();
        let app = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        (app, text.lines().filter(|line| !line.is_empty() && line.len() < 4096).map(str::to_owned).collect())
    };
    files.iter().map(read).collect()
}

fn batches(lines: usize) -> (Vec<LogsBatch>, usize) {
    let apps = samples();
    let mut random = Random(7);
    let (mut batches, mut made, mut bytes) = (Vec::new(), 0, 0);
    while made < lines {
        let host = random.below(20);
        let mut batch = LogsBatch::default();
        for _ in 0..4 {
            let Some((app, text)) = apps.get(random.below(apps.len())) else { continue };
            let host = format!("host-{host}");
            let labels = Labels::from_pairs([("app", app.as_str()), ("host", &host), ("namespace", "prod")]);
            let labels = labels.expect("labels");
            if batch.streams.iter().any(|stream| stream.labels == labels) {
                continue;
            }
            let base = random.below(text.len());
            let entry = |n: usize| {
                let mut line = random.redraw(&text[(base + n) % text.len()]);
                if random.below(1000) == 0 {
                    line.push_str(" err=\"connection refused\"");
                }
                bytes += line.len();
                let t = 1_700_000_000_000_000_000 + ((made + n) as i64) * 3_600_000 + n as i64;
                LogEntry { t, line, metadata: Labels::default() }
            };
            batch.streams.push(StreamBatch { labels, entries: (0..250).map(entry).collect() });
        }
        made += batch.streams.iter().map(|stream| stream.entries.len()).sum::<usize>();
        batches.push(batch);
    }
    (batches, bytes)
}

fn folder_bytes(path: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(path) else { return 0 };
    let bytes = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(meta) if meta.is_dir() => folder_bytes(&entry.path()),
        Ok(meta) => meta.len(),
        Err(_) => 0,
    };
    entries.flatten().map(bytes).sum()
}

/// CPU of this process so far, in seconds.
fn cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let mut fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11);
    let mut ticks = || fields.next().and_then(|field| field.parse::<f64>().ok()).unwrap_or(0.0);
    (ticks() + ticks()) / 100.0
}

fn main() {
    let lines = std::env::var("TRILITH_BENCH_LINES").ok().and_then(|text| text.parse().ok()).unwrap_or(1_000_000);
    let mut out = std::io::stdout();
    let mut say = |text: String| drop(writeln!(out, "{text}"));
    let (batches, raw) = batches(lines);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let env = Env::open(folder.path(), Arc::new(RealDisk), Arc::new(SystemClock), Counters::default(), Arc::default());
    let store = LogsStore::open(&env, Options::default()).expect("a store");
    let mut before = cpu();
    let mut step = |what: &str| {
        let now = cpu();
        let text = format!("{what}: {:.2} CPU s", now - before);
        before = now;
        text
    };
    for batch in &batches {
        store.append(batch).expect("an append");
    }
    let megabytes = |path: &str| folder_bytes(&folder.path().join(path)) as f64 / f64::from(1 << 20);
    say(format!(
        "raw {:.1} MiB; {}; log {:.1} MiB; head {:.1} MiB",
        raw as f64 / f64::from(1 << 20),
        step("append"),
        megabytes("wal"),
        store.lane().stats().head_bytes as f64 / f64::from(1 << 20)
    ));
    store.lane().flush().expect("a flush");
    say(format!("{}; parts {:.1} MiB", step("flush"), megabytes("logs")));
    store.settle_indexes();
    say(format!("{}; text {:.1} MiB", step("index"), megabytes("text")));
    for hint in ["quixotic failure", "f3a9", "zzqqxx", "connection refused", ""] {
        let started = Instant::now();
        let budget = QueryBudget::unlimited();
        let hints = LineHints { contains: if hint.is_empty() { Vec::new() } else { vec![hint.to_owned()] } };
        let chunks = store.chunks(&[], RangeNs::ALL, &hints, &budget).expect("chunks");
        let chosen = started.elapsed();
        let columns = LogColumns { lines: !hint.is_empty(), metadata: false };
        let rows: usize = chunks.iter().map(|chunk| chunk.read(columns, &budget).expect("rows").times.len()).sum();
        let (chosen, all) = (chosen.as_secs_f64() * 1e3, started.elapsed().as_secs_f64() * 1e3);
        say(format!("{hint:?}: {} chunks, {rows} rows; chosen in {chosen:.1} ms, read in {all:.1} ms", chunks.len()));
    }
}
