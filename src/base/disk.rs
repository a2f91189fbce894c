//! The file system, behind a trait so that tests can fill, break and stop it.
//! Everything the store writes goes through here, but for the files of sled and tantivy.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt as _};
use std::path::Path;
use std::sync::Arc;

/// A file or folder found by [`Disk::list`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name within the folder.
    pub name: String,
    /// Its size; 0 for a folder.
    pub bytes: u64,
    /// Whether it is a folder.
    pub is_dir: bool,
}

/// What the file system says of a file or folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metadata {
    /// Its size in bytes; 0 for a folder.
    pub bytes: u64,
    /// Bytes that it takes on the medium; less than its size where it has holes.
    pub allocated: u64,
    /// How many names it has.
    pub links: u64,
    /// What all names of one file have in common: file system and number.
    pub id: (u64, u64),
    /// Whether it is a folder.
    pub is_dir: bool,
}

/// Room on the file system of a path, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// What an ordinary user can still write.
    pub free: u64,
    /// The size of the whole file system.
    pub total: u64,
}

/// A file open for appending.
pub trait AppendFile: Send + Sync {
    /// Writes all of `bytes` at the end. After an error some of them may have been written.
    fn write_all(&self, bytes: &[u8]) -> io::Result<()>;
    /// Waits until everything written is on the medium.
    fn sync(&self) -> io::Result<()>;
    /// Cuts the file to `bytes`; the next write follows there.
    fn truncate(&self, bytes: u64) -> io::Result<()>;
}

/// A file open for reading at any place.
pub trait ReadFile: Send + Sync {
    /// Fills `buffer` from `offset`; an error when the file ends before.
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;
    /// The file's size now.
    fn bytes(&self) -> io::Result<u64>;
}

/// What the store needs of a file system.
pub trait Disk: Send + Sync {
    /// Makes a folder and those above it.
    fn create_dir_all(&self, path: &Path) -> io::Result<()>;
    /// What lies in a folder, sorted by name.
    fn list(&self, path: &Path) -> io::Result<Vec<Entry>>;
    /// What the file system says of a file or folder.
    fn metadata(&self, path: &Path) -> io::Result<Metadata>;
    /// Whether there is a file or folder of this name; an error when that cannot be known.
    fn exists(&self, path: &Path) -> io::Result<bool> {
        match self.metadata(path) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }
    /// Opens a file to append to, making it when it does not exist.
    fn append(&self, path: &Path) -> io::Result<Arc<dyn AppendFile>>;
    /// Opens a file to read.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn ReadFile>>;
    /// Reads a whole file.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;
    /// Gives a file its final name, replacing what has it.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Gives a file a second name.
    fn link(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Removes a folder and all in it.
    fn remove_dir_all(&self, path: &Path) -> io::Result<()>;
    /// Waits until names made, changed and removed in a folder are on the medium.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
    /// Room on the file system of `path`.
    fn space(&self, path: &Path) -> io::Result<Space>;
}

/// The machine's file system.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealDisk;

struct RealFile(File);

impl AppendFile for RealFile {
    fn write_all(&self, bytes: &[u8]) -> io::Result<()> {
        io::Write::write_all(&mut &self.0, bytes)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn truncate(&self, bytes: u64) -> io::Result<()> {
        self.0.set_len(bytes)
    }
}

impl ReadFile for RealFile {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.0.read_exact_at(buffer, offset)
    }

    fn bytes(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }
}

impl Disk for RealDisk {
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        fs::create_dir_all(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            let meta = match entry.metadata() {
                Ok(meta) => meta,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            entries.push(Entry { name, bytes: if meta.is_dir() { 0 } else { meta.len() }, is_dir: meta.is_dir() });
        }
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    fn metadata(&self, path: &Path) -> io::Result<Metadata> {
        let meta = fs::metadata(path)?;
        Ok(Metadata {
            bytes: if meta.is_dir() { 0 } else { meta.len() },
            // POSIX counts in 512 bytes, whatever the file system's blocks are.
            allocated: meta.blocks().saturating_mul(512),
            links: meta.nlink(),
            id: (meta.dev(), meta.ino()),
            is_dir: meta.is_dir(),
        })
    }

    fn append(&self, path: &Path) -> io::Result<Arc<dyn AppendFile>> {
        Ok(Arc::new(RealFile(OpenOptions::new().append(true).create(true).open(path)?)))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn ReadFile>> {
        Ok(Arc::new(RealFile(File::open(path)?)))
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        fs::read(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::hard_link(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir_all(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn space(&self, path: &Path) -> io::Result<Space> {
        let stat = rustix::fs::statvfs(path)?;
        Ok(Space {
            free: stat.f_bavail.saturating_mul(stat.f_frsize),
            total: stat.f_blocks.saturating_mul(stat.f_frsize),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_one_file_are_counted_and_have_its_id() {
        let dir = tempfile::tempdir().unwrap();
        let (first, second) = (dir.path().join("first"), dir.path().join("second"));
        assert!(!RealDisk.exists(&first).unwrap());
        RealDisk.append(&first).unwrap().write_all(&[7; 10_000]).unwrap();
        assert_eq!(RealDisk.metadata(&first).unwrap().links, 1);
        RealDisk.link(&first, &second).unwrap();
        let [one, other] = [&first, &second].map(|path| RealDisk.metadata(path).unwrap());
        assert_eq!((one.bytes, one.links, one.is_dir), (10_000, 2, false));
        assert_eq!(one.id, other.id);
        assert!(RealDisk.metadata(dir.path()).unwrap().is_dir);
    }
}
