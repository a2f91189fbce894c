//! The pace of one thread's work for a query: whoever loops over what a query can make long spends here
//! what the work costs, and the budget is asked often enough that a query which is canceled or out of
//! time ends within some milliseconds. Deep inside of an evaluation, where no error fits, work just
//! stops; [`Pace::result`] then says why. Also what a thread holds of the query's memory meanwhile.

use std::cell::Cell;
use std::cmp::Ordering;

use crate::base::limits::{LimitError, QueryBudget};

/// Work between two looks at the budget. One is about what it takes to look at a byte, so that this
/// much takes a fraction of a millisecond, and a look costs nothing beside it.
const LOOK_EVERY: usize = 1 << 18;

/// Items that are sorted between two looks at the budget.
const SORTED_AT_ONCE: usize = 1 << 14;
/// What comparing two short items costs.
const COMPARE: usize = 32;

/// Bytes that are charged at once by whoever charges item by item.
const CHARGED_AT_ONCE: usize = 64 << 10;

/// Counts work and looks at the budget.
#[derive(Debug)]
pub struct Pace<'b> {
    budget: &'b QueryBudget,
    spent: Cell<usize>,
    stopped: Cell<bool>,
}

impl<'b> Pace<'b> {
    /// Work that begins now.
    pub fn new(budget: &'b QueryBudget) -> Self {
        Self { budget, spent: Cell::new(0), stopped: Cell::new(false) }
    }

    /// The budget that is asked.
    pub fn budget(&self) -> &'b QueryBudget {
        self.budget
    }

    /// Counts work that costs as much as looking at so many bytes, before it is done; whether it may
    /// be done. Once the answer was no it stays no.
    pub fn spend(&self, cost: usize) -> bool {
        let spent = self.spent.get().saturating_add(cost);
        if spent < LOOK_EVERY {
            self.spent.set(spent);
            return !self.stopped.get();
        }
        self.spent.set(0);
        if self.budget.check().is_err() {
            self.stopped.set(true);
        }
        !self.stopped.get()
    }

    /// Fails when work was stopped.
    ///
    /// # Errors
    /// What the budget says.
    pub fn result(&self) -> Result<(), LimitError> {
        // A deadline that has passed and a cancel stay.
        if self.stopped.get() { self.budget.check() } else { Ok(()) }
    }

    /// [`spend`](Self::spend) and [`result`](Self::result).
    ///
    /// # Errors
    /// What the budget says.
    pub fn go(&self, cost: usize) -> Result<(), LimitError> {
        self.spend(cost);
        self.result()
    }

    /// Sorts, stable.
    ///
    /// # Errors
    /// What the budget says; the items are then in any order.
    pub fn sort<T>(&self, items: &mut [T], compare: impl Fn(&T, &T) -> Ordering) -> Result<(), LimitError> {
        self.sort_dear(items, |_| 0, compare)
    }

    /// The same for items of which `bytes` says how many bytes are looked at to compare one.
    ///
    /// # Errors
    /// What the budget says; the items are then in any order.
    pub fn sort_dear<T>(
        &self,
        items: &mut [T],
        bytes: impl Fn(&T) -> usize,
        compare: impl Fn(&T, &T) -> Ordering,
    ) -> Result<(), LimitError> {
        let mut ends = Vec::new();
        let mut start = 0;
        while start < items.len() {
            self.budget.check()?;
            let mut cost = 0_usize;
            let fits = |item: &&T| {
                cost = cost.saturating_add(bytes(item));
                cost < LOOK_EVERY
            };
            let rest = items.get(start..).unwrap_or_default();
            let length = rest.iter().take(SORTED_AT_ONCE).take_while(fits).count().max(1);
            let end = start.saturating_add(length).min(items.len());
            items.get_mut(start..end).unwrap_or_default().sort_by(&compare);
            ends.push(end);
            start = end;
        }
        if ends.len() > 1 {
            let held = Held::new(self.budget);
            held.add(2 * size_of::<usize>() * items.len())?;
            let order = self.merged(items, ends, &bytes, &compare)?;
            arrange(items, order);
        }
        self.budget.check()
    }

    /// The places of items that are in order up to each of `ends`, in the order of all.
    fn merged<T>(
        &self,
        items: &[T],
        mut ends: Vec<usize>,
        bytes: &impl Fn(&T) -> usize,
        compare: &impl Fn(&T, &T) -> Ordering,
    ) -> Result<Vec<usize>, LimitError> {
        let mut order: Vec<usize> = (0..items.len()).collect();
        let mut next: Vec<usize> = Vec::with_capacity(items.len());
        while ends.len() > 1 {
            next.clear();
            let mut start = 0;
            for two in ends.chunks(2) {
                let (middle, end) = (two.first().copied().unwrap_or(start), two.last().copied().unwrap_or(start));
                let (mut left, mut right) = (start..middle, middle..end);
                // What is in order already is not compared one by one.
                let edges = (middle.checked_sub(1).and_then(|at| item(items, &order, at)), item(items, &order, middle));
                let apart = matches!(edges, (Some(a), Some(b)) if compare(a, b).is_le());
                while !apart
                    && let (Some(a), Some(b)) = (item(items, &order, left.start), item(items, &order, right.start))
                {
                    if left.is_empty() || right.is_empty() {
                        break;
                    }
                    self.go(COMPARE.saturating_add(bytes(a).min(bytes(b))))?;
                    let from = if compare(a, b).is_le() { &mut left } else { &mut right };
                    next.extend(from.next().and_then(|at| order.get(at)));
                }
                self.go(left.len() + right.len())?;
                next.extend(left.chain(right).filter_map(|at| order.get(at)));
                start = end;
            }
            ends = ends.chunks(2).filter_map(|two| two.last().copied()).collect();
            std::mem::swap(&mut order, &mut next);
        }
        Ok(order)
    }
}

fn item<'i, T>(items: &'i [T], order: &[usize], at: usize) -> Option<&'i T> {
    items.get(*order.get(at)?)
}

/// Moves the item that was at `order[i]` to `i`, for each `i`.
fn arrange<T>(items: &mut [T], mut order: Vec<usize>) {
    for first in 0..order.len() {
        let mut at = first;
        while let Some(from) = order.get(at).copied() {
            if let Some(place) = order.get_mut(at) {
                *place = at;
            }
            if from == first || from == at {
                break;
            }
            items.swap(at, from);
            at = from;
        }
    }
}

/// Charges a query for many small things that it keeps, some together so that each costs nearly nothing.
#[derive(Debug)]
pub struct ByBlock<'b> {
    budget: &'b QueryBudget,
    owed: usize,
}

impl<'b> ByBlock<'b> {
    /// Nothing yet.
    pub fn new(budget: &'b QueryBudget) -> Self {
        Self { budget, owed: 0 }
    }

    /// Charges `bytes`, at the latest when they are many with those before.
    ///
    /// # Errors
    /// What the budget says.
    pub fn add(&mut self, bytes: usize) -> Result<(), LimitError> {
        self.owed = self.owed.saturating_add(bytes);
        if self.owed >= CHARGED_AT_ONCE { self.settle() } else { Ok(()) }
    }

    /// Charges what is owed.
    ///
    /// # Errors
    /// What the budget says.
    pub fn settle(&mut self) -> Result<(), LimitError> {
        self.budget.charge(std::mem::take(&mut self.owed))
    }
}

/// Memory of a query that is given back when this is dropped.
#[derive(Debug)]
pub struct Held<'b> {
    budget: &'b QueryBudget,
    bytes: Cell<usize>,
}

impl<'b> Held<'b> {
    /// Nothing yet.
    pub fn new(budget: &'b QueryBudget) -> Self {
        Self { budget, bytes: Cell::new(0) }
    }

    /// What is held.
    pub fn bytes(&self) -> usize {
        self.bytes.get()
    }

    /// Leaves all of it with the query, which gives it back when it ends.
    pub fn keep(&self) {
        self.bytes.set(0);
    }

    /// Gives `bytes` of it back.
    pub fn give_back(&self, bytes: usize) {
        let bytes = bytes.min(self.bytes.get());
        self.budget.release(bytes);
        self.bytes.set(self.bytes.get() - bytes);
    }

    /// Takes `bytes` of the query's memory, before they are allocated.
    ///
    /// # Errors
    /// What the budget says; nothing is taken then.
    pub fn add(&self, bytes: usize) -> Result<(), LimitError> {
        self.budget.charge(bytes)?;
        self.bytes.set(self.bytes.get().saturating_add(bytes));
        Ok(())
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.budget.release(self.bytes.get());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canceled_work_stops_at_the_next_look_and_stays_stopped() {
        let budget = QueryBudget::unlimited();
        let pace = Pace::new(&budget);
        assert!(pace.spend(LOOK_EVERY) && pace.spend(LOOK_EVERY - 1));
        budget.cancel();
        assert!(pace.result().is_ok(), "nobody has looked");
        assert!(!pace.spend(1) && !pace.spend(0));
        assert_eq!(pace.result(), Err(LimitError::Canceled));
        assert!(pace.sort(&mut [2, 1], Ord::cmp).is_err());
    }

    #[test]
    fn what_is_sorted_in_runs_is_sorted_and_stable() {
        let budget = QueryBudget::unlimited();
        let mut items: Vec<(u32, u32)> =
            (0..100_000).map(|at: u32| (at.wrapping_mul(2_654_435_761) % 1_000, at)).collect();
        let mut whole = items.clone();
        whole.sort_by_key(|(key, _)| *key);
        Pace::new(&budget).sort(&mut items, |a, b| a.0.cmp(&b.0)).unwrap();
        assert_eq!(items, whole);
    }

    #[test]
    fn sorting_ends_when_the_query_does() {
        let budget = QueryBudget::unlimited();
        let compared = Cell::new(0_usize);
        let mut items: Vec<u32> = (0..400_000_u32).map(|at| at.wrapping_mul(2_654_435_761)).collect();
        let sorted = Pace::new(&budget).sort(&mut items, |a, b| {
            compared.set(compared.get() + 1);
            // The runs take about five million comparisons; this is in the middle of joining them.
            if compared.get() == 6_000_000 {
                budget.cancel();
            }
            a.cmp(b)
        });
        assert_eq!(sorted, Err(LimitError::Canceled));
        assert!(compared.get() < 6_000_000 + LOOK_EVERY / COMPARE + 1, "{}", compared.get());
    }

    #[test]
    fn long_items_are_looked_at_few_at_a_time() {
        let budget = QueryBudget::unlimited();
        let compared = Cell::new(0_usize);
        let long = |at: u32| format!("{}{:03}", "x".repeat(64 << 10), at.wrapping_mul(617) % 1_000);
        let mut items: Vec<String> = (0..1_000).map(long).collect();
        let sort = |items: &mut [String], end: usize| {
            compared.set(0);
            Pace::new(&budget).sort_dear(items, String::len, |a, b| {
                compared.set(compared.get() + 1);
                if compared.get() == end {
                    budget.cancel();
                }
                a.cmp(b)
            })
        };
        sort(&mut items, usize::MAX).unwrap();
        assert!(items.is_sorted());
        items.reverse();
        assert!(sort(&mut items, 500).is_err());
        assert!(compared.get() < 520, "{}", compared.get());
    }

    #[test]
    fn small_things_are_charged_when_they_are_many() {
        let budget = QueryBudget::new(std::time::Duration::from_secs(60), 100_000, 1);
        let mut charged = ByBlock::new(&budget);
        let times = (0..).take_while(|_| charged.add(100).is_ok()).count();
        assert!(times <= 2 * (CHARGED_AT_ONCE / 100 + 1), "{times}");
        assert_eq!(budget.memory_peak(), 65_600);
    }

    #[test]
    fn what_was_held_is_given_back() {
        let budget = QueryBudget::new(std::time::Duration::from_secs(60), 100, 1);
        let held = Held::new(&budget);
        held.add(60).unwrap();
        assert!(held.add(50).is_err());
        drop(held);
        budget.charge(100).unwrap();
    }
}
