//! LogQL: text to tree (`lexer`, `parser`, `ast`), lines through stages (`filter`, `stages`,
//! `template`), and two ways to an answer: `lines` reads chunks newest or oldest first until a
//! limit is met, `metric` counts or collects samples per series and window, then `vector` combines.
//! Everything reads the store by [`SelectLogs`](crate::store::SelectLogs) and charges a
//! [`QueryBudget`](crate::base::limits::QueryBudget).

use crate::base::error::{Classify, ErrorClass};
use crate::base::limits::{LimitError, QueryBudget};
use crate::base::pattern::PatternError;
use crate::model::labels::{Labels, LabelsError};
use crate::store::StoreError;

pub mod ast;
pub mod detect;
pub mod filter;
#[cfg(test)]
mod hostile;
mod ip;
pub mod lexer;
mod lines;
#[cfg(test)]
pub(crate) mod memory;
mod metric;
pub mod parser;
mod range;
mod scan;
#[cfg(test)]
mod scripts;
pub mod stages;
mod template;
mod vector;
mod window;

pub use ast::{Expr, LogExpr, MetricExpr};
pub use lines::{Direction, Line, LogAnswer, LogQuery, log_query};
pub use metric::{MetricAnswer, MetricQuery, Series, metric_query};
pub use scan::Stats;

use lexer::Position;

/// A query that is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("parse error at line {}, col {}: {message}", at.line, at.column)]
pub struct ParseError {
    /// Where.
    pub at: Position,
    /// What is wrong there.
    pub message: String,
    /// The limit that was met while parsing.
    pub limit: Option<LimitError>,
}

impl ParseError {
    /// An error at a place.
    pub fn new(at: Position, message: impl Into<String>) -> Self {
        Self { at, message: message.into(), limit: None }
    }

    /// A pattern at a place that is none, or one too much.
    pub fn of_pattern(at: Position, error: PatternError) -> Self {
        let message = error.to_string();
        let limit = if let PatternError::Limit(limit) = error { Some(limit) } else { None };
        Self { at, message, limit }
    }
}

impl Classify for ParseError {
    fn class(&self) -> ErrorClass {
        self.limit.as_ref().map_or(ErrorClass::BadData, Classify::class)
    }
}

/// Why an argument of a filter or stage is none.
#[derive(Debug, thiserror::Error)]
pub enum ArgumentError {
    /// It makes no sense.
    #[error("{0}")]
    Text(String),
    /// A regular expression is none, or one too much.
    #[error(transparent)]
    Pattern(#[from] PatternError),
}

impl ArgumentError {
    /// The error of a query in which the argument stands at a place.
    pub fn at(self, at: Position, what: &str) -> ParseError {
        match self {
            Self::Text(message) => ParseError::new(at, format!("{what}{message}")),
            Self::Pattern(error) => ParseError::of_pattern(at, error),
        }
    }
}

/// Why a query has no answer.
#[derive(Debug, thiserror::Error)]
pub enum LogqlError {
    /// The text is no query.
    #[error(transparent)]
    Parse(#[from] ParseError),
    /// The store failed.
    #[error(transparent)]
    Store(StoreError),
    /// The query's budget is used up.
    #[error(transparent)]
    Limit(LimitError),
    /// Too many series.
    #[error("maximum of series ({limit}) reached for a single query; aggregate by fewer labels")]
    TooManySeries {
        /// The limit.
        limit: u64,
    },
    /// Too many points in each series.
    #[error(
        "exceeded maximum resolution of {limit} points per time series. Try increasing the value of the step parameter"
    )]
    TooManyPoints {
        /// The limit.
        limit: u64,
    },
    /// A line failed in a stage of a metric query.
    #[error(
        "pipeline error: '{error}' for series: '{labels}'. Use a label filter to intentionally skip this error \
         (e.g. | __error__!=\"{error}\"), or drop it (| drop __error__)"
    )]
    Pipeline {
        /// The value of `__error__`.
        error: String,
        /// The labels of the line.
        labels: Labels,
    },
    /// What stages made is no label set.
    #[error("a series cannot be named: {0}; drop that label")]
    Labels(#[from] LabelsError),
    /// Series do not match one to one.
    #[error("{0}")]
    Matching(String),
    /// The range of time is none.
    #[error("{0}")]
    Range(String),
}

impl From<LimitError> for LogqlError {
    fn from(error: LimitError) -> Self {
        Self::Limit(error)
    }
}

impl From<StoreError> for LogqlError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Limit(limit) => Self::Limit(limit),
            StoreError::Io { .. }
            | StoreError::DiskFull { .. }
            | StoreError::MemoryFull
            | StoreError::NotReady(_)
            | StoreError::NotOpen { .. }
            | StoreError::Damaged { .. } => Self::Store(error),
        }
    }
}

impl Classify for LogqlError {
    fn class(&self) -> ErrorClass {
        match self {
            Self::Parse(error) => error.class(),
            Self::TooManySeries { .. }
            | Self::TooManyPoints { .. }
            | Self::Pipeline { .. }
            | Self::Labels(_)
            | Self::Matching(_)
            | Self::Range(_) => ErrorClass::BadData,
            Self::Store(error) => error.class(),
            Self::Limit(error) => error.class(),
        }
    }
}

/// Parses a query that no client sent, such as one of a test.
///
/// # Errors
/// [`ParseError`].
pub fn parse(text: &str) -> Result<Expr, ParseError> {
    parse_within(text, &QueryBudget::unlimited())
}

/// Parses a query within the budget that it will run in.
///
/// # Errors
/// [`ParseError`].
pub fn parse_within(text: &str, budget: &QueryBudget) -> Result<Expr, ParseError> {
    parser::parse_query(text, budget)
}

/// Parses a bare selector such as `{app="shop"}`; an empty text or `{}` selects everything.
///
/// # Errors
/// [`ParseError`], also when stages follow.
pub fn parse_selector(text: &str, budget: &QueryBudget) -> Result<Vec<crate::model::matcher::Matcher>, ParseError> {
    parser::parse_selector(text, budget)
}
