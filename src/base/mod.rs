//! What knows nothing of telemetry: errors and their classes, clock, disk, limits, bodies in flight, counters, bits.

pub mod bits;
pub mod clock;
pub mod counters;
pub mod disk;
pub mod error;
pub mod in_flight;
pub mod limits;
pub mod memory;
#[cfg(test)]
pub(crate) mod mutate;
pub mod pattern;
pub mod varint;
pub mod xxhash;

/// Clock and disk of tests. Not in what ships.
#[cfg(test)]
#[path = "../../tests/support/mod.rs"]
pub mod support;
