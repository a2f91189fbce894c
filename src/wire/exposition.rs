//! The text format of Prometheus, version 0.0.4, as `/federate` writes it: samples with their times.
//! Spec: <https://prometheus.io/docs/instrumenting/exposition_formats/>.

use std::fmt::Write as _;

use crate::base::float_text;
use crate::model::labels::{Labels, METRIC_NAME};

/// The type for clients that want plain names: other characters become underscores.
pub const PLAIN_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8; escaping=underscores";
/// The type for clients that take any name, in quotes where need be.
pub const UTF8_TYPE: &str = "text/plain; version=1.0.0; charset=utf-8; escaping=allow-utf-8";

/// How names are written that are not of ASCII letters, digits, underscores and colons.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Names {
    /// With underscores.
    Plain,
    /// As they are, in quotes.
    Utf8,
}

impl Names {
    /// What a client with this `Accept` header takes.
    pub fn accepted(accept: &str) -> Self {
        if accept.contains("escaping=allow-utf-8") { Self::Utf8 } else { Self::Plain }
    }

    /// The type of text with such names.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Plain => PLAIN_TYPE,
            Self::Utf8 => UTF8_TYPE,
        }
    }
}

fn is_plain(name: &str) -> bool {
    name.chars().enumerate().all(|(at, c)| is_plain_char(c, at)) && !name.is_empty()
}

fn is_plain_char(c: char, at: usize) -> bool {
    c.is_ascii_alphabetic() || matches!(c, '_' | ':') || at > 0 && c.is_ascii_digit()
}

fn quoted(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            c => out.push(c),
        }
    }
    out.push('"');
}

fn name(out: &mut String, text: &str, names: Names) {
    match names {
        _ if is_plain(text) => out.push_str(text),
        Names::Utf8 => quoted(out, text),
        Names::Plain => out.extend(text.chars().enumerate().map(|(at, c)| if is_plain_char(c, at) { c } else { '_' })),
    }
}

/// The line before the samples of a metric whose type is not known.
pub fn untyped(out: &mut String, metric: &str, names: Names) {
    out.push_str("# TYPE ");
    name(out, metric, names);
    out.push_str(" untyped\n");
}

/// A sample with its time in milliseconds. A series without the label `instance` gets an empty one,
/// so that whoever scrapes this does not give it its own.
pub fn sample(out: &mut String, labels: &Labels, value: f64, t: i64, names: Names) {
    let metric = labels.metric_name();
    let in_braces = names == Names::Utf8 && !is_plain(metric);
    if !in_braces {
        name(out, metric, names);
    }
    out.push('{');
    if in_braces {
        quoted(out, metric);
        out.push(',');
    }
    let mut own: Vec<(&str, &str)> = labels.iter().filter(|(own, _)| *own != METRIC_NAME).collect();
    if labels.get("instance").is_none() {
        // Behind the others, where Prometheus has it.
        own.push(("instance", ""));
    }
    for (at, (label, value)) in own.into_iter().enumerate() {
        if at > 0 {
            out.push(',');
        }
        name(out, label, names);
        out.push('=');
        quoted(out, value);
    }
    out.push_str("} ");
    number(out, value);
    let _ = writeln!(out, " {t}");
}

/// In the fewest digits that read back, with an exponent from a million on and below a ten-thousandth.
fn number(out: &mut String, value: f64) {
    // Zero has no sign here.
    float_text::push(out, if value == 0.0 { 0.0 } else { value }, float_text::GENERAL);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        Labels::from_pairs(pairs.iter().copied()).unwrap()
    }

    fn written(labels: &Labels, value: f64, names: Names) -> String {
        let mut out = String::new();
        sample(&mut out, labels, value, 5, names);
        out
    }

    #[test]
    fn numbers_have_exponents_where_prometheus_has_them() {
        for (value, text) in [
            (0.0, "0"),
            (-0.0, "0"),
            (1.0, "1"),
            (-1.5, "-1.5"),
            (123_456.0, "123456"),
            (999_999.5, "999999.5"),
            (1_000_000.0, "1e+06"),
            (1_234_567.25, "1.23456725e+06"),
            (0.0001, "0.0001"),
            (0.000_012_5, "1.25e-05"),
            (1e-300, "1e-300"),
            (f64::NAN, "NaN"),
            (f64::INFINITY, "+Inf"),
            (f64::NEG_INFINITY, "-Inf"),
        ] {
            let mut out = String::new();
            number(&mut out, value);
            assert_eq!(out, text);
        }
    }

    #[test]
    fn names_are_plain_or_quoted_as_the_client_takes_them() {
        let odd = labels(&[("__name__", "a.b"), ("1x.y", "q\"\\\n"), ("instance", "i")]);
        assert_eq!(written(&odd, 1.0, Names::Plain), "a_b{_x_y=\"q\\\"\\\\\\n\",instance=\"i\"} 1 5\n");
        assert_eq!(written(&odd, 1.0, Names::Utf8), "{\"a.b\",\"1x.y\"=\"q\\\"\\\\\\n\",instance=\"i\"} 1 5\n");
        let bare = labels(&[("__name__", "up"), ("job", "x")]);
        assert_eq!(written(&bare, 1.0, Names::Utf8), "up{job=\"x\",instance=\"\"} 1 5\n");
        assert_eq!(Names::accepted("text/plain;version=1.0.0;escaping=allow-utf-8"), Names::Utf8);
        assert_eq!(Names::accepted("*/*"), Names::Plain);
    }
}
