//! The container image's files, as far as they can be checked without a Docker engine, and a reader of YAML for
//! those who check the others below docker/ (`compose.rs`, `dashboards.rs`).

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use saphyr_parser::{Event, Parser, ScalarStyle};
use serde_json::{Map, Value};

pub(super) fn docker(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docker").join(path)
}

/// YAML of `place` as JSON; plain scalars that look like booleans or numbers become those.
pub(super) fn yaml_of(text: &str, place: &str) -> Value {
    // Each open collection: its keys (for a mapping) and its values so far.
    let mut open: Vec<(bool, Vec<Value>)> = vec![(false, Vec::new())];
    for event in Parser::new_from_str(text) {
        let (event, span) = event.unwrap_or_else(|error| panic!("{place}: {error}"));
        match event {
            Event::MappingStart(..) => open.push((true, Vec::new())),
            Event::SequenceStart(..) => open.push((false, Vec::new())),
            Event::MappingEnd | Event::SequenceEnd => {
                let (is_mapping, values) = open.pop().unwrap();
                let closed = if is_mapping { mapping(values, place, span.start.line()) } else { Value::Array(values) };
                open.last_mut().unwrap().1.push(closed);
            }
            Event::Scalar(text, style, ..) => open.last_mut().unwrap().1.push(scalar(&text, style)),
            Event::Alias(_) => panic!("{place}: an alias"),
            _ => {}
        }
    }
    let (_, mut documents) = open.pop().unwrap();
    assert_eq!(documents.len(), 1, "{place} is one document");
    documents.remove(0)
}

fn mapping(values: Vec<Value>, place: &str, line: usize) -> Value {
    let mut map = Map::new();
    for pair in values.chunks(2) {
        let key = pair[0].as_str().unwrap_or_default().to_owned();
        assert!(map.insert(key.clone(), pair[1].clone()).is_none(), "{place}: {key} twice before line {line}");
    }
    Value::Object(map)
}

fn scalar(text: &str, style: ScalarStyle) -> Value {
    if style == ScalarStyle::Plain {
        if matches!(text, "" | "~" | "null") {
            return Value::Null;
        }
        if let Ok(value @ (Value::Bool(_) | Value::Number(_))) = serde_json::from_str(text) {
            return value;
        }
    }
    Value::String(text.to_owned())
}

#[test]
fn the_image_takes_in_what_the_build_needs_and_sets_only_what_the_server_knows() {
    let text = fs::read_to_string(docker("Dockerfile")).unwrap();
    let root = docker("..");
    let ignored = fs::read_to_string(root.join(".dockerignore")).unwrap();
    assert!(ignored.starts_with("*\n"), "everything is kept out but what is named");
    for needed in ["Cargo.toml", "Cargo.lock", "src", "web", "migrations", "tests"] {
        assert!(root.join(needed).exists() && ignored.lines().any(|kept| kept == format!("!{needed}")), "{needed}");
    }
    let names: BTreeSet<String> = trilith::app::config::SETTINGS
        .iter()
        .map(|setting| format!("TRILITH_{}", setting.name.replace('-', "_").to_uppercase()))
        .collect();
    let set = text.split(|c: char| c != '_' && !c.is_ascii_uppercase()).filter(|word| word.starts_with("TRILITH_"));
    let unknown: Vec<&str> = set.filter(|word| !names.contains(*word)).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
    assert!(text.contains("FROM scratch") && text.contains("HEALTHCHECK"));
}

#[test]
fn the_readme_names_every_setting_with_its_default() {
    let readme = fs::read_to_string(docker("../README.md")).unwrap();
    for setting in trilith::app::config::SETTINGS {
        let row = readme.lines().find(|line| line.starts_with('|') && line.contains(&format!("`{}`", setting.name)));
        let row = row.unwrap_or_else(|| panic!("README.md does not name {}", setting.name));
        let default = if setting.default.starts_with("main's") { "main's address" } else { setting.default };
        assert!(row.contains(default), "README.md: {} has the default {default}: {row}", setting.name);
    }
}
