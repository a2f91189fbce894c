//! What was written is read, and damage costs what it touches.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::format::{HEAD_BYTES, TRAILER_BYTES};
use super::{PartInfo, PartReader, PartWriter, commit};
use crate::base::disk::{Disk, RealDisk};
use crate::base::mutate::Mutator;
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

/// A frame like `old`, of another payload, whose head says what `change` makes of it and whose checksum holds.
fn reframed(old: &[u8], payload: &[u8], change: impl FnOnce(&mut [u8])) -> Vec<u8> {
    let mut head = old[..HEAD_BYTES].to_vec();
    head[5] = 0;
    for at in [8, 12] {
        head[at..at + 4].copy_from_slice(&(payload.len() as u32).to_le_bytes());
    }
    change(&mut head[4..16]);
    let crc = crc32c::crc32c_append(crc32c::crc32c(&head[4..16]), payload);
    head[16..20].copy_from_slice(&crc.to_le_bytes());
    [head.as_slice(), payload].concat()
}

#[test]
fn footers_and_frames_that_are_wrong_behind_their_checksums_are_refused_or_read_as_what_they_say() {
    let dir = tempfile::tempdir().unwrap();
    let path = write(dir.path());
    let good = std::fs::read(&path).unwrap();
    let trailer = good.len() - TRAILER_BYTES;
    let footer = u64::from_le_bytes(good[trailer..trailer + 8].try_into().unwrap()) as usize;
    let raw = {
        let (stored, codec) = (&good[footer + HEAD_BYTES..trailer], good[footer + 5]);
        if codec == 0 { stored.to_vec() } else { zstd::bulk::decompress(stored, 1 << 20).unwrap() }
    };
    let (mut opened, mut read) = (0, 0);
    for seed in 0..4_000 {
        let mut mutator = Mutator::new(seed);
        let payload = if seed % 3 == 0 { raw.clone() } else { mutator.bytes(&raw) };
        let own = reframed(&good[footer..], &payload, |head| {
            if seed % 3 == 0 {
                let at = mutator.below(head.len());
                head[at] ^= 1 << mutator.below(8);
            }
        });
        let mut bad = good[..footer].to_vec();
        bad.extend_from_slice(&own);
        let stored = (own.len() - HEAD_BYTES) as u32;
        let mut end = [(footer as u64).to_le_bytes().as_slice(), &stored.to_le_bytes()].concat();
        end.extend_from_slice(&crc32c::crc32c(&end).to_le_bytes());
        bad.extend_from_slice(&end);
        bad.extend_from_slice(&good[trailer + 16..]);
        std::fs::write(&path, &bad).unwrap();
        let Ok(part) = PartReader::open(&disk(), &path) else { continue };
        opened += usize::from(part.salvaged().is_none());
        for frame in part.frames() {
            match part.read(*frame) {
                Ok(data) => {
                    read += 1;
                    assert!(data == b"first" || data == [42; 10_000] || data == payload, "seed {seed}: false data");
                }
                Err(error) => assert!(error.is_damage(), "seed {seed}: {error}"),
            }
        }
    }
    // Most damage is past the checksum, which a random flip is not.
    assert!(opened > 100 && read > 1_000, "{opened} opened, {read} frames read");
}
