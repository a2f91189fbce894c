//! What there is: names and values of labels, series, metadata.

use axum::extract::{FromRequest, Path, Request, State};
use axum::response::{IntoResponse, Response};

use super::answer::answer;
use super::error::ApiError;
use super::json;
use super::params::{Params, label_name};
use crate::api::context::Context;
use crate::base::limits::QueryBudget;
use crate::model::labels::Labels;
use crate::model::matcher::Matcher;
use crate::model::time::RangeMs;
use crate::query::pace::Pace;
use crate::store::StoreError;

/// What these endpoints share; without `match[]` one selector that matches all.
struct Asked {
    selectors: Vec<Vec<Matcher>>,
    range: RangeMs,
    limit: usize,
}

fn asked(params: &Params, budget: &QueryBudget) -> Result<Asked, ApiError> {
    let mut selectors = params.selectors(budget)?;
    if selectors.is_empty() {
        selectors.push(Vec::new());
    }
    let (range, limit) = (params.times()?, params.limit("limit")?);
    if range.end < range.start {
        // Nothing lies there, which for Prometheus is no mistake.
        selectors.clear();
    }
    Ok(Asked { selectors, range, limit })
}

/// What `find` finds for each selector, sorted, each once. It is sorted whenever there is twice as much, so
/// that what many selectors find again is not kept as often.
fn union<T: Ord>(
    selectors: &[Vec<Matcher>],
    budget: &QueryBudget,
    bytes: impl Fn(&T) -> usize,
    find: impl Fn(&Vec<Matcher>) -> Result<Vec<T>, StoreError>,
) -> Result<Vec<T>, ApiError> {
    let pace = Pace::new(budget);
    let (mut all, mut known) = (Vec::new(), 0);
    for (left, selector) in (0..selectors.len()).rev().zip(selectors) {
        all.append(&mut find(selector)?);
        if left == 0 || all.len() > 2 * known {
            pace.sort_dear(&mut all, &bytes, T::cmp)?;
            all.dedup();
            known = all.len();
        }
    }
    Ok(all)
}

pub(super) async fn labels(State(context): State<Context>, params: Params) -> Response {
    answer(&context, None, params.coding, move |context, budget, sink| {
        let asked = asked(&params, budget)?;
        let find = |selector: &Vec<Matcher>| context.metrics.label_names(selector, asked.range, budget);
        let names = union(&asked.selectors, budget, String::len, find)?;
        Ok(json::limited(sink, names, asked.limit, |out, name| json::string(out, &name))?)
    })
    .await
}

pub(super) async fn label_values(
    State(context): State<Context>,
    Path(escaped): Path<String>,
    request: Request,
) -> Response {
    let params = match Params::from_request(request, &context).await {
        Ok(params) => params,
        Err(response) => return response,
    };
    answer(&context, None, params.coding, move |context, budget, sink| {
        let asked = asked(&params, budget)?;
        let name = label_name(&escaped);
        let find = |selector: &Vec<Matcher>| context.metrics.label_values(&name, selector, asked.range, budget);
        let values = union(&asked.selectors, budget, String::len, find)?;
        Ok(json::limited(sink, values, asked.limit, |out, value| json::string(out, &value))?)
    })
    .await
}

pub(super) async fn series(State(context): State<Context>, params: Params) -> Response {
    answer(&context, None, params.coding, move |context, budget, sink| {
        let asked = asked(&params, budget)?;
        if params.all("match[]").next().is_none() {
            return Err(ApiError::bad_data("no match[] parameter provided"));
        }
        let find = |selector: &Vec<Matcher>| context.metrics.series(selector, asked.range, budget);
        let all = union(&asked.selectors, budget, Labels::bytes, find)?;
        Ok(json::limited(sink, all, asked.limit, |out, labels| json::labels(out, &labels))?)
    })
    .await
}

pub(super) async fn metadata(State(context): State<Context>, params: Params) -> Response {
    // Here a limit below zero is none.
    let cut = |name: &str| match params.get(name).map(str::parse::<i64>) {
        Some(Ok(limit)) if limit < 0 => Ok(0),
        _ => params.limit(name),
    };
    // There is one of each metric, so a limit per metric can only be wrong.
    let limit = match cut("limit").and_then(|limit| cut("limit_per_metric").map(|_| limit)) {
        Ok(limit) => limit,
        Err(error) => return error.into_response(),
    };
    let wanted = params.get("metric").map(str::to_owned);
    answer(&context, None, params.coding, move |context, budget, sink| {
        let families = context.metrics.metadata(budget)?;
        let families = families.into_iter().filter(|one| wanted.as_ref().is_none_or(|name| *name == one.name));
        let cut = |limit: usize| if limit == 0 { usize::MAX } else { limit };
        sink.text.push_str("{\"status\":\"success\",\"data\":{");
        for (at, one) in families.take(cut(limit)).enumerate() {
            sink.pass()?;
            let out = &mut sink.text;
            if at > 0 {
                out.push(',');
            }
            json::string(out, &one.name);
            out.push(':');
            json::list(out, [one], |out, one| {
                for (key, value) in [("{\"type\":", &one.kind), (",\"help\":", &one.help), (",\"unit\":", &one.unit)] {
                    out.push_str(key);
                    json::string(out, value);
                }
                out.push('}');
            });
        }
        sink.text.push_str("}}");
        Ok(())
    })
    .await
}
