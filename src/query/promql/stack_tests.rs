//! Whatever a client sends, half of the smallest stack that a thread of the server has holds it: queries
//! that nest as deep as they may are answered, and deeper ones are refused.

use std::time::Duration;

use super::{Params, PromqlError, format, instant, selector, selectors, with_tree};
use crate::base::limits::QueryBudget;
use crate::store::memory::Memory;

/// Blocking threads and those of queries have two of these.
const STACK_BYTES: usize = 1 << 20;

/// Everything that is done with the text of a query, on a small stack; gives what comes of its evaluation.
fn all_ways(query: &str) -> Result<(), PromqlError> {
    let work = || {
        let budget = QueryBudget::new(Duration::from_secs(60), 1 << 30, u64::MAX);
        let _ = (selector(query, &budget), selectors(query, &budget), format(query, &budget));
        let _ = with_tree(query, &budget, |expr| {
            drop(expr.clone());
            Ok(())
        });
        instant(&Memory::default(), query, 0, Params::default(), &budget).map(|_| ())
    };
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(STACK_BYTES).spawn_scoped(scope, work);
        thread.unwrap().join().unwrap()
    })
}

/// Queries that nest `depth` deep, and how deep each may.
fn deep(depth: usize) -> Vec<(usize, String)> {
    let around =
        |open: &str, middle: &str, close: &str| format!("{}{middle}{}", open.repeat(depth), close.repeat(depth));
    vec![
        (200, around("(", "a", ")")),
        (200, around("abs(", "a", ")")),
        (200, around("sum by (x) (", "a", ")")),
        (200, around("label_replace(", "a", ", \"x\", \"$1\", \"y\", \"(.*)\")")),
        (200, around("max_of(1, ", "1", ")")),
        (199, around("max_over_time(", "a", "[1m:1m])")),
        (199, format!("a[{}]", around("(", "1", ")"))),
        (199, format!("a[{}]", around("max_of(1, ", "1", ")"))),
        (2_000, around("-", "a", "")),
        (2_000, around("a + ", "a", "")),
        (2_000, around("a ^ ", "a", "")),
        (2_000, around("a and ", "a", "")),
        (2_000, around("", "a", " or a")),
        (2_000, format!("a[{}]", around("1 ^ ", "1", ""))),
        (2_000, format!("a[{}]", around("1 + ", "1", ""))),
        (1_000, format!("a[{}]", around("1 ^ -", "1", ""))),
    ]
}

#[test]
fn queries_nest_as_deep_as_they_may_on_a_small_stack() {
    // The deepest that are worked on where they are asked, and the deepest of all.
    for depth in [39, 199, 200, 999, 1_000, 1_999, 2_000] {
        for (most, query) in deep(depth) {
            if depth > most {
                continue;
            }
            let result = all_ways(&query);
            assert!(result.is_ok(), "{depth}: {}: {result:?}", query.get(..80).unwrap_or(&query));
        }
    }
}

#[test]
fn deeper_queries_are_refused_on_a_small_stack() {
    for depth in [2_001, 20_000] {
        for (_, query) in deep(depth) {
            let error = all_ways(&query).unwrap_err().to_string();
            let says = ["nested deeper", "more than 2000 operators", "more than 100000 words", "over the limit"];
            assert!(says.iter().any(|says| error.contains(says)), "{error}");
        }
    }
    let chain = format!("a{}", "[1m:1m]".repeat(2_000));
    assert!(all_ways(&chain).unwrap_err().to_string().contains("subquery is only allowed on instant vector"));
}
