//! How much comes in, as a rate that holds steady while the load does.
//! Senders push once in 5, 15 or 60 seconds, so what comes in a second, or in any fixed number of them, is now nothing
//! and now too much. Each second is counted, and seconds are weighted by a triangle: of a load that comes once in
//! so many seconds it makes the same number at every moment, when its half is a multiple of them. The width
//! therefore follows the largest pause lately. Memory: constant, [`SECONDS`] numbers for each signal.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::base::counters::Counters;
use crate::model::batch::Signal;

/// Half of the triangle, in seconds, at least and at most: a rate over 16 seconds for what comes all the time, over two
/// minutes for what comes once in one.
const HALF_MIN: usize = 8;
const HALF_MAX: usize = 60;
/// How far back pauses are looked for, in seconds.
const PAUSES_SECONDS: usize = 180;
/// A second counts as one in which something came when it has one part in so many of the most that came in one.
const PUSH_SHARE: u64 = 4;
/// Points of the line, and seconds between them.
const POINTS: usize = 60;
pub(super) const POINT_SECONDS: usize = 5;
/// Seconds that are kept: those of the line, and those that its first point looks back on.
const SECONDS: usize = POINTS * POINT_SECONDS + 2 * HALF_MAX;

/// What came in each second lately, of each signal.
pub(super) struct Rates {
    counters: Counters,
    started: Instant,
    seen: Mutex<Seen>,
}

/// Up to which second it is known what came.
#[derive(Debug)]
struct Seen {
    second: u64,
    totals: [u64; 3],
    /// What came in each second, the newest last.
    seconds: [VecDeque<u64>; 3],
}

/// How much comes in of a signal.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Rate {
    /// Items in a second, now.
    pub(super) now: f64,
    /// The same of the last five minutes, [`POINT_SECONDS`] apart, the newest last.
    pub(super) line: Vec<f64>,
}

impl Rates {
    /// Counts each second until the answer is dropped. Call it within a runtime.
    pub(super) fn watch(counters: &Counters) -> Arc<Self> {
        let nothing = VecDeque::from(vec![0; SECONDS]);
        let seconds = [nothing.clone(), nothing.clone(), nothing];
        let seen = Mutex::new(Seen { second: 0, totals: taken(counters), seconds });
        let rates = Arc::new(Self { counters: counters.clone(), started: Instant::now(), seen });
        let weak = Arc::downgrade(&rates);
        tokio::spawn(async move {
            let mut every = tokio::time::interval(Duration::from_secs(1));
            every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                every.tick().await;
                let Some(rates) = weak.upgrade() else { break };
                let totals = taken(&rates.counters);
                rates.seen.lock().note(rates.started.elapsed().as_secs(), totals);
            }
        });
        rates
    }

    /// How much comes in of `signal`.
    pub(super) fn of(&self, signal: Signal) -> Rate {
        let seen = self.seen.lock();
        let [metrics, logs, traces] = &seen.seconds;
        rate(match signal {
            Signal::Metrics => metrics,
            Signal::Logs => logs,
            Signal::Traces => traces,
        })
    }
}

/// The counter of what was taken of a signal.
pub(super) fn counter(signal: Signal) -> &'static str {
    match signal {
        Signal::Metrics => "trilith_ingested_samples_total",
        Signal::Logs => "trilith_ingested_lines_total",
        Signal::Traces => "trilith_ingested_spans_total",
    }
}

fn taken(counters: &Counters) -> [u64; 3] {
    Signal::ALL.map(|signal| counters.values(counter(signal)).iter().map(|(_, value)| value).sum())
}

impl Seen {
    /// Notes that up to `second` so much has come in all.
    fn note(&mut self, second: u64, totals: [u64; 3]) {
        let passed = usize::try_from(second.saturating_sub(self.second)).unwrap_or(SECONDS).min(SECONDS);
        self.second = self.second.max(second);
        let before = std::mem::replace(&mut self.totals, totals);
        for ((seconds, total), before) in self.seconds.iter_mut().zip(totals).zip(before) {
            seconds.drain(..passed);
            seconds.resize(SECONDS, 0);
            if let Some(newest) = seconds.back_mut() {
                *newest += total.saturating_sub(before);
            }
        }
    }
}

fn rate(seconds: &VecDeque<u64>) -> Rate {
    let half = half(seconds);
    let line: Vec<f64> = (0..POINTS).rev().map(|point| smooth(seconds, half, point * POINT_SECONDS)).collect();
    Rate { now: line.last().copied().unwrap_or_default(), line }
}

/// Half of the triangle: the least multiple of the largest pause lately that is not too little.
fn half(seconds: &VecDeque<u64>) -> usize {
    let lately = || seconds.iter().rev().take(PAUSES_SECONDS);
    let least = lately().max().map_or(1, |most| (most / PUSH_SHARE).max(1));
    let pushes: Vec<usize> = lately().enumerate().filter(|(_, came)| **came >= least).map(|(age, _)| age).collect();
    let pause = pushes.windows(2).map(|two| two.last().unwrap_or(&0) - two.first().unwrap_or(&0)).max().unwrap_or(1);
    let pause = pause.clamp(1, HALF_MAX);
    (HALF_MIN.div_ceil(pause) * pause).min(HALF_MAX)
}

/// Items in a second as it was `back` seconds ago.
fn smooth(seconds: &VecDeque<u64>, half: usize, back: usize) -> f64 {
    let weighted = seconds.iter().rev().skip(back).take(2 * half).enumerate().map(|(age, came)| {
        let from_top = (age as f64 + 0.5 - half as f64).abs();
        *came as f64 * (half as f64 - from_top)
    });
    weighted.sum::<f64>() / (half * half) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The rates of each second, of what comes `count` at a time at the seconds that `pushes` says.
    fn rates(until: usize, pushes: impl Fn(usize) -> u64) -> Vec<f64> {
        let mut seen = Seen { second: 0, totals: [0; 3], seconds: [(); 3].map(|()| VecDeque::from(vec![0; SECONDS])) };
        let mut total = 0;
        let mut shown = Vec::new();
        for second in 1..=until {
            total += pushes(second);
            seen.note(second as u64, [total, 0, 0]);
            shown.push(rate(&seen.seconds[0]).now);
        }
        shown
    }

    fn check_steady(what: &str, shown: &[f64], expected: f64, from: usize, within: f64) {
        for (second, shown) in shown.iter().enumerate().skip(from) {
            let off = (shown / expected - 1.0).abs();
            assert!(off <= within, "{what}, second {second}: {shown} instead of {expected}");
        }
    }

    #[test]
    fn what_comes_once_in_a_while_is_shown_as_one_number() {
        for period in (1..=20).chain([30, 45, 60]) {
            let shown = rates(600, |second| if second.is_multiple_of(period) { 800 } else { 0 });
            let warm = 3 * period + 2 * HALF_MIN;
            check_steady(&format!("once in {period} s"), &shown, 800.0 / period as f64, warm, 0.02);
        }
    }

    #[test]
    fn what_comes_a_second_early_or_late_is_steady_too() {
        for period in [4_usize, 5, 10, 15, 30] {
            let late = |second: usize| [0, 1, 0, 0, 1, 1, 0, 1, 0, 1, 1, 0][second / period % 12];
            let shown = rates(600, |second| if second % period == late(second) { 800 } else { 0 });
            check_steady(&format!("about once in {period} s"), &shown, 800.0 / period as f64, 3 * period + 16, 0.25);
        }
    }

    #[test]
    fn senders_with_pauses_of_their_own_are_added() {
        for phase in 0..15 {
            let two =
                |second: usize| u64::from(second.is_multiple_of(15)) * 900 + u64::from(second % 15 == phase) * 600;
            check_steady(&format!("{phase} s apart"), &rates(400, two), 100.0, 90, 0.25);
        }
        let many_and_few = |second: usize| 1_000 + u64::from(second.is_multiple_of(30)) * 300;
        check_steady("a few beside many", &rates(400, many_and_few), 1_010.0, 60, 0.05);
        let seldom = |second: usize| u64::from(second % 60 == 7) * 60_000 + u64::from(second.is_multiple_of(5)) * 5;
        check_steady("many beside a few", &rates(600, seldom), 1_001.0, 260, 0.05);
    }

    #[test]
    fn what_begins_and_what_ends_is_seen_within_seconds() {
        let shown = rates(200, |second| if (50..120).contains(&second) { 100 } else { 0 });
        assert!(shown[48] == 0.0 && shown[56] > 20.0, "{shown:?}");
        check_steady("while it comes", &shown[..118], 100.0, 65, 0.001);
        assert!(shown[126] < 80.0 && shown[135] == 0.0, "{shown:?}");
        let of_pushes = rates(200, |second| if second.is_multiple_of(15) && second < 120 { 1_500 } else { 0 });
        assert_eq!(of_pushes[140], 0.0);
    }

    #[test]
    fn one_push_is_shown_and_a_clock_that_stands_still_loses_nothing() {
        let shown = rates(60, |second| u64::from(second == 20) * 16);
        assert!(shown[27] > 1.0 && shown[59] == 0.0, "{shown:?}");
        let mut seen = Seen { second: 0, totals: [0; 3], seconds: [(); 3].map(|()| VecDeque::from(vec![0; SECONDS])) };
        for (second, total) in [(1, 10), (1, 30), (4, 30), (4, 60), (1_000_000, 70)] {
            seen.note(second, [total, 0, total]);
            assert!(seen.seconds.iter().all(|own| own.len() == SECONDS), "memory is constant");
        }
        let own = &seen.seconds[2];
        assert_eq!((own.iter().sum::<u64>(), own.back()), (10, Some(&10)), "what was long ago is gone");
    }

    #[test]
    fn the_line_ends_with_what_is_now_and_has_a_point_every_five_seconds() {
        let mut seconds = VecDeque::from(vec![10_u64; SECONDS]);
        let flat = rate(&seconds);
        assert_eq!((flat.line.len(), flat.now), (POINTS, 10.0));
        assert!(flat.line.iter().all(|point| *point == 10.0), "{flat:?}");
        seconds.iter_mut().take(SECONDS - 20 * POINT_SECONDS).for_each(|came| *came = 0);
        let rose = rate(&seconds);
        assert!(rose.line[39] == 0.0 && rose.line[44] == 10.0, "{rose:?}");
    }
}
