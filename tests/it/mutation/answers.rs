//! A strict reader of answers, for both sides: what the gateway said to a client, and what a backend said to the gateway.

use super::strict::trim;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    /// Names in lower case.
    pub fields: Vec<(String, Vec<u8>)>,
    pub body: Vec<u8>,
    /// Interim answers that came before it.
    pub interim: Vec<u16>,
    /// Only the end of the connection ends the body.
    pub until_close: bool,
    pub closes: bool,
}

impl Answer {
    pub fn value(&self, name: &str) -> Option<String> {
        let found = self.fields.iter().find(|(found, _)| found == name);
        found.map(|(_, value)| String::from_utf8_lossy(value).into_owned())
    }

    pub fn count(&self, name: &str) -> usize {
        self.fields.iter().filter(|(found, _)| found == name).count()
    }
}

/// Why bytes are no row of answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// They break off inside an answer, which is all right where a connection was cut.
    Cut,
    Malformed(String),
}

/// What RFC 9112 lets a proxy mend in the head of an answer, mended: empty lines before it, bare line feeds, folded
/// lines, white space before a colon, a missing reason (sections 2.2, 4, 5.1 and 5.2), and a length that is said twice or
/// beside a coding (6.3).
pub fn mended(mut bytes: &[u8]) -> Vec<u8> {
    while let [b'\r', b'\n', rest @ ..] | [b'\n', rest @ ..] = bytes {
        bytes = rest;
    }
    let mut out = Vec::new();
    let mut rest = bytes;
    let mut first = true;
    while let Some(at) = rest.iter().position(|&b| b == b'\n') {
        let line = rest[..at].strip_suffix(b"\r").unwrap_or(&rest[..at]);
        rest = &rest[at + 1..];
        if line.is_empty() {
            out = with_one_length(&out);
            out.extend(b"\r\n");
            let interim = out.starts_with(b"HTTP/1.1 1") && !out.starts_with(b"HTTP/1.1 101");
            out.extend(if interim { mended(rest) } else { rest.to_vec() });
            return out;
        }
        if first {
            out.extend(line);
            if line.starts_with(b"HTTP/1.0 ") {
                out[7] = b'1';
            }
            if line.len() == 12 {
                out.push(b' ');
            }
            first = false;
        } else if line.starts_with(b" ") || line.starts_with(b"\t") {
            out.truncate(out.len() - 2);
            out.push(b' ');
            out.extend(trim(line));
        } else if let Some(colon) = line.iter().position(|&b| b == b':') {
            out.extend(trim(&line[..colon]));
            out.extend(&line[colon..]);
        } else {
            out.extend(line);
        }
        out.extend(b"\r\n");
    }
    out.extend(rest);
    out
}

fn with_one_length(head: &[u8]) -> Vec<u8> {
    let is = |line: &[u8], start: &[u8]| line.to_ascii_lowercase().starts_with(start);
    let lines: Vec<&[u8]> = head.split_inclusive(|&b| b == b'\n').collect();
    let coded = lines.iter().any(|line| is(line, b"transfer-encoding:"));
    let mut kept: Vec<Vec<u8>> = Vec::new();
    for line in lines {
        let mut line = line.to_vec();
        if is(&line, b"content-length:") {
            let said = trim(line.strip_suffix(b"\r\n").unwrap_or(&line)[15..].as_ref());
            line = [b"Content-Length: ", one_of_equals(said), b"\r\n"].concat();
            if coded || kept.contains(&line) {
                continue;
            }
        }
        kept.push(line);
    }
    kept.concat()
}

/// One number said several times in a list is that number (RFC 9110 section 8.6).
fn one_of_equals(list: &[u8]) -> &[u8] {
    let mut numbers = list.split(|&b| b == b',').map(trim);
    let first = numbers.next().unwrap_or_default();
    let is_number = !first.is_empty() && first.iter().all(u8::is_ascii_digit);
    if is_number && numbers.all(|other| other == first) { first } else { list }
}

/// The answer that the bytes begin with, and how many it takes. `ended`: no more bytes follow.
pub fn answer(bytes: &[u8], to_head: bool, ended: bool) -> Result<(Answer, usize), Wrong> {
    let (mut at, mut interim) = (0, Vec::new());
    loop {
        let end = super::strict::head_end(&bytes[at..]).ok_or(Wrong::Cut)?;
        let head = &bytes[at..at + end];
        let (status, fields) = head_of(head)?;
        at += end;
        if (100..200).contains(&status) && status != 101 {
            interim.push(status);
            continue;
        }
        let closes = fields.iter().any(|(name, value)| {
            name == "connection"
                && value.to_ascii_lowercase().split(|&b| b == b',').any(|w| trim(w) == b"close")
        });
        let mut answer =
            Answer { status, fields, body: Vec::new(), interim, until_close: false, closes };
        let used = body(&mut answer, &bytes[at..], to_head, ended)?;
        return Ok((answer, at + used));
    }
}

fn malformed<T>(why: impl Into<String>) -> Result<T, Wrong> {
    Err(Wrong::Malformed(why.into()))
}

type Head = (u16, Vec<(String, Vec<u8>)>);

fn head_of(head: &[u8]) -> Result<Head, Wrong> {
    let text: String = head.iter().map(|&b| char::from(b)).collect();
    let text = text.strip_suffix("\r\n\r\n").unwrap_or(&text);
    let mut lines = text.split("\r\n");
    let line = lines.next().unwrap_or_default();
    let bad = |c: char| (c < ' ' && c != '\t') || c == '\x7f';
    if text.split("\r\n").any(|line| line.contains(bad)) {
        return malformed(format!("control character in {text:?}"));
    }
    let status = line.strip_prefix("HTTP/1.1 ").and_then(|rest| {
        let code = rest.get(..3).filter(|code| code.bytes().all(|b| b.is_ascii_digit()))?;
        matches!(rest.as_bytes().get(3), Some(b' ')).then(|| code.parse().ok())?
    });
    let Some(status) = status.filter(|status| (100..600).contains(status)) else {
        return malformed(format!("status line {line:?}"));
    };
    let mut fields = Vec::new();
    for line in lines {
        let Some((name, value)) = line.split_once(':') else {
            return malformed(format!("field {line:?}"));
        };
        let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
        if name.is_empty() || !name.bytes().all(token) {
            return malformed(format!("field {line:?}"));
        }
        let value: Vec<u8> = value.chars().map(|c| c as u8).collect();
        fields.push((name.to_ascii_lowercase(), trim(&value).to_vec()));
    }
    Ok((status, fields))
}

fn body(answer: &mut Answer, bytes: &[u8], to_head: bool, ended: bool) -> Result<usize, Wrong> {
    let lengths: Vec<_> =
        answer.fields.iter().filter(|(name, _)| name == "content-length").collect();
    let codings: Vec<_> =
        answer.fields.iter().filter(|(name, _)| name == "transfer-encoding").collect();
    let none = to_head || [204, 304, 101].contains(&answer.status);
    match (&lengths[..], &codings[..]) {
        _ if answer.status == 101 => malformed("101"),
        ([], []) if none => Ok(0),
        ([], []) => {
            answer.until_close = true;
            answer.body = bytes.to_vec();
            if ended { Ok(bytes.len()) } else { Err(Wrong::Cut) }
        }
        ([(_, digits)], []) => {
            let plain = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
            let text = String::from_utf8_lossy(digits);
            let Some(length) = text.parse::<u64>().ok().filter(|_| plain) else {
                return malformed(format!("length {text:?}"));
            };
            let length = if none { 0 } else { usize::try_from(length).unwrap_or(usize::MAX) };
            if length > bytes.len() {
                answer.body = bytes.to_vec();
                return Err(Wrong::Cut);
            }
            answer.body = bytes[..length].to_vec();
            Ok(length)
        }
        ([], [(_, coding)]) if coding.eq_ignore_ascii_case(b"chunked") => {
            if none {
                return Ok(0);
            }
            chunked(answer, bytes)
        }
        _ => malformed("more than one length"),
    }
}

fn chunked(answer: &mut Answer, bytes: &[u8]) -> Result<usize, Wrong> {
    let mut at = 0;
    loop {
        let line = bytes[at..].windows(2).position(|w| w == b"\r\n").ok_or(Wrong::Cut)?;
        let text = String::from_utf8_lossy(&bytes[at..at + line]).into_owned();
        let digits = text.split(';').next().unwrap_or_default();
        let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_hexdigit());
        let Some(size) = usize::from_str_radix(digits, 16).ok().filter(|_| plain) else {
            return malformed(format!("chunk {text:?}"));
        };
        at += line + 2;
        let end = size.checked_add(2).and_then(|more| at.checked_add(more));
        let Some(end) = end.filter(|&end| end <= bytes.len()) else {
            return Err(Wrong::Cut);
        };
        if &bytes[end - 2..end] != b"\r\n" {
            return malformed("chunk without an end");
        }
        answer.body.extend(&bytes[at..end - 2]);
        at = end;
        if size == 0 {
            return Ok(at);
        }
    }
}

#[test]
fn answers_are_read_strictly() {
    let read = |text: &str| answer(text.as_bytes(), false, true).map(|(a, used)| (a.status, used));
    let ack = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";
    assert_eq!(read(ack), Ok((200, ack.len())));
    assert_eq!(read(&format!("HTTP/1.1 100 Continue\r\n\r\n{ack}rest")), Ok((200, ack.len() + 25)));
    assert_eq!(read(&ack[..ack.len() - 1]), Err(Wrong::Cut));
    for bad in [
        "HTTP/1.0 200 OK\r\n\r\n",
        "HTTP/1.1 2000 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX : y\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: a\nb\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nhi",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxx\r\n",
        "HTTP/1.1 101 Switching\r\n\r\n",
    ] {
        assert!(matches!(read(bad), Err(Wrong::Malformed(_))), "{bad:?}");
    }
    // A chunk that does not end within the bytes that are there, however large it says it is.
    for size in [3, usize::MAX - 2, usize::MAX - 1, usize::MAX] {
        let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert_eq!(read(&format!("{head}{size:x}\r\nhi\r\n")), Err(Wrong::Cut), "{size:x}");
    }
}
