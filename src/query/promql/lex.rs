//! The words of a query with their places, and the duration arithmetic that the grammar crate does
//! not know (`[step()*2]`, `offset -(1m/2)`, `anchored`, `</`). [`Source::plain`] is the same query
//! with these written in words that it knows.
//! Invariant: nothing here recurses deeper than [`DEPTH_MAX`].

mod literals;

use std::collections::HashMap;

use super::ast::Edges;
use super::ast::Pos;
use super::durations::Durations;
use super::token::error;

pub use super::token::{Bracket, SyntaxError, SyntaxKind, Times, Token, Word};
pub use literals::{duration_ms, number_value};

use literals::{is_broken, number, string_length};

/// Longest query, in bytes.
pub const QUERY_BYTES_MAX: usize = 1 << 20;
/// Most words of a query: the crate that parses them, some million a second, cannot be interrupted.
const WORDS_MAX: usize = 100_000;
/// Deepest nesting of brackets.
const DEPTH_MAX: usize = 200;
/// Most operators in one query; a chain of them is as deep a tree as it is long.
const OPERATORS_MAX: usize = 2_000;

/// A label that stands in the plain query behind each matcher that has a regular expression, in which it is
/// written with `=`: the crate would compile it, and that is done within the query's budget.
pub(super) const PATTERN_LABEL: &str = "__trilith_pattern__";
/// A label that stands in selectors of the plain query that may match anything.
pub(super) const ANY_LABEL: &str = "__any__";

/// A query in words.
pub struct Source<'a> {
    /// The words.
    pub tokens: Vec<Token<'a>>,
    /// By the index of `[`.
    pub brackets: HashMap<usize, Bracket>,
    /// By the index of `offset`: milliseconds and the index after.
    pub offsets: HashMap<usize, (i64, usize)>,
    /// By the index of `@`: milliseconds and the index after; not for `start()` and `end()`.
    pub ats: HashMap<usize, (i64, usize)>,
    /// By the index of the keyword.
    pub edges: HashMap<usize, Edges>,
    /// The query in words that the grammar knows.
    pub plain: String,
    /// Nesting and operators together: how deep the tree can be.
    pub depth: usize,
}

/// Line and column of a place, both from one, as messages show them.
pub fn line_and_column(query: &str, pos: Pos) -> (usize, usize) {
    let before = query.as_bytes().get(..pos.0.min(query.len())).unwrap_or_default();
    let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
    let column = 1 + before.iter().rev().take_while(|byte| **byte != b'\n').count();
    (line, column)
}

/// Splits `query` into words and works out its durations.
///
/// # Errors
/// [`SyntaxError`] on bytes that begin no word, brackets that do not match, queries too long or deep.
pub fn read(query: &str, times: Times) -> Result<Source<'_>, SyntaxError> {
    if query.len() > QUERY_BYTES_MAX {
        return error(Pos(0), format!("query of {} bytes is over the limit of {QUERY_BYTES_MAX}", query.len()));
    }
    let tokens = words(query)?;
    let depth = check_depth(&tokens, query.len())?;
    let mut source = Source {
        tokens,
        brackets: HashMap::new(),
        offsets: HashMap::new(),
        ats: HashMap::new(),
        edges: HashMap::new(),
        plain: String::with_capacity(query.len() + 16),
        depth,
    };
    rewrite(&mut source, times, query.len())?;
    Ok(source)
}

const SIGNS_TWO: [&str; 8] = ["==", "!=", "=~", "!~", "<=", ">=", "</", ">/"];

fn words(query: &str) -> Result<Vec<Token<'_>>, SyntaxError> {
    let mut tokens = Vec::new();
    let mut at = 0;
    let mut in_brackets = false;
    while let Some(rest) = query.get(at..).filter(|rest| !rest.is_empty()) {
        let Some(first) = rest.chars().next() else { break };
        if first.is_ascii_whitespace() {
            at += 1;
            continue;
        }
        if first == '#' {
            at += rest.find('\n').unwrap_or(rest.len());
            continue;
        }
        let (word, length) = match first {
            '"' | '\'' | '`' => (Word::String, string_length(rest, first, Pos(at))?),
            _ if first.is_ascii_digit() || (first == '.' && rest[1..].starts_with(|c: char| c.is_ascii_digit())) => {
                number(rest)
            }
            _ if first.is_ascii_alphabetic() || first == '_' || (first == ':' && !in_brackets) => {
                let ends = |c: char| !(c.is_ascii_alphanumeric() || c == '_' || (c == ':' && !in_brackets));
                (Word::Name, rest.find(ends).unwrap_or(rest.len()))
            }
            _ => match SIGNS_TWO.iter().find(|sign| rest.starts_with(**sign)) {
                Some(sign) => (Word::Sign, sign.len()),
                None if "+-*/%^()[]{},:=<>@".contains(first) => (Word::Sign, 1),
                None => return error(Pos(at), format!("unexpected character: {first:?}")),
            },
        };
        match first {
            '[' => in_brackets = true,
            ']' => in_brackets = false,
            _ => {}
        }
        if word == Word::String && first != '`' && is_broken(&rest[..length]) {
            return Err(broken(&tokens, &rest[..length], Pos(at)));
        }
        if tokens.len() == WORDS_MAX {
            return error(Pos(at), format!("the query has more than {WORDS_MAX} words"));
        }
        tokens.push(Token { word, text: &rest[..length], pos: Pos(at) });
        at += length;
    }
    Ok(tokens)
}

/// The error of a string that is not UTF-8. Where a label's name stands it is no error of the text.
fn broken(before: &[Token<'_>], string: &str, pos: Pos) -> SyntaxError {
    let counts = |token: &Token<'_>| token.text.eq_ignore_ascii_case("count_values");
    match before.split_last() {
        Some((open, before)) if open.text == "(" && before.last().is_some_and(counts) => {
            let message = format!("invalid label name \"{}\"", &string[1..string.len() - 1]);
            SyntaxError { pos, message, kind: SyntaxKind::LabelName }
        }
        _ => SyntaxError::new(pos, "a string is not valid UTF-8"),
    }
}

fn check_depth(tokens: &[Token<'_>], end: usize) -> Result<usize, SyntaxError> {
    let mut open: Vec<&Token<'_>> = Vec::new();
    let (mut deepest, mut operators) = (0, 0);
    for token in tokens {
        match (token.word, token.text) {
            (Word::Sign, "(" | "[" | "{") => {
                open.push(token);
                deepest = deepest.max(open.len());
                if deepest > DEPTH_MAX {
                    return error(token.pos, format!("brackets are nested deeper than {DEPTH_MAX}"));
                }
            }
            (Word::Sign, ")" | "]" | "}") => {
                let partner = match token.text {
                    ")" => "(",
                    "]" => "[",
                    _ => "{",
                };
                match open.pop() {
                    Some(opened) if opened.text == partner => {}
                    Some(opened) => {
                        return error(token.pos, format!("unexpected {:?} after {:?}", token.text, opened.text));
                    }
                    None => return error(token.pos, format!("unexpected {:?}", token.text)),
                }
            }
            (Word::Sign, ",") => {}
            (Word::Sign, _) => operators += 1,
            (Word::Name, text) if matches!(text.to_ascii_lowercase().as_str(), "or" | "and" | "unless" | "atan2") => {
                operators += 1;
            }
            _ => {}
        }
        if operators > OPERATORS_MAX {
            return error(token.pos, format!("the query has more than {OPERATORS_MAX} operators"));
        }
    }
    match open.last() {
        Some(opened) => error(Pos(end), format!("unclosed {:?}", opened.text)),
        None => Ok(deepest + operators),
    }
}

/// Whether a modifier can follow the token.
fn ends_operand(token: Option<&Token<'_>>) -> bool {
    token.is_some_and(|token| match token.word {
        Word::Name | Word::Number | Word::Duration => true,
        Word::Sign => matches!(token.text, "}" | "]" | ")"),
        Word::String => false,
    })
}

fn rewrite(source: &mut Source<'_>, times: Times, end: usize) -> Result<(), SyntaxError> {
    let mut at = 0;
    let mut in_braces = false;
    let mut is_pattern = false;
    let mut calls_info: Vec<bool> = Vec::new();
    while let Some(token) = source.tokens.get(at).copied() {
        let before = at.checked_sub(1).and_then(|at| source.tokens.get(at));
        let follows = ends_operand(before);
        let next = source.tokens.get(at + 1).map_or("", |token| token.text);
        let word = token.text.to_ascii_lowercase();
        let mut durations = Durations { tokens: &source.tokens, at: at + 1, times, end };
        match (token.word, word.as_str()) {
            (Word::Sign, "[") => {
                let bracket = durations.bracket()?;
                source.plain.push_str(if bracket.step.is_none() { "[1s] " } else { "[1s:1s] " });
                source.brackets.insert(at, bracket);
                at = bracket.after;
                continue;
            }
            // The crate takes these for numbers and panics when it makes a duration of them.
            (Word::Name, "offset") if follows && matches!(next.to_ascii_lowercase().as_str(), "inf" | "nan") => {
                return error(token.pos, format!("unexpected {next:?} in offset, expected number or duration"));
            }
            (Word::Name, "offset") if follows && !in_braces && durations.starts() => {
                let ms = durations.offset()?;
                let after = durations.at;
                source.plain.push_str("offset 1s ");
                source.offsets.insert(at, (ms, after));
                at = after;
                continue;
            }
            (Word::Sign, "@") if !matches!(next.to_ascii_lowercase().as_str(), "start" | "end") => {
                let ms = durations.timestamp()?;
                let after = durations.at;
                source.plain.push_str("@ 1 ");
                source.ats.insert(at, (ms, after));
                at = after;
                continue;
            }
            // What would follow a name makes no sense after what ends a selector.
            (Word::Name, "anchored" | "smoothed") if follows && !in_braces && matches!(next, "(" | "{" | "[") => {
                return error(token.pos, format!("unexpected {next:?} after {word:?}"));
            }
            (Word::Name, "anchored" | "smoothed") if follows && !in_braces => {
                let edges = if word == "anchored" { Edges::Anchored } else { Edges::Smoothed };
                if before.is_some_and(|_| source.edges.contains_key(&(at - 1))) {
                    let own = source.edges.get(&(at - 1)) == Some(&edges);
                    let what = if own { "may not be set multiple times" } else { "cannot be used together" };
                    return error(token.pos, format!("anchored and smoothed modifiers {what}"));
                }
                source.edges.insert(at, edges);
                at += 1;
                continue;
            }
            (Word::Sign, "=~") if in_braces => source.plain.push_str("= "),
            (Word::Sign, "!~") if in_braces => source.plain.push_str("!= "),
            (Word::Sign, "</") => source.plain.push_str("<= "),
            (Word::Sign, ">/") => source.plain.push_str(">= "),
            (Word::Sign, "{") => {
                in_braces = true;
                let second_of_info = calls_info.last() == Some(&true) && before.is_some_and(|token| token.text == ",");
                if second_of_info {
                    source.plain.push_str(&format!("{{ {ANY_LABEL} != \"\" , "));
                    at += 1;
                    continue;
                }
            }
            (Word::Sign, "(") => calls_info.push(before.is_some_and(|token| token.text.eq_ignore_ascii_case("info"))),
            (Word::Sign, ")") => {
                calls_info.pop();
            }
            (Word::Sign, "}") => in_braces = false,
            _ => {}
        }
        match token.word {
            Word::Sign if matches!(token.text, "</" | ">/") => {}
            Word::Sign if in_braces && matches!(token.text, "=~" | "!~") => {}
            // The crate knows no digits in groups, and reads escapes also in raw strings.
            Word::Number if in_groups(token.text) => {
                source.plain.extend(token.text.chars().filter(|c| *c != '_').chain([' ']));
            }
            Word::String if token.text.starts_with('`') => {
                let raw = token.text.trim_matches('`');
                source.plain.push('"');
                for c in raw.chars() {
                    match c {
                        '"' | '\\' => source.plain.extend(['\\', c]),
                        '\n' => source.plain.push_str("\\n"),
                        '\r' => source.plain.push_str("\\r"),
                        c => source.plain.push(c),
                    }
                }
                source.plain.push_str("\" ");
            }
            _ => source.plain.extend([token.text, " "]),
        }
        if is_pattern && token.word == Word::String {
            source.plain.push_str(&format!(", {PATTERN_LABEL} = \"1\" "));
        }
        is_pattern = in_braces && matches!(token.text, "=~" | "!~");
        at += 1;
    }
    Ok(())
}

/// Whether each `_` of a number stands between two of its digits.
fn in_groups(number: &str) -> bool {
    let bytes = number.as_bytes();
    let hex = number.starts_with("0x") || number.starts_with("0X");
    let is_digit = |byte: Option<&u8>| match byte {
        Some(b'x' | b'X') => hex,
        Some(byte) => {
            if hex {
                byte.is_ascii_hexdigit()
            } else {
                byte.is_ascii_digit()
            }
        }
        None => false,
    };
    let between = |at: usize| is_digit(at.checked_sub(1).and_then(|at| bytes.get(at))) && is_digit(bytes.get(at + 1));
    bytes.iter().enumerate().filter(|(_, byte)| **byte == b'_').all(|(at, _)| between(at))
}

/// The words from one place up to another as they are usually spaced, when they are more than one
/// number or duration with its sign.
pub(super) fn arithmetic(tokens: &[Token<'_>], from: usize, to: usize) -> Option<String> {
    let words = tokens.get(from..to).unwrap_or_default();
    if let [_] | [Token { text: "+" | "-", .. }, Token { word: Word::Number | Word::Duration, .. }] = words {
        return None;
    }
    let (mut out, mut operand) = (String::new(), false);
    for token in words {
        match token.text {
            "+" | "-" | "*" | "/" | "%" | "^" if operand => out.extend([" ", token.text, " "]),
            "," => out.push_str(", "),
            text => out.push_str(text),
        }
        operand = token.word != Word::Sign || token.text == ")";
    }
    (!words.is_empty()).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range_of(query: &str) -> i64 {
        let source = read(query, Times { start: 0, end: 60_000, step: 10_000 }).unwrap();
        source.brackets.values().next().unwrap().range
    }

    #[test]
    fn durations_are_arithmetic() {
        assert_eq!(range_of("a[1h30m % 1h]"), 1_800_000);
        assert_eq!(range_of("a[2*step()^1+max_of(1s, 5)]"), 25_000);
    }

    #[test]
    fn offset_binds_tighter_than_operators() {
        let source = read("a offset -2 ^ 2", Times::default()).unwrap();
        assert_eq!(source.offsets.get(&1), Some(&(-2_000, 4)));
        assert_eq!(source.plain, "a offset 1s ^ 2 ");
    }

    #[test]
    fn hostile_text_is_refused_before_it_is_parsed() {
        let deep = "(".repeat(10_000);
        assert!(read(&deep, Times::default()).is_err());
        assert!(read(&"-".repeat(100_000), Times::default()).is_err());
        assert!(read(&"a".repeat(2 << 20), Times::default()).is_err());
        for text in ["a[", "a[1e300]", "a[0x]", "a @", "a offset", "\"\\", "a[5m:", "é", "a[1/0]", "a @ 1e300"] {
            let _ = read(text, Times::default());
        }
    }

    #[test]
    fn places_are_lines_and_columns() {
        assert_eq!(line_and_column("a\n + b", Pos(5)), (2, 4));
    }
}
