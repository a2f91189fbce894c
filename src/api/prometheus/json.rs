//! JSON written straight into a string, in the shapes of Prometheus's API.

use std::fmt::Write as _;

use crate::model::histogram::Histogram;
use crate::model::labels::Labels;
use crate::query::promql::{Answer, AnswerSeries, AnswerValue, Work};

/// A string with its quotes.
pub(super) fn string(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if u32::from(c) < 0x20 => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

/// Items with commas between them, in square brackets.
pub(super) fn list<T>(out: &mut String, items: impl IntoIterator<Item = T>, mut write: impl FnMut(&mut String, T)) {
    out.push('[');
    for (at, item) in items.into_iter().enumerate() {
        if at > 0 {
            out.push(',');
        }
        write(out, item);
    }
    out.push(']');
}

/// Labels as an object.
pub(super) fn labels(out: &mut String, labels: &Labels) {
    out.push('{');
    for (at, (name, value)) in labels.iter().enumerate() {
        if at > 0 {
            out.push(',');
        }
        string(out, name);
        out.push(':');
        string(out, value);
    }
    out.push('}');
}

/// Milliseconds as seconds with at most three digits behind the point.
pub(super) fn time(out: &mut String, ms: i64) {
    let size = ms.unsigned_abs();
    let sign = if ms < 0 { "-" } else { "" };
    let _ = match size % 1000 {
        0 => write!(out, "{sign}{}", size / 1000),
        rest => write!(out, "{sign}{}.{rest:03}", size / 1000),
    };
}

/// A float as a string, as Prometheus writes it: plain digits, but an exponent of two digits or more
/// below a millionth and from 1e21 on.
pub(super) fn float(out: &mut String, value: f64) {
    let _ = if value.is_nan() {
        write!(out, "\"NaN\"")
    } else if value.is_infinite() {
        write!(out, "\"{}Inf\"", if value > 0.0 { '+' } else { '-' })
    } else if value != 0.0 && !(1e-6..1e21).contains(&value.abs()) {
        let text = format!("{value:e}");
        let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let sign = if exponent.starts_with('-') { '-' } else { '+' };
        write!(out, "\"{digits}e{sign}{:0>2}\"", exponent.trim_start_matches('-'))
    } else {
        write!(out, "\"{value}\"")
    };
}

fn point(out: &mut String, (t, value): (i64, f64)) {
    out.push('[');
    time(out, t);
    out.push(',');
    float(out, value);
    out.push(']');
}

fn histogram_point(out: &mut String, (t, histogram): (i64, &Histogram)) {
    out.push('[');
    time(out, t);
    out.push_str(",{\"count\":");
    float(out, histogram.count);
    out.push_str(",\"sum\":");
    float(out, histogram.sum);
    let buckets = Work::from(histogram).buckets();
    if !buckets.is_empty() {
        out.push_str(",\"buckets\":");
        list(out, buckets, |out, bucket| {
            let rule = match (bucket.lower_in, bucket.upper_in) {
                (false, true) => 0,
                (true, false) => 1,
                (false, false) => 2,
                (true, true) => 3,
            };
            let _ = write!(out, "[{rule},");
            float(out, bucket.lower);
            out.push(',');
            float(out, bucket.upper);
            out.push(',');
            float(out, bucket.count);
            out.push(']');
        });
    }
    out.push_str("}]");
}

fn series(out: &mut String, one: &AnswerSeries, many: bool) {
    out.push_str("{\"metric\":");
    labels(out, &one.labels);
    let histograms = one.histograms.iter().map(|(t, histogram)| (*t, histogram.as_ref()));
    if many {
        if !one.floats.is_empty() {
            out.push_str(",\"values\":");
            list(out, one.floats.iter().copied(), point);
        }
        if !one.histograms.is_empty() {
            out.push_str(",\"histograms\":");
            list(out, histograms, histogram_point);
        }
    } else if let Some(float) = one.floats.first() {
        out.push_str(",\"value\":");
        point(out, *float);
    } else {
        for histogram in histograms {
            out.push_str(",\"histogram\":");
            histogram_point(out, histogram);
        }
    }
    out.push('}');
}

/// A whole answer in its envelope. `stats` are shown when asked for, `truncated` says that a limit
/// cut series off.
pub(super) fn answer(answer: &Answer, stats: bool, truncated: bool, seconds: f64) -> String {
    let mut out = String::with_capacity(256);
    out.push_str("{\"status\":\"success\",\"data\":{\"resultType\":");
    match &answer.value {
        AnswerValue::Scalar(t, value) => {
            out.push_str("\"scalar\",\"result\":");
            point(&mut out, (*t, *value));
        }
        AnswerValue::String(t, text) => {
            out.push_str("\"string\",\"result\":[");
            time(&mut out, *t);
            out.push(',');
            string(&mut out, text);
            out.push(']');
        }
        AnswerValue::Vector(all) => {
            out.push_str("\"vector\",\"result\":");
            list(&mut out, all, |out, one| series(out, one, false));
        }
        AnswerValue::Matrix(all) => {
            out.push_str("\"matrix\",\"result\":");
            list(&mut out, all, |out, one| series(out, one, true));
        }
    }
    if stats {
        let _ = write!(
            out,
            ",\"stats\":{{\"timings\":{{\"evalTotalTime\":{seconds},\"execTotalTime\":{seconds}}},\
             \"samples\":{{\"totalQueryableSamples\":{},\"peakSamples\":{}}}}}",
            answer.samples,
            answer.memory_peak / 16
        );
    }
    out.push('}');
    let cut = truncated.then_some(TRUNCATED);
    notes(&mut out, "warnings", answer.warnings.iter().map(String::as_str).chain(cut));
    notes(&mut out, "infos", answer.infos.iter().map(String::as_str));
    out.push('}');
    out
}

/// The warning that goes with an answer cut off by a limit.
const TRUNCATED: &str = "results truncated due to limit";

fn notes<'a>(out: &mut String, name: &str, texts: impl Iterator<Item = &'a str>) {
    let mut texts = texts.peekable();
    if texts.peek().is_some() {
        let _ = write!(out, ",\"{name}\":");
        list(out, texts, string);
    }
}

/// A list of data in its envelope, at most `limit` items of it (0 is all).
pub(super) fn limited<T>(mut items: Vec<T>, limit: usize, write: impl FnMut(&mut String, T)) -> String {
    let truncated = limit > 0 && items.len() > limit;
    if truncated {
        items.truncate(limit);
    }
    let mut out = String::from("{\"status\":\"success\",\"data\":");
    list(&mut out, items, write);
    notes(&mut out, "warnings", truncated.then_some(TRUNCATED).into_iter());
    out.push('}');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl FnOnce(&mut String)) -> String {
        let mut out = String::new();
        write(&mut out);
        out
    }

    #[test]
    fn floats_are_plain_digits_but_for_the_very_small_and_the_very_large() {
        assert_eq!(written(|out| float(out, 1e21)), "\"1e+21\"");
        assert_eq!(written(|out| float(out, 1e20)), "\"100000000000000000000\"");
        assert_eq!(written(|out| float(out, f64::NEG_INFINITY)), "\"-Inf\"");
        assert_eq!(written(|out| float(out, 5e-324)), "\"5e-324\"");
        assert_eq!(written(|out| float(out, -8.82e-7)), "\"-8.82e-07\"");
        assert_eq!(written(|out| float(out, 1e-6)), "\"0.000001\"");
        assert_eq!(written(|out| float(out, -0.0)), "\"-0\"");
    }

    #[test]
    fn times_are_seconds_with_milliseconds() {
        assert_eq!(written(|out| time(out, 1_500)), "1.500");
        assert_eq!(written(|out| time(out, -1)), "-0.001");
        assert_eq!(written(|out| time(out, 4_000)), "4");
    }

    #[test]
    fn control_characters_are_escaped() {
        assert_eq!(written(|out| string(out, "a\"\\\u{1}\n")), "\"a\\\"\\\\\\u0001\\n\"");
    }
}
