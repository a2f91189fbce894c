//! Labels, their values, and streams.

use std::collections::BTreeSet;

use axum::extract::{Path, State};
use axum::response::Response;

use super::answer::answer;
use super::json;
use super::params::Params;
use crate::api::context::Context;
use crate::model::labels::Labels;
use crate::query::logql::parse_selector;
use crate::query::pace::Pace;

fn list<S: AsRef<str>>(texts: impl IntoIterator<Item = S>) -> String {
    let mut body = String::from("{\"status\":\"success\",\"data\":");
    json::strings(&mut body, texts);
    body.push('}');
    body
}

/// Names of labels of streams that `query` selects.
pub(super) async fn labels(State(context): State<Context>, params: Params) -> Response {
    answer(&context, move |context, budget| {
        let range = params.index_range(context.clock.now_ns())?;
        let matchers = parse_selector(params.query(), budget)?;
        Ok(list(context.logs.label_names(&matchers, range, budget)?))
    })
    .await
}

/// Values of a label of streams that `query` selects.
pub(super) async fn label_values(State(context): State<Context>, Path(name): Path<String>, params: Params) -> Response {
    answer(&context, move |context, budget| {
        let range = params.index_range(context.clock.now_ns())?;
        let matchers = parse_selector(params.query(), budget)?;
        Ok(list(context.logs.label_values(&name, &matchers, range, budget)?))
    })
    .await
}

/// Label sets of streams that any of the selectors in `match` selects; all without one.
pub(super) async fn series(State(context): State<Context>, params: Params) -> Response {
    answer(&context, move |context, budget| {
        let range = params.index_range(context.clock.now_ns())?;
        let mut selectors = params.all("match");
        if selectors.is_empty() {
            selectors.push("");
        }
        selectors.sort_unstable();
        selectors.dedup();
        let mut found: BTreeSet<Labels> = BTreeSet::new();
        for selector in selectors {
            budget.check()?;
            for labels in context.logs.series(&parse_selector(selector, budget)?, range, budget)? {
                if !found.contains(&labels) {
                    budget.charge(2 * labels.bytes() + 64)?;
                    found.insert(labels);
                }
            }
        }
        let pace = Pace::new(budget);
        let mut body = String::from("{\"status\":\"success\",\"data\":[");
        for (at, labels) in found.iter().enumerate() {
            pace.go(64 + labels.bytes())?;
            body.push_str(if at > 0 { "," } else { "" });
            json::object(&mut body, labels.iter());
        }
        body.push_str("]}");
        Ok(body)
    })
    .await
}
