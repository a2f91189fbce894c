//! `drop` and `keep`: remove labels by name, or by name and value.

use std::borrow::Cow;
use std::fmt;

use super::{ERROR, ERROR_DETAILS, Needs, Row, Stage};
use crate::model::matcher::Matcher;
use crate::query::logql::ParseError;
use crate::query::logql::ast::quote;
use crate::query::logql::parser::Parser;

/// Reads the names behind `drop`.
///
/// # Errors
/// [`ParseError`] at a malformed list.
pub fn parse_drop(parser: &mut Parser) -> Result<Box<dyn Stage>, ParseError> {
    Ok(Box::new(Drop(parser.names_or_matchers()?)))
}

/// Reads the names behind `keep`.
///
/// # Errors
/// [`ParseError`] at a malformed list.
pub fn parse_keep(parser: &mut Parser) -> Result<Box<dyn Stage>, ParseError> {
    Ok(Box::new(Keep(parser.names_or_matchers()?)))
}

/// A name, with a condition on the value or without.
#[derive(Clone, Debug)]
pub struct NameOrMatcher {
    /// The name.
    pub name: String,
    /// The condition.
    pub matcher: Option<Matcher>,
}

impl NameOrMatcher {
    fn covers(&self, value: &str) -> bool {
        self.matcher.as_ref().is_none_or(|matcher| matcher.matches(value))
    }
}

#[derive(Clone, Debug)]
struct Drop(Vec<NameOrMatcher>);

#[derive(Clone, Debug)]
struct Keep(Vec<NameOrMatcher>);

const NEEDS: Needs = Needs { line: false, labels: true, changes_line: false, changes_labels: true, unwraps: false };

impl Stage for Drop {
    fn apply<'a>(&'a self, row: &mut Row<'a>) -> bool {
        for wanted in &self.0 {
            if !row.spend(32 + row.parsed.len()) {
                return false;
            }
            if row.get(&wanted.name).is_some_and(|value| wanted.covers(value)) {
                row.remove(&wanted.name);
            }
        }
        true
    }

    fn needs(&self) -> Needs {
        NEEDS
    }
}

impl Stage for Keep {
    fn apply<'a>(&'a self, row: &mut Row<'a>) -> bool {
        let labels = row.stream.len() + row.metadata.len() + row.parsed.len();
        if !row.spend(8 * labels.saturating_mul(self.0.len())) {
            return false;
        }
        let kept = |name: &str, value: &str| {
            matches!(name, ERROR | ERROR_DETAILS)
                || self.0.iter().any(|wanted| wanted.name == name && wanted.covers(value))
        };
        let base: [&'a _; 2] = [row.stream, row.metadata];
        for (name, value) in base.iter().flat_map(|labels| labels.iter()) {
            if row.stands(name) && !kept(name, value) {
                row.gone.push(Cow::Borrowed(name));
            }
        }
        // A label that is hidden by a removed one must not come back to light.
        let hidden: Vec<Cow<'a, str>> = row
            .parsed
            .iter()
            .filter(|(name, value)| !kept(name, value))
            .filter(|(name, _)| row.stream.get(name).is_some() || row.metadata.get(name).is_some())
            .map(|(name, _)| name.clone())
            .collect();
        row.gone.extend(hidden);
        row.parsed.retain(|(name, value)| kept(name, value));
        true
    }

    fn needs(&self) -> Needs {
        NEEDS
    }
}

fn write_list(f: &mut fmt::Formatter<'_>, keyword: &str, list: &[NameOrMatcher]) -> fmt::Result {
    use crate::model::matcher::MatchOp;
    write!(f, "| {keyword} ")?;
    for (at, wanted) in list.iter().enumerate() {
        f.write_str(if at == 0 { "" } else { ", " })?;
        f.write_str(&wanted.name)?;
        if let Some(matcher) = &wanted.matcher {
            let op = match matcher.op {
                MatchOp::Equal => "=",
                MatchOp::NotEqual => "!=",
                MatchOp::Regex => "=~",
                MatchOp::NotRegex => "!~",
            };
            write!(f, "{op}{}", quote(&matcher.value))?;
        }
    }
    Ok(())
}

impl fmt::Display for Drop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_list(f, "drop", &self.0)
    }
}

impl fmt::Display for Keep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_list(f, "keep", &self.0)
    }
}

#[cfg(test)]
mod tests {
    use crate::query::logql::stages::testing::labels;
    use crate::query::logql::stages::testing::outcome;

    #[test]
    fn drop_removes_names_and_values() {
        assert_eq!(labels("| logfmt | drop a, b=\"1\", c=~\"x.*\"", "a=1 b=2 c=xyz d=4"), "b=2 d=4");
        assert_eq!(labels("| json | drop __error__, __error_details__", "no"), "");
        assert!(labels("| json | drop __error__", "no").starts_with("__error_details__="));
    }

    #[test]
    fn a_dropped_label_is_missing_to_later_filters() {
        assert!(outcome("| drop trace_id | trace_id=\"abc\"", "x").is_none());
        assert!(outcome("| keep job | app=\"\"", "x").is_some());
    }

    #[test]
    fn keep_keeps_errors() {
        assert!(labels("| json | keep a", "no").contains("__error__"));
        assert_eq!(labels("| logfmt | keep a, b=\"2\"", "a=1 b=1 c=3"), "a=1");
    }
}
