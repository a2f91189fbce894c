//! `unpack`: takes apart what a packing agent made: string fields become labels, `_entry` the line.

use std::borrow::Cow;
use std::fmt;

use super::json_scan::{Scan, Value, unescape};
use super::{LineWork, Needs, Row, Stage, clean_name, with_line};
use crate::query::logql::ParseError;
use crate::query::logql::parser::Parser;

/// Nothing follows the keyword.
///
/// # Errors
/// None.
pub fn parse(_: &mut Parser) -> Result<Box<dyn Stage>, ParseError> {
    Ok(Box::new(Unpack))
}

#[derive(Clone, Debug)]
struct Unpack;

impl Stage for Unpack {
    fn apply<'a>(&'a self, row: &mut Row<'a>) -> bool {
        let mut entry = None;
        with_line(row, Take(&mut entry));
        if let Some(entry) = entry {
            row.line = Cow::Owned(entry);
        }
        true
    }

    fn needs(&self) -> Needs {
        Needs { line: true, changes_labels: true, changes_line: true, ..Needs::default() }
    }
}

struct Take<'e>(&'e mut Option<String>);

impl<'a> LineWork<'a> for Take<'_> {
    fn run<'l>(self, row: &mut Row<'a>, line: &'l str, _: impl Fn(&'l str) -> Cow<'a, str>) {
        let scanned = Scan::new(line).object(&mut |name, value| {
            if let Value::Text(raw) = value {
                let (name, value) = (unescape(name), unescape(raw).into_owned());
                if name == "_entry" {
                    *self.0 = Some(value);
                } else {
                    row.extract(Cow::Owned(clean_name(&name).into_owned()), Cow::Owned(value));
                }
            }
            Ok(())
        });
        if let Err(error) = scanned {
            row.fail("JSONParserErr", || error.to_string());
        }
    }
}

impl fmt::Display for Unpack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("| unpack")
    }
}

#[cfg(test)]
mod tests {
    use crate::query::logql::stages::testing::outcome;

    #[test]
    fn the_packed_line_comes_back_and_later_filters_see_it() {
        let line = r#"{"pod":"p1","n":1,"_entry":"the \"line\""}"#;
        let (line, labels) = outcome("| unpack |= `the \"` ", line).unwrap();
        assert_eq!(line, "the \"line\"");
        assert_eq!(labels, [("pod".to_owned(), "p1".to_owned())]);
        assert!(outcome("| unpack |= `_entry`", r#"{"_entry":"x"}"#).is_none());
    }
}
