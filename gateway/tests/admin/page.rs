//! The page, as browsers ask for it.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use bits_gateway::base::clock;
use bits_gateway::sessions::live_uploads::{LiveRequest, Packet};
use gateway_core::farm::{AdminState, BackendId};
use gateway_core::protocol::{ContentRange, PacketType};
use socket2::{Domain, Socket, Type};

use crate::support::{Admin, Answer, DEADLINE, TOKEN, VIEWER, bearer, key, run, wait_for};

const PAGES: [&str; 5] = ["/", "/uploads", "/events", "/configuration", "/about"];

/// What a browser sends after its user has typed a token. Any name will do.
fn typed(token: &str) -> String {
    use base64::Engine;
    let pair = base64::engine::general_purpose::STANDARD.encode(format!("somebody:{token}"));
    format!("Authorization: Basic {pair}\r\n")
}

/// A form as a browser sends it.
fn form(admin: &Admin, path: &str, fields: &str, more: &str) -> Answer {
    let length = fields.len();
    let kind = "Content-Type: application/x-www-form-urlencoded";
    admin.ask_body("POST", path, &format!("{more}{kind}\r\nContent-Length: {length}\r\n"), fields)
}

/// That of the forms of a page.
#[track_caller]
fn number(page: &Answer) -> String {
    let (_, rest) = page.body.split_once("name=\"number\" value=\"").expect("a form");
    format!("number={}", &rest[..32])
}

#[track_caller]
fn page(admin: &Admin, path: &str, more: &str) -> Answer {
    let answer = admin.ask_with("GET", path, more);
    assert_eq!(answer.status, 200, "{path}: {}", answer.body);
    answer
}

/// An upload under way of which the client has chosen every word.
fn moving(admin: &Admin, path: &str, user_agent: &str) -> LiveRequest {
    moving_as(admin, "moves", path, user_agent)
}

fn moving_as(admin: &Admin, name: &str, path: &str, user_agent: &str) -> LiveRequest {
    admin.put(name, 0, (0, 0), Duration::ZERO);
    let packet = Packet {
        kind: PacketType::Fragment,
        range: ContentRange::new(0, 999, 4000).ok(),
        path: path.as_bytes(),
        user_agent: Some(user_agent.as_bytes()),
        client: Some([192, 0, 2, 7].into()),
        backend: BackendId(0),
        arrived: clock::steady(),
    };
    let request = admin.sessions.show_live(&key(name), &packet, || None).expect("room");
    request.came(1000);
    request
}

#[test]
fn every_page_is_shown_to_whoever_has_a_token() {
    let admin = Admin::start();
    for path in PAGES {
        for (token, role) in [(TOKEN, "operator"), (VIEWER, "viewer")] {
            let page = page(&admin, path, &typed(token));
            for part in ["All is well", "3 of 3 backends", role, "</html>"] {
                assert!(page.body.contains(part), "{path}: no {part} in {}", page.body);
            }
            for field in [
                "content-type: text/html; charset=utf-8",
                "cache-control: no-store",
                "content-security-policy: default-src 'none'; style-src 'self'; script-src 'self'",
                "frame-ancestors 'none'",
                "x-content-type-options: nosniff",
            ] {
                assert!(page.head.contains(field), "{path}: no {field} in {}", page.head);
            }
        }
    }
    for file in ["/page.css", "/page.js", "/icon.svg"] {
        assert_eq!(admin.ask_with("GET", file, "").status, 200, "{file}");
    }
    assert_eq!(admin.ask_with("GET", "/nothing", &typed(TOKEN)).status, 404);
    assert_eq!(admin.ask_with("PUT", "/", &typed(TOKEN)).status, 405);
}

/// Threat: T12.
#[test]
fn without_a_token_nothing_is_shown() {
    let admin = Admin::start();
    for path in PAGES.into_iter().chain(["/live", "/uploads/0123456789abcdef"]) {
        for more in ["", &typed("x"), &typed(""), "Cookie: __Host-bits-gateway=x\r\n"] {
            let answer = admin.ask_with("GET", path, more);
            assert_eq!(answer.status, 401, "{path}");
            assert!(answer.head.contains("www-authenticate: basic realm="), "{}", answer.head);
            assert!(!answer.body.contains("up01"), "{}", answer.body);
        }
    }
    assert_eq!(admin.counted("unknown", "refused"), 2 * 7);
}

#[test]
fn the_socket_asks_for_no_token() {
    let admin = Admin::start();
    let answer = admin.ask_socket("GET", "/", "");
    assert_eq!(answer.status, 200);
    assert!(answer.body.contains("up01"), "{}", answer.body);
    assert_eq!(admin.raw_socket("GET / HTTP/1.1\r\nHost: evil.test\r\n\r\n").status, 403);
}

#[test]
fn a_button_drains() {
    let admin = Admin::start();
    let shown = page(&admin, "/", &typed(TOKEN));
    let answer = form(&admin, "/backends/up01/drain", &number(&shown), &typed(TOKEN));
    assert_eq!(answer.status, 303, "{}", answer.body);
    assert!(answer.head.contains("location: /"), "{}", answer.head);
    assert_eq!(admin.state(0), AdminState::Drain);
    assert_eq!(admin.counted("backend_drain", "ok"), 1);
    assert!(page(&admin, "/", &typed(TOKEN)).body.contains("draining"));
    let sure = page(&admin, "/backends/up01/maintenance", &typed(TOKEN));
    assert_eq!(admin.state(0), AdminState::Drain, "it is asked for twice");
    form(&admin, "/backends/up01/maintenance", &number(&sure), &typed(TOKEN));
    assert_eq!(admin.state(0), AdminState::Maintenance);
    assert_eq!(form(&admin, "/backends/nobody/drain", &number(&shown), &typed(TOKEN)).status, 404);
    assert_eq!(form(&admin, "/backends/up01/lost", &number(&shown), &typed(TOKEN)).status, 404);
}

/// As the page of an earlier version asks that was open during an upgrade.
#[test]
fn the_short_word_for_maintenance_is_accepted() {
    let admin = Admin::start();
    let sure = page(&admin, "/backends/up01/maint", &typed(TOKEN));
    assert!(sure.body.contains("Maintenance of up01?"), "{}", sure.body);
    let answer = form(&admin, "/backends/up01/maint", &number(&sure), &typed(TOKEN));
    assert_eq!(answer.status, 303, "{}", answer.body);
    assert_eq!(admin.state(0), AdminState::Maintenance);
}

/// A page of a stranger can have a browser send a form, with what the browser knows of us.
///
/// Threat: T12.
#[test]
fn a_form_of_another_page_is_refused() {
    let admin = Admin::start();
    let own = number(&page(&admin, "/", &typed(TOKEN)));
    // A viewer has no forms, but makes a number all the same.
    for fields in ["", "number=", "number=00000000000000000000000000000000"] {
        let answer = form(&admin, "/backends/up01/drain", fields, &typed(TOKEN));
        assert_eq!(answer.status, 403, "{fields}");
    }
    for more in [
        "Origin: http://evil.test\r\n",
        "Origin: null\r\n",
        "Origin: http://127.0.0.1:1\r\n",
        "Sec-Fetch-Site: cross-site\r\n",
        "Sec-Fetch-Site: same-site\r\n",
        "Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: document\r\n",
    ] {
        let more = format!("{}{more}", typed(TOKEN));
        assert_eq!(form(&admin, "/backends/up01/drain", &own, &more).status, 403, "{more}");
        assert_eq!(form(&admin, "/reload", &own, &more).status, 403, "{more}");
    }
    assert_eq!(admin.state(0), AdminState::Ready);
    assert_eq!(admin.farm.lock().unwrap().reloads, 0);
    let get = admin.ask_with("GET", "/backends/up01/drain", &typed(TOKEN));
    assert_eq!((get.status, admin.state(0)), (404, AdminState::Ready));
}

/// A link in a mail opens a page, and nothing on another site reads one.
#[test]
fn a_link_elsewhere_may_lead_here() {
    let admin = Admin::start();
    let site = "Sec-Fetch-Site: cross-site\r\n";
    let followed = "Sec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: document\r\n";
    assert_eq!(
        admin.ask_with("GET", "/", &format!("{}{site}{followed}", typed(TOKEN))).status,
        200
    );
    for other in [
        "Sec-Fetch-Mode: no-cors\r\nSec-Fetch-Dest: image\r\n",
        "Sec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: iframe\r\n",
        "",
    ] {
        let answer = admin.ask_with("GET", "/", &format!("{}{site}{other}", typed(TOKEN)));
        assert_eq!(answer.status, 403, "{other}");
    }
    // Never a call of the API.
    let more = format!("{}{site}{followed}", bearer(TOKEN));
    assert_eq!(admin.ask_with("GET", "/api/v1/status", &more).status, 403);
}

#[test]
fn a_viewer_looks_and_changes_nothing() {
    let admin = Admin::start();
    admin.put("one", 0, (0, 0), Duration::ZERO);
    let own = number(&page(&admin, "/", &typed(TOKEN)));
    let shown = page(&admin, "/", &typed(VIEWER));
    assert!(!shown.body.contains("<button"), "{}", shown.body);
    // Of another visit.
    assert_eq!(form(&admin, "/backends/up01/drain", &own, &typed(VIEWER)).status, 403);
    admin
        .ask_with("POST", "/api/v1/backends/up01/drain", &bearer(VIEWER))
        .refused(403, "viewer_only");
    admin.ask_with("DELETE", "/api/v1/sessions/one", &bearer(VIEWER)).refused(403, "viewer_only");
    admin.ask_with("POST", "/api/v1/reload", &bearer(VIEWER)).refused(403, "viewer_only");
    assert_eq!(admin.ask_with("GET", "/api/v1/sessions", &bearer(VIEWER)).status, 200);
    assert_eq!(admin.state(0), AdminState::Ready);
    assert_eq!(admin.sessions.len(), 1);
    assert_eq!(admin.counted("backend_drain", "refused"), 1);
}

/// Threat: T12.
#[test]
fn what_a_client_chose_is_text() {
    let admin = Admin::start();
    let hostile = "/in/<img src=x onerror=alert(1)>\"'&.bin";
    let _upload = moving(&admin, hostile, "</dd><script>alert(2)</script>");
    let list = page(&admin, "/uploads", &typed(TOKEN));
    let (_, link) = list.body.split_once("href=\"/uploads/").expect("a link to the upload");
    let one = page(&admin, &format!("/uploads/{}", &link[..16]), &typed(TOKEN));
    let mut live = listen(&admin);
    let told = live.next();
    for text in [&list.body, &one.body, &told] {
        assert!(!text.contains("<img"), "{text}");
        assert!(!text.contains("<script>"), "{text}");
        assert!(text.contains("&lt;img src=x onerror=alert(1)&gt;"), "{text}");
    }
    assert!(one.body.contains("&lt;script&gt;alert(2)"), "{}", one.body);
    // What is searched for is a word of somebody, too.
    let searched = page(&admin, "/uploads?path=%22%3E%3Cimg%20src=x%3E", &typed(TOKEN));
    assert!(!searched.body.contains("<img"), "{}", searched.body);
}

#[test]
fn uploads_are_found_and_paged() {
    let admin = Admin::start();
    for n in 0..150 {
        admin.put(&format!("sleeps-{n}"), n % 3, (10, 100), Duration::from_secs(900));
    }
    let _upload = moving(&admin, "/in/report.cab", "BITS");
    let rows = |page: &Answer| page.body.matches("<tr id=\"u-").count();
    let first = page(&admin, "/uploads", &typed(TOKEN));
    assert_eq!(rows(&first), 100);
    assert!(first.body.contains("151 uploads"), "{}", first.body);
    let (_, next) = first.body.split_once("<a rel=\"next\" href=\"").expect("a next page");
    let next = next.split('"').next().expect("a link").replace("&amp;", "&");
    assert_eq!(rows(&page(&admin, &next, &typed(TOKEN))), 51);
    // As a form sends it.
    let found = page(&admin, "/uploads?path=REPORT&client=&backend=&state=", &typed(TOKEN));
    assert_eq!(rows(&found), 1);
    assert_eq!(rows(&page(&admin, "/uploads?backend=up02", &typed(TOKEN))), 50);
    assert_eq!(admin.ask_with("GET", "/uploads?client=x", &typed(TOKEN)).status, 400);
    assert_eq!(admin.ask_with("GET", "/uploads/0000000000000000", &typed(TOKEN)).status, 404);
}

/// What /live says, read message by message.
struct Listening(TcpStream, String);

fn listen(admin: &Admin) -> Listening {
    let mut stream = TcpStream::connect(admin.address).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let (host, who) = (admin.address, typed(TOKEN));
    write!(stream, "GET /live HTTP/1.1\r\nHost: {host}\r\n{who}\r\n").unwrap();
    Listening(stream, String::new())
}

impl Listening {
    /// The next message that says something.
    fn next(&mut self) -> String {
        loop {
            if let Some((before, rest)) = self.1.split_once("\n\n") {
                let (message, rest) = (before.to_owned(), rest.to_owned());
                self.1 = rest;
                if message.contains("data: ") {
                    return message;
                }
                continue;
            }
            let mut some = [0; 4096];
            let got = self.0.read(&mut some).expect("it goes on");
            assert_ne!(got, 0, "it ended: {}", self.1);
            self.1.push_str(&String::from_utf8_lossy(&some[..got]));
        }
    }
}

#[test]
fn open_pages_hear_what_moves() {
    let admin = Admin::start();
    let upload = moving(&admin, "/in/report.cab", "BITS");
    let mut live = listen(&admin);
    let told = live.next();
    for part in ["b-up01", "b-up03", "u-", "verdict", "25 %"] {
        assert!(told.contains(part), "no {part} in {told}");
    }
    // Nothing to press: everybody hears the same.
    assert!(!told.contains("<form"), "{told}");
    upload.came(3000);
    let moved = loop {
        let told = live.next();
        if told.contains("75 %") || told.contains("100 %") {
            break told;
        }
    };
    assert!(!moved.contains("b-up03"), "what is as before is not told: {moved}");
    drop(upload);
    admin.end("moves");
    while !live.next().contains("\"ended\":[\"u-") {}
}

/// Threat: T12.
#[test]
fn pages_that_stay_open_leave_room_for_commands() {
    let admin = Admin::start();
    let mut open: Vec<Listening> = (0..16).map(|_| listen(&admin)).collect();
    for page in &mut open {
        page.next();
    }
    // The others are told at once that there is no place, and give theirs back.
    for _ in 0..16 {
        assert_eq!(admin.ask_with("GET", "/live", &typed(TOKEN)).status, 503);
    }
    assert_eq!(admin.run(&["backends", "drain", "up01"]).code, 0);
    admin.post("backends/up02/drain");
    assert_eq!(admin.state(1), AdminState::Drain);
    drop(open);
    let again = || admin.ask_with("HEAD", "/", &typed(TOKEN)).status;
    assert_eq!(again(), 200);
}

/// Its place comes back when the answer was read, not when it was made.
///
/// Threat: T12.
#[test]
fn a_browser_that_reads_slowly_keeps_its_place() {
    let admin = Admin::start();
    // Each row is larger than the names in it, and all are more than kernels keep for a reader.
    let path = format!("/in/{}", "\"".repeat(250));
    let names: Vec<_> = (0..100).map(|number| format!("moves-{number}")).collect();
    let _uploads: Vec<_> =
        names.iter().map(|name| moving_as(&admin, name, &path, "BITS")).collect();
    let slow = || {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        socket.connect(&admin.address.into()).unwrap();
        let mut stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        let (host, who) = (admin.address, typed(TOKEN));
        write!(stream, "GET /uploads HTTP/1.1\r\nHost: {host}\r\n{who}\r\n").unwrap();
        stream
    };
    let mut readers: Vec<_> = (0..24).map(|_| slow()).collect();
    let status = || admin.ask_with("GET", "/about", &typed(TOKEN)).status;
    wait_for("all places to be taken", || (status() == 503).then_some(()));
    assert_eq!(admin.run(&["backends", "drain", "up01"]).code, 0);
    let mut page = Vec::new();
    readers[0].read_to_end(&mut page).unwrap();
    assert!(page.ends_with(b"</html>"), "{}", String::from_utf8_lossy(&page));
    wait_for("its place", || (status() == 200).then_some(()));
}

#[test]
fn under_tls_a_browser_signs_in() {
    let admin = Admin::start_with_tls();
    let first = admin.ask_with("GET", "/uploads", "");
    assert_eq!(first.status, 303);
    assert!(first.head.contains("location: /sign-in"), "{}", first.head);
    let shown = page(&admin, "/sign-in", "");
    assert!(shown.body.contains("type=\"password\""), "{}", shown.body);
    // Typed once, a password would be sent for ever.
    assert_eq!(admin.ask_with("GET", "/", &typed(TOKEN)).status, 303);
    let origin = format!("Origin: https://{}\r\n", admin.address);
    let wrong = form(&admin, "/sign-in", &format!("token={VIEWER}x"), &origin);
    assert_eq!(wrong.status, 403);
    assert!(!wrong.head.contains("set-cookie"), "{}", wrong.head);
    for stranger in ["", "Origin: https://evil.test\r\n", &origin.replace("https", "http")] {
        assert_eq!(form(&admin, "/sign-in", &format!("token={TOKEN}"), stranger).status, 403);
    }
    let cookie = sign_in(&admin, TOKEN);
    assert!(!cookie.contains(TOKEN), "{cookie}");
    let shown = page(&admin, "/", &cookie);
    assert!(shown.body.contains("Sign out"), "{}", shown.body);
    let drained =
        form(&admin, "/backends/up01/drain", &number(&shown), &format!("{cookie}{origin}"));
    assert_eq!((drained.status, admin.state(0)), (303, AdminState::Drain));
    // The number of one visit is of no use in another.
    let other = sign_in(&admin, TOKEN);
    assert_eq!(form(&admin, "/backends/up02/drain", &number(&shown), &other).status, 403);
    // Another process knows none of them.
    let restarted = Admin::start_with_tls();
    assert_eq!(restarted.ask_with("GET", "/", &cookie).status, 303);
    let out = form(&admin, "/sign-out", &number(&shown), &cookie);
    assert_eq!(out.status, 303);
    assert!(out.head.contains("max-age=0"), "{}", out.head);
    assert_eq!(admin.ask_with("GET", "/", &cookie).status, 303);
    assert_eq!(admin.ask_with("GET", "/live", &cookie).status, 401);
    assert_eq!(admin.ask_with("GET", "/", &other).status, 200);
    // Programs bring the token, and plain HTTP is not understood.
    assert_eq!(admin.ask("GET", "/api/v1/status").status, 200);
    assert_eq!(admin.ask_with("GET", "/api/v1/status", &cookie).status, 401);
}

/// The `Cookie` that a browser sends from then on.
#[track_caller]
fn sign_in(admin: &Admin, token: &str) -> String {
    let origin = format!("Origin: https://{}\r\n", admin.address);
    let answer = form(admin, "/sign-in", &format!("token={token}"), &origin);
    assert_eq!(answer.status, 303, "{}", answer.body);
    let set = answer.head.lines().find_map(|line| line.strip_prefix("set-cookie: "));
    let pair = set.expect("a cookie").split(';').next().expect("a name and a value");
    // The harness has the head in lower case; names of cookies are as they are.
    format!("Cookie: {}\r\n", pair.replace("__host-", "__Host-"))
}

#[test]
fn commands_speak_https() {
    let admin = Admin::start_with_tls();
    let url = format!("https://{}", admin.address);
    let folder = admin.folder.path();
    let named = ["--admin", &url, "--token-file", "token"];
    let output = run(folder, &[&["status"], &named[..], &["--ca", "ca.pem"]].concat(), &[]);
    assert_eq!(output.code, 0, "{}", output.stderr);
    assert!(
        output.stdout.contains("3 backends") || output.stdout.contains("up"),
        "{}",
        output.stdout
    );
    // Whom the system trusts did not sign it.
    let output = run(folder, &[&["status"], &named[..]].concat(), &[]);
    assert_eq!(output.code, 74, "{}", output.stderr);
    assert!(output.stderr.contains("--ca"), "{}", output.stderr);
    // The configuration of the gateway says where it is, and which name it has.
    let config = format!(
        "[admin]\naddress = \"{}\"\ntoken_file = \"token\"\nhosts = [\"localhost\"]\n\
         tls = {{ certificate = \"ca.pem\", key = \"key.pem\" }}\n",
        admin.address
    );
    std::fs::write(folder.join("gw.toml"), config).unwrap();
    let drain = ["backends", "drain", "up01", "--config", "gw.toml", "--ca", "ca.pem"];
    let output = run(folder, &drain, &[]);
    assert_eq!((output.code, admin.state(0)), (0, AdminState::Drain), "{}", output.stderr);
}
