//! A tree as text, in the usual spacing: on one line where it is short, else in lines that are
//! indented by their depth.

use std::fmt::Write as _;

use super::PromqlError;
use super::ast::{Aggregate, At, Binary, Call, Cardinality, Edges, Expr, Kind, Matching, Selector, Subquery, Written};
use crate::base::duration;
use crate::base::float_text;
use crate::base::limits::QueryBudget;
use crate::model::matcher::{MatchOp, Matcher};

/// Longest line that is not divided, in characters.
const LINE_MAX: usize = 100;

/// The text of a tree, charged to the query. A deep one is mostly what its lines are indented with.
///
/// # Errors
/// What the budget says.
pub(super) fn format(expr: &Expr, budget: &QueryBudget) -> Result<String, PromqlError> {
    let mut out = String::new();
    pretty(&mut out, expr, 0);
    budget.charge(out.capacity())?;
    Ok(out)
}

fn indent(out: &mut String, depth: usize) {
    (0..depth).for_each(|_| out.push_str("  "));
}

fn pretty(out: &mut String, expr: &Expr, depth: usize) {
    let mut text = String::new();
    // No character takes more than four bytes.
    if line(&mut text, expr, 4 * LINE_MAX) && text.chars().count() + 2 * depth <= LINE_MAX {
        indent(out, depth);
        out.push_str(&text);
        return;
    }
    match &expr.kind {
        Kind::Number(_) | Kind::String(_) | Kind::Vector(_) | Kind::Matrix(..) => {
            indent(out, depth);
            line(out, expr, usize::MAX);
        }
        Kind::Subquery(subquery) => {
            pretty(out, &subquery.expr, depth);
            subquery_end(out, subquery);
        }
        Kind::Call(call) => {
            indent(out, depth);
            out.push_str(call.function);
            block(out, call.args.iter(), depth);
        }
        Kind::Aggregate(aggregate) => {
            indent(out, depth);
            aggregate_begin(out, aggregate);
            block(out, aggregate.param.iter().chain([&aggregate.expr]), depth);
        }
        Kind::Binary(binary) => {
            pretty(out, &binary.left, depth + 1);
            out.push('\n');
            indent(out, depth);
            operator(out, binary);
            out.push('\n');
            pretty(out, &binary.right, depth + 1);
        }
        Kind::Negate(inner) => {
            indent(out, depth);
            out.push('-');
            let mut inner = inner;
            while let Kind::Negate(next) = &inner.kind {
                out.push('-');
                inner = next;
            }
            let mut text = String::new();
            pretty(&mut text, inner, depth);
            out.push_str(text.trim_start());
        }
        Kind::Paren(inner) => {
            indent(out, depth);
            block(out, [inner.as_ref()].into_iter(), depth);
        }
    }
}

/// Operands in brackets, each on lines of its own.
fn block<'e>(out: &mut String, parts: impl Iterator<Item = &'e Expr>, depth: usize) {
    out.push('(');
    for (at, part) in parts.enumerate() {
        out.push_str(if at == 0 { "\n" } else { ",\n" });
        pretty(out, part, depth + 1);
    }
    out.push('\n');
    indent(out, depth);
    out.push(')');
}

/// Bytes that the texts of an expression take at least.
fn weight(expr: &Expr) -> usize {
    match &expr.kind {
        Kind::String(text) => text.len(),
        Kind::Vector(selector) | Kind::Matrix(selector, _) => {
            selector.matchers.iter().map(|matcher| matcher.value.len() + 1).sum()
        }
        _ => 1,
    }
}

/// Writes an expression on one line; `false`, and not all of it, where that is longer than `most`.
fn line(out: &mut String, expr: &Expr, most: usize) -> bool {
    if out.len().saturating_add(weight(expr)) > most {
        return false;
    }
    match &expr.kind {
        Kind::Number(value) => float_text::push(out, *value, float_text::FIXED),
        Kind::String(text) => quoted(out, text),
        Kind::Vector(selector) => {
            selector_begin(out, selector);
            selector_end(out, selector);
        }
        Kind::Matrix(selector, range) => {
            selector_begin(out, selector);
            let _ = write!(out, "[{}]", written(*range, selector.written.range.as_ref()));
            selector_end(out, selector);
        }
        Kind::Subquery(subquery) => {
            let fits = line(out, &subquery.expr, most);
            subquery_end(out, subquery);
            return fits;
        }
        Kind::Call(Call { function, args }) => {
            out.push_str(function);
            return list(out, args.iter(), most);
        }
        Kind::Aggregate(aggregate) => {
            aggregate_begin(out, aggregate);
            return list(out, aggregate.param.iter().chain([&aggregate.expr]), most);
        }
        Kind::Binary(binary) => {
            if !line(out, &binary.left, most) {
                return false;
            }
            out.push(' ');
            operator(out, binary);
            out.push(' ');
            return line(out, &binary.right, most);
        }
        Kind::Negate(inner) => {
            out.push('-');
            return line(out, inner, most);
        }
        Kind::Paren(inner) => return list(out, [inner.as_ref()].into_iter(), most),
    }
    true
}

fn list<'e>(out: &mut String, parts: impl Iterator<Item = &'e Expr>, most: usize) -> bool {
    out.push('(');
    for (at, part) in parts.enumerate() {
        if at > 0 {
            out.push_str(", ");
        }
        if !line(out, part, most) {
            return false;
        }
    }
    out.push(')');
    true
}

/// A string with its quotes.
fn quoted(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c.is_ascii_control() => {
                let _ = write!(out, "\\x{:02x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

fn is_word(name: &str, colons: bool) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_' || (colons && c == ':');
    !name.is_empty() && name.chars().all(fits) && !name.starts_with(|c: char| c.is_ascii_digit())
}

/// Words that are read as something else where the names of labels stand in brackets.
const KEYWORDS: [&str; 5] = ["anchored", "inf", "nan", "smoothed", "without"];

fn label(out: &mut String, name: &str) {
    let plain = is_word(name, false) && !KEYWORDS.iter().any(|word| word.eq_ignore_ascii_case(name));
    if plain { out.push_str(name) } else { quoted(out, name) }
}

fn labels(out: &mut String, names: &[String]) {
    out.push('(');
    for (at, name) in names.iter().enumerate() {
        if at > 0 {
            out.push_str(", ");
        }
        label(out, name);
    }
    out.push(')');
}

fn matcher(out: &mut String, matcher: &Matcher) {
    label(out, &matcher.name);
    out.push_str(match matcher.op {
        MatchOp::Equal => "=",
        MatchOp::NotEqual => "!=",
        MatchOp::Regex => "=~",
        MatchOp::NotRegex => "!~",
    });
    quoted(out, &matcher.value);
}

fn selector_begin(out: &mut String, selector: &Selector) {
    let mut braced = Vec::with_capacity(selector.matchers.len());
    for (at, one) in selector.matchers.iter().enumerate() {
        if at == 0 && selector.named && is_word(&one.value, true) {
            out.push_str(&one.value);
            continue;
        }
        let mut text = String::new();
        matcher(&mut text, one);
        braced.push(text);
    }
    braced.sort_unstable();
    if !braced.is_empty() || !selector.named {
        let _ = write!(out, "{{{}}}", braced.join(","));
    }
}

fn selector_end(out: &mut String, selector: &Selector) {
    out.push_str(match selector.edges {
        Edges::Plain => "",
        Edges::Anchored => " anchored",
        Edges::Smoothed => " smoothed",
    });
    modifiers(out, selector.at, selector.offset, &selector.written);
}

fn modifiers(out: &mut String, at: Option<At>, offset: i64, own: &Written) {
    match at {
        None => {}
        Some(At::Start) => out.push_str(" @ start()"),
        Some(At::End) => out.push_str(" @ end()"),
        Some(At::Time(ms)) => {
            let _ = write!(
                out,
                " @ {}{}.{:03}",
                if ms < 0 { "-" } else { "" },
                ms.unsigned_abs() / 1000,
                ms.unsigned_abs() % 1000
            );
        }
    }
    match (&own.offset, offset) {
        (Some(text), _) => {
            let _ = write!(out, " offset {text}");
        }
        (None, 0) => {}
        (None, ms) => {
            let _ = write!(out, " offset {}{}", if ms < 0 { "-" } else { "" }, duration::prometheus(ms.unsigned_abs()));
        }
    }
}

fn written(ms: i64, text: Option<&String>) -> String {
    text.cloned().unwrap_or_else(|| duration::prometheus(ms.unsigned_abs()))
}

fn subquery_end(out: &mut String, subquery: &Subquery) {
    let step = match (&subquery.written.step, subquery.step) {
        (Some(text), _) => text.clone(),
        (None, Some(ms)) => duration::prometheus(ms.unsigned_abs()),
        (None, None) => String::new(),
    };
    let _ = write!(out, "[{}:{step}]", written(subquery.range, subquery.written.range.as_ref()));
    modifiers(out, subquery.at, subquery.offset, &subquery.written);
}

fn aggregate_begin(out: &mut String, aggregate: &Aggregate) {
    out.push_str(aggregate.op.text());
    if aggregate.without || !aggregate.labels.is_empty() {
        out.push_str(if aggregate.without { " without " } else { " by " });
        labels(out, &aggregate.labels);
        out.push(' ');
    }
}

fn number(value: f64) -> String {
    float_text::text(value, float_text::FIXED)
}

fn operator(out: &mut String, binary: &Binary) {
    out.push_str(binary.op.text());
    if binary.bool {
        out.push_str(" bool");
    }
    let Matching { cardinality, on, labels: own, include, fill_left, fill_right } = &binary.matching;
    let grouped = *cardinality != Cardinality::OneToOne;
    if *on || grouped || !own.is_empty() {
        out.push_str(if *on { " on " } else { " ignoring " });
        labels(out, own);
    }
    if grouped {
        out.push_str(if *cardinality == Cardinality::ManyToOne { " group_left " } else { " group_right " });
        labels(out, include);
    }
    let same = |a: f64, b: f64| a.to_bits() == b.to_bits();
    match (fill_left, fill_right) {
        (Some(left), Some(right)) if same(*left, *right) => {
            let _ = write!(out, " fill ({})", number(*left));
        }
        (left, right) => {
            for (word, value) in [("fill_left", left), ("fill_right", right)] {
                if let Some(value) = value {
                    let _ = write!(out, " {word} ({})", number(*value));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::base::limits::QueryBudget;
    use crate::query::promql::{PromqlError, format as format_within};

    fn format(query: &str) -> Result<String, PromqlError> {
        format_within(query, &QueryBudget::unlimited())
    }

    #[test]
    fn every_construct_is_written_as_it_is_read() {
        for query in [
            "a",
            "{a=\"b\"}",
            "a{b!=\"c\",d=~\"e|f\",g!~\"h\"}",
            "{\"c d\"=\"e\",__name__=\"a.b\"}",
            "rate(a[5m] offset 1h30m)",
            "rate(a[5m] anchored @ 12.500 offset -5m)",
            "a smoothed @ end()",
            "increase(a[5m + 2 * step()] smoothed offset -(1m + 1s))",
            "max_over_time(a[max_of(1h, range()):step() / 2] @ start())",
            "max_over_time((a + b)[1h:])",
            "sum by (a, \"b.c\") (x)",
            "sum by (\"Inf\", \"anchored\", bool, \"without\") (x)",
            "count without () (x)",
            "topk by (a) (3, x)",
            "quantile(0.5, -x)",
            "a + on () b * ignoring (c) group_left () d",
            "a <= bool on (b) group_right (c) d",
            "a / on (b) fill (0) c",
            "a / fill_left (0) fill_right (NaN) c",
            "h </ 3 >/ 1",
            "a and on (b) c or d unless e",
            "label_replace(a, \"x\", \"$1\\n\\\"\", \"y\", \"(.*)\\\\d\")",
            "-a ^ 2",
            "1.5 * +Inf",
            "info(a, {b=\"c\"})",
            "limit_ratio(-0.5, a)",
            "start_timestamp(a)",
        ] {
            assert_eq!(format(query).unwrap(), query);
        }
    }

    #[test]
    fn spacing_and_units_become_usual() {
        assert!(format(" sum(  a )by(b)/c[300s:90000ms]").is_err());
        assert_eq!(format("sum(  rate(a{ } [300s] ))by(b)>bool 1h").unwrap(), "sum by (b) (rate(a[5m])) > bool 3600");
        assert_eq!(
            format("avg_over_time(a[1h-30m:90] offset 7d)").unwrap(),
            "avg_over_time(a[1h - 30m:1m30s] offset 1w)"
        );
    }

    #[test]
    fn what_is_long_is_divided() {
        let names = ["first", "second"].map(|name| format!("{name}_{}", "x".repeat(60)));
        let text = format(&format!("sum by (a) (rate({}[5m])) / on (b) ({} + 1)", names[0], names[1])).unwrap();
        let expected = format!("  sum by (a) (rate({}[5m]))\n/ on (b)\n  ({} + 1)", names[0], names[1]);
        assert_eq!(text, expected);
        let text = format(&format!("topk(5, abs({} * {}))", names[0], names[1])).unwrap();
        let expected = format!("topk(\n  5,\n  abs(\n      {}\n    *\n      {}\n  )\n)", names[0], names[1]);
        assert_eq!(text, expected);
    }
}
