//! What is promised of patterns: what they match, and what they take.

use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::base::limits::{LimitError, QueryBudget};

const MIB: u64 = 1 << 20;

fn budget(bytes: u64) -> Arc<QueryBudget> {
    QueryBudget::new(Duration::from_secs(3_600), bytes, u64::MAX)
}

fn regex(text: &str, dialect: Dialect) -> Regex {
    Regex::new(text, dialect, &QueryBudget::unlimited()).unwrap_or_else(|error| panic!("{text}: {error}"))
}

#[test]
fn a_dialect_decides_on_anchors_and_line_feeds() {
    let matches = |text, dialect, line| regex(text, dialect).is_match(line);
    assert!(matches("a.c|x", Dialect::Matcher, "a\nc") && !matches("b", Dialect::Matcher, "abc"));
    assert!(!matches("a|b", Dialect::Matcher, "ab"), "anchors are around all alternatives");
    assert!(matches("b", Dialect::Line, "abc") && !matches("a.c", Dialect::Line, "a\nc"));
    assert!(matches("a.c", Dialect::Attribute, "abc") && !matches("a.c", Dialect::Attribute, "a\nc"));
    assert!(!matches("b", Dialect::ReplaceInLine, "abc") && matches("a.c", Dialect::Replace, "a\nc"));
    assert!(Regex::new("a)|(b", Dialect::Matcher, &QueryBudget::unlimited()).is_err(), "no anchor closes a group");
}

#[test]
fn groups_are_found_counted_and_expanded() {
    let regex = regex(r"(?P<k>\w+)=(\d+)", Dialect::Groups);
    assert_eq!(regex.group_names().collect::<Vec<_>>(), [None, Some("k"), None]);
    let mut out = String::new();
    regex.captures("x a=17;").unwrap().expand("$k/${2}/$nosuch.", &mut out);
    // Whole, and reference by reference.
    for template in ["$k/${2}/$nosuch.", "$$1$$$k$", "é$kö${k}é", "${k$k", "${", "$", "", "${a$k}$k", "$k$k$k-$1$2"]
    {
        let (captures, mut whole) = (regex.captures("x a=17;").unwrap(), String::new());
        captures.expand(template, &mut whole);
        assert_eq!(captures.expanded(template, 100), Some(whole), "{template}");
    }
    assert_eq!(regex.captures("x a=17;").unwrap().expanded(&"$0".repeat(1_000_000), 100), None);
    assert_eq!(out, "a/17/.");
    assert_eq!(regex.count("a=1 b=2 c"), 2);
    let all: Vec<_> =
        regex.captures_iter("a=1 b=2").map(|found| (found.range(0), found.get(1).map(str::to_owned))).collect();
    assert_eq!(all, [(Some(0..3), Some("a".to_owned())), (Some(4..7), Some("b".to_owned()))]);
}

#[test]
fn plain_alternatives_are_read_without_a_parser() {
    let plain = |text| plain_alternatives(text).map(|all| all.join(","));
    assert_eq!(plain(r"a|b-1|10\.0").as_deref(), Some("a,b-1,10.0"));
    assert_eq!(plain("|a").as_deref(), Some(",a"));
    for text in ["a+", "a.b", "(a)", "a{2}", r"\d", r"a\", "^a", "a$"] {
        assert_eq!(plain(text), None, "{text}");
    }
    assert_eq!(plain(&escape("a.b|c-[d]")).as_deref(), Some("a.b|c-[d]"));
}

#[test]
fn estimates_are_above_what_programs_take_and_not_far_above() {
    for text in [
        r"\w{20}",
        r"\w+",
        ".*",
        r"(?i)error|warn(ing)?",
        r"[a-z0-9]{1,40}",
        r"(\d+)-(\d+)",
        r"\pL{10}",
        r".{100}",
        "(a|b|c){50}",
        r"([^/]+)/([^/]+)/(.*)",
        "x{1000}",
        r"(foo|bar|baz)-[0-9]+\.example\.com",
        r"[\p{Greek}&&\pL]+",
        r"(?:\w\s){30}",
        "a*b+c?",
    ] {
        for dialect in [Dialect::Matcher, Dialect::Groups, Dialect::Line] {
            let pattern = Pattern::parse(text, dialect, &QueryBudget::unlimited()).unwrap();
            let estimate = pattern.program_bytes(usize::MAX);
            let actual = pattern.compile(&QueryBudget::unlimited()).unwrap().program_bytes();
            // The table for groups is bounded by itself.
            let table = if dialect == Dialect::Groups { 256 << 10 } else { 16 << 10 };
            assert!(actual <= estimate + table, "{text} as {dialect:?}: {actual} > {estimate}");
            assert!(estimate <= 16 * actual + 4_096, "{text} as {dialect:?}: {estimate} for {actual}");
        }
    }
}

#[test]
fn many_large_patterns_are_refused_before_most_are_compiled() {
    let budget = budget(10_000 * MIB);
    let error =
        (0..1_500).find_map(|at| Regex::new(&format!(r"\w{{30}}{at}"), Dialect::Matcher, &budget).err()).unwrap();
    assert!(error.to_string().contains("use fewer and shorter ones"), "{error}");
    assert!(budget.memory_peak() <= 64 * MIB + MIB, "{}", budget.memory_peak());
}

#[test]
fn one_pattern_that_multiplies_is_refused_without_a_try() {
    for text in [
        r"\w{1000}",
        "(x{1000}){1000}",
        "((((a{100}){100}){100}){100}){100}",
        &r"\w".repeat(10_000),
        r"(?:\pL{99}){99}",
    ] {
        let budget = budget(10_000 * MIB);
        let error = Regex::new(text, Dialect::Line, &budget).unwrap_err();
        assert!(error.to_string().contains("it compiles to more than"), "{error}");
        assert!(budget.memory_peak() <= MIB, "{text:.20}: {}", budget.memory_peak());
    }
}

#[test]
fn the_text_of_all_patterns_has_a_bound() {
    let budget = budget(10_000 * MIB);
    let long = "a".repeat(30_000);
    let error = (0..10).find_map(|at| Pattern::parse(&format!("{at}{long}."), Dialect::Line, &budget).err());
    assert!(error.unwrap().to_string().contains("longer than"));
}

#[test]
fn the_same_pattern_is_compiled_once() {
    let budget = budget(10_000 * MIB);
    Regex::new(r"\w{20}", Dialect::Matcher, &budget).unwrap();
    let once = budget.memory_peak();
    for _ in 0..1_500 {
        Regex::new(r"\w{20}", Dialect::Matcher, &budget).unwrap();
    }
    assert_eq!(budget.memory_peak(), once);
}

#[test]
fn a_pattern_is_charged_to_its_query_and_given_back() {
    let shared = crate::base::limits::MemoryBudget::new(100 * MIB);
    let own = QueryBudget::sharing(Duration::from_secs(60), MIB, u64::MAX, Some(shared.clone()));
    let error = (0..100).find_map(|at| Regex::new(&format!("a{at}.*b"), Dialect::Matcher, &own).err()).unwrap();
    assert_eq!(error, PatternError::Limit(LimitError::QueryMemory { limit: MIB }));
    assert!(shared.used() > 0);
    drop(own);
    assert_eq!(shared.used(), 0);
}

#[test]
fn a_query_whose_time_is_over_compiles_nothing() {
    let budget = QueryBudget::new(Duration::ZERO, u64::MAX, u64::MAX);
    std::thread::sleep(Duration::from_millis(1));
    let error = Regex::new("a.*b", Dialect::Matcher, &budget).unwrap_err();
    assert!(matches!(error, PatternError::Limit(LimitError::Deadline { .. })), "{error}");
    assert_eq!(budget.memory_peak(), 0);
}
