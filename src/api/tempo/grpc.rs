//! Tempo's streaming queries over gRPC, framed by hand: Grafana uses them where streaming is on.
//! Flow: one request message, some answer messages, trailers. Large answers are cut into messages,
//! for a client takes 4 MiB at once.
//! Spec: <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>.

use std::convert::Infallible;

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::response::Response;
use axum::routing::post;
use http_body_util::{BodyExt as _, Full};

use super::metrics;
use super::search::{self, LIMIT, SPANS_PER_SET, checked, size};
use super::tags;
use crate::api::context::Context;
use crate::api::endpoint::Endpoint;
use crate::api::traces::error::{TraceError, log};
use crate::base::error::{Classify, ErrorClass};
use crate::query::traceql::legacy::query_of_tags;
use crate::query::traceql::parse;
use crate::query::traceql::search::SearchRequest;
use crate::wire::tempo as wire;

/// Largest request message, in bytes.
const REQUEST_BYTES_MAX: usize = 1 << 20;
/// About the size at which an answer is cut into messages, in bytes.
const MESSAGE_BYTES: usize = 1 << 20;

const STATUS: HeaderName = HeaderName::from_static("grpc-status");
const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

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
    finish(search_frames(&context, request).await)
}

async fn search_frames(context: &Context, request: Request) -> Result<Vec<u8>, TraceError> {
    let asked: wire::SearchRequest = message(request).await?;
    let query = match (asked.query.is_empty(), asked.tags.is_empty()) {
        (false, false) => return Err(TraceError::Bad("query and tags exclude each other".to_owned())),
        (true, false) => query_of_tags(&asked.tags.into_iter().collect::<Vec<_>>())?,
        (_, true) => parse(&asked.query)?,
    };
    let ms = |ms: u32| (ms > 0).then_some(i64::from(ms) * 1_000_000);
    let or = |number: u32, default: u64| size(if number == 0 { default } else { u64::from(number) });
    let request = checked(SearchRequest {
        query,
        range: range(asked.start, asked.end)?,
        duration: (ms(asked.min_duration_ms), ms(asked.max_duration_ms)),
        limit: or(asked.limit, LIMIT),
        spans_per_set: or(asked.spans_per_span_set, SPANS_PER_SET),
    })?;
    let answer = search::answer(context, request).await?;
    let mut frames = Vec::new();
    for traces in cut(answer.traces) {
        frame(&mut frames, &wire::SearchResponse { traces, metrics: answer.metrics });
    }
    Ok(frames)
}

async fn metrics_range(State(context): State<Context>, request: Request) -> Response {
    finish(metrics_range_frames(&context, request).await)
}

async fn metrics_range_frames(context: &Context, request: Request) -> Result<Vec<u8>, TraceError> {
    let answer = metrics::range_answer(context, asked_metrics(request).await?).await?;
    let mut frames = Vec::new();
    for series in cut(answer.series) {
        frame(&mut frames, &wire::QueryRangeResponse { series, metrics: answer.metrics });
    }
    Ok(frames)
}

async fn metrics_instant(State(context): State<Context>, request: Request) -> Response {
    finish(metrics_instant_frames(&context, request).await)
}

async fn metrics_instant_frames(context: &Context, request: Request) -> Result<Vec<u8>, TraceError> {
    let answer = metrics::instant_answer(context, asked_metrics(request).await?).await?;
    Ok(one_frame(&answer))
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
    let answer = async { Ok(one_frame(&tags::names_v1_answer(&context, asked_names(request).await?).await?)) };
    finish(answer.await)
}

async fn tag_names_v2(State(context): State<Context>, request: Request) -> Response {
    let answer = async { Ok(one_frame(&tags::names_v2_answer(&context, asked_names(request).await?).await?)) };
    finish(answer.await)
}

async fn tag_values_v1(State(context): State<Context>, request: Request) -> Response {
    let answer = async {
        let (tag, asked) = asked_values(request).await?;
        Ok(one_frame(&tags::values_v1_answer(&context, &tag, asked).await?))
    };
    finish(answer.await)
}

async fn tag_values_v2(State(context): State<Context>, request: Request) -> Response {
    let answer = async {
        let (tag, asked) = asked_values(request).await?;
        Ok(one_frame(&tags::values_v2_answer(&context, &tag, asked).await?))
    };
    finish(answer.await)
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

/// The one message of a request: a flag, its length in four bytes, itself.
async fn message<M: wire::Decode>(request: Request) -> Result<M, TraceError> {
    let body = to_bytes(request.into_body(), REQUEST_BYTES_MAX).await;
    let body = body.map_err(|_| TraceError::TooLarge(REQUEST_BYTES_MAX))?;
    let Some((head, rest)) = body.split_first_chunk::<5>() else {
        return Err(TraceError::Bad("the request has no message".to_owned()));
    };
    let [compressed, length @ ..] = *head;
    if compressed != 0 {
        return Err(TraceError::Bad("compressed messages are not supported".to_owned()));
    }
    let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
    let Some(bytes) = rest.get(..length) else {
        return Err(TraceError::Bad("the message is cut off".to_owned()));
    };
    wire::decode(bytes).map_err(|error| TraceError::Bad(format!("the message is no protobuf: {error}")))
}

fn one_frame(message: &impl wire::Encode) -> Vec<u8> {
    let mut frames = Vec::new();
    frame(&mut frames, message);
    frames
}

fn frame(frames: &mut Vec<u8>, message: &impl wire::Encode) {
    let bytes = wire::encode(message);
    frames.push(0);
    frames.extend(u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes());
    frames.extend(bytes);
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

fn finish(result: Result<Vec<u8>, TraceError>) -> Response {
    let mut response = match result {
        Ok(frames) => {
            let mut trailers = HeaderMap::new();
            trailers.insert(STATUS, HeaderValue::from_static("0"));
            let trailers = async move { Some(Ok::<_, Infallible>(trailers)) };
            Response::new(Body::new(Full::new(Bytes::from(frames)).with_trailers(trailers)))
        }
        Err(problem) => {
            log(&problem);
            let mut response = Response::new(Body::empty());
            response.headers_mut().insert(STATUS, HeaderValue::from_static(code(problem.class())));
            response.headers_mut().insert(MESSAGE, escaped(&problem.to_string()));
            response
        }
    };
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}

/// The gRPC status of a class.
fn code(class: ErrorClass) -> &'static str {
    match class {
        ErrorClass::Canceled => "1",
        ErrorClass::BadData => "3",
        ErrorClass::Timeout => "4",
        ErrorClass::NotFound => "5",
        ErrorClass::TooLarge | ErrorClass::Execution | ErrorClass::Throttled => "8",
        ErrorClass::Internal => "13",
        ErrorClass::Unavailable => "14",
    }
}

/// Percent-encoded, as the message of a status must be.
fn escaped(text: &str) -> HeaderValue {
    let mut out = String::new();
    for byte in text.bytes().take(4_096) {
        match byte {
            b' '..=b'~' if byte != b'%' => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    HeaderValue::from_str(&out).unwrap_or_else(|_| HeaderValue::from_static("error"))
}
