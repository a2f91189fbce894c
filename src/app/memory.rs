//! The account of memory of a server: what of `--memory-limit` is for data and requests.

use std::sync::Arc;

use crate::base::counters::Counters;
use crate::base::memory::MemoryBudget;

/// What the process takes without any data: code, threads, connections, the catalog's cache. Measured:
/// 16 MiB are resident when it has just begun.
const BASE_BYTES: u64 = 20 << 20;
/// What the allocator takes for each hundred bytes that are asked of it.
const ALLOCATOR_PERCENT: u64 = 12;

/// The least `--memory-limit`, in bytes: with less, ordinary pushes and queries are refused.
pub(super) const LIMIT_MIN: u64 = 64 << 20;

/// All memory that data and requests may take, of a process that may have `limit` bytes.
pub(super) fn account(limit: u64) -> Arc<MemoryBudget> {
    MemoryBudget::new(limit.saturating_sub(BASE_BYTES) / 100 * (100 - ALLOCATOR_PERCENT))
}

/// Brings the gauges of all shares up to date.
pub(super) fn refresh(account: &MemoryBudget, counters: &Counters) {
    for share in account.report() {
        let labels = [("share", share.name)];
        let set = |name, help, value| counters.gauge(name, help, &labels).set(value);
        set("trilith_memory_bytes", "Memory charged to the account, and to each share of it.", share.used);
        set("trilith_memory_share_limit_bytes", "What each share of the account may have.", share.limit);
        let refused = "Charges that a share had no room for.";
        counters.counter("trilith_memory_refused_total", refused, &labels).set(share.refused);
    }
}
