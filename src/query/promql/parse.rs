//! Text to tree: the one file that names promql_parser. The crate decides what a query means and
//! whether its types fit; it keeps no places, so its tree is walked along the words of `lex`, which
//! give each node its place and the durations that the crate's grammar cannot say.
//! Invariant: nesting was checked by `lex` before anything here recurses.

use promql_parser::label::{MatchOp as ParserMatchOp, Matchers};
use promql_parser::parser::token;
use promql_parser::parser::value::ValueType;
use promql_parser::parser::{self, AtModifier, Expr as Parsed, LabelModifier, VectorMatchCardinality};

use super::PromqlError;
use super::ast::{
    Aggregate, AggregateOp, At, Binary, BinaryOp, Call, Cardinality, Edges, Expr, Kind, Matching, Pos, Selector,
    Subquery, Written,
};
use super::functions;
use super::lex::{self, Source, SyntaxError, Times};
use crate::base::limits::QueryBudget;
use crate::base::pattern::PatternError;
use crate::model::labels::METRIC_NAME;
use crate::model::matcher::{MatchOp, Matcher};

/// Memory that the words and the trees of a query take per byte of its text, more or less.
const TREE_BYTES: usize = 64;

/// Parses a query that will run over `times`, and lets `work` take its tree, where there is stack to parse
/// it, to walk over it and to drop it: nobody else may hold it.
///
/// # Errors
/// [`PromqlError::Parse`] with the place of what is wrong, or what `work` returns.
pub(super) fn parsed<T: Send>(
    query: &str,
    times: Times,
    budget: &QueryBudget,
    work: impl FnOnce(Expr) -> Result<T, PromqlError> + Send,
) -> Result<T, PromqlError> {
    let of_text = |error| PromqlError::of_text(query, error);
    budget.charge(query.len().saturating_mul(TREE_BYTES))?;
    budget.check()?;
    let source = lex::read(query, times).map_err(of_text)?;
    if source.tokens.is_empty() {
        return Err(of_text(SyntaxError::new(Pos(query.len()), "no expression found in input")));
    }
    let depth = source.depth;
    super::stack::with_depth(depth, move || {
        let tree = parser::parse(&source.plain)
            .map_err(|message| super::explain::explain(&source.tokens, query.trim_end().len(), &message));
        budget.check()?;
        let expr = tree.and_then(|tree| Walk { source: &source, at: 0, budget }.expr(&tree));
        let mut expr = expr.map_err(of_text)?;
        super::counts::mark(&mut expr, false);
        work(expr)
    })
    .unwrap_or_else(|error| Err(PromqlError::Thread(error)))
}

/// The tree of a query, for tests, whose stacks hold it.
///
/// # Errors
/// As [`parsed`].
#[cfg(test)]
pub(super) fn tree(query: &str) -> Result<Expr, PromqlError> {
    parsed(query, Times::default(), &QueryBudget::unlimited(), Ok)
}

/// What a function takes and gives.
pub fn signature(function: &str) -> Option<Signature> {
    let function = functions::find(function)?;
    // The crate tells what it knows of a function with a call of it only.
    let Ok(Parsed::Call(parser::Call { func: function, .. })) = parser::parse(function.example) else { return None };
    let takes = function.arg_types.iter().map(|own| type_of(*own)).collect();
    Some(Signature { takes, variadic: function.variadic, gives: type_of(function.return_type) })
}

fn type_of(own: ValueType) -> &'static str {
    match own {
        ValueType::Vector => "vector",
        ValueType::Scalar => "scalar",
        ValueType::Matrix => "matrix",
        ValueType::String => "string",
    }
}

/// What a function takes and gives: `vector`, `scalar`, `matrix` or `string`.
#[derive(Clone, Debug)]
pub struct Signature {
    /// The types of its arguments.
    pub takes: Vec<&'static str>,
    /// How many of the last may be left out; -1 when it may be repeated.
    pub variadic: i32,
    /// The type of its result.
    pub gives: &'static str,
}

/// The series selector of a `match[]` parameter.
///
/// # Errors
/// [`PromqlError::Parse`] when it is not one.
pub(super) fn selector(text: &str, budget: &QueryBudget) -> Result<Vec<Matcher>, PromqlError> {
    parsed(text, Times::NOMINAL, budget, |expr| match expr.kind {
        Kind::Vector(selector) if selector.offset == 0 && selector.at.is_none() && selector.edges == Edges::Plain => {
            Ok(selector.matchers)
        }
        _ => {
            let error = SyntaxError::new(Pos(0), format!("{text:?} is not a series selector"));
            Err(PromqlError::of_text(text, error))
        }
    })
}

/// Follows the crate's tree along the words.
struct Walk<'s, 'a> {
    source: &'s Source<'a>,
    at: usize,
    budget: &'s QueryBudget,
}

#[derive(Default)]
struct Modifiers {
    offset: i64,
    written: Option<String>,
    at: Option<At>,
    edges: Edges,
}

impl Walk<'_, '_> {
    fn text(&self) -> &str {
        self.source.tokens.get(self.at).map_or("", |token| token.text)
    }

    fn pos(&self) -> Pos {
        self.source.tokens.get(self.at).map_or(Pos(0), |token| token.pos)
    }

    fn is(&self, word: &str) -> bool {
        self.text().eq_ignore_ascii_case(word)
    }

    fn skip(&mut self, word: &str) {
        if self.is(word) {
            self.at += 1;
        }
    }

    /// Moves past a bracketed list of names or strings.
    fn skip_list(&mut self, open: &str, close: &str) {
        if !self.is(open) {
            return;
        }
        while self.at < self.source.tokens.len() && !self.is(close) {
            self.at += 1;
        }
        self.at += 1;
    }

    fn expr(&mut self, parsed: &Parsed) -> Result<Expr, SyntaxError> {
        if let Parsed::Binary(binary) = parsed {
            return self.binary(binary);
        }
        if let Parsed::Subquery(subquery) = parsed {
            return self.subquery(subquery);
        }
        let pos = self.pos();
        while self.is("+") || (matches!(parsed, Parsed::NumberLiteral(_)) && self.is("-")) {
            self.at += 1;
        }
        let kind = match parsed {
            Parsed::NumberLiteral(number) => {
                self.at += 1;
                Kind::Number(number.val)
            }
            Parsed::StringLiteral(string) => {
                self.at += 1;
                Kind::String(string.val.clone())
            }
            Parsed::Unary(unary) => {
                self.skip("-");
                Kind::Negate(Box::new(self.expr(&unary.expr)?))
            }
            Parsed::Paren(paren) => {
                self.skip("(");
                let inner = self.expr(&paren.expr)?;
                self.skip(")");
                Kind::Paren(Box::new(inner))
            }
            Parsed::VectorSelector(vector) => {
                self.selector_words();
                let modifiers = self.modifiers(vector.at.as_ref());
                Kind::Vector(selector_of(vector.name.as_deref(), &vector.matchers, modifiers, pos, self.budget)?)
            }
            Parsed::MatrixSelector(matrix) => {
                self.selector_words();
                let (range, words) = self.bracket().map_or((0, Written::default()), |own| (own.0.range, own.1));
                let modifiers = self.modifiers(matrix.vs.at.as_ref());
                let mut selector =
                    selector_of(matrix.vs.name.as_deref(), &matrix.vs.matchers, modifiers, pos, self.budget)?;
                selector.written.range = words.range;
                Kind::Matrix(selector, range)
            }
            Parsed::Call(call) => self.call(call)?,
            Parsed::Aggregate(aggregate) => self.aggregate(aggregate)?,
            Parsed::Binary(_) | Parsed::Subquery(_) | Parsed::Extension(_) => {
                return Err(SyntaxError::new(pos, "unexpected expression"));
            }
        };
        Ok(Expr { kind, pos })
    }

    fn selector_words(&mut self) {
        if !self.is("{") {
            self.at += 1;
        }
        self.skip_list("{", "}");
    }

    fn bracket(&mut self) -> Option<(lex::Bracket, Written)> {
        let bracket = self.source.brackets.get(&self.at).copied()?;
        let words = |from, to| lex::arithmetic(&self.source.tokens, from, to);
        let range = words(self.at + 1, bracket.divided);
        let written = Written { range, step: words(bracket.divided + 1, bracket.after - 1), offset: None };
        self.at = bracket.after;
        Some((bracket, written))
    }

    fn modifiers(&mut self, at: Option<&AtModifier>) -> Modifiers {
        let mut modifiers = Modifiers::default();
        loop {
            if let Some((offset, after)) = self.source.offsets.get(&self.at) {
                modifiers.offset = *offset;
                modifiers.written = lex::arithmetic(&self.source.tokens, self.at + 1, *after);
                self.at = *after;
            } else if let Some((time, after)) = self.source.ats.get(&self.at) {
                modifiers.at = Some(At::Time(*time));
                self.at = *after;
            } else if let Some(edges) = self.source.edges.get(&self.at) {
                modifiers.edges = *edges;
                self.at += 1;
            } else if self.is("@") {
                modifiers.at = match at {
                    Some(AtModifier::End) => Some(At::End),
                    _ => Some(At::Start),
                };
                self.at += 4;
            } else {
                return modifiers;
            }
        }
    }

    fn subquery(&mut self, subquery: &parser::SubqueryExpr) -> Result<Expr, SyntaxError> {
        let expr = self.expr(&subquery.expr)?;
        let pos = expr.pos;
        let (range, step, mut words) =
            self.bracket().map_or((0, None, Written::default()), |(own, words)| (own.range, own.step, words));
        let step = step.filter(|step| *step > 0);
        let Modifiers { offset, written, at, edges } = self.modifiers(subquery.at.as_ref());
        words.offset = written;
        if edges != Edges::Plain {
            return Err(SyntaxError::new(pos, "anchored and smoothed are not allowed on subqueries"));
        }
        Ok(Expr { kind: Kind::Subquery(Box::new(Subquery { expr, range, step, offset, at, written: words })), pos })
    }

    fn call(&mut self, call: &parser::Call) -> Result<Kind, SyntaxError> {
        let pos = self.pos();
        let Some(function) = functions::find(call.func.name) else {
            return Err(SyntaxError::new(pos, format!("unknown function with name {:?}", call.func.name)));
        };
        self.at += 1;
        self.skip("(");
        let mut args = Vec::with_capacity(call.args.args.len());
        for (at, arg) in call.args.args.iter().enumerate() {
            if at == 1 && function.name == "info" && !self.is("{") {
                let message = "expected label selectors only, got vector selector instead".to_owned();
                return Err(SyntaxError::new(self.pos(), message));
            }
            args.push(self.expr(arg)?);
            self.skip(",");
        }
        self.skip(")");
        Ok(Kind::Call(Call { function: function.name, args }))
    }

    fn aggregate(&mut self, aggregate: &parser::AggregateExpr) -> Result<Kind, SyntaxError> {
        let pos = self.pos();
        let Some(op) = aggregate_op(aggregate.op.id()) else {
            return Err(SyntaxError::new(pos, format!("unknown aggregation {}", aggregate.op)));
        };
        self.at += 1;
        self.grouping_words();
        self.skip("(");
        let param = match &aggregate.param {
            Some(param) => {
                let param = self.expr(param)?;
                self.skip(",");
                Some(param)
            }
            None => None,
        };
        let expr = self.expr(&aggregate.expr)?;
        self.skip(")");
        let takes_text = op == AggregateOp::CountValues;
        if let Some(Expr { kind: Kind::String(_), pos }) = param.as_ref().map(Expr::bare).filter(|_| !takes_text) {
            let message = "expected type scalar in aggregation parameter, got string".to_owned();
            return Err(SyntaxError::new(*pos, message));
        }
        self.grouping_words();
        let (labels, without) = match &aggregate.modifier {
            Some(LabelModifier::Include(labels)) => (labels.labels.clone(), false),
            Some(LabelModifier::Exclude(labels)) => (labels.labels.clone(), true),
            None => (Vec::new(), false),
        };
        Ok(Kind::Aggregate(Box::new(Aggregate { op, expr, param, labels, without })))
    }

    fn grouping_words(&mut self) {
        if self.is("by") || self.is("without") {
            self.at += 1;
            self.skip_list("(", ")");
        }
    }

    fn binary(&mut self, binary: &parser::BinaryExpr) -> Result<Expr, SyntaxError> {
        let left = self.expr(&binary.lhs)?;
        let op = binary_op(binary.op.id(), self.text());
        let Some(op) = op else {
            return Err(SyntaxError::new(self.pos(), format!("unknown operator {}", binary.op)));
        };
        self.at += 1;
        let (mut bool, mut matching) = (false, None);
        let mut cardinality = Cardinality::OneToOne;
        let mut include = Vec::new();
        let (mut fill_left, mut fill_right) = (None, None);
        if let Some(modifier) = &binary.modifier {
            bool = modifier.return_bool;
            matching = modifier.matching.clone();
            (fill_left, fill_right) = (modifier.fill_values.lhs, modifier.fill_values.rhs);
            match &modifier.card {
                VectorMatchCardinality::ManyToOne(labels) => {
                    (cardinality, include) = (Cardinality::ManyToOne, labels.labels.clone());
                }
                VectorMatchCardinality::OneToMany(labels) => {
                    (cardinality, include) = (Cardinality::OneToMany, labels.labels.clone());
                }
                VectorMatchCardinality::OneToOne | VectorMatchCardinality::ManyToMany => {}
            }
            self.binary_words(modifier);
            if op.is_set() && (fill_left.is_some() || fill_right.is_some()) {
                let message = "filling in missing series not allowed for set operators".to_owned();
                return Err(SyntaxError::new(left.pos, message));
            }
        }
        let right = self.expr(&binary.rhs)?;
        let (labels, on) = match matching {
            Some(LabelModifier::Include(labels)) => (labels.labels, true),
            Some(LabelModifier::Exclude(labels)) => (labels.labels, false),
            None => (Vec::new(), false),
        };
        let pos = left.pos;
        let matching = Matching { cardinality, on, labels, include, fill_left, fill_right };
        Ok(Expr { kind: Kind::Binary(Box::new(Binary { op, left, right, bool, matching })), pos })
    }

    fn binary_words(&mut self, modifier: &parser::BinModifier) {
        if modifier.return_bool {
            self.skip("bool");
        }
        if modifier.matching.is_some() {
            self.at += 1;
            self.skip_list("(", ")");
        }
        if self.is("group_left") || self.is("group_right") {
            self.at += 1;
            self.skip_list("(", ")");
        }
        if modifier.fill_values.lhs.is_some() || modifier.fill_values.rhs.is_some() {
            while self.is("fill") || self.is("fill_left") || self.is("fill_right") {
                self.at += 1;
                self.skip_list("(", ")");
            }
        }
    }
}

fn selector_of(
    name: Option<&str>,
    matchers: &Matchers,
    modifiers: Modifiers,
    pos: Pos,
    budget: &QueryBudget,
) -> Result<Selector, SyntaxError> {
    if !matchers.or_matchers.is_empty() {
        return Err(SyntaxError::new(pos, "unexpected \"or\" in label matching"));
    }
    let mut own: Vec<Matcher> = name.into_iter().map(|name| Matcher::equal(METRIC_NAME, name)).collect();
    let named = name.is_some();
    let may_match_empty = matchers.matchers.iter().any(|matcher| matcher.name == lex::ANY_LABEL);
    let mut rest = matchers.matchers.iter().filter(|matcher| matcher.name != lex::ANY_LABEL).peekable();
    while let Some(matcher) = rest.next() {
        let is_pattern = rest.next_if(|next| next.name == lex::PATTERN_LABEL).is_some();
        let op = match (&matcher.op, is_pattern) {
            (ParserMatchOp::Equal, false) => MatchOp::Equal,
            (ParserMatchOp::NotEqual, false) => MatchOp::NotEqual,
            (ParserMatchOp::Equal, true) | (ParserMatchOp::Re(_), _) => MatchOp::Regex,
            (ParserMatchOp::NotEqual, true) | (ParserMatchOp::NotRe(_), _) => MatchOp::NotRegex,
        };
        let matcher = Matcher::within(matcher.name.as_str(), op, matcher.value.as_str(), budget);
        own.push(matcher.map_err(|error| match error {
            PatternError::Limit(limit) => SyntaxError::of_limit(pos, limit),
            error @ (PatternError::Invalid { .. } | PatternError::TooMuch { .. }) => {
                SyntaxError::new(pos, error.to_string())
            }
        })?);
    }
    if !may_match_empty && own.iter().all(Matcher::matches_empty) {
        let message = "vector selector must contain at least one non-empty matcher".to_owned();
        return Err(SyntaxError::new(pos, message));
    }
    let Modifiers { offset, written, at, edges } = modifiers;
    let written = Written { offset: written, ..Written::default() };
    Ok(Selector { matchers: own, offset, at, edges, counts_only: false, named, written })
}

fn aggregate_op(id: token::TokenId) -> Option<AggregateOp> {
    Some(match id {
        token::T_SUM => AggregateOp::Sum,
        token::T_AVG => AggregateOp::Avg,
        token::T_COUNT => AggregateOp::Count,
        token::T_MIN => AggregateOp::Min,
        token::T_MAX => AggregateOp::Max,
        token::T_GROUP => AggregateOp::Group,
        token::T_STDDEV => AggregateOp::Stddev,
        token::T_STDVAR => AggregateOp::Stdvar,
        token::T_TOPK => AggregateOp::Topk,
        token::T_BOTTOMK => AggregateOp::Bottomk,
        token::T_COUNT_VALUES => AggregateOp::CountValues,
        token::T_QUANTILE => AggregateOp::Quantile,
        token::T_LIMITK => AggregateOp::Limitk,
        token::T_LIMIT_RATIO => AggregateOp::LimitRatio,
        _ => return None,
    })
}

/// The crate saw a comparison where the text says trim.
fn binary_op(id: token::TokenId, text: &str) -> Option<BinaryOp> {
    match text {
        "</" => return Some(BinaryOp::TrimUpper),
        ">/" => return Some(BinaryOp::TrimLower),
        _ => {}
    }
    Some(match id {
        token::T_ADD => BinaryOp::Add,
        token::T_SUB => BinaryOp::Sub,
        token::T_MUL => BinaryOp::Mul,
        token::T_DIV => BinaryOp::Div,
        token::T_MOD => BinaryOp::Mod,
        token::T_POW => BinaryOp::Pow,
        token::T_ATAN2 => BinaryOp::Atan2,
        token::T_EQLC => BinaryOp::Equal,
        token::T_NEQ => BinaryOp::NotEqual,
        token::T_LSS => BinaryOp::Less,
        token::T_LTE => BinaryOp::LessEqual,
        token::T_GTR => BinaryOp::Greater,
        token::T_GTE => BinaryOp::GreaterEqual,
        token::T_LAND => BinaryOp::And,
        token::T_LOR => BinaryOp::Or,
        token::T_LUNLESS => BinaryOp::Unless,
        _ => return None,
    })
}
