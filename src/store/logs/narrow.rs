//! The text indexes of log parts: made, checked and dropped beside the parts, by one thread of
//! their own, so that neither a flush nor the start waits for them.
//! Flow: `submit` hands a part to the thread, which opens its index or builds one; from then on a
//! select leaves out packs that the index says hold no hit.
//! Invariants: an index belongs to exactly one part: a term with the part's own numbers is in it,
//! else it is built anew; without an index every pack is read, and the answer is the same.
//! Locks: `pending` only, and a part's own slot.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};

use parking_lot::{Condvar, Mutex};
use roaring::RoaringBitmap;

use super::cache::FrameCache;
use super::part::LogsPart;
use crate::base::counters::Cell;
use crate::store::StoreError;
use crate::store::text::{self, TextBuilder, TextError, TextIndex};

/// What a part keeps of its index.
#[derive(Default)]
pub(super) struct PartText {
    index: Mutex<Option<Arc<TextIndex>>>,
    gone: AtomicBool,
}

/// Why an index was not made.
#[derive(Debug, thiserror::Error)]
enum BuildError {
    #[error(transparent)]
    Text(#[from] TextError),
    #[error(transparent)]
    Store(#[from] StoreError),
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
pub(super) struct Narrower {
    dir: PathBuf,
    shared: Arc<Shared>,
    sender: Mutex<Option<Sender<Arc<LogsPart>>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

fn index_dir(dir: &Path, part: &LogsPart) -> PathBuf {
    let stem = part.reader().path().file_stem().unwrap_or_default().to_string_lossy().into_owned();
    dir.join(format!("logs-{stem}"))
}

/// The term that says whose index it is; words of lines are no terms.
fn seal(part: &LogsPart) -> String {
    let info = part.reader().info();
    format!("part {} {} {} {}", info.created_ms, info.rows, part.reader().bytes(), part.packs.len())
}

impl Narrower {
    /// Begins with indexes in `dir`; `damaged` counts those that have to be built anew.
    pub(super) fn start(dir: &Path, damaged: Cell) -> Self {
        let shared = Arc::new(Shared::default());
        let (sender, receiver) = channel();
        let worker = Worker { dir: dir.to_owned(), shared: shared.clone(), cache: FrameCache::new(8 << 20), damaged };
        let spawned = thread::Builder::new().name("text-index".into()).spawn(move || worker.run(&receiver));
        let thread = match spawned {
            Ok(thread) => Some(thread),
            Err(error) => {
                tracing::error!(%error, "no thread for text indexes; searches read every block");
                None
            }
        };
        Self { dir: dir.to_owned(), shared, sender: Mutex::new(Some(sender)), thread: Mutex::new(thread) }
    }

    /// Has the part's index opened, or built.
    pub(super) fn submit(&self, part: &Arc<LogsPart>) {
        *self.shared.pending.lock() += 1;
        let sent = self.sender.lock().as_ref().is_some_and(|sender| sender.send(part.clone()).is_ok());
        if !sent {
            self.shared.done();
        }
    }

    /// Waits until all that was submitted is done.
    pub(super) fn settle(&self) {
        let mut pending = self.shared.pending.lock();
        while *pending > 0 {
            self.shared.idle.wait(&mut pending);
        }
    }

    /// Drops the index of a part that is gone.
    pub(super) fn remove(&self, part: &LogsPart) {
        part.text.gone.store(true, Ordering::SeqCst);
        part.text.index.lock().take();
        if let Err(error) = text::remove(&index_dir(&self.dir, part)) {
            tracing::warn!(%error, "cannot remove a text index");
        }
    }

    /// Removes indexes of parts that are not there.
    pub(super) fn remove_strays<'a>(&self, parts: impl Iterator<Item = &'a Arc<LogsPart>>) {
        let known: Vec<PathBuf> = parts.map(|part| index_dir(&self.dir, part)).collect();
        let Ok(entries) = fs::read_dir(&self.dir) else { return };
        for path in entries.flatten().map(|entry| entry.path()) {
            let ours = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("logs-"));
            // One that is being built has a name of its own, and whoever builds clears it first.
            let of =
                if path.extension().is_some_and(|name| name == "tmp") { path.with_extension("") } else { path.clone() };
            if ours && !known.contains(&of) && text::remove(&path).is_err() {
                tracing::warn!(?path, "cannot remove the text index of a part that is gone");
            }
        }
    }
}

impl Drop for Narrower {
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
    /// The numbers of packs that cannot hold all of `literals`; `None` when there is no index to say.
    pub(super) fn packs_without(&self, literals: &[String]) -> Option<RoaringBitmap> {
        if literals.is_empty() {
            return None;
        }
        let index = self.index.lock().clone()?;
        let mut found = index.blocks().clone();
        for literal in literals {
            match index.blocks_with_substring_words(literal) {
                Ok(blocks) => found &= blocks,
                Err(error) => {
                    tracing::error!(%error, "a text index failed; every block is read instead");
                    self.index.lock().take();
                    return None;
                }
            }
        }
        Some(index.blocks() - found)
    }

    /// Whether there is an index to ask.
    pub(super) fn is_ready(&self) -> bool {
        self.index.lock().is_some()
    }
}

struct Worker {
    dir: PathBuf,
    shared: Arc<Shared>,
    cache: FrameCache,
    damaged: Cell,
}

impl Worker {
    fn run(&self, parts: &Receiver<Arc<LogsPart>>) {
        while let Ok(part) = parts.recv() {
            if !self.stops(&part) && !part.text.is_ready() {
                self.serve(&part);
            }
            drop(part);
            self.shared.done();
        }
    }

    fn stops(&self, part: &LogsPart) -> bool {
        self.shared.stop.load(Ordering::SeqCst) || part.text.gone.load(Ordering::SeqCst)
    }

    fn serve(&self, part: &LogsPart) {
        let dir = index_dir(&self.dir, part);
        let existed = dir.exists();
        let result = self.open(&dir, part).or_else(|error| {
            if existed {
                self.damaged.inc();
                tracing::warn!(%error, "a text index is damaged and is built anew");
            }
            self.build(&dir, part)?;
            tracing::info!(path = ?dir, "built a text index");
            self.open(&dir, part)
        });
        match result {
            Ok(index) => *part.text.index.lock() = Some(Arc::new(index)),
            Err(BuildError::Stopped) => {}
            Err(error) => tracing::warn!(%error, "no text index; searches read every block of the part"),
        }
        if part.text.gone.load(Ordering::SeqCst) {
            part.text.index.lock().take();
            let _ = text::remove(&dir);
        }
    }

    fn open(&self, dir: &Path, part: &LogsPart) -> Result<TextIndex, BuildError> {
        let index = TextIndex::open(dir)?;
        if index.blocks_with_term(&seal(part))?.is_empty() {
            text::remove(dir)?;
            return Ok(TextIndex::open(dir)?);
        }
        Ok(index)
    }

    fn build(&self, dir: &Path, part: &LogsPart) -> Result<(), BuildError> {
        let mut builder = TextBuilder::create(dir)?;
        if let Some(pack) = part.packs.first() {
            builder.add(pack.number, [seal(part).as_str()])?;
        }
        let mut runs = part.runs.iter().peekable();
        while let Some(run) = runs.next() {
            if self.stops(part) {
                return Err(BuildError::Stopped);
            }
            let mut pack = vec![run];
            while let Some(next) = runs.next_if(|next| next.pack == run.pack) {
                pack.push(next);
            }
            let Some(number) = part.packs.get(run.pack as usize).map(|pack| pack.number) else { continue };
            let mut rows = Vec::new();
            for run in pack {
                match part.read(run, true, false, &self.cache) {
                    Ok(read) => rows.push(read),
                    // Nobody can read it, so nothing is lost when it is left out.
                    Err(StoreError::Damaged { .. }) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            builder.add_texts(number, rows.iter().flat_map(|rows| rows.lines()))?;
        }
        Ok(builder.finish()?)
    }
}
