//! Names and values: which attributes a head or part has, with their distinct values, and which
//! operations each service has. What lists of choices in Grafana are made of.
//! Invariants: memory is bounded; where values are too many or too long to be listed the list says
//! that it is not whole, and then the spans have to be read.
//! Bytes: docs/format/traces.md.

use std::collections::{BTreeMap, BTreeSet};

use super::spanset::{Owner, SpanSet};
use crate::model::span::{AttrValue, Attrs, SpanKind};
use crate::store::catalog::Names;
use crate::store::codec::{Malformed, Reader, put_signed, put_str, put_varint};
use crate::store::waist::AttrScope;

/// Most attributes that are listed.
const NAMES_MAX: usize = 10_000;
/// Most attributes that are listed in the catalog.
const CATALOG_NAMES_MAX: usize = 1_000;
/// Most values of one attribute that are listed.
const VALUES_MAX: usize = 500;
/// Longest value that is listed, in bytes.
const VALUE_BYTES_MAX: usize = 256;
/// Bytes of all names and values that are listed ...
const BYTES_MAX: usize = 4 << 20;
/// ... and of those listed in the catalog.
const CATALOG_BYTES_MAX: usize = 512 << 10;
/// Bytes that a name or value takes beside its own.
const ENTRY_BYTES: usize = 32;
/// Most operations of all services that are listed.
const OPERATIONS_MAX: usize = 10_000;
/// The catalog's name for operations; attributes have a scope's letter and a dot before theirs.
pub(super) const OPERATIONS: &str = "operations";
/// In the catalog, among names: not all are listed; among values: likewise.
const NOT_ALL: &str = "*";

/// A value in an order, for sets.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Facet {
    /// A string.
    Str(String),
    /// An integer.
    Int(i64),
    /// A double, by its bits.
    Double(u64),
    /// A boolean.
    Bool(bool),
}

impl Facet {
    /// The value as a span has it.
    pub(super) fn value(&self) -> AttrValue {
        match self {
            Self::Str(text) => AttrValue::Str(text.clone()),
            Self::Int(int) => AttrValue::Int(*int),
            Self::Double(bits) => AttrValue::Double(f64::from_bits(*bits)),
            Self::Bool(bool) => AttrValue::Bool(*bool),
        }
    }

    /// Hands `value`, or its elements when it is a list, to `visit`. Other kinds have no facets.
    pub(super) fn each(value: &AttrValue, visit: &mut impl FnMut(Self)) {
        match value {
            AttrValue::Str(text) => visit(Self::Str(text.clone())),
            AttrValue::Int(int) => visit(Self::Int(*int)),
            AttrValue::Double(double) => visit(Self::Double(double.to_bits())),
            AttrValue::Bool(bool) => visit(Self::Bool(*bool)),
            AttrValue::Array(values) => values.iter().for_each(|value| Self::each(value, visit)),
            AttrValue::Empty | AttrValue::Bytes(_) | AttrValue::Map(_) => {}
        }
    }

    fn bytes(&self) -> usize {
        let text = if let Self::Str(text) = self { text.len() } else { 0 };
        ENTRY_BYTES + text
    }

    fn to_text(&self) -> String {
        match self {
            Self::Str(text) => format!("s{text}"),
            Self::Int(int) => format!("i{int}"),
            Self::Double(bits) => format!("d{bits}"),
            Self::Bool(bool) => format!("b{bool}"),
        }
    }

    fn from_text(text: &str) -> Option<Self> {
        let rest = text.get(1..)?;
        match text.as_bytes().first()? {
            b's' => Some(Self::Str(rest.to_owned())),
            b'i' => rest.parse().ok().map(Self::Int),
            b'd' => rest.parse().ok().map(Self::Double),
            b'b' => rest.parse().ok().map(Self::Bool),
            _ => None,
        }
    }

    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Str(text) => {
                out.push(0);
                put_str(out, text);
            }
            Self::Int(int) => {
                out.push(1);
                put_signed(out, *int);
            }
            Self::Double(bits) => {
                out.push(2);
                out.extend_from_slice(&bits.to_le_bytes());
            }
            Self::Bool(bool) => out.push(3 + u8::from(*bool)),
        }
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(match reader.byte()? {
            0 => Self::Str(reader.str()?.to_owned()),
            1 => Self::Int(reader.signed()?),
            2 => Self::Double(reader.u64()?),
            3 => Self::Bool(false),
            4 => Self::Bool(true),
            _ => return Err(Malformed("unknown type of a value")),
        })
    }
}

/// Values of one attribute.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Values {
    /// Distinct values.
    pub(super) listed: BTreeSet<Facet>,
    /// There are more, or longer ones.
    pub(super) more: bool,
}

impl Values {
    /// Lists a value if there is room: `used` counts the bytes of all lists.
    fn add(&mut self, facet: Facet, used: &mut usize) {
        if self.listed.contains(&facet) {
            return;
        }
        let bytes = facet.bytes();
        if bytes > VALUE_BYTES_MAX + ENTRY_BYTES || self.listed.len() >= VALUES_MAX || *used + bytes > BYTES_MAX {
            self.more = true;
        } else {
            *used += bytes;
            self.listed.insert(facet);
        }
    }
}

/// A service, the name of an operation and its kind's number.
pub(super) type Operation = (String, String, u8);

/// Names and values of many spans.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Facets {
    attrs: BTreeMap<AttrScopeOrd, BTreeMap<String, Values>>,
    operations: BTreeSet<Operation>,
    names: usize,
    /// There are more attributes than are listed.
    more_names: bool,
    /// Bytes of what is listed.
    bytes: usize,
}

/// A scope's number, on disk too.
type AttrScopeOrd = u8;

/// Scopes by number, each with its letter in the catalog.
const SCOPES: [(AttrScope, char); 5] = [
    (AttrScope::Resource, 'r'),
    (AttrScope::Span, 's'),
    (AttrScope::Event, 'e'),
    (AttrScope::Link, 'l'),
    (AttrScope::Instrumentation, 'i'),
];

fn number(scope: AttrScope) -> AttrScopeOrd {
    match scope {
        AttrScope::Resource => 0,
        AttrScope::Span => 1,
        AttrScope::Event => 2,
        AttrScope::Link => 3,
        AttrScope::Instrumentation => 4,
    }
}

/// Where the attributes of a column live.
pub(super) fn scope_of(owner: Owner) -> AttrScope {
    match owner {
        Owner::Span => AttrScope::Span,
        Owner::Event => AttrScope::Event,
        Owner::Link => AttrScope::Link,
    }
}

/// An attribute's name in the catalog.
pub(super) fn catalog_name(scope: AttrScope, name: &str) -> String {
    let letter = SCOPES.iter().find(|(own, _)| *own == scope).map_or('?', |(_, letter)| *letter);
    format!("{letter}.{name}")
}

/// Scope and name of an attribute in the catalog.
fn from_catalog_name(text: &str) -> Option<(AttrScope, String)> {
    let (letter, name) = text.split_once('.')?;
    let scope = SCOPES.iter().find(|(_, own)| letter.chars().eq([*own]))?.0;
    Some((scope, name.to_owned()))
}

/// Attributes by the catalog's names; `None` when they are not all listed there.
pub(super) fn names_from_catalog(names: &BTreeSet<String>) -> Option<BTreeSet<(AttrScope, String)>> {
    (!names.contains(NOT_ALL)).then(|| names.iter().filter_map(|name| from_catalog_name(name)).collect())
}

/// Values by the catalog's; `None` when they are not all listed there.
pub(super) fn values_from_catalog(values: &[String]) -> Option<Vec<Facet>> {
    (!values.iter().any(|value| value == NOT_ALL))
        .then(|| values.iter().filter_map(|value| Facet::from_text(value)).collect())
}

/// Operations by the catalog's values.
pub(super) fn operations_from_catalog(values: &[String]) -> BTreeSet<Operation> {
    let parse = |text: &String| {
        let (kind, rest) = text.split_once(' ')?;
        let (len, rest) = rest.split_once(' ')?;
        let (service, name) = rest.split_at_checked(len.parse().ok()?)?;
        Some((service.to_owned(), name.to_owned(), kind.parse().ok()?))
    };
    values.iter().filter_map(parse).collect()
}

impl Facets {
    /// Memory that the lists take, in bytes, more or less; it only grows.
    pub(super) fn bytes(&self) -> usize {
        self.bytes + 2 * ENTRY_BYTES * (self.names + self.operations.len())
    }

    /// Adds what is in a span set.
    ///
    /// # Errors
    /// [`Malformed`].
    pub(super) fn add(&mut self, set: &SpanSet<'_>) -> Result<(), Malformed> {
        for resource in set.resources() {
            self.add_attrs(AttrScope::Resource, &resource.attrs);
        }
        for scope in set.scopes() {
            self.add_attrs(AttrScope::Instrumentation, &scope.attrs);
        }
        for column in set.columns() {
            let Some((values, used)) = self.attr(scope_of(column.owner), column.key) else { continue };
            column.values(|value| {
                Facet::each(value, &mut |facet| values.add(facet, used));
                // Once it is known that not all are listed, the rest of a column of many rows adds little.
                !values.more
            })?;
        }
        let mut last: Option<(usize, &str, SpanKind)> = None;
        set.rows(|row| {
            let this = (row.resource, row.name, row.kind);
            if last != Some(this) && self.operations.len() < OPERATIONS_MAX {
                last = Some(this);
                let service = set.resources().get(row.resource).map_or("", |resource| resource.service_name());
                self.add_operation((service.to_owned(), row.name.to_owned(), row.kind.number()));
            }
        })
    }

    fn add_operation(&mut self, operation: Operation) {
        let bytes = ENTRY_BYTES + operation.0.len() + operation.1.len();
        if self.bytes + bytes <= BYTES_MAX && self.operations.insert(operation) {
            self.bytes += bytes;
        }
    }

    /// The values of an attribute and the count of bytes; `None` when there is no room for another.
    fn attr(&mut self, scope: AttrScope, name: &str) -> Option<(&mut Values, &mut usize)> {
        let attrs = self.attrs.entry(number(scope)).or_default();
        if !attrs.contains_key(name) {
            let bytes = ENTRY_BYTES + name.len();
            if self.names >= NAMES_MAX || self.bytes + bytes > BYTES_MAX {
                self.more_names = true;
                return None;
            }
            self.names += 1;
            self.bytes += bytes;
            attrs.insert(name.to_owned(), Values::default());
        }
        attrs.get_mut(name).map(|values| (values, &mut self.bytes))
    }

    fn add_attrs(&mut self, scope: AttrScope, attrs: &Attrs) {
        for (name, value) in attrs {
            if let Some((values, used)) = self.attr(scope, name) {
                Facet::each(value, &mut |facet| values.add(facet, used));
            }
        }
    }

    /// All attributes.
    pub(super) fn names(&self) -> impl Iterator<Item = (AttrScope, &String)> {
        let scope = |number: u8| SCOPES.get(usize::from(number)).map(|(scope, _)| *scope);
        self.attrs
            .iter()
            .filter_map(move |(number, attrs)| scope(*number).map(|scope| (scope, attrs)))
            .flat_map(|(scope, attrs)| attrs.keys().map(move |name| (scope, name)))
    }

    /// Values of an attribute; an attribute that is not listed because there are too many has `more`.
    pub(super) fn values(&self, scope: AttrScope, name: &str) -> Values {
        match self.attrs.get(&number(scope)).and_then(|attrs| attrs.get(name)) {
            Some(values) => values.clone(),
            None => Values { listed: BTreeSet::new(), more: self.more_names },
        }
    }

    /// Operations of all services.
    pub(super) fn operations(&self) -> &BTreeSet<Operation> {
        &self.operations
    }

    /// As the catalog keeps them.
    pub(super) fn catalog(&self) -> Names {
        let mut names = Names::new();
        let operation = |(service, name, kind): &Operation| format!("{kind} {} {service}{name}", service.len());
        names.insert(OPERATIONS.to_owned(), self.operations.iter().map(operation).collect());
        if self.names > CATALOG_NAMES_MAX || self.more_names {
            names.insert(NOT_ALL.to_owned(), Vec::new());
            return names;
        }
        let mut used = 0;
        for (scope, name) in self.names() {
            let values = self.values(scope, name);
            let mut texts: Vec<_> = values.listed.iter().map(Facet::to_text).collect();
            let bytes: usize = texts.iter().map(String::len).sum();
            if values.more || used + bytes > CATALOG_BYTES_MAX {
                texts = vec![NOT_ALL.to_owned()];
            } else {
                used += bytes;
            }
            names.insert(catalog_name(scope, name), texts);
        }
        names
    }

    /// As parts keep them.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.push(u8::from(self.more_names));
        put_varint(&mut out, self.names as u64);
        for (scope, attrs) in &self.attrs {
            for (name, values) in attrs {
                out.push(*scope);
                put_str(&mut out, name);
                out.push(u8::from(values.more));
                put_varint(&mut out, values.listed.len() as u64);
                values.listed.iter().for_each(|facet| facet.encode(&mut out));
            }
        }
        put_varint(&mut out, self.operations.len() as u64);
        for (service, name, kind) in &self.operations {
            put_str(&mut out, service);
            put_str(&mut out, name);
            out.push(*kind);
        }
        out
    }

    /// The reverse of [`encode`](Self::encode).
    ///
    /// # Errors
    /// [`Malformed`].
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes);
        let more_names = reader.byte()? != 0;
        let mut facets = Self { more_names, names: reader.count(bytes.len())?, bytes: bytes.len(), ..Self::default() };
        for _ in 0..facets.names {
            let scope = reader.byte()?;
            let name = reader.str()?.to_owned();
            let mut values = Values { more: reader.byte()? != 0, ..Values::default() };
            for _ in 0..reader.count(reader.rest().len())? {
                values.listed.insert(Facet::decode(&mut reader)?);
            }
            facets.attrs.entry(scope).or_default().insert(name, values);
        }
        for _ in 0..reader.count(reader.rest().len())? {
            let (service, name) = (reader.str()?.to_owned(), reader.str()?.to_owned());
            facets.operations.insert((service, name, reader.byte()?));
        }
        if reader.is_empty() { Ok(facets) } else { Err(Malformed("more facets than said")) }
    }
}
