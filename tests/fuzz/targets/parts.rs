//! Parts and logs of all signals whose frames and records are changed behind their checksums: a store opens with
//! them, answers or says what is damaged, flushes and merges.
#![no_main]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use trilith::base::clock::SystemClock;
use trilith::base::counters::Counters;
use trilith::base::disk::RealDisk;
use trilith::base::limits::QueryBudget;
use trilith::base::memory::MemoryBudget;
use trilith::model::time::{RangeMs, RangeNs};
use trilith::store::env::Progress;
use trilith::store::part::fuzzed;
use trilith::store::series_set;
use trilith::store::stores::{Retention, Store, StoreOptions};
use trilith::store::wal::{self, WalOptions};
use trilith::store::{LineHints, LogColumns, SelectLogs as _, SelectTraces as _, WantedAttrs};
use trilith_fuzz::EDIT_BYTES;

const PARTS: [(&str, &[u8]); 3] = [
    ("metrics", include_bytes!("../../fixtures/store-v2/metrics/0000000000000001-0000.part")),
    ("logs", include_bytes!("../../fixtures/store-v2/logs/0000000000000001-0000.part")),
    ("traces", include_bytes!("../../fixtures/store-v2/traces/0000000000000001-0000.part")),
];

const LOGS: [(&str, &[u8]); 3] = [
    ("metrics", include_bytes!("../../fixtures/store-v2/wal/metrics/0000000000000002.wal")),
    ("logs", include_bytes!("../../fixtures/store-v2/wal/logs/0000000000000002.wal")),
    ("traces", include_bytes!("../../fixtures/store-v2/wal/traces/0000000000000002.wal")),
];

/// In memory where the machine has such a place: a run makes some twenty files.
fn folder() -> PathBuf {
    let shm = Path::new("/dev/shm");
    let base = if shm.is_dir() { shm.to_owned() } else { std::env::temp_dir() };
    base.join(format!("trilith-fuzz-parts-{}", std::process::id()))
}

/// A segment with records changed as `edits` say, each a record and a change, and their checksums mended.
fn segment(good: &[u8], edits: &[u8]) -> Vec<u8> {
    let mut records = Vec::new();
    wal::replay(good, |record| records.push(record.to_vec()));
    for [which, edit @ ..] in edits.as_chunks::<{ 1 + EDIT_BYTES }>().0 {
        let at = usize::from(*which) % records.len();
        trilith_fuzz::edit(&mut records[at], *edit);
    }
    let mut out = b"TRILWAL\x01".to_vec();
    for record in records {
        let length = u32::try_from(record.len()).expect("a short record").to_le_bytes();
        out.extend_from_slice(b"\xF7TLW");
        out.extend_from_slice(&length);
        out.extend_from_slice(&crc32c::crc32c_append(crc32c::crc32c(&length), &record).to_le_bytes());
        out.extend_from_slice(&record);
    }
    out
}

fn fill(dir: &Path, which: usize, edits: &[u8]) {
    let put = |folder: PathBuf, name: &str, bytes: &[u8]| {
        fs::create_dir_all(&folder).expect("a folder");
        fs::write(folder.join(name), bytes).expect("a file");
    };
    put(dir.to_owned(), "FORMAT", include_bytes!("../../fixtures/store-v2/FORMAT"));
    if let Some((signal, part)) = PARTS.get(which) {
        put(dir.join(signal), "0000000000000001-0000.part", part);
        put(dir.join(signal), "0000000000000002-0000.part", part);
        fuzzed::set(edits);
    } else {
        let (signal, log) = LOGS[which % LOGS.len()];
        put(dir.join("wal").join(signal), "0000000000000002.wal", &segment(log, edits));
    }
}

fn read_all(store: &Store) {
    let budget = QueryBudget::new(std::time::Duration::from_secs(5), 256 << 20, 10_000_000);
    let _ = series_set::select(&*store.metrics, &[], RangeMs::ALL, &budget);
    let columns = LogColumns { lines: true, metadata: true };
    for chunk in store.logs.chunks(&[], RangeNs::ALL, &LineHints::default(), &budget).into_iter().flatten() {
        let _ = chunk.read(columns, &budget);
    }
    let _ = store.logs.stats(&[], RangeNs::ALL, &budget);
    for block in store.traces.blocks(RangeNs::ALL, &[], &budget).into_iter().flatten() {
        for span in block.read(&WantedAttrs::All, &budget).into_iter().flatten().take(2) {
            let _ = store.traces.trace(span.trace_id, &budget);
        }
    }
    for (scope, name) in store.traces.tag_names(RangeNs::ALL, &budget).into_iter().flatten() {
        let _ = store.traces.tag_values(&[scope], &name, RangeNs::ALL, 100, &budget);
    }
}

fuzz_target!(|bytes: &[u8]| {
    let Some((which, edits)) = bytes.split_first() else { return };
    let dir = folder();
    let _ = fs::remove_dir_all(&dir);
    let which = usize::from(*which) % (PARTS.len() + LOGS.len());
    fill(&dir, which, edits);
    let options = StoreOptions {
        dir: dir.clone(),
        disk: Arc::new(RealDisk),
        clock: Arc::new(SystemClock),
        counters: Counters::default(),
        progress: Arc::new(Progress::default()),
        memory: MemoryBudget::new(1 << 30),
        disk_max: None,
        retention: Retention { metrics: None, logs: None, traces: None },
        rules: Vec::new(),
        wal: WalOptions::default(),
        background: false,
        metrics: Default::default(),
        logs: Default::default(),
        traces: Default::default(),
    };
    let store = Store::open(options);
    assert!(store.is_ok() || !edits.is_empty(), "what is not damaged opens");
    if let Ok(store) = store {
        read_all(&store);
        let _ = if which < PARTS.len() { store.merge().map(drop) } else { store.flush() };
        read_all(&store);
    }
    fuzzed::set(&[]);
    let _ = fs::remove_dir_all(&dir);
});
