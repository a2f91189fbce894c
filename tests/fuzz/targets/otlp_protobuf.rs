//! OTLP as protobuf: one body as each of the three requests. What is decoded stays within its limits.
#![no_main]

use libfuzzer_sys::{fuzz_mutator, fuzz_target};
use trilith::wire::otlp::Format;

#[path = "shared/otlp.rs"]
mod otlp;

fuzz_target!(|bytes: &[u8]| otlp::all(bytes, Format::Protobuf));

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    trilith_fuzz::change_protobuf(data, size, max_size, seed)
});
