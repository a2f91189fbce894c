//! Functions that change labels, and `info`, which takes labels over from info metrics.

use super::row::{Function, Imp, arg, row};
use crate::base::pattern::{Dialect, PatternError, Regex};
use crate::model::labels::{Labels, METRIC_NAME};
use crate::query::promql::PromqlError;
use crate::query::promql::ast::{Call, Pos};
use crate::query::promql::info;
use crate::query::promql::run::{Eval, Grid};
use crate::query::promql::value::{Series, Value, Vector};

/// Longest label value that a function makes.
const VALUE_BYTES_MAX: usize = 64 << 10;

pub(super) const FUNCTIONS: &[Function] = &[
    row(
        "label_replace",
        "sets a label from a match on another",
        "label_replace(a, \"to\", \"$1\", \"from\", \"(.*)\")",
        Imp::Whole(label_replace),
    ),
    row("label_join", "joins labels into one", "label_join(a, \"to\", \"-\", \"x\", \"y\")", Imp::Whole(label_join)),
    row("info", "adds the labels of matching info metrics", "info(a)", Imp::Whole(info::info)),
];

fn check_name(name: &str, function: &str) -> Result<(), PromqlError> {
    if name.is_empty() {
        return Err(PromqlError::Execution(format!("invalid destination label name in {function}(): {name}")));
    }
    Ok(())
}

fn too_long() -> PromqlError {
    PromqlError::Execution(format!("a label value would be longer than {VALUE_BYTES_MAX} bytes; make it shorter"))
}

fn set(eval: &mut Eval<'_>, series: &mut Series, name: &str, value: &str) -> Result<(), PromqlError> {
    eval.spend(10 + series.labels.bytes() + value.len())?;
    let labels: Labels = series.labels.with(name, value);
    eval.budget.charge(labels.bytes())?;
    series.labels = labels;
    if name == METRIC_NAME {
        series.drop_name = false;
    }
    Ok(())
}

fn finish(eval: &mut Eval<'_>, vector: Vector) -> Result<Value, PromqlError> {
    Ok(Value::Vector(eval.join_equal(vector, false)?))
}

fn label_replace(eval: &mut Eval<'_>, call: &Call, _: Pos, grid: &Grid) -> Result<Value, PromqlError> {
    let to = eval.string(arg(call, 1)?, grid)?;
    let template = eval.string(arg(call, 2)?, grid)?;
    let from = eval.string(arg(call, 3)?, grid)?;
    let pattern = eval.string(arg(call, 4)?, grid)?;
    let regex = Regex::new(&pattern, Dialect::Replace, eval.budget).map_err(|error| match error {
        PatternError::Invalid { pattern, .. } => {
            PromqlError::Execution(format!("invalid regular expression in label_replace(): {pattern}"))
        }
        error => error.into(),
    })?;
    check_name(&to, call.function)?;
    let mut vector = eval.vector(arg(call, 0)?, grid)?;
    for series in &mut vector {
        let value = series.labels.value(&from).to_owned();
        // A pattern may look at each byte many times.
        eval.spend(100 + 4 * value.len() + template.len())?;
        if let Some(captures) = regex.captures(&value) {
            let text = captures.expanded(&template, VALUE_BYTES_MAX).ok_or_else(too_long)?;
            set(eval, series, &to, &text)?;
        }
    }
    finish(eval, vector)
}

fn label_join(eval: &mut Eval<'_>, call: &Call, _: Pos, grid: &Grid) -> Result<Value, PromqlError> {
    let to = eval.string(arg(call, 1)?, grid)?;
    let separator = eval.string(arg(call, 2)?, grid)?;
    let mut from = Vec::new();
    for name in call.args.iter().skip(3) {
        from.push(eval.string(name, grid)?);
    }
    eval.budget.charge(from.iter().map(|name| size_of::<String>() + name.len()).sum())?;
    check_name(&to, call.function)?;
    let mut vector = eval.vector(arg(call, 0)?, grid)?;
    for series in &mut vector {
        let mut text = String::new();
        for (at, name) in from.iter().enumerate() {
            eval.spend(10 + series.labels.bytes() / 4)?;
            for part in [if at == 0 { "" } else { separator.as_str() }, series.labels.value(name)] {
                if text.len() + part.len() > VALUE_BYTES_MAX {
                    return Err(too_long());
                }
                text.push_str(part);
            }
        }
        set(eval, series, &to, &text)?;
    }
    finish(eval, vector)
}
