//! The grid of times on which the samples of a metrics query lie, and its series.

use super::error::QueryError;
use crate::model::span::{Attrs, TraceId};
use crate::model::time::RangeNs;

/// Most samples of one series.
const SAMPLES_MAX: i64 = 11_000;
/// Times at which samples lie: `count` of them, `step` apart, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grid {
    /// The first.
    pub first: i64,
    /// The distance.
    pub step: i64,
    /// How many.
    pub count: usize,
}

impl Grid {
    /// Multiples of `step` from the last not after `start` to the first not before `end`.
    ///
    /// # Errors
    /// [`QueryError::Invalid`] when the range or the step makes no sense, or there are too many.
    pub fn range(start: i64, end: i64, step: i64) -> Result<Self, QueryError> {
        if step <= 0 {
            return Err(QueryError::Invalid("step must be above 0".to_owned()));
        }
        if start >= end {
            return Err(QueryError::Invalid("start must be before end".to_owned()));
        }
        let outside = || QueryError::Invalid("the time range is out of bounds".to_owned());
        let first = start.div_euclid(step).checked_mul(step).ok_or_else(outside)?;
        let last =
            end.checked_add(step - 1).and_then(|end| end.div_euclid(step).checked_mul(step)).ok_or_else(outside)?;
        first.checked_sub(step).ok_or_else(outside)?;
        let count = last.checked_sub(first).ok_or_else(outside)? / step + 1;
        if count > SAMPLES_MAX {
            let what = format!("{count} samples per series are over the limit of {SAMPLES_MAX}: use a larger step");
            return Err(QueryError::Invalid(what));
        }
        Ok(Self { first, step, count: usize::try_from(count).unwrap_or_default() })
    }

    /// One sample at `end` that covers all since `start`.
    ///
    /// # Errors
    /// [`QueryError::Invalid`] when the range is empty.
    pub fn instant(start: i64, end: i64) -> Result<Self, QueryError> {
        match end.checked_sub(start) {
            Some(step) if step > 0 => Ok(Self { first: end, step, count: 1 }),
            _ => Err(QueryError::Invalid("start must be before end".to_owned())),
        }
    }

    /// The sample that covers `t`.
    pub fn index(self, t: i64) -> Option<usize> {
        let since = t.checked_sub(self.first - self.step)?;
        let index = usize::try_from((since - 1).div_euclid(self.step)).ok()?;
        (since > 0 && index < self.count).then_some(index)
    }

    /// Milliseconds since the Unix epoch of a sample.
    pub fn time_ms(self, index: usize) -> i64 {
        (self.first + self.step * i64::try_from(index).unwrap_or_default()).div_euclid(1_000_000)
    }

    pub(super) fn range_ns(self) -> RangeNs {
        let last = self.first + self.step * i64::try_from(self.count.saturating_sub(1)).unwrap_or_default();
        RangeNs { start: self.first - self.step + 1, end: last.saturating_add(1) }
    }
}

/// A span that stands for a sample.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MetricExemplar {
    /// Its trace.
    pub trace_id: TraceId,
    /// When it began, in milliseconds since the Unix epoch.
    pub t: i64,
    /// Its value, or that of its sample.
    pub value: f64,
}

/// A series of a metrics query.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MetricSeries {
    /// Who it is, in the order of `by`.
    pub labels: Attrs,
    /// Milliseconds since the Unix epoch and value, in time order.
    pub samples: Vec<(i64, f64)>,
    /// Spans that stand for samples.
    pub exemplars: Vec<MetricExemplar>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_minutes_at_one_have_eleven_samples() {
        let minute = 60_000_000_000;
        let grid = Grid::range(20 * minute, 30 * minute, minute).unwrap();
        assert_eq!((grid.first, grid.count), (20 * minute, 11));
        assert_eq!(grid.index(20 * minute), Some(0));
        assert_eq!(grid.index(20 * minute + 1), Some(1));
        assert_eq!(grid.index(19 * minute), None);
        assert_eq!(grid.index(30 * minute), Some(10));
        assert_eq!(grid.index(30 * minute + 1), None);
        assert_eq!(Grid::range(20 * minute + 1, 30 * minute - 1, minute).unwrap(), grid);
    }

    #[test]
    fn ranges_without_sense_are_refused() {
        for (start, end, step) in
            [(0, 10, 0), (10, 10, 1), (0, 1_000_000, 1), (i64::MIN, i64::MAX, 7), (0, i64::MAX, 9)]
        {
            assert!(Grid::range(start, end, step).is_err());
        }
    }
}
