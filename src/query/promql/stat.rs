//! Sums and moments of many floats that keep their digits (Neumaier's compensated summation).

use crate::base::float_text;

/// A compensated sum.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sum {
    sum: f64,
    lost: f64,
}

impl Sum {
    /// Adds a value.
    pub(super) fn add(&mut self, value: f64) {
        let total = self.sum + value;
        if total.is_infinite() {
            self.lost = 0.0;
        } else if self.sum.abs() >= value.abs() {
            self.lost += (self.sum - total) + value;
        } else {
            self.lost += (value - total) + self.sum;
        }
        self.sum = total;
    }

    /// The sum so far.
    pub(super) fn value(self) -> f64 {
        if self.sum.is_infinite() { self.sum } else { self.sum + self.lost }
    }
}

/// Adds `value` to a sum; gives what rounding takes away (Knuth's two-sum, without branches).
#[inline]
pub(super) fn two_sum(sum: &mut f64, value: f64) -> f64 {
    let total = *sum + value;
    let back = total - *sum;
    let lost = (*sum - (total - back)) + (value - back);
    *sum = total;
    lost
}

/// The sum of all values.
pub(super) fn sum(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut sum = Sum::default();
    values.into_iter().for_each(|value| sum.add(value));
    sum.value()
}

/// The smallest of values; NaN only where there is nothing else.
pub(super) fn least(values: &[f64]) -> f64 {
    values.iter().copied().fold(f64::NAN, |best, value| if value < best || best.is_nan() { value } else { best })
}

/// The largest of values, likewise.
pub(super) fn most(values: &[f64]) -> f64 {
    values.iter().copied().fold(f64::NAN, |best, value| if value > best || best.is_nan() { value } else { best })
}

/// The mean, also where the sum would overflow; NaN without values.
pub(super) fn mean(values: impl IntoIterator<Item = f64> + Clone) -> f64 {
    let (mut total, mut count, mut finite) = (Sum::default(), 0.0, true);
    for value in values.clone() {
        total.add(value);
        count += 1.0;
        finite &= value.is_finite();
    }
    if !total.value().is_infinite() || !finite {
        return total.value() / count;
    }
    sum(values.into_iter().map(|value| value / count))
}

/// Count, mean and squared distances from it, as values come.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Moments {
    count: f64,
    mean: Sum,
    squares: Sum,
}

impl Moments {
    /// Adds a value.
    pub(super) fn add(&mut self, value: f64) {
        self.count += 1.0;
        let delta = value - self.mean.value();
        self.mean.add(delta / self.count);
        self.squares.add(delta * (value - self.mean.value()));
    }

    /// Adds the values that another has seen (Chan, Golub, LeVeque).
    pub(super) fn merge(&mut self, other: &Self) {
        if other.count == 0.0 {
            return;
        }
        if self.count == 0.0 {
            *self = *other;
            return;
        }
        let count = self.count + other.count;
        let delta = other.mean.value() - self.mean.value();
        self.mean.add(delta * (other.count / count));
        self.squares.add(other.squares.value());
        self.squares.add(delta * delta * (self.count * (other.count / count)));
        self.count = count;
    }

    /// The population variance; none without values.
    pub(super) fn variance(&self) -> Option<f64> {
        (self.count > 0.0).then(|| self.squares.value() / self.count)
    }
}

/// The population variance; NaN without values.
pub(super) fn variance(values: impl IntoIterator<Item = f64> + Clone) -> f64 {
    let mut moments = Moments::default();
    values.into_iter().for_each(|value| moments.add(value));
    moments.variance().unwrap_or(f64::NAN)
}

/// The quantile of values, interpolated between neighbours, NaN first; changes their order.
pub(super) fn quantile(q: f64, values: &mut [f64]) -> f64 {
    if values.is_empty() || q.is_nan() {
        return f64::NAN;
    }
    if q < 0.0 {
        return f64::NEG_INFINITY;
    }
    if q > 1.0 {
        return f64::INFINITY;
    }
    let rank = q * (values.len() - 1) as f64;
    let lower = rank.floor().max(0.0);
    let upper = (lower + 1.0).min((values.len() - 1) as f64);
    let weight = rank - rank.floor();
    // Only two places must be right, not the order of all others.
    let (_, below, above) = values.select_nth_unstable_by(lower as usize, nan_first);
    let next = if upper > lower { above.iter().copied().min_by(nan_first).unwrap_or(*below) } else { *below };
    *below * (1.0 - weight) + next * weight
}

/// An order of floats with NaN before all.
pub(super) fn nan_first(a: &f64, b: &f64) -> std::cmp::Ordering {
    match (a.is_nan(), b.is_nan()) {
        (true, true) => std::cmp::Ordering::Equal,
        (true, false) => std::cmp::Ordering::Less,
        (false, true) => std::cmp::Ordering::Greater,
        (false, false) => a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal),
    }
}

/// A float as messages show it.
pub(super) fn general(value: f64) -> String {
    float_text::text(value, float_text::GENERAL)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_values_survive_large_ones() {
        assert_eq!(sum([1.0, 1e100, 1.0, -1e100]), 2.0);
        assert_eq!(mean([f64::MAX, f64::MAX]), f64::MAX);
    }

    #[test]
    fn quantiles_interpolate() {
        assert_eq!(quantile(0.5, &mut [3.0, 1.0]), 2.0);
        assert!(quantile(0.5, &mut []).is_nan());
    }
}
