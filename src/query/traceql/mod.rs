//! TraceQL: spanset filters, structure, pipelines and metrics over the spans of the store.
//! Flow: `lexer` → `parser` (with `expression`) → `ast`; `search` and `metric` scan blocks for
//! candidates with `eval`, and judge whole traces (`view`) with `spanset`.
//! Invariants: comparison is strict by type; a condition that only the whole trace can decide keeps
//! a span as a candidate; the depth of a query is bounded by its type (`nest`), so walks over it may
//! recurse.

mod assemble;
pub mod ast;
mod compare;
mod error;
pub mod eval;
mod expression;
pub mod grid;
mod hints;
#[cfg(test)]
mod hostile;
mod key;
pub mod legacy;
pub mod lexer;
pub mod metric;
pub mod nest;
pub mod op;
mod parser;
mod scope;
pub mod search;
mod second;
mod series;
pub mod spanset;
pub mod tags;
pub mod value;
pub mod view;

pub use error::QueryError;
pub use parser::{parse, parse_within};
