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

    /// Sorts, stable. The last step, which joins what is in order already, is not interrupted.
    ///
    /// # Errors
    /// What the budget says.
    pub fn sort<T>(&self, items: &mut [T], compare: impl Fn(&T, &T) -> Ordering) -> Result<(), LimitError> {
        for run in items.chunks_mut(SORTED_AT_ONCE) {
            self.budget.check()?;
            run.sort_by(&compare);
        }
        items.sort_by(compare);
        self.budget.check()
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
    fn what_was_held_is_given_back() {
        let budget = QueryBudget::new(std::time::Duration::from_secs(60), 100, 1);
        let held = Held::new(&budget);
        held.add(60).unwrap();
        assert!(held.add(50).is_err());
        drop(held);
        budget.charge(100).unwrap();
    }
}
