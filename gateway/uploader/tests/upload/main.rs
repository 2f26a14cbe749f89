//! `bits-gateway upload` against a server that follows a script, byte for byte.

mod script;

use std::net::SocketAddr;

use bits_uploader::{Status, execute};
use socket2::{Domain, Socket, Type};

use script::{
    Act, Job, SESSION, Server, answer, created, lost, no_identity, ok, received, status, until,
    wrong_offset,
};

#[tokio::test]
async fn packets_are_those_of_windows_byte_for_byte() {
    let server = Server::start(vec![created(""), received(10_000), received(15_000), ok("")]);
    let job = Job::new(&server, 15_000);
    let done = job.run().await;
    job.check_complete(&server, &done);
    let seen = server.seen();
    let port = server.address.port();
    let agent = concat!("bits-gateway-upload/", env!("CARGO_PKG_VERSION"));
    assert_eq!(
        seen[0].head,
        format!(
            "BITS_POST /in/a.bin?x=1 HTTP/1.1\r\nAccept: */*\r\nBITS-Packet-Type: Create-Session\r\n\
             BITS-Supported-Protocols: {{7df0354d-249b-430f-820d-3d2a9bef4931}}\r\n\
             User-Agent: {agent}\r\nHost: Up.test:{port}\r\nContent-Length: 0\r\n\
             Connection: Keep-Alive\r\n\r\n"
        )
    );
    assert_eq!(
        seen[2].head,
        format!(
            "BITS_POST /in/a.bin?x=1 HTTP/1.1\r\nAccept: */*\r\nBITS-Packet-Type: Fragment\r\n\
             BITS-Session-Id: {SESSION}\r\nContent-Name: a.bin\r\n\
             Content-Range: bytes 10000-14999/15000\r\n\
             User-Agent: {agent}\r\nHost: Up.test:{port}\r\nContent-Length: 5000\r\n\
             Connection: Keep-Alive\r\n\r\n"
        )
    );
    assert_eq!(seen[3].field("BITS-Packet-Type"), Some("Close-Session"));
    assert_eq!(seen[3].field("Content-Length"), Some("0"));
    assert_eq!([&seen[1].body[..], &seen[2].body[..]].concat(), job.bytes);
    assert!(seen.iter().all(|request| request.connection == 0), "one connection carries it all");
    let (report, _) = done;
    assert_eq!((report.fragments, report.restarts, report.retries), (2, 0, 0));
    assert_eq!(report.session.as_deref(), Some("3f9c1e52"));
}

#[tokio::test]
async fn an_empty_file_is_a_session_without_fragments() {
    let server = Server::start(vec![created(""), ok("")]);
    let job = Job::new(&server, 0);
    job.check_complete(&server, &job.run().await);
    assert_eq!(server.packets(), ["Create-Session", "Close-Session"]);
}

#[tokio::test]
async fn the_offset_of_a_416_is_obeyed_up_and_down() {
    let server = Server::start(vec![
        created(""),
        wrong_offset(4_000),
        received(14_000),
        wrong_offset(2_000),
        received(12_000),
        received(20_000),
        ok(""),
    ]);
    let job = Job::new(&server, 20_000);
    job.check_complete(&server, &job.run().await);
    let expected = [
        "Create-Session",
        "Fragment 0-9999/20000",
        "Fragment 4000-13999/20000",
        "Fragment 14000-19999/20000",
        "Fragment 2000-11999/20000",
        "Fragment 12000-19999/20000",
        "Close-Session",
    ];
    assert_eq!(server.packets(), expected);
    let seen = server.seen();
    assert_eq!(seen[4].body, job.bytes[2_000..12_000]);
    assert_eq!(seen[5].body, job.bytes[12_000..]);
}

#[tokio::test]
async fn a_413_makes_fragments_smaller_but_never_below_5_kib() {
    let server = Server::start(vec![
        created(""),
        status(413),
        Act::Early(answer(413, "")),
        received(5_120),
        received(10_240),
        received(12_000),
        ok(""),
    ]);
    let job = Job::new(&server, 12_000).with(&["--fragment-size", "11000"]);
    job.check_complete(&server, &job.run().await);
    let expected = [
        "Create-Session",
        "Fragment 0-10999/12000",
        "Fragment 0-5499/12000",
        "Fragment 0-5119/12000",
        "Fragment 5120-10239/12000",
        "Fragment 10240-11999/12000",
        "Close-Session",
    ];
    assert_eq!(server.packets(), expected);

    let stubborn = Server::start(vec![created(""), status(413), status(413), status(413)]);
    let (report, code) = Job::new(&stubborn, 20_000).run().await;
    assert_eq!((report.status, code), (Status::Failed, 1));
    assert!(report.error.unwrap().contains("even the smallest fragment"));
    assert_eq!(stubborn.packets().last().unwrap(), "Fragment 0-5119/20000");
}

#[tokio::test]
async fn a_lost_session_starts_over_at_once_at_the_host_of_the_url() {
    let server = Server::start(vec![
        created("BITS-Host-Id: n1.up.test; BITS-Host-Id-Fallback-Timeout: 900"),
        ok(""),
        received(10_000),
        lost(),
        created(""),
        received(10_000),
        received(12_000),
        ok(""),
    ]);
    let job = Job::new(&server, 12_000).with(&["--retry-delay", "1h", "--give-up", "2h"]);
    let done = job.run().await;
    job.check_complete(&server, &done);
    let seen = server.seen();
    let port = server.address.port();
    assert_eq!(seen[3].field("Host"), Some(format!("n1.up.test:{port}").as_str()));
    assert_eq!(seen[4].what(), "Create-Session");
    assert_eq!(seen[4].field("Host"), Some(format!("Up.test:{port}").as_str()));
    assert_eq!(seen[5].what(), "Fragment 0-9999/12000");
    assert_eq!((done.0.restarts, done.0.retries), (1, 0));
}

#[tokio::test]
async fn a_server_that_always_forgets_ends_the_upload() {
    let server = Server::start([created(""), lost()].into_iter().cycle().take(100).collect());
    let (report, code) = Job::new(&server, 100).run().await;
    assert_eq!((report.status, code), (Status::Failed, 1));
    assert!(report.error.unwrap().contains("keeps losing"));
}

#[tokio::test]
async fn packets_follow_the_host_id_after_a_ping() {
    let server = Server::start(vec![
        created("BITS-Host-Id: N1.Up.Test; BITS-Host-Id-Fallback-Timeout: 900"),
        ok(""),
        received(8_000),
        ok(""),
    ]);
    let job = Job::new(&server, 8_000);
    let done = job.run().await;
    job.check_complete(&server, &done);
    let expected = ["Create-Session", "Ping", "Fragment 0-7999/8000", "Close-Session"];
    assert_eq!(server.packets(), expected);
    let host = format!("N1.Up.Test:{}", server.address.port());
    let seen = server.seen();
    assert!(seen[1..].iter().all(|request| request.field("Host") == Some(&host)), "{seen:?}");
    assert_eq!(seen[1].field("BITS-Session-Id"), None);
    assert_eq!(done.0.host_ids, ["N1.Up.Test"]);
}

#[tokio::test]
async fn an_unreachable_host_id_is_left_after_its_timeout_with_the_same_session() {
    // Bound, so that nobody else gets the port, but not listening.
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let refused = socket.local_addr().unwrap().as_socket().unwrap();
    let server = Server::start(vec![
        created("BITS-Host-Id: n1.up.test; BITS-Host-Id-Fallback-Timeout: 1"),
        ok(""),
        received(8_000),
        ok(""),
    ]);
    let mapping = format!("n1.up.test:{refused}");
    let job = Job::new(&server, 8_000).with(&["--retry-delay", "50ms", "--resolve", &mapping]);
    let done = job.run().await;
    job.check_complete(&server, &done);
    let expected = ["Create-Session", "Ping", "Fragment 0-7999/8000", "Close-Session"];
    assert_eq!(server.packets(), expected);
    let seen = server.seen();
    let host = format!("Up.test:{}", server.address.port());
    assert!(seen.iter().all(|request| request.field("Host") == Some(&host)), "{seen:?}");
    assert_eq!(seen[2].field("BITS-Session-Id"), Some(SESSION));
    assert_eq!(done.0.restarts, 0);
    assert!(done.0.retries > 0);
}

#[tokio::test]
async fn after_a_503_or_a_broken_connection_the_same_fragment_follows_a_ping() {
    let server = Server::start(vec![
        created(""),
        status(503),
        ok(""),
        Act::AnswerAndClose(answer(503, "Connection: close")),
        Act::Close,
        ok(""),
        received(8_000),
        ok(""),
    ]);
    let job = Job::new(&server, 8_000);
    let done = job.run().await;
    job.check_complete(&server, &done);
    let fragment = "Fragment 0-7999/8000";
    let expected =
        ["Create-Session", fragment, "Ping", fragment, "Ping", "Ping", fragment, "Close-Session"];
    assert_eq!(server.packets(), expected);
    assert_eq!((done.0.restarts, done.0.retries), (0, 3));
}

#[tokio::test]
async fn a_kept_connection_that_died_costs_neither_a_pause_nor_a_ping() {
    let server = Server::start(vec![
        Act::AnswerAndClose(answer(200, &format!("BITS-Session-Id: {SESSION}"))),
        received(8_000),
        ok(""),
    ]);
    let job = Job::new(&server, 8_000).with(&["--retry-delay", "1h"]);
    let done = job.run().await;
    job.check_complete(&server, &done);
    assert_eq!(server.packets(), ["Create-Session", "Fragment 0-7999/8000", "Close-Session"]);
    assert_eq!(done.0.retries, 0);
}

#[tokio::test]
async fn an_answer_without_a_length_does_not_hang() {
    let endless = answer(200, &format!("BITS-Session-Id: {SESSION}"));
    let endless = endless.replace("Content-Length: 0\r\n", "");
    let server = Server::start(vec![Act::Answer(endless), received(8_000), ok("")]);
    let job = Job::new(&server, 8_000);
    job.check_complete(&server, &job.run().await);
    assert_eq!(server.seen()[1].connection, 1);
}

#[tokio::test]
async fn interim_answers_are_skipped() {
    let interim = "HTTP/1.1 100 Continue\r\n\r\n".to_owned();
    let ack = answer(200, "BITS-Received-Content-Range: 8000");
    let server = Server::start(vec![created(""), Act::Answer(interim + &ack), ok("")]);
    let job = Job::new(&server, 8_000);
    job.check_complete(&server, &job.run().await);
}

#[tokio::test]
async fn an_answer_that_comes_before_the_body_is_understood() {
    // Far more than the socket buffers hold, so that the body cannot have been sent.
    let size = 64 << 20;
    let denied = answer(403, "BITS-Error: 0x80070005; BITS-Error-Context: 0x5");
    let server = Server::start(vec![created(""), Act::Early(denied)]);
    let job = Job::new(&server, size).with(&["--fragment-size", "64MiB"]);
    let (report, code) = job.run().await;
    assert_eq!((report.status, code), (Status::Failed, 1));
    assert!(report.error.unwrap().contains("refused access"));
    assert_eq!(report.retries, 0);
}

#[tokio::test]
async fn an_interrupted_upload_goes_on_where_it_stopped() {
    let server = Server::start(vec![
        created("BITS-Host-Id: n1.up.test; BITS-Host-Id-Fallback-Timeout: 900"),
        ok(""),
        received(10_000),
        Act::Hold,
    ]);
    let job = Job::new(&server, 25_000);
    let args = job.args();
    tokio::select! {
        _ = execute(&args, no_identity) => panic!("the server holds the second fragment"),
        () = until(|| server.seen().len() == 4) => {}
    }
    assert!(job.path("state.json").exists());

    server.then(vec![ok(""), received(20_000), received(25_000), ok("")]);
    let done = job.run().await;
    job.check_complete(&server, &done);
    let expected =
        ["Ping", "Fragment 10000-19999/25000", "Fragment 20000-24999/25000", "Close-Session"];
    assert_eq!(server.packets()[4..], expected);
    let host = format!("n1.up.test:{}", server.address.port());
    let seen = server.seen();
    assert!(seen[4..].iter().all(|request| request.field("Host") == Some(&host)), "{seen:?}");
    assert_eq!(seen[5].field("BITS-Session-Id"), Some(SESSION));
    assert_eq!(done.0.resumed_at, Some(10_000));
}

#[tokio::test]
async fn a_file_that_changed_since_starts_over_and_drops_the_old_session() {
    let server = Server::start(vec![created(""), received(10_000), status(403)]);
    let mut job = Job::new(&server, 25_000);
    let (report, code) = job.run().await;
    assert_eq!((report.status, code, report.resumable), (Status::Failed, 1, true));

    job.bytes = vec![7; 9_000];
    std::fs::write(job.path("a.bin"), &job.bytes).unwrap();
    server.then(vec![ok(""), created(""), received(9_000), ok("")]);
    let done = job.run().await;
    job.check_complete(&server, &done);
    let expected = ["Cancel-Session", "Create-Session", "Fragment 0-8999/9000", "Close-Session"];
    assert_eq!(server.packets()[3..], expected);
    assert_eq!(done.0.resumed_at, None);
}

#[tokio::test]
async fn a_file_that_changes_under_way_is_not_closed() {
    let server = Server::start(vec![created(""), received(10_000)]);
    let job = Job::new(&server, 20_000);
    let args = job.args();
    let change = async {
        until(|| server.seen().len() == 3).await;
        std::fs::write(job.path("a.bin"), vec![7; 20_000]).unwrap();
        server.then(vec![received(20_000)]);
        std::future::pending().await
    };
    let (report, code) = tokio::select! {
        ended = execute(&args, no_identity) => ended,
        () = change => unreachable!("it is pending"),
    };
    assert_eq!((report.status, code), (Status::Failed, 1));
    assert!(report.error.unwrap().contains("changed during the upload"));
    assert!(!server.packets().iter().any(|packet| packet == "Close-Session"));
}

#[tokio::test]
async fn cancel_ends_the_session_that_was_left_behind() {
    for answer in [ok(""), lost()] {
        let server = Server::start(vec![created(""), status(403)]);
        let job = Job::new(&server, 25_000);
        assert_eq!(job.run().await.1, 1);
        std::fs::remove_file(job.path("a.bin")).unwrap();
        let job = job.with(&["--cancel"]);
        server.then(vec![status(503), answer]);
        let (report, code) = job.run().await;
        assert_eq!((report.status, code), (Status::Cancelled, 0));
        assert_eq!(server.packets()[2..], ["Cancel-Session", "Cancel-Session"]);
        assert_eq!(server.seen()[3].field("BITS-Session-Id"), Some(SESSION));
        assert!(!job.path("state.json").exists());

        let (report, code) = job.run().await;
        assert_eq!((report.status, code), (Status::NothingToCancel, 0));
    }
}

#[tokio::test]
async fn a_login_is_sent_only_when_asked_for() {
    let challenge = || {
        let fields = "WWW-Authenticate: Basic realm=\"x\"\r\nContent-Length: 2\r\n\r\nno";
        Act::Answer(format!("HTTP/1.1 401 Text\r\n{fields}"))
    };
    let server = Server::start(vec![challenge(), created(""), received(8_000), ok("")]);
    let job = Job::new(&server, 8_000);
    std::fs::write(job.path("password"), "secret\nmore").unwrap();
    let file = job.path("password").display().to_string();
    let job = job.with(&["--user", "joe", "--password-file", &file]);
    job.check_complete(&server, &job.run().await);
    let seen = server.seen();
    assert_eq!(seen[0].field("Authorization"), None);
    assert_eq!(seen[1].what(), "Create-Session");
    let login = Some("Basic am9lOnNlY3JldA==");
    assert!(seen[1..].iter().all(|request| request.field("Authorization") == login));

    server.then(vec![challenge(), challenge()]);
    let (report, code) = job.run().await;
    assert_eq!((report.status, code), (Status::Failed, 1));
    assert!(report.error.unwrap().contains("user name or the password"));
    server.check_script_is_over();
}

#[tokio::test]
async fn errors_that_may_pass_end_at_once_when_told_to_give_up() {
    let server = Server::start(vec![created(""), status(503)]);
    let job = Job::new(&server, 8_000).with(&["--give-up", "0"]);
    let (report, code) = job.run().await;
    assert_eq!((report.status, code, report.resumable), (Status::Failed, 1, true));
    assert!(report.error.unwrap().contains("is not available now (503)"));
}

#[tokio::test]
async fn a_server_that_says_nothing_is_tried_again_after_the_answer_timeout() {
    let server = Server::start(vec![Act::Hold, created(""), received(8_000), ok("")]);
    let job = Job::new(&server, 8_000).with(&["--answer-timeout", "2s"]);
    let done = job.run().await;
    job.check_complete(&server, &done);
    assert_eq!(done.0.retries, 1);
}

#[tokio::test]
async fn a_web_page_is_not_taken_for_success() {
    let page = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 2\r\n\r\nhi";
    let server = Server::start(vec![Act::Answer(page.to_owned())]);
    let job = Job::new(&server, 8_000);
    let (report, code) = job.run().await;
    assert_eq!((report.status, code, report.resumable), (Status::Failed, 1, false));
    assert!(report.error.unwrap().contains("without being a BITS server"));
    assert!(!job.path("state.json").exists());
}

#[tokio::test]
async fn the_reply_is_fetched_from_the_host_of_the_url_before_the_close() {
    let url = format!("BITS-Sessions\\Replies\\{SESSION}\\responsefile.bin");
    let reply = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nreply";
    let server = Server::start(vec![
        created("BITS-Host-Id: n1.up.test; BITS-Host-Id-Fallback-Timeout: 900"),
        ok(""),
        ok(&format!("BITS-Received-Content-Range: 8000; BITS-Reply-URL: {url}")),
        status(503),
        ok(""),
        Act::Answer(reply.to_owned()),
        ok(""),
    ]);
    let job = Job::new(&server, 8_000);
    let file = job.path("reply").display().to_string();
    let job = job.with(&["--reply", &file]);
    job.check_complete(&server, &job.run().await);
    let packets = server.packets();
    assert_eq!(packets[3..], ["GET", "Ping", "GET", "Close-Session"]);
    let get = &server.seen()[5];
    let path = format!(
        "GET /in/BITS-Sessions/Replies/%7B{}%7D/responsefile.bin HTTP/1.1\r\n",
        &SESSION[1..SESSION.len() - 1]
    );
    assert!(get.head.starts_with(&path), "{}", get.head);
    assert_eq!(get.field("Host"), Some(format!("Up.test:{}", server.address.port()).as_str()));
    assert_eq!(std::fs::read(&file).unwrap(), b"reply");
}

#[tokio::test]
async fn missing_files_and_wrong_urls_have_their_own_exit_codes() {
    let server = Server::start(vec![]);
    let mut job = Job::new(&server, 1);
    std::fs::remove_file(job.path("a.bin")).unwrap();
    let (report, code) = job.run().await;
    assert_eq!((report.status, code), (Status::Failed, 74));
    assert!(report.error.unwrap().contains("a.bin: No such file"));
    job.url = "ftp://up.test/x".to_owned();
    assert_eq!(job.run().await.1, 2);
    assert_eq!(server.packets(), [""; 0]);
}
