//! Text to tokens. Attribute names run to the next white space or operator and may hold quoted
//! parts; numbers with units are durations.

use super::ast::{Field, FieldKind, INTRINSICS};
use super::error::QueryError;
use super::scope::SCOPES;
use crate::base::duration;
use crate::base::go_escape::{Escaped, escape};
use crate::store::AttrScope;

/// A token.
#[derive(Clone, Debug, PartialEq)]
pub enum Token {
    /// An operator or punctuation.
    Op(&'static str),
    /// A quoted string.
    Str(String),
    /// An integer.
    Int(i64),
    /// A float.
    Float(f64),
    /// Nanoseconds.
    Duration(i64),
    /// A word.
    Word(String),
    /// An attribute, or an intrinsic with a colon.
    Field(Field),
}

/// A token and where it begins and ends, in bytes.
#[derive(Clone, Debug, PartialEq)]
pub struct Spanned {
    /// The token.
    pub token: Token,
    /// Its first byte.
    pub start: usize,
    /// The byte after it.
    pub end: usize,
}

/// Operators, longest first.
const OPS: &[&str] = &[
    "!>>", "!<<", "&>>", "&<<", "!=", "!~", "!>", "!<", "=~", ">=", ">>", "<=", "<<", "&&", "&>", "&<", "&~", "||",
    "{", "}", "(", ")", ",", "|", "=", ">", "<", "~", "!", "+", "-", "*", "/", "%", "^",
];

/// Splits a query into tokens.
///
/// # Errors
/// [`QueryError::Parse`] that says where.
pub fn tokens(text: &str) -> Result<Vec<Spanned>, QueryError> {
    let mut lexer = Lexer { text, at: 0 };
    let mut tokens = Vec::new();
    loop {
        lexer.skip_blank()?;
        let start = lexer.at;
        if lexer.rest().is_empty() {
            return Ok(tokens);
        }
        let token = lexer.next()?;
        tokens.push(Spanned { token, start, end: lexer.at });
    }
}

struct Lexer<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Lexer<'a> {
    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn fail<T>(&self, what: impl Into<String>) -> Result<T, QueryError> {
        Err(QueryError::at(self.text, self.at, what))
    }

    /// Takes characters as long as `keep` says.
    fn take_while(&mut self, keep: impl Fn(char) -> bool) -> &'a str {
        let rest = self.rest();
        let end = rest.find(|c| !keep(c)).unwrap_or(rest.len());
        self.at += end;
        rest.get(..end).unwrap_or_default()
    }

    fn skip_blank(&mut self) -> Result<(), QueryError> {
        loop {
            self.take_while(char::is_whitespace);
            if self.rest().starts_with("//") {
                self.take_while(|c| c != '\n');
            } else if self.rest().starts_with("/*") {
                match self.rest().find("*/") {
                    Some(end) => self.at += end + 2,
                    None => return self.fail("comment without an end"),
                }
            } else {
                return Ok(());
            }
        }
    }

    fn next(&mut self) -> Result<Token, QueryError> {
        let Some(first) = self.peek() else { return self.fail("unexpected end") };
        match first {
            '"' => self.quoted().map(Token::Str),
            '`' => self.raw().map(Token::Str),
            '0'..='9' => self.number(),
            '.' => match self.rest().chars().nth(1) {
                Some('0'..='9') => self.number(),
                _ => self.attribute(None, ""),
            },
            _ if first.is_ascii_alphabetic() || first == '_' => self.word(),
            _ => match OPS.iter().find(|op| self.rest().starts_with(*op)) {
                Some(op) => {
                    self.at += op.len();
                    Ok(Token::Op(op))
                }
                None => self.fail(format!("unexpected {first:?}")),
            },
        }
    }

    fn word(&mut self) -> Result<Token, QueryError> {
        let start = self.at;
        let word = self.take_while(|c| c.is_ascii_alphanumeric() || c == '_');
        match self.peek() {
            Some('.') => match SCOPES.iter().find(|(name, _)| *name == word) {
                Some((name, scope)) => self.attribute(Some(*scope), name),
                None if word == "parent" => self.fail("parent attributes are not supported"),
                None => self.fail(format!("unknown scope {word:?}: use span, resource, event, link, instrumentation")),
            },
            Some(':') => {
                self.at += 1;
                self.take_while(|c| c.is_ascii_alphanumeric() || c == '_');
                let whole = self.text.get(start..self.at).unwrap_or_default();
                match intrinsic(whole) {
                    Some(field) => Ok(Token::Field(field)),
                    None => self.fail(format!("unknown intrinsic {whole:?}")),
                }
            }
            _ => Ok(Token::Word(word.to_owned())),
        }
    }

    /// An attribute, from its dot on.
    fn attribute(&mut self, scope: Option<AttrScope>, prefix: &str) -> Result<Token, QueryError> {
        self.at += 1;
        let start = self.at;
        let mut name = String::new();
        loop {
            name.push_str(self.take_while(|c| !c.is_whitespace() && !"{}()=~!<>&|^,\"'`".contains(c)));
            if self.peek() != Some('"') {
                break;
            }
            name.push_str(&self.quoted()?);
        }
        if name.is_empty() {
            return self.fail("an attribute needs a name after the dot");
        }
        let written = self.text.get(start..self.at).unwrap_or_default();
        let text = format!("{prefix}.{written}");
        Ok(Token::Field(Field { kind: FieldKind::Attr { scope, name }, text }))
    }

    fn raw(&mut self) -> Result<String, QueryError> {
        let body = self.rest().get(1..).unwrap_or_default();
        match body.find('`') {
            Some(end) => {
                self.at += end + 2;
                Ok(body.get(..end).unwrap_or_default().to_owned())
            }
            None => self.fail("string without an end"),
        }
    }

    /// A string in double quotes, with Go's escapes.
    fn quoted(&mut self) -> Result<String, QueryError> {
        let mut bytes = Vec::new();
        let mut chars = self.rest().char_indices().skip(1);
        while let Some((at, c)) = chars.next() {
            match c {
                '"' => {
                    self.at += at + 1;
                    return String::from_utf8(bytes).or_else(|_| self.fail("string is not valid UTF-8"));
                }
                '\\' => match escape(&mut chars.by_ref().map(|(_, c)| c)) {
                    Some(Escaped::Char(c)) => bytes.extend(c.encode_utf8(&mut [0; 4]).as_bytes()),
                    Some(Escaped::Byte(byte)) => bytes.push(byte),
                    None => return self.fail("unknown escape in a string"),
                },
                _ => bytes.extend(c.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        self.fail("string without an end")
    }

    fn number(&mut self) -> Result<Token, QueryError> {
        let start = self.at;
        let part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | 'µ' | 'μ');
        let mut text = self.take_while(part);
        let exponent = text.strip_suffix(['e', 'E']).is_some_and(|number| number.parse::<f64>().is_ok());
        if exponent && self.rest().starts_with(['+', '-']) {
            self.at += 1;
            self.take_while(part);
            text = self.text.get(start..self.at).unwrap_or_default();
        }
        if text.bytes().all(|byte| byte.is_ascii_digit()) {
            return text.parse().map(Token::Int).or_else(|_| self.fail(format!("integer {text} is too large")));
        }
        if let Some(ns) = duration::nanoseconds(text) {
            return Ok(Token::Duration(ns));
        }
        let plain = text.bytes().all(|byte| byte.is_ascii_digit() || b".eE+-".contains(&byte));
        match text.parse::<f64>() {
            Ok(float) if plain && float.is_finite() => Ok(Token::Float(float)),
            _ => self.fail(format!("{text:?} is neither a number nor a duration")),
        }
    }
}

/// The intrinsic with this spelling.
pub fn intrinsic(text: &str) -> Option<Field> {
    let (_, own) = INTRINSICS.iter().find(|(name, _)| *name == text)?;
    Some(Field { kind: FieldKind::Intrinsic(*own), text: text.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(text: &str) -> Vec<Token> {
        tokens(text).unwrap().into_iter().map(|spanned| spanned.token).collect()
    }

    #[test]
    fn attributes_run_to_the_next_operator() {
        let found = all(r#"span.http-x.y/z=1 resource."a b".c !~ .d"#);
        let names = found.iter().filter_map(|token| if let Token::Field(f) = token { Some(f.key()) } else { None });
        assert_eq!(names.collect::<Vec<_>>(), ["http-x.y/z", "a b.c", "d"]);
    }

    #[test]
    fn numbers_with_units_are_durations() {
        assert_eq!(all("1h30m"), [Token::Duration(5_400_000_000_000)]);
        assert_eq!(
            all("1.5ms 2 2.5 1e3"),
            [Token::Duration(1_500_000), Token::Int(2), Token::Float(2.5), Token::Float(1000.0)]
        );
        assert!(tokens("12abc").is_err());
        assert!(tokens("99999999999999999999").is_err());
    }

    #[test]
    fn strings_take_escapes_and_comments_vanish() {
        assert_eq!(
            all("\"a\\n\\u00e9\\xc3\\xa9\" // x\n`b\\n` /* y */"),
            [Token::Str("a\néé".into()), Token::Str("b\\n".into())]
        );
        assert!(tokens("\"abc").is_err());
        assert!(tokens("\"\\xff\"").is_err());
    }

    #[test]
    fn the_longest_operator_wins() {
        assert_eq!(all("!>>&>>>= !~"), [Token::Op("!>>"), Token::Op("&>>"), Token::Op(">="), Token::Op("!~")]);
    }
}
