//! Names and values of attributes for completion in editors. Without a filter they come from the
//! index; with one, from the spans that satisfy it.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use super::ast::{Expr, Field, FieldKind, Intrinsic, Query};
use super::error::QueryError;
use super::eval::Around;
use super::hints::Drivers;
use super::key;
use super::parser::{QUERY_BYTES_MAX, parse_within};
use super::value::Value;
use crate::base::limits::QueryBudget;
use crate::model::span::{AttrValue, Attrs, Span, SpanKind, StatusCode};
use crate::model::time::RangeNs;
use crate::query::pace::Pace;
use crate::store::{AttrScope, SelectTraces, WantedAttrs};

pub use super::parser::tag_field;
pub use super::scope::{SCOPES, scope_of};

/// Memory of a remembered name or value beside its text, in bytes.
const FOUND_BYTES: usize = 128;

/// Most conditions of a chain that filter; more only widen what an editor offers.
const CONDITIONS_MAX: usize = 512;

/// The filter that an editor sends along while its user is typing. A query that is more than a
/// filter, or broken, filters nothing; of a chain of conditions, those that parse alone count.
pub fn filter_of(text: &str, budget: &QueryBudget) -> Option<Expr> {
    if let Ok(query) = parse_within(text, budget) {
        return if query.metric.is_none() { query.only_filter().flatten().cloned() } else { None };
    }
    let inside = text.trim().strip_prefix('{')?.strip_suffix('}')?;
    if inside.len() > QUERY_BYTES_MAX || inside.contains(['(', ')', '{', '}']) || inside.contains("||") {
        return None;
    }
    let whole = inside.split("&&").take(CONDITIONS_MAX).map(|part| format!("{{{part}}}"));
    let mut parsed = whole.filter_map(|part| parse_within(&part, budget).ok()?.only_filter().flatten().cloned());
    let first = parsed.next()?;
    parsed.try_fold(first, Expr::and).ok()
}

/// Names of attributes by scope, sorted.
///
/// # Errors
/// [`QueryError`]: the store failed or the budget is used up.
pub fn names(
    store: &dyn SelectTraces,
    range: RangeNs,
    filter: Option<Expr>,
    budget: &QueryBudget,
) -> Result<Vec<(AttrScope, String)>, QueryError> {
    let Some(filter) = filter else { return Ok(store.tag_names(range, budget)?) };
    let mut found: BTreeSet<(AttrScope, String)> = BTreeSet::new();
    each_match(store, range, Some(filter), budget, |span| {
        let mut add = |scope, attrs: &Attrs| -> Result<(), QueryError> {
            for (name, _) in attrs {
                let entry = (scope, name.clone());
                if !found.contains(&entry) {
                    budget.charge(FOUND_BYTES + name.len())?;
                    found.insert(entry);
                }
            }
            Ok(())
        };
        add(AttrScope::Resource, &span.resource.attrs)?;
        add(AttrScope::Span, &span.attrs)?;
        add(AttrScope::Instrumentation, &span.scope.attrs)?;
        span.events.iter().try_for_each(|event| add(AttrScope::Event, &event.attrs))?;
        span.links.iter().try_for_each(|link| add(AttrScope::Link, &link.attrs))?;
        Ok(true)
    })?;
    Ok(found.into_iter().collect())
}

/// Distinct values of a field, sorted, at most `limit`. Durations and ids have none.
///
/// # Errors
/// [`QueryError`]: the store failed or the budget is used up.
pub fn values(
    store: &dyn SelectTraces,
    field: &Field,
    range: RangeNs,
    filter: Option<Expr>,
    limit: usize,
    budget: &QueryBudget,
) -> Result<Vec<AttrValue>, QueryError> {
    let mut found = match (&field.kind, filter) {
        (FieldKind::Intrinsic(Intrinsic::Status), _) => {
            words([StatusCode::Error, StatusCode::Ok, StatusCode::Unset].map(StatusCode::name))
        }
        (FieldKind::Intrinsic(Intrinsic::Kind), _) => words(
            [
                SpanKind::Client,
                SpanKind::Consumer,
                SpanKind::Internal,
                SpanKind::Producer,
                SpanKind::Server,
                SpanKind::Unspecified,
            ]
            .map(SpanKind::name),
        ),
        (FieldKind::Intrinsic(intrinsic), _) if !has_values(*intrinsic) => Vec::new(),
        (FieldKind::Intrinsic(Intrinsic::Name), None) => {
            let services = store.services(budget)?;
            let names = services.into_iter().flat_map(|(_, operations)| operations).map(|(name, _)| name);
            names.collect::<BTreeSet<_>>().into_iter().map(AttrValue::Str).collect()
        }
        (FieldKind::Attr { scope, name }, None) => {
            let scopes = scope.map_or_else(|| vec![AttrScope::Span, AttrScope::Resource], |scope| vec![scope]);
            store.tag_values(&scopes, name, range, limit, budget)?
        }
        (_, filter) => scanned(store, field, range, filter, limit, budget)?,
    };
    found.truncate(limit);
    Ok(found)
}

fn words<const N: usize>(names: [&str; N]) -> Vec<AttrValue> {
    names.iter().map(|name| AttrValue::Str((*name).to_owned())).collect()
}

fn has_values(intrinsic: Intrinsic) -> bool {
    matches!(
        intrinsic,
        Intrinsic::Name
            | Intrinsic::StatusMessage
            | Intrinsic::RootName
            | Intrinsic::RootService
            | Intrinsic::EventName
            | Intrinsic::ScopeName
            | Intrinsic::ScopeVersion
    )
}

fn scanned(
    store: &dyn SelectTraces,
    field: &Field,
    range: RangeNs,
    filter: Option<Expr>,
    limit: usize,
    budget: &QueryBudget,
) -> Result<Vec<AttrValue>, QueryError> {
    let mut found: BTreeMap<Vec<u8>, AttrValue> = BTreeMap::new();
    each_match(store, range, filter, budget, |span| {
        let value = match field.intrinsic() {
            Some(Intrinsic::RootName | Intrinsic::RootService) if !span.parent_id.is_none() => return Ok(true),
            Some(Intrinsic::RootName) => Value::Str((&*span.name).into()),
            Some(Intrinsic::RootService) => Value::Str(span.resource.service_name().into()),
            _ => Around::alone(span).field(field),
        };
        let values = value.elements().unwrap_or_else(|| vec![value.clone()]);
        for value in &values {
            let key = key::of(value);
            let bytes = FOUND_BYTES + 2 * key.len();
            if let Entry::Vacant(vacant) = found.entry(key)
                && let Some(value) = value.to_attr()
            {
                budget.charge(bytes)?;
                vacant.insert(value);
            }
        }
        Ok(found.len() < limit)
    })?;
    Ok(found.into_values().collect())
}

/// Calls `visit` with every span in range that may satisfy the filter, until it says `false`.
fn each_match(
    store: &dyn SelectTraces,
    range: RangeNs,
    filter: Option<Expr>,
    budget: &QueryBudget,
    mut visit: impl FnMut(&Span) -> Result<bool, QueryError>,
) -> Result<(), QueryError> {
    let query = Query::of_filter(filter);
    let drivers = Drivers::of(&query);
    let pace = Pace::new(budget);
    for block in store.blocks(range, &drivers.hints(), budget)? {
        let spans = block.read(&WantedAttrs::All, budget)?;
        budget.touch(spans.len())?;
        for span in &spans {
            pace.go(64)?;
            let in_range = range.overlaps(span.start, span.end.max(span.start));
            if in_range && drivers.may_match(span, &pace) && !visit(span)? {
                return Ok(());
            }
        }
        pace.result()?;
    }
    Ok(())
}
