//! Text to tokens. Every token knows its line and column, both counted from one, for errors.
//! Durations may be compound (`1m30s`); bytes have units of ten or of two (`1KB`, `1KiB`).

use super::ParseError;
use crate::base::duration;
use crate::base::go_escape::{Escaped, escape};

/// Longest query, in bytes: Loki's bound.
pub const QUERY_BYTES_MAX: usize = 128 << 10;

/// A place in a query, counted from one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// The line.
    pub line: u32,
    /// The column, in characters.
    pub column: u32,
}

/// What a token is.
#[derive(Clone, Debug, PartialEq)]
pub enum TokenKind {
    /// A name or a keyword.
    Word(String),
    /// A quoted text, without its quotes and escapes.
    Text(String),
    /// A number, and how it is written.
    Number(f64, String),
    /// A duration in nanoseconds, and how it is written.
    Duration(i64, String),
    /// An amount of bytes, and how it is written.
    Bytes(f64, String),
    /// `--flag`, without the dashes.
    Flag(String),
    /// An operator or bracket.
    Sign(&'static str),
    /// The end of the query.
    End,
}

impl TokenKind {
    /// How errors name the token.
    pub fn describe(&self) -> String {
        match self {
            Self::Word(word) => word.chars().take(80).collect(),
            Self::Text(text) => format!("{:?}", text.chars().take(80).collect::<String>()),
            Self::Number(_, text) | Self::Duration(_, text) | Self::Bytes(_, text) => text.clone(),
            Self::Flag(flag) => format!("--{flag}"),
            Self::Sign(sign) => (*sign).to_owned(),
            Self::End => "end of query".to_owned(),
        }
    }
}

/// A token and where it starts.
#[derive(Clone, Debug, PartialEq)]
pub struct Token {
    /// What it is.
    pub kind: TokenKind,
    /// Where it starts.
    pub at: Position,
}

/// Longest first, so that `|=` is not read as `|`.
const SIGNS: &[&str] = &[
    "|=", "|~", "|>", "!=", "!~", "!>", "=~", "==", ">=", "<=", "{", "}", "(", ")", "[", "]", ",", ".", "=", "|", ">",
    "<", "+", "-", "*", "/", "%", "^",
];

struct Lexer<'a> {
    rest: &'a str,
    at: Position,
}

/// All tokens of a query, the last of which is [`TokenKind::End`].
///
/// # Errors
/// [`ParseError`] at text that is no token.
pub fn tokens(query: &str) -> Result<Vec<Token>, ParseError> {
    let mut lexer = Lexer { rest: query, at: Position { line: 1, column: 1 } };
    if query.len() > QUERY_BYTES_MAX {
        return Err(ParseError::new(lexer.at, format!("input size too long ({} > {QUERY_BYTES_MAX})", query.len())));
    }
    let mut tokens = Vec::new();
    loop {
        lexer.skip_blanks();
        let at = lexer.at;
        let kind = lexer.token()?;
        let end = kind == TokenKind::End;
        tokens.push(Token { kind, at });
        if end {
            return Ok(tokens);
        }
    }
}

impl<'a> Lexer<'a> {
    fn error(&self, message: impl Into<String>) -> ParseError {
        ParseError::new(self.at, message)
    }

    fn take(&mut self, bytes: usize) -> &'a str {
        let (taken, rest) = self.rest.split_at_checked(bytes).unwrap_or((self.rest, ""));
        self.rest = rest;
        for c in taken.chars() {
            if c == '\n' {
                self.at = Position { line: self.at.line + 1, column: 1 };
            } else {
                self.at.column += 1;
            }
        }
        taken
    }

    fn take_while(&mut self, wanted: impl Fn(char) -> bool) -> &'a str {
        let end = self.rest.find(|c| !wanted(c)).unwrap_or(self.rest.len());
        self.take(end)
    }

    fn skip_blanks(&mut self) {
        loop {
            self.take_while(char::is_whitespace);
            if !self.rest.starts_with('#') {
                return;
            }
            self.take_while(|c| c != '\n');
        }
    }

    fn token(&mut self) -> Result<TokenKind, ParseError> {
        let Some(first) = self.rest.chars().next() else { return Ok(TokenKind::End) };
        if first.is_ascii_alphabetic() || first == '_' {
            let word = self.take_while(|c| c.is_ascii_alphanumeric() || c == '_' || c == ':');
            return Ok(TokenKind::Word(word.to_owned()));
        }
        let second = self.rest.chars().nth(1);
        if first.is_ascii_digit() || (first == '.' && second.is_some_and(|c| c.is_ascii_digit())) {
            return self.number();
        }
        if first == '"' || first == '`' {
            return self.text(first);
        }
        if let Some(flag) = self.rest.strip_prefix("--")
            && flag.starts_with(|c: char| c.is_ascii_lowercase())
        {
            self.take(2);
            return Ok(TokenKind::Flag(self.take_while(|c| c.is_ascii_lowercase() || c == '-').to_owned()));
        }
        match SIGNS.iter().find(|sign| self.rest.starts_with(**sign)) {
            Some(sign) => {
                self.take(sign.len());
                Ok(TokenKind::Sign(sign))
            }
            None => Err(self.error(format!("syntax error: unexpected character {first:?}"))),
        }
    }

    fn number(&mut self) -> Result<TokenKind, ParseError> {
        let mut end = 0;
        let mut last = ' ';
        for c in self.rest.chars() {
            let exponent = matches!(c, '+' | '-') && matches!(last, 'e' | 'E') && number_so_far(self.rest, end);
            if !(c.is_alphanumeric() || c == '.' || c == '_' || exponent) {
                break;
            }
            end += c.len_utf8();
            last = c;
        }
        let text = self.rest.get(..end).unwrap_or_default().to_owned();
        let kind = if let Some(value) = parse_number(&text) {
            TokenKind::Number(value, text)
        } else if let Some(nanos) = parse_duration(&text) {
            TokenKind::Duration(nanos, text)
        } else if let Some(bytes) = parse_bytes(&text) {
            TokenKind::Bytes(bytes, text)
        } else {
            let text: String = text.chars().take(80).collect();
            return Err(self.error(format!("syntax error: {text:?} is no number, duration or amount of bytes")));
        };
        self.take(end);
        Ok(kind)
    }

    fn text(&mut self, quote: char) -> Result<TokenKind, ParseError> {
        let bytes = self.rest.as_bytes();
        let mut end = 1;
        while let Some(byte) = bytes.get(end) {
            match byte {
                b'\\' if quote == '"' => end += 1,
                b'\n' if quote == '"' => break,
                byte if char::from(*byte) == quote => {
                    let raw = self.rest.get(1..end).unwrap_or_default();
                    let text = if quote == '`' { Some(raw.replace('\r', "")) } else { unescape(raw) };
                    let Some(text) = text else { return Err(self.error("syntax error: invalid escape in string")) };
                    self.take(end + 1);
                    return Ok(TokenKind::Text(text));
                }
                _ => {}
            }
            end += 1;
        }
        Err(self.error("syntax error: literal not terminated"))
    }
}

/// Whether the text before an `e` is a decimal number, so that a sign may follow it.
fn number_so_far(text: &str, end: usize) -> bool {
    let before = text.get(..end.saturating_sub(1)).unwrap_or_default();
    !before.is_empty() && before.chars().all(|c| c.is_ascii_digit() || c == '.')
}

fn parse_number(text: &str) -> Option<f64> {
    if let Some(hex) = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        return u64::from_str_radix(hex, 16).ok().map(|value| value as f64);
    }
    if !text.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return None;
    }
    // What is too large for a number would be written as `inf`, which is none.
    text.parse().ok().filter(|value: &f64| value.is_finite())
}

/// Removes Go's escapes from what stands between double quotes; `None` when one is malformed. A byte is
/// taken for the character with its number.
pub fn unescape(raw: &str) -> Option<String> {
    let mut text = String::with_capacity(raw.len());
    let mut chars = raw.chars();
    while let Some(c) = chars.next() {
        text.push(match c {
            '\\' => match escape(&mut chars)? {
                Escaped::Char(c) => c,
                Escaped::Byte(byte) => char::from(byte),
            },
            c => c,
        });
    }
    Some(text)
}

/// Durations of more nanoseconds than these are too long.
const DURATION_NS_MAX: i64 = 9_200_000_000_000_000_000;

/// A duration such as `1m30s`, `1.5h` or `-2d`, in nanoseconds; `None` when it is none or too long.
pub fn parse_duration(text: &str) -> Option<i64> {
    let (negative, rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(0);
    }
    let nanos = duration::nanoseconds(rest).filter(|nanos| *nanos < DURATION_NS_MAX)?;
    Some(if negative { -nanos } else { nanos })
}

const BYTE_UNITS: &[(&str, f64)] = &[
    ("b", 1.0),
    ("kb", 1e3),
    ("mb", 1e6),
    ("gb", 1e9),
    ("tb", 1e12),
    ("pb", 1e15),
    ("eb", 1e18),
    ("kib", 1024.0),
    ("mib", 1_048_576.0),
    ("gib", 1_073_741_824.0),
    ("tib", 1_099_511_627_776.0),
    ("pib", 1_125_899_906_842_624.0),
    ("eib", 1_152_921_504_606_846_976.0),
    ("k", 1e3),
    ("m", 1e6),
    ("g", 1e9),
    ("t", 1e12),
    ("ki", 1024.0),
    ("mi", 1_048_576.0),
    ("gi", 1_073_741_824.0),
    ("", 1.0),
];

/// An amount of bytes such as `20MB`, `1.5KiB` or `100`; `None` when it is none.
pub fn parse_bytes(text: &str) -> Option<f64> {
    let text = text.trim();
    let end = text.find(|c: char| !(c.is_ascii_digit() || c == '.' || c == ',')).unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(end)?;
    let number: f64 = number.replace(',', "").parse().ok()?;
    let unit = unit.trim().to_ascii_lowercase();
    BYTE_UNITS.iter().find(|(name, _)| *name == unit).map(|(_, scale)| (number * scale).floor())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_may_be_compound_and_negative() {
        assert_eq!(parse_duration("1m0s"), Some(60_000_000_000));
        assert_eq!(parse_duration("1m15s500ms"), Some(75_500_000_000));
        assert_eq!(parse_duration("-1d"), Some(-86_400_000_000_000));
        assert_eq!(parse_duration("1.5h"), Some(5_400_000_000_000));
        assert_eq!(parse_duration("5"), None);
        assert_eq!(parse_duration("9999999999y"), None);
    }

    #[test]
    fn bytes_have_units_of_ten_and_of_two() {
        assert_eq!(parse_bytes("1KB"), Some(1000.0));
        assert_eq!(parse_bytes("1.5 KiB"), Some(1536.0));
        assert_eq!(parse_bytes("12"), Some(12.0));
        assert_eq!(parse_bytes("12 apples"), None);
    }

    #[test]
    fn escapes_are_those_of_go() {
        assert_eq!(unescape(r#"a\"\n\x41\u00fc\101"#).as_deref(), Some("a\"\nAüA"));
        assert_eq!(unescape(r"\q"), None);
    }

    #[test]
    fn an_error_says_where_it_is() {
        let error = tokens("{a=\"b\"}\n  ;").unwrap_err();
        assert_eq!((error.at.line, error.at.column), (2, 3));
    }
}
