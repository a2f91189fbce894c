//! The files of parts, opened when they are read: a server has more parts than a process may have open
//! files. At most [`OPEN_MAX`] stay open, those read last.
//! Invariants: a part whose file is about to lose its name is pinned, so that whoever still has it reads on.
//! Locks: the pool's, for a look through its list when a file is opened; then a file's own.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use crate::base::disk::{Disk, ReadFile};

/// Files of parts that stay open.
const OPEN_MAX: usize = if cfg!(test) { 2 } else { 256 };

/// All files that are open, of all stores in the process, as the limit is the process's.
static POOL: Mutex<Vec<Weak<Slot>>> = Mutex::new(Vec::new());
/// Rises with every use.
static USES: AtomicU64 = AtomicU64::new(0);

#[derive(Default)]
struct Slot {
    file: Mutex<Option<Arc<dyn ReadFile>>>,
    used: AtomicU64,
    pinned: AtomicBool,
}

/// A file of a part.
pub(super) struct PartFile {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    slot: Arc<Slot>,
}

impl PartFile {
    /// The file of a path; not opened yet.
    pub(super) fn new(disk: &Arc<dyn Disk>, path: &Path) -> Self {
        Self { disk: disk.clone(), path: path.to_owned(), slot: Arc::default() }
    }

    /// The file, open.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn get(&self) -> io::Result<Arc<dyn ReadFile>> {
        self.slot.used.store(USES.fetch_add(1, Ordering::Relaxed), Ordering::Relaxed);
        if let Some(file) = &*self.slot.file.lock() {
            return Ok(file.clone());
        }
        let file = self.disk.open(&self.path)?;
        *self.slot.file.lock() = Some(file.clone());
        self.enter();
        Ok(file)
    }

    /// Keeps it open for as long as somebody has the part; if it cannot be opened now, who reads it later
    /// gets an error.
    pub(super) fn pin(&self) {
        self.slot.pinned.store(true, Ordering::Relaxed);
        if let Err(error) = self.get() {
            tracing::debug!(%error, path = ?self.path, "a part that goes cannot be kept open for its readers");
        }
    }

    /// Counts it among those that are open, and closes others while there are too many.
    fn enter(&self) {
        let mut pool = POOL.lock();
        pool.retain(|slot| slot.strong_count() > 0);
        pool.push(Arc::downgrade(&self.slot));
        while pool.len() > OPEN_MAX {
            let used = |slot: &Weak<Slot>| slot.upgrade().map_or(0, |slot| slot.used.load(Ordering::Relaxed));
            let Some(oldest) = (0..pool.len()).min_by_key(|at| pool.get(*at).map_or(u64::MAX, used)) else { return };
            let slot = pool.swap_remove(oldest).upgrade();
            if let Some(slot) = slot.filter(|slot| !slot.pinned.load(Ordering::Relaxed)) {
                slot.file.lock().take();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::disk::RealDisk;

    #[test]
    fn few_files_stay_open_and_all_can_be_read() {
        let dir = tempfile::tempdir().unwrap();
        let disk: Arc<dyn Disk> = Arc::new(RealDisk);
        let files: Vec<PartFile> = (0..10u8)
            .map(|number| {
                let path = dir.path().join(number.to_string());
                std::fs::write(&path, [number]).unwrap();
                PartFile::new(&disk, &path)
            })
            .collect();
        let read = |number: u8| {
            let mut byte = [0];
            files[usize::from(number)].get().and_then(|file| file.read_exact_at(&mut byte, 0)).map(|()| byte[0])
        };
        for number in (0..10).chain(0..10) {
            assert_eq!(read(number).unwrap(), number);
        }
        // Those of other tests count as well, so there may be fewer.
        let open = files.iter().filter(|file| file.slot.file.lock().is_some()).count();
        assert!(open <= OPEN_MAX, "{open} are open");
        files[3].pin();
        (0..10).for_each(|number| std::fs::remove_file(dir.path().join(number.to_string())).unwrap());
        (4..10).for_each(|number| drop(read(number)));
        assert_eq!(read(3).unwrap(), 3, "its reader reads on");
    }
}
