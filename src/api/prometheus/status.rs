//! What the server says of itself. `version` is that of the Prometheus API spoken: Grafana picks
//! endpoints by it. There is no `features` key, which would make Grafana take us for Mimir, and no
//! `status/flags`, which would make it take us for Thanos.

use axum::extract::State;
use axum::response::Response;

use super::params::Params;
use super::success;
use crate::api::Context;
use crate::model::labels::METRIC_NAME;
use crate::model::time::RangeMs;

/// The Prometheus release whose API this is.
const API_VERSION: &str = "2.55.0";

pub(super) async fn buildinfo() -> Response {
    let own = env!("CARGO_PKG_VERSION");
    success(&format!(
        "{{\"version\":\"{API_VERSION}\",\"revision\":\"trilith-{own}\",\"branch\":\"\",\"buildUser\":\"\",\
         \"buildDate\":\"\",\"goVersion\":\"rust\"}}"
    ))
}

pub(super) async fn runtimeinfo(State(context): State<Context>) -> Response {
    let places = context.places.available_permits();
    success(&format!("{{\"reloadConfigSuccess\":true,\"freeQueryPlaces\":{places}}}"))
}

pub(super) async fn config() -> Response {
    success("{\"yaml\":\"\"}")
}

pub(super) async fn tsdb(State(context): State<Context>, params: Params) -> Response {
    super::answer(&context, None, params.coding, |context, budget, sink| {
        let names = context.metrics.label_names(&[], RangeMs::ALL, budget)?.len();
        let metrics = context.metrics.label_values(METRIC_NAME, &[], RangeMs::ALL, budget)?.len();
        sink.text = format!(
            "{{\"status\":\"success\",\"data\":{{\"headStats\":{{\"numLabelPairs\":{names},\"numMetrics\":{metrics}}},\
             \"seriesCountByMetricName\":[],\"labelValueCountByLabelName\":[],\"memoryInBytesByLabelName\":[],\
             \"seriesCountByLabelValuePair\":[]}}}}"
        );
        Ok(())
    })
    .await
}
