//! What was written is read, and damage costs what it touches.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{PartInfo, PartReader, PartWriter, commit};
use crate::base::disk::{Disk, RealDisk};
use crate::model::batch::Signal;

fn info() -> PartInfo {
    PartInfo { signal: Signal::Logs, seq: 7, index: 1, group: 2, min_t: -5, max_t: 9, rows: 3, created_ms: 1 }
}

fn disk() -> Arc<dyn Disk> {
    Arc::new(RealDisk)
}

fn write(dir: &Path) -> PathBuf {
    let disk = disk();
    let mut writer = PartWriter::create(&disk, dir, info()).unwrap();
    writer.frame(1, b"first").unwrap();
    writer.frame(2, &[42; 10_000]).unwrap();
    let pending = writer.finish().unwrap();
    commit(&*disk, dir, &[pending]).unwrap().remove(0)
}

#[test]
fn what_was_written_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let part = PartReader::open(&disk(), &write(dir.path())).unwrap();
    assert_eq!(part.info(), &info());
    assert_eq!(part.salvaged(), None);
    assert_eq!(part.read(part.frames()[0]).unwrap(), b"first");
    assert_eq!(part.read(part.frames()[1]).unwrap(), [42; 10_000]);
    assert_eq!(PartInfo::parse_file_name(&info().file_name()), Some((7, 1)));
}

#[test]
fn any_flipped_byte_costs_at_most_one_frame_and_gives_no_false_data() {
    let dir = tempfile::tempdir().unwrap();
    let path = write(dir.path());
    let good = std::fs::read(&path).unwrap();
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 0x20;
        std::fs::write(&path, &bad).unwrap();
        let part = PartReader::open(&disk(), &path).unwrap();
        assert_eq!(part.info(), &info(), "byte {at}");
        let read: Vec<_> = part.frames().iter().filter_map(|frame| part.read(*frame).ok()).collect();
        assert!(!read.is_empty(), "byte {at}");
        assert!(read.iter().all(|data| data == b"first" || data == &[42; 10_000]), "byte {at}");
    }
}

#[test]
fn a_cut_part_keeps_the_frames_before_the_cut() {
    let dir = tempfile::tempdir().unwrap();
    let path = write(dir.path());
    let good = std::fs::read(&path).unwrap();
    std::fs::write(&path, &good[..good.len() - 40]).unwrap();
    let part = PartReader::open(&disk(), &path).unwrap();
    assert!(part.salvaged().is_some());
    assert_eq!(part.read(part.frames()[0]).unwrap(), b"first");
    std::fs::write(&path, &good[..10]).unwrap();
    assert!(PartReader::open(&disk(), &path).is_err());
}
