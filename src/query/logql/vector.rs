//! Vectors of steps: aggregation over series, operators between them.

use ahash::AHashMap;

use crate::model::labels::Labels;
use crate::query::pace::{Held, Pace};

use super::LogqlError;
use super::ast::{BinaryOp, Cardinality, Grouping, Matching, VectorOp};
use super::metric::{ABSENT, Context, Value, Vector, compute, is_absent};
use super::window::variance;

fn group_of(labels: &Labels, grouping: Option<&Grouping>) -> Labels {
    match grouping {
        None => Labels::default(),
        Some(Grouping { without, names }) => labels.filter(|name, _| names.iter().any(|own| own == name) != *without),
    }
}

/// Memory of a group beside its labels, in bytes.
const GROUP_BYTES: usize = 160;

type Groups = Vec<(Labels, Vec<usize>)>;

/// Series by group, in the order of their first appearance. Their memory is added to `held`.
fn groups(
    vectors: &[Vector],
    grouping: Option<&Grouping>,
    pace: &Pace<'_>,
    held: &Held<'_>,
) -> Result<Groups, LogqlError> {
    held.add(vectors.len() * 16)?;
    let mut known: AHashMap<Labels, usize> = AHashMap::new();
    let mut groups: Vec<(Labels, Vec<usize>)> = Vec::new();
    for (at, vector) in vectors.iter().enumerate() {
        pace.go(64 + vector.labels.bytes())?;
        let labels = group_of(&vector.labels, grouping);
        let id = *known.entry(labels.clone()).or_insert(groups.len());
        if id == groups.len() {
            held.add(labels.bytes() + GROUP_BYTES)?;
            groups.push((labels, Vec::new()));
        }
        if let Some((_, members)) = groups.get_mut(id) {
            members.push(at);
        }
    }
    Ok(groups)
}

/// Aggregates all series of a group to one.
pub(super) fn fold(
    op: VectorOp,
    grouping: Option<&Grouping>,
    vectors: &[Vector],
    context: &Context<'_>,
) -> Result<Vec<Vector>, LogqlError> {
    let (pace, held) = (Pace::new(context.budget), Held::new(context.budget));
    let mut answer = Vec::new();
    for (labels, members) in groups(vectors, grouping, &pace, &held)? {
        context.budget.charge(labels.bytes() + context.steps * size_of::<f64>() + 64)?;
        let mut folded = Vec::with_capacity(context.steps);
        for k in 0..context.steps {
            pace.go(32 * members.len())?;
            let values = members.iter().filter_map(|at| vectors.get(*at)?.values.get(k).copied());
            folded.push(fold_one(op, values.filter(|value| !is_absent(*value))));
        }
        answer.push(Vector { labels, values: folded });
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
    let (pace, held) = (Pace::new(context.budget), Held::new(context.budget));
    for (_, members) in groups(&vectors, grouping, &pace, &held)? {
        held.add(members.len() * 16)?;
        for k in 0..context.steps {
            pace.go(64 * members.len())?;
            let value = |at: usize| vectors.get(at).and_then(|vector| vector.values.get(k)).copied().unwrap_or(ABSENT);
            let mut ranked: Vec<(f64, usize)> =
                members.iter().map(|at| (value(*at), *at)).filter(|(value, _)| !is_absent(*value)).collect();
            pace.sort(&mut ranked, |a, b| match (a.0.is_nan(), b.0.is_nan()) {
                (false, false) if op == VectorOp::Topk => b.0.total_cmp(&a.0),
                (false, false) => a.0.total_cmp(&b.0),
                (a, b) => a.cmp(&b),
            })?;
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
pub(super) fn unique(vectors: &[Vector], pace: &Pace<'_>) -> Result<(), LogqlError> {
    let held = Held::new(pace.budget());
    held.add(vectors.len() * 16)?;
    pace.go(64 * vectors.len())?;
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
            each(&mut vectors, context, |value| filtered(keeps, value, compute(op, value, number)))?;
            Value::Vectors(vectors)
        }
        (Value::Scalar(number), Value::Vectors(mut vectors)) => {
            each(&mut vectors, context, |value| filtered(keeps, value, compute(op, number, value)))?;
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

fn each(vectors: &mut [Vector], context: &Context<'_>, change: impl Fn(f64) -> f64) -> Result<(), LogqlError> {
    let pace = Pace::new(context.budget);
    for vector in vectors {
        pace.go(64 + 8 * vector.values.len())?;
        for value in vector.values.iter_mut().filter(|value| !is_absent(**value)) {
            *value = change(*value);
        }
    }
    Ok(())
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
    let (pace, held) = (Pace::new(context.budget), Held::new(context.budget));
    // Where each signature of the other side has a value.
    let mut present: AHashMap<Labels, Vec<bool>> = AHashMap::new();
    for vector in if op == BinaryOp::Or { &left } else { &right } {
        pace.go(64 + vector.labels.bytes() + context.steps)?;
        let signature = signature(&vector.labels, matching);
        if !present.contains_key(&signature) {
            held.add(signature.bytes() + context.steps + GROUP_BYTES)?;
        }
        let steps = present.entry(signature).or_insert_with(|| vec![false; context.steps]);
        steps.iter_mut().zip(&vector.values).for_each(|(has, value)| *has |= !is_absent(*value));
    }
    let masked = if op == BinaryOp::Or { &mut right } else { &mut left };
    for vector in masked {
        pace.go(64 + vector.labels.bytes() + context.steps)?;
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
    held.add(left.len() * 32)?;
    let known: AHashMap<Labels, usize> =
        left.iter().enumerate().map(|(at, vector)| (vector.labels.clone(), at)).collect();
    for vector in right {
        pace.go(64 + vector.labels.bytes() + context.steps)?;
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
    let (pace, held) = (Pace::new(context.budget), Held::new(context.budget));
    let mut ones: AHashMap<Labels, Vec<&Vector>> = AHashMap::new();
    for vector in one {
        pace.go(64 + vector.labels.bytes())?;
        held.add(vector.labels.bytes() + GROUP_BYTES)?;
        ones.entry(signature(&vector.labels, matching)).or_default().push(vector);
    }
    let mut answer: Vec<Vector> = Vec::new();
    let mut known: AHashMap<Labels, usize> = AHashMap::new();
    for vector in many {
        pace.go(64 + vector.labels.bytes())?;
        let signature = signature(&vector.labels, matching);
        let Some(partners) = ones.get(&signature) else { continue };
        for partner in partners {
            pace.go(64 + 8 * context.steps)?;
            let labels = result_labels(matching, keeps, &vector.labels, &partner.labels, &signature);
            context.budget.charge(labels.bytes() + context.steps * size_of::<f64>() + GROUP_BYTES)?;
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
