//! `status/tsdb`: how many series there are, and which names, labels and pairs they come from. Of
//! what is in memory now, or, with `start`, `end` or `match[]`, of all series that match.

use axum::extract::State;
use axum::response::Response;

use super::answer::answer;
use super::error::ApiError;
use super::params::Params;
use super::{json, number};
use crate::api::context::Context;
use crate::base::limits::QueryBudget;
use crate::model::matcher::Matcher;
use crate::model::time::RangeMs;
use crate::store::Cardinality;

/// Rows of each list unless a request says otherwise.
const ROWS: usize = 10;
/// Most rows that a request may ask for.
const ROWS_MAX: usize = 10_000;
/// How far back "now" reaches: what Prometheus keeps in memory.
const RECENT_MS: i64 = 2 * 3_600_000;
/// Metrics that are named with what was refused of them, unless a request says otherwise.
const REFUSED_NAMES: usize = 100;

struct Asked {
    rows: usize,
    /// Of the list of refused metrics.
    refused_rows: usize,
    range: RangeMs,
    selectors: Vec<Vec<Matcher>>,
    /// Neither times nor matchers are given.
    is_now: bool,
}

fn asked(context: &Context, params: &Params, budget: &QueryBudget) -> Result<Asked, ApiError> {
    let rows = match params.get("limit") {
        None => ROWS,
        Some(text) => match text.parse() {
            Ok(rows) if (1..=ROWS_MAX).contains(&rows) => rows,
            Ok(rows) if rows > ROWS_MAX => {
                return Err(ApiError::bad_data(format!("limit must not exceed {ROWS_MAX}")));
            }
            _ => return Err(ApiError::bad_data("limit must be a positive number")),
        },
    };
    let mut selectors = params.selectors(budget)?;
    if selectors.is_empty() {
        selectors.push(Vec::new());
    }
    let mut range = params.range()?;
    let is_timed = params.get("start").is_some() || params.get("end").is_some();
    if !is_timed {
        range.start = context.clock.now_ms() - RECENT_MS;
    }
    let is_now = !is_timed && params.get("match[]").is_none();
    let refused_rows = if params.get("limit").is_some() { rows } else { REFUSED_NAMES };
    Ok(Asked { rows, refused_rows, range, selectors, is_now })
}

/// What is in memory now where the store counts it; else all series that match, each once.
fn counted(context: &Context, asked: &Asked, budget: &QueryBudget) -> Result<Cardinality, ApiError> {
    if asked.is_now
        && let Some(counted) = context.metrics.cardinality_now(asked.rows, budget)?
        && counted.series > 0
    {
        return Ok(counted);
    }
    Ok(context.metrics.cardinality(&asked.selectors, asked.range, asked.rows, budget)?)
}

fn rows<N: AsRef<str>>(out: &mut String, title: &str, all: impl IntoIterator<Item = (N, u64)>) {
    out.push_str(",\"");
    out.push_str(title);
    out.push_str("\":");
    json::list(out, all, |out, (name, value)| {
        out.push_str("{\"name\":");
        json::string(out, name.as_ref());
        out.push_str(",\"value\":");
        number::whole(out, value);
        out.push('}');
    });
}

pub(super) async fn tsdb(State(context): State<Context>, params: Params) -> Response {
    answer(&context, None, params.coding, move |context, budget, sink| {
        let asked = asked(context, &params, budget)?;
        let counted = counted(context, &asked, budget)?;
        let now = context.clock.now_ms();
        let out = &mut sink.text;
        out.push_str("{\"status\":\"success\",\"data\":{\"headStats\":{");
        let stats = [("numSeries", counted.series), ("numLabelPairs", counted.pairs), ("chunkCount", counted.series)];
        for (name, value) in stats {
            json::string(out, name);
            out.push(':');
            number::whole(out, value);
            out.push(',');
        }
        let span = counted.span.unwrap_or(asked.range);
        let (start, end) = (span.start.max(0), span.end.min(now).max(0));
        out.push_str(&format!("\"minTime\":{start},\"maxTime\":{end}}}"));
        rows(out, "seriesCountByMetricName", counted.by_metric);
        rows(out, "labelValueCountByLabelName", counted.values);
        rows(out, "memoryInBytesByLabelName", counted.bytes);
        rows(out, "seriesCountByLabelValuePair", counted.by_pair);
        let refused = context.counters.values("trilith_rejected_total");
        let refused = refused.into_iter().filter(|(labels, _)| labels.contains(&("signal", "metrics".to_owned())));
        let reason =
            |labels: &[(&str, String)]| labels.iter().find(|(name, _)| *name == "reason").map(|pair| pair.1.clone());
        rows(out, "refusedByReason", refused.filter_map(|(labels, count)| Some((reason(&labels)?, count))));
        let refused = context.metrics.refused(asked.refused_rows).into_iter();
        out.push_str(",\"refusedByMetricName\":");
        json::list(out, refused, |out, own| {
            out.push_str("{\"name\":");
            json::string(out, &own.name);
            out.push_str(",\"reason\":");
            json::string(out, own.reason);
            out.push_str(",\"value\":");
            number::whole(out, own.count);
            out.push('}');
        });
        out.push_str("}}");
        Ok(())
    })
    .await
}
