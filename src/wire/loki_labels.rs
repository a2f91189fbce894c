//! The text of a label set as Loki's push has it, `{a="b", c="d"}` with Go's quoting, and the rules
//! for names.

use super::label_check::Refusal;
use crate::base::go_escape::{Escaped, escape};
use std::borrow::Cow;

type Pair<'a> = (&'a str, Cow<'a, str>);

struct Parser<'a> {
    text: &'a str,
    rest: &'a str,
}

/// Whether a name is a legal label name: a letter or underscore, then those and digits.
pub fn is_label_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// The legal label name nearest to `name`: `a.b` becomes `a_b`, `9x` becomes `key_9x`.
pub fn clean_name(name: &str) -> Cow<'_, str> {
    if is_label_name(name) || name.is_empty() {
        return Cow::Borrowed(name);
    }
    let mut clean = String::with_capacity(name.len() + 4);
    if name.starts_with(|c: char| c.is_ascii_digit()) {
        clean.push_str("key_");
    }
    clean.extend(name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' }));
    Cow::Owned(clean)
}

/// Pairs after which a text is not read on: a pair of five bytes is one of forty in memory.
const PAIRS_MAX: usize = 10_000;

/// Parses a label set.
pub(super) fn parse(text: &str) -> Result<Vec<Pair<'_>>, Refusal> {
    let mut parser = Parser { text, rest: text };
    parser.expect('{')?;
    let mut pairs = Vec::new();
    while !parser.eat('}') {
        if !pairs.is_empty() {
            parser.expect(',')?;
            if parser.eat('}') {
                break;
            }
        }
        if pairs.len() == PAIRS_MAX {
            return Err(Refusal::new("too_many_labels", format!("a stream has over {PAIRS_MAX} labels")));
        }
        pairs.push(parser.pair()?);
    }
    if parser.rest.trim().is_empty() { Ok(pairs) } else { Err(parser.fail("text after the closing brace")) }
}

impl<'a> Parser<'a> {
    fn fail(&self, what: &str) -> Refusal {
        let column = self.text.len() - self.rest.len() + 1;
        let text = super::error::cut(self.text);
        Refusal::new("invalid_labels", format!("error parsing labels {text:?}: column {column}: {what}"))
    }

    fn eat(&mut self, wanted: char) -> bool {
        self.rest = self.rest.trim_start();
        match self.rest.strip_prefix(wanted) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn expect(&mut self, wanted: char) -> Result<(), Refusal> {
        if self.eat(wanted) { Ok(()) } else { Err(self.fail(&format!("expected {wanted:?}"))) }
    }

    fn pair(&mut self) -> Result<Pair<'a>, Refusal> {
        self.rest = self.rest.trim_start();
        let end = self.rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(self.rest.len());
        let (name, rest) = self.rest.split_at_checked(end).unwrap_or_default();
        if !is_label_name(name) {
            return Err(self.fail("expected a label name"));
        }
        self.rest = rest;
        self.expect('=')?;
        Ok((name, self.value()?))
    }

    fn value(&mut self) -> Result<Cow<'a, str>, Refusal> {
        if self.eat('`') {
            let (value, rest) = self.rest.split_once('`').ok_or_else(|| self.fail("a raw string is not closed"))?;
            self.rest = rest;
            return Ok(Cow::Borrowed(value));
        }
        self.expect('"')?;
        match self.rest.find(['"', '\\']) {
            Some(at) if self.rest.as_bytes().get(at) == Some(&b'"') => {
                let (value, rest) = self.rest.split_at_checked(at).unwrap_or_default();
                self.rest = rest.get(1..).unwrap_or_default();
                Ok(Cow::Borrowed(value))
            }
            Some(_) | None => self.escaped().map(Cow::Owned),
        }
    }

    fn escaped(&mut self) -> Result<String, Refusal> {
        // Escapes may spell bytes; those that are no UTF-8 become U+FFFD.
        let mut bytes = Vec::new();
        let mut chars = self.rest.chars();
        loop {
            match chars.next() {
                None => return Err(self.fail("a string is not closed")),
                Some('"') => break,
                Some('\\') => unescape(&mut chars, &mut bytes).ok_or_else(|| self.fail("an unknown escape"))?,
                Some(c) => bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        let value = match String::from_utf8(bytes) {
            Ok(value) => value,
            Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
        };
        self.rest = chars.as_str();
        Ok(value)
    }
}

/// Go's escapes in double quotes, where a single quote is none.
fn unescape(chars: &mut std::str::Chars<'_>, bytes: &mut Vec<u8>) -> Option<()> {
    match escape(chars)? {
        Escaped::Char('\'') => return None,
        Escaped::Char(c) => bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        Escaped::Byte(byte) => bytes.push(byte),
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<Vec<(String, String)>, Refusal> {
        Ok(parse(text)?.into_iter().map(|(name, value)| (name.to_owned(), value.into_owned())).collect())
    }

    #[test]
    fn labels_are_read_with_blanks_commas_and_escapes() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(parsed("{}").unwrap(), []);
        assert_eq!(parsed(r#" { a="b" , c = "d",} "#).unwrap(), [pair("a", "b"), pair("c", "d")]);
        assert_eq!(parsed(r#"{a="\xffx"}"#).unwrap(), [pair("a", "\u{fffd}x")]);
        let text = r#"{a="q\"\\\n\t\x41\101\u00fc\U0001F600", b=`raw\n"`}"#;
        assert_eq!(parsed(text).unwrap(), [pair("a", "q\"\\\n\tAAü😀"), pair("b", "raw\\n\"")]);
    }

    #[test]
    fn what_is_no_label_set_is_refused_with_its_column() {
        for text in [
            "",
            "a",
            "{",
            "{a}",
            "{a=}",
            "{a=b}",
            "{a=\"b}",
            "{a=\"b\" c=\"d\"}",
            "{1a=\"b\"}",
            "{a=\"\\q\"}",
            "{a=\"b\"}x",
            "{,}",
            "{a=\"\\",
        ] {
            let refusal = parsed(text).unwrap_err();
            assert!(refusal.text.contains("column"), "{text}: {}", refusal.text);
        }
    }

    #[test]
    fn a_text_of_labels_without_end_is_not_read_to_its_end() {
        let text = format!("{{{}", "a=\"\",".repeat(PAIRS_MAX + 1));
        assert_eq!(parsed(&text).unwrap_err().reason, "too_many_labels");
    }

    #[test]
    fn names_are_cleaned() {
        assert_eq!(clean_name("a.b-c"), "a_b_c");
        assert_eq!(clean_name("9x"), "key_9x");
        assert_eq!(clean_name("ok_1"), "ok_1");
        assert_eq!(clean_name("ü"), "_");
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "\\{?[a-c=\",\\\\x0-9`} ü]{0,40}") {
            let _ = parse(&text);
        }
    }
}
