//! The text of a query: parsed, told as a tree, formatted. What was formatted formats to itself.
#![no_main]

use libfuzzer_sys::fuzz_target;
use trilith::base::limits::QueryBudget;
use trilith::query::promql;

fuzz_target!(|text: &str| {
    let budget = QueryBudget::unlimited();
    let _ = promql::selector(text, &budget);
    let _ = promql::selectors(text, &budget);
    let Ok(formatted) = promql::format(text, &budget) else { return };
    match promql::format(&formatted, &budget) {
        Ok(again) => assert_eq!(formatted, again, "of {text:?}"),
        Err(error) => panic!("{text:?} becomes {formatted:?}: {error}"),
    }
});
