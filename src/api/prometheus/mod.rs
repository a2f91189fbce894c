//! The HTTP API of Prometheus, version 1, over PromQL and the metrics of the store.
//! Flow: parameters of URL and form, merged → a query on a blocking thread → JSON written straight
//! into the body, piece by piece. Spec: https://prometheus.io/docs/prometheus/latest/querying/api/

mod admin;
mod answer;
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

use axum::Router;
use axum::routing::{get, post};

use super::context::Context;
use super::endpoint::Endpoint;

/// What this dialect answers, below its base.
pub const ENDPOINTS: &[Endpoint] = &[
    Endpoint::new("GET, POST", "/api/v1/query", "a query at one time", || get(query::instant).post(query::instant)),
    Endpoint::new("GET, POST", "/api/v1/query_range", "a query over a range", || get(query::range).post(query::range)),
    Endpoint::new("GET, POST", "/api/v1/query_exemplars", "exemplars of a query's series", || {
        get(exemplars::exemplars).post(exemplars::exemplars)
    }),
    Endpoint::new("GET, POST", "/api/v1/labels", "names of labels", || get(meta::labels).post(meta::labels)),
    Endpoint::new("GET", "/api/v1/label/{name}/values", "values of a label", || get(meta::label_values)),
    Endpoint::new("GET, POST", "/api/v1/series", "label sets of series", || get(meta::series).post(meta::series)),
    Endpoint::new("POST", "/api/v1/read", "remote read: samples, or a stream of chunks", || post(read::read)),
    Endpoint::new("GET", "/api/v1/metadata", "type, help and unit of metrics", || get(meta::metadata)),
    Endpoint::new("GET, POST", "/api/v1/export", "samples as OpenMetrics text, of any length", || {
        get(export::export).post(export::export)
    }),
    Endpoint::new("GET", "/api/v1/rules", "rule groups", || get(rules::rules)),
    Endpoint::new("GET", "/api/v1/alerts", "active alerts", || get(rules::alerts)),
    Endpoint::new("GET", "/api/v1/alertmanagers", "where alerts are sent", || get(rules::alertmanagers)),
    Endpoint::new("GET", "/api/v1/targets", "scrape targets", || get(rules::targets)),
    Endpoint::new("GET", "/api/v1/targets/metadata", "metadata by scrape target", || get(rules::targets_metadata)),
    Endpoint::new("GET", "/api/v1/targets/relabel_steps", "what relabelling does", || get(rules::scrape_pool)),
    Endpoint::new("GET", "/api/v1/scrape_pools", "names of scrape pools", || get(rules::scrape_pools)),
    Endpoint::new("GET", "/api/v1/scrape_pools/config", "a scrape pool's configuration", || get(rules::scrape_pool)),
    Endpoint::new("GET", "/api/v1/notifications", "what is wrong with the server", || get(rules::notifications)),
    Endpoint::new("GET", "/api/v1/notifications/live", "the same as events", || get(rules::notifications_live)),
    Endpoint::new("GET", "/api/v1/features", "what of Prometheus is there", || get(features::features)),
    Endpoint::new("GET", "/federate", "newest samples as text, for another Prometheus", || get(federate::federate)),
    Endpoint::new("POST, PUT", "/api/v1/admin/tsdb/delete_series", "deletes samples; needs --admin-api", || {
        post(admin::delete_series).put(admin::delete_series)
    }),
    Endpoint::new("POST, PUT", "/api/v1/admin/tsdb/clean_tombstones", "removes deleted samples from the disk", || {
        post(admin::clean_tombstones).put(admin::clean_tombstones)
    }),
    Endpoint::new("POST, PUT", "/api/v1/admin/tsdb/snapshot", "a copy of all data below `snapshots/`", || {
        post(admin::snapshot).put(admin::snapshot)
    }),
    Endpoint::new("GET, POST", "/api/v1/format_query", "a query in the usual spacing", || {
        get(query::format).post(query::format)
    }),
    Endpoint::new("GET, POST", "/api/v1/parse_query", "the tree of a query", || get(tree::parse).post(tree::parse)),
    Endpoint::new("GET, POST", "/api/v1/status/buildinfo", "version", || {
        get(status::buildinfo).post(status::buildinfo)
    }),
    Endpoint::new("GET", "/api/v1/status/runtimeinfo", "state of the server", || get(status::runtimeinfo)),
    Endpoint::new("GET", "/api/v1/status/config", "configuration", || get(status::config)),
    Endpoint::new("GET", "/api/v1/status/flags", "configuration as flags", || get(status::flags)),
    Endpoint::new("GET", "/api/v1/status/walreplay", "progress of the replay", || get(status::walreplay)),
    Endpoint::new(
        "GET",
        "/api/v1/status/tsdb",
        "series by name, label and pair; `start`, `end`, `match[]`: of any time",
        || get(cardinality::tsdb),
    ),
    Endpoint::new("GET", "/api/v1/status/tsdb/blocks", "Prometheus's blocks, of which there are none", || {
        get(status::blocks)
    }),
    Endpoint::new("GET", "/api/v1/status/active_queries", "queries that run or wait", || get(status::active_queries)),
];

/// What endpoints that change the store begin with.
const ADMIN: &str = "/api/v1/admin/";

/// A router of all endpoints, with paths below `base`, that pages of other origins may ask.
pub fn router(base: &str) -> Router<Context> {
    // Every route has an answer to OPTIONS of its own: what others say of a wrong method is not for it.
    let row = |router: Router<Context>, row: &Endpoint| {
        let path = format!("{base}{}", row.path);
        match row.path.starts_with(ADMIN) {
            true => router.route(&path, (row.route)().layer(axum::middleware::from_fn(cors::refuse))),
            false => router
                .route(&path, (row.route)().options(cors::ask_before).layer(axum::middleware::from_fn(cors::answer))),
        }
    };
    ENDPOINTS.iter().fold(Router::new(), row)
}

#[cfg(test)]
mod tests;
