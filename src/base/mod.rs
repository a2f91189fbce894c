//! What knows nothing of telemetry: errors and their classes, clock, disk, limits, bodies in flight, counters, bits;
//! how Go and the web spell numbers, durations, strings.

pub mod bits;
pub mod clock;
pub mod counters;
pub mod disk;
pub mod duration;
pub mod error;
pub mod float_text;
pub mod go_escape;
pub mod in_flight;
pub mod limits;
pub mod memory;
#[cfg(test)]
pub(crate) mod mutate;
pub mod pattern;
pub mod percent;
pub mod varint;
pub mod xxhash;

/// Clock and disk of tests. Not in what ships.
#[cfg(test)]
#[path = "../../tests/support/mod.rs"]
pub mod support;
