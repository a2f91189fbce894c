//! Where a query stops making sense. The grammar crate says that it does, and what types do not fit,
//! but seldom where; the words are followed to the first that cannot stand where it stands.

use super::ast::Pos;
use super::lex::{SyntaxError, Token, Word};

/// What the crate says of a query that is no sentence of its grammar.
const NO_SENTENCE: &str = "invalid promql query";

/// The error of a query of which the crate says `message`.
pub(super) fn explain(tokens: &[Token<'_>], end: usize, message: &str) -> SyntaxError {
    match (Follower { tokens, at: 0 }.misplaced(), message) {
        (Some(error), _) => error,
        (None, NO_SENTENCE) => SyntaxError::new(Pos(end), "unexpected end of input"),
        (None, _) => SyntaxError::new(place(tokens, message), reworded(message)),
    }
}

/// A function that the message names in quotes, or the start.
fn place(tokens: &[Token<'_>], message: &str) -> Pos {
    let start = tokens.first().map_or(Pos(0), |token| token.pos);
    let named = message.split('\'').nth(1).unwrap_or_default();
    let mut calls =
        tokens.windows(3).filter(|words| matches!(words, [name, open, _] if name.text == named && open.text == "("));
    match (calls.next(), calls.next()) {
        (Some([name, _, argument]), None) => {
            if message.starts_with("expected type") {
                argument.pos
            } else {
                name.pos
            }
        }
        _ => start,
    }
}

/// The same in the words that the documentation of PromQL has for types.
fn reworded(message: &str) -> String {
    let mut text = message.replace('\'', "\"");
    for (from, to) in [
        ("scalar or vector", "scalar or instant vector"),
        ("an vector selector or matrix selector", "an instant vector selector or range vector selector"),
        ("type vector", "type instant vector"),
        ("type matrix", "type range vector"),
        ("got vector", "got instant vector"),
        ("got matrix", "got range vector"),
        ("got: matrix", "got \"range vector\""),
        ("got: string", "got \"string\""),
        ("allowed on vector", "allowed on instant vector"),
    ] {
        text = text.replace(from, to);
    }
    text
}

/// How messages show a word.
fn shown(token: &Token<'_>) -> String {
    match token.word {
        Word::Name => format!("identifier {:?}", token.text),
        Word::Number => format!("number {:?}", token.text),
        Word::Duration => format!("duration {:?}", token.text),
        Word::String => format!("string {}", token.text),
        Word::Sign => format!("{:?}", token.text),
    }
}

struct Follower<'t, 'a> {
    tokens: &'t [Token<'a>],
    at: usize,
}

impl Follower<'_, '_> {
    /// The first word that cannot follow the one before it.
    fn misplaced(&mut self) -> Option<SyntaxError> {
        let mut operand = false;
        while let Some(token) = self.tokens.get(self.at).copied() {
            self.at += 1;
            let wrong = || Some(SyntaxError::new(token.pos, format!("unexpected {}", shown(&token))));
            let lower = token.text.to_ascii_lowercase();
            match (token.word, lower.as_str()) {
                (Word::Sign, "{") => {
                    if let Some(error) = self.in_braces() {
                        return Some(error);
                    }
                    operand = true;
                }
                (Word::Sign, "[") if !operand => return wrong(),
                (Word::Sign, "[") => self.skip_to("]"),
                (Word::Sign, "(") => operand = false,
                (Word::Sign, ")") => operand = true,
                (Word::Sign, "=" | "=~" | "!~" | ":") => return wrong(),
                (Word::Sign, "+" | "-" | "," | "@") => operand = false,
                (Word::Sign, _) if !operand => return wrong(),
                (Word::Sign, _) => operand = false,
                (Word::Name, "and" | "or" | "unless" | "atan2") if operand => {
                    operand = false;
                    self.skip_modifiers();
                }
                (Word::Name, "offset") if operand => operand = false,
                (Word::Name, "anchored" | "smoothed") if operand => {}
                (Word::Name, "by" | "without") if operand => self.skip_list(),
                (Word::Name, "bool" | "on" | "ignoring") if !operand && self.follows_operator() => {
                    self.at -= 1;
                    self.skip_modifiers();
                }
                (_, "start" | "end") if !operand && self.after("@") => self.skip_to(")"),
                _ if operand => return wrong(),
                _ => operand = true,
            }
        }
        None
    }

    fn text(&self) -> String {
        self.tokens.get(self.at).map_or_else(String::new, |token| token.text.to_ascii_lowercase())
    }

    /// Whether the word before the current one is `text`.
    fn after(&self, text: &str) -> bool {
        self.at.checked_sub(2).and_then(|at| self.tokens.get(at)).is_some_and(|token| token.text == text)
    }

    fn follows_operator(&self) -> bool {
        let before = self.at.checked_sub(2).and_then(|at| self.tokens.get(at));
        before.is_some_and(|token| token.word == Word::Sign && !matches!(token.text, "(" | "," | "@"))
    }

    fn skip_to(&mut self, close: &str) {
        while self.at < self.tokens.len() && self.text() != close {
            self.at += 1;
        }
        self.at += 1;
    }

    fn skip_list(&mut self) {
        if self.text() == "(" {
            self.skip_to(")");
        }
    }

    /// Moves past what may stand between an operator and its right side.
    fn skip_modifiers(&mut self) {
        while matches!(
            self.text().as_str(),
            "bool" | "on" | "ignoring" | "group_left" | "group_right" | "fill" | "fill_left" | "fill_right"
        ) {
            self.at += 1;
            self.skip_list();
        }
    }

    /// Follows label matchers up to their `}`.
    fn in_braces(&mut self) -> Option<SyntaxError> {
        // What the next word must be.
        let mut wants = "identifier or \"}\"";
        while let Some(token) = self.tokens.get(self.at) {
            self.at += 1;
            let is_operator = matches!(token.text, "=" | "!=" | "=~" | "!~");
            wants = match (wants, token.word, token.text) {
                ("identifier or \"}\"" | "\",\" or \"}\"" | "operator, \",\" or \"}\"", Word::Sign, "}") => {
                    return None;
                }
                ("identifier or \"}\"", Word::Name, _) => "label matching operator",
                // Alone it is the metric's name.
                ("identifier or \"}\"", Word::String, _) => "operator, \",\" or \"}\"",
                ("label matching operator" | "operator, \",\" or \"}\"", Word::Sign, _) if is_operator => "string",
                ("string", Word::String, _) => "\",\" or \"}\"",
                ("\",\" or \"}\"" | "operator, \",\" or \"}\"", Word::Sign, ",") => "identifier or \"}\"",
                _ => {
                    let message = format!("unexpected {} in label matching, expected {wants}", shown(token));
                    return Some(SyntaxError::new(token.pos, message));
                }
            };
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::promql::lex::{Times, read};

    fn said(query: &str) -> (usize, String) {
        let source = read(query, Times::NOMINAL).unwrap();
        let error = explain(&source.tokens, query.len(), NO_SENTENCE);
        (error.pos.0, error.message)
    }

    #[test]
    fn the_first_word_out_of_place_is_named() {
        for (query, at, message) in [
            ("foo bar", 4, "unexpected identifier \"bar\""),
            ("sum by (a) (foo) bar", 17, "unexpected identifier \"bar\""),
            ("1 2", 2, "unexpected number \"2\""),
            ("foo * * bar", 6, "unexpected \"*\""),
            ("foo = 1", 4, "unexpected \"=\""),
            ("a + on (x) group_left b c", 24, "unexpected identifier \"c\""),
            ("a > bool b and on (c) d e", 24, "unexpected identifier \"e\""),
            ("rate(foo[5m] offset 1m @ start()) x", 34, "unexpected identifier \"x\""),
            ("foo{a}", 5, "unexpected \"}\" in label matching, expected label matching operator"),
            ("foo{a=b}", 6, "unexpected identifier \"b\" in label matching, expected string"),
            ("foo{a=\"b\" c=\"d\"}", 10, "unexpected identifier \"c\" in label matching, expected \",\" or \"}\""),
            ("foo +", 5, "unexpected end of input"),
        ] {
            assert_eq!(said(query), (at, message.to_owned()), "{query}");
        }
    }

    #[test]
    fn types_are_named_as_the_documentation_does() {
        let query = "1 + rate(foo)";
        let source = read(query, Times::NOMINAL).unwrap();
        let message = "expected type matrix in call to function 'rate', got vector";
        let error = explain(&source.tokens, query.len(), message);
        assert_eq!(error.pos.0, 9);
        assert_eq!(error.message, "expected type range vector in call to function \"rate\", got instant vector");
    }
}
