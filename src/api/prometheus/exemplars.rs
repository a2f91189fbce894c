//! `query_exemplars`: exemplars of the series that a query selects.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::response::{IntoResponse, Response};

use super::answer::answer;
use super::json;
use super::params::Params;
use crate::api::context::Context;
use crate::model::exemplar::Exemplar;
use crate::model::labels::Labels;
use crate::query::promql;

/// Grafana probes this with times in milliseconds, a few ten thousand years ahead: an empty list.
pub(super) async fn exemplars(State(context): State<Context>, params: Params) -> Response {
    let prepared = params.query().and_then(|query| Ok((query, params.range()?)));
    let (query, range) = match prepared {
        Ok(prepared) => prepared,
        Err(error) => return error.into_response(),
    };
    answer(&context, None, params.coding, move |context, budget, sink| {
        let mut all: BTreeMap<Labels, Vec<Exemplar>> = BTreeMap::new();
        for selector in promql::selectors(&query, budget)? {
            for (labels, exemplars) in context.metrics.exemplars(&selector, range, budget)? {
                all.entry(labels).or_insert(exemplars);
            }
        }
        sink.text.push_str("{\"status\":\"success\",\"data\":");
        json::flowing(sink, &all, |sink, (labels, exemplars)| {
            let out = &mut sink.text;
            out.push_str("{\"seriesLabels\":");
            json::labels(out, labels);
            out.push_str(",\"exemplars\":");
            json::list(out, exemplars, |out, exemplar| {
                out.push_str("{\"labels\":");
                json::labels(out, &exemplar.labels);
                out.push_str(",\"value\":");
                json::float(out, exemplar.value);
                out.push_str(",\"timestamp\":");
                json::time(out, exemplar.t);
                out.push('}');
            });
            out.push('}');
            Ok(())
        })?;
        sink.text.push('}');
        Ok(())
    })
    .await
}
