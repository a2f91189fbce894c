//! Duration arithmetic, which the grammar crate does not know: `[step()*2]`, `offset -(1m/2)`.
//! Invariant: recursion is bounded, because `lex` has counted brackets and operators before.

use super::ast::Pos;
use super::lex::{duration_ms, number_value};
use super::token::{Bracket, SyntaxError, Times, Token, Word, error};

/// Reads duration arithmetic. All values are seconds until the end.
pub(super) struct Durations<'t, 'a> {
    pub(super) tokens: &'t [Token<'a>],
    /// The next token's index.
    pub(super) at: usize,
    pub(super) times: Times,
    /// Where the query ends, for errors.
    pub(super) end: usize,
}

impl Durations<'_, '_> {
    fn text(&self) -> &str {
        self.tokens.get(self.at).map_or("", |token| token.text)
    }

    fn pos(&self) -> Pos {
        self.tokens.get(self.at).map_or(Pos(self.end), |token| token.pos)
    }

    fn expect(&mut self, text: &str) -> Result<(), SyntaxError> {
        if self.text() != text {
            return error(
                self.pos(),
                format!("unexpected {:?} in duration expression, expected {text:?}", self.text()),
            );
        }
        self.at += 1;
        Ok(())
    }

    /// Whether what comes next can begin a duration.
    pub(super) fn starts(&self) -> bool {
        match self.tokens.get(self.at) {
            Some(token) => match token.word {
                Word::Number | Word::Duration => true,
                Word::Sign => matches!(token.text, "+" | "-" | "("),
                Word::Name => {
                    let word = token.text.to_ascii_lowercase();
                    matches!(word.as_str(), "step" | "range" | "min_of" | "max_of")
                        && self.tokens.get(self.at + 1).is_some_and(|token| token.text == "(")
                }
                Word::String => false,
            },
            None => false,
        }
    }

    /// What stands between `[` and `]`, up to and with the `]`.
    pub(super) fn bracket(&mut self) -> Result<Bracket, SyntaxError> {
        let pos = self.pos();
        if matches!(self.text(), "]" | ":") {
            return error(pos, "missing unit character in duration");
        }
        let seconds = self.sum()?;
        let range = self.positive(seconds, pos)?;
        let divided = self.at;
        let step = if self.text() == ":" {
            self.at += 1;
            if self.text() == "]" {
                Some(0)
            } else {
                let pos = self.pos();
                let seconds = self.sum()?;
                Some(self.positive(seconds, pos)?)
            }
        } else {
            None
        };
        self.expect("]")?;
        Ok(Bracket { range, step, after: self.at, divided })
    }

    fn positive(&self, seconds: f64, pos: Pos) -> Result<i64, SyntaxError> {
        let ms = milliseconds(seconds, pos)?;
        if ms <= 0 { error(pos, "duration must be greater than 0") } else { Ok(ms) }
    }

    /// The operand of `offset`, in milliseconds; it binds tighter than any operator but its sign.
    pub(super) fn offset(&mut self) -> Result<i64, SyntaxError> {
        let pos = self.pos();
        let seconds = match self.text() {
            "-" => {
                self.at += 1;
                -self.atom()?
            }
            "+" => {
                self.at += 1;
                self.atom()?
            }
            _ => self.atom()?,
        };
        milliseconds(seconds, pos)
    }

    /// The operand of `@`, in milliseconds.
    pub(super) fn timestamp(&mut self) -> Result<i64, SyntaxError> {
        let pos = self.pos();
        let sign = match self.text() {
            "-" => -1.0,
            _ => 1.0,
        };
        if matches!(self.text(), "-" | "+") {
            self.at += 1;
        }
        let word = self.text().to_ascii_lowercase();
        let seconds = match word.as_str() {
            "inf" => f64::INFINITY,
            "nan" => f64::NAN,
            _ => self.literal()?,
        };
        let ms = (sign * seconds * 1000.0).round();
        if ms.is_nan() || ms.abs() >= 9.2e18 {
            return error(pos, format!("timestamp out of bounds for @ modifier: {}", sign * seconds));
        }
        self.at += usize::from(matches!(word.as_str(), "inf" | "nan"));
        Ok(ms as i64)
    }

    fn literal(&mut self) -> Result<f64, SyntaxError> {
        let pos = self.pos();
        let Some(token) = self.tokens.get(self.at) else {
            return error(pos, "unexpected end of input, expected number or duration");
        };
        let value = match token.word {
            Word::Duration => duration_ms(token.text).map(|ms| ms as f64 / 1000.0),
            Word::Number => number_value(token.text),
            Word::Name | Word::String | Word::Sign => None,
        };
        match value {
            Some(value) => {
                self.at += 1;
                Ok(value)
            }
            None => error(pos, format!("unexpected {:?}, expected number or duration", token.text)),
        }
    }

    fn sum(&mut self) -> Result<f64, SyntaxError> {
        let mut left = self.product()?;
        loop {
            match self.text() {
                "+" => {
                    self.at += 1;
                    left += self.product()?;
                }
                "-" => {
                    self.at += 1;
                    left -= self.product()?;
                }
                _ => return Ok(left),
            }
        }
    }

    fn product(&mut self) -> Result<f64, SyntaxError> {
        let mut left = self.signed()?;
        loop {
            let operator = self.text().to_owned();
            if !matches!(operator.as_str(), "*" | "/" | "%") {
                return Ok(left);
            }
            let pos = self.pos();
            self.at += 1;
            let right = self.signed()?;
            left = match operator.as_str() {
                "*" => left * right,
                _ if right == 0.0 => return error(pos, "division by zero in duration expression"),
                "/" => left / right,
                _ => left % right,
            };
        }
    }

    fn sign(&mut self) -> f64 {
        let mut sign = 1.0;
        while matches!(self.text(), "+" | "-") {
            if self.text() == "-" {
                sign = -sign;
            }
            self.at += 1;
        }
        sign
    }

    /// Powers bind to the right, and signs before an exponent to its power; without recursion, since a
    /// chain may be long and the stack short.
    fn signed(&mut self) -> Result<f64, SyntaxError> {
        let mut chain = Vec::new();
        loop {
            let sign = self.sign();
            chain.push((sign, self.atom()?));
            if self.text() != "^" {
                break;
            }
            self.at += 1;
        }
        let last = chain.pop().map_or(f64::NAN, |(sign, value)| sign * value);
        Ok(chain.into_iter().rev().fold(last, |exponent, (sign, base)| sign * base.powf(exponent)))
    }

    fn atom(&mut self) -> Result<f64, SyntaxError> {
        let word = self.text().to_ascii_lowercase();
        match word.as_str() {
            "(" => {
                self.at += 1;
                let value = self.sum()?;
                self.expect(")")?;
                Ok(value)
            }
            "step" | "range" => {
                self.at += 1;
                self.expect("(")?;
                self.expect(")")?;
                let ms = if word == "step" { self.times.step } else { self.times.end.saturating_sub(self.times.start) };
                Ok(ms as f64 / 1000.0)
            }
            "min_of" | "max_of" => {
                self.at += 1;
                self.expect("(")?;
                let left = self.sum()?;
                self.expect(",")?;
                let right = self.sum()?;
                self.expect(")")?;
                Ok(if word == "min_of" { left.min(right) } else { left.max(right) })
            }
            _ => self.literal(),
        }
    }
}

fn milliseconds(seconds: f64, pos: Pos) -> Result<i64, SyntaxError> {
    let ms = (seconds * 1000.0).round();
    if ms.abs() < 9e15 { Ok(ms as i64) } else { error(pos, "duration out of range") }
}
