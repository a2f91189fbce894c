//! The dashboards and data sources below docker/grafana: their structure, and each query as Grafana would send it,
//! answered by a server without data and by one that has what the services of `fastapi.rs` send.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use serde_json::Value;
use trilith::base::limits::QueryBudget;
use trilith::base::pattern::{Dialect, Regex};

use super::docker_files::{docker, yaml_of};
use super::doors::{get, send, server};
use super::fastapi::{TRACE, fill};
use super::shop::now;
use super::trace_api::q;

/// Seconds that a dashboard shows.
const SHOWN: i64 = 1_800;
/// Dots of a graph that Grafana asks for on a wide screen.
const POINTS: i64 = 1_000;

fn yaml(path: &str) -> Value {
    yaml_of(&fs::read_to_string(docker(path)).unwrap(), path)
}

fn datasources() -> Vec<Value> {
    let file = yaml("grafana/provisioning/datasources/trilith.yaml");
    assert_eq!(file["apiVersion"], 1);
    file["datasources"].as_array().unwrap().clone()
}

fn source(kind: &str) -> Value {
    datasources().into_iter().find(|source| source["type"] == kind).unwrap()
}

/// The dashboards by the names of their files.
fn dashboards() -> BTreeMap<String, Value> {
    let files = fs::read_dir(docker("grafana/dashboards")).unwrap().map(|entry| entry.unwrap().path());
    let named = |path: std::path::PathBuf| {
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        (name, serde_json::from_slice(&fs::read(&path).unwrap()).unwrap())
    };
    files.map(named).collect()
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().map_or(&[], Vec::as_slice)
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_else(|| panic!("no {key} in {value}"))
}

/// Every value at a key of that name, however deep.
fn all<'a>(value: &'a Value, key: &str) -> Vec<&'a Value> {
    match value {
        Value::Object(map) => {
            let deeper = map.values().flat_map(|value| all(value, key));
            map.get(key).into_iter().chain(deeper).collect()
        }
        Value::Array(values) => values.iter().flat_map(|value| all(value, key)).collect(),
        _ => Vec::new(),
    }
}

#[test]
fn the_four_data_sources_are_there_and_link_to_each_other() {
    let sources = datasources();
    let kinds: BTreeSet<&str> = sources.iter().map(|source| text(source, "type")).collect();
    assert_eq!(kinds, ["jaeger", "loki", "prometheus", "tempo"].into());
    let uids: BTreeSet<&str> = sources.iter().map(|source| text(source, "uid")).collect();
    assert_eq!(uids.len(), sources.len());
    let mut links = 0;
    for source in &sources {
        assert!(text(source, "url").starts_with("http://trilith:9090"), "{source}");
        for uid in all(source, "datasourceUid") {
            assert!(uids.contains(uid.as_str().unwrap()), "{uid} is no data source");
            links += 1;
        }
    }
    assert!(links >= 6, "only {links} links");
    let of = |kind: &str| source(kind)["jsonData"].clone();
    assert!(of("prometheus")["exemplarTraceIdDestinations"].is_array());
    for kind in ["tempo", "jaeger"] {
        assert!(of(kind)["tracesToLogsV2"].is_object() && of(kind)["tracesToMetrics"].is_object(), "{kind}");
    }
}

/// The regular expressions of the links from lines to traces: over the line, and over names of labels.
fn derived() -> (Regex, Regex) {
    let loki = source("loki");
    let fields = list(&loki["jsonData"], "derivedFields");
    let of = |of_labels: bool| {
        let is = |field: &&Value| (field["matcherType"] == "label") == of_labels;
        let [field] = fields.iter().filter(is).collect::<Vec<_>>()[..] else { panic!("one field of each kind") };
        assert_eq!((text(field, "url"), text(field, "datasourceUid")), ("$${__value.raw}", "trilith-traces"));
        // Of two dollars in a provisioning file Grafana takes one.
        let regex = text(field, "matcherRegex").replace("$$", "$");
        // A browser reads it: what only one of the two knows is not used.
        assert!(!regex.contains("(?") && !regex.contains("[["), "{regex}");
        Regex::new(&regex, Dialect::Groups, &QueryBudget::unlimited()).unwrap()
    };
    (of(false), of(true))
}

#[test]
fn a_trace_id_is_found_however_a_line_says_it() {
    let (line, label) = derived();
    let short = &TRACE[..16];
    for (text, id) in [
        (format!(r#"{{"trace_id": "{TRACE}", "levelname": "ERROR"}}"#), TRACE),
        (format!(r#"{{"level":"error","trace_id":"{TRACE}"}}"#), TRACE),
        (format!(r#"{{"traceId" : "{TRACE}"}}"#), TRACE),
        (format!(r#"{{"traceID":"{short}"}}"#), short),
        (format!(r#"{{"otelTraceID": "{TRACE}", "otelSpanID": "eee19b7ec3c1b174"}}"#), TRACE),
        (format!("level=info trace_id={TRACE} msg=x"), TRACE),
        (format!("level=info traceID=\"{TRACE}\" msg=x"), TRACE),
        (format!("INFO [app] [trace_id={TRACE} span_id=eee19b7ec3c1b174] - x"), TRACE),
        (format!("{{'trace_id': '{TRACE}'}}"), TRACE),
        (format!("Trace ID: {TRACE}"), TRACE),
    ] {
        let found = line.captures(&text).unwrap_or_else(|| panic!("nothing in {text}"));
        assert_eq!(found.get(1), Some(id), "{text}");
    }
    for text in [r#"{"trace_id": ""}"#, r#"{"trace_id":null}"#, "trace_id=0 span_id=0", "trace_id=<none>", "a trace"] {
        assert!(line.captures(text).is_none(), "{text}");
    }
    for name in ["trace_id", "traceId", "traceID", "traceid", "otelTraceID"] {
        assert!(label.is_match(name), "{name}");
    }
    for name in ["parent_trace_id_source", "span_id", "retrace_ideas"] {
        assert!(!label.is_match(name), "{name}");
    }
}

/// Words of letters and `_` that begin as names of this server's metrics do.
fn own_names(text: &str) -> impl Iterator<Item = &str> {
    let words = text.split(|c: char| !(c.is_ascii_lowercase() || c == '_'));
    words.filter(|word| word.starts_with("trilith_") || word.starts_with("process_"))
}

fn sources(folder: &Path, names: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, names);
        } else {
            names.extend(own_names(&fs::read_to_string(&path).unwrap()).map(str::to_owned));
        }
    }
}

/// Also those that a healthy server never shows, such as failures.
#[test]
fn every_metric_that_is_asked_of_trilith_is_one_that_it_has() {
    let mut known = BTreeSet::new();
    sources(&docker("../src"), &mut known);
    let board = &dashboards()["trilith-server"];
    let asked: BTreeSet<String> =
        all(board, "expr").iter().flat_map(|expr| own_names(expr.as_str().unwrap()).map(str::to_owned)).collect();
    assert!(asked.len() > 30, "only {asked:?}");
    assert_eq!(asked.difference(&known).collect::<Vec<_>>(), [""; 0]);
}

#[test]
fn dashboards_are_whole() {
    let sources = datasources();
    let dashboards = dashboards();
    let names: Vec<&str> = dashboards.keys().map(String::as_str).collect();
    assert_eq!(names, ["application-logs", "service-metrics", "trilith-server"]);
    let uids: BTreeSet<&str> = dashboards.values().map(|dashboard| text(dashboard, "uid")).collect();
    assert_eq!(uids.len(), dashboards.len());
    for (name, dashboard) in &dashboards {
        assert!(!text(dashboard, "title").is_empty() && dashboard["tags"][0] == "trilith", "{name}");
        for source in all(dashboard, "datasource") {
            let known = sources.iter().find(|known| known["uid"] == source["uid"]);
            assert_eq!(known.map(|known| &known["type"]), Some(&source["type"]), "{name}: {source}");
        }
        let mut taken = BTreeSet::new();
        let mut ids = BTreeSet::new();
        for panel in list(dashboard, "panels") {
            let place = format!("{name}: {}", text(panel, "title"));
            assert!(ids.insert(panel["id"].as_i64().unwrap()), "{place}: an id twice");
            let at = |name: &str| panel["gridPos"][name].as_i64().unwrap();
            for cell in (at("x")..at("x") + at("w")).flat_map(|x| (at("y")..at("y") + at("h")).map(move |y| (x, y))) {
                assert!(cell.0 < 24 && taken.insert(cell), "{place} overlaps");
            }
            if panel["type"] == "row" {
                continue;
            }
            let refs: BTreeSet<&str> = list(panel, "targets").iter().map(|target| text(target, "refId")).collect();
            assert!(!refs.is_empty() && refs.len() == list(panel, "targets").len(), "{place}: refIds");
            // A panel without data says what to send; those that write big have it in the description.
            let big = panel["type"] == "stat" || panel["type"] == "bargauge";
            let says = if big { &panel["description"] } else { &panel["fieldConfig"]["defaults"]["noValue"] };
            assert!(says.as_str().is_some_and(|says| says.len() > 20), "{place} does not say what is missing");
        }
        let rows = taken.iter().map(|(_, y)| y).collect::<BTreeSet<_>>();
        assert_eq!(rows.len() as i64, rows.last().map_or(0, |y| **y + 1), "{name} has a gap");
        let asked: Vec<String> = all(dashboard, "expr").iter().map(|expr| expr.to_string()).collect();
        for variable in list(&dashboard["templating"], "list") {
            let name = format!("${}", text(variable, "name"));
            assert!(asked.iter().any(|expr| expr.contains(&name)), "{name} is used by no panel");
        }
    }
    let provider = yaml("grafana/provisioning/dashboards/trilith.yaml");
    let folder = text(&provider["providers"][0]["options"], "path").to_owned();
    let mounts = yaml("compose.yaml")["services"]["grafana"]["volumes"].to_string();
    assert!(mounts.contains(&format!("./grafana/dashboards:{folder}:ro")), "{mounts}");
}

/// Seconds of `15s` or `1m`.
fn seconds(text: &str) -> i64 {
    let (number, unit) = text.split_at(text.len() - 1);
    number.parse::<i64>().unwrap() * if unit == "m" { 60 } else { 1 }
}

/// Grafana at a server: what it asks at `now` for the half hour before.
struct Grafana {
    main: SocketAddr,
    now: i64,
}

impl Grafana {
    async fn json(&self, path: &str) -> Value {
        let answer = get(self.main, path).await;
        let body = answer.text();
        assert_eq!(answer.status, 200, "{path}: {body}");
        let value: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(value["status"], "success", "{path}: {body}");
        value
    }

    /// The choices of a variable, as its own query finds them.
    async fn choices(&self, variable: &Value) -> Vec<String> {
        let (start, end) = (self.now - SHOWN, self.now);
        let path = match (text(variable, "type"), variable["datasource"]["type"].as_str()) {
            ("textbox", _) => return vec![text(variable, "query").to_owned()],
            ("custom", _) => return text(variable, "query").split(',').map(str::to_owned).collect(),
            ("query", Some("prometheus")) => {
                let query = text(&variable["query"], "query");
                let inner = query.strip_prefix("label_values(").unwrap().strip_suffix(')').unwrap();
                let (selector, label) = inner.rsplit_once(", ").unwrap();
                format!("/api/v1/label/{label}/values?match[]={}&start={start}&end={end}", q(selector))
            }
            ("query", Some("loki")) => {
                assert_eq!(text(&variable["query"], "stream"), "");
                let label = text(&variable["query"], "label");
                format!("/loki/api/v1/label/{label}/values?start={start}000000000&end={end}000000000")
            }
            other => panic!("{other:?}"),
        };
        let found = self.json(&path).await;
        list(&found, "data").iter().map(|value| value.as_str().unwrap().to_owned()).collect()
    }

    /// The answer's series or streams to a query of a panel.
    async fn ask(&self, target: &Value, filled: &str, step: i64) -> Vec<Value> {
        let (start, end) = (self.now - SHOWN, self.now);
        let query = q(filled);
        let instant = target["instant"] == true || target["queryType"] == "instant";
        let base = if target["datasource"]["type"] == "loki" { "/loki/api/v1" } else { "/api/v1" };
        let answer = if instant {
            self.json(&format!("{base}/query?query={query}&time={end}")).await
        } else {
            let (start, end) = (start / step * step, end / step * step);
            self.json(&format!("{base}/query_range?query={query}&start={start}&end={end}&step={step}&limit=1000")).await
        };
        if target["exemplar"] == true {
            let dots = self.json(&format!("/api/v1/query_exemplars?query={query}&start={start}&end={end}")).await;
            let has = list(&dots, "data").iter().all(|series| series["exemplars"][0]["labels"]["trace_id"] == TRACE);
            assert!(has, "{dots}");
        }
        list(&answer["data"], "result").to_vec()
    }
}

/// A query with Grafana's own variables and those of the dashboard filled in, and its step in seconds.
fn filled(target: &Value, variables: &BTreeMap<String, String>) -> (String, i64) {
    let is_loki = target["datasource"]["type"] == "loki";
    let of_source =
        if is_loki { "1s".to_owned() } else { text(&source("prometheus")["jsonData"], "timeInterval").to_owned() };
    let least = seconds(target["interval"].as_str().unwrap_or(&of_source));
    let dots = SHOWN / POINTS + 1;
    let step = dots.max(least);
    let rate = (dots.max(seconds(&of_source)) + least).max(4 * least);
    let mut known = variables.clone();
    let auto = if target["queryType"] == "instant" { SHOWN } else { step };
    for (name, value) in [("__interval", step), ("__rate_interval", rate), ("__auto", auto), ("__range", SHOWN)] {
        known.insert(name.to_owned(), format!("{value}s"));
    }
    let mut query = text(target, "expr").to_owned();
    // From behind, so that a name is not taken for the start of a longer one.
    for (name, value) in known.iter().rev() {
        query = query.replace(&format!("${{{name}}}"), value).replace(&format!("${name}"), value);
    }
    let left = query.split('$').skip(1).find(|rest| !rest.starts_with(|c: char| c.is_ascii_digit()));
    assert!(left.is_none(), "a variable that is not known: {query}");
    (query, step)
}

/// A choice of a variable that takes several, as Grafana writes it into a regular expression within a string.
fn escaped(choice: &str) -> String {
    let escaped = |c: char| if r"\^$*+?.()|[]{}'".contains(c) { format!(r"\\{c}") } else { c.to_string() };
    choice.chars().map(escaped).collect()
}

/// What each panel with targets shows, by its title: all results of its queries.
async fn shown(grafana: &Grafana, dashboard: &Value, chosen: &[(&str, &str)]) -> BTreeMap<String, Vec<Value>> {
    let mut variables = BTreeMap::new();
    for variable in list(&dashboard["templating"], "list") {
        let name = text(variable, "name");
        let value = match chosen.iter().find(|(chosen, _)| *chosen == name) {
            Some((_, value)) => {
                let choices = grafana.choices(variable).await;
                assert!(choices.iter().any(|choice| choice == value), "{value} is not among {choices:?}");
                if variable["multi"] == true { format!("({})", escaped(value)) } else { (*value).to_owned() }
            }
            None if variable["includeAll"] == true => text(variable, "allValue").to_owned(),
            None => String::new(),
        };
        variables.insert(name.to_owned(), value);
    }
    let mut shown = BTreeMap::new();
    for panel in list(dashboard, "panels") {
        let mut results = Vec::new();
        for target in list(panel, "targets") {
            let (query, step) = filled(target, &variables);
            let found = grafana.ask(target, &query, step).await;
            // What the legend names is there, at least in one of the series.
            for label in text(target, "legendFormat").split("{{").skip(1).filter_map(|rest| rest.split_once("}}")) {
                let named = found.iter().any(|series| series["metric"][label.0].is_string());
                assert!(named || found.is_empty(), "no series has the label {} of the legend: {query}", label.0);
            }
            results.extend(found);
        }
        if panel["type"] != "row" {
            assert!(shown.insert(text(panel, "title").to_owned(), results).is_none(), "a title twice");
        }
    }
    shown
}

fn empty(shown: &BTreeMap<String, Vec<Value>>) -> Vec<&str> {
    shown.iter().filter(|(_, results)| results.is_empty()).map(|(title, _)| title.as_str()).collect()
}

/// The last value of each series.
fn values(results: &[Value]) -> Vec<f64> {
    let last = |series: &Value| {
        series["values"].as_array().and_then(|values| values.last()).unwrap_or(&series["value"])[1].clone()
    };
    results.iter().map(|series| last(series).as_str().unwrap().parse().unwrap()).collect()
}

fn near(found: f64, wanted: f64) -> bool {
    (found - wanted).abs() < wanted / 10.0
}

#[tokio::test(flavor = "multi_thread")]
async fn panels_show_what_the_services_of_a_team_send() {
    let (server, _folder) = server().await;
    let grafana = Grafana { main: server.addresses.main, now: now() };
    let dashboards = dashboards();
    for dashboard in dashboards.values() {
        shown(&grafana, dashboard, &[]).await;
    }
    fill(grafana.main, grafana.now).await;
    let services = &dashboards["service-metrics"];
    for job in ["otel-old", "otel-new", "instrumentator"] {
        let shown = shown(&grafana, services, &[("job", job)]).await;
        assert_eq!(empty(&shown), [""; 0], "{job}");
        let sum = |title: &str| values(&shown[title]).iter().sum::<f64>();
        assert!(near(sum("Requests per second"), 2.0), "{job}: {:?}", shown["Requests per second"]);
        assert_eq!(shown["Requests per second"].len(), 2, "{job}: a series for each status");
        assert!(near(sum("Requests that fail"), 0.1), "{job}: {:?}", shown["Requests that fail"]);
        assert!(near(sum("Busiest routes"), 3_600.0), "{job}: {:?}", shown["Busiest routes"]);
        assert!(near(sum("Requests being answered"), 3.0), "{job}: {:?}", shown["Requests being answered"]);
        let durations = values(&shown["Duration of requests"]);
        assert_eq!(durations.len(), 3, "{job}: median, 95 % and 99 %");
        let slowest = values(&shown["Slowest routes"]);
        assert!(
            durations.iter().chain(&slowest).all(|seconds| (0.1..0.5).contains(seconds)),
            "{job}: {durations:?} {slowest:?}"
        );
        assert!(
            shown["Busiest routes"].iter().all(|route| text(&route["metric"], "route").trim() == "GET /orders/{id}")
        );
    }
    assert_eq!(empty(&shown(&grafana, services, &[]).await), [""; 0]);

    let logs = &dashboards["application-logs"];
    for (service, nothing) in [
        // Lines of its own have no labels, and no JSON with a status.
        ("otel-new", vec!["Requests that failed"]),
        ("plain_logs", vec!["Requests that failed"]),
        ("backend_logs", vec![]),
        ("shop", vec![]),
    ] {
        let shown = shown(&grafana, logs, &[("service", service)]).await;
        assert_eq!(empty(&shown), nothing, "{service}");
        let levels: BTreeSet<&str> =
            shown["Lines by level"].iter().map(|series| text(&series["metric"], "detected_level")).collect();
        let known = if service == "shop" { vec!["error"] } else { vec!["error", "info"] };
        assert_eq!(levels.into_iter().collect::<Vec<_>>(), known, "{service}");
        let (line, label) = derived();
        for stream in &shown["Lines"] {
            for value in list(stream, "values") {
                let by_label = stream["stream"].as_object().unwrap().iter().find(|(name, _)| label.is_match(name));
                let in_line =
                    line.captures(value[1].as_str().unwrap()).and_then(|found| found.get(1).map(str::to_owned));
                let id = in_line.or_else(|| by_label.map(|(_, id)| id.as_str().unwrap().to_owned()));
                assert_eq!(id.as_deref(), Some(TRACE), "{service}: {value}");
            }
        }
    }
    let only = shown(&grafana, logs, &[("service", "backend_logs"), ("level", "error")]).await;
    assert_eq!(values(&only["Lines by service"]), [3.0], "three of 31 lines are errors");
    assert_eq!(get(grafana.main, &format!("/tempo/api/traces/{TRACE}")).await.status, 200, "where the links lead");
    linked(&grafana).await;
    server.stop().await;
}

/// The queries that traces link to find the metrics of their service.
async fn linked(grafana: &Grafana) {
    let mut queries = 0;
    for source in datasources() {
        for query in list(&source["jsonData"]["tracesToMetrics"], "queries") {
            let query = text(query, "query");
            for job in ["otel-old", "otel-new", "instrumentator"] {
                let filled = query.replace("$$__tags", &format!("job=\"{job}\""));
                let answer = grafana.json(&format!("/api/v1/query?query={}&time={}", q(&filled), grafana.now)).await;
                assert_eq!(list(&answer["data"], "result").len(), 1, "{job}: {query}");
                queries += 1;
            }
        }
    }
    assert_eq!(queries, 12, "two queries of two data sources");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_dashboard_of_the_server_itself_shows_what_its_metrics_say() {
    let (server, _folder) = server().await;
    let grafana = Grafana { main: server.addresses.main, now: now() };
    // Twice: what queries and refusals of the first time are counted comes in with the second.
    fill(grafana.main, grafana.now - SHOWN - 120).await;
    for dashboard in dashboards().values() {
        shown(&grafana, dashboard, &[]).await;
    }
    let wrong = send(grafana.main, "POST", "/v1/logs", "Content-Type: application/json\r\n", b"{").await;
    assert_eq!(wrong.status, 400);
    fill(grafana.main, grafana.now).await;
    let shown = shown(&grafana, &dashboards()["trilith-server"], &[("instance", "trilith:9090")]).await;
    assert_eq!(empty(&shown), [""; 0]);
    assert_eq!(values(&shown["Answers"]), [1.0]);
    assert_eq!(values(&shown["Wrong with the store"]), [0.0]);
    assert!(values(&shown["Taken in"])[0] > 1.0, "{:?}", shown["Taken in"]);
    let refused: Vec<&str> = shown["Refused"].iter().map(|series| text(&series["metric"], "reason")).collect();
    assert_eq!(refused.len(), 2, "{refused:?}");
    assert!(refused.contains(&"too_old"), "{refused:?}");
    assert_eq!(shown["Refused metrics"][0]["metric"]["metric"], "wide_metric");
    server.stop().await;
}
