//! What merges have done, in numbers.

use crate::base::counters::Cell;
use crate::model::batch::Signal;
use crate::store::env::Env;

/// What merges have done, for `/metrics`.
pub(super) struct Merges {
    pub(super) running: Cell,
    pub(super) done: Cell,
    pub(super) parts: Cell,
    pub(super) bytes_read: Cell,
    pub(super) bytes_written: Cell,
    pub(super) cpu: Cell,
}

impl Merges {
    pub(super) fn new(env: &Env, signal: Signal) -> Self {
        let labels = [("signal", signal.name())];
        let counter = |name, help| env.counters.counter(name, help, &labels);
        Self {
            running: env.counters.gauge("trilith_merges_running", "Merges of parts that run now.", &labels),
            done: counter("trilith_merges_total", "Merges of parts, and parts written anew."),
            parts: counter("trilith_merged_parts_total", "Parts that were merged into others."),
            bytes_read: counter("trilith_merged_read_bytes_total", "Bytes of parts that were merged."),
            bytes_written: counter("trilith_merged_written_bytes_total", "Bytes of parts that merges wrote."),
            cpu: env.counters.nanoseconds("trilith_merge_cpu_seconds_total", "CPU time of merges.", &labels),
        }
    }
}
