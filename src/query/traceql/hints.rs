//! What a query demands of single spans: the filters that lead to its traces, and the conditions by
//! which the store may leave blocks out.

use std::collections::BTreeSet;

use super::ast::{Expr, Field, FieldKind, Intrinsic, Keep, Query, SpansetExpr, Stage};
use super::eval::Around;
use super::op::CompareOp;
use super::value::Value;
use crate::model::span::{AttrValue, Span};
use crate::query::pace::Pace;
use crate::store::{AttrScope, SpanHint, WantedAttrs};

/// Filters of which every trace that the query finds has a span for at least one; `None` is `{}`.
#[derive(Debug)]
pub(super) struct Drivers<'a>(pub(super) Vec<Option<&'a Expr>>);

impl<'a> Drivers<'a> {
    /// Of a whole query.
    pub(super) fn of(query: &'a Query) -> Self {
        Self(of_stages(&query.stages))
    }

    /// Conditions that every span of interest satisfies.
    pub(super) fn hints(&self) -> Vec<SpanHint> {
        let mut each = self.0.iter().map(|filter| filter.map(hints).unwrap_or_default());
        let mut common = each.next().unwrap_or_default();
        for other in each {
            common.retain(|hint| other.contains(hint));
        }
        common
    }
}

impl Drivers<'_> {
    /// What of spans is looked at: the fields of the filters, and others beside.
    pub(super) fn wanted<'f>(&self, others: impl IntoIterator<Item = &'f Field>) -> WantedAttrs {
        let mut names = BTreeSet::new();
        let mut note = |field: &Field| {
            if let FieldKind::Attr { name, .. } = &field.kind {
                names.insert(name.clone());
            }
        };
        self.0.iter().flatten().for_each(|filter| filter.each_field(&mut note));
        others.into_iter().for_each(note);
        WantedAttrs::Named(names)
    }

    /// Whether a span alone may satisfy one of the filters.
    pub(super) fn may_match(&self, span: &Span, pace: &Pace<'_>) -> bool {
        let around = Around::alone(span).paced(pace);
        self.0.iter().any(|filter| filter.is_none_or(|filter| around.truth(filter).possible()))
    }
}

fn of_stages(stages: &[Stage]) -> Vec<Option<&Expr>> {
    let spansets = stages.iter().filter_map(|stage| match stage {
        Stage::Spanset(expr) => Some(of_spanset(expr)),
        Stage::Scalar { .. } | Stage::By { .. } | Stage::Select(_) | Stage::Coalesce => None,
    });
    spansets.reduce(narrower).unwrap_or_else(|| vec![None])
}

fn of_spanset(expr: &SpansetExpr) -> Vec<Option<&Expr>> {
    match expr {
        SpansetExpr::Filter(filter) => vec![filter.as_ref()],
        SpansetExpr::Pipeline(stages) => of_stages(stages),
        SpansetExpr::Structural(_, Keep::NotRight, _, right) => of_spanset(right),
        SpansetExpr::And(left, right) | SpansetExpr::Structural(_, Keep::Right | Keep::Both, left, right) => {
            narrower(of_spanset(left), of_spanset(right))
        }
        SpansetExpr::Or(left, right) => {
            let mut both = of_spanset(left);
            both.extend(of_spanset(right));
            both
        }
    }
}

/// The one that more hints narrow; else the one without `{}`.
fn narrower<'a>(left: Vec<Option<&'a Expr>>, right: Vec<Option<&'a Expr>>) -> Vec<Option<&'a Expr>> {
    let weight = |filters: &[Option<&Expr>]| {
        let each = filters.iter().map(|filter| filter.map_or(0, |filter| 1 + hints(filter).len()));
        each.min().unwrap_or_default()
    };
    if weight(&right) > weight(&left) { right } else { left }
}

/// Conditions that follow from a filter.
pub(super) fn hints(filter: &Expr) -> Vec<SpanHint> {
    let mut found = Vec::new();
    let mut open = vec![filter];
    while let Some(expr) = open.pop() {
        match expr {
            Expr::And(parts) => open.extend(parts.iter().rev()),
            Expr::Compare { op: CompareOp::Equal, left, right, .. } => match (&**left, &**right) {
                (Expr::Field(field), Expr::Literal(value)) | (Expr::Literal(value), Expr::Field(field)) => {
                    found.extend(hint(field, value));
                }
                _ => {}
            },
            _ => {}
        }
    }
    found
}

fn hint(field: &Field, value: &Value<'_>) -> Option<SpanHint> {
    let text = match value {
        Value::Str(text) => Some(text.to_string()),
        _ => None,
    };
    match &field.kind {
        FieldKind::Intrinsic(Intrinsic::Name) => text.map(SpanHint::Name),
        FieldKind::Intrinsic(_) => None,
        FieldKind::Attr { scope: Some(AttrScope::Resource), name } if name == "service.name" => {
            // A resource without a name is indexed by another one.
            text.filter(|text| !text.is_empty()).map(SpanHint::Service)
        }
        FieldKind::Attr { scope, name } => {
            let scopes = scope.map_or_else(|| vec![AttrScope::Span, AttrScope::Resource], |scope| vec![scope]);
            let value = match value {
                Value::Str(text) => AttrValue::Str(text.to_string()),
                Value::Int(int) => AttrValue::Int(*int),
                Value::Bool(bool) => AttrValue::Bool(*bool),
                _ => return None,
            };
            Some(SpanHint::Attr { scopes, name: name.clone(), value })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::traceql::parse;

    fn hints_of(text: &str) -> Vec<SpanHint> {
        Drivers::of(&parse(text).unwrap()).hints()
    }

    #[test]
    fn only_what_every_span_satisfies_is_a_hint() {
        assert_eq!(hints_of("{ name = \"a\" || .b = 1 }"), []);
        assert_eq!(hints_of("{ name = \"a\" && .b > 1 && !(name = \"c\") }"), [SpanHint::Name("a".into())]);
        assert_eq!(hints_of("{ name = \"a\" } || { name = \"b\" }"), []);
        assert_eq!(hints_of("{} >> { resource.service.name = \"x\" }"), [SpanHint::Service("x".into())]);
        assert_eq!(hints_of("{ name = \"a\" } !>> {}"), []);
        assert_eq!(hints_of("{} | count() > 2 | { name = \"a\" }"), [SpanHint::Name("a".into())]);
    }

    #[test]
    fn attributes_of_the_filters_and_of_what_is_counted_are_wanted() {
        let query = parse("{ span.a = 1 || name = \"b\" && !(.c != nil) } | quantile_over_time(span.d, .5)").unwrap();
        let function = query.metric.as_ref().unwrap().function.field();
        let named = |names: &[&str]| WantedAttrs::Named(names.iter().map(|name| (*name).to_owned()).collect());
        let drivers = Drivers::of(&query);
        assert_eq!(drivers.wanted([]), named(&["a", "c"]));
        assert_eq!(drivers.wanted(function), named(&["a", "c", "d"]));
    }
}
