//! A file is fetched through the gateway after its upload: from the server that has it.

use e2e_tests::client::{Answer, Connection, FragmentSizes, Head, PacketType};
use e2e_tests::data::Content;
use e2e_tests::farm::{Farm, ORIGIN, StubFault};
use e2e_tests::wait;

#[track_caller]
fn fetch(farm: &Farm, method: &str, target: &str) -> Answer {
    let head = Head::new(method, target).field("Host", ORIGIN);
    let mut connection = Connection::open(farm.entrance()).expect("a connection");
    connection.send(&head.to_bytes()).expect("a request is taken");
    let answer = match method {
        "HEAD" => connection.read_answer_to_head(),
        _ => connection.read_answer(),
    };
    answer.expect("an answer")
}

fn bytes(content: &Content) -> Vec<u8> {
    let mut bytes = vec![0; content.len() as usize];
    content.read_at(0, &mut bytes);
    bytes
}

/// Six files on three servers, and where each of them is.
fn uploaded(farm: &Farm) -> Vec<(String, Content, String)> {
    let client = farm.client().with(|o| o.fragments = FragmentSizes::Fixed(4_000));
    let upload = |number: u64| {
        let (target, stored) =
            (format!("/in/a%20{number}.bin?site=7"), format!("/in/a {number}.bin"));
        let content = Content::seeded(number, 10_000 + number);
        client.upload(&farm.url(&target), &content).expect_complete();
        let at = farm.expect_stored(&stored, &content);
        (target, content, at)
    };
    let files: Vec<_> = (0..6).map(upload).collect();
    for stub in farm.stubs() {
        assert!(files.iter().any(|(_, _, at)| at == stub.name()), "{} has none", stub.name());
    }
    files
}

#[test]
fn a_file_is_fetched_from_the_server_that_it_was_delivered_to() {
    let farm = Farm::of_stubs(3).without_host_ids().start();
    let files = uploaded(&farm);
    farm.stubs().iter().for_each(|stub| stub.clear_requests());
    for (target, content, at) in files.iter().rev() {
        for target in [target.clone(), target.replace("a%20", "%61%20")] {
            let answer = fetch(&farm, "GET", &target);
            assert_eq!(answer.status, 200, "{target} was answered {}", answer.head);
            assert!(answer.body == bytes(content), "{target} is another file");
            let answer = fetch(&farm, "HEAD", &target);
            let length = answer.field("Content-Length").map(str::to_owned);
            assert_eq!((answer.status, length), (200, Some(content.len().to_string())));
            let seen = farm.stub_named(at).requests();
            let line = format!("HEAD {target} HTTP/1.1");
            assert_eq!(seen.last().expect("it was asked").request_line(), line);
        }
    }
    let served: usize = farm.stubs().iter().map(|stub| stub.requests().len()).sum();
    assert_eq!(served, 24, "no other server was asked");
    let log = farm.gateway().access_log();
    let line = log.iter().rfind(|line| line["method"] == "GET").expect("it is logged");
    assert_eq!(line["pin_source"], "delivered");
    farm.expect_healthy();
}

/// The upload had no query, and the download may have one.
#[test]
fn a_query_that_the_upload_did_not_have_makes_no_other_file_of_it() {
    let farm = Farm::of_stubs(3).without_host_ids().start();
    for number in 0..4 {
        let (target, content) = (format!("/in/{number}.bin"), Content::seeded(number, 3_000));
        farm.client().upload(&farm.url(&target), &content).expect_complete();
        let answer = fetch(&farm, "GET", &format!("{target}?download=1"));
        assert_eq!(answer.status, 200, "{}", answer.head);
        assert!(answer.body == bytes(&content));
    }
}

#[test]
fn the_server_of_a_file_is_waited_for_and_no_other_is_asked() {
    let farm = Farm::of_stubs(2)
        .without_host_ids()
        .set("failover.hold", "\"100ms\"")
        .set("health.kind", "\"tcp\"")
        .set("health.interval", "\"100ms\"")
        .start();
    let content = Content::seeded(1, 3_000);
    farm.client().upload(&farm.url("/in/a.bin"), &content).expect_complete();
    let at = farm.expect_stored("/in/a.bin", &content);
    farm.stub_named(&at).kill();
    for _ in 0..4 {
        assert_eq!(fetch(&farm, "GET", "/in/a.bin").status, 503);
    }
    farm.stub_named(&at).start();
    wait::until("its server is back", || fetch(&farm, "GET", "/in/a.bin").status != 503);
    let answer = fetch(&farm, "GET", "/in/a.bin");
    assert!(answer.status == 200 && answer.body == bytes(&content), "{}", answer.head);
}

#[test]
fn a_file_that_is_uploaded_anew_is_fetched_from_its_new_server() {
    let farm = Farm::of_stubs(2).without_host_ids().each_stub(&["--allow-overwrites"]).start();
    let target = "/in/a.bin";
    for number in 0..4 {
        let content = Content::seeded(number, 3_000);
        farm.client().upload(&farm.url(target), &content).expect_complete();
        let answer = fetch(&farm, "GET", target);
        assert!(answer.status == 200 && answer.body == bytes(&content), "{}", answer.head);
    }
    // What is not delivered changes nothing.
    let refused = StubFault::on(PacketType::CloseSession, "answer").with("status", 403);
    farm.stubs().iter().for_each(|stub| stub.fault(refused.clone()));
    farm.client().upload(&farm.url(target), &Content::seeded(9, 3_000));
    let answer = fetch(&farm, "GET", target);
    assert!(answer.body == bytes(&Content::seeded(3, 3_000)), "{}", answer.head);
}

/// Also of a server that was not in the configuration for a while.
#[test]
fn a_reload_keeps_what_was_delivered() {
    let farm = Farm::of_stubs(3).without_host_ids().start();
    let (files, gateway) = (uploaded(&farm), farm.gateway());
    let fetch_all = |farm: &Farm| {
        for (target, content, _) in &files {
            let answer = fetch(farm, "GET", target);
            assert!(answer.status == 200 && answer.body == bytes(content), "{}", answer.head);
        }
    };
    gateway.configure(|settings| settings.set("placement.policy", "\"hash\""));
    assert!(gateway.reload());
    fetch_all(&farm);
    let away = farm.stub(0);
    gateway.remove_backend(away.name());
    assert!(gateway.reload());
    let (target, ..) = files.iter().find(|(_, _, at)| at == away.name()).expect("it has one");
    wait::until("it has left", || fetch(&farm, "GET", target).status == 404);
    gateway.set_backend(away.name(), away.address());
    assert!(gateway.reload());
    fetch_all(&farm);
    farm.expect_healthy();
}

/// Another process knows no delivery: a download goes to any server, as every other request.
#[test]
fn a_download_goes_to_any_server_after_a_restart_or_an_upgrade() {
    let next: [fn(&Farm); 2] = [
        |farm| farm.gateway().restart(),
        |farm| assert_eq!(farm.gateway().upgrade().wait().code(), Some(0)),
    ];
    for next in next {
        let farm = Farm::of_stubs(2)
            .without_host_ids()
            .set("process.upgrade_socket", "\"{{tmp}}/upgrade.sock\"")
            .each_stub(&["--allow-overwrites"])
            .start();
        let (target, content) = ("/in/a.bin", Content::seeded(1, 3_000));
        farm.client().upload(&farm.url(target), &content).expect_complete();
        next(&farm);
        let mut answers: Vec<_> = (0..4).map(|_| fetch(&farm, "GET", target).status).collect();
        answers.sort_unstable();
        assert_eq!(answers, [200, 200, 404, 404]);
        farm.client().upload(&farm.url(target), &content).expect_complete();
        for _ in 0..4 {
            assert_eq!(fetch(&farm, "GET", target).status, 200);
        }
    }
}
