//! Which labels and fields there are, guessed from a sample of lines, for completion and Drilldown.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use crate::base::limits::QueryBudget;
use crate::model::matcher::Matcher;
use crate::model::time::RangeNs;
use crate::query::pace::Pace;
use crate::store::SelectLogs;

use super::LogqlError;
use super::ast::LogExpr;
use super::lexer::{parse_bytes, parse_duration};
use super::lines::{Line, LogQuery, log_query};
use super::stages::{ERROR, ERROR_DETAILS};

/// Most distinct values that are counted for one field.
const VALUES_MAX: usize = 1_000;
/// Memory of a field, or of one of its values, beside their texts, in bytes.
const FOUND_BYTES: usize = 160;

/// A label of streams and how many values it has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DetectedLabel {
    /// Its name.
    pub label: String,
    /// Distinct values.
    pub cardinality: u64,
}

/// A field of lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DetectedField {
    /// Its name, as a label.
    pub label: String,
    /// What its values look like.
    pub kind: FieldKind,
    /// Distinct values seen.
    pub cardinality: u64,
    /// Stages that find it; none for structured metadata.
    pub parsers: Vec<&'static str>,
    /// Where it stands in JSON lines.
    pub json_path: Vec<String>,
}

/// What values look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldKind {
    /// Anything.
    String,
    /// Whole numbers.
    Int,
    /// Numbers.
    Float,
    /// `true` and `false`.
    Boolean,
    /// `5ms` and the like.
    Duration,
    /// `5KB` and the like.
    Bytes,
}

impl FieldKind {
    /// The kind's name in answers.
    pub fn name(self) -> &'static str {
        match self {
            Self::String => "string",
            Self::Int => "int",
            Self::Float => "float",
            Self::Boolean => "boolean",
            Self::Duration => "duration",
            Self::Bytes => "bytes",
        }
    }

    fn of(value: &str) -> Self {
        if value.parse::<i64>().is_ok() {
            Self::Int
        } else if value.parse::<f64>().is_ok() {
            Self::Float
        } else if matches!(value, "true" | "false") {
            Self::Boolean
        } else if parse_duration(value).is_some() {
            Self::Duration
        } else if value.starts_with(|c: char| c.is_ascii_digit()) && parse_bytes(value).is_some() {
            Self::Bytes
        } else {
            Self::String
        }
    }

    /// The kind that holds values of both.
    fn join(self, other: Self) -> Self {
        match (self, other) {
            (a, b) if a == b => a,
            (Self::Int, Self::Float) | (Self::Float, Self::Int) => Self::Float,
            _ => Self::String,
        }
    }
}

/// Labels of matching streams and how many values each has. Labels whose values are ids (long
/// hexadecimal texts only) are left out.
///
/// # Errors
/// [`LogqlError`].
pub fn detected_labels(
    logs: &dyn SelectLogs,
    matchers: &[Matcher],
    range: RangeNs,
    budget: &QueryBudget,
) -> Result<Vec<DetectedLabel>, LogqlError> {
    let mut values: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let pace = Pace::new(budget);
    for labels in logs.series(matchers, range, budget)? {
        pace.go(64 + labels.bytes())?;
        for (name, value) in labels.iter() {
            let known = match values.get_mut(name) {
                Some(known) => known,
                None => values.entry(name.to_owned()).or_default(),
            };
            if !known.contains(value) {
                budget.charge(name.len() + value.len() + FOUND_BYTES)?;
                known.insert(value.to_owned());
            }
        }
    }
    let is_id = |value: &String| value.len() >= 32 && value.chars().all(|c| c.is_ascii_hexdigit() || c == '-');
    values.retain(|_, values| !values.iter().all(is_id));
    let detected =
        |(label, values): (String, BTreeSet<String>)| DetectedLabel { label, cardinality: values.len() as u64 };
    Ok(values.into_iter().map(detected).collect())
}

/// Fields found so far.
struct Fields<'b> {
    by_name: BTreeMap<String, Field>,
    pace: Pace<'b>,
}

impl Fields<'_> {
    fn add(
        &mut self,
        name: &str,
        value: &str,
        parser: Option<&'static str>,
        path: Vec<String>,
    ) -> Result<(), LogqlError> {
        self.pace.go(64 + name.len() + value.len())?;
        if !self.by_name.contains_key(name) {
            let path_bytes: usize = path.iter().map(|part| part.len() + size_of::<String>()).sum();
            self.pace.budget().charge(2 * FOUND_BYTES + name.len() + path_bytes)?;
        }
        let field = self.by_name.entry(name.to_owned()).or_default();
        let kind = FieldKind::of(value);
        field.kind = Some(field.kind.map_or(kind, |own| own.join(kind)));
        field.parsers.extend(parser);
        if field.json_path.is_empty() {
            field.json_path = path;
        }
        if field.values.len() < VALUES_MAX {
            let value: String = value.chars().take(1_000).collect();
            if !field.values.contains(&value) {
                self.pace.budget().charge(FOUND_BYTES + value.len())?;
                field.values.insert(value);
            }
        }
        Ok(())
    }
}

#[derive(Default)]
struct Field {
    kind: Option<FieldKind>,
    values: BTreeSet<String>,
    parsers: BTreeSet<&'static str>,
    json_path: Vec<String>,
}

fn collect(
    logs: &dyn SelectLogs,
    expr: &LogExpr,
    query: LogQuery,
    budget: &QueryBudget,
) -> Result<BTreeMap<String, Field>, LogqlError> {
    let mut fields = Fields { by_name: BTreeMap::new(), pace: Pace::new(budget) };
    for line in log_query(logs, expr, query, budget)?.lines {
        budget.check()?;
        for (name, value) in line.metadata.iter() {
            fields.add(name, value, None, Vec::new())?;
        }
        for (name, value) in line.parsed.iter().filter(|(name, _)| ![ERROR, ERROR_DETAILS].contains(&name.as_str())) {
            fields.add(name, value, None, Vec::new())?;
        }
        let (parser, found) = parsed_fields(&line);
        for (name, value, path) in found {
            if line.stream.get(&name).is_none() && line.metadata.get(&name).is_none() {
                fields.add(&name, &value, Some(parser), path)?;
            }
        }
    }
    Ok(fields.by_name)
}

type Found = Vec<(String, String, Vec<String>)>;

/// The fields that `json`, or else `logfmt`, finds in a line.
fn parsed_fields(line: &Line) -> (&'static str, Found) {
    let text = line.line.trim_start();
    if text.starts_with('{') {
        let mut found = Vec::new();
        if let Ok(serde_json::Value::Object(members)) = serde_json::from_str(text) {
            flatten(&members, &mut Vec::new(), &mut found);
        }
        return ("json", found);
    }
    let pairs = super::stages::logfmt::pairs(text);
    let own = |(name, value): (Cow<'_, str>, Cow<'_, str>)| (name.into_owned(), value.into_owned(), Vec::new());
    ("logfmt", pairs.into_iter().map(own).collect())
}

/// serde_json bounds the nesting to 128.
fn flatten(members: &serde_json::Map<String, serde_json::Value>, path: &mut Vec<String>, found: &mut Found) {
    for (name, value) in members {
        path.push(name.clone());
        let text = match value {
            serde_json::Value::Object(inner) => {
                flatten(inner, path, found);
                None
            }
            serde_json::Value::String(text) => Some(text.clone()),
            serde_json::Value::Number(_) | serde_json::Value::Bool(_) => Some(value.to_string()),
            serde_json::Value::Null | serde_json::Value::Array(_) => None,
        };
        if let Some(text) = text.filter(|_| found.len() < VALUES_MAX) {
            let name = super::stages::clean_name(&path.join("_")).into_owned();
            found.push((name, text, path.clone()));
        }
        path.pop();
    }
}

/// Fields of a sample of lines, by name.
///
/// # Errors
/// [`LogqlError`].
pub fn detected_fields(
    logs: &dyn SelectLogs,
    expr: &LogExpr,
    query: LogQuery,
    budget: &QueryBudget,
) -> Result<Vec<DetectedField>, LogqlError> {
    let fields = collect(logs, expr, query, budget)?;
    let detected = |(label, field): (String, Field)| DetectedField {
        label,
        kind: field.kind.unwrap_or(FieldKind::String),
        cardinality: field.values.len() as u64,
        parsers: field.parsers.into_iter().collect(),
        json_path: field.json_path,
    };
    Ok(fields.into_iter().map(detected).collect())
}

/// Values of one field in a sample of lines, sorted.
///
/// # Errors
/// [`LogqlError`].
pub fn detected_field_values(
    logs: &dyn SelectLogs,
    name: &str,
    expr: &LogExpr,
    query: LogQuery,
    budget: &QueryBudget,
) -> Result<Vec<String>, LogqlError> {
    let mut fields = collect(logs, expr, query, budget)?;
    Ok(fields.remove(name).map(|field| field.values.into_iter().collect()).unwrap_or_default())
}
