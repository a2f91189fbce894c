//! What a query means, as parsed. `Display` writes a query back in its canonical form, which
//! parses to the same tree.

use std::fmt;
use std::sync::Arc;

use crate::base::pattern::Regex;
use crate::model::matcher::MatchOp;
use crate::model::matcher::Matcher;

use super::stages::Stage;

/// A query.
#[derive(Clone, Debug)]
pub enum Expr {
    /// One that gives lines.
    Log(LogExpr),
    /// One that gives numbers.
    Metric(MetricExpr),
}

/// A selector and the stages behind it.
#[derive(Clone, Debug)]
pub struct LogExpr {
    /// The selector.
    pub matchers: Vec<Matcher>,
    /// The stages in order.
    pub stages: Vec<Arc<dyn Stage>>,
}

impl LogExpr {
    /// Whether a stage takes numbers out of labels.
    pub fn unwraps(&self) -> bool {
        self.stages.iter().any(|stage| stage.needs().unwraps)
    }
}

/// An aggregation of the lines of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RangeOp {
    /// Lines.
    CountOverTime,
    /// Lines, or the sum of unwrapped values, per second.
    Rate,
    /// Increase of an unwrapped counter per second.
    RateCounter,
    /// Bytes of lines.
    BytesOverTime,
    /// Bytes of lines per second.
    BytesRate,
    /// One where there is no line.
    AbsentOverTime,
    /// Sum of unwrapped values.
    Sum,
    /// Their mean.
    Avg,
    /// The least.
    Min,
    /// The greatest.
    Max,
    /// The first.
    First,
    /// The last.
    Last,
    /// Their standard deviation.
    Stddev,
    /// Their variance.
    Stdvar,
    /// A quantile of them.
    Quantile,
}

/// Names of range aggregations, and what they need: a parameter, unwrapped values.
pub const RANGE_OPS: &[(&str, RangeOp)] = &[
    ("count_over_time", RangeOp::CountOverTime),
    ("rate", RangeOp::Rate),
    ("rate_counter", RangeOp::RateCounter),
    ("bytes_over_time", RangeOp::BytesOverTime),
    ("bytes_rate", RangeOp::BytesRate),
    ("absent_over_time", RangeOp::AbsentOverTime),
    ("sum_over_time", RangeOp::Sum),
    ("avg_over_time", RangeOp::Avg),
    ("min_over_time", RangeOp::Min),
    ("max_over_time", RangeOp::Max),
    ("first_over_time", RangeOp::First),
    ("last_over_time", RangeOp::Last),
    ("stddev_over_time", RangeOp::Stddev),
    ("stdvar_over_time", RangeOp::Stdvar),
    ("quantile_over_time", RangeOp::Quantile),
];

/// An aggregation over series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VectorOp {
    /// Sum.
    Sum,
    /// Mean.
    Avg,
    /// Least.
    Min,
    /// Greatest.
    Max,
    /// How many.
    Count,
    /// Standard deviation.
    Stddev,
    /// Variance.
    Stdvar,
    /// The greatest few series.
    Topk,
    /// The least few series.
    Bottomk,
    /// Ascending order.
    Sort,
    /// Descending order.
    SortDesc,
}

/// Names of vector aggregations.
pub const VECTOR_OPS: &[(&str, VectorOp)] = &[
    ("sum", VectorOp::Sum),
    ("avg", VectorOp::Avg),
    ("min", VectorOp::Min),
    ("max", VectorOp::Max),
    ("count", VectorOp::Count),
    ("stddev", VectorOp::Stddev),
    ("stdvar", VectorOp::Stdvar),
    ("topk", VectorOp::Topk),
    ("bottomk", VectorOp::Bottomk),
    ("sort", VectorOp::Sort),
    ("sort_desc", VectorOp::SortDesc),
];

/// Which labels tell groups apart.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Grouping {
    /// All but the names, instead of the names.
    pub without: bool,
    /// The names.
    pub names: Vec<String>,
}

/// An operator between two expressions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BinaryOp {
    /// `or`
    Or,
    /// `and`
    And,
    /// `unless`
    Unless,
    /// `==`
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
    /// `+`
    Add,
    /// `-`
    Subtract,
    /// `*`
    Multiply,
    /// `/`
    Divide,
    /// `%`
    Modulo,
    /// `^`
    Power,
}

/// How operators are written, and how tightly they bind.
pub const BINARY_OPS: &[(&str, BinaryOp, u8)] = &[
    ("or", BinaryOp::Or, 1),
    ("and", BinaryOp::And, 2),
    ("unless", BinaryOp::Unless, 2),
    ("==", BinaryOp::Equal, 3),
    ("!=", BinaryOp::NotEqual, 3),
    (">", BinaryOp::Greater, 3),
    (">=", BinaryOp::GreaterEqual, 3),
    ("<", BinaryOp::Less, 3),
    ("<=", BinaryOp::LessEqual, 3),
    ("+", BinaryOp::Add, 4),
    ("-", BinaryOp::Subtract, 4),
    ("*", BinaryOp::Multiply, 5),
    ("/", BinaryOp::Divide, 5),
    ("%", BinaryOp::Modulo, 5),
    ("^", BinaryOp::Power, 6),
];

impl BinaryOp {
    /// `or`, `and`, `unless`.
    pub fn is_set(self) -> bool {
        matches!(self, Self::Or | Self::And | Self::Unless)
    }

    /// The comparisons.
    pub fn is_comparison(self) -> bool {
        matches!(self, Self::Equal | Self::NotEqual | Self::Greater | Self::GreaterEqual | Self::Less | Self::LessEqual)
    }

    fn name(self) -> &'static str {
        BINARY_OPS.iter().find(|(_, op, _)| *op == self).map_or("", |(name, _, _)| name)
    }
}

/// Which side may have many series for one of the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Cardinality {
    /// Neither.
    #[default]
    OneToOne,
    /// The left one (`group_left`).
    ManyToOne,
    /// The right one (`group_right`).
    OneToMany,
}

/// How series of two sides find each other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Matching {
    /// `on` instead of `ignoring`.
    pub on: bool,
    /// Labels of `on` or `ignoring`.
    pub names: Vec<String>,
    /// Which side may be many.
    pub cardinality: Cardinality,
    /// Labels taken over from the one side.
    pub include: Vec<String>,
}

/// A query that gives numbers.
#[derive(Clone, Debug)]
pub enum MetricExpr {
    /// `rate({..}[1m])` and the like.
    Range(RangeExpr),
    /// `sum by (x) (..)` and the like.
    Vector {
        /// What is done.
        op: VectorOp,
        /// `k` of topk and bottomk.
        parameter: Option<usize>,
        /// The groups; without, all series are one.
        grouping: Option<Grouping>,
        /// Of what.
        inner: Box<MetricExpr>,
    },
    /// Two sides and an operator.
    Binary {
        /// The operator.
        op: BinaryOp,
        /// A comparison gives 0 and 1 instead of leaving out.
        bool_result: bool,
        /// How series match.
        matching: Matching,
        /// The left side.
        left: Box<MetricExpr>,
        /// The right side.
        right: Box<MetricExpr>,
    },
    /// `label_replace`.
    LabelReplace {
        /// Of what.
        inner: Box<MetricExpr>,
        /// The label to write.
        target: String,
        /// What to write, with `$1`.
        replacement: String,
        /// The label to read.
        source: String,
        /// What it must match.
        pattern: String,
        /// The same, compiled and anchored.
        regex: Regex,
    },
    /// `vector(n)`.
    VectorLiteral(f64),
    /// A number.
    Number(f64),
}

/// A range aggregation.
#[derive(Clone, Debug)]
pub struct RangeExpr {
    /// What is done.
    pub op: RangeOp,
    /// The quantile.
    pub parameter: Option<f64>,
    /// Of which lines.
    pub log: LogExpr,
    /// The window, in nanoseconds; not negative.
    pub range_ns: i64,
    /// How far the window lies in the past, in nanoseconds.
    pub offset_ns: i64,
    /// The groups; without, each label set is its own.
    pub grouping: Option<Grouping>,
}

/// A text between double quotes, as the lexer reads it back.
pub fn quote(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Log(log) => log.fmt(f),
            Self::Metric(metric) => metric.fmt(f),
        }
    }
}

impl fmt::Display for LogExpr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{")?;
        for (at, matcher) in self.matchers.iter().enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            let op = match matcher.op {
                MatchOp::Equal => "=",
                MatchOp::NotEqual => "!=",
                MatchOp::Regex => "=~",
                MatchOp::NotRegex => "!~",
            };
            write!(f, "{comma}{}{op}{}", matcher.name, quote(&matcher.value))?;
        }
        f.write_str("}")?;
        self.stages.iter().try_for_each(|stage| write!(f, " {stage}"))
    }
}

impl fmt::Display for Grouping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", if self.without { "without" } else { "by" }, self.names.join(", "))
    }
}

/// A duration as the language writes it, in whole units from the widest on.
pub struct DurationText(pub i64);

impl fmt::Display for DurationText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(&str, u64); 6] = [
            ("h", 3_600_000_000_000),
            ("m", 60_000_000_000),
            ("s", 1_000_000_000),
            ("ms", 1_000_000),
            ("us", 1_000),
            ("ns", 1),
        ];
        if self.0 == 0 {
            return f.write_str("0s");
        }
        if self.0 < 0 {
            f.write_str("-")?;
        }
        let mut rest = self.0.unsigned_abs();
        for (unit, nanos) in UNITS {
            let count = rest / nanos;
            if count > 0 {
                write!(f, "{count}{unit}")?;
                rest %= nanos;
            }
        }
        Ok(())
    }
}

impl fmt::Display for RangeExpr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = RANGE_OPS.iter().find(|(_, op)| *op == self.op).map_or("", |(name, _)| name);
        write!(f, "{name}(")?;
        if let Some(parameter) = self.parameter {
            write!(f, "{parameter}, ")?;
        }
        write!(f, "{} [{}]", self.log, DurationText(self.range_ns))?;
        if self.offset_ns != 0 {
            write!(f, " offset {}", DurationText(self.offset_ns))?;
        }
        f.write_str(")")?;
        self.grouping.iter().try_for_each(|grouping| write!(f, " {grouping}"))
    }
}

impl fmt::Display for MetricExpr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Range(range) => range.fmt(f),
            Self::Vector { op, parameter, grouping, inner } => {
                let name = VECTOR_OPS.iter().find(|(_, own)| own == op).map_or("", |(name, _)| name);
                f.write_str(name)?;
                grouping.iter().try_for_each(|grouping| write!(f, " {grouping} "))?;
                f.write_str("(")?;
                parameter.iter().try_for_each(|parameter| write!(f, "{parameter}, "))?;
                write!(f, "{inner})")
            }
            Self::Binary { op, bool_result, matching, left, right } => {
                write!(f, "({left} {}{}", op.name(), if *bool_result { " bool" } else { "" })?;
                matching.fmt(f)?;
                write!(f, " {right})")
            }
            Self::LabelReplace { inner, target, replacement, source, pattern, .. } => {
                let [target, replacement, source, pattern] =
                    [target, replacement, source, pattern].map(|text| quote(text));
                write!(f, "label_replace({inner}, {target}, {replacement}, {source}, {pattern})")
            }
            Self::VectorLiteral(value) => write!(f, "vector({value})"),
            Self::Number(value) => value.fmt(f),
        }
    }
}

impl fmt::Display for Matching {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What groups stands behind one of the two only, even where that names nothing.
        if self.on || !self.names.is_empty() || self.cardinality != Cardinality::OneToOne {
            write!(f, " {} ({})", if self.on { "on" } else { "ignoring" }, self.names.join(", "))?;
        }
        match self.cardinality {
            Cardinality::OneToOne => Ok(()),
            Cardinality::ManyToOne => write!(f, " group_left ({})", self.include.join(", ")),
            Cardinality::OneToMany => write!(f, " group_right ({})", self.include.join(", ")),
        }
    }
}
