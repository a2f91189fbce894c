//! Why bytes from outside were not understood.

use crate::base::error::{Classify, ErrorClass};

/// A whole body that cannot be taken. What is wrong with single items of a body is counted in
/// `Rejections` instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// The bytes are not what the format says.
    #[error("malformed {format}: {what}")]
    Malformed {
        /// The format, for people.
        format: &'static str,
        /// What is wrong.
        what: String,
    },
    /// Something is larger than a limit.
    #[error("{what} is over the limit of {limit}; send smaller batches")]
    TooLarge {
        /// What is too large, with its unit.
        what: &'static str,
        /// The limit.
        limit: u64,
    },
    /// The body is well-formed but holds nothing that could be stored, where that is an error.
    #[error("{0}")]
    Empty(&'static str),
}

impl WireError {
    /// A [`WireError::Malformed`].
    pub fn malformed(format: &'static str, what: impl Into<String>) -> Self {
        Self::Malformed { format, what: what.into() }
    }
}

impl Classify for WireError {
    fn class(&self) -> ErrorClass {
        match self {
            Self::Malformed { .. } => ErrorClass::BadData,
            Self::TooLarge { .. } => ErrorClass::TooLarge,
            Self::Empty(_) => ErrorClass::Execution,
        }
    }
}

/// Text for an error message: cut to 100 characters, so that a hostile body is not echoed whole.
pub(crate) fn cut(text: &str) -> String {
    match text.char_indices().nth(100) {
        Some((at, _)) => format!("{}...", text.get(..at).unwrap_or_default()),
        None => text.to_owned(),
    }
}
