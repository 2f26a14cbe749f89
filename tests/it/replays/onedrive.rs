//! Clients of OneDrive's former endpoint, K5 to K8: POST with an override in place of BITS_POST.

use e2e_tests::client::Answer;
use e2e_tests::data::{self, Content};
use e2e_tests::farm::{Farm, FarmBuilder};
use e2e_tests::raw_backend::{RawBackend, Reply, agree};

use super::{Arrived, Replay, at_the_only_stub, farm};

const PATH: &str = "/users/0x6f1c0de5/LiveFolders/report.bin";

fn overriding(farm: FarmBuilder) -> FarmBuilder {
    farm.set("http.method_override", "true").set("limits.chunked", "\"forward\"")
}

/// A farm of servers that take what such clients send.
#[track_caller]
fn servers() -> Farm {
    overriding(farm(2)).each_stub(&["--flavour", "onedrive"]).start()
}

/// Python requests: chunked bodies from a generator.
const K5_PACKET: &str = "\
POST <PATH> HTTP/1.1
Host: up.test
User-Agent: python-requests/2.2.1 CPython/2.7.6 Linux/3.13.0
Accept-Encoding: gzip, deflate, compress
Accept: */*
X-Http-Method-Override: BITS_POST
BITS-Packet-Type: <TYPE>
<MORE>";

fn k5(kind: &str, more: &str) -> String {
    K5_PACKET.replace("<PATH>", PATH).replace("<TYPE>", kind).replace("<MORE>", more)
}

#[test]
fn k5_python_onedrive_uploads_chunked_fragments_and_gets_its_resource_id() {
    let mut python = Replay::on(servers());
    let content = Content::seeded(5, 300_000);
    let file = content.to_vec();
    let opened = python.open(&k5(
        "Create-Session",
        "BITS-Supported-Protocols: {7df0354d-249b-430f-820d-3d2a9bef4931}\n\
         Authorization: bearer EwA4Aq1D\nContent-Length: 0",
    ));
    // It accepts nothing else.
    let protocol = opened.field("BITS-Protocol").unwrap_or_default().to_ascii_lowercase();
    assert_eq!((opened.status, &*protocol), (201, "{7df0354d-249b-430f-820d-3d2a9bef4931}"));
    assert_eq!(opened.field("BITS-Packet-Type").map(str::to_ascii_lowercase), Some("ack".into()));
    for (number, piece) in file.chunks(100_000).enumerate() {
        let first = number * 100_000;
        let range = format!("bytes {first}-{}/300000", first + 99_999);
        let more =
            format!("BITS-Session-Id: <ID>\nContent-Range: {range}\nTransfer-Encoding: chunked");
        let mut chunked = Vec::new();
        for chunk in piece.chunks(64 * 1024) {
            chunked.extend(format!("{:x}\r\n", chunk.len()).bytes());
            chunked.extend(chunk);
            chunked.extend(b"\r\n");
        }
        chunked.extend(b"0\r\n\r\n");
        let answer = python.send(&k5("Fragment", &more), &chunked);
        assert_eq!(answer.status, 200, "{}", answer.head);
        // The chunks are each hop's own; what counts is what is in them.
        python.sent.last_mut().expect("a fragment was sent").body = piece.to_vec();
    }
    let closed = python.send(
        &k5(
            "Close-Session",
            "BITS-Session-Id: <ID>\nAuthorization: bearer EwA4Aq1D\nContent-Length: 0",
        ),
        b"",
    );
    assert!([200, 201].contains(&closed.status), "{}", closed.head);
    assert!(closed.field("X-Resource-Id").is_some_and(|id| id.contains('!')), "{}", closed.head);
    python.expect_arrived(&at_the_only_stub(&python.farm));
    python.farm.expect_stored(PATH, &content);
}

const K6_PACKET: &str = "\
POST <PATH> HTTP/1.1
Authorization: Bearer EwA4Aq1D
X-Http-Method-Override: BITS_POST
BITS-Packet-Type: <TYPE>
<MORE>
Host: up.test
Content-Length: <LENGTH>";

fn k6(kind: &str, more: &str, length: usize) -> String {
    let head = K6_PACKET.replace("<PATH>", PATH).replace("<TYPE>", kind).replace("<MORE>", more);
    head.replace("<LENGTH>", &length.to_string())
}

/// Its server keeps no more than 5,000 bytes of a fragment, which it may.
#[test]
fn k6_a_client_goes_on_where_the_ack_says() {
    let agree = agree();
    let server = RawBackend::answering(move |request| match &*request.packet_type() {
        "create-session" => Reply::ack("201 Created", &[("BITS-Session-Id", "o-6")]),
        "fragment" => {
            let range = request.field("Content-Range").unwrap_or_default();
            let first = range.trim_start_matches("bytes ").split('-').next();
            let first: usize = first.and_then(|digits| digits.parse().ok()).unwrap_or_default();
            let next = first + request.body.len().min(5_000);
            Reply::ack("200 OK", &[("BITS-Received-Content-Range", &next.to_string())])
        }
        _ => agree(request),
    });
    let mut client = Replay::on(overriding(farm(0)).backend("up01", server.address()).start());
    let file = Content::seeded(6, 12_000).to_vec();
    let offer = "BITS-Supported-Protocols: {7df0354d-249b-430f-820d-3d2a9bef4931}";
    assert_eq!(client.open(&k6("Create-Session", offer, 0)).status, 201);
    let (mut position, mut kept) = (0, Vec::<u8>::new());
    while position < file.len() {
        let piece = &file[position..file.len().min(position + 8_000)];
        let range = format!("bytes {position}-{}/12000", position + piece.len() - 1);
        let more = format!("BITS-Session-Id: <ID>\nContent-Range: {range}");
        let answer = client.send(&k6("Fragment", &more, piece.len()), piece);
        let next = answer.field("BITS-Received-Content-Range").and_then(|n| n.parse().ok());
        let next: usize = next.unwrap_or_else(|| panic!("no position in {}", answer.head));
        kept.extend(&file[position..next]);
        position = next;
    }
    assert!(kept == file);
    assert_eq!(client.send(&k6("Close-Session", "BITS-Session-Id: <ID>", 0), b"").status, 200);
    assert_eq!(client.sent.len(), 5, "three fragments, of which the first two were cut");
    client.expect_arrived(&server.requests().iter().map(Arrived::at_raw).collect::<Vec<_>>());
}

/// .NET HttpWebRequest.
const K7_PACKET: &str = "\
POST <PATH> HTTP/1.1
X-Http-Method-Override: BITS_POST
BITS-Packet-Type: <TYPE>
<MORE>
Host: up.test
Content-Length: <LENGTH>";

fn k7(kind: &str, more: &str, length: usize) -> String {
    let head = K7_PACKET.replace("<PATH>", PATH).replace("<TYPE>", kind).replace("<MORE>", more);
    head.replace("<LENGTH>", &length.to_string())
}

#[track_caller]
fn expect_dotnet(answer: &Answer, status: u16) {
    assert_eq!((answer.status, answer.closes()), (status, false), "{}", answer.head);
    let ack = answer.field("BITS-Packet-Type").unwrap_or_default();
    assert!(ack.eq_ignore_ascii_case("ack"), "{}", answer.head);
}

#[test]
fn k7_a_dotnet_client_is_told_to_continue_and_keeps_its_connection() {
    let mut dotnet = Replay::on(servers());
    let content = Content::seeded(7, 250_000);
    let file = content.to_vec();
    let offer = "BITS-Supported-Protocols: {7df0354d-249b-430f-820d-3d2a9bef4931}";
    let opened = dotnet.open(&(k7("Create-Session", offer, 0) + "\nConnection: Keep-Alive"));
    expect_dotnet(&opened, 201);
    for (number, piece) in file.chunks(100_000).enumerate() {
        let first = number * 100_000;
        let range = format!("bytes {first}-{}/250000", first + piece.len() - 1);
        let more = format!("BITS-Session-Id: <ID>\nContent-Range: {range}");
        // It leaves Connection out after the first request.
        let head = k7("Fragment", &more, piece.len()) + "\nExpect: 100-continue";
        expect_dotnet(&dotnet.send_expecting(&head, piece), 200);
    }
    let session = "BITS-Session-Id: <ID>";
    expect_dotnet(&dotnet.send(&k7("Close-Session", session, 0), b""), 200);
    dotnet.expect_arrived(&at_the_only_stub(&dotnet.farm));
    dotnet.farm.expect_stored(PATH, &content);
}

/// A browser's habits.
const K8_PACKET: &str = "\
POST <PATH> HTTP/1.1
Host: up.test
Connection: keep-alive
Content-Length: <LENGTH>
Origin: https://onedrive.test
X-Http-Method-Override: BITS_POST
BITS-Packet-Type: <TYPE>
<MORE>
Overwrite: true
User-Agent: Mozilla/5.0 (Windows NT 6.1) AppleWebKit/537.36
Content-Type: application/octet-stream
Accept: */*
Referer: https://onedrive.test/
Accept-Encoding: gzip,deflate,sdch
Accept-Language: de-DE,de;q=0.8,en;q=0.6
Cookie: WLSSC=EgBnAQMAAAAEgAAADAABq; wla42=; E=P:3vZ0";

fn k8(kind: &str, more: &str, length: usize) -> String {
    let head = K8_PACKET.replace("<PATH>", PATH).replace("<TYPE>", kind).replace("<MORE>", more);
    head.replace("<LENGTH>", &length.to_string())
}

#[test]
fn k8_a_browser_uploads_a_whole_file_in_one_fragment() {
    let mut browser = Replay::on(servers());
    let content = Content::seeded(8, 5_000_001);
    let file = content.to_vec();
    let offer = "BITS-Supported-Protocols: {7df0354d-249b-430f-820d-3d2a9bef4931}";
    assert_eq!(browser.open(&k8("Create-Session", offer, 0)).status, 201);
    let more = "BITS-Session-Id: <ID>\nContent-Range: bytes 0-5000000/5000001";
    let answer = browser.send(&k8("Fragment", more, file.len()), &file);
    assert_eq!(answer.status, 200, "{}", answer.head);
    // A browser unpacks whatever comes packed; an Ack never does.
    assert_eq!(answer.field("Content-Encoding"), None);
    assert_eq!(answer.field("BITS-Received-Content-Range"), Some("5000001"));
    let closed = browser.send(&k8("Close-Session", "BITS-Session-Id: <ID>", 0), b"");
    assert_eq!(closed.status, 200);
    browser.expect_arrived(&at_the_only_stub(&browser.farm));
    assert_eq!(browser.farm.stored(PATH)[0].sha256, data::sha256(&file));
}
