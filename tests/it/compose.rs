//! docker/compose.yaml, and the compose files of docs/migrate.md, as far as they can be checked without an engine: they name
//! only what exists, open nothing to the world, and every address in the recipe is one that a server answers at.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use serde_json::{Map, Value};
use trilith::app::config::{Config, Extra};

use super::docker_files::{docker, yaml_of};
use super::doors::send;

/// Keys of a service in these files. Compose has more; a slip of the pen should not be one of them.
const KEYS: &[&str] = &[
    "build",
    "command",
    "depends_on",
    "environment",
    "healthcheck",
    "image",
    "networks",
    "ports",
    "profiles",
    "pull_policy",
    "restart",
    "security_opt",
    "stop_grace_period",
    "volumes",
];

/// `text` with each `${NAME:-default}` as compose fills it in where no variable is set; their names go to `names`.
fn filled(text: &str, names: &mut BTreeSet<String>) -> String {
    let mut parts = text.split("${");
    let mut filled = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (variable, rest) = part.split_once('}').unwrap_or_else(|| panic!("{text}: no end of a variable"));
        let (name, default) = variable.split_once(":-").unwrap_or_else(|| panic!("{text}: {variable} has no default"));
        assert!(name.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_'), "{text}: {name}");
        names.insert(name.to_owned());
        filled.push_str(default);
        filled.push_str(rest);
    }
    filled
}

fn texts(list: &Value) -> Vec<&str> {
    list.as_array().into_iter().flatten().map(|text| text.as_str().unwrap()).collect()
}

fn keys(map: &Value) -> BTreeSet<&str> {
    map.as_object().into_iter().flat_map(Map::keys).map(String::as_str).collect()
}

/// Services that `service` waits for, in either form.
fn awaited(service: &Value) -> Vec<&str> {
    let short = texts(&service["depends_on"]);
    short.into_iter().chain(keys(&service["depends_on"])).collect()
}

/// What each service names is there: services, volumes, keys, and networks never by a name of their own.
fn check_names(place: &str, compose: &Value) {
    let services = compose["services"].as_object().unwrap();
    let volumes = keys(&compose["volumes"]);
    let mut mounted = BTreeSet::new();
    for (name, service) in services {
        for key in keys(service) {
            assert!(KEYS.contains(&key), "{place}: {name}: is {key} a key of compose?");
        }
        for other in awaited(service) {
            assert!(services.contains_key(other), "{place}: {name} waits for {other}, which is no service");
        }
        for volume in texts(&service["volumes"]) {
            let from = volume.split(':').next().unwrap();
            assert!(from.starts_with('.') || volumes.contains(from), "{place}: {name} mounts {from}");
            mounted.insert(from);
        }
    }
    for volume in volumes {
        assert!(mounted.contains(volume), "{place}: nobody has volume {volume}");
    }
}

#[test]
fn compose_names_only_files_services_and_volumes_that_exist_and_opens_loopback_alone() {
    let compose = yaml_of(&fs::read_to_string(docker("compose.yaml")).unwrap(), "compose.yaml");
    check_names("compose.yaml", &compose);
    let mut names = BTreeSet::new();
    for (name, service) in compose["services"].as_object().unwrap() {
        for volume in texts(&service["volumes"]).into_iter().filter(|volume| volume.starts_with('.')) {
            assert!(docker(volume.split(':').next().unwrap()).exists(), "{name} mounts {volume}");
        }
        for port in texts(&service["ports"]) {
            let port = filled(port, &mut names);
            assert!(port.starts_with("127.0.0.1:"), "{name} opens {port} to the world");
        }
        let image = filled(service["image"].as_str().unwrap(), &mut names);
        assert!(!image.is_empty() && !image.ends_with(":latest"), "{name}: {image}");
    }
    // Every port and image can be another.
    for name in ["TRILITH_IMAGE", "TRILITH_HTTP_PORT", "TRILITH_LOKI_PORT", "TRILITH_TEMPO_PORT", "GRAFANA_PORT"] {
        assert!(names.contains(name), "{name} in {names:?}");
    }
    let build = &compose["services"]["trilith"]["build"];
    assert!(docker(build["context"].as_str().unwrap()).join(build["dockerfile"].as_str().unwrap()).exists());
    yaml_of(&fs::read_to_string(docker("demo/prometheus.yml")).unwrap(), "demo/prometheus.yml");
}

#[test]
fn every_listener_is_published_the_demo_is_a_profile_and_grafana_keeps_what_is_made_in_it() {
    let compose = yaml_of(&fs::read_to_string(docker("compose.yaml")).unwrap(), "compose.yaml");
    let services = &compose["services"];
    let ports: BTreeSet<String> = texts(&services["trilith"]["ports"])
        .into_iter()
        .map(|port| filled(port, &mut BTreeSet::new()))
        .map(|port| port.trim_start_matches("127.0.0.1:").to_owned())
        .collect();
    let listeners = Extra::ALL.iter().map(|extra| extra.port()).chain([Config::default().listen.port()]);
    assert_eq!(ports, listeners.map(|port| format!("{port}:{port}")).collect());
    let with_profile = |wanted: bool| -> BTreeSet<&str> {
        let of = |service: &Value| texts(&service["profiles"]) == ["demo"];
        services
            .as_object()
            .unwrap()
            .iter()
            .filter(|(_, own)| of(own) == wanted)
            .map(|(name, _)| name.as_str())
            .collect()
    };
    assert_eq!(with_profile(false), ["grafana", "trilith"].into());
    assert_eq!(with_profile(true), ["node-exporter", "prometheus", "shop"].into());
    // What a plain `up` starts must not wait for what only the profile has.
    for name in with_profile(false) {
        assert!(awaited(&services[name]).iter().all(|other| with_profile(false).contains(other)), "{name}");
    }
    assert!(texts(&services["grafana"]["volumes"]).contains(&"grafana-data:/var/lib/grafana"));
    // An image that is there is taken, see the comment in the file.
    assert_eq!(services["trilith"]["pull_policy"], "missing");
    assert!(services["trilith"]["image"].is_string() && services["trilith"]["build"].is_object());
}

fn recipe() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/migrate.md");
    fs::read_to_string(path).unwrap()
}

/// The YAML of a Markdown text, in order.
fn yaml_blocks(text: &str) -> Vec<Value> {
    let after = text.split("```yaml\n").skip(1);
    after.map(|rest| yaml_of(rest.split("```").next().unwrap(), "docs/migrate.md")).collect()
}

/// The compose file that one has who follows the recipe: what it deletes is gone, what it writes out is as written.
fn after_the_recipe() -> Value {
    let blocks = yaml_blocks(&recipe());
    let (before, after) = (&blocks[0], &blocks[1]);
    check_names("before", before);
    let mut services = before["services"].as_object().unwrap().clone();
    for gone in ["prometheus", "loki", "tempo"] {
        assert!(services.remove(gone).is_some(), "{gone} was there before");
    }
    services.extend(after["services"].as_object().unwrap().clone());
    serde_json::json!({"services": services, "volumes": after["volumes"]})
}

#[test]
fn the_recipe_leads_to_a_compose_file_that_names_only_what_is_there() {
    let file = after_the_recipe();
    check_names("after", &file);
    let aliases = texts(&file["services"]["trilith"]["networks"]["default"]["aliases"]);
    assert_eq!(aliases, ["prometheus", "loki", "tempo", "jaeger"]);
    for alias in aliases {
        assert!(file["services"].get(alias).is_none(), "{alias} is a service and an alias of another");
    }
    for (name, service) in file["services"].as_object().unwrap() {
        let mut ports = texts(&service["ports"]).into_iter();
        assert!(name == "frontend" || ports.all(|port| port.starts_with("127.0.0.1:")), "{name} is open to the world");
    }
    // Each setting that the recipe makes is one, with a value that it can have.
    for (name, value) in file["services"]["trilith"]["environment"].as_object().unwrap() {
        let setting = name.trim_start_matches("TRILITH_").replace('_', "-").to_lowercase();
        Config::default().set(&setting, value.as_str().unwrap()).unwrap();
    }
    let agent = &yaml_blocks(&recipe())[3];
    check_names(
        "agent",
        &serde_json::json!({"services": {"trilith": {}, "scraper": agent["services"]["scraper"]},
        "volumes": agent["volumes"]}),
    );
}

/// Host and port, and the path after them, of every `http://…` in a text.
fn urls(text: &str) -> Vec<(String, u16, String)> {
    let end = |c: char| c.is_whitespace() || "`\"',;)}|".contains(c);
    let found = text.split("http://").skip(1).map(|rest| rest.split(end).next().unwrap().trim_end_matches('.'));
    found
        .filter_map(|url| {
            let (authority, path) = url.split_once('/').unwrap_or((url, ""));
            let (host, port) = authority.split_once(':')?;
            Some((host.to_owned(), port.parse().ok()?, path.to_owned()))
        })
        .collect()
}

/// A request that a client of the address would make: method, path, body, and the status of its answer.
fn probe(port: u16, path: &str) -> (&'static str, String, &'static str, u16) {
    match (port, path) {
        (9090, "jaeger") => ("GET", "/jaeger/api/services".to_owned(), "", 200),
        (9090, "") => ("GET", "/api/v1/query?query=1".to_owned(), "", 200),
        (3100, "") => ("GET", "/loki/api/v1/labels".to_owned(), "", 200),
        (3200, "") => ("GET", "/api/search?q=%7B%7D".to_owned(), "", 200),
        (4317 | 4318, "") => ("POST", "/v1/traces".to_owned(), "{\"resourceSpans\":[]}", 200),
        // Pushes of nothing: understood, and found wanting.
        (9090, "api/v1/write") => ("POST", format!("/{path}"), "x", 400),
        (3100, "loki/api/v1/push") => ("POST", format!("/{path}"), "{\"streams\":[]}", 422),
        _ => panic!("the recipe names http://…:{port}/{path}: which request is that?"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_address_that_the_recipe_leaves_is_answered() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = Config::for_tests(folder.path());
    config.no_extra_listeners = false;
    for extra in Extra::ALL {
        config.set(extra.flag(), "127.0.0.1:0").unwrap();
    }
    let mut server = trilith::app::run(config, None).await.unwrap();
    server.ready().await.unwrap();
    let mut by_port: BTreeMap<u16, SocketAddr> = BTreeMap::from([(9090, server.addresses.main)]);
    by_port.extend(Extra::ALL.map(|extra| (extra.port(), server.addresses.extra[&extra])));

    let file = after_the_recipe();
    let aliases = texts(&file["services"]["trilith"]["networks"]["default"]["aliases"]);
    let text = recipe();
    let (_, after) = text.split_once("## After").unwrap();
    let mut asked = BTreeSet::new();
    for (host, port, path) in urls(after) {
        if host != "trilith" && !aliases.contains(&host.as_str()) {
            let known = file["services"].get(&host).is_some() || ["localhost", "loki-old"].contains(&host.as_str());
            assert!(known, "the recipe names {host}");
            continue;
        }
        let address = *by_port.get(&port).unwrap_or_else(|| panic!("nothing listens at {host}:{port}"));
        let (method, request, body, status) = probe(port, &path);
        let json = "Content-Type: application/json\r\n";
        let answer = send(address, method, &request, json, body.as_bytes()).await;
        assert_eq!(answer.status, status, "{host}:{port}/{path}: {request}: {}", answer.text());
        asked.insert((host, port, path));
    }
    assert!(asked.len() >= 8, "only {asked:?}");
    server.stop().await;
}
