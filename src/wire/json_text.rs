//! JSON as senders really write it, made fit for a parser of Unicode: bytes that are not UTF-8 and halves
//! of surrogate pairs become U+FFFD, which costs nothing where there are none.

use std::borrow::Cow;

use super::error::WireError;
use super::limits::Meter;

/// A body as text. What had to be replaced is a copy, up to three times as long, and metered.
pub(super) fn lossy<'a>(body: &'a [u8], meter: &mut Meter) -> Result<Cow<'a, str>, WireError> {
    if let Ok(text) = std::str::from_utf8(body) {
        return Ok(Cow::Borrowed(text));
    }
    let bytes =
        body.utf8_chunks().map(|chunk| chunk.valid().len() + 3 * usize::from(!chunk.invalid().is_empty())).sum();
    meter.take(bytes)?;
    Ok(String::from_utf8_lossy(body))
}

const HIGH: std::ops::Range<u16> = 0xD800..0xDC00;
const LOW: std::ops::Range<u16> = 0xDC00..0xE000;
/// Bytes of an escape such as `\\ud83d`.
const ESCAPE_BYTES: usize = 6;

/// The code unit that an escape at the start of `text` spells.
fn code_unit(text: &[u8]) -> Option<u16> {
    let [b'\\', b'u', digits @ ..] = text.get(..ESCAPE_BYTES)? else { return None };
    let digit = |byte: &u8| char::from(*byte).to_digit(16);
    digits.iter().try_fold(0u32, |unit, byte| Some(unit << 4 | digit(byte)?)).and_then(|unit| u16::try_from(unit).ok())
}

/// The text with escapes of half a surrogate pair replaced; nothing when there are none.
pub(super) fn without_lone_surrogates(text: &str) -> Option<String> {
    let mut mended = String::new();
    let (mut kept, mut at) = (0, 0);
    let bytes = text.as_bytes();
    // A backslash stands in strings alone, and is one byte of UTF-8.
    while let Some(found) = bytes.get(at..)?.iter().position(|byte| *byte == b'\\') {
        at += found;
        let unit = bytes.get(at..).and_then(code_unit);
        let next = bytes.get(at + ESCAPE_BYTES..).and_then(code_unit);
        at = match (unit, next) {
            (Some(high), Some(low)) if HIGH.contains(&high) && LOW.contains(&low) => at + 2 * ESCAPE_BYTES,
            (Some(lone), _) if HIGH.contains(&lone) || LOW.contains(&lone) => {
                mended.push_str(text.get(kept..at)?);
                mended.push('\u{fffd}');
                kept = at + ESCAPE_BYTES;
                kept
            }
            (Some(_), _) => at + ESCAPE_BYTES,
            (None, _) => (at + 2).min(bytes.len()),
        };
    }
    if kept == 0 {
        return None;
    }
    mended.push_str(text.get(kept..)?);
    Some(mended)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::limits::DEFAULT;

    #[test]
    fn halves_of_pairs_are_replaced_and_pairs_are_kept() {
        for (text, expected) in [
            (r#""cut \ud83d""#, Some("\"cut \u{fffd}\"")),
            (r#""\uDE00 \ud83d\ud83d\ude00""#, Some("\"\u{fffd} \u{fffd}\\ud83d\\ude00\"")),
            (r#""\ud83d\ude00 \u00fc \n""#, None),
            (r#""\\ud83d""#, None),
            (r#""\ud8"#, None),
            ("\"\\", None),
            ("", None),
        ] {
            assert_eq!(without_lone_surrogates(text).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn bytes_that_are_not_utf8_are_replaced_within_the_allowance() {
        let mut meter = Meter::new(&DEFAULT, 0);
        assert_eq!(lossy(b"caf\xe9 \xff", &mut meter).unwrap(), "caf\u{fffd} \u{fffd}");
        assert!(lossy(&vec![0xff; 3 << 20], &mut meter).is_err());
        assert!(matches!(lossy(b"ok", &mut meter), Ok(Cow::Borrowed("ok"))));
    }
}
