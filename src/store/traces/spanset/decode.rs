//! Bytes to spans, to the few fields that planning needs, or to what a column holds.

use std::mem::size_of;
use std::sync::Arc;

use super::value::{memory_of, read_body, read_bool, read_resource, read_scope, read_u32};
use super::{DecodeError, Owner, Type, VERSION, column, extra};
use crate::base::limits::QueryBudget;
use crate::model::span::{AttrValue, Attrs, Resource, Scope, Span, SpanEvent, SpanId, SpanKind, SpanLink};
use crate::model::span::{StatusCode, TraceId};
use crate::store::codec::{Malformed, Reader};

/// A column of attributes.
pub(in crate::store::traces) struct Column<'a> {
    /// Whose attributes.
    pub(in crate::store::traces) owner: Owner,
    /// Their type.
    pub(in crate::store::traces) kind: Type,
    /// Their name.
    pub(in crate::store::traces) key: &'a str,
    /// Distinct strings of a column of strings.
    pub(in crate::store::traces) strings: Vec<&'a str>,
    values: &'a [u8],
}

/// Spans in bytes, checked as far as the outline goes.
pub(in crate::store::traces) struct SpanSet<'a> {
    spans: usize,
    groups: Vec<(TraceId, usize)>,
    resources: Vec<Arc<Resource>>,
    scopes: Vec<Arc<Scope>>,
    names: Vec<&'a str>,
    name_refs: &'a [u8],
    event_names: Vec<&'a str>,
    columns: Vec<Column<'a>>,
    /// Columns of all shapes, one after the other, and where each shape begins.
    shape_columns: Vec<u32>,
    shape_starts: Vec<usize>,
    fixed: [&'a [u8]; column::COUNT],
}

/// What planning needs of a span.
pub(in crate::store::traces) struct Row<'s> {
    /// Its trace.
    pub(in crate::store::traces) trace_id: TraceId,
    /// When it began.
    pub(in crate::store::traces) start: i64,
    /// When it ended.
    pub(in crate::store::traces) end: i64,
    /// Its name.
    pub(in crate::store::traces) name: &'s str,
    /// Kind of work.
    pub(in crate::store::traces) kind: SpanKind,
    /// Place of its resource in [`SpanSet::resources`].
    pub(in crate::store::traces) resource: usize,
}

/// Spans with the memory that was charged for them.
pub(in crate::store::traces) struct Decoded {
    /// The spans.
    pub(in crate::store::traces) spans: Vec<Span>,
    /// Bytes charged; the caller releases them.
    pub(in crate::store::traces) charged: usize,
}

fn read_strings<'a>(reader: &mut Reader<'a>) -> Result<Vec<&'a str>, Malformed> {
    let count = reader.count(reader.rest().len())?;
    (0..count).map(|_| reader.str()).collect()
}

/// The string that the next reference names; `fresh` counts the new ones met.
fn string<'a>(strings: &[&'a str], refs: &mut Reader<'_>, fresh: &mut usize) -> Result<&'a str, Malformed> {
    let place = match refs.varint()? {
        0 => {
            *fresh += 1;
            *fresh - 1
        }
        known => usize::try_from(known - 1).map_err(|_| Malformed("unknown string"))?,
    };
    strings.get(place).copied().ok_or(Malformed("unknown string"))
}

fn place(reader: &mut Reader<'_>, len: usize) -> Result<usize, Malformed> {
    let place = reader.count(len)?;
    if place < len { Ok(place) } else { Err(Malformed("a reference points nowhere")) }
}

fn read_groups(reader: &mut Reader<'_>, spans: usize) -> Result<Vec<(TraceId, usize)>, Malformed> {
    let count = reader.count(spans)?;
    let mut groups = Vec::with_capacity(count);
    let mut left = spans;
    for _ in 0..count {
        let id = TraceId(reader.array()?);
        let len = reader.count(left)?;
        left -= len;
        groups.push((id, len));
    }
    if left == 0 { Ok(groups) } else { Err(Malformed("spans without a trace")) }
}

impl<'a> SpanSet<'a> {
    /// Reads the outline.
    ///
    /// # Errors
    /// [`Malformed`].
    pub(in crate::store::traces) fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes);
        if reader.byte()? != VERSION {
            return Err(Malformed("spans in an unknown version"));
        }
        // A span takes more than eight bytes.
        let spans = reader.count(bytes.len() / 8)?;
        let groups = read_groups(&mut reader, spans)?;
        let resources = read_shared(&mut reader, read_resource)?;
        let scopes = read_shared(&mut reader, read_scope)?;
        let names = read_strings(&mut reader)?;
        let name_refs = reader.bytes()?;
        let event_names = read_strings(&mut reader)?;
        let columns = read_columns(&mut reader)?;
        let (mut shape_columns, mut shape_starts) = (Vec::new(), Vec::new());
        for _ in 0..reader.count(reader.rest().len())? {
            shape_starts.push(shape_columns.len());
            for _ in 0..reader.count(reader.rest().len())? {
                shape_columns.push(place(&mut reader, columns.len())? as u32);
            }
        }
        let mut fixed = [&[][..]; column::COUNT];
        for column in &mut fixed {
            *column = reader.bytes()?;
        }
        if !reader.is_empty() || fixed[column::IDS].len() != spans * 8 {
            return Err(Malformed("spans of another size than said"));
        }
        Ok(Self {
            spans,
            groups,
            resources,
            scopes,
            names,
            name_refs,
            event_names,
            columns,
            shape_columns,
            shape_starts,
            fixed,
        })
    }

    /// How many spans.
    pub(in crate::store::traces) fn len(&self) -> usize {
        self.spans
    }

    /// Traces in the order of their spans, each with how many.
    pub(in crate::store::traces) fn groups(&self) -> &[(TraceId, usize)] {
        &self.groups
    }

    /// Distinct resources.
    pub(in crate::store::traces) fn resources(&self) -> &[Arc<Resource>] {
        &self.resources
    }

    /// Distinct scopes.
    pub(in crate::store::traces) fn scopes(&self) -> &[Arc<Scope>] {
        &self.scopes
    }

    /// Distinct names of spans.
    pub(in crate::store::traces) fn names(&self) -> &[&'a str] {
        &self.names
    }

    /// Attributes of spans, events and links.
    pub(in crate::store::traces) fn columns(&self) -> &[Column<'a>] {
        &self.columns
    }

    fn column(&self, number: usize) -> Reader<'a> {
        Reader::new(self.fixed.get(number).copied().unwrap_or_default())
    }

    /// Hands the few fields of every span to `visit`, in order.
    ///
    /// # Errors
    /// [`Malformed`].
    pub(in crate::store::traces) fn rows(&self, mut visit: impl FnMut(Row<'a>)) -> Result<(), Malformed> {
        let (mut starts, mut durations) = (self.column(column::STARTS), self.column(column::DURATIONS));
        let (mut kinds, mut resources) = (self.column(column::KINDS), self.column(column::RESOURCES));
        let (mut names, mut fresh) = (Reader::new(self.name_refs), 0);
        let mut start = 0i64;
        for (trace_id, len) in &self.groups {
            for _ in 0..*len {
                start = start.wrapping_add(starts.signed()?);
                visit(Row {
                    trace_id: *trace_id,
                    start,
                    end: start.wrapping_add(durations.signed()?),
                    name: string(&self.names, &mut names, &mut fresh)?,
                    kind: SpanKind::from_number(i64::from(kinds.byte()? & 0x0f)),
                    resource: place(&mut resources, self.resources.len())?,
                });
            }
        }
        Ok(())
    }

    /// Decodes the spans that `want` names by their place and trace. Memory is charged to `budget`.
    ///
    /// # Errors
    /// [`DecodeError`]; nothing stays charged then.
    pub(in crate::store::traces) fn spans(
        &self,
        budget: &QueryBudget,
        mut want: impl FnMut(usize, TraceId) -> bool,
    ) -> Result<Decoded, DecodeError> {
        let mut walk = Walk::new(self);
        let mut spans = Vec::new();
        let mut charged = 0;
        let result = walk.all(&mut want, |span, memory| {
            budget.charge(memory)?;
            charged += memory;
            spans.push(span);
            Ok(())
        });
        if let Err(error) = result {
            budget.release(charged);
            return Err(error);
        }
        Ok(Decoded { spans, charged })
    }

    /// The spans that `want` names, for the store's own work.
    ///
    /// # Errors
    /// [`Malformed`].
    pub(in crate::store::traces) fn some_spans(
        &self,
        want: impl FnMut(usize, TraceId) -> bool,
    ) -> Result<Vec<Span>, Malformed> {
        match self.spans(&QueryBudget::unlimited(), want) {
            Ok(decoded) => Ok(decoded.spans),
            Err(DecodeError::Malformed(error)) => Err(error),
            Err(DecodeError::Limit(_)) => Err(Malformed("spans too large to decode")),
        }
    }

    /// All spans, for the store's own work.
    ///
    /// # Errors
    /// [`Malformed`].
    pub(in crate::store::traces) fn all_spans(&self) -> Result<Vec<Span>, Malformed> {
        self.some_spans(|_, _| true)
    }
}

impl Column<'_> {
    /// Hands every value of the column to `visit` until it says `false`; strings come once each.
    ///
    /// # Errors
    /// [`Malformed`].
    pub(in crate::store::traces) fn values(&self, mut visit: impl FnMut(&AttrValue) -> bool) -> Result<(), Malformed> {
        if self.kind == Type::Str {
            for text in &self.strings {
                if !visit(&AttrValue::Str((*text).to_owned())) {
                    break;
                }
            }
            return Ok(());
        }
        let mut reader = Reader::new(self.values);
        while !reader.is_empty() {
            if let Some(value) = read_value(self, &mut reader, &mut 0, true)?
                && !visit(&value)
            {
                break;
            }
        }
        Ok(())
    }
}

fn read_shared<T>(
    reader: &mut Reader<'_>,
    read: impl Fn(&mut Reader<'_>) -> Result<T, Malformed>,
) -> Result<Vec<Arc<T>>, Malformed> {
    let count = reader.count(reader.rest().len())?;
    let mut all = Vec::new();
    for _ in 0..count {
        let mut one = Reader::new(reader.bytes()?);
        all.push(Arc::new(read(&mut one)?));
    }
    Ok(all)
}

fn read_columns<'a>(reader: &mut Reader<'a>) -> Result<Vec<Column<'a>>, Malformed> {
    let count = reader.count(reader.rest().len())?;
    let mut columns = Vec::new();
    for _ in 0..count {
        let head = reader.byte()?;
        let (owner, kind) = (Owner::from_number(head >> 4)?, Type::from_number(head & 0x0f)?);
        let key = reader.str()?;
        let strings = if kind == Type::Str { read_strings(reader)? } else { Vec::new() };
        columns.push(Column { owner, kind, key, strings, values: reader.bytes()? });
    }
    Ok(columns)
}

/// The next value of a column, or nothing but its place left behind when it is not wanted.
fn read_value(
    column: &Column<'_>,
    reader: &mut Reader<'_>,
    fresh: &mut usize,
    want: bool,
) -> Result<Option<AttrValue>, Malformed> {
    Ok(match column.kind {
        Type::Empty => {
            reader.byte()?;
            want.then_some(AttrValue::Empty)
        }
        Type::Str => {
            let text = string(&column.strings, reader, fresh)?;
            want.then(|| AttrValue::Str(text.to_owned()))
        }
        Type::Int => Some(AttrValue::Int(reader.signed()?)),
        Type::Double => Some(AttrValue::Double(reader.f64()?)),
        Type::Bool => Some(AttrValue::Bool(read_bool(reader)?)),
        Type::Bytes => {
            let bytes = reader.bytes()?;
            want.then(|| AttrValue::Bytes(bytes.to_vec()))
        }
        Type::Array | Type::Map => {
            let mut body = Reader::new(reader.bytes()?);
            if want { Some(read_body(&mut body, column.kind, 0)?) } else { None }
        }
    })
}

/// Where each column has been read to.
struct Walk<'s, 'a> {
    set: &'s SpanSet<'a>,
    fixed: [Reader<'a>; column::COUNT],
    names: (Reader<'a>, usize),
    event_names: usize,
    columns: Vec<(Reader<'a>, usize)>,
    start: i64,
    /// Bytes of memory of the span being read.
    memory: usize,
}

impl<'s, 'a> Walk<'s, 'a> {
    fn new(set: &'s SpanSet<'a>) -> Self {
        Self {
            set,
            fixed: set.fixed.map(Reader::new),
            names: (Reader::new(set.name_refs), 0),
            event_names: 0,
            columns: set.columns.iter().map(|column| (Reader::new(column.values), 0)).collect(),
            start: 0,
            memory: 0,
        }
    }

    fn all(
        &mut self,
        want: &mut impl FnMut(usize, TraceId) -> bool,
        mut take: impl FnMut(Span, usize) -> Result<(), DecodeError>,
    ) -> Result<(), DecodeError> {
        let set = self.set;
        let mut first = 0;
        for (trace_id, len) in &set.groups {
            let ids = set.fixed[column::IDS].get(first * 8..(first + len) * 8).unwrap_or_default();
            for at in 0..*len {
                let wanted = want(first + at, *trace_id);
                if let Some(mut span) = self.span(ids, wanted)? {
                    span.trace_id = *trace_id;
                    take(span, self.memory)?;
                }
            }
            first += len;
        }
        Ok(())
    }

    fn fixed(&mut self, number: usize) -> &mut Reader<'a> {
        // The numbers are the constants of `column`, all below the array's length.
        &mut self.fixed[number]
    }

    fn text(&mut self, text: &str, want: bool) -> String {
        if want {
            self.memory += text.len();
            text.to_owned()
        } else {
            String::new()
        }
    }

    fn parent(&mut self, ids: &[u8]) -> Result<SpanId, Malformed> {
        match self.fixed(column::PARENTS).varint()? {
            0 => Ok(SpanId::default()),
            1 => Ok(SpanId(self.fixed(column::PARENT_IDS).array()?)),
            place => {
                let at = usize::try_from(place - 2).ok().and_then(|place| place.checked_mul(8));
                let id = at.and_then(|at| ids.get(at..)?.first_chunk()).ok_or(Malformed("unknown parent"))?;
                Ok(SpanId(*id))
            }
        }
    }

    /// Reads the next span; `None` when it is not wanted. `ids` are the span ids of its trace.
    fn span(&mut self, ids: &[u8], want: bool) -> Result<Option<Span>, Malformed> {
        self.memory = size_of::<Span>();
        let set = self.set;
        let span_id = SpanId(self.fixed(column::IDS).array()?);
        let parent_id = self.parent(ids)?;
        self.start = self.start.wrapping_add(self.fixed(column::STARTS).signed()?);
        let end = self.start.wrapping_add(self.fixed(column::DURATIONS).signed()?);
        let name = string(&set.names, &mut self.names.0, &mut self.names.1)?;
        let name = self.text(name, want);
        let kinds = self.fixed(column::KINDS).byte()?;
        let resource = place(self.fixed(column::RESOURCES), set.resources.len())?;
        let scope = place(self.fixed(column::SCOPES), set.scopes.len())?;
        let shape = self.fixed(column::SHAPES).varint()?;
        let attrs = self.attrs(shape, want)?;
        let (Some(resource), Some(scope)) = (set.resources.get(resource), set.scopes.get(scope)) else {
            return Err(Malformed("a reference points nowhere"));
        };
        let mut span = Span {
            span_id,
            parent_id,
            name,
            kind: SpanKind::from_number(i64::from(kinds & 0x0f)),
            status: StatusCode::from_number(i64::from(kinds >> 4)),
            start: self.start,
            end,
            attrs,
            resource: resource.clone(),
            scope: scope.clone(),
            ..Span::default()
        };
        self.extras(&mut span, want)?;
        Ok(want.then_some(span))
    }

    fn extras(&mut self, span: &mut Span, want: bool) -> Result<(), Malformed> {
        let bits = self.fixed(column::EXTRAS).byte()?;
        if bits & extra::TRACE_STATE != 0 {
            let text = self.fixed(column::RARE).str()?;
            span.trace_state = self.text(text, want);
        }
        let rare = self.fixed(column::RARE);
        if bits & extra::FLAGS != 0 {
            span.flags = read_u32(rare)?;
        }
        if bits & extra::STATUS_MESSAGE != 0 {
            let text = rare.str()?;
            span.status_message = self.text(text, want);
        }
        if bits & extra::DROPPED != 0 {
            let rare = self.fixed(column::RARE);
            span.dropped_attrs = read_u32(rare)?;
            span.dropped_events = read_u32(rare)?;
            span.dropped_links = read_u32(rare)?;
        }
        if bits & extra::EVENTS != 0 {
            let events = self.fixed(column::EVENTS);
            for _ in 0..events.count(events.rest().len())? {
                let event = self.event(span.start, want)?;
                span.events.extend(want.then_some(event));
            }
        }
        if bits & extra::LINKS != 0 {
            let links = self.fixed(column::LINKS);
            for _ in 0..links.count(links.rest().len())? {
                let link = self.link(want)?;
                span.links.extend(want.then_some(link));
            }
        }
        Ok(())
    }

    fn event(&mut self, start: i64, want: bool) -> Result<SpanEvent, Malformed> {
        self.memory += size_of::<SpanEvent>();
        let set = self.set;
        // Not by `fixed`, which would borrow the count of new names too.
        let events = &mut self.fixed[column::EVENTS];
        let t = start.wrapping_add(events.signed()?);
        let name = string(&set.event_names, events, &mut self.event_names)?;
        let dropped_attrs = read_u32(events)?;
        let shape = events.varint()?;
        Ok(SpanEvent { t, name: self.text(name, want), attrs: self.attrs(shape, want)?, dropped_attrs })
    }

    fn link(&mut self, want: bool) -> Result<SpanLink, Malformed> {
        self.memory += size_of::<SpanLink>();
        let links = self.fixed(column::LINKS);
        let (trace_id, span_id) = (TraceId(links.array()?), SpanId(links.array()?));
        let trace_state = links.str()?;
        let (dropped_attrs, flags) = (read_u32(links)?, read_u32(links)?);
        let shape = links.varint()?;
        Ok(SpanLink {
            trace_id,
            span_id,
            trace_state: self.text(trace_state, want),
            attrs: self.attrs(shape, want)?,
            dropped_attrs,
            flags,
        })
    }

    fn attrs(&mut self, shape: u64, want: bool) -> Result<Attrs, Malformed> {
        let set = self.set;
        let shape = usize::try_from(shape).map_err(|_| Malformed("unknown shape"))?;
        let start = *set.shape_starts.get(shape).ok_or(Malformed("unknown shape"))?;
        let end = set.shape_starts.get(shape + 1).copied().unwrap_or(set.shape_columns.len());
        let numbers = set.shape_columns.get(start..end).unwrap_or_default();
        let mut attrs = Vec::with_capacity(if want { numbers.len() } else { 0 });
        for number in numbers {
            let number = *number as usize;
            let (Some(column), Some((reader, fresh))) = (set.columns.get(number), self.columns.get_mut(number)) else {
                return Err(Malformed("unknown column"));
            };
            if let Some(value) = read_value(column, reader, fresh, want)?
                && want
            {
                self.memory += size_of::<(String, AttrValue)>() + column.key.len() + memory_of(&value);
                attrs.push((column.key.to_owned(), value));
            }
        }
        Ok(attrs)
    }
}
