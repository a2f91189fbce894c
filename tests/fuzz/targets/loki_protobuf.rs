//! Loki's push as protobuf: lines that come out have labels, and stay within their limits.
#![no_main]

use libfuzzer_sys::{fuzz_mutator, fuzz_target};
use trilith::wire::limits::DEFAULT;
use trilith::wire::loki::decode_protobuf;

fuzz_target!(|bytes: &[u8]| {
    let Ok(decoded) = decode_protobuf(bytes, &DEFAULT) else { return };
    for stream in &decoded.batch.streams {
        assert!(stream.labels.iter().count() <= DEFAULT.labels_max, "labels of a stream");
        for entry in &stream.entries {
            assert!(entry.metadata.iter().count() <= DEFAULT.attributes_max, "metadata of a line");
        }
    }
});

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    trilith_fuzz::change_protobuf(data, size, max_size, seed)
});
