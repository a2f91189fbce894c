//! `regexp`: labels from the named groups of a regular expression.

use std::borrow::Cow;
use std::fmt;

use super::{LineWork, Needs, Row, Stage, clean_name, with_line};
use crate::base::pattern::{Dialect, Regex};
use crate::query::logql::ParseError;
use crate::query::logql::ast::quote;
use crate::query::logql::parser::Parser;

/// Reads the expression.
///
/// # Errors
/// [`ParseError`] when it is none, or names no group.
pub fn parse(parser: &mut Parser) -> Result<Box<dyn Stage>, ParseError> {
    let at = parser.position();
    let text = parser.text("a regular expression")?;
    let regex = Regex::new(&text, Dialect::Groups, parser.budget).map_err(|error| ParseError::of_pattern(at, error))?;
    let mut groups: Vec<(usize, String)> = Vec::new();
    for (index, name) in regex.group_names().enumerate() {
        let Some(name) = name else { continue };
        if clean_name(name) != name {
            return Err(ParseError::new(at, format!("invalid label name {name:?} in regexp")));
        }
        groups.push((index, name.to_owned()));
    }
    if groups.is_empty() {
        return Err(ParseError::new(at, "at least one named capture must be supplied"));
    }
    Ok(Box::new(Regexp { text, regex, groups }))
}

#[derive(Clone, Debug)]
struct Regexp {
    text: String,
    regex: Regex,
    groups: Vec<(usize, String)>,
}

impl Stage for Regexp {
    fn apply<'a>(&'a self, row: &mut Row<'a>) -> bool {
        with_line(row, self);
        true
    }

    fn needs(&self) -> Needs {
        Needs { line: true, changes_labels: true, ..Needs::default() }
    }
}

impl<'a> LineWork<'a> for &'a Regexp {
    fn run<'l>(self, row: &mut Row<'a>, line: &'l str, own: impl Fn(&'l str) -> Cow<'a, str>) {
        let Some(captures) = self.regex.captures(line) else { return };
        for (index, name) in &self.groups {
            let value = captures.get(*index).map_or(Cow::Borrowed(""), &own);
            row.extract(Cow::Borrowed(name.as_str()), value);
        }
    }
}

impl fmt::Display for Regexp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "| regexp {}", quote(&self.text))
    }
}

#[cfg(test)]
mod tests {
    use crate::query::logql::parse;
    use crate::query::logql::stages::testing::labels;

    #[test]
    fn named_groups_become_labels_and_unmatched_ones_are_empty() {
        assert_eq!(labels(r"| regexp `(?P<m>[A-Z]+) (?<p>/\w*)(?P<q>\?.*)?`", "GET /x"), "m=GET p=/x q=");
        assert_eq!(labels("| regexp `(?P<m>[A-Z]+)`", "no capitals"), "");
    }

    #[test]
    fn an_expression_without_names_is_refused() {
        assert!(parse("{a=\"b\"} | regexp `(x)`").is_err());
    }
}
