//! The way of one signal's data to disk, the same for all three: gate, write-ahead log, active
//! head, frozen heads, parts. What differs is behind [`Kind`].
//! Flow: [`Lane::append`] logs and applies; [`Maintain::flush`] seals the log, freezes the head, writes
//! it as parts and removes the log; [`Lane::view`] is what a query reads.
//! Invariants: a record is in the log before it is in the head; the records of the sealed segments
//! are exactly those of the frozen heads; a view has every row once, because parts come in and the
//! frozen head goes out under one lock.
//! Locks: `merging`, then `flushing`, then `exchanging`, then `state`, then the log's. Retention and
//! disk budget take `exchanging` alone, so they wait for no flush and no merge.

mod append;
mod flush;
mod kind;
mod late;
mod maintain;
mod merge;
mod merges;
mod open;
mod pace;
mod retry;
mod upkeep;

pub use append::{Lane, View, expect_replay};
pub use kind::{Kind, LaneOptions, SliceSpan, partition};
pub use maintain::{LaneStats, Maintain, OldestPart, Removed};
pub use pace::Pace;
