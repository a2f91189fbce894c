//! Answers in JSON. Large ones are written where the query runs, within its memory and its time.

use std::io;

use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::base::limits::{LimitError, QueryBudget};
use crate::query::traceql::QueryError;

/// Text that is written between two looks at the budget, in bytes.
const LOOK_EVERY: usize = 64 << 10;

/// An answer that is written as JSON.
pub(in crate::api) struct Json<T>(pub(in crate::api) T);

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        match serde_json::to_vec(&self.0) {
            Ok(bytes) => ([(CONTENT_TYPE, "application/json")], bytes).into_response(),
            Err(error) => {
                tracing::error!(%error, "an answer could not be written as JSON");
                StatusCode::INTERNAL_SERVER_ERROR.into_response()
            }
        }
    }
}

/// An answer that is JSON already.
pub(in crate::api) struct Written(Vec<u8>);

impl Written {
    /// Writes an answer. Its text is charged as it grows.
    ///
    /// # Errors
    /// [`QueryError`] when the budget is used up.
    pub(in crate::api) fn of(answer: &impl Serialize, budget: &QueryBudget) -> Result<Self, QueryError> {
        let mut text = Text { bytes: Vec::new(), budget, charged: 0, refused: None };
        match (serde_json::to_writer(&mut text, answer), text.refused) {
            (_, Some(limit)) => Err(limit.into()),
            (Ok(()), None) => Ok(Self(text.bytes)),
            (Err(error), None) => Err(QueryError::Invalid(format!("an answer could not be written: {error}"))),
        }
    }
}

impl IntoResponse for Written {
    fn into_response(self) -> Response {
        ([(CONTENT_TYPE, "application/json")], self.0).into_response()
    }
}

/// Text that grows within a budget.
struct Text<'b> {
    bytes: Vec<u8>,
    budget: &'b QueryBudget,
    charged: usize,
    refused: Option<LimitError>,
}

impl io::Write for Text<'_> {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        let wanted = self.bytes.len() + piece.len();
        if wanted > self.charged {
            // A vector that is full takes twice the room.
            let more =
                LOOK_EVERY.max(piece.len()).max(if wanted > self.bytes.capacity() { self.bytes.len() } else { 0 });
            if let Err(limit) = self.budget.check().and_then(|()| self.budget.charge(more)) {
                self.refused = Some(limit);
                return Err(io::Error::other("the query ended"));
            }
            self.charged += more;
        }
        self.bytes.extend_from_slice(piece);
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn an_answer_is_written_within_the_memory_and_the_time_of_its_query() {
        let answer = vec!["x".repeat(1_000); 1_000];
        let budget = QueryBudget::new(Duration::from_secs(60), 4 << 20, 1);
        let written = Written::of(&answer, &budget).unwrap();
        assert_eq!(written.0, serde_json::to_vec(&answer).unwrap());
        assert!(budget.memory_peak() >= written.0.len() as u64);
        let small = QueryBudget::new(Duration::from_secs(60), 512 << 10, 1);
        assert!(matches!(Written::of(&answer, &small), Err(QueryError::Store(_))));
        budget.cancel();
        assert!(matches!(Written::of(&answer, &budget), Err(QueryError::Store(_))));
    }
}
