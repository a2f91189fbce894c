//! `unwrap`: takes a label's value as the sample; `bytes(x)`, `duration(x)` and
//! `duration_seconds(x)` convert it.

use std::fmt;

use super::{Needs, Row, Stage};
use crate::query::logql::ParseError;
use crate::query::logql::lexer::{parse_bytes, parse_duration};
use crate::query::logql::parser::Parser;

/// Reads the label, with or without a conversion.
///
/// # Errors
/// [`ParseError`] at an unknown conversion.
pub fn parse(parser: &mut Parser) -> Result<Box<dyn Stage>, ParseError> {
    let at = parser.position();
    let word = parser.name("a label to unwrap")?;
    if !parser.eat("(") {
        return Ok(Box::new(Unwrap { label: word, conversion: Conversion::Number }));
    }
    let conversion = match word.as_str() {
        "bytes" => Conversion::Bytes,
        "duration" => Conversion::Duration,
        "duration_seconds" => Conversion::DurationSeconds,
        _ => {
            return Err(ParseError::new(at, format!("unknown conversion {word:?}: bytes, duration, duration_seconds")));
        }
    };
    let label = parser.name("a label to unwrap")?;
    parser.expect(")")?;
    Ok(Box::new(Unwrap { label, conversion }))
}

#[derive(Clone, Copy, Debug)]
enum Conversion {
    Number,
    Bytes,
    Duration,
    DurationSeconds,
}

#[derive(Clone, Debug)]
struct Unwrap {
    label: String,
    conversion: Conversion,
}

/// A number as Go reads it, but for hexadecimal ones: underscores between digits are left out.
fn number(text: &str) -> Option<f64> {
    if text.contains('_') {
        return text.replace('_', "").parse().ok();
    }
    text.parse().ok()
}

impl Stage for Unwrap {
    fn apply<'a>(&'a self, row: &mut Row<'a>) -> bool {
        let value = match row.get(&self.label) {
            None | Some("") => return false,
            Some(text) => match self.conversion {
                Conversion::Number => number(text),
                Conversion::Bytes => parse_bytes(text),
                Conversion::Duration | Conversion::DurationSeconds => {
                    parse_duration(text).map(|nanos| nanos as f64 / 1e9)
                }
            },
        };
        match value {
            Some(value) => row.value = Some(value),
            None => row.fail("SampleExtractionErr", || format!("the value of {} is no number", self.label)),
        }
        row.unwrapped = Some(&self.label);
        true
    }

    fn needs(&self) -> Needs {
        Needs { labels: true, changes_labels: true, unwraps: true, ..Needs::default() }
    }
}

impl fmt::Display for Unwrap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.conversion {
            Conversion::Number => write!(f, "| unwrap {}", self.label),
            Conversion::Bytes => write!(f, "| unwrap bytes({})", self.label),
            Conversion::Duration => write!(f, "| unwrap duration({})", self.label),
            Conversion::DurationSeconds => write!(f, "| unwrap duration_seconds({})", self.label),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_may_have_underscores_but_no_other_base() {
        assert_eq!(number("1_000"), Some(1000.0));
        assert_eq!(number("0x10"), None);
        assert_eq!(number("+Inf"), Some(f64::INFINITY));
        assert!(number("NaN").is_some_and(f64::is_nan));
    }
}
