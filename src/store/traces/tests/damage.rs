//! Damage costs what it hits and never makes a span that was not sent.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use super::*;

fn only_file(dir: &Path, ending: &str) -> PathBuf {
    let files = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    files
        .filter(|path| path.to_str().unwrap().ends_with(ending))
        .max_by_key(|path| path.metadata().unwrap().len())
        .unwrap()
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() { copy(&path, &target) } else { fs::copy(&path, &target).map(|_| ()).unwrap() }
    }
}

/// Flips bytes all over a file; the store opens, and everything it gives was sent.
fn flip(spans: &[Span], from: &Path, folder: &str, ending: &str, kept_at_least: usize) {
    let sent: BTreeSet<_> = texts(spans).into_iter().collect();
    let good = fs::read(only_file(&from.join(folder), ending)).unwrap();
    let step = (good.len() / 60).max(1);
    for at in (0..good.len()).step_by(step) {
        let dir = tempfile::tempdir().unwrap();
        copy(from, dir.path());
        let mut bad = good.clone();
        bad[at] ^= 0x11;
        fs::write(only_file(&dir.path().join(folder), ending), bad).unwrap();
        let store = open(dir.path());
        let found = texts(&all(&store));
        assert!(found.iter().all(|span| sent.contains(span)), "byte {at} of {folder}");
        assert_eq!(found.iter().collect::<BTreeSet<_>>().len(), found.len(), "byte {at} of {folder}: twice");
        assert!(found.len() >= kept_at_least, "byte {at} of {folder}: {} spans left", found.len());
        let budget = QueryBudget::unlimited();
        let by_id: usize = (0..41).map(|number| store.trace(trace_id(number), &budget).unwrap().len()).sum();
        assert_eq!(by_id, found.len(), "byte {at} of {folder}");
        store.services(&budget).unwrap();
        store.tag_names(RangeNs::ALL, &budget).unwrap();
    }
}

#[test]
fn a_flipped_byte_in_the_log_costs_at_most_its_record() {
    let dir = tempfile::tempdir().unwrap();
    let mut dice = Dice::new(3);
    let store = open(dir.path());
    let spans: Vec<_> = (0..90).map(|_| span(&mut dice)).collect();
    spans.chunks(30).for_each(|batch| drop(append(&store, batch)));
    drop(store);
    flip(&spans, dir.path(), "wal/traces", ".wal", 60);
}

#[test]
fn a_flipped_byte_in_a_part_costs_at_most_a_block() {
    let dir = tempfile::tempdir().unwrap();
    let mut dice = Dice::new(4);
    let store = open(dir.path());
    let mut spans: Vec<_> = (0..200).map(|_| span(&mut dice)).collect();
    spans.iter_mut().for_each(|span| span.start = NOW - span.start.rem_euclid(1_000_000_000));
    append(&store, &spans);
    store.lane().flush().unwrap();
    drop(store);
    flip(&spans, dir.path(), "traces", ".part", 0);
}

#[test]
fn a_part_whose_index_is_lost_answers_as_before() {
    let dir = tempfile::tempdir().unwrap();
    let mut dice = Dice::new(5);
    let store = open(dir.path());
    let spans: Vec<_> = (0..9_000).map(|_| Span { start: NOW, end: NOW + 1, ..span(&mut dice) }).collect();
    append(&store, &spans);
    store.lane().flush().unwrap();
    let expected = texts(&all(&store));
    assert_eq!(store.lane.view().parts.len(), 1);
    assert!(store.lane.view().parts[0].blocks().len() > 1);
    let index = *store.lane.view().parts[0].reader().frames().last().unwrap();
    drop(store);
    let path = only_file(&dir.path().join("traces"), ".part");
    let mut bytes = fs::read(&path).unwrap();
    bytes[index.offset as usize + 30] ^= 1;
    fs::write(&path, bytes).unwrap();
    let store = open(dir.path());
    assert_eq!(texts(&all(&store)), expected);
    let budget = QueryBudget::unlimited();
    let by_id: usize = (0..41).map(|number| store.trace(trace_id(number), &budget).unwrap().len()).sum();
    assert_eq!(by_id, expected.len());
}
