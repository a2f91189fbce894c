//! The HTTP API of Loki, version 1, over LogQL and the logs of the store.
//! Flow: parameters of URL and form, merged → a query on a blocking thread → JSON written straight
//! into the body; errors are plain text. Spec: https://grafana.com/docs/loki/latest/reference/loki-http-api/

mod answer;
mod detected;
mod error;
mod fixed;
mod index;
mod json;
mod meta;
mod params;
mod query;
mod tail;

use axum::routing::{any, get};

use super::endpoint::Endpoint;

/// What this dialect answers, below its base.
pub const ENDPOINTS: &[Endpoint] = &[
    Endpoint::new("GET, POST", "/loki/api/v1/query", "a metric query at one time", || {
        get(query::instant).post(query::instant)
    }),
    Endpoint::new("GET, POST", "/loki/api/v1/query_range", "a query over a range", || {
        get(query::range).post(query::range)
    }),
    Endpoint::new("GET, POST", "/loki/api/v1/labels", "names of labels", || get(meta::labels).post(meta::labels)),
    Endpoint::new("GET, POST", "/loki/api/v1/label", "names of labels", || get(meta::labels).post(meta::labels)),
    Endpoint::new("GET, POST", "/loki/api/v1/label/{name}/values", "values of a label", || {
        get(meta::label_values).post(meta::label_values)
    }),
    Endpoint::new("GET, POST", "/loki/api/v1/series", "label sets of streams", || get(meta::series).post(meta::series)),
    Endpoint::new("GET, POST", "/loki/api/v1/index/stats", "streams, chunks, bytes and lines of a selector", || {
        get(index::stats).post(index::stats)
    }),
    Endpoint::new("GET, POST", "/loki/api/v1/index/volume", "bytes by labels", || {
        get(index::volume).post(index::volume)
    }),
    Endpoint::new("GET, POST", "/loki/api/v1/index/volume_range", "bytes by labels over time", || {
        get(index::volume_range).post(index::volume_range)
    }),
    Endpoint::new("GET, POST", "/loki/api/v1/detected_labels", "labels and how many values they have", || {
        get(detected::labels).post(detected::labels)
    }),
    Endpoint::new("GET, POST", "/loki/api/v1/detected_fields", "fields of a sample of lines", || {
        get(detected::fields).post(detected::fields)
    }),
    Endpoint::new("GET, POST", "/loki/api/v1/detected_field/{name}/values", "values of a field", || {
        get(detected::values).post(detected::values)
    }),
    Endpoint::new("GET, POST", "/loki/api/v1/patterns", "patterns of lines: none are mined", || {
        get(fixed::patterns).post(fixed::patterns)
    }),
    Endpoint::new("GET", "/loki/api/v1/drilldown-limits", "limits that Logs Drilldown asks for", || {
        get(fixed::drilldown_limits)
    }),
    Endpoint::new("GET", "/loki/api/v1/status/buildinfo", "version", || get(fixed::buildinfo)),
    Endpoint::new("GET, POST", "/loki/api/v1/format_query", "a query in its canonical form", || {
        get(query::format).post(query::format)
    }),
    Endpoint::new("GET", "/loki/api/v1/tail", "new lines by WebSocket", || get(tail::tail)),
    Endpoint::new("GET", "/prometheus/api/v1/rules", "rule groups over logs: none", || get(fixed::rules)),
    Endpoint::new("GET", "/prometheus/api/v1/alerts", "alerts over logs: none", || get(fixed::alerts)),
    Endpoint::new("any", "/loki/api/v1/rules", "404: rules are not edited here", || any(fixed::not_found)),
    Endpoint::new("any", "/loki/api/v1/rules/{*path}", "404: rules are not edited here", || any(fixed::not_found)),
    Endpoint::new("any", "/api/prom/rules", "404: rules are not edited here", || any(fixed::not_found)),
    Endpoint::new("any", "/api/prom/rules/{*path}", "404: rules are not edited here", || any(fixed::not_found)),
];

#[cfg(test)]
mod tests;
