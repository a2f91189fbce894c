//! Tokens to tree, by recursive descent. Nesting and the number of operators are bounded, so that
//! neither parsing nor evaluating nor dropping a tree can exhaust the stack.

mod log;
mod metric;

use crate::base::limits::QueryBudget;
use crate::model::matcher::Matcher;

use super::ParseError;
use super::ast::{BINARY_OPS, BinaryOp, Cardinality, Expr, Matching, MetricExpr};
use super::lexer::{Position, Token, TokenKind, tokens};
use super::stages::drop_keep::NameOrMatcher;
use metric::only_metric;

/// Deepest nesting of parentheses and operators.
const DEPTH_MAX: usize = 100;
/// Most binary operators.
const OPERATORS_MAX: usize = 100;

/// Memory that the words and the tree of a query take per byte of its text, more or less.
const TREE_BYTES: usize = 64;

/// A label and where a parser stage finds its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extraction {
    /// The label.
    pub label: String,
    /// A key or path.
    pub source: String,
}

/// Reads tokens one after the other.
#[derive(Debug)]
pub struct Parser<'b> {
    /// What the query may take; its regular expressions are charged to it.
    pub budget: &'b QueryBudget,
    tokens: Vec<Token>,
    at: usize,
    depth: usize,
    operators: usize,
}

type Parsed<T> = Result<T, ParseError>;

/// Parses a whole query.
///
/// # Errors
/// [`ParseError`] with its place.
pub fn parse_query(text: &str, budget: &QueryBudget) -> Parsed<Expr> {
    let mut parser = Parser::of(text, budget)?;
    let expr = parser.expr(0)?;
    if *parser.peek() != TokenKind::End {
        return Err(parser.unexpected("an operator or the end of the query"));
    }
    if let Expr::Log(log) = &expr
        && log.unwraps()
    {
        return Err(ParseError::new(
            Position { line: 1, column: 1 },
            "unwrap is only allowed within a range aggregation",
        ));
    }
    Ok(expr)
}

/// Parses a bare selector; nothing and `{}` select everything.
///
/// # Errors
/// [`ParseError`] with its place.
pub fn parse_selector(text: &str, budget: &QueryBudget) -> Parsed<Vec<Matcher>> {
    let mut parser = Parser::of(text, budget)?;
    if *parser.peek() == TokenKind::End {
        return Ok(Vec::new());
    }
    let matchers = parser.matchers()?;
    if *parser.peek() != TokenKind::End {
        return Err(parser.unexpected("the end of the selector"));
    }
    Ok(matchers)
}

impl<'b> Parser<'b> {
    /// Charges what the words of `text` and the tree made of them take before there are any.
    fn of(text: &str, budget: &'b QueryBudget) -> Parsed<Self> {
        let charged = budget.charge(text.len().saturating_mul(TREE_BYTES)).and_then(|()| budget.check());
        charged.map_err(|limit| ParseError::of_pattern(Position { line: 1, column: 1 }, limit.into()))?;
        Ok(Self { budget, tokens: tokens(text)?, at: 0, depth: 0, operators: 0 })
    }
}

impl Parser<'_> {
    fn token(&self) -> Option<&Token> {
        self.tokens.get(self.at).or(self.tokens.last())
    }

    fn peek(&self) -> &TokenKind {
        self.token().map_or(&TokenKind::End, |token| &token.kind)
    }

    fn peek_after(&self) -> &TokenKind {
        self.tokens.get(self.at + 1).map_or(&TokenKind::End, |token| &token.kind)
    }

    /// Where the next token stands.
    pub fn position(&self) -> Position {
        self.token().map_or_else(Position::default, |token| token.at)
    }

    fn advance(&mut self) {
        self.at += 1;
    }

    fn unexpected(&self, wanted: &str) -> ParseError {
        let found = self.peek().describe();
        ParseError::new(self.position(), format!("syntax error: unexpected {found}, expecting {wanted}"))
    }

    /// Takes a sign if it is next.
    pub fn eat(&mut self, sign: &str) -> bool {
        let found = matches!(self.peek(), TokenKind::Sign(own) if *own == sign);
        self.at += usize::from(found);
        found
    }

    /// Takes a sign.
    ///
    /// # Errors
    /// When another token is next.
    pub fn expect(&mut self, sign: &str) -> Parsed<()> {
        if self.eat(sign) { Ok(()) } else { Err(self.unexpected(sign)) }
    }

    fn is_word(&self, word: &str) -> bool {
        matches!(self.peek(), TokenKind::Word(own) if own.eq_ignore_ascii_case(word))
    }

    fn eat_word(&mut self, word: &str) -> bool {
        let found = self.is_word(word);
        self.at += usize::from(found);
        found
    }

    /// Takes a quoted text.
    ///
    /// # Errors
    /// When another token is next.
    pub fn text(&mut self, what: &str) -> Parsed<String> {
        let TokenKind::Text(text) = self.peek() else { return Err(self.unexpected(what)) };
        let text = text.clone();
        self.advance();
        Ok(text)
    }

    /// Takes a name.
    ///
    /// # Errors
    /// When another token is next.
    pub fn name(&mut self, what: &str) -> Parsed<String> {
        let TokenKind::Word(word) = self.peek() else { return Err(self.unexpected(what)) };
        if word.contains(':') {
            return Err(self.unexpected(what));
        }
        let word = word.clone();
        self.advance();
        Ok(word)
    }

    /// Takes a `--flag` if one is next.
    pub fn flag(&mut self) -> Option<(Position, String)> {
        let TokenKind::Flag(flag) = self.peek() else { return None };
        let found = (self.position(), flag.clone());
        self.advance();
        Some(found)
    }

    /// Takes a list such as `a="x", b`, which may be empty.
    ///
    /// # Errors
    /// At a malformed list.
    pub fn extractions(&mut self) -> Parsed<Vec<Extraction>> {
        let mut wanted = Vec::new();
        if !matches!(self.peek(), TokenKind::Word(word) if !matches!(word.as_str(), "by" | "without" | "offset")) {
            return Ok(wanted);
        }
        loop {
            let label = self.name("a label")?;
            let source = if self.eat("=") { self.text("a quoted key or path")? } else { label.clone() };
            wanted.push(Extraction { label, source });
            if !self.eat(",") {
                return Ok(wanted);
            }
        }
    }

    /// Takes a list such as `a, b="x"`.
    ///
    /// # Errors
    /// At a malformed or empty list.
    pub fn names_or_matchers(&mut self) -> Parsed<Vec<NameOrMatcher>> {
        let mut list = Vec::new();
        loop {
            let name = self.name("a label")?;
            let op = matches!(self.peek(), TokenKind::Sign("=" | "!=" | "=~" | "!~"))
                && matches!(self.peek_after(), TokenKind::Text(_));
            let matcher = if op { Some(self.matcher_on(name.clone())?) } else { None };
            list.push(NameOrMatcher { name, matcher });
            if !self.eat(",") {
                return Ok(list);
            }
        }
    }

    fn nested<T>(&mut self, work: impl FnOnce(&mut Self) -> Parsed<T>) -> Parsed<T> {
        if self.depth >= DEPTH_MAX {
            return Err(ParseError::new(self.position(), format!("nested more than {DEPTH_MAX} deep")));
        }
        self.depth += 1;
        let result = work(self);
        self.depth -= 1;
        result
    }

    fn binary_op(&self) -> Option<(BinaryOp, u8)> {
        let found = |own: &&(&str, BinaryOp, u8)| match self.peek() {
            TokenKind::Sign(sign) => own.0 == *sign,
            TokenKind::Word(word) => own.0.eq_ignore_ascii_case(word),
            _ => false,
        };
        BINARY_OPS.iter().find(found).map(|(_, op, binding)| (*op, *binding))
    }

    /// An expression of operators that bind at least as tightly as `least`.
    fn expr(&mut self, least: u8) -> Parsed<Expr> {
        let start = self.position();
        let mut left = self.nested(Self::primary)?;
        while let Some((op, binding)) = self.binary_op().filter(|(_, binding)| *binding >= least) {
            left = self.operation(left, start, op, binding)?;
        }
        Ok(left)
    }

    /// An operator, its modifiers and its right side. Apart from [`Self::expr`], whose frame lies on the stack once
    /// for each level of nesting.
    fn operation(&mut self, left: Expr, start: Position, op: BinaryOp, binding: u8) -> Parsed<Expr> {
        let at = self.position();
        self.operators += 1;
        if self.operators > OPERATORS_MAX {
            return Err(ParseError::new(at, format!("more than {OPERATORS_MAX} operators")));
        }
        self.advance();
        let (bool_result, matching) = self.modifiers(op)?;
        let right_at = self.position();
        let right_least = if op == BinaryOp::Power { binding } else { binding + 1 };
        let right = self.nested(|parser| parser.expr(right_least))?;
        let left = Box::new(only_metric(left, start, "left leg of binary operation")?);
        let right = Box::new(only_metric(right, right_at, "right leg of binary operation")?);
        let number = |side: &MetricExpr| matches!(side, MetricExpr::Number(_));
        if op.is_set() && (number(&left) || number(&right)) {
            return Err(ParseError::new(at, "unexpected literal for a logical or set binary operation"));
        }
        Ok(Expr::Metric(MetricExpr::Binary { op, bool_result, matching, left, right }))
    }

    fn modifiers(&mut self, op: BinaryOp) -> Parsed<(bool, Matching)> {
        let mut matching = Matching::default();
        let at = self.position();
        let bool_result = self.eat_word("bool");
        if bool_result && !op.is_comparison() {
            return Err(ParseError::new(at, "bool modifier can only be used on comparison operators"));
        }
        let on = self.eat_word("on");
        if on || self.eat_word("ignoring") {
            matching.on = on;
            matching.names = self.name_list()?;
            let at = self.position();
            let left = self.eat_word("group_left");
            if left || self.eat_word("group_right") {
                if op.is_set() {
                    return Err(ParseError::new(at, "grouping cannot be used with and, or, unless"));
                }
                matching.cardinality = if left { Cardinality::ManyToOne } else { Cardinality::OneToMany };
                if matches!(self.peek(), TokenKind::Sign("(")) {
                    matching.include = self.name_list()?;
                }
            }
        }
        Ok((bool_result, matching))
    }

    fn name_list(&mut self) -> Parsed<Vec<String>> {
        self.expect("(")?;
        let mut names = Vec::new();
        while !self.eat(")") {
            names.push(self.name("a label")?);
            if !self.eat(",") {
                self.expect(")")?;
                break;
            }
        }
        Ok(names)
    }

    fn primary(&mut self) -> Parsed<Expr> {
        match self.peek().clone() {
            TokenKind::Sign("(") => {
                self.advance();
                let inner = self.expr(0)?;
                self.expect(")")?;
                match inner {
                    Expr::Log(mut log) => {
                        self.pipeline(&mut log)?;
                        Ok(Expr::Log(log))
                    }
                    Expr::Metric(_) => Ok(inner),
                }
            }
            TokenKind::Sign("{") => self.log_expr().map(Expr::Log),
            TokenKind::Sign("-" | "+") | TokenKind::Number(..) => {
                self.number().map(|n| Expr::Metric(MetricExpr::Number(n)))
            }
            TokenKind::Word(word) => self.call(&word).map(Expr::Metric),
            _ => Err(self.unexpected("a selector, a function or a number")),
        }
    }

    fn number(&mut self) -> Parsed<f64> {
        let mut sign = 1.0;
        while matches!(self.peek(), TokenKind::Sign("-" | "+")) {
            if self.eat("-") {
                sign = -sign;
            } else {
                self.advance();
            }
        }
        let TokenKind::Number(value, _) = self.peek() else { return Err(self.unexpected("a number")) };
        let value = sign * value;
        self.advance();
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::logql::parse;
    use proptest::prelude::*;

    fn ok(text: &str) -> String {
        let written = parse(text).unwrap_or_else(|error| panic!("{text}: {error}")).to_string();
        let again = parse(&written).unwrap_or_else(|error| panic!("{written}: {error}")).to_string();
        assert_eq!(written, again, "{text}");
        written
    }

    fn error(text: &str) -> String {
        parse(text).expect_err(text).to_string()
    }

    #[test]
    fn what_grafana_writes_parses() {
        for text in [
            "vector(1)+vector(1)",
            "sum by (level, detected_level) (count_over_time({app=\"x\"} | json | drop __error__ [1m0s]))",
            "{service_name=\"x\"} | label_format log_line_contains_trace_id=`{{ contains \"4bf9\" __line__ }}` | log_line_contains_trace_id=\"true\" OR trace_id=\"4bf9\"",
            "{a=\"b\",} | json | logfmt | drop __error__, __error_details__ | duration>=59ms | x=`v` | label!=\"\"",
            "avg_over_time({a=\"b\"} | logfmt | unwrap duration(took) | __error__=`` [5m]) by (app)",
            "sum(rate({a=~\".+\"} |~ `(?i)error` [1m15s]))",
            "{a=\"b\"} |> `<_>x<_>` !> `y` |= \"a\" or \"b\"",
        ] {
            ok(text);
        }
    }

    #[test]
    fn the_tree_is_written_back_in_one_form() {
        assert_eq!(ok("sum(rate({a=\"b\"}[5m]))by(x)"), "sum by (x) (rate({a=\"b\"} [5m]))");
        assert_eq!(ok("1+2*3^2^1"), "(1 + (2 * (3 ^ (2 ^ 1))))");
        assert_eq!(ok("rate({a=\"b\"}[1h] offset -5m |= `x`)"), "rate({a=\"b\"} |= \"x\" [1h] offset -5m)");
        assert_eq!(ok("count_over_time(({a=\"b\"} |= `x`)[1d])"), "count_over_time({a=\"b\"} |= \"x\" [24h])");
        assert_eq!(
            ok("vector(1) == bool on(a) group_left(b) vector(2)"),
            "(vector(1) == bool on (a) group_left (b) vector(2))"
        );
        assert_eq!(ok("{a=\"b\"} | x=\"1\" or (y>2 and z<3kb)"), "{a=\"b\"} | x=\"1\" or (y>2 and z<3kb)");
        for text in [
            "{a=\"b\"} | (json!=\"x\")",
            "{a=\"b\"} | (logfmt>1 or unpack<2)",
            "{a=\"b\"} | drop=~\"x\" | unwrap!~\"y\"",
            "(vector(1) / ignoring () group_left () vector(2))",
        ] {
            assert_eq!(ok(text), text);
        }
        assert!(error("vector(1e999)").contains("is no number"));
    }

    #[test]
    fn errors_name_line_and_column() {
        assert!(error("{a=\"b\"").starts_with("parse error at line 1, col 7: syntax error: unexpected end of query"));
        assert!(error("{}").contains("at least one regexp or equality matcher"));
        assert!(error("{a=~\".*\"}").contains("empty-compatible"));
        assert!(error("{a=\"b\"}\n | logfmt | 3").starts_with("parse error at line 2, col 13"));
        assert!(error("vector(-1)").contains("expecting a number"));
        assert!(error("quantile_over_time(-1, {a=\"b\"} | unwrap x [1m])").contains("a quantile"));
        assert!(error("sum_over_time({a=\"b\"}[1m])").contains("without unwrap"));
        assert!(error("{a=\"b\"} | duration>=\"59ms\"").contains("one of ="));
        assert!(error("{a=\"b\"} | unwrap x").contains("unwrap is only allowed"));
        assert!(error("{a=\"b\"} + 1").contains("log query"));
        assert!(error("{a=\"b\"} |~ \"(\"").contains("invalid regular expression"));
    }

    #[test]
    fn all_regular_expressions_of_a_query_share_one_bound() {
        let repeat = |part: &dyn Fn(usize) -> String| (0..180).map(part).collect::<Vec<_>>().join(" ");
        let nested = (0..90)
            .fold("vector(1)".to_owned(), |inner, at| format!(r#"label_replace({inner},"a","$1","b",`\w{{30}}{at}`)"#));
        for query in [
            format!("{{{}}}", (0..1_500).map(|at| format!(r"a=~`\w{{30}}{at}`")).collect::<Vec<_>>().join(",")),
            format!("{{a=\"b\"}} {}", repeat(&|at| format!(r"|~ `\w{{30}}{at}`"))),
            format!("{{a=\"b\"}} {}", repeat(&|at| format!(r"| regexp `(?P<x>\w{{30}}{at})`"))),
            format!("{{a=\"b\"}} {}", repeat(&|at| format!(r"| x=~`\w{{30}}{at}`"))),
            format!("{{a=\"b\"}} {}", repeat(&|at| format!(r#"| line_format `{{{{ count "\\w{{30}}{at}" .a }}}}`"#))),
            nested,
        ] {
            let budget = QueryBudget::new(std::time::Duration::from_secs(3_600), 1 << 40, u64::MAX);
            let error = parse_query(&query, &budget).unwrap_err();
            assert!(error.message.contains("use fewer and shorter ones"), "{query:.60}: {error:.300}");
            assert!(budget.memory_peak() < 80 << 20, "{query:.60}: {}", budget.memory_peak());
        }
    }

    #[test]
    fn what_a_query_holds_is_charged_before_it_is_read() {
        let budget = QueryBudget::new(std::time::Duration::from_secs(3_600), 100, u64::MAX);
        let error = parse_query("{a=\"b\"}", &budget).unwrap_err();
        assert_eq!(error.limit, Some(crate::base::limits::LimitError::QueryMemory { limit: 100 }));
    }

    #[test]
    fn depth_and_length_are_bounded() {
        let deep = format!("{}1{}", "(".repeat(10_000), ")".repeat(10_000));
        assert!(error(&deep).contains("nested more than"));
        let deep = format!("{{a=\"b\"}} | {}x=\"1\"", "(".repeat(10_000));
        assert!(error(&deep).contains("nested more than"));
        assert!(error(&"1+".repeat(10_000)).contains("operators"));
        assert!(error(&"sum(".repeat(10_000)).contains("nested more than"));
        assert!(error(&format!("count_over_time({}", "(".repeat(10_000))).contains("nested more than"));
    }

    proptest! {
        #[test]
        fn no_text_panics(text in ".{0,200}") {
            let _ = parse(&text);
        }

        #[test]
        fn no_mix_of_tokens_panics(words in proptest::collection::vec(proptest::sample::select(&[
            "{", "}", "(", ")", "[5m]", "a", "=", "\"b\"", "|", "|=", "json", "logfmt", "line_format", "`{{.a}}`", ",", "sum",
            "by", "rate", "count_over_time", "unwrap", "1", "-", "or", "and", "offset", "1h", "label_format", "pattern", "`<a> `",
            "{a=\"b\"}", "topk", "vector", "drop", "!=", ">", "ip", "bool", "on", "group_left", "label_replace", "--strict",
        ][..]), 0..30)) {
            if let Ok(expr) = parse(&words.join(" ")) {
                let written = expr.to_string();
                prop_assert!(parse(&written).is_ok(), "{written}");
            }
        }
    }
}
