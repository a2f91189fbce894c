//! A remote read request, as it is after decompression or still compressed.
#![no_main]

use libfuzzer_sys::{fuzz_mutator, fuzz_target};
use trilith::wire::decompress::{Encoding, decompress};
use trilith::wire::remote_read;

fuzz_target!(|bytes: &[u8]| {
    let _ = remote_read::decode(bytes);
    if let Ok(inflated) = decompress(Encoding::Snappy, bytes, 1 << 20) {
        let _ = remote_read::decode(&inflated);
    }
});

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    trilith_fuzz::change_protobuf(data, size, max_size, seed)
});
