//! Strings, numbers and durations as a query writes them.

use crate::base::duration;
use crate::query::promql::ast::Pos;
use crate::query::promql::token::{SyntaxError, Word, error};

/// How long the string is that `rest` begins with, quotes included.
pub(super) fn string_length(rest: &str, quote: char, pos: Pos) -> Result<usize, SyntaxError> {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' if quote != '`' => escaped = true,
            '\n' if quote != '`' => break,
            _ if c == quote => return Ok(at + 1),
            _ => {}
        }
    }
    error(pos, "unterminated quoted string")
}

/// Whether escapes of bytes, as in `"\xc5"`, make a string that is not UTF-8.
pub(super) fn is_broken(string: &str) -> bool {
    let mut bytes = Vec::with_capacity(string.len());
    let mut rest = string.as_bytes();
    while let Some((first, more)) = rest.split_first() {
        rest = more;
        let code = match (first, more) {
            (b'\\', [b'x', ..]) => more.get(1..3).map(|digits| (digits, 16, 3)),
            (b'\\', [b'0'..=b'3', ..]) => more.get(..3).map(|digits| (digits, 8, 3)),
            (b'\\', [_, after @ ..]) => {
                rest = after;
                continue;
            }
            _ => None,
        };
        let value = code.and_then(|(digits, base, length)| {
            Some((u8::from_str_radix(std::str::from_utf8(digits).ok()?, base).ok()?, length))
        });
        if let Some((value, length)) = value {
            bytes.push(value);
            rest = more.get(length..).unwrap_or_default();
        } else {
            bytes.push(*first);
        }
    }
    std::str::from_utf8(&bytes).is_err()
}

/// A number or a duration at the start of `rest`.
pub(super) fn number(rest: &str) -> (Word, usize) {
    let bytes = rest.as_bytes();
    if bytes.len() > 2 && bytes[0] == b'0' && matches!(bytes[1], b'x' | b'X') {
        let ends = |c: char| !(c.is_ascii_hexdigit() || c == '_');
        return (Word::Number, 2 + rest[2..].find(ends).unwrap_or(rest.len() - 2));
    }
    let digits = |from: usize| bytes.iter().skip(from).take_while(|b| b.is_ascii_digit() || **b == b'_').count();
    let mut at = digits(0);
    if at > 0 {
        let length = duration::length(rest);
        if length > 0 {
            return (Word::Duration, length);
        }
    }
    if bytes.get(at) == Some(&b'.') {
        at += 1;
        at += digits(at);
    }
    if matches!(bytes.get(at), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(bytes.get(at + 1), Some(b'+' | b'-')));
        let exponent = digits(at + 1 + sign);
        if exponent > 0 {
            at += 1 + sign + exponent;
        }
    }
    (Word::Number, at)
}

/// Milliseconds of a duration such as `1h30m`, or of a number of seconds.
pub fn duration_ms(text: &str) -> Option<i64> {
    if let Some(ms) = duration::milliseconds(text) {
        return i64::try_from(ms).ok();
    }
    let seconds: f64 = text.parse().ok()?;
    let ms = (seconds * 1000.0).round();
    (ms.abs() < 9e15).then_some(ms as i64)
}

/// The value of a number as PromQL writes it.
pub fn number_value(text: &str) -> Option<f64> {
    let text = text.replace('_', "");
    match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(hex) => i64::from_str_radix(hex, 16).ok().map(|value| value as f64),
        None => text.parse().ok(),
    }
}
