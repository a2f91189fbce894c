//! A segment of the metrics log, and single records of it, replayed into a head.
#![no_main]

use std::io;
use std::path::Path;
use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use trilith::base::disk::{AppendFile, Disk, Entry, ReadFile, Space};
use trilith::store::metrics::Options;
use trilith::store::metrics::head::Head;
use trilith::store::metrics::registry::Registry;
use trilith::store::wal::{self, Segment};

/// A disk on which every file holds these bytes.
struct Bytes<'b>(&'b [u8]);

fn no<T>() -> io::Result<T> {
    Err(io::ErrorKind::Unsupported.into())
}

impl Disk for Bytes<'_> {
    fn create_dir_all(&self, _: &Path) -> io::Result<()> {
        no()
    }

    fn list(&self, _: &Path) -> io::Result<Vec<Entry>> {
        no()
    }

    fn append(&self, _: &Path) -> io::Result<Arc<dyn AppendFile>> {
        no()
    }

    fn open(&self, _: &Path) -> io::Result<Arc<dyn ReadFile>> {
        no()
    }

    fn read(&self, _: &Path) -> io::Result<Vec<u8>> {
        Ok(self.0.to_vec())
    }

    fn rename(&self, _: &Path, _: &Path) -> io::Result<()> {
        no()
    }

    fn link(&self, _: &Path, _: &Path) -> io::Result<()> {
        no()
    }

    fn remove(&self, _: &Path) -> io::Result<()> {
        no()
    }

    fn remove_dir_all(&self, _: &Path) -> io::Result<()> {
        no()
    }

    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        no()
    }

    fn space(&self, _: &Path) -> io::Result<Space> {
        no()
    }
}

fuzz_target!(|bytes: &[u8]| {
    let head = Head::new(Registry::new(), Options::default());
    // A record as it is after its checksum was right, in the versions that there are.
    let _ = head.replay(bytes, 0);
    for version in 1..=3 {
        let _ = head.replay(&[&[version], bytes].concat(), u64::from(version));
    }
    let segment = Segment { seq: 4, bytes: bytes.len() as u64 };
    let replayed = wal::replay(&Bytes(bytes), Path::new("wal"), &segment, |record| {
        let _ = head.replay(record, segment.seq);
        Ok(())
    });
    assert_eq!(replayed.expect("to read").bytes, bytes.len() as u64);
    head.end_replay();
});
