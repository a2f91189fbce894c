//! Spans as OpenTelemetry defines them (opentelemetry-proto, trace/v1).

use std::sync::Arc;

/// Sixteen bytes that name a trace; never all zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TraceId(pub [u8; 16]);

/// Eight bytes that name a span within its trace; all zero means "none".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpanId(pub [u8; 8]);

impl SpanId {
    /// Whether this names no span.
    pub fn is_none(self) -> bool {
        self.0 == [0; 8]
    }
}

/// 32 lower-case hex digits.
impl std::fmt::Display for TraceId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// 16 lower-case hex digits.
impl std::fmt::Display for SpanId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// An attribute's value.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum AttrValue {
    /// No value was sent.
    #[default]
    Empty,
    /// A string.
    Str(String),
    /// A 64-bit integer.
    Int(i64),
    /// A double.
    Double(f64),
    /// A boolean.
    Bool(bool),
    /// Bytes.
    Bytes(Vec<u8>),
    /// A list.
    Array(Vec<AttrValue>),
    /// A map, in the order sent.
    Map(Attrs),
}

impl AttrValue {
    /// Bytes of memory beside the value itself. Values nest no deeper than receivers and the store allow.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Empty | Self::Int(_) | Self::Double(_) | Self::Bool(_) => 0,
            Self::Str(text) => text.capacity(),
            Self::Bytes(bytes) => bytes.capacity(),
            Self::Array(values) => {
                values.capacity() * size_of::<Self>() + values.iter().map(Self::bytes).sum::<usize>()
            }
            Self::Map(attrs) => attrs_bytes(attrs),
        }
    }
}

/// Bytes of memory that attributes take.
pub fn attrs_bytes(attrs: &Attrs) -> usize {
    let texts: usize = attrs.iter().map(|(name, value)| name.capacity() + value.bytes()).sum();
    attrs.capacity() * size_of::<(String, AttrValue)>() + texts
}

/// Bytes of memory that spans take, with what they share; neighbours share most.
pub fn spans_bytes(spans: &[Span]) -> usize {
    let mut last: Option<&Span> = None;
    let mut bytes = 0;
    for span in spans {
        bytes += size_of::<Span>() + span.heap_bytes();
        if !last.is_some_and(|last| Arc::ptr_eq(&last.resource, &span.resource)) {
            bytes += attrs_bytes(&span.resource.attrs) + span.resource.schema_url.capacity();
        }
        if !last.is_some_and(|last| Arc::ptr_eq(&last.scope, &span.scope)) {
            let scope = &span.scope;
            bytes += attrs_bytes(&scope.attrs) + scope.name.capacity() + scope.version.capacity();
        }
        last = Some(span);
    }
    bytes
}

/// Attributes in the order sent.
pub type Attrs = Vec<(String, AttrValue)>;

/// Finds an attribute by name.
pub fn attr<'a>(attrs: &'a Attrs, name: &str) -> Option<&'a AttrValue> {
    attrs.iter().find(|(own, _)| own == name).map(|(_, value)| value)
}

/// What kind of work a span is; numbers are OTLP's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum SpanKind {
    /// 0: not said.
    #[default]
    Unspecified,
    /// 1: inside a service.
    Internal,
    /// 2: serves a request.
    Server,
    /// 3: makes a request.
    Client,
    /// 4: sends a message.
    Producer,
    /// 5: receives a message.
    Consumer,
}

impl SpanKind {
    /// OTLP's number for it.
    pub fn number(self) -> u8 {
        self as u8
    }

    /// The kind of OTLP's number; unknown numbers are `Unspecified`.
    pub fn from_number(number: i64) -> Self {
        match number {
            1 => Self::Internal,
            2 => Self::Server,
            3 => Self::Client,
            4 => Self::Producer,
            5 => Self::Consumer,
            _ => Self::Unspecified,
        }
    }

    /// Lower-case name, as TraceQL writes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unspecified => "unspecified",
            Self::Internal => "internal",
            Self::Server => "server",
            Self::Client => "client",
            Self::Producer => "producer",
            Self::Consumer => "consumer",
        }
    }
}

/// How a span ended; numbers are OTLP's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum StatusCode {
    /// 0: not said.
    #[default]
    Unset,
    /// 1: good.
    Ok,
    /// 2: failed.
    Error,
}

impl StatusCode {
    /// OTLP's number for it.
    pub fn number(self) -> u8 {
        self as u8
    }

    /// The status of OTLP's number; unknown numbers are `Unset`.
    pub fn from_number(number: i64) -> Self {
        match number {
            1 => Self::Ok,
            2 => Self::Error,
            _ => Self::Unset,
        }
    }

    /// Lower-case name, as TraceQL writes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unset => "unset",
            Self::Ok => "ok",
            Self::Error => "error",
        }
    }
}

/// What sent the spans; shared by all spans of a message.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Resource {
    /// Its attributes.
    pub attrs: Attrs,
    /// Attributes that the sender left out.
    pub dropped_attrs: u32,
    /// Schema of the attributes.
    pub schema_url: String,
}

impl Resource {
    /// `service.name`, or `unknown_service` as the OpenTelemetry specification says.
    pub fn service_name(&self) -> &str {
        match attr(&self.attrs, "service.name") {
            Some(AttrValue::Str(name)) if !name.is_empty() => name,
            _ => "unknown_service",
        }
    }
}

/// The instrumentation that made the spans; shared by all spans of a message.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scope {
    /// Name of the library.
    pub name: String,
    /// Version of the library.
    pub version: String,
    /// Its attributes.
    pub attrs: Attrs,
    /// Attributes that the sender left out.
    pub dropped_attrs: u32,
    /// Schema of the attributes.
    pub schema_url: String,
}

/// Something that happened at a time within a span.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SpanEvent {
    /// Nanoseconds since the Unix epoch.
    pub t: i64,
    /// What happened.
    pub name: String,
    /// Its attributes.
    pub attrs: Attrs,
    /// Attributes that the sender left out.
    pub dropped_attrs: u32,
}

/// A pointer to another span.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SpanLink {
    /// The trace pointed to.
    pub trace_id: TraceId,
    /// The span pointed to.
    pub span_id: SpanId,
    /// W3C trace state.
    pub trace_state: String,
    /// Its attributes.
    pub attrs: Attrs,
    /// Attributes that the sender left out.
    pub dropped_attrs: u32,
    /// W3C trace flags.
    pub flags: u32,
}

/// One span. Times are nanoseconds since the Unix epoch.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Span {
    /// Its trace.
    pub trace_id: TraceId,
    /// Itself.
    pub span_id: SpanId,
    /// The span that caused it; none for a root.
    pub parent_id: SpanId,
    /// W3C trace state.
    pub trace_state: String,
    /// W3C trace flags.
    pub flags: u32,
    /// Operation name.
    pub name: String,
    /// Kind of work.
    pub kind: SpanKind,
    /// When it began.
    pub start: i64,
    /// When it ended; not before `start` in a sane span.
    pub end: i64,
    /// How it ended.
    pub status: StatusCode,
    /// Why, for an error.
    pub status_message: String,
    /// Its attributes.
    pub attrs: Attrs,
    /// Attributes that the sender left out.
    pub dropped_attrs: u32,
    /// What happened within it.
    pub events: Vec<SpanEvent>,
    /// Events that the sender left out.
    pub dropped_events: u32,
    /// Other spans it points to.
    pub links: Vec<SpanLink>,
    /// Links that the sender left out.
    pub dropped_links: u32,
    /// What sent it.
    pub resource: Arc<Resource>,
    /// What made it.
    pub scope: Arc<Scope>,
}

impl Span {
    /// Bytes of memory beside the span itself, without what it shares with others.
    pub fn heap_bytes(&self) -> usize {
        let events = self.events.iter().map(|event| event.name.capacity() + attrs_bytes(&event.attrs));
        let links = self.links.iter().map(|link| link.trace_state.capacity() + attrs_bytes(&link.attrs));
        attrs_bytes(&self.attrs)
            + self.name.capacity()
            + self.status_message.capacity()
            + self.trace_state.capacity()
            + self.events.capacity() * size_of::<SpanEvent>()
            + self.links.capacity() * size_of::<SpanLink>()
            + events.chain(links).sum::<usize>()
    }

    /// Nanoseconds from start to end; 0 when it ended before it began.
    pub fn duration_ns(&self) -> i64 {
        self.end.saturating_sub(self.start).max(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_counted_by_byte_and_what_spans_share_once() {
        let text = || AttrValue::Str("x".repeat(1_000));
        let attrs: Attrs =
            vec![("a".to_owned(), AttrValue::Array(vec![text(), AttrValue::Map(vec![("b".to_owned(), text())])]))];
        let resource = Arc::new(Resource { attrs: attrs.clone(), ..Resource::default() });
        let event = SpanEvent { attrs: attrs.clone(), ..SpanEvent::default() };
        let span = Span { attrs, events: vec![event], resource, ..Span::default() };
        let (one, ten) = (spans_bytes(std::slice::from_ref(&span)), spans_bytes(&vec![span.clone(); 10]));
        assert!(one > 6_000 + size_of::<Span>() && one < 9_000, "{one}");
        assert!(ten > 10 * (4_000 + size_of::<Span>()) && ten < 10 * one - 9 * 2_000, "{ten}");
    }
}
