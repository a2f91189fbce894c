//! The lines of Grafana's smoke checklist that touch Prometheus, against a store of vectors.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use http::{Request, StatusCode};
use http_body_util::BodyExt;
use tower::ServiceExt;

use super::ENDPOINTS;
use crate::api::context::Context;
use crate::api::endpoint::routes;
use crate::base::counters::Counters;
use crate::base::limits::MemoryBudget;
use crate::base::support::ManualClock;
use crate::model::batch::MetricMetadata;
use crate::model::exemplar::Exemplar;
use crate::model::labels::Labels;
use crate::query::{Engine, Options};
use crate::store::memory::{Memory, Nothing};
use crate::wire::decompress::{Encoding, decompress};

fn labels(pairs: &[(&str, &str)]) -> Labels {
    Labels::from_pairs(pairs.iter().copied()).unwrap()
}

fn context(memory: Memory, options: Options) -> Context {
    Context {
        metrics: Arc::new(memory),
        logs: Arc::new(Nothing),
        traces: Arc::new(Nothing),
        engine: Engine::new(options, None),
        clock: Arc::new(ManualClock::at_ns(100_000_000_000)),
        counters: Counters::default(),
        places: crate::api::Places::new(2),
        flows: crate::api::Flows::new(2),
        server_info: Default::default(),
        retention_logs: None,
    }
}

fn router(memory: Memory) -> Router {
    routes("", ENDPOINTS).with_state(context(memory, Options::default()))
}

fn example() -> Memory {
    let mut memory = Memory::default();
    for t in 0..10 {
        memory.float(&labels(&[("__name__", "up"), ("job", "a"), ("service.name", "x")]), t * 10_000, t as f64);
        memory.float(&labels(&[("__name__", "up"), ("job", "b")]), t * 10_000, 1e21);
    }
    memory
}

async fn send(router: Router, request: Request<Body>) -> (StatusCode, String) {
    let response = router.oneshot(request).await.unwrap();
    let status = response.status();
    let kind = response.headers().get("content-type").map(|kind| kind.to_str().unwrap().to_owned());
    if status.is_success() {
        assert_eq!(kind.as_deref(), Some("application/json"));
    }
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

async fn get(memory: Memory, path: &str) -> (StatusCode, String) {
    send(router(memory), Request::get(path).body(Body::empty()).unwrap()).await
}

async fn post(memory: Memory, path: &str, form: &str) -> (StatusCode, String) {
    let request = Request::post(path)
        .header("content-type", "application/x-www-form-urlencoded")
        .header("x-grafana-org-id", "1")
        .body(Body::from(form.to_owned()));
    send(router(memory), request.unwrap()).await
}

#[tokio::test]
async fn the_health_check_gets_two() {
    let two = r#"{"status":"success","data":{"resultType":"scalar","result":[4,"2"]}}"#;
    assert_eq!(post(Memory::default(), "/api/v1/query", "query=1%2B1&time=4").await, (StatusCode::OK, two.to_owned()));
    assert_eq!(get(Memory::default(), "/api/v1/query?query=1%2B1&time=4").await.1, two);
    // Custom parameters come in the URL, the rest in the form; both count.
    assert_eq!(post(Memory::default(), "/api/v1/query?time=4&dedup=true", "query=1%2B1").await.1, two);
}

#[tokio::test]
async fn buildinfo_names_a_prometheus_release_and_no_features() {
    let (status, body) = get(Memory::default(), "/api/v1/status/buildinfo").await;
    assert_eq!(status, StatusCode::OK);
    assert!(body.contains(r#""version":"2.55.0""#) && !body.contains("features"), "{body}");
}

#[tokio::test]
async fn the_exemplar_probe_in_milliseconds_gets_an_empty_list() {
    let form = "query=test&start=1763797000000&end=1763798800000";
    let (status, body) = post(Memory::default(), "/api/v1/query_exemplars", form).await;
    assert_eq!((status, body.as_str()), (StatusCode::OK, r#"{"status":"success","data":[]}"#));
}

#[tokio::test]
async fn exemplars_come_with_their_series() {
    let mut memory = Memory::default();
    let exemplar = Exemplar { labels: labels(&[("trace_id", "4b")]), value: 0.31, t: 1_700_000_000_123 };
    memory.exemplars.push((labels(&[("__name__", "h_bucket"), ("le", "0.5")]), vec![exemplar]));
    let (_, body) = get(memory, "/api/v1/query_exemplars?query=rate(h_bucket[5m])").await;
    let expected = concat!(
        r#"{"status":"success","data":[{"seriesLabels":{"__name__":"h_bucket","le":"0.5"},"#,
        r#""exemplars":[{"labels":{"trace_id":"4b"},"value":"0.31","timestamp":1700000000.123}]}]}"#
    );
    assert_eq!(body, expected);
}

#[tokio::test]
async fn an_empty_store_has_empty_lists_in_the_right_shape() {
    for (path, data) in [
        ("/api/v1/rules?type=alert", r#"{"groups":[]}"#),
        ("/api/v1/alerts", r#"{"alerts":[]}"#),
        ("/api/v1/alertmanagers", r#"{"activeAlertmanagers":[],"droppedAlertmanagers":[]}"#),
        ("/api/v1/targets?state=active", r#"{"activeTargets":[],"droppedTargets":[],"droppedTargetCounts":{}}"#),
        ("/api/v1/targets/metadata?limit=1", "[]"),
        ("/api/v1/scrape_pools", r#"{"scrapePools":[]}"#),
        ("/api/v1/notifications", "[]"),
        ("/api/v1/status/walreplay", r#"{"min":0,"max":0,"current":0,"state":"done"}"#),
        ("/api/v1/status/active_queries", "[]"),
        ("/api/v1/status/tsdb/blocks", r#"{"blocks":[]}"#),
        ("/api/v1/metadata?limit=40000", "{}"),
        ("/api/v1/labels", "[]"),
        ("/api/v1/label/__name__/values?limit=40000", "[]"),
        ("/api/v1/series?match[]={__name__!=\"\"}", "[]"),
    ] {
        let path = path.replace('"', "%22").replace('{', "%7B").replace('}', "%7D");
        let (status, body) = get(Memory::default(), &path).await;
        assert_eq!((status, body), (StatusCode::OK, format!("{{\"status\":\"success\",\"data\":{data}}}")), "{path}");
    }
}

#[tokio::test]
async fn label_names_may_be_escaped_and_selectors_end_in_a_comma() {
    let path = "/api/v1/label/U__service_2e_name/values?match[]=%7B__name__%3D~%22.%2B%22,%7D&limit=0";
    assert_eq!(get(example(), path).await.1, r#"{"status":"success","data":["x"]}"#);
    let (_, body) = get(example(), "/api/v1/label/job/values?limit=1&start=0&end=100").await;
    assert_eq!(body, r#"{"status":"success","data":["a"],"warnings":["results truncated due to limit"]}"#);
}

#[tokio::test]
async fn series_are_listed_once_for_all_selectors() {
    let (_, body) =
        post(example(), "/api/v1/series", "match[]=up%7Bjob%3D%22b%22%7D&match[]=up%7Bjob!%3D%22a%22%7D").await;
    assert_eq!(body, r#"{"status":"success","data":[{"__name__":"up","job":"b"}]}"#);
    assert_eq!(get(example(), "/api/v1/series").await.0, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn metadata_is_answered_by_metric() {
    let memory = || {
        let mut memory = Memory::default();
        for name in ["down", "up"] {
            let (name, kind, help) = (name.to_owned(), "gauge".to_owned(), "one".to_owned());
            memory.metadata.push(MetricMetadata { name, kind, help, unit: String::new() });
        }
        memory
    };
    let (_, body) = get(memory(), "/api/v1/metadata?metric=up&limit_per_metric=1").await;
    assert_eq!(body, r#"{"status":"success","data":{"up":[{"type":"gauge","help":"one","unit":""}]}}"#);
    let (_, body) = get(memory(), "/api/v1/metadata?limit=1").await;
    assert_eq!(body, r#"{"status":"success","data":{"down":[{"type":"gauge","help":"one","unit":""}]}}"#);
}

#[tokio::test]
async fn a_range_is_a_matrix_of_strings_and_times() {
    let (status, body) = post(example(), "/api/v1/query_range", "query=up&start=0&end=20&step=10").await;
    let expected = concat!(
        r#"{"status":"success","data":{"resultType":"matrix","result":["#,
        r#"{"metric":{"__name__":"up","job":"a","service.name":"x"},"values":[[0,"0"],[10,"1"],[20,"2"]]},"#,
        r#"{"metric":{"__name__":"up","job":"b"},"values":[[0,"1e+21"],"#,
        r#"[10,"1e+21"],[20,"1e+21"]]}]}}"#
    );
    assert_eq!((status, body.as_str()), (StatusCode::OK, expected));
}

#[tokio::test]
async fn large_answers_are_gzipped_and_zstd_is_for_those_who_ask_for_it_alone() {
    for (accepted, coding, encoding) in [
        ("gzip, deflate, br, zstd", Some("gzip"), Encoding::Gzip),
        ("zstd", Some("zstd"), Encoding::Zstd),
        ("br", None, Encoding::Identity),
    ] {
        let request = Request::get(
            "/api/v1/query?query=label_replace(up,%22x%22,%22yyyyyyyyyy%22,%22%22,%22%22)[1m:50ms]&time=90",
        )
        .header("accept-encoding", accepted);
        let response = router(example()).oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        assert_eq!(response.headers().get("content-encoding").map(|value| value.to_str().unwrap()), coding);
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let text = decompress(encoding, &body, 1 << 20).unwrap();
        let answer: serde_json::Value = serde_json::from_slice(&text).unwrap();
        assert_eq!(answer["data"]["result"][0]["values"].as_array().unwrap().len(), 1_200, "{accepted}");
    }
}

async fn json(memory: Memory, path: &str) -> serde_json::Value {
    let (status, body) = get(memory, path).await;
    assert_eq!(status, StatusCode::OK, "{path}: {body}");
    serde_json::from_str(&body).unwrap()
}

#[tokio::test]
async fn statistics_have_times_and_samples() {
    let answer = json(example(), "/api/v1/query_range?query=up&start=0&end=20&step=10&stats=all").await;
    let stats = &answer["data"]["stats"];
    for name in ["evalTotalTime", "innerEvalTime", "execQueueTime", "execTotalTime", "resultSortTime"] {
        assert!(stats["timings"][name].as_f64().is_some_and(|seconds| seconds >= 0.0), "{name}: {stats}");
    }
    for name in ["totalQueryableSamples", "samplesRead", "peakSamples"] {
        assert!(stats["samples"][name].is_u64(), "{name}: {stats}");
    }
    assert!(stats["samples"]["totalQueryableSamples"].as_u64() > Some(0), "{stats}");
    let answer = json(example(), "/api/v1/query_range?query=up%20@%200&start=0&end=20&step=10&stats=all").await;
    let samples = &answer["data"]["stats"]["samples"];
    // All steps look at the same samples, which are read once.
    assert_eq!(samples["totalQueryableSamples"].as_u64(), samples["samplesRead"].as_u64().map(|read| 3 * read));
    assert_eq!(samples["samplesReadPerStep"][1][1], 0, "{samples}");
    let answer = json(example(), "/api/v1/query?query=up&time=0&stats=some").await;
    assert!(answer["warnings"][0].as_str().unwrap().contains("deprecated"), "{answer}");
}

#[tokio::test]
async fn the_newest_samples_are_federated() {
    let path = "/federate?match[]=up%7Bjob%3D%22a%22%7D&match[]=%7Bjob%3D~%22.%2B%22%7D";
    let response = router(example()).oneshot(Request::get(path).body(Body::empty()).unwrap()).await.unwrap();
    let kind = response.headers()["content-type"].to_str().unwrap().to_owned();
    assert_eq!(kind, "text/plain; version=0.0.4; charset=utf-8; escaping=underscores");
    let body = response.into_body().collect().await.unwrap().to_bytes();
    let expected = "# TYPE up untyped\nup{job=\"a\",service_name=\"x\",instance=\"\"} 9 90000\n\
                    up{job=\"b\",instance=\"\"} 1e+21 90000\n";
    assert_eq!(String::from_utf8_lossy(&body), expected);
}

#[tokio::test]
async fn cardinality_is_counted_by_name_label_and_pair() {
    let mut memory = example();
    memory.float(&labels(&[("__name__", "down"), ("job", "b")]), 1_000, 1.0);
    let data = json(memory, "/api/v1/status/tsdb?limit=2").await["data"].take();
    assert_eq!((&data["headStats"]["numSeries"], &data["headStats"]["numLabelPairs"]), (&3.into(), &5.into()));
    let row = |name: &str, value: u64| serde_json::json!({"name": name, "value": value});
    assert_eq!(data["seriesCountByMetricName"], serde_json::json!([row("up", 2), row("down", 1)]));
    assert_eq!(data["labelValueCountByLabelName"], serde_json::json!([row("__name__", 2), row("job", 2)]));
    assert_eq!(data["memoryInBytesByLabelName"], serde_json::json!([row("__name__", 6), row("job", 2)]));
    assert_eq!(data["seriesCountByLabelValuePair"], serde_json::json!([row("__name__=up", 2), row("job=b", 2)]));
    let data = json(example(), "/api/v1/status/tsdb?match[]=up%7Bjob%3D%22b%22%7D&start=0&end=5").await["data"].take();
    assert_eq!(data["headStats"]["numSeries"], 1);
    for bad in ["0", "x", "10001"] {
        assert_eq!(get(example(), &format!("/api/v1/status/tsdb?limit={bad}")).await.0, StatusCode::BAD_REQUEST);
    }
}

#[tokio::test]
async fn refused_series_are_told_by_reason() {
    let context = context(Memory::default(), Options::default());
    let refused = [("signal", "metrics"), ("reason", "series_limit")];
    context.counters.counter("trilith_rejected_total", "", &refused).add(7);
    let request = Request::get("/api/v1/status/tsdb").body(Body::empty()).unwrap();
    let (_, body) = send(routes("", ENDPOINTS).with_state(context), request).await;
    assert!(body.contains(r#""refusedByReason":[{"name":"series_limit","value":7}]"#), "{body}");
}

#[tokio::test]
async fn the_server_says_how_it_is_set_up() {
    let mut context = context(Memory::default(), Options::default());
    context.server_info.settings =
        Arc::new(|| vec![("data-dir", "it's".to_owned()), ("retention-metrics", "30d".to_owned())]);
    let ask = async |path: &str| -> serde_json::Value {
        let request = Request::get(path).body(Body::empty()).unwrap();
        serde_json::from_str(&send(routes("", ENDPOINTS).with_state(context.clone()), request).await.1).unwrap()
    };
    assert_eq!(ask("/api/v1/status/config").await["data"]["yaml"], "data-dir: 'it''s'\nretention-metrics: '30d'\n");
    let flags = ask("/api/v1/status/flags").await["data"].take();
    assert_eq!((&flags["data-dir"], &flags["storage.tsdb.retention.time"]), (&"it's".into(), &"30d".into()));
    assert!(flags.as_object().unwrap().values().all(serde_json::Value::is_string), "{flags}");
    let info = ask("/api/v1/status/runtimeinfo").await["data"].take();
    assert_eq!((&info["startTime"], &info["storageRetention"]), (&"1970-01-01T00:00:00Z".into(), &"30d".into()));
    assert_eq!(info["serverTime"], "1970-01-01T00:01:40Z");
    let features = ask("/api/v1/features").await["data"].take();
    assert_eq!(
        (&features["promql_functions"]["rate"], &features["promql"]["at_modifier"]),
        (&true.into(), &true.into())
    );
}

#[tokio::test]
async fn a_query_is_listed_while_it_runs() {
    let context = context(example(), Options::default());
    // Both places are taken, so that it waits.
    let taken = [context.admit(None).await.unwrap(), context.admit(None).await.unwrap()];
    let router = routes("", ENDPOINTS).with_state(context.clone());
    let query = Request::get("/api/v1/query_range?query=up&start=1&end=2&step=1").header("x-panel-id", "4");
    let waiting = tokio::spawn(router.clone().oneshot(query.body(Body::empty()).unwrap()));
    let list = async || {
        send(router.clone(), Request::get("/api/v1/status/active_queries").body(Body::empty()).unwrap()).await.1
    };
    while context.server_info.running.all().is_empty() {
        tokio::task::yield_now().await;
    }
    let body = list().await;
    assert!(body.contains(r#""query":"up","start":1.0,"end":2.0,"step":1.0,"#), "{body}");
    assert!(body.contains(r#""asker":{"panel":"4"}"#), "{body}");
    drop(taken);
    assert_eq!(waiting.await.unwrap().unwrap().status(), StatusCode::OK);
    assert!(list().await.ends_with(r#""data":[]}"#));
}

#[tokio::test]
async fn pages_of_other_origins_may_ask() {
    let router = super::router("").with_state(context(example(), Options::default()));
    let send = async |method: &str, origin: bool| {
        let request = Request::builder().method(method).uri("/api/v1/query?query=1");
        let request = if origin { request.header("origin", "http://x") } else { request };
        router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap()
    };
    for (method, status) in [("OPTIONS", StatusCode::NO_CONTENT), ("GET", StatusCode::OK), ("HEAD", StatusCode::OK)] {
        let response = send(method, true).await;
        assert_eq!(
            (response.status(), &response.headers()["access-control-allow-origin"]),
            (status, &"*".parse().unwrap())
        );
    }
    assert!(!send("GET", false).await.headers().contains_key("access-control-allow-origin"));
}

#[tokio::test]
async fn errors_have_the_status_and_type_that_grafana_reads() {
    for (path, status, kind) in [
        ("/api/v1/query?query=sum(", 400, "bad_data"),
        ("/api/v1/series?match[]=%7B%7D", 400, "bad_data"),
        ("/api/v1/labels?match[]=%7Ba%3D~%22.*%22%7D", 400, "bad_data"),
        ("/federate?match[]=(", 400, "bad_data"),
        ("/api/v1/scrape_pools/config", 400, "bad_data"),
        ("/api/v1/scrape_pools/config?scrapePool=x", 404, "not_found"),
        ("/api/v1/query?query=sum%20up%20)", 400, "bad_data"),
        ("/api/v1/query", 400, "bad_data"),
        ("/api/v1/query?query=1&time=soon", 400, "bad_data"),
        ("/api/v1/query_range?query=up&start=0&end=10&step=0", 400, "bad_data"),
        ("/api/v1/query_range?query=up&start=0&end=10000000&step=1", 400, "bad_data"),
        ("/api/v1/query?query=up%2Bon()up", 422, "execution"),
        ("/api/v1/query?query=topk(NaN,up)", 422, "execution"),
    ] {
        let (got, body) = get(example(), path).await;
        assert_eq!(got.as_u16(), status, "{path}: {body}");
        assert!(body.starts_with(&format!(r#"{{"status":"error","errorType":"{kind}","error":""#)), "{body}");
    }
}

#[tokio::test]
async fn a_query_out_of_time_is_a_503_and_one_out_of_memory_a_422() {
    let options = Options { timeout: Duration::ZERO, ..Options::default() };
    let router = routes("", ENDPOINTS).with_state(context(example(), options));
    let request = Request::get("/api/v1/query?query=up").body(Body::empty()).unwrap();
    let (status, body) = send(router, request).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{body}");
    assert!(body.contains(r#""errorType":"timeout""#), "{body}");
    let options = Options { memory_max: 10_000_000, ..Options::default() };
    let router = routes("", ENDPOINTS).with_state(context(example(), options));
    let request = Request::get("/api/v1/query?query=max_over_time(up[1y:1s])").body(Body::empty()).unwrap();
    let (status, body) = send(router, request).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{body}");
}

#[tokio::test]
async fn a_path_prefix_changes_nothing_and_unknown_paths_are_404() {
    let router = routes("/prometheus", ENDPOINTS).with_state(context(example(), Options::default()));
    let request = Request::get("/prometheus/api/v1/query?query=1").body(Body::empty()).unwrap();
    assert_eq!(send(router.clone(), request).await.0, StatusCode::OK);
    let request = Request::get("/prometheus/api/v1/nothing").body(Body::empty()).unwrap();
    assert_eq!(send(router, request).await.0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_client_that_stalls_loses_its_place_whatever_it_asked_for() {
    let mut memory = Memory::default();
    let long = "x".repeat(2_000);
    for t in 0..1_000 {
        let wide = labels(&[("__name__", "wide"), ("long", &long), ("n", &t.to_string())]);
        (0..3).for_each(|step| memory.float(&wide, 50_000 + 1_000 * step, t as f64));
    }
    let options = Options { stall_max: Duration::from_millis(20), ..Options::default() };
    let context = context(memory, options);
    let router = routes("", ENDPOINTS).with_state(context.clone());
    for path in [
        "export?match[]=wide",
        "query?query=wide",
        "query_range?query=wide&start=50&end=60&step=1",
        "series?match[]=wide",
        "/federate?match[]=wide",
    ] {
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/api/v1/{path}") };
        let response = router.clone().oneshot(Request::get(&path).body(Body::empty()).unwrap()).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK, "{path}");
        // Nobody reads it.
        while context.flows.free() + context.places.free() < 4 {
            tokio::task::yield_now().await;
        }
        assert!(response.into_body().collect().await.is_err(), "{path} was answered in whole");
    }
}

#[tokio::test]
async fn queries_are_counted_by_outcome() {
    let context = context(example(), Options::default());
    let router = routes("", ENDPOINTS).with_state(context.clone());
    for query in ["1", "(", "2"] {
        let request = Request::get(format!("/api/v1/query?query={query}")).body(Body::empty()).unwrap();
        send(router.clone(), request).await;
    }
    let text = context.counters.expose();
    assert!(text.contains(r#"trilith_queries_total{language="promql",outcome="success"} 2"#), "{text}");
    assert!(text.contains(r#"trilith_queries_total{language="promql",outcome="bad_data"} 1"#), "{text}");
}

#[tokio::test]
async fn a_query_is_told_as_a_tree() {
    let tree = async |query: &str| {
        let (status, body) = get(example(), &format!("/api/v1/parse_query?query={query}")).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        serde_json::from_str::<serde_json::Value>(&body).unwrap()["data"].clone()
    };
    let whole =
        tree("topk%20by(a)(3,foo%7Bb!~%22c%22%7D%20@%20end()%20offset%205m)%20-%20on(x)group_left()rate(bar%5B5m%5D)")
            .await;
    assert_eq!((&whole["type"], &whole["op"]), (&"binaryExpr".into(), &"-".into()));
    assert_eq!((&whole["matching"]["card"], &whole["matching"]["on"]), (&"many-to-one".into(), &true.into()));
    let (left, right) = (&whole["lhs"], &whole["rhs"]);
    assert_eq!(
        (&left["type"], &left["op"], &left["grouping"][0]),
        (&"aggregation".into(), &"topk".into(), &"a".into())
    );
    assert_eq!((&left["param"]["type"], &left["param"]["val"]), (&"numberLiteral".into(), &"3".into()));
    let selector = &left["expr"];
    assert_eq!((&selector["name"], &selector["offset"]), (&"foo".into(), &300_000.into()));
    assert_eq!((&selector["startOrEnd"], &selector["matchers"][1]["type"]), (&"end".into(), &"=".into()));
    assert_eq!(whole["matching"]["fillValues"], serde_json::json!({"lhs": null, "rhs": null}));
    assert_eq!((&selector["offsetExpr"], &right["args"][0]["rangeExpr"]), (&().into(), &().into()));
    let arithmetic = tree("foo%5Bstep()*2%5D%20offset%20(1m)").await;
    assert_eq!((&arithmetic["range"], &arithmetic["rangeExpr"]["op"]), (&0.into(), &"*".into()));
    assert_eq!((&right["func"]["name"], &right["func"]["argTypes"][0]), (&"rate".into(), &"matrix".into()));
    assert_eq!((&right["args"][0]["type"], &right["args"][0]["range"]), (&"matrixSelector".into(), &300_000.into()));
    assert_eq!(tree("(1%2Btime())*a").await["matching"], serde_json::Value::Null);
    assert_eq!(tree("deriv((-a)%5B1h:%5D)").await["args"][0]["expr"]["type"], "parenExpr");
    let (status, body) = get(example(), "/api/v1/parse_query?query=sum(").await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(body.contains("bad_data") && body.contains("parse error"), "{body}");
    let deep = vec!["a"; 1_500].join("%2B");
    assert_eq!(get(example(), &format!("/api/v1/parse_query?query={deep}")).await.0, StatusCode::OK);
    assert_eq!(get(example(), &format!("/api/v1/format_query?query={deep}")).await.0, StatusCode::OK);
}

fn escaped(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

fn message(fields: &[(u8, &[u8])]) -> Vec<u8> {
    let mut out = Vec::new();
    for (number, bytes) in fields {
        out.push(number << 3 | 2);
        out.extend([
            bytes.len() as u8 & 0x7f | 0x80,
            (bytes.len() >> 7) as u8 & 0x7f | 0x80,
            (bytes.len() >> 14) as u8,
        ]);
        out.extend_from_slice(bytes);
    }
    out
}

/// A request of remote read with so many queries of so many matchers, all different.
fn read_request(queries: usize, matchers: usize) -> Vec<u8> {
    let matcher =
        |at: usize| [vec![1 << 3, 2], message(&[(2, b"a"), (3, format!(r"\w{{30}}{at}").as_bytes())])].concat();
    let query = |query: usize| {
        let all: Vec<Vec<u8>> = (0..matchers).map(|at| matcher(query * matchers + at)).collect();
        message(&all.iter().map(|own| (3, own.as_slice())).collect::<Vec<_>>())
    };
    let all: Vec<Vec<u8>> = (0..queries).map(query).collect();
    let request = message(&all.iter().map(|own| (1, own.as_slice())).collect::<Vec<_>>());
    crate::wire::decompress::compress_snappy(&request).unwrap()
}

/// Before, each of these took gigabytes.
#[tokio::test]
async fn all_regular_expressions_of_a_request_share_one_bound() {
    let many = (0..1_500).map(|at| format!(r#"a=~"\\w{{30}}{at}""#)).collect::<Vec<_>>().join(",");
    let nested =
        (0..150).fold("up".to_owned(), |inner, at| format!(r#"label_replace({inner},"a","$1","b","\\w{{30}}{at}")"#));
    let lists =
        (0..300).map(|at| format!("match[]={}", escaped(&format!(r#"{{a=~"\\w{{30}}{at}"}}"#)))).collect::<Vec<_>>();
    for (path, form) in [
        ("/api/v1/query", format!("query={}", escaped(&format!("{{{many}}}")))),
        ("/api/v1/query_range?start=0&end=10&step=1", format!("query={}", escaped(&format!("{{{many}}}")))),
        ("/api/v1/query", format!("query={}", escaped(&nested))),
        ("/api/v1/query_exemplars?start=0&end=1", format!("query={}", escaped(&format!("{{{many}}}")))),
        ("/api/v1/parse_query", format!("query={}", escaped(&format!("{{{many}}}")))),
        ("/api/v1/format_query", format!("query={}", escaped(&format!("{{{many}}}")))),
        ("/api/v1/series", lists.join("&")),
        ("/api/v1/labels", lists.join("&")),
    ] {
        let context = context(example(), Options::default());
        let memory = MemoryBudget::new(1 << 40);
        let context = Context {
            engine: Engine::new(Options { memory_max: 1 << 40, ..Options::default() }, Some(memory)),
            ..context
        };
        let request =
            Request::post(path).header("content-type", "application/x-www-form-urlencoded").body(Body::from(form));
        let (status, body) = send(routes("", ENDPOINTS).with_state(context), request.unwrap()).await;
        assert!(status.is_client_error(), "{path}: {status} {body:.200}");
        assert!(body.contains("use fewer and shorter ones"), "{path}: {body:.200}");
    }
    let request = Request::post("/api/v1/read").body(Body::from(read_request(100, 100))).unwrap();
    let response = router(example()).oneshot(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn selectors_with_patterns_mean_what_they_say() {
    for (selector, found) in [
        (r#"{__name__=~"u.",job=~"a|c"}"#, true),
        (r#"{job!~"[ab]",__name__=~"u.+"}"#, false),
        (r#"up{job=~".*"}"#, true),
        (r#"{job!~".*"}"#, false),
        (r#"up{"service.name"=~'x$'}"#, true),
        (r#"up{job=~`\w`,}"#, true),
    ] {
        let (status, body) = get(example(), &format!("/api/v1/query?time=90&query={}", escaped(selector))).await;
        assert_eq!(status, StatusCode::OK, "{selector}: {body}");
        assert_eq!(body.contains("\"metric\""), found, "{selector}: {body}");
    }
    let (status, body) = get(example(), &format!("/api/v1/query?time=90&query={}", escaped("{a=~\".*\"}"))).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(body.contains("at least one non-empty matcher"), "{body}");
    let (_, body) = get(example(), &format!("/api/v1/query?time=90&query={}", escaped("up{a=~\"(\"}"))).await;
    assert!(body.contains("invalid regular expression"), "{body}");
}
