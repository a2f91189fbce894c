//! Where the windows of a range vector lie among the samples of a series. That depends on the times
//! alone, so it is found once for all series that share them.

use ahash::AHashMap;

use crate::base::limits::{LimitError, QueryBudget};
use crate::model::sample::Times;

/// How far the samples of a window are from its edges, in seconds, for those who extrapolate.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Gaps {
    /// From the first sample to the last.
    pub sampled: f64,
    /// From the start of the window to the first sample, as far as it is extrapolated.
    pub to_start: f64,
    /// From the last sample to the end, likewise.
    pub to_end: f64,
}

impl Gaps {
    /// Those of samples from the first to the last of `times` in a window; a counter of which it is
    /// known when it `began`, in the window, was there since then. An edge that is further from its
    /// sample than samples are from each other is taken to lie half a distance away. None for one
    /// sample without a beginning.
    pub(super) fn of(times: (i64, i64), count: usize, window: (i64, i64), began: Option<i64>) -> Option<Self> {
        let seconds = |from: i64, to: i64| (to - from) as f64 / 1000.0;
        let between = match (count, began) {
            (..2, None) => return None,
            (..2, Some(_)) => 0.0,
            (count, _) => seconds(times.0, times.1) / (count - 1) as f64,
        };
        let reach = |distance: f64| if distance >= between * 1.1 { between / 2.0 } else { distance };
        let to_start = if began.is_some() { 0.0 } else { seconds(window.0, times.0) };
        let to_end = seconds(times.1, window.1);
        let sampled = seconds(began.unwrap_or(times.0), times.1);
        Some(Self { sampled, to_start: reach(to_start), to_end: reach(to_end) })
    }

    /// The factor from what the samples span to what the window spans. A counter is not taken below
    /// zero: `zero` is how many sampled spans before the first sample it was there.
    pub(super) fn factor(&self, zero: Option<f64>) -> f64 {
        let to_start = zero.map_or(self.to_start, |zero| self.to_start.min(self.sampled * zero));
        (self.sampled + to_start + self.to_end) / self.sampled
    }
}

/// The samples of each window, for series with the same times.
#[derive(Default)]
pub(super) struct Windows {
    /// The first sample of each window, and the one after its last.
    bounds: Vec<(u32, u32)>,
    gaps: Vec<Gaps>,
    /// The samples of all windows together.
    total: u64,
}

impl Windows {
    /// Bytes that one window takes at most.
    pub(super) const BYTES: usize = size_of::<(u32, u32)>() + size_of::<Gaps>();

    /// Finds the windows of `range` milliseconds that end at `ends`, which never go back; with `gaps`,
    /// their gaps as well. No window has a sample beyond the first four billion.
    pub(super) fn find(times: &[i64], ends: &[i64], range: i64, gaps: bool) -> Self {
        let times = times.get(..u32::MAX as usize).unwrap_or(times);
        let mut own = Self { bounds: Vec::with_capacity(ends.len()), ..Self::default() };
        let first = ends.first().copied().unwrap_or_default();
        let mut from = times.partition_point(|t| *t <= first.saturating_sub(range));
        let mut to = times.partition_point(|t| *t <= first).max(from);
        for end in ends {
            let start = end.saturating_sub(range);
            while times.get(from).is_some_and(|t| *t <= start) {
                from += 1;
            }
            to = to.max(from);
            while times.get(to).is_some_and(|t| t <= end) {
                to += 1;
            }
            own.bounds.push((from as u32, to as u32));
            own.total += (to - from) as u64;
            if gaps {
                let edges = match times.get(from..to) {
                    Some([first, .., last]) => Gaps::of((*first, *last), to - from, (start, *end), None),
                    _ => None,
                };
                own.gaps.push(edges.unwrap_or_default());
            }
        }
        own
    }

    /// First and one after last sample of each window.
    pub(super) fn bounds(&self) -> &[(u32, u32)] {
        &self.bounds
    }

    /// The gaps of each window, if they were asked for.
    pub(super) fn gaps(&self) -> &[Gaps] {
        &self.gaps
    }

    /// The samples of all windows together.
    pub(super) fn total(&self) -> u64 {
        self.total
    }
}

/// Bytes that one run of neighbours may keep of what it has found out of times.
const KNOWN_BYTES_MAX: usize = 4 << 20;

/// What was found out of times, for the next series that has the same.
#[derive(Default)]
pub(super) struct Known<T> {
    found: AHashMap<(usize, usize, usize), (Times, T)>,
    charged: usize,
}

impl<T> Known<T> {
    /// What `find` finds of these times, of `bytes` bytes. It may be found anew, not always kept.
    ///
    /// # Errors
    /// When there is no memory for it.
    pub(super) fn of(
        &mut self,
        times: &Times,
        bytes: usize,
        budget: &QueryBudget,
        find: impl FnOnce(&[i64]) -> T,
    ) -> Result<&T, LimitError> {
        let key = times.identity();
        if !self.found.contains_key(&key) {
            if self.charged > KNOWN_BYTES_MAX {
                self.forget(budget);
            }
            budget.charge(bytes)?;
            self.charged += bytes;
        }
        Ok(&self.found.entry(key).or_insert_with(|| (times.clone(), find(times))).1)
    }

    /// Forgets everything.
    pub(super) fn forget(&mut self, budget: &QueryBudget) {
        self.found.clear();
        budget.release(self.charged);
        self.charged = 0;
    }
}

/// How many more items there are up to a time. Near ones are looked at one by one; when there are
/// many, as for a step that is far from the one before, the rest is searched.
pub(super) fn advance<T>(items: &[T], from: usize, until: i64, time: impl Fn(&T) -> i64) -> usize {
    const NEAR: usize = 16;
    let rest = items.get(from..).unwrap_or_default();
    let (near, far) = rest.split_at(rest.len().min(NEAR));
    match near.iter().position(|item| time(item) > until) {
        Some(count) => count,
        None => near.len() + far.partition_point(|item| time(item) <= until),
    }
}
