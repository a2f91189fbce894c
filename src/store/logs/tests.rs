//! Tests of the log store as a whole: whatever is appended, flushed, reopened or damaged, answers
//! are those of a plain vector, or less, never false. Packs and windows are small in tests.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::*;
use crate::base::counters::Counters;
use crate::base::disk::RealDisk;
use crate::base::limits::QueryBudget;
use crate::base::memory::MemoryBudget;
use crate::base::support::ManualClock;
use crate::model::labels::Labels;
use crate::model::log::LogEntry;
use crate::model::matcher::{MatchOp, Matcher};
use crate::model::time::RangeNs;
use crate::store::account::Account;
use crate::store::waist::{LineHints, LogColumns, SelectLogs};

const ALL: LogColumns = LogColumns { lines: true, metadata: true };

fn env(dir: &Path) -> Env {
    Env::open(
        dir,
        Arc::new(RealDisk),
        Arc::new(ManualClock::at_ns(20_000 * kind::DAY_NS)),
        Counters::default(),
        Arc::default(),
    )
}

fn open_with(dir: &Path, options: Options) -> LogsStore {
    LogsStore::open(&env(dir), options).unwrap()
}

fn open(dir: &Path) -> LogsStore {
    open_with(dir, Options { text_bytes_min: 0, ..Options::default() })
}

fn stream(name: &str) -> Labels {
    Labels::from_pairs([("app", name), ("job", "tests")]).unwrap()
}

fn entry(t: i64, line: &str, metadata: &str) -> LogEntry {
    LogEntry { t, line: line.to_owned(), metadata: Labels::default().with("n", metadata) }
}

fn append(store: &LogsStore, labels: &Labels, entries: Vec<LogEntry>) -> Appended {
    store.append(&LogsBatch { streams: vec![StreamBatch { labels: labels.clone(), entries }] }).unwrap()
}

/// Everything that a select gives, by stream, checking what chunks promise on the way.
fn select(store: &LogsStore, range: RangeNs, hints: &[&str], columns: LogColumns) -> Vec<(Labels, Vec<LogEntry>)> {
    let budget = QueryBudget::unlimited();
    let hints = LineHints { contains: hints.iter().map(|hint| (*hint).to_owned()).collect() };
    let mut chunks = store.chunks(&[], range, &hints, &budget).unwrap();
    chunks.sort_by(|a, b| (a.labels(), a.span()).cmp(&(b.labels(), b.span())));
    let mut found: Vec<(Labels, Vec<LogEntry>)> = Vec::new();
    let mut last = None;
    for chunk in chunks {
        let (min, max) = chunk.span();
        assert!(last.is_none_or(|(labels, end)| labels != *chunk.labels() || end < min), "chunks overlap");
        last = Some((chunk.labels().clone(), max));
        let rows = chunk.read(columns, &budget).unwrap();
        assert!(rows.times.iter().all(|t| *t >= min && *t <= max && range.contains(*t)));
        assert_eq!(rows.line_bytes.len(), rows.times.len());
        let entries = rows.times.iter().enumerate().map(|(row, t)| LogEntry {
            t: *t,
            line: if columns.lines { rows.lines.get(row).to_owned() } else { rows.line_bytes[row].to_string() },
            metadata: if columns.metadata { rows.metadata[row].clone() } else { Labels::default() },
        });
        match found.last_mut() {
            Some((labels, list)) if labels == chunk.labels() => list.extend(entries),
            _ => found.push((chunk.labels().clone(), entries.collect())),
        }
    }
    found.retain(|(_, entries)| !entries.is_empty());
    found
}

fn all(store: &LogsStore) -> Vec<(Labels, Vec<LogEntry>)> {
    select(store, RangeNs::ALL, &[], ALL)
}

/// The plain vector.
#[derive(Default)]
struct Plain(Vec<(Labels, LogEntry)>);

impl Plain {
    fn append(&mut self, labels: &Labels, entries: &[LogEntry]) {
        for entry in entries {
            if !self.0.iter().any(|(own, kept)| (own, kept) == (labels, entry)) {
                self.0.push((labels.clone(), entry.clone()));
            }
        }
    }

    fn select(&self, range: RangeNs, map: impl Fn(&LogEntry) -> Option<LogEntry>) -> Vec<(Labels, Vec<LogEntry>)> {
        let mut by_stream = std::collections::BTreeMap::<Labels, Vec<LogEntry>>::new();
        for (labels, entry) in self.0.iter().filter(|(_, entry)| range.contains(entry.t)) {
            by_stream.entry(labels.clone()).or_default().extend(map(entry));
        }
        by_stream.values_mut().for_each(|entries| entries.sort_by_key(|entry| entry.t));
        by_stream.into_iter().filter(|(_, entries)| !entries.is_empty()).collect()
    }
}

struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }

    fn entries(&mut self, near: i64) -> Vec<LogEntry> {
        let long = self.below(4) == 0;
        let count = self.below(30);
        (0..count)
            .map(|_| {
                let t = match self.below(20) {
                    0 => self.below(u64::MAX) as i64,
                    1 => near - 3 * kind::DAY_NS + self.below(5) as i64,
                    _ => near + self.below(40) as i64,
                };
                let words = ["alpha", "beta=7", "gämma", "", "id-4711 delta"];
                let mut line = words[self.below(5) as usize].repeat(self.below(3) as usize);
                if long {
                    line += &format!(" {:x}", self.below(u64::MAX)).repeat(20);
                }
                entry(t, &line, ["", "", "1", "2"][self.below(4) as usize])
            })
            .collect()
    }
}

#[test]
fn any_sequence_of_appends_flushes_and_reopens_answers_as_a_plain_vector_would() {
    for seed in 1..=12 {
        let dir = tempfile::tempdir().unwrap();
        let mut random = Random(0x9E37_79B9_7F4A_7C15 ^ (seed << 32));
        let (mut store, mut plain) = (open_with(dir.path(), Options::default()), Plain::default());
        for step in 0..40i64 {
            match random.below(8) {
                0 => store.lane().flush().unwrap(),
                1 => {
                    drop(store);
                    store = open_with(dir.path(), Options::default());
                }
                _ => {
                    let labels = stream(["a", "b", "c"][random.below(3) as usize]);
                    let near = 20_000 * kind::DAY_NS + step * 7;
                    let entries = random.entries(near);
                    plain.append(&labels, &entries);
                    append(&store, &labels, entries);
                }
            }
            if step % 5 == 4 {
                let start = 20_000 * kind::DAY_NS + random.below(300) as i64;
                for range in [RangeNs::ALL, RangeNs { start, end: start + 50 }] {
                    let expected = plain.select(range, |entry| Some(entry.clone()));
                    assert_eq!(select(&store, range, &[], ALL), expected, "seed {seed} step {step}");
                    let bare = plain.select(range, |entry| Some(self::entry(entry.t, &entry.line, "")));
                    let lines = LogColumns { lines: true, metadata: false };
                    assert_eq!(select(&store, range, &[], lines), bare, "seed {seed} step {step}");
                    let counted = |entry: &LogEntry| Some(self::entry(entry.t, &entry.line.len().to_string(), ""));
                    let counts = plain.select(range, counted);
                    assert_eq!(select(&store, range, &[], LogColumns::default()), counts, "seed {seed} step {step}");
                }
            }
        }
        let budget = QueryBudget::unlimited();
        let labels: Vec<Labels> = all(&store).into_iter().map(|(labels, _)| labels).collect();
        assert_eq!(store.series(&[], RangeNs::ALL, &budget).unwrap(), labels);
        let apps: Vec<&str> = labels.iter().map(|labels| labels.value("app")).collect();
        assert_eq!(store.label_values("app", &[], RangeNs::ALL, &budget).unwrap(), apps);
        assert_eq!(store.label_names(&[], RangeNs::ALL, &budget).unwrap(), ["app", "job"]);
    }
}

fn lines_with<'a>(found: &'a [(Labels, Vec<LogEntry>)], literal: &str) -> Vec<&'a LogEntry> {
    found.iter().flat_map(|(_, entries)| entries).filter(|entry| entry.line.contains(literal)).collect()
}

fn filled(dir: &Path) -> LogsStore {
    let store = open(dir);
    for round in 0..60 {
        for app in ["a", "b"] {
            let line = |n: i64| format!("round={round} n={n} user=u{} path=/v1/{app}/{}", round * 100 + n, n % 7);
            let entries = (0..40).map(|n| entry(round * 100 + n, &line(n), "")).collect();
            append(&store, &stream(app), entries);
        }
    }
    append(&store, &stream("needle"), vec![entry(3050, "quixotic failure code=7f3a9c", "")]);
    store
}

const LITERALS: [&str; 8] = ["user=u1234 ", "u123", "quixotic failure", "7f3a", "absent", " path=/v1/a/3", "=", "ixo"];

#[test]
fn hints_never_change_what_lines_are_found_and_leave_out_blocks() {
    let dir = tempfile::tempdir().unwrap();
    let store = filled(dir.path());
    store.lane().flush().unwrap();
    store.settle_indexes();
    let found = all(&store);
    for literal in LITERALS {
        let hinted = select(&store, RangeNs::ALL, &[literal], ALL);
        assert_eq!(lines_with(&hinted, literal), lines_with(&found, literal), "{literal}");
    }
    let chunks = |hint: &str| {
        let hints = LineHints { contains: vec![hint.to_owned()] };
        store.chunks(&[], RangeNs::ALL, &hints, &QueryBudget::unlimited()).unwrap().len()
    };
    assert!(chunks("=") > 10);
    // The needle's pack also holds a run of another stream.
    assert_eq!((chunks("quixotic failure"), chunks("f3a9"), chunks("absent")), (2, 2, 0));
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

#[test]
fn a_missing_or_damaged_text_index_is_built_anew_and_changes_no_answer() {
    let dir = tempfile::tempdir().unwrap();
    let store = filled(dir.path());
    store.lane().flush().unwrap();
    store.settle_indexes();
    let found = all(&store);
    drop(store);
    let text = dir.path().join("text");
    let good = files(&text);
    assert!(good.len() > 3);
    for file in good {
        let Ok(bytes) = fs::read(&file) else { continue };
        if bytes.is_empty() {
            continue;
        }
        let mut bad = bytes.clone();
        bad[bytes.len() / 2] ^= 4;
        fs::write(&file, &bad).unwrap();
        let store = open(dir.path());
        store.settle_indexes();
        for literal in LITERALS {
            let hinted = select(&store, RangeNs::ALL, &[literal], ALL);
            assert_eq!(lines_with(&hinted, literal), lines_with(&found, literal), "{file:?} {literal}");
        }
        assert!(store.lane.view().parts.iter().all(|part| part.0.text.is_ready()), "{file:?}");
    }
    fs::remove_dir_all(&text).unwrap();
    let store = open(dir.path());
    store.settle_indexes();
    assert!(store.lane.view().parts.iter().all(|part| part.0.text.is_ready()));
}

#[test]
fn an_index_left_by_another_part_is_not_believed() {
    let dir = tempfile::tempdir().unwrap();
    let store = filled(dir.path());
    store.lane().flush().unwrap();
    store.settle_indexes();
    drop(store);
    let kept = dir.path().join("kept");
    fs::rename(dir.path().join("text"), &kept).unwrap();
    for folder in ["logs", "wal", "catalog"] {
        fs::remove_dir_all(dir.path().join(folder)).unwrap();
    }
    let store = open(dir.path());
    append(&store, &stream("other"), vec![entry(5, "nothing of the kind", "")]);
    store.lane().flush().unwrap();
    store.settle_indexes();
    drop(store);
    fs::remove_dir_all(dir.path().join("text")).unwrap();
    fs::rename(&kept, dir.path().join("text")).unwrap();
    let store = open(dir.path());
    store.settle_indexes();
    assert_eq!(select(&store, RangeNs::ALL, &["of the kind"], ALL).len(), 1);
}

#[test]
fn a_crash_without_a_flush_keeps_every_line_once() {
    let dir = tempfile::tempdir().unwrap();
    let store = filled(dir.path());
    let expected = all(&store);
    assert_eq!(expected.iter().map(|(_, entries)| entries.len()).sum::<usize>(), 4801);
    // What a crash between the parts' rename and the log's removal leaves: both.
    let wal = dir.path().join("wal/logs");
    let kept: Vec<(PathBuf, Vec<u8>)> =
        files(&wal).into_iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect();
    drop(store);
    let store = open(dir.path());
    assert_eq!(all(&store), expected);
    store.lane().flush().unwrap();
    drop(store);
    assert_eq!(all(&open(dir.path())), expected);
    for (path, bytes) in kept {
        fs::write(path, bytes).unwrap();
    }
    assert_eq!(all(&open(dir.path())), expected);
}

/// Checks that what is found is part of what there was, and says how much of it.
fn check_subset(found: &[(Labels, Vec<LogEntry>)], there: &[(Labels, Vec<LogEntry>)], what: &str) -> usize {
    let mut count = 0;
    for (labels, entries) in found {
        let (_, own) = there.iter().find(|(own, _)| own == labels).unwrap_or_else(|| panic!("{what}: {labels}"));
        for entry in entries {
            let known = own.iter().any(|kept| (kept.t, &kept.line) == (entry.t, &entry.line));
            assert!(known, "{what}: false line {entry:?}");
            count += 1;
        }
    }
    count
}

#[test]
fn a_flipped_byte_anywhere_costs_little_and_gives_no_false_line() {
    let dir = tempfile::tempdir().unwrap();
    let store = open_with(dir.path(), Options::default());
    for round in 0..12 {
        let line = |n: i64| format!("round={round} n={n} {:x}", (round * 100 + n).wrapping_mul(0x1E37_79B9_7F4A_7C15));
        let entries = (0..80).map(|n| entry(round * 100 + n, &line(n), if n % 9 == 0 { "x" } else { "" })).collect();
        append(&store, &stream(if round % 3 == 0 { "a" } else { "b" }), entries);
    }
    let there = all(&store);
    drop(store);
    let total = there.iter().map(|(_, entries)| entries.len()).sum::<usize>();
    let flip_all = |folder: &str, least: usize| {
        for file in files(&dir.path().join(folder)) {
            let good = fs::read(&file).unwrap();
            for at in (0..good.len()).step_by((good.len() / 60).max(1)) {
                let mut bad = good.clone();
                bad[at] ^= 0x10;
                fs::write(&file, &bad).unwrap();
                let copy = tempfile::tempdir().unwrap();
                copy_tree(dir.path(), copy.path());
                let what = format!("{file:?} byte {at}");
                let found = all(&open_with(copy.path(), Options::default()));
                assert!(check_subset(&found, &there, &what) >= least, "{what}");
            }
            fs::write(&file, &good).unwrap();
        }
    };
    flip_all("wal/logs", total - 80);
    let store = open_with(dir.path(), Options::default());
    store.lane().flush().unwrap();
    let packs = store.lane.view().parts[0].0.packs.len();
    drop(store);
    assert!(packs > 2, "{packs}");
    flip_all("logs", total / 4);
}

fn copy_tree(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy_tree(&path, &target);
        } else {
            fs::copy(&path, &target).unwrap();
        }
    }
}

#[test]
fn packs_are_found_without_their_index_frames() {
    let dir = tempfile::tempdir().unwrap();
    let store = open_with(dir.path(), Options::default());
    for app in ["a", "b", "c"] {
        let entries =
            (0..300).map(|n| entry(n, &format!("{app} line {n} {}", n * n), if n % 2 == 0 { app } else { "" }));
        append(&store, &stream(app), entries.collect());
    }
    let there = all(&store);
    store.lane().flush().unwrap();
    let (path, frames) = {
        let part = &store.lane.view().parts[0].0;
        (part.reader().path().to_owned(), part.reader().frames().to_vec())
    };
    drop(store);
    let mut bytes = fs::read(&path).unwrap();
    let index: Vec<_> = frames.iter().filter(|frame| frame.kind == pack::INDEX).collect();
    assert!(index.len() > 1);
    index.iter().for_each(|frame| bytes[frame.offset as usize + 21] ^= 1);
    fs::write(&path, &bytes).unwrap();
    assert_eq!(all(&open_with(dir.path(), Options::default())), there);
}

#[test]
fn matchers_choose_streams_and_stats_count_without_reading_lines() {
    let dir = tempfile::tempdir().unwrap();
    let store = filled(dir.path());
    let budget = QueryBudget::unlimited();
    let a = [Matcher::new("app", MatchOp::Regex, "a|x").unwrap()];
    for _ in 0..2 {
        let stats = store.stats(&a, RangeNs::ALL, &budget).unwrap();
        let (labels, sum) = &stats[0];
        assert_eq!((stats.len(), labels, sum.streams, sum.entries), (1, &stream("a"), 1, 2400));
        let half = store.stats(&a, RangeNs { start: 0, end: 3000 }, &budget).unwrap()[0].1;
        assert!(half.entries > 1100 && half.entries < 1300, "{half:?}");
        assert_eq!(store.series(&a, RangeNs { start: 0, end: 1 }, &budget).unwrap(), [stream("a")]);
        assert!(store.series(&a, RangeNs { start: 7000, end: 8000 }, &budget).unwrap().is_empty());
        assert_eq!(store.label_values("app", &a, RangeNs::ALL, &budget).unwrap(), ["a"]);
        assert_eq!(store.label_names(&a, RangeNs::ALL, &budget).unwrap(), ["app", "job"]);
        store.lane().flush().unwrap();
    }
}

#[test]
fn what_is_too_long_or_too_much_is_refused_by_name_and_the_rest_is_taken() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { streams_max: 2, line_bytes_max: 10, metadata_bytes_max: 20, ..Options::default() };
    let store = open_with(dir.path(), options);
    let entries = vec![entry(1, "short", ""), entry(2, "much too long", ""), entry(3, "ok", &"x".repeat(30))];
    let appended = append(&store, &stream("a"), entries);
    assert_eq!(appended.accepted, 1);
    let reasons: Vec<_> = appended.rejected.iter().map(|(reason, rejected)| (reason, rejected.count)).collect();
    assert_eq!(reasons, [("line_too_long", 1), ("metadata_too_long", 1)]);
    append(&store, &stream("b"), vec![entry(1, "x", "")]);
    let appended = append(&store, &stream("c"), vec![entry(1, "x", ""), entry(2, "y", "")]);
    assert_eq!(
        appended.rejected.iter().map(|(reason, rejected)| (reason, rejected.count)).next(),
        Some(("stream_limit", 2))
    );
    assert_eq!(append(&store, &stream("a"), vec![entry(4, "more", "")]).accepted, 1);
    assert_eq!(all(&store).len(), 2);
}

#[test]
fn a_part_that_goes_takes_its_text_index_along() {
    let dir = tempfile::tempdir().unwrap();
    let store = filled(dir.path());
    store.lane().flush().unwrap();
    store.settle_indexes();
    assert!(!files(&dir.path().join("text")).is_empty());
    assert_eq!(store.lane().remove_before(i64::MAX).map(|removed| removed.parts), Some(1));
    assert!(files(&dir.path().join("text")).is_empty());
    assert!(all(&store).is_empty());
}

#[test]
fn a_query_over_its_memory_ends_with_an_error_and_gives_back_what_it_took() {
    let dir = tempfile::tempdir().unwrap();
    let store = filled(dir.path());
    store.lane().flush().unwrap();
    let budget = QueryBudget::new(std::time::Duration::from_secs(60), 40 << 10, u64::MAX);
    let chunks = store.chunks(&[], RangeNs::ALL, &LineHints::default(), &budget).unwrap();
    for _ in 0..20 {
        chunks.iter().for_each(|chunk| drop(chunk.read(ALL, &budget).unwrap()));
    }
    let tight = QueryBudget::new(std::time::Duration::from_secs(60), 1 << 10, u64::MAX);
    assert!(chunks.iter().any(|chunk| chunk.read(ALL, &tight).is_err()));
    budget.cancel();
    assert!(chunks[0].read(ALL, &budget).is_err());
}

#[test]
fn appends_flushes_and_selects_at_the_same_time_lose_and_double_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = open_with(dir.path(), Options::default());
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..3)
            .map(|writer| {
                let store = &store;
                scope.spawn(move || {
                    for n in 0..150 {
                        let line = format!("writer={writer} n={n} {}", "x".repeat(40));
                        append(store, &stream("shared"), vec![entry(n, &line, ""), entry(n, &line, "")]);
                    }
                })
            })
            .collect();
        let mut seen = 0;
        while !writers.iter().all(std::thread::ScopedJoinHandle::is_finished) {
            store.lane().flush().unwrap();
            let found = all(&store).iter().map(|(_, entries)| entries.len()).sum::<usize>();
            assert!((seen..=450).contains(&found), "{found} after {seen}");
            seen = found;
        }
    });
    let found = all(&store);
    assert_eq!(found.iter().map(|(_, entries)| entries.len()).sum::<usize>(), 450);
    drop(store);
    assert_eq!(all(&open_with(dir.path(), Options::default())), found);
}

/// Lines of hexadecimal digits, which hardly compress.
fn noise(lines: i64) -> Vec<LogEntry> {
    let mut state = 7u64;
    let mut word = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        format!("{state:016x}")
    };
    (0..lines).map(|t| entry(t, &(0..10).map(|_| word()).collect::<String>(), "")).collect()
}

#[test]
fn heads_are_charged_and_flushed_earlier_while_others_want_the_memory() {
    let dir = tempfile::tempdir().unwrap();
    let whole = MemoryBudget::new(16 << 20);
    let env = Env { account: Account::new(&whole), ..env(dir.path()) };
    let heads = env.account.heads(crate::model::batch::Signal::Logs).clone();
    let lane = LaneOptions { head_bytes_max: 1 << 20, ..LaneOptions::default() };
    let store = LogsStore::open(&env, Options { lane, ..Options::default() }).unwrap();
    append(&store, &stream("noise"), noise(4_000));
    let charged = heads.used();
    assert!((350_000..1 << 20).contains(&charged), "{charged}");
    store.lane().flush_if_due(u64::MAX).unwrap();
    assert_eq!(store.lane().stats().parts, 0, "a head of a third of its bytes waits");
    let held = whole.hold(usize::try_from(whole.room() / 10 * 9).unwrap()).unwrap();
    store.lane().flush_if_due(u64::MAX).unwrap();
    assert_eq!(store.lane().stats().parts, 1, "but not while others want the memory");
    assert!(heads.used() < charged / 10, "{}", heads.used());
    assert!(env.account.parts.used() > 0);
    drop((held, store, env));
    drop(heads);
    assert_eq!(whole.used(), 0, "nothing stays charged");
}

#[test]
fn a_text_index_is_built_when_there_is_memory_for_it_and_not_before() {
    let dir = tempfile::tempdir().unwrap();
    let whole = MemoryBudget::new(128 << 20);
    let env = Env { account: Account::new(&whole), ..env(dir.path()) };
    let indexes = env.account.indexes.clone();
    let held = indexes.hold(usize::try_from(indexes.limit()).unwrap()).unwrap();
    let store = LogsStore::open(&env, Options { text_bytes_min: 0, ..Options::default() }).unwrap();
    append(&store, &stream("few"), vec![entry(1, "quixotic", "")]);
    store.lane().flush().unwrap();
    let refused = || whole.report().iter().find(|own| own.name == "text_indexes").map_or(0, |own| own.refused);
    while refused() == 0 {
        std::thread::yield_now();
    }
    assert!(!store.lane.view().parts[0].0.text.is_ready());
    assert_eq!(select(&store, RangeNs::ALL, &["quixotic"], ALL).len(), 1, "without it every block is read");
    drop(held);
    store.settle_indexes();
    assert!(store.lane.view().parts[0].0.text.is_ready());
    assert_eq!(indexes.used(), 0);
}
