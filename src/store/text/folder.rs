//! The folder of an index: its names, its one field, and what its failures are called.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use tantivy::schema::{BytesOptions, Field, Schema};

use crate::base::disk::Disk;

/// Longer runs are kept by their hash, and their blocks answer every search for a part of a run.
pub(super) const TERM_BYTES_MAX: usize = 256;
pub(super) const FIELD: &str = "w";

/// The index cannot be used; read every block, and build the index anew.
#[derive(Clone, Debug, thiserror::Error)]
#[error("text index {path:?}: {what}")]
pub struct TextError {
    pub(super) path: PathBuf,
    pub(super) what: String,
    /// The system said so, which tells nothing of what lies on the disk.
    passing: bool,
}

impl TextError {
    /// What is in `path` is not what was written, or the library failed.
    pub(super) fn new(path: &Path, what: impl Into<String>) -> Self {
        Self { path: path.to_owned(), what: what.into(), passing: false }
    }

    /// Whether the same may succeed later.
    pub fn is_passing(&self) -> bool {
        self.passing
    }
}

/// Runs what may fail or panic inside tantivy.
pub(super) fn guarded<T>(path: &Path, work: impl FnOnce() -> tantivy::Result<T>) -> Result<T, TextError> {
    let what = match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(answer)) => return Ok(answer),
        Ok(Err(error)) => error.to_string(),
        Err(_) => "tantivy panicked".into(),
    };
    Err(TextError::new(path, what))
}

pub(super) fn failed(path: &Path) -> impl Fn(io::Error) -> TextError {
    move |error| {
        let passing = !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof);
        TextError { passing, ..TextError::new(path, error.to_string()) }
    }
}

pub(super) fn schema() -> (Schema, Field) {
    let mut schema = Schema::builder();
    let field = schema.add_bytes_field(FIELD, BytesOptions::default().set_indexed());
    (schema.build(), field)
}

pub(super) fn segment_dir(dir: &Path, number: usize) -> PathBuf {
    dir.join(format!("{number:04}"))
}

/// Removes an index, if there is one.
///
/// # Errors
/// [`TextError`].
pub fn remove(disk: &dyn Disk, dir: &Path) -> Result<(), TextError> {
    match disk.remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(dir)(error)),
        _ => Ok(()),
    }
}
