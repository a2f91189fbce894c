//! The text indexes of parts: made, checked and dropped beside the parts, by one thread of their own,
//! so that neither a flush nor the start waits for them.
//! Flow: `submit` hands a part to the thread, which opens its index or builds one; from then on a
//! search leaves out blocks that the index says hold no span of interest.
//! Invariants: an index belongs to exactly one part: a term with the part's own numbers is in it, else
//! it is built anew; without an index every block is looked at, and the answer is the same.
//! Locks: `pending` only, and a part's own slot.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};

use parking_lot::{Condvar, Mutex};
use roaring::RoaringBitmap;

use super::part::TracesPart;
use super::spanset::SpanSet;
use super::terms::{hint_terms, terms_of};
use crate::base::counters::Cell;
use crate::store::text::{self, TextBuilder, TextError, TextIndex};
use crate::store::{SpanHint, StoreError};

/// Parts of fewer spans are searched without an index.
pub(super) const SPANS_MIN: u64 = 20_000;

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
    #[error("it is another part's")]
    Another,
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
    spans_min: u64,
    shared: Arc<Shared>,
    sender: Mutex<Option<Sender<Arc<TracesPart>>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

fn index_dir(dir: &Path, part: &TracesPart) -> PathBuf {
    let stem = part.reader().path().file_stem().unwrap_or_default().to_string_lossy().into_owned();
    dir.join(format!("traces-{stem}"))
}

/// The term that says whose index it is. No other term begins with a NUL.
fn seal(part: &TracesPart) -> String {
    let info = part.reader().info();
    format!("\0part {} {} {} {}", info.created_ms, info.rows, part.reader().bytes(), part.blocks().len())
}

impl Narrower {
    /// Begins with indexes in `dir`, for parts of `spans_min` spans and more; `damaged` counts indexes
    /// that have to be built anew.
    pub(super) fn start(dir: &Path, spans_min: u64, damaged: Cell) -> Self {
        let shared = Arc::new(Shared::default());
        let (sender, receiver) = channel();
        let worker = Worker { dir: dir.to_owned(), shared: shared.clone(), damaged };
        let spawned = thread::Builder::new().name("traces-index".into()).spawn(move || worker.run(&receiver));
        let thread = match spawned {
            Ok(thread) => Some(thread),
            Err(error) => {
                tracing::error!(%error, "no thread for text indexes; searches look at every block");
                None
            }
        };
        let sender = Mutex::new(Some(sender));
        Self { dir: dir.to_owned(), spans_min, shared, sender, thread: Mutex::new(thread) }
    }

    /// Has the part's index opened, or built, when the part is large enough.
    pub(super) fn submit(&self, part: &Arc<TracesPart>) {
        if part.reader().info().rows < self.spans_min {
            return;
        }
        *self.shared.pending.lock() += 1;
        let sent = self.sender.lock().as_ref().is_some_and(|sender| sender.send(part.clone()).is_ok());
        if !sent {
            self.shared.done();
        }
    }

    /// Waits until all that was submitted is done.
    #[cfg(test)]
    pub(super) fn settle(&self) {
        let mut pending = self.shared.pending.lock();
        while *pending > 0 {
            self.shared.idle.wait(&mut pending);
        }
    }

    /// Drops the index of a part that is gone.
    pub(super) fn remove(&self, part: &TracesPart) {
        part.text.gone.store(true, Ordering::SeqCst);
        part.text.index.lock().take();
        if let Err(error) = text::remove(&index_dir(&self.dir, part)) {
            tracing::warn!(%error, "cannot remove a text index");
        }
    }

    /// Removes indexes of parts that are not there.
    pub(super) fn remove_strays<'a>(&self, parts: impl Iterator<Item = &'a TracesPart>) {
        let known: Vec<PathBuf> = parts.map(|part| index_dir(&self.dir, part)).collect();
        let Ok(entries) = fs::read_dir(&self.dir) else { return };
        for path in entries.flatten().map(|entry| entry.path()) {
            let ours = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("traces-"));
            if ours && !known.contains(&path) && text::remove(&path).is_err() {
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
    /// Blocks that may hold a span for which all hints hold; `None` when there is no index to say.
    pub(super) fn blocks(&self, hints: &[SpanHint]) -> Option<RoaringBitmap> {
        let index = self.index.lock().clone()?;
        let mut found = index.blocks().clone();
        for terms in hints.iter().filter_map(hint_terms) {
            let mut any = RoaringBitmap::new();
            for term in terms {
                match index.blocks_with_term(&term) {
                    Ok(blocks) => any |= blocks,
                    Err(error) => {
                        tracing::error!(%error, "a text index failed; every block is looked at instead");
                        self.index.lock().take();
                        return None;
                    }
                }
            }
            found &= any;
        }
        Some(found)
    }

    /// Whether there is an index to ask.
    pub(super) fn is_ready(&self) -> bool {
        self.index.lock().is_some()
    }
}

struct Worker {
    dir: PathBuf,
    shared: Arc<Shared>,
    damaged: Cell,
}

impl Worker {
    fn run(&self, parts: &Receiver<Arc<TracesPart>>) {
        while let Ok(part) = parts.recv() {
            if !self.stops(&part) && !part.text.is_ready() {
                self.serve(&part);
            }
            drop(part);
            self.shared.done();
        }
    }

    fn stops(&self, part: &TracesPart) -> bool {
        self.shared.stop.load(Ordering::SeqCst) || part.text.gone.load(Ordering::SeqCst)
    }

    fn serve(&self, part: &TracesPart) {
        let dir = index_dir(&self.dir, part);
        let existed = dir.exists();
        let result = open(&dir, part).or_else(|error| {
            if existed {
                self.damaged.inc();
                tracing::warn!(%error, "a text index cannot be used and is built anew");
            }
            self.build(&dir, part)?;
            open(&dir, part)
        });
        match result {
            Ok(index) => *part.text.index.lock() = Some(Arc::new(index)),
            Err(BuildError::Stopped) => {}
            Err(error) => tracing::warn!(%error, "no text index; searches look at every block of the part"),
        }
        if part.text.gone.load(Ordering::SeqCst) {
            part.text.index.lock().take();
            // What cannot be removed now is removed as a stray at the next start.
            let _ = text::remove(&dir);
        }
    }

    fn build(&self, dir: &Path, part: &TracesPart) -> Result<(), BuildError> {
        let mut builder = TextBuilder::create(dir)?;
        builder.add(0, [seal(part).as_str()])?;
        for number in 0..part.blocks().len() {
            if self.stops(part) {
                return Err(BuildError::Stopped);
            }
            // A block that cannot be read has no spans to find.
            let Some(raw) = part.block(number)? else { continue };
            if let Ok(set) = SpanSet::parse(&raw) {
                let terms = terms_of(&set);
                builder.add(number as u32, terms.iter().map(String::as_str))?;
            }
        }
        Ok(builder.finish()?)
    }
}

fn open(dir: &Path, part: &TracesPart) -> Result<TextIndex, BuildError> {
    let index = TextIndex::open(dir)?;
    if index.blocks_with_term(&seal(part))?.is_empty() { Err(BuildError::Another) } else { Ok(index) }
}
