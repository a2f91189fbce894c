//! Evaluates an expression on one span, with or without its whole trace. Without it, what only the
//! trace can tell is unknown, and logic has three values. What comes out once the work was stopped
//! (`Pace`) means nothing: whoever asks looks at the pace afterwards.

use std::borrow::Cow;

use super::ast::{Expr, Field, FieldKind, Intrinsic};
use super::op::{CompareOp, MathOp};
use super::value::{Truth, Value, compare, math};
use super::view::TraceView;
use crate::base::pattern::Regex;
use crate::model::span::{Attrs, Span, attr};
use crate::query::pace::Pace;
use crate::store::AttrScope;

/// A span, and what is known around it.
#[derive(Clone, Copy, Debug)]
pub struct Around<'a> {
    /// The span.
    pub span: &'a Span,
    /// Its trace and its place in it.
    pub trace: Option<(&'a TraceView, usize)>,
    /// The one event that fields of events read; `None` reads all.
    event: Option<usize>,
    /// The one link that fields of links read; `None` reads all.
    link: Option<usize>,
    /// Where work is counted.
    pace: Option<&'a Pace<'a>>,
}

impl<'a> Around<'a> {
    /// A span alone.
    pub fn alone(span: &'a Span) -> Self {
        Self { span, trace: None, event: None, link: None, pace: None }
    }

    /// A span of a whole trace.
    pub fn within(trace: &'a TraceView, at: usize) -> Self {
        Self { span: &trace.spans[at], trace: Some((trace, at)), event: None, link: None, pace: None }
    }

    /// The same, with its work counted.
    pub fn paced(self, pace: &'a Pace<'a>) -> Self {
        Self { pace: Some(pace), ..self }
    }

    /// Counts work that costs as much as looking at so many bytes; whether it may be done.
    fn spend(&self, cost: usize) -> bool {
        self.pace.is_none_or(|pace| pace.spend(cost))
    }

    /// The value of a field.
    pub fn field(&self, field: &Field) -> Value<'a> {
        match &field.kind {
            FieldKind::Attr { scope, name } => self.attribute(*scope, name),
            FieldKind::Intrinsic(intrinsic) => self.intrinsic(*intrinsic),
        }
    }

    fn attribute(&self, scope: Option<AttrScope>, name: &str) -> Value<'a> {
        let span = self.span;
        let of = |attrs: &'a Attrs| attr(attrs, name).map_or(Value::Nil, Value::of_attr);
        match scope {
            None => match of(&span.attrs) {
                Value::Nil => of(&span.resource.attrs),
                value => value,
            },
            Some(AttrScope::Span) => of(&span.attrs),
            Some(AttrScope::Resource) => of(&span.resource.attrs),
            Some(AttrScope::Instrumentation) => of(&span.scope.attrs),
            Some(AttrScope::Event) => each(&span.events, self.event, |event| of(&event.attrs)),
            Some(AttrScope::Link) => each(&span.links, self.link, |link| of(&link.attrs)),
        }
    }

    fn intrinsic(&self, intrinsic: Intrinsic) -> Value<'a> {
        let span = self.span;
        match intrinsic {
            Intrinsic::Name => borrowed(&span.name),
            Intrinsic::Status => Value::Status(span.status),
            Intrinsic::StatusMessage => borrowed(&span.status_message),
            Intrinsic::Kind => Value::Kind(span.kind),
            Intrinsic::Duration => Value::Duration(span.duration_ns()),
            Intrinsic::SpanId => owned(span.span_id),
            Intrinsic::ParentId => match span.parent_id.is_none() {
                true => borrowed(""),
                false => owned(span.parent_id),
            },
            Intrinsic::TraceId => owned(span.trace_id),
            Intrinsic::ScopeName => borrowed(&span.scope.name),
            Intrinsic::ScopeVersion => borrowed(&span.scope.version),
            Intrinsic::EventName => each(&span.events, self.event, |event| borrowed(&event.name)),
            Intrinsic::EventTimeSinceStart => {
                each(&span.events, self.event, |event| Value::Duration(event.t.saturating_sub(span.start)))
            }
            Intrinsic::LinkTraceId => each(&span.links, self.link, |link| owned(link.trace_id)),
            Intrinsic::LinkSpanId => each(&span.links, self.link, |link| owned(link.span_id)),
            Intrinsic::ChildCount
            | Intrinsic::TraceDuration
            | Intrinsic::RootName
            | Intrinsic::RootService
            | Intrinsic::NestedSetLeft
            | Intrinsic::NestedSetRight
            | Intrinsic::NestedSetParent => self.of_trace(intrinsic),
        }
    }

    fn of_trace(&self, intrinsic: Intrinsic) -> Value<'a> {
        let Some((trace, at)) = self.trace else {
            let root = intrinsic == Intrinsic::NestedSetParent && self.span.parent_id.is_none();
            return if root { Value::Int(-1) } else { Value::Unknown };
        };
        match intrinsic {
            Intrinsic::ChildCount => Value::Int(i64::from(trace.children[at])),
            Intrinsic::TraceDuration => Value::Duration(trace.duration_ns()),
            Intrinsic::RootName => trace.root().map_or(Value::Nil, |root| borrowed(&root.name)),
            Intrinsic::RootService => trace.root().map_or(Value::Nil, |root| borrowed(root.resource.service_name())),
            Intrinsic::NestedSetLeft => Value::Int(trace.sets[at].left),
            Intrinsic::NestedSetRight => Value::Int(trace.sets[at].right),
            Intrinsic::NestedSetParent => Value::Int(trace.sets[at].parent),
            _ => Value::Nil,
        }
    }

    /// The value of an expression.
    pub fn value(&self, expr: &Expr) -> Value<'a> {
        match expr {
            Expr::Literal(value) => value.clone(),
            Expr::Field(field) => self.field(field),
            Expr::Negate(inner) => math(MathOp::Sub, &Value::Int(0), &self.value(inner)),
            Expr::Math(op, left, right) => math(*op, &self.value(left), &self.value(right)),
            _ => match self.truth(expr) {
                Truth::Yes => Value::Bool(true),
                Truth::No => Value::Bool(false),
                Truth::Unknown => Value::Unknown,
            },
        }
    }

    /// Whether a condition holds.
    pub fn truth(&self, expr: &Expr) -> Truth {
        match expr {
            Expr::Not(inner) => match self.truth(inner) {
                Truth::Yes => Truth::No,
                Truth::No => Truth::Yes,
                Truth::Unknown => Truth::Unknown,
            },
            Expr::And(parts) => settled(Truth::No, Truth::Yes, parts.iter().map(|part| self.truth(part))),
            Expr::Or(parts) => any(parts.iter().map(|part| self.truth(part))),
            Expr::Compare { op, left, right, computed } => self.compared(*op, left, right, *computed),
            Expr::Regex { left, pattern, negated } => self.matched(left, pattern, *negated),
            Expr::Exists { field, negated } => match self.field(field) {
                Value::Unknown => Truth::Unknown,
                value => Truth::of(is_nil(&value) == *negated),
            },
            Expr::Text { fields, text, part } => self.tagged(fields, text, *part),
            Expr::Literal(_) | Expr::Field(_) | Expr::Negate(_) | Expr::Math(..) => self.value(expr).truth(),
        }
    }

    fn compared(&self, op: CompareOp, left: &Expr, right: &Expr, computed: bool) -> Truth {
        if !self.spend(64) {
            return Truth::No;
        }
        // Fields of events on both sides, or within arithmetic, are read of the same event.
        let plain = |expr: &Expr| matches!(expr, Expr::Field(_) | Expr::Literal(_));
        let simple = plain(left) && (plain(right) && !matches!(right, Expr::Field(_)));
        if !simple && self.event.is_none() && names(left, right, Field::of_event) {
            let each = (0..self.span.events.len()).map(|event| Self { event: Some(event), ..*self });
            return any(each.map(|around| around.compared(op, left, right, computed)));
        }
        if !simple && self.link.is_none() && names(left, right, Field::of_link) {
            let each = (0..self.span.links.len()).map(|link| Self { link: Some(link), ..*self });
            return any(each.map(|around| around.compared(op, left, right, computed)));
        }
        if self.trace.is_none()
            && let Some(known) = self.parent_sign(op, left, right)
        {
            return known;
        }
        compare(op, &self.value(left), &self.value(right), computed, &|cost| self.spend(cost))
    }

    /// `nestedSetParent < 0`, the way Grafana asks for roots, needs no whole trace: the number of
    /// a span that is no root is never negative.
    fn parent_sign(&self, op: CompareOp, left: &Expr, right: &Expr) -> Option<Truth> {
        let (Expr::Field(field), Expr::Literal(Value::Int(with))) = (left, right) else { return None };
        if field.intrinsic() != Some(Intrinsic::NestedSetParent) || self.span.parent_id.is_none() {
            return None;
        }
        match op {
            CompareOp::Less if *with <= 0 => Some(Truth::No),
            CompareOp::LessEqual | CompareOp::Equal if *with < 0 => Some(Truth::No),
            CompareOp::NotEqual if *with < 0 => Some(Truth::Yes),
            CompareOp::GreaterEqual if *with <= 0 => Some(Truth::Yes),
            CompareOp::Greater if *with < 0 => Some(Truth::Yes),
            _ => None,
        }
    }

    /// On lists, `!~` means that no element matches.
    fn matched(&self, left: &Expr, pattern: &Regex, negated: bool) -> Truth {
        let one = |value: &Value<'_>| match value {
            Value::Str(text) => Some(self.spend(64 + text.len()) && pattern.is_match(text)),
            _ => None,
        };
        let value = self.value(left);
        let hits = match (&value, value.elements()) {
            (Value::Unknown, _) => return Truth::Unknown,
            (_, Some(elements)) => elements.iter().filter_map(one).collect::<Vec<_>>(),
            (value, None) => one(value).into_iter().collect(),
        };
        Truth::of(!hits.is_empty() && hits.contains(&true) != negated)
    }

    fn tagged(&self, fields: &[Field], text: &str, part: bool) -> Truth {
        let mut unknown = false;
        for field in fields {
            let value = self.field(field);
            unknown |= matches!(value, Value::Unknown);
            let hit =
                |value: &Value<'_>| value.text().is_some_and(|own| if part { own.contains(text) } else { own == text });
            if !self.spend(64) {
                return Truth::No;
            }
            if hit(&value) || value.elements().is_some_and(|elements| elements.iter().any(hit)) {
                return Truth::Yes;
            }
        }
        if unknown { Truth::Unknown } else { Truth::No }
    }
}

fn names(left: &Expr, right: &Expr, test: fn(&Field) -> bool) -> bool {
    left.any_field(test) || right.any_field(test)
}

fn any(truths: impl Iterator<Item = Truth>) -> Truth {
    settled(Truth::Yes, Truth::No, truths)
}

/// `by` as soon as one part is that; else unknown when some part is; else `otherwise`.
fn settled(by: Truth, otherwise: Truth, truths: impl Iterator<Item = Truth>) -> Truth {
    let mut result = otherwise;
    for truth in truths {
        if truth == by {
            return by;
        }
        if truth == Truth::Unknown {
            result = Truth::Unknown;
        }
    }
    result
}

fn is_nil(value: &Value<'_>) -> bool {
    match value {
        Value::Nil => true,
        Value::Many(values) => values.iter().all(is_nil),
        _ => false,
    }
}

fn borrowed(text: &str) -> Value<'_> {
    Value::Str(Cow::Borrowed(text))
}

fn owned(id: impl std::fmt::Display) -> Value<'static> {
    Value::Str(Cow::Owned(id.to_string()))
}

/// One value of each event or link that has one.
fn each<'a, T>(items: &'a [T], only: Option<usize>, of: impl Fn(&'a T) -> Value<'a>) -> Value<'a> {
    match only {
        Some(at) => items.get(at).map_or(Value::Nil, of),
        None => Value::Many(items.iter().map(of).filter(|value| !matches!(value, Value::Nil)).collect()),
    }
}
