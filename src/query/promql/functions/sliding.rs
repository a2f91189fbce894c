//! The fast way of functions over ranges: for series of floats only, with nothing special about the
//! edges of the range. A window is a slice whose bounds are known, what can be carried from one
//! window to the next is, and no cell is more than a float.
//! Invariant: the answers are those of the general way (a test compares them), which every function has.

use std::collections::VecDeque;

use crate::query::pace::Pace;
use crate::query::promql::stat;
use crate::query::promql::value::ABSENT;
use crate::query::promql::windows::Windows;

/// Windows longer than this, on average, are slid over rather than gone through each.
const LONG: u64 = 24;

/// The floats of one series and the windows over them.
#[derive(Clone, Copy)]
pub(super) struct Floats<'w> {
    /// Times of the samples.
    pub times: &'w [i64],
    /// The samples, none of them a stale marker.
    pub values: &'w [f64],
    /// The windows.
    pub windows: &'w Windows,
    /// Length of a window, milliseconds.
    pub range: i64,
}

/// How a function slides.
#[derive(Clone, Copy)]
pub(super) struct Sliding {
    /// Sets every cell; one of a window without a result to the stale marker. Those that are not set when
    /// the pace stops stay as they are.
    pub fill: fn(&Floats<'_>, &mut [f64], &Pace<'_>),
    /// Whether it needs to know the gaps at the edges of windows.
    pub gaps: bool,
    /// Whether it takes the series for a counter, which its name should then say.
    pub counter: bool,
}

const fn plain(fill: fn(&Floats<'_>, &mut [f64], &Pace<'_>)) -> Sliding {
    Sliding { fill, gaps: false, counter: false }
}

pub(super) const RATE: Sliding = Sliding {
    fill: |floats, cells, pace| {
        let seconds = floats.range as f64 / 1000.0;
        change(floats, cells, pace, true, |change, factor| change * (factor / seconds));
    },
    gaps: true,
    counter: true,
};
pub(super) const INCREASE: Sliding = Sliding {
    fill: |floats, cells, pace| change(floats, cells, pace, true, |change, factor| change * factor),
    gaps: true,
    counter: true,
};
pub(super) const DELTA: Sliding = Sliding {
    fill: |floats, cells, pace| change(floats, cells, pace, false, |change, factor| change * factor),
    gaps: true,
    counter: false,
};
pub(super) const IRATE: Sliding = plain(|floats, cells, pace| last_two(floats, cells, pace, true));
pub(super) const IDELTA: Sliding = plain(|floats, cells, pace| last_two(floats, cells, pace, false));
pub(super) const RESETS: Sliding = plain(|floats, cells, pace| pairs(floats, cells, pace, |before, now| now < before));
pub(super) const CHANGES: Sliding = plain(|floats, cells, pace| {
    pairs(floats, cells, pace, |before, now| now != before && !(now.is_nan() && before.is_nan()))
});
pub(super) const SUM: Sliding =
    plain(|floats, cells, pace| sums(floats, cells, pace, |v| stat::sum(v.iter().copied()), |sum, _| sum));
pub(super) const AVG: Sliding = plain(|floats, cells, pace| {
    sums(floats, cells, pace, |v| stat::mean(v.iter().copied()), |sum, count| sum / count as f64)
});
pub(super) const STDDEV: Sliding =
    plain(|floats, cells, pace| each(floats, cells, pace, |v| stat::variance(v.iter().copied()).sqrt()));
pub(super) const STDVAR: Sliding =
    plain(|floats, cells, pace| each(floats, cells, pace, |v| stat::variance(v.iter().copied())));
pub(super) const MIN: Sliding =
    plain(|floats, cells, pace| extreme(floats, cells, pace, stat::least, |now, best| now < best));
pub(super) const MAX: Sliding =
    plain(|floats, cells, pace| extreme(floats, cells, pace, stat::most, |now, best| now > best));
pub(super) const COUNT: Sliding = plain(|floats, cells, pace| each(floats, cells, pace, |v| v.len() as f64));
pub(super) const PRESENT: Sliding = plain(|floats, cells, pace| each(floats, cells, pace, |_| 1.0));
pub(super) const LAST: Sliding =
    plain(|floats, cells, pace| each(floats, cells, pace, |v| v.last().copied().unwrap_or(ABSENT)));
pub(super) const FIRST: Sliding =
    plain(|floats, cells, pace| each(floats, cells, pace, |v| v.first().copied().unwrap_or(ABSENT)));
pub(super) const TIME_OF_FIRST: Sliding =
    plain(|floats, cells, pace| each_time(floats, cells, pace, |times| times.first()));
pub(super) const TIME_OF_LAST: Sliding =
    plain(|floats, cells, pace| each_time(floats, cells, pace, |times| times.last()));

/// Samples of windows between two looks at the pace.
const AT_ONCE: u32 = 1 << 14;
/// What a sample of a window costs at most, in what the pace counts.
const SAMPLE_COST: usize = 8;

/// The windows with their cells, as long as there is time to go through all samples of each.
fn gone_through<'c>(
    floats: &Floats<'c>,
    cells: &'c mut [f64],
    pace: &'c Pace<'_>,
) -> impl Iterator<Item = (&'c mut f64, (usize, usize))> {
    let mut work = 0_u32;
    cells.iter_mut().zip(floats.windows.bounds()).map_while(move |(cell, (from, to))| {
        work = work.saturating_add(to - from);
        if work > AT_ONCE {
            if !pace.spend(SAMPLE_COST * work as usize) {
                return None;
            }
            work = 0;
        }
        Some((cell, (*from as usize, *to as usize)))
    })
}

fn each(floats: &Floats<'_>, cells: &mut [f64], pace: &Pace<'_>, of: impl Fn(&[f64]) -> f64) {
    for (cell, (from, to)) in gone_through(floats, cells, pace) {
        *cell = match floats.values.get(from..to) {
            Some(window) if !window.is_empty() => of(window),
            _ => ABSENT,
        };
    }
}

fn each_time(floats: &Floats<'_>, cells: &mut [f64], _: &Pace<'_>, of: impl Fn(&[i64]) -> Option<&i64>) {
    for (cell, (from, to)) in cells.iter_mut().zip(floats.windows.bounds()) {
        let window = floats.times.get(*from as usize..*to as usize).unwrap_or_default();
        *cell = of(window).map_or(ABSENT, |t| *t as f64 / 1000.0);
    }
}

/// What comes of the sum of each window. That of a long one is the difference of two sums from the
/// beginning, each kept in two floats; `direct` goes through the window, where that is not so exact.
fn sums(
    floats: &Floats<'_>,
    cells: &mut [f64],
    pace: &Pace<'_>,
    direct: fn(&[f64]) -> f64,
    of_sum: impl Fn(f64, usize) -> f64,
) {
    let long = LONG * floats.windows.bounds().len() as u64;
    let Some(prefixes) = (floats.windows.total() > long).then(|| Prefixes::of(floats.values)).flatten() else {
        return each(floats, cells, pace, direct);
    };
    for (cell, (from, to)) in cells.iter_mut().zip(floats.windows.bounds()) {
        let (from, to) = (*from as usize, *to as usize);
        *cell = match floats.values.get(from..to) {
            Some(window) if !window.is_empty() => match prefixes.between(from, to) {
                Some(sum) => of_sum(sum, window.len()),
                None if !pace.spend(SAMPLE_COST * window.len()) => return,
                None => direct(window),
            },
            _ => ABSENT,
        };
    }
}

/// Sums from the beginning up to each sample.
struct Prefixes {
    /// Rounded, and what rounding has taken away.
    sums: Vec<(f64, f64)>,
    /// The largest of them.
    largest: f64,
    exact: bool,
}

impl Prefixes {
    /// Differences smaller than this share of the largest sum are not taken: what a sum in two floats
    /// loses itself would show in them.
    const SHARE_MIN: f64 = 1e-9;

    /// None when a value or a sum is not finite.
    fn of(values: &[f64]) -> Option<Self> {
        let mut sums = Vec::with_capacity(values.len() + 1);
        let (mut sum, mut lost, mut largest, mut exact) = (0.0, 0.0, 0.0_f64, true);
        sums.push((sum, lost));
        for value in values {
            lost += stat::two_sum(&mut sum, *value);
            exact &= lost == 0.0;
            largest = largest.max(sum.abs());
            sums.push((sum, lost));
        }
        (sum + lost).is_finite().then_some(Self { sums, largest, exact })
    }

    /// The sum of the samples from one place up to another, if it is exact enough.
    fn between(&self, from: usize, to: usize) -> Option<f64> {
        let (before, lost_before) = *self.sums.get(from)?;
        let (mut sum, lost) = *self.sums.get(to)?;
        let lost = stat::two_sum(&mut sum, -before) + (lost - lost_before);
        let sum = sum + lost;
        (self.exact || sum.abs() >= Self::SHARE_MIN * self.largest).then_some(sum)
    }
}

/// Last minus first, with what resets took away added back, extrapolated to the edges.
fn change(floats: &Floats<'_>, cells: &mut [f64], pace: &Pace<'_>, counter: bool, finish: impl Fn(f64, f64) -> f64) {
    let values = floats.values;
    // Where values fall; few do, so that a window mostly has nothing to add back.
    let falls: Vec<usize> = if counter {
        let pairs = values.iter().zip(values.get(1..).unwrap_or_default()).enumerate();
        pairs.filter(|(_, (before, now))| now < before).map(|(at, _)| at).collect()
    } else {
        Vec::new()
    };
    let mut next = 0;
    let windows = floats.windows.bounds().iter().zip(floats.windows.gaps());
    for (cell, ((from, to), gaps)) in cells.iter_mut().zip(windows) {
        let (from, to) = (*from as usize, *to as usize);
        let Some([first, .., last]) = values.get(from..to) else {
            *cell = ABSENT;
            continue;
        };
        let mut result = last - first;
        if !falls.is_empty() {
            while falls.get(next).is_some_and(|at| *at < from) {
                next += 1;
            }
            let rest = falls.get(next..).unwrap_or_default();
            let inside = rest.get(..rest.partition_point(|at| at + 1 < to)).unwrap_or_default().iter();
            if !pace.spend(SAMPLE_COST * inside.len()) {
                return;
            }
            for before in inside.filter_map(|at| values.get(*at)) {
                result += before;
            }
        }
        let zero = (counter && result > 0.0 && *first >= 0.0).then(|| first / result);
        *cell = finish(result, gaps.factor(zero));
    }
}

fn last_two(floats: &Floats<'_>, cells: &mut [f64], _: &Pace<'_>, per_second: bool) {
    for (cell, (from, to)) in cells.iter_mut().zip(floats.windows.bounds()) {
        let window = *from as usize..*to as usize;
        let two = (floats.times.get(window.clone()), floats.values.get(window));
        *cell = match two {
            (Some([.., t0, t1]), Some([.., before, now])) => {
                let change = if per_second && now < before { *now } else { now - before };
                if per_second { change / ((t1 - t0) as f64 / 1000.0) } else { change }
            }
            _ => ABSENT,
        };
    }
}

/// How many pairs of neighbours in each window are such.
fn pairs(floats: &Floats<'_>, cells: &mut [f64], _: &Pace<'_>, such: impl Fn(f64, f64) -> bool) {
    // For each sample, how many pairs there are up to it.
    let mut sums = Vec::with_capacity(floats.values.len());
    let mut sum = 0_u32;
    let mut before = None;
    for now in floats.values {
        sum += u32::from(before.is_some_and(|before| such(before, *now)));
        sums.push(sum);
        before = Some(*now);
    }
    for (cell, (from, to)) in cells.iter_mut().zip(floats.windows.bounds()) {
        *cell = match sums.get(*from as usize..*to as usize) {
            Some([first, .., last]) => f64::from(last - first),
            Some([_]) => 0.0,
            _ => ABSENT,
        };
    }
}

/// The smallest or largest value of each window. NaN counts only where there is nothing else.
fn extreme(
    floats: &Floats<'_>,
    cells: &mut [f64],
    pace: &Pace<'_>,
    of_short: fn(&[f64]) -> f64,
    better: impl Fn(f64, f64) -> bool,
) {
    let long = LONG * floats.windows.bounds().len() as u64;
    if floats.windows.total() <= long {
        return each(floats, cells, pace, of_short);
    }
    // Candidates: each is better than all after it that are in the window; the first is the best.
    let mut candidates: VecDeque<usize> = VecDeque::new();
    let mut seen = 0;
    for (cell, (from, to)) in cells.iter_mut().zip(floats.windows.bounds()) {
        let (from, to) = (*from as usize, *to as usize);
        seen = seen.max(from);
        for (at, value) in floats.values.iter().enumerate().take(to).skip(seen).filter(|(_, value)| !value.is_nan()) {
            while candidates.back().and_then(|back| floats.values.get(*back)).is_some_and(|back| better(*value, *back))
            {
                candidates.pop_back();
            }
            candidates.push_back(at);
        }
        seen = seen.max(to);
        while candidates.front().is_some_and(|front| *front < from) {
            candidates.pop_front();
        }
        let best = candidates.front().and_then(|at| floats.values.get(*at)).copied();
        *cell = if from < to { best.unwrap_or(f64::NAN) } else { ABSENT };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::limits::QueryBudget;

    /// Long windows, many, over values that rise and fall.
    #[test]
    fn functions_that_go_through_every_window_end_when_the_query_does() {
        let values: Vec<f64> = (0..50_000).map(|at| f64::from(at % 2)).collect();
        let times: Vec<i64> = (0..50_000).collect();
        let ends: Vec<i64> = (0..10_000).map(|step| 40_000 + step).collect();
        for (name, sliding) in [("stddev", STDDEV), ("stdvar", STDVAR), ("rate", RATE), ("increase", INCREASE)] {
            let windows = Windows::find(&times, &ends, 40_000, sliding.gaps);
            let floats = Floats { times: &times, values: &values, windows: &windows, range: 40_000 };
            let budget = QueryBudget::unlimited();
            budget.cancel();
            let (mut cells, pace) = (vec![7.5; ends.len()], Pace::new(&budget));
            (sliding.fill)(&floats, &mut cells, &pace);
            assert!(pace.result().is_err(), "{name}");
            let done = cells.iter().filter(|cell| **cell != 7.5).count();
            assert!(done < 10, "{name} has gone through {done} windows");
        }
    }
}
