//! A disk for tests, over a real folder: it fills up, dies at the n-th write, fails calls as
//! `faults` says, and forgets at a power cut what was not synced. Files keep what was synced and a
//! random share of the rest; names made, changed and removed since their folder was synced are undone
//! from a random point on. What a sync has failed on is gone, as Linux has it: the pages count as clean,
//! so a later sync succeeds, but the medium never gets them.

use std::collections::HashMap;
use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};

use trilith::base::disk::{AppendFile, Disk, Entry, Metadata, ReadFile, RealDisk, Space};

use super::faults::{Fault, Faults, Op};

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
    /// Bytes that a failed sync has dropped.
    dropped: HashMap<PathBuf, Vec<(u64, u64)>>,
    faults: Faults,
    /// Writes to a path that contains this come out wrong.
    spoiled: Option<String>,
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

/// A write that waits.
#[derive(Default)]
struct Hold {
    /// The path contains it, and so many writes there come before; none holds nothing.
    next: Mutex<Option<(String, u64)>>,
    waiting: Mutex<bool>,
    turn: Condvar,
}

impl Hold {
    /// Waits if this is the write to wait.
    fn pass(&self, path: &Path) {
        let mut next = self.next.lock();
        match &mut *next {
            Some((text, 0)) if path.to_string_lossy().contains(text.as_str()) => *next = None,
            Some((text, left)) if path.to_string_lossy().contains(text.as_str()) => {
                *left -= 1;
                return;
            }
            _ => return,
        }
        drop(next);
        let mut waiting = self.waiting.lock();
        *waiting = true;
        self.turn.notify_all();
        while *waiting {
            self.turn.wait(&mut waiting);
        }
    }
}

/// A disk that tests break.
#[derive(Clone)]
pub struct SimDisk(Arc<Mutex<State>>, Arc<Hold>);

impl SimDisk {
    /// A disk with endless room that never dies; `seed` decides what a power cut leaves.
    pub fn new(seed: u64) -> Self {
        let faults = Faults::new(seed);
        Self(Arc::new(Mutex::new(State { random: seed | 1, faults, ..State::default() })), Arc::default())
    }

    /// Has a call fail.
    pub fn fail(&self, fault: Fault) {
        self.0.lock().faults.add(fault);
    }

    /// From now on one call in `one_in` fails, by chance.
    pub fn fail_by_chance(&self, one_in: u64) {
        self.0.lock().faults.by_chance(one_in);
    }

    /// After `writes` more to a path that contains `text` the next one waits for
    /// [`release`](Self::release).
    pub fn hold_write(&self, text: &str, writes: u64) {
        *self.1.next.lock() = Some((text.to_owned(), writes));
    }

    /// Returns when a write waits.
    pub fn wait_held(&self) {
        let mut waiting = self.1.waiting.lock();
        while !*waiting {
            self.1.turn.wait(&mut waiting);
        }
    }

    /// Lets the write go on.
    pub fn release(&self) {
        *self.1.waiting.lock() = false;
        self.1.turn.notify_all();
    }

    /// From now on what is written to a path that contains `text` comes out wrong.
    pub fn spoil(&self, text: &str) {
        self.0.lock().spoiled = Some(text.to_owned());
    }

    /// After so many more calls of any kind one fails, or all that follow.
    pub fn fail_after(&self, calls: u64, for_ever: bool) {
        self.0.lock().faults.any_after(calls, for_ever);
    }

    /// How many calls of any kind there were.
    pub fn calls(&self) -> u64 {
        self.0.lock().faults.calls()
    }

    /// Whether a failed sync has dropped bytes of a file whose path contains `text`.
    pub fn has_dropped(&self, text: &str) -> bool {
        let state = self.0.lock();
        state.dropped.iter().any(|(path, ranges)| !ranges.is_empty() && path.to_string_lossy().contains(text))
    }

    /// No call fails any more, there is room, and the disk lives; what was dropped stays so.
    pub fn heal(&self) {
        let mut state = self.0.lock();
        state.faults.heal();
        (state.room, state.fills_in, state.steps_left, state.spoiled) = (None, None, None, None);
    }

    /// How many calls have failed by [`fail`](Self::fail) or by chance.
    pub fn failures(&self) -> u64 {
        self.0.lock().faults.met()
    }

    fn meet(&self, op: Op, path: &Path) -> io::Result<()> {
        self.0.lock().faults.meet(op, path)
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
        for (path, ranges) in state.dropped.drain() {
            for range in ranges {
                ignore_missing(zero(&path, range))?;
            }
        }
        let kept = state.below(state.changes.len() as u64 + 1);
        for change in state.changes.drain(usize::try_from(kept).unwrap_or(0)..).rev() {
            match change {
                NameChange::Made(path) => ignore_missing(fs::remove_file(path))?,
                NameChange::Renamed { from, to, replaced } => {
                    // A folder may have been begun anew under its old name by who does not ask this disk.
                    match fs::rename(&to, &from) {
                        Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {
                            fs::remove_dir_all(&from)?;
                            fs::rename(&to, &from)?;
                        }
                        done => ignore_missing(done)?,
                    }
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

/// Fills bytes of a file with zeros, as far as it goes.
fn zero(path: &Path, (from, to): (u64, u64)) -> io::Result<()> {
    let file = OpenOptions::new().write(true).open(path)?;
    let to = to.min(file.metadata()?.len());
    let len = usize::try_from(to.saturating_sub(from)).unwrap_or(0);
    file.write_all_at(&vec![0; len], from)
}

struct SimReadFile {
    path: PathBuf,
    real: Arc<dyn ReadFile>,
    state: Arc<Mutex<State>>,
}

impl ReadFile for SimReadFile {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.state.lock().faults.meet(Op::Read, &self.path)?;
        self.real.read_exact_at(buffer, offset)
    }

    fn bytes(&self) -> io::Result<u64> {
        self.state.lock().faults.meet(Op::Metadata, &self.path)?;
        self.real.bytes()
    }
}

struct SimFile {
    path: PathBuf,
    real: Arc<dyn AppendFile>,
    state: Arc<Mutex<State>>,
    hold: Arc<Hold>,
}

impl AppendFile for SimFile {
    fn write_all(&self, bytes: &[u8]) -> io::Result<()> {
        self.hold.pass(&self.path);
        let mut state = self.state.lock();
        state.step()?;
        if state.spoiled.as_ref().is_some_and(|text| self.path.to_string_lossy().contains(text.as_str())) {
            return self.real.write_all(&bytes.iter().map(|byte| byte ^ 0x55).collect::<Vec<_>>());
        }
        if let Err(error) = state.faults.meet(Op::Write, &self.path) {
            // Some of it may have been written.
            let some = usize::try_from(state.faults.below(bytes.len() as u64)).unwrap_or(0);
            self.real.write_all(bytes.get(..some).unwrap_or_default())?;
            return Err(error);
        }
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
        if let Err(error) = state.faults.meet(Op::Sync, &self.path) {
            let from = state.synced.insert(self.path.clone(), len).unwrap_or(0);
            // The pages may leave the cache at once or later.
            if state.faults.below(2) == 0 {
                zero(&self.path, (from, len))?;
            }
            state.dropped.entry(self.path.clone()).or_default().push((from, len));
            return Err(error);
        }
        state.synced.insert(self.path.clone(), len);
        Ok(())
    }

    fn truncate(&self, bytes: u64) -> io::Result<()> {
        let mut state = self.state.lock();
        state.faults.meet(Op::Truncate, &self.path)?;
        let before = fs::metadata(&self.path).map_or(0, |meta| meta.len());
        if let Some(room) = &mut state.room {
            *room += before.saturating_sub(bytes);
        }
        if let Some(synced) = state.synced.get_mut(&self.path) {
            *synced = (*synced).min(bytes);
        }
        if let Some(dropped) = state.dropped.get_mut(&self.path) {
            dropped.retain(|range| range.0 < bytes);
            dropped.iter_mut().for_each(|range| range.1 = range.1.min(bytes));
        }
        self.real.truncate(bytes)
    }
}

impl Disk for SimDisk {
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.meet(Op::CreateDir, path)?;
        RealDisk.create_dir_all(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<Entry>> {
        self.meet(Op::List, path)?;
        RealDisk.list(path)
    }

    fn metadata(&self, path: &Path) -> io::Result<Metadata> {
        self.meet(Op::Metadata, path)?;
        RealDisk.metadata(path)
    }

    fn append(&self, path: &Path) -> io::Result<Arc<dyn AppendFile>> {
        let mut state = self.0.lock();
        state.step()?;
        state.faults.meet(Op::Create, path)?;
        if !path.exists() {
            state.changes.push(NameChange::Made(path.to_owned()));
            state.synced.insert(path.to_owned(), 0);
        } else if !state.synced.contains_key(path) {
            // What was there before this disk was made lies on the medium.
            let bytes = fs::metadata(path).map_or(0, |meta| meta.len());
            state.synced.insert(path.to_owned(), bytes);
        }
        Ok(Arc::new(SimFile {
            path: path.to_owned(),
            real: RealDisk.append(path)?,
            state: self.0.clone(),
            hold: self.1.clone(),
        }))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn ReadFile>> {
        self.meet(Op::Open, path)?;
        Ok(Arc::new(SimReadFile { path: path.to_owned(), real: RealDisk.open(path)?, state: self.0.clone() }))
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.meet(Op::Open, path)?;
        self.meet(Op::Read, path)?;
        RealDisk.read(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.0.lock();
        state.step()?;
        state.faults.meet(Op::Rename, from)?;
        let replaced = fs::read(to).ok();
        RealDisk.rename(from, to)?;
        let there_before = || fs::metadata(to).map_or(0, |meta| meta.len());
        let synced = state.synced.remove(from).unwrap_or_else(there_before);
        state.synced.insert(to.to_owned(), synced);
        let dropped = state.dropped.remove(from).unwrap_or_default();
        state.dropped.insert(to.to_owned(), dropped);
        state.changes.push(NameChange::Renamed { from: from.to_owned(), to: to.to_owned(), replaced });
        Ok(())
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.0.lock();
        state.step()?;
        state.faults.meet(Op::Link, from)?;
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
        state.faults.meet(Op::Remove, path)?;
        let content = fs::read(path)?;
        RealDisk.remove(path)?;
        if let Some(room) = &mut state.room {
            *room += content.len() as u64;
        }
        state.synced.remove(path);
        state.dropped.remove(path);
        state.changes.push(NameChange::Removed { path: path.to_owned(), content });
        Ok(())
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        self.0.lock().step()?;
        self.meet(Op::RemoveDir, path)?;
        RealDisk.remove_dir_all(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.0.lock();
        state.step()?;
        state.faults.meet(Op::SyncDir, path)?;
        let within = |own: &Path| own.parent() == Some(path);
        state.changes.retain(|change| match change {
            NameChange::Made(own) | NameChange::Removed { path: own, .. } => !within(own),
            NameChange::Renamed { to, .. } => !within(to),
        });
        Ok(())
    }

    fn space(&self, path: &Path) -> io::Result<Space> {
        self.meet(Op::Space, path)?;
        let real = RealDisk.space(path)?;
        Ok(match self.0.lock().room {
            Some(room) => Space { free: room, total: real.total },
            None => real,
        })
    }
}

#[cfg(test)]
mod tests {
    use rustix::io::Errno;

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
    fn the_nth_call_fails_once_or_for_ever_and_only_within_the_path() {
        let dir = tempfile::tempdir().unwrap();
        let disk = SimDisk::new(1);
        let (a, b) = (dir.path().join("first-file"), dir.path().join("other-file"));
        fs::write(&a, b"1").unwrap();
        fs::write(&b, b"1").unwrap();
        disk.fail(Fault::new(Op::Open, Errno::MFILE).after(1).within("first-file"));
        assert!(disk.open(&b).is_ok() && disk.open(&a).is_ok() && disk.open(&b).is_ok());
        assert_eq!(disk.open(&a).err().and_then(|error| error.raw_os_error()), Some(Errno::MFILE.raw_os_error()));
        assert!(disk.open(&a).is_ok());
        disk.fail(Fault::new(Op::Read, Errno::IO).for_ever());
        assert!(disk.read(&a).is_err() && disk.read(&b).is_err());
        assert!(disk.open(&a).unwrap().read_exact_at(&mut [0], 0).is_err());
        assert_eq!(disk.failures(), 4);
        disk.heal();
        assert_eq!(disk.read(&a).unwrap(), b"1");
    }

    #[test]
    fn what_a_sync_has_failed_on_is_gone_though_the_next_one_succeeds() {
        for seed in 0..20 {
            let dir = tempfile::tempdir().unwrap();
            let disk = SimDisk::new(seed);
            let path = dir.path().join("a");
            let file = disk.append(&path).unwrap();
            disk.sync_dir(dir.path()).unwrap();
            file.write_all(b"kept").unwrap();
            file.sync().unwrap();
            file.write_all(b"gone").unwrap();
            disk.fail(Fault::new(Op::Sync, Errno::IO));
            assert!(file.sync().is_err());
            file.write_all(b"more").unwrap();
            file.sync().unwrap();
            disk.cut_power().unwrap();
            assert_eq!(fs::read(&path).unwrap(), b"kept\0\0\0\0more");
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
