//! What passes without a change: items 21 to 24.

use e2e_tests::client::packet::PROTOCOL;
use e2e_tests::client::{AckRules, Connections, FragmentSizes, Head, PacketType};
use e2e_tests::data::Content;
use e2e_tests::farm::{Farm, ORIGIN};
use e2e_tests::raw_backend::{RawBackend, Reply, agree};

use crate::bench::{Bench, TARGET, close, create, fragment, ping};

/// Fields that mean nothing to the gateway, in odd but legal forms.
const STRANGE: [&str; 6] = [
    "X-Vendor: one",
    "x-vEnDoR-2: a, b;c=\"d\"",
    "X-Twice: 1",
    "X-Twice: 2",
    "X-Empty: ",
    "X-Latin: gr\u{fc}n",
];

/// Item 21.
#[test]
fn unknown_fields_pass_in_both_directions_as_they_were_written() {
    let agree = agree();
    let backend = RawBackend::answering(move |request| match agree(request) {
        Reply::Send(bytes) => {
            let text: String = bytes.iter().map(|&byte| char::from(byte)).collect();
            let (first, rest) = text.split_once("\r\n").expect("an answer has a status line");
            Reply::raw(&format!("{first}\r\n{}\r\n{rest}", STRANGE.join("\r\n")))
        }
        other => other,
    });
    let bench = Bench::with(backend, |farm| farm);
    let strangely = |head: Head| STRANGE.iter().fold(head, |head, line| head.line(line));
    let opened = bench.exchange(&create().to_bytes());
    let id = opened.field("BITS-Session-Id").expect("an id");
    for bytes in [
        strangely(create()).to_bytes(),
        strangely(ping()).to_bytes(),
        strangely(close(id)).to_bytes(),
    ] {
        let (request, answer) = bench.passes(&bytes);
        let there: Vec<_> = request.field_lines().filter(|line| is_strange(line)).collect();
        let (ours, theirs): (Vec<&str>, Vec<_>) = there.into_iter().partition(|line| {
            line.starts_with("X-Forwarded-For:") || line.starts_with("X-Request-Id:")
        });
        assert_eq!(theirs, STRANGE);
        // Who the client is, and by what its request is found in the log.
        assert_eq!(ours.len(), 2, "{ours:?}");
        assert!(ours.contains(&"X-Forwarded-For: 127.0.0.1"), "{ours:?}");
        let back: Vec<_> = answer.head.split("\r\n").filter(|line| is_strange(line)).collect();
        assert_eq!(back, STRANGE);
    }
}

fn is_strange(line: &str) -> bool {
    line.starts_with(['X', 'x'])
}

/// Item 22.
#[test]
fn every_byte_of_a_content_name_reaches_the_backend() {
    let bench = Bench::start();
    let high: String = ('\u{80}'..='\u{ff}').collect();
    // The same name as Windows writes it in a code page, and as UTF-8 shown byte by byte.
    for name in
        ["Jahresbericht f\u{fc}r M\u{fc}nchen.docx", "f\u{c3}\u{bc}r.docx", "a b\tc;d=\"e\"", &high]
    {
        let head = Head::bits(TARGET)
            .field("Host", ORIGIN)
            .field("BITS-Packet-Type", "Fragment")
            .field("BITS-Session-Id", bench.session())
            .field("Content-Name", name)
            .field("Content-Range", "bytes 0-2/3")
            .field("Content-Length", 3);
        let (request, _) = bench.passes(&head.with_body(b"abc"));
        assert!(
            request.field_lines().any(|line| line == format!("Content-Name: {name}")),
            "{name:?} arrived as {:?}",
            request.head
        );
    }
}

/// Item 23.
#[test]
fn the_target_reaches_the_backend_byte_for_byte() {
    let bench = Bench::start();
    for target in [
        "/in/logs/pc-17.cab?site=7",
        "/IN/a%20b%2Fc%2fd%7Bx%7d.bin?q=%C3%a9&empty=&&x=a?b/c",
        "/in//double/./dot/../up/%2e%2e/x",
        "/in/~user/a;v=1,2/!$'()*+=:@.bin?",
        "/in/{3F9C1E52}/a|b.bin",
        "/?only=query",
        "/",
    ] {
        let send = |packet: &str, more: &[(&str, &str)], body: &[u8]| {
            let mut head =
                Head::bits(target).field("Host", ORIGIN).field("BITS-Packet-Type", packet);
            for (name, value) in more {
                head = head.field(name, value);
            }
            let (request, answer) =
                bench.passes(&head.field("Content-Length", body.len()).with_body(body));
            assert_eq!(request.target(), target, "{packet}");
            answer
        };
        let opened = send("Create-Session", &[("BITS-Supported-Protocols", PROTOCOL)], b"");
        let id = opened.field("BITS-Session-Id").expect("an id").to_owned();
        let session = ("BITS-Session-Id", &*id);
        send("Ping", &[], b"");
        send("Fragment", &[session, ("Content-Range", "bytes 0-2/3")], b"abc");
        send("Close-Session", &[session], b"");
    }
    // Longer than any path of Windows.
    let long = format!("/in/{}?{}", "p".repeat(3000), "q".repeat(3000));
    let head = Head::bits(&long).field("Host", ORIGIN).field("BITS-Packet-Type", "Ping");
    let (request, _) = bench.passes(&head.field("Content-Length", 0).to_bytes());
    assert_eq!(request.target(), long);
}

/// Item 24.
#[test]
fn absolute_targets_work_and_mean_the_same_destination() {
    let farm = Farm::of_stubs(2).start();
    let content = Content::seeded(24, 30_000);
    let client = farm.client().with(|o| {
        o.fragments = FragmentSizes::Fixed(10_000);
        o.absolute_form = true;
        o.connections = Connections::PerPacket;
    });
    client.upload(&farm.url("/in/a%20b.bin?site=7"), &content).expect_smooth();
    farm.expect_stored("/in/a b.bin", &content);
    farm.expect_healthy();

    let bench = Bench::start();
    let create = Head::bits(&format!("http://{ORIGIN}{TARGET}"))
        .field("Host", ORIGIN)
        .field("BITS-Packet-Type", "Create-Session")
        .field("BITS-Supported-Protocols", PROTOCOL)
        .field("Content-Length", 0);
    let (request, answer) = bench.passes(&create.to_bytes());
    assert_eq!(request.target(), TARGET);
    // The session belongs to the destination, however it is written.
    let ack = AckRules::farm().expect(PacketType::CreateSession, &answer);
    bench.passes(&fragment(&ack.session.expect("an id"), b"abc"));
}
