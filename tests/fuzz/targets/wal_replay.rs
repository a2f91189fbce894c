//! A segment of the metrics log, and single records of it, replayed into a head.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use trilith::base::disk::Disk as _;
use trilith::base::disk::sim::SimDisk;
use trilith::store::metrics::Options;
use trilith::store::metrics::head::Head;
use trilith::store::metrics::registry::Registry;
use trilith::store::wal;

fuzz_target!(|bytes: &[u8]| {
    let head = Head::new(Registry::new(), Options::default());
    // A record as it is after its checksum was right, in the versions that there are.
    let _ = head.replay(bytes, 0);
    for version in 1..=3 {
        let _ = head.replay(&[&[version], bytes].concat(), u64::from(version));
    }
    let (disk, dir) = (SimDisk::new(1), Path::new("/wal"));
    disk.create_dir_all(dir).expect("a folder");
    let file = disk.append(&dir.join("0000000000000001.wal")).expect("a file");
    file.write_all(bytes).expect("to write");
    for segment in wal::segments(&disk, dir).expect("to list") {
        let replayed = wal::replay(&disk, dir, &segment, |record| {
            let _ = head.replay(record, segment.seq);
            Ok(())
        });
        assert_eq!(replayed.expect("to read").bytes, bytes.len() as u64);
    }
    head.end_replay();
});
