//! What tests use instead of the machine's clock and disk. It is compiled into the unit tests
//! (as `crate::base::support`) and into the integration tests, and into nothing that ships.
#![allow(unreachable_pub, dead_code, reason = "each of the two test binaries uses a part of it")]

pub mod clock;
pub mod faults;
pub mod sim_disk;

pub use clock::ManualClock;
pub use sim_disk::SimDisk;
