//! Imports that are under way, each of which holds one of few places for as long as its body comes. One whose
//! sender is slow may take its time while nobody waits; when there is no place for one that comes, it is given
//! up and told to retry: what it has sent is stored, and to send all again is harmless.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

/// A sender that sends less than this, in bytes a second, while we wait for it, ...
const SLOW_BYTES: f64 = (64 << 10) as f64;
/// ... over so long, is slow.
const SLOW_WINDOW: Duration = Duration::from_secs(5);
/// How often one that waits for a place looks for a slow one.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// How fast the body of an import comes.
#[derive(Default)]
pub(super) struct Meter {
    /// How long its sender was waited for, and what came, since the rate was looked at last.
    window: Mutex<(Duration, u64)>,
    slow: AtomicBool,
    bell: Notify,
}

impl Meter {
    /// After a wait of `waited` for the sender `bytes` have come.
    pub(super) fn came(&self, waited: Duration, bytes: usize) {
        let mut window = self.window.lock();
        window.0 += waited;
        window.1 += bytes as u64;
        if window.0 >= SLOW_WINDOW {
            self.slow.store((window.1 as f64) < SLOW_BYTES * window.0.as_secs_f64(), Ordering::Relaxed);
            *window = (Duration::ZERO, 0);
        }
    }

    /// Returns when the import is to make room.
    pub(super) async fn given_up(&self) {
        self.bell.notified().await;
    }
}

/// All imports under way.
pub(super) struct Imports {
    places: Arc<Semaphore>,
    running: Mutex<Vec<Arc<Meter>>>,
}

impl Imports {
    /// Room for so many.
    pub(super) fn new(places: usize) -> Arc<Self> {
        Arc::new(Self { places: Arc::new(Semaphore::new(places.max(1))), running: Mutex::default() })
    }

    /// A place for one more; a slow one goes if there is none. `None` when there was none within `wait`.
    pub(super) async fn enter(self: &Arc<Self>, wait: Duration) -> Option<Running> {
        let end = Instant::now() + wait;
        loop {
            // Those that wait have their turn in the order they came, as long as they look.
            if let Ok(Ok(place)) = tokio::time::timeout(LOOK_EVERY, self.places.clone().acquire_owned()).await {
                let meter = Arc::new(Meter::default());
                self.running.lock().push(meter.clone());
                return Some(Running { imports: self.clone(), meter, _place: place });
            }
            self.give_up_slow();
            if Instant::now() >= end {
                return None;
            }
        }
    }

    fn give_up_slow(&self) {
        // One at a time: whoever has been told and is not gone yet is not told again.
        let mut running = self.running.lock();
        if let Some(at) = running.iter().position(|meter| meter.slow.load(Ordering::Relaxed)) {
            tracing::info!("an import whose sender is slow was given up for another");
            running.swap_remove(at).bell.notify_one();
        }
    }
}

/// An import under way, until it is dropped.
pub(super) struct Running {
    imports: Arc<Imports>,
    /// How fast it comes.
    pub(super) meter: Arc<Meter>,
    _place: OwnedSemaphorePermit,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.imports.running.lock().retain(|own| !Arc::ptr_eq(own, &self.meter));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn slow_ones_make_room_for_who_waits_and_others_do_not() {
        let imports = Imports::new(2);
        let wait = Duration::from_millis(1);
        let (one, two) = (imports.enter(wait).await.unwrap(), imports.enter(wait).await.unwrap());
        assert!(imports.enter(wait).await.is_none(), "nobody is slow");
        one.meter.came(SLOW_WINDOW, 1 << 20);
        two.meter.came(Duration::from_secs(4), 10);
        assert!(imports.enter(wait).await.is_none(), "one is fast, of the other too little is known");
        two.meter.came(Duration::from_secs(1), 10);
        let (third, ()) = tokio::join!(imports.enter(Duration::from_secs(60)), async {
            two.meter.given_up().await;
            drop(two);
        });
        assert!(third.is_some());
        let told = tokio::time::timeout(Duration::ZERO, one.meter.given_up()).await;
        assert!(told.is_err(), "the fast one stays");
    }
}
