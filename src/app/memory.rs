//! The account of memory of a server: what of `--memory-limit` is for data and requests.
//! Charges are made before memory is taken, by what it will roughly be. So that they cannot be wrong for
//! long, what is resident is measured beside them, and what nobody has charged is taken from the account:
//! garbage that the allocator has not given back, buffers of libraries, estimates that were too low. When
//! more is resident than may be all the same, nothing is granted and dear queries end until it is less.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use crate::base::counters::Counters;
use crate::base::memory::MemoryBudget;

use super::host;

/// What the process takes without any data: code, threads, connections, the catalog's cache. Measured:
/// 16 MiB are resident when it has just begun, of which 5 are of no file.
const BASE_BYTES: u64 = 20 << 20;

/// The least `--memory-limit`, in bytes: with less, ordinary pushes and queries are refused.
pub(super) const LIMIT_MIN: u64 = 64 << 20;

/// How often what is resident is measured while there is room, and while there is little.
const CALM: Duration = Duration::from_millis(100);
const BUSY: Duration = Duration::from_millis(10);
/// Of the account at most this much, in percent, is taken for what nobody has charged: memory that stays
/// in pieces must not end the server's work for good.
const OUTSIDE_PERCENT_MAX: u64 = 65;
/// Over this share of the account, in percent, resident beyond the base, the process holds more than it may:
/// nothing is granted, and queries that have run for a while end, ...
const OVERRUN_PERCENT: u64 = 110;
/// ... until it is below this.
const OVERRUN_PERCENT_OVER: u64 = 100;
/// More than this much of the account, in percent, is worth a line in the log, once in ...
const OUTSIDE_PERCENT_SAID: u64 = 40;
/// ... so long.
const SAID_EVERY: Duration = Duration::from_secs(60);

/// All memory that data and requests may take, of a process that may have `limit` bytes.
pub(super) fn account(limit: u64) -> Arc<MemoryBudget> {
    MemoryBudget::new(limit.saturating_sub(BASE_BYTES))
}

/// What of `anonymous` resident bytes nobody has charged to an account of `limit` bytes of which `charged`
/// are taken by those who charge, `unused` of them for reserves.
fn outside(anonymous: u64, charged: u64, unused: u64, limit: u64) -> u64 {
    let expected = BASE_BYTES.saturating_add(charged.saturating_sub(unused));
    anonymous.saturating_sub(expected).min(limit / 100 * OUTSIDE_PERCENT_MAX)
}

/// Measures, and takes from the account what nobody has charged, until either is gone. The answer is the
/// share that it is taken from. Only for an account that has the process for itself.
pub(super) fn watch(account: &Arc<MemoryBudget>) -> Arc<MemoryBudget> {
    let share = account.share("outside", account.limit());
    let weak = (Arc::downgrade(account), Arc::downgrade(&share));
    let spawned = std::thread::Builder::new().name("memory".to_owned()).spawn(move || {
        let mut said = None;
        while let Some(pause) = measure(&weak.0, &weak.1, &mut said) {
            std::thread::sleep(pause);
        }
    });
    if let Err(error) = spawned {
        tracing::warn!(%error, "no thread for measuring memory; what is resident is not held against --memory-limit");
    }
    share
}

fn measure(account: &Weak<MemoryBudget>, share: &Weak<MemoryBudget>, said: &mut Option<Instant>) -> Option<Duration> {
    let (account, share) = (account.upgrade()?, share.upgrade()?);
    let anonymous = host::memory_anonymous()?;
    let limit = account.limit();
    let charged = account.used().saturating_sub(share.used());
    let outside = outside(anonymous, charged, account.unused_reserves(), limit);
    share.measure(outside);
    let percent = if account.is_overrun() { OVERRUN_PERCENT_OVER } else { OVERRUN_PERCENT };
    account.set_overrun(anonymous.saturating_sub(BASE_BYTES) / percent > limit / 100);
    if outside > limit / 100 * OUTSIDE_PERCENT_SAID && said.is_none_or(|at| at.elapsed() > SAID_EVERY) {
        *said = Some(Instant::now());
        tracing::warn!(
            resident_bytes = anonymous,
            charged_bytes = charged,
            limit_bytes = limit,
            "more memory is resident than was charged; until it is given back, less is taken"
        );
    }
    Some(if account.used() > limit / 2 { BUSY } else { CALM })
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

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn what_nobody_charged_is_what_is_resident_beyond_what_was_charged() {
        let limit = 100 * MIB;
        assert_eq!(outside(5 * MIB, 10 * MIB, 10 * MIB, limit), 0, "a server that has just begun");
        assert_eq!(outside(60 * MIB, 40 * MIB, 0, limit), 0, "as it should be");
        assert_eq!(outside(70 * MIB, 40 * MIB, 0, limit), 10 * MIB);
        assert_eq!(
            outside(70 * MIB, 40 * MIB, 15 * MIB, limit),
            25 * MIB,
            "a reserve that is not used is not resident"
        );
        assert!(outside(900 * MIB, 40 * MIB, 0, limit) < 66 * MIB, "some is left for work");
        assert_eq!(outside(0, 0, 0, 0), 0);
    }

    #[test]
    fn an_account_that_charges_too_little_is_charged_what_is_resident() {
        // The process of this test has more resident than the base and no charges.
        let account = MemoryBudget::new(64 * MIB);
        let share = account.share("outside", account.limit());
        let ballast = vec![1_u8; 40 << 20];
        let mut said = None;
        assert!(measure(&Arc::downgrade(&account), &Arc::downgrade(&share), &mut said).is_some());
        let small = MemoryBudget::new(MIB);
        let own = small.share("outside", small.limit());
        assert!(measure(&Arc::downgrade(&small), &Arc::downgrade(&own), &mut said).is_some());
        assert!(small.is_overrun() && own.is_overrun(), "it holds 40 times what it may");
        assert!(share.used() >= 20 * MIB, "{} of {}", share.used(), ballast.len());
        assert!(account.used() >= share.used() && said.is_some());
        let weak = (Arc::downgrade(&account), Arc::downgrade(&share));
        drop((account, share));
        assert!(measure(&weak.0, &weak.1, &mut said).is_none(), "it ends with the account");
    }
}
