//! Span after span out of the columns of a span set.

use std::mem::size_of;

use super::format::{DecodeError, column, extra};
use super::set::{Column, SpanSet, place, read_value, string};
use super::value::{memory_of, read_u32};
use crate::model::span::{AttrValue, Attrs, Span, SpanEvent, SpanId, SpanKind, SpanLink, StatusCode, TraceId};
use crate::store::codec::{Malformed, Reader};
use crate::store::waist::WantedAttrs;

/// Events of a span for which room is made at once.
const AT_ONCE_MAX: usize = 16;

/// Where a column of attributes has been read to.
struct Place<'a> {
    reader: Reader<'a>,
    /// New strings met.
    fresh: usize,
    /// Whether somebody looks at its values.
    wanted: bool,
}

/// Where each column has been read to.
pub(super) struct Walk<'s, 'a> {
    set: &'s SpanSet<'a>,
    fixed: [Reader<'a>; column::COUNT],
    names: (Reader<'a>, usize),
    event_names: usize,
    columns: Vec<Place<'a>>,
    start: i64,
    /// Bytes of memory of the span being read.
    memory: usize,
}

impl<'s, 'a> Walk<'s, 'a> {
    pub(super) fn new(set: &'s SpanSet<'a>, wanted: &WantedAttrs) -> Self {
        let place = |column: &Column<'a>| Place {
            reader: Reader::new(column.values),
            fresh: 0,
            wanted: wanted.has(column.key),
        };
        Self {
            set,
            fixed: set.fixed.map(Reader::new),
            names: (Reader::new(set.name_refs), 0),
            event_names: 0,
            columns: set.columns.iter().map(place).collect(),
            start: 0,
            memory: 0,
        }
    }

    pub(super) fn all(
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
            let count = events.count(events.rest().len())?;
            span.events.reserve_exact(if want { count.min(AT_ONCE_MAX) } else { 0 });
            for _ in 0..count {
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
        let is_wanted = |number: &&u32| self.columns.get(**number as usize).is_some_and(|place| place.wanted);
        let mut attrs = Vec::with_capacity(if want { numbers.iter().filter(is_wanted).count() } else { 0 });
        for number in numbers {
            let number = *number as usize;
            let (Some(column), Some(place)) = (set.columns.get(number), self.columns.get_mut(number)) else {
                return Err(Malformed("unknown column"));
            };
            let want = want && place.wanted;
            if let Some(value) = read_value(column, &mut place.reader, &mut place.fresh, want)?
                && want
            {
                self.memory += size_of::<(String, AttrValue)>() + column.key.len() + memory_of(&value);
                attrs.push((column.key.to_owned(), value));
            }
        }
        Ok(attrs)
    }
}
