//! Attacks by cost: queries that are right and small, and would take hours or gigabytes.

use super::client::percent;
use super::encode::{bytes, int, list};
use super::http2::framed;
use super::load::trace_id;
use super::row::{Attack, Kind};
use super::scene::Scene;

pub(super) const ATTACKS: &[Attack] = &[
    row("subqueries over years", subqueries),
    row("PromQL over everything", promql_everything),
    row("joins of everything with everything", joins),
    row("labels that grow with each label_replace", growing_labels),
    row("PromQL with absurd steps", promql_steps),
    row("LogQL over everything", logql_everything),
    row("LogQL with absurd steps", logql_steps),
    row("LogQL with a series for each line", logql_series),
    row("statistics of logs over ten years", log_statistics),
    row("TraceQL over everything", traceql_everything),
    row("structural TraceQL over everything", structural),
    row("compare() and quantiles of everything", comparisons),
    row("TraceQL with absurd steps", traceql_steps),
    row("tags of everything", tags),
    row("Jaeger and traces over everything", jaeger),
    row("exports of everything", exports),
];

const fn row(name: &'static str, run: fn(&Scene<'_>)) -> Attack {
    Attack { name, kind: Kind::Dear, run }
}

const ALL: &str = "{__name__=~\".+\"}";
const SHOP: &str = "{app=\"shop\"}";

/// The last hour in steps of a second.
fn hour(scene: &Scene<'_>) -> String {
    let end = scene.now_ns / 1_000_000_000;
    format!("start={}&end={end}&step=1", end - 3_600)
}

fn instant(scene: &Scene<'_>, query: &str) {
    scene.dear(query, &scene.hasty().get(&format!("/api/v1/query?query={}", percent(query))));
}

fn range(scene: &Scene<'_>, query: &str) {
    scene.dear(query, &scene.hasty().get(&format!("/api/v1/query_range?query={}&{}", percent(query), hour(scene))));
}

fn subqueries(scene: &Scene<'_>) {
    for query in [
        "max_over_time(shop_requests_1_total[1y:1ms])",
        "max_over_time(shop_requests_1_total[1y:1s])",
        "max_over_time(rate(shop_requests_1_total[5m])[1y:1m])",
        "max_over_time(max_over_time(max_over_time(vector(1)[1d:1s])[1d:1s])[1d:1s])",
        "quantile_over_time(0.9, sum(rate({__name__=~\".+\"}[5m]))[30d:10s])",
        "count_over_time(time()[290y:1s])",
        "sum_over_time((time() > 0)[1000y:1s])",
        "last_over_time(vector(1)[1y:1ms] offset 1y)",
        "absent_over_time(nothing[10y:1s])",
    ] {
        instant(scene, query);
        range(scene, query);
    }
}

fn promql_everything(scene: &Scene<'_>) {
    for query in [
        ALL.to_owned(),
        format!("{ALL}[10y]"),
        format!("quantile by (n) (0.5, {ALL})"),
        format!("quantile_over_time(0.5, {ALL}[1y])"),
        format!("count_values(\"v\", {ALL})"),
        format!("topk(1000000000, {ALL})"),
        format!("sort_desc(rate({ALL}[1h]))"),
        format!("sort_by_label({ALL}, \"n\")"),
        format!("sum without (a) (rate({ALL}[1h]))"),
        format!("holt_winters({ALL}[1h], 0.5, 0.5)"),
        format!("predict_linear({ALL}[1h], 1e300)"),
        format!("histogram_quantile(0.9, {ALL})"),
        format!("absent({ALL}) or changes({ALL}[1d]) or resets({ALL}[1d]) or deriv({ALL}[1d])"),
        vec![ALL; 100].join(" or "),
        format!("stddev_over_time({ALL}[1y]) + mad_over_time({ALL}[1y])"),
    ] {
        instant(scene, &query);
        range(scene, &query);
    }
}

fn joins(scene: &Scene<'_>) {
    for query in [
        format!("{ALL} * on () group_left () {ALL}"),
        format!("{ALL} * on (job) group_left () {ALL}"),
        format!("{ALL} * ignoring (n) group_right (n) {ALL}"),
        format!("{ALL} and on () {ALL}"),
        format!("{ALL} unless on (job) {ALL}"),
        list(200, " * ", |_| ALL.into()),
        list(200, " and ", |_| ALL.into()),
        format!("count({ALL}) by (n) / on () group_left sum({ALL})"),
    ] {
        instant(scene, &query);
        range(scene, &query);
    }
}

fn growing_labels(scene: &Scene<'_>) {
    let mut query = ALL.to_owned();
    for _ in 0..40 {
        query = format!("label_replace({query},\"a\",\"$1$1$1$1$1$1$1$1\",\"a\",\"(.*)\")");
    }
    instant(scene, &query.replace(ALL, "label_replace(shop_requests_1_total,\"a\",\"xxxxxxxx\",\"\",\"\")"));
    let mut query = "label_replace(shop_requests_1_total,\"a\",\"xxxxxxxx\",\"\",\"\")".to_owned();
    for _ in 0..40 {
        query = format!("label_join({query},\"a\",\"\",\"a\",\"a\",\"a\",\"a\",\"a\",\"a\",\"a\",\"a\")");
    }
    instant(scene, &query);
    range(scene, &query);
}

fn promql_steps(scene: &Scene<'_>) {
    let year = 365 * 86_400_u64;
    for (start, end, step) in [
        ("0", format!("{year}"), "1"),
        ("0", format!("{}", year * 200), "0.001"),
        ("0", format!("{}", year * 200), "1e-9"),
        ("0", "1e18".into(), "1e15"),
        ("-9e15", "9e15".into(), "1e12"),
        ("0", "10".into(), "1e300"),
        ("0", "10".into(), "NaN"),
        ("0", "10".into(), "-1"),
        ("0", "10".into(), "0"),
    ] {
        let query = format!("/api/v1/query_range?query=time()&start={start}&end={end}&step={step}");
        scene.dear(&query, &scene.hasty().get(&query));
    }
}

fn logs(scene: &Scene<'_>, query: &str, range: &str) {
    for path in ["/loki/api/v1/query_range", "/loki/api/v1/query"] {
        scene.dear(query, &scene.hasty().form(path, &format!("query={}&limit=5000&{range}", percent(query))));
    }
}

/// All days that there are, as nanoseconds.
fn all_days() -> String {
    format!("start=0&end={}&step=1h", i64::MAX)
}

fn logql_everything(scene: &Scene<'_>) {
    for query in [
        "{app=~\".+\"} | json | line_format `{{ range $i, $x := .x }}{{ end }}{{ repeat 1000000000 \"x\" }}`"
            .to_owned(),
        format!("{SHOP} |~ `.*(a|b|c|d).*(e|f|g).*(h|i|j).*zzz`"),
        format!("{SHOP} | json | logfmt | pattern `<a> <b> <c>` | regexp `(?P<d>.*)(?P<e>.*)(?P<f>.*)`"),
        format!("sum by (user) (count_over_time({SHOP} | json [1y]))"),
        format!("quantile_over_time(0.99, {SHOP} | json | unwrap took [1y]) by (user)"),
        format!("topk(1000000000, sum by (user) (rate({SHOP} | json [1h])))"),
        format!("sum(rate({SHOP} |~ `(?i)x.*y.*z`[1h])) / sum(rate({SHOP} | json | took > 5 [1h]))"),
        format!("sort_desc(avg_over_time({SHOP} | json | unwrap took [1h]))"),
        list(100, " or ", |_| format!("count_over_time({SHOP} | json [1h])")),
        list(100, " / on () group_left () ", |_| format!("count_over_time({SHOP} | json [1h])")),
        format!("absent_over_time({SHOP} | json | level=\"none\" [10y])"),
        format!("stddev_over_time({SHOP} | json | unwrap took | __error__=\"\" [1y]) by (path, user)"),
        format!("{SHOP} | decolorize | unpack | json | label_format a=user,b=a,c=b | ip(\"0.0.0.0/0\")"),
        format!("last_over_time({SHOP} | json | unwrap bytes(took) [1y] offset 10y)"),
    ] {
        logs(scene, &query, &all_days());
        logs(scene, &query, &hour(scene));
    }
}

fn logql_steps(scene: &Scene<'_>) {
    let rate = percent(&format!("rate({SHOP}[1h])"));
    for (start, end, step) in [
        ("0", i64::MAX.to_string(), "1ns"),
        ("0", i64::MAX.to_string(), "1ms"),
        ("0", "99999999999".into(), "1e-9"),
        ("0", "1".into(), "0"),
        ("0", "1".into(), "-5"),
        ("0", i64::MAX.to_string(), "290y"),
    ] {
        for path in ["/loki/api/v1/query_range", "/loki/api/v1/index/volume_range"] {
            let query = if path.ends_with("volume_range") { percent(SHOP) } else { rate.clone() };
            let call = format!("{path}?query={query}&start={start}&end={end}&step={step}&interval={step}");
            scene.dear(&call, &scene.hasty().get(&call));
        }
    }
    // A window that is computed anew at each of many steps.
    logs(scene, &format!("quantile_over_time(0.5, {SHOP} | json | unwrap took [1h])"), &hour(scene));
    logs(scene, &format!("sum(count_over_time({SHOP}[1y]))"), &hour(scene));
    logs(scene, &format!("first_over_time({SHOP} | json | unwrap took [10y])"), &hour(scene));
}

fn logql_series(scene: &Scene<'_>) {
    for query in [
        format!("count_over_time({SHOP} | json | label_format x=`{{{{__line__}}}}{{{{__timestamp__}}}}` [1h])"),
        format!("rate({SHOP} | json | label_format x=`{{{{ repeat 1000 .user }}}}` [1h])"),
        format!("bytes_over_time({SHOP} | regexp `(?P<all>.*)` [1h])"),
        format!("sum by (all) (count_over_time({SHOP} | pattern `<all>` [1h]))"),
    ] {
        logs(scene, &query, &hour(scene));
        logs(scene, &query, &all_days());
    }
}

fn log_statistics(scene: &Scene<'_>) {
    let all = percent("{app=~\".+\"}");
    for path in [
        "index/stats",
        "index/volume",
        "index/volume_range",
        "detected_labels",
        "detected_fields",
        "detected_field/user/values",
        "labels",
        "label",
        "label/app/values",
        "series",
        "patterns",
    ] {
        let call = format!("/loki/api/v1/{path}?query={all}&match%5B%5D={all}&{}&limit=100000", all_days());
        scene.dear(&call, &scene.hasty().get(&call));
    }
}

fn search(scene: &Scene<'_>, query: &str) {
    let end = scene.now_ns / 1_000_000_000 + 60;
    let encoded = percent(query);
    scene.dear(
        query,
        &scene.hasty().get(&format!("/tempo/api/search?q={encoded}&limit=100000&spss=100000&start=1&end={end}")),
    );
    scene.dear(query, &scene.hasty().get(&format!("/tempo/api/search?q={encoded}")));
    let message = [bytes(8, query.as_bytes()), int(4, 100_000), int(5, 1), int(6, end as u64)].concat();
    scene.called(query, &scene.grpc("/tempopb.StreamingQuerier/Search", framed(&message)));
}

fn metrics(scene: &Scene<'_>, query: &str) {
    let encoded = percent(query);
    let hour = hour(scene);
    scene.dear(query, &scene.hasty().get(&format!("/tempo/api/metrics/query_range?q={encoded}&{hour}")));
    scene.dear(query, &scene.hasty().get(&format!("/tempo/api/metrics/query?q={encoded}&{hour}")));
    let end = scene.now_ns as u64;
    for (start, step) in [(end - 3_600_000_000_000, 1_000_000_000), (1, 3_600_000_000_000)] {
        let message = [bytes(1, query.as_bytes()), int(2, start), int(3, end), int(4, step)].concat();
        for method in ["MetricsQueryRange", "MetricsQueryInstant"] {
            scene.called(query, &scene.grpc(&format!("/tempopb.StreamingQuerier/{method}"), framed(&message)));
        }
    }
}

fn traceql_everything(scene: &Scene<'_>) {
    for query in [
        "{}",
        "{ .user =~ \".*a.*b.*c.*d.*\" }",
        "{} | count() > 0 | avg(duration) > 0 | max(duration) > 0 | min(duration) > 0",
        "{} | select(.user, .http.url, name, status, kind, duration, resource.service.name)",
        "{} | by(.user) | count() > 0",
        "{ .a = .b || .b = .c || name = .user || .http.url = .user }",
        "{ nestedSetParent < 0 || childCount > 0 }",
        "{ trace:duration > 0s && span:id != \"a\" }",
    ] {
        search(scene, query);
    }
}

fn structural(scene: &Scene<'_>) {
    for query in [
        "{} >> {}",
        "{} << {}",
        "{} ~ {}",
        "{} > {} > {} > {} > {}",
        "{} &>> {}",
        "{} !>> {}",
        "{} &~ {}",
        "({} >> {}) && ({} ~ {}) || ({} << {})",
        "{} >> {} >> {} >> {} >> {} >> {} >> {} >> {}",
    ] {
        search(scene, query);
        metrics(scene, &format!("{query} | rate()"));
    }
}

fn comparisons(scene: &Scene<'_>) {
    for query in [
        "{} | compare({ status = error })",
        "{} | compare({ .user =~ \".*a\" }, 1000000)",
        "{} | quantile_over_time(duration, 0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1) by (.user)",
        "{} | histogram_over_time(duration) by (.user, .http.url)",
        "{} | rate() by (.user, .http.url, name, resource.service.name)",
        "{} | count_over_time() by (span:id)",
        "{} | rate() by (.user) | topk(1000000000)",
        "{} >> {} | quantile_over_time(duration, 0.5) by (.user)",
        "{} | sum_over_time(duration) by (trace:id)",
    ] {
        metrics(scene, query);
    }
}

fn traceql_steps(scene: &Scene<'_>) {
    for (start, end, step) in [
        ("0", "99999999999", "1ns"),
        ("0", "99999999999", "1"),
        ("0", "18446744073", "1ms"),
        ("1", "2", "0"),
        ("1", "2", "-1"),
        ("9", "1", "1"),
        ("0", "99999999999999999999", "1"),
    ] {
        for path in ["/tempo/api/metrics/query_range", "/tempo/api/metrics/query"] {
            let call = format!("{path}?q=%7B%7D%7Crate()&start={start}&end={end}&step={step}");
            scene.dear(&call, &scene.hasty().get(&call));
        }
    }
    for (start, end, step) in
        [(0, u64::MAX, 1), (u64::MAX, 0, 1), (0, u64::MAX, u64::MAX), (0, 1 << 62, 0), (1, 1 << 63, 1_000)]
    {
        let message = [bytes(1, b"{} | rate()"), int(2, start), int(3, end), int(4, step)].concat();
        for method in ["MetricsQueryRange", "MetricsQueryInstant"] {
            scene.called(method, &scene.grpc(&format!("/tempopb.StreamingQuerier/{method}"), framed(&message)));
        }
    }
}

fn tags(scene: &Scene<'_>) {
    for path in [
        "search/tags",
        "v2/search/tags",
        "search/tag/user/values",
        "v2/search/tag/user/values",
        "v2/search/tag/span.http.url/values",
    ] {
        for query in ["", "&q=%7B%7D", "&q=%7B.user%3D~%22.*a.*%22%7D", "&scope=all", "&scope=span"] {
            let call = format!("/tempo/api/{path}?start=1&end=99999999999{query}");
            scene.dear(&call, &scene.hasty().get(&call));
        }
    }
    for method in ["SearchTags", "SearchTagsV2", "SearchTagValues", "SearchTagValuesV2"] {
        let values = method.contains("Values");
        let message = if values { bytes(1, b"span.user") } else { bytes(1, b"all") };
        scene.called(method, &scene.grpc(&format!("/tempopb.StreamingQuerier/{method}"), framed(&message)));
    }
}

fn jaeger(scene: &Scene<'_>) {
    for path in [
        "/jaeger/api/traces?service=service-1&limit=1500000&start=0&end=9999999999999999".to_owned(),
        "/jaeger/api/traces?service=service-1&limit=100000&lookback=1y&minDuration=0s&maxDuration=100h".to_owned(),
        format!("/jaeger/api/traces?service=&{}", list(1_000, "&", |n| format!("traceID={:032x}", trace_id(n)))),
        format!("/jaeger/api/traces?{}", list(1_000, "&", |_| format!("traceID={:032x}", trace_id(1)))),
        "/jaeger/api/dependencies?endTs=9999999999999&lookback=999999999999999".to_owned(),
        "/jaeger/api/services".to_owned(),
        "/jaeger/api/services/service-1/operations".to_owned(),
        "/jaeger/api/operations?service=service-1".to_owned(),
        "/jaeger/api/v3/operations?service=service-1".to_owned(),
        "/jaeger/api/v3/services".to_owned(),
        format!("/jaeger/api/v3/traces/{:032x}", trace_id(1)),
    ] {
        scene.dear(&path, &scene.hasty().get(&path));
    }
}

fn exports(scene: &Scene<'_>) {
    let all = percent(ALL);
    for path in ["/api/v1/export", "/federate", "/api/v1/series", "/api/v1/labels", "/api/v1/label/n/values"] {
        let call = format!("{path}?match%5B%5D={all}&start=0&end=99999999999");
        scene.dear(&call, &scene.hasty().get(&call));
    }
    let matcher = bytes(3, &[int(1, 2), bytes(2, b"__name__"), bytes(3, b".+")].concat());
    let query = bytes(1, &[int(1, 0), int(2, 1 << 60), matcher].concat());
    for kind in [0, 1] {
        let body = [query.repeat(20), int(2, kind)].concat();
        let body = crate::bodies::snappy(&body);
        scene.dear("remote read", &scene.hasty().post("/api/v1/read", super::encode::SNAPPY, &body));
    }
    scene.dear(
        "a form of format_query",
        &scene.hasty().form("/api/v1/format_query", &format!("query={}", list(9_000, "%2B", |_| "up".into()))),
    );
}
