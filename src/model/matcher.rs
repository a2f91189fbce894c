//! Label matchers, as PromQL and LogQL selectors write them.

use std::sync::Arc;

use super::labels::Labels;
use crate::base::limits::QueryBudget;
use crate::base::pattern::{Dialect, Pattern, PatternError, Regex, plain_alternatives};

/// How a matcher compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MatchOp {
    /// `=`
    Equal,
    /// `!=`
    NotEqual,
    /// `=~`, anchored on both sides.
    Regex,
    /// `!~`, anchored on both sides.
    NotRegex,
}

/// One condition on the value of one label; a missing label has the empty value.
#[derive(Clone, Debug)]
pub struct Matcher {
    /// The label's name.
    pub name: String,
    /// How values are compared.
    pub op: MatchOp,
    /// The value or the pattern, as written.
    pub value: String,
    test: Test,
}

/// What a value must be, but for a `not` in the operator.
#[derive(Clone, Debug)]
enum Test {
    /// The value as written.
    Value,
    /// Anything.
    Anything,
    /// Anything but the empty value.
    Something,
    /// One of these, in order; a lookup then needs no scan of values.
    Listed(Arc<[String]>),
    /// What matches, all of which begins with a text.
    Regex { regex: Regex, prefix: Arc<str> },
}

/// Memory that one listed value takes beside its text, in bytes.
const LISTED_BYTES: usize = 64;

impl Test {
    fn of_pattern(text: &str, budget: &QueryBudget) -> Result<Self, PatternError> {
        match text {
            ".*" => return Ok(Self::Anything),
            ".+" => return Ok(Self::Something),
            _ => {}
        }
        // Before it is parsed: a list may be long, and costs nothing then.
        budget.check()?;
        budget.charge(2 * text.len() + LISTED_BYTES * (1 + text.bytes().filter(|byte| *byte == b'|').count()))?;
        if let Some(listed) = plain_alternatives(text) {
            return Ok(Self::listed(listed));
        }
        let pattern = Pattern::parse(text, Dialect::Matcher, budget)?;
        match pattern.listed() {
            Some(listed) => Ok(Self::listed(listed)),
            None => Ok(Self::Regex { regex: pattern.compile(budget)?, prefix: pattern.prefix().into() }),
        }
    }

    fn listed(mut values: Vec<String>) -> Self {
        values.sort_unstable();
        values.dedup();
        Self::Listed(values.into())
    }
}

impl PartialEq for Matcher {
    fn eq(&self, other: &Self) -> bool {
        (&self.name, self.op, &self.value) == (&other.name, other.op, &other.value)
    }
}

impl Matcher {
    /// A matcher on `name` of a query, whose budget a regular expression is charged to.
    ///
    /// # Errors
    /// [`PatternError`] when `value` should be a regular expression and is not one, or is too large.
    pub fn within(
        name: impl Into<String>,
        op: MatchOp,
        value: impl Into<String>,
        budget: &QueryBudget,
    ) -> Result<Self, PatternError> {
        let value = value.into();
        let test = match op {
            MatchOp::Equal | MatchOp::NotEqual => Test::Value,
            MatchOp::Regex | MatchOp::NotRegex => Test::of_pattern(&value, budget)?,
        };
        Ok(Self { name: name.into(), op, value, test })
    }

    /// A matcher that belongs to no query, such as one of a configuration.
    ///
    /// # Errors
    /// As [`within`](Self::within).
    pub fn new(name: impl Into<String>, op: MatchOp, value: impl Into<String>) -> Result<Self, PatternError> {
        Self::within(name, op, value, &QueryBudget::unlimited())
    }

    /// `name="value"`.
    pub fn equal(name: impl Into<String>, value: impl Into<String>) -> Self {
        Self { name: name.into(), op: MatchOp::Equal, value: value.into(), test: Test::Value }
    }

    /// Whether a label with this value satisfies the matcher.
    pub fn matches(&self, value: &str) -> bool {
        let hit = match &self.test {
            Test::Value => self.value == value,
            Test::Anything => true,
            Test::Something => !value.is_empty(),
            Test::Listed(listed) => listed.binary_search_by(|own| own.as_str().cmp(value)).is_ok(),
            Test::Regex { regex, .. } => regex.is_match(value),
        };
        hit != matches!(self.op, MatchOp::NotEqual | MatchOp::NotRegex)
    }

    /// Whether a set satisfies the matcher.
    pub fn matches_labels(&self, labels: &Labels) -> bool {
        self.matches(labels.value(&self.name))
    }

    /// Whether sets without the label satisfy the matcher.
    pub fn matches_empty(&self) -> bool {
        self.matches("")
    }

    /// The only values that can satisfy the matcher, when they can be listed: of `=`, and of `=~`
    /// whose pattern is literal alternatives.
    pub fn values(&self) -> Option<Vec<&str>> {
        match self.op {
            MatchOp::Equal => Some(vec![&self.value]),
            MatchOp::Regex => self.listed(),
            MatchOp::NotEqual | MatchOp::NotRegex => None,
        }
    }

    /// The only values that the pattern of `=~` or `!~` matches, when they can be listed.
    pub fn listed(&self) -> Option<Vec<&str>> {
        match &self.test {
            Test::Listed(listed) => Some(listed.iter().map(String::as_str).collect()),
            Test::Value | Test::Anything | Test::Something | Test::Regex { .. } => None,
        }
    }

    /// What every value that can satisfy `=~` begins with; empty for the other operators.
    pub fn prefix(&self) -> &str {
        match &self.test {
            Test::Regex { prefix, .. } if self.op == MatchOp::Regex => prefix,
            // In order: what the first and the last begin with, all do.
            Test::Listed(listed) if self.op == MatchOp::Regex => match (listed.first(), listed.last()) {
                (Some(first), Some(last)) => common(first, last),
                _ => "",
            },
            _ => "",
        }
    }
}

/// `a="b"`, as selectors are written.
impl std::fmt::Display for Matcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let op = match self.op {
            MatchOp::Equal => "=",
            MatchOp::NotEqual => "!=",
            MatchOp::Regex => "=~",
            MatchOp::NotRegex => "!~",
        };
        write!(f, "{}{op}{:?}", self.name, self.value)
    }
}

/// What two texts both begin with.
fn common<'a>(a: &'a str, b: &str) -> &'a str {
    let same = a.chars().zip(b.chars()).take_while(|(a, b)| a == b).map(|(letter, _)| letter.len_utf8()).sum();
    a.get(..same).unwrap_or_default()
}

/// Whether a set satisfies all matchers.
pub fn all_match(matchers: &[Matcher], labels: &Labels) -> bool {
    matchers.iter().all(|matcher| matcher.matches_labels(labels))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn regex(pattern: &str) -> Matcher {
        Matcher::new("a", MatchOp::Regex, pattern).unwrap()
    }

    #[test]
    fn patterns_are_anchored_on_both_sides() {
        assert!(!regex("b").matches("abc"));
        assert!(regex("a.c|x").matches("a\nc"));
        assert!(!regex("a|b.").matches("ab"));
    }

    #[test]
    fn alternatives_are_listed_and_match_like_the_pattern() {
        assert_eq!(regex("a|b").values(), Some(vec!["a", "b"]));
        assert!(regex("a|").matches_empty());
        assert_eq!(regex("a|b+").values(), None);
        assert_eq!(regex(r"10\.0\.(1|2):90").values(), Some(vec!["10.0.1:90", "10.0.2:90"]));
        assert_eq!(regex("a$|b").values(), None);
        assert_eq!(regex("").values(), Some(vec![""]));
        for (pattern, prefix) in
            [(r"10\.0\.7\..+", "10.0.7."), ("ab?c", "a"), (".*", ""), ("(?i)ab", ""), ("ü(x+|y)", "ü")]
        {
            assert_eq!(regex(pattern).prefix(), prefix, "{pattern}");
        }
        assert_eq!(Matcher::new("a", MatchOp::NotRegex, "ab.*").unwrap().prefix(), "");
    }

    #[test]
    fn a_missing_label_is_empty() {
        let labels = Labels::default();
        assert!(Matcher::new("x", MatchOp::NotEqual, "1").unwrap().matches_labels(&labels));
        assert!(Matcher::equal("x", "").matches_labels(&labels));
    }

    #[test]
    fn a_broken_pattern_is_an_error_that_shows_it() {
        let error = Matcher::new("a", MatchOp::Regex, "a(").unwrap_err();
        assert!(error.to_string().contains("a("));
    }
}
