//! What leaves blocks out of a search: what a span set's own columns say, and the text index of a
//! part. Both only narrow; whoever reads the spans decides.

use ahash::AHashSet;

use super::facets::{Facet, scope_of};
use super::spanset::{Column, SpanSet, Type};
use crate::model::span::{AttrValue, Attrs};
use crate::store::waist::{AttrScope, SpanHint};

/// Names of scopes in terms.
fn scope_name(scope: AttrScope) -> &'static str {
    match scope {
        AttrScope::Resource => "resource",
        AttrScope::Span => "span",
        AttrScope::Event => "event",
        AttrScope::Link => "link",
        AttrScope::Instrumentation => "instrumentation",
    }
}

/// The term of an attribute with a value. Doubles have one term for all: how they compare with
/// integers is left to whoever compares.
fn attr_term(scope: AttrScope, name: &str, facet: &Facet) -> String {
    let scope = scope_name(scope);
    match facet {
        Facet::Str(text) => format!("{scope}.{name}={text}"),
        Facet::Int(int) => format!("{scope}.{name}={int}"),
        Facet::Bool(bool) => format!("{scope}.{name}={bool}"),
        Facet::Double(_) => format!("{scope}.{name}=\0double"),
    }
}

fn service_term(service: &str) -> String {
    format!("resource.service.name={service}")
}

fn name_term(name: &str) -> String {
    format!("name={name}")
}

/// Every term that a search may ask a span set for.
pub(super) fn terms_of(set: &SpanSet<'_>) -> AHashSet<String> {
    let mut terms: AHashSet<String> = set.names().iter().map(|name| name_term(name)).collect();
    for resource in set.resources() {
        terms.insert(service_term(resource.service_name()));
        add_attrs(&mut terms, AttrScope::Resource, &resource.attrs);
    }
    for scope in set.scopes() {
        add_attrs(&mut terms, AttrScope::Instrumentation, &scope.attrs);
    }
    for column in set.columns() {
        let scope = scope_of(column.owner);
        let read = column.values(|value| {
            Facet::each(value, &mut |facet| terms.extend([attr_term(scope, column.key, &facet)]));
            true
        });
        // What cannot be read here cannot be read by a search either.
        debug_assert!(read.is_ok(), "a block that parses has readable columns");
    }
    terms
}

fn add_attrs(terms: &mut AHashSet<String>, scope: AttrScope, attrs: &Attrs) {
    for (name, value) in attrs {
        Facet::each(value, &mut |facet| terms.extend([attr_term(scope, name, &facet)]));
    }
}

/// Terms of which a block with a span of interest has one; `None` when terms say nothing.
pub(super) fn hint_terms(hint: &SpanHint) -> Option<Vec<String>> {
    match hint {
        SpanHint::Service(service) => Some(vec![service_term(service)]),
        SpanHint::Name(name) => Some(vec![name_term(name)]),
        SpanHint::Attr { scopes, name, value } => {
            let facets = match value {
                AttrValue::Str(text) => vec![Facet::Str(text.clone())],
                AttrValue::Int(int) => vec![Facet::Int(*int), Facet::Double(0)],
                AttrValue::Bool(bool) => vec![Facet::Bool(*bool)],
                AttrValue::Empty
                | AttrValue::Double(_)
                | AttrValue::Bytes(_)
                | AttrValue::Array(_)
                | AttrValue::Map(_) => return None,
            };
            let terms = scopes.iter().flat_map(|scope| facets.iter().map(|facet| attr_term(*scope, name, facet)));
            Some(terms.collect())
        }
    }
}

/// Whether a span set can hold a span for which all hints hold.
pub(super) fn may_match(set: &SpanSet<'_>, hints: &[SpanHint]) -> bool {
    hints.iter().all(|hint| match hint {
        SpanHint::Service(service) => {
            let wanted = AttrValue::Str(service.clone());
            set.resources().iter().any(|resource| {
                resource.service_name() == service || attrs_may_have(&resource.attrs, "service.name", &wanted)
            })
        }
        SpanHint::Name(name) => set.names().contains(&name.as_str()),
        SpanHint::Attr { scopes, name, value } => scopes.iter().any(|scope| scope_may_have(set, *scope, name, value)),
    })
}

fn scope_may_have(set: &SpanSet<'_>, scope: AttrScope, name: &str, value: &AttrValue) -> bool {
    match scope {
        AttrScope::Resource => set.resources().iter().any(|resource| attrs_may_have(&resource.attrs, name, value)),
        AttrScope::Instrumentation => set.scopes().iter().any(|scope| attrs_may_have(&scope.attrs, name, value)),
        AttrScope::Span | AttrScope::Event | AttrScope::Link => set
            .columns()
            .iter()
            .any(|column| scope_of(column.owner) == scope && column.key == name && column_may_have(column, value)),
    }
}

fn attrs_may_have(attrs: &Attrs, name: &str, value: &AttrValue) -> bool {
    attrs.iter().any(|(own, held)| own == name && value_may_be(held, value))
}

/// Whether a comparison of an attribute's value with `wanted` may hold. Lists hold when an element
/// does; numbers of different types are left to whoever compares.
fn value_may_be(held: &AttrValue, wanted: &AttrValue) -> bool {
    let mut found = false;
    let numbers = |value: &AttrValue| matches!(value, AttrValue::Int(_) | AttrValue::Double(_));
    Facet::each(held, &mut |facet| {
        let own = facet.value();
        found |= own == *wanted || (numbers(&own) && numbers(wanted));
    });
    found || !listed(wanted)
}

/// Whether values of this kind are compared here at all.
fn listed(wanted: &AttrValue) -> bool {
    matches!(wanted, AttrValue::Str(_) | AttrValue::Int(_) | AttrValue::Bool(_))
}

fn column_may_have(column: &Column<'_>, wanted: &AttrValue) -> bool {
    match (column.kind, wanted) {
        (Type::Str, AttrValue::Str(text)) => column.strings.contains(&text.as_str()),
        (Type::Int, AttrValue::Int(_)) | (Type::Bool, AttrValue::Bool(_)) => column_holds(column, wanted),
        (Type::Array, _) | (Type::Double, AttrValue::Int(_)) => true,
        (_, wanted) => !listed(wanted),
    }
}

fn column_holds(column: &Column<'_>, wanted: &AttrValue) -> bool {
    let mut found = false;
    let read = column.values(|value| {
        found = value == wanted;
        !found
    });
    found || read.is_err()
}
