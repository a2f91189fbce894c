//! Queries and traces that nobody would write: the deepest and the widest. Each is walked on half of
//! the smallest stack that a thread of the server has.

use super::eval::Around;
use super::hints::Drivers;
use super::legacy::{query_of_jaeger, query_of_tags};
use super::nest::DEPTH_MAX;
use super::spanset;
use super::tags::filter_of;
use super::view::TraceView;
use super::{ast::Query, parse};
use crate::base::limits::QueryBudget;
use crate::model::span::{Span, SpanId};
use crate::query::pace::Pace;

/// Half of what tokio gives its threads.
const STACK_BYTES: usize = 1 << 20;

/// Runs `work` on a small stack.
fn on_a_small_stack<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let thread = std::thread::Builder::new().stack_size(STACK_BYTES).spawn(work).unwrap();
    thread.join().unwrap()
}

fn trace() -> TraceView {
    let id = |byte| SpanId([0, 0, 0, 0, 0, 0, 0, byte]);
    let span = |own, parent| Span { span_id: id(own), parent_id: id(parent), ..Span::default() };
    let budget = QueryBudget::unlimited();
    TraceView::new(vec![span(1, 0), span(2, 1), span(3, 2)], &Pace::new(&budget)).unwrap()
}

/// Everything that walks a query.
fn walk(query: &Query) {
    let (trace, budget) = (trace(), QueryBudget::unlimited());
    let drivers = Drivers::of(query);
    assert!(drivers.hints().len() < 1_000);
    drivers.may_match(&trace.spans[0], &Pace::new(&budget));
    spanset::run(&query.stages, &trace, &budget).unwrap();
    if let Some(Some(filter)) = query.only_filter() {
        Around::within(&trace, 1).truth(filter);
        filter.any_field(|_| false);
    }
    let copy = query.clone();
    assert!(!format!("{copy:?}").is_empty());
}

/// Queries that grow with a number.
fn shapes() -> [fn(usize) -> String; 12] {
    [
        |n| format!("{{ .a{} }}", " && .b || .c".repeat(n)),
        |n| format!("{{ .a{} }}", " || .b".repeat(n)),
        |n| format!("{{ .a = 1{} }}", " + .b * .c".repeat(n)),
        |n| format!("{{ .a{} }}", " = .b".repeat(n)),
        |n| format!("{{ .a = {}.b{} }}", "(.c + ".repeat(n), ")".repeat(n)),
        |n| format!("{{ {}.b{} }}", "(.c = ".repeat(n), ")".repeat(n)),
        |n| format!("{{ .a = {}1 }}", ".b ^ ".repeat(n)),
        |n| format!("{{ {}.a }}", "!".repeat(n)),
        |n| format!("{{ .a = {}.b }}", "-".repeat(n)),
        |n| format!("{{ .a }}{}", " >> {} !< { .b }".repeat(n)),
        |n| format!("{{ .a }}{}", " && { .c } || { .b }".repeat(n)),
        |n| format!("{}{{ .a }}{}", "({ .b } | count() > 0 | ".repeat(n), ")".repeat(n)),
    ]
}

#[test]
fn the_deepest_query_is_walked_on_a_small_stack_and_one_more_is_refused() {
    for (at, shape) in shapes().into_iter().enumerate() {
        let deepest = (1..2_000).take_while(|n| parse(&shape(*n)).is_ok()).last().unwrap();
        let error = parse(&shape(deepest + 1)).unwrap_err().to_string();
        assert!(error.contains("deeper") || error.contains("operators"), "shape {at}: {error}");
        on_a_small_stack(move || {
            walk(&parse(&shape(deepest)).unwrap());
            parse(&shape(deepest + 1)).unwrap_err();
            parse(&shape(10_000)).unwrap_err();
        });
    }
}

#[test]
fn no_builder_makes_a_tree_deeper_than_the_bound() {
    use super::ast::Expr;
    use super::nest::{Nested, TooDeep};
    on_a_small_stack(|| {
        let mut expr = parse("{ .a }").unwrap().only_filter().flatten().unwrap().clone();
        for level in 1.. {
            match Nested::new(expr.clone()) {
                Ok(inner) => expr = Expr::Not(inner),
                Err(TooDeep) => {
                    assert_eq!(level, DEPTH_MAX);
                    break;
                }
            }
        }
        walk(&Query::of_filter(Some(expr)));
    });
}

#[test]
fn searches_by_many_tags_are_refused_and_conditions_of_an_editor_lie_side_by_side() {
    let tags = |count: usize| (0..count).map(|at| (format!("t{at}"), "x".to_owned())).collect::<Vec<_>>();
    on_a_small_stack(move || {
        walk(&query_of_tags(&tags(100)).unwrap());
        walk(&query_of_jaeger("unknown_service", Some("x"), &tags(100), (Some(1), Some(2))).unwrap());
        for error in [query_of_tags(&tags(60_000)), query_of_jaeger("x", None, &tags(60_000), (None, None))] {
            assert!(error.unwrap_err().to_string().contains("over the limit of 100"));
        }
        let typed = format!("{{ .a = {}}}", "&& .b = 1 ".repeat(10_000));
        walk(&Query::of_filter(Some(filter_of(&typed, &QueryBudget::unlimited()).unwrap())));
    });
}
