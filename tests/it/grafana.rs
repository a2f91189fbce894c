//! Grafana's plugins at a running server: panels, Explore, variables, Drilldown. Requests are written
//! as the plugins write them; each answer must be what their decoders take, and the same whether
//! the data is in memory or in parts.

use std::net::SocketAddr;

use serde_json::{Value, json};

use super::doors::{send, server};
use super::plugins::{self, jaeger_traces, log_answer, metric_answer, trace_metrics};
use super::shop::{TRACE, fill, now};
use super::trace_api::{only_known_keys, q};

const ORIGIN: &str = "User-Agent: Grafana/12.3.0\r\nX-Datasource-Uid: c91e98f4\r\nX-Grafana-Org-Id: 1\r\n\
    X-Dashboard-Uid: abc\r\nX-Panel-Id: 4\r\nAccept-Encoding: gzip\r\n";
const FORM: &str = "Content-Type: application/x-www-form-urlencoded\r\n";
const CATEGORIZE: &str = "X-Loki-Response-Encoding-Flags: categorize-labels\r\nX-Query-Tags: Source=logvolhist\r\n";

type Fields<'a> = [(&'a str, String)];

fn form(fields: &Fields<'_>) -> String {
    let fields: Vec<String> = fields.iter().map(|(name, value)| format!("{}={}", q(name), q(value))).collect();
    fields.join("&")
}

async fn by_get(main: SocketAddr, path: &str, fields: &Fields<'_>, headers: &str) -> Value {
    let mark = if fields.is_empty() { "" } else { "?" };
    let answer = send(main, "GET", &format!("{path}{mark}{}", form(fields)), &format!("{ORIGIN}{headers}"), b"").await;
    plugins::json(&answer, &format!("{path} {fields:?}"))
}

async fn by_post(main: SocketAddr, path: &str, fields: &Fields<'_>) -> Value {
    let answer = send(main, "POST", path, &format!("{ORIGIN}{FORM}"), form(fields).as_bytes()).await;
    plugins::json(&answer, &format!("{path} {fields:?}"))
}

fn filled(list: &Value, what: &str) {
    let empty = list.as_array().map_or(list.is_null(), Vec::is_empty);
    assert!(!empty, "{what} found nothing");
}

async fn panels(main: SocketAddr, now: i64) -> Vec<Value> {
    let (start, end) = ((now - 1_200).to_string(), format!("{}.123", now + 60));
    let ranges = [
        "sum by (job) (rate(http_requests_total[1m0s]))",
        "{__name__=~\"http.*\",}",
        "histogram_quantile(0.9, sum by (le) (rate(latency_seconds_bucket[1m15s])))",
        "native",
        "histogram_quantile(0.5, rate(native[5m]))",
        "avg(temp{__ignore_usage__=\"\"})",
        "max_over_time(temp[500ms])",
        "sum(rate(http_requests_total{}[86400s]))",
    ];
    let instants = [
        "group by (__name__) ({__name__!=\"\",}) unless (group by (__name__) ({__name__!=\"\",} offset 1h))",
        "time()",
        "\"text\"",
        "temp[1m]",
        "1/0 + 0*temp",
        "native",
        "absent(nope)",
    ];
    let queries = ranges.iter().flat_map(|query| [(query, "15"), (query, "0.25"), (query, "60")]);
    let mut answers = Vec::new();
    for (query, step) in queries {
        let fields =
            [("end", end.clone()), ("query", query.to_string()), ("start", start.clone()), ("step", step.to_owned())];
        let posted = by_post(main, "/api/v1/query_range", &fields).await;
        let got = by_get(main, "/api/v1/query_range", &fields, "").await;
        answers.extend([(*query, posted), (*query, got)]);
    }
    for query in instants {
        let fields = [("query", query.to_owned()), ("time", format!("{now}.5"))];
        answers.push((query, by_post(main, "/api/v1/query", &fields).await));
    }
    for (query, answer) in &answers {
        metric_answer(answer, query);
        filled(&answer["data"]["result"], query);
    }
    answers.into_iter().map(|(_, answer)| answer).collect()
}

async fn variables(main: SocketAddr, now: i64) -> Vec<Value> {
    let range = [("start", (now / 60 * 60 - 1_200).to_string()), ("end", (now / 60 * 60 + 60).to_string())];
    let with = |more: &[(&'static str, &str)]| -> Vec<(&'static str, String)> {
        range.iter().cloned().chain(more.iter().map(|(name, value)| (*name, (*value).to_owned()))).collect()
    };
    let any = "{__name__=~\".+\",}";
    let mut answers = vec![
        by_post(main, "/api/v1/labels", &with(&[("limit", "40000")])).await,
        by_get(main, "/api/v1/labels", &with(&[("match[]", any)]), "").await,
        by_post(main, "/api/v1/series", &with(&[("match[]", "{__name__!=\"\"}"), ("limit", "40000")])).await,
        by_get(main, "/api/v1/label/__name__/values", &[], "").await,
        by_get(main, "/api/v1/label/__name__/values", &with(&[("limit", "1000"), ("match[]", any)]), "").await,
        by_get(main, "/api/v1/label/code/values", &with(&[("limit", "0"), ("match[]", "http_requests_total")]), "")
            .await,
        by_get(main, "/api/v1/metadata", &[("limit", "40000".into())], "").await,
        by_get(main, "/api/v1/metadata", &[("metric", "http_requests_total".into())], "").await,
    ];
    let quantile = "histogram_quantile(0.9, sum by (le) (rate(latency_seconds_bucket[1m15s])))";
    let exemplars = by_post(main, "/api/v1/query_exemplars", &with(&[("query", quantile)])).await;
    let dot = &exemplars["data"][0]["exemplars"][0];
    assert_eq!(dot["labels"]["trace_id"], TRACE);
    assert!(dot["value"].is_string() && dot["timestamp"].is_number(), "{dot}");
    answers.push(exemplars);
    for answer in &answers {
        assert_eq!(answer["status"], "success");
        filled(&answer["data"], "a list");
    }
    let short = by_get(main, "/api/v1/labels", &[("limit", "1".into())], "").await;
    assert_eq!(short["warnings"], json!(["results truncated due to limit"]));
    let merged = send(main, "POST", "/api/v1/query?query=1%2B1&dedup=true", &format!("{ORIGIN}{FORM}"), b"").await;
    metric_answer(&plugins::json(&merged, "an empty form"), "an empty form");
    answers
}

const CART: &str = "{service_name=\"cart/eu\"}";

/// What Explore, its generated queries and Logs Drilldown ask for lines.
fn line_queries() -> Vec<String> {
    let linked = format!(
        "{CART} | label_format log_line_contains_trace_id=`{{{{ contains \"{TRACE}\" __line__ }}}}` \
         | log_line_contains_trace_id=\"true\" OR trace_id=\"{TRACE}\""
    );
    let stages = [
        "",
        " | json | logfmt | drop __error__, __error_details__",
        " | logfmt | dur>=10ms",
        " | detected_level=`error`",
        " |> `level=<_> msg=<_>`",
        " !> `level=<_> msg=<_>`",
        " | trace_id!=\"\"",
    ];
    let staged = stages.iter().map(|stage| format!("{CART}{stage}"));
    staged.chain([linked, "{service_name=~\".+\"} |= `boom`".to_owned()]).collect()
}

async fn explore_logs(main: SocketAddr, base: &str, now: i64) -> Vec<Value> {
    let (start, end) = (format!("{}000000000", now - 1_200), format!("{}000000000", now + 60));
    let path = |path: &str| format!("{base}/loki/api/v1/{path}");
    let ask = |query: &str, direction: &str, limit: &str| {
        [
            ("query", query.to_owned()),
            ("start", start.clone()),
            ("end", end.clone()),
            ("step", "15000ms".to_owned()),
            ("direction", direction.to_owned()),
            ("limit", limit.to_owned()),
        ]
    };
    let mut answers = Vec::new();
    for query in line_queries() {
        for direction in ["backward", "forward"] {
            for (headers, categorized) in [(CATEGORIZE, true), ("", false)] {
                let answer = by_get(main, &path("query_range"), &ask(&query, direction, "7"), headers).await;
                log_answer(&answer, categorized, &query);
                filled(&answer["data"]["result"], &query);
                answers.push(answer);
            }
        }
    }
    for query in [
        format!("sum by (level, detected_level) (count_over_time({CART} | drop __error__ [1m0s]))"),
        format!("sum by (detected_level) (count_over_time({CART} | logfmt | drop __error__, __error_details__ [15s]))"),
        format!("avg_over_time({CART} | logfmt | unwrap duration(dur) | __error__=`` [1m]) by (detected_level)"),
        format!("sum(rate({CART} | trace_id!=\"\" [86400s]))"),
    ] {
        let answer = by_get(main, &path("query_range"), &ask(&query, "backward", "1000"), CATEGORIZE).await;
        let at = [("query", query.clone()), ("time", end.clone()), ("direction", "backward".into())];
        let instant = by_get(main, &path("query"), &at, CATEGORIZE).await;
        for answer in [&answer, &instant] {
            metric_answer(answer, &query);
        }
        filled(&answer["data"]["result"], &query);
        answers.extend([answer, instant]);
    }
    answers
}

async fn logs_drilldown(main: SocketAddr, base: &str, now: i64) -> Vec<Value> {
    let iso = |t: i64| {
        let time = chrono::DateTime::from_timestamp(t, 0).unwrap();
        time.format("%Y-%m-%dT%H:%M:%S.000Z").to_string()
    };
    let range = [("start", iso(now - 1_200)), ("end", iso(now + 60))];
    let with = |more: &[(&'static str, &str)]| -> Vec<(&'static str, String)> {
        range.iter().cloned().chain(more.iter().map(|(name, value)| (*name, (*value).to_owned()))).collect()
    };
    let every = ("query", "{service_name=~\".+\"}");
    let lists = [
        ("index/volume", with(&[every, ("limit", "5000")]), "/data/result"),
        ("index/volume", with(&[every, ("targetLabels", "app"), ("aggregateBy", "labels")]), "/data/result"),
        ("index/volume_range", with(&[every, ("step", "600")]), "/data/result"),
        ("index/stats", with(&[every]), "/entries"),
        ("labels", with(&[]), "/data"),
        ("labels", with(&[("query", "{app=\"b\"}")]), "/data"),
        ("label/service_name/values", with(&[]), "/data"),
        ("series", with(&[("match[]", "{app=\"b\"}")]), "/data"),
        ("detected_labels", with(&[("query", "")]), "/detectedLabels"),
        ("detected_fields", with(&[("query", CART)]), "/fields"),
        ("detected_field/msg/values", with(&[("query", CART)]), "/values"),
        ("drilldown-limits", Vec::new(), "/limits/max_entries_limit_per_query"),
    ];
    let mut answers = Vec::new();
    for (path, fields, place) in lists {
        let answer = by_get(main, &format!("{base}/loki/api/v1/{path}"), &fields, ORIGIN_OF_APP).await;
        filled(answer.pointer(place).unwrap_or(&Value::Null), path);
        if place == "/data/result" {
            metric_answer(&answer, path);
        }
        answers.push(answer);
    }
    let fields = answers[9]["fields"].as_array().unwrap();
    let field = |name: &str| fields.iter().find(|field| field["label"] == name).unwrap();
    assert_eq!((&field("dur")["type"], &field("dur")["parsers"]), (&json!("duration"), &json!(["logfmt"])));
    assert_eq!((&field("k_x")["parsers"], &field("a_b")["jsonPath"]), (&Value::Null, &json!(["a", "b"])));
    let json = with(&[("query", "{service_name=\"cart/eu\"} | json")]);
    let parsed = by_get(main, &format!("{base}/loki/api/v1/detected_fields"), &json, "").await;
    for field in parsed["fields"].as_array().unwrap() {
        assert!(!field["label"].as_str().unwrap().starts_with("__error"), "an error of a parser is no field: {field}");
    }
    let shards = by_get(main, &format!("{base}/loki/api/v1/label/__stream_shard__/values"), &with(&[every]), "").await;
    assert_eq!(shards["data"], json!([]));
    answers
}

const ORIGIN_OF_APP: &str = "X-Query-Tags: Source=grafana-lokiexplore-app\r\n";

async fn traces_drilldown(main: SocketAddr, base: &str, now: i64) -> Vec<Value> {
    let (start, end) = ((now - 1_200).to_string(), (now + 60).to_string());
    let range = [("start", start), ("end", end)];
    let with = |more: &[(&'static str, &str)]| -> Vec<(&'static str, String)> {
        range.iter().cloned().chain(more.iter().map(|(name, value)| (*name, (*value).to_owned()))).collect()
    };
    let path = |path: &str| format!("{base}/api/{path}");
    let mut answers = Vec::new();
    let root = "{nestedSetParent<0}";
    for query in [
        "{}",
        "{resource.service.name=\"cart/eu\" && name=\"db\"}",
        root,
        "({nestedSetParent<0} &>> { status = error }) || ({nestedSetParent<0}) | select(status, resource.service.name, \
         name, nestedSetParent, nestedSetLeft, nestedSetRight)",
        "{status = error} | select(resource.service.name, event.exception.message, event.exception.stacktrace, \
         event.exception.type) with(most_recent=true)",
        "{} | by(resource.service.name) | avg(duration) > 1ms",
        "{traceDuration>100ms && kind=server}",
    ] {
        let answer = by_get(main, &path("search"), &with(&[("q", query), ("limit", "200"), ("spss", "20")]), "").await;
        only_known_keys(&answer);
        filled(&answer["traces"], query);
        answers.push(answer);
    }
    let spans = answers[3]["traces"][0]["spanSets"][0]["spans"].as_array().unwrap();
    for span in spans {
        let keys: Vec<&str> =
            span["attributes"].as_array().unwrap().iter().map(|pair| pair["key"].as_str().unwrap()).collect();
        assert!(keys.contains(&"nestedSetLeft") && keys.contains(&"nestedSetRight"), "{span}");
    }
    for query in [
        "{} | rate()".to_owned(),
        format!("{root} | rate() by(resource.service.name) with(sample=true)"),
        "{nestedSetParent<0 && resource.service.name != nil} | quantile_over_time(duration, 0.9, .5) by (name)".into(),
        "{} | histogram_over_time(duration)".into(),
        format!("{root} | compare({{status=error}})"),
        "{} | count_over_time() by (status)".into(),
    ] {
        for name in ["metrics/query_range", "metrics/query"] {
            let fields = with(&[("q", &query), ("step", "1m"), ("exemplars", "10")]);
            let answer = by_get(main, &path(name), &fields, "").await;
            trace_metrics(&answer, &query);
            filled(&answer["series"], &query);
            answers.push(answer);
        }
    }
    let typed = with(&[("limit", "5000"), ("q", "{span.foo= }")]);
    for tag in
        ["resource.service.name", "span.http.status_code", "name", "status", "span:name", "event:name", "span.a/b"]
    {
        let answer = by_get(main, &path(&format!("v2/search/tag/{tag}/values")), &typed, "").await;
        filled(&answer["tagValues"], tag);
        let texts = |value: &Value| value["type"].is_string() && value["value"].is_string();
        assert!(answer["tagValues"].as_array().unwrap().iter().all(texts), "{answer}");
        answers.push(answer);
    }
    let tags = by_get(main, &path("v2/search/tags"), &typed, "").await;
    filled(&tags["scopes"], "scopes");
    answers.push(tags);
    answers
}

async fn jaeger_explore(main: SocketAddr, now: i64) -> Vec<Value> {
    let fields = [
        ("service", "cart/eu".to_owned()),
        ("operation", "GET /".to_owned()),
        ("tags", "{\"http.status_code\":\"200\"}".to_owned()),
        ("minDuration", "1.2ms".to_owned()),
        ("maxDuration", "5s".to_owned()),
        ("limit", "20".to_owned()),
        ("start", format!("{}000000", now - 1_200)),
        ("end", format!("{}000000", now + 60)),
        ("lookback", "custom".to_owned()),
    ];
    let found = by_get(main, "/jaeger/api/traces", &fields, "").await;
    assert_eq!(found["data"].as_array().unwrap().len(), 6);
    let times = [("start", format!("{}000", now - 1_200)), ("end", format!("{}000", now + 60))];
    let one = by_get(main, &format!("/jaeger/api/traces/{TRACE}"), &times, "").await;
    filled(&one["data"], "a trace by id");
    for answer in [&found, &one] {
        jaeger_traces(answer, "jaeger");
    }
    let services = by_get(main, "/jaeger/api/services", &[], "").await;
    assert_eq!(services["data"], json!(["cart/eu", "unknown_service"]));
    vec![found, one, services]
}

#[tokio::test(flavor = "multi_thread")]
async fn plugins_decode_every_answer_from_memory_and_from_parts() {
    let (server, _folder) = server().await;
    let main = server.addresses.main;
    let now = now();
    fill(main, now).await;
    let mut before = Vec::new();
    for round in ["memory", "parts"] {
        let mut answers = panels(main, now).await;
        answers.extend(variables(main, now).await);
        answers.extend(explore_logs(main, "/loki", now).await);
        answers.extend(explore_logs(main, "", now).await);
        answers.extend(logs_drilldown(main, "/loki", now).await);
        answers.extend(traces_drilldown(main, "/tempo", now).await);
        answers.extend(jaeger_explore(main, now).await);
        let answers: Vec<Value> = answers.into_iter().map(plugins::lasting).collect();
        if round == "parts" {
            assert_eq!(before.len(), answers.len());
            for (memory, parts) in before.iter().zip(&answers) {
                assert_eq!(memory, parts);
            }
        }
        before = answers;
        let flushed = send(main, "POST", "/-/flush", "", b"").await;
        assert_eq!(flushed.status, 200, "{}", flushed.text());
    }
    server.stop().await;
}
