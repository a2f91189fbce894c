//! Samples of one series gathered from chunks, parts and heads, and the one rule for samples of
//! equal time: a histogram outranks a float, and of two of a kind the one written last counts.
//! Flow: whoever gathers pushes what was written earlier first; [`Rows::settle`] applies the rule.
//! Start timestamps are pairs of their own, (time, start), since most series have none; a sample of
//! either kind has the start that was written last for its time, 0 when that is not known.

use crate::base::limits::{LimitError, QueryBudget};
use crate::model::sample::HistogramSample;
use crate::model::time::RangeMs;

/// Samples of one series.
#[derive(Clone, Debug, Default)]
pub struct Rows {
    /// Times of the floats.
    pub times: Vec<i64>,
    /// The floats.
    pub values: Vec<f64>,
    /// The histograms.
    pub histograms: Vec<HistogramSample>,
    /// Times of samples of either kind and when counting began for them.
    starts: Vec<(i64, i64)>,
    floats_disordered: bool,
    histograms_disordered: bool,
}

impl Rows {
    /// Adds a float that was written after those added before.
    pub fn push(&mut self, t: i64, value: f64) {
        self.floats_disordered |= self.times.last().is_some_and(|last| t <= *last);
        self.times.push(t);
        self.values.push(value);
    }

    /// Adds floats; `times` is ascending without equal ones.
    pub fn extend(&mut self, times: &[i64], values: &[f64]) {
        if let (Some(last), Some(first)) = (self.times.last(), times.first()) {
            self.floats_disordered |= first <= last;
        }
        self.times.extend_from_slice(times);
        self.values.extend_from_slice(values);
    }

    /// Adds what `decode` appends to the columns, which is ascending without equal times, and was
    /// written after what was added before; keeps of it what lies in `range`.
    ///
    /// # Errors
    /// What `decode` returns.
    pub fn decode<E>(
        &mut self,
        range: RangeMs,
        decode: impl FnOnce(&mut Vec<i64>, &mut Vec<f64>) -> Result<(), E>,
    ) -> Result<(), E> {
        let before = self.times.len();
        let decoded = decode(&mut self.times, &mut self.values);
        let own = self.times.get(before..).unwrap_or_default();
        let first = own.partition_point(|t| *t < range.start);
        let end = before + own.partition_point(|t| *t <= range.end);
        self.times.truncate(end);
        self.values.truncate(end);
        if first > 0 {
            self.times.drain(before..(before + first).min(end));
            self.values.drain(before..(before + first).min(end));
        }
        if let (Some(last), Some(first)) = (before.checked_sub(1), self.times.get(before)) {
            self.floats_disordered |= self.times.get(last).is_some_and(|last| first <= last);
        }
        decoded
    }

    /// Adds a histogram that was written after those added before.
    pub fn push_histogram(&mut self, sample: HistogramSample) {
        self.histograms_disordered |= self.histograms.last().is_some_and(|last| sample.t <= last.t);
        self.histograms.push(sample);
    }

    /// Adds when counting began for the sample of a time, written after those added before.
    pub fn push_start(&mut self, t: i64, start: i64) {
        self.starts.push((t, start));
    }

    /// How many starts there are.
    pub fn starts(&self) -> usize {
        self.starts.len()
    }

    /// When counting began for each float, of settled rows; empty when known of none.
    pub fn float_starts(&self) -> Vec<i64> {
        if self.starts.is_empty() {
            return Vec::new();
        }
        let mut pairs = self.starts.iter().peekable();
        let start_at = |t: &i64| {
            while pairs.next_if(|pair| pair.0 < *t).is_some() {}
            pairs.peek().filter(|pair| pair.0 == *t).map_or(0, |pair| pair.1)
        };
        let starts: Vec<i64> = self.times.iter().map(start_at).collect();
        if starts.iter().all(|start| *start == 0) { Vec::new() } else { starts }
    }

    /// Makes room for `count` more floats, charged before it is taken and exactly.
    ///
    /// # Errors
    /// [`LimitError`].
    pub fn reserve(&mut self, count: usize, budget: &QueryBudget) -> Result<(), LimitError> {
        let (needed, has) = (self.times.len() + count, self.times.capacity());
        if needed > has {
            let room = needed.max(if has == 0 { 0 } else { 2 * has });
            budget.charge(16 * (room - has))?;
            self.times.reserve_exact(room - self.times.len());
            self.values.reserve_exact(room - self.values.len());
        }
        Ok(())
    }

    /// Floats and histograms.
    pub fn len(&self) -> usize {
        self.times.len() + self.histograms.len()
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Drops everything and keeps the memory.
    pub fn clear(&mut self) {
        self.times.clear();
        self.values.clear();
        self.histograms.clear();
        self.starts.clear();
        (self.floats_disordered, self.histograms_disordered) = (false, false);
    }

    /// Bytes that [`settle`](Self::settle) takes for as long as it runs.
    pub fn settle_bytes(&self) -> usize {
        if self.floats_disordered { 16 * self.times.len() } else { 0 }
    }

    /// Sorts by time and keeps one sample of each time.
    pub fn settle(&mut self) {
        if self.histograms_disordered {
            self.histograms.sort_by_key(|sample| sample.t);
            keep_last(&mut self.histograms, |sample| sample.t);
            self.histograms_disordered = false;
        }
        if self.floats_disordered {
            let mut pairs: Vec<(i64, f64)> = self.times.iter().copied().zip(self.values.iter().copied()).collect();
            pairs.sort_by_key(|pair| pair.0);
            keep_last(&mut pairs, |pair| pair.0);
            self.set_floats(&pairs);
            self.floats_disordered = false;
        }
        if !self.histograms.is_empty() && !self.times.is_empty() {
            self.drop_outranked();
        }
        if !self.starts.is_empty() {
            self.settle_starts();
        }
    }

    fn settle_starts(&mut self) {
        if !self.starts.is_sorted_by(|a, b| a.0 < b.0) {
            self.starts.sort_by_key(|pair| pair.0);
            keep_last(&mut self.starts, |pair| pair.0);
        }
        for sample in &mut self.histograms {
            let place = self.starts.binary_search_by_key(&sample.t, |pair| pair.0);
            sample.start = place.ok().and_then(|place| self.starts.get(place)).map_or(0, |pair| pair.1);
        }
    }

    fn drop_outranked(&mut self) {
        let outranked = |t: i64| self.histograms.binary_search_by_key(&t, |sample| sample.t).is_ok();
        let pairs = self.times.iter().copied().zip(self.values.iter().copied());
        let kept: Vec<(i64, f64)> = pairs.filter(|(t, _)| !outranked(*t)).collect();
        if kept.len() < self.times.len() {
            self.set_floats(&kept);
        }
    }

    fn set_floats(&mut self, pairs: &[(i64, f64)]) {
        self.times.clear();
        self.values.clear();
        self.times.extend(pairs.iter().map(|pair| pair.0));
        self.values.extend(pairs.iter().map(|pair| pair.1));
    }
}

/// Of neighbours with one key keeps the last.
pub fn keep_last<T>(rows: &mut Vec<T>, key: impl Fn(&T) -> i64) {
    rows.dedup_by(|later, kept| {
        let equal = key(later) == key(kept);
        if equal {
            std::mem::swap(later, kept);
        }
        equal
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn of_equal_times_the_last_written_counts_and_a_histogram_outranks() {
        let mut rows = Rows::default();
        rows.extend(&[1, 2, 3], &[1.0, 2.0, 3.0]);
        rows.push(2, 20.0);
        rows.push(0, 0.0);
        rows.push(2, 200.0);
        for (t, sum) in [(3, 1.0), (9, 2.0), (3, 4.0)] {
            let histogram = crate::model::histogram::Histogram { sum, ..Default::default() };
            rows.push_histogram(HistogramSample { t, start: 0, histogram: Arc::new(histogram) });
        }
        rows.settle();
        assert_eq!((rows.times, rows.values), (vec![0, 1, 2], vec![0.0, 1.0, 200.0]));
        let sums: Vec<_> = rows.histograms.iter().map(|sample| (sample.t, sample.histogram.sum)).collect();
        assert_eq!(sums, [(3, 4.0), (9, 2.0)]);
    }

    #[test]
    fn a_sample_has_the_start_that_was_written_last_for_its_time() {
        let mut rows = Rows::default();
        rows.extend(&[1, 2, 3, 5], &[1.0, 2.0, 3.0, 5.0]);
        rows.push_histogram(HistogramSample { t: 4, start: 0, histogram: Arc::default() });
        for (t, start) in [(2, -7), (4, 44), (3, 30), (2, 20), (3, 0)] {
            rows.push_start(t, start);
        }
        rows.settle();
        assert_eq!(rows.float_starts(), [0, 20, 0, 0]);
        assert_eq!(rows.histograms[0].start, 44);
    }
}
