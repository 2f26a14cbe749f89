use std::pin::pin;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use futures_util::poll;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

use super::super::rig::*;
use super::*;

/// Counts what this module writes to the log.
#[derive(Clone, Default)]
struct Lines(Arc<AtomicUsize>);

impl Lines {
    fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl Subscriber for Lines {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn event(&self, event: &Event<'_>) {
        if event.metadata().target().ends_with("exchange::router") {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

#[tokio::test(start_paused = true)]
async fn a_packet_that_waits_has_a_line_for_each_decision_and_not_for_each_look() {
    let rig = Rig::new();
    rig.pin(ID, UP01, 100).await;
    rig.take_down(UP01);
    let lines = Lines::default();
    let _log = tracing::subscriber::set_default(lines.clone());
    let head = fragment(ID, "100-199/10000");
    let mut exchange = rig.arrive(&head);
    let mut admitted = pin!(rig.gateway.admit(&head, &mut exchange));
    assert!(poll!(&mut admitted).is_pending());
    for _ in 0..5 {
        pass(Duration::from_secs(1)).await;
        assert!(poll!(&mut admitted).is_pending());
    }
    assert_eq!(lines.count(), 1, "its backend is down");
    rig.health.connected(UP01);
    assert!(admitted.await.is_ok());
    assert_eq!(lines.count(), 2, "it goes there");
}

#[tokio::test]
async fn only_creates_take_turns() {
    let rig = Rig::with("[placement]\npolicy = \"round-robin\"");
    rig.pin(ID, UP01, 100).await;
    let mut chosen = Vec::new();
    for _ in 0..3 {
        chosen.extend(rig.admitted(&create()).await.admitted.backend);
        rig.admitted(&ping()).await;
        rig.admitted(&fragment(ID, "100-199/10000")).await;
    }
    chosen.sort();
    assert_eq!(chosen, [UP01, UP02, UP03]);
}

#[tokio::test]
async fn a_backend_that_was_tried_is_not_chosen_again() {
    let rig = Rig::new();
    let head = create();
    let mut exchange = rig.admitted(&head).await;
    exchange.tries.avoid = vec![UP01, UP03];
    let router = &rig.gateway.tries.router;
    let packet = exchange.admitted.packet.clone().expect("a packet");
    let decided = router.decide(&packet, &Lookup::NotAsked, &mut exchange, None);
    assert_eq!(follow(decided, &mut exchange), Ok(()));
    assert_eq!(exchange.admitted.backend, Some(UP02));
    exchange.tries.avoid.push(UP02);
    let decided = router.decide(&packet, &Lookup::NotAsked, &mut exchange, None);
    assert_eq!(follow(decided, &mut exchange), Err(Denied::Answer(Fault::NoBackend)));
}

#[test]
fn a_session_that_only_the_backends_know_is_unknown_where_nobody_asks() {
    assert_eq!(Denied::Ask.fault(), Fault::UnknownSession);
    assert_eq!(Denied::from(Fault::TableFull).fault(), Fault::TableFull);
}
