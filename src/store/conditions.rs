//! What is wrong with the store just now, in words that say what to do. Whoever meets a condition sets
//! it, and whoever sees that it is over clears it; both may be done again and again.
//! Shown by `/-/ready`, by `trilith_condition` in `/metrics`, and said once in the log, when it comes
//! and when it goes. Locks: its own, for a look or a change.

use std::collections::BTreeMap;

use parking_lot::Mutex;

use crate::base::counters::Counters;
use crate::model::batch::Signal;

/// The data directory cannot be opened just now; nothing is answered until it is.
pub const NOT_OPEN: &str = "not_open";
/// Writes are refused until the disk has room.
pub const DISK_FULL: &str = "disk_full";
/// Retention waits, for the clock has jumped ahead of the data.
pub const RETENTION_PAUSED: &str = "retention_paused";
/// The catalog is held in memory alone.
pub const CATALOG_IN_MEMORY: &str = "catalog_in_memory";
/// The disk budget is passed, and nothing that could be removed would free room.
pub const OVER_BUDGET: &str = "over_budget";
/// A head cannot be written and is kept beside the log.
pub const HEAD_SET_ASIDE: &str = "head_set_aside";
/// A part is there, but cannot be opened just now.
pub const PART_NOT_OPEN: &str = "part_not_open";
/// The last sync of the log failed.
pub const SYNC_FAILED: &str = "sync_failed";
/// The last flush failed; its rows are in the log and in memory.
pub const FLUSH_FAILED: &str = "flush_failed";

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// A word for alerts; one of the constants of this file.
    pub name: &'static str,
    /// Whose store it concerns; `None` for all.
    pub signal: Option<Signal>,
    /// What is wrong, and what to do about it.
    pub text: String,
}

/// All that is wrong just now.
pub struct Conditions {
    held: Mutex<BTreeMap<(&'static str, Option<&'static str>), Condition>>,
    counters: Counters,
}

impl Conditions {
    /// Nothing is wrong.
    pub fn new(counters: &Counters) -> Self {
        Self { held: Mutex::default(), counters: counters.clone() }
    }

    /// Says that something is wrong; a newer text takes the place of the one before, in silence.
    pub fn set(&self, name: &'static str, signal: Option<Signal>, text: impl Into<String>) {
        let condition = Condition { name, signal, text: text.into() };
        let mut held = self.held.lock();
        let known = held.insert((name, signal.map(Signal::name)), condition.clone());
        if known.is_none() {
            self.show(name, signal, 1);
            tracing::error!(condition = name, signal = signal.map(Signal::name), "{}", condition.text);
        }
    }

    /// Says that it is over, if it was.
    pub fn clear(&self, name: &'static str, signal: Option<Signal>) {
        if self.held.lock().remove(&(name, signal.map(Signal::name))).is_some() {
            self.show(name, signal, 0);
            tracing::info!(condition = name, signal = signal.map(Signal::name), "is over");
        }
    }

    /// Sets or clears: what is wrong, if anything.
    pub fn put(&self, name: &'static str, signal: Option<Signal>, text: Option<String>) {
        match text {
            Some(text) => self.set(name, signal, text),
            None => self.clear(name, signal),
        }
    }

    /// All, by name.
    pub fn all(&self) -> Vec<Condition> {
        self.held.lock().values().cloned().collect()
    }

    fn show(&self, name: &'static str, signal: Option<Signal>, value: u64) {
        let help = "1 while this is wrong with the store; /-/ready says it in words.";
        let labels = [("name", name), ("signal", signal.map_or("all", Signal::name))];
        self.counters.gauge("trilith_condition", help, &labels).set(value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_is_there_until_it_is_over_for_each_signal_alone() {
        let counters = Counters::default();
        let conditions = Conditions::new(&counters);
        conditions.set(SYNC_FAILED, Some(Signal::Logs), "the disk fails");
        conditions.set(SYNC_FAILED, Some(Signal::Traces), "the disk fails");
        conditions.set(SYNC_FAILED, Some(Signal::Traces), "the disk fails still");
        conditions.clear(SYNC_FAILED, Some(Signal::Logs));
        conditions.clear(SYNC_FAILED, None);
        let text = "the disk fails still".to_owned();
        assert_eq!(conditions.all(), [Condition { name: SYNC_FAILED, signal: Some(Signal::Traces), text }]);
        let shown = counters.expose();
        assert!(shown.contains(r#"trilith_condition{name="sync_failed",signal="logs"} 0"#), "{shown}");
        assert!(shown.contains(r#"trilith_condition{name="sync_failed",signal="traces"} 1"#), "{shown}");
    }
}
