//! A LogQL query over a few streams, within a budget: it ends with an answer or an error. The first byte says over
//! which times.
#![no_main]

use libfuzzer_sys::fuzz_target;
// What the store in memory names from the root of its crate.
use trilith::{base, model, query, store};

#[path = "shared/lines.rs"]
mod lines;
#[path = "../../../src/query/logql/memory.rs"]
mod memory;

fuzz_target!(|bytes: &[u8]| {
    let Some((way, text)) = bytes.split_first() else { return };
    let Ok(text) = std::str::from_utf8(text) else { return };
    let _ = query::logql::parse_selector(text, &base::limits::QueryBudget::unlimited());
    lines::answer(*way, text);
});
