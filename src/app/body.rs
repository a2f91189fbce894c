//! The body of a request as it comes from the connection, whatever door and method: every byte is charged before a
//! handler sees it, a sender that is too slow is given up, and one that asks for room waits for it here.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::base::in_flight::{self, BodyError, Room};

/// What a handler gets instead of a body that was not received.
type Error = Box<dyn std::error::Error + Send + Sync>;

/// How often one that waits for room asks for it again.
const ASK_AGAIN: Duration = Duration::from_millis(100);

/// A wait for the sender: its begin, and since when it is to be counted for the rate.
#[derive(Clone, Copy)]
struct Wait {
    began: Instant,
    counted: Instant,
}

/// A body whose bytes are charged to an account, within its bounds.
pub(super) struct Watched<B> {
    body: B,
    account: Arc<in_flight::Body>,
    /// A piece that waits for room, and since when.
    held: Option<(Frame<Bytes>, Instant)>,
    began: Instant,
    /// The wait for the sender that is under way.
    wait: Option<Wait>,
    /// How long we waited for the sender, and what came, since the rate was looked at last.
    waited: Duration,
    came: u64,
    /// Rings when the sender, or the room, is late. Bodies that are there at once need none.
    alarm: Option<Pin<Box<Sleep>>>,
}

impl<B> Watched<B> {
    /// Watches `body`, whose bytes go to `account`.
    pub(super) fn new(body: B, account: Arc<in_flight::Body>) -> Self {
        let began = Instant::now();
        Self { body, account, held: None, began, wait: None, waited: Duration::ZERO, came: 0, alarm: None }
    }

    /// Takes room for a piece that came at `since`, or keeps it until there is some.
    fn take_room(
        &mut self,
        frame: Frame<Bytes>,
        since: Instant,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let bytes = frame.data_ref().map_or(0, Bytes::len) as u64;
        match self.account.grow(bytes, context.waker()) {
            Ok(Room::Taken) => {
                self.came += bytes;
                Poll::Ready(Some(Ok(frame)))
            }
            Ok(Room::Wait) => {
                let end = since + self.account.options().room_wait;
                if Instant::now() >= end {
                    return Poll::Ready(Some(Err(BodyError::Busy.into())));
                }
                self.held = Some((frame, since));
                // Memory may come free elsewhere, of which nobody tells.
                if self.rings(end.min(Instant::now() + ASK_AGAIN), context) {
                    context.waker().wake_by_ref();
                }
                Poll::Pending
            }
            Err(error) => Poll::Ready(Some(Err(error.into()))),
        }
    }

    /// Whether it is `at` already; if not, the task is woken then.
    fn rings(&mut self, at: Instant, context: &mut Context<'_>) -> bool {
        let alarm = self.alarm.get_or_insert_with(|| Box::pin(sleep_until(at)));
        if alarm.deadline() != at {
            alarm.as_mut().reset(at);
        }
        alarm.as_mut().poll(context).is_ready()
    }

    /// Whether the sender, for whom we wait, is too slow by now.
    fn late(&mut self, context: &mut Context<'_>) -> Option<BodyError> {
        let options = self.account.options().clone();
        let wait = *self.wait.get_or_insert_with(|| {
            let now = Instant::now();
            Wait { began: now, counted: now }
        });
        let (end, longest) = if self.account.is_open_ended() {
            (wait.began + options.idle_max, options.idle_max)
        } else {
            (self.began + options.deadline, options.deadline)
        };
        let mut counted = wait.counted;
        loop {
            let look = counted + options.rate_window.saturating_sub(self.waited);
            if !self.rings(end.min(look), context) {
                self.wait = Some(Wait { counted, ..wait });
                return None;
            }
            if end <= look {
                return Some(BodyError::Slow(longest));
            }
            if (self.came as f64) < options.rate_min as f64 * options.rate_window.as_secs_f64() {
                return Some(BodyError::Trickle(options.rate_min));
            }
            (self.waited, self.came, counted) = (Duration::ZERO, 0, look);
        }
    }

    /// Counts the wait that is over.
    fn note_wait(&mut self) {
        if let Some(wait) = self.wait.take() {
            self.waited += wait.counted.elapsed();
        }
    }
}

impl<B> Body for Watched<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Error>,
{
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = &mut *self;
        if this.account.poll_given_up(context.waker()) {
            return Poll::Ready(Some(Err(BodyError::GivenUp.into())));
        }
        if let Some((frame, since)) = this.held.take() {
            return this.take_room(frame, since, context);
        }
        match Pin::new(&mut this.body).poll_frame(context) {
            Poll::Pending => {
                this.account.set_awaited(true);
                match this.late(context) {
                    Some(error) => Poll::Ready(Some(Err(error.into()))),
                    None => Poll::Pending,
                }
            }
            Poll::Ready(next) => {
                this.account.set_awaited(false);
                this.note_wait();
                if this.body.is_end_stream() {
                    this.account.set_whole();
                }
                match next {
                    Some(Ok(frame)) if frame.is_data() => this.take_room(frame, Instant::now(), context),
                    Some(Ok(frame)) => Poll::Ready(Some(Ok(frame))),
                    Some(Err(error)) => Poll::Ready(Some(Err(error.into()))),
                    None => {
                        this.account.set_whole();
                        Poll::Ready(None)
                    }
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.held.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::task::Waker;

    use http_body_util::BodyExt as _;
    use tokio::sync::mpsc;

    use super::*;
    use crate::base::in_flight::{InFlight, Options};
    use crate::base::memory::MemoryBudget;

    /// A body that comes piece by piece, as a test sends it.
    struct Pieces(mpsc::UnboundedReceiver<usize>);

    impl Body for Pieces {
        type Data = Bytes;
        type Error = std::convert::Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
            self.0.poll_recv(context).map(|piece| piece.map(|bytes| Ok(Frame::data(vec![0; bytes].into()))))
        }
    }

    /// Room for so many bytes; what a test does not set is out of the way.
    fn in_flight(bytes: u64, options: Options) -> Arc<InFlight> {
        InFlight::new(options, MemoryBudget::new(bytes))
    }

    fn patient() -> Options {
        let long = Duration::from_secs(3_600);
        let young = Duration::ZERO;
        Options { deadline: long, idle_max: long, rate_window: long, room_wait: long, young, ..Options::default() }
    }

    fn watched(all: &Arc<InFlight>) -> (mpsc::UnboundedSender<usize>, Arc<in_flight::Body>, Watched<Pieces>) {
        let (pieces, taken) = mpsc::unbounded_channel();
        let account = all.begin(IpAddr::from([127, 0, 0, 1]).into());
        (pieces, account.clone(), Watched::new(Pieces(taken), account))
    }

    async fn outcome(body: Watched<Pieces>) -> Result<usize, BodyError> {
        match body.collect().await {
            Ok(body) => Ok(body.to_bytes().len()),
            Err(error) => Err(BodyError::among(&*error).cloned().expect("an error of ours")),
        }
    }

    /// What becomes of a body that goes on and on.
    async fn endless(body: Watched<Pieces>, pieces: mpsc::UnboundedSender<usize>) -> BodyError {
        let outcome = tokio::spawn(outcome(body));
        while pieces.send(100).is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        outcome.await.unwrap().unwrap_err()
    }

    #[tokio::test]
    async fn a_body_that_trickles_is_cut_off_whatever_its_deadline() {
        for open_ended in [false, true] {
            let options = Options { rate_window: Duration::from_millis(100), rate_min: 1 << 20, ..patient() };
            let all = in_flight(1 << 30, options);
            let (pieces, account, body) = watched(&all);
            if open_ended {
                account.set_open_ended();
            }
            assert_eq!(endless(body, pieces).await, BodyError::Trickle(1 << 20));
        }
    }

    #[tokio::test]
    async fn a_body_has_a_deadline_for_its_whole() {
        let deadline = Duration::from_millis(100);
        let all = in_flight(1 << 30, Options { deadline, ..patient() });
        let (pieces, _account, body) = watched(&all);
        assert_eq!(endless(body, pieces).await, BodyError::Slow(deadline));
    }

    #[tokio::test]
    async fn an_open_ended_body_has_none_but_must_not_stand_still() {
        let (deadline, idle_max) = (Duration::from_millis(20), Duration::from_secs(2));
        let all = in_flight(1 << 30, Options { deadline, idle_max, ..patient() });
        let (pieces, account, body) = watched(&all);
        account.set_open_ended();
        let outcome = tokio::spawn(outcome(body));
        for _ in 0..5 {
            pieces.send(100).unwrap();
            tokio::time::sleep(deadline).await;
        }
        assert!(!outcome.is_finished());
        assert_eq!(outcome.await.unwrap(), Err(BodyError::Slow(idle_max)));
    }

    #[tokio::test]
    async fn a_healthy_body_gets_the_room_of_the_slowest_of_many_that_trickle() {
        let all = in_flight(200_000, patient());
        let (mut senders, mut tasks) = (Vec::new(), Vec::new());
        for _ in 0..100 {
            let (pieces, _, body) = watched(&all);
            pieces.send(1_000).unwrap();
            senders.push(pieces);
            tasks.push(tokio::spawn(outcome(body)));
        }
        while all.bytes() < 100_000 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let (pieces, _, body) = watched(&all);
        pieces.send(1_500).unwrap();
        drop(pieces);
        assert_eq!(outcome(body).await, Ok(1_500));
        let cut = tasks.iter().filter(|task| task.is_finished()).count();
        assert!((1..=3).contains(&cut), "{cut}: no more are cut off than have to be");
    }

    #[tokio::test]
    async fn who_waits_for_room_in_vain_is_told_to_retry() {
        let all = in_flight(1_000, Options { room_wait: Duration::from_millis(50), ..patient() });
        let held = all.begin(IpAddr::from([127, 0, 0, 1]).into());
        assert_eq!(held.grow(500, Waker::noop()), Ok(Room::Taken));
        held.set_whole();
        let (pieces, _account, body) = watched(&all);
        pieces.send(100).unwrap();
        assert_eq!(outcome(body).await, Err(BodyError::Busy));
    }
}
