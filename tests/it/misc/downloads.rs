//! Ordinary HTTP through the gateway, and the replies of upload-reply jobs: items 92 to 94.

use std::net::SocketAddr;

use e2e_tests::client::{Answer, Connection, FragmentSizes, Head, exchange};
use e2e_tests::data::Content;
use e2e_tests::farm::{Farm, ORIGIN};
use e2e_tests::raw_backend::{RawBackend, Reply, agree};

use crate::packets::{Servers, TARGET, create, created, fragment, session_of};

fn get(target: &str) -> Head {
    Head::new("GET", target).field("Host", ORIGIN)
}

#[track_caller]
fn download(address: SocketAddr, head: &Head, method: &str) -> Answer {
    let mut connection = Connection::open(address).expect("a connection");
    connection.send(&head.to_bytes()).expect("a request is taken");
    let answer = match method {
        "HEAD" => connection.read_answer_to_head(),
        _ => connection.read_answer(),
    };
    answer.expect("an answer")
}

/// Fields without those that speak of the moment or the connection.
fn lasting(answer: &Answer) -> Vec<(String, String)> {
    let passing = ["date", "connection", "keep-alive"];
    let lasting = |(name, _): &&(String, String)| !passing.contains(&&*name.to_ascii_lowercase());
    let mut fields: Vec<_> = answer.fields.iter().filter(lasting).cloned().collect();
    fields.sort();
    fields
}

/// Item 92.
#[test]
fn downloads_with_any_ranges_are_the_same_with_and_without_the_gateway() {
    let farm = Farm::of_stubs(1).start();
    let content = Content::seeded(1, 100_000);
    farm.client().upload(&farm.url("/in/a b.bin".replace(' ', "%20").as_str()), &content);
    let direct = farm.stub(0).address();
    let date = {
        let answer = download(direct, &get("/in/a%20b.bin"), "GET");
        assert_eq!((answer.status, answer.body.len()), (200, 100_000));
        answer.field("Last-Modified").expect("a download has one").to_owned()
    };
    let conditions: [&[(&str, &str)]; 11] = [
        &[],
        &[("Range", "bytes=0-0")],
        &[("Range", "bytes=500-999")],
        &[("Range", "bytes=99990-")],
        &[("Range", "bytes=-7")],
        &[("Range", "bytes=0-9,20-29,99999-99999")],
        &[("Range", "bytes=100000-")],
        &[("Range", "bytes=5-9"), ("If-Range", &date)],
        &[("Range", "bytes=5-9"), ("If-Range", "Thu, 01 Jan 1970 00:00:00 GMT")],
        &[("If-Unmodified-Since", &date), ("Accept-Encoding", "identity")],
        &[("If-Unmodified-Since", "Thu, 01 Jan 1970 00:00:00 GMT")],
    ];
    let mut statuses = Vec::new();
    for method in ["GET", "HEAD"] {
        for fields in conditions {
            let mut head = Head::new(method, "/in/a%20b.bin?x=%7b").field("Host", ORIGIN);
            for (name, value) in fields {
                head = head.field(name, value);
            }
            let expected = download(direct, &head, method);
            farm.stub(0).clear_requests();
            let got = download(farm.entrance(), &head, method);
            assert_eq!(
                (got.status, &got.reason),
                (expected.status, &expected.reason),
                "{fields:?}"
            );
            assert_eq!(lasting(&got), lasting(&expected), "{method} {fields:?}");
            assert!(got.body == expected.body, "{method} {fields:?}");
            let seen = &farm.stub(0).requests()[0];
            assert_eq!(seen.request_line(), format!("{method} /in/a%20b.bin?x=%7b HTTP/1.1"));
            for (name, value) in fields {
                assert_eq!(seen.field(name), Some(*value));
            }
            statuses.push(got.status);
        }
    }
    for status in [200, 206, 412, 416] {
        assert!(statuses.contains(&status), "{status} is not among {statuses:?}");
    }
}

/// Item 92.
#[test]
fn a_file_that_is_not_there_is_the_backends_404() {
    let farm = Farm::of_stubs(1).start();
    let head = get("/in/nothing.bin");
    let (got, expected) =
        (download(farm.entrance(), &head, "GET"), download(farm.stub(0).address(), &head, "GET"));
    assert_eq!((got.status, lasting(&got)), (404, lasting(&expected)));
}

/// Item 93.
#[test]
fn an_upload_reply_job_downloads_its_reply_through_the_gateway() {
    for id in ["backend", "minted"] {
        let application = RawBackend::answering(|request| {
            let reply = format!("reply to {} bytes", request.body.len());
            let length = reply.len();
            Reply::raw(&format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{reply}"))
        });
        let url = format!("http://{}/app", application.address());
        let farm = Farm::of_stubs(3)
            .each_stub(&["--notify-url", &url, "--notify", "by-value"])
            .set("sessions.id", &format!("\"{id}\""))
            .start();
        for number in 0..4 {
            let content = Content::seeded(number, 20_000 + number);
            let client = farm.client().with(|o| o.fragments = FragmentSizes::Fixed(10_000));
            let path = format!("/in/{number}.bin");
            let mut upload = client.begin(&farm.url(&path), &content);
            assert!(upload.run_until(|upload| upload.position() == content.len()));
            let reply_url = upload.report().reply_url.clone().expect("a reply is announced");
            // What Windows makes of it: relative to the virtual directory, at the origin name.
            let target = format!("/in/{}", reply_url.replace('\\', "/"));
            for target in [target.replace('{', "%7B").replace('}', "%7D"), target] {
                let head = get(&target).field("Range", "bytes=0-");
                let answer = download(farm.entrance(), &head, "GET");
                let expected = format!("reply to {} bytes", content.len());
                assert_eq!((answer.status, answer.body_text()), (206, expected), "{target}");
            }
            upload.run().expect_smooth();
        }
        farm.expect_healthy();
    }
}

/// Item 93.
#[test]
fn a_reply_is_asked_of_the_backend_of_its_session_in_every_spelling() {
    let guid = |n: usize| format!("{{3F9C1E52-7B0D-4E7A-9C44-0D5B6A1E8F2{n}}}");
    for mode in ["backend", "minted"] {
        let backends = (0..3).map(|number| {
            let (id, agree) = (guid(number), agree());
            RawBackend::answering(move |request| match &*request.packet_type() {
                "create-session" => created(&id),
                _ => agree(request),
            })
        });
        let servers =
            Servers::of(backends.collect(), |farm| farm.set("sessions.id", &format!("\"{mode}\"")));
        let public: Vec<_> = (0..3).map(|_| servers.open(TARGET)).collect();
        for number in [2, 0, 1] {
            let id = guid(number);
            let encoded = id.replace('{', "%7B").replace('}', "%7d");
            for target in [
                format!("/in/BITS-Sessions/Replies/{id}/responsefile.bin"),
                format!("/in/BITS-Sessions/Replies/{encoded}/responsefile.bin?x=y"),
                format!("/IN/bits-sessions/REPLIES/{}/responsefile.bin", encoded.to_lowercase()),
                format!("/BITS-SESSIONS/replies/{}", id.to_lowercase()),
                format!("/deep/er/in/BITS%2DSessions/Replies/{encoded}/x"),
                format!("/in/BITS-Sessions%5CReplies%5c{encoded}%5Cresponsefile.bin"),
            ] {
                for method in ["GET", "HEAD"] {
                    let before = servers.counts();
                    let head = Head::new(method, &target).field("Host", ORIGIN);
                    assert_eq!(download(servers.farm.entrance(), &head, method).status, 200);
                    assert_eq!(servers.only_one_since(&before), number, "{method} {target}");
                    // The target goes on as it came.
                    assert_eq!(servers.last_request(number).target(), target);
                }
            }
        }
        // An id that nobody has goes anywhere, and an upload does not become a download by its path.
        let before = servers.counts();
        let head = get("/in/BITS-Sessions/Replies/stranger/responsefile.bin");
        assert_eq!(download(servers.farm.entrance(), &head, "GET").status, 200);
        servers.only_one_since(&before);
        let (id, owner) = &public[1];
        let packet = fragment(TARGET, id, "bytes 0-2/3", b"abc");
        assert_eq!(servers.passes(&packet).0, *owner);
    }
}

/// Item 94.
#[test]
fn a_reply_url_passes_unchanged() {
    for url in [
        "BITS-Sessions\\Replies\\{3F9C1E52-7B0D-4E7A-9C44-0D5B6A1E8F21}\\responsefile.bin",
        "BITS-Sessions\\Replies\\-42\\response file.bin",
        "/in/BITS-Sessions/Replies/%7B3F9C1E52-7B0D-4E7A-9C44-0D5B6A1E8F21%7D/responsefile.bin",
        "http://static.test/reply.bin?x=y#z",
    ] {
        let agree = agree();
        let backend = RawBackend::answering(move |request| match &*request.packet_type() {
            "fragment" => Reply::ack(
                "200 OK",
                &[("BITS-Received-Content-Range", "3"), ("BITS-Reply-URL", url)],
            ),
            _ => agree(request),
        });
        for mode in ["backend", "minted"] {
            let farm = Farm::of_stubs(0)
                .backend("up01", backend.address())
                .set("sessions.id", &format!("\"{mode}\""))
                .start();
            let answer = exchange(farm.entrance(), &create(TARGET).bytes()).expect("an answer");
            let id = session_of(&answer);
            let packet = fragment(TARGET, &id, "bytes 0-2/3", b"abc");
            let answer = exchange(farm.entrance(), &packet.bytes()).expect("an answer");
            assert_eq!(answer.field("BITS-Reply-URL"), Some(url), "{mode}");
        }
    }
}

/// Item 94.
#[test]
fn a_reply_url_at_the_server_itself_is_put_on_the_gateway_where_that_is_configured() {
    let agree = agree();
    let backend = RawBackend::answering(move |request| match &*request.packet_type() {
        "fragment" => {
            let own = request.field("Host").expect("a Host");
            let url = request.field("X-Reply").expect("one is asked for").replace("OWN", own);
            let fields = [("BITS-Received-Content-Range", "3"), ("BITS-Reply-URL", &*url)];
            Reply::ack("200 OK", &fields)
        }
        _ => agree(request),
    });
    let port = backend.address().port();
    let farm = Farm::of_stubs(0)
        .backend("up01", backend.address())
        .plain()
        .set("http.upstream_host", "\"backend\"")
        .set("http.reply_url", "\"rewrite\"")
        .set("http.trusted_proxies", "[\"127.0.0.1\"]")
        .start();
    let ask = |host: &str, proto: &str, url: &str| {
        let answer = exchange(farm.entrance(), &create(TARGET).bytes()).expect("an answer");
        let packet = fragment(TARGET, &session_of(&answer), "bytes 0-2/3", b"abc");
        let packet = packet.at(host).with("X-Reply", url).with("X-Forwarded-Proto", proto);
        let answer = exchange(farm.entrance(), &packet.bytes()).expect("an answer");
        answer.field("BITS-Reply-URL").expect("a reply is announced").to_owned()
    };
    for (host, proto, url, expected) in [
        ("up.test", "http", "http://OWN/in/r?x", "http://up.test/in/r?x"),
        ("up.test:8443", "https", "http://OWN/in/r", "https://up.test:8443/in/r"),
        ("up.test", "http,HTTPS", "http://OWN/%7B1%7D", "https://up.test/%7B1%7D"),
        ("up.test", "ftp", "http://OWN/r", "http://up.test/r"),
        ("up.test", "https", "http://static.test/r", "http://static.test/r"),
        ("up.test", "https", "r\\{1}\\x.bin", "r\\{1}\\x.bin"),
        ("up.test", "https", "/r", "/r"),
    ] {
        assert_eq!(ask(host, proto, url), expected, "{url}");
    }
    // The port belongs to it.
    let other = format!("http://127.0.0.1:{}/r", port.wrapping_add(1).max(1));
    assert_eq!(ask("up.test", "https", &other), other);
}

/// Item 94.
#[test]
fn a_client_fetches_a_reply_whose_server_names_itself() {
    let application =
        RawBackend::answering(|_| Reply::raw("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nreply"));
    let url = format!("http://{}/app", application.address());
    let farm = Farm::of_stubs(2)
        .each_stub(&["--flavour", "usis", "--notify-url", &url, "--notify", "by-value"])
        .plain()
        .set("http.upstream_host", "\"backend\"")
        .set("http.reply_url", "\"rewrite\"")
        .start();
    for number in 0..4 {
        let content = Content::seeded(number, 2_000);
        let mut upload = farm.client().begin(&farm.url(&format!("/in/{number}.bin")), &content);
        assert!(upload.run_until(|upload| upload.position() == content.len()));
        let url = upload.report().reply_url.clone().expect("a reply is announced");
        let rest = url.strip_prefix("http://").expect("an absolute URL");
        let (host, path) = rest.split_at(rest.find('/').expect("a path"));
        // By the name by which the client reaches the gateway now, which is its host id.
        assert!(host.ends_with(ORIGIN), "{url} is not at the gateway");
        let head = Head::new("GET", path).field("Host", host);
        let answer = download(farm.entrance(), &head, "GET");
        assert_eq!((answer.status, answer.body_text()), (200, "reply".to_owned()), "{url}");
        upload.run().expect_complete();
    }
}
