//! Parts of all signals whose frames are changed behind their checksums: a store opens with them, answers or says
//! what is damaged, and merges.
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
use trilith::store::wal::WalOptions;
use trilith::store::{LineHints, LogColumns, SelectLogs as _, SelectTraces as _};

const PARTS: [(&str, &[u8]); 3] = [
    ("metrics", include_bytes!("../../fixtures/store-v2/metrics/0000000000000001-0000.part")),
    ("logs", include_bytes!("../../fixtures/store-v2/logs/0000000000000001-0000.part")),
    ("traces", include_bytes!("../../fixtures/store-v2/traces/0000000000000001-0000.part")),
];

/// In memory where the machine has such a place: a run makes some twenty files.
fn folder() -> PathBuf {
    let shm = Path::new("/dev/shm");
    let base = if shm.is_dir() { shm.to_owned() } else { std::env::temp_dir() };
    base.join(format!("trilith-fuzz-parts-{}", std::process::id()))
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
        for span in block.read(&budget).into_iter().flatten().take(2) {
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
    let (signal, part) = PARTS[usize::from(*which) % PARTS.len()];
    fs::create_dir_all(dir.join(signal)).expect("a folder");
    fs::write(dir.join("FORMAT"), include_bytes!("../../fixtures/store-v2/FORMAT")).expect("a format");
    for name in ["0000000000000001-0000.part", "0000000000000002-0000.part"] {
        fs::write(dir.join(signal).join(name), part).expect("a part");
    }
    fuzzed::set(edits);
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
    if let Ok(store) = Store::open(options) {
        read_all(&store);
        let _ = store.merge();
        read_all(&store);
    }
    fuzzed::set(&[]);
    let _ = fs::remove_dir_all(&dir);
});
