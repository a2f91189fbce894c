//! Work on many series, spread over the cores. Neighbours are done together, in runs that threads
//! take one after the other, so that a thread that is held up leaves its share to the others.
//! Invariant: results are taken in the order of their places, whoever is done first, so that an
//! answer is the same from run to run.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use parking_lot::Mutex;

use super::PromqlError;
use super::run::Eval;

/// Runs that each thread takes on average: more even out, fewer have less to put together.
const RUNS_PER_THREAD: usize = 4;
/// Work that is worth a thread, in nanoseconds: to start one takes about a tenth of it.
const THREAD_NS: usize = 300_000;

/// The cores that this process may use.
pub(super) fn cores() -> usize {
    static CORES: OnceLock<usize> = OnceLock::new();
    *CORES.get_or_init(|| thread::available_parallelism().map_or(1, usize::from))
}

/// What is done for a run of places.
type Work<'w, T> = dyn Fn(&mut Eval<'_>, Range<usize>) -> Result<T, PromqlError> + Sync + 'w;

/// Does `work` for all of `count` places, which take about `cost` nanoseconds each, and hands the
/// results to `take` in order.
///
/// # Errors
/// The first that `work` or `take` gives, in the order of places.
pub(super) fn spread<T: Send>(
    eval: &mut Eval<'_>,
    count: usize,
    cost: usize,
    work: &Work<'_, T>,
    take: &mut (dyn FnMut(T) -> Result<(), PromqlError> + Send),
) -> Result<(), PromqlError> {
    if count == 0 {
        return Ok(());
    }
    let threads = eval.threads.min(count.saturating_mul(cost) / THREAD_NS).min(count);
    if threads < 2 {
        let done = work(eval, 0..count)?;
        return take(done);
    }
    let length = count.div_ceil(threads * RUNS_PER_THREAD);
    let runs = Runs {
        next: AtomicUsize::new(0),
        stop: AtomicBool::new(false),
        count,
        length,
        done: Mutex::new(Done { waiting: BTreeMap::new(), next: 0, take, failed: None }),
    };
    let forks: Vec<Eval<'_>> = (1..threads).map(|_| eval.fork()).collect();
    thread::scope(|scope| {
        let runs = &runs;
        let mut helpers = Vec::with_capacity(forks.len());
        for mut fork in forks {
            let helper = move || {
                runs.work_off(&mut fork, work);
                fork
            };
            // A system that has no thread left for us leaves the work to those that there are.
            if let Ok(helper) = thread::Builder::new().name("query".to_owned()).spawn_scoped(scope, helper) {
                helpers.push(helper);
            }
        }
        runs.work_off(eval, work);
        for helper in helpers {
            match helper.join() {
                Ok(fork) => eval.absorb(fork),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
    });
    match runs.done.into_inner().failed {
        Some(error) => Err(error),
        None => Ok(()),
    }
}

/// Runs of places that threads work off.
struct Runs<'t, T> {
    next: AtomicUsize,
    stop: AtomicBool,
    count: usize,
    length: usize,
    done: Mutex<Done<'t, T>>,
}

/// What is done and not yet taken, because a run before it is not done.
struct Done<'t, T> {
    waiting: BTreeMap<usize, Result<T, PromqlError>>,
    next: usize,
    take: &'t mut (dyn FnMut(T) -> Result<(), PromqlError> + Send),
    failed: Option<PromqlError>,
}

impl<T> Runs<'_, T> {
    fn work_off(&self, eval: &mut Eval<'_>, work: &Work<'_, T>) {
        while !self.stop.load(Ordering::Relaxed) {
            let run = self.next.fetch_add(1, Ordering::Relaxed);
            let start = run.saturating_mul(self.length);
            if start >= self.count {
                return;
            }
            let result = work(eval, start..self.count.min(start + self.length));
            let mut done = self.done.lock();
            done.waiting.insert(run, result);
            if done.settle() {
                self.stop.store(true, Ordering::Relaxed);
            }
        }
    }
}

impl<T> Done<'_, T> {
    /// Takes what is next in order; whether there is nothing more to do, because of an error. Every
    /// run before one that is done has been begun, so the first error is always found.
    fn settle(&mut self) -> bool {
        while self.failed.is_none()
            && let Some(result) = self.waiting.remove(&self.next)
        {
            self.next += 1;
            self.failed = result.and_then(&mut *self.take).err();
        }
        self.failed.is_some() || self.waiting.values().any(Result::is_err)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::limits::QueryBudget;
    use crate::query::promql::lex::Times;
    use crate::store::memory::Memory;

    fn places(threads: usize, count: usize, fail_from: usize) -> Result<Vec<usize>, PromqlError> {
        let (store, budget) = (Memory::default(), QueryBudget::unlimited());
        let mut eval = Eval::new(&store, &budget, Times::default(), 1);
        eval.threads = threads;
        let mut all = Vec::new();
        let work = |_: &mut Eval<'_>, places: Range<usize>| match places.clone().find(|place| *place >= fail_from) {
            Some(place) => Err(PromqlError::Execution(place.to_string())),
            None => Ok(places),
        };
        spread(&mut eval, count, THREAD_NS, &work, &mut |places| {
            all.extend(places);
            Ok(())
        })?;
        Ok(all)
    }

    #[test]
    fn every_place_is_done_once_and_in_order() {
        for threads in [1, 2, 3, 7] {
            for count in [0, 1, 2, 30, 1_000] {
                assert_eq!(places(threads, count, usize::MAX).unwrap(), (0..count).collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn the_first_error_is_the_one_that_is_told() {
        for threads in [1, 2, 5] {
            assert_eq!(places(threads, 1_000, 333).unwrap_err().to_string(), "333");
        }
    }
}
