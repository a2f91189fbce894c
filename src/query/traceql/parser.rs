//! Tokens to a query: pipelines, span sets and metrics. Expressions over one span are in
//! `expression`. Precedence of spanset operators, loosest first: `|`, `&&` and `||`, structural.

mod metric;

use super::ast::{Aggregate, Field, FieldKind, Keep, Query, Relation, SpansetExpr, Stage};
use super::error::QueryError;
use super::lexer::{Spanned, Token, intrinsic, tokens};
use super::nest::{List, Nested};
use super::scope::scope_of;
use crate::base::limits::QueryBudget;

/// Longest query, in bytes.
pub(super) const QUERY_BYTES_MAX: usize = 128 << 10;
/// Deepest nesting of brackets and prefixes.
const DEPTH_MAX: usize = 64;
/// Most operators in a query.
const OPERATORS_MAX: usize = 512;
/// Memory that the words and the tree of a query take per byte of its text, more or less.
const TREE_BYTES: usize = 64;
/// Most quantiles, and most values per attribute of `compare`.
const LIST_MAX: usize = 1_000;

/// Parses a query that no client sent, such as one of a test. An empty one is `{}`.
///
/// # Errors
/// [`QueryError::Parse`] or [`QueryError::Invalid`].
pub fn parse(text: &str) -> Result<Query, QueryError> {
    parse_within(text, &QueryBudget::unlimited())
}

/// Parses a query within the budget that it will run in.
///
/// # Errors
/// [`QueryError::Parse`], [`QueryError::Invalid`], or what the budget says.
pub fn parse_within(text: &str, budget: &QueryBudget) -> Result<Query, QueryError> {
    if text.len() > QUERY_BYTES_MAX {
        let what = format!("the query has {} bytes, over the limit of {QUERY_BYTES_MAX}", text.len());
        return Err(QueryError::Invalid(what));
    }
    budget.charge(text.len().saturating_mul(TREE_BYTES))?;
    budget.check()?;
    let tokens = tokens(text)?;
    if tokens.is_empty() {
        return Ok(Query::of_filter(None));
    }
    let mut parser = Parser { text, budget, tokens, at: 0, depth: 0, operators: 0 };
    let query = parser.query()?;
    match parser.peek() {
        None => Ok(query),
        Some(_) => parser.fail("unexpected text after the query"),
    }
}

/// Where in the tokens the parser is, and how deep.
pub(super) struct Parser<'a> {
    text: &'a str,
    /// What the query may take; its regular expressions are charged to it.
    pub(super) budget: &'a QueryBudget,
    tokens: Vec<Spanned>,
    at: usize,
    depth: usize,
    operators: usize,
}

impl Parser<'_> {
    pub(super) fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at).map(|spanned| &spanned.token)
    }

    pub(super) fn next(&mut self) -> Option<Token> {
        let token = self.tokens.get(self.at)?.token.clone();
        self.at += 1;
        Some(token)
    }

    /// An error at the next token.
    pub(super) fn fail<T>(&self, what: impl Into<String>) -> Result<T, QueryError> {
        let at = self.tokens.get(self.at).map_or(self.text.len(), |spanned| spanned.start);
        Err(QueryError::at(self.text, at, what))
    }

    pub(super) fn is_op(&self, op: &str) -> bool {
        matches!(self.peek(), Some(Token::Op(own)) if *own == op)
    }

    /// Takes the operator if it is next.
    pub(super) fn eat(&mut self, op: &str) -> bool {
        let found = self.is_op(op);
        self.at += usize::from(found);
        found
    }

    pub(super) fn expect(&mut self, op: &str) -> Result<(), QueryError> {
        if self.eat(op) { Ok(()) } else { self.fail(format!("expected {op:?}")) }
    }

    /// Counts an operator.
    pub(super) fn operator(&mut self) -> Result<(), QueryError> {
        self.operators += 1;
        if self.operators > OPERATORS_MAX {
            return self.fail(format!("the query has more than {OPERATORS_MAX} operators"));
        }
        Ok(())
    }

    /// Runs `inner` one level deeper.
    pub(super) fn deeper<T>(
        &mut self,
        inner: impl FnOnce(&mut Self) -> Result<T, QueryError>,
    ) -> Result<T, QueryError> {
        if self.depth >= DEPTH_MAX {
            return self.fail(format!("the query nests deeper than {DEPTH_MAX}"));
        }
        self.depth += 1;
        let result = inner(self);
        self.depth -= 1;
        result
    }

    fn is_word(&self, at: usize, word: &str) -> bool {
        matches!(self.tokens.get(at).map(|spanned| &spanned.token), Some(Token::Word(own)) if own == word)
    }

    /// What was written from token `from` up to here.
    fn written(&self, from: usize) -> String {
        let start = self.tokens.get(from).map_or(0, |spanned| spanned.start);
        let end = self.tokens.get(self.at.saturating_sub(1)).map_or(start, |spanned| spanned.end);
        self.text.get(start..end).unwrap_or_default().to_owned()
    }

    fn query(&mut self) -> Result<Query, QueryError> {
        let mut stages = vec![self.stage()?];
        let mut metric = None;
        while self.eat("|") {
            match self.metric()? {
                Some(found) => {
                    metric = Some(found);
                    break;
                }
                None => stages.push(self.stage()?),
            }
        }
        self.hints()?;
        if stages.len() > LIST_MAX {
            return self.fail("the pipeline has too many stages");
        }
        Ok(Query { stages, metric })
    }

    /// `with (a = b, ...)`: read and ignored, as unknown hints are.
    fn hints(&mut self) -> Result<(), QueryError> {
        if !self.is_word(self.at, "with") {
            return Ok(());
        }
        self.at += 1;
        self.expect("(")?;
        while !self.eat(")") {
            let Some(Token::Word(_)) = self.next() else { return self.fail("expected the name of a hint") };
            self.expect("=")?;
            self.literal()?;
            if !self.eat(",") && !self.is_op(")") {
                return self.fail("expected \",\" or \")\"");
            }
        }
        Ok(())
    }

    fn stage(&mut self) -> Result<Stage, QueryError> {
        let from = self.at;
        let Some(Token::Word(word)) = self.peek().cloned() else {
            let literal = matches!(self.peek(), Some(Token::Int(_) | Token::Float(_) | Token::Duration(_)));
            return if literal { self.scalar_after_literal() } else { self.spanset().map(Stage::Spanset) };
        };
        if aggregate(&word).is_some() {
            return self.scalar();
        }
        self.at += 1;
        match word.as_str() {
            "by" => {
                self.expect("(")?;
                let expr = self.expression()?;
                self.expect(")")?;
                Ok(Stage::By { expr, text: self.written(from) })
            }
            "select" => Ok(Stage::Select(self.fields()?)),
            "coalesce" => {
                self.expect("(")?;
                self.expect(")")?;
                Ok(Stage::Coalesce)
            }
            _ => {
                self.at = from;
                self.fail(format!("unexpected {word:?}: a query begins with {{ }}"))
            }
        }
    }

    /// `(a, b)`
    fn fields(&mut self) -> Result<Vec<Field>, QueryError> {
        self.expect("(")?;
        let mut fields = vec![self.field()?];
        while self.eat(",") {
            fields.push(self.field()?);
        }
        self.expect(")")?;
        if fields.len() > LIST_MAX {
            return self.fail("too many fields");
        }
        Ok(fields)
    }

    fn field(&mut self) -> Result<Field, QueryError> {
        let field = match self.peek() {
            Some(Token::Field(field)) => Some(field.clone()),
            Some(Token::Word(word)) => intrinsic(word),
            _ => None,
        };
        match field {
            Some(field) => {
                self.at += 1;
                Ok(field)
            }
            None => self.fail("expected an attribute or an intrinsic"),
        }
    }

    fn aggregate_call(&mut self) -> Result<(Aggregate, Option<super::ast::Expr>, String), QueryError> {
        let from = self.at;
        let kind = match self.next() {
            Some(Token::Word(word)) => aggregate(&word),
            _ => None,
        };
        let Some(kind) = kind else {
            self.at = from;
            return self.fail("expected an aggregate");
        };
        self.expect("(")?;
        let of = if kind == Aggregate::Count { None } else { Some(self.number_expression()?) };
        self.expect(")")?;
        Ok((kind, of, self.written(from)))
    }

    /// `avg(x) > 1s`
    fn scalar(&mut self) -> Result<Stage, QueryError> {
        let (aggregate, of, text) = self.aggregate_call()?;
        let Some(op) = self.compare_op() else {
            return self.fail("an aggregate must be compared with a number, as in count() > 2");
        };
        let with = self.number_literal()?;
        Ok(Stage::Scalar { aggregate, of, text, op, with })
    }

    /// `1s < avg(x)`
    fn scalar_after_literal(&mut self) -> Result<Stage, QueryError> {
        let with = self.number_literal()?;
        let Some(op) = self.compare_op() else { return self.fail("expected a comparison") };
        let (aggregate, of, text) = self.aggregate_call()?;
        Ok(Stage::Scalar { aggregate, of, text, op: op.flipped(), with })
    }

    /// A spanset expression: `&&` and `||` from left to right.
    fn spanset(&mut self) -> Result<SpansetExpr, QueryError> {
        let mut left = self.structural()?;
        loop {
            let make = match self.peek() {
                Some(Token::Op("&&")) => SpansetExpr::And,
                Some(Token::Op("||")) => SpansetExpr::Or,
                _ => return Ok(left),
            };
            self.at += 1;
            self.operator()?;
            left = make(Nested::new(left)?, Nested::new(self.structural()?)?);
        }
    }

    fn structural(&mut self) -> Result<SpansetExpr, QueryError> {
        let mut left = self.spanset_primary()?;
        while let Some((relation, keep)) = self.structural_op() {
            self.at += 1;
            self.operator()?;
            let right = self.spanset_primary()?;
            left = SpansetExpr::Structural(relation, keep, Nested::new(left)?, Nested::new(right)?);
        }
        Ok(left)
    }

    fn structural_op(&self) -> Option<(Relation, Keep)> {
        let Some(Token::Op(op)) = self.peek() else { return None };
        let (keep, relation) = match op.strip_prefix('!') {
            Some(relation) => (Keep::NotRight, relation),
            None => op.strip_prefix('&').map_or((Keep::Right, *op), |relation| (Keep::Both, relation)),
        };
        let relation = match relation {
            ">>" => Relation::Descendant,
            ">" => Relation::Child,
            "<<" => Relation::Ancestor,
            "<" => Relation::Parent,
            "~" => Relation::Sibling,
            _ => return None,
        };
        Some((relation, keep))
    }

    fn spanset_primary(&mut self) -> Result<SpansetExpr, QueryError> {
        if self.is_op("{") {
            return self.filter().map(SpansetExpr::Filter);
        }
        if !self.eat("(") {
            return self.fail("expected a filter in { }");
        }
        self.deeper(|parser| {
            let mut stages = vec![parser.stage()?];
            while parser.eat("|") {
                stages.push(parser.stage()?);
            }
            parser.expect(")")?;
            Ok(match stages.pop() {
                Some(Stage::Spanset(only)) if stages.is_empty() => only,
                last => {
                    stages.extend(last);
                    SpansetExpr::Pipeline(List::new(stages)?)
                }
            })
        })
    }

    /// `{ expression }`
    fn filter(&mut self) -> Result<Option<super::ast::Expr>, QueryError> {
        self.expect("{")?;
        if self.eat("}") {
            return Ok(None);
        }
        let expr = self.condition()?;
        self.expect("}")?;
        Ok(Some(expr))
    }
}

fn aggregate(word: &str) -> Option<Aggregate> {
    Some(match word {
        "count" => Aggregate::Count,
        "min" => Aggregate::Min,
        "max" => Aggregate::Max,
        "avg" => Aggregate::Avg,
        "sum" => Aggregate::Sum,
        _ => return None,
    })
}

/// The field that a tag endpoint names: `resource.service.name`, `.x`, `name`, `span:name`; a bare
/// name that is no intrinsic is an unscoped attribute.
pub fn tag_field(text: &str) -> Field {
    if let Some(field) = intrinsic(text) {
        return field;
    }
    if let Ok(tokens) = tokens(text)
        && let [Spanned { token: Token::Field(field), .. }] = tokens.as_slice()
    {
        return field.clone();
    }
    let (scope, name) = match text.split_once('.') {
        Some(("", name)) => (None, name),
        Some((scope, name)) => match scope_of(scope) {
            Some(scope) => (Some(scope), name),
            None => (None, text),
        },
        None => (None, text),
    };
    Field { kind: FieldKind::Attr { scope, name: name.trim_matches('"').to_owned() }, text: text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        parse(text).expect_err(text).to_string()
    }

    #[test]
    fn all_regular_expressions_of_a_query_share_one_bound() {
        let all = (0..400).map(|at| format!(r".a =~ `\w{{30}}{at}`")).collect::<Vec<_>>().join(" && ");
        let budget = QueryBudget::new(std::time::Duration::from_secs(3_600), 1 << 40, u64::MAX);
        let error = parse_within(&format!("{{ {all} }}"), &budget).unwrap_err().to_string();
        assert!(error.contains("use fewer and shorter ones"), "{error:.300}");
        assert!(budget.memory_peak() < 80 << 20, "{}", budget.memory_peak());
    }

    #[test]
    fn queries_that_grafana_writes_are_accepted() {
        for text in [
            "{}",
            "",
            "{nestedSetParent<0 && true} | rate() with(sample=true)",
            "{nestedSetParent<0 && true && status=error} | rate() by(resource.service.name)",
            "{nestedSetParent<0 && name != nil} | quantile_over_time(duration, 0.9, .99) by(name)",
            "{nestedSetParent<0 && true} | histogram_over_time(duration) with(sample=true)",
            "{nestedSetParent<0} | compare({duration >= 1.2s && duration <= 3s}, 10, 1700000000000000000, 1700000060000000000)",
            "({nestedSetParent<0 && status = error} &>> { status = error }) || ({nestedSetParent<0}) | select(status, \
             resource.service.name, name, nestedSetParent, nestedSetLeft, nestedSetRight)",
            "{status = error} | select(event.exception.message) with(most_recent=true)",
            "{ span.http.status_code >= 200 && .a =~ \"x.*\" } | by(resource.service.name) | count() > 3 + 1",
            "{} | avg(duration) > 1s | max(span.bytes * 2) < 10 * 1024",
            "count() > 3 | rate()",
            "{} | rate() by(name) | topk(3) > 0.5",
            "{ 5 < span.x && !(.a = 1) && span.\"a b\" != \"\" }",
        ] {
            parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        }
    }

    #[test]
    fn queries_without_meaning_are_refused_with_the_reason() {
        for (text, part) in [
            ("{ .a = }", "col 8"),
            ("{ name = nil }", "nil"),
            ("{ name = 5 }", "name"),
            ("{ 1 }", "true or false"),
            ("{ .a =~ 5 }", "regular expression"),
            ("{ .a =~ \"(\" }", "regular expression"),
            ("{ parent.a = 1 }", "parent"),
            ("{} | count() + 1 > 2", "compared"),
            ("{} | count() > count()", "unknown name"),
            ("{} | count()", "compared"),
            ("{} | rate() by(missing)", "attribute"),
            ("{} | quantile_over_time(name, 0.5)", "not a number"),
            ("{} {}", "after the query"),
            ("foo", "begins with"),
        ] {
            let error = refused(text);
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn depth_and_length_are_bounded() {
        assert!(refused(&"(".repeat(100_000)).contains("nests deeper"));
        assert!(refused(&format!("{{ {} }}", "!".repeat(100_000))).contains("nests deeper"));
        assert!(refused(&format!("{{ {} }}", "-".repeat(100_000))).contains("nests deeper"));
        assert!(refused(&format!("{{ .a{} }}", " && .a".repeat(10_000))).contains("operators"));
        assert!(refused(&"{} >> ".repeat(10_000)).contains("nests deeper"));
        assert!(refused(&" ".repeat(200_000)).contains("bytes"));
    }

    #[test]
    fn a_tag_may_hold_anything_after_its_scope() {
        let key = |text| tag_field(text).key().to_owned();
        assert_eq!(key("span.a b/c"), "a b/c");
        assert_eq!(key("resource.service.name"), "service.name");
        assert_eq!(key("service.name"), "service.name");
        assert!(tag_field("span:name").intrinsic().is_some());
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics_the_parser(text in "\\PC*", tokens in proptest::collection::vec(0_usize..24, 0..40)) {
            let _ = parse(&text);
            let words = ["{", "}", "(", ")", "&&", "||", "!", "-", ".a", "span.b", "name", "status", "error", "1", "1s",
                "\"x\"", "=", "=~", ">>", "|", "count()", "rate()", "by(name)", "nil"];
            let text: Vec<_> = tokens.iter().map(|at| words[*at]).collect();
            let _ = parse(&text.join(" "));
        }
    }
}
