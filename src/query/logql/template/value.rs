//! Values of templates, and how Go prints and compares them.

use std::cmp::Ordering;

use crate::base::float_text;

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Nil,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    List(Vec<Value>),
    Map(Vec<(String, Value)>),
    /// Nanoseconds since the Unix epoch.
    Time(i64),
}

impl Value {
    /// As Go prints it.
    pub(super) fn print(&self) -> String {
        match self {
            Self::Nil => "<no value>".to_owned(),
            Self::Bool(value) => value.to_string(),
            Self::Int(value) => value.to_string(),
            Self::Float(value) => print_float(*value),
            Self::Text(text) => text.clone(),
            Self::List(items) => {
                let items: Vec<String> = items.iter().map(Self::print).collect();
                format!("[{}]", items.join(" "))
            }
            Self::Map(members) => {
                let members: Vec<String> =
                    members.iter().map(|(name, value)| format!("{name}:{}", value.print())).collect();
                format!("map[{}]", members.join(" "))
            }
            Self::Time(nanos) => super::date::format(*nanos, "2006-01-02 15:04:05.999999999 -0700 MST"),
        }
    }

    /// Whether `if` takes it for true.
    pub(super) fn truth(&self) -> bool {
        match self {
            Self::Nil => false,
            Self::Bool(value) => *value,
            Self::Int(value) => *value != 0,
            Self::Float(value) => *value != 0.0,
            Self::Text(text) => !text.is_empty(),
            Self::List(items) => !items.is_empty(),
            Self::Map(members) => !members.is_empty(),
            Self::Time(_) => true,
        }
    }

    /// As a whole number: fractions are cut off, texts that are none are zero.
    #[expect(clippy::cast_possible_truncation, reason = "saturates, which is what a bound needs")]
    pub(super) fn int(&self) -> i64 {
        match self {
            Self::Bool(value) => i64::from(*value),
            Self::Int(value) => *value,
            Self::Float(value) => *value as i64,
            Self::Text(text) => text.trim().parse().unwrap_or(0),
            Self::Time(nanos) => nanos.div_euclid(1_000_000_000),
            Self::Nil | Self::List(_) | Self::Map(_) => 0,
        }
    }

    /// As a number; texts that are none are zero.
    pub(super) fn float(&self) -> f64 {
        match self {
            Self::Float(value) => *value,
            Self::Text(text) => text.trim().parse().unwrap_or(0.0),
            other => other.int() as f64,
        }
    }

    /// How two values of one kind are ordered; `None` when their kinds differ.
    pub(super) fn order(&self, other: &Self) -> Option<Ordering> {
        match (self, other) {
            (Self::Text(a), Self::Text(b)) => Some(a.cmp(b)),
            (Self::Bool(a), Self::Bool(b)) => Some(a.cmp(b)),
            (Self::Int(a), Self::Int(b)) | (Self::Time(a), Self::Time(b)) => Some(a.cmp(b)),
            (Self::Int(_) | Self::Float(_), Self::Int(_) | Self::Float(_)) => self.float().partial_cmp(&other.float()),
            (Self::Nil, Self::Nil) => Some(Ordering::Equal),
            _ => None,
        }
    }

    /// Bytes that printing takes, roughly.
    pub(super) fn size(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::List(items) => items.iter().map(|item| item.size() + 32).sum(),
            Self::Map(members) => members.iter().map(|(name, value)| name.len() + value.size() + 32).sum(),
            Self::Nil | Self::Bool(_) | Self::Int(_) | Self::Float(_) | Self::Time(_) => 16,
        }
    }
}

/// The shortest text, with an exponent where Go writes one.
pub(super) fn print_float(value: f64) -> String {
    float_text::text(value, float_text::PRINTED)
}
