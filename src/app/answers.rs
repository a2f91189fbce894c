//! Answers that are built whole are charged to the account of memory until they have been sent: slow
//! readers cannot pile them up. Those that flow are charged where they are written.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes};
use axum::http::Response;
use http_body::{Body as _, Frame, SizeHint};

use crate::base::memory::{Hold, MemoryBudget};

use super::reply::{self, Refusal};

/// Smaller answers are sent as they are: what their connections are charged for covers them.
const HELD_BYTES_MIN: u64 = 16 << 10;

/// The answer, charged to `memory` until it is sent or dropped; or, where there is no room, that there
/// is none.
pub(super) fn hold(memory: &Arc<MemoryBudget>, response: Response<Body>) -> Response<Body> {
    let Some(bytes) = response.body().size_hint().exact().filter(|bytes| *bytes >= HELD_BYTES_MIN) else {
        return response;
    };
    match memory.try_hold(usize::try_from(bytes).unwrap_or(usize::MAX)) {
        Ok(held) => response.map(|body| Body::new(Held { body, _held: held })),
        Err(full) => {
            let grpc = reply::is_grpc(response.headers());
            reply::refuse(Refusal::Unavailable, grpc, &format!("the answer of {bytes} bytes cannot be sent: {full}"))
        }
    }
}

/// A body and what it is charged for.
struct Held {
    body: Body,
    _held: Hold,
}

impl http_body::Body for Held {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use axum::http::StatusCode;

    use super::*;

    #[tokio::test]
    async fn an_answer_is_charged_until_it_is_sent_and_refused_where_there_is_no_room() {
        let memory = MemoryBudget::new(100_000);
        let answer = |bytes: usize| hold(&memory, Response::new(Body::from(vec![7; bytes])));
        let (first, small) = (answer(60_000), answer(1_000));
        assert_eq!((memory.used(), small.status()), (60_000, StatusCode::OK));
        let refused = answer(60_000);
        assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert!(refused.headers().contains_key("retry-after"));
        let body = axum::body::to_bytes(first.into_body(), usize::MAX).await.unwrap();
        assert_eq!((body.len(), memory.used()), (60_000, 0));
        assert_eq!(answer(60_000).status(), StatusCode::OK, "it heals");
    }
}
