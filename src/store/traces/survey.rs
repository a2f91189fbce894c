//! One look at a span before it is stored: how large it is, how deep, and a hash of its content.

use std::hash::{BuildHasher, Hasher};
use std::mem::size_of;
use std::sync::Arc;

use ahash::{AHashMap, AHasher, RandomState};

use super::spanset::DEPTH_MAX;
use crate::model::span::{AttrValue, Attrs, Resource, Scope, Span, SpanEvent, SpanLink};

/// Values are nested more deeply than is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooDeep;

/// What tells a span from others of the same ids: the span id and a hash of all its content. The
/// hash is this process's own and never written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct SpanKey {
    /// The span's id.
    pub(super) id: u64,
    /// Hash of trace id and content.
    pub(super) hash: u64,
}

/// What the look found.
#[derive(Clone, Copy, Debug)]
pub(super) struct Survey {
    /// Who it is.
    pub(super) key: SpanKey,
    /// Memory it takes, in bytes; what it shares with spans surveyed before is not counted again.
    pub(super) memory: usize,
}

/// Looks at spans that follow each other.
pub(super) struct Surveyor<'r> {
    hashes: &'r RandomState,
    /// By address; the clone keeps the address taken.
    resources: AHashMap<usize, (Arc<Resource>, Summary)>,
    scopes: AHashMap<usize, (Arc<Scope>, Summary)>,
}

#[derive(Clone, Copy)]
struct Summary {
    hash: u64,
    memory: usize,
}

struct Look {
    hasher: AHasher,
    memory: usize,
}

impl<'r> Surveyor<'r> {
    /// A surveyor whose hashes are those of `hashes`.
    pub(super) fn new(hashes: &'r RandomState) -> Self {
        Self { hashes, resources: AHashMap::new(), scopes: AHashMap::new() }
    }

    /// Looks at `span`.
    ///
    /// # Errors
    /// [`TooDeep`].
    pub(super) fn survey(&mut self, span: &Span) -> Result<Survey, TooDeep> {
        let mut look = self.look();
        look.memory += size_of::<Span>();
        look.hasher.write(&span.trace_id.0);
        look.hasher.write(&span.parent_id.0);
        look.hasher.write_i64(span.start);
        look.hasher.write_i64(span.end);
        look.hasher.write_u16(u16::from_le_bytes([span.kind.number(), span.status.number()]));
        look.hasher.write_u32(span.flags);
        look.hasher.write_u32(span.dropped_attrs);
        look.hasher.write_u32(span.dropped_events);
        look.hasher.write_u32(span.dropped_links);
        look.bytes(span.name.as_bytes());
        look.bytes(span.trace_state.as_bytes());
        look.bytes(span.status_message.as_bytes());
        look.attrs(&span.attrs, 0)?;
        look.hasher.write_usize(span.events.len());
        span.events.iter().try_for_each(|event| look.event(event))?;
        look.hasher.write_usize(span.links.len());
        span.links.iter().try_for_each(|link| look.link(link))?;
        self.resource(&mut look, &span.resource)?;
        self.scope(&mut look, &span.scope)?;
        let key = SpanKey { id: u64::from_le_bytes(span.span_id.0), hash: look.hasher.finish() };
        Ok(Survey { key, memory: look.memory })
    }

    fn look(&self) -> Look {
        Look { hasher: self.hashes.build_hasher(), memory: 0 }
    }

    fn resource(&mut self, into: &mut Look, resource: &Arc<Resource>) -> Result<(), TooDeep> {
        let address = Arc::as_ptr(resource) as usize;
        if let Some((_, summary)) = self.resources.get(&address) {
            into.hasher.write_u64(summary.hash);
            return Ok(());
        }
        let mut look = self.look();
        look.memory += size_of::<Resource>();
        look.attrs(&resource.attrs, 0)?;
        look.hasher.write_u32(resource.dropped_attrs);
        look.bytes(resource.schema_url.as_bytes());
        let summary = look.summary();
        self.resources.insert(address, (resource.clone(), summary));
        into.shared(summary);
        Ok(())
    }

    fn scope(&mut self, into: &mut Look, scope: &Arc<Scope>) -> Result<(), TooDeep> {
        let address = Arc::as_ptr(scope) as usize;
        if let Some((_, summary)) = self.scopes.get(&address) {
            into.hasher.write_u64(summary.hash);
            return Ok(());
        }
        let mut look = self.look();
        look.memory += size_of::<Scope>();
        look.bytes(scope.name.as_bytes());
        look.bytes(scope.version.as_bytes());
        look.attrs(&scope.attrs, 0)?;
        look.hasher.write_u32(scope.dropped_attrs);
        look.bytes(scope.schema_url.as_bytes());
        let summary = look.summary();
        self.scopes.insert(address, (scope.clone(), summary));
        into.shared(summary);
        Ok(())
    }
}

impl Look {
    fn summary(self) -> Summary {
        Summary { hash: self.hasher.finish(), memory: self.memory }
    }

    fn shared(&mut self, summary: Summary) {
        self.hasher.write_u64(summary.hash);
        self.memory += summary.memory;
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.hasher.write_usize(bytes.len());
        self.hasher.write(bytes);
        self.memory += bytes.len();
    }

    fn event(&mut self, event: &SpanEvent) -> Result<(), TooDeep> {
        self.memory += size_of::<SpanEvent>();
        self.hasher.write_i64(event.t);
        self.hasher.write_u32(event.dropped_attrs);
        self.bytes(event.name.as_bytes());
        self.attrs(&event.attrs, 0)
    }

    fn link(&mut self, link: &SpanLink) -> Result<(), TooDeep> {
        self.memory += size_of::<SpanLink>();
        self.hasher.write(&link.trace_id.0);
        self.hasher.write(&link.span_id.0);
        self.hasher.write_u32(link.dropped_attrs);
        self.hasher.write_u32(link.flags);
        self.bytes(link.trace_state.as_bytes());
        self.attrs(&link.attrs, 0)
    }

    fn attrs(&mut self, attrs: &Attrs, depth: usize) -> Result<(), TooDeep> {
        self.hasher.write_usize(attrs.len());
        for (name, value) in attrs {
            self.memory += size_of::<(String, AttrValue)>();
            self.bytes(name.as_bytes());
            self.value(value, depth)?;
        }
        Ok(())
    }

    fn value(&mut self, value: &AttrValue, depth: usize) -> Result<(), TooDeep> {
        match value {
            AttrValue::Empty => self.hasher.write_u8(0),
            AttrValue::Str(text) => {
                self.hasher.write_u8(1);
                self.bytes(text.as_bytes());
            }
            AttrValue::Int(int) => {
                self.hasher.write_u8(2);
                self.hasher.write_i64(*int);
            }
            AttrValue::Double(double) => {
                self.hasher.write_u8(3);
                self.hasher.write_u64(double.to_bits());
            }
            AttrValue::Bool(bool) => self.hasher.write_u8(4 + u8::from(*bool)),
            AttrValue::Bytes(bytes) => {
                self.hasher.write_u8(6);
                self.bytes(bytes);
            }
            AttrValue::Array(_) | AttrValue::Map(_) if depth >= DEPTH_MAX => return Err(TooDeep),
            AttrValue::Array(values) => {
                self.hasher.write_u8(7);
                self.hasher.write_usize(values.len());
                self.memory += values.len() * size_of::<AttrValue>();
                values.iter().try_for_each(|value| self.value(value, depth + 1))?;
            }
            AttrValue::Map(attrs) => {
                self.hasher.write_u8(8);
                self.attrs(attrs, depth + 1)?;
            }
        }
        Ok(())
    }
}
