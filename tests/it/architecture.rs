//! Who may import whom, and which file owns which outside crate. ARCHITECTURE.md explains.

use std::fs;
use std::path::Path;

/// Each row names only rows above it, so a cycle cannot be written down.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("base", &[]),
    ("model", &["base"]),
    ("wire", &["base", "model"]),
    ("store", &["base", "model"]),
    ("ingest", &["base", "model", "store"]),
    ("receive", &["base", "model", "wire", "ingest"]),
    ("query", &["base", "model", "store"]),
    ("notify", &["base", "model"]),
    ("rules", &["base", "model", "ingest", "query", "notify"]),
    ("api", &["base", "model", "wire", "store", "query", "notify", "rules"]),
    ("ui", &["base"]),
    ("app", &["base", "model", "wire", "store", "ingest", "receive", "query", "notify", "rules", "api", "ui"]),
];

/// Outside crates and the only places that may name them.
const OWNERS: &[(&str, &[&str])] = &[
    ("sled", &["src/store/kv.rs"]),
    ("tantivy", &["src/store/text/"]),
    ("tantivy_fst", &["src/store/text/"]),
    ("prost", &["src/wire/"]),
    ("snap", &["src/wire/"]),
    ("opentelemetry_proto", &["src/wire/"]),
    ("flate2", &["src/wire/"]),
    ("regex", &["src/base/pattern/"]),
    ("regex_automata", &["src/base/pattern/"]),
    ("regex_syntax", &["src/base/pattern/"]),
    ("zmij", &["src/base/float_text.rs"]),
    ("percent_encoding", &["src/base/percent.rs"]),
    ("promql_parser", &["src/query/promql/parse.rs"]),
    ("rust_embed", &["src/ui.rs"]),
    ("axum", &["src/receive/", "src/api/", "src/ui.rs", "src/app/"]),
    ("serde", &["src/wire/", "src/api/", "src/app/"]),
    ("serde_json", &["src/wire/", "src/api/", "src/app/", "src/query/logql/"]),
];

fn source_files(folder: &Path) -> Vec<(String, String)> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(source_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push((path.to_str().unwrap().to_owned(), fs::read_to_string(&path).unwrap()));
        }
    }
    files
}

fn row(module: &str) -> &'static [&'static str] {
    MAY_IMPORT.iter().find(|(name, _)| *name == module).unwrap_or_else(|| panic!("no row for module {module}")).1
}

fn code(line: &str) -> &str {
    line.split("//").next().unwrap_or_default()
}

fn word(text: &str) -> &str {
    text.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap()
}

#[test]
fn modules_import_only_what_their_row_allows() {
    let mut edges = 0;
    for (path, text) in source_files(Path::new("src")) {
        let module = path.split(['/', '.']).nth(1).unwrap();
        if matches!(module, "lib" | "main") {
            continue;
        }
        for line in text.lines().map(code) {
            for rest in line.split("crate::").skip(1) {
                let target = word(rest);
                let allowed = target == module || row(module).contains(&target);
                assert!(allowed, "{path}: {module} may not import {target}: {line}");
                edges += 1;
            }
        }
    }
    assert!(edges > 10, "found only {edges} imports: is the test reading the tree?");
}

#[test]
fn a_row_names_only_rows_above_it() {
    for (at, (module, targets)) in MAY_IMPORT.iter().enumerate() {
        for target in *targets {
            assert!(MAY_IMPORT[..at].iter().any(|(name, _)| name == target), "{module} names {target} from below");
        }
    }
}

#[test]
fn outside_crates_are_named_only_by_their_owners() {
    for (path, text) in source_files(Path::new("src")) {
        for (crate_name, owners) in OWNERS {
            if owners.iter().any(|owner| path.starts_with(owner)) {
                continue;
            }
            for line in text.lines().map(code) {
                let named = line.match_indices(crate_name).any(|(at, _)| {
                    let before = line[..at].chars().last();
                    let after = &line[at + crate_name.len()..];
                    after.starts_with("::") && !before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':')
                });
                assert!(!named, "{path} may not name {crate_name}: {line}");
            }
        }
    }
}

#[test]
fn every_edge_shows_in_one_line() {
    for (path, text) in source_files(Path::new("src")) {
        for line in text.lines().map(code) {
            assert!(!line.contains("crate::{"), "{path}: one `use` a line, not a group from the root: {line}");
            assert!(!line.contains("super::super"), "{path}: name the module from the root: {line}");
        }
    }
}

#[test]
fn every_source_file_opens_with_what_it_promises() {
    for (path, text) in source_files(Path::new("src")) {
        assert!(text.starts_with("//!"), "{path} does not open with a //! line");
    }
}
