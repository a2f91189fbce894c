//! `logfmt`: labels from `key=value` pairs; all of them, or those that expressions name.
//! Flags: `--strict` marks a malformed line, `--keep-empty` keeps keys without a value.

use std::borrow::Cow;
use std::fmt;

use super::json::write_extractions;
use super::{LineWork, Needs, Row, Stage, clean_name, with_line};
use crate::query::logql::ParseError;
use crate::query::logql::lexer::unescape;
use crate::query::logql::parser::{Extraction, Parser};

/// Reads what follows the keyword.
///
/// # Errors
/// [`ParseError`] at an unknown flag or a malformed list.
pub fn parse(parser: &mut Parser) -> Result<Box<dyn Stage>, ParseError> {
    let (mut strict, mut keep_empty) = (false, false);
    while let Some((at, flag)) = parser.flag() {
        match flag.as_str() {
            "strict" => strict = true,
            "keep-empty" => keep_empty = true,
            _ => return Err(ParseError::new(at, format!("unknown flag --{flag} of logfmt"))),
        }
    }
    Ok(Box::new(Logfmt { strict, keep_empty, wanted: parser.extractions()? }))
}

#[derive(Clone, Debug)]
struct Logfmt {
    strict: bool,
    keep_empty: bool,
    wanted: Vec<Extraction>,
}

impl Stage for Logfmt {
    fn apply<'a>(&'a self, row: &mut Row<'a>) -> bool {
        with_line(row, self);
        true
    }

    fn needs(&self) -> Needs {
        Needs { line: true, changes_labels: true, ..Needs::default() }
    }
}

impl<'a> LineWork<'a> for &'a Logfmt {
    fn run<'l>(self, row: &mut Row<'a>, line: &'l str, own: impl Fn(&'l str) -> Cow<'a, str>) {
        if self.wanted.is_empty() {
            let keep_empty = self.keep_empty;
            self.scan(row, line, |row, key, value| {
                let value = own_value(value, &own);
                if !value.is_empty() || keep_empty {
                    let name = match clean_name(key) {
                        Cow::Borrowed(_) => own(key),
                        Cow::Owned(clean) => Cow::Owned(clean),
                    };
                    row.extract(name, value);
                }
            });
            return;
        }
        let mut found: Vec<Option<Cow<'a, str>>> = vec![None; self.wanted.len()];
        self.scan(row, line, |row, key, value| {
            if !row.spend(8 * self.wanted.len()) {
                return;
            }
            for (wanted, found) in self.wanted.iter().zip(&mut found) {
                if wanted.source == key {
                    *found = Some(own_value(value.clone(), &own));
                }
            }
        });
        for (wanted, value) in self.wanted.iter().zip(found) {
            row.extract(Cow::Borrowed(wanted.label.as_str()), value.unwrap_or_default());
        }
    }
}

fn own_value<'a, 'l>(value: Cow<'l, str>, own: &impl Fn(&'l str) -> Cow<'a, str>) -> Cow<'a, str> {
    match value {
        Cow::Borrowed(text) => own(text),
        Cow::Owned(text) => Cow::Owned(text),
    }
}

impl Logfmt {
    fn scan<'a, 'l>(
        &self,
        row: &mut Row<'a>,
        line: &'l str,
        mut pair: impl FnMut(&mut Row<'a>, &'l str, Cow<'l, str>),
    ) {
        let mut rest = line;
        loop {
            match next_pair(rest) {
                None => return,
                Some((Ok((key, value)), tail)) => {
                    pair(row, key, value);
                    rest = tail;
                }
                Some((Err(what), tail)) => {
                    if self.strict {
                        let at = line.len() - rest.len();
                        return row.fail("LogfmtParserErr", || format!("{what} after byte {at}"));
                    }
                    rest = tail;
                }
            }
        }
    }
}

/// All pairs of a line that have a value, with names as labels have them.
pub fn pairs(line: &str) -> Vec<super::Pair<'_>> {
    let mut pairs = Vec::new();
    let mut rest = line;
    while let Some((found, tail)) = next_pair(rest) {
        if let Ok((key, value)) = found
            && !value.is_empty()
        {
            pairs.push((clean_name(key), value));
        }
        rest = tail;
    }
    pairs
}

type Found<'l> = Result<(&'l str, Cow<'l, str>), &'static str>;

/// The next pair, or what is wrong with it, and the text behind it; `None` at the end.
fn next_pair(text: &str) -> Option<(Found<'_>, &str)> {
    let blank = |c: char| c <= ' ';
    let text = text.trim_start_matches(blank);
    if text.is_empty() {
        return None;
    }
    let end = text.find(|c: char| c <= ' ' || c == '=' || c == '"').unwrap_or(text.len());
    let (key, rest) = text.split_at_checked(end)?;
    let Some(value) = rest.strip_prefix('=') else {
        if rest.starts_with('"') {
            return Some((Err("unexpected '\"'"), skip_word(rest)));
        }
        return Some((Ok((key, Cow::Borrowed(""))), rest));
    };
    if key.is_empty() {
        return Some((Err("unexpected '='"), skip_word(value)));
    }
    let Some(quoted) = value.strip_prefix('"') else {
        let end = value.find(blank).unwrap_or(value.len());
        let (value, tail) = value.split_at_checked(end)?;
        if value.contains(['=', '"']) {
            return Some((Err("unexpected '=' or '\"' in a value"), tail));
        }
        return Some((Ok((key, Cow::Borrowed(value))), tail));
    };
    let Some(end) = closing_quote(quoted) else { return Some((Err("unterminated quoted value"), "")) };
    let (raw, tail) = quoted.split_at_checked(end)?;
    let tail = tail.get(1..).unwrap_or_default();
    let value = if raw.contains('\\') {
        match unescape(raw) {
            Some(value) => Cow::Owned(value),
            None => return Some((Err("invalid quoted value"), tail)),
        }
    } else {
        Cow::Borrowed(raw)
    };
    Some((Ok((key, value)), tail))
}

fn closing_quote(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut at = 0;
    loop {
        at += memchr::memchr2(b'"', b'\\', bytes.get(at..)?)?;
        if bytes.get(at) == Some(&b'"') {
            return Some(at);
        }
        at += 2;
    }
}

fn skip_word(text: &str) -> &str {
    let end = text.find(|c: char| c <= ' ').unwrap_or(text.len());
    text.get(end..).unwrap_or_default()
}

impl fmt::Display for Logfmt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("| logfmt")?;
        f.write_str(if self.strict { " --strict" } else { "" })?;
        f.write_str(if self.keep_empty { " --keep-empty" } else { "" })?;
        f.write_str(if self.wanted.is_empty() { "" } else { " " })?;
        write_extractions(f, &self.wanted)
    }
}

#[cfg(test)]
mod tests {
    use crate::query::logql::stages::testing::labels;

    #[test]
    fn the_last_of_equal_keys_wins_and_quotes_are_removed() {
        assert_eq!(
            labels("| logfmt", r#"a=1 b="x \"y\" z" a=2 c.d=3 app=4"#),
            r#"a=2 app_extracted=4 b=x "y" z c_d=3"#
        );
    }

    #[test]
    fn keys_without_value_are_left_out_unless_kept() {
        assert_eq!(labels("| logfmt", "plain a= b=1"), "b=1");
        assert_eq!(labels("| logfmt --keep-empty", "plain a= b=1"), "a= b=1 plain=");
    }

    #[test]
    fn strict_keeps_what_came_before_the_error() {
        assert_eq!(labels("| logfmt", "a=1 =x b=2 c=\"open"), "a=1 b=2");
        let strict = labels("| logfmt --strict", "a=1 =x b=2");
        assert!(strict.contains("__error__=LogfmtParserErr") && strict.ends_with("a=1"), "{strict}");
    }

    #[test]
    fn expressions_pick_keys_and_missing_ones_are_empty() {
        assert_eq!(labels("| logfmt x=\"c.d\", b, zz", "b=1 c.d=2"), "b=1 x=2 zz=");
    }
}
