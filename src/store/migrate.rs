//! Brings a data directory to the format that this version writes, one step after the other.
//! The file `FORMAT` holds the number of the last step that is done; it is replaced by a rename
//! after each step, so a step that is cut off runs again and must bear that.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::{StoreError, io_error};
use super::patience::patiently;
use crate::base::disk::Disk;

#[path = "../../migrations/m0001_initial.rs"]
mod m0001_initial;
#[path = "../../migrations/m0002_metrics_by_column.rs"]
mod m0002_metrics_by_column;

/// The second copy of the number, with a checksum.
const SECOND: &str = "FORMAT.sum";

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
    run: fn(&Arc<dyn Disk>, &Path) -> Result<(), MigrateError>,
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
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Runs the steps that are missing in `dir`; returns the format's number.
///
/// # Errors
/// [`MigrateError`].
pub fn migrate(disk: &Arc<dyn Disk>, dir: &Path) -> Result<u32, MigrateError> {
    let known = MIGRATIONS.last().map_or(0, |step| step.to);
    let found = read_format(&**disk, dir, known)?;
    if found > known {
        return Err(MigrateError::Newer { dir: dir.to_owned(), found, known });
    }
    for step in MIGRATIONS.iter().filter(|step| step.to > found) {
        // Where there is nothing, nothing changes.
        if found > 0 {
            tracing::info!(step = step.name, to = step.to, "{}", step.summary);
        }
        (step.run)(disk, dir)?;
        patiently(|| write_format(&**disk, dir, step.to))?;
    }
    mend(&**disk, dir, known);
    Ok(known)
}

/// The bytes of a file; none when it is not there.
fn read(disk: &dyn Disk, path: &Path) -> Result<Option<Vec<u8>>, StoreError> {
    match disk.read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(io_error("read", path)(error)),
    }
}

/// The number of the format. `FORMAT.sum` holds it a second time, with a checksum, and is written before
/// `FORMAT`: so where the two differ by more than a step that was cut off, `FORMAT` is damaged.
fn read_format(disk: &dyn Disk, dir: &Path, known: u32) -> Result<u32, MigrateError> {
    let (path, second) = (dir.join("FORMAT"), dir.join(SECOND));
    let number = match patiently(|| read(disk, &path))? {
        Some(bytes) => std::str::from_utf8(&bytes).ok().and_then(|text| text.trim().parse().ok()),
        None => Some(0),
    };
    let second = patiently(|| read(disk, &second))?.and_then(|bytes| {
        let text = std::str::from_utf8(&bytes).ok()?;
        text.split_once(' ')?.0.parse().ok().filter(|own| sum(*own) == text)
    });
    match (number, second) {
        (Some(number), Some(second)) if number == second || number + 1 == second => Ok(number),
        (_, Some(second)) => {
            tracing::error!(?path, found = ?number, taken = second, "the number of the format is damaged; its second copy counts");
            Ok(second)
        }
        (Some(number), None) => Ok(number),
        (None, None) => Err(MigrateError::Unreadable { path, known }),
    }
}

fn sum(number: u32) -> String {
    format!("{number} {:08x}\n", crc32c::crc32c(number.to_string().as_bytes()))
}

fn write_format(disk: &dyn Disk, dir: &Path, number: u32) -> Result<(), StoreError> {
    write(disk, dir, SECOND, &sum(number))?;
    write(disk, dir, "FORMAT", &format!("{number}\n"))
}

fn write(disk: &dyn Disk, dir: &Path, name: &str, text: &str) -> Result<(), StoreError> {
    let (tmp, path) = (dir.join(format!("{name}.tmp")), dir.join(name));
    let write = || {
        let file = disk.append(&tmp)?;
        file.truncate(0)?;
        file.write_all(text.as_bytes())?;
        file.sync()?;
        disk.rename(&tmp, &path)?;
        disk.sync_dir(dir)
    };
    write().map_err(io_error("write", &path))
}

/// Writes both copies anew where one is missing or damaged. A disk that is full keeps nobody from
/// starting: it is done by the next start.
fn mend(disk: &dyn Disk, dir: &Path, number: u32) {
    let holds = |name: &str, text: &str| disk.read(&dir.join(name)).is_ok_and(|bytes| bytes == text.as_bytes());
    if holds("FORMAT", &format!("{number}\n")) && holds(SECOND, &sum(number)) {
        return;
    }
    if let Err(error) = write_format(disk, dir, number) {
        tracing::warn!(%error, "cannot write the number of the format a second time");
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::base::disk::RealDisk;

    fn migrate(dir: &Path) -> Result<u32, MigrateError> {
        let disk: Arc<dyn Disk> = Arc::new(RealDisk);
        super::migrate(&disk, dir)
    }

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
    fn any_flipped_bit_of_the_number_or_its_copy_is_mended() {
        let dir = tempfile::tempdir().unwrap();
        migrate(dir.path()).unwrap();
        for name in ["FORMAT", SECOND] {
            let good = fs::read(dir.path().join(name)).unwrap();
            for bit in 0..good.len() * 8 {
                let mut bad = good.clone();
                bad[bit / 8] ^= 1 << (bit % 8);
                fs::write(dir.path().join(name), bad).unwrap();
                assert_eq!(migrate(dir.path()).unwrap(), 2, "{name}, bit {bit}");
                assert_eq!(fs::read(dir.path().join(name)).unwrap(), good, "{name}, bit {bit}");
            }
        }
        fs::remove_file(dir.path().join("FORMAT")).unwrap();
        assert_eq!(migrate(dir.path()).unwrap(), 2);
    }

    #[test]
    fn a_step_that_was_cut_off_between_the_copies_runs_again() {
        let dir = tempfile::tempdir().unwrap();
        migrate(dir.path()).unwrap();
        fs::write(dir.path().join("FORMAT"), "1\n").unwrap();
        assert_eq!(read_format(&RealDisk, dir.path(), 2).unwrap(), 1);
    }

    #[test]
    fn steps_are_numbered_without_gaps() {
        assert!(MIGRATIONS.iter().enumerate().all(|(at, step)| step.to as usize == at + 1));
    }
}
