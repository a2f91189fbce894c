//! Attacks by count: matchers and patterns, labels and streams, parameters, and messages of nothing.

use super::client::percent;
use super::encode::{JSON, PROTOBUF, SNAPPY, attribute, bytes, fixed64, gauge, int, list, otlp, record, span};
use super::http2::framed;
use super::row::{Attack, Kind};
use super::scene::Scene;
use super::surface;
use crate::bodies::{Series, remote_write, snappy};

pub(super) const ATTACKS: &[Attack] = &[
    row("1,500 patterns of 100 letters in a selector", patterns_promql),
    row("patterns of many letters in match[] lists", patterns_match),
    row("1,500 label_replace with a pattern each", patterns_label_replace),
    row("remote read of 100 queries with 100 patterns each", patterns_remote_read),
    row("1,500 patterns in LogQL", patterns_logql),
    row("patterns made by a template for each line", patterns_templates),
    row("1,500 patterns in TraceQL", patterns_traceql),
    row("patterns that are slow to match", slow_patterns),
    row("alternations of 100,000 words", alternations),
    row("a series of a million labels", wide_series),
    row("a hundred thousand streams, and one of 100,000 labels", many_streams),
    row("a hundred thousand names of metrics", many_names),
    row("structured metadata and attributes by the thousand", wide_items),
    row("millions of empty messages", empty_messages),
    row("histograms of a million buckets", wide_histograms),
    row("a million exemplars", many_exemplars),
    row("thousands of parameters", many_parameters),
    row("lists of 20,000 labels", long_lists),
    row("limits of a billion", large_limits),
];

const fn row(name: &'static str, run: fn(&Scene<'_>)) -> Attack {
    Attack { name, kind: Kind::Count, run }
}

const SHOP: &str = "{app=\"shop\"}";

fn promql(scene: &Scene<'_>, what: &str, query: &str) {
    let query = percent(query);
    let paths = ["/api/v1/query", "/api/v1/query_range", "/api/v1/query_exemplars"];
    for path in &paths[..scene.pick(1, 3)] {
        let range = if path.ends_with("query") { "" } else { "&start=0&end=60&step=15" };
        scene
            .dear(&format!("{what} at {path}"), &scene.hasty().form(path, &format!("timeout=3s&query={query}{range}")));
    }
}

fn patterns_promql(scene: &Scene<'_>) {
    let same = list(1_500, ",", |_| "a=~\"\\\\w{100}\"".into());
    promql(scene, "the same", &format!("{{{same}}}"));
    let differ = list(1_500, ",", |n| format!("a=~\"\\\\w{{{}}}{n}\"", n % 50 + 51));
    promql(scene, "that differ", &format!("{{{differ}}}"));
    promql(scene, "not", &format!("up{{{}}}", differ.replace("=~", "!~")));
    promql(scene, "in many selectors", &list(300, " or ", |n| format!("up{{a=~\"\\\\w{{100}}{n}\"}}")));
    let nested = "{a=~\"((((\\\\w{10}){10}){10}){10}){10}\"}";
    promql(scene, "repetitions of repetitions", nested);
    promql(scene, "classes", &format!("{{{}}}", list(500, ",", |n| format!("a=~\"[\\\\pL\\\\pN]{{200}}{n}\""))));
}

fn patterns_match(scene: &Scene<'_>) {
    let one = |n: usize| format!("match%5B%5D={}", percent(&format!("{{job=~\"\\\\w{{100}}{n}\"}}")));
    for path in ["/api/v1/series", "/api/v1/labels", "/api/v1/export"] {
        scene.dear(path, &scene.hasty().form(path, &list(1_000, "&", one)));
    }
    for path in ["/federate", "/api/v1/label/job/values", "/api/v1/status/tsdb"] {
        scene.dear(path, &scene.hasty().get(&format!("{path}?{}", list(700, "&", one))));
    }
    let selector = percent(&format!("{{{}}}", list(1_000, ",", |n| format!("app=~\"\\\\w{{100}}{n}\""))));
    scene.dear("loki series", &scene.hasty().form("/loki/api/v1/series", &format!("match%5B%5D={selector}")));
    for path in [
        "/loki/api/v1/labels",
        "/loki/api/v1/label/app/values",
        "/loki/api/v1/index/stats",
        "/loki/api/v1/index/volume",
    ] {
        scene.dear(path, &scene.hasty().form(path, &format!("query={selector}")));
    }
}

fn patterns_label_replace(scene: &Scene<'_>) {
    let mut query = "shop_requests_1_total".to_owned();
    for n in 0..scene.pick(60, 60) {
        query = format!("label_replace({query},\"a\",\"$1\",\"n\",\"(\\\\w{{100}}|{n}).*\")");
    }
    promql(scene, "nested", &query);
    let side = list(1_500, " or ", |n| format!("label_replace(up,\"a\",\"$1\",\"n\",\"(\\\\w{{100}}|{n}).*\")"));
    promql(scene, "side by side", &side);
    promql(scene, "one that is large", "label_replace(up,\"a\",\"$1\",\"n\",\"((\\\\w{100}){100}){100}\")");
}

fn patterns_remote_read(scene: &Scene<'_>) {
    for pattern in ["\\w{100}", "[\\pL]{300}", ".*a.*b.*c.*"] {
        let matcher = |n: usize| {
            let text = format!("{pattern}{n}");
            bytes(3, &[int(1, 2), bytes(2, b"job"), bytes(3, text.as_bytes())].concat())
        };
        let query = |q: usize| {
            let matchers: Vec<u8> = (0..100).flat_map(|n| matcher(q * 100 + n)).collect();
            bytes(1, &[int(1, 0), int(2, i64::MAX as u64), matchers].concat())
        };
        let request: Vec<u8> = (0..100).flat_map(query).collect();
        scene.dear(pattern, &scene.hasty().post("/api/v1/read", SNAPPY, &snappy(&request)));
        let stream = [request, int(2, 1)].concat();
        scene.dear(pattern, &scene.hasty().post("/api/v1/read", SNAPPY, &snappy(&stream)));
    }
}

fn logql(scene: &Scene<'_>, what: &str, query: &str) {
    let query = percent(query);
    let paths = ["/loki/api/v1/query_range", "/loki/api/v1/detected_fields"];
    for path in &paths[..scene.pick(1, 2)] {
        scene.dear(&format!("{what} at {path}"), &scene.hasty().form(path, &format!("query={query}")));
    }
}

fn patterns_logql(scene: &Scene<'_>) {
    logql(scene, "filters", &format!("{SHOP}{}", list(1_500, "", |n| format!(" |~ \"\\\\w{{100}}{n}\""))));
    logql(scene, "or", &format!("{SHOP} |~ {}", list(1_500, " or ", |n| format!("\"\\\\w{{100}}{n}\""))));
    logql(scene, "selector", &format!("{{{}}}", list(1_500, ",", |n| format!("app=~\"\\\\w{{100}}{n}\""))));
    logql(scene, "stages", &format!("{SHOP}{}", list(1_000, "", |n| format!(" | regexp `(?P<a{n}>\\w{{100}})`"))));
    logql(
        scene,
        "labels",
        &format!("{SHOP} | json | {}", list(1_000, " or ", |n| format!("level=~\"\\\\w{{100}}{n}\""))),
    );
    logql(scene, "sums", &list(300, " + ", |n| format!("rate({SHOP} |~ \"\\\\w{{100}}{n}\"[1m])")));
    logql(scene, "one", &format!("{SHOP} |~ \"((\\\\w{{100}}){{100}}){{100}}\""));
    let pattern = list(2_000, " ", |n| format!("<a{n}>"));
    logql(scene, "pattern", &format!("{SHOP} | pattern \"{pattern}\""));
}

fn patterns_templates(scene: &Scene<'_>) {
    for template in [
        "{{ regexReplaceAll (printf \"\\\\w{100}%s\" .user) __line__ \"x\" }}",
        "{{ regexReplaceAllLiteral \"((\\\\w{100}){50}){50}\" __line__ \"x\" }}",
        "{{ __line__ | regexReplaceAll \"(.*)(.*)(.*)(.*)x\" | count \"\\\\w{100}\" }}",
        "{{ repeat 1000000000 \"x\" }}",
        "{{ repeat 30000 (repeat 30000 .user) }}",
        "{{ printf \"%1000000000d\" 1 }}",
        "{{ printf \"%.1000000000f\" 1.0 }}",
        "{{ __line__ | indent 1000000000 }}",
        "{{ range $i, $x := (split \"\" __line__) }}{{ range $j, $y := (split \"\" __line__) }}{{ $x }}{{ $y }}{{ end }}{{ end }}",
        "{{ __line__ | replace \"\" __line__ | replace \"\" __line__ | replace \"\" __line__ }}",
        "{{ alignLeft 1000000000 .user }}{{ alignRight 1000000000 .user }}",
        "{{ $x := __line__ }}{{ range $i, $y := (split \"\" __line__) }}{{ $x = (printf \"%s%s\" $x $x) }}{{ end }}{{ $x }}",
    ] {
        logql(scene, template, &format!("{SHOP} | json | line_format `{template}`"));
        logql(scene, template, &format!("{SHOP} | json | label_format x=`{template}`"));
        logql(
            scene,
            template,
            &format!("sum(count_over_time({SHOP} | json | label_format x=`{template}` [1h])) by (x)"),
        );
    }
}

fn patterns_traceql(scene: &Scene<'_>) {
    let all = list(1_000, "&&", |n| format!(".user=~\"\\\\w{{100}}{n}\""));
    let any = list(1_000, "||", |n| format!(".user=~\"\\\\w{{100}}{n}\""));
    let spansets = list(300, "||", |n| format!("{{ .user=~\"\\\\w{{100}}{n}\" }}"));
    let one = "{ .user =~ \"((\\\\w{100}){100}){100}\" }".to_owned();
    for query in [format!("{{ {all} }}"), format!("{{ {any} }}"), spansets, one] {
        let encoded = percent(&query);
        scene.dear("search", &scene.hasty().form("/tempo/api/search", &format!("q={encoded}")));
        scene.dear("rate", &scene.hasty().form("/tempo/api/metrics/query_range", &format!("q={encoded}%7Crate()")));
        if encoded.len() < 60_000 {
            scene.dear("tags", &scene.hasty().get(&format!("/tempo/api/v2/search/tag/user/values?q={encoded}")));
        }
        let (search, rate) =
            (framed(&bytes(8, query.as_bytes())), framed(&bytes(1, format!("{query} | rate()").as_bytes())));
        scene.called("Search", &scene.grpc("/tempopb.StreamingQuerier/Search", search));
        scene.called("MetricsQueryRange", &scene.grpc("/tempopb.StreamingQuerier/MetricsQueryRange", rate.clone()));
        scene.called("MetricsQueryInstant", &scene.grpc("/tempopb.StreamingQuerier/MetricsQueryInstant", rate));
    }
}

fn slow_patterns(scene: &Scene<'_>) {
    let slow = [
        "(a*)*(a*)*(a*)*b",
        "(.*)(.*)(.*)(.*)(.*)(.*)(.*)x",
        "(?s).*(x|y|z){1,200}.*(x|y){1,200}q",
        "[^q]*[^r]*[^s]{1,500}$",
    ];
    for pattern in slow {
        promql(scene, pattern, &format!("{{__name__=~\"{pattern}\"}}"));
        logql(scene, pattern, &format!("{SHOP} |~ \"{pattern}\""));
        logql(scene, pattern, &format!("{SHOP} | regexp \"(?P<a>{pattern})\""));
        scene.dear(
            pattern,
            &scene
                .hasty()
                .form("/tempo/api/search", &format!("q={}", percent(&format!("{{ .user =~ \"{pattern}\" }}")))),
        );
    }
}

fn alternations(scene: &Scene<'_>) {
    let words = list(100_000, "|", |n| format!("w{n}"));
    promql(scene, "names", &format!("{{__name__=~\"{words}\"}}"));
    promql(scene, "with more", &format!("{{n=~\"x.*|{words}|.*y\"}}"));
    promql(scene, "fold", &format!("{{n=~\"(?i)({words})\"}}"));
    logql(scene, "lines", &format!("{SHOP} |~ \"{}\"", &words[..words.len() / 2]));
    logql(scene, "fold", &format!("{SHOP} |~ \"(?i)({})\"", &words[..300_000]));
    let query = format!("{{ .user =~ \"{}\" }}", &words[..300_000]);
    scene.dear("traceql", &scene.hasty().form("/tempo/api/search", &format!("q={}", percent(&query))));
}

fn wide_series(scene: &Scene<'_>) {
    let now_ms = scene.now_ns / 1_000_000;
    for times in [200, 60_000, scene.pick(100_000, 1_000_000)] {
        let names: Vec<String> = (0..times).map(|n| format!("l{n:07}")).collect();
        let mut labels = vec![("__name__", "wide")];
        labels.extend(names.iter().map(|name| (name.as_str(), "v")));
        let body = remote_write(&[Series { labels, samples: vec![(now_ms, 1.0)] }]);
        scene.refused(&format!("{times} labels"), &scene.post("/api/v1/write", SNAPPY, &body));
    }
    let text = format!("wide{{{}}} 1\n", list(300_000, ",", |n| format!("l{n}=\"v\"")));
    scene.polite("text", &scene.post("/api/v1/import/prometheus", "Content-Type: text/plain\r\n", text.as_bytes()));
}

fn many_streams(scene: &Scene<'_>) {
    let now = scene.now_ns as u64;
    let at = bytes(1, &[int(1, now / 1_000_000_000), int(2, 5)].concat());
    let entry = bytes(2, &[at, bytes(2, b"x")].concat());
    let stream = |labels: String| bytes(1, &[bytes(1, labels.as_bytes()), entry.clone()].concat());
    let many: Vec<u8> =
        (0..scene.pick(20_000, 100_000)).flat_map(|n| stream(format!("{{app=\"many\", n=\"{n}\"}}"))).collect();
    scene.polite("streams", &scene.post("/loki/api/v1/push", SNAPPY, &snappy(&many)));
    let wide = stream(format!("{{{}}}", list(100_000, ",", |n| format!("l{n}=\"v\""))));
    scene.refused("labels", &scene.post("/loki/api/v1/push", SNAPPY, &snappy(&wide)));
    let services: Vec<u8> = (0..scene.pick(5_000, 30_000))
        .flat_map(|n| otlp(&format!("many-{n}"), &record(now, &bytes(1, b"x"))))
        .collect();
    scene.polite("services", &scene.post("/v1/logs", PROTOBUF, &services));
}

fn many_names(scene: &Scene<'_>) {
    let now = scene.now_ns as u64;
    let count = scene.pick(10_000, 100_000);
    let text = list(count, "", |n| format!("# HELP flood_{n} x\n# TYPE flood_{n} counter\nflood_{n} 1\n"));
    scene.polite("text", &scene.post("/api/v1/import/prometheus", "Content-Type: text/plain\r\n", text.as_bytes()));
    let points: Vec<u8> = (0..count).flat_map(|n| gauge(&format!("flood_otlp_{n}"), now, b"")).collect();
    scene.polite("otlp", &scene.post("/v1/metrics", PROTOBUF, &otlp("flood", &points)));
    scene.dear("names", &scene.hasty().get("/api/v1/label/__name__/values"));
    scene.dear("metadata", &scene.hasty().get("/api/v1/metadata"));
    scene.dear("tsdb", &scene.hasty().get("/api/v1/status/tsdb?limit=1000000000"));
}

fn wide_items(scene: &Scene<'_>) {
    let now = scene.now_ns as u64;
    let at = bytes(1, &[int(1, now / 1_000_000_000), int(2, 7)].concat());
    let metadata: Vec<u8> = (0..scene.pick(20_000, 200_000))
        .flat_map(|n| bytes(3, &[bytes(1, format!("k{n}").as_bytes()), bytes(2, b"v")].concat()))
        .collect();
    let entry = bytes(2, &[at, bytes(2, b"x"), metadata].concat());
    let push = bytes(1, &[bytes(1, b"{app=\"wide\"}"), entry].concat());
    scene.polite("metadata", &scene.post("/loki/api/v1/push", SNAPPY, &snappy(&push)));
    let attributes = |number: u8| -> Vec<u8> {
        (0..scene.pick(20_000, 200_000)).flat_map(|n| bytes(number, &attribute(&format!("k{n}"), "v"))).collect()
    };
    let traces = otlp("wide", &span(0xa11, 1, now, &attributes(9)));
    scene.polite("attributes", &scene.post("/v1/traces", PROTOBUF, &traces));
    let events: Vec<u8> =
        (0..scene.pick(30_000, 300_000)).flat_map(|_| bytes(11, &[fixed64(1, now), bytes(2, b"e")].concat())).collect();
    scene.polite("events", &scene.post("/v1/traces", PROTOBUF, &otlp("wide", &span(0xa12, 1, now, &events))));
    let links: Vec<u8> = (0..scene.pick(30_000, 300_000)).flat_map(|_| bytes(13, &bytes(1, &[7; 16]))).collect();
    scene.polite("links", &scene.post("/v1/traces", PROTOBUF, &otlp("wide", &span(0xa13, 1, now, &links))));
    scene.polite("points", &scene.post("/v1/metrics", PROTOBUF, &otlp("wide", &gauge("wide", now, &attributes(7)))));
    scene.polite("json", &scene.post("/loki/api/v1/push", JSON, wide_json(now).as_bytes()));
    scene.dear("the trace", &scene.hasty().get(&format!("/tempo/api/v2/traces/{:032x}", 0xa12)));
}

fn wide_json(now: u64) -> String {
    let pairs = list(50_000, ",", |n| format!("\"k{n}\":\"v\""));
    format!("{{\"streams\":[{{\"stream\":{{\"app\":\"wide\"}},\"values\":[[\"{now}\",\"x\",{{{pairs}}}]]}}]}}")
}

fn empty_messages(scene: &Scene<'_>) {
    let most = scene.pick(500_000, 6_000_000);
    for number in &[1_u8, 2, 3][..scene.pick(1, 3)] {
        let empty = [*number << 3 | 2, 0].repeat(most);
        for door in surface::receivers() {
            scene.polite(&door.path, &scene.post(&door.path, PROTOBUF, &empty));
            scene.polite(&door.path, &scene.post(&door.path, SNAPPY, &snappy(&empty)));
        }
        scene.polite("read", &scene.post("/api/v1/read", SNAPPY, &snappy(&empty)));
        for door in surface::calls() {
            scene.called(&door.path, &scene.grpc(&door.path, framed(&empty[..scene.pick(200_000, 1_000_000)])));
        }
    }
    // One resource that holds scopes of nothing, and one scope that holds items of nothing.
    let items = [2 << 3 | 2, 0].repeat(most);
    for path in ["/v1/traces", "/v1/logs", "/v1/metrics"] {
        scene.polite(path, &scene.post(path, PROTOBUF, &bytes(1, &items)));
        scene.polite(path, &scene.post(path, PROTOBUF, &bytes(1, &bytes(2, &items))));
    }
    let json = format!("{{\"resourceSpans\":[{}]}}", list(scene.pick(100_000, 500_000), ",", |_| "{}".into()));
    scene.polite("json", &scene.post("/v1/traces", JSON, json.as_bytes()));
    let streams = format!(
        "{{\"streams\":[{}]}}",
        list(scene.pick(50_000, 500_000), ",", |_| "{\"stream\":{},\"values\":[]}".into())
    );
    scene.polite("json", &scene.post("/loki/api/v1/push", JSON, streams.as_bytes()));
}

fn wide_histograms(scene: &Scene<'_>) {
    let now = scene.now_ns as u64;
    let counts: Vec<u8> = (0..1_000_000).flat_map(|_| 1_u64.to_le_bytes()).collect();
    let point = [fixed64(3, now), fixed64(4, 1_000_000), bytes(6, &counts), bytes(7, &counts)].concat();
    let classic = bytes(2, &[bytes(1, b"wide_classic"), bytes(9, &[bytes(1, &point), int(2, 2)].concat())].concat());
    scene.polite("classic", &scene.post("/v1/metrics", PROTOBUF, &otlp("wide", &classic)));
    let buckets = bytes(8, &[int(1, 0), bytes(2, &vec![1; 1_000_000])].concat());
    let point = [fixed64(3, now), fixed64(4, 1_000_000), int(6, 0), buckets].concat();
    let native = bytes(2, &[bytes(1, b"wide_native"), bytes(10, &[bytes(1, &point), int(2, 2)].concat())].concat());
    scene.polite("native", &scene.post("/v1/metrics", PROTOBUF, &otlp("wide", &native)));
    // Remote write: spans that claim four billion buckets, and a million spans.
    let name = bytes(1, &[bytes(1, b"__name__"), bytes(2, b"wide_spans")].concat());
    for spans in [bytes(11, &int(2, u64::from(u32::MAX))), bytes(11, &int(2, 1)).repeat(1_000_000)] {
        let histogram = bytes(4, &[int(1, 3), spans, bytes(12, &vec![2; 500_000]), int(15, now / 1_000_000)].concat());
        let body = snappy(&bytes(1, &[name.clone(), histogram].concat()));
        scene.polite("spans", &scene.post("/api/v1/write", SNAPPY, &body));
    }
}

fn many_exemplars(scene: &Scene<'_>) {
    let now_ms = scene.now_ns as u64 / 1_000_000;
    let name = bytes(1, &[bytes(1, b"__name__"), bytes(2, b"exemplary")].concat());
    let label = bytes(1, &[bytes(1, b"trace_id"), bytes(2, b"0af7651916cd43dd8448eb211c80319c")].concat());
    let exemplar = bytes(3, &[label, fixed64(2, 0), int(3, now_ms)].concat());
    let body = snappy(&bytes(1, &[name, exemplar.repeat(scene.pick(100_000, 300_000))].concat()));
    scene.polite("exemplars", &scene.post("/api/v1/write", SNAPPY, &body));
    scene.dear("query", &scene.hasty().get("/api/v1/query_exemplars?query=exemplary&start=0&end=99999999999"));
}

fn many_parameters(scene: &Scene<'_>) {
    let parameters = ["a=1", "query=up", "start=1", "q=%7B%7D", "match%5B%5D=up", "&", "="];
    for (at, door) in surface::queries().iter().enumerate() {
        // All of them in the long run; in the short one each is met by some endpoint.
        for parameter in parameters.iter().skip(if scene.full { 0 } else { at % 7 }).step_by(scene.pick(7, 1)) {
            let outcome = if door.posts() {
                scene.hasty().form(&door.path, &list(100_000, "&", |_| (*parameter).into()))
            } else {
                let url = list(60_000 / (parameter.len() + 1), "&", |_| (*parameter).into());
                scene.hasty().get(&format!("{}?{url}", door.path))
            };
            scene.dear(&door.path, &outcome);
        }
    }
}

fn long_lists(scene: &Scene<'_>) {
    let names = list(20_000, ",", |n| format!("l{n}"));
    promql(scene, "by", &format!("sum by ({names}) (up)"));
    promql(scene, "on", &format!("up * on ({names}) up"));
    promql(scene, "label_join", &format!("label_join(up,\"a\",\",\",{})", list(20_000, ",", |n| format!("\"l{n}\""))));
    promql(scene, "matchers", &format!("up{{{}}}", list(20_000, ",", |n| format!("l{n}=\"v\""))));
    logql(scene, "by", &format!("sum by ({names}) (rate({SHOP}[1m]))"));
    logql(scene, "drop", &format!("{SHOP} | drop {names}"));
    logql(scene, "keep", &format!("{SHOP} | keep {names}"));
    logql(scene, "json", &format!("{SHOP} | json {}", list(20_000, ",", |n| format!("l{n}=\"a.b[{n}]\""))));
    logql(scene, "logfmt", &format!("{SHOP} | logfmt {}", list(20_000, ",", |n| format!("l{n}=\"a\""))));
    logql(scene, "matchers", &format!("{{{}}}", list(20_000, ",", |n| format!("l{n}=\"v\""))));
    scene.dear(
        "volume",
        &scene.hasty().form("/loki/api/v1/index/volume", &format!("query={}&targetLabels={names}", percent(SHOP))),
    );
}

fn large_limits(scene: &Scene<'_>) {
    let shop = percent(SHOP);
    for limit in ["1000000000", "18446744073709551615", "-1", "0", "1e18"] {
        let range = format!("limit={limit}&start=0&end=99999999999");
        for path in [
            format!("/tempo/api/search?q=%7B%7D&spss={limit}&limit={limit}"),
            format!("/tempo/api/search?q=%7B%7D%7Cselect(.user)&{range}"),
            format!("/tempo/api/search?tags=&{range}"),
            format!("/tempo/api/v2/search/tags?{range}&maxStaleValues={limit}"),
            format!("/tempo/api/v2/search/tag/user/values?{range}"),
            format!("/tempo/api/metrics/query_range?q=%7B%7D%7Crate()by(.user)&exemplars={limit}&{range}&step=60"),
            format!("/jaeger/api/traces?service=service-1&limit={limit}"),
            format!("/loki/api/v1/query_range?query={shop}&{range}"),
            format!("/loki/api/v1/index/volume?query={shop}&{range}"),
            format!("/loki/api/v1/detected_fields?query={shop}&line_limit={limit}&{range}"),
            format!("/loki/api/v1/detected_field/user/values?query={shop}&line_limit={limit}&{range}"),
            format!("/api/v1/series?match%5B%5D=%7B__name__%3D~%22.%2B%22%7D&{range}"),
            format!("/api/v1/labels?{range}"),
            format!("/api/v1/label/n/values?{range}"),
            format!("/api/v1/metadata?limit={limit}&limit_per_metric={limit}"),
            format!("/api/v1/status/tsdb?limit={limit}"),
        ] {
            scene.dear(&path, &scene.hasty().get(&path));
        }
    }
}
