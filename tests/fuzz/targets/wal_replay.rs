//! A segment of the metrics log, and single records of it, replayed into a head.
#![no_main]

use libfuzzer_sys::fuzz_target;
use trilith::store::metrics::Options;
use trilith::store::metrics::head::Head;
use trilith::store::metrics::registry::Registry;
use trilith::store::wal;

/// The number of the segment.
const SEGMENT: u64 = 4;

fuzz_target!(|bytes: &[u8]| {
    let head = Head::new(Registry::new(), Options::default());
    // A record as it is after its checksum was right, in the versions that there are.
    let _ = head.replay(bytes, 0);
    for version in 1..=3 {
        let _ = head.replay(&[&[version], bytes].concat(), u64::from(version));
    }
    let replayed = wal::replay(bytes, |record| {
        let _ = head.replay(record, SEGMENT);
    });
    assert_eq!(replayed.bytes, bytes.len() as u64);
    head.end_replay();
});
