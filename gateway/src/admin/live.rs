//! What the open pages are told once a second: one look at the gateway for all of them, and none while
//! no page is open.
//!
//! A page that has just come is told everything, the others what has changed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use hyper::body::Bytes;
use parking_lot::Mutex;
use serde_json::json;
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use super::body::AnswerBody;
use super::stay::Stay;
use crate::base::clock;

/// Pages that are kept up to date at the same time.
pub const PLACES: usize = 16;

/// Between two looks.
const PERIOD: Duration = Duration::from_secs(1);

/// Messages that wait for a reader; who is that far behind begins again.
const BEHIND: usize = 8;

/// Then a page connects anew, so that no connection is for ever.
const LIFE: Duration = Duration::from_secs(60 * 60);

/// What was seen: pieces of pages by the id of the element that shows them.
#[derive(Debug, Default)]
pub struct Seen {
    pub parts: BTreeMap<String, String>,
    /// Elements of what is no more.
    pub ended: Vec<String>,
}

pub struct Live {
    places: Arc<Semaphore>,
    viewers: Mutex<Vec<Viewer>>,
    came: Notify,
}

struct Viewer {
    send: mpsc::Sender<Bytes>,
    /// Whether whoever looks may still do so.
    is_let_in: Box<dyn Fn() -> bool + Send>,
    stay: Stay,
    since: Duration,
    is_new: bool,
}

impl Default for Live {
    fn default() -> Self {
        let places = Arc::new(Semaphore::new(PLACES));
        Self { places, viewers: Mutex::default(), came: Notify::new() }
    }
}

impl Drop for Viewer {
    fn drop(&mut self) {
        self.stay.over();
    }
}

impl Viewer {
    fn stays(&self, now: Duration) -> bool {
        !self.send.is_closed() && (self.is_let_in)() && now.saturating_sub(self.since) < LIFE
    }
}

impl Live {
    /// The events for one more page, if there is a place.
    pub fn join(
        &self,
        is_let_in: impl Fn() -> bool + Send + 'static,
        stay: &Stay,
    ) -> Option<AnswerBody> {
        let place = Arc::clone(&self.places).try_acquire_owned().ok()?;
        let (send, events) = mpsc::channel(BEHIND);
        // So that the head of the answer leaves at once.
        send.try_send(Bytes::from_static(b"retry: 2000\n\n")).ok()?;
        stay.take(place);
        stay.open();
        self.viewers.lock().push(Viewer {
            send,
            is_let_in: Box::new(is_let_in),
            stay: stay.clone(),
            since: clock::steady(),
            is_new: true,
        });
        self.came.notify_one();
        Some(AnswerBody::Live(events))
    }

    /// Has `look` look as long as somebody wants to know, and tells what it sees.
    pub async fn run(
        &self,
        mut look: impl FnMut() -> BoxFuture<'static, Option<Seen>>,
        stop: CancellationToken,
    ) {
        let mut last = BTreeMap::new();
        loop {
            self.viewers.lock().retain(|viewer| viewer.stays(clock::steady()));
            if self.viewers.lock().is_empty() {
                last.clear();
                tokio::select! {
                    () = stop.cancelled() => break,
                    () = self.came.notified() => {}
                }
            }
            if let Some(seen) = look().await {
                self.tell(&seen, &last);
                last = seen.parts;
            }
            tokio::select! {
                () = stop.cancelled() => break,
                () = tokio::time::sleep(PERIOD) => {}
                () = self.came.notified() => {}
            }
        }
        self.viewers.lock().clear();
    }

    fn tell(&self, seen: &Seen, last: &BTreeMap<String, String>) {
        let news = message(seen, |id, part| last.get(id) != Some(part));
        let everything = message(seen, |_, _| true);
        self.viewers.lock().retain_mut(|viewer| {
            let message = if viewer.is_new { &everything } else { &news };
            viewer.is_new = false;
            viewer.send.try_send(message.clone()).is_ok()
        });
    }
}

fn message(seen: &Seen, is_told: impl Fn(&str, &String) -> bool) -> Bytes {
    let parts = seen.parts.iter().filter(|(id, part)| is_told(id, part));
    let parts: BTreeMap<_, _> = parts.collect();
    // JSON has no line ends, which would end the message.
    let data = json!({ "parts": parts, "ended": seen.ended });
    format!("data: {data}\n\n").into()
}

#[cfg(test)]
mod tests {
    use std::future::ready;
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    use hyper::body::Body;

    use super::*;

    async fn next(body: &mut AnswerBody) -> Option<String> {
        let frame =
            std::future::poll_fn(|context| std::pin::Pin::new(&mut *body).poll_frame(context));
        let bytes = frame.await?.expect("it cannot fail").into_data().expect("data");
        Some(String::from_utf8(bytes.to_vec()).expect("text"))
    }

    fn parts(pairs: &[(&str, &str)]) -> Seen {
        let pairs = pairs.iter().map(|(id, part)| ((*id).to_owned(), (*part).to_owned()));
        Seen { parts: pairs.collect(), ended: vec![] }
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_page_is_told_everything_and_the_others_the_news() {
        let (live, looks) = (Arc::new(Live::default()), Arc::new(AtomicUsize::new(0)));
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let running = {
            let (live, looks) = (Arc::clone(&live), Arc::clone(&looks));
            tokio::spawn(async move {
                let look = move || -> BoxFuture<'static, _> {
                    let count = looks.fetch_add(1, Ordering::Relaxed).to_string();
                    Box::pin(ready(Some(parts(&[("a", "same"), ("b", &count)]))))
                };
                live.run(look, stopped).await;
            })
        };
        tokio::time::sleep(PERIOD * 10).await;
        assert_eq!(looks.load(Ordering::Relaxed), 0, "nobody looks");
        let mut one = live.join(|| true, &Stay::default()).expect("a place");
        assert_eq!(next(&mut one).await.as_deref(), Some("retry: 2000\n\n"));
        let told = next(&mut one).await.expect("told");
        assert_eq!(told, "data: {\"parts\":{\"a\":\"same\",\"b\":\"0\"},\"ended\":[]}\n\n");
        let told = next(&mut one).await.expect("told");
        assert_eq!(told, "data: {\"parts\":{\"b\":\"1\"},\"ended\":[]}\n\n");
        stop.cancel();
        running.await.expect("it ends");
        assert_eq!(next(&mut one).await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_is_not_let_in_any_more_hears_no_more() {
        let (live, is_in) = (Arc::new(Live::default()), Arc::new(AtomicBool::new(true)));
        let running = Arc::clone(&live);
        let look = || -> BoxFuture<'static, _> { Box::pin(ready(Some(Seen::default()))) };
        tokio::spawn(async move { running.run(look, CancellationToken::new()).await });
        let (asked, stay) = (Arc::clone(&is_in), Stay::default());
        let is_let_in = move || asked.load(Ordering::Relaxed);
        let mut one = live.join(is_let_in, &stay).expect("a place");
        assert!(next(&mut one).await.is_some());
        is_in.store(false, Ordering::Relaxed);
        while next(&mut one).await.is_some() {}
        stay.limit(LIFE).await;
    }

    /// Its connection would take a place for a minute, or for as long as its kernel takes more.
    #[tokio::test(start_paused = true)]
    async fn a_page_that_stands_still_ends_soon() {
        let (live, stay) = (Arc::new(Live::default()), Stay::default());
        let stopped = CancellationToken::new();
        let running = Arc::clone(&live);
        let look = || -> BoxFuture<'static, _> { Box::pin(ready(Some(Seen::default()))) };
        tokio::spawn(async move { running.run(look, stopped).await });
        let _unread = live.join(|| true, &stay).expect("a place");
        let since = clock::stopwatch();
        stay.limit(LIFE).await;
        assert!(since.elapsed() < PERIOD * (BEHIND as u32 + 2), "{:?}", since.elapsed());
    }

    #[test]
    fn places_are_counted_and_come_back() {
        let (live, stays) = (Live::default(), [(); PLACES].map(|()| Stay::default()));
        let bodies: Vec<_> = stays.iter().map(|stay| live.join(|| true, stay)).collect();
        assert!(bodies.iter().all(Option::is_some));
        assert!(live.join(|| true, &Stay::default()).is_none());
        stays[0].ended();
        assert!(live.join(|| true, &Stay::default()).is_some());
    }
}
