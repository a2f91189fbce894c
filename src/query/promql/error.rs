//! Why a query has no answer.

use super::lex::{self, SyntaxError, SyntaxKind};
use crate::base::error::{Classify, ErrorClass};
use crate::base::limits::LimitError;
use crate::base::pattern::PatternError;
use crate::store::StoreError;

/// Why a query has no answer.
#[derive(Debug, thiserror::Error)]
pub enum PromqlError {
    /// The text is no query.
    #[error("{line}:{column}: parse error: {message}")]
    Parse {
        /// Line, from one.
        line: usize,
        /// Column in bytes, from one.
        column: usize,
        /// What is wrong.
        message: String,
    },
    /// The request's times or steps make no sense.
    #[error("{0}")]
    Request(String),
    /// The query cannot be computed.
    #[error("{0}")]
    Execution(String),
    /// The budget is used up.
    #[error(transparent)]
    Limit(#[from] LimitError),
    /// The store could not read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The system has no thread left for a query that nests deep.
    #[error("start a thread for a query that nests deep; try again, or nest less")]
    Thread(#[source] std::io::Error),
}

impl From<PatternError> for PromqlError {
    fn from(error: PatternError) -> Self {
        match error {
            PatternError::Limit(limit) => Self::Limit(limit),
            error @ (PatternError::Invalid { .. } | PatternError::TooMuch { .. }) => Self::Execution(error.to_string()),
        }
    }
}

impl Classify for PromqlError {
    fn class(&self) -> ErrorClass {
        match self {
            Self::Parse { .. } | Self::Request(_) => ErrorClass::BadData,
            Self::Execution(_) => ErrorClass::Execution,
            Self::Limit(limit) => limit.class(),
            Self::Store(store) => store.class(),
            Self::Thread(_) => ErrorClass::Unavailable,
        }
    }
}

impl PromqlError {
    /// What is wrong with the text of a query.
    pub(super) fn of_text(query: &str, error: SyntaxError) -> Self {
        match error.kind {
            SyntaxKind::Grammar => {}
            SyntaxKind::LabelName => return Self::Execution(error.message),
            SyntaxKind::Limit(limit) => return Self::Limit(limit),
        }
        let (line, column) = lex::line_and_column(query, error.pos);
        Self::Parse { line, column, message: error.message }
    }
}
