//! One line of the text formats, taken apart. Both formats are read by one grammar, the looser of the
//! two where they differ: blanks and tabs between fields, a comma behind the last label.

use crate::wire::error::cut;
use crate::wire::label_check::Refusal;

/// What `# TYPE` may say.
const KINDS: &[&str] = &["counter", "gauge", "histogram", "gaugehistogram", "summary", "info", "stateset", "unknown"];

/// Label pairs as written, escapes undone.
type Pairs = Vec<(String, String)>;

/// What a line is.
#[derive(Debug, PartialEq)]
pub(super) enum Line<'a> {
    /// A blank line or a comment.
    Nothing,
    /// `# EOF`
    End,
    /// `# TYPE name kind`
    Kind(String, &'static str),
    /// `# HELP name text`
    Help(String, String),
    /// `# UNIT name unit`
    Unit(String, &'a str),
    /// A sample.
    Sample(SampleLine<'a>),
}

/// `name{label="value"} 1 1700000000 # {trace_id="1"} 0.5 1700000000`
#[derive(Debug, PartialEq)]
pub(super) struct SampleLine<'a> {
    /// All labels, the name among them.
    pub(super) pairs: Pairs,
    /// Bytes of the line up to the end of the labels.
    pub(super) series_bytes: usize,
    pub(super) value: &'a str,
    pub(super) time: Option<&'a str>,
    pub(super) exemplar: Option<Exemplar<'a>>,
}

/// What stands behind ` # `.
#[derive(Debug, PartialEq)]
pub(super) struct Exemplar<'a> {
    pub(super) pairs: Pairs,
    pub(super) value: &'a str,
    pub(super) time: Option<&'a str>,
}

fn wrong(what: impl Into<String>) -> Refusal {
    Refusal::new("invalid_line", what)
}

fn blanks(text: &str) -> &str {
    text.trim_start_matches([' ', '\t'])
}

/// The text up to a blank, and what follows the blanks.
fn word(text: &str) -> (&str, &str) {
    let end = text.find([' ', '\t']).unwrap_or(text.len());
    let (word, rest) = text.split_at(end);
    (word, blanks(rest))
}

/// A value. The spellings of infinity and NaN are those of every float parser.
pub(super) fn number(text: &str) -> Result<f64, Refusal> {
    text.parse().map_err(|_| Refusal::new("invalid_value", format!("{:?} is no number", cut(text))))
}

/// Takes a line apart.
pub(super) fn parse(text: &str, labels_max: usize) -> Result<Line<'_>, Refusal> {
    let text = text.trim_end_matches([' ', '\t']);
    let begin = blanks(text);
    if begin.is_empty() {
        return Ok(Line::Nothing);
    }
    match begin.strip_prefix('#') {
        Some(comment) => metadata(blanks(comment)),
        None => sample(text, begin, labels_max).map(Line::Sample),
    }
}

fn metadata(text: &str) -> Result<Line<'_>, Refusal> {
    let (keyword, rest) = word(text);
    if keyword == "EOF" && rest.is_empty() {
        return Ok(Line::End);
    }
    if !matches!(keyword, "TYPE" | "HELP" | "UNIT") {
        return Ok(Line::Nothing);
    }
    let (name, rest) = family_name(rest)?;
    Ok(match keyword {
        "HELP" => Line::Help(name, unescape(rest)),
        "UNIT" => Line::Unit(name, rest),
        _ => {
            let asked = if rest == "untyped" { "unknown" } else { rest };
            let kind = KINDS.iter().find(|kind| **kind == asked);
            Line::Kind(name, kind.ok_or_else(|| wrong(format!("{:?} is no type of metric", cut(rest))))?)
        }
    })
}

fn family_name(text: &str) -> Result<(String, &str), Refusal> {
    if let Some(quoted) = text.strip_prefix('"') {
        let (name, rest) = string(quoted)?;
        return Ok((name, blanks(rest)));
    }
    let (name, rest) = word(text);
    if name.is_empty() { Err(wrong("a metadata line without a name")) } else { Ok((name.to_owned(), rest)) }
}

fn sample<'a>(line: &'a str, text: &'a str, labels_max: usize) -> Result<SampleLine<'a>, Refusal> {
    let mut pairs = Pairs::new();
    let mut rest = text;
    if !text.starts_with('{') {
        let end = text.find([' ', '\t', '{']).ok_or_else(|| wrong(format!("{:?} has no value", cut(text))))?;
        let (name, after) = text.split_at(end);
        pairs.push(("__name__".to_owned(), name.to_owned()));
        rest = after;
    }
    // The Prometheus text format allows blanks between name and labels.
    let mut series_end = rest;
    if let Some(inside) = blanks(rest).strip_prefix('{') {
        rest = labels(inside, true, labels_max, &mut pairs)?;
        series_end = rest;
    }
    if !pairs.iter().any(|(name, _)| name == "__name__") {
        return Err(wrong(format!("{:?} has no metric name", cut(text))));
    }
    let series_bytes = line.len() - series_end.len();
    let (value, rest) = word(blanks(rest));
    if value.is_empty() {
        return Err(wrong(format!("{:?} has no value", cut(text))));
    }
    let (time, rest) = time(rest);
    let exemplar = match rest.strip_prefix('#') {
        Some(rest) => Some(exemplar(blanks(rest), labels_max)?),
        None if rest.is_empty() => None,
        None => return Err(wrong(format!("unexpected {:?} behind the value", cut(rest)))),
    };
    Ok(SampleLine { pairs, series_bytes, value, time, exemplar })
}

/// A time, unless an exemplar or nothing follows.
fn time(rest: &str) -> (Option<&str>, &str) {
    if rest.is_empty() || rest.starts_with('#') {
        return (None, rest);
    }
    let (time, rest) = word(rest);
    (Some(time), rest)
}

fn exemplar(text: &str, labels_max: usize) -> Result<Exemplar<'_>, Refusal> {
    let mut pairs = Pairs::new();
    let inside = text.strip_prefix('{').ok_or_else(|| wrong("an exemplar without labels"))?;
    let rest = labels(inside, false, labels_max, &mut pairs)?;
    let (value, rest) = word(blanks(rest));
    let (time, rest) = time(rest);
    if value.is_empty() || !rest.is_empty() {
        return Err(wrong("an exemplar is labels, a value and perhaps a time"));
    }
    Ok(Exemplar { pairs, value, time })
}

/// Reads pairs up to the closing brace; returns what follows it. A quoted string alone is the
/// metric's name, where there may be one.
fn labels<'a>(inside: &'a str, may_name: bool, labels_max: usize, pairs: &mut Pairs) -> Result<&'a str, Refusal> {
    let mut rest = blanks(inside);
    loop {
        if let Some(after) = rest.strip_prefix('}') {
            return Ok(after);
        }
        if pairs.len() > labels_max {
            return Err(Refusal::new("too_many_labels", format!("over the limit of {labels_max} labels")));
        }
        rest = pair(rest, may_name, pairs)?;
        rest = match rest.strip_prefix(',') {
            Some(after) => blanks(after),
            None if rest.starts_with('}') => rest,
            None => return Err(wrong(format!("expected a comma or a closing brace at {:?}", cut(rest)))),
        };
    }
}

fn pair<'a>(text: &'a str, may_name: bool, pairs: &mut Pairs) -> Result<&'a str, Refusal> {
    let (name, rest) = match text.strip_prefix('"') {
        Some(quoted) => {
            let (name, rest) = string(quoted)?;
            let rest = blanks(rest);
            if may_name && rest.starts_with([',', '}']) {
                pairs.push(("__name__".to_owned(), name));
                return Ok(rest);
            }
            (name, rest)
        }
        None => {
            let end = text.find(['=', ' ', '\t', ',', '}', '"']).unwrap_or(text.len());
            let (name, rest) = text.split_at(end);
            (name.to_owned(), blanks(rest))
        }
    };
    let expected = || wrong(format!("expected name=\"value\" at {:?}", cut(text)));
    if name.is_empty() {
        return Err(expected());
    }
    let value = rest.strip_prefix('=').map(blanks).and_then(|rest| rest.strip_prefix('"')).ok_or_else(expected)?;
    let (value, rest) = string(value)?;
    pairs.push((name, value));
    Ok(blanks(rest))
}

/// Reads a string up to its closing quote; returns it and what follows.
fn string(text: &str) -> Result<(String, &str), Refusal> {
    let bytes = text.as_bytes();
    let mut at = 0;
    loop {
        let found = memchr::memchr2(b'"', b'\\', bytes.get(at..).unwrap_or_default());
        at += found.ok_or_else(|| wrong("a quote is not closed"))?;
        if bytes.get(at) == Some(&b'"') {
            break;
        }
        at += 2;
    }
    let (inside, rest) = text.split_at_checked(at).ok_or_else(|| wrong("a quote is not closed"))?;
    Ok((unescape(inside), rest.get(1..).unwrap_or_default()))
}

/// Undoes `\\`, `\"` and `\n`; any other backslash stays.
fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        let (before, after) = rest.split_at(at);
        out.push_str(before);
        let (undone, skip) = match after.as_bytes().get(1) {
            Some(b'n') => ('\n', 2),
            Some(b'"') => ('"', 2),
            Some(b'\\') => ('\\', 2),
            _ => ('\\', 1),
        };
        out.push(undone);
        rest = after.get(skip..).unwrap_or_default();
    }
    out.push_str(rest);
    out
}
