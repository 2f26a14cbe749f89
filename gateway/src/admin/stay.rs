//! How long a connection may stay, and whose place it takes for so long.
//!
//! An answer that was made is still to be written, and its reader may be slow: a place that was taken
//! for it comes back when the connection ends, and not before.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::sleep;

/// How long an answer that has begun may go on after its end was decided.
pub const LAST_WORDS: Duration = Duration::from_secs(1);

/// Of one connection, shared by what serves it and what answers on it.
#[derive(Clone, Default)]
pub struct Stay(Arc<Shared>);

#[derive(Default)]
struct Shared {
    place: Mutex<Option<OwnedSemaphorePermit>>,
    until: watch::Sender<Until>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Until {
    /// One exchange takes place.
    #[default]
    Exchange,
    /// Somebody has heard enough.
    Told,
    /// Nothing more is to be told.
    Over,
}

impl Stay {
    /// Takes a place in place of that of before, if there was one.
    pub fn take(&self, place: OwnedSemaphorePermit) {
        *self.0.place.lock() = Some(place);
    }

    /// It may stay until it is over.
    pub fn open(&self) {
        self.0.until.send_replace(Until::Told);
    }

    /// It ends soon, whether or not its reader takes what is still to be written.
    pub fn over(&self) {
        self.0.until.send_replace(Until::Over);
    }

    /// The connection has ended: another one may have its place.
    pub fn ended(&self) {
        self.0.place.lock().take();
    }

    /// Ready when the connection has to end: `exchange` after its first byte, unless it may stay.
    pub async fn limit(&self, exchange: Duration) {
        let mut until = self.0.until.subscribe();
        // Its sender is in `self`.
        tokio::select! {
            () = sleep(exchange) => return,
            _ = until.wait_for(|until| *until != Until::Exchange) => {}
        }
        let _ = until.wait_for(|until| *until == Until::Over).await;
        sleep(LAST_WORDS).await;
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use tokio::sync::Semaphore;
    use tokio::time::timeout;

    use super::*;
    use crate::base::clock;

    const EXCHANGE: Duration = Duration::from_secs(60);

    #[tokio::test(start_paused = true)]
    async fn an_exchange_has_its_time_and_what_is_open_ends_when_it_is_over() {
        let (begin, stay) = (clock::stopwatch(), Stay::default());
        stay.limit(EXCHANGE).await;
        assert_eq!(begin.elapsed(), EXCHANGE);
        let stay = Stay::default();
        let mut limit = pin!(stay.limit(EXCHANGE));
        assert!(timeout(EXCHANGE / 2, limit.as_mut()).await.is_err());
        stay.open();
        assert!(timeout(EXCHANGE * 100, limit.as_mut()).await.is_err());
        let begin = clock::stopwatch();
        stay.over();
        limit.await;
        assert_eq!(begin.elapsed(), LAST_WORDS);
    }

    #[test]
    fn a_place_comes_back_with_another_or_with_the_end() {
        let (stay, places) = (Stay::default(), Arc::new(Semaphore::new(1)));
        let others = Arc::new(Semaphore::new(1));
        let take = |from: &Arc<Semaphore>| Arc::clone(from).try_acquire_owned().ok();
        stay.take(take(&places).expect("a place"));
        assert!(take(&places).is_none());
        stay.take(take(&others).expect("a place"));
        assert!(take(&places).is_some() && take(&others).is_none());
        stay.ended();
        assert!(take(&others).is_some());
    }
}
