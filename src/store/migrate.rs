//! Brings a data directory to the format that this version writes, one step after the other.
//! The file `FORMAT` holds the number of the last step that is done; it is replaced by a rename
//! after each step, so a step that is cut off runs again and must bear that.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::error::StoreError;

#[path = "../../migrations/m0001_initial.rs"]
mod m0001_initial;
#[path = "../../migrations/m0002_metrics_by_column.rs"]
mod m0002_metrics_by_column;

/// Every step, oldest first.
const MIGRATIONS: &[Migration] = &[m0001_initial::STEP, m0002_metrics_by_column::STEP];

/// One step of the format.
pub struct Migration {
    /// The format's number after it.
    to: u32,
    /// A word for the log.
    name: &'static str,
    /// What it does, for people.
    summary: &'static str,
    run: fn(&Path) -> Result<(), MigrateError>,
}

/// Why the data directory is not of our format.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// A newer version wrote it.
    #[error("the data in {dir:?} has format {found}, this version knows formats up to {known}; run a newer version")]
    Newer {
        /// The data directory.
        dir: PathBuf,
        /// Its format.
        found: u32,
        /// Ours.
        known: u32,
    },
    /// The number cannot be read.
    #[error(
        "{path:?} does not hold a format number; restore it from a backup, or write {known} into it if this version wrote the data"
    )]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Our format.
        known: u32,
    },
    /// A part could not be written anew.
    #[error("migrate {path:?}")]
    Part {
        /// The part.
        path: PathBuf,
        /// Why.
        #[source]
        source: StoreError,
    },
    /// A read or write failed.
    #[error("migrate {path:?}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// Runs the steps that are missing in `dir`; returns the format's number.
///
/// # Errors
/// [`MigrateError`].
pub fn migrate(dir: &Path) -> Result<u32, MigrateError> {
    let known = MIGRATIONS.last().map_or(0, |step| step.to);
    let found = read_format(dir, known)?;
    if found > known {
        return Err(MigrateError::Newer { dir: dir.to_owned(), found, known });
    }
    for step in MIGRATIONS.iter().filter(|step| step.to > found) {
        tracing::info!(step = step.name, to = step.to, "{}", step.summary);
        (step.run)(dir)?;
        write_format(dir, step.to)?;
    }
    Ok(known)
}

fn read_format(dir: &Path, known: u32) -> Result<u32, MigrateError> {
    let path = dir.join("FORMAT");
    match fs::read_to_string(&path) {
        Ok(text) => text.trim().parse().map_err(|_| MigrateError::Unreadable { path, known }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => Err(MigrateError::Unreadable { path, known }),
        Err(source) => Err(MigrateError::Io { path, source }),
    }
}

fn write_format(dir: &Path, number: u32) -> Result<(), MigrateError> {
    let (tmp, path) = (dir.join("FORMAT.tmp"), dir.join("FORMAT"));
    let write = || {
        fs::write(&tmp, format!("{number}\n"))?;
        fs::File::open(&tmp)?.sync_all()?;
        fs::rename(&tmp, &path)?;
        fs::File::open(dir)?.sync_all()
    };
    write().map_err(|source| MigrateError::Io { path, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_folder_gets_the_newest_format_once() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(migrate(dir.path()).unwrap(), 2);
        assert!(dir.path().join("wal/metrics").is_dir());
        assert_eq!(fs::read_to_string(dir.path().join("FORMAT")).unwrap(), "2\n");
        assert_eq!(migrate(dir.path()).unwrap(), 2);
    }

    #[test]
    fn data_of_a_newer_version_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("FORMAT"), "99\n").unwrap();
        assert!(migrate(dir.path()).unwrap_err().to_string().contains("run a newer version"));
        fs::write(dir.path().join("FORMAT"), "x").unwrap();
        assert!(matches!(migrate(dir.path()), Err(MigrateError::Unreadable { .. })));
    }

    #[test]
    fn steps_are_numbered_without_gaps() {
        assert!(MIGRATIONS.iter().enumerate().all(|(at, step)| step.to as usize == at + 1));
    }
}
