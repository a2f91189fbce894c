//! `json`: labels from the fields of a JSON line, nested names joined by `_`; or only those that
//! expressions ask for, `json a="x.y[0]"`.

use std::borrow::Cow;
use std::fmt;

use super::json_scan::{Scan, ScanError, Value, item, member, unescape};
use super::{LineWork, Needs, Row, Stage, clean_name, with_line};
use crate::query::logql::ParseError;
use crate::query::logql::ast::quote;
use crate::query::logql::parser::{Extraction, Parser};

/// Reads what follows the keyword.
///
/// # Errors
/// [`ParseError`] at a malformed list or path.
pub fn parse(parser: &mut Parser) -> Result<Box<dyn Stage>, ParseError> {
    let at = parser.position();
    let wanted = parser.extractions()?;
    if wanted.is_empty() {
        return Ok(Box::new(Json));
    }
    let paths = wanted.iter().map(|wanted| parse_path(&wanted.source)).collect::<Option<Vec<_>>>();
    let paths = paths.ok_or_else(|| ParseError::new(at, "cannot parse expression of json stage"))?;
    Ok(Box::new(JsonPaths { wanted, paths }))
}

/// Takes all fields.
#[derive(Clone, Debug)]
struct Json;

impl Stage for Json {
    fn apply<'a>(&'a self, row: &mut Row<'a>) -> bool {
        with_line(row, All);
        true
    }

    fn needs(&self) -> Needs {
        Needs { line: true, changes_labels: true, ..Needs::default() }
    }
}

impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("| json")
    }
}

struct All;

impl<'a> LineWork<'a> for All {
    fn run<'l>(self, row: &mut Row<'a>, line: &'l str, own: impl Fn(&'l str) -> Cow<'a, str>) {
        let mut scan = Scan::new(line);
        if let Err(error) = flatten(&mut scan, "", row, &own) {
            row.fail("JSONParserErr", || error.to_string());
        } else if !scan.at_end() {
            row.fail("JSONParserErr", || "text after the object".to_owned());
        }
    }
}

fn flatten<'a, 'l>(
    scan: &mut Scan<'l>,
    prefix: &str,
    row: &mut Row<'a>,
    own: &dyn Fn(&'l str) -> Cow<'a, str>,
) -> Result<(), ScanError> {
    scan.object(&mut |name, value| {
        let field = || match (prefix.is_empty(), name.contains('\\')) {
            (true, false) => match clean_name(name) {
                Cow::Borrowed(_) => own(name),
                Cow::Owned(clean) => Cow::Owned(clean),
            },
            (true, true) => Cow::Owned(clean_name(&unescape(name)).into_owned()),
            (false, _) => Cow::Owned(format!("{prefix}_{}", clean_inner(&unescape(name)))),
        };
        match value {
            Value::Text(raw) if raw.contains('\\') => row.extract(field(), Cow::Owned(unescape(raw).into_owned())),
            Value::Text(raw) => row.extract(field(), own(raw)),
            Value::Plain(text) => row.extract(field(), own(text)),
            // The scan of the outer object has seen that the inner one is no deeper than allowed.
            // It is scanned once more on each level, and costs that.
            Value::Object(text) if row.spend(text.len()) => {
                return flatten(&mut Scan::new(text), &field(), row, own);
            }
            Value::Object(_) => return Err(ScanError("the query ended", 0)),
            Value::Null | Value::Array(_) => {}
        }
        Ok(())
    })
}

/// The part of a name behind a prefix, where a leading digit is no harm.
fn clean_inner(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect()
}

/// Takes the fields that expressions name.
#[derive(Clone, Debug)]
struct JsonPaths {
    wanted: Vec<Extraction>,
    paths: Vec<Vec<Step>>,
}

#[derive(Clone, Debug, PartialEq)]
enum Step {
    Member(String),
    Item(usize),
}

impl Stage for JsonPaths {
    fn apply<'a>(&'a self, row: &mut Row<'a>) -> bool {
        with_line(row, Paths(self));
        true
    }

    fn needs(&self) -> Needs {
        Needs { line: true, changes_labels: true, ..Needs::default() }
    }
}

struct Paths<'s>(&'s JsonPaths);

impl<'a> LineWork<'a> for Paths<'a> {
    fn run<'l>(self, row: &mut Row<'a>, line: &'l str, own: impl Fn(&'l str) -> Cow<'a, str>) {
        let whole = Scan::new(line).value();
        if !matches!(whole, Ok(Value::Object(_) | Value::Array(_))) {
            row.fail("JSONParserErr", || "the line is no JSON object".to_owned());
        }
        for (wanted, path) in self.0.wanted.iter().zip(&self.0.paths) {
            if !row.spend(line.len()) {
                return;
            }
            let found = whole.ok().and_then(|whole| walk(whole, path));
            let value = match found {
                Some(Value::Text(raw)) if raw.contains('\\') => Cow::Owned(unescape(raw).into_owned()),
                Some(Value::Text(text) | Value::Plain(text) | Value::Object(text) | Value::Array(text)) => own(text),
                Some(Value::Null) | None => Cow::Borrowed(""),
            };
            row.extract(Cow::Borrowed(wanted.label.as_str()), value);
        }
    }
}

fn walk<'l>(whole: Value<'l>, path: &[Step]) -> Option<Value<'l>> {
    path.iter().try_fold(whole, |value, step| match (step, value) {
        (Step::Member(name), Value::Object(text)) => member(text, name),
        (Step::Item(index), Value::Array(text)) => item(text, *index),
        _ => None,
    })
}

/// `a.b["c d"][0]`; `None` when malformed.
fn parse_path(text: &str) -> Option<Vec<Step>> {
    let mut path = Vec::new();
    let mut rest = text.trim();
    let mut first = true;
    while !rest.is_empty() {
        if let Some(tail) = rest.strip_prefix('[') {
            if let Some(quoted) = tail.strip_prefix('"') {
                let (name, tail) = quoted.split_once("\"]")?;
                path.push(Step::Member(name.to_owned()));
                rest = tail;
            } else {
                let (index, tail) = tail.split_once(']')?;
                path.push(Step::Item(index.trim().parse().ok()?));
                rest = tail;
            }
        } else {
            let tail = if first { rest } else { rest.strip_prefix('.')? };
            let end = tail.find(['.', '[']).filter(|end| *end > 0);
            let (name, tail) = tail.split_at_checked(end.unwrap_or(tail.len()))?;
            if name.is_empty() || name.starts_with(['.', '[']) || name.contains([']', '"', ' ']) {
                return None;
            }
            path.push(Step::Member(name.to_owned()));
            rest = tail;
        }
        first = false;
    }
    (!path.is_empty()).then_some(path)
}

impl fmt::Display for JsonPaths {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("| json ")?;
        write_extractions(f, &self.wanted)
    }
}

/// `a="x", b="y"`.
pub(crate) fn write_extractions(f: &mut fmt::Formatter<'_>, wanted: &[Extraction]) -> fmt::Result {
    for (at, wanted) in wanted.iter().enumerate() {
        let comma = if at == 0 { "" } else { ", " };
        write!(f, "{comma}{}={}", wanted.label, quote(&wanted.source))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::logql::stages::testing::labels;

    #[test]
    fn nested_names_are_joined_and_numbers_kept_as_written() {
        let line = r#"{"a.b":1.50,"o":{"x":1e3,"y":{"z":true}},"n":null,"e":"","arr":[1],"9x":1,"s":"q\"\n"}"#;
        assert_eq!(labels("| json", line), "_9x=1 a_b=1.50 e= o_x=1e3 o_y_z=true s=q\"\n");
    }

    #[test]
    fn names_of_the_stream_are_extracted_and_those_of_metadata_stay() {
        assert_eq!(labels("| json", r#"{"app":"x","trace_id":"y","b":1,"b":2}"#), "app_extracted=x b=2");
        assert_eq!(labels("| json app=\"b\"", r#"{"app":"x","b":1}"#), "app_extracted=1");
    }

    #[test]
    fn a_line_that_is_no_object_is_marked() {
        for line in ["plain", "", "[1]", "{\"a\":", "{\"a\":1} x"] {
            assert!(labels("| json", line).contains("__error__=JSONParserErr"), "{line}");
        }
    }

    #[test]
    fn expressions_pick_fields_and_missing_ones_are_empty() {
        let line = r#"{"a":{"b c":[{"d":"x"}, 7]},"f":{"g":1}}"#;
        assert_eq!(
            labels(r#"| json x="a[\"b c\"][0].d", y="f", z="nope", w="a[\"b c\"][1]""#, line),
            r#"w=7 x=x y={"g":1} z="#
        );
        assert_eq!(labels("| json f", line), r#"f={"g":1}"#);
        assert_eq!(parse_path("a..b"), None);
        assert_eq!(parse_path("a[x]"), None);
    }
}
