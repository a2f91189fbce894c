//! The fast way of functions over ranges: for series of floats only, with nothing special about the
//! edges of the range. A window is a slice whose bounds are known, what can be carried from one
//! window to the next is, and no cell is more than a float.
//! Invariant: the answers are those of the general way (a test compares them), which every function has.

use std::collections::VecDeque;

use super::over_time::{least, most};
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
    /// Sets every cell; one of a window without a result to the stale marker.
    pub fill: fn(&Floats<'_>, &mut [f64]),
    /// Whether it needs to know the gaps at the edges of windows.
    pub gaps: bool,
    /// Whether it takes the series for a counter, which its name should then say.
    pub counter: bool,
}

const fn plain(fill: fn(&Floats<'_>, &mut [f64])) -> Sliding {
    Sliding { fill, gaps: false, counter: false }
}

pub(super) const RATE: Sliding = Sliding {
    fill: |floats, cells| {
        let seconds = floats.range as f64 / 1000.0;
        change(floats, cells, true, |change, factor| change * (factor / seconds));
    },
    gaps: true,
    counter: true,
};
pub(super) const INCREASE: Sliding = Sliding {
    fill: |floats, cells| change(floats, cells, true, |change, factor| change * factor),
    gaps: true,
    counter: true,
};
pub(super) const DELTA: Sliding = Sliding {
    fill: |floats, cells| change(floats, cells, false, |change, factor| change * factor),
    gaps: true,
    counter: false,
};
pub(super) const IRATE: Sliding = plain(|floats, cells| last_two(floats, cells, true));
pub(super) const IDELTA: Sliding = plain(|floats, cells| last_two(floats, cells, false));
pub(super) const RESETS: Sliding = plain(|floats, cells| pairs(floats, cells, |before, now| now < before));
pub(super) const CHANGES: Sliding =
    plain(|floats, cells| pairs(floats, cells, |before, now| now != before && !(now.is_nan() && before.is_nan())));
pub(super) const SUM: Sliding =
    plain(|floats, cells| sums(floats, cells, |v| stat::sum(v.iter().copied()), |sum, _| sum));
pub(super) const AVG: Sliding =
    plain(|floats, cells| sums(floats, cells, |v| stat::mean(v.iter().copied()), |sum, count| sum / count as f64));
pub(super) const STDDEV: Sliding =
    plain(|floats, cells| each(floats, cells, |v| stat::variance(v.iter().copied()).sqrt()));
pub(super) const STDVAR: Sliding = plain(|floats, cells| each(floats, cells, |v| stat::variance(v.iter().copied())));
pub(super) const MIN: Sliding = plain(|floats, cells| extreme(floats, cells, least, |now, best| now < best));
pub(super) const MAX: Sliding = plain(|floats, cells| extreme(floats, cells, most, |now, best| now > best));
pub(super) const COUNT: Sliding = plain(|floats, cells| each(floats, cells, |v| v.len() as f64));
pub(super) const PRESENT: Sliding = plain(|floats, cells| each(floats, cells, |_| 1.0));
pub(super) const LAST: Sliding = plain(|floats, cells| each(floats, cells, |v| v.last().copied().unwrap_or(ABSENT)));
pub(super) const FIRST: Sliding = plain(|floats, cells| each(floats, cells, |v| v.first().copied().unwrap_or(ABSENT)));
pub(super) const TIME_OF_FIRST: Sliding = plain(|floats, cells| each_time(floats, cells, |times| times.first()));
pub(super) const TIME_OF_LAST: Sliding = plain(|floats, cells| each_time(floats, cells, |times| times.last()));

fn each(floats: &Floats<'_>, cells: &mut [f64], of: impl Fn(&[f64]) -> f64) {
    for (cell, (from, to)) in cells.iter_mut().zip(floats.windows.bounds()) {
        *cell = match floats.values.get(*from as usize..*to as usize) {
            Some(window) if !window.is_empty() => of(window),
            _ => ABSENT,
        };
    }
}

fn each_time(floats: &Floats<'_>, cells: &mut [f64], of: impl Fn(&[i64]) -> Option<&i64>) {
    for (cell, (from, to)) in cells.iter_mut().zip(floats.windows.bounds()) {
        let window = floats.times.get(*from as usize..*to as usize).unwrap_or_default();
        *cell = of(window).map_or(ABSENT, |t| *t as f64 / 1000.0);
    }
}

/// What comes of the sum of each window. That of a long one is the difference of two sums from the
/// beginning, each kept in two floats; `direct` goes through the window, where that is not so exact.
fn sums(floats: &Floats<'_>, cells: &mut [f64], direct: fn(&[f64]) -> f64, of_sum: impl Fn(f64, usize) -> f64) {
    let long = LONG * floats.windows.bounds().len() as u64;
    let Some(prefixes) = (floats.windows.total() > long).then(|| Prefixes::of(floats.values)).flatten() else {
        return each(floats, cells, direct);
    };
    for (cell, (from, to)) in cells.iter_mut().zip(floats.windows.bounds()) {
        let (from, to) = (*from as usize, *to as usize);
        *cell = match floats.values.get(from..to) {
            Some(window) if !window.is_empty() => match prefixes.between(from, to) {
                Some(sum) => of_sum(sum, window.len()),
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
fn change(floats: &Floats<'_>, cells: &mut [f64], counter: bool, finish: impl Fn(f64, f64) -> f64) {
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
            let inside = falls.get(next..).unwrap_or_default().iter().take_while(|at| **at + 1 < to);
            for before in inside.filter_map(|at| values.get(*at)) {
                result += before;
            }
        }
        let zero = (counter && result > 0.0 && *first >= 0.0).then(|| first / result);
        *cell = finish(result, gaps.factor(zero));
    }
}

fn last_two(floats: &Floats<'_>, cells: &mut [f64], per_second: bool) {
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
fn pairs(floats: &Floats<'_>, cells: &mut [f64], such: impl Fn(f64, f64) -> bool) {
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
fn extreme(floats: &Floats<'_>, cells: &mut [f64], of_short: fn(&[f64]) -> f64, better: impl Fn(f64, f64) -> bool) {
    let long = LONG * floats.windows.bounds().len() as u64;
    if floats.windows.total() <= long {
        return each(floats, cells, of_short);
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
