//! `index/stats`, `index/volume` and `index/volume_range`: how much there is, by label.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::response::Response;

use super::answer::answer;
use super::error::ApiError;
use super::json;
use super::params::{LINES_MAX, Params};
use crate::api::context::Context;
use crate::model::labels::Labels;
use crate::model::matcher::Matcher;
use crate::query::logql::ast::{Grouping, RangeExpr, RangeOp, VectorOp};
use crate::query::logql::{LogExpr, MetricExpr, MetricQuery, Series, Stats, metric_query, parse_selector};
use crate::query::pace::Pace;
use crate::store::LogStats;

/// Most labels that volumes over time are summed by, each on its own: every one reads the range again.
const TARGETS_MAX: usize = 100;

/// Totals of a selector. The answer has no envelope.
pub(super) async fn stats(State(context): State<Context>, params: Params) -> Response {
    answer(&context, move |context, budget| {
        let range = params.index_range(context.clock.now_ns())?;
        let matchers = parse_selector(params.query(), budget)?;
        let mut total = LogStats::default();
        for (_, stats) in context.logs.stats(&matchers, range, budget)? {
            total.streams += stats.streams.max(1);
            total.chunks += stats.chunks;
            total.bytes += stats.bytes;
            total.entries += stats.entries;
        }
        Ok(format!(
            "{{\"streams\":{},\"chunks\":{},\"bytes\":{},\"entries\":{}}}",
            total.streams, total.chunks, total.bytes, total.entries
        ))
    })
    .await
}

/// The labels that volumes are summed by: `targetLabels`, or those that matchers name.
fn targets(params: &Params, matchers: &[Matcher]) -> Vec<String> {
    let mut names: Vec<String> = match params.get("targetLabels") {
        Some(list) => list.split(',').map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect(),
        None => matchers.iter().map(|matcher| matcher.name.clone()).collect(),
    };
    names.sort();
    names.dedup();
    names
}

fn by_labels(params: &Params) -> Result<bool, ApiError> {
    match params.get("aggregateBy") {
        None | Some("series") => Ok(false),
        Some("labels") => Ok(true),
        Some(_) => Err(ApiError::bad_data("invalid aggregateBy: series or labels")),
    }
}

/// Bytes by labels, the most first.
pub(super) async fn volume(State(context): State<Context>, params: Params) -> Response {
    answer(&context, move |context, budget| {
        let range = params.index_range(context.clock.now_ns())?;
        let matchers = parse_selector(params.query(), budget)?;
        let targets = targets(&params, &matchers);
        let by_labels = by_labels(&params)?;
        let limit = params.count("limit", 100, LINES_MAX);
        let mut volumes: BTreeMap<Vec<(String, String)>, u64> = BTreeMap::new();
        let mut read = Stats::default();
        let pace = Pace::new(budget);
        for (labels, stats) in context.logs.stats(&matchers, range, budget)? {
            pace.go(64 + labels.bytes())?;
            read.chunks += stats.chunks;
            read.lines += stats.entries;
            let named = labels.filter(|name, _| {
                (by_labels && params.get("targetLabels").is_none()) || targets.iter().any(|own| own == name)
            });
            let own = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
            let keys: Vec<Vec<(String, String)>> = if by_labels {
                named.iter().map(|(name, _)| vec![own((name, ""))]).collect()
            } else {
                vec![named.iter().map(own).collect()]
            };
            for key in keys.into_iter().filter(|key| !key.is_empty() || targets.is_empty()) {
                if !volumes.contains_key(&key) {
                    let bytes: usize = key.iter().map(|(name, value)| name.len() + value.len() + 64).sum();
                    budget.charge(64 + bytes)?;
                }
                *volumes.entry(key).or_default() += stats.bytes;
            }
        }
        let mut volumes: Vec<_> = volumes.into_iter().filter(|(_, bytes)| *bytes > 0).collect();
        volumes.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        volumes.truncate(limit);
        let mut result = String::from("[");
        for (at, (labels, bytes)) in volumes.iter().enumerate() {
            result.push_str(if at > 0 { ",{\"metric\":" } else { "{\"metric\":" });
            json::object(&mut result, labels.iter().map(|(name, value)| (name.as_str(), value.as_str())));
            result.push_str(",\"value\":[");
            json::push_seconds(&mut result, range.end);
            result.push_str(&format!(",\"{bytes}\"]}}"));
        }
        result.push(']');
        Ok(json::data("vector", "", &result, &json::stats(read, budget.elapsed(), volumes.len())))
    })
    .await
}

/// Bytes by labels in every step.
pub(super) async fn volume_range(State(context): State<Context>, params: Params) -> Response {
    answer(&context, move |context, budget| {
        let now_ns = context.clock.now_ns();
        let range = params.index_range(now_ns)?;
        let matchers = parse_selector(params.query(), budget)?;
        let targets = targets(&params, &matchers);
        let by_labels = by_labels(&params)?;
        let limit = params.count("limit", 100, LINES_MAX);
        let step = params.step(range)?;
        let start = range.start.div_euclid(step).saturating_add(1).saturating_mul(step);
        let end = range.end.saturating_sub(1).div_euclid(step).saturating_add(1).saturating_mul(step);
        let options = &context.engine.options;
        let query = MetricQuery {
            start: start.min(end),
            end,
            step,
            points_max: options.points_max,
            series_max: options.series_max,
            now_ns,
        };
        let mut series: Vec<Series> = Vec::new();
        let mut read = Stats::default();
        if by_labels && targets.len() > TARGETS_MAX {
            return Err(ApiError::bad_data(format!("more than {TARGETS_MAX} labels in targetLabels: name fewer")));
        }
        let groups: Vec<Vec<String>> =
            if by_labels { targets.iter().map(|name| vec![name.clone()]).collect() } else { vec![targets.clone()] };
        for names in groups {
            let expr = bytes_by(&matchers, step, &names);
            let answer = metric_query(context.logs.as_ref(), &expr, query, budget)?;
            read.add(answer.stats);
            if by_labels {
                series.extend(joined(names.first().map_or("", String::as_str), answer.series));
            } else {
                series.extend(answer.series.into_iter().filter(|one| !one.labels.is_empty() || targets.is_empty()));
            }
        }
        let total = |series: &Series| series.points.iter().map(|(_, bytes)| *bytes).sum::<f64>();
        series.sort_by(|a, b| total(b).total_cmp(&total(a)));
        series.truncate(limit);
        let stats = json::stats(read, budget.elapsed(), series.len());
        Ok(json::data("matrix", "", &json::series(&series, false, budget)?, &stats))
    })
    .await
}

/// `sum by (names) (bytes_over_time({matchers} [step]))`.
fn bytes_by(matchers: &[Matcher], step: i64, names: &[String]) -> MetricExpr {
    let range = RangeExpr {
        op: RangeOp::BytesOverTime,
        parameter: None,
        log: LogExpr { matchers: matchers.to_vec(), stages: Vec::new() },
        range_ns: step,
        offset_ns: 0,
        grouping: None,
    };
    MetricExpr::Vector {
        op: VectorOp::Sum,
        parameter: None,
        grouping: Some(Grouping { without: false, names: names.to_vec() }),
        inner: Box::new(MetricExpr::Range(range)),
    }
}

/// The sum of all series that have the label, as one that is named by it.
fn joined(name: &str, series: Vec<Series>) -> Option<Series> {
    let mut sums: BTreeMap<i64, f64> = BTreeMap::new();
    for (t, bytes) in series.into_iter().filter(|one| one.labels.get(name).is_some()).flat_map(|one| one.points) {
        *sums.entry(t).or_default() += bytes;
    }
    let labels = Labels::from_pairs([("label", name)]).unwrap_or_default();
    (!sums.is_empty()).then(|| Series { labels, points: sums.into_iter().collect() })
}
