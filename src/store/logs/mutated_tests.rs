//! Records and parts that were valid a moment ago, damaged behind their checksums: they are refused or read
//! as what they say, within memory that goes with their size, and what is read is written the same again.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::cache::FrameCache;
use super::pack::Packer;
use super::part::LogsPart;
use super::record::{self, Item};
use super::rows::{Rows, put_labels, put_metadata, put_times, read_metadata};
use crate::base::disk::{Disk, RealDisk};
use crate::base::mutate::Mutator;
use crate::model::batch::Signal;
use crate::model::labels::Labels;
use crate::store::StoreError;
use crate::store::codec::{Reader, put_varint};
use crate::store::part::{PartInfo, PartReader, PartWriter, commit};

fn disk() -> Arc<dyn Disk> {
    Arc::new(RealDisk)
}

fn rows(count: i64, step: i64) -> Rows {
    let mut rows = Rows::default();
    for n in 0..count {
        let metadata = if n % 3 == 0 { Labels::default() } else { Labels::default().with("trace_id", &n.to_string()) };
        rows.push(n * step, &format!("line {n} of some länge"), &metadata);
    }
    rows
}

fn items() -> Vec<Item> {
    let stream = |name: &str| Labels::from_pairs([("app", name), ("job", "tests")]).unwrap();
    vec![(stream("a"), rows(9, 1_000)), (stream("b"), rows(1, 7)), (Labels::default(), rows(30, 1))]
}

/// The record of the items before it is compressed.
fn raw(items: &[Item]) -> Vec<u8> {
    let mut raw = Vec::new();
    put_varint(&mut raw, items.len() as u64);
    for (labels, rows) in items {
        put_labels(&mut raw, labels);
        put_times(&mut raw, &rows.times, &rows.line_bytes);
        put_metadata(&mut raw, &rows.metadata);
        raw.extend_from_slice(rows.text.as_bytes());
    }
    raw
}

#[test]
fn damaged_records_are_refused_or_read_as_what_they_say() {
    let good = raw(&items());
    assert_eq!(record::decode(&[&[0], good.as_slice()].concat()), Ok(items()));
    let mut kept = 0;
    for seed in 0..4_000 {
        let bad = Mutator::new(seed).bytes(&good);
        let plain = [&[0], bad.as_slice()].concat();
        let mut packed = vec![1];
        put_varint(&mut packed, bad.len() as u64);
        packed.extend(zstd::bulk::compress(&bad, 1).unwrap());
        let read = record::decode(&plain);
        assert_eq!(record::decode(&packed), read, "seed {seed}");
        let Ok(read) = read else { continue };
        kept += 1;
        let bytes: usize = read.iter().map(|(_, rows)| rows.bytes()).sum();
        assert!(bytes <= 64 * bad.len(), "seed {seed}: {bytes} bytes of {}", bad.len());
        assert_eq!(record::decode(&record::encode(&read)).as_ref(), Ok(&read), "seed {seed}");
    }
    assert!(kept > 400, "only {kept} records were read");
}

#[test]
fn a_long_name_of_metadata_for_each_of_many_rows_is_refused_before_it_is_built() {
    let (name, count) = ("n".repeat(1 << 20), 1_000_000usize);
    let mut bytes = Vec::new();
    put_varint(&mut bytes, 1);
    put_varint(&mut bytes, name.len() as u64);
    bytes.extend_from_slice(name.as_bytes());
    put_varint(&mut bytes, count as u64);
    bytes.resize(bytes.len() + 2 * count, 0);
    assert!(read_metadata(&mut Reader::new(&bytes), count).is_err());
}

fn info() -> PartInfo {
    PartInfo { signal: Signal::Logs, seq: 7, index: 1, group: 1, min_t: 0, max_t: 9_000, rows: 0, created_ms: 1 }
}

fn write(dir: &Path, fill: impl FnOnce(&mut PartWriter)) -> PathBuf {
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let mut out = PartWriter::create(&disk, dir, info()).unwrap();
    fill(&mut out);
    let pending = out.finish().unwrap();
    commit(&*disk, dir, &[pending]).unwrap().remove(0)
}

fn good_part(dir: &Path) -> PathBuf {
    write(dir, |out| {
        let mut packer = Packer::new(out, 1);
        for name in ["a", "b", "c"] {
            packer.push(&Labels::default().with("app", name), &rows(300, 3)).unwrap();
        }
        packer.finish().unwrap();
    })
}

#[test]
fn damaged_parts_give_rows_as_their_index_says_or_errors_that_name_damage() {
    let dir = tempfile::tempdir().unwrap();
    let good = PartReader::open(&disk(), &good_part(dir.path())).unwrap();
    let frames: Vec<(u8, Vec<u8>)> =
        good.frames().iter().map(|frame| (frame.kind, good.read(*frame).unwrap().to_vec())).collect();
    assert!(frames.len() > 6, "several packs");
    let (mut read, mut damaged) = (0, 0);
    for seed in 0..300 {
        let mut mutator = Mutator::new(seed);
        let at = mutator.below(frames.len());
        let path = write(dir.path(), |out| {
            for (place, (kind, payload)) in frames.iter().enumerate() {
                let bytes = if place == at { mutator.bytes(payload) } else { payload.clone() };
                out.frame_at_level(*kind, &bytes, 1).unwrap();
            }
        });
        let reader = PartReader::open(&disk(), &path).unwrap();
        let (part, _) = LogsPart::open(reader, |labels| labels).unwrap();
        let cache = FrameCache::new(1 << 20, &crate::base::memory::MemoryBudget::new(u64::MAX));
        for run in &part.runs {
            match part.read(run, true, true, &cache) {
                Ok(rows) => {
                    read += 1;
                    assert_eq!((rows.len(), rows.text.len()), (run.rows as usize, run.text_bytes as usize));
                    assert!(rows.metadata.is_empty() || rows.metadata.len() == rows.len(), "seed {seed}");
                    assert!(rows.times.is_sorted(), "seed {seed}");
                    assert_eq!(
                        rows.lines().map(str::len).sum::<usize>(),
                        rows.text.len(),
                        "seed {seed}: a line is cut"
                    );
                }
                Err(StoreError::Damaged { .. }) => damaged += 1,
                Err(error) => panic!("seed {seed}: {error}"),
            }
        }
    }
    assert!(read > 1_000 && damaged > 50, "{read} runs read, {damaged} damaged");
}
