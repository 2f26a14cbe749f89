//! Reply downloads of upload-reply jobs: which session a path speaks of (MC-BUP 3.4.5).

use super::ids::{ID_LIMIT, SessionId, SessionKey};

/// The session whose reply lies at `path`, if it is `.../BITS-Sessions/Replies/<id>/...`.
///
/// Compared without regard to case, after percent-decoding, with `\` as `/`: IIS names the reply
/// with backslashes and Windows asks for it with `%7B` and `%7D`. Only routing looks at the
/// decoded form; the target goes on as it came.
pub fn session_of_path(path: &str) -> Option<SessionKey> {
    // Most requests end here, at the cost of one scan.
    if !contains_ignoring_case(path, "sessions") {
        return None;
    }
    let path = path.split(['?', '#']).next().unwrap_or(path);
    let decoded = decode(path)?;
    let mut segments = decoded.split(['/', '\\']);
    while let Some(segment) = segments.next() {
        if segment.eq_ignore_ascii_case("BITS-Sessions")
            && segments.next()?.eq_ignore_ascii_case("Replies")
        {
            return SessionId::parse(segments.next()?).map(|id| id.key().clone());
        }
    }
    None
}

fn contains_ignoring_case(text: &str, needle: &str) -> bool {
    text.as_bytes().windows(needle.len()).any(|w| w.eq_ignore_ascii_case(needle.as_bytes()))
}

fn decode(path: &str) -> Option<String> {
    let mut out = Vec::with_capacity(path.len().min(4 * ID_LIMIT));
    let mut bytes = path.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let high = char::from(bytes.next()?).to_digit(16)?;
            let low = char::from(bytes.next()?).to_digit(16)?;
            out.push(u8::try_from(high * 16 + low).ok()?);
        } else {
            out.push(byte);
        }
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "{3F9C1E52-7B0D-4E7A-9C44-0D5B6A1E8F21}";

    #[track_caller]
    fn check(path: &str, id: Option<&str>) {
        let expected = id.map(|id| SessionId::parse(id).unwrap().key().clone());
        assert_eq!(session_of_path(path), expected, "{path}");
    }

    #[test]
    fn reply_paths_name_their_session() {
        check(&format!("/in/BITS-Sessions/Replies/{ID}/responsefile.bin"), Some(ID));
        check(
            "/in/bits-sessions/replies/%7B3f9c1e52-7b0d-4e7a-9c44-0d5b6a1e8f21%7d/r.bin?x=1",
            Some(ID),
        );
        check(&format!("/in\\BITS-Sessions\\Replies\\{ID}\\r.bin"), Some(ID));
        check("/BITS-Sessions/Replies/-42/r.bin", Some("-42"));
    }

    #[test]
    fn other_paths_name_none() {
        check("/in/a.bin", None);
        check("/BITS-Sessions/Requests/x/y", None);
        check("/BITS-Sessions/Replies/", None);
        check("/BITS-Sessions/Replies", None);
        check("/BITS-Sessions/Replies/%zz/x", None);
        check("/x?BITS-Sessions/Replies/abc/x", None);
    }
}
