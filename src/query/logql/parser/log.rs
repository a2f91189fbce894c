//! The log part of the grammar: selectors, line filters, stages and label filters.

use std::sync::Arc;

use super::{Parsed, Parser};
use crate::model::matcher::{MatchOp, Matcher};
use crate::query::logql::ParseError;
use crate::query::logql::ast::LogExpr;
use crate::query::logql::filter::{FilterKind, FilterValue, LineFilter};
use crate::query::logql::ip::IpPattern;
use crate::query::logql::lexer::TokenKind;
use crate::query::logql::stages::label_filter::{Comparison, LabelFilter, Unit, WORDLESS};
use crate::query::logql::stages::{STAGES, Stage};

/// Most stages behind one selector.
const STAGES_MAX: usize = 200;

impl Parser<'_> {
    pub(super) fn log_expr(&mut self) -> Parsed<LogExpr> {
        let mut log = LogExpr { matchers: self.selector()?, stages: Vec::new() };
        self.pipeline(&mut log)?;
        Ok(log)
    }

    pub(super) fn matchers(&mut self) -> Parsed<Vec<Matcher>> {
        self.expect("{")?;
        let mut matchers = Vec::new();
        while !self.eat("}") {
            let name = self.name("a label or }")?;
            matchers.push(self.matcher_on(name)?);
            if !self.eat(",") {
                self.expect("}")?;
                break;
            }
        }
        Ok(matchers)
    }

    fn selector(&mut self) -> Parsed<Vec<Matcher>> {
        let at = self.position();
        let matchers = self.matchers()?;
        if matchers.iter().all(Matcher::matches_empty) {
            return Err(ParseError::new(
                at,
                "queries require at least one regexp or equality matcher that does not have an empty-compatible value. \
                 For instance, app=~\".*\" does not meet this requirement, but app=~\".+\" will",
            ));
        }
        Ok(matchers)
    }

    pub(super) fn matcher_on(&mut self, name: String) -> Parsed<Matcher> {
        let op = match self.peek() {
            TokenKind::Sign("=") => MatchOp::Equal,
            TokenKind::Sign("!=") => MatchOp::NotEqual,
            TokenKind::Sign("=~") => MatchOp::Regex,
            TokenKind::Sign("!~") => MatchOp::NotRegex,
            _ => return Err(self.unexpected("one of =, !=, =~, !~")),
        };
        self.advance();
        let at = self.position();
        let value = self.text("a quoted text")?;
        Matcher::within(name, op, value, self.budget).map_err(|error| ParseError::of_pattern(at, error))
    }

    pub(super) fn pipeline(&mut self, log: &mut LogExpr) -> Parsed<()> {
        loop {
            let at = self.position();
            if let Some(filter) = self.line_filter()? {
                log.stages.push(Arc::new(filter));
            } else if self.eat("|") {
                log.stages.push(self.stage()?.into());
            } else {
                return Ok(());
            }
            if log.stages.len() > STAGES_MAX {
                return Err(ParseError::new(at, format!("more than {STAGES_MAX} stages")));
            }
        }
    }

    fn line_filter(&mut self) -> Parsed<Option<LineFilter>> {
        let (kind, negated) = match self.peek() {
            TokenKind::Sign("|=") => (FilterKind::Contains, false),
            TokenKind::Sign("!=") => (FilterKind::Contains, true),
            TokenKind::Sign("|~") => (FilterKind::Regex, false),
            TokenKind::Sign("!~") => (FilterKind::Regex, true),
            TokenKind::Sign("|>") => (FilterKind::Pattern, false),
            TokenKind::Sign("!>") => (FilterKind::Pattern, true),
            _ => return Ok(None),
        };
        let at = self.position();
        self.advance();
        let mut values = vec![self.filter_value(kind)?];
        while self.eat_word("or") {
            values.push(self.filter_value(kind)?);
        }
        LineFilter::new(kind, negated, values, self.budget).map(Some).map_err(|error| error.at(at, ""))
    }

    fn filter_value(&mut self, kind: FilterKind) -> Parsed<FilterValue> {
        if kind == FilterKind::Contains && self.is_word("ip") {
            self.advance();
            return self.ip_text().map(FilterValue::Ip);
        }
        self.text("a quoted text").map(FilterValue::Text)
    }

    fn ip_text(&mut self) -> Parsed<String> {
        self.expect("(")?;
        let text = self.text("a quoted address")?;
        self.expect(")")?;
        Ok(text)
    }

    fn stage(&mut self) -> Parsed<Box<dyn Stage>> {
        let compared =
            matches!(self.peek_after(), TokenKind::Sign("=" | "==" | "!=" | "=~" | "!~" | ">" | ">=" | "<" | "<="))
                && !matches!(self.peek(), TokenKind::Word(word) if WORDLESS.contains(&word.as_str()));
        if let TokenKind::Word(word) = self.peek()
            && !compared
            && let Some(row) = STAGES.iter().find(|row| row.name.eq_ignore_ascii_case(word))
        {
            self.advance();
            return (row.parse)(self);
        }
        if !matches!(self.peek(), TokenKind::Word(_) | TokenKind::Sign("(")) {
            return Err(self.unexpected("a stage or a label filter"));
        }
        Ok(Box::new(self.filter_or()?))
    }

    fn filter_or(&mut self) -> Parsed<LabelFilter> {
        let mut filters = vec![self.filter_and()?];
        while self.eat_word("or") {
            filters.push(self.filter_and()?);
        }
        Ok(one_or(filters, LabelFilter::Or))
    }

    fn filter_and(&mut self) -> Parsed<LabelFilter> {
        let mut filters = vec![self.filter_one()?];
        loop {
            let joined = self.eat_word("and") || self.eat(",");
            let another = matches!(self.peek(), TokenKind::Word(word)
                if !["or", "by", "without", "offset"].iter().any(|keyword| word.eq_ignore_ascii_case(keyword)));
            if !joined && !another {
                return Ok(one_or(filters, LabelFilter::And));
            }
            filters.push(self.filter_one()?);
        }
    }

    fn filter_one(&mut self) -> Parsed<LabelFilter> {
        if self.eat("(") {
            let inner = self.nested(Self::filter_or)?;
            self.expect(")")?;
            return Ok(inner);
        }
        let label = self.name("a label")?;
        if matches!(self.peek_after(), TokenKind::Text(_)) {
            return self.matcher_on(label).map(LabelFilter::Text);
        }
        let comparison = match self.peek() {
            TokenKind::Sign(sign) => Comparison::of(sign),
            _ => None,
        };
        let Some(comparison) = comparison else { return Err(self.unexpected("a comparison")) };
        self.advance();
        if self.is_word("ip") {
            let at = self.position();
            self.advance();
            let text = self.ip_text()?;
            let negated = match comparison {
                Comparison::Equal => false,
                Comparison::NotEqual => true,
                _ => return Err(ParseError::new(at, "ip() compares with = and != only")),
            };
            let pattern = IpPattern::parse(&text).map_err(|error| ParseError::new(at, error))?;
            return Ok(LabelFilter::Ip { label, negated, pattern, text });
        }
        let negative = self.eat("-");
        let (unit, value, text) = match self.peek() {
            TokenKind::Number(value, text) => (Unit::Number, *value, text.clone()),
            TokenKind::Duration(nanos, text) => (Unit::Duration, *nanos as f64, text.clone()),
            TokenKind::Bytes(value, text) => (Unit::Bytes, *value, text.clone()),
            _ => return Err(self.unexpected("a quoted text, a number, a duration or an amount of bytes")),
        };
        self.advance();
        let (value, text) = if negative { (-value, format!("-{text}")) } else { (value, text) };
        Ok(LabelFilter::Amount { label, comparison, unit, value, text })
    }
}

fn one_or(mut filters: Vec<LabelFilter>, many: impl Fn(Vec<LabelFilter>) -> LabelFilter) -> LabelFilter {
    match filters.pop() {
        Some(one) if filters.is_empty() => one,
        Some(last) => {
            filters.push(last);
            many(filters)
        }
        None => many(filters),
    }
}
