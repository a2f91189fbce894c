//! Words of a query, and what is wrong with its text.

use super::ast::Pos;
use crate::base::limits::LimitError;

/// The times of the query, for `step()` and `range()` in durations.
#[derive(Clone, Copy, Debug, Default)]
pub struct Times {
    /// First step, milliseconds.
    pub start: i64,
    /// Last step, milliseconds.
    pub end: i64,
    /// Between steps, milliseconds; 0 for an instant query.
    pub step: i64,
}

impl Times {
    /// An hour by minutes, for a query that is read and not run.
    pub const NOMINAL: Self = Self { start: 0, end: 3_600_000, step: 60_000 };
}

/// An error in the text of a query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyntaxError {
    /// Where.
    pub pos: Pos,
    /// What.
    pub message: String,
    /// Of which kind the mistake is.
    pub kind: SyntaxKind,
}

/// What a client can do about a query that is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SyntaxKind {
    /// Write it otherwise.
    Grammar,
    /// Call a label otherwise; for Prometheus a mistake that shows only when the query runs.
    LabelName,
    /// Ask for less.
    Limit(LimitError),
}

impl SyntaxError {
    /// A mistake in the grammar.
    pub fn new(pos: Pos, message: impl Into<String>) -> Self {
        Self { pos, message: message.into(), kind: SyntaxKind::Grammar }
    }

    /// A limit that was met while reading the query.
    pub fn of_limit(pos: Pos, limit: LimitError) -> Self {
        Self { pos, message: limit.to_string(), kind: SyntaxKind::Limit(limit) }
    }
}

/// Kinds of words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// A name or keyword.
    Name,
    /// A number.
    Number,
    /// A duration such as `1h30m`.
    Duration,
    /// A quoted string.
    String,
    /// An operator or bracket.
    Sign,
}

/// A word and its place.
#[derive(Clone, Copy, Debug)]
pub struct Token<'a> {
    /// Its kind.
    pub word: Word,
    /// Its text.
    pub text: &'a str,
    /// Where it begins.
    pub pos: Pos,
}

/// What is between square brackets.
#[derive(Clone, Copy, Debug)]
pub struct Bracket {
    /// The range, milliseconds.
    pub range: i64,
    /// For a subquery, its step, milliseconds.
    pub step: Option<i64>,
    /// Index of the token after `]`.
    pub after: usize,
    /// Index of the `:` of a subquery, else of the `]`.
    pub divided: usize,
}

pub(super) fn error<T>(pos: Pos, message: impl Into<String>) -> Result<T, SyntaxError> {
    Err(SyntaxError::new(pos, message))
}
