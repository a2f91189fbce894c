//! The text of a query: parsed, told as a tree, formatted. What was formatted formats to itself.
#![no_main]

use libfuzzer_sys::fuzz_target;
use trilith::query::promql;

fuzz_target!(|text: &str| {
    let _ = promql::selector(text);
    let _ = promql::selectors(text);
    let Ok(formatted) = promql::format(text) else { return };
    match promql::format(&formatted) {
        Ok(again) => assert_eq!(formatted, again, "of {text:?}"),
        Err(error) => panic!("{text:?} becomes {formatted:?}: {error}"),
    }
});
