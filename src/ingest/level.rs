//! Gives every line a `detected_level` as structured metadata, as Loki 3.7 does: Grafana colours lines and its
//! volume histogram by it. It comes from the line's own `detected_level`, else a label of the stream, metadata, OTLP's
//! severity number, the text, in this order; known levels have one name each, other words stay as they are.

use std::iter::once;

use super::in_text;
use crate::model::batch::StreamBatch;
use crate::model::labels::Labels;
use crate::model::log::LogEntry;

const DETECTED_LEVEL: &str = "detected_level";
const SEVERITY_NUMBER: &str = "severity_number";

/// Longest level, in bytes: a label is copied to every line of its stream.
const LEVEL_BYTES_MAX: usize = 64;

/// What labels or metadata say of a level.
#[derive(Default)]
struct Said<'a> {
    detected: Option<&'a str>,
    /// The value of the best name that gives a level.
    named: Option<&'a str>,
    number: Option<&'a str>,
}

/// Sees to it that each line has a `detected_level`, and that known levels are written alike.
pub(super) fn mark_lines(stream: &mut StreamBatch) {
    let StreamBatch { labels, entries } = stream;
    let labels = said(labels);
    let of_stream = labels.detected.or(labels.named).and_then(short);
    // Lines without other metadata share it: what a level makes of them, for the levels met so far.
    let mut alone: Vec<(&str, Labels)> = Vec::new();
    for LogEntry { line, metadata, .. } in entries {
        if metadata.is_empty() {
            let level = of_stream.unwrap_or_else(|| in_text::level(line));
            let known = alone.iter().find(|(known, _)| *known == level).map(|(_, made)| made.clone());
            *metadata = known.unwrap_or_else(|| {
                let made = with_level(metadata, level);
                alone.push((level, made.clone()));
                made
            });
            continue;
        }
        let own = said(metadata);
        let level = match own.detected {
            Some(level) => normal(level),
            None => of_stream
                .or_else(|| own.named.and_then(short))
                .or_else(|| own.number.map(of_number))
                .unwrap_or_else(|| in_text::level(line)),
        };
        if own.detected != Some(level) {
            *metadata = with_level(metadata, level);
        }
    }
}

fn said(labels: &Labels) -> Said<'_> {
    let mut said = Said::default();
    let mut best = usize::MAX;
    for (name, value) in labels {
        match name {
            DETECTED_LEVEL => said.detected = Some(value),
            SEVERITY_NUMBER => said.number = Some(value),
            _ => {
                if let Some(rank) = in_text::rank(name)
                    && rank < best
                {
                    (best, said.named) = (rank, Some(value));
                }
            }
        }
    }
    said
}

/// A level by the name it has here; `None` when the text is too long to be one.
fn short(level: &str) -> Option<&str> {
    (level.len() <= LEVEL_BYTES_MAX).then(|| normal(level))
}

fn normal(level: &str) -> &str {
    in_text::normal(level.as_bytes()).unwrap_or(level)
}

/// The level of a severity number (OpenTelemetry, logs data model), written out.
fn of_number(severity: &str) -> &'static str {
    match severity.parse::<i64>() {
        Err(_) => "info",
        Ok(0 | 25..) => "unknown",
        Ok(..=4) => "trace",
        Ok(5..=8) => "debug",
        Ok(9..=12) => "info",
        Ok(13..=16) => "warn",
        Ok(17..=20) => "error",
        Ok(21..=24) => "fatal",
    }
}

/// The same metadata with this level, which is not empty.
fn with_level(metadata: &Labels, level: &str) -> Labels {
    let before = metadata.iter().filter(|(name, _)| *name < DETECTED_LEVEL);
    let after = metadata.iter().filter(|(name, _)| *name > DETECTED_LEVEL);
    Labels::from_sorted(before.chain(once((DETECTED_LEVEL, level))).chain(after))
}

#[cfg(test)]
mod tests {
    use super::*;

    type Pairs<'a> = &'a [(&'a str, &'a str)];

    /// The metadata that a line gets, beside that of another line of the stream.
    fn marked(labels: Pairs<'_>, metadata: Pairs<'_>, line: &str) -> Labels {
        let entry = |line: &str, metadata: Pairs<'_>| LogEntry {
            t: 0,
            line: line.into(),
            metadata: Labels::from_pairs(metadata.iter().copied()).unwrap(),
        };
        let labels = Labels::from_pairs(labels.iter().copied()).unwrap();
        let entries = vec![entry("a critical one", &[]), entry(line, metadata), entry("", &[("trace_id", "1")])];
        let mut stream = StreamBatch { labels, entries };
        mark_lines(&mut stream);
        assert!(stream.entries.iter().all(|entry| entry.metadata.get(DETECTED_LEVEL).is_some()));
        stream.entries.remove(1).metadata
    }

    fn level(labels: Pairs<'_>, metadata: Pairs<'_>, line: &str) -> String {
        let marked = marked(labels, metadata, line);
        for (name, value) in metadata.iter().filter(|(name, _)| *name != DETECTED_LEVEL) {
            assert_eq!(marked.value(name), *value, "what was sent stays");
        }
        marked.value(DETECTED_LEVEL).to_owned()
    }

    #[test]
    fn a_level_has_one_name_whatever_it_comes_from() {
        for (word, name) in [
            ("ERROR", "error"),
            ("Warning", "warn"),
            ("inf", "info"),
            ("Information", "info"),
            ("TRC", "trace"),
            ("dbg", "debug"),
            ("CRITICAL", "critical"),
            ("Fatal", "fatal"),
            ("unknown", "unknown"),
            ("Notice", "Notice"),
        ] {
            for key in ["level", "LEVEL", "Level", "severity", "SEVERITY", "Severity", "SeverityText", "lvl", "LVL"] {
                assert_eq!(level(&[("job", "x"), (key, word)], &[], "fatal"), name, "label {key}={word}");
                assert_eq!(level(&[("job", "x")], &[("a", "b"), (key, word)], "fatal"), name, "metadata {key}={word}");
            }
            for key in ["Lvl", "severity_text", "Severity_Text", "SEVERITY_TEXT", DETECTED_LEVEL] {
                assert_eq!(level(&[], &[("z", "b"), (key, word)], "fatal"), name, "metadata {key}={word}");
            }
        }
        for key in ["levelname", "loglevel", "LeVel", "log_level"] {
            assert_eq!(level(&[(key, "error")], &[(key, "error")], "a debug line"), "debug", "{key}");
        }
    }

    #[test]
    fn severity_numbers_have_levels() {
        for (number, name) in [
            ("0", "unknown"),
            ("1", "trace"),
            ("4", "trace"),
            ("5", "debug"),
            ("8", "debug"),
            ("9", "info"),
            ("12", "info"),
            ("13", "warn"),
            ("16", "warn"),
            ("17", "error"),
            ("20", "error"),
            ("21", "fatal"),
            ("24", "fatal"),
            ("25", "unknown"),
            ("-1", "trace"),
            ("many", "info"),
        ] {
            assert_eq!(level(&[("job", "x")], &[(SEVERITY_NUMBER, number)], "a critical line"), name, "{number}");
        }
        assert_eq!(level(&[(SEVERITY_NUMBER, "9")], &[], "a critical line"), "critical", "a label is none");
    }

    #[test]
    fn the_first_source_that_says_something_counts() {
        let (line, number) = (r#"{"level":"trace"}"#, (SEVERITY_NUMBER, "5"));
        let text = ("severity_text", "Info");
        assert_eq!(level(&[("level", "Warn")], &[(DETECTED_LEVEL, "ERR"), number], line), "error");
        assert_eq!(level(&[("lvl", "Fatal"), ("level", "Warn")], &[("level", "x"), number], line), "warn");
        assert_eq!(level(&[], &[text, number, ("severity", "Crit")], line), "Crit");
        assert_eq!(level(&[], &[text, number], line), "info");
        assert_eq!(level(&[], &[number], line), "debug");
        assert_eq!(level(&[], &[], line), "trace");
        assert_eq!(level(&[], &[("a", "error")], "nothing"), "unknown");
    }

    #[test]
    fn a_long_value_is_no_level() {
        let long = "x".repeat(60_000);
        assert_eq!(level(&[("level", &long)], &[], "level=error"), "error");
        assert_eq!(level(&[], &[("level", &long)], "level=error"), "error");
        assert_eq!(level(&[], &[("level", &long), (SEVERITY_NUMBER, "9")], "level=error"), "info");
    }
}
