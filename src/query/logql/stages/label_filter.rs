//! Label filters: `| level="error" and duration>=1s or ip=ip("10.0.0.0/8")`.

use std::fmt;

use super::{ERROR_DETAILS, Needs, Row, Stage};
use crate::model::matcher::MatchOp;
use crate::model::matcher::Matcher;
use crate::query::logql::ast::quote;
use crate::query::logql::ip::IpPattern;
use crate::query::logql::lexer::{parse_bytes, parse_duration};

/// Stages that may stand without another word: `!=` behind one begins a line filter, so that a filter on a
/// label of its name stands in brackets.
pub const WORDLESS: [&str; 4] = ["decolorize", "json", "logfmt", "unpack"];

/// How amounts compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// `=` and `==`
    Equal,
    /// `!=`
    NotEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterEqual,
    /// `<`
    Less,
    /// `<=`
    LessEqual,
}

impl Comparison {
    /// The comparison that a sign writes.
    pub fn of(sign: &str) -> Option<Self> {
        Some(match sign {
            "=" | "==" => Self::Equal,
            "!=" => Self::NotEqual,
            ">" => Self::Greater,
            ">=" => Self::GreaterEqual,
            "<" => Self::Less,
            "<=" => Self::LessEqual,
            _ => return None,
        })
    }

    fn sign(self) -> &'static str {
        match self {
            Self::Equal => "==",
            Self::NotEqual => "!=",
            Self::Greater => ">",
            Self::GreaterEqual => ">=",
            Self::Less => "<",
            Self::LessEqual => "<=",
        }
    }

    #[expect(clippy::float_cmp, reason = "equality of amounts is what the query asks for")]
    fn holds(self, left: f64, right: f64) -> bool {
        match self {
            Self::Equal => left == right,
            Self::NotEqual => left != right,
            Self::Greater => left > right,
            Self::GreaterEqual => left >= right,
            Self::Less => left < right,
            Self::LessEqual => left <= right,
        }
    }
}

/// In which unit an amount is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// A plain number.
    Number,
    /// A duration; nanoseconds.
    Duration,
    /// Bytes.
    Bytes,
}

/// A condition on labels.
#[derive(Clone, Debug)]
pub enum LabelFilter {
    /// On a text.
    Text(Matcher),
    /// On an amount.
    Amount {
        /// The label.
        label: String,
        /// How it compares.
        comparison: Comparison,
        /// In which unit.
        unit: Unit,
        /// With what.
        value: f64,
        /// How that is written.
        text: String,
    },
    /// On an address.
    Ip {
        /// The label.
        label: String,
        /// `!=` instead of `=`.
        negated: bool,
        /// The addresses.
        pattern: IpPattern,
        /// How they are written.
        text: String,
    },
    /// All of them.
    And(Vec<LabelFilter>),
    /// Any of them.
    Or(Vec<LabelFilter>),
}

impl LabelFilter {
    fn holds(&self, row: &mut Row<'_>) -> bool {
        if !row.spend(32 + row.parsed.len()) {
            return false;
        }
        match self {
            Self::Text(matcher) => {
                matcher.name != ERROR_DETAILS && matcher.matches(row.get(&matcher.name).unwrap_or_default())
            }
            Self::Amount { label, comparison, unit, value, .. } => {
                // Lines with an error can be filtered by text only.
                if row.error.is_some() {
                    return true;
                }
                let Some(text) = row.get(label).filter(|text| !text.is_empty()) else { return false };
                let amount = match unit {
                    Unit::Number => text.parse().ok(),
                    Unit::Duration => parse_duration(text).map(|nanos| nanos as f64),
                    Unit::Bytes => parse_bytes(text),
                };
                match amount {
                    Some(amount) => comparison.holds(amount, *value),
                    None => {
                        row.fail("LabelFilterErr", || format!("the value of {label} is no amount to compare with"));
                        true
                    }
                }
            }
            Self::Ip { label, negated, pattern, .. } => match row.get(label) {
                _ if row.error.is_some() => true,
                Some(text) => pattern.is(text) != *negated,
                None => *negated,
            },
            Self::And(filters) => filters.iter().all(|filter| filter.holds(row)),
            Self::Or(filters) => filters.iter().any(|filter| filter.holds(row)),
        }
    }

    fn may_fail(&self) -> bool {
        match self {
            Self::Text(_) | Self::Ip { .. } => false,
            Self::Amount { .. } => true,
            Self::And(filters) | Self::Or(filters) => filters.iter().any(Self::may_fail),
        }
    }

    /// The label that its text begins with, unless that is a bracket.
    fn first_label(&self) -> Option<&str> {
        match self {
            Self::Text(matcher) => Some(&matcher.name),
            Self::Amount { label, .. } | Self::Ip { label, .. } => Some(label),
            Self::And(filters) | Self::Or(filters) => match filters.first()? {
                Self::And(_) | Self::Or(_) => None,
                first => first.first_label(),
            },
        }
    }

    fn write(&self, f: &mut fmt::Formatter<'_>, inner: bool) -> fmt::Result {
        let (filters, word) = match self {
            Self::Text(matcher) => {
                let op = match matcher.op {
                    MatchOp::Equal => "=",
                    MatchOp::NotEqual => "!=",
                    MatchOp::Regex => "=~",
                    MatchOp::NotRegex => "!~",
                };
                return write!(f, "{}{op}{}", matcher.name, quote(&matcher.value));
            }
            Self::Amount { label, comparison, text, .. } => return write!(f, "{label}{}{text}", comparison.sign()),
            Self::Ip { label, negated, text, .. } => {
                return write!(f, "{label}{}ip({})", if *negated { "!=" } else { "=" }, quote(text));
            }
            Self::And(filters) => (filters, " and "),
            Self::Or(filters) => (filters, " or "),
        };
        f.write_str(if inner { "(" } else { "" })?;
        for (at, filter) in filters.iter().enumerate() {
            f.write_str(if at == 0 { "" } else { word })?;
            filter.write(f, true)?;
        }
        f.write_str(if inner { ")" } else { "" })
    }
}

impl Stage for LabelFilter {
    fn apply<'a>(&'a self, row: &mut Row<'a>) -> bool {
        self.holds(row)
    }

    fn needs(&self) -> Needs {
        Needs { labels: true, changes_labels: self.may_fail(), ..Needs::default() }
    }
}

impl fmt::Display for LabelFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first_label().is_some_and(|label| WORDLESS.contains(&label)) {
            f.write_str("| (")?;
            self.write(f, false)?;
            return f.write_str(")");
        }
        f.write_str("| ")?;
        self.write(f, false)
    }
}

#[cfg(test)]
mod tests {
    use crate::query::logql::stages::testing::{labels, outcome};

    fn keeps(filter: &str, line: &str) -> bool {
        outcome(&format!("| logfmt {filter}"), line).is_some()
    }

    #[test]
    fn amounts_compare_in_their_unit() {
        assert!(keeps("| took>=59ms", "took=0.1s") && !keeps("| took>=59ms", "took=10ms"));
        assert!(keeps("| size<1MB", "size=1KiB") && keeps("| n!=3", "n=4") && keeps("| n=-3", "n=-3"));
    }

    #[test]
    fn a_missing_amount_drops_the_line_and_a_strange_one_marks_it() {
        assert!(!keeps("| n!=3", "x=1"));
        assert!(labels("| logfmt | n>3", "n=abc").contains("__error__=LabelFilterErr"));
    }

    #[test]
    fn and_binds_tighter_than_or() {
        let filter = "| a=\"1\" or b=\"1\" and c=\"1\"";
        assert!(keeps(filter, "a=1") && keeps(filter, "b=1 c=1") && !keeps(filter, "b=1"));
        assert!(!keeps("| (a=\"1\" or b=\"1\"), c=\"1\"", "a=1"));
        assert!(keeps("| a=\"1\" OR trace_id=\"abc\"", "x=1"));
    }

    #[test]
    fn details_never_match() {
        assert!(outcome("| json | __error_details__!=\"\"", "no").is_none());
        assert!(outcome("| json | __error__=\"JSONParserErr\"", "no").is_some());
    }
}
