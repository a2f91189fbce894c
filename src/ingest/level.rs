//! Gives every line a `detected_level` as structured metadata, as Loki does: Grafana colours lines
//! and its volume histogram by it. Labels and metadata are believed verbatim; of a line's text only
//! the first [`SCAN_BYTES_MAX`] bytes are read, once, and what is found is normalised.

use crate::model::batch::StreamBatch;
use crate::model::labels::Labels;
use crate::model::log::LogEntry;

const DETECTED_LEVEL: &str = "detected_level";
const UNKNOWN: &str = "unknown";

/// Bytes of a line that are searched for a level.
const SCAN_BYTES_MAX: usize = 4096;

/// Longest level, in bytes: a label is copied to every line of its stream.
const LEVEL_BYTES_MAX: usize = 64;

/// Labels and metadata that give the level, best first.
const NAMED_BY: &[&str] = &[DETECTED_LEVEL, "level", "LEVEL", "Level", "severity", "SEVERITY", "lvl", "LVL"];

/// Keys of JSON and logfmt lines that give the level.
const KEYS: &[&str] = &["level", "lvl", "severity", "log.level", "severity_text"];

/// Adds `detected_level` to the metadata of each line that has none.
pub(super) fn mark_lines(stream: &mut StreamBatch) {
    let of_stream = given(&stream.labels).map(str::to_owned);
    for entry in &mut stream.entries {
        if entry.metadata.get(DETECTED_LEVEL).is_some() {
            continue;
        }
        let level = match &of_stream {
            Some(level) => level.as_str(),
            None => of_line(entry),
        };
        entry.metadata = entry.metadata.with(DETECTED_LEVEL, level);
    }
}

fn given(labels: &Labels) -> Option<&str> {
    let level = NAMED_BY.iter().find_map(|name| labels.get(name));
    level.filter(|level| level.len() <= LEVEL_BYTES_MAX)
}

fn of_line(entry: &LogEntry) -> &str {
    given(&entry.metadata).unwrap_or_else(|| of_text(&entry.line))
}

/// The part of a line that is searched; a character at its end is not cut in two.
fn head(line: &str) -> &str {
    if line.len() <= SCAN_BYTES_MAX {
        return line;
    }
    (SCAN_BYTES_MAX - 3..=SCAN_BYTES_MAX).rev().find_map(|end| line.get(..end)).unwrap_or_default()
}

/// The level that a line's text names.
fn of_text(line: &str) -> &'static str {
    let line = head(line).trim_start();
    let found = if line.starts_with('{') { in_json(line) } else { in_logfmt(line).or_else(|| in_words(line)) };
    found.unwrap_or(UNKNOWN)
}

/// The name that stands for a level, whatever its case; `None` for other words.
fn normal(word: &str) -> Option<&'static str> {
    const NAMES: &[(&str, &str)] = &[
        ("trace", "trace"),
        ("trc", "trace"),
        ("debug", "debug"),
        ("dbg", "debug"),
        ("info", "info"),
        ("inf", "info"),
        ("information", "info"),
        ("warn", "warn"),
        ("wrn", "warn"),
        ("warning", "warn"),
        ("error", "error"),
        ("err", "error"),
        ("critical", "critical"),
        ("fatal", "fatal"),
    ];
    NAMES.iter().find(|(name, _)| name.eq_ignore_ascii_case(word)).map(|(_, level)| *level)
}

fn is_level_key(key: &str) -> bool {
    KEYS.iter().any(|name| name.eq_ignore_ascii_case(key))
}

/// Looks for a level key with a string value at the top of a JSON object. Not a parser: on text
/// that is no JSON it finds something or nothing, in one pass.
fn in_json(line: &str) -> Option<&'static str> {
    let mut depth = 0usize;
    let mut rest = line;
    let mut key: Option<&str> = None;
    loop {
        let at = rest.find(['{', '}', '[', ']', '"', ','])?;
        let (_, found) = rest.split_at_checked(at)?;
        let mut chars = found.chars();
        let c = chars.next()?;
        rest = chars.as_str();
        match c {
            '{' | '[' => depth += 1,
            '}' | ']' => depth = depth.checked_sub(1)?,
            ',' => key = None,
            _ => {
                let (text, after) = string(rest)?;
                rest = after;
                if depth != 1 {
                    continue;
                }
                match key.take() {
                    None if rest.trim_start().starts_with(':') => key = Some(text),
                    Some(name) if is_level_key(name) => return normal(text),
                    None | Some(_) => {}
                }
            }
        }
        if depth == 0 {
            return None;
        }
    }
}

/// The text up to a closing quote, escapes left as they are, and what follows it.
fn string(rest: &str) -> Option<(&str, &str)> {
    let mut escaped = false;
    let end = rest.find(|c| {
        let closes = c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        closes
    })?;
    Some((rest.get(..end)?, rest.get(end + 1..)?))
}

/// Looks for `level=word`, also with blanks around the sign and quotes around the word.
fn in_logfmt(line: &str) -> Option<&'static str> {
    line.match_indices('=').find_map(|(at, _)| {
        let key = line.get(..at)?.trim_end();
        let key = key.rsplit(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '.')).next()?;
        if !is_level_key(key) {
            return None;
        }
        let value = line.get(at + 1..)?.trim_start().trim_start_matches('"');
        normal(value.split(|c: char| !c.is_ascii_alphanumeric()).next()?)
    })
}

/// Looks for the first word that names a level: marked as one (`[error]`, `ERROR:`), or one that is
/// telling by itself. A bare `warn`, `fatal` or `trace` is an ordinary word.
fn in_words(line: &str) -> Option<&'static str> {
    let bytes = line.as_bytes();
    let mut start = 0;
    while start < bytes.len() {
        let letters = bytes.iter().skip(start).take_while(|byte| byte.is_ascii_alphabetic()).count();
        if (3..=11).contains(&letters) {
            let before = start.checked_sub(1).and_then(|at| bytes.get(at));
            let after = bytes.get(start + letters);
            let marked = after == Some(&b':') || (before == Some(&b'[') && after == Some(&b']'));
            let level = line.get(start..start + letters).and_then(|word| {
                let telling = ["error", "warning", "info", "debug", "critical"];
                let tells = marked || telling.iter().any(|name| name.eq_ignore_ascii_case(word));
                if tells { normal(word) } else { None }
            });
            if level.is_some() {
                return level;
            }
        }
        start += letters.max(1);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_found_in_json_logfmt_and_words() {
        let cases = [
            (r#"{"msg":"a \"level\":","level":"WARN"}"#, "warn"),
            (r#"{"a":{"level":"error"},"log.level":"info"}"#, "info"),
            (r#"{"level":30}"#, "unknown"),
            (r#"{"level":30,"x":"error"}"#, "unknown"),
            (r#"{"LEVEL":"error"}"#, "error"),
            (r#"ts=1 lvl=debug msg="x""#, "debug"),
            (r#"severity="error" x"#, "error"),
            ("level = info", "info"),
            ("level=notice", "unknown"),
            ("2026-01-01 [error] broken", "error"),
            ("ERROR: broken", "error"),
            ("info: fine", "info"),
            ("a warning was issued", "warn"),
            ("FATAL x", "unknown"),
            ("TRACE x", "unknown"),
            ("I warn you", "unknown"),
            ("E1122 10:00:00 klog", "unknown"),
            ("", "unknown"),
        ];
        for (line, level) in cases {
            assert_eq!(of_text(line), level, "{line}");
        }
    }

    #[test]
    fn a_stream_label_comes_before_metadata_and_text() {
        let entry = |line: &str, metadata: &[(&str, &str)]| LogEntry {
            t: 0,
            line: line.into(),
            metadata: Labels::from_pairs(metadata.iter().copied()).unwrap(),
        };
        let mut stream = StreamBatch {
            labels: Labels::default(),
            entries: vec![entry("level=error", &[("lvl", "Verbatim")]), entry("level=error", &[])],
        };
        mark_lines(&mut stream);
        let levels: Vec<_> = stream.entries.iter().map(|entry| entry.metadata.value(DETECTED_LEVEL)).collect();
        assert_eq!(levels, ["Verbatim", "error"]);
        stream.labels = Labels::from_pairs([("level", "x".repeat(60_000))]).unwrap();
        stream.entries = vec![entry("level=error", &[])];
        mark_lines(&mut stream);
        assert_eq!(stream.entries[0].metadata.value(DETECTED_LEVEL), "error", "a long label is no level");
        stream.labels = Labels::from_pairs([("severity", "odd")]).unwrap();
        stream.entries = vec![entry("level=error", &[("lvl", "x")])];
        mark_lines(&mut stream);
        assert_eq!(stream.entries[0].metadata.value(DETECTED_LEVEL), "odd");
    }

    #[test]
    fn only_the_head_of_a_long_line_is_read() {
        for odd in ["", "x", "xx"] {
            let line = format!("{odd}{} [error]", "ü€".repeat(2_000));
            assert_eq!(of_text(&line), "unknown");
            assert!(head(&line).len() > SCAN_BYTES_MAX - 4);
        }
    }

    proptest::proptest! {
        #[test]
        fn no_line_makes_it_panic(line in "[\\PC{}\\[\\]\":,=\\\\]{0,60}") {
            of_text(&line);
            of_text(&format!("{{{line}"));
        }
    }
}
