//! Bytes to spans.

use super::format::DecodeError;
use super::set::SpanSet;
use super::walk::Walk;
use crate::base::limits::QueryBudget;
use crate::model::span::{Span, TraceId};
use crate::store::codec::Malformed;
use crate::store::waist::WantedAttrs;

/// Spans with the memory that was charged for them.
pub(in crate::store::traces) struct Decoded {
    /// The spans.
    pub(in crate::store::traces) spans: Vec<Span>,
    /// Bytes charged; the caller releases them.
    pub(in crate::store::traces) charged: usize,
}

impl SpanSet<'_> {
    /// Decodes the spans that `want` names by their place and trace, with the attributes that are `wanted`. Memory is charged to `budget`.
    ///
    /// # Errors
    /// [`DecodeError`]; nothing stays charged then.
    pub(in crate::store::traces) fn spans(
        &self,
        wanted: &WantedAttrs,
        budget: &QueryBudget,
        mut want: impl FnMut(usize, TraceId) -> bool,
    ) -> Result<Decoded, DecodeError> {
        let mut walk = Walk::new(self, wanted);
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
        match self.spans(&WantedAttrs::All, &QueryBudget::unlimited(), want) {
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
