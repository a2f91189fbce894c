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
mod inside;
pub mod narrow;
mod search;
mod sums;
#[cfg(test)]
mod tests;
mod tokens;

use std::fs;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use tantivy::schema::{BytesOptions, Field, Schema};

pub use build::TextBuilder;
pub use search::TextIndex;

/// Longer runs are kept by their hash, and their blocks answer every search for a part of a run.
const TERM_BYTES_MAX: usize = 256;
const FIELD: &str = "w";

/// The index cannot be used; read every block, and build the index anew.
#[derive(Clone, Debug, thiserror::Error)]
#[error("text index {path:?}: {what}")]
pub struct TextError {
    path: PathBuf,
    what: String,
}

/// Runs what may fail or panic inside tantivy.
fn guarded<T>(path: &Path, work: impl FnOnce() -> tantivy::Result<T>) -> Result<T, TextError> {
    let what = match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(answer)) => return Ok(answer),
        Ok(Err(error)) => error.to_string(),
        Err(_) => "tantivy panicked".into(),
    };
    Err(TextError { path: path.to_owned(), what })
}

fn failed(path: &Path) -> impl Fn(io::Error) -> TextError {
    move |error| TextError { path: path.to_owned(), what: error.to_string() }
}

fn schema() -> (Schema, Field) {
    let mut schema = Schema::builder();
    let field = schema.add_bytes_field(FIELD, BytesOptions::default().set_indexed());
    (schema.build(), field)
}

fn segment_dir(dir: &Path, number: usize) -> PathBuf {
    dir.join(format!("{number:04}"))
}

/// Removes an index, if there is one.
///
/// # Errors
/// [`TextError`].
pub fn remove(dir: &Path) -> Result<(), TextError> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(dir)(error)),
        _ => Ok(()),
    }
}
