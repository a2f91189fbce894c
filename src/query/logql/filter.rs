//! Line filters: `|=`, `!=`, `|~`, `!~`, `|>`, `!>`. A block of lines is searched as one text, and
//! hits are mapped to rows; literals that a pattern requires are searched first.
//! Invariant: [`LineFilter::rows`] keeps exactly the rows for which [`LineFilter::keeps`] is true.

use std::fmt;

use aho_corasick::{AhoCorasick, MatchKind};
use memchr::memmem::Finder;

use crate::base::limits::QueryBudget;
use crate::base::pattern::{Dialect, Pattern, PatternError, Regex};
use crate::model::log::TextColumn;

use super::ArgumentError;
use super::ast::quote;
use super::ip::IpPattern;
use crate::query::pace::Pace;

/// Most alternatives of one filter.
const ALTERNATIVES_MAX: usize = 1_000;

/// How a filter compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FilterKind {
    /// The line contains the text.
    Contains,
    /// The line matches the regular expression somewhere.
    Regex,
    /// The line as a whole matches the pattern.
    Pattern,
}

/// One alternative, as written.
#[derive(Clone, Debug, PartialEq)]
pub enum FilterValue {
    /// A text, an expression or a pattern.
    Text(String),
    /// `ip("...")`.
    Ip(String),
}

#[derive(Clone, Debug)]
enum Test {
    /// Every line.
    Any,
    Literal(Finder<'static>),
    Literals(AhoCorasick),
    Regex {
        regex: Regex,
        required: Option<Finder<'static>>,
    },
    Pattern {
        pattern: LinePattern,
        required: Option<Finder<'static>>,
    },
    Ip(IpPattern),
    /// Any of several.
    Either(Vec<Test>),
}

/// One line filter with its alternatives.
#[derive(Clone, Debug)]
pub struct LineFilter {
    kind: FilterKind,
    negated: bool,
    values: Vec<FilterValue>,
    test: Test,
    hints: Vec<String>,
}

impl LineFilter {
    /// A filter that keeps lines with any of `values`, or, negated, lines with none.
    ///
    /// # Errors
    /// [`ArgumentError`] when a value is no regular expression, pattern or address.
    pub fn new(
        kind: FilterKind,
        negated: bool,
        values: Vec<FilterValue>,
        budget: &QueryBudget,
    ) -> Result<Self, ArgumentError> {
        if values.len() > ALTERNATIVES_MAX {
            return Err(ArgumentError::Text(format!("a line filter has more than {ALTERNATIVES_MAX} alternatives")));
        }
        let (test, required) = compile(kind, &values, budget)?;
        let hints = if values.len() == 1 && !negated { required } else { Vec::new() };
        Ok(Self { kind, negated, values, test, hints })
    }

    /// Whether the filter keeps this line.
    pub fn keeps(&self, line: &str) -> bool {
        self.test.matches(line) != self.negated
    }

    /// The same, counted as work; nothing is kept once work was stopped.
    pub(super) fn keeps_paced(&self, line: &str, pace: &Pace<'_>) -> bool {
        pace.spend(self.test.cost(line)) && self.keeps(line)
    }

    /// Texts that every kept line contains.
    pub fn hints(&self) -> &[String] {
        &self.hints
    }

    /// The rows of a block that the filter keeps, ascending. They are not all once `pace` has stopped.
    pub(super) fn rows(&self, lines: &TextColumn, pace: &Pace<'_>) -> Vec<u32> {
        let matches = |line: &str| pace.spend(self.test.cost(line)) && self.test.matches(line);
        let hits = match &self.test {
            Test::Any => Hits::All,
            Test::Literal(finder) => {
                Hits::Exact(search(lines, |text| finder.find(text).map(|at| (at, finder.needle().len()))))
            }
            Test::Literals(automaton) => {
                Hits::Exact(search(lines, |text| automaton.find(text).map(|found| (found.start(), found.len()))))
            }
            Test::Regex { required: Some(finder), .. } | Test::Pattern { required: Some(finder), .. } => {
                Hits::Candidates(search(lines, |text| finder.find(text).map(|at| (at, finder.needle().len()))))
            }
            Test::Regex { .. } | Test::Pattern { .. } | Test::Ip(_) | Test::Either(_) => Hits::Unknown,
        };
        let count = u32::try_from(lines.len()).unwrap_or(u32::MAX);
        let hits: Vec<u32> = match hits {
            Hits::All => (0..count).collect(),
            Hits::Exact(rows) => rows,
            Hits::Candidates(mut rows) => {
                rows.retain(|row| matches(lines.get(*row as usize)));
                rows
            }
            Hits::Unknown => (0..count).filter(|row| matches(lines.get(*row as usize))).collect(),
        };
        if self.negated { complement(&hits, count) } else { hits }
    }
}

enum Hits {
    All,
    Exact(Vec<u32>),
    Candidates(Vec<u32>),
    Unknown,
}

/// Rows with a hit of `find`, which gives start and length of the first hit in a text. Hits that
/// reach over the end of a row are none.
fn search(lines: &TextColumn, find: impl Fn(&[u8]) -> Option<(usize, usize)>) -> Vec<u32> {
    let (text, ends) = (lines.text().as_bytes(), lines.ends());
    let mut rows = Vec::new();
    let (mut at, mut row) = (0, 0);
    while let Some((offset, length)) = text.get(at..).and_then(&find) {
        let start = at + offset;
        row += ends.get(row..).unwrap_or_default().partition_point(|end| *end as usize <= start);
        let Some(end) = ends.get(row).map(|end| *end as usize) else { break };
        if start + length <= end {
            rows.push(u32::try_from(row).unwrap_or(u32::MAX));
            at = end;
            row += 1;
        } else {
            at = start + 1;
        }
    }
    rows
}

fn complement(rows: &[u32], count: u32) -> Vec<u32> {
    let mut hits = rows.iter().copied().peekable();
    let mut others = Vec::with_capacity((count as usize).saturating_sub(rows.len()));
    for row in 0..count {
        if hits.next_if_eq(&row).is_none() {
            others.push(row);
        }
    }
    others
}

impl Test {
    /// What a look at a line costs, as bytes to look at.
    fn cost(&self, line: &str) -> usize {
        let each = if let Self::Either(tests) = self { tests.len() } else { 1 };
        (32 + line.len()).saturating_mul(each)
    }

    fn matches(&self, line: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Literal(finder) => finder.find(line.as_bytes()).is_some(),
            Self::Literals(automaton) => automaton.is_match(line),
            Self::Regex { regex, .. } => regex.is_match(line),
            Self::Pattern { pattern, .. } => pattern.matches(line),
            Self::Ip(ip) => ip.found_in(line),
            Self::Either(tests) => tests.iter().any(|test| test.matches(line)),
        }
    }
}

fn finder(text: &str) -> Finder<'static> {
    Finder::new(text.as_bytes()).into_owned()
}

/// Memory that an automaton of several texts takes per byte of them, more or less.
const AUTOMATON_BYTES: usize = 64;

/// What decides on a line; of the last value the texts that every line holds which it matches.
fn compile(
    kind: FilterKind,
    values: &[FilterValue],
    budget: &QueryBudget,
) -> Result<(Test, Vec<String>), ArgumentError> {
    let texts: Vec<&str> = values
        .iter()
        .filter_map(|value| if let FilterValue::Text(text) = value { Some(text.as_str()) } else { None })
        .collect();
    if kind == FilterKind::Contains && texts.len() == values.len() && texts.len() > 1 {
        if texts.iter().any(|text| text.is_empty()) {
            return Ok((Test::Any, Vec::new()));
        }
        let bytes: usize = texts.iter().map(|text| text.len()).sum();
        budget.charge(bytes.saturating_mul(AUTOMATON_BYTES)).map_err(PatternError::from)?;
        // Standard semantics find the hit that ends first, so none is hidden by a longer one
        // that reaches into the next row.
        let automaton = AhoCorasick::builder().match_kind(MatchKind::Standard).build(texts);
        return match automaton {
            Ok(automaton) => Ok((Test::Literals(automaton), Vec::new())),
            Err(error) => Err(ArgumentError::Text(error.to_string())),
        };
    }
    let mut tests = Vec::with_capacity(values.len());
    let mut required = Vec::new();
    for value in values {
        let test;
        (test, required) = compile_one(kind, value, budget)?;
        tests.push(test);
    }
    let test = match tests.pop() {
        Some(test) if tests.is_empty() => test,
        Some(test) => {
            tests.push(test);
            Test::Either(tests)
        }
        None => Test::Any,
    };
    Ok((test, required))
}

fn compile_one(
    kind: FilterKind,
    value: &FilterValue,
    budget: &QueryBudget,
) -> Result<(Test, Vec<String>), ArgumentError> {
    let text = match value {
        FilterValue::Ip(pattern) => {
            return IpPattern::parse(pattern).map(|ip| (Test::Ip(ip), Vec::new())).map_err(ArgumentError::Text);
        }
        FilterValue::Text(text) if text.is_empty() && kind != FilterKind::Pattern => {
            return Ok((Test::Any, Vec::new()));
        }
        FilterValue::Text(text) => text,
    };
    let longest = |texts: &[String]| texts.iter().max_by_key(|text| text.len()).map(|text| finder(text));
    Ok(match kind {
        FilterKind::Contains => (Test::Literal(finder(text)), vec![text.clone()]),
        FilterKind::Regex => {
            let pattern = Pattern::parse(text, Dialect::Line, budget)?;
            let required = pattern.required();
            (Test::Regex { regex: pattern.compile(budget)?, required: longest(&required) }, required)
        }
        FilterKind::Pattern => {
            let pattern = LinePattern::new(text);
            let required: Vec<String> = pattern.literals.iter().filter(|text| !text.is_empty()).cloned().collect();
            (Test::Pattern { required: longest(&required), pattern }, required)
        }
    })
}

/// A pattern of literals with `<_>` between, which stands for at least one character each.
#[derive(Clone, Debug)]
pub struct LinePattern {
    literals: Vec<String>,
    open_start: bool,
    open_end: bool,
}

impl LinePattern {
    /// Parses a pattern; every text is one.
    pub fn new(text: &str) -> Self {
        let mut literals: Vec<String> = text.split("<_>").map(str::to_owned).collect();
        let (open_start, open_end) = (text.starts_with("<_>"), text.ends_with("<_>"));
        if !text.is_empty() {
            literals.retain(|literal| !literal.is_empty());
        }
        Self { literals, open_start, open_end }
    }

    /// Whether the whole line matches.
    pub fn matches(&self, line: &str) -> bool {
        let Some((last, firsts)) = self.literals.split_last() else { return !line.is_empty() };
        let mut rest = line;
        let mut gap = self.open_start;
        for literal in firsts {
            let found = if gap { after_gap(rest, literal) } else { rest.strip_prefix(literal.as_str()) };
            let Some(tail) = found else { return false };
            rest = tail;
            gap = true;
        }
        match (gap, self.open_end) {
            (false, false) => rest == last,
            (false, true) => rest.strip_prefix(last.as_str()).is_some_and(|tail| !tail.is_empty()),
            (true, true) => after_gap(rest, last).is_some_and(|tail| !tail.is_empty()),
            (true, false) => rest.strip_suffix(last.as_str()).is_some_and(|gap| !gap.is_empty()),
        }
    }
}

/// What follows the first `literal` that has at least one character before it.
fn after_gap<'a>(text: &'a str, literal: &str) -> Option<&'a str> {
    let skip = text.chars().next()?.len_utf8();
    text.get(skip..)?.split_once(literal).map(|(_, tail)| tail)
}

impl fmt::Display for LineFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = match (self.kind, self.negated) {
            (FilterKind::Contains, false) => "|=",
            (FilterKind::Contains, true) => "!=",
            (FilterKind::Regex, false) => "|~",
            (FilterKind::Regex, true) => "!~",
            (FilterKind::Pattern, false) => "|>",
            (FilterKind::Pattern, true) => "!>",
        };
        for (at, value) in self.values.iter().enumerate() {
            f.write_str(if at == 0 { sign } else { " or" })?;
            match value {
                FilterValue::Text(text) => write!(f, " {}", quote(text))?,
                FilterValue::Ip(pattern) => write!(f, " ip({})", quote(pattern))?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::limits::QueryBudget;

    fn filter(kind: FilterKind, negated: bool, values: &[&str]) -> LineFilter {
        let values = values.iter().map(|value| FilterValue::Text((*value).to_owned())).collect();
        LineFilter::new(kind, negated, values, &QueryBudget::unlimited()).unwrap()
    }

    fn column(lines: &[&str]) -> TextColumn {
        let mut column = TextColumn::default();
        for line in lines {
            column.push(line);
        }
        column
    }

    #[test]
    fn a_search_over_the_block_keeps_what_a_search_line_by_line_keeps() {
        let lines = ["", "ab", "c", "abc", "cab", "", "xabcab", "b\nc", "ü", "a", "bc", ""];
        let column = column(&lines);
        for kind in [FilterKind::Contains, FilterKind::Regex, FilterKind::Pattern] {
            for values in [&["ab"][..], &["bc"], &["a", "c"], &[""], &["abc", "bca"], &["a<_>b", "c"], &["b.c"], &["ü"]]
            {
                for negated in [false, true] {
                    let filter = filter(kind, negated, values);
                    let expected: Vec<u32> = (0..12).filter(|row| filter.keeps(lines[*row as usize])).collect();
                    let budget = QueryBudget::unlimited();
                    assert_eq!(filter.rows(&column, &Pace::new(&budget)), expected, "{filter}");
                }
            }
        }
    }

    #[test]
    fn a_pattern_matches_the_whole_line() {
        let pattern = |text: &str, line: &str| LinePattern::new(text).matches(line);
        assert!(pattern("GET <_> 200", "GET /x 200"));
        assert!(!pattern("GET <_> 200", "GET  200"));
        assert!(!pattern("GET <_> 200", "GET /x 200 "));
        assert!(pattern("<_>GET<_>", "a GET b"));
        assert!(!pattern("<_>GET<_>", "GET b"));
        assert!(pattern("", "") && !pattern("", "x") && pattern("<_>", "x"));
    }

    #[test]
    fn required_texts_are_those_of_every_match() {
        let texts = |pattern: &str| filter(FilterKind::Regex, false, &[pattern]).hints;
        assert_eq!(texts("status=(5..) path"), ["status=5", " path"]);
        assert_eq!(texts("a+b|c"), Vec::<String>::new());
        assert_eq!(texts("(?i)error"), Vec::<String>::new());
        assert_eq!(texts("x(ab)+c?d"), ["x", "ab", "d"]);
        assert_eq!(texts("ab?c"), ["a", "c"]);
    }

    #[test]
    fn a_huge_expression_is_refused() {
        let huge = FilterValue::Text("(x{1000}){1000}".into());
        assert!(LineFilter::new(FilterKind::Regex, false, vec![huge], &QueryBudget::unlimited()).is_err());
    }
}
