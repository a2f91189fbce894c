//! Spans to bytes.

use ahash::AHashMap;

use super::format::{Owner, Type, VERSION, column, extra};
use super::value::{put_body, put_resource, put_scope, type_of};

use crate::model::span::{AttrValue, Attrs, Resource, Scope, Span, SpanEvent, SpanId, SpanLink};
use crate::store::codec::{put_bytes, put_signed, put_str, put_varint};

/// Traces of more spans than this find parents by a map.
const LINEAR_MAX: usize = 24;

/// Strings of one column: each is written once, in the order met; a reference is 0 for the next
/// new one, else the string's number plus one.
#[derive(Default)]
struct Strings<'a> {
    numbers: AHashMap<&'a str, u64>,
    dictionary: Vec<u8>,
}

impl<'a> Strings<'a> {
    fn put(&mut self, text: &'a str, refs: &mut Vec<u8>) {
        let next = self.numbers.len() as u64;
        match self.numbers.entry(text) {
            std::collections::hash_map::Entry::Occupied(known) => put_varint(refs, known.get() + 1),
            std::collections::hash_map::Entry::Vacant(new) => {
                new.insert(next);
                put_str(&mut self.dictionary, text);
                refs.push(0);
            }
        }
    }

    fn finish(&self, out: &mut Vec<u8>) {
        put_varint(out, self.numbers.len() as u64);
        out.extend_from_slice(&self.dictionary);
    }
}

struct Column<'a> {
    owner: Owner,
    kind: Type,
    key: &'a str,
    strings: Strings<'a>,
    values: Vec<u8>,
}

/// Things shared by spans, each written once: found by address, then by content.
#[derive(Default)]
struct Shared {
    by_address: AHashMap<usize, u64>,
    by_content: AHashMap<Vec<u8>, u64>,
    all: Vec<u8>,
}

impl Shared {
    fn number(&mut self, address: usize, write: impl FnOnce(&mut Vec<u8>)) -> u64 {
        if let Some(number) = self.by_address.get(&address) {
            return *number;
        }
        let mut content = Vec::new();
        write(&mut content);
        let next = self.by_content.len() as u64;
        let number = match self.by_content.get(&content) {
            Some(number) => *number,
            None => {
                put_bytes(&mut self.all, &content);
                self.by_content.insert(content, next);
                next
            }
        };
        self.by_address.insert(address, number);
        number
    }

    fn finish(&self, out: &mut Vec<u8>) {
        put_varint(out, self.by_content.len() as u64);
        out.extend_from_slice(&self.all);
    }
}

#[derive(Default)]
struct Encoder<'a> {
    groups: Vec<u8>,
    group_count: u64,
    resources: Shared,
    scopes: Shared,
    names: Strings<'a>,
    name_refs: Vec<u8>,
    event_names: Strings<'a>,
    columns: Vec<Column<'a>>,
    column_numbers: AHashMap<(Owner, Type, &'a str), u32>,
    shapes: AHashMap<Vec<u32>, u64>,
    shape_bytes: Vec<u8>,
    shape: Vec<u32>,
    fixed: [Vec<u8>; column::COUNT],
    last_start: i64,
}

/// Writes spans; those of one trace should follow each other.
pub(in crate::store::traces) fn encode(spans: &[&Span]) -> Vec<u8> {
    let mut encoder = Encoder::default();
    for group in spans.chunk_by(|left, right| left.trace_id == right.trace_id) {
        encoder.group(group);
    }
    encoder.finish(spans.len())
}

impl<'a> Encoder<'a> {
    fn group(&mut self, group: &[&'a Span]) {
        let Some(first) = group.first() else { return };
        self.group_count += 1;
        self.groups.extend_from_slice(&first.trace_id.0);
        put_varint(&mut self.groups, group.len() as u64);
        let map: AHashMap<SpanId, u64> = if group.len() > LINEAR_MAX {
            group.iter().enumerate().rev().map(|(at, span)| (span.span_id, at as u64)).collect()
        } else {
            AHashMap::new()
        };
        for span in group {
            let parent = span.parent_id;
            let place = if parent.is_none() {
                None
            } else if group.len() > LINEAR_MAX {
                map.get(&parent).copied()
            } else {
                group.iter().position(|other| other.span_id == parent).map(|at| at as u64)
            };
            self.span(span, place);
        }
    }

    fn fixed(&mut self, number: usize) -> &mut Vec<u8> {
        // The numbers are the constants of `column`, all below the array's length.
        &mut self.fixed[number]
    }

    fn span(&mut self, span: &'a Span, parent_place: Option<u64>) {
        self.fixed(column::IDS).extend_from_slice(&span.span_id.0);
        match parent_place {
            _ if span.parent_id.is_none() => self.fixed(column::PARENTS).push(0),
            Some(place) => put_varint(self.fixed(column::PARENTS), place + 2),
            None => {
                self.fixed(column::PARENTS).push(1);
                self.fixed(column::PARENT_IDS).extend_from_slice(&span.parent_id.0);
            }
        }
        let since = span.start.wrapping_sub(self.last_start);
        self.last_start = span.start;
        put_signed(self.fixed(column::STARTS), since);
        put_signed(self.fixed(column::DURATIONS), span.end.wrapping_sub(span.start));
        self.names.put(&span.name, &mut self.name_refs);
        self.fixed(column::KINDS).push(span.kind.number() | span.status.number() << 4);
        let resource: &Resource = &span.resource;
        let number = self.resources.number(std::ptr::from_ref(resource) as usize, |out| put_resource(out, resource));
        put_varint(self.fixed(column::RESOURCES), number);
        let scope: &Scope = &span.scope;
        let number = self.scopes.number(std::ptr::from_ref(scope) as usize, |out| put_scope(out, scope));
        put_varint(self.fixed(column::SCOPES), number);
        let shape = self.attrs(Owner::Span, &span.attrs);
        put_varint(self.fixed(column::SHAPES), shape);
        self.extras(span);
    }

    fn extras(&mut self, span: &'a Span) {
        let dropped = span.dropped_attrs != 0 || span.dropped_events != 0 || span.dropped_links != 0;
        let mut bits = 0;
        let rare = self.fixed(column::RARE);
        if !span.trace_state.is_empty() {
            bits |= extra::TRACE_STATE;
            put_str(rare, &span.trace_state);
        }
        if span.flags != 0 {
            bits |= extra::FLAGS;
            put_varint(rare, u64::from(span.flags));
        }
        if !span.status_message.is_empty() {
            bits |= extra::STATUS_MESSAGE;
            put_str(rare, &span.status_message);
        }
        if dropped {
            bits |= extra::DROPPED;
            put_varint(rare, u64::from(span.dropped_attrs));
            put_varint(rare, u64::from(span.dropped_events));
            put_varint(rare, u64::from(span.dropped_links));
        }
        if !span.events.is_empty() {
            bits |= extra::EVENTS;
            put_varint(self.fixed(column::EVENTS), span.events.len() as u64);
            span.events.iter().for_each(|event| self.event(event, span.start));
        }
        if !span.links.is_empty() {
            bits |= extra::LINKS;
            put_varint(self.fixed(column::LINKS), span.links.len() as u64);
            span.links.iter().for_each(|link| self.link(link));
        }
        self.fixed(column::EXTRAS).push(bits);
    }

    fn event(&mut self, event: &'a SpanEvent, start: i64) {
        let shape = self.attrs(Owner::Event, &event.attrs);
        let mut out = std::mem::take(self.fixed(column::EVENTS));
        put_signed(&mut out, event.t.wrapping_sub(start));
        self.event_names.put(&event.name, &mut out);
        put_varint(&mut out, u64::from(event.dropped_attrs));
        put_varint(&mut out, shape);
        *self.fixed(column::EVENTS) = out;
    }

    fn link(&mut self, link: &'a SpanLink) {
        let shape = self.attrs(Owner::Link, &link.attrs);
        let out = self.fixed(column::LINKS);
        out.extend_from_slice(&link.trace_id.0);
        out.extend_from_slice(&link.span_id.0);
        put_str(out, &link.trace_state);
        put_varint(out, u64::from(link.dropped_attrs));
        put_varint(out, u64::from(link.flags));
        put_varint(out, shape);
    }

    /// Writes the values to their columns; returns the number of the list's shape.
    fn attrs(&mut self, owner: Owner, attrs: &'a Attrs) -> u64 {
        let mut shape = std::mem::take(&mut self.shape);
        shape.clear();
        for (key, value) in attrs {
            shape.push(self.attr(owner, key, value));
        }
        let next = self.shapes.len() as u64;
        let number = match self.shapes.get(&shape) {
            Some(number) => *number,
            None => {
                put_varint(&mut self.shape_bytes, shape.len() as u64);
                shape.iter().for_each(|column| put_varint(&mut self.shape_bytes, u64::from(*column)));
                self.shapes.insert(shape.clone(), next);
                next
            }
        };
        self.shape = shape;
        number
    }

    fn attr(&mut self, owner: Owner, key: &'a str, value: &'a AttrValue) -> u32 {
        let kind = type_of(value);
        let next = self.columns.len() as u32;
        let number = *self.column_numbers.entry((owner, kind, key)).or_insert(next);
        if number == next {
            self.columns.push(Column { owner, kind, key, strings: Strings::default(), values: Vec::new() });
        }
        let column = &mut self.columns[number as usize];
        match value {
            // A byte for nothing, so that memory when reading stays in proportion to the input.
            AttrValue::Empty => column.values.push(0),
            AttrValue::Str(text) => column.strings.put(text, &mut column.values),
            AttrValue::Array(_) | AttrValue::Map(_) => {
                let mut body = Vec::new();
                put_body(&mut body, value);
                put_bytes(&mut column.values, &body);
            }
            AttrValue::Int(_) | AttrValue::Double(_) | AttrValue::Bool(_) | AttrValue::Bytes(_) => {
                put_body(&mut column.values, value);
            }
        }
        number
    }

    fn finish(self, spans: usize) -> Vec<u8> {
        let mut out = vec![VERSION];
        put_varint(&mut out, spans as u64);
        put_varint(&mut out, self.group_count);
        out.extend_from_slice(&self.groups);
        self.resources.finish(&mut out);
        self.scopes.finish(&mut out);
        self.names.finish(&mut out);
        put_bytes(&mut out, &self.name_refs);
        self.event_names.finish(&mut out);
        put_varint(&mut out, self.columns.len() as u64);
        for column in &self.columns {
            out.push((column.owner as u8) << 4 | column.kind as u8);
            put_str(&mut out, column.key);
            if column.kind == Type::Str {
                column.strings.finish(&mut out);
            }
            put_bytes(&mut out, &column.values);
        }
        put_varint(&mut out, self.shapes.len() as u64);
        out.extend_from_slice(&self.shape_bytes);
        self.fixed.iter().for_each(|fixed| put_bytes(&mut out, fixed));
        out
    }
}
