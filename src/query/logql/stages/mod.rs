//! Pipeline stages: what stands behind a selector. `STAGES` holds a row for each keyword; line
//! filters and label filters have no keyword and no row.
//! Flow: a [`Row`] goes through the stages in order; each may change its line and labels, mark it
//! with an error, or drop it.

use std::borrow::Cow;
use std::fmt;

use crate::model::labels::Labels;
use crate::query::pace::Pace;

use super::ParseError;
use super::filter::LineFilter;
use super::parser::Parser;

pub mod decolorize;
pub mod drop_keep;
pub mod json;
mod json_scan;
pub mod label_filter;
pub mod label_format;
pub mod line_format;
pub mod logfmt;
pub mod pattern;
pub mod regexp;
pub mod unpack;
pub mod unwrap;

/// The label that says that a stage failed.
pub const ERROR: &str = "__error__";
/// The label that says how.
pub const ERROR_DETAILS: &str = "__error_details__";

/// Most labels that stages may add to one line.
const LABELS_MAX: usize = 1_000;

/// A keyword of the language.
pub struct StageRow {
    /// The keyword.
    pub name: &'static str,
    /// What it does, in one line.
    pub summary: &'static str,
    /// Reads what follows the keyword and compiles it.
    pub parse: fn(&mut Parser) -> Result<Box<dyn Stage>, ParseError>,
}

/// All keywords, for the parser, for completion lists and for documentation.
pub const STAGES: &[StageRow] = &[
    StageRow { name: "json", summary: "labels from the fields of a JSON line", parse: json::parse },
    StageRow { name: "logfmt", summary: "labels from key=value pairs", parse: logfmt::parse },
    StageRow { name: "regexp", summary: "labels from named groups of an expression", parse: regexp::parse },
    StageRow { name: "pattern", summary: "labels from a pattern such as `<ip> - <_>`", parse: pattern::parse },
    StageRow { name: "unpack", summary: "labels and line of a packed JSON line", parse: unpack::parse },
    StageRow { name: "line_format", summary: "a new line from a template", parse: line_format::parse },
    StageRow { name: "label_format", summary: "labels renamed, or made by templates", parse: label_format::parse },
    StageRow { name: "drop", summary: "removes labels", parse: drop_keep::parse_drop },
    StageRow { name: "keep", summary: "removes all other labels", parse: drop_keep::parse_keep },
    StageRow { name: "decolorize", summary: "removes terminal colours from the line", parse: decolorize::parse },
    StageRow { name: "unwrap", summary: "takes a label's value as the sample", parse: unwrap::parse },
];

/// What a stage reads and changes, so that a query fetches no more than it needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// Reads the line.
    pub line: bool,
    /// Reads labels, structured metadata among them.
    pub labels: bool,
    /// May change the line, so that later line filters see another one.
    pub changes_line: bool,
    /// Adds, changes or removes labels, or may mark the row with an error.
    pub changes_labels: bool,
    /// Gives the row a value.
    pub unwraps: bool,
}

/// One stage, compiled.
pub trait Stage: Send + Sync + fmt::Debug + fmt::Display {
    /// Does its work; whether the row stays.
    fn apply<'a>(&'a self, row: &mut Row<'a>) -> bool;

    /// What it reads and changes.
    fn needs(&self) -> Needs;

    /// Itself, when it is a line filter.
    fn line_filter(&self) -> Option<&LineFilter> {
        None
    }
}

impl Stage for LineFilter {
    fn apply<'a>(&'a self, row: &mut Row<'a>) -> bool {
        row.pace.map_or_else(|| self.keeps(&row.line), |pace| self.keeps_paced(&row.line, pace))
    }

    fn needs(&self) -> Needs {
        Needs { line: true, ..Needs::default() }
    }

    fn line_filter(&self) -> Option<&LineFilter> {
        Some(self)
    }
}

/// A name and its value.
pub type Pair<'a> = (Cow<'a, str>, Cow<'a, str>);

/// A line on its way through the stages.
#[derive(Debug)]
pub struct Row<'a> {
    /// Its time, in nanoseconds.
    pub t: i64,
    /// The line as it is now.
    pub line: Cow<'a, str>,
    /// The stream's labels.
    pub stream: &'a Labels,
    /// Structured metadata.
    pub metadata: &'a Labels,
    /// Labels that stages added or changed. They hide those of the stream and the metadata.
    pub parsed: Vec<Pair<'a>>,
    /// Names removed from the stream's labels and the metadata.
    pub gone: Vec<Cow<'a, str>>,
    /// What went wrong, as in `JSONParserErr`.
    pub error: Option<Cow<'a, str>>,
    /// The same in words.
    pub details: Option<String>,
    /// The unwrapped value.
    pub value: Option<f64>,
    /// The label it came from, which is none of the series'.
    pub unwrapped: Option<&'a str>,
    /// The query's time, for templates, in nanoseconds.
    pub now_ns: i64,
    /// Where work is counted.
    pace: Option<&'a Pace<'a>>,
}

impl<'a> Row<'a> {
    /// A row as stored.
    pub fn new(t: i64, line: &'a str, stream: &'a Labels, metadata: &'a Labels, now_ns: i64) -> Self {
        Self {
            t,
            line: Cow::Borrowed(line),
            stream,
            metadata,
            parsed: Vec::new(),
            gone: Vec::new(),
            error: None,
            details: None,
            value: None,
            unwrapped: None,
            now_ns,
            pace: None,
        }
    }

    /// The row, whose stages count their work.
    pub(super) fn paced(self, pace: &'a Pace<'a>) -> Self {
        Self { pace: Some(pace), ..self }
    }

    /// Counts work that costs as much as looking at so many bytes; whether it may be done. What comes
    /// of the row is of no use once it may not.
    pub(crate) fn spend(&self, cost: usize) -> bool {
        self.pace.is_none_or(|pace| pace.spend(cost))
    }

    /// The value of a label, wherever it comes from.
    pub fn get(&self, name: &str) -> Option<&str> {
        if name.starts_with("__error") {
            match name {
                ERROR => return self.error.as_deref(),
                ERROR_DETAILS => return self.details.as_deref(),
                _ => {}
            }
        }
        if let Some((_, value)) = self.parsed.iter().find(|(own, _)| own == name) {
            return Some(value);
        }
        if self.gone.iter().any(|gone| gone == name) {
            return None;
        }
        self.metadata.get(name).or_else(|| self.stream.get(name))
    }

    /// Adds or changes a label.
    pub fn set(&mut self, name: Cow<'a, str>, value: Cow<'a, str>) {
        let full = self.parsed.len() >= LABELS_MAX;
        match self.parsed.iter_mut().find(|(own, _)| *own == name) {
            Some((_, own)) => *own = value,
            None if !full => self.parsed.push((name, value)),
            None => self.fail("LabelLimitErr", || format!("more than {LABELS_MAX} labels in one line")),
        }
    }

    /// Adds a label that a parser found. One that the stream has becomes `NAME_extracted`; one that
    /// the structured metadata has is left as it is there. The name must be a legal one.
    pub fn extract(&mut self, name: Cow<'a, str>, value: Cow<'a, str>) {
        if self.stream.get(&name).is_some() {
            return self.set(Cow::Owned(format!("{name}_extracted")), value);
        }
        if self.metadata.get(&name).is_none() {
            self.set(name, value);
        }
    }

    /// Removes a label.
    pub fn remove(&mut self, name: &'a str) {
        match name {
            ERROR => self.error = None,
            ERROR_DETAILS => self.details = None,
            _ => {
                self.parsed.retain(|(own, _)| own != name);
                if self.stream.get(name).is_some() || self.metadata.get(name).is_some() {
                    self.gone.push(Cow::Borrowed(name));
                }
            }
        }
    }

    /// Marks the row; the first error stays.
    pub fn fail(&mut self, error: &'static str, details: impl FnOnce() -> String) {
        if self.error.is_none() {
            self.error = Some(Cow::Borrowed(error));
            self.details = Some(details());
        }
    }

    /// Whether a label of the stream or the metadata still stands as stored.
    pub fn stands(&self, name: &str) -> bool {
        !self.gone.iter().any(|gone| gone == name) && !self.parsed.iter().any(|(own, _)| own == name)
    }

    /// Calls `visit` for every label in force, in no order, errors included. The unwrapped one is left out.
    pub fn labels(&self, mut visit: impl FnMut(&str, &str)) {
        // A label of the stream is hidden by the metadata's of that name.
        let stream =
            self.stream.iter().filter(|(name, _)| self.metadata.is_empty() || self.metadata.get(name).is_none());
        let base = stream.chain(self.metadata.iter()).filter(|(name, _)| self.stands(name));
        let parsed = self.parsed.iter().map(|(name, value)| (name.as_ref(), value.as_ref()));
        for (name, value) in base.chain(parsed) {
            if self.unwrapped != Some(name) {
                visit(name, value);
            }
        }
        if let Some(error) = &self.error {
            visit(ERROR, error);
        }
        if let Some(details) = &self.details {
            visit(ERROR_DETAILS, details);
        }
    }
}

/// Runs all stages; whether the row stays. One whose work was stopped does not.
pub fn run<'a>(stages: &'a [std::sync::Arc<dyn Stage>], row: &mut Row<'a>) -> bool {
    stages.iter().all(|stage| row.spend(64 + row.line.len()) && stage.apply(row))
}

/// A name as labels have them: every other character becomes `_`, and a leading digit gets one.
pub fn clean_name(name: &str) -> Cow<'_, str> {
    let legal = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let digit = name.starts_with(|c: char| c.is_ascii_digit());
    if !digit && name.bytes().all(|byte| legal(char::from(byte))) {
        return Cow::Borrowed(name);
    }
    let clean = name.chars().map(|c| if legal(c) { c } else { '_' });
    Cow::Owned(digit.then_some('_').into_iter().chain(clean).collect())
}

/// Runs `work` on the row's line and lets it change the row's labels meanwhile. `work` is given the
/// line and a function that turns a piece of it into a value that lives as long as the row: borrowed
/// when the line is the stored one, copied when a stage made it.
pub(crate) fn with_line<'a>(row: &mut Row<'a>, work: impl LineWork<'a>) {
    match std::mem::take(&mut row.line) {
        Cow::Borrowed(line) => {
            work.run(row, line, Cow::Borrowed);
            row.line = Cow::Borrowed(line);
        }
        Cow::Owned(line) => {
            work.run(row, &line, |part| Cow::Owned(part.to_owned()));
            row.line = Cow::Owned(line);
        }
    }
}

/// See [`with_line`].
pub(crate) trait LineWork<'a> {
    /// Reads `line`; pieces of it become values by `own`.
    fn run<'l>(self, row: &mut Row<'a>, line: &'l str, own: impl Fn(&'l str) -> Cow<'a, str>);
}

#[cfg(test)]
pub(crate) mod testing {
    //! Runs one query's stages over one line.

    use super::*;
    use crate::query::logql::{Expr, parse};

    /// The line and the labels (those that stages added, sorted) after the stages, or nothing.
    pub(crate) fn outcome(stages: &str, line: &str) -> Option<(String, Vec<(String, String)>)> {
        let stream = Labels::from_pairs([("app", "shop"), ("job", "web")]).unwrap();
        let metadata = Labels::from_pairs([("trace_id", "abc"), ("detected_level", "info")]).unwrap();
        let Expr::Log(log) = parse(&format!("{{app=\"shop\"}} {stages}")).unwrap() else { panic!("not a log query") };
        let mut row = Row::new(1_700_000_000_000_000_000, line, &stream, &metadata, 0);
        run(&log.stages, &mut row).then(|| {
            let mut labels = Vec::new();
            row.labels(|name, value| {
                if !row.stands(name) || (stream.get(name).is_none() && metadata.get(name).is_none()) {
                    labels.push((name.to_owned(), value.to_owned()));
                }
            });
            labels.sort();
            (row.line.into_owned(), labels)
        })
    }

    /// Only the labels, as `name=value` pairs.
    pub(crate) fn labels(stages: &str, line: &str) -> String {
        let (_, labels) = outcome(stages, line).expect("the line was dropped");
        labels.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn names_are_cleaned_character_by_character() {
        assert_eq!(clean_name("a.b-ü"), "a_b__");
        assert_eq!(clean_name("9x"), "_9x");
        assert_eq!(clean_name("ok_1"), "ok_1");
    }
}
