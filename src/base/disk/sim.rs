//! A disk for tests, over a real folder: it fills up, dies at the n-th write, and forgets at a
//! power cut what was not synced. Files keep what was synced and a random share of the rest; names
//! made, changed and removed since their folder was synced are undone from a random point on.

use std::collections::HashMap;
use std::fs::{self, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use super::{AppendFile, Disk, Entry, Metadata, ReadFile, RealDisk, Space};

/// A change of a folder that is not synced yet.
enum NameChange {
    Made(PathBuf),
    Renamed { from: PathBuf, to: PathBuf, replaced: Option<Vec<u8>> },
    Removed { path: PathBuf, content: Vec<u8> },
}

#[derive(Default)]
struct State {
    /// Bytes of each file that are on the medium.
    synced: HashMap<PathBuf, u64>,
    changes: Vec<NameChange>,
    room: Option<u64>,
    steps_left: Option<u64>,
    /// Changes of the medium until there is no room.
    fills_in: Option<u64>,
    steps: u64,
    random: u64,
}

impl State {
    /// Counts one change of the medium; fails once the disk is dead.
    fn step(&mut self) -> io::Result<()> {
        self.steps += 1;
        match &mut self.fills_in {
            Some(0) => (self.room, self.fills_in) = (Some(0), None),
            Some(left) => *left -= 1,
            None => {}
        }
        match &mut self.steps_left {
            Some(0) => Err(io::Error::other("the simulated disk is dead")),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// A random number below `bound` (xorshift; seeded, so a failure can be repeated).
    fn below(&mut self, bound: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random.checked_rem(bound).unwrap_or(0)
    }
}

/// A disk that tests break.
#[derive(Clone)]
pub struct SimDisk(Arc<Mutex<State>>);

impl SimDisk {
    /// A disk with endless room that never dies; `seed` decides what a power cut leaves.
    pub fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(State { random: seed | 1, ..State::default() })))
    }

    /// Leaves room for `bytes` more; `None` is endless.
    pub fn set_room(&self, bytes: Option<u64>) {
        let mut state = self.0.lock();
        (state.room, state.fills_in) = (bytes, None);
    }

    /// Lets `steps` more writes, syncs and changes of names happen; all later ones fail.
    pub fn die_after(&self, steps: u64) {
        self.0.lock().steps_left = Some(steps);
    }

    /// Lets `steps` more writes, syncs and changes of names happen; then the disk has no room, until
    /// [`set_room`](Self::set_room) says otherwise.
    pub fn fill_after(&self, steps: u64) {
        self.0.lock().fills_in = Some(steps);
    }

    /// Writes, syncs and changes of names so far.
    pub fn steps(&self) -> u64 {
        self.0.lock().steps
    }

    /// Cuts the power: the folder holds afterwards what a medium might. Nothing may use the disk
    /// while it happens; then open the folder again with a new disk.
    ///
    /// # Errors
    /// The system's.
    pub fn cut_power(&self) -> io::Result<()> {
        let mut state = self.0.lock();
        let state = &mut *state;
        let files: Vec<(PathBuf, u64)> = state.synced.iter().map(|(path, len)| (path.clone(), *len)).collect();
        for (path, synced) in files {
            let Ok(meta) = fs::metadata(&path) else { continue };
            if meta.len() > synced {
                let kept = synced + state.below(meta.len() - synced + 1);
                OpenOptions::new().write(true).open(&path)?.set_len(kept)?;
            }
        }
        let kept = state.below(state.changes.len() as u64 + 1);
        for change in state.changes.drain(usize::try_from(kept).unwrap_or(0)..).rev() {
            match change {
                NameChange::Made(path) => ignore_missing(fs::remove_file(path))?,
                NameChange::Renamed { from, to, replaced } => {
                    ignore_missing(fs::rename(&to, from))?;
                    if let Some(content) = replaced {
                        fs::write(to, content)?;
                    }
                }
                NameChange::Removed { path, content } => fs::write(path, content)?,
            }
        }
        Ok(())
    }
}

fn ignore_missing(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

struct SimFile {
    path: PathBuf,
    real: Arc<dyn AppendFile>,
    state: Arc<Mutex<State>>,
}

impl AppendFile for SimFile {
    fn write_all(&self, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.state.lock();
        state.step()?;
        if let Some(room) = state.room {
            let fits = usize::try_from(room).unwrap_or(usize::MAX).min(bytes.len());
            state.room = Some(room - fits as u64);
            self.real.write_all(bytes.get(..fits).unwrap_or_default())?;
            if fits < bytes.len() {
                return Err(io::Error::from(io::ErrorKind::StorageFull));
            }
            return Ok(());
        }
        self.real.write_all(bytes)
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.state.lock();
        state.step()?;
        let len = match fs::metadata(&self.path) {
            Ok(meta) => meta.len(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        state.synced.insert(self.path.clone(), len);
        Ok(())
    }

    fn truncate(&self, bytes: u64) -> io::Result<()> {
        let mut state = self.state.lock();
        let before = fs::metadata(&self.path).map_or(0, |meta| meta.len());
        if let Some(room) = &mut state.room {
            *room += before.saturating_sub(bytes);
        }
        if let Some(synced) = state.synced.get_mut(&self.path) {
            *synced = (*synced).min(bytes);
        }
        self.real.truncate(bytes)
    }
}

impl Disk for SimDisk {
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        RealDisk.create_dir_all(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<Entry>> {
        RealDisk.list(path)
    }

    fn metadata(&self, path: &Path) -> io::Result<Metadata> {
        RealDisk.metadata(path)
    }

    fn append(&self, path: &Path) -> io::Result<Arc<dyn AppendFile>> {
        let mut state = self.0.lock();
        state.step()?;
        if !path.exists() {
            state.changes.push(NameChange::Made(path.to_owned()));
            state.synced.insert(path.to_owned(), 0);
        }
        Ok(Arc::new(SimFile { path: path.to_owned(), real: RealDisk.append(path)?, state: self.0.clone() }))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn ReadFile>> {
        RealDisk.open(path)
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        RealDisk.read(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.0.lock();
        state.step()?;
        let replaced = fs::read(to).ok();
        RealDisk.rename(from, to)?;
        let synced = state.synced.remove(from).unwrap_or(0);
        state.synced.insert(to.to_owned(), synced);
        state.changes.push(NameChange::Renamed { from: from.to_owned(), to: to.to_owned(), replaced });
        Ok(())
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.0.lock();
        state.step()?;
        RealDisk.link(from, to)?;
        let bytes = fs::metadata(to).map_or(0, |meta| meta.len());
        let synced = state.synced.get(from).copied().unwrap_or(bytes);
        state.synced.insert(to.to_owned(), synced);
        state.changes.push(NameChange::Made(to.to_owned()));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.0.lock();
        state.step()?;
        let content = fs::read(path)?;
        RealDisk.remove(path)?;
        if let Some(room) = &mut state.room {
            *room += content.len() as u64;
        }
        state.synced.remove(path);
        state.changes.push(NameChange::Removed { path: path.to_owned(), content });
        Ok(())
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        self.0.lock().step()?;
        RealDisk.remove_dir_all(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.0.lock();
        state.step()?;
        let within = |own: &Path| own.parent() == Some(path);
        state.changes.retain(|change| match change {
            NameChange::Made(own) | NameChange::Removed { path: own, .. } => !within(own),
            NameChange::Renamed { to, .. } => !within(to),
        });
        Ok(())
    }

    fn space(&self, path: &Path) -> io::Result<Space> {
        let real = RealDisk.space(path)?;
        Ok(match self.0.lock().room {
            Some(room) => Space { free: room, total: real.total },
            None => real,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_power_cut_keeps_what_was_synced_and_never_more_than_was_written() {
        for seed in 0..50 {
            let dir = tempfile::tempdir().unwrap();
            let disk = SimDisk::new(seed);
            let path = dir.path().join("a");
            let file = disk.append(&path).unwrap();
            file.write_all(b"kept").unwrap();
            file.sync().unwrap();
            disk.sync_dir(dir.path()).unwrap();
            file.write_all(b" or not").unwrap();
            disk.append(&dir.path().join("b")).unwrap();
            disk.cut_power().unwrap();
            let left = fs::read(&path).unwrap();
            assert!(left.starts_with(b"kept") && b"kept or not".starts_with(&left[..]), "{left:?}");
        }
    }

    #[test]
    fn a_full_disk_writes_what_fits_and_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let disk = SimDisk::new(1);
        let file = disk.append(&dir.path().join("a")).unwrap();
        disk.set_room(Some(3));
        assert_eq!(file.write_all(b"12345").unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert_eq!(fs::read(dir.path().join("a")).unwrap(), b"123");
        assert_eq!(disk.space(dir.path()).unwrap().free, 0);
        disk.set_room(None);
        file.write_all(b"45").unwrap();
    }

    #[test]
    fn a_dead_disk_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let disk = SimDisk::new(1);
        let file = disk.append(&dir.path().join("a")).unwrap();
        disk.die_after(1);
        file.write_all(b"1").unwrap();
        assert!(file.write_all(b"2").is_err() && disk.remove(&dir.path().join("a")).is_err());
        assert_eq!(fs::read(dir.path().join("a")).unwrap(), b"1");
    }
}
