//! Label matchers, as PromQL and LogQL selectors write them.

use regex::{Regex, RegexBuilder};

use super::labels::Labels;

/// Largest compiled size of one regular expression, in bytes.
const REGEX_BYTES_MAX: usize = 4 << 20;

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
    regex: Option<Regex>,
    /// When the pattern is nothing but alternatives, they; a lookup then needs no scan of values.
    literals: Option<Vec<String>>,
}

impl PartialEq for Matcher {
    fn eq(&self, other: &Self) -> bool {
        (&self.name, self.op, &self.value) == (&other.name, other.op, &other.value)
    }
}

/// A pattern that is no regular expression, or one too large.
#[derive(Debug, Clone, thiserror::Error)]
#[error("invalid regular expression {pattern:?}: {reason}")]
pub struct MatcherError {
    pattern: String,
    reason: String,
}

impl Matcher {
    /// A matcher on `name`.
    ///
    /// # Errors
    /// [`MatcherError`] when `value` should be a regular expression and is not one.
    pub fn new(name: impl Into<String>, op: MatchOp, value: impl Into<String>) -> Result<Self, MatcherError> {
        let value = value.into();
        let (regex, literals) = match op {
            MatchOp::Equal | MatchOp::NotEqual => (None, None),
            MatchOp::Regex | MatchOp::NotRegex => (Some(anchored(&value)?), alternatives(&value)),
        };
        Ok(Self { name: name.into(), op, value, regex, literals })
    }

    /// `name="value"`.
    pub fn equal(name: impl Into<String>, value: impl Into<String>) -> Self {
        Self { name: name.into(), op: MatchOp::Equal, value: value.into(), regex: None, literals: None }
    }

    /// Whether a label with this value satisfies the matcher.
    pub fn matches(&self, value: &str) -> bool {
        let hit = match (&self.literals, &self.regex) {
            (Some(literals), _) => literals.iter().any(|literal| literal == value),
            (None, Some(regex)) => regex.is_match(value),
            (None, None) => self.value == value,
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
            MatchOp::Regex => Some(self.literals.as_ref()?.iter().map(String::as_str).collect()),
            MatchOp::NotEqual | MatchOp::NotRegex => None,
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

fn anchored(pattern: &str) -> Result<Regex, MatcherError> {
    // `.` matches a line feed, as in Prometheus since 3.0 and in Loki's label matchers.
    RegexBuilder::new(&format!("^(?s:{pattern})$"))
        .size_limit(REGEX_BYTES_MAX)
        .build()
        .map_err(|error| MatcherError { pattern: pattern.chars().take(200).collect(), reason: error.to_string() })
}

/// The alternatives of a pattern without any operator but `|`.
fn alternatives(pattern: &str) -> Option<Vec<String>> {
    let plain =
        |c: char| c.is_alphanumeric() || matches!(c, '|' | '_' | '-' | ':' | '/' | ' ' | ',' | '=' | '@' | '%' | '"');
    pattern.chars().all(plain).then(|| pattern.split('|').map(str::to_owned).collect())
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
