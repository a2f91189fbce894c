//! Records come back whole and in order; what is damaged costs itself alone.

use super::*;
use crate::base::disk::RealDisk;
use crate::base::mutate::Mutator;

fn records(dir: &Path) -> (Vec<Vec<u8>>, Replayed) {
    let (mut found, mut sum) = (Vec::new(), Replayed::default());
    for segment in segments(&RealDisk, dir).unwrap() {
        let report = replay(&read(&RealDisk, dir, &segment).unwrap(), |payload| found.push(payload.to_vec()));
        sum.records += report.records;
        sum.bytes_lost += report.bytes_lost;
    }
    (found, sum)
}

fn write(dir: &Path, payloads: &[&[u8]], options: WalOptions) -> Wal {
    let wal = Wal::open(Arc::new(RealDisk), dir, options, 1, Cell::default());
    for payload in payloads {
        wal.append(|out, _| out.extend_from_slice(payload), || ()).unwrap();
    }
    wal
}

#[test]
fn records_come_back_in_order_over_segments() {
    let dir = tempfile::tempdir().unwrap();
    let options = WalOptions { segment_bytes_max: 30, fsync: Fsync::Always };
    let wal = write(dir.path(), &[b"one", b"", b"two", b"three"], options);
    wal.sync().unwrap();
    let (found, _) = records(dir.path());
    assert_eq!(found, [b"one".to_vec(), b"two".to_vec(), b"three".to_vec()]);
    assert!(segments(&RealDisk, dir.path()).unwrap().len() > 1);
}

#[test]
fn rotation_lets_sealed_segments_go() {
    let dir = tempfile::tempdir().unwrap();
    let wal = write(dir.path(), &[b"old"], WalOptions::default());
    let sealed = wal.rotate().unwrap();
    wal.append(|out, seq| out.push(seq as u8), || ()).unwrap();
    wal.remove_upto(sealed).unwrap();
    assert_eq!(records(dir.path()).0, [vec![2]]);
}

#[test]
fn any_flipped_byte_costs_at_most_one_record_and_gives_no_false_one() {
    let dir = tempfile::tempdir().unwrap();
    let payloads: [&[u8]; 3] = [b"first", b"second", b"third"];
    write(dir.path(), &payloads, WalOptions::default());
    let path = segment_path(dir.path(), 1);
    let good = std::fs::read(&path).unwrap();
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 0x41;
        std::fs::write(&path, &bad).unwrap();
        let (found, _) = records(dir.path());
        assert!(found.len() >= 2, "byte {at}: {found:?}");
        assert!(found.iter().all(|record| payloads.contains(&&record[..])), "byte {at}");
    }
    for cut in 0..good.len() {
        std::fs::write(&path, &good[..cut]).unwrap();
        assert!(records(dir.path()).0.len() <= 3);
    }
}

/// A record of `len` bytes, as its head says, before `payload`; its checksum holds for what there is.
fn framed(len: u32, payload: &[u8]) -> Vec<u8> {
    let own = payload.get(..len as usize).unwrap_or(payload);
    let crc = crc32c::crc32c_append(crc32c::crc32c(&len.to_le_bytes()), own);
    [&MARKER[..], &len.to_le_bytes(), &crc.to_le_bytes(), payload].concat()
}

#[test]
fn records_that_are_wrong_behind_their_checksums_cost_no_other_and_nothing_panics() {
    let good: [&[u8]; 3] = [b"first", b"second, which is longer", b"third"];
    let whole = |payload: &[u8]| framed(payload.len() as u32, payload);
    for seed in 0..4_000 {
        let mut mutator = Mutator::new(seed);
        let bad = mutator.bytes(good[1]);
        // What it holds is wrong: framing knows nothing of that.
        let mended = [&FILE_MAGIC[..], &whole(good[0]), &whole(&bad), &whole(good[2])].concat();
        let mut found = Vec::new();
        let report = replay(&mended, |record| found.push(record.to_vec()));
        assert_eq!((report.records, report.bytes_lost, report.bytes), (3, 0, mended.len() as u64), "seed {seed}");
        assert_eq!(found, [good[0], &bad, good[2]], "seed {seed}");
        // Its length is wrong, with a checksum over as much as there is.
        let len = if seed % 2 == 0 { mutator.number() as u32 } else { mutator.below(bad.len() + 9) as u32 };
        let wrong = [&FILE_MAGIC[..], &whole(good[0]), &framed(len, &bad), &whole(good[2])].concat();
        let mut found = Vec::new();
        let report = replay(&wrong, |record| found.push(record.to_vec()));
        assert_eq!((&found[0][..], found.last().map(Vec::as_slice)), (good[0], Some(good[2])), "seed {seed}");
        let counted: usize = found.iter().map(|record| HEAD_BYTES + record.len()).sum();
        let lost = wrong.len() - FILE_MAGIC.len() - counted;
        assert_eq!((report.records as usize, report.bytes_lost as usize), (found.len(), lost), "seed {seed}");
    }
}
