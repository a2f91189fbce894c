//! Parts: immutable files of frames. A part is written under a temporary name, synced, renamed.
//! Flow: header frame (what the part is), data and index frames, footer frame (the same again and a
//! directory of the frames), trailer (where the footer is).
//! Invariants: each frame carries its kind, lengths and a crc32c over all of them, so a flipped byte
//! costs one frame, and a damaged footer is rebuilt by reading the frames from the front. The parts
//! of one flush form a group; a group counts only when all of it is there or its log is gone. A part
//! that was merged from others names them in its first frame, and counts instead of them.
//! Files are opened when they are read, and few stay open (`file.rs`).
//! Bytes: docs/format/part.md.

mod file;
mod format;
#[cfg(fuzzing)]
pub mod fuzzed;
mod read;
#[cfg(test)]
mod tests;
mod write;

pub use format::{FRAME_BYTES_MAX, FrameRef, Merged, PART_VERSION, PartId, PartInfo};
pub use read::PartReader;
pub use write::{PartWriter, PendingPart, commit};
