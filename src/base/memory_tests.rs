//! The account: what is charged and given back balances, whoever charges, grows, shrinks and drops.

use proptest::prelude::*;

use super::*;

#[test]
fn a_charge_fits_its_share_and_everything_above_or_takes_nothing() {
    let root = MemoryBudget::new(100);
    let (one, other) = (root.share("one", 80), root.share("other", 80));
    let mut held = one.hold(60).unwrap();
    assert_eq!(one.try_hold(30).unwrap_err(), MemoryFull { share: "one", limit: 80 });
    assert_eq!(other.try_hold(50).unwrap_err(), MemoryFull { share: "all", limit: 100 });
    assert_eq!((root.used(), one.used(), other.used()), (60, 60, 0), "a refused charge takes nothing");
    assert_eq!((one.room(), other.room()), (20, 40));
    assert!(held.grow(30).is_err());
    held.shrink(20);
    assert!(other.hold(50).is_some_and(|own| own.bytes() == 50 && root.used() == 90));
    held.set_anyway(200);
    assert_eq!((root.used(), one.room(), other.room()), (200, 0, 0));
    drop(held);
    assert_eq!((root.used(), one.used(), other.used()), (0, 0, 0), "it heals");
    assert_eq!(
        root.report().iter().map(|own| (own.name, own.refused)).collect::<Vec<_>>(),
        [("all", 1), ("one", 2), ("other", 0)]
    );
}

#[test]
fn a_reserve_is_there_whatever_others_hold() {
    let root = MemoryBudget::new(100);
    let (flush, rest) = (root.share_with_reserve("flush", 60, 40), root.share("rest", 100));
    assert_eq!((root.used(), rest.room(), flush.room()), (40, 60, 60));
    let held = rest.hold(60).unwrap();
    assert_eq!(flush.room(), 40);
    root.charge(50);
    root.set_overrun(true);
    let own = flush.hold(40).unwrap();
    assert!(flush.hold(1).is_none());
    root.set_overrun(false);
    root.release(50);
    drop(held);
    let more = flush.hold(20).unwrap();
    assert_eq!((root.used(), rest.room()), (60, 40));
    assert_eq!(root.unused_reserves(), 0);
    drop((own, more));
    assert_eq!((root.used(), root.unused_reserves()), (40, 40), "the reserve stays");
    drop(flush);
    assert_eq!(root.used(), 0);
}

#[test]
fn what_is_measured_takes_the_place_of_what_was() {
    let root = MemoryBudget::new(100);
    let (outside, rest) = (root.share("outside", 100), root.share("rest", 100));
    outside.measure(150);
    assert_eq!((root.used(), rest.room()), (150, 0));
    assert!(rest.hold(1).is_none() && root.is_pressed());
    outside.measure(30);
    assert_eq!((root.used(), rest.room()), (30, 70));
    outside.measure(0);
    assert_eq!(root.used(), 0);
}

#[test]
fn a_process_that_holds_more_than_it_may_grants_nothing_and_lets_go_of_caches() {
    let root = MemoryBudget::new(100);
    let (frames, queries) = (root.share("frames", 100), root.share("queries", 100));
    let cache = Arc::new(Cache(Mutex::new(vec![frames.hold(20).unwrap()])));
    frames.gives_way(Arc::downgrade(&cache) as Weak<dyn GiveWay>);
    root.set_overrun(true);
    assert!(queries.is_overrun() && frames.used() == 0);
    assert_eq!(queries.try_hold(1).unwrap_err(), MemoryFull { share: "all", limit: 100 });
    assert_eq!(queries.hold_anyway(10).bytes(), 10);
    root.set_overrun(false);
    assert!(queries.hold(1).is_some() && !queries.is_overrun());
    assert_eq!(root.used(), 0);
}

struct Cache(Mutex<Vec<Hold>>);

impl GiveWay for Cache {
    fn give_way(&self, _bytes: u64) {
        if let Some(mut kept) = self.0.try_lock() {
            kept.clear();
        }
    }
}

#[test]
fn caches_give_way_before_anything_is_refused() {
    let root = MemoryBudget::new(100);
    let (frames, queries) = (root.share("frames", 100), root.share("queries", 100));
    let cache = Arc::new(Cache(Mutex::new(vec![frames.hold(90).unwrap()])));
    frames.gives_way(Arc::downgrade(&cache) as Weak<dyn GiveWay>);
    assert!(!queries.take_spare(50), "a cache does not push out another");
    assert!(root.is_pressed() && frames.used() == 90);
    let held = queries.hold(50).unwrap();
    assert_eq!((frames.used(), root.used()), (0, 50));
    assert!(!root.is_pressed());
    assert!(frames.hold(60).is_none(), "there is nobody left to give way");
    assert!(root.is_pressed(), "somebody was refused");
    drop(cache);
    drop(held);
    assert_eq!(root.used(), 0);
}

/// Charges and releases by several threads at once.
#[test]
fn threads_cannot_lose_or_make_a_byte() {
    let root = MemoryBudget::new(10_000);
    let shares = [root.share_with_reserve("a", 6_000, 1_000), root.share("b", 6_000)];
    std::thread::scope(|scope| {
        for thread in 0..4usize {
            let share = &shares[thread % 2];
            scope.spawn(move || {
                let mut held = Vec::new();
                for round in 0..2_000usize {
                    held.extend(share.hold((round * 7 + thread) % 900));
                    if round % 3 == 0 {
                        held.pop();
                    }
                    if held.len() > 20 {
                        held.clear();
                    }
                }
            });
        }
    });
    assert_eq!((root.used(), shares[0].used(), shares[1].used()), (1_000, 0, 0));
}

proptest! {
    /// Whatever is charged, grown, shrunk and dropped, in whatever order: a budget has what its
    /// holds have, none has more than its limit, and when all are dropped nothing is left.
    #[test]
    fn charges_and_releases_balance(steps in prop::collection::vec((0u8..5, 0usize..3, 0usize..400), 0..200)) {
        let root = MemoryBudget::new(1_000);
        let shares =
            [root.share("plain", 700), root.share_with_reserve("reserved", 600, 150), root.share("small", 90)];
        let mut holds: Vec<(usize, Hold)> = Vec::new();
        for (what, share, bytes) in steps {
            let last = holds.len().wrapping_sub(1);
            match (what, holds.get_mut(last)) {
                (0, _) | (_, None) => holds.extend(shares[share].hold(bytes).map(|own| (share, own))),
                (1, Some((_, own))) => { let _ = own.grow(bytes); }
                (2, Some((_, own))) => own.shrink(bytes),
                (3, _) => { holds.swap_remove(bytes % holds.len()); }
                (_, _) => holds.clear(),
            }
            let sums: Vec<u64> = (0..3)
                .map(|of| holds.iter().filter(|own| own.0 == of).map(|own| own.1.bytes()).sum())
                .collect();
            for (share, sum) in shares.iter().zip(&sums) {
                prop_assert_eq!(share.used(), *sum);
                prop_assert!(share.used() <= share.limit());
            }
            prop_assert_eq!(root.used(), sums[0] + sums[1].max(150) + sums[2]);
            prop_assert!(root.used() <= root.limit());
        }
        holds.clear();
        drop(shares);
        prop_assert_eq!(root.used(), 0);
    }
}
