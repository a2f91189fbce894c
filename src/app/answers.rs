//! The bodies of answers on their way to the client. While one flows its request is being answered, and what it
//! takes stays charged to the account of memory: slow readers cannot pile answers up. A large one is handed over in
//! pieces, so that what nobody takes is here and not in the buffers of the connection, which looks now and then how
//! long nothing was taken. Answers that are written while they flow are charged where that is done.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::Response;
use http_body::{Body as _, Frame, SizeHint};

use crate::base::memory::{Hold, MemoryBudget};

use super::connections::{Active, Connections};
use super::reply::{self, Refusal};

/// Smaller answers are sent as they are: what their connections are charged for covers them.
const HELD_BYTES_MIN: u64 = 2 << 10;
/// A piece that is handed to the connection at once.
const PIECE_BYTES: usize = 64 << 10;
/// How long an answer may wait for memory that others hold who do not read theirs, and how often it looks.
const ROOM_TRIES: u32 = 40;
const ROOM_PAUSE: Duration = Duration::from_millis(25);

/// What an answer is charged for, as its response carries it to the connection.
#[derive(Clone)]
struct Held(#[expect(dead_code, reason = "held until it is dropped")] Arc<Hold>);

/// The answer, charged to `memory` until it is sent or dropped; or, where there is no room, that there
/// is none. Clients that do not read their answers are given up for it.
pub(super) async fn hold(
    memory: &Arc<MemoryBudget>,
    connections: &Connections,
    mut response: Response<Body>,
) -> Response<Body> {
    let Some(bytes) = response.body().size_hint().exact().filter(|bytes| *bytes >= HELD_BYTES_MIN) else {
        return response;
    };
    let size = usize::try_from(bytes).unwrap_or(usize::MAX);
    let mut held = memory.try_hold(size);
    for _ in 0..ROOM_TRIES {
        if held.is_ok() || !connections.give_up_stalled() && !connections.is_giving_up() {
            break;
        }
        tokio::time::sleep(ROOM_PAUSE).await;
        held = memory.try_hold(size);
    }
    match held {
        Ok(held) => {
            response.extensions_mut().insert(Held(Arc::new(held)));
            response
        }
        Err(full) => {
            let grpc = reply::is_grpc(response.headers());
            reply::refuse(Refusal::Unavailable, grpc, &format!("the answer of {bytes} bytes cannot be sent: {full}"))
        }
    }
}

/// The response to a request, which is being answered until its body is sent or dropped.
pub(super) fn answered(mut response: Response<Body>, active: Active) -> Response<Body> {
    let held = response.extensions_mut().remove::<Held>();
    active.offered();
    response.map(|body| Body::new(Answered { body, rest: Bytes::new(), active, _held: held }))
}

struct Answered {
    body: Body,
    /// What is left of a piece that was too large.
    rest: Bytes,
    active: Active,
    _held: Option<Held>,
}

impl http_body::Body for Answered {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        self.active.taken();
        let frame = if self.rest.is_empty() {
            std::task::ready!(Pin::new(&mut self.body).poll_frame(context))
        } else {
            Some(Ok(Frame::data(std::mem::take(&mut self.rest))))
        };
        let Some(Ok(frame)) = frame else { return Poll::Ready(frame) };
        self.active.offered();
        Poll::Ready(Some(Ok(match frame.into_data() {
            Ok(mut bytes) => {
                if bytes.len() > PIECE_BYTES {
                    self.rest = bytes.split_off(PIECE_BYTES);
                }
                Frame::data(bytes)
            }
            Err(frame) => frame,
        })))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (rest, body) = (self.rest.len() as u64, self.body.size_hint());
        let mut hint = SizeHint::new();
        hint.set_lower(body.lower().saturating_add(rest));
        if let Some(upper) = body.upper() {
            hint.set_upper(upper.saturating_add(rest));
        }
        hint
    }
}

#[cfg(test)]
mod tests {
    use axum::http::StatusCode;
    use http_body_util::BodyExt as _;

    use super::*;
    use crate::app::connections::Connection;
    use crate::base::counters::Counters;

    fn connections() -> Connections {
        Connections::new(&Counters::default(), 0, 0, &MemoryBudget::new(u64::MAX))
    }

    #[tokio::test]
    async fn an_answer_is_charged_until_it_is_sent_and_refused_where_there_is_no_room() {
        let (memory, connections) = (MemoryBudget::new(100_000), connections());
        let (memory, connections) = (&memory, &connections);
        let answer = |bytes: usize| hold(memory, connections, Response::new(Body::from(vec![7; bytes])));
        let connection = Connection::for_tests();
        let first = answered(answer(80_000).await, connection.begin_whole());
        assert_eq!((memory.used(), answer(1_000).await.status()), (80_000, StatusCode::OK));
        let refused = answer(60_000).await;
        assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert!(refused.headers().contains_key("retry-after"));
        let mut body = first.into_body();
        let mut frame = async || body.frame().await.map(|frame| frame.unwrap().into_data().unwrap().len());
        assert_eq!((frame().await, memory.used()), (Some(PIECE_BYTES), 80_000), "the rest is not taken yet");
        assert!(connection.stalled().is_some());
        assert_eq!((frame().await, frame().await), (Some(80_000 - PIECE_BYTES), None));
        assert!(connection.stalled().is_none());
        drop(body);
        assert_eq!(memory.used(), 0);
        assert_eq!(answer(60_000).await.status(), StatusCode::OK, "it heals");
    }
}
