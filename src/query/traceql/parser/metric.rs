//! The metrics part of a query: a function over spans, its groups, and what follows.

use super::{LIST_MAX, Parser};
use crate::query::traceql::ast::{Field, Metric, MetricFunction, SecondStage};
use crate::query::traceql::error::QueryError;
use crate::query::traceql::expression::is_number;
use crate::query::traceql::lexer::Token;
use crate::query::traceql::value::Value;

impl Parser<'_> {
    /// The metrics part, if one begins here.
    pub(super) fn metric(&mut self) -> Result<Option<Metric>, QueryError> {
        let from = self.at;
        let Some(Token::Word(name)) = self.peek().cloned() else { return Ok(None) };
        self.at += 1;
        let function = match name.as_str() {
            "rate" => self.no_arguments(MetricFunction::Rate)?,
            "count_over_time" => self.no_arguments(MetricFunction::Count)?,
            "min_over_time" => MetricFunction::Min(self.one_field()?),
            "max_over_time" => MetricFunction::Max(self.one_field()?),
            "avg_over_time" => MetricFunction::Avg(self.one_field()?),
            "sum_over_time" => MetricFunction::Sum(self.one_field()?),
            "histogram_over_time" => MetricFunction::Histogram(self.one_field()?),
            "quantile_over_time" => self.quantile()?,
            "compare" => self.compare()?,
            _ => {
                self.at = from;
                return Ok(None);
            }
        };
        let by = if self.is_word(self.at, "by") {
            self.at += 1;
            self.fields()?
        } else {
            Vec::new()
        };
        let mut then = Vec::new();
        while let Some(stage) = self.second_stage()? {
            then.push(stage);
            if then.len() > LIST_MAX {
                return self.fail("the pipeline has too many stages");
            }
        }
        Ok(Some(Metric { function, by, then }))
    }

    fn no_arguments(&mut self, function: MetricFunction) -> Result<MetricFunction, QueryError> {
        self.expect("(")?;
        self.expect(")")?;
        Ok(function)
    }

    fn one_field(&mut self) -> Result<Field, QueryError> {
        self.expect("(")?;
        let field = self.number_field()?;
        self.expect(")")?;
        Ok(field)
    }

    fn number_field(&mut self) -> Result<Field, QueryError> {
        let from = self.at;
        let field = self.field()?;
        if is_number(&field) {
            return Ok(field);
        }
        self.at = from;
        self.fail(format!("{} is not a number", field.text))
    }

    fn quantile(&mut self) -> Result<MetricFunction, QueryError> {
        self.expect("(")?;
        let field = self.number_field()?;
        let mut quantiles = Vec::new();
        while self.eat(",") {
            let quantile = self.number_literal()?.number().unwrap_or(f64::NAN);
            if !(0.0..=1.0).contains(&quantile) {
                return self.fail("a quantile lies between 0 and 1");
            }
            quantiles.push(quantile);
        }
        self.expect(")")?;
        match quantiles.len() {
            0 => self.fail("quantile_over_time needs a quantile, as in quantile_over_time(duration, 0.9)"),
            1..=LIST_MAX => Ok(MetricFunction::Quantile(field, quantiles)),
            _ => self.fail("too many quantiles"),
        }
    }

    /// `({selection}, top, start, end)`
    fn compare(&mut self) -> Result<MetricFunction, QueryError> {
        self.expect("(")?;
        let selection = self.filter()?;
        let mut numbers = Vec::new();
        while self.eat(",") && numbers.len() < 4 {
            match self.number_literal()? {
                Value::Int(number) => numbers.push(number),
                _ => return self.fail("compare takes integers after its filter"),
            }
        }
        self.expect(")")?;
        let (top, between) = match numbers.as_slice() {
            [] => (10, None),
            [top] => (*top, None),
            [top, start, end] if start < end => (*top, Some((*start, *end))),
            _ => return self.fail("compare takes a filter, how many values to show, and both ends of a time range"),
        };
        match usize::try_from(top) {
            Ok(top @ 1..=LIST_MAX) => Ok(MetricFunction::Compare { selection, top, between }),
            _ => self.fail(format!("compare shows between 1 and {LIST_MAX} values")),
        }
    }

    fn second_stage(&mut self) -> Result<Option<SecondStage>, QueryError> {
        let piped = self.eat("|");
        if let Some(op) = self.compare_op() {
            let Some(number) = self.number_literal()?.number() else { return self.fail("expected a number") };
            return Ok(Some(SecondStage::Filter(op, number)));
        }
        if !piped {
            return Ok(None);
        }
        let make = match self.next() {
            Some(Token::Word(word)) if word == "topk" => SecondStage::TopK,
            Some(Token::Word(word)) if word == "bottomk" => SecondStage::BottomK,
            _ => return self.fail("expected topk, bottomk or a comparison"),
        };
        self.expect("(")?;
        let Value::Int(count) = self.number_literal()? else { return self.fail("expected an integer") };
        self.expect(")")?;
        match usize::try_from(count) {
            Ok(count) if count > 0 => Ok(Some(make(count))),
            _ => self.fail("expected a number above 0"),
        }
    }
}
