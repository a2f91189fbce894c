//! Remote write 1.0: a body, as it is after decompression or still compressed, into a head.
#![no_main]

use libfuzzer_sys::{fuzz_mutator, fuzz_target};
use trilith::wire::limits::DEFAULT;
use trilith::wire::prometheus::{decode_v1, decode_v1_raw, parse_labels};

#[path = "shared/taken.rs"]
mod taken;

fuzz_target!(|bytes: &[u8]| {
    let bytes = taken::inflated(bytes);
    let raw = decode_v1_raw(&bytes, &DEFAULT);
    let Ok(decoded) = decode_v1(&bytes, &DEFAULT) else { return };
    taken::all(&decoded.batch);
    // The hot path takes and refuses the same.
    let raw = raw.expect("refused by one way only").batch;
    taken::raw(&raw);
    let (batch, _) = raw.read(&|labels| parse_labels(labels, &DEFAULT));
    assert_eq!(batch.samples(), decoded.batch.samples());
});

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    trilith_fuzz::change_protobuf(data, size, max_size, seed)
});
