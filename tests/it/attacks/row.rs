//! A row of the table of attacks.

use super::scene::Scene;

/// What an attack is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Size,
    Depth,
    Count,
    Slowness,
    HangUp,
    Many,
    Dear,
    Odd,
    Time,
}

/// One hostile request, or a group of them that want the same.
pub(super) struct Attack {
    /// What it does; unique.
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    /// Does it, and tells the scene what it saw.
    pub(super) run: fn(&Scene<'_>),
}
