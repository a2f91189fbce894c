//! Parsing and compiling within the budget of a query: time, memory, and one bound for all patterns of a query.
//! Invariant: nothing large is built before it is charged, so that a refusal costs little.

use super::parse::{Dialect, Pattern, parse_bytes};
use super::pool::TooMuch;
use super::regex::{PROGRAM_BYTES_MAX, Regex, build, bytes_of};
use crate::base::error::{Classify, ErrorClass};
use crate::base::limits::{LimitError, QueryBudget};

/// Most memory that parsing one pattern takes, in bytes.
const PARSE_BYTES_MAX: usize = 32 << 20;
/// Estimates are above what programs take; those over so many times the limit are refused without a try.
const ESTIMATE_FACTOR: usize = 4;

/// Why a pattern is no regular expression of its query.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// It is none, or one that is too large.
    #[error("invalid regular expression {pattern:?}: {reason}")]
    Invalid {
        /// The pattern, cut.
        pattern: String,
        /// Why.
        reason: String,
    },
    /// All of them together are too much.
    #[error(
        "the query's regular expressions {what}; use fewer and shorter ones, and smaller repetitions and classes such as \
         [a-z0-9_] instead of \\w"
    )]
    TooMuch {
        /// More than what.
        what: String,
    },
    /// The budget is used up.
    #[error(transparent)]
    Limit(#[from] LimitError),
}

impl Classify for PatternError {
    fn class(&self) -> ErrorClass {
        match self {
            Self::Invalid { .. } | Self::TooMuch { .. } => ErrorClass::BadData,
            Self::Limit(limit) => limit.class(),
        }
    }
}

impl From<TooMuch> for PatternError {
    fn from(too_much: TooMuch) -> Self {
        let what = match too_much {
            TooMuch::Patterns(limit) => format!("are more than {limit}"),
            TooMuch::Text(limit) => format!("are longer than {limit} bytes together"),
            TooMuch::Programs(limit) => format!("compile to more than {limit} bytes"),
        };
        Self::TooMuch { what }
    }
}

fn invalid(pattern: &str, reason: String) -> PatternError {
    PatternError::Invalid { pattern: pattern.chars().take(200).collect(), reason }
}

fn too_large(pattern: &str) -> PatternError {
    let reason = format!(
        "it compiles to more than {PROGRAM_BYTES_MAX} bytes; make its repetitions and classes smaller, as [a-z0-9_] for \\w"
    );
    invalid(pattern, reason)
}

impl Pattern {
    /// Parses a pattern of a query.
    ///
    /// # Errors
    /// [`PatternError`] when it is none, is too large, or when the budget of the query is used up.
    pub fn parse(text: &str, dialect: Dialect, budget: &QueryBudget) -> Result<Self, PatternError> {
        budget.check()?;
        budget.patterns().add_text(text.len())?;
        let bytes = parse_bytes(text);
        if bytes > PARSE_BYTES_MAX.max(text.len() * 1_024) {
            return Err(too_large(text));
        }
        budget.charge(bytes)?;
        let pattern = Self::read(text, dialect).map_err(|reason| invalid(text, reason));
        budget.release(bytes);
        pattern
    }

    /// Compiles the pattern, or finds it as the query compiled it before.
    ///
    /// # Errors
    /// [`PatternError`] when it is too large, or when the budget of the query is used up.
    pub fn compile(&self, budget: &QueryBudget) -> Result<Regex, PatternError> {
        budget.check()?;
        if let Some(known) = budget.patterns().get(self.dialect, &self.text) {
            return Ok(known);
        }
        let limit = PROGRAM_BYTES_MAX * ESTIMATE_FACTOR;
        let program = self.program_bytes(limit);
        if program > limit {
            return Err(too_large(&self.text));
        }
        let reserved = bytes_of(self, program);
        budget.patterns().reserve(reserved)?;
        budget.charge(reserved)?;
        let (regex, bytes) = match build(self, program) {
            Ok(built) => built,
            Err(reason) => {
                budget.release(reserved);
                return Err(invalid(&self.text, reason));
            }
        };
        match reserved.checked_sub(bytes) {
            Some(less) => budget.release(less),
            None => budget.charge(bytes - reserved)?,
        }
        budget.patterns().keep(self.dialect, self.text.clone(), regex.clone(), reserved, bytes);
        Ok(regex)
    }
}

impl Regex {
    /// Parses and compiles a pattern of a query.
    ///
    /// # Errors
    /// [`PatternError`] as from both.
    pub fn new(text: &str, dialect: Dialect, budget: &QueryBudget) -> Result<Self, PatternError> {
        Pattern::parse(text, dialect, budget)?.compile(budget)
    }
}
