//! The regular expressions of one query: each pattern once, and what all of them take.

use std::collections::HashMap;

use super::parse::Dialect;
use super::regex::Regex;

/// Most different patterns of one query.
const PATTERNS_MAX: usize = 1_000;
/// Longest text of all patterns of one query together, in bytes; lists of plain texts do not count.
const TEXT_BYTES_MAX: usize = 256 << 10;
/// Most memory that the programs of one query take together, with what they build while they run, in bytes.
const PROGRAM_BYTES_MAX: usize = 64 << 20;

/// What a query's regular expressions are more than.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TooMuch {
    /// Their number.
    Patterns(usize),
    /// Their text, in bytes.
    Text(usize),
    /// Their programs, in bytes.
    Programs(usize),
}

/// The compiled regular expressions of one query.
#[derive(Debug, Default)]
pub struct Pool {
    known: HashMap<(Dialect, String), Regex>,
    text_bytes: usize,
    program_bytes: usize,
}

impl Pool {
    /// The pattern as it was compiled before.
    pub(super) fn get(&self, dialect: Dialect, text: &str) -> Option<Regex> {
        self.known.get(&(dialect, text.to_owned())).cloned()
    }

    /// Counts the text of one more pattern.
    pub(super) fn add_text(&mut self, bytes: usize) -> Result<(), TooMuch> {
        self.text_bytes = self.text_bytes.saturating_add(bytes);
        if self.text_bytes > TEXT_BYTES_MAX { Err(TooMuch::Text(TEXT_BYTES_MAX)) } else { Ok(()) }
    }

    /// Makes room for one more program.
    pub(super) fn reserve(&mut self, bytes: usize) -> Result<(), TooMuch> {
        if self.known.len() >= PATTERNS_MAX {
            return Err(TooMuch::Patterns(PATTERNS_MAX));
        }
        let sum = self.program_bytes.saturating_add(bytes);
        if sum > PROGRAM_BYTES_MAX {
            return Err(TooMuch::Programs(PROGRAM_BYTES_MAX));
        }
        self.program_bytes = sum;
        Ok(())
    }

    /// Keeps a program, for which `reserved` bytes were and of which `bytes` are needed.
    pub(super) fn keep(&mut self, dialect: Dialect, text: String, regex: Regex, reserved: usize, bytes: usize) {
        self.program_bytes = self.program_bytes.saturating_sub(reserved).saturating_add(bytes);
        self.known.insert((dialect, text), regex);
    }
}
