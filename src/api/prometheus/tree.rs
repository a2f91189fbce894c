//! `parse_query`: the tree of a query as JSON, in the shape that Prometheus's own pages read
//! (<https://prometheus.io/docs/prometheus/latest/querying/api/#parsing-a-promql-expressions-into-a-abstract-syntax-tree-ast>).

use std::fmt::Write as _;

use axum::extract::State;
use axum::response::{IntoResponse, Response};

use super::answer::answer;
use super::duration_tree;
use super::json;
use super::params::Params;
use crate::api::context::Context;
use crate::model::matcher::{MatchOp, Matcher};
use crate::query::promql;
use crate::query::promql::ast::{Aggregate, At, Binary, Call, Cardinality, Edges, Expr, Kind, Selector, Subquery};

pub(super) async fn parse(State(context): State<Context>, params: Params) -> Response {
    let query = match params.query() {
        Ok(query) => query,
        Err(error) => return error.into_response(),
    };
    answer(&context, None, params.coding, move |_, budget, sink| {
        let text = promql::with_tree(&query, budget, |expr| {
            let mut out = String::new();
            node(&mut out, expr);
            budget.charge(out.capacity())?;
            Ok(out)
        })?;
        let _ = write!(sink.text, "{{\"status\":\"success\",\"data\":{text}}}");
        Ok(())
    })
    .await
}

/// Writes a key with the comma before it.
fn key(out: &mut String, name: &str) {
    let _ = write!(out, ",\"{name}\":");
}

fn value(out: &mut String, name: &str, value: impl std::fmt::Display) {
    let _ = write!(out, ",\"{name}\":{value}");
}

fn text(out: &mut String, name: &str, value: &str) {
    key(out, name);
    json::string(out, value);
}

fn strings<'s>(out: &mut String, name: &str, values: impl IntoIterator<Item = &'s str>) {
    key(out, name);
    json::list(out, values, json::string);
}

fn float(out: &mut String, name: &str, value: Option<f64>) {
    key(out, name);
    match value {
        Some(value) => json::float(out, value),
        None => out.push_str("null"),
    }
}

fn child(out: &mut String, name: &str, expr: &Expr) -> bool {
    key(out, name);
    node(out, expr)
}

/// Writes a node; says whether it is a scalar or a string rather than series.
fn node(out: &mut String, expr: &Expr) -> bool {
    let kind = match &expr.kind {
        Kind::Number(_) => "numberLiteral",
        Kind::String(_) => "stringLiteral",
        Kind::Paren(_) => "parenExpr",
        Kind::Negate(_) => "unaryExpr",
        Kind::Vector(_) => "vectorSelector",
        Kind::Matrix(..) => "matrixSelector",
        Kind::Subquery(_) => "subquery",
        Kind::Call(_) => "call",
        Kind::Aggregate(_) => "aggregation",
        Kind::Binary(_) => "binaryExpr",
    };
    let _ = write!(out, "{{\"type\":\"{kind}\"");
    let mut plain = false;
    match &expr.kind {
        Kind::Number(own) => {
            float(out, "val", Some(*own));
            plain = true;
        }
        Kind::String(own) => {
            text(out, "val", own);
            plain = true;
        }
        Kind::Paren(inner) => plain = child(out, "expr", inner),
        Kind::Negate(inner) => {
            text(out, "op", "-");
            plain = child(out, "expr", inner);
        }
        Kind::Vector(own) => selector(out, own),
        Kind::Matrix(own, range) => {
            selector(out, own);
            duration(out, "range", *range, own.written.range.as_deref());
        }
        Kind::Subquery(own) => subquery(out, own),
        Kind::Call(own) => plain = call(out, own),
        Kind::Aggregate(own) => aggregate(out, own),
        Kind::Binary(own) => plain = binary(out, own),
    }
    out.push('}');
    plain
}

/// Writes a duration in milliseconds, and its tree where it is written as arithmetic; then there is
/// no number, which may depend on the times of a query.
fn duration(out: &mut String, name: &str, ms: i64, written: Option<&str>) {
    let tree = written.and_then(duration_tree::json);
    value(out, name, if tree.is_some() { 0 } else { ms });
    value(out, &format!("{name}Expr"), tree.as_deref().unwrap_or("null"));
}

/// What `@` fixes to: a time, or an edge of the query.
fn fixed(out: &mut String, at: Option<At>) {
    let (time, edge) = match at {
        None => (None, "null"),
        Some(At::Time(ms)) => (Some(ms), "null"),
        Some(At::Start) => (None, "\"start\""),
        Some(At::End) => (None, "\"end\""),
    };
    value(out, "timestamp", time.map_or("null".to_owned(), |ms| ms.to_string()));
    value(out, "startOrEnd", edge);
}

fn selector(out: &mut String, own: &Selector) {
    text(out, "name", own.matchers.first().filter(|_| own.named).map_or("", |matcher| matcher.value.as_str()));
    key(out, "matchers");
    // A name before the braces comes after what is in them.
    let (name, rest) = own.matchers.split_at(usize::from(own.named).min(own.matchers.len()));
    json::list(out, rest.iter().chain(name), matcher);
    duration(out, "offset", own.offset, own.written.offset.as_deref());
    fixed(out, own.at);
    value(out, "anchored", own.edges == Edges::Anchored);
    value(out, "smoothed", own.edges == Edges::Smoothed);
}

fn matcher(out: &mut String, own: &Matcher) {
    let op = match own.op {
        MatchOp::Equal => "=",
        MatchOp::NotEqual => "!=",
        MatchOp::Regex => "=~",
        MatchOp::NotRegex => "!~",
    };
    let _ = write!(out, "{{\"type\":\"{op}\"");
    text(out, "name", &own.name);
    text(out, "value", &own.value);
    out.push('}');
}

fn subquery(out: &mut String, own: &Subquery) {
    child(out, "expr", &own.expr);
    let written = &own.written;
    duration(out, "range", own.range, written.range.as_deref());
    duration(out, "step", own.step.unwrap_or(0), written.step.as_deref());
    duration(out, "offset", own.offset, written.offset.as_deref());
    fixed(out, own.at);
}

fn call(out: &mut String, own: &Call) -> bool {
    let signature = promql::signature(own.function);
    let (takes, variadic, gives) = match &signature {
        Some(own) => (own.takes.as_slice(), own.variadic, own.gives),
        None => (&[][..], 0, "none"),
    };
    let _ = write!(out, ",\"func\":{{\"name\":\"{}\"", own.function);
    strings(out, "argTypes", takes.iter().copied());
    value(out, "variadic", variadic);
    text(out, "returnType", gives);
    out.push_str("},\"args\":");
    json::list(out, &own.args, |out, arg| {
        node(out, arg);
    });
    gives == "scalar"
}

fn aggregate(out: &mut String, own: &Aggregate) {
    text(out, "op", own.op.text());
    child(out, "expr", &own.expr);
    match &own.param {
        Some(param) => {
            child(out, "param", param);
        }
        None => value(out, "param", "null"),
    }
    strings(out, "grouping", own.labels.iter().map(String::as_str));
    value(out, "without", own.without);
}

fn binary(out: &mut String, own: &Binary) -> bool {
    text(out, "op", own.op.text());
    let (left, right) = (child(out, "lhs", &own.left), child(out, "rhs", &own.right));
    value(out, "bool", own.bool);
    if left || right {
        // Series need no partners.
        value(out, "matching", "null");
        return left && right;
    }
    let matching = &own.matching;
    let card = match matching.cardinality {
        _ if own.op.is_set() => "many-to-many",
        Cardinality::OneToOne => "one-to-one",
        Cardinality::ManyToOne => "many-to-one",
        Cardinality::OneToMany => "one-to-many",
    };
    let _ = write!(out, ",\"matching\":{{\"card\":\"{card}\"");
    strings(out, "labels", matching.labels.iter().map(String::as_str));
    value(out, "on", matching.on);
    strings(out, "include", matching.include.iter().map(String::as_str));
    out.push_str(",\"fillValues\":{");
    for (name, fill) in [("\"lhs\":", matching.fill_left), (",\"rhs\":", matching.fill_right)] {
        out.push_str(name);
        match fill {
            // JSON has no numbers that are not finite.
            Some(value) if !value.is_finite() => json::float(out, value),
            Some(value) => {
                let _ = write!(out, "{value}");
            }
            None => out.push_str("null"),
        }
    }
    out.push_str("}}");
    false
}
