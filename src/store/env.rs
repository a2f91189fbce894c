//! What the stores of all signals share: disk, clock, counters, catalog, and the gate that says
//! whether data is taken at all.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::account::Account;
use super::catalog::Catalog;
use super::conditions::Conditions;
use super::error::StoreError;
use super::trusted_clock::TrustedClock;
use crate::base::clock::Clock;
use crate::base::counters::Counters;
use crate::base::disk::Disk;

/// Room that is kept free for queries and flushes: this share of the file system ...
const RESERVE_SHARE: u64 = 20;
/// ... but not more than this, in bytes.
const RESERVE_BYTES_MAX: u64 = 512 << 20;

/// Shared by the stores of one data directory; cheap to clone.
#[derive(Clone)]
pub struct Env {
    /// The data directory.
    pub dir: PathBuf,
    /// The file system.
    pub disk: Arc<dyn Disk>,
    /// The time that data is kept by: that of `trusted`.
    pub clock: Arc<dyn Clock>,
    /// The machine's time, as far as it is believed.
    pub trusted: Arc<TrustedClock>,
    /// The server's own numbers.
    pub counters: Counters,
    /// Parts and what they hold.
    pub catalog: Arc<Catalog>,
    /// The catalog was begun anew, so every part has to be registered.
    pub catalog_is_new: bool,
    /// What may be held of the memory of the process.
    pub account: Account,
    /// Whether data is taken.
    pub gate: Arc<Gate>,
    /// What is wrong just now.
    pub conditions: Arc<Conditions>,
    /// How far the start has come.
    pub progress: Arc<Progress>,
}

impl Env {
    /// Opens the catalog in `dir`, and begins with everything else as it is when nothing has happened.
    pub fn open(
        dir: &Path,
        disk: Arc<dyn Disk>,
        clock: Arc<dyn Clock>,
        counters: Counters,
        progress: Arc<Progress>,
    ) -> Self {
        let conditions = Arc::new(Conditions::new(&counters));
        let (catalog, catalog_is_new) = Catalog::open(&dir.join("catalog"), &*disk, &counters);
        let trusted = Arc::new(TrustedClock::open(clock, &*disk, dir));
        Self {
            dir: dir.to_owned(),
            disk,
            clock: trusted.clone(),
            trusted,
            counters,
            catalog: Arc::new(catalog),
            catalog_is_new,
            account: Account::default(),
            gate: Arc::new(Gate::default()),
            conditions,
            progress,
        }
    }
}

/// How far replay has come, in bytes of log.
#[derive(Debug, Default)]
pub struct Progress {
    /// Bytes to replay.
    pub total: AtomicU64,
    /// Bytes replayed.
    pub done: AtomicU64,
}

impl Progress {
    /// Percent done, 0 to 100.
    pub fn percent(&self) -> u64 {
        let total = self.total.load(Ordering::Relaxed);
        (self.done.load(Ordering::Relaxed) * 100).checked_div(total).unwrap_or(0).min(100)
    }
}

/// Whether data is taken: not while stopping, and not while the disk is nearly full.
#[derive(Debug, Default)]
pub struct Gate {
    stopping: AtomicBool,
    free: AtomicU64,
    needed: AtomicU64,
}

impl Gate {
    /// Says whether an append may begin.
    ///
    /// # Errors
    /// [`StoreError::NotReady`], [`StoreError::DiskFull`].
    pub fn check(&self) -> Result<(), StoreError> {
        if self.stopping.load(Ordering::Relaxed) {
            return Err(StoreError::NotReady("stopping"));
        }
        let (free, needed) = (self.free.load(Ordering::Relaxed), self.needed.load(Ordering::Relaxed));
        if free < needed { Err(StoreError::DiskFull { free, needed }) } else { Ok(()) }
    }

    /// Whether the disk has room for `bytes` more besides what is kept free, when last looked.
    ///
    /// # Errors
    /// [`StoreError::DiskFull`].
    pub fn check_room(&self, bytes: u64) -> Result<(), StoreError> {
        let (free, needed) = (self.free.load(Ordering::Relaxed), self.needed.load(Ordering::Relaxed));
        let needed = needed.saturating_add(bytes);
        if free < needed { Err(StoreError::DiskFull { free, needed }) } else { Ok(()) }
    }

    /// Whether nothing is taken for want of room, when last looked.
    pub fn is_full(&self) -> bool {
        self.free.load(Ordering::Relaxed) < self.needed.load(Ordering::Relaxed)
    }

    /// Whether the store is stopping.
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// Room on the file system when last looked, in bytes.
    pub fn free(&self) -> u64 {
        self.free.load(Ordering::Relaxed)
    }

    /// Takes nothing any more.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    /// Looks at the disk again; called every second.
    ///
    /// # Errors
    /// The system's.
    pub fn look(&self, env: &Env) -> std::io::Result<()> {
        let space = env.disk.space(&env.dir)?;
        self.needed.store((space.total / RESERVE_SHARE).min(RESERVE_BYTES_MAX), Ordering::Relaxed);
        self.free.store(space.free, Ordering::Relaxed);
        Ok(())
    }
}
