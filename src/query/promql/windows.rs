//! Where the windows of a range vector lie among the samples of a series. That depends on the times
//! alone, so it is found once for all series that share them.

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

/// The samples of each window, for series with these times.
#[derive(Default)]
pub(super) struct Windows {
    times: Option<Times>,
    /// The first sample of each window, and the one after its last.
    bounds: Vec<(u32, u32)>,
    gaps: Vec<Gaps>,
    /// The samples of all windows together.
    total: u64,
    /// Whom something was said of last.
    pub noted: String,
}

impl Windows {
    /// Finds the windows of `range` milliseconds that end at `ends`, which never go back; with `gaps`,
    /// their gaps as well. None when there are more samples than can be counted.
    pub(super) fn find(&mut self, times: &Times, ends: &[i64], range: i64, gaps: bool) -> Option<()> {
        if self.times.as_ref().is_some_and(|own| own.is_same(times)) {
            return Some(());
        }
        self.bounds.clear();
        self.gaps.clear();
        self.total = 0;
        u32::try_from(times.len()).ok()?;
        let (mut from, mut to) = (0, 0);
        for end in ends {
            let start = end.saturating_sub(range);
            from += up_to(times, from, start);
            to = to.max(from);
            to += up_to(times, to, *end);
            self.bounds.push((from as u32, to as u32));
            self.total += (to - from) as u64;
            if gaps {
                let edges = times.get(from).copied().zip(to.checked_sub(1).and_then(|at| times.get(at)).copied());
                let own = edges.and_then(|edges| Gaps::of(edges, to - from, (start, *end), None));
                self.gaps.push(own.unwrap_or_default());
            }
        }
        self.times = Some(times.clone());
        Some(())
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

fn up_to(times: &[i64], from: usize, until: i64) -> usize {
    advance(times, from, until, |t| *t)
}
