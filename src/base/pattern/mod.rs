//! Regular expressions of queries: the one place that compiles them, within the budget of the query that they
//! belong to. Flow: [`Pattern::parse`] → what can be told without compiling (literals) → [`Pattern::compile`] →
//! [`Regex`]. Another syntax than that of the crate would be turned into its tree in `parse`.

mod budget;
mod literals;
mod parse;
mod pool;
mod regex;

pub use budget::PatternError;
pub use literals::{escape, plain_alternatives};
pub use parse::{Dialect, Pattern};
pub use pool::Pool;
pub use regex::{Captures, Regex};

#[cfg(test)]
mod tests;
