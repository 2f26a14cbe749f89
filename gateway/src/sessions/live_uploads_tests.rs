use gateway_core::protocol::SessionId;

use super::*;

fn key(id: u32) -> SessionKey {
    SessionId::parse(&format!("session-{id}")).unwrap().key().clone()
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn client(last: u8) -> IpAddr {
    IpAddr::from([192, 0, 2, last])
}

fn packet(kind: PacketType, arrived: u64) -> Packet<'static> {
    let range = (kind == PacketType::Fragment).then(|| ContentRange::new(100, 199, 500).unwrap());
    Packet {
        kind,
        range,
        path: b"/in/a.bin",
        user_agent: Some(b"Microsoft BITS/7.8"),
        client: Some(client(7)),
        backend: BackendId(1),
        arrived: seconds(arrived),
    }
}

/// A Create of a client.
fn create(uploads: &LiveUploads, id: u32, arrived: u64, of: u8) {
    let holder = || Some(ClientKey::of(client(of)));
    let (request, _) = uploads.begin(&key(id), &packet(PacketType::CreateSession, arrived), holder);
    assert!(request.is_none(), "nothing of it is under way");
}

fn fragment(uploads: &LiveUploads, id: u32, arrived: u64) -> Option<LiveRequest> {
    uploads.begin(&key(id), &packet(PacketType::Fragment, arrived), || None).0
}

#[track_caller]
fn check(uploads: &LiveUploads, here: &[u32]) {
    let found: Vec<u32> =
        (0..100).filter(|id| uploads.find(&key(*id), seconds(1000)).is_some()).collect();
    assert_eq!(found, here);
    assert_eq!(uploads.len(), here.len());
}

#[test]
fn an_upload_is_shown_from_its_create_or_from_a_fragment_on() {
    let uploads = LiveUploads::default();
    for kind in [PacketType::CloseSession, PacketType::CancelSession, PacketType::Ping] {
        assert!(uploads.begin(&key(1), &packet(kind, 10), || None).0.is_none());
    }
    check(&uploads, &[]);
    create(&uploads, 1, 10, 7);
    let _fragment = fragment(&uploads, 2, 11).unwrap();
    check(&uploads, &[1, 2]);
    let created = uploads.find(&key(1), seconds(11)).unwrap();
    assert_eq!((created.under_way, created.wait, created.moved), (None, Wait::Nothing, None));
    let close = uploads.begin(&key(1), &packet(PacketType::CloseSession, 12), || None).0;
    let closed = uploads.find(&key(1), seconds(12)).unwrap();
    assert_eq!(
        (closed.under_way.unwrap().packet, closed.wait),
        (PacketType::CloseSession, Wait::Answer)
    );
    drop(close);
    assert_eq!(uploads.find(&key(1), seconds(12)).unwrap().wait, Wait::Nothing);
}

#[test]
fn what_comes_of_a_fragment_is_seen_while_it_comes() {
    let uploads = LiveUploads::default();
    let begun = clock::steady();
    let request = {
        let packet = Packet { arrived: begun, ..packet(PacketType::Fragment, 0) };
        uploads.begin(&key(1), &packet, || None).0.unwrap()
    };
    let after = |span: u64| uploads.find(&key(1), begun + seconds(span)).unwrap();
    request.came(40);
    let shown = after(2);
    assert_eq!(
        (&*shown.path, shown.client, shown.backend),
        ("/in/a.bin", Some(client(7)), BackendId(1))
    );
    assert_eq!((shown.came, shown.bytes_per_second), (40, Some(20)));
    assert_eq!((shown.received(100), shown.received(300)), (140, 300));
    assert_eq!(shown.moved, Some(begun + seconds(2)));
    assert_eq!(after(3).moved, Some(begun + seconds(2)), "nothing has come since");
    // It goes to its server once more.
    request.came(0);
    request.came(30);
    assert_eq!((after(4).came, after(4).moved), (30, Some(begun + seconds(2))));
    request.came(100);
    request.waits_for(Wait::Answer);
    assert_eq!((after(4).came, after(4).wait), (100, Wait::Answer));
    drop(request);
    let shown = after(5);
    assert_eq!((shown.came, shown.under_way, shown.received(200)), (0, None, 200));
    assert_eq!(shown.bytes_per_second, Some(20), "of all that came");
}

#[test]
fn a_range_at_the_end_of_64_bits_is_shown() {
    let uploads = LiveUploads::default();
    let range = ContentRange::new(u64::MAX - 2, u64::MAX - 2, u64::MAX).ok();
    let packet = Packet { range, ..packet(PacketType::Fragment, 1) };
    let request = uploads.begin(&key(1), &packet, || None).0.unwrap();
    request.came(100);
    assert_eq!(uploads.find(&key(1), seconds(2)).unwrap().received(0), u64::MAX);
}

#[test]
fn a_client_fails_from_the_first_answer_that_is_no_progress() {
    let uploads = LiveUploads::default();
    let request = fragment(&uploads, 1, 10).unwrap();
    let failing = || uploads.find(&key(1), seconds(20)).unwrap().failing_since;
    request.answered(Some(503));
    let since = failing();
    assert!(since.is_some());
    request.answered(None);
    request.answered(Some(413));
    assert_eq!(failing(), since);
    request.answered(Some(416));
    assert_eq!(failing(), None);
}

#[test]
fn a_request_that_waits_for_another_one_is_seen() {
    let uploads = LiveUploads::default();
    assert!(uploads.wait_in_line(&key(1)).is_none());
    let request = fragment(&uploads, 1, 10).unwrap();
    let in_line = uploads.wait_in_line(&key(1)).unwrap();
    let wait = || uploads.find(&key(1), seconds(20)).unwrap().wait;
    assert_eq!(wait(), Wait::Turn);
    drop(request);
    assert_eq!(wait(), Wait::Turn);
    drop(in_line);
    assert_eq!(wait(), Wait::Nothing);
}

#[test]
fn the_longest_silent_one_makes_room_and_none_with_a_request_does() {
    let uploads = LiveUploads::with(Capacity { most: 4, per_client: 4 });
    let under_way = fragment(&uploads, 0, 1).unwrap();
    for id in 1..4 {
        create(&uploads, id, u64::from(20 - id), id as u8);
    }
    check(&uploads, &[0, 1, 2, 3]);
    create(&uploads, 4, 30, 4);
    check(&uploads, &[0, 1, 2, 4]);
    create(&uploads, 5, 31, 5);
    check(&uploads, &[0, 1, 4, 5]);
    let more: Vec<_> = [1, 4, 5].map(|id| fragment(&uploads, id, 40).unwrap()).into();
    create(&uploads, 6, 50, 6);
    assert!(fragment(&uploads, 7, 50).is_none(), "all have a request under way");
    check(&uploads, &[0, 1, 4, 5]);
    drop(under_way);
    create(&uploads, 6, 52, 6);
    check(&uploads, &[1, 4, 5, 6]);
    drop(more);
}

#[test]
fn a_client_with_its_share_pushes_out_none_but_its_own() {
    let uploads = LiveUploads::with(Capacity::of(16));
    create(&uploads, 0, 1, 9);
    for id in 1..5 {
        create(&uploads, id, 10 + u64::from(id), 7);
        let mine: Vec<u32> = (id.saturating_sub(1).max(1)..=id).collect();
        check(&uploads, &[&[0], &mine[..]].concat());
    }
    let request = fragment(&uploads, 4, 20);
    create(&uploads, 5, 21, 7);
    check(&uploads, &[0, 4, 5]);
    drop(request);
    uploads.remove(&key(4));
    uploads.remove(&key(5));
    assert_eq!(uploads.shares.lock().clients.len(), 1, "who has none is forgotten");
    create(&uploads, 6, 30, 7);
    create(&uploads, 7, 31, 7);
    check(&uploads, &[0, 6, 7]);
}

#[test]
fn who_is_no_single_client_is_held_to_no_share() {
    let uploads = LiveUploads::with(Capacity::of(16));
    for id in 0..20 {
        drop(fragment(&uploads, id, u64::from(id)));
    }
    assert_eq!(uploads.len(), 16);
}

#[test]
fn what_is_shown_is_cut_and_steers_no_terminal() {
    let uploads = LiveUploads::default();
    let (path, agent) = ([b'a'; 300], b"\x1b[2J");
    let odd = Packet { path: &path, user_agent: Some(agent), ..packet(PacketType::Fragment, 1) };
    let _request = uploads.begin(&key(1), &odd, || None).0.unwrap();
    let shown = uploads.find(&key(1), seconds(2)).unwrap();
    assert_eq!(shown.path.len(), 256);
    assert_eq!(shown.user_agent.as_deref(), Some("\\x1b[2J"));
}
