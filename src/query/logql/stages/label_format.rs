//! `label_format`: `new=old` renames a label, `new="{{template}}"` makes one; in order.

use std::borrow::Cow;
use std::fmt;

use super::{Needs, Row, Stage};
use crate::query::logql::ParseError;
use crate::query::logql::ast::quote;
use crate::query::logql::parser::Parser;
use crate::query::logql::template::Template;

/// Reads the list.
///
/// # Errors
/// [`ParseError`] at a malformed list, a malformed template, or a name twice.
pub fn parse(parser: &mut Parser) -> Result<Box<dyn Stage>, ParseError> {
    let mut formats: Vec<Format> = Vec::new();
    loop {
        let at = parser.position();
        let target = parser.name("a label")?;
        if formats.iter().any(|format| format.target == target) {
            return Err(ParseError::new(
                at,
                format!("multiple label name '{target}' not allowed in a single format operation"),
            ));
        }
        parser.expect("=")?;
        let at = parser.position();
        let source = if let Ok(text) = parser.text("a label or a template") {
            let template = Template::parse(&text, parser.budget);
            let template =
                template.map_err(|error| error.at(at, &format!("invalid template for label '{target}': ")))?;
            Source::Template(text, template)
        } else {
            Source::Label(parser.name("a label or a template")?)
        };
        formats.push(Format { target, source });
        if !parser.eat(",") {
            return Ok(Box::new(LabelFormat(formats)));
        }
    }
}

#[derive(Clone, Debug)]
struct Format {
    target: String,
    source: Source,
}

#[derive(Clone, Debug)]
enum Source {
    Label(String),
    Template(String, Template),
}

#[derive(Clone, Debug)]
struct LabelFormat(Vec<Format>);

impl Stage for LabelFormat {
    fn apply<'a>(&'a self, row: &mut Row<'a>) -> bool {
        for format in &self.0 {
            let target = Cow::Borrowed(format.target.as_str());
            match &format.source {
                Source::Label(source) if *source == format.target => {}
                Source::Label(source) => {
                    if let Some(value) = row.get(source).map(str::to_owned) {
                        row.remove(source);
                        row.set(target, Cow::Owned(value));
                    }
                }
                Source::Template(_, template) => match template.execute(row) {
                    Ok(value) => row.set(target, Cow::Owned(value)),
                    Err(error) => row.fail("TemplateFormatErr", || error),
                },
            }
        }
        true
    }

    fn needs(&self) -> Needs {
        // A template may ask for the line.
        let line = self.0.iter().any(|format| matches!(format.source, Source::Template(..)));
        Needs { line, labels: true, changes_labels: true, ..Needs::default() }
    }
}

impl fmt::Display for LabelFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("| label_format ")?;
        for (at, format) in self.0.iter().enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            match &format.source {
                Source::Label(source) => write!(f, "{comma}{}={source}", format.target)?,
                Source::Template(text, _) => write!(f, "{comma}{}={}", format.target, quote(text))?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::query::logql::stages::testing::{labels, outcome};

    #[test]
    fn labels_are_renamed_and_made_in_order() {
        assert_eq!(labels("| logfmt | label_format b=a, c=\"{{.b}}!\", d=nosuch", "a=1"), "b=1 c=1!");
        assert_eq!(labels("| label_format app=\"{{.job}}\", x=\"{{.nosuch}}\"", ""), "app=web x=");
    }

    #[test]
    fn a_label_set_to_itself_stays() {
        assert!(outcome("| label_format job=job | job=\"web\"", "x").is_some());
    }

    #[test]
    fn the_query_of_trace_to_logs_finds_ids_in_lines_and_metadata() {
        let stages = |id: &str| {
            format!(
                "| label_format log_line_contains_trace_id=`{{{{ contains \"{id}\" __line__ }}}}` | log_line_contains_trace_id=\"true\" OR trace_id=\"{id}\""
            )
        };
        assert!(outcome(&stages("abc"), "no id").is_some());
        assert!(outcome(&stages("f00"), "has f00 in it").is_some());
        assert!(outcome(&stages("f00"), "has none").is_none());
    }
}
