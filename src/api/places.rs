//! Places among the running queries, and the line of those that wait for one. Nobody can take the line for
//! himself: a free place goes to the sender with the fewest running queries, of his to the connection with the
//! fewest, and then to who waits longest; when the line is full the newest of the connection with most in it goes.
//! Locks: its own, for a look through the line.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::base::in_flight::Sender;
use crate::base::limits::LimitError;

/// Who asks: a sender, and which of his connections. Nobody that is known in tests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asker {
    /// The sender.
    pub sender: Option<Sender>,
    /// The number of his connection.
    pub connection: u64,
}

type Told = Result<(), LimitError>;

struct Waiter {
    asker: Asker,
    number: u64,
    tell: oneshot::Sender<Told>,
}

#[derive(Default)]
struct State {
    running: Vec<Asker>,
    /// Those who came first are first.
    waiting: Vec<Waiter>,
    next: u64,
}

impl State {
    /// How many of the sender's queries run, and of the connection's.
    fn running_of(&self, asker: Asker) -> (usize, usize) {
        let of_sender = || self.running.iter().filter(|own| own.sender == asker.sender);
        (of_sender().count(), of_sender().filter(|own| own.connection == asker.connection).count())
    }

    fn waiting_of(&self, asker: Asker) -> usize {
        self.waiting.iter().filter(|own| own.asker == asker).count()
    }

    fn end(&mut self, asker: Asker) {
        if let Some(at) = self.running.iter().position(|own| *own == asker) {
            self.running.swap_remove(at);
        }
    }

    /// Gives free places to those whose turn it is.
    fn serve(&mut self, places: usize) {
        while self.running.len() < places {
            let turns = self.waiting.iter().enumerate().map(|(at, own)| (self.running_of(own.asker), at));
            let Some((_, at)) = turns.min() else { return };
            let Waiter { asker, tell, .. } = self.waiting.remove(at);
            // Who waits no more has no place.
            if tell.send(Ok(())).is_ok() {
                self.running.push(asker);
            }
        }
    }

    /// Makes room in a line of `limit`: somebody goes who has more in it than `asker`.
    fn shorten(&mut self, asker: Asker, limit: usize) -> Result<(), LimitError> {
        if self.waiting.len() < limit {
            return Ok(());
        }
        let counts = self.waiting.iter().enumerate().map(|(at, own)| (self.waiting_of(own.asker), at));
        match counts.max() {
            Some((most, at)) if most > self.waiting_of(asker) + 1 => {
                let _ = self.waiting.remove(at).tell.send(Err(LimitError::QueueFull { limit }));
                Ok(())
            }
            _ => Err(LimitError::QueueFull { limit }),
        }
    }
}

/// Places among the running queries.
pub struct Places {
    places: usize,
    state: Mutex<State>,
}

impl Places {
    /// So many.
    pub fn new(places: usize) -> Arc<Self> {
        Arc::new(Self { places, state: Mutex::default() })
    }

    /// Places that nobody has.
    pub fn free(&self) -> usize {
        self.places.saturating_sub(self.state.lock().running.len())
    }

    /// How many wait.
    pub fn waiting(&self) -> usize {
        self.state.lock().waiting.len()
    }

    /// A place for `asker`, in a line of at most `limit`.
    ///
    /// # Errors
    /// [`LimitError::QueueFull`].
    pub(super) async fn place(self: &Arc<Self>, asker: Asker, limit: usize) -> Result<Place, LimitError> {
        let mut waits = {
            let mut state = self.state.lock();
            if state.running.len() < self.places {
                state.running.push(asker);
                return Ok(Place { places: self.clone(), asker });
            }
            state.shorten(asker, limit)?;
            let (tell, told) = oneshot::channel();
            let number = state.next;
            state.next += 1;
            state.waiting.push(Waiter { asker, number, tell });
            Waits { places: self.clone(), asker, number, told: Some(told) }
        };
        let told = match waits.told.as_mut() {
            Some(told) => told.await,
            None => return Err(LimitError::Canceled),
        };
        waits.told = None;
        // Whoever waits is told before he is forgotten.
        told.unwrap_or(Err(LimitError::Canceled))?;
        Ok(Place { places: self.clone(), asker })
    }
}

/// Somebody in the line.
struct Waits {
    places: Arc<Places>,
    asker: Asker,
    number: u64,
    told: Option<oneshot::Receiver<Told>>,
}

impl Drop for Waits {
    fn drop(&mut self) {
        let Some(mut told) = self.told.take() else { return };
        let mut state = self.places.state.lock();
        state.waiting.retain(|own| own.number != self.number);
        // The place may have come just now.
        if matches!(told.try_recv(), Ok(Ok(()))) {
            state.end(self.asker);
            state.serve(self.places.places);
        }
    }
}

/// A place among the running queries, until it is dropped.
pub(super) struct Place {
    places: Arc<Places>,
    asker: Asker,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.places.state.lock();
        state.end(self.asker);
        state.serve(self.places.places);
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::pin::Pin;

    use super::*;

    fn asker(sender: u8, connection: u64) -> Asker {
        Asker { sender: Some(IpAddr::from([10, 0, 0, sender]).into()), connection }
    }

    type Asked = Pin<Box<dyn Future<Output = Result<Place, LimitError>>>>;

    /// In the line, unless it has its place at once.
    fn ask(places: &Arc<Places>, sender: u8, connection: u64, limit: usize) -> Asked {
        let places = places.clone();
        let mut asked: Asked = Box::pin(async move { places.place(asker(sender, connection), limit).await });
        let polled = asked.as_mut().poll(&mut std::task::Context::from_waker(std::task::Waker::noop()));
        match polled {
            std::task::Poll::Ready(place) => Box::pin(std::future::ready(place)),
            std::task::Poll::Pending => asked,
        }
    }

    #[tokio::test]
    async fn a_free_place_goes_to_who_has_fewest_and_then_to_who_waits_longest() {
        let places = Places::new(3);
        let mut running = Vec::new();
        for (sender, connection) in [(1, 2), (1, 1), (1, 1)] {
            running.push(ask(&places, sender, connection, 10).await.unwrap());
        }
        let line: Vec<_> = [(1, 1), (1, 2), (1, 3), (2, 9), (1, 3)]
            .map(|(sender, connection)| ask(&places, sender, connection, 10))
            .into_iter()
            .collect();
        assert_eq!((places.free(), places.waiting()), (0, 5));
        let mut order = Vec::new();
        let mut line: Vec<_> = line.into_iter().enumerate().collect();
        for _ in 0..5 {
            running.remove(0);
            let mut left = Vec::new();
            for (at, mut asked) in line {
                let polled = asked.as_mut().poll(&mut std::task::Context::from_waker(std::task::Waker::noop()));
                match polled {
                    std::task::Poll::Ready(place) => {
                        order.push(at);
                        running.push(place.unwrap());
                    }
                    std::task::Poll::Pending => left.push((at, asked)),
                }
            }
            line = left;
        }
        assert_eq!(order, [3, 1, 0, 2, 4], "the other sender, the connection without one, then as they came");
        drop(running);
        assert_eq!(places.free(), 3);
    }

    #[tokio::test]
    async fn a_full_line_loses_the_newest_of_who_has_most_in_it() {
        let places = Places::new(1);
        let _running = ask(&places, 1, 1, 3).await.unwrap();
        let (first, second, third) = (ask(&places, 1, 1, 3), ask(&places, 1, 1, 3), ask(&places, 1, 2, 3));
        let fourth = ask(&places, 1, 1, 3);
        assert_eq!(fourth.await.err(), Some(LimitError::QueueFull { limit: 3 }), "it has most itself");
        let other = ask(&places, 2, 7, 3);
        assert_eq!((second.await.err(), places.waiting()), (Some(LimitError::QueueFull { limit: 3 }), 3));
        let more = ask(&places, 2, 8, 3).await.err();
        assert_eq!(more, Some(LimitError::QueueFull { limit: 3 }), "all have one");
        drop((first, third, other));
        assert_eq!(places.waiting(), 0, "who leaves makes room");
    }

    #[tokio::test]
    async fn a_place_that_comes_as_its_asker_leaves_is_free_again() {
        let places = Places::new(1);
        let running = ask(&places, 1, 1, 3).await.unwrap();
        let waits = ask(&places, 1, 1, 3);
        drop(running);
        assert_eq!(places.free(), 0, "it has it");
        drop(waits);
        assert_eq!(places.free(), 1);
    }
}
