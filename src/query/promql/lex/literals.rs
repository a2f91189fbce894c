//! Strings, numbers and durations as a query writes them.

use super::{SyntaxError, Word, error};
use crate::query::promql::ast::Pos;

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
        let length = duration_length(rest);
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

/// How long the duration is that `rest` begins with; 0 when it begins with none.
fn duration_length(rest: &str) -> usize {
    let bytes = rest.as_bytes();
    let mut at = 0;
    loop {
        let digits = bytes.iter().skip(at).take_while(|b| b.is_ascii_digit()).count();
        let unit = &rest[at + digits..];
        let length =
            if unit.starts_with("ms") { 2 } else { usize::from(unit.starts_with(['s', 'm', 'h', 'd', 'w', 'y'])) };
        if digits == 0 || length == 0 {
            return at;
        }
        at += digits + length;
    }
}

/// Milliseconds of a duration such as `1h30m`, or of a number of seconds.
pub fn duration_ms(text: &str) -> Option<i64> {
    if duration_length(text) != text.len() || text.is_empty() {
        let seconds: f64 = text.parse().ok()?;
        let ms = (seconds * 1000.0).round();
        return (ms.abs() < 9e15).then_some(ms as i64);
    }
    let mut total: i64 = 0;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let (value, unit) = rest.split_at(digits);
        let (factor, length) = match unit.as_bytes() {
            [b'm', b's', ..] => (1, 2),
            [b's', ..] => (1_000, 1),
            [b'm', ..] => (60_000, 1),
            [b'h', ..] => (3_600_000, 1),
            [b'd', ..] => (86_400_000, 1),
            [b'w', ..] => (604_800_000, 1),
            [b'y', ..] => (31_536_000_000, 1),
            _ => return None,
        };
        total = total.checked_add(value.parse::<i64>().ok()?.checked_mul(factor)?)?;
        rest = &unit[length..];
    }
    Some(total)
}
