//! Finding traces and spans, heads and parts as one.

use std::collections::BTreeSet;

use crate::base::limits::QueryBudget;
use crate::model::span::{AttrValue, Span, SpanKind, TraceId};
use crate::model::time::RangeNs;
use crate::store::error::StoreError;

/// Where an attribute of a span lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum AttrScope {
    /// On the resource.
    Resource,
    /// On the span.
    Span,
    /// On an event of the span.
    Event,
    /// On a link of the span.
    Link,
    /// On the instrumentation scope.
    Instrumentation,
}

/// A condition that every span of interest satisfies, for leaving blocks out. An index narrows only.
#[derive(Clone, Debug, PartialEq)]
pub enum SpanHint {
    /// `resource.service.name` is this.
    Service(String),
    /// The span's name is this.
    Name(String),
    /// An attribute has this value; in one of the scopes given (unscoped ones name two).
    Attr {
        /// Where it may be.
        scopes: Vec<AttrScope>,
        /// Its name.
        name: String,
        /// Its value: a string, integer or boolean.
        value: AttrValue,
    },
}

/// Which attributes of spans, events and links a reader looks at. Those of resources and scopes always come along.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WantedAttrs {
    /// All of them.
    All,
    /// Those with one of these names.
    Named(BTreeSet<String>),
}

impl WantedAttrs {
    /// Whether attributes of this name are wanted.
    pub fn has(&self, name: &str) -> bool {
        match self {
            Self::All => true,
            Self::Named(names) => names.contains(name),
        }
    }
}

/// A run of spans that were stored together. A span is in one block only; a trace may be in many.
pub trait SpanBlock: Send {
    /// Earliest start and latest end of its spans, both inclusive.
    fn span(&self) -> (i64, i64);
    /// How many spans it has.
    fn spans(&self) -> u64;
    /// All its spans, in no order, with the attributes that are `wanted`; others may be left out.
    ///
    /// # Errors
    /// [`StoreError`].
    fn read(&self, wanted: &WantedAttrs, budget: &QueryBudget) -> Result<Vec<Span>, StoreError>;
}

/// A service and the names and kinds of its spans.
pub type ServiceOperations = (String, Vec<(String, SpanKind)>);

/// Finds traces and spans.
pub trait SelectTraces: Send + Sync {
    /// All spans of one trace, each once, by start time; empty when the trace is not known.
    ///
    /// # Errors
    /// [`StoreError`].
    fn trace(&self, id: TraceId, budget: &QueryBudget) -> Result<Vec<Span>, StoreError>;

    /// Blocks with spans that overlap `range`, latest end first. `hints` must all hold for a span
    /// of interest.
    ///
    /// # Errors
    /// [`StoreError`].
    fn blocks(
        &self,
        range: RangeNs,
        hints: &[SpanHint],
        budget: &QueryBudget,
    ) -> Result<Vec<Box<dyn SpanBlock>>, StoreError>;

    /// Names of attributes by scope, sorted.
    ///
    /// # Errors
    /// [`StoreError`].
    fn tag_names(&self, range: RangeNs, budget: &QueryBudget) -> Result<Vec<(AttrScope, String)>, StoreError>;

    /// Distinct values of one attribute in any of `scopes`, at most `limit`.
    ///
    /// # Errors
    /// [`StoreError`].
    fn tag_values(
        &self,
        scopes: &[AttrScope],
        name: &str,
        range: RangeNs,
        limit: usize,
        budget: &QueryBudget,
    ) -> Result<Vec<AttrValue>, StoreError>;

    /// Services and, for each, the names and kinds of its spans, from the index, sorted.
    ///
    /// # Errors
    /// [`StoreError`].
    fn services(&self, budget: &QueryBudget) -> Result<Vec<ServiceOperations>, StoreError>;
}
