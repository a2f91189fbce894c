//! The text of a template as `line_format` and `label_format` run it, on lines of every kind.
#![no_main]

use libfuzzer_sys::fuzz_target;
// What the store in memory names from the root of its crate.
use trilith::{base, model, store};

#[path = "shared/lines.rs"]
mod lines;
#[path = "../../../src/query/logql/memory.rs"]
mod memory;

fuzz_target!(|text: &str| {
    if text.contains('`') {
        return;
    }
    lines::answer(20, &format!("{{app=\"shop\"}} | json | line_format `{text}`"));
    lines::answer(21, &format!("{{app=\"shop\"}} | logfmt | label_format x=`{text}`"));
});
