//! `/federate`: the newest sample of each selected series, in the text format, for another Prometheus
//! to scrape. Native histograms have no place in it and are left out.

use std::collections::BTreeMap;

use axum::extract::{FromRequest as _, Request, State};
use axum::response::Response;
use http::header::ACCEPT;

use super::answer::counted;
use super::params::Params;
use crate::api::context::Context;
use crate::api::stream::Sink;
use crate::base::limits::QueryBudget;
use crate::model::labels::Labels;
use crate::model::matcher::Matcher;
use crate::model::sample::{Columns, is_stale};
use crate::model::time::RangeMs;
use crate::query::promql::LOOKBACK_MS;
use crate::store::StoreError;
use crate::wire::exposition::{Names, sample, untyped};

/// Series by metric, then by the rest of their labels: the text has each metric once.
type Newest = BTreeMap<(String, Labels), (i64, f64)>;

pub(super) async fn federate(State(context): State<Context>, request: Request) -> Response {
    let accept = request.headers().get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let names = Names::accepted(accept);
    let params = match Params::from_request(request, &context).await {
        Ok(params) => params,
        Err(response) => return response,
    };
    let coding = params.coding;
    let work = move |context: &Context, budget: &QueryBudget, sink: &mut Sink| {
        let end = context.clock.now_ms();
        let range = RangeMs { start: end - LOOKBACK_MS + 1, end };
        let mut all = Newest::new();
        for selector in &params.selectors(budget)? {
            newest(context, selector, range, budget, &mut all)?;
        }
        let mut metric = None;
        for ((name, labels), (t, value)) in &all {
            if metric != Some(name) {
                untyped(&mut sink.text, name, names);
                metric = Some(name);
            }
            sample(&mut sink.text, labels, *value, *t, names);
            sink.pass()?;
        }
        Ok(())
    };
    counted(&context, context.stream(None, coding, names.content_type(), work)).await
}

fn newest(
    context: &Context,
    selector: &[Matcher],
    range: RangeMs,
    budget: &QueryBudget,
    all: &mut Newest,
) -> Result<(), StoreError> {
    let set = context.metrics.select(selector, range, budget)?;
    let labels = set.labels();
    set.read(0..labels.len(), budget, &mut |place, columns| {
        let (Some(labels), Some(newest)) = (labels.get(place), last(columns)) else { return Ok(()) };
        let name = labels.metric_name();
        if !name.is_empty() {
            budget.charge(2 * size_of::<((String, Labels), (i64, f64))>() + name.len() + labels.bytes())?;
            all.insert((name.to_owned(), labels.clone()), newest);
        }
        Ok(())
    })
}

/// The newest sample, if it is a float that does not end the series.
fn last(columns: &Columns) -> Option<(i64, f64)> {
    let newest = (columns.times.last().copied()?, columns.values.last().copied()?);
    let is_newest = columns.histograms.last().is_none_or(|histogram| histogram.t < newest.0);
    (is_newest && !is_stale(newest.1)).then_some(newest)
}
