//! Searches leave out no block with a hit, and damage is found at open.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::sums::SUMS;
use super::{TextBuilder, TextIndex};
use crate::base::disk::{Disk, RealDisk};
use crate::base::mutate::Mutator;
use crate::base::support::SimDisk;
use crate::base::support::faults::{Fault, Op};

fn disk() -> Arc<dyn Disk> {
    Arc::new(RealDisk)
}

fn index(dir: &Path, texts: &[&str]) -> TextIndex {
    let path = dir.join("index");
    let mut builder = TextBuilder::create(&disk(), &path, 48 << 20).unwrap();
    for (block, text) in texts.iter().enumerate() {
        builder.add_texts(block as u32, [*text]).unwrap();
    }
    builder.finish().unwrap();
    TextIndex::open(&RealDisk, &path).unwrap()
}

fn blocks(index: &TextIndex, literal: &str) -> Vec<u32> {
    index.blocks_with_substring_words(literal).unwrap().iter().collect()
}

#[test]
fn words_at_the_edges_of_a_literal_may_be_cut_off() {
    let dir = tempfile::tempdir().unwrap();
    let index = index(dir.path(), &["user=alice paid", "malice foretold", "Alice", "", "grüße an alle"]);
    assert_eq!(blocks(&index, "alice"), [0, 1]);
    assert_eq!(blocks(&index, "=alice"), [0]);
    assert_eq!(blocks(&index, "lice p"), [0]);
    assert_eq!(blocks(&index, " alice "), [0]);
    assert_eq!(blocks(&index, "ice fore"), [1]);
    assert_eq!(blocks(&index, "üße"), [4]);
    assert_eq!(blocks(&index, "absent"), [] as [u32; 0]);
    assert_eq!(blocks(&index, " - "), [0, 1, 2, 3, 4]);
    assert!(index.blocks_with_term("alice").unwrap().is_empty(), "words of texts are no terms");
}

#[test]
fn ids_are_found_whole_and_by_the_letters_at_their_edges() {
    let dir = tempfile::tempdir().unwrap();
    let index = index(dir.path(), &["id=7f3a9c user1234", "id=12345678 x", "trace=abcdef0123", "v=1"]);
    assert_eq!(blocks(&index, "id=7f3a9c "), [0]);
    assert_eq!(blocks(&index, "=12345678 "), [1]);
    assert_eq!(blocks(&index, "=99999999 "), [] as [u32; 0]);
    assert_eq!(blocks(&index, "cdef01"), [2]);
    assert_eq!(blocks(&index, "ser12"), [0]);
    assert_eq!(blocks(&index, "3a9c u"), [0]);
    assert_eq!(blocks(&index, "345"), [0, 1, 2, 3]);
}

#[test]
fn long_words_are_found_whole_and_never_hide_a_hit() {
    let dir = tempfile::tempdir().unwrap();
    let long = "x".repeat(70_000) + "needle";
    let index = index(dir.path(), &["short", &format!("id={long} end"), "a needle"]);
    assert_eq!(blocks(&index, "needle"), [1, 2]);
    assert_eq!(blocks(&index, &format!("={long} ")), [1]);
    assert_eq!(blocks(&index, &long), [1]);
    assert_eq!(blocks(&index, &format!("={long}y ")), [] as [u32; 0]);
    assert_eq!(blocks(&index, &long[..300]), [1]);
}

#[test]
fn an_overlapping_needle_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let index = index(dir.path(), &["aabaaabaaac", "aabaaab", "caab"]);
    assert_eq!(blocks(&index, "aabaaac"), [0]);
    assert_eq!(blocks(&index, "aab."), [1, 2]);
    assert_eq!(blocks(&index, ".aab"), [0, 1]);
}

#[test]
fn any_literal_cut_from_a_text_names_its_block() {
    let dir = tempfile::tempdir().unwrap();
    let texts = ["level=info msg=\"a b\" id=12", "α_β: γδ=7 ", "{\"k\":\"v-w\"}", "  ", "7a7b x9é8 h8fc47b"];
    let index = index(dir.path(), &texts);
    for (block, text) in texts.iter().enumerate() {
        let cuts: Vec<usize> = (0..=text.len()).filter(|at| text.is_char_boundary(*at)).collect();
        for start in &cuts {
            for end in cuts.iter().filter(|end| *end >= start) {
                assert!(blocks(&index, &text[*start..*end]).contains(&(block as u32)), "{start}..{end}");
            }
        }
    }
}

#[test]
fn any_damage_is_an_error_at_open_and_a_build_replaces_it() {
    let dir = tempfile::tempdir().unwrap();
    drop(index(dir.path(), &["one two", "three"]));
    let path = dir.path().join("index");
    let files: Vec<PathBuf> = fs::read_dir(path.join("0000"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_none_or(|extension| extension != "lock"))
        .chain([path.join(SUMS)])
        .collect();
    assert!(files.len() > 3);
    for file in files {
        let good = fs::read(&file).unwrap();
        for at in [0, good.len() / 2, good.len() - 1] {
            let mut bad = good.clone();
            bad[at] ^= 1;
            fs::write(&file, &bad).unwrap();
            assert!(TextIndex::open(&RealDisk, &path).is_err(), "{file:?} byte {at}");
        }
        fs::remove_file(&file).unwrap();
        assert!(TextIndex::open(&RealDisk, &path).is_err(), "{file:?} removed");
        fs::write(&file, &good).unwrap();
    }
    fs::write(path.join(SUMS), b"").unwrap();
    assert_eq!(blocks(&index(dir.path(), &["four"]), "four"), [0]);
}

#[test]
fn a_build_over_its_arena_goes_on_in_another_segment() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("index");
    let mut builder = TextBuilder::create(&disk(), &path, 48 << 20).unwrap();
    builder.add(5, ["early"]).unwrap();
    builder.finish_segment().unwrap();
    builder.add(9, ["late", "a b", &"z".repeat(1000)]).unwrap();
    builder.add_texts(9, ["ugly"]).unwrap();
    builder.finish().unwrap();
    let index = TextIndex::open(&RealDisk, &path).unwrap();
    assert_eq!(index.blocks().iter().collect::<Vec<_>>(), [5, 9]);
    assert_eq!(index.blocks_with_term("a b").unwrap().iter().collect::<Vec<_>>(), [9]);
    assert_eq!(index.blocks_with_term(&"z".repeat(1000)).unwrap().iter().collect::<Vec<_>>(), [9]);
    assert!(index.blocks_with_term(&"z".repeat(999)).unwrap().is_empty());
    assert_eq!(blocks(&index, "ly"), [9]);
    assert_eq!(blocks(&index, "late"), [] as [u32; 0]);
}

#[test]
fn lists_of_checksums_that_are_wrong_behind_their_own_are_refused_or_hold_for_the_files() {
    let dir = tempfile::tempdir().unwrap();
    drop(index(dir.path(), &["user=alice paid", "id=7f3a9c user1234", "x"]));
    let path = dir.path().join("index");
    let good = fs::read(path.join(SUMS)).unwrap();
    let body = &good[..good.len() - 4];
    let mut opened = 0;
    for seed in 0..2_000 {
        let mut bad = Mutator::new(seed).bytes(body);
        bad.extend_from_slice(&crc32c::crc32c(&bad).to_le_bytes());
        fs::write(path.join(SUMS), &bad).unwrap();
        // One that opens has the files it names, as many documents as it lists blocks, and answers.
        if let Ok(index) = TextIndex::open(&RealDisk, &path) {
            opened += 1;
            assert!(index.blocks_with_substring_words("alice").unwrap().len() <= 3, "seed {seed}");
        }
    }
    fs::write(path.join(SUMS), &good).unwrap();
    assert_eq!(blocks(&TextIndex::open(&RealDisk, &path).unwrap(), "alice"), [0]);
    assert!(opened > 0 && opened < 1_000, "{opened}");
}

#[test]
fn a_build_that_is_given_up_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut builder = TextBuilder::create(&disk(), &dir.path().join("index"), 48 << 20).unwrap();
    builder.add_texts(0, ["some words"]).unwrap();
    builder.abandon();
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn what_the_disk_refuses_is_no_damage_and_a_build_that_fails_leaves_the_index_that_was() {
    let dir = tempfile::tempdir().unwrap();
    drop(index(dir.path(), &["user=alice paid"]));
    let path = dir.path().join("index");
    let sim = SimDisk::new(1);
    sim.fail(Fault::new(Op::Open, rustix::io::Errno::MFILE));
    assert!(TextIndex::open(&sim, &path).err().unwrap().is_passing());
    assert!(!TextIndex::open(&RealDisk, &dir.path().join("none")).err().unwrap().is_passing());
    for op in [Op::Create, Op::Sync, Op::List, Op::Read, Op::SyncDir] {
        let sim = SimDisk::new(1);
        sim.fail(Fault::new(op, rustix::io::Errno::IO));
        let disk: Arc<dyn Disk> = Arc::new(sim.clone());
        let mut builder = TextBuilder::create(&disk, &path, 48 << 20).unwrap();
        builder.add_texts(0, ["other words"]).unwrap();
        assert!(builder.finish().is_err() && sim.failures() == 1, "{op:?} did not reach it");
        assert_eq!(blocks(&TextIndex::open(&RealDisk, &path).unwrap(), "alice"), [0], "{op:?}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "{op:?} left something");
    }
}
