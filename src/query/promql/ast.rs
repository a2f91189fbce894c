//! The tree of a PromQL query, as evaluation sees it: durations are numbers, times are known,
//! functions are names of the table. `parse` makes it; nothing here knows which parser did.

use crate::model::matcher::Matcher;

/// A place in the query, in bytes; annotations show it as line and column.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pos(pub usize);

/// A node of the tree and where it begins.
#[derive(Clone, Debug)]
pub struct Expr {
    /// What it is.
    pub kind: Kind,
    /// Where its text begins.
    pub pos: Pos,
}

/// The kinds of nodes.
#[derive(Clone, Debug)]
pub enum Kind {
    /// A number; durations outside of ranges are seconds.
    Number(f64),
    /// A string.
    String(String),
    /// An instant vector selector.
    Vector(Selector),
    /// A range vector selector and its range in milliseconds.
    Matrix(Selector, i64),
    /// A subquery.
    Subquery(Box<Subquery>),
    /// A function call.
    Call(Call),
    /// An aggregation.
    Aggregate(Box<Aggregate>),
    /// A binary operation.
    Binary(Box<Binary>),
    /// The negative of its operand.
    Negate(Box<Expr>),
    /// Parentheses.
    Paren(Box<Expr>),
}

/// What `@` fixes a selector to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    /// The start of the query's range.
    Start,
    /// Its end.
    End,
    /// A time in milliseconds.
    Time(i64),
}

/// How a range takes in samples at its edges.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Edges {
    /// As they are.
    #[default]
    Plain,
    /// With the last sample before the range in place of its start.
    Anchored,
    /// With values at both edges, interpolated between neighbours.
    Smoothed,
}

/// Which series, and at what time relative to the step.
#[derive(Clone, Debug)]
pub struct Selector {
    /// All must hold, the metric's name included.
    pub matchers: Vec<Matcher>,
    /// Milliseconds back from the step; negative is forth.
    pub offset: i64,
    /// A fixed time.
    pub at: Option<At>,
    /// How the range's edges are treated.
    pub edges: Edges,
    /// Whether of histograms only counts and sums are wanted, and what says whether they were reset.
    pub counts_only: bool,
    /// Whether the first matcher is the name that stands before the braces, or alone in quotes.
    pub named: bool,
    /// Durations that are not written as one.
    pub written: Written,
}

/// The words of durations that are written as arithmetic.
#[derive(Clone, Debug, Default)]
pub struct Written {
    /// Of the range.
    pub range: Option<String>,
    /// Of a subquery's step.
    pub step: Option<String>,
    /// After `offset`.
    pub offset: Option<String>,
}

/// `expr[range:step] @ at offset offset`
#[derive(Clone, Debug)]
pub struct Subquery {
    /// What is evaluated.
    pub expr: Expr,
    /// How far back, in milliseconds.
    pub range: i64,
    /// How often, in milliseconds; `None` is the default interval.
    pub step: Option<i64>,
    /// Milliseconds back from the step.
    pub offset: i64,
    /// A fixed time.
    pub at: Option<At>,
    /// Durations that are not written as one.
    pub written: Written,
}

/// A function and its arguments.
#[derive(Clone, Debug)]
pub struct Call {
    /// Its name, which the table of functions has.
    pub function: &'static str,
    /// What it is called with.
    pub args: Vec<Expr>,
}

/// Ways to aggregate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are PromQL's")]
pub enum AggregateOp {
    Sum,
    Avg,
    Count,
    Min,
    Max,
    Group,
    Stddev,
    Stdvar,
    Topk,
    Bottomk,
    CountValues,
    Quantile,
    Limitk,
    LimitRatio,
}

impl AggregateOp {
    /// As it is written.
    pub fn text(self) -> &'static str {
        match self {
            Self::Sum => "sum",
            Self::Avg => "avg",
            Self::Count => "count",
            Self::Min => "min",
            Self::Max => "max",
            Self::Group => "group",
            Self::Stddev => "stddev",
            Self::Stdvar => "stdvar",
            Self::Topk => "topk",
            Self::Bottomk => "bottomk",
            Self::CountValues => "count_values",
            Self::Quantile => "quantile",
            Self::Limitk => "limitk",
            Self::LimitRatio => "limit_ratio",
        }
    }
}

/// `op by (labels) (param, expr)`
#[derive(Clone, Debug)]
pub struct Aggregate {
    /// How.
    pub op: AggregateOp,
    /// What.
    pub expr: Expr,
    /// The parameter of those that take one.
    pub param: Option<Expr>,
    /// Label names of `by` or `without`.
    pub labels: Vec<String>,
    /// Whether `labels` are dropped rather than kept.
    pub without: bool,
}

/// Binary operators.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are PromQL's")]
pub enum BinaryOp {
    Add,
    Sub,
    Mul,
    Div,
    Mod,
    Pow,
    Atan2,
    Equal,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
    /// `</`: keeps the observations below.
    TrimUpper,
    /// `>/`: keeps the observations above.
    TrimLower,
    And,
    Or,
    Unless,
}

impl BinaryOp {
    /// As it is written.
    pub fn text(self) -> &'static str {
        match self {
            Self::Add => "+",
            Self::Sub => "-",
            Self::Mul => "*",
            Self::Div => "/",
            Self::Mod => "%",
            Self::Pow => "^",
            Self::Atan2 => "atan2",
            Self::Equal => "==",
            Self::NotEqual => "!=",
            Self::Less => "<",
            Self::LessEqual => "<=",
            Self::Greater => ">",
            Self::GreaterEqual => ">=",
            Self::TrimUpper => "</",
            Self::TrimLower => ">/",
            Self::And => "and",
            Self::Or => "or",
            Self::Unless => "unless",
        }
    }

    /// Whether it compares.
    pub fn is_comparison(self) -> bool {
        matches!(self, Self::Equal | Self::NotEqual | Self::Less | Self::LessEqual | Self::Greater | Self::GreaterEqual)
    }

    /// Whether it works on sets.
    pub fn is_set(self) -> bool {
        matches!(self, Self::And | Self::Or | Self::Unless)
    }
}

/// How many series of one side match one of the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cardinality {
    /// One to one.
    OneToOne,
    /// `group_left`
    ManyToOne,
    /// `group_right`
    OneToMany,
}

/// How series of two sides find each other.
#[derive(Clone, Debug)]
pub struct Matching {
    /// One to one, or which side has many.
    pub cardinality: Cardinality,
    /// Whether `labels` are those compared (`on`) or those not compared (`ignoring`).
    pub on: bool,
    /// The labels.
    pub labels: Vec<String>,
    /// Labels of the one side that the result takes over.
    pub include: Vec<String>,
    /// The value for a missing left side.
    pub fill_left: Option<f64>,
    /// The value for a missing right side.
    pub fill_right: Option<f64>,
}

/// `left op right`
#[derive(Clone, Debug)]
pub struct Binary {
    /// The operator.
    pub op: BinaryOp,
    /// Left operand.
    pub left: Expr,
    /// Right operand.
    pub right: Expr,
    /// Whether a comparison gives 0 and 1 rather than filtering.
    pub bool: bool,
    /// How series match.
    pub matching: Matching,
}

impl Expr {
    /// The node without parentheses around it.
    pub fn bare(&self) -> &Expr {
        let mut bare = self;
        while let Kind::Paren(inner) = &bare.kind {
            bare = inner;
        }
        bare
    }
}
