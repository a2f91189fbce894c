//! OpenMetrics text, written family by family. What the format cannot say is left out by the caller:
//! native histograms and stale markers have no text form.

use std::fmt::Write as _;

use crate::model::batch::MetricMetadata;
use crate::model::exemplar::Exemplar;
use crate::model::labels::{Labels, METRIC_NAME};

/// The media type of what is written.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The last line.
pub const END: &str = "# EOF\n";

/// Suffixes of samples that are not in the name of their family.
const SUFFIXES: &[(&str, &str)] = &[
    ("_bucket", "histogram"),
    ("_count", "histogram"),
    ("_sum", "histogram"),
    ("_gcount", "gaugehistogram"),
    ("_gsum", "gaugehistogram"),
    ("_bucket", "gaugehistogram"),
    ("_count", "summary"),
    ("_sum", "summary"),
    ("_total", "counter"),
    ("_info", "info"),
];

/// The family that a sample's name belongs to, given what is known of families by name.
pub fn family<'n>(name: &'n str, kind_of: impl Fn(&str) -> Option<&'n str>) -> &'n str {
    for (suffix, kind) in SUFFIXES {
        let Some(family) = name.strip_suffix(suffix) else { continue };
        // Metadata of counters and infos is kept by the name with its suffix.
        let known = if matches!(*kind, "counter" | "info") { kind_of(name) } else { kind_of(family) };
        if known == Some(*kind) && !family.is_empty() {
            return family;
        }
    }
    name
}

/// The lines before the samples of a family. `name` is what [`family`] gave.
pub fn metadata(out: &mut String, name: &str, known: &MetricMetadata) {
    // A counter or info whose samples lack the suffix would be none.
    let suffixed = known.name != name;
    let kind = match known.kind.as_str() {
        "" => "unknown",
        "counter" | "info" if !suffixed => "unknown",
        kind => kind,
    };
    let mut line = |keyword: &str, text: &str| {
        let _ = write!(out, "# {keyword} ");
        if is_plain(name) {
            out.push_str(name)
        } else {
            quoted(out, name)
        }
        out.push(' ');
        escaped(out, text);
        out.push('\n');
    };
    line("TYPE", kind);
    if !known.unit.is_empty() && name.strip_suffix(known.unit.as_str()).is_some_and(|rest| rest.ends_with('_')) {
        line("UNIT", &known.unit);
    }
    if !known.help.is_empty() {
        line("HELP", &known.help);
    }
}

/// Name and labels of a series, as they begin each of its lines.
pub fn series(out: &mut String, labels: &Labels) {
    let name = labels.metric_name();
    let plain = is_plain(name);
    let mut comma = false;
    if plain {
        out.push_str(name);
    }
    let mut open = |out: &mut String| {
        out.push(if comma { ',' } else { '{' });
        comma = true;
    };
    if !plain {
        open(out);
        quoted(out, name);
    }
    for (own, value) in labels.iter().filter(|(own, _)| *own != METRIC_NAME) {
        open(out);
        if is_plain_label(own) {
            out.push_str(own)
        } else {
            quoted(out, own)
        }
        out.push('=');
        quoted(out, value);
    }
    if comma {
        out.push('}');
    }
}

/// Value and time of one sample, with its exemplar, behind the text of its series.
pub fn sample(out: &mut String, value: f64, t: i64, exemplar: Option<&Exemplar>) {
    out.push(' ');
    number(out, value);
    out.push(' ');
    time(out, t);
    if let Some(exemplar) = exemplar {
        out.push_str(" # ");
        if exemplar.labels.is_empty() {
            out.push_str("{}");
        }
        for (at, (name, value)) in exemplar.labels.iter().enumerate() {
            out.push(if at == 0 { '{' } else { ',' });
            if is_plain_label(name) {
                out.push_str(name)
            } else {
                quoted(out, name)
            }
            out.push('=');
            quoted(out, value);
        }
        if !exemplar.labels.is_empty() {
            out.push('}');
        }
        out.push(' ');
        number(out, exemplar.value);
        out.push(' ');
        time(out, exemplar.t);
    }
    out.push('\n');
}

fn number(out: &mut String, value: f64) {
    let _ = match value {
        _ if value.is_nan() => write!(out, "NaN"),
        f64::INFINITY => write!(out, "+Inf"),
        f64::NEG_INFINITY => write!(out, "-Inf"),
        _ if value != 0.0 && !(1e-5..1e15).contains(&value.abs()) => write!(out, "{value:e}"),
        _ => write!(out, "{value}"),
    };
}

/// Seconds. Some readers cut the fraction of a millisecond off instead of rounding, so the number
/// written is one whose thousandfold lies at or beyond the millisecond.
fn time(out: &mut String, t: i64) {
    if t % 1000 == 0 {
        let _ = write!(out, "{}", t / 1000);
        return;
    }
    let mut seconds = t as f64 / 1000.0;
    for _ in 0..2 {
        if (seconds * 1000.0) as i64 != t {
            seconds = if t < 0 { seconds.next_down() } else { seconds.next_up() };
        }
    }
    let _ = write!(out, "{seconds}");
}

fn is_plain(name: &str) -> bool {
    let begins = name.chars().next().is_some_and(|c| c.is_ascii_alphabetic() || matches!(c, '_' | ':'));
    begins && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | ':'))
}

fn is_plain_label(name: &str) -> bool {
    is_plain(name) && !name.contains(':')
}

fn quoted(out: &mut String, text: &str) {
    out.push('"');
    escaped(out, text);
    out.push('"');
}

fn escaped(out: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            c => out.push(c),
        }
    }
}
