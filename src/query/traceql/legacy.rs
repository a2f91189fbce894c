//! Searches by tags: Tempo's from before TraceQL, and Jaeger's. Values are compared as text and
//! case-sensitive. For Tempo a part is enough of the names that people type; all else must be equal.

use super::ast::{Expr, Field, FieldKind, Intrinsic, Query};
use super::error::QueryError;
use super::lexer::intrinsic;
use super::nest::TooDeep;
use super::op::CompareOp;
use super::value::Value;
use crate::model::span::{Resource, StatusCode};
use crate::store::AttrScope;

/// Tags of which a part of the value is enough.
const BY_PART: &[&str] = &["service.name", "name", "root.name", "root.service.name", "http.method", "http.route"];

/// Most tags of one search.
const TAGS_MAX: usize = 100;

/// The query for spans with all of these tags.
///
/// # Errors
/// [`QueryError::Invalid`] when they are more than a hundred.
pub fn query_of_tags(tags: &[(String, String)]) -> Result<Query, QueryError> {
    few(tags)?;
    all(tags.iter().map(|(name, value)| condition(name, value, BY_PART.contains(&name.as_str()))))
}

/// What Jaeger's search asks of one span: its service, operation, tags, and bounds of its duration in
/// nanoseconds, both inclusive.
///
/// # Errors
/// [`QueryError::Invalid`] when there are more than a hundred tags.
pub fn query_of_jaeger(
    service: &str,
    operation: Option<&str>,
    tags: &[(String, String)],
    bounds: (Option<i64>, Option<i64>),
) -> Result<Query, QueryError> {
    few(tags)?;
    let name = attr(AttrScope::Resource, "resource", "service.name");
    let mut named = compare(name.clone(), CompareOp::Equal, text(service));
    if service == Resource::default().service_name() {
        named = named?.or(Expr::Exists { field: name, negated: true });
    }
    let mut conditions = vec![named];
    conditions.extend(operation.map(|own| compare(of(Intrinsic::Name, "name"), CompareOp::Equal, text(own))));
    let duration = |op, ns| compare(of(Intrinsic::Duration, "duration"), op, Value::Duration(ns));
    conditions.extend(bounds.0.map(|ns| duration(CompareOp::GreaterEqual, ns)));
    conditions.extend(bounds.1.map(|ns| duration(CompareOp::LessEqual, ns)));
    conditions.extend(tags.iter().map(|(name, value)| condition(name, value, false)));
    all(conditions.into_iter())
}

fn few(tags: &[(String, String)]) -> Result<(), QueryError> {
    if tags.len() <= TAGS_MAX {
        return Ok(());
    }
    let what = format!("a search by {} tags, over the limit of {TAGS_MAX}: name fewer", tags.len());
    Err(QueryError::Invalid(what))
}

fn all(mut conditions: impl Iterator<Item = Result<Expr, TooDeep>>) -> Result<Query, QueryError> {
    let Some(first) = conditions.next() else { return Ok(Query::of_filter(None)) };
    let all = conditions.try_fold(first?, |all, condition| all.and(condition?))?;
    Ok(Query::of_filter(Some(all)))
}

fn compare(field: Field, op: CompareOp, value: Value<'static>) -> Result<Expr, TooDeep> {
    Expr::compare(op, Expr::Field(field), Expr::Literal(value))
}

fn text(text: &str) -> Value<'static> {
    Value::Str(text.to_owned().into())
}

fn of(intrinsic: Intrinsic, text: &str) -> Field {
    Field { kind: FieldKind::Intrinsic(intrinsic), text: text.to_owned() }
}

fn attr(scope: AttrScope, prefix: &str, name: &str) -> Field {
    Field { kind: FieldKind::Attr { scope: Some(scope), name: name.to_owned() }, text: format!("{prefix}.{name}") }
}

fn condition(name: &str, value: &str, part: bool) -> Result<Expr, TooDeep> {
    let status = |code| compare(of(Intrinsic::Status, "status"), CompareOp::Equal, Value::Status(code));
    match (name, value) {
        ("otel.status_code", "ERROR") => return status(StatusCode::Error),
        ("otel.status_code", "OK") => return status(StatusCode::Ok),
        _ => {}
    }
    let text = Expr::Text { fields: fields(name), text: value.to_owned(), part };
    if (name, value) != ("error", "true") {
        return Ok(text);
    }
    text.or(status(StatusCode::Error)?)
}

fn fields(name: &str) -> Vec<Field> {
    let spelling = match name {
        "name" => Some("name"),
        "root.name" => Some("rootName"),
        "root.service.name" => Some("rootServiceName"),
        "status" | "status.code" => Some("status"),
        "kind" | "span.kind" => Some("kind"),
        "otel.status_description" => Some("statusMessage"),
        "otel.scope.name" => Some("instrumentation:name"),
        "otel.scope.version" => Some("instrumentation:version"),
        _ => None,
    };
    // Before TraceQL, and in Jaeger, a tag is anywhere on the span.
    let attributes = [
        attr(AttrScope::Span, "span", name),
        attr(AttrScope::Resource, "resource", name),
        attr(AttrScope::Event, "event", name),
    ];
    spelling.and_then(intrinsic).into_iter().chain(attributes).collect()
}
