//! Attacks by depth: what nests, chains or folds to the left, in every language and every encoding.

use super::client::percent;
use super::encode::{JSON, PROTOBUF, bytes, gauge, list, nest, nested_message, nested_value, otlp, record, span};
use super::http2::framed;
use super::row::{Attack, Kind};
use super::scene::Scene;
use super::surface;

pub(super) const ATTACKS: &[Attack] = &[
    row("PromQL that nests", promql_nests),
    row("PromQL that chains", promql_chains),
    row("LogQL that nests", logql_nests),
    row("LogQL that chains", logql_chains),
    row("templates that nest", templates),
    row("TraceQL that nests", traceql_nests),
    row("TraceQL that chains", traceql_chains),
    row("60,000 tags over gRPC", many_tags_grpc),
    row("thousands of tags over HTTP", many_tags_http),
    row("JSON nested deeply", json_nests),
    row("JSON lines nested deeply, then parsed", json_lines),
    row("protobuf values nested deeply", protobuf_values),
    row("protobuf messages and groups nested deeply", protobuf_messages),
    row("thousands of match[]", many_selectors),
    row("Jaeger tags nested and wide", jaeger_tags),
];

const fn row(name: &'static str, run: fn(&Scene<'_>)) -> Attack {
    Attack { name, kind: Kind::Depth, run }
}

fn promql(scene: &Scene<'_>, what: &str, query: &str) {
    let query = percent(query);
    for path in ["/api/v1/query", "/api/v1/format_query", "/api/v1/parse_query"] {
        scene.dear(&format!("{what} at {path}"), &scene.hasty().form(path, &format!("timeout=3s&query={query}")));
    }
}

fn promql_nests(scene: &Scene<'_>) {
    for times in [500, 50_000] {
        promql(scene, "parentheses", &nest("(", "1", ")", times));
        promql(scene, "open parentheses", &"(".repeat(times));
        promql(scene, "minus", &format!("{}1", "-".repeat(times)));
        promql(scene, "minus and parentheses", &nest("-(", "1", ")", times));
        promql(scene, "functions", &nest("abs(", "up", ")", times));
        promql(scene, "sums", &nest("sum(", "up", ")", times));
        promql(scene, "label_replace", &nest("label_replace(", "up", ",\"a\",\"$1\",\"b\",\"(.*)\")", times / 2));
        promql(scene, "subqueries", &nest("max_over_time(", "up", "[1m:1s])", times));
        promql(scene, "braces", &"{".repeat(times));
        promql(scene, "groups in a pattern", &format!("{{a=~\"{}\"}}", nest("(", "a", ")", times)));
    }
}

fn promql_chains(scene: &Scene<'_>) {
    for times in [1_000, 60_000] {
        promql(scene, "sums", &list(times, "+", |_| "1".into()));
        promql(scene, "powers", &list(times, "^", |_| "1".into()));
        promql(scene, "or", &list(times, " or ", |_| "up".into()));
        promql(scene, "comparisons", &list(times, " == bool ", |_| "1".into()));
        promql(scene, "offsets", &format!("up{}", " offset 1m".repeat(times)));
        promql(scene, "subqueries in a row", &format!("up{}", "[1m:1m]".repeat(times)));
        promql(scene, "sums of groups", &list(times, "+", |_| "(1)".into()));
    }
}

fn logql(scene: &Scene<'_>, what: &str, query: &str) {
    let query = percent(query);
    for path in
        ["/loki/api/v1/query", "/loki/api/v1/query_range", "/loki/api/v1/format_query", "/loki/api/v1/index/volume"]
    {
        scene.dear(&format!("{what} at {path}"), &scene.hasty().form(path, &format!("query={query}")));
    }
}

fn logql_nests(scene: &Scene<'_>) {
    let rate = "rate({app=\"shop\"}[1m])";
    for times in [100, 20_000] {
        logql(scene, "parentheses", &nest("(", rate, ")", times));
        logql(scene, "open parentheses", &"(".repeat(times));
        logql(scene, "sums", &nest("sum(", rate, ")", times));
        logql(scene, "minus", &format!("{}1", "-".repeat(times)));
        logql(scene, "label_replace", &nest("label_replace(", rate, ",\"a\",\"$1\",\"b\",\"(.*)\")", times));
        logql(scene, "label filter", &format!("{{app=\"shop\"}} | json | {}", nest("(", "a=\"b\"", ")", times)));
        logql(scene, "not", &format!("{{app=\"shop\"}} | json | {}", nest("not (", "a=\"b\"", ")", times)));
        logql(scene, "a pattern", &format!("{{app=\"shop\"}} |~ \"{}\"", nest("(", "a", ")", times)));
    }
}

fn logql_chains(scene: &Scene<'_>) {
    for times in [200, scene.pick(5_000, 20_000)] {
        logql(scene, "stages", &format!("{{app=\"shop\"}}{}", " | json".repeat(times)));
        logql(scene, "filters", &format!("{{app=\"shop\"}}{}", " |= \"done\"".repeat(times)));
        logql(
            scene,
            "filters that differ",
            &format!("{{app=\"shop\"}}{}", list(times, " ", |n| format!("!= \"{n}\""))),
        );
        logql(scene, "or in a filter", &format!("{{app=\"shop\"}} |= {}", list(times, " or ", |n| format!("\"{n}\""))));
        logql(scene, "or", &format!("{{app=\"shop\"}} | json | {}", list(times, " or ", |n| format!("a=\"{n}\""))));
        logql(scene, "and", &format!("{{app=\"shop\"}} | json | {}", list(times, ", ", |n| format!("a!=\"{n}\""))));
        logql(scene, "sums", &list(times, " + ", |_| "rate({app=\"shop\"}[1m])".into()));
        logql(scene, "numbers", &list(times, " ^ ", |_| "1".into()));
        logql(scene, "formats", &format!("{{app=\"shop\"}}{}", " | line_format \"{{.app}}{{.app}}\"".repeat(times)));
        logql(
            scene,
            "labels",
            &format!("{{app=\"shop\"}} | label_format {}", list(times, ",", |n| format!("a{n}=app"))),
        );
    }
}

fn templates(scene: &Scene<'_>) {
    for times in [100, 10_000] {
        for template in [
            nest("{{if .app}}", "x", "{{end}}", times),
            nest("{{range $i, $x := .app}}", "x", "{{end}}", times),
            nest("{{with .app}}", "x", "{{end}}", times),
            format!("{{{{{}}}}}", nest("(", ".app", ")", times)),
            format!("{{{{.app{}}}}}", " | upper".repeat(times)),
            format!("{{{{{}1}}}}", "add 1 ".repeat(times)),
            format!("{{{{if .app}}x{}{{{{end}}}}", "{{else if .app}}x".repeat(times)),
            format!("{{{{.app{}}}}}", ".a".repeat(times)),
            "{{define \"a\"}}{{template \"a\" .}}{{end}}{{template \"a\" .}}".to_owned(),
        ] {
            logql(scene, "template", &format!("{{app=\"shop\"}} | line_format `{template}`"));
        }
    }
}

fn traceql(scene: &Scene<'_>, what: &str, query: &str) {
    let encoded = percent(query);
    for path in ["/tempo/api/search", "/tempo/api/metrics/query_range", "/tempo/api/metrics/query"] {
        scene.dear(&format!("{what} at {path}"), &scene.hasty().form(path, &format!("q={encoded}")));
    }
    if encoded.len() < 60_000 {
        for path in ["/tempo/api/v2/search/tags", "/tempo/api/v2/search/tag/user/values"] {
            scene.dear(&format!("{what} at {path}"), &scene.hasty().get(&format!("{path}?q={encoded}")));
        }
    }
    let search = "/tempopb.StreamingQuerier/Search";
    scene.called(&format!("{what} over gRPC"), &scene.grpc(search, framed(&bytes(8, query.as_bytes()))));
}

fn traceql_nests(scene: &Scene<'_>) {
    for times in [100, 20_000] {
        traceql(scene, "parentheses", &format!("{{ {} }}", nest("(", ".a = 1", ")", times)));
        traceql(scene, "spansets", &nest("(", "{ .a = 1 }", ")", times));
        traceql(scene, "not", &format!("{{ {}true }}", "!".repeat(times)));
        traceql(scene, "minus", &format!("{{ .a = {}1 }}", "-".repeat(times)));
        traceql(scene, "not and parentheses", &format!("{{ {} }}", nest("!(", "true", ")", times)));
        traceql(scene, "powers", &format!("{{ .a = {} }}", list(times, "^", |_| "1".into())));
    }
}

fn traceql_chains(scene: &Scene<'_>) {
    for times in [200, scene.pick(10_000, 30_000)] {
        traceql(scene, "and", &format!("{{ {} }}", list(times, "&&", |n| format!(".a{n}=1"))));
        traceql(scene, "or", &format!("{{ {} }}", list(times, "||", |n| format!(".a{n}=1"))));
        traceql(scene, "sums", &format!("{{ .a = {} }}", list(times, "+", |_| "1".into())));
        traceql(scene, "spansets", &list(times, "&&", |_| "{}".into()));
        traceql(scene, "children", &list(times, ">", |_| "{}".into()));
        traceql(scene, "descendants", &list(times, ">>", |_| "{}".into()));
        traceql(scene, "siblings", &list(times, "~", |_| "{}".into()));
        traceql(scene, "stages", &format!("{{}}{}", " | count() > 0".repeat(times)));
        traceql(scene, "selects", &format!("{{}} | select({})", list(times, ",", |n| format!(".a{n}"))));
        traceql(scene, "groups", &format!("{{}} | rate() by ({})", list(times, ",", |n| format!(".a{n}"))));
    }
}

fn many_tags_grpc(scene: &Scene<'_>) {
    for times in [150, 60_000] {
        let tags = list(times, "", |n| format!("t{n}\u{0}"));
        let pairs: Vec<u8> = tags
            .split('\u{0}')
            .flat_map(|tag| bytes(1, &[bytes(1, tag.as_bytes()), bytes(2, b"v")].concat()))
            .collect();
        scene.called("Search", &scene.grpc("/tempopb.StreamingQuerier/Search", framed(&pairs)));
    }
}

fn many_tags_http(scene: &Scene<'_>) {
    for times in [90, 150, 50_000] {
        let tags = percent(&list(times, " ", |n| format!("t{n}=v")));
        scene.polite("search", &scene.form("/tempo/api/search", &format!("tags={tags}")));
        if tags.len() < 60_000 {
            scene.polite("search", &scene.get(&format!("/tempo/api/search?tags={tags}")));
            scene.polite("tags", &scene.get(&format!("/tempo/api/search/tags?tags={tags}")));
        }
    }
    let tags = list(4_000, "&", |n| format!("tag=t{n}:v"));
    scene.polite("jaeger", &scene.get(&format!("/jaeger/api/traces?service=service-1&{tags}")));
}

fn json_nests(scene: &Scene<'_>) {
    for (open, close) in [("[", "]"), ("{\"a\":", "}"), ("{\"resourceLogs\":[", "]}")] {
        let text = nest(open, "1", close, 200_000);
        for door in surface::receivers() {
            scene.polite(&door.path, &scene.post(&door.path, JSON, text.as_bytes()));
        }
        let read = "/api/v1/read";
        scene.polite(read, &scene.post(read, JSON, text.as_bytes()));
    }
    let deep = nest("{\"arrayValue\":{\"values\":[", "{\"stringValue\":\"x\"}", "]}}", 20_000);
    let time = scene.now_ns;
    let logs = format!(
        "{{\"resourceLogs\":[{{\"scopeLogs\":[{{\"logRecords\":[{{\"timeUnixNano\":\"{time}\",\"body\":{deep}}}]}}]}}]}}"
    );
    scene.polite("a body", &scene.post("/v1/logs", JSON, logs.as_bytes()));
    let unknown = format!("{{\"streams\":[{{\"stream\":{{\"a\":\"b\"}},\"values\":[],\"x\":{deep}}}]}}");
    scene.polite("a field nobody knows", &scene.post("/loki/api/v1/push", JSON, unknown.as_bytes()));
}

fn json_lines(scene: &Scene<'_>) {
    let line = nest("{\"a\":", "1", "}", 20_000).replace('"', "\\\"");
    let arrays = nest("[", "1", "]", 60_000);
    let (a, b) = (scene.now_ns, scene.now_ns + 1);
    let push = format!(
        "{{\"streams\":[{{\"stream\":{{\"app\":\"deep\"}},\"values\":[[\"{a}\",\"{line}\"],[\"{b}\",\"{arrays}\"]]}}]}}"
    );
    scene.polite("push", &scene.post("/loki/api/v1/push", JSON, push.as_bytes()));
    let path = format!("[{}]", list(1_000, "][", |_| "\\\"a\\\"".into()));
    for stage in ["| json", "| logfmt", "| unpack", "| pattern \"<_><a><_>\"", &format!("| json x=\"{path}\"")] {
        logql(scene, stage, &format!("{{app=\"deep\"}} {stage}"));
    }
    scene.polite("fields", &scene.get(&format!("/loki/api/v1/detected_fields?query={}", percent("{app=\"deep\"}"))));
}

fn protobuf_values(scene: &Scene<'_>) {
    let now = scene.now_ns as u64;
    for depth in [30, 1_000, 200_000] {
        for pairs in [false, true] {
            let deep = nested_value(depth, pairs);
            let pair = [bytes(1, b"k"), bytes(2, &deep)].concat();
            let what = format!("{depth} deep");
            scene.polite(&what, &scene.post("/v1/logs", PROTOBUF, &otlp("deep", &record(now, &deep))));
            let traces = otlp("deep", &span(0xdee9, depth as u64 + 1, now, &bytes(9, &pair)));
            scene.polite(&what, &scene.post("/v1/traces", PROTOBUF, &traces));
            let metrics = otlp("deep", &gauge("deep", now, &bytes(7, &pair)));
            scene.polite(&what, &scene.post("/v1/metrics", PROTOBUF, &metrics));
            for (call, body) in surface::calls().iter().zip([&traces, &metrics]) {
                scene.called(&what, &scene.grpc(&call.path, framed(body)));
            }
        }
    }
    for path in ["/tempo/api/v2/search/tags", "/tempo/api/search/tag/k/values"] {
        scene.polite(path, &scene.get(path));
    }
    scene.polite("the trace", &scene.get(&format!("/tempo/api/v2/traces/{:032x}", 0xdee9)));
    scene.polite("the trace", &scene.get(&format!("/jaeger/api/traces/{:032x}", 0xdee9)));
    scene.polite(
        "the lines",
        &scene.get(&format!("/loki/api/v1/query_range?query={}", percent("{service_name=\"deep\"}"))),
    );
}

fn protobuf_messages(scene: &Scene<'_>) {
    for number in [1, 2, 3, 5] {
        let body = nested_message(number, 200_000);
        for door in surface::receivers() {
            scene.polite(&door.path, &scene.post(&door.path, PROTOBUF, &body));
            scene.polite(&door.path, &scene.post(&door.path, super::encode::SNAPPY, &crate::bodies::snappy(&body)));
        }
        for door in surface::calls() {
            scene.called(&door.path, &scene.grpc(&door.path, framed(&body)));
        }
    }
    let groups = vec![15 << 3 | 3; 500_000];
    for door in surface::receivers() {
        scene.polite(&door.path, &scene.post(&door.path, PROTOBUF, &groups));
    }
    for door in surface::calls() {
        scene.called(&door.path, &scene.grpc(&door.path, framed(&groups)));
    }
}

fn many_selectors(scene: &Scene<'_>) {
    let selectors = |times: usize| list(times, "&", |n| format!("match%5B%5D=up%7Ba%3D%22{n}%22%7D"));
    for path in ["/api/v1/series", "/api/v1/labels", "/api/v1/export", "/loki/api/v1/series"] {
        for times in [1_000, 60_000] {
            scene.dear(path, &scene.hasty().form(path, &selectors(times)));
        }
    }
    for path in ["/federate", "/api/v1/label/job/values", "/api/v1/status/tsdb"] {
        scene.dear(path, &scene.hasty().get(&format!("{path}?{}", selectors(2_000))));
    }
    scene.dear("delete", &scene.hasty().form("/api/v1/admin/tsdb/delete_series", &selectors(20_000)));
}

fn jaeger_tags(scene: &Scene<'_>) {
    let deep = nest("{\"a\":", "1", "}", 4_000);
    let wide = format!("{{{}}}", list(2_500, ",", |n| format!("\"t{n}\":\"v\"")));
    for tags in [deep, wide, "[".repeat(10_000)] {
        let path = format!("/jaeger/api/traces?service=service-1&tags={}", percent(&tags));
        scene.polite("tags", &scene.get(&path));
    }
}
