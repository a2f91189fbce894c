//! Why a query of TraceQL has no answer, and what the caller can do about it.

use super::nest::TooDeep;
use crate::base::error::{Classify, ErrorClass};
use crate::base::limits::LimitError;
use crate::store::StoreError;

/// Why a query has no answer.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// It is no TraceQL.
    #[error("parse error at line {line}, col {column}: {what}")]
    Parse {
        /// Line, from 1.
        line: usize,
        /// Character within the line, from 1.
        column: usize,
        /// What is wrong there.
        what: String,
    },
    /// It is TraceQL without a meaning, or what is asked with it makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// The store failed, or the query's budget is used up.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<TooDeep> for QueryError {
    fn from(error: TooDeep) -> Self {
        Self::Invalid(error.to_string())
    }
}

impl From<LimitError> for QueryError {
    fn from(limit: LimitError) -> Self {
        Self::Store(StoreError::Limit(limit))
    }
}

impl Classify for QueryError {
    fn class(&self) -> ErrorClass {
        match self {
            Self::Parse { .. } | Self::Invalid(_) => ErrorClass::BadData,
            Self::Store(store) => store.class(),
        }
    }
}

impl QueryError {
    /// An error at the byte `at` of `text`.
    pub(super) fn at(text: &str, at: usize, what: impl Into<String>) -> Self {
        let before = text.get(..at).unwrap_or(text);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        Self::Parse { line, column, what: what.into() }
    }
}
