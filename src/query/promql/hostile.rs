//! Queries that nobody would write: pieces of the scripts' queries put together anew. Each ends with
//! an answer or an error, within its budget, and what can be formatted stays what it is.

use std::time::Duration;

use proptest::prelude::*;

use super::{Params, format, instant, range, scripts, selectors};
use crate::base::limits::QueryBudget;
use crate::model::labels::Labels;
use crate::model::sample::HistogramSample;
use crate::store::memory::Memory;

/// Words that begin, end or turn something.
const WORDS: &[&str] = &[
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    ",",
    ":",
    "-",
    "+",
    "*",
    "^",
    "%",
    "==",
    "=~",
    "!=",
    "</",
    ">/",
    "@",
    " offset ",
    " by ",
    " without ",
    " on ",
    " ignoring ",
    " group_left ",
    " fill ",
    " bool ",
    " anchored ",
    " smoothed ",
    " and ",
    " or ",
    " unless ",
    " atan2 ",
    "5m",
    "1ms",
    "292y",
    "9e18",
    "NaN",
    "-Inf",
    "0x",
    "1e-320",
    "\"",
    "\\xff",
    "'",
    "`",
    "#",
    "\u{0}",
    "é",
    "start()",
    "step()",
    "range()",
    "max_of(",
    "limitk(NaN, ",
    "topk(1e18, ",
    "quantile(-1, ",
    "label_replace(",
    "count_values(\"\", ",
    "histogram_quantile(2, ",
    "predict_linear(",
    "[1h:1ms]",
    "[100y:1s]",
    "a",
    "h",
];

fn store() -> Memory {
    let mut store = Memory::default();
    for (number, name) in ["a", "b", "h_bucket", "requests", "errors"].iter().enumerate() {
        for at in 0..20 {
            let pairs = [("__name__", *name), ("x", ["1", "2"][at % 2]), ("le", ["1", "+Inf"][at % 2])];
            let labels = Labels::from_pairs(pairs).unwrap();
            store.float(&labels, at as i64 * 30_000, [0.0, f64::NAN, 1e308, -1.0, f64::INFINITY][(at + number) % 5]);
        }
    }
    let labels = Labels::from_pairs([("__name__", "h"), ("x", "1")]).unwrap();
    for at in 0..10 {
        store.histogram(&labels, HistogramSample { t: at * 60_000, start: at * 59_999, histogram: Default::default() });
    }
    store
}

/// A piece of a query of the scripts, or a word.
fn piece(queries: Vec<String>) -> impl Strategy<Value = String> {
    let cut = (0..queries.len(), 0.0..1.0f64, 0.0..1.0f64).prop_map(move |(at, from, to)| {
        let chars: Vec<char> = queries[at].chars().collect();
        let place = |share: f64| (share * chars.len() as f64) as usize;
        let (from, to) = (place(from.min(to)), place(from.max(to)));
        chars[from..to].iter().collect::<String>()
    });
    prop_oneof![3 => cut, 2 => prop::sample::select(WORDS).prop_map(str::to_owned)]
}

fn text() -> impl Strategy<Value = String> {
    let queries = scripts::queries();
    let whole = prop::sample::select(queries.clone());
    let pieces = prop::collection::vec(piece(queries), 1..6).prop_map(|pieces| pieces.concat()).boxed();
    // A whole query with something put into it comes further than pieces do.
    let put = (whole, pieces.clone(), 0.0..1.0f64).prop_map(|(whole, pieces, share)| {
        let chars: Vec<char> = whole.chars().collect();
        let (before, after) = chars.split_at((share * chars.len() as f64) as usize);
        before.iter().copied().chain(pieces.chars()).chain(after.iter().copied()).collect::<String>()
    });
    prop_oneof![pieces, put]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, ..ProptestConfig::default() })]

    #[test]
    fn any_text_ends_with_an_answer_or_an_error(query in text(), way in 0..3u8) {
        let store = store();
        let budget = QueryBudget::new(Duration::from_secs(5), 32 << 20, 200_000);
        let answer = match way {
            0 => instant(&store, &query, 300_000, Params::default(), &budget),
            1 => range(&store, &query, (-60_000, 600_000, 20_000), Params::default(), &budget),
            _ => range(&store, &query, (i64::MIN, i64::MIN + 10_000, 1_000), Params::default(), &budget),
        };
        if let Err(error) = answer {
            prop_assert!(error.to_string().len() < 10_000);
        }
        let budget = QueryBudget::unlimited();
        let _ = selectors(&query, &budget);
        if let Ok(formatted) = format(&query, &budget) {
            prop_assert_eq!(format(&formatted, &budget).map_err(|error| format!("{query:?} to {formatted:?}: {error}")), Ok(formatted.clone()));
        }
    }
}
