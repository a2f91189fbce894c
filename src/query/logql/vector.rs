//! Vectors of steps: windows of samples to values, aggregation over series, operators between them.

use ahash::AHashMap;

use crate::model::labels::Labels;

use super::LogqlError;
use super::ast::{BinaryOp, Cardinality, Grouping, Matching, RangeExpr, RangeOp, VectorOp};
use super::metric::{ABSENT, Context, Value, Vector, compute, is_absent};

/// The value of an aggregation over the samples of a window that lies in `(start, end]`.
pub(super) fn over_time(expr: &RangeExpr, window: &[(i64, f64)], start: i64, end: i64) -> f64 {
    let (Some(first), Some(last)) = (window.first(), window.last()) else { return ABSENT };
    let count = window.len() as f64;
    let values = || window.iter().map(|(_, value)| *value);
    let seconds = expr.range_ns as f64 / 1e9;
    match expr.op {
        RangeOp::Sum => values().sum(),
        RangeOp::Rate => values().sum::<f64>() / seconds,
        RangeOp::RateCounter => rate_of_counter(window, start, end),
        RangeOp::Avg => values().sum::<f64>() / count,
        RangeOp::Min => values().fold(f64::NAN, f64::min),
        RangeOp::Max => values().fold(f64::NAN, f64::max),
        RangeOp::First => first.1,
        RangeOp::Last => last.1,
        RangeOp::Stdvar => variance(values()),
        RangeOp::Stddev => variance(values()).sqrt(),
        RangeOp::Quantile => quantile(expr.parameter.unwrap_or(0.5), values().collect()),
        RangeOp::CountOverTime | RangeOp::BytesOverTime | RangeOp::BytesRate | RangeOp::AbsentOverTime => count,
    }
}

/// Welford's way, which does not lose small differences of large values.
fn variance(values: impl Iterator<Item = f64>) -> f64 {
    let (mut count, mut mean, mut squares) = (0.0, 0.0, 0.0);
    for value in values {
        count += 1.0;
        let delta = value - mean;
        mean += delta / count;
        squares += delta * (value - mean);
    }
    squares / count
}

fn quantile(phi: f64, mut values: Vec<f64>) -> f64 {
    if phi < 0.0 {
        return f64::NEG_INFINITY;
    }
    if phi > 1.0 {
        return f64::INFINITY;
    }
    values.sort_by(f64::total_cmp);
    let rank = phi * (values.len() as f64 - 1.0);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "phi is in [0, 1]")]
    let low = rank.floor() as usize;
    let at = |index: usize| values.get(index).or(values.last()).copied().unwrap_or(f64::NAN);
    let weight = rank - rank.floor();
    at(low) * (1.0 - weight) + at(low + 1) * weight
}

/// Increase per second, resets counted, extended to the window's edges where samples come close.
fn rate_of_counter(window: &[(i64, f64)], start: i64, end: i64) -> f64 {
    let (Some(first), Some(last), true) = (window.first(), window.last(), window.len() > 1) else { return ABSENT };
    let mut increase = last.1 - first.1;
    for pair in window.windows(2) {
        if let [(_, before), (_, after)] = pair
            && after < before
        {
            increase += before;
        }
    }
    let seconds = |nanos: i64| nanos as f64 / 1e9;
    let sampled = seconds(last.0 - first.0);
    if sampled <= 0.0 {
        return ABSENT;
    }
    let between = sampled / (window.len() as f64 - 1.0);
    let mut to_start = seconds(first.0.saturating_sub(start));
    let to_end = seconds(end.saturating_sub(last.0));
    if increase > 0.0 && first.1 >= 0.0 {
        to_start = to_start.min(sampled * (first.1 / increase));
    }
    let threshold = between * 1.1;
    let extend = |gap: f64| if gap < threshold { gap } else { between / 2.0 };
    let extended = sampled + extend(to_start) + extend(to_end);
    increase * (extended / sampled) / seconds(end.saturating_sub(start))
}

fn group_of(labels: &Labels, grouping: Option<&Grouping>) -> Labels {
    match grouping {
        None => Labels::default(),
        Some(Grouping { without, names }) => labels.filter(|name, _| names.iter().any(|own| own == name) != *without),
    }
}

/// Series by group, in the order of their first appearance.
fn groups(vectors: &[Vector], grouping: Option<&Grouping>) -> Vec<(Labels, Vec<usize>)> {
    let mut known: AHashMap<Labels, usize> = AHashMap::new();
    let mut groups: Vec<(Labels, Vec<usize>)> = Vec::new();
    for (at, vector) in vectors.iter().enumerate() {
        let labels = group_of(&vector.labels, grouping);
        let id = *known.entry(labels.clone()).or_insert(groups.len());
        if id == groups.len() {
            groups.push((labels, Vec::new()));
        }
        if let Some((_, members)) = groups.get_mut(id) {
            members.push(at);
        }
    }
    groups
}

/// Aggregates all series of a group to one.
pub(super) fn fold(
    op: VectorOp,
    grouping: Option<&Grouping>,
    vectors: &[Vector],
    context: &Context<'_>,
) -> Result<Vec<Vector>, LogqlError> {
    let mut answer = Vec::new();
    for (labels, members) in groups(vectors, grouping) {
        context.budget.check()?;
        context.budget.charge(labels.bytes() + context.steps * size_of::<f64>() + 64)?;
        let value = |k: usize| {
            let values = members.iter().filter_map(|at| vectors.get(*at)?.values.get(k).copied());
            fold_one(op, values.filter(|value| !is_absent(*value)))
        };
        answer.push(Vector { labels, values: (0..context.steps).map(value).collect() });
    }
    Ok(answer)
}

fn fold_one(op: VectorOp, values: impl Iterator<Item = f64> + Clone) -> f64 {
    let count = values.clone().count();
    if count == 0 {
        return ABSENT;
    }
    match op {
        VectorOp::Avg => values.sum::<f64>() / count as f64,
        VectorOp::Min => values.fold(f64::NAN, f64::min),
        VectorOp::Max => values.fold(f64::NAN, f64::max),
        VectorOp::Count => count as f64,
        VectorOp::Stdvar => variance(values),
        VectorOp::Stddev => variance(values).sqrt(),
        VectorOp::Sum | VectorOp::Topk | VectorOp::Bottomk | VectorOp::Sort | VectorOp::SortDesc => values.sum(),
    }
}

/// Keeps the greatest or least `count` values of each group at every step.
pub(super) fn best(
    op: VectorOp,
    count: usize,
    grouping: Option<&Grouping>,
    mut vectors: Vec<Vector>,
    context: &Context<'_>,
) -> Result<Vec<Vector>, LogqlError> {
    for (_, members) in groups(&vectors, grouping) {
        for k in 0..context.steps {
            if k % 64 == 0 {
                context.budget.check()?;
            }
            let value = |at: usize| vectors.get(at).and_then(|vector| vector.values.get(k)).copied().unwrap_or(ABSENT);
            let mut ranked: Vec<(f64, usize)> =
                members.iter().map(|at| (value(*at), *at)).filter(|(value, _)| !is_absent(*value)).collect();
            ranked.sort_by(|a, b| match (a.0.is_nan(), b.0.is_nan()) {
                (false, false) if op == VectorOp::Topk => b.0.total_cmp(&a.0),
                (false, false) => a.0.total_cmp(&b.0),
                (a, b) => a.cmp(&b),
            });
            for (_, at) in ranked.into_iter().skip(count) {
                if let Some(value) = vectors.get_mut(at).and_then(|vector| vector.values.get_mut(k)) {
                    *value = ABSENT;
                }
            }
        }
    }
    Ok(vectors)
}

/// Fails when two series have the same labels.
pub(super) fn unique(vectors: &[Vector]) -> Result<(), LogqlError> {
    let mut seen: AHashMap<&Labels, ()> = AHashMap::new();
    match vectors.iter().find(|vector| seen.insert(&vector.labels, ()).is_some()) {
        Some(vector) => Err(LogqlError::Matching(format!("two series have the same labels {}", vector.labels))),
        None => Ok(()),
    }
}

/// An operator between two values.
pub(super) fn binary(
    op: BinaryOp,
    bool_result: bool,
    matching: &Matching,
    left: Value,
    right: Value,
    context: &Context<'_>,
) -> Result<Value, LogqlError> {
    let keeps = op.is_comparison() && !bool_result;
    Ok(match (left, right) {
        (Value::Scalar(left), Value::Scalar(right)) => Value::Scalar(compute(op, left, right)),
        (Value::Vectors(mut vectors), Value::Scalar(number)) => {
            each(&mut vectors, |value| filtered(keeps, value, compute(op, value, number)));
            Value::Vectors(vectors)
        }
        (Value::Scalar(number), Value::Vectors(mut vectors)) => {
            each(&mut vectors, |value| filtered(keeps, value, compute(op, number, value)));
            Value::Vectors(vectors)
        }
        (Value::Vectors(left), Value::Vectors(right)) if op.is_set() => {
            Value::Vectors(set(op, matching, left, right, context)?)
        }
        (Value::Vectors(left), Value::Vectors(right)) => {
            Value::Vectors(pairs(op, keeps, matching, left, &right, context)?)
        }
    })
}

fn each(vectors: &mut [Vector], change: impl Fn(f64) -> f64) {
    for value in vectors.iter_mut().flat_map(|vector| &mut vector.values) {
        if !is_absent(*value) {
            *value = change(*value);
        }
    }
}

/// A comparison without `bool` keeps the value where it holds.
fn filtered(keeps: bool, value: f64, result: f64) -> f64 {
    match (keeps, result != 0.0) {
        (true, true) => value,
        (true, false) => ABSENT,
        (false, _) => result,
    }
}

fn signature(labels: &Labels, matching: &Matching) -> Labels {
    labels.filter(|name, _| matching.names.iter().any(|own| own == name) == matching.on)
}

fn set(
    op: BinaryOp,
    matching: &Matching,
    mut left: Vec<Vector>,
    mut right: Vec<Vector>,
    context: &Context<'_>,
) -> Result<Vec<Vector>, LogqlError> {
    // Where each signature of the other side has a value.
    let mut present: AHashMap<Labels, Vec<bool>> = AHashMap::new();
    for vector in if op == BinaryOp::Or { &left } else { &right } {
        context.budget.charge(context.steps)?;
        let steps = present.entry(signature(&vector.labels, matching)).or_insert_with(|| vec![false; context.steps]);
        steps.iter_mut().zip(&vector.values).for_each(|(has, value)| *has |= !is_absent(*value));
    }
    let masked = if op == BinaryOp::Or { &mut right } else { &mut left };
    for vector in masked {
        context.budget.check()?;
        let steps = present.get(&signature(&vector.labels, matching));
        for (k, value) in vector.values.iter_mut().enumerate() {
            let other = steps.and_then(|steps| steps.get(k)).copied().unwrap_or(false);
            if other != (op == BinaryOp::And) {
                *value = ABSENT;
            }
        }
    }
    if op != BinaryOp::Or {
        return Ok(left);
    }
    // A series that both sides have is one series.
    let known: AHashMap<Labels, usize> =
        left.iter().enumerate().map(|(at, vector)| (vector.labels.clone(), at)).collect();
    for vector in right {
        match known.get(&vector.labels).and_then(|at| left.get_mut(*at)) {
            Some(own) => own.values.iter_mut().zip(vector.values).for_each(|(own, value)| {
                if is_absent(*own) {
                    *own = value;
                }
            }),
            None => left.push(vector),
        }
    }
    Ok(left)
}

fn pairs(
    op: BinaryOp,
    keeps: bool,
    matching: &Matching,
    left: Vec<Vector>,
    right: &[Vector],
    context: &Context<'_>,
) -> Result<Vec<Vector>, LogqlError> {
    let many_left = matching.cardinality != Cardinality::OneToMany;
    let (many, one): (&[Vector], &[Vector]) = if many_left { (&left, right) } else { (right, &left) };
    let mut ones: AHashMap<Labels, Vec<&Vector>> = AHashMap::new();
    for vector in one {
        ones.entry(signature(&vector.labels, matching)).or_default().push(vector);
    }
    let mut answer: Vec<Vector> = Vec::new();
    let mut known: AHashMap<Labels, usize> = AHashMap::new();
    for vector in many {
        context.budget.check()?;
        let signature = signature(&vector.labels, matching);
        let Some(partners) = ones.get(&signature) else { continue };
        for partner in partners {
            context.budget.charge(context.steps * size_of::<f64>() + 64)?;
            let labels = result_labels(matching, keeps, &vector.labels, &partner.labels, &signature);
            let at = *known.entry(labels.clone()).or_insert(answer.len());
            if at == answer.len() {
                answer.push(Vector { labels, values: vec![ABSENT; context.steps] });
            }
            let Some(target) = answer.get_mut(at) else { continue };
            let steps = target.values.iter_mut().zip(vector.values.iter().zip(&partner.values));
            for (target, (many, one)) in steps {
                if is_absent(*many) || is_absent(*one) {
                    continue;
                }
                if !is_absent(*target) {
                    return Err(LogqlError::Matching(format!(
                        "multiple matches for labels {signature}: many-to-one matching must be explicit (group_left/group_right)"
                    )));
                }
                let (left, right) = if many_left { (*many, *one) } else { (*one, *many) };
                *target = filtered(keeps, left, compute(op, left, right));
            }
        }
    }
    Ok(answer)
}

fn result_labels(matching: &Matching, keeps: bool, many: &Labels, one: &Labels, signature: &Labels) -> Labels {
    match matching.cardinality {
        Cardinality::OneToOne if keeps => many.clone(),
        Cardinality::OneToOne => signature.clone(),
        Cardinality::ManyToOne | Cardinality::OneToMany => {
            matching.include.iter().fold(many.clone(), |labels, name| labels.with(name, one.value(name)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_lies_between_its_neighbours() {
        assert!((quantile(0.5, vec![3.0, 1.0, 2.0, 4.0]) - 2.5).abs() < 1e-12);
        assert!(quantile(1.5, vec![1.0]).is_infinite());
        assert!((quantile(1.0, vec![1.0, 9.0]) - 9.0).abs() < 1e-12);
    }

    #[test]
    fn a_counter_that_restarts_still_rises() {
        let window: Vec<(i64, f64)> =
            [(0, 10.0), (15, 20.0), (30, 5.0), (45, 15.0)].map(|(t, v)| (t * 1_000_000_000, v)).to_vec();
        let rate = rate_of_counter(&window, 0, 45_000_000_000);
        assert!((rate - 25.0 / 45.0).abs() < 1e-9, "{rate}");
    }

    #[test]
    fn variance_of_equal_values_is_zero() {
        assert!(variance([1e15, 1e15, 1e15].into_iter()).abs() < 1e-9);
    }
}
