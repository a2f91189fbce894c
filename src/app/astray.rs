//! Requests that came to the wrong door: what to say to who sent them, and how often the log says it.
//! A sender that speaks a protocol of ours at a path or port that does not take it is told where it is taken; a person
//! is told what is there instead. Addresses are those that the request itself used, as far as it did.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use axum::http::header::{CONTENT_ENCODING, CONTENT_TYPE, HOST, USER_AGENT};
use axum::http::{HeaderMap, Method, Uri};
use parking_lot::Mutex;

use super::config::{Config, Extra};
use super::listener::ListenerKind;

/// The log says each kind of mistake once in so long.
const SAID_EVERY: Duration = Duration::from_secs(60);

/// What is said of a request that came to the wrong door.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Advice {
    /// Which mistake it is, in a word.
    pub(super) mistake: &'static str,
    /// What to do instead.
    pub(super) text: String,
    /// Whether telemetry is lost by it, so that the log has to say it.
    pub(super) loses: bool,
}

/// A path that other servers have a page at, and what is here instead.
const PAGES: &[(&[&str], &str)] = &[
    (
        &["/graph", "/query", "/explore", "/classic/graph"],
        "Trilith draws no graphs itself. Add it to Grafana as a Prometheus, Loki and Tempo data source and ask in Grafana's \
         Explore, or ask /api/v1/query?query=up here.",
    ),
    (
        &["/targets", "/service-discovery", "/scrape_pools"],
        "Trilith scrapes no targets: agents send to it. The page at / shows what comes in, and how to send.",
    ),
    (
        &["/alerts", "/rules", "/alertmanager"],
        "Trilith runs no alerting rules yet. Grafana's own alerting does, with Trilith as its data source.",
    ),
    (
        &["/flags", "/config", "/status", "/runtimeinfo", "/tsdb-status"],
        "What is in force is at /api/v1/status/flags, how the server is at /-/status, its series at /api/v1/status/tsdb.",
    ),
    (
        &["/login", "/dashboards", "/dashboard", "/d"],
        "This is Trilith, which has no dashboards; Grafana is at an address of its own, in the compose file at port 3000.",
    ),
    (
        &["/loki", "/tempo", "/jaeger", "/search"],
        "This is an address for Grafana's data sources. The page at / has those to enter.",
    ),
];

/// A request, as far as advice goes by it.
pub(super) struct Asked<'a> {
    pub(super) kind: ListenerKind,
    pub(super) method: &'a Method,
    pub(super) uri: &'a Uri,
    pub(super) headers: &'a HeaderMap,
}

/// The ports by what they serve.
#[derive(Clone, Debug)]
pub(super) struct Doors {
    main: u16,
    extra: HashMap<Extra, u16>,
}

impl Doors {
    /// Those of a server with `config`, whose addresses are bound.
    pub(super) fn new(config: &Config) -> Self {
        let port = |extra: Extra| Some((extra, config.address(extra)?.port()));
        Self { main: config.listen.port(), extra: Extra::ALL.into_iter().filter_map(port).collect() }
    }

    /// What to say of a request that nothing here answers; `None` when nobody knows what it was meant for.
    pub(super) fn advise(&self, asked: &Asked<'_>) -> Option<Advice> {
        let path = asked.uri.path().trim_end_matches('/');
        if asked.text(&CONTENT_TYPE).starts_with("application/grpc") {
            return self.grpc(asked, path);
        }
        if matches!(*asked.method, Method::POST | Method::PUT) {
            return self.sender(asked, path);
        }
        let (_, text) = PAGES.iter().find(|(paths, _)| paths.contains(&path))?;
        Some(Advice { mistake: "page", text: (*text).to_owned(), loses: false })
    }

    fn grpc(&self, asked: &Asked<'_>, path: &str) -> Option<Advice> {
        let otlp = self.base(asked, Some(Extra::OtlpGrpc));
        let text = if path.contains("opentelemetry.proto.collector.profiles") {
            "profiles are not taken, only metrics, logs and traces".to_owned()
        } else if path.contains("opentelemetry.proto.collector.") {
            format!("OTLP over gRPC is taken at {otlp}")
        } else if path.starts_with("/jaeger.") {
            format!("Jaeger's own protocol is not taken; send OTLP over gRPC to {otlp}")
        } else if path.starts_with("/logproto.") {
            format!("Loki's push is taken over HTTP, at {}/loki/api/v1/push", self.base(asked, None))
        } else if path.starts_with("/tempopb.") {
            format!("Tempo's streaming is answered at {}", self.base(asked, None))
        } else {
            return None;
        };
        Some(Advice { mistake: "grpc", text, loses: !path.starts_with("/tempopb.") })
    }

    fn sender(&self, asked: &Asked<'_>, path: &str) -> Option<Advice> {
        let base = self.base(asked, None);
        let lost = |mistake, text| Some(Advice { mistake, text, loses: true });
        let agent = asked.text(&USER_AGENT).to_ascii_lowercase();
        let snappy = asked.text(&CONTENT_ENCODING) == "snappy";
        if asked.headers.contains_key("x-prometheus-remote-write-version") || (snappy && !path.contains("loki")) {
            return lost("remote_write", format!("Prometheus remote write is taken at {base}/api/v1/write"));
        }
        if path.contains("loki") || path.ends_with("/push") || agent.starts_with("promtail") {
            return lost("loki_push", format!("Loki's push is taken at {base}/loki/api/v1/push"));
        }
        if path.contains("/spans") || path.ends_with("/api/traces") {
            let text = format!("Zipkin's and Jaeger's own protocols are not taken; send OTLP to {base}/v1/traces");
            return lost("spans", text);
        }
        if path.ends_with("/_bulk") {
            return lost(
                "bulk",
                format!("Elasticsearch's protocol is not taken; send logs to {base}/loki/api/v1/push"),
            );
        }
        if path.starts_with("/metrics/job") {
            let text =
                format!("the Pushgateway's paths are not taken; send its text to {base}/api/v1/import/prometheus");
            return lost("pushgateway", text);
        }
        if path.ends_with("/write") {
            let text = format!(
                "Prometheus remote write is taken at {base}/api/v1/write; InfluxDB's line protocol is not taken"
            );
            return lost("remote_write", text);
        }
        let own = matches!(asked.kind, ListenerKind::Extra(Extra::OtlpGrpc | Extra::OtlpHttp));
        let telemetry = ["application/x-protobuf", "application/protobuf", "application/json"];
        let typed = telemetry.iter().any(|kind| asked.text(&CONTENT_TYPE).starts_with(kind));
        let named = OTLP_PATHS.contains(&path) || path.contains("/otlp") || path.contains("/v1/");
        let known = agent.contains("otel") || agent.contains("opentelemetry");
        if !(own || known || typed && named) {
            return None;
        }
        lost("otlp", otlp(path, &base))
    }

    /// The URL of the listener that serves `wanted`, or of the main one, by the name that the client has for this
    /// machine. Its own listener stays where it serves that as well.
    fn base(&self, asked: &Asked<'_>, wanted: Option<Extra>) -> String {
        let authority = asked.uri.authority().map_or_else(|| asked.text(&HOST), |own| own.as_str());
        let authority: String =
            authority.chars().filter(|c| c.is_ascii_alphanumeric() || ".-_:[]".contains(*c)).collect();
        let host = match authority.rsplit_once(':') {
            Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
            _ => authority.as_str(),
        };
        let host = if host.is_empty() { "localhost" } else { host };
        if asked.kind == ListenerKind::Main && !authority.is_empty() {
            return format!("http://{authority}");
        }
        let port = wanted.and_then(|extra| self.extra.get(&extra)).unwrap_or(&self.main);
        format!("http://{host}:{port}")
    }

    /// Where the page is that has everything.
    pub(super) fn home(&self, asked: &Asked<'_>) -> String {
        self.base(asked, None) + "/"
    }
}

/// Paths that senders of OTLP are pointed at by mistake, without a slash at their end.
const OTLP_PATHS: [&str; 7] = ["", "/v1", "/otlp", "/traces", "/logs", "/metrics", "/api/v1"];

/// Where OTLP is taken, of the signal that the path names if it names one.
fn otlp(path: &str, base: &str) -> String {
    if path.contains("profiles") {
        return "profiles are not taken, only metrics, logs and traces".to_owned();
    }
    let named = [("trace", "traces"), ("log", "logs"), ("metric", "metrics")];
    match named.iter().find(|(word, _)| path.contains(word)) {
        Some((_, signal)) => format!("OTLP {signal} are taken at {base}/v1/{signal}"),
        None => format!(
            "OTLP is taken at {base}/v1/traces, {base}/v1/logs and {base}/v1/metrics: OTEL_EXPORTER_OTLP_ENDPOINT is the \
             URL without these paths, the variable or option of one signal the URL with its path"
        ),
    }
}

impl Asked<'_> {
    fn text(&self, name: &axum::http::HeaderName) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

/// Says each mistake once a minute.
#[derive(Debug, Default)]
pub(super) struct Seldom(Mutex<HashMap<&'static str, (Instant, u64)>>);

impl Seldom {
    /// How often it was met since it was last said, this time included, when it is to be said now.
    pub(super) fn count(&self, mistake: &'static str, now: Instant) -> Option<u64> {
        let mut all = self.0.lock();
        let Some((said, since)) = all.get_mut(mistake) else {
            all.insert(mistake, (now, 0));
            return Some(1);
        };
        *since += 1;
        (now.saturating_duration_since(*said) >= SAID_EVERY).then(|| {
            *said = now;
            std::mem::take(since)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn advice(kind: ListenerKind, method: &Method, url: &str, headers: &[(&'static str, &str)]) -> Option<Advice> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(*name, value.parse().unwrap());
        }
        let uri: Uri = url.parse().unwrap();
        Doors::new(&Config::default()).advise(&Asked { kind, method, uri: &uri, headers: &map })
    }

    #[test]
    fn who_sends_to_the_wrong_path_or_port_is_told_the_right_one() {
        const PROTOBUF: (&str, &str) = ("content-type", "application/x-protobuf");
        const SNAPPY: (&str, &str) = ("content-encoding", "snappy");
        let loki = ListenerKind::Extra(Extra::Loki);
        let otlp = ListenerKind::Extra(Extra::OtlpHttp);
        let at = |host| ("host", host);
        for (kind, path, headers, told) in [
            (
                ListenerKind::Main,
                "/",
                vec![PROTOBUF, at("t:80")],
                "OTLP is taken at http://t:80/v1/traces, http://t:80/v1/logs",
            ),
            (ListenerKind::Main, "/v1", vec![PROTOBUF, at("t")], "http://t/v1/metrics"),
            (
                ListenerKind::Main,
                "/v1/traces/v1/traces",
                vec![PROTOBUF, at("t")],
                "OTLP traces are taken at http://t/v1/traces",
            ),
            (otlp, "/api/logs", vec![at("t:4318")], "OTLP logs are taken at http://t:9090/v1/logs"),
            (ListenerKind::Main, "/v1development/profiles", vec![("user-agent", "OTel")], "profiles are not taken"),
            (loki, "/write", vec![PROTOBUF, SNAPPY, at("[::1]:3100")], "taken at http://[::1]:9090/api/v1/write"),
            (
                ListenerKind::Main,
                "/",
                vec![("x-prometheus-remote-write-version", "0.1.0")],
                "http://localhost:9090/api/v1/write",
            ),
            (ListenerKind::Main, "/api/v2/write", vec![], "InfluxDB's line protocol is not taken"),
            (ListenerKind::Main, "/loki/push", vec![PROTOBUF, SNAPPY, at("t")], "taken at http://t/loki/api/v1/push"),
            (ListenerKind::Main, "/api/v2/spans", vec![at("t")], "send OTLP to http://t/v1/traces"),
            (ListenerKind::Main, "/x/_bulk", vec![at("t")], "http://t/loki/api/v1/push"),
            (ListenerKind::Main, "/metrics/job/a", vec![at("t")], "http://t/api/v1/import/prometheus"),
        ] {
            let advice = advice(kind, &Method::POST, path, &headers).unwrap_or_else(|| panic!("{path}"));
            assert!(advice.text.contains(told) && advice.loses, "{path}: {advice:?}");
        }
        assert_eq!(advice(ListenerKind::Main, &Method::POST, "/api/v1/nothing", &[at("t")]), None);
    }

    #[test]
    fn grpc_at_a_port_without_it_is_told_the_right_one() {
        const GRPC: (&str, &str) = ("content-type", "application/grpc");
        for (path, told) in [
            ("/opentelemetry.proto.collector.trace.v1.TraceService/Export", "taken at http://t:4317"),
            ("/opentelemetry.proto.collector.profiles.v1development.ProfilesService/Export", "profiles are not taken"),
            ("/jaeger.api_v2.CollectorService/PostSpans", "send OTLP over gRPC to http://t:4317"),
            ("/logproto.Pusher/Push", "at http://t:9090/loki/api/v1/push"),
            ("/tempopb.StreamingQuerier/Search", "at http://t:9090"),
        ] {
            let kind = ListenerKind::Extra(Extra::Loki);
            let advice = advice(kind, &Method::POST, &format!("http://t:3100{path}"), &[GRPC]).unwrap();
            assert!(advice.text.contains(told), "{path}: {advice:?}");
        }
    }

    #[test]
    fn pages_of_other_servers_lead_to_what_is_here_instead() {
        for (paths, text) in PAGES {
            for path in *paths {
                let found = advice(ListenerKind::Main, &Method::GET, &format!("{path}/?a=b"), &[]).unwrap();
                assert_eq!((found.text.as_str(), found.loses), (*text, false), "{path}");
            }
        }
        assert_eq!(advice(ListenerKind::Main, &Method::GET, "/graphs", &[]), None);
    }

    #[test]
    fn each_mistake_is_said_once_a_minute_with_how_often_it_was_met() {
        let (seldom, began) = (Seldom::default(), Instant::now());
        let at = |seconds| began + Duration::from_secs(seconds);
        assert_eq!(seldom.count("a", at(0)), Some(1));
        assert_eq!(seldom.count("a", at(1)), None);
        assert_eq!(seldom.count("b", at(1)), Some(1));
        assert_eq!(seldom.count("a", at(59)), None);
        assert_eq!(seldom.count("a", at(60)), Some(3));
        assert_eq!(seldom.count("a", at(61)), None);
    }
}
