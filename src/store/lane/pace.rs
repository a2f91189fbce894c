//! How fast background work goes, so that it leaves the cores to those who wait.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crate::store::env::Gate;
use crate::store::error::StoreError;

/// CPU time between two rests.
const WORK: Duration = Duration::from_millis(20);
/// Rests for each unit of work: together a quarter of a core.
const RESTS: u32 = 3;
/// Longest sleep, so that stopping need not wait.
const NAP: Duration = Duration::from_millis(100);

/// How fast background work goes: it rests three times as long as it has worked, or not at all.
pub struct Pace {
    gate: Arc<Gate>,
    rests: bool,
    since: Duration,
    calls: u32,
}

/// CPU time of the thread that calls this.
pub(super) fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    let nanoseconds = u32::try_from(time.tv_nsec).unwrap_or_default();
    Duration::new(u64::try_from(time.tv_sec).unwrap_or_default(), nanoseconds)
}

impl Pace {
    /// A quarter of a core at the most, on the thread that calls this.
    pub fn quarter(gate: &Arc<Gate>) -> Self {
        Self { gate: gate.clone(), rests: true, since: cpu_time(), calls: 0 }
    }

    /// As fast as it goes, for what somebody waits for.
    pub fn full(gate: &Arc<Gate>) -> Self {
        Self { rests: false, ..Self::quarter(gate) }
    }

    /// Called with each series or so: rests when it is time to.
    ///
    /// # Errors
    /// [`StoreError::NotReady`] when the store is stopping.
    pub fn rest(&mut self) -> Result<(), StoreError> {
        self.calls = self.calls.wrapping_add(1);
        if !self.calls.is_multiple_of(32) {
            return Ok(());
        }
        let mut left = cpu_time().saturating_sub(self.since);
        if self.rests && left >= WORK {
            left *= RESTS;
            while !left.is_zero() && !self.gate.is_stopping() {
                thread::sleep(left.min(NAP));
                left = left.saturating_sub(NAP);
            }
            self.since = cpu_time();
        }
        if self.gate.is_stopping() { Err(StoreError::NotReady("stopping")) } else { Ok(()) }
    }
}
