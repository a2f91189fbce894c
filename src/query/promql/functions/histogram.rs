//! Functions of histograms, native ones and classic ones (series with a label `le`).
//! Within a bucket, observations are taken to lie evenly: on a logarithmic scale in exponential
//! buckets, on a linear one in the zero bucket, custom and classic buckets.

use std::collections::BTreeMap;

use super::classic;
use super::row::{Function, Imp, arg, row};
use crate::base::float_text;
use crate::model::labels::METRIC_NAME;
use crate::query::pace::Held;
use crate::query::promql::PromqlError;
use crate::query::promql::ast::{Call, Pos};
use crate::query::promql::histograms::{is_linear, share_below, span};
use crate::query::promql::native::{Bucket, Work};
use crate::query::promql::run::{Eval, Grid};
use crate::query::promql::stat;
use crate::query::promql::value::{Cell, CellRef, Series, Value, Vector, histogram_cost};

pub(super) const FUNCTIONS: &[Function] = &[
    row(
        "histogram_count",
        "number of observations",
        "histogram_count(a)",
        Imp::Whole(|e, c, _, g| simple(e, c, g, |w| w.count)),
    ),
    row(
        "histogram_sum",
        "sum of observations",
        "histogram_sum(a)",
        Imp::Whole(|e, c, _, g| simple(e, c, g, |w| w.sum)),
    ),
    row(
        "histogram_avg",
        "mean of observations",
        "histogram_avg(a)",
        Imp::Whole(|e, c, _, g| simple(e, c, g, |w| w.sum / w.count)),
    ),
    row(
        "histogram_stddev",
        "estimated standard deviation",
        "histogram_stddev(a)",
        Imp::Whole(|e, c, _, g| simple(e, c, g, |w| variance(w).sqrt())),
    ),
    row(
        "histogram_stdvar",
        "estimated variance",
        "histogram_stdvar(a)",
        Imp::Whole(|e, c, _, g| simple(e, c, g, variance)),
    ),
    row("histogram_quantile", "estimated quantile", "histogram_quantile(0.9, a)", Imp::Whole(histogram_quantile)),
    row(
        "histogram_quantiles",
        "several quantiles, told apart by a label",
        "histogram_quantiles(a, \"q\", 0.5, 0.9)",
        Imp::Whole(histogram_quantiles),
    ),
    row(
        "histogram_fraction",
        "estimated share between two values",
        "histogram_fraction(0, 1, a)",
        Imp::Whole(histogram_fraction),
    ),
];

fn simple(eval: &mut Eval<'_>, call: &Call, grid: &Grid, f: fn(&Work) -> f64) -> Result<Value, PromqlError> {
    let vector = eval.vector(arg(call, 0)?, grid)?;
    let vector = eval.map(vector, true, |_, _, cell| {
        let CellRef::Histogram(histogram) = cell else { return Ok(None) };
        Ok(Some(Cell::Float(f(&Work::from(histogram.as_ref())))))
    })?;
    Ok(Value::Vector(vector))
}

fn variance(work: &Work) -> f64 {
    let mean = work.sum / work.count;
    let mut total = stat::Sum::default();
    for bucket in work.buckets() {
        let at = if work.is_custom() {
            (bucket.lower + bucket.upper) / 2.0
        } else if bucket.lower <= 0.0 && bucket.upper >= 0.0 {
            0.0
        } else {
            let middle = (bucket.lower * bucket.upper).sqrt();
            if bucket.upper < 0.0 { -middle } else { middle }
        };
        total.add(bucket.count * (at - mean) * (at - mean));
    }
    total.value() / work.count
}

fn sides(work: &Work) -> (bool, bool) {
    let any = |buckets: &[(i32, f64)]| buckets.iter().any(|(_, count)| *count != 0.0);
    (any(&work.positive), any(&work.negative))
}

/// What a quantile has to say about observations that are NaN.
#[derive(Clone, Copy, PartialEq, Eq)]
enum NanNote {
    None,
    Skewed,
    IsNan,
}

fn native_quantile(q: f64, work: &Work) -> (f64, NanNote) {
    if q < 0.0 {
        return (f64::NEG_INFINITY, NanNote::None);
    }
    if q > 1.0 {
        return (f64::INFINITY, NanNote::None);
    }
    if work.count == 0.0 || q.is_nan() {
        return (f64::NAN, NanNote::None);
    }
    let buckets = work.buckets();
    let in_buckets: f64 = buckets.iter().map(|bucket| bucket.count).sum();
    let has_nan = work.sum.is_nan() && in_buckets < work.count * (1.0 - 1e-12);
    // Observations that are NaN count as larger than all others.
    let rank = q * work.count;
    let from_above = !work.sum.is_nan() && q >= 0.5;
    let (has_positive, has_negative) = sides(work);
    let note = if has_nan { NanNote::Skewed } else { NanNote::None };
    let mut found: Option<(Bucket, f64)> = None;
    if from_above {
        let rest = (1.0 - q) * work.count;
        let mut above = 0.0;
        for bucket in buckets.iter().rev() {
            above += bucket.count;
            found = Some((*bucket, above - rest));
            if above >= rest {
                break;
            }
        }
    } else {
        let mut below = 0.0;
        for bucket in &buckets {
            found = Some((*bucket, rank - below));
            below += bucket.count;
            if below >= rank {
                break;
            }
        }
        if has_nan && below < rank {
            return (f64::NAN, NanNote::IsNan);
        }
    }
    let Some((bucket, within)) = found else { return (f64::NAN, NanNote::IsNan) };
    let custom = work.is_custom();
    if custom && bucket.lower == f64::NEG_INFINITY && bucket.upper <= 0.0 {
        return (bucket.upper, note);
    }
    if custom && bucket.upper == f64::INFINITY {
        return (bucket.lower, note);
    }
    let (low, high) = span(&bucket, custom, has_positive, has_negative);
    let share = (within / bucket.count).clamp(0.0, 1.0);
    if is_linear(custom, low, high) {
        return (low + (high - low) * share, note);
    }
    let (a, b) = (low.abs().log2(), high.abs().log2());
    let size = (a + (b - a) * share).exp2();
    (if high <= 0.0 { -size } else { size }, note)
}

fn native_fraction(lower: f64, upper: f64, work: &Work) -> f64 {
    if work.count == 0.0 || lower.is_nan() || upper.is_nan() {
        return f64::NAN;
    }
    if lower >= upper {
        return 0.0;
    }
    let custom = work.is_custom();
    let (has_positive, has_negative) = sides(work);
    let part = |bucket: &Bucket| {
        let unbounded = custom && bucket.lower == f64::NEG_INFINITY && bucket.upper <= 0.0;
        if unbounded && lower > f64::NEG_INFINITY {
            return 0.0;
        }
        if unbounded && upper < bucket.upper {
            return 0.0;
        }
        let share = |bound: f64| share_below(bucket, bound, custom, has_positive, has_negative);
        bucket.count * (share(upper) - share(lower))
    };
    work.buckets().iter().map(part).sum::<f64>() / work.count
}

const MIXED_KINDS: &str = "vector contains a mix of classic and native histograms for metric name";

/// What is asked of each histogram.
enum Ask<'a> {
    Quantile(&'a [f64]),
    Fraction(&'a [f64], &'a [f64]),
}

fn of_histograms(
    eval: &mut Eval<'_>,
    vector: &Vector,
    grid: &Grid,
    pos: Pos,
    ask: &Ask<'_>,
) -> Result<Vector, PromqlError> {
    let mut result = Vec::new();
    let mut forced: BTreeMap<String, classic::Forced> = BTreeMap::new();
    let held = Held::new(eval.budget);
    for classic in classic::collect(eval, &held, vector, pos)? {
        let mut column = eval.column(grid)?;
        let (mut raised, mut unsaid) = (classic::Forced::NONE, classic::Forced::NONE);
        for step in 0..grid.steps {
            eval.spend(20 + 10 * classic.members.len())?;
            let mut buckets = classic.buckets(vector, step);
            let native = classic.native(vector, step);
            let name = classic.labels.metric_name();
            if native.is_some() && !buckets.is_empty() {
                eval.warn(pos, format!("{MIXED_KINDS} {name:?}"));
                continue;
            }
            let at = |values: &[f64]| values.get(step).copied().unwrap_or(f64::NAN);
            let value = if let Some(histogram) = native {
                eval.spend(histogram_cost(histogram))?;
                let work = Work::from(histogram.as_ref());
                of_native(eval, &work, ask, step, pos, name)
            } else if buckets.is_empty() {
                continue;
            } else {
                match ask {
                    Ask::Quantile(q) => {
                        // What lies outside of all buckets takes no look at them.
                        let looks = (0.0..=1.0).contains(&at(q));
                        classic::make_monotonic(
                            &mut buckets,
                            grid.time(step),
                            if looks { &mut raised } else { &mut unsaid },
                        );
                        classic::quantile(at(q), &buckets)
                    }
                    // Shares are of the counts as they are, which may fall.
                    Ask::Fraction(lower, upper) => classic::fraction(at(lower), at(upper), &buckets),
                }
            };
            column.set(step, Some(Cell::Float(value)));
        }
        if raised.samples > 0 {
            forced.entry(classic.labels.metric_name().to_owned()).or_insert(classic::Forced::NONE).add(&raised);
        }
        let drop_name = classic.name_dropped || classic.labels.get(METRIC_NAME).is_some();
        eval.budget.charge(classic.labels.bytes())?;
        result.push(Series { labels: classic.labels, drop_name, column });
    }
    for (name, forced) in &forced {
        eval.spend(10)?;
        eval.info(pos, forced.says(name));
    }
    eval.without_empty(result)
}

fn of_native(eval: &mut Eval<'_>, work: &Work, ask: &Ask<'_>, step: usize, pos: Pos, name: &str) -> f64 {
    let at = |values: &[f64]| values.get(step).copied().unwrap_or(f64::NAN);
    match ask {
        Ask::Quantile(q) => {
            let (value, note) = native_quantile(at(q), work);
            let says = match note {
                NanNote::None => return value,
                NanNote::Skewed => "result is skewed higher",
                NanNote::IsNan => "result is NaN",
            };
            eval.info(
                pos,
                format!("input to histogram_quantile has NaN observations, {says} for metric name {name:?}"),
            );
            value
        }
        Ask::Fraction(lower, upper) => {
            let in_buckets: f64 = work.buckets().iter().map(|bucket| bucket.count).sum();
            if work.sum.is_nan() && in_buckets < work.count * (1.0 - 1e-12) {
                eval.info(pos, format!("input to histogram_fraction has NaN observations, which are excluded from all fractions for metric name {name:?}"));
            }
            native_fraction(at(lower), at(upper), work)
        }
    }
}

fn check_quantiles(eval: &mut Eval<'_>, quantiles: &[f64], pos: Pos) -> Result<(), PromqlError> {
    for q in quantiles {
        eval.spend(1)?;
        if !(0.0..=1.0).contains(q) {
            eval.spend(100)?;
            eval.warn(pos, format!("quantile value should be between 0 and 1, got {}", stat::general(*q)));
        }
    }
    Ok(())
}

fn histogram_quantile(eval: &mut Eval<'_>, call: &Call, _: Pos, grid: &Grid) -> Result<Value, PromqlError> {
    let (param, expr) = (arg(call, 0)?, arg(call, 1)?);
    let quantiles = eval.scalar(param, grid)?;
    check_quantiles(eval, &quantiles, param.bare().pos)?;
    let vector = eval.vector(expr, grid)?;
    let result = of_histograms(eval, &vector, grid, expr.bare().pos, &Ask::Quantile(&quantiles))?;
    eval.release(&vector);
    Ok(Value::Vector(result))
}

fn histogram_quantiles(eval: &mut Eval<'_>, call: &Call, _: Pos, grid: &Grid) -> Result<Value, PromqlError> {
    let expr = arg(call, 0)?;
    let vector = eval.vector(expr, grid)?;
    let label = eval.string(arg(call, 1)?, grid)?;
    let mut result = Vec::new();
    for param in call.args.iter().skip(2) {
        let quantiles = eval.scalar(param, grid)?;
        check_quantiles(eval, &quantiles, param.bare().pos)?;
        let mut value = float_text::text(quantiles.first().copied().unwrap_or(f64::NAN), float_text::FIXED);
        if value.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-') {
            value.push_str(".0");
        }
        for mut series in of_histograms(eval, &vector, grid, expr.bare().pos, &Ask::Quantile(&quantiles))? {
            series.labels = series.labels.with(&label, &value);
            eval.spend(10 + series.labels.bytes())?;
            eval.budget.charge(series.labels.bytes())?;
            result.push(series);
        }
    }
    eval.release(&vector);
    Ok(Value::Vector(result))
}

fn histogram_fraction(eval: &mut Eval<'_>, call: &Call, _: Pos, grid: &Grid) -> Result<Value, PromqlError> {
    let lower = eval.scalar(arg(call, 0)?, grid)?;
    let upper = eval.scalar(arg(call, 1)?, grid)?;
    let expr = arg(call, 2)?;
    let vector = eval.vector(expr, grid)?;
    let result = of_histograms(eval, &vector, grid, expr.bare().pos, &Ask::Fraction(&lower, &upper))?;
    eval.release(&vector);
    Ok(Value::Vector(result))
}
