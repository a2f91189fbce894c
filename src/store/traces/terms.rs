//! What leaves blocks out of a search: what a span set's own columns say, and the text index of a
//! part. Both only narrow; whoever reads the spans decides.

use roaring::RoaringBitmap;

use super::facets::{Facet, scope_of};
use super::spanset::{Column, SpanSet, Type};
use crate::model::span::{AttrValue, Attrs};
use crate::store::{AttrScope, SpanHint};

/// The text index of a part.
#[derive(Default)]
pub(super) struct TextPart {}

impl TextPart {
    /// Blocks that may hold a span for which all hints hold; `None` without an index.
    pub(super) fn blocks(&self, _hints: &[SpanHint]) -> Option<RoaringBitmap> {
        None
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
