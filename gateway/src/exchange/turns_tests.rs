use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use gateway_core::protocol::{ContentRange, RequestPacket, SessionId};
use gateway_core::session::TargetHash;

use super::*;

const PATIENCE: Duration = Duration::from_secs(310);

fn key() -> SessionKey {
    SessionId::parse("x").unwrap().key().clone()
}

fn fragment() -> TurnRequest {
    TurnRequest { conn: None, identity: None, whole: false, patience: PATIENCE }
}

fn of(packet: fn(SessionId) -> RequestPacket) -> TurnRequest {
    let packet = packet(SessionId::parse("x").unwrap());
    let identity = Identity::of(&packet, TargetHash(7).into(), None, [], None);
    TurnRequest { identity, ..fragment() }
}

fn close() -> TurnRequest {
    of(|session| RequestPacket::CloseSession { session })
}

fn cancel() -> TurnRequest {
    of(|session| RequestPacket::CancelSession { session })
}

impl Turns {
    async fn turn(self: &Arc<Self>, arrival: TurnRequest) -> Turn {
        match self.enter(&key(), arrival).await {
            Ok(Entered::Turn(turn)) => turn,
            _ => panic!("no turn"),
        }
    }

    /// A request that has come in full.
    async fn whole(self: &Arc<Self>, arrival: TurnRequest) -> Turn {
        let turn = self.turn(arrival).await;
        assert!(turn.came_whole());
        turn
    }

    /// One that has to wait, and does.
    fn waits(
        self: &Arc<Self>,
        arrival: TurnRequest,
    ) -> BoxFuture<'static, Result<Entered, Superseded>> {
        let turns = Arc::clone(self);
        let mut entering = async move { turns.enter(&key(), arrival).await }.boxed();
        assert!(entering.as_mut().now_or_never().is_none(), "it waits");
        entering
    }
}

fn is_turn(entered: &Result<Entered, Superseded>) -> bool {
    matches!(entered, Ok(Entered::Turn(_)))
}

fn is_end(entered: &Result<Entered, Superseded>) -> bool {
    matches!(entered, Ok(Entered::Joined(SharedOutcome::End)))
}

#[tokio::test]
async fn a_newer_request_waits_for_the_older_to_end() {
    let turns = Arc::<Turns>::default();
    let older = turns.turn(fragment()).await;
    let newer = turns.waits(fragment());
    assert!(older.is_cancelled());
    assert!(!older.came_whole(), "it must not go out any more");
    drop(older);
    assert!(is_turn(&newer.await));
    assert!(turns.sessions.is_empty(), "nothing is kept of requests that ended");
}

#[tokio::test]
async fn of_three_the_newest_goes_on() {
    let turns = Arc::<Turns>::default();
    let first = turns.turn(fragment()).await;
    let second = turns.waits(fragment());
    let third = turns.waits(fragment());
    assert!(second.await.is_err(), "it does not wait to hear that");
    drop(first);
    assert!(is_turn(&third.await));
}

#[tokio::test]
async fn one_that_comes_when_the_turn_is_free_overtakes_those_that_have_waited() {
    let turns = Arc::<Turns>::default();
    let first = turns.turn(fragment()).await;
    let second = turns.waits(fragment());
    drop(first);
    let third = turns.turn(fragment()).await;
    assert!(second.await.is_err());
    drop(third);
    assert!(turns.sessions.is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_must_not_reach_a_server_twice_is_never_cancelled_once_it_is_whole() {
    for newer in [fragment, cancel, close] {
        let turns = Arc::<Turns>::default();
        let older = turns.whole(close()).await;
        let waiting = turns.waits(newer());
        tokio::time::advance(PATIENCE - Duration::from_millis(1)).await;
        assert!(!older.is_cancelled());
        drop(older);
        assert!(is_turn(&waiting.await));
        assert!(turns.sessions.is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn one_waits_no_longer_than_its_patience() {
    let turns = Arc::<Turns>::default();
    let older = turns.whole(close()).await;
    let [same, other] = [turns.waits(close()), turns.waits(fragment())];
    tokio::time::advance(PATIENCE).await;
    assert!(same.await.is_err());
    assert!(other.await.is_err());
    drop(older);
    assert!(turns.sessions.is_empty());
}

#[tokio::test]
async fn all_that_have_joined_get_the_answer_before_the_request_has_ended() {
    let turns = Arc::<Turns>::default();
    let older = turns.whole(close()).await;
    let joined = [turns.waits(close()), turns.waits(close()), turns.waits(close())];
    older.share(SharedOutcome::End);
    for joined in joined {
        assert!(is_end(&joined.await));
    }
    assert!(is_end(&turns.enter(&key(), close()).await), "those that come later too");
    let other = turns.waits(cancel());
    drop(older);
    assert!(is_turn(&other.await));
    assert!(turns.sessions.is_empty());
}

#[tokio::test]
async fn a_fragment_that_comes_after_the_answer_asks_for_another() {
    let last = || {
        of(|session| {
            let range = ContentRange::new(6, 8, 9).unwrap();
            RequestPacket::Fragment { session, range }
        })
    };
    let turns = Arc::<Turns>::default();
    let older = turns.whole(last()).await;
    let joined = turns.waits(last());
    let answer = SharedAnswer { status: StatusCode::OK, fields: Vec::new() };
    older.share(SharedOutcome::Answer(Arc::new(answer)));
    let late = turns.waits(last());
    assert!(matches!(joined.await, Ok(Entered::Joined(SharedOutcome::Answer(_)))));
    drop(older);
    assert!(is_turn(&late.await));
}

#[tokio::test]
async fn the_answer_reaches_one_that_was_overtaken_and_looks_only_after_the_end() {
    let turns = Arc::<Turns>::default();
    let older = turns.whole(close()).await;
    let joined = turns.waits(close());
    let overtaken = turns.waits(fragment());
    let newest = turns.waits(cancel());
    older.share(SharedOutcome::End);
    drop(older);
    assert!(is_end(&joined.await));
    assert!(overtaken.await.is_err());
    assert!(is_turn(&newest.await));
}

#[tokio::test]
async fn where_nothing_is_shared_the_newest_goes_on_by_itself() {
    let turns = Arc::<Turns>::default();
    let older = turns.whole(close()).await;
    let [second, third] = [turns.waits(close()), turns.waits(close())];
    drop(older);
    let third = third.await;
    assert!(is_turn(&third));
    assert!(second.await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_fragment_that_is_whole_is_waited_for_and_then_cut() {
    let turns = Arc::<Turns>::default();
    let older = turns.whole(fragment()).await;
    let mut newer = turns.waits(close());
    tokio::time::advance(BRIEFLY - Duration::from_millis(1)).await;
    assert!(newer.as_mut().now_or_never().is_none());
    assert!(!older.is_cancelled());
    // A third one does not begin the wait anew.
    let third = turns.waits(fragment());
    assert!(newer.await.is_err());
    tokio::time::advance(Duration::from_millis(2)).await;
    let third = tokio::spawn(third);
    tokio::task::yield_now().await;
    assert!(older.is_cancelled());
    drop(older);
    assert!(is_turn(&third.await.unwrap()));
}

#[tokio::test(start_paused = true)]
async fn any_number_of_requests_may_give_up_waiting_for_one_that_does_not_end() {
    let turns = Arc::<Turns>::default();
    let stuck = turns.turn(fragment()).await;
    let mut waiting = Vec::new();
    for _ in 0..10_000 {
        waiting.push(turns.waits(fragment()));
    }
    tokio::time::advance(TO_END).await;
    for next in waiting {
        assert!(next.await.is_err());
    }
    drop(stuck);
    assert!(turns.sessions.is_empty());
}

#[tokio::test]
async fn a_turn_that_nobody_has_is_taken_and_kept_from_who_comes() {
    let turns = Arc::<Turns>::default();
    let held = turns.try_enter(&key(), TurnRequest::own()).expect("it is free");
    assert!(turns.try_enter(&key(), TurnRequest::own()).is_none());
    let newer = turns.waits(fragment());
    assert!(!held.is_cancelled());
    drop(held);
    assert!(turns.try_enter(&key(), TurnRequest::own()).is_none(), "somebody waits for it");
    let newer = newer.await;
    assert!(
        is_turn(&newer) && turns.try_enter(&key(), TurnRequest::own()).is_none(),
        "a request is under way"
    );
    drop(newer);
    assert!(turns.sessions.is_empty());
}
