//! `pattern`: labels from what stands between the literals of `<ip> - <_> [<ts>]`.

use std::borrow::Cow;
use std::fmt;

use super::{LineWork, Needs, Row, Stage, clean_name, with_line};
use crate::query::logql::ParseError;
use crate::query::logql::ast::quote;
use crate::query::logql::parser::Parser;

/// Reads the pattern.
///
/// # Errors
/// [`ParseError`] when it names no label, one twice, or two without a literal between.
pub fn parse(parser: &mut Parser) -> Result<Box<dyn Stage>, ParseError> {
    let at = parser.position();
    let text = parser.text("a pattern")?;
    let pieces = pieces(&text).map_err(|error| ParseError::new(at, format!("invalid pattern: {error}")))?;
    Ok(Box::new(Pattern { text, pieces }))
}

#[derive(Clone, Debug, PartialEq)]
enum Piece {
    Literal(String),
    /// A label, or nothing for `<_>`.
    Capture(Option<String>),
}

#[derive(Clone, Debug)]
struct Pattern {
    text: String,
    pieces: Vec<Piece>,
}

fn pieces(text: &str) -> Result<Vec<Piece>, String> {
    let mut pieces: Vec<Piece> = Vec::new();
    let mut literal = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('<') {
        literal.push_str(before);
        let name = after.split_once('>').filter(|(name, _)| !name.is_empty() && clean_name(name) == *name);
        let Some((name, tail)) = name else {
            literal.push('<');
            rest = after;
            continue;
        };
        if !literal.is_empty() {
            pieces.push(Piece::Literal(std::mem::take(&mut literal)));
        } else if !pieces.is_empty() {
            return Err("two captures need a literal between them".to_owned());
        }
        let piece = Piece::Capture((name != "_").then(|| name.to_owned()));
        if name != "_" && pieces.contains(&piece) {
            return Err(format!("duplicate capture name {name}"));
        }
        pieces.push(piece);
        rest = tail;
    }
    literal.push_str(rest);
    if !literal.is_empty() {
        pieces.push(Piece::Literal(literal));
    }
    if !pieces.iter().any(|piece| matches!(piece, Piece::Capture(Some(_)))) {
        return Err("at least one named capture is needed".to_owned());
    }
    Ok(pieces)
}

impl Stage for Pattern {
    fn apply<'a>(&'a self, row: &mut Row<'a>) -> bool {
        with_line(row, self);
        true
    }

    fn needs(&self) -> Needs {
        Needs { line: true, changes_labels: true, ..Needs::default() }
    }
}

impl<'a> LineWork<'a> for &'a Pattern {
    fn run<'l>(self, row: &mut Row<'a>, line: &'l str, own: impl Fn(&'l str) -> Cow<'a, str>) {
        let mut rest = line;
        let mut open: Option<&Option<String>> = None;
        for piece in &self.pieces {
            let literal = match piece {
                Piece::Capture(name) => {
                    open = Some(name);
                    continue;
                }
                Piece::Literal(literal) => literal.as_str(),
            };
            let Some(name) = open.take() else {
                let Some(tail) = rest.strip_prefix(literal) else { return };
                rest = tail;
                continue;
            };
            let (value, tail) = match rest.split_once(literal) {
                Some((value, tail)) => (value, Some(tail)),
                None => (rest, None),
            };
            if let Some(name) = name {
                row.extract(Cow::Borrowed(name.as_str()), own(value));
            }
            let Some(tail) = tail else { return };
            rest = tail;
        }
        if let Some(Some(name)) = open {
            row.extract(Cow::Borrowed(name.as_str()), own(rest));
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "| pattern {}", quote(&self.text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::logql::stages::testing::labels;

    #[test]
    fn captures_are_what_stands_between_literals() {
        let line = r#"10.0.0.1 - bob [now] "GET /x" 200"#;
        assert_eq!(
            labels(r#"| pattern `<ip> - <_> [<_>] "<m> <path>" <status>`"#, line),
            "ip=10.0.0.1 m=GET path=/x status=200"
        );
        assert_eq!(labels("| pattern `x<ip> y`", line), "");
    }

    #[test]
    fn captures_side_by_side_are_refused() {
        assert!(pieces("<a><b>").is_err());
        assert!(pieces("<a> <a>").is_err());
        assert!(pieces("<_> x").is_err());
        assert!(pieces("a < b <c>").is_ok());
    }
}
