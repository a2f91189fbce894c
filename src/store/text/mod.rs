//! Frozen full-text indexes: which blocks of a part hold which terms and which words. Only this
//! folder names tantivy.
//! Of a text two things are indexed: its runs of letters, each as a term, and its words with digits
//! (numbers, ids, hashes), each by a hash of 18 bits. Runs make a dictionary that stays small, so
//! that a search for a part of a word can walk all of it; ids are nearly all different, and as terms
//! they would take most of the index (34 MiB instead of 6 for a million lines).
//! Flow: a [`TextBuilder`] is fed block by block by one thread and writes a folder under a temporary
//! name that gets its final name when everything in it is on the medium; [`TextIndex::open`] checks
//! all of it by checksum; a search asks for blocks with a term or with the words of a literal.
//! Invariants: an index is written once and never changed or merged; a search may name blocks
//! without a hit, never leave out one with a hit; what fails or panics inside tantivy is an error
//! here, and the caller then reads every block. Memory of a build stays within an arena: when it is
//! full, the next segment, an index of its own in the same folder, is begun.
//! Bytes: docs/format/text.md.

mod build;
mod folder;
mod inside;
pub mod narrow;
mod search;
mod sums;
#[cfg(test)]
mod tests;
mod tokens;

pub use build::TextBuilder;
pub use folder::{TextError, remove};
pub use search::TextIndex;
