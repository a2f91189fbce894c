//! What the grammar lets through and PromQL does not: edges of ranges on functions that cannot use them.

use super::ast::{Edges, Expr, Kind};

const ANCHORED: &[&str] = &["changes", "delta", "increase", "rate", "resets"];
const SMOOTHED: &[&str] = &["delta", "increase", "rate"];

/// Checks a tree.
///
/// # Errors
/// What is wrong, as the client reads it.
pub(super) fn check(expr: &Expr) -> Result<(), String> {
    match &expr.kind {
        Kind::Number(_) | Kind::String(_) | Kind::Vector(_) | Kind::Matrix(..) => Ok(()),
        Kind::Subquery(subquery) => check(&subquery.expr),
        Kind::Negate(inner) | Kind::Paren(inner) => check(inner),
        Kind::Aggregate(aggregate) => {
            aggregate.param.as_ref().map_or(Ok(()), check)?;
            check(&aggregate.expr)
        }
        Kind::Binary(binary) => {
            check(&binary.left)?;
            check(&binary.right)
        }
        Kind::Call(call) => {
            for arg in &call.args {
                if let Kind::Matrix(selector, _) = &arg.bare().kind {
                    edges(selector.edges, call.function)?;
                }
                check(arg)?;
            }
            Ok(())
        }
    }
}

fn edges(edges: Edges, function: &str) -> Result<(), String> {
    let (word, allowed) = match edges {
        Edges::Plain => return Ok(()),
        Edges::Anchored => ("anchored", ANCHORED),
        Edges::Smoothed => ("smoothed", SMOOTHED),
    };
    if allowed.contains(&function) {
        return Ok(());
    }
    Err(format!("{word} modifier can only be used with: {} - not with {function}", allowed.join(", ")))
}
