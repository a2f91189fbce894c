//! I/O errors that pass: nothing is moved away, given up or answered without; what has failed is said, and
//! works again when the disk does.

use std::sync::Arc;

use rustix::io::Errno;
use trilith::base::counters::Counters;
use trilith::base::disk::RealDisk;
use trilith::base::error::{Classify as _, ErrorClass};
use trilith::base::limits::QueryBudget;
use trilith::model::span::TraceId;
use trilith::model::time::{RangeMs, RangeNs};
use trilith::store::stores::Store;
use trilith::store::wal::{Fsync, WalOptions};
use trilith::store::{
    AppendLogs as _, AppendMetrics as _, AppendTraces as _, LineHints, LogColumns, SelectLogs as _, SelectTraces as _,
    StoreError, series_set,
};

use super::power::{Acknowledged, append, check, files, found, live, logs, metrics, open, open_with, options, spans};
use super::support::SimDisk;
use super::support::faults::{Fault, Op};

/// What the queries of the three signals say.
fn asked(store: &Store) -> [Result<usize, StoreError>; 3] {
    let budget = QueryBudget::unlimited();
    let samples = series_set::select(&*store.metrics, &[], RangeMs::ALL, &budget)
        .map(|all| all.iter().map(|(_, own)| own.times.len()).sum());
    let lines = store.logs.chunks(&[], RangeNs::ALL, &LineHints::default(), &budget).and_then(|chunks| {
        let columns = LogColumns { lines: true, metadata: true };
        chunks.iter().map(|chunk| Ok(chunk.read(columns, &budget)?.times.len())).sum()
    });
    let spans = store.traces.trace(TraceId([7; 16]), &budget).map(|spans| spans.len());
    [samples, lines, spans]
}

/// What is said to be wrong.
fn conditions(store: &Store) -> Vec<&'static str> {
    store.conditions().into_iter().map(|condition| condition.name).collect()
}

fn assert_unavailable(when: &str, store: &Store) {
    for (signal, answer) in asked(store).into_iter().enumerate() {
        let error = answer.expect_err(&format!("{when}: signal {signal} answered without what it could not read"));
        assert_eq!(error.class(), ErrorClass::Unavailable, "{when}: signal {signal}: {error}");
    }
}

#[test]
fn a_part_that_cannot_be_opened_now_is_kept_said_and_opened_when_it_can_be() {
    for error in [Errno::MFILE, Errno::IO, Errno::NOMEM] {
        let dir = tempfile::tempdir().unwrap();
        let mut acknowledged = Acknowledged::default();
        live(&open(dir.path(), Arc::new(RealDisk)).unwrap(), &mut acknowledged);
        let before = files(dir.path()).into_iter().filter(|path| path.extension().is_some_and(|it| it == "part"));
        let before: Vec<_> = before.collect();
        assert!(before.len() >= 6);
        let disk = SimDisk::new(1);
        disk.fail(Fault::new(Op::Open, error).within(".part").for_ever());
        let counters = Counters::default();
        let store =
            open_with(options(dir.path(), Arc::new(disk.clone()), counters.clone())).expect("no start is refused");
        assert_unavailable(&format!("{error:?}"), &store);
        append(&store, 6, &mut acknowledged);
        store.tick();
        assert_unavailable(&format!("{error:?}, tried again"), &store);
        assert_eq!(conditions(&store), ["part_not_open"; 3]);
        assert!(before.iter().all(|path| path.exists()), "{error:?}: a healthy part was moved away");
        assert!(counters.expose().contains("trilith_damaged_total{signal=\"metrics\"} 0"), "{}", counters.expose());
        disk.heal();
        store.tick();
        check(&format!("{error:?}, healed"), &found(&store), &acknowledged);
        assert!(store.conditions().is_empty(), "{:?}", store.conditions());
        store.flush().unwrap();
        store.merge().unwrap();
        check(&format!("{error:?}, merged"), &found(&store), &acknowledged);
    }
}

#[test]
fn a_read_that_fails_is_the_error_of_its_query_and_loses_no_frame() {
    let dir = tempfile::tempdir().unwrap();
    let mut acknowledged = Acknowledged::default();
    live(&open(dir.path(), Arc::new(RealDisk)).unwrap(), &mut acknowledged);
    for error in [Errno::IO, Errno::NOMEM] {
        let disk = SimDisk::new(1);
        let store = open(dir.path(), Arc::new(disk.clone())).unwrap();
        disk.fail(Fault::new(Op::Read, error).for_ever());
        assert_unavailable(&format!("{error:?}"), &store);
        disk.heal();
        check(&format!("{error:?}, healed"), &found(&store), &acknowledged);
    }
}

#[test]
fn what_a_sync_has_failed_on_is_written_to_parts_before_anything_else_is_taken() {
    for seed in 0..8 {
        let dir = tempfile::tempdir().unwrap();
        let disk = SimDisk::new(seed);
        let store = open(dir.path(), Arc::new(disk.clone())).unwrap();
        let mut acknowledged = Acknowledged::default();
        append(&store, 0, &mut acknowledged);
        for signal in ["metrics", "logs", "traces"] {
            disk.fail(Fault::new(Op::Sync, Errno::IO).within(&format!("wal/{signal}")));
        }
        store.sync();
        for refused in [store.metrics.append(&metrics(1)), store.logs.append(&logs(1)), store.traces.append(&spans(1))]
        {
            assert_eq!(refused.unwrap_err().class(), ErrorClass::Unavailable);
        }
        check("while it is in doubt", &found(&store), &acknowledged);
        assert_eq!(conditions(&store), ["sync_failed"; 3]);
        store.tick();
        assert!(store.conditions().is_empty(), "{:?}", store.conditions());
        append(&store, 1, &mut acknowledged);
        assert_eq!(acknowledged.iter().map(Vec::len).collect::<Vec<_>>(), [2; 3], "it does not heal");
        store.sync();
        drop(store);
        disk.cut_power().unwrap();
        check("after a power cut", &found(&open(dir.path(), Arc::new(RealDisk)).unwrap()), &acknowledged);
    }
}

#[test]
fn an_append_that_waits_for_a_sync_that_fails_is_answered_when_its_rows_lie_in_parts() {
    for seed in 0..8 {
        let dir = tempfile::tempdir().unwrap();
        let disk = SimDisk::new(seed);
        let wal = WalOptions { fsync: Fsync::Always, ..WalOptions::default() };
        let options = options(dir.path(), Arc::new(disk.clone()), Counters::default());
        let store = open_with(trilith::store::stores::StoreOptions { wal, ..options }).unwrap();
        let mut acknowledged = Acknowledged::default();
        append(&store, 0, &mut acknowledged);
        disk.fail(Fault::new(Op::Sync, Errno::IO).within("wal"));
        append(&store, 1, &mut acknowledged);
        append(&store, 2, &mut acknowledged);
        drop(store);
        disk.cut_power().unwrap();
        check("after a power cut", &found(&open(dir.path(), Arc::new(RealDisk)).unwrap()), &acknowledged);
        assert!(acknowledged.iter().all(|batches| batches.len() == 3));
    }
}

/// A process has a sync that fails, and dies before it has written parts. The next one finds the rows in the
/// log, whose pages the system holds for clean; who sends them again is told that they are kept.
#[test]
fn rows_that_a_dead_process_could_not_sync_and_that_are_sent_again_survive_a_power_cut() {
    for fsync in [Fsync::Always, Fsync::Interval] {
        for seed in 0..8 {
            let dir = tempfile::tempdir().unwrap();
            let disk = SimDisk::new(seed);
            let wal = WalOptions { fsync, ..WalOptions::default() };
            let start = || {
                let options = options(dir.path(), Arc::new(disk.clone()), Counters::default());
                open_with(trilith::store::stores::StoreOptions { wal, ..options }).unwrap()
            };
            let store = start();
            for signal in ["metrics", "logs", "traces"] {
                disk.fail(Fault::new(Op::Sync, Errno::IO).within(&format!("wal/{signal}")));
                disk.fail(Fault::new(Op::Create, Errno::IO).within(&format!("{signal}/")).for_ever());
            }
            append(&store, 0, &mut Acknowledged::default());
            store.sync();
            drop(store);
            disk.heal();
            let store = start();
            let mut acknowledged = Acknowledged::default();
            append(&store, 0, &mut acknowledged);
            append(&store, 1, &mut acknowledged);
            assert_eq!(acknowledged.iter().map(Vec::len).collect::<Vec<_>>(), [2; 3]);
            store.sync();
            drop(store);
            disk.cut_power().unwrap();
            let found = found(&open(dir.path(), Arc::new(RealDisk)).unwrap());
            check(&format!("{fsync:?}, seed {seed}, after a power cut"), &found, &acknowledged);
        }
    }
}

#[test]
fn a_recent_part_that_cannot_be_read_fails_no_append_of_spans() {
    let dir = tempfile::tempdir().unwrap();
    let mut acknowledged = Acknowledged::default();
    live(&open(dir.path(), Arc::new(RealDisk)).unwrap(), &mut acknowledged);
    let disk = SimDisk::new(1);
    let store = open(dir.path(), Arc::new(disk.clone())).unwrap();
    disk.fail(Fault::new(Op::Read, Errno::IO).within("traces").for_ever());
    append(&store, 6, &mut acknowledged);
    // Sent again, as after an answer that was lost.
    append(&store, 5, &mut acknowledged);
    disk.heal();
    assert_eq!(acknowledged[2].last(), Some(&5));
    check("healed", &found(&store), &acknowledged);
}

#[test]
fn rows_that_cannot_be_written_as_a_part_are_set_aside_and_no_start_meets_them_again() {
    let dir = tempfile::tempdir().unwrap();
    let disk = SimDisk::new(1);
    let counters = Counters::default();
    let store = open_with(options(dir.path(), Arc::new(disk.clone()), counters.clone())).unwrap();
    let mut acknowledged = Acknowledged::default();
    append(&store, 0, &mut acknowledged);
    // Whatever is written as a part of spans does not read back.
    disk.spoil(".part.tmp");
    let tries = (0..10).take_while(|_| store.traces.lane().flush().is_err()).count();
    assert_eq!(tries, 2, "the third try gives up");
    assert!(counters.expose().contains("trilith_heads_set_aside_total{signal=\"traces\"} 1"), "{}", counters.expose());
    let aside = files(&dir.path().join("wal/traces/aside"));
    assert!(!aside.is_empty());
    disk.heal();
    acknowledged[2].clear();
    append(&store, 1, &mut acknowledged);
    store.flush().unwrap();
    drop(store);
    let store = open(dir.path(), Arc::new(RealDisk)).unwrap();
    check("reopened", &found(&store), &acknowledged);
    assert_eq!(found(&store)[2].len(), 10, "what was set aside is not read again");
    assert_eq!(files(&dir.path().join("wal/traces/aside")), aside);
    assert_eq!(conditions(&store), ["head_set_aside"]);
    std::fs::remove_dir_all(dir.path().join("wal/traces/aside")).unwrap();
    store.tick();
    assert!(store.conditions().is_empty(), "{:?}", store.conditions());
}

#[test]
fn a_disk_that_is_full_at_the_start_leaves_queries_and_takes_rows_when_there_is_room() {
    let dir = tempfile::tempdir().unwrap();
    let mut acknowledged = Acknowledged::default();
    live(&open(dir.path(), Arc::new(RealDisk)).unwrap(), &mut acknowledged);
    let disk = SimDisk::new(1);
    disk.set_room(Some(0));
    let store = open(dir.path(), Arc::new(disk.clone())).expect("no start is refused");
    check("full", &found(&store), &acknowledged);
    assert_eq!(store.logs.append(&logs(6)).unwrap_err().class(), ErrorClass::Unavailable);
    disk.heal();
    store.tick();
    append(&store, 6, &mut acknowledged);
    store.flush().unwrap();
    drop(store);
    check("reopened", &found(&open(dir.path(), Arc::new(RealDisk)).unwrap()), &acknowledged);
    assert!(acknowledged.iter().all(|batches| batches.len() == 7));
}
