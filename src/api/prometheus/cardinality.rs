//! `status/tsdb`: how many series there are, and which names, labels and pairs they come from. Of
//! what is in memory now, or, with `start`, `end` or `match[]`, of all series that match.

use std::collections::HashMap;

use axum::extract::State;
use axum::response::{IntoResponse, Response};

use super::error::ApiError;
use super::params::Params;
use super::{answer, json, number};
use crate::api::Context;
use crate::base::limits::QueryBudget;
use crate::model::labels::Labels;
use crate::model::matcher::Matcher;
use crate::model::time::RangeMs;
use crate::store::metrics::cardinality::Cardinality;

/// Rows of each list unless a request says otherwise.
const ROWS: usize = 10;
/// Most rows that a request may ask for.
const ROWS_MAX: usize = 10_000;
/// How far back "now" reaches: what Prometheus keeps in memory.
const RECENT_MS: i64 = 2 * 3_600_000;
/// Charged for each pair that is counted, beside its text.
const PAIR_BYTES: usize = 160;

struct Asked {
    rows: usize,
    range: RangeMs,
    selectors: Vec<Vec<Matcher>>,
    /// Neither times nor matchers are given.
    is_now: bool,
}

fn asked(context: &Context, params: &Params) -> Result<Asked, ApiError> {
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
    let mut selectors = params.selectors()?;
    if selectors.is_empty() {
        selectors.push(Vec::new());
    }
    let mut range = params.range()?;
    let is_timed = params.get("start").is_some() || params.get("end").is_some();
    if !is_timed {
        range.start = context.clock.now_ms() - RECENT_MS;
    }
    let is_now = !is_timed && params.get("match[]").is_none();
    Ok(Asked { rows, range, selectors, is_now })
}

/// Counts series by their pairs.
fn count(all: &[Labels], budget: &QueryBudget) -> Result<Cardinality, ApiError> {
    let mut pairs: HashMap<(&str, &str), u64> = HashMap::new();
    for (at, labels) in all.iter().enumerate() {
        if at % 4_096 == 0 {
            budget.check()?;
        }
        for (name, value) in labels {
            let count = pairs.entry((name, value)).or_default();
            *count += 1;
            if *count == 1 {
                budget.charge(PAIR_BYTES + 2 * (name.len() + value.len()))?;
            }
        }
    }
    let mut counted = Cardinality { series: all.len() as u64, ..Cardinality::default() };
    pairs.into_iter().for_each(|((name, value), series)| counted.add(name, value, series));
    Ok(counted)
}

/// What is in memory now where the store counts it; else all series that match, each once.
fn counted(context: &Context, asked: &Asked, budget: &QueryBudget) -> Result<Cardinality, ApiError> {
    if asked.is_now
        && let Some(counted) = context.metrics.cardinality(budget)?
        && counted.series > 0
    {
        return Ok(counted);
    }
    let mut all = Vec::new();
    for selector in &asked.selectors {
        all.extend(context.metrics.series(selector, asked.range, budget)?);
    }
    all.sort();
    all.dedup();
    count(&all, budget)
}

/// The largest, the largest first; equal ones by name.
fn top<N: Ord>(all: impl Iterator<Item = (N, u64)>, rows: usize) -> Vec<(N, u64)> {
    let mut all: Vec<_> = all.collect();
    all.sort_unstable_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    all.truncate(rows);
    all
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
    let asked = match asked(&context, &params) {
        Ok(asked) => asked,
        Err(error) => return error.into_response(),
    };
    answer(&context, None, params.coding, move |context, budget, sink| {
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
        let metrics = counted.by_metric.iter().map(|(name, series)| (name.as_str(), *series));
        rows(out, "seriesCountByMetricName", top(metrics, asked.rows));
        let values = counted.by_label.iter().map(|(name, label)| (name.as_str(), label.values));
        rows(out, "labelValueCountByLabelName", top(values, asked.rows));
        let mut bytes: HashMap<&str, u64> = HashMap::new();
        for (name, value) in counted.by_pair.keys() {
            *bytes.entry(name).or_default() += value.len() as u64;
        }
        rows(out, "memoryInBytesByLabelName", top(bytes.into_iter(), asked.rows));
        let pairs = counted.by_pair.iter().map(|((name, value), series)| ((name, value), *series));
        let pairs =
            top(pairs, asked.rows).into_iter().map(|((name, value), series)| (format!("{name}={value}"), series));
        rows(out, "seriesCountByLabelValuePair", pairs);
        let refused = context.counters.values("trilith_rejected_total");
        let refused = refused.into_iter().filter(|(labels, _)| labels.contains(&("signal", "metrics".to_owned())));
        let reason =
            |labels: &[(&str, String)]| labels.iter().find(|(name, _)| *name == "reason").map(|pair| pair.1.clone());
        rows(out, "refusedByReason", refused.filter_map(|(labels, count)| Some((reason(&labels)?, count))));
        out.push_str("}}");
        Ok(())
    })
    .await
}
