//! The HTTP API of Prometheus, version 1, over PromQL and the metrics of the store.
//! Flow: parameters of URL and form, merged → a query on a blocking thread → JSON written straight
//! into the body, piece by piece. Spec: https://prometheus.io/docs/prometheus/latest/querying/api/

mod admin;
mod cardinality;
mod cors;
mod duration_tree;
mod error;
mod exemplars;
mod export;
mod features;
mod federate;
mod json;
mod meta;
mod number;
mod params;
mod query;
mod read;
mod rules;
mod status;
mod tree;
mod watch;

use std::ops::Range;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use http::header;

use super::stream::Sink;
use super::{Context, Endpoint};
use crate::base::counters::Counters;
use crate::base::limits::{LimitError, QueryBudget};
use crate::model::sample::Columns;
use crate::store::{SeriesSet, StoreError};
use crate::wire::compress::Coding;

use error::ApiError;

/// What this dialect answers, below its base.
pub const ENDPOINTS: &[Endpoint] = &[
    endpoint("GET, POST", "/api/v1/query", "a query at one time", || get(query::instant).post(query::instant)),
    endpoint("GET, POST", "/api/v1/query_range", "a query over a range", || get(query::range).post(query::range)),
    endpoint("GET, POST", "/api/v1/query_exemplars", "exemplars of a query's series", || {
        get(exemplars::exemplars).post(exemplars::exemplars)
    }),
    endpoint("GET, POST", "/api/v1/labels", "names of labels", || get(meta::labels).post(meta::labels)),
    endpoint("GET", "/api/v1/label/{name}/values", "values of a label", || get(meta::label_values)),
    endpoint("GET, POST", "/api/v1/series", "label sets of series", || get(meta::series).post(meta::series)),
    endpoint("POST", "/api/v1/read", "remote read: samples, or a stream of chunks", || post(read::read)),
    endpoint("GET", "/api/v1/metadata", "type, help and unit of metrics", || get(meta::metadata)),
    endpoint("GET, POST", "/api/v1/export", "samples as OpenMetrics text, of any length", || {
        get(export::export).post(export::export)
    }),
    endpoint("GET", "/api/v1/rules", "rule groups", || get(rules::rules)),
    endpoint("GET", "/api/v1/alerts", "active alerts", || get(rules::alerts)),
    endpoint("GET", "/api/v1/alertmanagers", "where alerts are sent", || get(rules::alertmanagers)),
    endpoint("GET", "/api/v1/targets", "scrape targets", || get(rules::targets)),
    endpoint("GET", "/api/v1/targets/metadata", "metadata by scrape target", || get(rules::targets_metadata)),
    endpoint("GET", "/api/v1/targets/relabel_steps", "what relabelling does", || get(rules::scrape_pool)),
    endpoint("GET", "/api/v1/scrape_pools", "names of scrape pools", || get(rules::scrape_pools)),
    endpoint("GET", "/api/v1/scrape_pools/config", "a scrape pool's configuration", || get(rules::scrape_pool)),
    endpoint("GET", "/api/v1/notifications", "what is wrong with the server", || get(rules::notifications)),
    endpoint("GET", "/api/v1/notifications/live", "the same as events", || get(rules::notifications_live)),
    endpoint("GET", "/api/v1/features", "what of Prometheus is there", || get(features::features)),
    endpoint("GET", "/federate", "newest samples as text, for another Prometheus", || get(federate::federate)),
    endpoint("POST, PUT", "/api/v1/admin/tsdb/delete_series", "deletes samples; needs --admin-api", || {
        post(admin::delete_series).put(admin::delete_series)
    }),
    endpoint("POST, PUT", "/api/v1/admin/tsdb/clean_tombstones", "removes deleted samples from the disk", || {
        post(admin::clean_tombstones).put(admin::clean_tombstones)
    }),
    endpoint("POST, PUT", "/api/v1/admin/tsdb/snapshot", "a copy of all data below `snapshots/`", || {
        post(admin::snapshot).put(admin::snapshot)
    }),
    endpoint("GET, POST", "/api/v1/format_query", "a query in the usual spacing", || {
        get(query::format).post(query::format)
    }),
    endpoint("GET, POST", "/api/v1/parse_query", "the tree of a query", || get(tree::parse).post(tree::parse)),
    endpoint("GET, POST", "/api/v1/status/buildinfo", "version", || get(status::buildinfo).post(status::buildinfo)),
    endpoint("GET", "/api/v1/status/runtimeinfo", "state of the server", || get(status::runtimeinfo)),
    endpoint("GET", "/api/v1/status/config", "configuration", || get(status::config)),
    endpoint("GET", "/api/v1/status/flags", "configuration as flags", || get(status::flags)),
    endpoint("GET", "/api/v1/status/walreplay", "progress of the replay", || get(status::walreplay)),
    endpoint(
        "GET",
        "/api/v1/status/tsdb",
        "series by name, label and pair; `start`, `end`, `match[]`: of any time",
        || get(cardinality::tsdb),
    ),
    endpoint("GET", "/api/v1/status/tsdb/blocks", "Prometheus's blocks, of which there are none", || {
        get(status::blocks)
    }),
    endpoint("GET", "/api/v1/status/active_queries", "queries that run or wait", || get(status::active_queries)),
];

/// A router of all endpoints, with paths below `base`, that pages of other origins may ask.
pub fn router(base: &str) -> Router<Context> {
    // Every route has an answer to OPTIONS of its own: what others say of a wrong method is not for it.
    let row = |router: Router<Context>, row: &Endpoint| {
        router.route(&format!("{base}{}", row.path), (row.route)().options(cors::ask_before))
    };
    ENDPOINTS.iter().fold(Router::new(), row).layer(axum::middleware::from_fn(cors::answer))
}

const fn endpoint(
    methods: &'static str,
    path: &'static str,
    summary: &'static str,
    route: fn() -> axum::routing::MethodRouter<Context>,
) -> Endpoint {
    Endpoint { methods, path, summary, route }
}

const JSON: &str = "application/json";

/// Runs a query and answers with the JSON that it writes; counts it.
async fn answer<F>(context: &Context, timeout: Option<Duration>, coding: Coding, work: F) -> Response
where
    F: FnOnce(&Context, &QueryBudget, &mut Sink) -> Result<(), ApiError> + Send + 'static,
{
    counted(context, context.stream(timeout, coding, JSON, work)).await
}

/// Counts a query when it has an answer, or when nobody waits for it any more.
struct Count {
    counters: Counters,
    started: Instant,
    outcome: &'static str,
}

impl Drop for Count {
    fn drop(&mut self) {
        let took = self.started.elapsed();
        let language = ("language", "promql");
        let help = "Queries answered, by language and outcome.";
        self.counters.counter("trilith_queries_total", help, &[language, ("outcome", self.outcome)]).inc();
        let help = "Time until a query had an answer, waiting included.";
        self.counters.durations("trilith_query_duration_seconds", help, &[language]).observe(took);
        let help = "Time spent on queries, waiting included.";
        let spent = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.counters.nanoseconds("trilith_query_seconds_total", help, &[language]).add(spent);
    }
}

/// Counts an answer of any type, and says why there is none.
async fn counted(context: &Context, answer: impl Future<Output = Result<Response, ApiError>>) -> Response {
    let counters = context.counters.clone();
    let mut count = Count { counters, started: Instant::now(), outcome: "canceled" };
    let result = answer.await;
    count.outcome = result.as_ref().map_or_else(ApiError::kind, |_| "success");
    result.unwrap_or_else(ApiError::into_response)
}

/// Hands the samples of series to `write`, which may fail in its own way.
fn read_each<E: From<StoreError>>(
    set: &dyn SeriesSet,
    places: Range<usize>,
    budget: &QueryBudget,
    mut write: impl FnMut(usize, &Columns) -> Result<(), E>,
) -> Result<(), E> {
    let mut failed = None;
    let read = set.read(places, budget, &mut |place, columns| {
        write(place, columns).map_err(|error| {
            failed = Some(error);
            LimitError::Canceled.into()
        })
    });
    match failed {
        Some(error) => Err(error),
        None => Ok(read?),
    }
}

fn json_response(body: String) -> Response {
    ([(header::CONTENT_TYPE, JSON)], Body::from(body)).into_response()
}

/// Wraps JSON in the envelope of a success.
fn success(data: &str) -> Response {
    json_response(format!("{{\"status\":\"success\",\"data\":{data}}}"))
}

#[cfg(test)]
mod tests;
