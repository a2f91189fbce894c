//! A JSON scanner that copies nothing: values are given as pieces of the text, strings still
//! escaped. Nesting is bounded, and numbers keep the way they are written.

use std::borrow::Cow;

/// Deepest nesting.
const DEPTH_MAX: usize = 128;

/// A value found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Value<'l> {
    /// What stands between the quotes.
    Text(&'l str),
    /// A number, `true` or `false`, as written.
    Plain(&'l str),
    /// `null`.
    Null,
    /// An object, as written.
    Object(&'l str),
    /// An array, as written.
    Array(&'l str),
}

/// Where a scan is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scan<'l> {
    text: &'l str,
    at: usize,
}

/// What is wrong, and at which byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ScanError(pub(crate) &'static str, pub(crate) usize);

impl std::fmt::Display for ScanError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} at byte {}", self.0, self.1)
    }
}

impl<'l> Scan<'l> {
    pub(crate) fn new(text: &'l str) -> Self {
        Self { text, at: 0 }
    }

    fn error<T>(&self, what: &'static str) -> Result<T, ScanError> {
        Err(ScanError(what, self.at))
    }

    fn peek(&mut self) -> Option<u8> {
        let bytes = self.text.as_bytes();
        while matches!(bytes.get(self.at), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
        bytes.get(self.at).copied()
    }

    fn eat(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn slice(&self, from: usize) -> &'l str {
        self.text.get(from..self.at).unwrap_or_default()
    }

    /// Whether nothing but blanks is left.
    pub(crate) fn at_end(&mut self) -> bool {
        self.peek().is_none()
    }

    /// Reads one value of any kind.
    pub(crate) fn value(&mut self) -> Result<Value<'l>, ScanError> {
        self.value_at(0)
    }

    fn value_at(&mut self, depth: usize) -> Result<Value<'l>, ScanError> {
        if depth > DEPTH_MAX {
            return self.error("nested too deep");
        }
        let first = self.peek();
        let from = self.at;
        match first {
            Some(b'"') => self.string().map(Value::Text),
            Some(b'{') => {
                self.members(depth, &mut |_, _| Ok(()))?;
                Ok(Value::Object(self.slice(from)))
            }
            Some(b'[') => {
                self.items(depth, &mut |_| {})?;
                Ok(Value::Array(self.slice(from)))
            }
            Some(b'-' | b'0'..=b'9') => self.number().map(Value::Plain),
            Some(_) => match self.word() {
                "null" => Ok(Value::Null),
                word @ ("true" | "false") => Ok(Value::Plain(word)),
                _ => Err(ScanError("no value", from)),
            },
            None => self.error("text ends within a value"),
        }
    }

    fn word(&mut self) -> &'l str {
        let from = self.at;
        while self.text.as_bytes().get(self.at).is_some_and(u8::is_ascii_lowercase) {
            self.at += 1;
        }
        self.slice(from)
    }

    fn number(&mut self) -> Result<&'l str, ScanError> {
        let from = self.at;
        while matches!(self.text.as_bytes().get(self.at), Some(b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E')) {
            self.at += 1;
        }
        let text = self.slice(from);
        if text.parse::<f64>().is_ok() { Ok(text) } else { Err(ScanError("no number", from)) }
    }

    fn string(&mut self) -> Result<&'l str, ScanError> {
        if !self.eat(b'"') {
            return self.error("a string must start here");
        }
        let from = self.at;
        let bytes = self.text.as_bytes();
        loop {
            let rest = bytes.get(self.at..).unwrap_or_default();
            let Some(found) = memchr::memchr2(b'"', b'\\', rest) else {
                return self.error("text ends within a string");
            };
            self.at += found;
            if bytes.get(self.at) == Some(&b'"') {
                let text = self.slice(from);
                self.at += 1;
                return Ok(text);
            }
            self.at = (self.at + 2).min(bytes.len());
        }
    }

    /// Reads an object and calls `member` for each name and value in it.
    pub(crate) fn object(
        &mut self,
        member: &mut dyn FnMut(&'l str, Value<'l>) -> Result<(), ScanError>,
    ) -> Result<(), ScanError> {
        self.members(0, member)
    }

    fn members(
        &mut self,
        depth: usize,
        member: &mut dyn FnMut(&'l str, Value<'l>) -> Result<(), ScanError>,
    ) -> Result<(), ScanError> {
        if !self.eat(b'{') {
            return self.error("an object must start here");
        }
        if self.eat(b'}') {
            return Ok(());
        }
        loop {
            self.peek();
            let name = self.string()?;
            if !self.eat(b':') {
                return self.error("a colon must stand here");
            }
            let value = self.value_at(depth + 1)?;
            member(name, value)?;
            if self.eat(b'}') {
                return Ok(());
            }
            if !self.eat(b',') {
                return self.error("a comma or the object's end must stand here");
            }
        }
    }

    fn items(&mut self, depth: usize, item: &mut dyn FnMut(Value<'l>)) -> Result<(), ScanError> {
        if !self.eat(b'[') {
            return self.error("an array must start here");
        }
        if self.eat(b']') {
            return Ok(());
        }
        loop {
            item(self.value_at(depth + 1)?);
            if self.eat(b']') {
                return Ok(());
            }
            if !self.eat(b',') {
                return self.error("a comma or the array's end must stand here");
            }
        }
    }
}

/// The member `name` of an object, the last one when there are several.
pub(crate) fn member<'l>(object: &'l str, name: &str) -> Option<Value<'l>> {
    let mut found = None;
    let _ = Scan::new(object).object(&mut |own, value| {
        if unescape(own) == name {
            found = Some(value);
        }
        Ok(())
    });
    found
}

/// Item number `index` of an array.
pub(crate) fn item(array: &str, index: usize) -> Option<Value<'_>> {
    let mut items = 0;
    let mut found = None;
    let _ = Scan::new(array).items(0, &mut |value| {
        if items == index {
            found = Some(value);
        }
        items += 1;
    });
    found
}

/// Removes the escapes of a JSON string. What is malformed becomes U+FFFD.
pub(crate) fn unescape(raw: &str) -> Cow<'_, str> {
    if !raw.contains('\\') {
        return Cow::Borrowed(raw);
    }
    let mut text = String::with_capacity(raw.len());
    let mut rest = raw;
    while let Some((plain, escaped)) = rest.split_once('\\') {
        text.push_str(plain);
        let mut chars = escaped.chars();
        match chars.next() {
            Some('n') => text.push('\n'),
            Some('t') => text.push('\t'),
            Some('r') => text.push('\r'),
            Some('b') => text.push('\u{8}'),
            Some('f') => text.push('\u{c}'),
            Some('u') => {
                let (c, tail) = unicode(chars.as_str());
                text.push(c);
                rest = tail;
                continue;
            }
            Some(c) => text.push(c),
            None => {}
        }
        rest = chars.as_str();
    }
    text.push_str(rest);
    Cow::Owned(text)
}

/// The character after `\u`, with the second half of a surrogate pair, and what follows.
fn unicode(text: &str) -> (char, &str) {
    let hex = |text: &str| text.get(..4).and_then(|digits| u32::from_str_radix(digits, 16).ok());
    let Some(first) = hex(text) else { return (char::REPLACEMENT_CHARACTER, text) };
    let rest = text.get(4..).unwrap_or_default();
    if let Some(c) = char::from_u32(first) {
        return (c, rest);
    }
    if let Some(tail) = rest.strip_prefix("\\u")
        && let Some(second @ 0xDC00..=0xDFFF) = hex(tail)
        && (0xD800..0xDC00).contains(&first)
    {
        let code = 0x10000 + ((first - 0xD800) << 10) + (second - 0xDC00);
        return (char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER), tail.get(4..).unwrap_or_default());
    }
    (char::REPLACEMENT_CHARACTER, rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_pieces_of_the_text() {
        assert_eq!(member(r#"{"a":1, "b": {"c":[1,"x"]}}"#, "b"), Some(Value::Object(r#"{"c":[1,"x"]}"#)));
        assert_eq!(item(r#"[1.50, "x", null]"#, 0), Some(Value::Plain("1.50")));
        assert_eq!(item(r#"[1.50, "x", null]"#, 2), Some(Value::Null));
    }

    #[test]
    fn ten_thousand_brackets_are_an_error() {
        let deep = "[".repeat(10_000);
        assert_eq!(Scan::new(&deep).value(), Err(ScanError("nested too deep", DEPTH_MAX + 1)));
    }

    #[test]
    fn broken_texts_are_errors() {
        for text in ["{", "{\"a\"", "{\"a\":}", "{\"a\":1,}", "[1", "\"a\\", "tru", "-", "{\"a\":1 \"b\":2}", ""] {
            assert!(Scan::new(text).value().is_err(), "{text}");
        }
    }

    #[test]
    fn surrogate_pairs_become_one_character() {
        assert_eq!(unescape(r"a\u00fc\ud83d\ude00\ud83d\\\/"), "aü😀\u{FFFD}\\/");
    }
}
