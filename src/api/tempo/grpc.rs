//! Tempo's streaming queries over gRPC: Grafana uses them where streaming is on. Frames and statuses are `wire::grpc`.
//! Flow: one request message, some answer messages, trailers. Large answers are cut into messages,
//! for a client takes 4 MiB at once. A call ends when its caller's time is over.

use std::convert::Infallible;

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, HeaderValue};
use axum::response::Response;
use axum::routing::post;
use http_body_util::{BodyExt as _, Full};

use super::metrics;
use super::search::{self, LIMIT, SPANS_PER_SET, checked, size};
use super::tags;
use crate::api::context::Context;
use crate::api::endpoint::Endpoint;
use crate::api::form;
use crate::api::traces::error::{TraceError, log};
use crate::base::error::Classify as _;
use crate::base::limits::QueryBudget;
use crate::query::traceql::legacy::query_of_tags;
use crate::query::traceql::parse_within;
use crate::query::traceql::search::SearchRequest;
use crate::wire::decompress::decompress;
use crate::wire::grpc;
use crate::wire::tempo as wire;

/// Largest request message, in bytes.
const REQUEST_BYTES_MAX: usize = 1 << 20;
/// About the size at which an answer is cut into messages, in bytes.
const MESSAGE_BYTES: usize = 1 << 20;

/// Paths at the root of a listener: gRPC clients drop the prefix of a base URL.
pub const GRPC_ENDPOINTS: &[Endpoint] = &[
    Endpoint {
        methods: "POST",
        path: "/tempopb.StreamingQuerier/Search",
        summary: "Search over gRPC",
        route: || post(search),
    },
    Endpoint {
        methods: "POST",
        path: "/tempopb.StreamingQuerier/MetricsQueryRange",
        summary: "TraceQL metrics over time, over gRPC",
        route: || post(metrics_range),
    },
    Endpoint {
        methods: "POST",
        path: "/tempopb.StreamingQuerier/MetricsQueryInstant",
        summary: "TraceQL metrics as one value per series, over gRPC",
        route: || post(metrics_instant),
    },
    Endpoint {
        methods: "POST",
        path: "/tempopb.StreamingQuerier/SearchTags",
        summary: "Names of tags over gRPC",
        route: || post(tag_names_v1),
    },
    Endpoint {
        methods: "POST",
        path: "/tempopb.StreamingQuerier/SearchTagsV2",
        summary: "Names of tags by scope over gRPC",
        route: || post(tag_names_v2),
    },
    Endpoint {
        methods: "POST",
        path: "/tempopb.StreamingQuerier/SearchTagValues",
        summary: "Values of a tag over gRPC",
        route: || post(tag_values_v1),
    },
    Endpoint {
        methods: "POST",
        path: "/tempopb.StreamingQuerier/SearchTagValuesV2",
        summary: "Typed values of a tag over gRPC",
        route: || post(tag_values_v2),
    },
];

async fn search(State(context): State<Context>, request: Request) -> Response {
    let headers = request.headers().clone();
    finish(&headers, search_frames(&context, request)).await
}

async fn search_frames(context: &Context, request: Request) -> Result<Vec<u8>, TraceError> {
    let asked: wire::SearchRequest = message(request).await?;
    search::answer(
        context,
        move |budget| search_asked(asked, budget),
        |answer, budget| {
            let mut frames = Vec::new();
            for traces in cut(answer.traces) {
                budget.check()?;
                budget.charge(MESSAGE_BYTES)?;
                frame(&mut frames, &wire::SearchResponse { traces, metrics: answer.metrics });
            }
            Ok(frames)
        },
    )
    .await
}

fn search_asked(asked: wire::SearchRequest, budget: &QueryBudget) -> Result<SearchRequest, TraceError> {
    let query = match (asked.query.is_empty(), asked.tags.is_empty()) {
        (false, false) => return Err(TraceError::Bad("query and tags exclude each other".to_owned())),
        (true, false) => query_of_tags(&asked.tags.into_iter().collect::<Vec<_>>())?,
        (_, true) => parse_within(&asked.query, budget)?,
    };
    let ms = |ms: u32| (ms > 0).then_some(i64::from(ms) * 1_000_000);
    let or = |number: u32, default: u64| size(if number == 0 { default } else { u64::from(number) });
    checked(SearchRequest {
        query,
        range: range(asked.start, asked.end)?,
        duration: (ms(asked.min_duration_ms), ms(asked.max_duration_ms)),
        limit: or(asked.limit, LIMIT),
        spans_per_set: or(asked.spans_per_span_set, SPANS_PER_SET),
    })
}

async fn metrics_range(State(context): State<Context>, request: Request) -> Response {
    let headers = request.headers().clone();
    finish(&headers, metrics_range_frames(&context, request)).await
}

async fn metrics_range_frames(context: &Context, request: Request) -> Result<Vec<u8>, TraceError> {
    metrics::range_answer(context, asked_metrics(request).await?, |answer, budget| {
        let mut frames = Vec::new();
        for series in cut(answer.series) {
            budget.check()?;
            budget.charge(MESSAGE_BYTES)?;
            frame(&mut frames, &wire::QueryRangeResponse { series, metrics: answer.metrics });
        }
        Ok(frames)
    })
    .await
}

async fn metrics_instant(State(context): State<Context>, request: Request) -> Response {
    let headers = request.headers().clone();
    finish(&headers, metrics_instant_frames(&context, request)).await
}

async fn metrics_instant_frames(context: &Context, request: Request) -> Result<Vec<u8>, TraceError> {
    metrics::instant_answer(context, asked_metrics(request).await?, |answer, _| Ok(one_frame(&answer))).await
}

async fn asked_metrics(request: Request) -> Result<metrics::Asked, TraceError> {
    let asked: wire::QueryRangeRequest = message(request).await?;
    let time = |ns: u64| i64::try_from(ns).map_err(|_| TraceError::Bad("the time range is out of bounds".to_owned()));
    let step = time(asked.step)?;
    Ok(metrics::Asked {
        query: asked.query,
        start: time(asked.start)?,
        end: time(asked.end)?,
        step: (step > 0).then_some(step),
        exemplars: if asked.exemplars == 0 { metrics::EXEMPLARS } else { u64::from(asked.exemplars) },
    })
}

async fn tag_names_v1(State(context): State<Context>, request: Request) -> Response {
    let headers = request.headers().clone();
    let answer = async { Ok(one_frame(&tags::names_v1_answer(&context, asked_names(request).await?).await?)) };
    finish(&headers, answer).await
}

async fn tag_names_v2(State(context): State<Context>, request: Request) -> Response {
    let headers = request.headers().clone();
    let answer = async { Ok(one_frame(&tags::names_v2_answer(&context, asked_names(request).await?).await?)) };
    finish(&headers, answer).await
}

async fn tag_values_v1(State(context): State<Context>, request: Request) -> Response {
    let headers = request.headers().clone();
    let answer = async {
        let (tag, asked) = asked_values(request).await?;
        Ok(one_frame(&tags::values_v1_answer(&context, &tag, asked).await?))
    };
    finish(&headers, answer).await
}

async fn tag_values_v2(State(context): State<Context>, request: Request) -> Response {
    let headers = request.headers().clone();
    let answer = async {
        let (tag, asked) = asked_values(request).await?;
        Ok(one_frame(&tags::values_v2_answer(&context, &tag, asked).await?))
    };
    finish(&headers, answer).await
}

async fn asked_names(request: Request) -> Result<tags::Asked, TraceError> {
    let asked: wire::SearchTagsRequest = message(request).await?;
    Ok(tags::Asked { scope: asked.scope, range: range(asked.start, asked.end)?, ..tags::Asked::default() })
}

async fn asked_values(request: Request) -> Result<(String, tags::Asked), TraceError> {
    let asked: wire::SearchTagValuesRequest = message(request).await?;
    let range = range(asked.start, asked.end)?;
    Ok((asked.tag_name, tags::Asked { query: asked.query, range, ..tags::Asked::default() }))
}

/// Seconds as nanoseconds; both zero is no range.
fn range(start: u32, end: u32) -> Result<Option<(i64, i64)>, TraceError> {
    match (i64::from(start) * 1_000_000_000, i64::from(end) * 1_000_000_000) {
        (0, 0) => Ok(None),
        (start, end) if start < end => Ok(Some((start, end))),
        _ => Err(TraceError::Bad("start must be before end".to_owned())),
    }
}

/// The one message of a request.
async fn message<M: wire::Decode>(request: Request) -> Result<M, TraceError> {
    let (head, body) = request.into_parts();
    let body = form::whole(body, REQUEST_BYTES_MAX).await?;
    let frame = grpc::only_frame(&body, REQUEST_BYTES_MAX)?;
    let name = head.headers.get(grpc::ENCODING).and_then(|name| name.to_str().ok()).unwrap_or_default();
    let encoding = frame.encoding(name);
    let encoding =
        encoding.ok_or_else(|| TraceError::Bad(format!("messages packed as {name:?} are not taken here")))?;
    let bytes = decompress(encoding, frame.message, REQUEST_BYTES_MAX)?;
    wire::decode(&bytes).map_err(|error| TraceError::Bad(format!("the message is no protobuf: {error}")))
}

fn one_frame(message: &impl wire::Encode) -> Vec<u8> {
    let mut frames = Vec::new();
    frame(&mut frames, message);
    frames
}

fn frame(frames: &mut Vec<u8>, message: &impl wire::Encode) {
    grpc::put_frame(frames, &wire::encode(message));
}

/// Items in runs of about [`MESSAGE_BYTES`]; one empty run when there are none.
fn cut<M: wire::Encode>(items: Vec<M>) -> Vec<Vec<M>> {
    let mut runs = vec![Vec::new()];
    let mut bytes = 0;
    for item in items {
        let own = wire::encoded_len(&item);
        if bytes > 0 && bytes + own > MESSAGE_BYTES {
            runs.push(Vec::new());
            bytes = 0;
        }
        bytes += own;
        if let Some(run) = runs.last_mut() {
            run.push(item);
        }
    }
    runs
}

/// Answers within the time that the caller waits; a query that is not done by then is canceled.
async fn finish(headers: &HeaderMap, answer: impl Future<Output = Result<Vec<u8>, TraceError>>) -> Response {
    let timeout = headers.get(grpc::TIMEOUT).and_then(|text| grpc::timeout(text.to_str().ok()?));
    let result = match timeout {
        Some(timeout) => tokio::time::timeout(timeout, answer).await.unwrap_or(Err(TraceError::CallersTime(timeout))),
        None => answer.await,
    };
    let mut response = match result {
        Ok(frames) => {
            let mut trailers = HeaderMap::new();
            trailers.insert(grpc::STATUS, HeaderValue::from(0));
            let trailers = async move { Some(Ok::<_, Infallible>(trailers)) };
            Response::new(Body::new(Full::new(Bytes::from(frames)).with_trailers(trailers)))
        }
        Err(problem) => {
            log(&problem);
            let mut response = Response::new(Body::empty());
            for (name, value) in grpc::refusal(problem.class().into(), &problem.to_string(), None) {
                if let Ok(value) = HeaderValue::try_from(value) {
                    response.headers_mut().insert(name, value);
                }
            }
            response
        }
    };
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(grpc::CONTENT_TYPE));
    headers.insert(grpc::ACCEPT_ENCODING, HeaderValue::from_static(grpc::ENCODINGS));
    response
}
