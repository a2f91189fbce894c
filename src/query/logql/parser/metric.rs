//! The calls of the grammar: aggregations over ranges of logs and over vectors, and their parts.

use super::{Parsed, Parser};
use crate::base::pattern::{Dialect, Regex};
use crate::query::logql::ParseError;
use crate::query::logql::ast::{
    Expr, Grouping, LogExpr, MetricExpr, RANGE_OPS, RangeExpr, RangeOp, VECTOR_OPS, VectorOp,
};
use crate::query::logql::lexer::{Position, TokenKind};
use crate::query::logql::stages::clean_name;

impl Parser<'_> {
    pub(super) fn call(&mut self, word: &str) -> Parsed<MetricExpr> {
        let name = word.to_ascii_lowercase();
        if let Some((_, op)) = RANGE_OPS.iter().find(|(own, _)| *own == name) {
            self.advance();
            return self.range_call(*op).map(MetricExpr::Range);
        }
        if let Some((_, op)) = VECTOR_OPS.iter().find(|(own, _)| *own == name) {
            self.advance();
            return self.vector_call(*op);
        }
        match name.as_str() {
            "vector" => {
                self.advance();
                self.expect("(")?;
                let TokenKind::Number(value, _) = *self.peek() else { return Err(self.unexpected("a number")) };
                self.advance();
                self.expect(")")?;
                Ok(MetricExpr::VectorLiteral(value))
            }
            "label_replace" => {
                self.advance();
                self.label_replace()
            }
            _ => Err(self.unexpected("a selector, a function or a number")),
        }
    }

    fn label_replace(&mut self) -> Parsed<MetricExpr> {
        self.expect("(")?;
        let inner_at = self.position();
        let inner = self.expr(0)?;
        let inner = Box::new(only_metric(inner, inner_at, "argument of label_replace")?);
        let mut texts = [const { String::new() }; 4];
        let mut at = self.position();
        for text in &mut texts {
            self.expect(",")?;
            at = self.position();
            *text = self.text("a quoted text")?;
        }
        self.expect(")")?;
        let [target, replacement, source, pattern] = texts;
        let regex = Regex::new(&pattern, Dialect::ReplaceInLine, self.budget)
            .map_err(|error| ParseError::of_pattern(at, error))?;
        if clean_name(&target) != target.as_str() || target.is_empty() {
            return Err(ParseError::new(at, format!("invalid label name {target:?} in label_replace")));
        }
        Ok(MetricExpr::LabelReplace { inner, target, replacement, source, pattern, regex })
    }

    fn grouping(&mut self) -> Parsed<Option<Grouping>> {
        let by = self.is_word("by");
        if by || self.is_word("without") {
            self.advance();
            return Ok(Some(Grouping { without: !by, names: self.name_list()? }));
        }
        Ok(None)
    }

    /// How many series are kept, and the comma behind it.
    fn count(&mut self) -> Parsed<usize> {
        let at = self.position();
        let value = self.number()?;
        if !(1.0..=1e9).contains(&value) || value.fract() != 0.0 {
            return Err(ParseError::new(at, format!("invalid parameter {value}: a whole number over zero is needed")));
        }
        self.expect(",")?;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the range was checked")]
        Ok(value as usize)
    }

    fn vector_call(&mut self, op: VectorOp) -> Parsed<MetricExpr> {
        let at = self.position();
        let before = self.grouping()?;
        self.expect("(")?;
        let parameter = if matches!(op, VectorOp::Topk | VectorOp::Bottomk) { Some(self.count()?) } else { None };
        let inner_at = self.position();
        let inner = self.expr(0)?;
        let inner = Box::new(only_metric(inner, inner_at, "argument of a vector aggregation")?);
        self.expect(")")?;
        let grouping = match before {
            Some(grouping) => Some(grouping),
            None => self.grouping()?,
        };
        if grouping.is_some() && matches!(op, VectorOp::Sort | VectorOp::SortDesc) {
            return Err(ParseError::new(at, "grouping is not allowed for sort and sort_desc"));
        }
        Ok(MetricExpr::Vector { op, parameter, grouping, inner })
    }

    fn range_call(&mut self, op: RangeOp) -> Parsed<RangeExpr> {
        let at = self.position();
        self.expect("(")?;
        let mut parameter = None;
        if op == RangeOp::Quantile {
            let TokenKind::Number(value, _) = *self.peek() else { return Err(self.unexpected("a quantile")) };
            self.advance();
            parameter = Some(value);
            self.expect(",")?;
        }
        let (log, range_ns, offset_ns) = self.nested(Self::range_of_log)?;
        self.expect(")")?;
        let grouping = self.grouping()?;
        check_range(op, &log, grouping.as_ref()).map_err(|message| ParseError::new(at, message))?;
        Ok(RangeExpr { op, parameter, log, range_ns, offset_ns, grouping })
    }

    /// `{..} |= "x" [5m] offset 1h`; the range may stand before the stages, and parentheses around.
    fn range_of_log(&mut self) -> Parsed<(LogExpr, i64, i64)> {
        let mut log;
        let mut range = None;
        if self.eat("(") {
            let (inner, inner_range) = self.nested(|parser| {
                let mut log = parser.log_operand()?;
                let range = parser.range()?;
                parser.pipeline(&mut log)?;
                Ok((log, range))
            })?;
            self.expect(")")?;
            (log, range) = (inner, inner_range);
            self.pipeline(&mut log)?;
        } else {
            log = self.log_operand()?;
        }
        if range.is_none() {
            range = self.range()?;
            self.pipeline(&mut log)?;
        }
        let Some((range_ns, mut offset_ns)) = range else { return Err(self.unexpected("a range such as [5m]")) };
        if let Some(offset) = self.offset()? {
            offset_ns = offset;
        }
        Ok((log, range_ns, offset_ns))
    }

    fn log_operand(&mut self) -> Parsed<LogExpr> {
        if self.eat("(") {
            let mut log = self.nested(Self::log_operand)?;
            self.expect(")")?;
            self.pipeline(&mut log)?;
            return Ok(log);
        }
        self.log_expr()
    }

    fn range(&mut self) -> Parsed<Option<(i64, i64)>> {
        if !self.eat("[") {
            return Ok(None);
        }
        let TokenKind::Duration(nanos, _) = *self.peek() else { return Err(self.unexpected("a duration such as 5m")) };
        self.advance();
        self.expect("]")?;
        Ok(Some((nanos, self.offset()?.unwrap_or(0))))
    }

    fn offset(&mut self) -> Parsed<Option<i64>> {
        if !self.eat_word("offset") {
            return Ok(None);
        }
        let negative = self.eat("-");
        let TokenKind::Duration(nanos, _) = *self.peek() else { return Err(self.unexpected("a duration such as 5m")) };
        self.advance();
        Ok(Some(if negative { -nanos } else { nanos }))
    }
}

pub(super) fn only_metric(expr: Expr, at: Position, place: &str) -> Parsed<MetricExpr> {
    match expr {
        Expr::Metric(metric) => Ok(metric),
        Expr::Log(_) => {
            Err(ParseError::new(at, format!("a log query cannot be the {place}; aggregate it, as in count_over_time")))
        }
    }
}

fn check_range(op: RangeOp, log: &LogExpr, grouping: Option<&Grouping>) -> Result<(), String> {
    let name = RANGE_OPS.iter().find(|(_, own)| *own == op).map_or("", |(name, _)| name);
    let unwraps = log.unwraps();
    let (takes_values, needs_values, groups) = match op {
        RangeOp::CountOverTime | RangeOp::BytesOverTime | RangeOp::BytesRate => (false, false, false),
        RangeOp::AbsentOverTime | RangeOp::Rate => (true, false, false),
        RangeOp::RateCounter | RangeOp::Sum => (true, true, false),
        RangeOp::Avg
        | RangeOp::Min
        | RangeOp::Max
        | RangeOp::First
        | RangeOp::Last
        | RangeOp::Stddev
        | RangeOp::Stdvar
        | RangeOp::Quantile => (true, true, true),
    };
    if unwraps && !takes_values {
        return Err(format!("invalid aggregation {name} with unwrap"));
    }
    if !unwraps && needs_values {
        return Err(format!("invalid aggregation {name} without unwrap"));
    }
    if grouping.is_some() && !groups {
        return Err(format!("grouping not allowed for {name} aggregation"));
    }
    Ok(())
}
