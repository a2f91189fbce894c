//! Bodies of every encoding: never more comes out than is allowed.
#![no_main]

use libfuzzer_sys::fuzz_target;
use trilith::wire::decompress::{Encoding, decompress};

const INFLATED_MAX: usize = 1 << 16;

fuzz_target!(|bytes: &[u8]| {
    for encoding in [Encoding::Snappy, Encoding::Gzip, Encoding::Deflate, Encoding::Zstd] {
        if let Ok(inflated) = decompress(encoding, bytes, INFLATED_MAX) {
            assert!(inflated.len() <= INFLATED_MAX, "{encoding:?} gave {} bytes", inflated.len());
        }
    }
});
