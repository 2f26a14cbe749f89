//! GET and HEAD of finished uploads and of replies: what a BITS download needs, MC-BUP 3.5.

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::clock;
use crate::conn::blocking;
use crate::http::{Answer, Head, Segment};
use crate::paths::{Destination, percent_decode, split_target};
use crate::uploads::Uploads;

/// More ranges than any BITS client asks for are answered with the whole file.
const MAX_RANGES: usize = 100;

const BOUNDARY: &str = "bits-range-7df0354d249b430f820d3d2a9bef4931";

/// Answers a download.
pub async fn serve(uploads: &Uploads, head: &Head) -> Answer {
    let opened = match reply_id(&head.target) {
        Some(id) => match uploads.reply_file(&id) {
            Some(path) => blocking(move || File::open(path)).await,
            None => Err(io::ErrorKind::NotFound.into()),
        },
        None => match Destination::from_target(&head.target) {
            Ok(destination) => {
                let disk = Arc::clone(&uploads.disk);
                blocking(move || disk.open_file(&destination)).await
            }
            Err(_) => Err(io::ErrorKind::NotFound.into()),
        },
    };
    let mut answer = match opened.and_then(|file| Ok((file.metadata()?, file))) {
        Ok((meta, file)) => {
            let modified = meta.modified().unwrap_or(SystemTime::UNIX_EPOCH);
            answer(head, Arc::new(file), meta.len(), modified)
        }
        // A client must not learn why: links, folders and missing files look alike.
        Err(_) => Answer::new(404),
    };
    answer.head_only = head.method == "HEAD";
    answer
}

/// The session id in `<anything>/BITS-Sessions/Replies/<id>/responsefile.bin`; letter case and the kind of slash do not
/// matter, because the client builds the path from a Windows one.
fn reply_id(target: &str) -> Option<String> {
    let (path, _) = split_target(target)?;
    let path = String::from_utf8(percent_decode(path).ok()?).ok()?;
    let path = path.replace('\\', "/");
    let lower = path.to_ascii_lowercase();
    let start = lower.find("/bits-sessions/replies/")? + "/bits-sessions/replies/".len();
    let end = lower.strip_suffix("/responsefile.bin")?.len();
    path.get(start..end).map(str::to_owned)
}

fn answer(head: &Head, file: Arc<File>, length: u64, modified: SystemTime) -> Answer {
    let changed_since = |name| {
        head.text(name)
            .and_then(|date| httpdate::parse_http_date(date).ok())
            .is_none_or(|date| whole_seconds(modified) > whole_seconds(date))
    };
    if head.text("if-unmodified-since").is_some() && changed_since("if-unmodified-since") {
        return Answer::new(412);
    }
    let now = UNIX_EPOCH + Duration::from_millis(clock::now_ms());
    let base = |status| {
        Answer::new(status)
            .header("Date", httpdate::fmt_http_date(now))
            .header("Accept-Ranges", "bytes")
            .header("Last-Modified", httpdate::fmt_http_date(modified))
    };
    let ranges = head
        .text("range")
        .filter(|_| head.text("if-range").is_none() || !changed_since("if-range"))
        .and_then(|value| read_ranges(value, length));
    let piece = |first: u64, last: u64| Segment::File {
        file: Arc::clone(&file),
        offset: first,
        length: last - first + 1,
    };
    let mut answer = match ranges.as_deref() {
        None => {
            let mut answer = base(200).header("Content-Type", "application/octet-stream");
            answer.body.push(Segment::File { file, offset: 0, length });
            return answer;
        }
        Some([]) => return base(416).header("Content-Range", format!("bytes */{length}")),
        Some([(first, last)]) => {
            let mut answer = base(206)
                .header("Content-Type", "application/octet-stream")
                .header("Content-Range", format!("bytes {first}-{last}/{length}"));
            answer.body.push(piece(*first, *last));
            return answer;
        }
        Some(_) => {
            base(206).header("Content-Type", format!("multipart/byteranges; boundary={BOUNDARY}"))
        }
    };
    for (first, last) in ranges.unwrap_or_default() {
        answer.body.push(Segment::Bytes(
            format!(
                "\r\n--{BOUNDARY}\r\nContent-Type: application/octet-stream\r\n\
                 Content-Range: bytes {first}-{last}/{length}\r\n\r\n"
            )
            .into_bytes(),
        ));
        answer.body.push(piece(first, last));
    }
    answer.body.push(Segment::Bytes(format!("\r\n--{BOUNDARY}--\r\n").into_bytes()));
    answer
}

/// The satisfiable ranges, inclusive; empty when none is; `None` when the header is to be ignored (RFC 9110 14.2).
fn read_ranges(value: &str, length: u64) -> Option<Vec<(u64, u64)>> {
    let (unit, list) = value.split_once('=')?;
    if !unit.eq_ignore_ascii_case("bytes") {
        return None;
    }
    let specs: Vec<&str> = list.split(',').map(str::trim).filter(|spec| !spec.is_empty()).collect();
    if specs.is_empty() || specs.len() > MAX_RANGES {
        return None;
    }
    let mut ranges = Vec::with_capacity(specs.len());
    for spec in specs {
        let (first, last) = spec.split_once('-')?;
        let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
        if !digits(first) || !digits(last) || (first.is_empty() && last.is_empty()) {
            return None;
        }
        let number = |text: &str| text.parse().unwrap_or(u64::MAX);
        let (first, last) = match (first, last) {
            ("", suffix) => {
                let suffix: u64 = number(suffix);
                if suffix == 0 || length == 0 {
                    continue;
                }
                (length.saturating_sub(suffix), length - 1)
            }
            (first, "") => (number(first), u64::MAX),
            (first, last) if number(first) > number(last) => return None,
            (first, last) => (number(first), number(last)),
        };
        if first < length {
            ranges.push((first, last.min(length - 1)));
        }
    }
    Some(ranges)
}

/// HTTP dates have no fractions.
fn whole_seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(value: &str, expected: Option<&[(u64, u64)]>) {
        assert_eq!(read_ranges(value, 100).as_deref(), expected, "{value}");
    }

    #[test]
    fn ranges_are_cut_to_the_file() {
        check("bytes=0-9", Some(&[(0, 9)]));
        check("Bytes=90-", Some(&[(90, 99)]));
        check("bytes=-10", Some(&[(90, 99)]));
        check("bytes=-1000", Some(&[(0, 99)]));
        check("bytes=0-0, 50-59 ,99-200", Some(&[(0, 0), (50, 59), (99, 99)]));
        check("bytes=100-", Some(&[]));
        check("bytes=-0", Some(&[]));
        check("bytes=100-,0-1", Some(&[(0, 1)]));
        check("bytes=18446744073709551616-", Some(&[]));
    }

    #[test]
    fn headers_that_are_no_range_are_ignored() {
        for value in ["bytes", "bytes=", "items=0-1", "bytes=5-1", "bytes=a-b", "bytes=-"] {
            check(value, None);
        }
        check(&format!("bytes={}", "0-0,".repeat(101)), None);
    }

    #[test]
    fn an_empty_file_satisfies_no_range() {
        assert_eq!(read_ranges("bytes=0-", 0), Some(vec![]));
        assert_eq!(read_ranges("bytes=-5", 0), Some(vec![]));
    }

    #[test]
    fn replies_are_found_in_any_spelling() {
        let id = Some("{3F9C-21}".to_owned());
        for target in [
            "/in/BITS-Sessions/Replies/%7B3F9C-21%7D/responsefile.bin",
            "/in/bits-sessions/replies/{3F9C-21}/ResponseFile.bin?x=y",
            "/BITS-Sessions%5CReplies%5C{3F9C-21}%5Cresponsefile.bin",
            "http://up.test/a/b/BITS-Sessions/Replies/%7b3F9C-21%7d/responsefile.bin",
        ] {
            assert_eq!(reply_id(target), id, "{target}");
        }
        assert_eq!(reply_id("/in/x.bin"), None);
        assert_eq!(reply_id("/BITS-Sessions/Replies/responsefile.bin"), None);
        assert_eq!(reply_id("/BITS-Sessions/Replies//responsefile.bin"), Some(String::new()));
    }
}
