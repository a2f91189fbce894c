//! Export of samples as OpenMetrics text: family by family, series by series, times ascending, so that
//! `promtool tsdb create-blocks-from openmetrics` takes it. One series is in memory at a time.
//! Native histograms and stale markers have no text form; they are left out, and a header says so.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use axum::extract::State;
use axum::response::Response;
use http::{HeaderName, HeaderValue};

use super::answer::{counted, read_each};
use super::error::ApiError;
use super::params::Params;
use crate::api::context::Context;
use crate::api::stream::{Sink, StreamError};
use crate::base::limits::QueryBudget;
use crate::model::batch::MetricMetadata;
use crate::model::exemplar::Exemplar;
use crate::model::labels::Labels;
use crate::model::matcher::Matcher;
use crate::model::sample::{Columns, is_stale};
use crate::model::time::RangeMs;
use crate::query::pace::Pace;
use crate::store::{SeriesSet, StoreError};
use crate::wire::openmetrics::write;

/// How long an export may take.
const EXPORT_MAX: Duration = Duration::from_secs(24 * 3600);

const LEFT_OUT: HeaderName = HeaderName::from_static("x-trilith-left-out");

/// What is asked for.
struct Asked {
    selectors: Vec<Vec<Matcher>>,
    range: RangeMs,
    exemplars: bool,
}

fn asked(params: &Params, budget: &QueryBudget) -> Result<Asked, ApiError> {
    let selectors = params.selectors(budget)?;
    if selectors.is_empty() {
        return Err(ApiError::bad_data("no match[] parameter provided; match[]={__name__!=\"\"} is everything"));
    }
    let exemplars = matches!(params.get("exemplars"), Some("true" | "1"));
    Ok(Asked { selectors, range: params.range()?, exemplars })
}

/// A series of one of the sets.
struct Place {
    family: String,
    labels: Labels,
    set: usize,
    place: usize,
}

/// All series, found and in order, before the first sample is read.
struct Found {
    sets: Vec<Box<dyn SeriesSet>>,
    places: Vec<Place>,
    /// By name.
    metadata: Vec<MetricMetadata>,
    exemplars: BTreeMap<Labels, Vec<Exemplar>>,
}

fn metadata_of<'a>(known: &'a [MetricMetadata], name: &str) -> Option<&'a MetricMetadata> {
    known.get(known.binary_search_by(|one| one.name.as_str().cmp(name)).ok()?)
}

fn find(context: &Context, asked: &Asked, budget: &QueryBudget) -> Result<Found, StoreError> {
    let known = context.metrics.metadata(budget)?;
    let mut found = Found { sets: Vec::new(), places: Vec::new(), metadata: Vec::new(), exemplars: BTreeMap::new() };
    for selector in &asked.selectors {
        let set = context.metrics.select(selector, asked.range, budget)?;
        budget.charge(set.labels().len() * size_of::<Place>())?;
        for (place, labels) in set.labels().iter().enumerate() {
            let kind = |name: &str| metadata_of(&known, name).map(|one| one.kind.as_str());
            let family = write::family(labels.metric_name(), kind).to_owned();
            budget.charge(family.len())?;
            found.places.push(Place { family, labels: labels.clone(), set: found.sets.len(), place });
        }
        found.sets.push(set);
        if asked.exemplars {
            found.exemplars.extend(context.metrics.exemplars(selector, asked.range, budget)?);
        }
    }
    let bytes = |place: &Place| place.family.len() + place.labels.bytes();
    let compare = |a: &Place, b: &Place| (&a.family, &a.labels, a.set).cmp(&(&b.family, &b.labels, b.set));
    Pace::new(budget).sort_dear(&mut found.places, bytes, compare)?;
    found.places.dedup_by(|later, first| later.labels == first.labels);
    found.metadata = known;
    Ok(found)
}

/// Writes all series; those that lie side by side in a set are read together.
fn write_all(found: &Found, budget: &QueryBudget, sink: &mut Sink) -> Result<(), ApiError> {
    let mut family = None;
    let mut first = 0;
    while let Some(begin) = found.places.get(first) {
        let side_by_side = |(at, own): (usize, &Place)| own.set == begin.set && own.place == begin.place + at;
        let rest = found.places.get(first..).unwrap_or_default();
        let length = rest.iter().enumerate().take_while(|(at, own)| side_by_side((*at, own))).count();
        let (Some(set), places) = (found.sets.get(begin.set), begin.place..begin.place + length) else { break };
        read(found, set.as_ref(), places, first, budget, &mut family, sink)?;
        first += length.max(1);
    }
    sink.text.push_str(write::END);
    Ok(())
}

fn read<'f>(
    found: &'f Found,
    set: &dyn SeriesSet,
    places: Range<usize>,
    first: usize,
    budget: &QueryBudget,
    family: &mut Option<&'f str>,
    sink: &mut Sink,
) -> Result<(), ApiError> {
    let begin = places.start;
    read_each(set, places, budget, |place, columns| {
        let Some(own) = found.places.get(first + place - begin) else { return Ok(()) };
        if columns.values.iter().all(|value| is_stale(*value)) {
            return Ok(());
        }
        if *family != Some(&own.family) {
            *family = Some(&own.family);
            let metadata = metadata_of(&found.metadata, own.labels.metric_name())
                .or_else(|| metadata_of(&found.metadata, &own.family));
            metadata.into_iter().for_each(|known| write::metadata(&mut sink.text, &own.family, known));
        }
        let exemplars = found.exemplars.get(&own.labels).map_or(&[][..], Vec::as_slice);
        Ok(write_series(&own.labels, columns, exemplars, sink)?)
    })
}

/// An exemplar goes with the first sample at or behind its time, one with each.
fn write_series(
    labels: &Labels,
    columns: &Columns,
    exemplars: &[Exemplar],
    sink: &mut Sink,
) -> Result<(), StreamError> {
    let mut series = String::new();
    write::series(&mut series, labels);
    let mut exemplars = exemplars.iter().peekable();
    for (t, value) in columns.times.iter().zip(&columns.values) {
        if is_stale(*value) {
            continue;
        }
        sink.text.push_str(&series);
        let exemplar = exemplars.next_if(|exemplar| exemplar.t <= *t);
        write::sample(&mut sink.text, *value, *t, exemplar);
        sink.pass()?;
    }
    Ok(())
}

pub(super) async fn export(State(context): State<Context>, params: Params) -> Response {
    let coding = params.coding;
    let work = move |context: &Context, budget: &QueryBudget, sink: &mut Sink| {
        write_all(&find(context, &asked(&params, budget)?, budget)?, budget, sink)
    };
    let answer = context.stream_copy(EXPORT_MAX, coding, write::CONTENT_TYPE, work);
    let mut response = counted(&context, answer).await;
    if response.status().is_success() {
        response.headers_mut().insert(LEFT_OUT, HeaderValue::from_static("native histograms, stale markers"));
    }
    response
}
