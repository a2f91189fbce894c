//! Answers as text. Keys come in the order that Grafana's streaming parser needs: `resultType` and
//! `encodingFlags` before `result`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use crate::api::json::list;
pub(super) use crate::api::json::{object, string};
use crate::base::float_text;
use crate::base::limits::{LimitError, QueryBudget};
use crate::model::labels::Labels;
use crate::query::logql::{Line, Series, Stats};
use crate::query::pace::Pace;

/// Adds a list of texts.
pub(super) fn strings<S: AsRef<str>>(out: &mut String, texts: impl IntoIterator<Item = S>) {
    list(out, texts, |out, text| string(out, text.as_ref()));
}

/// Adds seconds, with as many digits as the nanoseconds need.
pub(super) fn push_seconds(out: &mut String, nanos: i64) {
    let _ = write!(out, "{}", nanos.div_euclid(1_000_000_000));
    let fraction = nanos.rem_euclid(1_000_000_000) / 1_000_000;
    if nanos >= 0 && fraction > 0 {
        let digits = format!("{fraction:03}");
        let _ = write!(out, ".{}", digits.trim_end_matches('0'));
    }
}

/// Adds `[seconds,"value"]`.
pub(super) fn push_sample(out: &mut String, (t, value): (i64, f64)) {
    out.push('[');
    push_seconds(out, t);
    out.push_str(",\"");
    float_text::push(out, value, float_text::FIXED);
    out.push_str("\"]");
}

/// A success with `resultType`, `result` and `stats`.
pub(super) fn data(kind: &str, flags: &str, result: &str, stats: &str) -> String {
    format!(
        "{{\"status\":\"success\",\"data\":{{\"resultType\":\"{kind}\",{flags}\"result\":{result},\"stats\":{stats}}}}}"
    )
}

/// The numbers about a query that the query inspector shows.
pub(super) fn stats(stats: Stats, elapsed: Duration, returned: usize) -> String {
    let seconds = elapsed.as_secs_f64().max(1e-9);
    format!(
        "{{\"summary\":{{\"bytesProcessedPerSecond\":{:.0},\"linesProcessedPerSecond\":{:.0},\"totalBytesProcessed\":{},\
         \"totalLinesProcessed\":{},\"execTime\":{seconds:.9},\"queueTime\":0,\"totalEntriesReturned\":{returned}}},\
         \"querier\":{{\"store\":{{\"totalChunksRef\":{},\"totalChunksDownloaded\":{}}}}}}}",
        stats.bytes as f64 / seconds,
        stats.lines as f64 / seconds,
        stats.bytes,
        stats.lines,
        stats.chunks,
        stats.chunks,
    )
}

/// Charges a text as it grows, and looks at the clock meanwhile.
struct Growth<'b> {
    pace: Pace<'b>,
    charged: usize,
}

impl<'b> Growth<'b> {
    fn new(budget: &'b QueryBudget) -> Self {
        Self { pace: Pace::new(budget), charged: 0 }
    }

    fn by(&mut self, out: &String, cost: usize) -> Result<(), LimitError> {
        self.pace.go(cost)?;
        let more = out.capacity().saturating_sub(self.charged);
        if more > 0 {
            self.pace.budget().charge(more)?;
            self.charged += more;
        }
        Ok(())
    }

    /// The whole text, which is copied into the answer.
    fn done(self, out: String) -> Result<String, LimitError> {
        self.pace.budget().charge(out.len())?;
        Ok(out)
    }
}

/// A list of series, each with all its points or, at one instant, with its only one.
///
/// # Errors
/// What the budget says; the text is charged.
pub(super) fn series(series: &[Series], instant: bool, budget: &QueryBudget) -> Result<String, LimitError> {
    let mut growth = Growth::new(budget);
    let mut out = String::from("[");
    for (at, series) in series.iter().enumerate() {
        growth.by(&out, 64 + 32 * series.points.len())?;
        out.push_str(if at > 0 { ",{\"metric\":" } else { "{\"metric\":" });
        object(&mut out, series.labels.iter());
        match series.points.first() {
            Some(point) if instant => {
                out.push_str(",\"value\":");
                push_sample(&mut out, *point);
            }
            _ => {
                out.push_str(",\"values\":[");
                for (at, point) in series.points.iter().enumerate() {
                    if at > 0 {
                        out.push(',');
                    }
                    push_sample(&mut out, *point);
                }
                out.push(']');
            }
        }
        out.push('}');
    }
    out.push(']');
    growth.done(out)
}

/// A list of streams in the order of their labels, lines in the order given. With `categorize`,
/// streams have index labels only and each line brings its others; without, all labels make streams.
///
/// # Errors
/// What the budget says; the text is charged.
pub(super) fn streams(lines: &[Line], categorize: bool, budget: &QueryBudget) -> Result<String, LimitError> {
    let mut growth = Growth::new(budget);
    let mut by_labels: BTreeMap<Vec<(&str, &str)>, Vec<&Line>> = BTreeMap::new();
    for line in lines {
        let labels: Vec<(&str, &str)> = if categorize { line.stream.iter().collect() } else { all_labels(line) };
        growth.pace.go(64 * (1 + labels.len()))?;
        budget.charge(64 + labels.len() * size_of::<(&str, &str)>())?;
        by_labels.entry(labels).or_default().push(line);
    }
    let mut out = String::from("[");
    for (at, (labels, lines)) in by_labels.into_iter().enumerate() {
        out.push_str(if at > 0 { ",{\"stream\":" } else { "{\"stream\":" });
        object(&mut out, labels);
        out.push_str(",\"values\":[");
        for (at, line) in lines.into_iter().enumerate() {
            growth.by(&out, 64 + line.line.len())?;
            let _ = write!(out, "{}\"{}\",", if at > 0 { ",[" } else { "[" }, line.t);
            string(&mut out, &line.line);
            if categorize {
                out.push(',');
                push_categories(&mut out, &line.metadata, &line.parsed);
            }
            out.push(']');
        }
        out.push_str("]}");
    }
    out.push(']');
    growth.done(out)
}

fn push_categories(out: &mut String, metadata: &Labels, parsed: &[(String, String)]) {
    out.push('{');
    if !metadata.is_empty() {
        out.push_str("\"structuredMetadata\":");
        object(out, metadata.iter());
    }
    if !parsed.is_empty() {
        out.push_str(if metadata.is_empty() { "\"parsed\":" } else { ",\"parsed\":" });
        object(out, parsed.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    }
    out.push('}');
}

fn all_labels(line: &Line) -> Vec<(&str, &str)> {
    let parsed = line.parsed.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let mut labels: Vec<(&str, &str)> = line.stream.iter().chain(line.metadata.iter()).chain(parsed).collect();
    labels.sort_unstable();
    labels
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_have_no_needless_digits() {
        let mut out = String::new();
        push_seconds(&mut out, 4_000_000_000);
        out.push(' ');
        push_seconds(&mut out, 1_700_000_000_500_000_000);
        assert_eq!(out, "4 1700000000.5");
    }
}
