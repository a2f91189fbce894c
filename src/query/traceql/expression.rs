//! Expressions over one span: parsing, folding of constants, and checks of types that need no data.
//! Precedence, loosest first: `&&` and `||` from left to right, comparisons, `+ -`, `* / %`, `^`,
//! prefixes.

use std::borrow::Cow;

use super::ast::{Expr, Field, Intrinsic};
use super::error::QueryError;
use super::lexer::{Token, intrinsic};
use super::nest::Nested;
use super::op::{CompareOp, MathOp};
use super::parser::Parser;
use super::value::{Value, math};
use crate::base::pattern::{Dialect, PatternError, Regex};
use crate::model::span::{SpanKind, StatusCode};

/// What can be said of a value without data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Type {
    Any,
    Number,
    Str,
    Bool,
    Status,
    Kind,
}

impl Type {
    fn fits(self, other: Self) -> bool {
        self == other || self == Self::Any || other == Self::Any
    }
}

impl Parser<'_> {
    /// An expression that is true or false.
    pub(super) fn condition(&mut self) -> Result<Expr, QueryError> {
        let expr = self.expression()?;
        self.must_be(Type::Bool, &expr, "a filter must be true or false")?;
        Ok(expr)
    }

    /// An expression that is a number.
    pub(super) fn number_expression(&mut self) -> Result<Expr, QueryError> {
        let expr = self.expression()?;
        self.must_be(Type::Number, &expr, "expected a number")?;
        Ok(expr)
    }

    /// A number, possibly computed, without fields.
    pub(super) fn number_literal(&mut self) -> Result<Value<'static>, QueryError> {
        match self.sum()? {
            Expr::Literal(value) if value.number().is_some() => Ok(value),
            _ => self.fail("expected a number"),
        }
    }

    /// Any literal.
    pub(super) fn literal(&mut self) -> Result<Value<'static>, QueryError> {
        match self.sum()? {
            Expr::Literal(value) => Ok(value),
            _ => self.fail("expected a literal"),
        }
    }

    pub(super) fn expression(&mut self) -> Result<Expr, QueryError> {
        let mut left = self.comparison()?;
        loop {
            let join = match self.peek() {
                Some(Token::Op("&&")) => Expr::and,
                Some(Token::Op("||")) => Expr::or,
                _ => return Ok(left),
            };
            self.next();
            self.operator()?;
            let right = self.comparison()?;
            self.must_be(Type::Bool, &left, "both sides of && and || must be true or false")?;
            self.must_be(Type::Bool, &right, "both sides of && and || must be true or false")?;
            left = join(left, right)?;
        }
    }

    /// Takes a comparison operator other than those of regular expressions.
    pub(super) fn compare_op(&mut self) -> Option<CompareOp> {
        let Some(Token::Op(op)) = self.peek() else { return None };
        let op = match *op {
            "=" => CompareOp::Equal,
            "!=" => CompareOp::NotEqual,
            "<" => CompareOp::Less,
            "<=" => CompareOp::LessEqual,
            ">" => CompareOp::Greater,
            ">=" => CompareOp::GreaterEqual,
            _ => return None,
        };
        self.next();
        Some(op)
    }

    fn comparison(&mut self) -> Result<Expr, QueryError> {
        let mut left = self.sum()?;
        loop {
            let negated = self.is_op("!~");
            if negated || self.is_op("=~") {
                self.next();
                self.operator()?;
                left = self.regex(left, negated)?;
            } else if let Some(op) = self.compare_op() {
                self.operator()?;
                let right = self.sum()?;
                left = self.compared(op, left, right)?;
            } else {
                return Ok(left);
            }
        }
    }

    fn regex(&mut self, left: Expr, negated: bool) -> Result<Expr, QueryError> {
        let pattern = match self.sum()? {
            Expr::Literal(Value::Str(pattern)) => pattern,
            _ => return self.fail("the right side of =~ and !~ must be a regular expression in quotes"),
        };
        self.must_be(Type::Str, &left, "only strings match a regular expression")?;
        let pattern = match Regex::new(&pattern, Dialect::Attribute, self.budget) {
            Ok(regex) => regex,
            Err(PatternError::Limit(limit)) => return Err(limit.into()),
            Err(error) => return self.fail(error.to_string()),
        };
        Ok(Expr::Regex { left: Nested::new(left)?, pattern, negated })
    }

    fn compared(&self, op: CompareOp, left: Expr, right: Expr) -> Result<Expr, QueryError> {
        let is_nil = |expr: &Expr| matches!(expr, Expr::Literal(Value::Nil));
        if is_nil(&left) || is_nil(&right) {
            let negated = match op {
                CompareOp::Equal => true,
                CompareOp::NotEqual => false,
                _ => return self.fail("nil compares by = and != only"),
            };
            return match if is_nil(&left) { right } else { left } {
                Expr::Field(field) if negated && field.intrinsic().is_some() => {
                    self.fail(format!("{} is never nil", field.text))
                }
                Expr::Field(field) => Ok(Expr::Exists { field, negated }),
                _ => self.fail("only a field compares with nil"),
            };
        }
        let (of_left, of_right) = (type_of(&left), type_of(&right));
        if !of_left.fits(of_right) {
            return self.fail(format!("{} and {} cannot be compared", name_of(&left), name_of(&right)));
        }
        let ordered = !matches!(op, CompareOp::Equal | CompareOp::NotEqual);
        if ordered && [of_left, of_right].iter().any(|of| matches!(of, Type::Bool | Type::Status | Type::Kind)) {
            return self.fail("booleans, status and kind compare by = and != only");
        }
        let computed = is_computed(&left) || is_computed(&right);
        Ok(Expr::Compare { op, left: Nested::new(left)?, right: Nested::new(right)?, computed })
    }

    fn sum(&mut self) -> Result<Expr, QueryError> {
        let mut left = self.product()?;
        loop {
            let op = match self.peek() {
                Some(Token::Op("+")) => MathOp::Add,
                Some(Token::Op("-")) => MathOp::Sub,
                _ => return Ok(left),
            };
            self.next();
            let right = self.product()?;
            left = self.computed(op, left, right)?;
        }
    }

    fn product(&mut self) -> Result<Expr, QueryError> {
        let mut left = self.power()?;
        loop {
            let op = match self.peek() {
                Some(Token::Op("*")) => MathOp::Mul,
                Some(Token::Op("/")) => MathOp::Div,
                Some(Token::Op("%")) => MathOp::Mod,
                _ => return Ok(left),
            };
            self.next();
            let right = self.power()?;
            left = self.computed(op, left, right)?;
        }
    }

    fn power(&mut self) -> Result<Expr, QueryError> {
        let base = self.prefixed()?;
        if !self.eat("^") {
            return Ok(base);
        }
        let exponent = self.deeper(Self::power)?;
        self.computed(MathOp::Pow, base, exponent)
    }

    /// An operation on numbers; one on literals is done here.
    fn computed(&mut self, op: MathOp, left: Expr, right: Expr) -> Result<Expr, QueryError> {
        self.operator()?;
        self.must_be(Type::Number, &left, "arithmetic needs numbers")?;
        self.must_be(Type::Number, &right, "arithmetic needs numbers")?;
        match (&left, &right) {
            (Expr::Literal(a), Expr::Literal(b)) => match math(op, a, b) {
                Value::Nil => self.fail("this has no result: division by zero, or too large"),
                value => Ok(Expr::Literal(value)),
            },
            _ => Ok(Expr::Math(op, Nested::new(left)?, Nested::new(right)?)),
        }
    }

    fn prefixed(&mut self) -> Result<Expr, QueryError> {
        if self.eat("!") {
            let inner = self.deeper(Self::prefixed)?;
            self.must_be(Type::Bool, &inner, "! needs what is true or false")?;
            return Ok(Expr::Not(Nested::new(inner)?));
        }
        if self.eat("-") {
            let inner = self.deeper(Self::prefixed)?;
            self.must_be(Type::Number, &inner, "- needs a number")?;
            return Ok(match inner {
                Expr::Literal(Value::Int(int)) => Expr::Literal(Value::Int(int.wrapping_neg())),
                Expr::Literal(Value::Float(float)) => Expr::Literal(Value::Float(-float)),
                Expr::Literal(Value::Duration(ns)) => Expr::Literal(Value::Duration(ns.wrapping_neg())),
                inner => Expr::Negate(Nested::new(inner)?),
            });
        }
        self.primary()
    }

    fn primary(&mut self) -> Result<Expr, QueryError> {
        if self.eat("(") {
            return self.deeper(|parser| {
                let inner = parser.expression()?;
                parser.expect(")")?;
                Ok(inner)
            });
        }
        let expr = match self.peek() {
            Some(Token::Str(text)) => Some(Expr::Literal(Value::Str(Cow::Owned(text.clone())))),
            Some(Token::Int(int)) => Some(Expr::Literal(Value::Int(*int))),
            Some(Token::Float(float)) => Some(Expr::Literal(Value::Float(*float))),
            Some(Token::Duration(ns)) => Some(Expr::Literal(Value::Duration(*ns))),
            Some(Token::Field(field)) => Some(Expr::Field(field.clone())),
            Some(Token::Word(word)) => keyword(word).map(Expr::Literal).or_else(|| intrinsic(word).map(Expr::Field)),
            Some(Token::Op(_)) | None => None,
        };
        match (expr, self.peek()) {
            (Some(expr), _) => {
                self.next();
                Ok(expr)
            }
            (None, Some(Token::Word(word))) => {
                self.fail(format!("unknown name {word:?}: attributes need a scope or a dot, as in .{word}"))
            }
            (None, Some(_)) => self.fail("expected a value, an attribute or an intrinsic"),
            (None, None) => self.fail("unexpected end of the query"),
        }
    }

    fn must_be(&self, wanted: Type, expr: &Expr, reason: &str) -> Result<(), QueryError> {
        let nil = matches!(expr, Expr::Literal(Value::Nil));
        if !nil && type_of(expr).fits(wanted) {
            Ok(())
        } else {
            self.fail(format!("{reason}, {} is not", name_of(expr)))
        }
    }
}

fn keyword(word: &str) -> Option<Value<'static>> {
    Some(match word {
        "true" => Value::Bool(true),
        "false" => Value::Bool(false),
        "nil" => Value::Nil,
        "error" => Value::Status(StatusCode::Error),
        "ok" => Value::Status(StatusCode::Ok),
        "unset" => Value::Status(StatusCode::Unset),
        "unspecified" => Value::Kind(SpanKind::Unspecified),
        "internal" => Value::Kind(SpanKind::Internal),
        "server" => Value::Kind(SpanKind::Server),
        "client" => Value::Kind(SpanKind::Client),
        "producer" => Value::Kind(SpanKind::Producer),
        "consumer" => Value::Kind(SpanKind::Consumer),
        _ => return None,
    })
}

/// Whether a field may hold numbers.
pub(super) fn is_number(field: &Field) -> bool {
    type_of_field(field).fits(Type::Number)
}

fn type_of_field(field: &Field) -> Type {
    match field.intrinsic() {
        None => Type::Any,
        Some(Intrinsic::Status) => Type::Status,
        Some(Intrinsic::Kind) => Type::Kind,
        Some(
            Intrinsic::Duration
            | Intrinsic::TraceDuration
            | Intrinsic::ChildCount
            | Intrinsic::NestedSetLeft
            | Intrinsic::NestedSetRight
            | Intrinsic::NestedSetParent
            | Intrinsic::EventTimeSinceStart,
        ) => Type::Number,
        Some(
            Intrinsic::Name
            | Intrinsic::StatusMessage
            | Intrinsic::SpanId
            | Intrinsic::ParentId
            | Intrinsic::TraceId
            | Intrinsic::RootName
            | Intrinsic::RootService
            | Intrinsic::EventName
            | Intrinsic::LinkTraceId
            | Intrinsic::LinkSpanId
            | Intrinsic::ScopeName
            | Intrinsic::ScopeVersion,
        ) => Type::Str,
    }
}

fn type_of(expr: &Expr) -> Type {
    match expr {
        Expr::Field(field) => type_of_field(field),
        Expr::Literal(value) => match value {
            Value::Int(_) | Value::Float(_) | Value::Duration(_) => Type::Number,
            Value::Str(_) => Type::Str,
            Value::Bool(_) => Type::Bool,
            Value::Status(_) => Type::Status,
            Value::Kind(_) => Type::Kind,
            Value::Nil | Value::Unknown | Value::List(_) | Value::Many(_) => Type::Any,
        },
        Expr::Negate(_) | Expr::Math(..) => Type::Number,
        Expr::Not(_)
        | Expr::And(..)
        | Expr::Or(..)
        | Expr::Compare { .. }
        | Expr::Regex { .. }
        | Expr::Exists { .. }
        | Expr::Text { .. } => Type::Bool,
    }
}

fn name_of(expr: &Expr) -> String {
    match expr {
        Expr::Field(field) => field.text.clone(),
        Expr::Literal(Value::Nil) => "nil".to_owned(),
        Expr::Literal(Value::Str(text)) => format!("{text:?}"),
        Expr::Literal(value) => value.text().unwrap_or_default().into_owned(),
        _ => match type_of(expr) {
            Type::Number => "a number".to_owned(),
            _ => "a condition".to_owned(),
        },
    }
}

fn is_computed(expr: &Expr) -> bool {
    matches!(expr, Expr::Negate(_) | Expr::Math(..))
}
