//! What of Prometheus's features is there, as its own list names them.

use axum::response::Response;

use super::answer::success;
use super::json;
use crate::query::promql::functions;

/// Categories and what is on in them; what is not there is off.
const FEATURES: &[(&str, &[&str])] = &[
    (
        "api",
        &[
            "label_values_match",
            "labels_match",
            "lookback_delta",
            "query_stats",
            "query_warnings",
            "remote_write_receiver",
            "time_range_labels",
            "time_range_series",
        ],
    ),
    ("otlp_receiver", &["delta_conversion"]),
    ("prometheus", &[]),
    (
        "promql",
        &[
            "anchored",
            "at_modifier",
            "bool",
            "by",
            "duration_expr",
            "experimental_promql_functions",
            "group_left",
            "group_right",
            "ignoring",
            "negative_offset",
            "offset",
            "on",
            "smoothed",
            "subqueries",
            "type_and_unit_labels",
            "without",
        ],
    ),
    (
        "promql_operators",
        &[
            "!=",
            "!~",
            "%",
            "*",
            "+",
            "-",
            "/",
            "<",
            "<=",
            "==",
            "=~",
            ">",
            ">=",
            "^",
            "and",
            "atan2",
            "avg",
            "bottomk",
            "count",
            "count_values",
            "group",
            "limit_ratio",
            "limitk",
            "max",
            "min",
            "or",
            "quantile",
            "stddev",
            "stdvar",
            "sum",
            "topk",
            "unless",
        ],
    ),
    ("tsdb", &["exemplar_storage", "native_histograms"]),
];

pub(super) async fn features() -> Response {
    let mut names: Vec<&str> = functions::all().map(|function| function.name).collect();
    names.sort_unstable();
    let mut out = String::from("{");
    let all = FEATURES.iter().copied().chain([("promql_functions", names.as_slice())]);
    for (at, (category, names)) in all.enumerate() {
        if at > 0 {
            out.push(',');
        }
        json::string(&mut out, category);
        out.push_str(":{");
        for (at, name) in names.iter().enumerate() {
            if at > 0 {
                out.push(',');
            }
            json::string(&mut out, name);
            out.push_str(":true");
        }
        out.push('}');
    }
    out.push('}');
    success(&out)
}
