//! The syntax tree of TraceQL. Its depth is bounded by its own constructors (`nest`), so walks may
//! recurse.

use super::nest::{Depth, List, Nested, TooDeep};
use super::op::{CompareOp, MathOp};
use super::value::Value;
use crate::base::pattern::Regex;
use crate::store::AttrScope;

/// A property of spans or traces that is no attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Intrinsic {
    /// `name`
    Name,
    /// `status`
    Status,
    /// `statusMessage`
    StatusMessage,
    /// `kind`
    Kind,
    /// `duration`
    Duration,
    /// `span:id`
    SpanId,
    /// `span:parentID`
    ParentId,
    /// `childCount`
    ChildCount,
    /// `traceDuration`
    TraceDuration,
    /// `trace:id`
    TraceId,
    /// `rootName`
    RootName,
    /// `rootServiceName`
    RootService,
    /// `nestedSetLeft`
    NestedSetLeft,
    /// `nestedSetRight`
    NestedSetRight,
    /// `nestedSetParent`
    NestedSetParent,
    /// `event:name`
    EventName,
    /// `event:timeSinceStart`
    EventTimeSinceStart,
    /// `link:traceID`
    LinkTraceId,
    /// `link:spanID`
    LinkSpanId,
    /// `instrumentation:name`
    ScopeName,
    /// `instrumentation:version`
    ScopeVersion,
}

/// All spellings of intrinsics, the bare ones first.
pub const INTRINSICS: &[(&str, Intrinsic)] = &[
    ("duration", Intrinsic::Duration),
    ("kind", Intrinsic::Kind),
    ("name", Intrinsic::Name),
    ("status", Intrinsic::Status),
    ("statusMessage", Intrinsic::StatusMessage),
    ("childCount", Intrinsic::ChildCount),
    ("rootName", Intrinsic::RootName),
    ("rootServiceName", Intrinsic::RootService),
    ("traceDuration", Intrinsic::TraceDuration),
    ("nestedSetLeft", Intrinsic::NestedSetLeft),
    ("nestedSetParent", Intrinsic::NestedSetParent),
    ("nestedSetRight", Intrinsic::NestedSetRight),
    ("span:childCount", Intrinsic::ChildCount),
    ("span:duration", Intrinsic::Duration),
    ("span:id", Intrinsic::SpanId),
    ("span:kind", Intrinsic::Kind),
    ("span:name", Intrinsic::Name),
    ("span:parentID", Intrinsic::ParentId),
    ("span:status", Intrinsic::Status),
    ("span:statusMessage", Intrinsic::StatusMessage),
    ("trace:duration", Intrinsic::TraceDuration),
    ("trace:id", Intrinsic::TraceId),
    ("trace:rootName", Intrinsic::RootName),
    ("trace:rootService", Intrinsic::RootService),
    ("event:name", Intrinsic::EventName),
    ("event:timeSinceStart", Intrinsic::EventTimeSinceStart),
    ("link:spanID", Intrinsic::LinkSpanId),
    ("link:traceID", Intrinsic::LinkTraceId),
    ("instrumentation:name", Intrinsic::ScopeName),
    ("instrumentation:version", Intrinsic::ScopeVersion),
];

/// What a field reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FieldKind {
    /// An attribute; without a scope a span's value hides its resource's.
    Attr {
        /// Where it lives.
        scope: Option<AttrScope>,
        /// Its name.
        name: String,
    },
    /// An intrinsic.
    Intrinsic(Intrinsic),
}

/// A field as a query names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// What it reads.
    pub kind: FieldKind,
    /// The field as written, which is also its name in series and span sets.
    pub text: String,
}

impl Field {
    /// The intrinsic it is, if it is one.
    pub fn intrinsic(&self) -> Option<Intrinsic> {
        match self.kind {
            FieldKind::Intrinsic(intrinsic) => Some(intrinsic),
            FieldKind::Attr { .. } => None,
        }
    }

    /// The name that a found span shows it by: attributes without their scope.
    pub fn key(&self) -> &str {
        match &self.kind {
            FieldKind::Attr { name, .. } => name,
            FieldKind::Intrinsic(_) => &self.text,
        }
    }

    /// Whether it has a value for each event of a span.
    pub fn of_event(&self) -> bool {
        match &self.kind {
            FieldKind::Attr { scope, .. } => *scope == Some(AttrScope::Event),
            FieldKind::Intrinsic(own) => matches!(own, Intrinsic::EventName | Intrinsic::EventTimeSinceStart),
        }
    }

    /// Whether it has a value for each link of a span.
    pub fn of_link(&self) -> bool {
        match &self.kind {
            FieldKind::Attr { scope, .. } => *scope == Some(AttrScope::Link),
            FieldKind::Intrinsic(own) => matches!(own, Intrinsic::LinkTraceId | Intrinsic::LinkSpanId),
        }
    }

    /// Whether its value is known only when the whole trace is.
    pub fn needs_trace(&self) -> bool {
        matches!(
            self.intrinsic(),
            Some(
                Intrinsic::ChildCount
                    | Intrinsic::TraceDuration
                    | Intrinsic::RootName
                    | Intrinsic::RootService
                    | Intrinsic::NestedSetLeft
                    | Intrinsic::NestedSetRight
                    | Intrinsic::NestedSetParent
            )
        )
    }
}

/// An expression over one span.
#[derive(Clone, Debug)]
pub enum Expr {
    /// A literal.
    Literal(Value<'static>),
    /// A field.
    Field(Field),
    /// `!x`
    Not(Nested<Expr>),
    /// `-x`
    Negate(Nested<Expr>),
    /// `a && b && c`; at least one.
    And(List<Expr>),
    /// `a || b || c`; at least one.
    Or(List<Expr>),
    /// `a + b` and the like.
    Math(MathOp, Nested<Expr>, Nested<Expr>),
    /// `a = b` and the like.
    Compare {
        /// How.
        op: CompareOp,
        /// The left side.
        left: Nested<Expr>,
        /// The right side.
        right: Nested<Expr>,
        /// Whether a side is computed, so that integers and floats compare by value.
        computed: bool,
    },
    /// `a =~ "b"`, anchored on both sides.
    Regex {
        /// The left side.
        left: Nested<Expr>,
        /// The pattern.
        pattern: Regex,
        /// Whether it is `!~`.
        negated: bool,
    },
    /// `a != nil`, or with `negated` `a = nil`.
    Exists {
        /// The field.
        field: Field,
        /// Whether it must be missing.
        negated: bool,
    },
    /// A tag of the search before TraceQL: the field's value, as text, is or contains this.
    Text {
        /// The fields, any of which may match.
        fields: Vec<Field>,
        /// The text.
        text: String,
        /// Whether a part of the value is enough.
        part: bool,
    },
}

impl Depth for Expr {
    fn below(&self) -> usize {
        match self {
            Self::Literal(_) | Self::Field(_) | Self::Exists { .. } | Self::Text { .. } => 0,
            Self::Not(one) | Self::Negate(one) | Self::Regex { left: one, .. } => one.levels(),
            Self::And(all) | Self::Or(all) => all.levels(),
            Self::Math(_, left, right) | Self::Compare { left, right, .. } => left.levels().max(right.levels()),
        }
    }
}

impl Expr {
    /// `self && right`, side by side with what `self` joins already.
    ///
    /// # Errors
    /// [`TooDeep`].
    pub fn and(self, right: Self) -> Result<Self, TooDeep> {
        match self {
            Self::And(mut all) => all.push(right).map(|()| Self::And(all)),
            left => List::new(vec![left, right]).map(Self::And),
        }
    }

    /// `self || right`, side by side with what `self` joins already.
    ///
    /// # Errors
    /// [`TooDeep`].
    pub fn or(self, right: Self) -> Result<Self, TooDeep> {
        match self {
            Self::Or(mut any) => any.push(right).map(|()| Self::Or(any)),
            left => List::new(vec![left, right]).map(Self::Or),
        }
    }

    /// `left = right` and the like, where no side is computed.
    ///
    /// # Errors
    /// [`TooDeep`].
    pub fn compare(op: CompareOp, left: Self, right: Self) -> Result<Self, TooDeep> {
        Ok(Self::Compare { op, left: Nested::new(left)?, right: Nested::new(right)?, computed: false })
    }

    /// Visits every field that the expression names, in order.
    pub fn each_field<'a>(&'a self, visit: &mut dyn FnMut(&'a Field)) {
        match self {
            Self::Literal(_) => {}
            Self::Field(field) | Self::Exists { field, .. } => visit(field),
            Self::Text { fields, .. } => fields.iter().for_each(visit),
            Self::Not(one) | Self::Negate(one) | Self::Regex { left: one, .. } => one.each_field(visit),
            Self::And(parts) | Self::Or(parts) => parts.iter().for_each(|part| part.each_field(visit)),
            Self::Math(_, left, right) | Self::Compare { left, right, .. } => {
                left.each_field(visit);
                right.each_field(visit);
            }
        }
    }

    /// Whether some field of the expression satisfies `test`.
    pub fn any_field(&self, test: impl Fn(&Field) -> bool) -> bool {
        let mut found = false;
        self.each_field(&mut |field| found |= test(field));
        found
    }
}

/// How spans of two sets relate; the result is spans of the right side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relation {
    /// `>>`: right spans below a left one.
    Descendant,
    /// `>`: right spans directly below a left one.
    Child,
    /// `<<`: right spans above a left one.
    Ancestor,
    /// `<`: right spans directly above a left one.
    Parent,
    /// `~`: right spans with a left one under the same parent.
    Sibling,
}

/// What a structural operator keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// Right spans in the relation.
    Right,
    /// `!`: right spans not in the relation.
    NotRight,
    /// `&`: spans of both sides in the relation.
    Both,
}

/// An expression over sets of spans.
#[derive(Clone, Debug)]
pub enum SpansetExpr {
    /// `{ expression }`; `None` is `{}`.
    Filter(Option<Expr>),
    /// `a && b`: spans of both, when both have some.
    And(Nested<SpansetExpr>, Nested<SpansetExpr>),
    /// `a || b`: spans of either.
    Or(Nested<SpansetExpr>, Nested<SpansetExpr>),
    /// `a >> b` and the like.
    Structural(Relation, Keep, Nested<SpansetExpr>, Nested<SpansetExpr>),
    /// `( a | b )`
    Pipeline(List<Stage>),
}

impl Depth for SpansetExpr {
    fn below(&self) -> usize {
        match self {
            Self::Filter(_) => 0,
            Self::And(left, right) | Self::Or(left, right) | Self::Structural(_, _, left, right) => {
                left.levels().max(right.levels())
            }
            Self::Pipeline(stages) => stages.levels(),
        }
    }
}

/// What an aggregate computes of a span set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aggregate {
    /// `count()`
    Count,
    /// `min(x)`
    Min,
    /// `max(x)`
    Max,
    /// `avg(x)`
    Avg,
    /// `sum(x)`
    Sum,
}

/// A step of a pipeline over span sets.
#[derive(Clone, Debug)]
pub enum Stage {
    /// A spanset expression.
    Spanset(SpansetExpr),
    /// `avg(x) > 1s`: keeps span sets.
    Scalar {
        /// What is computed.
        aggregate: Aggregate,
        /// Of what; `None` for `count()`.
        of: Option<Expr>,
        /// The aggregate as written.
        text: String,
        /// How it is compared.
        op: CompareOp,
        /// With what.
        with: Value<'static>,
    },
    /// `by(x)`: splits span sets.
    By {
        /// The key.
        expr: Expr,
        /// `by(x)` as written.
        text: String,
    },
    /// `select(a, b)`: shows fields.
    Select(Vec<Field>),
    /// `coalesce()`: joins span sets.
    Coalesce,
}

impl Depth for Stage {
    fn below(&self) -> usize {
        match self {
            Self::Spanset(expr) => expr.below(),
            Self::Scalar { .. } | Self::By { .. } | Self::Select(_) | Self::Coalesce => 0,
        }
    }
}

/// What a metrics query computes over time.
#[derive(Clone, Debug)]
pub enum MetricFunction {
    /// `rate()`
    Rate,
    /// `count_over_time()`
    Count,
    /// `min_over_time(x)`
    Min(Field),
    /// `max_over_time(x)`
    Max(Field),
    /// `avg_over_time(x)`
    Avg(Field),
    /// `sum_over_time(x)`
    Sum(Field),
    /// `quantile_over_time(x, 0.9, ...)`
    Quantile(Field, Vec<f64>),
    /// `histogram_over_time(x)`
    Histogram(Field),
    /// `compare({selection}, top, start, end)`
    Compare {
        /// What is selected; the rest is the baseline.
        selection: Option<Expr>,
        /// Values shown for each attribute.
        top: usize,
        /// Selected spans start in this range, in nanoseconds.
        between: Option<(i64, i64)>,
    },
}

impl MetricFunction {
    /// Its name in the language.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Rate => "rate",
            Self::Count => "count_over_time",
            Self::Min(_) => "min_over_time",
            Self::Max(_) => "max_over_time",
            Self::Avg(_) => "avg_over_time",
            Self::Sum(_) => "sum_over_time",
            Self::Quantile(..) => "quantile_over_time",
            Self::Histogram(_) => "histogram_over_time",
            Self::Compare { .. } => "compare",
        }
    }

    /// The field it reads.
    pub fn field(&self) -> Option<&Field> {
        match self {
            Self::Rate | Self::Count | Self::Compare { .. } => None,
            Self::Min(field)
            | Self::Max(field)
            | Self::Avg(field)
            | Self::Sum(field)
            | Self::Quantile(field, _)
            | Self::Histogram(field) => Some(field),
        }
    }
}

/// What is done with the series of a metrics query.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum SecondStage {
    /// `topk(n)`
    TopK(usize),
    /// `bottomk(n)`
    BottomK(usize),
    /// `> 5`: keeps samples.
    Filter(CompareOp, f64),
}

/// The metrics part of a query.
#[derive(Clone, Debug)]
pub struct Metric {
    /// What is computed.
    pub function: MetricFunction,
    /// By which fields series are told apart.
    pub by: Vec<Field>,
    /// What follows.
    pub then: Vec<SecondStage>,
}

/// A whole query.
#[derive(Clone, Debug)]
pub struct Query {
    /// The pipeline over span sets, at least one stage.
    pub stages: Vec<Stage>,
    /// The metrics part, if it is a metrics query.
    pub metric: Option<Metric>,
}

impl Query {
    /// The query `{ filter }`.
    pub fn of_filter(filter: Option<Expr>) -> Self {
        Self { stages: vec![Stage::Spanset(SpansetExpr::Filter(filter))], metric: None }
    }

    /// The filter, when the query's pipeline is nothing else.
    pub fn only_filter(&self) -> Option<Option<&Expr>> {
        match self.stages.as_slice() {
            [Stage::Spanset(SpansetExpr::Filter(filter))] => Some(filter.as_ref()),
            _ => None,
        }
    }
}
