//! The functions of templates. Each checks the size of what it is about to make.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::exec::Scope;
use super::printf::{print, printf};
use super::{OUTPUT_BYTES_MAX, Regexes, Value, date};
use crate::base::pattern::Regex;
use crate::base::percent;
use crate::query::logql::lexer::{parse_bytes, parse_duration};

/// A function.
#[derive(Debug)]
pub(super) struct Function {
    pub(super) name: &'static str,
    /// Fewest and most arguments.
    pub(super) least: usize,
    pub(super) most: usize,
    pub(super) run: fn(&Call<'_>) -> Out,
}

/// What a function is given.
pub(super) struct Call<'a> {
    pub(super) args: &'a [Value],
    pub(super) scope: &'a dyn Scope,
    pub(super) regexes: &'a Regexes,
}

type Out = Result<Value, String>;

impl Function {
    /// Whether its first argument is a regular expression.
    pub(super) fn takes_pattern(&self) -> bool {
        matches!(self.name, "count" | "regexReplaceAll" | "regexReplaceAllLiteral")
    }
}

pub(super) fn find(name: &str) -> Option<&'static Function> {
    FUNCTIONS.iter().find(|function| function.name == name)
}

const fn f(name: &'static str, least: usize, most: usize, run: fn(&Call<'_>) -> Out) -> Function {
    Function { name, least, most, run }
}

const ANY: usize = 1_000;

/// What to compile a pattern costs, as bytes to look at.
const PATTERN_COST: usize = 64 << 10;

const FUNCTIONS: &[Function] = &[
    f("__line__", 0, 0, |c| Ok(Value::Text(c.scope.line().to_owned()))),
    f("__timestamp__", 0, 0, |c| Ok(Value::Time(c.scope.time_ns()))),
    f("now", 0, 0, |c| Ok(Value::Time(c.scope.now_ns()))),
    f("ToLower", 1, 1, |c| Ok(c.map(0, str::to_lowercase))),
    f("ToUpper", 1, 1, |c| Ok(c.map(0, str::to_uppercase))),
    f("lower", 1, 1, |c| Ok(c.map(0, str::to_lowercase))),
    f("upper", 1, 1, |c| Ok(c.map(0, str::to_uppercase))),
    f("title", 1, 1, |c| Ok(c.map(0, title))),
    f("Replace", 4, 4, |c| replace(&c.text(0), &c.text(1), &c.text(2), c.int(3))),
    f("replace", 3, 3, |c| replace(&c.text(2), &c.text(0), &c.text(1), -1)),
    f("Trim", 2, 2, |c| Ok(trim(&c.text(0), &c.text(1), true, true))),
    f("TrimLeft", 2, 2, |c| Ok(trim(&c.text(0), &c.text(1), true, false))),
    f("TrimRight", 2, 2, |c| Ok(trim(&c.text(0), &c.text(1), false, true))),
    f("TrimPrefix", 2, 2, |c| Ok(strip(&c.text(0), &c.text(1), true))),
    f("TrimSuffix", 2, 2, |c| Ok(strip(&c.text(0), &c.text(1), false))),
    f("TrimSpace", 1, 1, |c| Ok(c.map(0, |text| text.trim().to_owned()))),
    f("trim", 1, 1, |c| Ok(c.map(0, |text| text.trim().to_owned()))),
    f("trimAll", 2, 2, |c| Ok(trim(&c.text(1), &c.text(0), true, true))),
    f("trimPrefix", 2, 2, |c| Ok(strip(&c.text(1), &c.text(0), true))),
    f("trimSuffix", 2, 2, |c| Ok(strip(&c.text(1), &c.text(0), false))),
    f("trunc", 2, 2, |c| Ok(trunc(c.int(0), &c.text(1)))),
    f("substr", 3, 3, |c| Ok(substr(c.int(0), c.int(1), &c.text(2)))),
    f("alignLeft", 2, 2, |c| align(c.int(0), &c.text(1), true)),
    f("alignRight", 2, 2, |c| align(c.int(0), &c.text(1), false)),
    f("indent", 2, 2, |c| indent(c.int(0), &c.text(1), "")),
    f("nindent", 2, 2, |c| indent(c.int(0), &c.text(1), "\n")),
    f("repeat", 2, 2, |c| repeat(c.int(0), &c.text(1))),
    f("contains", 2, 2, |c| Ok(Value::Bool(c.text(1).contains(&c.text(0))))),
    f("hasPrefix", 2, 2, |c| Ok(Value::Bool(c.text(1).starts_with(&c.text(0))))),
    f("hasSuffix", 2, 2, |c| Ok(Value::Bool(c.text(1).ends_with(&c.text(0))))),
    f("eq", 2, ANY, equal),
    f("ne", 2, 2, |c| Ok(Value::Bool(!compare(c, |order| order.is_eq())?))),
    f("lt", 2, 2, |c| compare(c, |order| order.is_lt()).map(Value::Bool)),
    f("le", 2, 2, |c| compare(c, |order| order.is_le()).map(Value::Bool)),
    f("gt", 2, 2, |c| compare(c, |order| order.is_gt()).map(Value::Bool)),
    f("ge", 2, 2, |c| compare(c, |order| order.is_ge()).map(Value::Bool)),
    f("and", 1, ANY, |c| Ok(c.pick(|value| !value.truth()))),
    f("or", 1, ANY, |c| Ok(c.pick(Value::truth))),
    f("not", 1, 1, |c| Ok(Value::Bool(!c.arg(0).truth()))),
    f("len", 1, 1, length),
    f("index", 1, ANY, index),
    f("slice", 1, 3, slice),
    f("print", 0, ANY, |c| Ok(Value::Text(print(c.args)))),
    f("println", 0, ANY, |c| {
        Ok(Value::Text(format!("{}\n", c.args.iter().map(Value::print).collect::<Vec<_>>().join(" "))))
    }),
    f("printf", 1, ANY, |c| printf(&c.text(0), c.args.get(1..).unwrap_or_default())),
    f("html", 1, 1, |c| Ok(c.map(0, html))),
    f("js", 1, 1, |c| Ok(c.map(0, |text| text.escape_default().to_string()))),
    f("urlquery", 1, 1, |c| Ok(c.map(0, percent::encode_query))),
    f("urlencode", 1, 1, |c| Ok(c.map(0, percent::encode_query))),
    f("urldecode", 1, 1, |c| Ok(c.map(0, url_decode))),
    f("call", 1, ANY, |_| Err("the first argument is no function".to_owned())),
    f("add", 1, ANY, |c| Ok(c.fold_int(i64::wrapping_add))),
    f("sub", 2, 2, |c| Ok(c.fold_int(i64::wrapping_sub))),
    f("mul", 1, ANY, |c| Ok(c.fold_int(i64::wrapping_mul))),
    f("div", 2, 2, |c| c.int(0).checked_div(c.int(1)).map(Value::Int).ok_or("division by zero".to_owned())),
    f("mod", 2, 2, |c| c.int(0).checked_rem(c.int(1)).map(Value::Int).ok_or("division by zero".to_owned())),
    f("max", 1, ANY, |c| Ok(c.fold_int(i64::max))),
    f("min", 1, ANY, |c| Ok(c.fold_int(i64::min))),
    f("addf", 1, ANY, |c| Ok(c.fold_float(|a, b| a + b))),
    f("subf", 1, ANY, |c| Ok(c.fold_float(|a, b| a - b))),
    f("mulf", 1, ANY, |c| Ok(c.fold_float(|a, b| a * b))),
    f("divf", 1, ANY, |c| Ok(c.fold_float(|a, b| a / b))),
    f("maxf", 1, ANY, |c| Ok(c.fold_float(f64::max))),
    f("minf", 1, ANY, |c| Ok(c.fold_float(f64::min))),
    f("ceil", 1, 1, |c| Ok(Value::Float(c.float(0).ceil()))),
    f("floor", 1, 1, |c| Ok(Value::Float(c.float(0).floor()))),
    f("round", 1, 3, round),
    f("int", 1, 1, |c| Ok(Value::Int(c.int(0)))),
    f("float64", 1, 1, |c| Ok(Value::Float(c.float(0)))),
    f("default", 2, 2, |c| Ok(if c.arg(1).truth() { c.arg(1).clone() } else { c.arg(0).clone() })),
    f("count", 2, 2, |c| {
        let regex = c.regex(0)?;
        Ok(Value::Int(i64::try_from(regex.count(&c.text(1))).unwrap_or(i64::MAX)))
    }),
    f("regexReplaceAll", 3, 3, |c| regex_replace(c, true)),
    f("regexReplaceAllLiteral", 3, 3, |c| regex_replace(c, false)),
    f("b64enc", 1, 1, |c| Ok(c.map(0, |text| STANDARD.encode(text)))),
    f("b64dec", 1, 1, |c| Ok(c.map(0, base64_decode))),
    f("bytes", 1, 1, |c| parse_bytes(&c.text(0)).map(Value::Float).ok_or("no amount of bytes".to_owned())),
    f("duration", 1, 1, seconds),
    f("duration_seconds", 1, 1, seconds),
    f("unixEpoch", 1, 1, |c| Ok(Value::Text(c.nanos(0)?.div_euclid(1_000_000_000).to_string()))),
    f("unixEpochMillis", 1, 1, |c| Ok(Value::Text(c.nanos(0)?.div_euclid(1_000_000).to_string()))),
    f("unixEpochNanos", 1, 1, |c| Ok(Value::Text(c.nanos(0)?.to_string()))),
    f("unixToTime", 1, 1, unix_to_time),
    f("date", 2, 2, |c| Ok(Value::Text(date::format(c.nanos(1)?, &c.text(0))))),
    f("toDate", 2, 2, |c| {
        date::parse(&c.text(1), &c.text(0)).map(Value::Time).ok_or("the text is not in the layout".to_owned())
    }),
    f("toDateInZone", 3, 3, |c| {
        if !matches!(c.text(1).as_str(), "UTC" | "" | "GMT" | "Etc/UTC") {
            return Err("only UTC is known as a zone".to_owned());
        }
        date::parse(&c.text(2), &c.text(0)).map(Value::Time).ok_or("the text is not in the layout".to_owned())
    }),
    f("fromJson", 1, 1, |c| Ok(from_json(&c.text(0)))),
];

impl Call<'_> {
    fn arg(&self, at: usize) -> &Value {
        self.args.get(at).unwrap_or(&Value::Nil)
    }

    fn text(&self, at: usize) -> String {
        self.arg(at).print()
    }

    /// A pattern, compiled or found among those that are.
    fn regex(&self, at: usize) -> Result<Regex, String> {
        if self.scope.spend(PATTERN_COST) {
            self.regexes.get(&self.text(at))
        } else {
            Err("the query ended".to_owned())
        }
    }

    fn int(&self, at: usize) -> i64 {
        self.arg(at).int()
    }

    fn float(&self, at: usize) -> f64 {
        self.arg(at).float()
    }

    fn nanos(&self, at: usize) -> Result<i64, String> {
        match self.arg(at) {
            Value::Time(nanos) => Ok(*nanos),
            _ => Err("a time is needed".to_owned()),
        }
    }

    fn map(&self, at: usize, change: impl Fn(&str) -> String) -> Value {
        Value::Text(change(&self.text(at)))
    }

    /// The first argument that `stop` says yes to, or the last.
    fn pick(&self, stop: impl Fn(&Value) -> bool) -> Value {
        self.args.iter().find(|value| stop(value)).or(self.args.last()).cloned().unwrap_or(Value::Nil)
    }

    fn fold_int(&self, with: fn(i64, i64) -> i64) -> Value {
        Value::Int(self.args.iter().map(Value::int).reduce(with).unwrap_or(0))
    }

    fn fold_float(&self, with: fn(f64, f64) -> f64) -> Value {
        Value::Float(self.args.iter().map(Value::float).reduce(with).unwrap_or(0.0))
    }
}

pub(super) fn fits(bytes: usize) -> Result<(), String> {
    if bytes > OUTPUT_BYTES_MAX { Err(format!("the result has more than {OUTPUT_BYTES_MAX} bytes")) } else { Ok(()) }
}

fn title(text: &str) -> String {
    let mut start = true;
    let mut upper = |c: char| {
        let first = start && c.is_alphabetic();
        start = !c.is_alphanumeric() && c != '_' && c != '\'';
        if first { c.to_uppercase().next().unwrap_or(c) } else { c }
    };
    text.chars().map(&mut upper).collect()
}

fn replace(text: &str, old: &str, new: &str, count: i64) -> Out {
    let found = text.matches(old).count();
    let count = usize::try_from(count).map_or(found, |count| count.min(found));
    fits(text.len().saturating_add(count.saturating_mul(new.len())))?;
    Ok(Value::Text(text.replacen(old, new, count)))
}

fn trim(text: &str, cut: &str, left: bool, right: bool) -> Value {
    let mut text = text;
    if left {
        text = text.trim_start_matches(|c| cut.contains(c));
    }
    if right {
        text = text.trim_end_matches(|c| cut.contains(c));
    }
    Value::Text(text.to_owned())
}

fn strip(text: &str, part: &str, prefix: bool) -> Value {
    let stripped = if prefix { text.strip_prefix(part) } else { text.strip_suffix(part) };
    Value::Text(stripped.unwrap_or(text).to_owned())
}

fn clamp(at: i64, length: usize) -> usize {
    usize::try_from(at).unwrap_or(0).min(length)
}

/// A piece between two bytes; characters that are cut become U+FFFD.
fn piece(text: &str, from: usize, to: usize) -> String {
    String::from_utf8_lossy(text.as_bytes().get(from..to.max(from)).unwrap_or_default()).into_owned()
}

fn trunc(count: i64, text: &str) -> Value {
    let keep = usize::try_from(count.unsigned_abs()).unwrap_or(usize::MAX);
    if keep >= text.len() {
        return Value::Text(text.to_owned());
    }
    Value::Text(if count < 0 { piece(text, text.len() - keep, text.len()) } else { piece(text, 0, keep) })
}

fn substr(start: i64, end: i64, text: &str) -> Value {
    let from = clamp(start, text.len());
    let to = if end < 0 || end < start { text.len() } else { clamp(end, text.len()) };
    Value::Text(piece(text, from, to))
}

fn align(count: i64, text: &str, left: bool) -> Out {
    let width = usize::try_from(count).map_err(|_| "a negative width".to_owned())?;
    fits(width)?;
    let length = text.chars().count();
    let padding = " ".repeat(width.saturating_sub(length));
    Ok(Value::Text(match (left, length >= width) {
        (true, true) => text.chars().take(width).collect(),
        (true, false) => format!("{text}{padding}"),
        (false, true) => text.chars().skip(length - width).collect(),
        (false, false) => format!("{padding}{text}"),
    }))
}

fn indent(count: i64, text: &str, before: &str) -> Out {
    let width = usize::try_from(count).map_err(|_| "a negative width".to_owned())?;
    let lines = text.matches('\n').count() + 1;
    fits(lines.saturating_mul(width.saturating_add(1)).saturating_add(text.len()))?;
    let padding = " ".repeat(width);
    Ok(Value::Text(format!("{before}{padding}{}", text.replace('\n', &format!("\n{padding}")))))
}

fn repeat(count: i64, text: &str) -> Out {
    let count = usize::try_from(count).map_err(|_| "a negative count".to_owned())?;
    fits(count.saturating_mul(text.len()))?;
    Ok(Value::Text(text.repeat(if text.is_empty() { 0 } else { count })))
}

fn equal(call: &Call<'_>) -> Out {
    let first = call.arg(0);
    let mut found = false;
    for other in call.args.get(1..).unwrap_or_default() {
        found |= first.order(other).ok_or("incompatible types for comparison")?.is_eq();
    }
    Ok(Value::Bool(found))
}

fn compare(call: &Call<'_>, test: fn(std::cmp::Ordering) -> bool) -> Result<bool, String> {
    call.arg(0).order(call.arg(1)).map(test).ok_or("incompatible types for comparison".to_owned())
}

fn length(call: &Call<'_>) -> Out {
    let length = match call.arg(0) {
        Value::Text(text) => text.len(),
        Value::List(items) => items.len(),
        Value::Map(members) => members.len(),
        _ => return Err("a value without length".to_owned()),
    };
    Ok(Value::Int(i64::try_from(length).unwrap_or(i64::MAX)))
}

fn index(call: &Call<'_>) -> Out {
    let mut value = call.arg(0);
    for at in call.args.get(1..).unwrap_or_default() {
        value = match value {
            Value::List(items) => {
                usize::try_from(at.int()).ok().and_then(|at| items.get(at)).ok_or("index out of range")?
            }
            Value::Map(members) => {
                let name = at.print();
                members.iter().find(|(own, _)| *own == name).map_or(&Value::Nil, |(_, value)| value)
            }
            Value::Text(text) => {
                let byte = usize::try_from(at.int()).ok().and_then(|at| text.as_bytes().get(at));
                return Ok(Value::Int(i64::from(*byte.ok_or("index out of range")?)));
            }
            _ => return Err("a value that cannot be indexed".to_owned()),
        };
    }
    Ok(value.clone())
}

fn slice(call: &Call<'_>) -> Out {
    let length = match call.arg(0) {
        Value::Text(text) => text.len(),
        Value::List(items) => items.len(),
        _ => return Err("a value that cannot be sliced".to_owned()),
    };
    let bound = |at: usize, or: usize| match call.args.get(at) {
        Some(value) => usize::try_from(value.int()).ok().filter(|at| *at <= length).ok_or("index out of range"),
        None => Ok(or),
    };
    let (from, to) = (bound(1, 0)?, bound(2, length)?);
    if from > to {
        return Err("index out of range".to_owned());
    }
    match call.arg(0) {
        Value::List(items) => Ok(Value::List(items.get(from..to).unwrap_or_default().to_vec())),
        other => Ok(Value::Text(piece(&other.print(), from, to))),
    }
}

fn html(text: &str) -> String {
    let escaped = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    escaped.replace('"', "&#34;").replace('\'', "&#39;")
}

fn url_decode(text: &str) -> String {
    String::from_utf8_lossy(&percent::decode_query(text.as_bytes())).into_owned()
}

fn base64_decode(text: &str) -> String {
    match STANDARD.decode(text) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) => error.to_string(),
    }
}

/// Rounds half away from zero, to a number of digits.
fn round(call: &Call<'_>) -> Out {
    let digits = i32::try_from(call.int(1).clamp(-300, 300)).unwrap_or(0);
    let half = if call.args.len() > 2 { call.float(2) } else { 0.5 };
    let scale = 10_f64.powi(digits);
    let scaled = call.float(0) * scale;
    let rest = scaled.fract().abs();
    let rounded = if rest >= half { scaled.trunc() + scaled.signum() } else { scaled.trunc() };
    Ok(Value::Float(if rounded.is_finite() { rounded / scale } else { call.float(0) }))
}

fn regex_replace(call: &Call<'_>, expand: bool) -> Out {
    let (text, replacement) = (call.text(1), call.text(2));
    let regex = call.regex(0)?;
    let mut out = String::new();
    let mut last = 0;
    for captures in regex.captures_iter(&text) {
        let Some(whole) = captures.range(0) else { continue };
        out.push_str(text.get(last..whole.start).unwrap_or_default());
        if expand {
            // A group may be as long as the text; this bounds what one expansion can add.
            fits(replacement.matches('$').count().saturating_mul(whole.len()))?;
            captures.expand(&replacement, &mut out);
        } else {
            out.push_str(&replacement);
        }
        fits(out.len())?;
        last = whole.end;
    }
    out.push_str(text.get(last..).unwrap_or_default());
    Ok(Value::Text(out))
}

fn seconds(call: &Call<'_>) -> Out {
    let nanos = parse_duration(&call.text(0)).ok_or("no duration")?;
    Ok(Value::Float(nanos as f64 / 1e9))
}

/// Seconds, milliseconds, microseconds or nanoseconds, told apart by the number of digits.
fn unix_to_time(call: &Call<'_>) -> Out {
    let text = call.text(0);
    let value: i64 = text.parse().map_err(|_| format!("{:?} is no time", text.chars().take(40).collect::<String>()))?;
    let scale = match text.trim_start_matches('-').len() {
        5 => 86_400_000_000_000,
        10 => 1_000_000_000,
        13 => 1_000_000,
        16 => 1_000,
        19 => 1,
        _ => return Err("a time has 5, 10, 13, 16 or 19 digits".to_owned()),
    };
    Ok(Value::Time(value.saturating_mul(scale)))
}

fn from_json(text: &str) -> Value {
    serde_json::from_str(text).map_or(Value::Nil, |value| convert(&value))
}

/// serde_json bounds the nesting to 128.
fn convert(value: &serde_json::Value) -> Value {
    match value {
        serde_json::Value::Null => Value::Nil,
        serde_json::Value::Bool(value) => Value::Bool(*value),
        serde_json::Value::Number(number) => Value::Float(number.as_f64().unwrap_or(0.0)),
        serde_json::Value::String(text) => Value::Text(text.clone()),
        serde_json::Value::Array(items) => Value::List(items.iter().map(convert).collect()),
        serde_json::Value::Object(members) => {
            let mut members: Vec<(String, Value)> =
                members.iter().map(|(name, value)| (name.clone(), convert(value))).collect();
            members.sort_by(|a, b| a.0.cmp(&b.0));
            Value::Map(members)
        }
    }
}
