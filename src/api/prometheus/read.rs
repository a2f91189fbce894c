//! Remote read: samples of series for another Prometheus. Chunks flow, series by series, and take the
//! memory of one series; a message of samples has to be whole before it can be compressed, so its
//! bytes are charged to the query.

use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::HeaderValue;
use http::header::CONTENT_ENCODING;

use super::answer::{counted, read_each};
use super::error::ApiError;
use super::params;
use crate::api::context::Context;
use crate::api::form;
use crate::api::stream::{Sink, StreamError};
use crate::base::limits::QueryBudget;
use crate::model::labels::Labels;
use crate::model::matcher::Matcher;
use crate::model::sample::Columns;
use crate::query::pace::Pace;
use crate::wire::compress::Coding;
use crate::wire::decompress::{Encoding, compress_snappy, decompress};
use crate::wire::prometheus_chunk::chunks;
use crate::wire::remote_read::{CHUNKS_TYPE, Form, Frame, Query, RawMatcher, SAMPLES_TYPE, decode, put_result, series};

/// Longest request, compressed.
const BODY_BYTES_MAX: usize = 1 << 20;
/// Longest request, inflated.
const REQUEST_BYTES_MAX: usize = 8 << 20;
/// Bytes of samples that are charged at once.
const CHARGE_BYTES: usize = 1 << 20;

pub(super) async fn read(State(context): State<Context>, request: Request) -> Response {
    let body = match form::whole(request.into_body(), BODY_BYTES_MAX).await {
        Ok(body) => body,
        Err(error) => return ApiError::from(error).into_response(),
    };
    let asked = match asked(&body) {
        Ok(asked) => asked,
        Err(error) => return error.into_response(),
    };
    match asked.form {
        Form::Chunks => {
            let work = move |context: &Context, budget: &QueryBudget, sink: &mut Sink| {
                let mut queries = asked.queries.iter().enumerate();
                queries.try_for_each(|(place, query)| stream(context, place, query, budget, sink))
            };
            counted(&context, context.stream(None, Coding::Identity, CHUNKS_TYPE, work)).await
        }
        Form::Samples => {
            let work = move |context: &Context, budget: &QueryBudget, sink: &mut Sink| {
                samples(context, &asked.queries, budget, sink)
            };
            let mut response = counted(&context, context.stream(None, Coding::Identity, SAMPLES_TYPE, work)).await;
            if response.status().is_success() {
                response.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static("snappy"));
            }
            response
        }
    }
}

fn asked(body: &Bytes) -> Result<crate::wire::remote_read::Request, ApiError> {
    let inflated = decompress(Encoding::Snappy, body, REQUEST_BYTES_MAX)?;
    let mut asked = decode(&inflated)?;
    for query in &mut asked.queries {
        params::clamp(&mut query.range);
    }
    Ok(asked)
}

fn matchers(query: &Query, budget: &QueryBudget) -> Result<Vec<Matcher>, ApiError> {
    let of = |raw: &RawMatcher| Matcher::within(raw.name.as_str(), raw.op, raw.value.as_str(), budget);
    query.matchers.iter().map(of).collect::<Result<_, _>>().map_err(ApiError::from)
}

/// Hands each series to `write`, those without samples only when no samples are asked for.
fn each(
    context: &Context,
    query: &Query,
    budget: &QueryBudget,
    mut write: impl FnMut(&Labels, &Columns) -> Result<(), ApiError>,
) -> Result<(), ApiError> {
    let matchers = matchers(query, budget)?;
    if query.labels_only {
        let (all, pace) = (context.metrics.series(&matchers, query.range, budget)?, Pace::new(budget));
        return all.iter().try_for_each(|labels| {
            pace.go(4 * labels.bytes())?;
            write(labels, &Columns::default())
        });
    }
    let set = context.metrics.select(&matchers, query.range, budget)?;
    let labels = set.labels();
    read_each(set.as_ref(), 0..labels.len(), budget, |place, columns| {
        let Some(labels) = labels.get(place).filter(|_| !columns.is_empty()) else { return Ok(()) };
        write(labels, columns)
    })
}

fn stream(
    context: &Context,
    place: usize,
    query: &Query,
    budget: &QueryBudget,
    sink: &mut Sink,
) -> Result<(), ApiError> {
    let mut frame = Frame::default();
    each(context, query, budget, |labels, columns| {
        let put = |frame: &mut Frame, sink: &mut Sink| {
            frame.put(&mut sink.bytes, place, labels);
            sink.pass()
        };
        let written = chunks(columns, |chunk| if frame.push(&chunk) { put(&mut frame, sink) } else { Ok(()) });
        let written: Result<(), StreamError> =
            written.and_then(|()| if frame.is_empty() && !columns.is_empty() { Ok(()) } else { put(&mut frame, sink) });
        Ok(written?)
    })
}

fn samples(context: &Context, queries: &[Query], budget: &QueryBudget, sink: &mut Sink) -> Result<(), ApiError> {
    let mut message = Vec::new();
    let mut charged = 0;
    for query in queries {
        let mut result = Vec::new();
        each(context, query, budget, |labels, columns| {
            series(&mut result, labels, columns);
            // Its place in the message, in the compressed message, and room to grow.
            while charged < 4 * (message.len() + result.len()) {
                budget.charge(CHARGE_BYTES)?;
                charged += CHARGE_BYTES;
            }
            Ok(())
        })?;
        put_result(&mut message, &result);
    }
    let packed = compress_snappy(&message)?;
    drop(message);
    for part in packed.chunks(crate::api::stream::PIECE_BYTES) {
        sink.bytes.extend_from_slice(part);
        sink.pass()?;
    }
    Ok(())
}
