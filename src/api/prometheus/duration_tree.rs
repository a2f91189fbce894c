//! Duration arithmetic as JSON, for `parse_query`: `[5m + step()]` is a sum of a number and a call.
//! Invariant: it is read after the parser has read it, so it is no deeper than the parser allows.

use std::fmt::Write as _;

use super::json;
use crate::query::promql::lex::{self, Times, Token, Word};

/// The tree of a duration; none where its text is none.
pub(super) fn json(text: &str) -> Option<String> {
    let source = lex::read(text, Times::NOMINAL).ok()?;
    let mut tree = Tree { tokens: &source.tokens, at: 0 };
    let node = tree.sum()?;
    (tree.at == source.tokens.len()).then(|| node.text())
}

struct Tree<'t, 'a> {
    tokens: &'t [Token<'a>],
    at: usize,
}

enum Node {
    Number {
        value: f64,
        duration: bool,
    },
    /// An operator or call and its operands as JSON.
    Operation {
        op: String,
        left: String,
        right: String,
        wrapped: bool,
    },
}

const NONE: &str = "null";

impl Node {
    fn of(op: &str, left: String, right: String) -> Self {
        Self::Operation { op: op.to_owned(), left, right, wrapped: false }
    }

    fn text(self) -> String {
        let mut out = String::new();
        match self {
            Self::Number { value, duration } => {
                let _ = write!(out, "{{\"type\":\"numberLiteral\",\"val\":");
                json::float(&mut out, value);
                let _ = write!(out, ",\"duration\":{duration}}}");
            }
            Self::Operation { op, left, right, wrapped } => {
                let _ = write!(
                    out,
                    "{{\"type\":\"durationExpr\",\"op\":\"{op}\",\"lhs\":{left},\"rhs\":{right},\"wrapped\":{wrapped}}}"
                );
            }
        }
        out
    }
}

impl Tree<'_, '_> {
    fn next(&mut self, texts: &[&str]) -> Option<String> {
        let text = self.tokens.get(self.at)?.text.to_ascii_lowercase();
        let found = texts.contains(&text.as_str());
        self.at += usize::from(found);
        found.then_some(text)
    }

    fn sum(&mut self) -> Option<Node> {
        let mut left = self.product()?;
        while let Some(op) = self.next(&["+", "-"]) {
            left = Node::of(&op, left.text(), self.product()?.text());
        }
        Some(left)
    }

    fn product(&mut self) -> Option<Node> {
        let mut left = self.signed()?;
        while let Some(op) = self.next(&["*", "/", "%"]) {
            left = Node::of(&op, left.text(), self.signed()?.text());
        }
        Some(left)
    }

    fn signed(&mut self) -> Option<Node> {
        match self.next(&["+", "-"]).as_deref() {
            None => self.power(),
            Some("-") => Some(match self.signed()? {
                Node::Number { value, duration } => Node::Number { value: -value, duration },
                other => Node::of("-", NONE.to_owned(), other.text()),
            }),
            Some(_) => self.signed(),
        }
    }

    fn power(&mut self) -> Option<Node> {
        let base = self.atom()?;
        match self.next(&["^"]) {
            Some(op) => Some(Node::of(&op, base.text(), self.signed()?.text())),
            None => Some(base),
        }
    }

    fn atom(&mut self) -> Option<Node> {
        if self.next(&["("]).is_some() {
            let mut inner = self.sum()?;
            self.next(&[")"])?;
            if let Node::Operation { wrapped, .. } = &mut inner {
                *wrapped = true;
            }
            return Some(inner);
        }
        if let Some(op) = self.next(&["step", "range"]) {
            self.next(&["("])?;
            self.next(&[")"])?;
            return Some(Node::of(&op, NONE.to_owned(), NONE.to_owned()));
        }
        if let Some(op) = self.next(&["min_of", "max_of"]) {
            self.next(&["("])?;
            let left = self.sum()?.text();
            self.next(&[","])?;
            let right = self.sum()?.text();
            self.next(&[")"])?;
            return Some(Node::of(&op, left, right));
        }
        let token = self.tokens.get(self.at)?;
        self.at += 1;
        match token.word {
            Word::Duration => {
                Some(Node::Number { value: lex::duration_ms(token.text)? as f64 / 1000.0, duration: true })
            }
            Word::Number => Some(Node::Number { value: lex::number_value(token.text)?, duration: false }),
            Word::Name | Word::String | Word::Sign => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::json;

    #[test]
    fn arithmetic_becomes_a_tree() {
        let step = r#"{"type":"durationExpr","op":"step","lhs":null,"rhs":null,"wrapped":false}"#;
        assert_eq!(json("step()").unwrap(), step);
        let five = r#"{"type":"numberLiteral","val":"300","duration":true}"#;
        let sum =
            |wrapped| format!(r#"{{"type":"durationExpr","op":"+","lhs":{five},"rhs":{step},"wrapped":{wrapped}}}"#);
        assert_eq!(json("5m + step()").unwrap(), sum(false));
        assert_eq!(json("(5m + step())").unwrap(), sum(true));
        let minus = format!(r#"{{"type":"durationExpr","op":"-","lhs":null,"rhs":{},"wrapped":false}}"#, sum(true));
        assert_eq!(json("-(5m + step())").unwrap(), minus);
        assert_eq!(json("5m +"), None);
    }
}
