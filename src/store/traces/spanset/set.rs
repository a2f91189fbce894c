//! The outline of a span set: what is shared, where the columns lie, and the few fields that planning needs.

use std::sync::Arc;

use super::format::{Owner, Type, VERSION, column};
use super::value::{read_body, read_bool, read_resource, read_scope};

use crate::model::span::{AttrValue, Resource, Scope, SpanKind, TraceId};
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
    pub(super) values: &'a [u8],
}

/// Spans in bytes, checked as far as the outline goes.
pub(in crate::store::traces) struct SpanSet<'a> {
    pub(super) spans: usize,
    pub(super) groups: Vec<(TraceId, usize)>,
    pub(super) resources: Vec<Arc<Resource>>,
    pub(super) scopes: Vec<Arc<Scope>>,
    pub(super) names: Vec<&'a str>,
    pub(super) name_refs: &'a [u8],
    pub(super) event_names: Vec<&'a str>,
    pub(super) columns: Vec<Column<'a>>,
    /// Columns of all shapes, one after the other, and where each shape begins.
    pub(super) shape_columns: Vec<u32>,
    pub(super) shape_starts: Vec<usize>,
    pub(super) fixed: [&'a [u8]; column::COUNT],
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

fn read_strings<'a>(reader: &mut Reader<'a>) -> Result<Vec<&'a str>, Malformed> {
    let count = reader.count(reader.rest().len())?;
    (0..count).map(|_| reader.str()).collect()
}

/// The string that the next reference names; `fresh` counts the new ones met.
pub(super) fn string<'a>(strings: &[&'a str], refs: &mut Reader<'_>, fresh: &mut usize) -> Result<&'a str, Malformed> {
    let place = match refs.varint()? {
        0 => {
            *fresh += 1;
            *fresh - 1
        }
        known => usize::try_from(known - 1).map_err(|_| Malformed("unknown string"))?,
    };
    strings.get(place).copied().ok_or(Malformed("unknown string"))
}

pub(super) fn place(reader: &mut Reader<'_>, len: usize) -> Result<usize, Malformed> {
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
pub(super) fn read_value(
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
