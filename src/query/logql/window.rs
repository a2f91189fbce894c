//! Windows that slide over the samples of one series, to values. A sample enters once and leaves once,
//! however many windows hold it: what is known of a window is joined from what is known of two parts
//! of it, so nothing is ever taken away again from a sum, which would leave rounding behind.

use crate::base::limits::LimitError;
use crate::query::pace::{Held, Pace};

/// Windows that hold a sample, on average, up to which each is computed anew.
const ANEW_MAX: i64 = 8;

/// Memory beside the samples for each of them, in bytes: ranks, or what is known from it on.
const SAMPLE_BYTES: usize = 32;

/// What is computed of a window.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Over {
    Count,
    Sum,
    /// The sum by seconds.
    Rate(f64),
    RateCounter,
    Avg,
    Min,
    Max,
    First,
    Last,
    Stddev,
    Stdvar,
    Quantile(f64),
}

/// A time in nanoseconds and a value.
type Sample = (i64, f64);

/// Computes `over` for windows `(start, end]`, both of which never go back, of samples in the order of
/// time, and gives each value, or nothing for a window without one. `shared` says how many windows hold
/// a sample, more or less.
///
/// # Errors
/// What the budget says.
pub(super) fn slide(
    over: Over,
    samples: &[Sample],
    windows: impl Iterator<Item = (i64, i64)>,
    shared: i64,
    pace: &Pace<'_>,
    mut give: impl FnMut(Option<f64>),
) -> Result<(), LimitError> {
    let held = Held::new(pace.budget());
    let mut state = if shared <= ANEW_MAX {
        State::Anew
    } else {
        held.add(samples.len().saturating_mul(SAMPLE_BYTES))?;
        State::of(over, samples)
    };
    let (mut low, mut high) = (0, 0);
    for (start, end) in windows {
        let before = (low, high);
        while samples.get(high).is_some_and(|(t, _)| *t <= end) {
            high += 1;
        }
        while low < high && samples.get(low).is_some_and(|(t, _)| *t <= start) {
            low += 1;
        }
        let looked = if matches!(state, State::Anew) { high - low } else { high + low - before.0 - before.1 };
        pace.go(64 + 16 * looked)?;
        let window = samples.get(low..high).unwrap_or_default();
        give(if window.is_empty() {
            state.to(samples, low, high);
            None
        } else {
            state.value(over, samples, (low, high), (start, end))
        });
    }
    Ok(())
}

/// What is known of the windows so far.
enum State<'s> {
    Anew,
    /// Sums, least and greatest values.
    Folded(Queue<f64>, fn(f64, f64) -> f64),
    /// What counters held before they began anew.
    Resets(Queue<f64>),
    Spread(Queue<Moments>),
    Ranks(Box<Ranks<'s>>),
}

impl<'s> State<'s> {
    fn of(over: Over, samples: &'s [Sample]) -> Self {
        match over {
            Over::Count | Over::First | Over::Last => Self::Anew,
            Over::Sum | Over::Rate(_) | Over::Avg => Self::Folded(Queue::default(), |a, b| a + b),
            Over::Min => Self::Folded(Queue::default(), f64::min),
            Over::Max => Self::Folded(Queue::default(), f64::max),
            Over::RateCounter => Self::Resets(Queue::default()),
            Over::Stddev | Over::Stdvar => Self::Spread(Queue::default()),
            Over::Quantile(_) => Self::Ranks(Box::new(Ranks::new(samples))),
        }
    }

    /// Goes to a window.
    fn to(&mut self, samples: &[Sample], low: usize, high: usize) {
        let value = |at: usize| samples.get(at).map_or(f64::NAN, |(_, value)| *value);
        match self {
            Self::Anew => {}
            Self::Folded(queue, fold) => queue.to(low, high, value, *fold),
            // The first of a window has none before it.
            Self::Resets(queue) => queue.to((low + 1).min(high), high, |at| reset(samples, at), |a, b| a + b),
            Self::Spread(queue) => queue.to(low, high, |at| Moments::of(value(at)), Moments::with),
            Self::Ranks(ranks) => ranks.to(low, high),
        }
    }

    fn value(
        &mut self,
        over: Over,
        samples: &[Sample],
        (low, high): (usize, usize),
        (start, end): (i64, i64),
    ) -> Option<f64> {
        self.to(samples, low, high);
        let window = samples.get(low..high)?;
        let count = window.len() as f64;
        Some(match self {
            Self::Anew => return anew(over, window, start, end),
            Self::Folded(queue, fold) => match (over, queue.whole(*fold)?) {
                (Over::Rate(seconds), sum) => sum / seconds,
                (Over::Avg, sum) => sum / count,
                (_, folded) => folded,
            },
            Self::Resets(queue) => {
                let resets = queue.whole(|a, b| a + b).unwrap_or(0.0);
                return rate_of_counter(window, resets, start, end);
            }
            Self::Spread(queue) => {
                let variance = queue.whole(Moments::with)?.variance();
                if over == Over::Stddev { variance.sqrt() } else { variance }
            }
            Self::Ranks(ranks) => match over {
                Over::Quantile(phi) => quantile_of(phi, window.len(), |rank| ranks.value(rank)),
                _ => return None,
            },
        })
    }
}

/// The value of one window, from all its samples.
fn anew(over: Over, window: &[Sample], start: i64, end: i64) -> Option<f64> {
    let (first, last) = (window.first()?, window.last()?);
    let count = window.len() as f64;
    let values = || window.iter().map(|(_, value)| *value);
    Some(match over {
        Over::Count => count,
        Over::Sum => values().sum(),
        Over::Rate(seconds) => values().sum::<f64>() / seconds,
        Over::RateCounter => {
            let resets = (1..window.len()).map(|at| reset(window, at)).sum();
            return rate_of_counter(window, resets, start, end);
        }
        Over::Avg => values().sum::<f64>() / count,
        Over::Min => values().fold(f64::NAN, f64::min),
        Over::Max => values().fold(f64::NAN, f64::max),
        Over::First => first.1,
        Over::Last => last.1,
        Over::Stdvar => variance(values()),
        Over::Stddev => variance(values()).sqrt(),
        Over::Quantile(phi) => quantile(phi, values().collect()),
    })
}

/// What is known of a window: from each sample on up to the middle, and of all behind it.
struct Queue<T> {
    known: Vec<T>,
    recent: Option<T>,
    low: usize,
    high: usize,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self { known: Vec::new(), recent: None, low: 0, high: 0 }
    }
}

impl<T: Copy> Queue<T> {
    fn to(&mut self, low: usize, high: usize, mut item: impl FnMut(usize) -> T, mut join: impl FnMut(T, T) -> T) {
        while self.high < high {
            let item = item(self.high);
            self.recent = Some(self.recent.map_or(item, |recent| join(recent, item)));
            self.high += 1;
        }
        while self.low < low {
            if self.known.is_empty() {
                // Each sample comes here once: what is known afterwards lies behind it.
                let mut known: Option<T> = None;
                for at in (self.low..self.high).rev() {
                    let item = item(at);
                    let joined = known.map_or(item, |known| join(item, known));
                    self.known.push(joined);
                    known = Some(joined);
                }
                self.recent = None;
            }
            self.known.pop();
            self.low += 1;
        }
    }

    fn whole(&self, join: impl Fn(T, T) -> T) -> Option<T> {
        match (self.known.last().copied(), self.recent) {
            (Some(known), Some(recent)) => Some(join(known, recent)),
            (known, recent) => known.or(recent),
        }
    }
}

/// Count, mean, and sum of squared distances from it.
#[derive(Clone, Copy)]
struct Moments(f64, f64, f64);

impl Moments {
    fn of(value: f64) -> Self {
        Self(1.0, value, 0.0)
    }

    /// Chan's way to join two.
    fn with(self, other: Self) -> Self {
        let count = self.0 + other.0;
        let delta = other.1 - self.1;
        let part = other.0 / count;
        Self(count, self.1 + delta * part, self.2 + other.2 + delta * delta * self.0 * part)
    }

    fn variance(self) -> f64 {
        self.2 / self.0
    }
}

/// Which of all values of a series are in the window, by rank: a tree of counts (Fenwick's).
struct Ranks<'s> {
    /// All samples by value.
    sorted: Vec<u32>,
    /// The place in `sorted` of each sample.
    ranks: Vec<u32>,
    counts: Vec<u32>,
    samples: &'s [Sample],
    low: usize,
    high: usize,
}

impl<'s> Ranks<'s> {
    fn new(samples: &'s [Sample]) -> Self {
        let value = |at: u32| samples.get(at as usize).map_or(f64::NAN, |(_, value)| *value);
        let mut sorted: Vec<u32> = (0..u32::try_from(samples.len()).unwrap_or(u32::MAX)).collect();
        sorted.sort_by(|a, b| value(*a).total_cmp(&value(*b)));
        let mut ranks = vec![0; sorted.len()];
        for (rank, at) in (0..).zip(&sorted) {
            if let Some(own) = ranks.get_mut(*at as usize) {
                *own = rank;
            }
        }
        let counts = vec![0; sorted.len() + 1];
        Self { sorted, ranks, counts, samples, low: 0, high: 0 }
    }

    fn to(&mut self, low: usize, high: usize) {
        while self.high < high {
            self.change(self.high, |count| count + 1);
            self.high += 1;
        }
        while self.low < low {
            self.change(self.low, |count| count - 1);
            self.low += 1;
        }
    }

    fn change(&mut self, at: usize, by: impl Fn(u32) -> u32) {
        let Some(rank) = self.ranks.get(at) else { return };
        let mut node = *rank as usize + 1;
        while let Some(count) = self.counts.get_mut(node) {
            *count = by(*count);
            node += node & node.wrapping_neg();
        }
    }

    /// The value that has so many of the window before it.
    fn value(&self, before: usize) -> f64 {
        let mut step = self.counts.len().next_power_of_two();
        let (mut node, mut left) = (0, before);
        while step > 0 {
            if let Some(count) = self.counts.get(node + step)
                && *count as usize <= left
            {
                node += step;
                left -= *count as usize;
            }
            step /= 2;
        }
        let sample = self.sorted.get(node).and_then(|at| self.samples.get(*at as usize));
        sample.map_or(f64::NAN, |(_, value)| *value)
    }
}

/// Welford's way, which does not lose small differences of large values.
pub(super) fn variance(values: impl Iterator<Item = f64>) -> f64 {
    let (mut count, mut mean, mut squares) = (0.0, 0.0, 0.0);
    for value in values {
        count += 1.0;
        let delta = value - mean;
        mean += delta / count;
        squares += delta * (value - mean);
    }
    squares / count
}

fn quantile(phi: f64, mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    quantile_of(phi, values.len(), |rank| values.get(rank).copied().unwrap_or(f64::NAN))
}

/// A quantile of `count` values, at least one, by their ranks.
fn quantile_of(phi: f64, count: usize, value: impl Fn(usize) -> f64) -> f64 {
    if phi < 0.0 {
        return f64::NEG_INFINITY;
    }
    if phi > 1.0 {
        return f64::INFINITY;
    }
    let last = count.saturating_sub(1);
    let rank = phi * last as f64;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "phi is in [0, 1]")]
    let low = rank.floor() as usize;
    let weight = rank - rank.floor();
    value(low.min(last)) * (1.0 - weight) + value((low + 1).min(last)) * weight
}

/// What a counter held before it began anew at this sample; zero when it did not.
fn reset(samples: &[Sample], at: usize) -> f64 {
    match (at.checked_sub(1).and_then(|before| samples.get(before)), samples.get(at)) {
        (Some((_, before)), Some((_, after))) if after < before => *before,
        _ => 0.0,
    }
}

/// Increase per second, resets counted, extended to the window's edges where samples come close.
fn rate_of_counter(window: &[Sample], resets: f64, start: i64, end: i64) -> Option<f64> {
    let (first, last) = (window.first()?, window.last()?);
    if window.len() < 2 {
        return None;
    }
    let increase = last.1 - first.1 + resets;
    let seconds = |nanos: i64| nanos as f64 / 1e9;
    let sampled = seconds(last.0 - first.0);
    if sampled <= 0.0 {
        return None;
    }
    let between = sampled / (window.len() as f64 - 1.0);
    let mut to_start = seconds(first.0.saturating_sub(start));
    let to_end = seconds(end.saturating_sub(last.0));
    if increase > 0.0 && first.1 >= 0.0 {
        to_start = to_start.min(sampled * (first.1 / increase));
    }
    let threshold = between * 1.1;
    let extend = |gap: f64| if gap < threshold { gap } else { between / 2.0 };
    let extended = sampled + extend(to_start) + extend(to_end);
    Some(increase * (extended / sampled) / seconds(end.saturating_sub(start)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::limits::QueryBudget;

    const ALL: [Over; 12] = [
        Over::Count,
        Over::Sum,
        Over::Rate(60.0),
        Over::RateCounter,
        Over::Avg,
        Over::Min,
        Over::Max,
        Over::First,
        Over::Last,
        Over::Stddev,
        Over::Stdvar,
        Over::Quantile(0.7),
    ];

    fn values(over: Over, samples: &[Sample], windows: &[(i64, i64)], shared: i64) -> Vec<Option<f64>> {
        let budget = QueryBudget::unlimited();
        let mut values = Vec::new();
        let pace = Pace::new(&budget);
        slide(over, samples, windows.iter().copied(), shared, &pace, |value| values.push(value)).unwrap();
        values
    }

    proptest::proptest! {
        #[test]
        fn windows_that_slide_are_those_computed_anew(
            gaps in proptest::collection::vec((0_i64..40, -5_i8..30), 0..120),
            step in 1_i64..50,
            range in 1_i64..300,
        ) {
            let mut t = 0;
            let samples: Vec<Sample> = gaps.iter().map(|(gap, value)| {
                t += gap;
                (t, f64::from(*value))
            }).collect();
            let windows: Vec<(i64, i64)> = (0..60).map(|k| (k * step - range, k * step)).collect();
            for over in ALL {
                let (anew, slid) = (values(over, &samples, &windows, 1), values(over, &samples, &windows, 1_000));
                for (anew, slid) in anew.iter().zip(&slid) {
                    let close = match (anew, slid) {
                        (Some(a), Some(b)) => (a - b).abs() <= 1e-9 * a.abs().max(1.0),
                        (a, b) => a == b,
                    };
                    proptest::prop_assert!(close, "{over:?}: {anew:?} {slid:?}");
                }
            }
        }
    }

    #[test]
    fn a_value_that_is_none_goes_with_its_sample() {
        let samples = [(1, 1.0), (2, f64::NAN), (3, 3.0), (4, 4.0), (5, f64::INFINITY), (6, 6.0)];
        let windows: Vec<(i64, i64)> = (1..=8).map(|end| (end - 2, end)).collect();
        let sums = values(Over::Sum, &samples, &windows, 1_000);
        assert_eq!((sums[0], sums[3], sums[7]), (Some(1.0), Some(7.0), None));
        assert!(sums[1].unwrap().is_nan() && sums[5].unwrap().is_infinite());
        assert_eq!(values(Over::Max, &samples, &windows, 1_000)[1], Some(1.0));
    }

    #[test]
    fn a_sample_is_looked_at_twice_however_many_windows_hold_it() {
        let mut queue = Queue::default();
        let (mut looks, mut joins) = (0, 0);
        for at in 0..10_000_usize {
            let item = |at| {
                looks += 1;
                at
            };
            queue.to(at, at + 5_000, item, |a, b| {
                joins += 1;
                a + b
            });
            let first = at;
            assert_eq!(queue.whole(|a, b| a + b), Some((first..first + 5_000).sum()));
        }
        assert!(looks <= 2 * 15_000 && joins <= 2 * 15_000, "{looks} {joins}");
    }

    #[test]
    fn a_canceled_query_ends_between_windows() {
        let budget = QueryBudget::unlimited();
        budget.cancel();
        let samples: Vec<Sample> = (0..100_000).map(|at| (at, 1.0)).collect();
        let windows = (0..100_000).map(|k| (k - 1_000, k));
        let mut seen = 0;
        assert!(slide(Over::Sum, &samples, windows, 1_000, &Pace::new(&budget), |_| seen += 1).is_err());
        assert!(seen < 10_000, "{seen}");
    }

    #[test]
    fn a_quantile_lies_between_its_neighbours() {
        assert!((quantile(0.5, vec![3.0, 1.0, 2.0, 4.0]) - 2.5).abs() < 1e-12);
        assert!(quantile(1.5, vec![1.0]).is_infinite());
        assert!((quantile(1.0, vec![1.0, 9.0]) - 9.0).abs() < 1e-12);
    }

    #[test]
    fn a_counter_that_restarts_still_rises() {
        let window: Vec<Sample> =
            [(0, 10.0), (15, 20.0), (30, 5.0), (45, 15.0)].map(|(t, v)| (t * 1_000_000_000, v)).to_vec();
        let rate = anew(Over::RateCounter, &window, 0, 45_000_000_000).unwrap();
        assert!((rate - 25.0 / 45.0).abs() < 1e-9, "{rate}");
    }

    #[test]
    fn variance_of_equal_values_is_zero() {
        assert!(variance([1e15, 1e15, 1e15].into_iter()).abs() < 1e-9);
    }
}
