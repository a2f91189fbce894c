//! `line_format`: a new line from a template. A template that fails leaves the line as it is.

use std::borrow::Cow;
use std::fmt;

use super::{Needs, Row, Stage};
use crate::query::logql::ParseError;
use crate::query::logql::ast::quote;
use crate::query::logql::parser::Parser;
use crate::query::logql::template::{Scope, Template};

/// Reads the template.
///
/// # Errors
/// [`ParseError`] when it is none.
pub fn parse(parser: &mut Parser) -> Result<Box<dyn Stage>, ParseError> {
    let at = parser.position();
    let text = parser.text("a template")?;
    let template = Template::parse(&text, parser.budget).map_err(|error| error.at(at, "invalid line template: "))?;
    Ok(Box::new(LineFormat { text, template }))
}

#[derive(Clone, Debug)]
struct LineFormat {
    text: String,
    template: Template,
}

impl Scope for Row<'_> {
    fn label(&self, name: &str) -> Option<&str> {
        self.get(name)
    }

    fn each_label(&self, visit: &mut dyn FnMut(&str, &str)) {
        self.labels(visit);
    }

    fn line(&self) -> &str {
        &self.line
    }

    fn time_ns(&self) -> i64 {
        self.t
    }

    fn now_ns(&self) -> i64 {
        self.now_ns
    }

    fn spend(&self, cost: usize) -> bool {
        Row::spend(self, cost)
    }
}

impl Stage for LineFormat {
    fn apply<'a>(&'a self, row: &mut Row<'a>) -> bool {
        match self.template.execute(row) {
            Ok(line) => row.line = Cow::Owned(line),
            Err(error) => row.fail("TemplateFormatErr", || error),
        }
        true
    }

    fn needs(&self) -> Needs {
        Needs { line: true, labels: true, changes_line: true, changes_labels: true, unwraps: false }
    }
}

impl fmt::Display for LineFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "| line_format {}", quote(&self.text))
    }
}

#[cfg(test)]
mod tests {
    use crate::query::logql::stages::testing::{labels, outcome};

    #[test]
    fn the_new_line_is_what_later_stages_see() {
        let (line, _) = outcome("| logfmt | line_format \"{{.app}}/{{.a}}\" |= \"shop/1\"", "a=1").unwrap();
        assert_eq!(line, "shop/1");
    }

    #[test]
    fn a_failing_template_keeps_the_line_and_marks_it() {
        let (line, _) = outcome("| line_format \"{{ div 1 0 }}\"", "x").unwrap();
        assert_eq!(line, "x");
        assert!(labels("| line_format \"{{ repeat 9999999 __line__ }}\"", "x").contains("TemplateFormatErr"));
    }
}
