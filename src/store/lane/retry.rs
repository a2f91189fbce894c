//! When work that has failed is tried again: at once, then after pauses that become longer.

use std::time::{Duration, Instant};

const PAUSE_MIN: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// The pauses of one kind of work.
#[derive(Debug, Default)]
pub(super) struct Retry {
    pause: Duration,
    not_before: Option<Instant>,
    /// Failures since the last success.
    pub(super) failures: u32,
    /// What the last one was.
    pub(super) why: Option<String>,
}

impl Retry {
    /// Whether it is time to try.
    pub(super) fn is_due(&self) -> bool {
        self.not_before.is_none_or(|due| Instant::now() >= due)
    }

    /// It has failed.
    pub(super) fn failed(&mut self, why: String) {
        self.why = Some(why);
        self.pause = (self.pause * 2).clamp(PAUSE_MIN, PAUSE_MAX);
        self.not_before = Instant::now().checked_add(self.pause);
        self.failures = self.failures.saturating_add(1);
    }

    /// It has succeeded.
    pub(super) fn succeeded(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_become_longer_up_to_a_bound_and_end_with_success() {
        let mut retry = Retry::default();
        assert!(retry.is_due());
        let pauses: Vec<Duration> = (0..8)
            .map(|_| {
                retry.failed(String::new());
                retry.pause
            })
            .collect();
        assert!(!retry.is_due() && pauses.is_sorted());
        assert_eq!((pauses[0], pauses[7]), (PAUSE_MIN, PAUSE_MAX));
        retry.succeeded();
        assert!(retry.is_due());
    }
}
