//! One account of the memory of the process: a tree of budgets whose root is the whole limit.
//! A charge has to fit its own budget and every one above it, so shares are caps and the root is the
//! sum of all that is held. Whoever allocates in proportion to data from outside charges first, by
//! block, chunk or body, never by row.
//! Flow: [`MemoryBudget::new`] is the root, [`MemoryBudget::share`] and [`MemoryBudget::share_with_reserve`]
//! make budgets below it, [`MemoryBudget::hold`] charges until the [`Hold`] is dropped.
//! Invariants: what is charged and what is given back balance; a budget that is dropped gives back what
//! it still has; nothing is refused by the root before those that can [give way](GiveWay) were asked to.
//! Locks: `order` of a budget with a reserve, then that of one above it. Those who give way are called
//! with no lock of the root held, and must not wait for a lock that is held while charging.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::error::{Classify, ErrorClass};

/// Above this share of its limit a budget is [pressed](MemoryBudget::is_pressed), in percent.
const PRESSED_PERCENT: u64 = 80;
/// So long after it had to refuse somebody it is pressed too: what was refused may be large.
const PRESSED_AFTER: Duration = Duration::from_secs(10);

/// A budget is used up; nothing was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "no memory is left for this: {share} have all of their {limit} bytes, a share of --memory-limit; try again, or \
     raise it"
)]
pub struct MemoryFull {
    /// The name of the budget that is used up.
    pub share: &'static str,
    /// Its limit, in bytes.
    pub limit: u64,
}

impl Classify for MemoryFull {
    fn class(&self) -> ErrorClass {
        ErrorClass::Unavailable
    }
}

/// What holds memory that it can do without: a cache.
pub trait GiveWay: Send + Sync {
    /// Lets go of about `bytes`, and gives them back to its budget. Called by whoever wants memory, so
    /// it takes no time and waits for no lock: it does nothing when it is busy.
    fn give_way(&self, bytes: u64);
}

/// A budget in numbers, for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShareReport {
    /// Its name.
    pub name: &'static str,
    /// Bytes taken.
    pub used: u64,
    /// The limit, in bytes.
    pub limit: u64,
    /// Charges that it refused, for itself had no room.
    pub refused: u64,
}

/// A part of the memory of the process, or all of it.
#[derive(Debug)]
pub struct MemoryBudget {
    name: &'static str,
    limit: u64,
    /// Of the budget above it this much is taken however little is used.
    reserve: u64,
    used: AtomicU64,
    refused: AtomicU64,
    /// When it last refused somebody; noted by one that has none above it.
    refused_at: Mutex<Option<Instant>>,
    /// The process holds more than it may, whatever was charged; noted by one that has none above it.
    overrun: AtomicBool,
    above: Option<Arc<MemoryBudget>>,
    below: Mutex<Vec<Weak<MemoryBudget>>>,
    yielding: Mutex<Yielding>,
    /// Held while a budget with a reserve changes, so that what it takes above adds up.
    order: Mutex<()>,
}

#[derive(Default)]
struct Yielding(Vec<Weak<dyn GiveWay>>);

impl std::fmt::Debug for Yielding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} that give way", self.0.len())
    }
}

impl MemoryBudget {
    /// A budget of `limit` bytes with none above it.
    pub fn new(limit: u64) -> Arc<Self> {
        Arc::new(Self::named("all", limit, 0, None))
    }

    fn named(name: &'static str, limit: u64, reserve: u64, above: Option<Arc<Self>>) -> Self {
        Self {
            name,
            limit,
            reserve,
            used: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            refused_at: Mutex::new(None),
            overrun: AtomicBool::new(false),
            above,
            below: Mutex::default(),
            yielding: Mutex::default(),
            order: Mutex::new(()),
        }
    }

    /// A budget of `limit` bytes whose charges are charges of this one as well. Limits of shares may
    /// add up to more than there is.
    pub fn share(self: &Arc<Self>, name: &'static str, limit: u64) -> Arc<Self> {
        self.share_with_reserve(name, limit, 0)
    }

    /// A share of which `reserve` bytes are taken from this budget from now on, so that they are there
    /// whatever others hold: for work that makes room.
    pub fn share_with_reserve(self: &Arc<Self>, name: &'static str, limit: u64, reserve: u64) -> Arc<Self> {
        let reserve = reserve.min(limit);
        self.force(reserve);
        let share = Arc::new(Self::named(name, limit, reserve, Some(self.clone())));
        let mut below = self.below.lock();
        below.retain(|own| own.strong_count() > 0);
        below.push(Arc::downgrade(&share));
        share
    }

    /// Has `cache` asked to let go when the root has no room; it may be dropped at any time.
    pub fn gives_way(&self, cache: Weak<dyn GiveWay>) {
        match &self.above {
            Some(above) => above.gives_way(cache),
            None => self.yielding.lock().0.push(cache),
        }
    }

    /// Charges `bytes` until the hold is dropped; none when they do not fit.
    pub fn hold(self: &Arc<Self>, bytes: usize) -> Option<Hold> {
        self.try_hold(bytes).ok()
    }

    /// Charges `bytes` until the hold is dropped.
    ///
    /// # Errors
    /// [`MemoryFull`], with the budget that had no room.
    pub fn try_hold(self: &Arc<Self>, bytes: usize) -> Result<Hold, MemoryFull> {
        self.take(bytes as u64)?;
        Ok(Hold { budget: self.clone(), bytes: bytes as u64 })
    }

    /// Charges `bytes` until the hold is dropped, if they fit without anybody giving way.
    pub fn hold_spare(self: &Arc<Self>, bytes: usize) -> Option<Hold> {
        self.take_spare(bytes as u64).then(|| Hold { budget: self.clone(), bytes: bytes as u64 })
    }

    /// Charges `bytes` whether they fit or not, for what is in memory already.
    pub fn hold_anyway(self: &Arc<Self>, bytes: usize) -> Hold {
        self.force(bytes as u64);
        Hold { budget: self.clone(), bytes: bytes as u64 }
    }

    /// Takes `bytes` if they fit; says whether they did.
    pub fn try_charge(&self, bytes: usize) -> bool {
        self.take(bytes as u64).is_ok()
    }

    /// Takes `bytes` if they fit here and in every budget above.
    ///
    /// # Errors
    /// [`MemoryFull`], with the budget that had no room; nothing is taken then.
    pub fn take(&self, bytes: u64) -> Result<(), MemoryFull> {
        self.take_pressing(bytes, true)
    }

    /// Takes `bytes` if they fit without anybody giving way: for caches.
    pub fn take_spare(&self, bytes: u64) -> bool {
        self.take_pressing(bytes, false).is_ok()
    }

    fn take_pressing(&self, bytes: u64, presses: bool) -> Result<(), MemoryFull> {
        let full = match self.add(bytes, presses) {
            Err(_) if presses && !self.overrun.load(Ordering::Relaxed) && self.above.is_none() && self.press(bytes) => {
                self.add(bytes, presses).err()
            }
            added => added.err(),
        };
        let Some(full) = full else { return Ok(()) };
        if full.share == self.name {
            self.refused.fetch_add(1, Ordering::Relaxed);
            if presses && self.above.is_none() {
                *self.refused_at.lock() = Some(Instant::now());
            }
        }
        Err(full)
    }

    fn add(&self, bytes: u64, presses: bool) -> Result<(), MemoryFull> {
        let full = MemoryFull { share: self.name, limit: self.limit };
        if self.reserve > 0 {
            let _one_at_a_time = self.order.lock();
            let used = self.used();
            let after = used.checked_add(bytes).filter(|after| *after <= self.limit).ok_or(full)?;
            let more = after.max(self.reserve) - used.max(self.reserve);
            // What is within the reserve was taken when it was made, however full it is above.
            if let Some(above) = self.above.as_ref().filter(|_| more > 0) {
                above.take_pressing(more, presses)?;
            }
            self.used.store(after, Ordering::Relaxed);
            return Ok(());
        }
        let used = self.used.fetch_add(bytes, Ordering::Relaxed);
        let fits = match (used.checked_add(bytes), &self.above) {
            (Some(after), Some(above)) if after <= self.limit => above.take_pressing(bytes, presses),
            (Some(after), None) if after <= self.limit && !self.overrun.load(Ordering::Relaxed) => Ok(()),
            _ => Err(full),
        };
        if fits.is_err() {
            self.used.fetch_sub(bytes, Ordering::Relaxed);
        }
        fits
    }

    /// Asks all who give way for `bytes` and what others may want next; says whether there was anybody.
    fn press(&self, bytes: u64) -> bool {
        let all: Vec<_> = {
            let mut yielding = self.yielding.lock();
            yielding.0.retain(|one| one.strong_count() > 0);
            yielding.0.iter().filter_map(Weak::upgrade).collect()
        };
        let wanted = bytes.saturating_add(self.limit / 64);
        all.iter().for_each(|one| one.give_way(wanted));
        !all.is_empty()
    }

    /// Takes `bytes` whether they fit or not, for what is in memory already (replay).
    pub fn charge(&self, bytes: usize) {
        self.force(bytes as u64);
    }

    fn force(&self, bytes: u64) {
        if self.reserve > 0 {
            let _one_at_a_time = self.order.lock();
            let used = self.used();
            let after = used.saturating_add(bytes);
            if let Some(above) = &self.above {
                above.force(after.max(self.reserve) - used.max(self.reserve));
            }
            self.used.store(after, Ordering::Relaxed);
            return;
        }
        self.used.fetch_add(bytes, Ordering::Relaxed);
        if let Some(above) = &self.above {
            above.force(bytes);
        }
    }

    /// Gives `bytes` back.
    pub fn release(&self, bytes: usize) {
        self.give(bytes as u64);
    }

    fn give(&self, bytes: u64) {
        if self.reserve > 0 {
            let _one_at_a_time = self.order.lock();
            let used = self.used();
            debug_assert!(bytes <= used, "{}: {bytes} of {used} bytes given back", self.name);
            let after = used.saturating_sub(bytes);
            self.used.store(after, Ordering::Relaxed);
            if let Some(above) = &self.above {
                above.give(used.max(self.reserve) - after.max(self.reserve));
            }
            return;
        }
        let less = |used: u64| Some(used.saturating_sub(bytes));
        let used = self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).unwrap_or_default();
        debug_assert!(bytes <= used, "{}: {bytes} of {used} bytes given back", self.name);
        if let Some(above) = &self.above {
            above.give(bytes.min(used));
        }
    }

    /// Has `bytes` from now on, whether they fit or not: for a share that one measures, and nobody charges.
    pub fn measure(&self, bytes: u64) {
        match bytes.checked_sub(self.used()) {
            Some(more) => self.force(more),
            None => self.give(self.used() - bytes),
        }
    }

    /// Says of the budget above all that the process holds more than it may, or no longer: then nothing is
    /// granted but what is taken anyway, caches are let go, and who can end early should.
    pub fn set_overrun(&self, overrun: bool) {
        if self.overrun.swap(overrun, Ordering::Relaxed) != overrun && overrun {
            self.press(self.limit);
        }
    }

    /// Whether the process holds more than it may.
    pub fn is_overrun(&self) -> bool {
        self.above.as_ref().map_or_else(|| self.overrun.load(Ordering::Relaxed), |above| above.is_overrun())
    }

    /// Bytes that are taken here for the reserves of budgets below it and that none of them uses.
    pub fn unused_reserves(&self) -> u64 {
        let below: Vec<_> = self.below.lock().iter().filter_map(Weak::upgrade).collect();
        below.iter().map(|share| share.reserve.saturating_sub(share.used()) + share.unused_reserves()).sum()
    }

    /// Its name.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Bytes taken.
    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// The limit, in bytes.
    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// Bytes that would fit now, here and above.
    pub fn room(&self) -> u64 {
        let own = self.limit.saturating_sub(self.used());
        let spare = self.reserve.saturating_sub(self.used());
        self.above.as_ref().map_or(own, |above| own.min(above.room().saturating_add(spare)))
    }

    /// Whether most of it, or of one above, is taken, or somebody was refused lately: who can do with
    /// less should.
    pub fn is_pressed(&self) -> bool {
        let lately = || self.refused_at.lock().is_some_and(|at| at.elapsed() < PRESSED_AFTER);
        self.used() / PRESSED_PERCENT >= self.limit / 100
            || lately()
            || self.above.as_ref().is_some_and(|above| above.is_pressed())
    }

    /// This budget and all below it, in numbers.
    pub fn report(&self) -> Vec<ShareReport> {
        let own = ShareReport {
            name: self.name,
            used: self.used(),
            limit: self.limit,
            refused: self.refused.load(Ordering::Relaxed),
        };
        let below: Vec<_> = self.below.lock().iter().filter_map(Weak::upgrade).collect();
        std::iter::once(own).chain(below.iter().flat_map(|share| share.report())).collect()
    }
}

impl Drop for MemoryBudget {
    fn drop(&mut self) {
        if let Some(above) = &self.above {
            above.give((*self.used.get_mut()).max(self.reserve));
        }
    }
}

/// Bytes that are charged until it is dropped.
#[derive(Debug)]
pub struct Hold {
    budget: Arc<MemoryBudget>,
    bytes: u64,
}

impl Hold {
    /// Charges `more` bytes.
    ///
    /// # Errors
    /// [`MemoryFull`]: what was held still is.
    pub fn grow(&mut self, more: usize) -> Result<(), MemoryFull> {
        self.budget.take(more as u64)?;
        self.bytes += more as u64;
        Ok(())
    }

    /// Gives back `less` bytes, or all when that is less.
    pub fn shrink(&mut self, less: usize) {
        let less = self.bytes.min(less as u64);
        self.bytes -= less;
        self.budget.give(less);
    }

    /// Holds exactly `bytes` from now on, whether they fit or not.
    pub fn set_anyway(&mut self, bytes: usize) {
        let bytes = bytes as u64;
        match bytes.checked_sub(self.bytes) {
            Some(more) => self.budget.force(more),
            None => self.budget.give(self.bytes - bytes),
        }
        self.bytes = bytes;
    }

    /// Bytes held.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.budget.give(self.bytes);
    }
}

#[cfg(test)]
#[path = "memory_tests.rs"]
mod tests;
