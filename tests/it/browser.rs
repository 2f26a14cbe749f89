//! The gateway's page in a real browser: `tests/browser` runs these. They need Chromium and its driver.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::Command;
use std::thread;

use e2e_tests::binaries;
use e2e_tests::browser::Browser;
use e2e_tests::client::{Connection, exchange};
use e2e_tests::farm::Farm;
use e2e_tests::pki;
use e2e_tests::ports::Port;
use e2e_tests::temp::TempDir;
use e2e_tests::wait;

use crate::packets::{create, fragment, session_of};

const MIB: u64 = 1 << 20;

/// Of the Fragment that an upload sends, and of the file.
const LENGTH: u64 = 64 * MIB;

const OPERATOR: &str = "operator-0123456789abcdef01234567";
const VIEWER: &str = "viewer-0123456789abcdef0123456789";

/// A farm whose gateway has a page.
struct Scene {
    farm: Farm,
    port: Port,
    tls: bool,
    folder: TempDir,
}

impl Scene {
    fn start() -> Self {
        Self::new(2, false)
    }

    fn new(stubs: usize, tls: bool) -> Self {
        let (folder, port) = (TempDir::new("page"), Port::reserve());
        let file = |name: &str, text: &str| {
            let path = folder.join(name);
            pki::write(&path, text, 0o600);
            format!("{:?}", path.display().to_string())
        };
        let mut farm = Farm::of_stubs(stubs)
            .plain()
            .set("health.kind", "\"tcp\"")
            .set("health.interval", "\"200ms\"")
            .set("health.timeout", "\"100ms\"")
            .set("admin.address", &format!("\"{}\"", port.address()))
            .set("admin.token_file", &file("operator", OPERATOR))
            .set("admin.viewer_token_file", &file("viewer", VIEWER));
        if tls {
            let files = pki::servers().issue(&["localhost", "127.0.0.1"]);
            let files = files.write(folder.path(), "admin");
            let path = |path: &Path| format!("{:?}", path.display().to_string());
            farm = farm
                .set("admin.tls.certificate", &path(&files.certificate))
                .set("admin.tls.key", &path(&files.key));
        }
        Self { farm: farm.start(), port, tls, folder }
    }

    fn at(&self, path: &str) -> String {
        let scheme = if self.tls { "https" } else { "http" };
        format!("{scheme}://{}{path}", self.port.address())
    }

    /// As somebody who has typed that token.
    fn at_with(&self, token: &str, path: &str) -> String {
        format!("http://x:{token}@{}{path}", self.port.address())
    }

    /// What an operator types.
    #[track_caller]
    fn type_in(&self, words: &[&str]) {
        let address = self.port.address().to_string();
        let token = self.folder.join("operator");
        let output = Command::new(binaries::gateway())
            .args(words)
            .args(["--admin", &address, "--token-file"])
            .arg(token)
            .output()
            .expect("it runs");
        assert!(output.status.success(), "{words:?}: {output:?}");
    }
}

/// An upload under way, of which more is sent when it is asked for.
struct Slow(Connection);

impl Slow {
    fn start(farm: &Farm, path: &str, agent: &str) -> Self {
        let mut client = Connection::open(farm.entrance()).expect("the gateway accepts");
        let opened = create(path).with("User-Agent", agent).bytes();
        let id = session_of(&client.exchange(&opened).expect("an answer"));
        let range = format!("bytes 0-{}/{LENGTH}", LENGTH - 1);
        let head = fragment(path, &id, &range, b"").with("User-Agent", agent);
        let head = String::from_utf8(head.head().to_bytes()).expect("a head of ASCII");
        let head = head.replace("Content-Length: 0", &format!("Content-Length: {LENGTH}"));
        client.send(head.as_bytes()).expect("a head is taken");
        Self(client)
    }

    fn send(&mut self, mib: u64) {
        (0..mib).for_each(|_| self.0.send(&[7; MIB as usize]).expect("a body is taken"));
    }
}

/// Waits until what a selector finds reads like that.
#[track_caller]
fn reads(browser: &Browser, selector: &str, words: &str) {
    wait::until(&format!("{selector} reads {words:?}"), || browser.text(selector).contains(words));
}

/// Waits until the page hears what moves.
#[track_caller]
fn is_live(browser: &Browser) {
    wait::until("the page is live", || browser.run("return live.dataset.live") == "yes");
}

#[test]
fn the_bar_of_an_upload_moves() {
    let (scene, browser) = (Scene::start(), Browser::start());
    let mut upload = Slow::start(&scene.farm, "/in/first.cab", "BITS");
    upload.send(16);
    browser.open(&scene.at_with(OPERATOR, "/uploads"));
    reads(&browser, "tbody tr .progress", "25 %");
    // The same page later on, and no other one.
    browser.run("document.body.dataset.seen = 'yes'");
    upload.send(16);
    reads(&browser, "tbody tr .progress", "50 %");
    let value = browser.run("return document.querySelector('progress').value");
    assert_eq!(value.as_f64(), Some((32 * MIB) as f64));
    // One that has just begun comes by itself.
    let mut other = Slow::start(&scene.farm, "/in/second.cab", "BITS");
    other.send(1);
    reads(&browser, "tbody tr:first-child", "/in/second.cab");
    assert_eq!(browser.run("return document.body.dataset.seen"), "yes");
    // And one that has ended says so.
    upload.send(32);
    upload.0.read_answer().expect("an Ack");
    let mark = browser.run(
        "return [...document.querySelectorAll('tbody tr')]
            .find((row) => row.innerText.includes('first.cab')).id",
    );
    let mark = mark.as_str().expect("a row").replace("u-", "@");
    scene.type_in(&["sessions", "forget", &mark]);
    reads(&browser, &format!("#{}", mark.replace('@', "u-")), "ended");
}

#[test]
fn a_click_drains_and_the_table_follows() {
    let (scene, browser) = (Scene::start(), Browser::start());
    browser.open(&scene.at_with(OPERATOR, "/"));
    reads(&browser, "#b-up01 .state", "ready");
    browser.click("#b-up01 button[value=drain]");
    reads(&browser, "#b-up01 .state", "draining");
    // What somebody else does comes by itself, buttons included.
    is_live(&browser);
    browser.run("document.body.dataset.seen = 'yes'");
    scene.type_in(&["backends", "ready", "up01"]);
    reads(&browser, "#b-up01 .state", "ready");
    let pressed = browser.run(
        "return document.querySelector('#b-up01 button[value=ready]').getAttribute('aria-pressed')",
    );
    assert_eq!(pressed, "true");
    scene.farm.stub(1).kill();
    reads(&browser, "#b-up02 .state", "down");
    reads(&browser, "#verdict", "up02 is down");
    assert_eq!(browser.run("return document.body.dataset.seen"), "yes");
    // It is asked for twice.
    browser.click("#b-up01 button[value=maintenance]");
    reads(&browser, "h1", "Maintenance of up01?");
    browser.click("button.danger");
    reads(&browser, "#b-up01 .state", "maintenance");
}

/// Threat: T12.
#[test]
fn a_hostile_name_stays_text() {
    let (scene, browser) = (Scene::start(), Browser::start());
    let agent = "<img src=x onerror=\"document.title='taken'\">";
    // Of what HTML could take for its own, a target may hold this much.
    let path = "/in/&lt;img&gt;'%3Cimg%3E.bin";
    let mut upload = Slow::start(&scene.farm, path, agent);
    upload.send(16);
    browser.open(&scene.at_with(OPERATOR, "/uploads"));
    reads(&browser, "tbody tr .file", path);
    is_live(&browser);
    upload.send(16);
    reads(&browser, "tbody tr .progress", "50 %");
    browser.click("tbody tr .file a");
    reads(&browser, "h1", path);
    reads(&browser, "dl", agent);
    is_live(&browser);
    let taken = "return [document.title, document.querySelectorAll('img').length]";
    let taken = browser.run(taken);
    assert!(taken[0].as_str().is_some_and(|title| title.starts_with("/in/")), "{taken}");
    assert_eq!(taken[1], 0);
}

#[test]
fn a_viewer_cannot_drain() {
    let (scene, browser) = (Scene::start(), Browser::start());
    browser.open(&scene.at_with(VIEWER, "/"));
    reads(&browser, ".role", "viewer");
    // Without the token in its address, a page may use `fetch`.
    browser.open(&scene.at("/"));
    assert_eq!(browser.run("return document.querySelectorAll('button').length"), 0);
    let status = browser.run(
        "return fetch('/backends/up01/drain', { method: 'POST', body: new URLSearchParams({ number: '0' }) })
            .then((answer) => answer.status)",
    );
    assert_eq!(status, 403);
    is_live(&browser);
    assert_eq!(browser.text("#b-up01 .state"), browser.text("#b-up02 .state"));
}

#[test]
fn no_request_leaves_the_origin() {
    let (scene, browser) = (Scene::start(), Browser::start());
    let mut upload = Slow::start(&scene.farm, "/in/a.bin", "BITS");
    upload.send(1);
    browser.open(&scene.at_with(OPERATOR, "/"));
    is_live(&browser);
    for path in ["/uploads", "/events", "/configuration", "/about", "/uploads?client=127.0.0.1"] {
        browser.open(&scene.at(path));
        is_live(&browser);
    }
    browser.open(&scene.at("/uploads"));
    browser.click("tbody tr a");
    is_live(&browser);
    let host = scene.port.address().to_string();
    let requests = browser.requests();
    assert!(requests.len() > 20, "{requests:?}");
    for url in &requests {
        let url = url.replace(&format!("x:{OPERATOR}@"), "");
        assert!(url.starts_with(&format!("http://{host}/")), "{url}");
    }
    assert_eq!(browser.console(), Vec::<String>::new(), "nothing is against the policy");
}

#[test]
fn a_session_ends_with_the_sign_out_and_with_the_process() {
    let (scene, browser) = (Scene::new(2, true), Browser::start());
    let sign_in = || {
        browser.open(&scene.at("/"));
        reads(&browser, "h1", "Sign in");
        browser.fill("#token", OPERATOR);
        browser.click("main button");
        reads(&browser, "h1", "Farm");
    };
    sign_in();
    is_live(&browser);
    let cookies = browser.cookies();
    assert_eq!(cookies.len(), 1, "{cookies:?}");
    let cookie = cookies[0].clone();
    assert_eq!(cookie["name"], "__Host-bits-gateway");
    for (what, expected) in [("httpOnly", "true"), ("secure", "true"), ("sameSite", "\"Strict\"")] {
        assert_eq!(cookie[what].to_string(), expected, "{what}");
    }
    assert!(!cookie.to_string().contains(OPERATOR), "{cookie}");
    assert_eq!(browser.run("return document.cookie"), "");
    browser.click("header form button");
    reads(&browser, "h1", "Sign in");
    assert_eq!(browser.cookies().len(), 0);
    // Whoever has kept it gets in no more.
    browser.add_cookie(&cookie);
    browser.open(&scene.at("/uploads"));
    reads(&browser, "h1", "Sign in");
    sign_in();
    scene.farm.gateway().restart();
    browser.open(&scene.at("/uploads"));
    reads(&browser, "h1", "Sign in");
}

/// What a page of somebody else does in the browser of an operator.
const STRANGER: &str = "<!DOCTYPE html><title>strange</title><form method=post action=HERE/backends/up01/drain>\
    <input name=number value=0></form><iframe src=HERE/></iframe><script>
    window.done = Promise.all([
      fetch('HERE/', { credentials: 'include' }).then((a) => a.text()).catch(() => 'kept'),
      fetch('HERE/api/v1/backends/up01/drain', { method: 'POST', mode: 'no-cors', credentials: 'include' })
        .then((a) => a.type).catch(() => 'kept'),
    ]);</script>";

/// A server of that page.
fn stranger(admin: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("its address");
    let page = STRANGER.replace("HERE", &format!("http://{admin}"));
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let page = page.clone();
            // Browsers open connections that they may never use.
            thread::spawn(move || {
                let _ = stream.read(&mut [0; 4096]);
                let length = page.len();
                let head = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close\r\n";
                let _ = write!(stream, "{head}Content-Length: {length}\r\n\r\n{page}");
            });
        }
    });
    address
}

/// Threat: T12.
#[test]
fn a_page_on_another_name_or_port_can_do_nothing() {
    let scene = Scene::start();
    let admin = scene.port.address();
    let browser = Browser::start_with(&["--host-resolver-rules=MAP evil.test 127.0.0.1"]);
    // The browser knows the token from now on.
    browser.open(&scene.at_with(OPERATOR, "/"));
    reads(&browser, "#b-up01 .state", "ready");
    let other = stranger(admin);
    for page in [format!("http://{other}/"), format!("http://evil.test:{}/", other.port())] {
        browser.open(&page);
        let done = browser.run("return window.done");
        assert_eq!(done[0], "kept", "{page}: {done}");
        browser.run("document.forms[0].submit()");
        reads(&browser, "h1", "Forbidden");
    }
    // A name that is made to lead to us is a stranger's, whatever it leads to.
    browser.open(&format!("http://evil.test:{}/", admin.port()));
    reads(&browser, "h1", "Forbidden");
    browser.open(&scene.at("/"));
    reads(&browser, "#b-up01 .state", "ready");
    let events = exchange(
        admin,
        format!(
            "GET /api/v1/backends/up01 HTTP/1.1\r\nHost: {admin}\r\n\
             Authorization: Bearer {OPERATOR}\r\nConnection: close\r\n\r\n"
        )
        .as_bytes(),
    );
    assert!(events.expect("an answer").body_text().contains("\"admin_state\":\"ready\""));
}

/// Writes the pictures of docs/tour.md into the folder that `E2E_TOUR` names.
#[test]
fn pictures_for_the_tour() {
    let folder =
        std::env::var_os("E2E_TOUR").expect("the folder of the pictures: run tests/browser --tour");
    let (scene, browser) = (Scene::new(3, false), Browser::start());
    let names = ["office-17/report-q3.cab", "office-17/image-0001.wim", "lab/CBS_persist.cab"];
    let mut uploads: Vec<Slow> = Vec::new();
    for (number, name) in names.into_iter().enumerate() {
        let mut upload = Slow::start(&scene.farm, &format!("/in/{name}"), "Microsoft BITS/7.8");
        upload.send(40 - 14 * number as u64);
        uploads.push(upload);
    }
    scene.type_in(&["backends", "drain", "up02"]);
    scene.farm.stub(2).kill();
    browser.open(&scene.at_with(OPERATOR, "/"));
    reads(&browser, "#b-up03 .state", "down");
    for (name, path, width, dark) in [
        ("farm", "/", 1280, false),
        ("uploads", "/uploads", 1280, false),
        ("uploads-dark", "/uploads", 1280, true),
        ("uploads-narrow", "/uploads", 360, false),
        ("events", "/events", 1280, true),
    ] {
        browser.look_like(width, dark);
        browser.open(&scene.at(path));
        uploads.iter_mut().for_each(|upload| upload.send(1));
        is_live(&browser);
        let file = Path::new(&folder).join(format!("{name}.png"));
        std::fs::write(&file, browser.picture()).expect("the folder is there");
    }
}
