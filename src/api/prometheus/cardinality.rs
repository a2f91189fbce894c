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
use crate::model::labels::{Labels, METRIC_NAME};
use crate::model::matcher::Matcher;
use crate::model::time::RangeMs;

/// Rows of each list unless a request says otherwise.
const ROWS: usize = 10;
/// Most rows that a request may ask for.
const ROWS_MAX: usize = 10_000;
/// How far back "now" reaches: what Prometheus keeps in memory.
const RECENT_MS: i64 = 2 * 3_600_000;
/// Charged for each pair that is counted.
const PAIR_BYTES: usize = 64;

struct Asked {
    rows: usize,
    range: RangeMs,
    selectors: Vec<Vec<Matcher>>,
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
    if params.get("start").is_none() && params.get("end").is_none() {
        range.start = context.clock.now_ms() - RECENT_MS;
    }
    Ok(Asked { rows, range, selectors })
}

/// What is counted of one label.
#[derive(Default)]
struct OfLabel {
    values: u64,
    bytes: u64,
}

/// Series counted by their pairs.
#[derive(Default)]
struct Counts<'l> {
    pairs: HashMap<(&'l str, &'l str), u64>,
    labels: HashMap<&'l str, OfLabel>,
}

impl<'l> Counts<'l> {
    fn of(all: &'l [Labels], budget: &QueryBudget) -> Result<Self, ApiError> {
        let mut counts = Self::default();
        for (at, labels) in all.iter().enumerate() {
            if at % 4_096 == 0 {
                budget.check()?;
            }
            for (name, value) in labels {
                let count = counts.pairs.entry((name, value)).or_default();
                *count += 1;
                let is_new = *count == 1;
                let label = counts.labels.entry(name).or_default();
                label.bytes += value.len() as u64;
                if is_new {
                    label.values += 1;
                    budget.charge(PAIR_BYTES)?;
                }
            }
        }
        Ok(counts)
    }
}

/// The largest, the largest first; equal ones by name.
fn top<'l>(all: impl Iterator<Item = (String, u64)> + 'l, rows: usize) -> Vec<(String, u64)> {
    let mut all: Vec<_> = all.collect();
    all.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    all.truncate(rows);
    all
}

fn rows(out: &mut String, title: &str, all: Vec<(String, u64)>) {
    out.push_str(",\"");
    out.push_str(title);
    out.push_str("\":");
    json::list(out, all, |out, (name, value)| {
        out.push_str("{\"name\":");
        json::string(out, &name);
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
        let mut all = Vec::new();
        for selector in &asked.selectors {
            all.extend(context.metrics.series(selector, asked.range, budget)?);
        }
        all.sort();
        all.dedup();
        let counts = Counts::of(&all, budget)?;
        let now = context.clock.now_ms();
        let out = &mut sink.text;
        out.push_str("{\"status\":\"success\",\"data\":{\"headStats\":{");
        let stats = [("numSeries", all.len()), ("numLabelPairs", counts.pairs.len()), ("chunkCount", all.len())];
        for (name, value) in stats {
            json::string(out, name);
            out.push(':');
            number::whole(out, value as u64);
            out.push(',');
        }
        let (start, end) = (asked.range.start.max(0), asked.range.end.min(now).max(0));
        out.push_str(&format!("\"minTime\":{start},\"maxTime\":{end}}}"));
        let metrics = counts.pairs.iter().filter(|((name, _), _)| *name == METRIC_NAME);
        let metrics = metrics.map(|((_, value), count)| ((*value).to_owned(), *count));
        rows(out, "seriesCountByMetricName", top(metrics, asked.rows));
        let values = counts.labels.iter().map(|(name, label)| ((*name).to_owned(), label.values));
        rows(out, "labelValueCountByLabelName", top(values, asked.rows));
        let bytes = counts.labels.iter().map(|(name, label)| ((*name).to_owned(), label.bytes));
        rows(out, "memoryInBytesByLabelName", top(bytes, asked.rows));
        let mut pairs: Vec<_> = counts.pairs.iter().map(|(pair, count)| (*count, *pair)).collect();
        pairs.sort_unstable_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
        let pairs = pairs.into_iter().take(asked.rows).map(|(count, (name, value))| (format!("{name}={value}"), count));
        rows(out, "seriesCountByLabelValuePair", pairs.collect());
        let refused = context.counters.values("trilith_rejected_total");
        let refused = refused.into_iter().filter(|(labels, _)| labels.contains(&("signal", "metrics".to_owned())));
        let reason =
            |labels: &[(&str, String)]| labels.iter().find(|(name, _)| *name == "reason").map(|pair| pair.1.clone());
        rows(out, "refusedByReason", refused.filter_map(|(labels, count)| Some((reason(&labels)?, count))).collect());
        out.push_str("}}");
        Ok(())
    })
    .await
}
