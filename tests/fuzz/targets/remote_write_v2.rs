//! Remote write 2.0: a body, as it is after decompression or still compressed, into a head.
#![no_main]

use libfuzzer_sys::{fuzz_mutator, fuzz_target};
use trilith::wire::limits::DEFAULT;
use trilith::wire::prometheus::{decode_v2, decode_v2_raw};

#[path = "shared/taken.rs"]
mod taken;

fuzz_target!(|bytes: &[u8]| {
    let bytes = taken::inflated(bytes);
    if let Ok(decoded) = decode_v2(&bytes, &DEFAULT) {
        taken::all(&decoded.batch);
    }
    if let Ok(decoded) = decode_v2_raw(&bytes, &DEFAULT) {
        taken::raw(&decoded.batch);
    }
});

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    trilith_fuzz::change_protobuf(data, size, max_size, seed)
});
