//! Values of TraceQL, and how they compare and compute. Comparison is strict by type: an integer
//! never equals a float, a missing value satisfies nothing.

use std::borrow::Cow;

use super::op::{CompareOp, MathOp};
use crate::base::duration;
use crate::model::span::{AttrValue, SpanKind, StatusCode};

/// Something known of a span, or a literal.
#[derive(Clone, Debug, PartialEq)]
pub enum Value<'a> {
    /// It has none.
    Nil,
    /// Only the whole trace can tell.
    Unknown,
    /// An integer.
    Int(i64),
    /// A float.
    Float(f64),
    /// A string.
    Str(Cow<'a, str>),
    /// A boolean.
    Bool(bool),
    /// Nanoseconds.
    Duration(i64),
    /// A status.
    Status(StatusCode),
    /// A kind.
    Kind(SpanKind),
    /// An attribute that is a list.
    List(&'a [AttrValue]),
    /// One value for each event or link.
    Many(Vec<Value<'a>>),
}

/// Pairs of two lists that are compared between two looks at what may be spent.
const PAIRS_AT_ONCE: usize = 1_024;

/// Whether a condition holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Truth {
    /// It does not.
    No,
    /// It does.
    Yes,
    /// Only the whole trace can tell.
    Unknown,
}

impl Truth {
    /// From a boolean.
    pub fn of(yes: bool) -> Self {
        if yes { Self::Yes } else { Self::No }
    }

    /// Whether it may hold.
    pub fn possible(self) -> bool {
        self != Self::No
    }
}

impl<'a> Value<'a> {
    /// The value of an attribute.
    pub fn of_attr(attr: &'a AttrValue) -> Self {
        match attr {
            AttrValue::Empty | AttrValue::Bytes(_) | AttrValue::Map(_) => Self::Nil,
            AttrValue::Str(text) => Self::Str(Cow::Borrowed(text)),
            AttrValue::Int(int) => Self::Int(*int),
            AttrValue::Double(float) => Self::Float(*float),
            AttrValue::Bool(bool) => Self::Bool(*bool),
            AttrValue::Array(list) => Self::List(list),
        }
    }

    /// As an attribute, for answers; `None` when there is nothing to show.
    pub fn to_attr(&self) -> Option<AttrValue> {
        Some(match self {
            Self::Nil | Self::Unknown => return None,
            Self::Int(int) => AttrValue::Int(*int),
            Self::Float(float) => AttrValue::Double(*float),
            Self::Str(text) => AttrValue::Str(text.to_string()),
            Self::Bool(bool) => AttrValue::Bool(*bool),
            Self::Duration(ns) => AttrValue::Str(duration::go(*ns)),
            Self::Status(status) => AttrValue::Str(status.name().to_owned()),
            Self::Kind(kind) => AttrValue::Str(kind.name().to_owned()),
            Self::List(list) => AttrValue::Array(list.to_vec()),
            Self::Many(values) => return values.iter().find_map(Value::to_attr),
        })
    }

    /// As a number; durations are nanoseconds.
    pub fn number(&self) -> Option<f64> {
        match self {
            Self::Int(int) | Self::Duration(int) => Some(*int as f64),
            Self::Float(float) => Some(*float),
            Self::Nil
            | Self::Unknown
            | Self::Str(_)
            | Self::Bool(_)
            | Self::Status(_)
            | Self::Kind(_)
            | Self::List(_)
            | Self::Many(_) => None,
        }
    }

    /// As text, the way a search by tags compares it.
    pub fn text(&self) -> Option<Cow<'_, str>> {
        Some(match self {
            Self::Str(text) => Cow::Borrowed(text.as_ref()),
            Self::Int(int) => Cow::Owned(int.to_string()),
            Self::Float(float) => Cow::Owned(float.to_string()),
            Self::Bool(bool) => Cow::Borrowed(if *bool { "true" } else { "false" }),
            Self::Duration(ns) => Cow::Owned(duration::go(*ns)),
            Self::Status(status) => Cow::Borrowed(status.name()),
            Self::Kind(kind) => Cow::Borrowed(kind.name()),
            Self::Nil | Self::Unknown | Self::List(_) | Self::Many(_) => return None,
        })
    }

    /// Its elements, when it is a list or has one value for each event or link.
    pub fn elements(&self) -> Option<Vec<Value<'_>>> {
        match self {
            Self::List(list) => Some(list.iter().map(Value::of_attr).collect()),
            Self::Many(values) => Some(values.clone()),
            _ => None,
        }
    }

    /// A boolean counts as itself, everything else as not holding.
    pub fn truth(&self) -> Truth {
        match self {
            Self::Bool(bool) => Truth::of(*bool),
            Self::Unknown => Truth::Unknown,
            Self::Many(values) => Truth::of(values.contains(&Self::Bool(true))),
            _ => Truth::No,
        }
    }
}

/// Compares two values. On a list, and on the values of events and links, `!=` means that no
/// element is equal; any other operator that some element satisfies it. Two lists are compared pair by
/// pair: `spend` is asked before each run of pairs whether their cost, in bytes to look at, may be spent;
/// the answer means nothing once it may not.
pub fn compare(
    op: CompareOp,
    left: &Value<'_>,
    right: &Value<'_>,
    computed: bool,
    spend: &dyn Fn(usize) -> bool,
) -> Truth {
    if matches!(left, Value::Unknown) || matches!(right, Value::Unknown) {
        return Truth::Unknown;
    }
    let (lefts, rights) = match (left.elements(), right.elements()) {
        (None, None) => return Truth::of(compare_one(op, left, right, computed) == Some(true)),
        (lefts, rights) => (lefts.unwrap_or_else(|| vec![left.clone()]), rights.unwrap_or_else(|| vec![right.clone()])),
    };
    let decides = op != CompareOp::NotEqual;
    let mut some = false;
    for left in &lefts {
        for run in rights.chunks(PAIRS_AT_ONCE) {
            if !spend(32 * run.len()) {
                return Truth::No;
            }
            for right in run {
                match compare_one(op, left, right, computed) {
                    Some(holds) if holds == decides => return Truth::of(decides),
                    Some(_) => some = true,
                    None => {}
                }
            }
        }
    }
    Truth::of(some && !decides)
}

/// `None` when the two cannot be compared.
fn compare_one(op: CompareOp, left: &Value<'_>, right: &Value<'_>, computed: bool) -> Option<bool> {
    let order = match (left, right) {
        (Value::Int(a), Value::Int(b)) => a.cmp(b),
        (Value::Duration(a), Value::Duration(b) | Value::Int(b)) | (Value::Int(a), Value::Duration(b)) => a.cmp(b),
        (Value::Float(a), Value::Float(b)) => return float_holds(op, *a, *b),
        (Value::Float(a), Value::Duration(b)) => return float_holds(op, *a, *b as f64),
        (Value::Duration(a), Value::Float(b)) => return float_holds(op, *a as f64, *b),
        (Value::Int(a), Value::Float(b)) if computed => return float_holds(op, *a as f64, *b),
        (Value::Float(a), Value::Int(b)) if computed => return float_holds(op, *a, *b as f64),
        (Value::Str(a), Value::Str(b)) => a.cmp(b),
        (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
        (Value::Status(a), Value::Status(b)) => a.number().cmp(&b.number()),
        (Value::Kind(a), Value::Kind(b)) => a.number().cmp(&b.number()),
        _ => return None,
    };
    Some(op.holds(order))
}

/// A NaN differs from everything and has no order.
fn float_holds(op: CompareOp, a: f64, b: f64) -> Option<bool> {
    match a.partial_cmp(&b) {
        Some(order) => Some(op.holds(order)),
        None => Some(op == CompareOp::NotEqual),
    }
}

/// Computes with two numbers. Integers stay integers and truncate; what has no result (division by
/// zero, overflow, no numbers) is [`Value::Nil`] and then satisfies nothing.
pub fn math(op: MathOp, left: &Value<'_>, right: &Value<'_>) -> Value<'static> {
    match (left, right) {
        (Value::Unknown, _) | (_, Value::Unknown) => Value::Unknown,
        (Value::Int(a), Value::Int(b)) => math_int(op, *a, *b).map_or(Value::Nil, Value::Int),
        (Value::Duration(a), Value::Duration(b) | Value::Int(b)) | (Value::Int(a), Value::Duration(b)) => {
            math_int(op, *a, *b).map_or(Value::Nil, Value::Duration)
        }
        _ => match (left.number(), right.number()) {
            (Some(a), Some(b)) => {
                let result = math_float(op, a, b);
                if result.is_finite() { Value::Float(result) } else { Value::Nil }
            }
            _ => Value::Nil,
        },
    }
}

fn math_int(op: MathOp, a: i64, b: i64) -> Option<i64> {
    match op {
        MathOp::Add => a.checked_add(b),
        MathOp::Sub => a.checked_sub(b),
        MathOp::Mul => a.checked_mul(b),
        MathOp::Div => a.checked_div(b),
        MathOp::Mod => a.checked_rem(b),
        MathOp::Pow => u32::try_from(b).ok().and_then(|exponent| a.checked_pow(exponent)),
    }
}

fn math_float(op: MathOp, a: f64, b: f64) -> f64 {
    match op {
        MathOp::Add => a + b,
        MathOp::Sub => a - b,
        MathOp::Mul => a * b,
        MathOp::Div => a / b,
        MathOp::Mod => a % b,
        MathOp::Pow => a.powf(b),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compare(op: CompareOp, left: &Value<'_>, right: &Value<'_>, computed: bool) -> Truth {
        super::compare(op, left, right, computed, &|_| true)
    }

    #[test]
    fn two_long_lists_are_compared_as_long_as_may_be_spent() {
        let (odd, even): (Vec<_>, Vec<_>) = (0..20_000).map(AttrValue::Int).partition(|value| match value {
            AttrValue::Int(int) => int % 2 == 1,
            _ => false,
        });
        let runs = std::cell::Cell::new(0);
        let spend = |cost| {
            runs.set(runs.get() + 1);
            assert!(cost <= 32 * PAIRS_AT_ONCE);
            runs.get() < 50
        };
        let (odd, even) = (Value::List(&odd), Value::List(&even));
        assert_eq!(super::compare(CompareOp::Equal, &odd, &even, false, &spend), Truth::No);
        assert_eq!(runs.get(), 50, "nothing is compared any more");
        assert_eq!(compare(CompareOp::Less, &odd, &even, false), Truth::Yes);
    }

    #[test]
    fn comparison_is_strict_by_type() {
        let one = Value::Int(1);
        assert_eq!(compare(CompareOp::Greater, &Value::Float(1.5), &one, false), Truth::No);
        assert_eq!(compare(CompareOp::Greater, &Value::Float(1.5), &one, true), Truth::Yes);
        assert_eq!(compare(CompareOp::NotEqual, &Value::Nil, &one, false), Truth::No);
        assert_eq!(compare(CompareOp::Equal, &Value::Duration(1), &one, false), Truth::Yes);
    }

    #[test]
    fn a_list_differs_when_no_element_is_equal() {
        let list = [AttrValue::Str("a".into()), AttrValue::Str("b".into())];
        let list = Value::List(&list);
        let holds = |op, text: &'static str| compare(op, &list, &Value::Str(text.into()), false);
        assert_eq!(holds(CompareOp::Equal, "b"), Truth::Yes);
        assert_eq!(holds(CompareOp::NotEqual, "b"), Truth::No);
        assert_eq!(holds(CompareOp::NotEqual, "c"), Truth::Yes);
    }

    #[test]
    fn what_has_no_result_is_nil() {
        assert_eq!(math(MathOp::Div, &Value::Int(7), &Value::Int(2)), Value::Int(3));
        assert_eq!(math(MathOp::Div, &Value::Int(7), &Value::Int(0)), Value::Nil);
        assert_eq!(math(MathOp::Div, &Value::Float(7.0), &Value::Int(0)), Value::Nil);
        assert_eq!(math(MathOp::Mul, &Value::Int(i64::MAX), &Value::Int(2)), Value::Nil);
    }
}
