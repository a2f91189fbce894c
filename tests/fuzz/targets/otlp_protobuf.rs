//! OTLP as protobuf: one body as each of the three requests. What is decoded stays within its limits.
#![no_main]

use libfuzzer_sys::fuzz_target;
use trilith::wire::otlp::Format;

#[path = "shared/otlp.rs"]
mod otlp;

fuzz_target!(|bytes: &[u8]| otlp::all(bytes, Format::Protobuf));
