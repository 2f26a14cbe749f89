//! A BITS upload server, as far as a gateway sees one. It reads and writes header names as the
//! specification prints them and shares no code with the core: only the truth about a request does.

use std::collections::BTreeMap;

use gateway_core::session::lost_close::FileHead;
use gateway_core::session::{Subject, Target, Timestamp};
use http::{HeaderValue, StatusCode, request, response};
use uuid::Uuid;

use crate::farm::ASKED;
use crate::rng::Rng;
use crate::scenario::{Ids, Scenario};

/// Which Create-Session of which client: the truth that no packet carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tag {
    pub client: usize,
    pub attempt: u64,
}

/// A request on its way, with the truth about it.
#[derive(Debug, Clone)]
pub struct Request {
    pub head: request::Parts,
    pub body: Vec<u8>,
    pub tag: Tag,
    /// The certificate of its client.
    pub subject: Option<Subject>,
}

impl Request {
    pub fn target(&self) -> Target {
        Target::of(self.head.uri.path().as_bytes())
    }

    /// The same under another id.
    pub fn name(&mut self, id: &str) {
        let id = HeaderValue::from_str(id).expect("it came in a header");
        self.head.headers.insert("BITS-Session-Id", id);
    }

    /// A Cancel-Session in the name of its client.
    pub fn cancel(&self, id: &str) -> Self {
        let mut cancel = Self { body: Vec::new(), ..self.clone() };
        let fields = &mut cancel.head.headers;
        fields.insert("BITS-Packet-Type", HeaderValue::from_static("Cancel-Session"));
        fields.insert("Content-Length", HeaderValue::from_static("0"));
        fields.remove("Content-Range");
        fields.remove("BITS-Supported-Protocols");
        cancel.name(id);
        cancel
    }
}

/// What a server did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Deed {
    Nothing,
    Created,
    Stored,
    /// The file, as it lies at its destination.
    Delivered(Vec<u8>),
    Dropped,
}

#[derive(Debug)]
pub struct Upload {
    pub tag: Tag,
    pub data: Vec<u8>,
    total: Option<u64>,
    path: String,
}

/// Habits in which servers differ.
#[derive(Debug, Clone, Copy)]
struct Habits {
    created: u16,
    /// An overlap gets a 416 rather than a 200.
    strict: bool,
    error_name: &'static str,
    /// Repeats the session id in every Ack, in lower case.
    echoes: bool,
    says_ack: bool,
    /// Names itself as Host-Id.
    host_id: bool,
    fragment_limit: usize,
    /// Keeps what it got of a Fragment that broke off.
    keeps_parts: bool,
    /// Refuses a Fragment that names another size than the first one did.
    compares_sizes: bool,
    /// Believes the size that a Fragment names even if it refuses the Fragment.
    believes_sizes: bool,
    /// Knows a session under its own path only.
    minds_paths: bool,
    /// Lets anybody read what was uploaded.
    shows_files: bool,
    /// Asks for an announced body only if it would take it.
    looks_first: bool,
}

/// What a server does with a Create-Session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    Opens,
    Refuses,
    Hangs,
}

pub struct Server {
    number: usize,
    pub alive: bool,
    pub mood: Mood,
    pub uploads: BTreeMap<String, Upload>,
    /// Files that were delivered: their lengths, and when.
    pub files: BTreeMap<String, (usize, Timestamp)>,
    ids: Ids,
    issued: u128,
    habits: Habits,
}

impl Server {
    pub fn new(number: usize, scenario: &Scenario, rng: &mut Rng) -> Self {
        let credulous = scenario.may_be_credulous();
        let habits = Habits {
            created: rng.pick(&[200, 201]),
            strict: rng.chance(50),
            error_name: rng.pick(&["BITS-Error", "BITS-Error-Code"]),
            echoes: rng.chance(50),
            says_ack: rng.chance(80),
            host_id: rng.chance(50),
            fragment_limit: rng.pick(&[6, 1000]),
            keeps_parts: rng.chance(50),
            compares_sizes: rng.chance(70),
            believes_sizes: rng.chance(50) && credulous,
            minds_paths: rng.chance(80) || scenario.reissues,
            shows_files: rng.chance(80),
            looks_first: rng.chance(70),
        };
        Self {
            number,
            alive: true,
            mood: Mood::Opens,
            uploads: BTreeMap::new(),
            files: BTreeMap::new(),
            ids: scenario.ids,
            issued: 0,
            habits,
        }
    }

    pub fn find(&self, tag: Tag) -> Option<(&str, &Upload)> {
        let mut uploads = self.uploads.iter().filter(|(_, upload)| upload.tag == tag);
        uploads.next().map(|(id, upload)| (id.as_str(), upload))
    }

    /// Loses its sessions. One that is set up from a backup does not know its last ids either.
    pub fn forget(&mut self, from_backup: bool, rng: &mut Rng) {
        self.uploads.clear();
        if from_backup {
            self.issued = self.issued.saturating_sub(1 + rng.below(4) as u128);
        }
    }

    fn issue(&mut self, rng: &mut Rng) -> String {
        self.issued += 1;
        let count = self.issued;
        match self.ids {
            Ids::Unique if self.number.is_multiple_of(2) => {
                rng.guid().braced().to_string().to_uppercase()
            }
            Ids::Unique => format!("/in/{}-{count}%", self.number),
            // One and the same GUID in the spellings of different servers.
            Ids::Colliding if self.number.is_multiple_of(2) => {
                Uuid::from_u128(count).braced().to_string()
            }
            Ids::Colliding => Uuid::from_u128(count).to_string().to_uppercase(),
            Ids::Illegal if self.number.is_multiple_of(2) => format!("session {count}"),
            Ids::Illegal => format!("{count:0>101}"),
        }
    }

    /// Stores a part of a Fragment that broke off, where this server does that.
    pub fn take_part(&mut self, request: &Request, rng: &mut Rng) {
        if !self.habits.keeps_parts || header(request, "BITS-Packet-Type") != "Fragment" {
            return;
        }
        let id = header(request, "BITS-Session-Id").to_owned();
        let (first, _, total) = range(request);
        let limit = self.habits.fragment_limit;
        if !self.knows(&id, request.head.uri.path()) {
            return;
        }
        if let Some(upload) = self.uploads.get_mut(&id)
            && first == upload.data.len()
            && request.body.len() <= limit
        {
            let part = rng.below(request.body.len() + 1);
            upload.data.extend(&request.body[..part]);
            upload.total = Some(total);
        }
    }

    pub fn answer(&mut self, request: &Request, rng: &mut Rng) -> (response::Parts, Deed) {
        assert_eq!(request.head.method.as_str(), "BITS_POST");
        let id = header(request, "BITS-Session-Id").to_owned();
        if is_announced(request) && !self.habits.looks_first {
            return (head(100, &[]), Deed::Nothing);
        }
        match header(request, "BITS-Packet-Type") {
            "Ping" => (self.ack(200, &id, &[]), Deed::Nothing),
            "Create-Session" => self.create(request, rng),
            _ if !self.knows(&id, request.head.uri.path()) => {
                let code = [(self.habits.error_name, "0x8020001F"), ("BITS-Error-Context", "0x5")];
                (self.ack(500, &id, &code), Deed::Nothing)
            }
            "Fragment" => self.fragment(request, &id),
            "Close-Session" => {
                let upload = self.uploads.remove(&id).expect("just seen");
                (self.ack(200, &id, &[]), Deed::Delivered(upload.data))
            }
            "Cancel-Session" => {
                self.uploads.remove(&id);
                (self.ack(200, &id, &[]), Deed::Dropped)
            }
            other => panic!("a server got a packet of type {other:?}"),
        }
    }

    pub fn knows(&self, id: &str, path: &str) -> bool {
        let upload = self.uploads.get(id);
        upload.is_some_and(|upload| upload.path == path || !self.habits.minds_paths)
    }

    /// The answer to a HEAD of the destination.
    pub fn look(&self, request: &Request, date: Timestamp) -> FileHead {
        let head = |status| FileHead { status, length: None, modified: None, date: Some(date) };
        match self.files.get(request.head.uri.path()) {
            _ if !self.habits.shows_files => head(StatusCode::UNAUTHORIZED),
            None => head(StatusCode::NOT_FOUND),
            Some((length, modified)) => FileHead {
                length: Some(*length as u64),
                modified: Some(*modified),
                ..head(StatusCode::OK)
            },
        }
    }

    fn create(&mut self, request: &Request, rng: &mut Rng) -> (response::Parts, Deed) {
        assert!(header(request, "BITS-Supported-Protocols").contains("7df0354d"));
        let id = self.issue(rng);
        let path = request.head.uri.path().to_owned();
        let upload = Upload { tag: request.tag, data: Vec::new(), total: None, path };
        let old = self.uploads.insert(id.clone(), upload);
        assert!(old.is_none(), "a server never names two sessions alike");
        let mut fields = vec![("BITS-Session-Id", id.as_str())];
        if self.habits.host_id {
            fields.push(("BITS-Host-Id", "inner.test"));
            fields.push(("BITS-Host-Id-Fallback-Timeout", "86400"));
        }
        let mut answer = self.ack(self.habits.created, "", &fields);
        if !self.habits.says_ack {
            answer.headers.remove("BITS-Packet-Type");
        }
        (answer, Deed::Created)
    }

    fn fragment(&mut self, request: &Request, id: &str) -> (response::Parts, Deed) {
        let (first, last, total) = range(request);
        if request.body.len() > self.habits.fragment_limit {
            return (self.ack(413, id, &[]), Deed::Nothing);
        }
        let upload = self.uploads.get_mut(id).expect("just seen");
        let next = upload.data.len();
        assert!(last + 1 - first == request.body.len() || is_announced(request));
        let differs = upload.total.is_some_and(|known| known != total);
        if differs && self.habits.compares_sizes {
            let fields = [(self.habits.error_name, "0x80070057"), ("BITS-Error-Context", "0x5")];
            return (self.ack(400, id, &fields), Deed::Nothing);
        }
        if self.habits.believes_sizes {
            upload.total.get_or_insert(total);
        }
        if first > next || (self.habits.strict && first != next) {
            let offset = next.to_string();
            let fields = [("BITS-Received-Content-Range", offset.as_str())];
            return (self.ack(416, id, &fields), Deed::Nothing);
        }
        if is_announced(request) {
            return (head(100, &[]), Deed::Nothing);
        }
        let asked = request.head.headers.contains_key(ASKED);
        assert!(!asked, "the byte of a question is in a file");
        assert_eq!(*upload.total.get_or_insert(total), total, "the size of a file is constant");
        let old = (next - first).min(request.body.len());
        upload.data.extend(&request.body[old..]);
        let offset = upload.data.len().to_string();
        let fields = [("BITS-Received-Content-Range", offset.as_str())];
        (self.ack(200, id, &fields), Deed::Stored)
    }

    /// An error page or an error Ack for no reason of the protocol's.
    pub fn hiccup(&self, rng: &mut Rng) -> response::Parts {
        match rng.below(4) {
            0 => head(503, &[("Content-Type", "text/html")]),
            1 => head(500, &[("Content-Type", "text/html"), ("Content-Length", "0")]),
            2 => self.ack(500, "", &[(self.habits.error_name, "0x80070070")]),
            _ => head(500, &[(self.habits.error_name, "0x1"), ("BITS-Error-Context", "0x5")]),
        }
    }

    fn ack(&self, status: u16, id: &str, fields: &[(&str, &str)]) -> response::Parts {
        let mut all = vec![("BITS-Packet-Type", "Ack"), ("Content-Length", "0")];
        let echo = id.to_lowercase();
        if self.habits.echoes && !echo.is_empty() {
            all.push(("BITS-Session-Id", &echo));
        }
        all.extend(fields);
        head(status, &all)
    }
}

fn head(status: u16, fields: &[(&str, &str)]) -> response::Parts {
    let mut response = http::Response::builder().status(status);
    for (name, value) in fields {
        response = response.header(*name, *value);
    }
    response.body(()).expect("legal head").into_parts().0
}

/// Whether its body comes only if it is asked for.
fn is_announced(request: &Request) -> bool {
    header(request, "Expect") == "100-continue"
}

pub fn header<'r>(request: &'r Request, name: &str) -> &'r str {
    request.head.headers.get(name).map_or("", |value| value.to_str().expect("text"))
}

/// First, last and total of `bytes F-L/T`.
pub fn range(request: &Request) -> (usize, usize, u64) {
    let value = header(request, "Content-Range").strip_prefix("bytes ").expect("a range");
    let (range, total) = value.split_once('/').expect("a total");
    let (first, last) = range.split_once('-').expect("two ends");
    let number = |text: &str| text.parse::<usize>().expect("a number");
    (number(first), number(last), total.parse().expect("a number"))
}
