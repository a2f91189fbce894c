//! JSON written straight into a string, in the shapes of Prometheus's API.

use std::fmt::Write as _;
use std::time::Duration;

use super::number;
pub(super) use super::number::time;
use crate::api::json::object;
pub(super) use crate::api::json::{list, string};
use crate::api::stream::{Sink, StreamError};
use crate::model::histogram::Histogram;
use crate::model::labels::Labels;
use crate::query::promql::{Answer, AnswerSeries, AnswerValue, StepSamples, Work};

/// Labels as an object.
pub(super) fn labels(out: &mut String, labels: &Labels) {
    object(out, labels.iter());
}

/// A float as a string.
pub(super) fn float(out: &mut String, value: f64) {
    out.push('"');
    number::float(out, value);
    out.push('"');
}

fn point(out: &mut String, (t, value): (i64, f64)) {
    out.push('[');
    time(out, t);
    out.push(',');
    float(out, value);
    out.push(']');
}

fn histogram_point(out: &mut String, (t, histogram): (i64, &Histogram)) {
    out.push('[');
    time(out, t);
    out.push_str(",{\"count\":");
    float(out, histogram.count);
    out.push_str(",\"sum\":");
    float(out, histogram.sum);
    let buckets = Work::from(histogram).buckets();
    if !buckets.is_empty() {
        out.push_str(",\"buckets\":");
        list(out, buckets, |out, bucket| {
            let rule = match (bucket.lower_in, bucket.upper_in) {
                (false, true) => 0,
                (true, false) => 1,
                (false, false) => 2,
                (true, true) => 3,
            };
            let _ = write!(out, "[{rule},");
            float(out, bucket.lower);
            out.push(',');
            float(out, bucket.upper);
            out.push(',');
            float(out, bucket.count);
            out.push(']');
        });
    }
    out.push_str("}]");
}

/// Points between two looks at whether there is text enough for a piece.
const POINTS_MAX: usize = 1_024;

/// Items with commas between them, in square brackets, sent as they come.
pub(super) fn flowing<T>(
    sink: &mut Sink,
    items: impl IntoIterator<Item = T>,
    mut write: impl FnMut(&mut Sink, T) -> Result<(), StreamError>,
) -> Result<(), StreamError> {
    sink.text.push('[');
    for (at, item) in items.into_iter().enumerate() {
        if at > 0 {
            sink.text.push(',');
        }
        write(sink, item)?;
        sink.pass()?;
    }
    sink.text.push(']');
    Ok(())
}

/// The same for items that are small and many.
fn points<T>(sink: &mut Sink, items: &[T], mut write: impl FnMut(&mut String, &T)) -> Result<(), StreamError> {
    sink.text.push('[');
    for (at, part) in items.chunks(POINTS_MAX).enumerate() {
        for (place, item) in part.iter().enumerate() {
            if at + place > 0 {
                sink.text.push(',');
            }
            write(&mut sink.text, item);
        }
        sink.pass()?;
    }
    sink.text.push(']');
    Ok(())
}

fn series(sink: &mut Sink, one: &AnswerSeries, many: bool) -> Result<(), StreamError> {
    sink.text.push_str("{\"metric\":");
    labels(&mut sink.text, &one.labels);
    if many {
        if !one.floats.is_empty() {
            sink.text.push_str(",\"values\":");
            points(sink, &one.floats, |out, float| point(out, *float))?;
        }
        if !one.histograms.is_empty() {
            sink.text.push_str(",\"histograms\":");
            flowing(sink, &one.histograms, |sink, (t, histogram)| {
                histogram_point(&mut sink.text, (*t, histogram));
                Ok(())
            })?;
        }
    } else if let Some(float) = one.floats.first() {
        sink.text.push_str(",\"value\":");
        point(&mut sink.text, *float);
    } else if let Some((t, histogram)) = one.histograms.first() {
        sink.text.push_str(",\"histogram\":");
        histogram_point(&mut sink.text, (*t, histogram));
    }
    sink.text.push('}');
    Ok(())
}

/// How long a query waited for its place, and how long it took with that.
#[derive(Clone, Copy)]
pub(super) struct Timings {
    pub(super) waited: Duration,
    pub(super) total: Duration,
}

/// Statistics that were asked for.
#[derive(Clone, Copy)]
pub(super) struct Stats {
    pub(super) timings: Timings,
    /// Whether samples are shown by step as well.
    pub(super) by_step: bool,
}

/// A whole answer in its envelope. `stats` are shown when asked for, `truncated` says that a limit
/// cut series off. Series are freed as they are written.
pub(super) fn answer(
    sink: &mut Sink,
    answer: Answer,
    stats: Option<Stats>,
    truncated: bool,
) -> Result<(), StreamError> {
    sink.text.push_str("{\"status\":\"success\",\"data\":{\"resultType\":");
    match answer.value {
        AnswerValue::Scalar(t, value) => {
            sink.text.push_str("\"scalar\",\"result\":");
            point(&mut sink.text, (t, value));
        }
        AnswerValue::String(t, text) => {
            sink.text.push_str("\"string\",\"result\":[");
            time(&mut sink.text, t);
            sink.text.push(',');
            string(&mut sink.text, &text);
            sink.text.push(']');
        }
        AnswerValue::Vector(all) => {
            sink.text.push_str("\"vector\",\"result\":");
            flowing(sink, all, |sink, one| series(sink, &one, false))?;
        }
        AnswerValue::Matrix(all) => {
            sink.text.push_str("\"matrix\",\"result\":");
            flowing(sink, all, |sink, one| series(sink, &one, true))?;
        }
    }
    let out = &mut sink.text;
    if let Some(Stats { timings: Timings { waited, total }, by_step }) = stats {
        let (waited, total) = (waited.as_secs_f64(), total.as_secs_f64());
        let ran = total - waited;
        let steps = answer.per_step.as_ref();
        let sum = |of: OfStep| steps.map_or(answer.samples, |steps| steps.iter().map(of).sum());
        let _ = write!(
            out,
            ",\"stats\":{{\"timings\":{{\"evalTotalTime\":{ran},\"resultSortTime\":0,\"queryPreparationTime\":0,\
             \"innerEvalTime\":{ran},\"execQueueTime\":{waited},\"execTotalTime\":{total}}},\
             \"samples\":{{\"totalQueryableSamples\":{},\"samplesRead\":{},\"peakSamples\":{}",
            sum(|step| step.samples),
            sum(|step| step.new),
            answer.memory_peak / 16
        );
        if let Some(steps) = answer.per_step.filter(|_| by_step) {
            let columns: [(&str, OfStep); 2] =
                [("totalQueryableSamplesPerStep", |step| step.samples), ("samplesReadPerStep", |step| step.new)];
            for (name, of) in columns {
                let _ = write!(out, ",\"{name}\":");
                list(out, &steps, |out, step| {
                    out.push('[');
                    time(out, step.time);
                    let _ = write!(out, ",{}]", of(step));
                });
            }
        }
        out.push_str("}}");
    }
    out.push('}');
    let cut = truncated.then_some(TRUNCATED);
    notes(out, "warnings", answer.warnings.iter().map(String::as_str).chain(cut));
    notes(out, "infos", answer.infos.iter().map(String::as_str));
    out.push('}');
    Ok(())
}

/// One of the numbers of a step.
type OfStep = fn(&StepSamples) -> u64;

/// The warning that goes with an answer cut off by a limit.
const TRUNCATED: &str = "results truncated due to limit";

fn notes<'a>(out: &mut String, name: &str, texts: impl Iterator<Item = &'a str>) {
    let mut texts = texts.peekable();
    if texts.peek().is_some() {
        let _ = write!(out, ",\"{name}\":");
        list(out, texts, string);
    }
}

/// A list of data in its envelope, at most `limit` items of it (0 is all).
pub(super) fn limited<T>(
    sink: &mut Sink,
    mut items: Vec<T>,
    limit: usize,
    mut write: impl FnMut(&mut String, T),
) -> Result<(), StreamError> {
    let truncated = limit > 0 && items.len() > limit;
    if truncated {
        items.truncate(limit);
    }
    sink.text.push_str("{\"status\":\"success\",\"data\":");
    flowing(sink, items, |sink, item| {
        write(&mut sink.text, item);
        Ok(())
    })?;
    notes(&mut sink.text, "warnings", truncated.then_some(TRUNCATED).into_iter());
    sink.text.push('}');
    Ok(())
}
