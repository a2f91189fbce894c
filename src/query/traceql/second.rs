//! What follows a metrics query: `topk`, `bottomk` and comparisons over its series.

use super::ast::SecondStage;
use super::error::QueryError;
use super::grid::MetricSeries;
use super::op::CompareOp;
use crate::base::limits::QueryBudget;
use crate::query::pace::{Held, Pace};

/// Runs a stage. Series without samples are left out.
///
/// # Errors
/// [`QueryError`]: the budget is used up.
pub(super) fn run(stage: SecondStage, series: &mut Vec<MetricSeries>, budget: &QueryBudget) -> Result<(), QueryError> {
    let pace = Pace::new(budget);
    match stage {
        SecondStage::Filter(op, with) => {
            for own in series.iter_mut() {
                pace.go(64 + 8 * own.samples.len())?;
                own.samples.retain(|(_, value)| match value.partial_cmp(&with) {
                    Some(order) => op.holds(order),
                    None => op == CompareOp::NotEqual,
                });
            }
        }
        SecondStage::TopK(count) => keep_best(series, count, |value| -value, &pace)?,
        SecondStage::BottomK(count) => keep_best(series, count, |value| value, &pace)?,
    }
    series.retain(|own| !own.samples.is_empty());
    Ok(())
}

/// At each time keeps the samples of `count` series, those of least rank.
fn keep_best(
    series: &mut [MetricSeries],
    count: usize,
    rank: impl Fn(f64) -> f64,
    pace: &Pace<'_>,
) -> Result<(), QueryError> {
    let held = Held::new(pace.budget());
    // What a series has of the times looked at and those that are kept, and the samples of one time.
    held.add(series.len() * 64)?;
    let mut times: Vec<i64> = Vec::new();
    for own in series.iter() {
        pace.go(64 + 8 * (own.samples.len() + times.len()))?;
        // Most series have the same times.
        let mut known = times.iter();
        if !own.samples.iter().all(|(t, _)| known.as_slice().first() == Some(t) || known.any(|known| known == t)) {
            held.add(8 * own.samples.len())?;
            times.extend(own.samples.iter().map(|(t, _)| *t));
            times.sort_unstable();
            times.dedup();
        }
    }
    let mut looked = vec![0_usize; series.len()];
    let mut kept = vec![0_usize; series.len()];
    let mut ranks: Vec<(f64, usize)> = Vec::with_capacity(series.len());
    for t in times {
        pace.go(32 * series.len())?;
        ranks.clear();
        for (at, own) in series.iter().enumerate() {
            if let Some((_, value)) =
                looked.get(at).and_then(|next| own.samples.get(*next)).filter(|(own, _)| *own == t)
            {
                ranks.push((rank(*value), at));
            }
        }
        let order = |a: &(f64, usize), b: &(f64, usize)| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1));
        if count < ranks.len() {
            ranks.select_nth_unstable_by(count, order);
        }
        let best = count.min(ranks.len());
        for (place, (_, at)) in ranks.iter().enumerate() {
            let (Some(own), Some(next), Some(end)) = (series.get_mut(*at), looked.get_mut(*at), kept.get_mut(*at))
            else {
                continue;
            };
            // Several samples may share a millisecond.
            while let Some(sample) = own.samples.get(*next).copied().filter(|(own, _)| *own == t) {
                *next += 1;
                if place < best
                    && let Some(target) = own.samples.get_mut(*end)
                {
                    *target = sample;
                    *end += 1;
                }
            }
        }
    }
    series.iter_mut().zip(kept).for_each(|(own, end)| own.samples.truncate(end));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::limits::LimitError;
    use crate::query::traceql::error::QueryError;
    use crate::store::StoreError;

    fn series(count: u32, times: i64) -> Vec<MetricSeries> {
        let samples = |at: u32| (0..times).map(|t| (t, f64::from((at * 7 + t as u32) % count))).collect();
        (0..count).map(|at| MetricSeries { samples: samples(at), ..MetricSeries::default() }).collect()
    }

    /// As it is said: at each time the samples of greatest value, of equal ones the first series'.
    fn said(all: &[MetricSeries], count: usize) -> Vec<Vec<(i64, f64)>> {
        let better = |t: i64, value: f64, at: usize| {
            let other = |(other, own): &(usize, &MetricSeries)| {
                let theirs = own.samples.iter().find(|(own, _)| *own == t).map(|(_, value)| *value);
                theirs.is_some_and(|theirs| theirs > value || (theirs == value && *other < at))
            };
            all.iter().enumerate().filter(other).count()
        };
        let kept = |(at, own): (usize, &MetricSeries)| {
            own.samples.iter().copied().filter(|(t, value)| better(*t, *value, at) < count).collect()
        };
        all.iter().enumerate().map(kept).collect()
    }

    #[test]
    fn the_best_of_each_time_stay() {
        let mut all = series(9, 20);
        all[3].samples.retain(|(t, _)| t % 3 == 0);
        all[5].samples.truncate(4);
        for count in [1, 2, 5, 50] {
            let mut own = all.clone();
            let budget = QueryBudget::unlimited();
            keep_best(&mut own, count, |value| -value, &Pace::new(&budget)).unwrap();
            assert_eq!(own.into_iter().map(|own| own.samples).collect::<Vec<_>>(), said(&all, count), "{count}");
        }
    }

    #[test]
    fn a_canceled_query_ends_in_its_second_stages_and_they_give_back_their_memory() {
        let budget = QueryBudget::unlimited();
        for stage in [SecondStage::TopK(500), SecondStage::Filter(CompareOp::Greater, -1.0)] {
            run(stage, &mut series(1_000, 50), &budget).unwrap();
        }
        let small = QueryBudget::new(std::time::Duration::from_secs(60), 100_000, u64::MAX);
        run(SecondStage::BottomK(5), &mut series(100, 50), &small).unwrap();
        small.charge(100_000).unwrap();
        budget.cancel();
        for stage in [SecondStage::TopK(500), SecondStage::Filter(CompareOp::Greater, -1.0)] {
            let error = run(stage, &mut series(1_000, 200), &budget).unwrap_err();
            assert!(matches!(error, QueryError::Store(StoreError::Limit(LimitError::Canceled))), "{stage:?}");
        }
    }
}
