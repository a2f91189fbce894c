//! Attribute values and lists of them written in place: inside resources and scopes, and for the
//! elements of lists and maps.

use std::mem::size_of;

use super::format::Type;
use crate::model::span::{AttrValue, Attrs, Resource, Scope};
use crate::store::codec::{Malformed, Reader, put_bytes, put_f64, put_signed, put_str, put_varint};

/// Deepest nesting of lists and maps that is stored.
pub(in crate::store::traces) const DEPTH_MAX: usize = 64;

pub(super) fn type_of(value: &AttrValue) -> Type {
    match value {
        AttrValue::Empty => Type::Empty,
        AttrValue::Str(_) => Type::Str,
        AttrValue::Int(_) => Type::Int,
        AttrValue::Double(_) => Type::Double,
        AttrValue::Bool(_) => Type::Bool,
        AttrValue::Bytes(_) => Type::Bytes,
        AttrValue::Array(_) => Type::Array,
        AttrValue::Map(_) => Type::Map,
    }
}

fn put_value(out: &mut Vec<u8>, value: &AttrValue) {
    out.push(type_of(value) as u8);
    put_body(out, value);
}

/// The value without its type.
pub(super) fn put_body(out: &mut Vec<u8>, value: &AttrValue) {
    match value {
        AttrValue::Empty => {}
        AttrValue::Str(text) => put_str(out, text),
        AttrValue::Int(int) => put_signed(out, *int),
        AttrValue::Double(double) => put_f64(out, *double),
        AttrValue::Bool(bool) => out.push(u8::from(*bool)),
        AttrValue::Bytes(bytes) => put_bytes(out, bytes),
        AttrValue::Array(values) => {
            put_varint(out, values.len() as u64);
            values.iter().for_each(|value| put_value(out, value));
        }
        AttrValue::Map(attrs) => put_attrs(out, attrs),
    }
}

fn put_attrs(out: &mut Vec<u8>, attrs: &Attrs) {
    put_varint(out, attrs.len() as u64);
    for (name, value) in attrs {
        put_str(out, name);
        put_value(out, value);
    }
}

pub(super) fn put_resource(out: &mut Vec<u8>, resource: &Resource) {
    put_attrs(out, &resource.attrs);
    put_varint(out, u64::from(resource.dropped_attrs));
    put_str(out, &resource.schema_url);
}

pub(super) fn put_scope(out: &mut Vec<u8>, scope: &Scope) {
    put_str(out, &scope.name);
    put_str(out, &scope.version);
    put_attrs(out, &scope.attrs);
    put_varint(out, u64::from(scope.dropped_attrs));
    put_str(out, &scope.schema_url);
}

fn read_value(reader: &mut Reader<'_>, depth: usize) -> Result<AttrValue, Malformed> {
    let kind = Type::from_number(reader.byte()?)?;
    read_body(reader, kind, depth)
}

/// A value of a known type; `depth` counts the lists and maps around it.
pub(super) fn read_body(reader: &mut Reader<'_>, kind: Type, depth: usize) -> Result<AttrValue, Malformed> {
    Ok(match kind {
        Type::Empty => AttrValue::Empty,
        Type::Str => AttrValue::Str(reader.str()?.to_owned()),
        Type::Int => AttrValue::Int(reader.signed()?),
        Type::Double => AttrValue::Double(reader.f64()?),
        Type::Bool => AttrValue::Bool(read_bool(reader)?),
        Type::Bytes => AttrValue::Bytes(reader.bytes()?.to_vec()),
        Type::Array | Type::Map if depth >= DEPTH_MAX => return Err(Malformed("values are nested too deeply")),
        Type::Array => {
            let count = reader.count(reader.rest().len())?;
            let mut values = Vec::new();
            for _ in 0..count {
                values.push(read_value(reader, depth + 1)?);
            }
            AttrValue::Array(values)
        }
        Type::Map => AttrValue::Map(read_attrs(reader, depth + 1)?),
    })
}

pub(super) fn read_bool(reader: &mut Reader<'_>) -> Result<bool, Malformed> {
    match reader.byte()? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(Malformed("neither true nor false")),
    }
}

fn read_attrs(reader: &mut Reader<'_>, depth: usize) -> Result<Attrs, Malformed> {
    let count = reader.count(reader.rest().len())?;
    let mut attrs = Vec::new();
    for _ in 0..count {
        let name = reader.str()?.to_owned();
        attrs.push((name, read_value(reader, depth)?));
    }
    Ok(attrs)
}

pub(super) fn read_resource(reader: &mut Reader<'_>) -> Result<Resource, Malformed> {
    Ok(Resource {
        attrs: read_attrs(reader, 0)?,
        dropped_attrs: read_u32(reader)?,
        schema_url: reader.str()?.to_owned(),
    })
}

pub(super) fn read_scope(reader: &mut Reader<'_>) -> Result<Scope, Malformed> {
    Ok(Scope {
        name: reader.str()?.to_owned(),
        version: reader.str()?.to_owned(),
        attrs: read_attrs(reader, 0)?,
        dropped_attrs: read_u32(reader)?,
        schema_url: reader.str()?.to_owned(),
    })
}

pub(super) fn read_u32(reader: &mut Reader<'_>) -> Result<u32, Malformed> {
    u32::try_from(reader.varint()?).map_err(|_| Malformed("number too large"))
}

/// Memory that a value takes beyond its own place, in bytes.
pub(super) fn memory_of(value: &AttrValue) -> usize {
    match value {
        AttrValue::Empty | AttrValue::Int(_) | AttrValue::Double(_) | AttrValue::Bool(_) => 0,
        AttrValue::Str(text) => text.len(),
        AttrValue::Bytes(bytes) => bytes.len(),
        AttrValue::Array(values) => values.iter().map(|value| size_of::<AttrValue>() + memory_of(value)).sum(),
        AttrValue::Map(attrs) => {
            attrs.iter().map(|(name, value)| size_of::<(String, AttrValue)>() + name.len() + memory_of(value)).sum()
        }
    }
}
