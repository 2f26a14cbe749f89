use AnswerBody::{Chunked, Length, UntilClose};
use AnswerError::{Field, Framing, Status, StatusLine, TooLarge};

use super::*;

const LIMITS: HeadLimits = HeadLimits { head_bytes: 16 * 1024, line_bytes: 0, fields: 100 };

fn read(text: &str) -> Result<Option<Answer>, AnswerError> {
    read_answer(&crate::protocol::latin1::encode(text).expect("Latin-1"), &LIMITS)
}

#[track_caller]
fn whole(text: &str) -> Answer {
    read(text).expect("it is legal").expect("it is whole")
}

/// Reads a head of that status line and those fields.
#[track_caller]
fn check(text: &str, expected: Result<(u16, AnswerBody), AnswerError>) {
    let text = format!("{text}\r\n\r\n");
    let read = read(&text).map(|answer| answer.expect("it is whole"));
    let found = read.map(|answer| {
        assert_eq!(answer.length, text.chars().count(), "{text:?}");
        (answer.head.status.as_u16(), answer.body)
    });
    assert_eq!(found, expected, "{text:?}");
}

#[test]
fn status_lines() {
    for (line, expected) in [
        ("HTTP/1.1 200 OK", Ok((200, UntilClose))),
        ("HTTP/1.0 404 Not Found", Ok((404, UntilClose))),
        ("HTTP/1.1 200 ", Ok((200, UntilClose))),
        ("HTTP/1.1 200", Ok((200, UntilClose))),
        ("HTTP/1.1 500 \u{e4}\tb", Ok((500, UntilClose))),
        ("HTTP/1.1 599 x", Ok((599, UntilClose))),
        ("HTTP/1.1 600 x", Err(Status)),
        ("HTTP/1.1 999 x", Err(Status)),
        ("HTTP/1.1 099 x", Err(Status)),
        ("HTTP/1.1 2000 x", Err(StatusLine)),
        ("HTTP/1.1 200OK", Err(StatusLine)),
        ("HTTP/1.1 20 OK", Err(StatusLine)),
        ("HTTP/1.1 2\u{b2}0 OK", Err(StatusLine)),
        ("HTTP/1.1  200 OK", Err(StatusLine)),
        ("HTTP/1.1\t200 OK", Err(StatusLine)),
        ("HTTP/1.1 200 O\0K", Err(StatusLine)),
        ("HTTP/1.1 200 O\rK", Err(StatusLine)),
        ("HTTP/1.2 200 OK", Err(StatusLine)),
        ("HTTP/2 200 OK", Err(StatusLine)),
        ("HTTP/1.1", Err(StatusLine)),
        ("http/1.1 200 OK", Err(StatusLine)),
        ("ICY 200 OK", Err(StatusLine)),
        (" HTTP/1.1 200 OK", Err(StatusLine)),
        ("\r\nHTTP/1.1 200 OK", Err(StatusLine)),
    ] {
        check(line, expected);
    }
}

#[test]
fn fields() {
    for (fields, expected) in [
        ("A: b", Some(&[("a", "b")][..])),
        ("A:b", Some(&[("a", "b")])),
        ("A:", Some(&[("a", "")])),
        ("A: \t b \t ", Some(&[("a", "b")])),
        ("A: b: c", Some(&[("a", "b: c")])),
        ("A : b", Some(&[("a", "b")])),
        ("A\t: b", Some(&[("a", "b")])),
        ("A: b\r\nA: c", Some(&[("a", "b"), ("a", "c")])),
        ("A: b\r\n c", Some(&[("a", "b c")])),
        ("A: b\r\n\t c \r\n d", Some(&[("a", "b c d")])),
        ("A: b\r\n ", Some(&[("a", "b")])),
        ("A:\r\n b", Some(&[("a", "b")])),
        ("A: b\r\n c\r\nD: e", Some(&[("a", "b c"), ("d", "e")])),
        ("A: b\nC: d", Some(&[("a", "b"), ("c", "d")])),
        (" A: b", None),
        ("A", None),
        (": b", None),
        (" : b", None),
        ("A B: c", None),
        ("\u{e4}: b", None),
        ("A\0: b", None),
        ("A: \0", None),
        ("A: b\rc", None),
        ("A: b\r\n c\x0c\r\n d", None),
        ("A: b\r\n c\r\r\n d", None),
        ("A: b\x0c\r\n c", None),
        ("A: b\r\r\nC: d", None),
        ("A: \u{7f}", None),
    ] {
        let answer = read(&format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\n"));
        let Some(expected) = expected else {
            assert_eq!(answer.err(), Some(Field), "{fields:?}");
            continue;
        };
        let head = answer.expect("legal").expect("whole").head;
        let text = |bytes| std::str::from_utf8(bytes).expect("ASCII");
        let found: Vec<(String, String)> = head
            .all()
            .map(|(_, n, v)| (text(n).to_ascii_lowercase(), text(v).to_owned()))
            .collect();
        let expected = expected.iter().map(|(n, v)| (n.to_string(), v.to_string()));
        assert_eq!(found, expected.collect::<Vec<_>>(), "{fields:?}");
    }
}

#[test]
fn one_end() {
    for (head, expected) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 0", Ok((200, Length(0)))),
        ("HTTP/1.1 200 OK\r\nContent-Length : 5", Ok((200, Length(5)))),
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5", Ok((200, Length(5)))),
        ("HTTP/1.1 200 OK\r\nContent-Length: 5, 5", Ok((200, Length(5)))),
        ("HTTP/1.1 200 OK\r\nContent-Length: 05", Ok((200, Length(5)))),
        ("HTTP/1.0 200 OK\r\nContent-Length: 5", Ok((200, Length(5)))),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked", Ok((200, Chunked))),
        ("HTTP/1.1 204 x", Ok((204, Length(0)))),
        ("HTTP/1.1 204 x\r\nContent-Length: 0", Ok((204, Length(0)))),
        ("HTTP/1.1 204 x\r\nContent-Length: 5", Ok((204, Length(0)))),
        ("HTTP/1.1 304 x", Ok((304, Length(0)))),
        ("HTTP/1.1 304 x\r\nContent-Length: 5", Ok((304, Length(0)))),
        ("HTTP/1.1 100 Continue", Ok((100, Length(0)))),
    ] {
        check(head, expected);
    }
}

#[test]
fn two_ends() {
    for fields in [
        "Content-Length: 5\r\nContent-Length: 6",
        "Content-Length: 5, 6",
        "Content-Length: 5,",
        "Content-Length:",
        "Content-Length: +5",
        "Content-Length: -5",
        "Content-Length: 0x5",
        "Content-Length: 5 5",
        "Content-Length: 99999999999999999999",
        "Content-Length: 5\r\n 5",
        "Content-Length: 5\r\n ",
        "Transfer-Encoding:",
        "Transfer-Encoding: identity",
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: chunked, chunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 5",
        "Transfer-Encoding:\r\n chunked",
    ] {
        check(&format!("HTTP/1.1 200 OK\r\n{fields}"), Err(Framing));
    }
    for head in [
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked",
        "HTTP/1.1 204 x\r\nTransfer-Encoding: chunked",
        "HTTP/1.1 100 x\r\nContent-Length: 5",
        "HTTP/1.1 100 x\r\nTransfer-Encoding: chunked",
    ] {
        check(head, Err(Framing));
    }
}

#[test]
fn several_equal_lengths_are_one() {
    let answer = whole("HTTP/1.1 200 OK\r\nContent-Length: 05, 5\r\nContent-Length: 5\r\n\r\n");
    assert_eq!(answer.head.length, Some(5));
}

#[test]
fn a_head_is_waited_for_until_it_is_whole_or_hopeless() {
    let text = "HTTP/1.1 200 OK\r\nA: b\r\n\r\n";
    for end in 0..text.len() {
        // A head that ends in a line feed alone ends here.
        assert!(read(&text[..end]).expect("legal so far").is_none(), "{:?}", &text[..end]);
    }
    let answer = whole(&format!("{text}HTTP/1.1 500 no\r\n\r\n"));
    assert_eq!((answer.head.status.as_u16(), answer.length), (200, text.len()));
    assert_eq!(whole("HTTP/1.1 200 OK\nA: b\n\nrest").length, 22);
    for hopeless in
        ["S", "HTTP/2", "\r\n", "SSH-2.0-OpenSSH_9.2", "HTTP/1.1 200 OK\r\nno colon\r\n"]
    {
        assert!(read(hopeless).is_err(), "{hopeless:?}");
    }
}

#[test]
fn a_head_has_bounds_as_a_whole_and_in_each_field() {
    let head = |count: usize, name: usize, value: usize| {
        let field = format!("{}: {}\r\n", "n".repeat(name), "v".repeat(value));
        format!("HTTP/1.1 200 OK\r\n{}\r\n", field.repeat(count))
    };
    let limits = HeadLimits { head_bytes: 1 << 20, line_bytes: 0, fields: 3 };
    let read = |text: &str| read_answer(text.as_bytes(), &limits).map(|answer| answer.is_some());
    assert_eq!(read(&head(3, NAME_LIMIT, FIELD_LIMIT)), Ok(true));
    assert_eq!(read(&head(4, 1, 1)), Err(TooLarge));
    assert_eq!(read(&head(1, NAME_LIMIT + 1, 1)), Err(TooLarge));
    assert_eq!(read(&head(1, 1, FIELD_LIMIT + 1)), Err(TooLarge));
    let folded = format!("HTTP/1.1 200 OK\r\nA: b\r\n {}\r\n\r\n", "v".repeat(FIELD_LIMIT));
    assert_eq!(read(&folded), Err(TooLarge));
    let text = head(1, 1, 10);
    let small = |head_bytes| HeadLimits { head_bytes, ..limits };
    assert!(read_answer(text.as_bytes(), &small(text.len())).is_ok());
    assert_eq!(read_answer(text.as_bytes(), &small(text.len() - 1)).err(), Some(TooLarge));
    // One that never ends is not read for ever.
    let endless = &text.as_bytes()[..text.len() - 2];
    assert_eq!(read_answer(endless, &small(endless.len() - 1)).err(), Some(TooLarge));
}

#[test]
fn an_answer_repeats_another_but_for_its_numbers() {
    const ACK: &str = "HTTP/1.1 200 OK\r\nBITS-Packet-Type: Ack\r\n\
        BITS-Received-Content-Range: 1024\r\nDate: Tue, 01 Dec 2026 12:46:17 GMT\r\n\
        Content-Length: 0\r\nX-Own: a\r\n\r\n";
    let limits = HeadLimits { head_bytes: 4096, line_bytes: 0, fields: 10 };
    let read = |text: &str| read_answer(text.as_bytes(), &limits).ok().flatten();
    let mut ack = read(ACK).unwrap();
    for (old, new, repeats) in [
        ("", "", true),
        ("1024", "2048", true),
        (" 12:46:17", " 13:00:00", true),
        ("2026", "2027", true),
        ("Tue", "Wed", false),
        ("1024", "10240", false),
        ("1024", "102", false),
        ("1024", "x024", false),
        ("1.1 200", "1.1 201", false),
        ("1.1 200", "1.0 200", false),
        ("Length: 0", "Length: 1", false),
        ("Own: a", "Own: b", false),
        ("X-Own", "X-0wn", false),
        ("\r\n\r\n", "\r\nA: 1\r\n\r\n", false),
    ] {
        let text = ACK.replace(old, new);
        assert_eq!(ack.repeat(format!("{text}body").as_bytes()), repeats, "{old:?} became {new:?}");
        let expected = read(if repeats { &text } else { ACK }).unwrap();
        if repeats {
            assert_eq!((&ack.head, ack.body), (&expected.head, expected.body));
        }
        ack = read(ACK).unwrap();
        assert!(!ack.repeat(&text.as_bytes()[..text.len() - 1]), "half of it");
    }
}

#[test]
fn a_folded_answer_is_repeated_by_none() {
    let folded = b"HTTP/1.1 200 OK\r\nX-Own: a\r\n b\r\n\r\n";
    let limits = HeadLimits { head_bytes: 4096, line_bytes: 0, fields: 10 };
    let mut answer = read_answer(folded, &limits).unwrap().unwrap();
    assert!(!answer.repeat(folded));
    assert!(!answer.repeat(b"HTTP/1.1 200 OK\r\nX-Own: a b\r\n\r\n...."));
}
