//! The cells of groups while floats are added to them: a row of steps for each group, one group after
//! the other. Sums are compensated as in `stat`, without branches, so that loops over steps are tight.
//! Absent floats hold the stale marker, as in columns.

use super::ast::AggregateOp;
use super::stat::{Moments, two_sum};
use super::value::ABSENT;
use crate::model::sample::is_stale;

/// Cells by what they must know.
pub(super) enum Cells {
    /// How many there were.
    Count(Vec<u32>),
    /// 1 where there was any.
    Group(Vec<u32>),
    /// The smallest or largest so far.
    Best {
        /// Whether the larger of two counts.
        larger: bool,
        /// The values.
        best: Vec<f64>,
    },
    /// Sums and what they have lost.
    Sum {
        /// Whether the mean is wanted.
        mean: bool,
        /// How many there were.
        counts: Vec<u32>,
        /// Their rounded sums.
        sums: Vec<f64>,
        /// What rounding took away.
        lost: Vec<f64>,
    },
    /// Means and squares of distances.
    Spread {
        /// Whether the root is wanted.
        root: bool,
        /// What is known of each cell.
        moments: Vec<Moments>,
    },
}

fn better(larger: bool, now: f64, best: f64) -> f64 {
    let wins = if larger { now > best } else { now < best };
    // The marker itself is a NaN and never wins; a NaN gives way to anything but the marker.
    if wins || (best.is_nan() && !is_stale(now)) { now } else { best }
}

impl Cells {
    /// No groups yet; none for ways to aggregate that do not fold.
    pub(super) fn new(op: AggregateOp) -> Option<Self> {
        let sum = |mean| Self::Sum { mean, counts: Vec::new(), sums: Vec::new(), lost: Vec::new() };
        match op {
            AggregateOp::Count => Some(Self::Count(Vec::new())),
            AggregateOp::Group => Some(Self::Group(Vec::new())),
            AggregateOp::Min => Some(Self::Best { larger: false, best: Vec::new() }),
            AggregateOp::Max => Some(Self::Best { larger: true, best: Vec::new() }),
            AggregateOp::Sum => Some(sum(false)),
            AggregateOp::Avg => Some(sum(true)),
            AggregateOp::Stddev => Some(Self::Spread { root: true, moments: Vec::new() }),
            AggregateOp::Stdvar => Some(Self::Spread { root: false, moments: Vec::new() }),
            AggregateOp::Topk
            | AggregateOp::Bottomk
            | AggregateOp::CountValues
            | AggregateOp::Quantile
            | AggregateOp::Limitk
            | AggregateOp::LimitRatio => None,
        }
    }

    /// Bytes of one cell.
    pub(super) fn cell_bytes(&self) -> usize {
        match self {
            Self::Count(_) | Self::Group(_) => 4,
            Self::Best { .. } => 8,
            Self::Sum { .. } => 20,
            Self::Spread { .. } => size_of::<Moments>(),
        }
    }

    /// Makes room for one more group.
    pub(super) fn grow(&mut self, steps: usize) {
        match self {
            Self::Count(counts) | Self::Group(counts) => counts.resize(counts.len() + steps, 0),
            Self::Best { best, .. } => best.resize(best.len() + steps, ABSENT),
            Self::Sum { counts, sums, lost, .. } => {
                counts.resize(counts.len() + steps, 0);
                sums.resize(sums.len() + steps, 0.0);
                lost.resize(lost.len() + steps, 0.0);
            }
            Self::Spread { moments, .. } => moments.resize(moments.len() + steps, Moments::default()),
        }
    }

    /// Adds the floats of a series to its group.
    pub(super) fn add(&mut self, group: usize, floats: &[f64]) {
        let from = group * floats.len();
        match self {
            Self::Count(counts) | Self::Group(counts) => {
                for (count, value) in counts.iter_mut().skip(from).zip(floats) {
                    *count += u32::from(!is_stale(*value));
                }
            }
            Self::Best { larger, best } => {
                let larger = *larger;
                for (best, value) in best.iter_mut().skip(from).zip(floats) {
                    *best = better(larger, *value, *best);
                }
            }
            Self::Sum { counts, sums, lost, .. } => {
                let counts = counts.get_mut(from..).unwrap_or_default();
                let sums = sums.get_mut(from..).unwrap_or_default();
                let lost = lost.get_mut(from..).unwrap_or_default();
                for (((sum, lost), count), value) in sums.iter_mut().zip(lost).zip(counts).zip(floats) {
                    let absent = is_stale(*value);
                    *lost += two_sum(sum, if absent { 0.0 } else { *value });
                    *count += u32::from(!absent);
                }
            }
            Self::Spread { moments, .. } => {
                for (moments, value) in moments.iter_mut().skip(from).zip(floats).filter(|(_, v)| !is_stale(**v)) {
                    moments.add(*value);
                }
            }
        }
    }

    /// Adds one float at one step.
    pub(super) fn add_at(&mut self, group: usize, steps: usize, step: usize, value: f64) {
        let at = group * steps + step;
        match self {
            Self::Count(counts) | Self::Group(counts) => {
                if let Some(count) = counts.get_mut(at) {
                    *count += 1;
                }
            }
            Self::Best { larger, best } => {
                if let Some(best) = best.get_mut(at) {
                    *best = better(*larger, value, *best);
                }
            }
            Self::Sum { counts, sums, lost, .. } => {
                if let (Some(count), Some(sum), Some(lost)) = (counts.get_mut(at), sums.get_mut(at), lost.get_mut(at)) {
                    *lost += two_sum(sum, value);
                    *count += 1;
                }
            }
            Self::Spread { moments, .. } => {
                if let Some(moments) = moments.get_mut(at) {
                    moments.add(value);
                }
            }
        }
    }

    /// Adds the cells of a group of others to those of one here.
    pub(super) fn merge(&mut self, other: &Self, (group, place): (usize, usize), steps: usize) {
        let (from, to) = (group * steps..(group + 1) * steps, place * steps..(place + 1) * steps);
        match (self, other) {
            (Self::Count(own), Self::Count(other)) | (Self::Group(own), Self::Group(other)) => {
                for (own, other) in pairs(own, to, other, from) {
                    *own += other;
                }
            }
            (Self::Best { larger, best: own }, Self::Best { best: other, .. }) => {
                for (own, other) in pairs(own, to, other, from) {
                    *own = better(*larger, *other, *own);
                }
            }
            (Self::Sum { counts, sums, lost, .. }, Self::Sum { counts: c, sums: s, lost: l, .. }) => {
                let lost = pairs(lost, to.clone(), l, from.clone());
                let counts = pairs(counts, to.clone(), c, from.clone());
                for (((sum, s), (lost, l)), (count, c)) in pairs(sums, to, s, from).zip(lost).zip(counts) {
                    *lost += two_sum(sum, *s) + l;
                    *count += c;
                }
            }
            (Self::Spread { moments: own, .. }, Self::Spread { moments: other, .. }) => {
                for (own, other) in pairs(own, to, other, from) {
                    own.merge(other);
                }
            }
            _ => {}
        }
    }

    /// The results of each group; nothing when a mean has overflowed on the way.
    pub(super) fn results(&self, steps: usize) -> Option<Vec<Vec<f64>>> {
        match self {
            Self::Count(counts) => {
                Some(rows(counts, steps, |count| if *count == 0 { ABSENT } else { f64::from(*count) }))
            }
            Self::Group(counts) => Some(rows(counts, steps, |count| if *count == 0 { ABSENT } else { 1.0 })),
            Self::Best { best, .. } => Some(rows(best, steps, |best| *best)),
            Self::Sum { mean, counts, sums, lost } => {
                if *mean && sums.iter().any(|sum| sum.is_infinite()) {
                    return None;
                }
                let values: Vec<f64> = counts
                    .iter()
                    .zip(sums.iter().zip(lost))
                    .map(|(count, (sum, lost))| match count {
                        0 => ABSENT,
                        _ => {
                            let sum = if sum.is_infinite() { *sum } else { sum + lost };
                            if *mean { sum / f64::from(*count) } else { sum }
                        }
                    })
                    .collect();
                Some(rows(&values, steps, |value| *value))
            }
            Self::Spread { root, moments } => Some(rows(moments, steps, |moments| match moments.variance() {
                None => ABSENT,
                Some(variance) => {
                    if *root {
                        variance.sqrt()
                    } else {
                        variance
                    }
                }
            })),
        }
    }
}

fn pairs<'a, T>(
    own: &'a mut [T],
    to: std::ops::Range<usize>,
    other: &'a [T],
    from: std::ops::Range<usize>,
) -> impl Iterator<Item = (&'a mut T, &'a T)> {
    own.get_mut(to).unwrap_or_default().iter_mut().zip(other.get(from).unwrap_or_default())
}

fn rows<T>(cells: &[T], steps: usize, result: impl Fn(&T) -> f64) -> Vec<Vec<f64>> {
    cells.chunks(steps.max(1)).map(|row| row.iter().map(&result).collect()).collect()
}
