//! Label matchers, as PromQL and LogQL selectors write them.

use regex::{Regex, RegexBuilder};
use regex_syntax::ParserBuilder;
use regex_syntax::hir::literal::Extractor;

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
    /// What every value that the pattern matches begins with.
    prefix: String,
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
        let (regex, (literals, prefix)) = match op {
            MatchOp::Equal | MatchOp::NotEqual => (None, (None, String::new())),
            MatchOp::Regex | MatchOp::NotRegex => (Some(anchored(&value)?), literals(&value)),
        };
        Ok(Self { name: name.into(), op, value, regex, literals, prefix })
    }

    /// `name="value"`.
    pub fn equal(name: impl Into<String>, value: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            op: MatchOp::Equal,
            value: value.into(),
            regex: None,
            literals: None,
            prefix: String::new(),
        }
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
            MatchOp::Regex => self.listed(),
            MatchOp::NotEqual | MatchOp::NotRegex => None,
        }
    }

    /// The only values that the pattern of `=~` or `!~` matches, when they can be listed.
    pub fn listed(&self) -> Option<Vec<&str>> {
        Some(self.literals.as_ref()?.iter().map(String::as_str).collect())
    }

    /// What every value that can satisfy `=~` begins with; empty for the other operators.
    pub fn prefix(&self) -> &str {
        if self.op == MatchOp::Regex { &self.prefix } else { "" }
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

/// All that a pattern matches, when it can be listed, and what each of it begins with.
fn literals(pattern: &str) -> (Option<Vec<String>>, String) {
    let none = (None, String::new());
    let Ok(hir) = ParserBuilder::new().dot_matches_new_line(true).build().parse(pattern) else { return none };
    if !hir.properties().look_set().is_empty() {
        return none;
    }
    let found = Extractor::new().extract(&hir);
    let Some(literals) = found.literals() else { return none };
    let text = |bytes: &[u8]| std::str::from_utf8(bytes).ok().map(str::to_owned);
    let listed = if found.is_exact() { literals.iter().map(|own| text(own.as_bytes())).collect() } else { None };
    let prefix = found.longest_common_prefix().unwrap_or_default();
    let whole = prefix.utf8_chunks().next().map_or("", |chunk| chunk.valid());
    (listed, whole.to_owned())
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
