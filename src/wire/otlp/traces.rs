//! Spans of OTLP to spans of the model. A span with a wrong id or too many attributes is refused by
//! itself, the others of the body are taken.

use std::sync::Arc;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::InstrumentationScope;
use opentelemetry_proto::tonic::trace::v1 as trace;

use super::attrs::{time, to_model};
use crate::model::batch::TracesBatch;
use crate::model::span::{Resource, Scope, Span, SpanEvent, SpanId, SpanKind, SpanLink, StatusCode, TraceId};
use crate::wire::Decoded;
use crate::wire::error::cut;
use crate::wire::label_check::Refusal;
use crate::wire::limits::Options;

/// Makes a batch of a request.
pub(super) fn convert(request: ExportTraceServiceRequest, options: &Options) -> Decoded<TracesBatch> {
    let mut decoded = Decoded::<TracesBatch>::default();
    for resource_spans in request.resource_spans {
        let resource = resource_spans.resource.unwrap_or_default();
        let resource_attributes = resource.attributes.len();
        let resource = Arc::new(Resource {
            attrs: to_model(resource.attributes),
            dropped_attrs: resource.dropped_attributes_count,
            schema_url: resource_spans.schema_url,
        });
        for scope_spans in resource_spans.scope_spans {
            let scope = Arc::new(scope(scope_spans.scope.unwrap_or_default(), scope_spans.schema_url));
            let attributes = resource_attributes.max(scope.attrs.len());
            for sent in scope_spans.spans {
                match span(sent, attributes, options) {
                    Ok(span) => {
                        let (resource, scope) = (resource.clone(), scope.clone());
                        decoded.batch.spans.push(Span { resource, scope, ..span });
                    }
                    Err(refusal) => refusal.count(&mut decoded.rejected, 1),
                }
            }
        }
    }
    decoded
}

fn scope(sent: InstrumentationScope, schema_url: String) -> Scope {
    Scope {
        name: sent.name,
        version: sent.version,
        attrs: to_model(sent.attributes),
        dropped_attrs: sent.dropped_attributes_count,
        schema_url,
    }
}

fn span(sent: trace::Span, shared_attributes: usize, options: &Options) -> Result<Span, Refusal> {
    let name = cut(&sent.name);
    let refuse = |what: &str| Refusal::new("invalid_id", format!("span {name:?} has {what}"));
    let trace_id = trace_id(&sent.trace_id).ok_or_else(|| refuse("a trace id that is not 16 bytes, not all zero"))?;
    let span_id = span_id(&sent.span_id).ok_or_else(|| refuse("a span id that is not 8 bytes, not all zero"))?;
    let parent_id = match sent.parent_span_id.as_slice() {
        [] => SpanId::default(),
        bytes => SpanId(bytes.try_into().map_err(|_| refuse("a parent id that is not 8 bytes"))?),
    };
    let most =
        sent.events.iter().map(|event| event.attributes.len()).chain(sent.links.iter().map(|l| l.attributes.len()));
    let most = most.max().unwrap_or_default().max(sent.attributes.len()).max(shared_attributes);
    if most > options.attributes_max {
        let text = format!("span {name:?} has {most} attributes, over the limit of {}", options.attributes_max);
        return Err(Refusal::new("too_many_attributes", text));
    }
    let status = sent.status.unwrap_or_default();
    let links = sent.links.len();
    let kept: Vec<SpanLink> = sent.links.into_iter().filter_map(link).collect();
    Ok(Span {
        trace_id,
        span_id,
        parent_id,
        trace_state: sent.trace_state,
        flags: sent.flags,
        name: sent.name,
        kind: SpanKind::from_number(i64::from(sent.kind)),
        start: time(sent.start_time_unix_nano),
        end: time(sent.end_time_unix_nano),
        status: StatusCode::from_number(i64::from(status.code)),
        status_message: status.message,
        attrs: to_model(sent.attributes),
        dropped_attrs: sent.dropped_attributes_count,
        events: sent.events.into_iter().map(event).collect(),
        dropped_events: sent.dropped_events_count,
        // A link that points nowhere counts among those left out.
        dropped_links: sent.dropped_links_count.saturating_add(u32::try_from(links - kept.len()).unwrap_or(u32::MAX)),
        links: kept,
        ..Span::default()
    })
}

fn trace_id(bytes: &[u8]) -> Option<TraceId> {
    let id: [u8; 16] = bytes.try_into().ok()?;
    (id != [0; 16]).then_some(TraceId(id))
}

fn span_id(bytes: &[u8]) -> Option<SpanId> {
    let id = SpanId(bytes.try_into().ok()?);
    (!id.is_none()).then_some(id)
}

fn event(sent: trace::span::Event) -> SpanEvent {
    SpanEvent {
        t: time(sent.time_unix_nano),
        name: sent.name,
        attrs: to_model(sent.attributes),
        dropped_attrs: sent.dropped_attributes_count,
    }
}

fn link(sent: trace::span::Link) -> Option<SpanLink> {
    Some(SpanLink {
        trace_id: trace_id(&sent.trace_id)?,
        span_id: span_id(&sent.span_id)?,
        trace_state: sent.trace_state,
        attrs: to_model(sent.attributes),
        dropped_attrs: sent.dropped_attributes_count,
        flags: sent.flags,
    })
}
