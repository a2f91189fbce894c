//! Scopes of attributes and their names.

use crate::store::AttrScope;

/// Scopes of attributes by name, in the order they are listed.
pub const SCOPES: &[(&str, AttrScope)] = &[
    ("resource", AttrScope::Resource),
    ("span", AttrScope::Span),
    ("event", AttrScope::Event),
    ("link", AttrScope::Link),
    ("instrumentation", AttrScope::Instrumentation),
];

/// The scope with this name.
pub fn scope_of(name: &str) -> Option<AttrScope> {
    SCOPES.iter().find(|(own, _)| *own == name).map(|(_, scope)| *scope)
}
