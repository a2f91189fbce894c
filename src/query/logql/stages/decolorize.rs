//! `decolorize`: removes terminal escape sequences from the line.

use std::borrow::Cow;
use std::fmt;

use super::{Needs, Row, Stage};
use crate::query::logql::ParseError;
use crate::query::logql::parser::Parser;

/// Nothing follows the keyword.
///
/// # Errors
/// None.
pub fn parse(_: &mut Parser) -> Result<Box<dyn Stage>, ParseError> {
    Ok(Box::new(Decolorize))
}

#[derive(Clone, Debug)]
struct Decolorize;

impl Stage for Decolorize {
    fn apply<'a>(&'a self, row: &mut Row<'a>) -> bool {
        if row.line.contains('\u{1b}') {
            row.line = Cow::Owned(without_escapes(&row.line));
        }
        true
    }

    fn needs(&self) -> Needs {
        Needs { line: true, changes_line: true, ..Needs::default() }
    }
}

/// Leaves out `ESC [ parameters final`.
fn without_escapes(line: &str) -> String {
    let mut text = String::with_capacity(line.len());
    let mut rest = line;
    while let Some((before, after)) = rest.split_once("\u{1b}[") {
        text.push_str(before);
        let end = after.find(|c: char| !matches!(c, '\u{20}'..='\u{3f}'));
        match end.and_then(|end| after.get(end..)).and_then(|tail| tail.chars().next().map(|c| (tail, c))) {
            Some((tail, '@'..='~')) => rest = tail.get(1..).unwrap_or_default(),
            Some((tail, _)) => rest = tail,
            None => rest = "",
        }
    }
    text.push_str(rest);
    text
}

impl fmt::Display for Decolorize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("| decolorize")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_go_and_text_stays() {
        assert_eq!(without_escapes("a\u{1b}[1;31mred\u{1b}[0m b"), "ared b");
        assert_eq!(without_escapes("cut\u{1b}[1;3"), "cut");
        assert_eq!(without_escapes("ü\u{1b}[ü"), "üü");
    }
}
