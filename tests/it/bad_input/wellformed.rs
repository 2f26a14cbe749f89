//! A strict reader of what a backend received: anything that two servers could read in two ways is a panic.

/// One request as the gateway wrote it.
#[derive(Debug)]
pub struct Written {
    pub target: String,
    pub fields: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Written {
    pub fn field(&self, name: &str) -> Option<&str> {
        let found = self.fields.iter().find(|(found, _)| found.eq_ignore_ascii_case(name));
        found.map(|(_, value)| &**value)
    }

    fn count(&self, name: &str) -> usize {
        self.fields.iter().filter(|(found, _)| found.eq_ignore_ascii_case(name)).count()
    }
}

/// Splits all bytes of one connection into requests. Only the last one may be unfinished, and then it is left out.
///
/// # Panics
/// When the bytes are not a row of well-formed requests.
#[track_caller]
pub fn requests(mut bytes: &[u8]) -> Vec<Written> {
    let mut all = Vec::new();
    while !bytes.is_empty() {
        let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else { break };
        let mut request = head(&bytes[..end]);
        bytes = &bytes[end + 4..];
        let length = length(&request);
        if bytes.len() < length {
            break;
        }
        request.body = bytes[..length].to_vec();
        bytes = &bytes[length..];
        all.push(request);
    }
    all
}

#[track_caller]
fn head(bytes: &[u8]) -> Written {
    let text = String::from_utf8_lossy(bytes).into_owned();
    let control = |b: &&u8| **b < 0x20 && !b"\t\r\n".contains(b) || **b == 0x7f;
    assert_eq!(bytes.iter().find(control), None, "control character in {text:?}");
    let mut lines = text.split("\r\n");
    let line = lines.next().unwrap_or_default();
    let parts: Vec<_> = line.split(' ').collect();
    let [method, target, "HTTP/1.1"] = parts[..] else { panic!("request line {line:?}") };
    assert!(method.bytes().all(is_token) && !method.is_empty(), "{line:?}");
    assert!(target.starts_with('/'), "the gateway writes origin form only: {line:?}");
    let fields = lines.map(|line| {
        assert!(!line.contains(['\r', '\n']), "bare CR or LF in {line:?}");
        let (name, value) = line.split_once(':').unwrap_or_else(|| panic!("field {line:?}"));
        assert!(name.bytes().all(is_token) && !name.is_empty(), "field {line:?}");
        (name.to_owned(), value.trim().to_owned())
    });
    let fields = fields.collect();
    let request = Written { target: target.to_owned(), fields, body: Vec::new() };
    for once in ["Host", "Content-Range", "BITS-Packet-Type", "BITS-Session-Id", "Authorization"] {
        assert!(request.count(once) <= 1, "{once} twice in {text:?}");
    }
    assert_eq!(request.count("Host"), 1, "{text:?}");
    for never in ["Transfer-Encoding", "Upgrade", "Expect", "Proxy-Connection", "TE", "Trailer"] {
        assert_eq!(request.count(never), 0, "{never} in {text:?}");
    }
    assert!(request.count("Content-Length") <= 1, "{text:?}");
    let imitation = |(name, _): &(String, String)| {
        let name = name.to_ascii_lowercase();
        name.contains('_')
            && ["bits", "content", "transfer", "host"].iter().any(|p| name.starts_with(p))
    };
    assert!(!request.fields.iter().any(imitation), "{text:?}");
    request
}

#[track_caller]
fn length(request: &Written) -> usize {
    let Some(value) = request.field("Content-Length") else { return 0 };
    assert!(value.bytes().all(|b| b.is_ascii_digit()), "Content-Length {value:?}");
    value.parse().expect("digits that fit")
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[test]
fn the_reader_panics_at_what_two_servers_could_read_in_two_ways() {
    let reads = |bytes: &str| {
        let bytes = bytes.to_owned();
        std::panic::catch_unwind(move || requests(bytes.as_bytes()).len()).ok()
    };
    let good = "BITS_POST /a HTTP/1.1\r\nHost: up\r\nContent-Length: 2\r\n\r\nhi";
    assert_eq!(reads(&good.repeat(2)), Some(2));
    assert_eq!(reads(&format!("{good}rest")), Some(1));
    for bad in [
        "GET http://up/a HTTP/1.1\r\nHost: up\r\n\r\n",
        "GET /a HTTP/1.0\r\nHost: up\r\n\r\n",
        "GET /a HTTP/1.1\r\n\r\n",
        "GET /a HTTP/1.1\r\nHost: up\r\nHost: up\r\n\r\n",
        "GET /a HTTP/1.1\r\nHost: up\nX: y\r\n\r\n",
        "GET /a HTTP/1.1\r\nHost: up\r\n folded\r\n\r\n",
        "GET /a HTTP/1.1\r\nHost: up\r\nContent-Length: 0\r\nContent-Length: 0\r\n\r\n",
        "GET /a HTTP/1.1\r\nHost: up\r\nTransfer-Encoding: chunked\r\n\r\n",
        "GET /a HTTP/1.1\r\nHost: up\r\nBITS_Session_Id: x\r\n\r\n",
        "hello\r\n\r\n",
    ] {
        assert_eq!(reads(bad), None, "{bad:?}");
    }
}
