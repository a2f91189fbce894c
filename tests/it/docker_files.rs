//! The files below docker/, as far as they can be checked without a Docker engine: they parse, they name
//! only what exists, and every query in them is one that this server can parse.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use saphyr_parser::{Event, Parser, ScalarStyle};
use serde_json::{Map, Value};
use trilith::base::limits::QueryBudget;
use trilith::base::pattern::{Dialect, Regex};

pub(super) fn docker(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docker").join(path)
}

fn yaml(path: &Path) -> Value {
    yaml_of(&fs::read_to_string(path).unwrap(), &path.display().to_string())
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

fn dashboards() -> Vec<(PathBuf, Value)> {
    let files = fs::read_dir(docker("grafana/dashboards")).unwrap().map(|entry| entry.unwrap().path());
    files.map(|path| (path.clone(), serde_json::from_slice(&fs::read(&path).unwrap()).unwrap())).collect()
}

fn datasources() -> Vec<Value> {
    let file = yaml(&docker("grafana/provisioning/datasources/trilith.yaml"));
    assert_eq!(file["apiVersion"], 1);
    file["datasources"].as_array().unwrap().clone()
}

/// Every value at a key of that name, however deep.
fn find<'a>(value: &'a Value, key: &str, found: &mut Vec<&'a Value>) {
    match value {
        Value::Object(map) => {
            for (name, value) in map {
                if name == key {
                    found.push(value);
                }
                find(value, key, found);
            }
        }
        Value::Array(values) => values.iter().for_each(|value| find(value, key, found)),
        _ => {}
    }
}

fn all<'a>(value: &'a Value, key: &str) -> Vec<&'a Value> {
    let mut found = Vec::new();
    find(value, key, &mut found);
    found
}

#[test]
fn the_four_data_sources_are_there_and_link_to_each_other() {
    let sources = datasources();
    let kinds: BTreeSet<&str> = sources.iter().map(|source| source["type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["jaeger", "loki", "prometheus", "tempo"].into());
    let uids: BTreeSet<&str> = sources.iter().map(|source| source["uid"].as_str().unwrap()).collect();
    assert_eq!(uids.len(), sources.len());
    let mut links = 0;
    for source in &sources {
        assert!(source["url"].as_str().unwrap().starts_with("http://trilith:9090"), "{source}");
        for uid in all(source, "datasourceUid") {
            assert!(uids.contains(uid.as_str().unwrap()), "{uid} is no data source");
            links += 1;
        }
    }
    assert!(links >= 6, "only {links} links");
    let of = |kind: &str| sources.iter().find(|source| source["type"] == kind).unwrap()["jsonData"].clone();
    assert!(of("prometheus")["exemplarTraceIdDestinations"].is_array());
    assert!(of("loki")["derivedFields"].is_array());
    for kind in ["tempo", "jaeger"] {
        assert!(of(kind)["tracesToLogsV2"].is_object() && of(kind)["tracesToMetrics"].is_object(), "{kind}");
    }
    for regex in all(&Value::Array(sources.clone()), "matcherRegex") {
        Regex::new(regex.as_str().unwrap(), Dialect::Groups, &QueryBudget::unlimited()).unwrap();
    }
}

#[test]
fn dashboards_use_data_sources_that_exist_and_panels_that_do_not_overlap() {
    let sources = datasources();
    let uids: BTreeSet<&str> = sources.iter().map(|source| source["uid"].as_str().unwrap()).collect();
    let dashboards = dashboards();
    assert_eq!(dashboards.len(), 2);
    for (path, dashboard) in &dashboards {
        let place = path.display();
        assert!(dashboard["uid"].is_string() && dashboard["title"].is_string(), "{place}");
        for source in all(dashboard, "datasource") {
            let uid = source["uid"].as_str().unwrap();
            assert!(uids.contains(uid), "{place}: {uid} is no data source");
            let kind = &sources.iter().find(|source| source["uid"] == uid).unwrap()["type"];
            assert_eq!(&source["type"], kind, "{place}");
        }
        let mut taken = BTreeSet::new();
        let mut ids = BTreeSet::new();
        for panel in dashboard["panels"].as_array().unwrap() {
            assert!(ids.insert(panel["id"].as_i64().unwrap()), "{place}: an id twice");
            let at = |name: &str| panel["gridPos"][name].as_i64().unwrap();
            for cell in (at("x")..at("x") + at("w")).flat_map(|x| (at("y")..at("y") + at("h")).map(move |y| (x, y))) {
                assert!(cell.0 < 24 && taken.insert(cell), "{place}: panel {} overlaps", panel["title"]);
            }
        }
    }
    let provider = yaml(&docker("grafana/provisioning/dashboards/trilith.yaml"));
    let folder = provider["providers"][0]["options"]["path"].as_str().unwrap().to_owned();
    let compose = yaml(&docker("compose.yaml"));
    let mounts = compose["services"]["grafana"]["volumes"].to_string();
    assert!(mounts.contains(&format!("./grafana/dashboards:{folder}:ro")), "{mounts}");
}

/// A query as Grafana would send it: with its own variables filled in.
fn filled(query: &str) -> String {
    let mut query = query.replace("{$$__tags}", "{job=\"x\"}");
    for (variable, value) in [
        ("$__rate_interval", "1m"),
        ("$__auto", "1m"),
        ("$__range", "30m"),
        ("$job", "x"),
        ("$app", "x"),
        ("$search", "x"),
    ] {
        query = query.replace(variable, value);
    }
    assert!(!query.contains('$'), "a variable that is not known here: {query}");
    query
}

/// Every query in the dashboards and in the links of data sources, with the type of its data source.
fn queries() -> Vec<(String, String)> {
    let mut queries = Vec::new();
    for (_, dashboard) in dashboards() {
        for target in all(&dashboard, "targets").iter().flat_map(|targets| targets.as_array().unwrap()) {
            let kind = target["datasource"]["type"].as_str().unwrap().to_owned();
            queries.push((kind, filled(target["expr"].as_str().unwrap())));
        }
    }
    let sources = Value::Array(datasources());
    let linked = all(&sources, "query");
    queries.extend(linked.iter().map(|query| ("prometheus".to_owned(), filled(query.as_str().unwrap()))));
    assert!(queries.len() > 25, "only {} queries", queries.len());
    queries
}

#[tokio::test(flavor = "multi_thread")]
async fn every_query_in_dashboards_and_links_is_answered() {
    let (server, _folder) = super::doors::server().await;
    for (kind, query) in queries() {
        let path = if kind == "loki" { "/loki/api/v1/query_range" } else { "/api/v1/query_range" };
        let escaped: String = query.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let path = format!("{path}?query={escaped}&start=1700000000&end=1700000600&step=60");
        let answer = super::doors::get(server.addresses.main, &path).await;
        assert_eq!(answer.status, 200, "{kind}: {query}: {}", answer.text());
    }
    server.stop().await;
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
