//! The YAML file, read as events so that every key keeps its line. A mapping within a mapping joins
//! its keys: `retention: {metrics: 30d}` is `retention-metrics: 30d`, and `wal.fsync` is `wal-fsync`.

use std::path::Path;

use saphyr_parser::{Event, Parser, ScalarStyle};

use super::origin::{ConfigError, Origin};

/// Bytes of a configuration file at most; a real one has a few hundred.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// How deep mappings may nest; names have two joints at most.
const DEPTH_MAX: usize = 4;

/// One key of the file and its value.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// The key, nested keys joined by dashes.
    pub(super) key: String,
    /// Its value as written.
    pub(super) text: String,
    /// Line of the key, from 1.
    pub(super) line: usize,
}

/// Reads the file at `path`.
///
/// # Errors
/// [`ConfigError::Unreadable`], [`ConfigError::File`].
pub(super) fn read(path: &Path) -> Result<Vec<Entry>, ConfigError> {
    let unreadable = |problem: String| ConfigError::Unreadable { path: path.to_owned(), problem };
    let meta = std::fs::metadata(path).map_err(|error| unreadable(error.to_string()))?;
    if meta.len() > FILE_BYTES_MAX {
        return Err(unreadable(format!("it has {} bytes, more than {FILE_BYTES_MAX}", meta.len())));
    }
    let text = std::fs::read_to_string(path).map_err(|error| unreadable(error.to_string()))?;
    parse(&text, path)
}

fn parse(text: &str, path: &Path) -> Result<Vec<Entry>, ConfigError> {
    let wrong = |line: usize, problem: &str| {
        let origin = Origin::File { path: path.to_owned(), line };
        ConfigError::File { origin, problem: problem.to_owned() }
    };
    let mut entries = Vec::new();
    // Keys of the mappings we are in, outermost first; the key that waits for its value.
    let mut prefix: Vec<String> = Vec::new();
    let mut depth = 0usize;
    let mut pending: Option<(String, usize)> = None;
    let mut documents = 0;
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| wrong(error.marker().line(), error.info()))?;
        let line = span.start.line();
        match event {
            Event::DocumentStart(_) => {
                documents += 1;
                if documents > 1 {
                    return Err(wrong(line, "a second document begins here; one file is one document"));
                }
            }
            Event::MappingStart(..) => {
                depth += 1;
                if depth > DEPTH_MAX {
                    return Err(wrong(line, "keys nest too deeply"));
                }
                match pending.take() {
                    Some((key, _)) => prefix.push(key),
                    None if depth == 1 => {}
                    None => return Err(wrong(line, "a mapping cannot be a key")),
                }
            }
            Event::MappingEnd => {
                depth -= 1;
                prefix.pop();
            }
            Event::SequenceStart(..) => {
                return Err(wrong(line, "a list is not expected here; every setting is one value"));
            }
            Event::Alias(_) => return Err(wrong(line, "anchors and aliases are not supported here")),
            Event::Scalar(value, style, ..) => match pending.take() {
                None if depth == 0 => {
                    // An empty document is one empty scalar.
                    if !is_null(&value, style) {
                        return Err(wrong(line, "the file must be a mapping such as `listen: 127.0.0.1:9090`"));
                    }
                }
                None => pending = Some((normal(&value), line)),
                Some((key, line)) => {
                    let key = prefix.iter().cloned().chain([key]).collect::<Vec<_>>().join("-");
                    if is_null(&value, style) {
                        return Err(wrong(line, &format!("{key} has no value")));
                    }
                    entries.push(Entry { key, text: value.into_owned(), line });
                }
            },
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
            _ => {}
        }
    }
    Ok(entries)
}

fn normal(key: &str) -> String {
    key.replace(['_', '.'], "-")
}

fn is_null(value: &str, style: ScalarStyle) -> bool {
    style == ScalarStyle::Plain && matches!(value, "" | "~" | "null")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(text: &str) -> Result<Vec<(String, String, usize)>, String> {
        let entries = parse(text, Path::new("t.yaml")).map_err(|error| error.to_string())?;
        Ok(entries.into_iter().map(|entry| (entry.key, entry.text, entry.line)).collect())
    }

    #[test]
    fn a_flat_file_and_a_nested_one_say_the_same() {
        let flat = keys("# comment\nretention-metrics: 30d\nwal.fsync: always\n").unwrap();
        assert_eq!(flat[0], ("retention-metrics".into(), "30d".into(), 2));
        assert_eq!(flat[1], ("wal-fsync".into(), "always".into(), 3));
        let nested = keys("retention:\n  metrics: 30d\nwal:\n  fsync: always\n").unwrap();
        assert_eq!(nested[0], ("retention-metrics".into(), "30d".into(), 2));
        assert_eq!(nested[1], ("wal-fsync".into(), "always".into(), 4));
    }

    #[test]
    fn an_empty_file_sets_nothing() {
        assert_eq!(keys("").unwrap(), []);
        assert_eq!(keys("# only a comment\n").unwrap(), []);
    }

    #[test]
    fn what_is_not_a_mapping_is_named_with_its_line() {
        assert!(keys("listen:\n  - a\n").unwrap_err().starts_with("t.yaml, line 2: a list"));
        assert!(keys("just text").unwrap_err().contains("must be a mapping"));
        assert!(keys("listen:\n").unwrap_err().contains("listen has no value"));
        assert!(keys("a: 1\n---\nb: 2\n").unwrap_err().contains("second document"));
        assert!(keys("a: [1\nb: }\n").unwrap_err().starts_with("t.yaml, line "));
    }

    #[test]
    fn deep_nesting_and_aliases_are_refused() {
        assert!(keys(&"{a: ".repeat(100_000)).is_err());
        assert!(keys(&"[".repeat(100_000)).is_err());
        assert!(keys("a: &x 1\nb: *x\n").unwrap_err().contains("aliases"));
    }
}
