//! The text indexes of the parts of one signal: made, checked and dropped beside the parts, by one
//! thread of their own, so that neither a flush nor the start waits for them.
//! Flow: `submit` hands a part to the thread, which opens its index or builds one; from then on a
//! select leaves out blocks that the index says hold no hit. A build waits until there is memory for it;
//! one runs at a time, of all signals.
//! Invariants: an index belongs to exactly one part: a term with the part's own numbers is in it,
//! else it is built anew; without an index every block is read, and the answer is the same.
//! Locks: `pending` only, and a part's own slot.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::{TextBuilder, TextError, TextIndex, remove};
use crate::base::counters::Cell;
use crate::base::disk::Disk;
use crate::base::memory::Hold;
use crate::model::batch::Signal;
use crate::store::account::Account;
use crate::store::error::StoreError;
use crate::store::part::PartReader;

/// How often a build looks whether there is memory for it.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// A part that may have a text index.
pub trait Indexed: Send + Sync + 'static {
    /// Whose parts they are.
    const SIGNAL: Signal;

    /// The container.
    fn reader(&self) -> &PartReader;

    /// Its index, when it has one.
    fn text(&self) -> &PartText;

    /// The term that says whose index it is; nobody searches for it.
    fn seal(&self) -> String;

    /// Adds the seal and all that is searched for. Looks at `stops` now and then, and ends with
    /// [`BuildError::Stopped`] when it holds.
    ///
    /// # Errors
    /// [`BuildError`]: there will be no index.
    fn add_to(&self, builder: &mut TextBuilder, stops: &dyn Fn() -> bool) -> Result<(), BuildError>;
}

/// What a part keeps of its index.
#[derive(Default)]
pub struct PartText {
    index: Mutex<Option<Arc<TextIndex>>>,
    gone: AtomicBool,
}

/// Why an index was not made.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// Tantivy, or the files.
    #[error(transparent)]
    Text(#[from] TextError),
    /// The part.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The index has no seal of this part.
    #[error("it is another part's")]
    Another,
    /// Nobody wants it any more.
    #[error("the server stops or the part is gone")]
    Stopped,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    pending: Mutex<usize>,
    idle: Condvar,
}

/// Looks after the text indexes of one store.
pub struct Narrower<P> {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    shared: Arc<Shared>,
    sender: Mutex<Option<Sender<Arc<P>>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

fn index_dir<P: Indexed>(dir: &Path, part: &P) -> PathBuf {
    let stem = part.reader().path().file_stem().unwrap_or_default().to_string_lossy().into_owned();
    dir.join(format!("{}-{stem}", P::SIGNAL.name()))
}

impl<P: Indexed> Narrower<P> {
    /// Begins with indexes in `dir`; `damaged` counts those that have to be built anew, `account` says
    /// what a build may take.
    pub fn start(disk: &Arc<dyn Disk>, dir: &Path, damaged: Cell, account: &Account) -> Self {
        let shared = Arc::new(Shared::default());
        let (sender, receiver) = channel();
        let (own, shared_too) = (dir.to_owned(), shared.clone());
        let worker = Worker { disk: disk.clone(), dir: own, shared: shared_too, damaged, account: account.clone() };
        let name = format!("{}-index", P::SIGNAL.name());
        let thread = match thread::Builder::new().name(name).spawn(move || worker.run(&receiver)) {
            Ok(thread) => Some(thread),
            Err(error) => {
                tracing::error!(%error, "no thread for text indexes; searches read every block");
                None
            }
        };
        Self {
            disk: disk.clone(),
            dir: dir.to_owned(),
            shared,
            sender: Mutex::new(Some(sender)),
            thread: Mutex::new(thread),
        }
    }

    /// Has the part's index opened, or built.
    pub fn submit(&self, part: &Arc<P>) {
        *self.shared.pending.lock() += 1;
        let sent = self.sender.lock().as_ref().is_some_and(|sender| sender.send(part.clone()).is_ok());
        if !sent {
            self.shared.done();
        }
    }

    /// Waits until all that was submitted is done.
    pub fn settle(&self) {
        let mut pending = self.shared.pending.lock();
        while *pending > 0 {
            self.shared.idle.wait(&mut pending);
        }
    }

    /// Drops the index of a part that is gone.
    pub fn remove(&self, part: &P) {
        part.text().gone.store(true, Ordering::SeqCst);
        part.text().index.lock().take();
        if let Err(error) = remove(&*self.disk, &index_dir(&self.dir, part)) {
            tracing::warn!(%error, "cannot remove a text index");
        }
    }

    /// Removes indexes of parts that are not there.
    pub fn remove_strays<'a>(&self, parts: impl Iterator<Item = &'a Arc<P>>) {
        let prefix = format!("{}-", P::SIGNAL.name());
        let known: Vec<PathBuf> = parts.map(|part| index_dir(&self.dir, &**part)).collect();
        let entries = match self.disk.list(&self.dir) {
            Ok(entries) => entries,
            Err(error) => {
                tracing::warn!(%error, "cannot look for text indexes of parts that are gone; the next start does");
                return;
            }
        };
        for entry in entries {
            let (path, ours) = (self.dir.join(&entry.name), entry.name.starts_with(&prefix));
            // One that is being built has a name of its own, and whoever builds clears it first.
            let of =
                if path.extension().is_some_and(|name| name == "tmp") { path.with_extension("") } else { path.clone() };
            if ours && !known.contains(&of) && remove(&*self.disk, &path).is_err() {
                tracing::warn!(?path, "cannot remove the text index of a part that is gone");
            }
        }
    }
}

impl<P> Drop for Narrower<P> {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        self.sender.lock().take();
        if let Some(thread) = self.thread.lock().take()
            && thread.join().is_err()
        {
            tracing::error!("the thread of text indexes panicked");
        }
    }
}

impl Shared {
    fn done(&self) {
        let mut pending = self.pending.lock();
        *pending = pending.saturating_sub(1);
        if *pending == 0 {
            self.idle.notify_all();
        }
    }
}

impl PartText {
    /// What the index answers; `None` when there is none to ask. One that fails is not asked again.
    pub fn ask<T>(&self, ask: impl FnOnce(&TextIndex) -> Result<T, TextError>) -> Option<T> {
        let index = self.index.lock().clone()?;
        match ask(&index) {
            Ok(answer) => Some(answer),
            Err(error) => {
                tracing::error!(%error, "a text index failed; every block is read instead");
                self.index.lock().take();
                None
            }
        }
    }

    /// Whether there is an index to ask.
    pub fn is_ready(&self) -> bool {
        self.index.lock().is_some()
    }
}

struct Worker {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    shared: Arc<Shared>,
    damaged: Cell,
    account: Account,
}

impl Worker {
    fn run<P: Indexed>(&self, parts: &Receiver<Arc<P>>) {
        while let Ok(part) = parts.recv() {
            if !self.stops(&*part) && !part.text().is_ready() {
                self.serve(&*part);
            }
            drop(part);
            self.shared.done();
        }
    }

    fn stops(&self, part: &impl Indexed) -> bool {
        self.shared.stop.load(Ordering::SeqCst) || part.text().gone.load(Ordering::SeqCst)
    }

    fn serve(&self, part: &impl Indexed) {
        let dir = index_dir(&self.dir, part);
        let existed = self.disk.exists(&dir).unwrap_or_default();
        let result = self.open(&dir, part).or_else(|error| {
            if matches!(&error, BuildError::Text(error) if error.is_passing()) {
                tracing::warn!(%error, "a text index cannot be opened now and is built anew");
            } else if existed {
                self.damaged.inc();
                tracing::warn!(%error, "a text index cannot be used and is built anew");
            }
            self.build(&dir, part)?;
            tracing::info!(path = ?dir, "built a text index");
            self.open(&dir, part)
        });
        match result {
            Ok(index) => *part.text().index.lock() = Some(Arc::new(index)),
            Err(BuildError::Stopped) => {}
            Err(error) => tracing::warn!(%error, "no text index; searches read every block of the part"),
        }
        if part.text().gone.load(Ordering::SeqCst) {
            part.text().index.lock().take();
            // What cannot be removed now is removed as a stray at the next start.
            let _ = remove(&*self.disk, &dir);
        }
    }

    /// Waits until there is room for all that a build takes; nobody is pushed out for it.
    fn memory(&self, part: &impl Indexed) -> Result<Hold, BuildError> {
        let bytes = self.account.index_bytes();
        loop {
            if self.stops(part) {
                return Err(BuildError::Stopped);
            }
            if let Some(memory) = self.account.indexes.hold_spare(bytes) {
                return Ok(memory);
            }
            thread::sleep(LOOK_EVERY);
        }
    }

    fn build(&self, dir: &Path, part: &impl Indexed) -> Result<(), BuildError> {
        let _memory = self.memory(part)?;
        let mut builder = TextBuilder::create(&self.disk, dir, self.account.arena_bytes())?;
        if let Err(error) = part.add_to(&mut builder, &|| self.stops(part)) {
            builder.abandon();
            return Err(error);
        }
        Ok(builder.finish()?)
    }

    fn open(&self, dir: &Path, part: &impl Indexed) -> Result<TextIndex, BuildError> {
        let index = TextIndex::open(&*self.disk, dir)?;
        if index.blocks_with_term(&part.seal())?.is_empty() { Err(BuildError::Another) } else { Ok(index) }
    }
}
